//! Attempts: how many, how far apart, and none that can't end before the run's budget does.

use std::{cell::RefCell, pin::Pin, time::Duration};

use backon::{ConstantBuilder, Retryable};
use mapa_refresh_crds::report::Attempt;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{fault::Fault, settings::RetrySettings};

/// An attempt that would have less time than this before the run ends is not begun.
const LEAST_ATTEMPT: Duration = Duration::from_secs(2);

/// The attempts of a run so far: kept outside, so that a run that is cut off still reports them.
pub type Attempts = RefCell<Vec<Attempt>>;

/// Runs `attempt` until it succeeds, fails for good, or `settings` allow no more. A run ends at `run_ends`, and at once with
/// `terminate`.
///
/// # Errors
/// The last fault; its message says when a retry was left out because it could not have ended in time.
pub async fn with_retries<T, F>(
    settings: &RetrySettings,
    run_ends: Instant,
    terminate: &CancellationToken,
    attempts: &Attempts,
    attempt: impl Fn() -> F,
) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let counted = || async {
        if terminate.is_cancelled() {
            return Err(Fault::terminated());
        }
        let began = Instant::now();
        let result = attempt().await;
        let fault = result.as_ref().err();
        attempts.borrow_mut().push(Attempt {
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            class: fault.map(|fault| fault.class),
            code: fault.map(|fault| fault.code.to_string()),
        });
        result
    };
    let fits = || Instant::now() + settings.delay + LEAST_ATTEMPT <= run_ends;
    let result = counted
        .retry(
            ConstantBuilder::default()
                .with_delay(settings.delay)
                .with_max_times(settings.max_retries),
        )
        .sleep(sleep_or_end(terminate.clone()))
        .when(|fault: &Fault| fault.retry && !terminate.is_cancelled() && fits())
        .notify(|fault, delay| tracing::warn!(code = %fault.code, retry_in_s = delay.as_secs(), "{fault}"))
        .await;
    result.map_err(|fault| {
        let retries_left = attempts.borrow().len() <= settings.max_retries;
        if fault.retry && retries_left && !fits() {
            let left = run_ends.saturating_duration_since(Instant::now()).as_secs();
            let delay = settings.delay.as_secs();
            fault.noting(format_args!(
                "not tried again: the retry, {delay} s later, could not end in the {left} s left to the run"
            ))
        } else {
            fault
        }
    })
}

/// Sleeps between two attempts, until `terminate` at most.
fn sleep_or_end(terminate: CancellationToken) -> impl Fn(Duration) -> Pin<Box<dyn Future<Output = ()>>> {
    move |delay| {
        let terminate = terminate.clone();
        Box::pin(async move {
            tokio::select! {
                () = terminate.cancelled() => {}
                () = sleep(delay) => {}
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SETTINGS: RetrySettings = RetrySettings {
        max_retries: 3,
        delay: Duration::from_secs(60),
        attempt_timeout: Duration::from_secs(120),
        run_budget: Duration::from_secs(570),
    };

    async fn run(
        settings: RetrySettings,
        faults: &[Fault],
        takes: Duration,
    ) -> (Result<usize, Fault>, Vec<Attempt>, Duration) {
        let (attempts, began, number) = (Attempts::default(), Instant::now(), Cell::new(0));
        let ends = began + settings.run_budget;
        let result = with_retries(&settings, ends, &CancellationToken::new(), &attempts, || async {
            sleep(takes).await;
            number.set(number.get() + 1);
            faults
                .get(number.get() - 1)
                .map_or(Ok(number.get()), |fault| Err(fault.clone()))
        })
        .await;
        (result, attempts.into_inner(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_transient_fault_is_tried_again_after_the_policys_delay() {
        let gone = Fault::transient("08006", "gone");
        let (result, attempts, took) = run(SETTINGS, &[gone.clone(), gone], Duration::from_secs(1)).await;
        assert_eq!((result, took.as_secs()), (Ok(3), 123));
        let codes: Vec<_> = attempts
            .iter()
            .map(|attempt| (attempt.duration_ms, attempt.code.as_deref()))
            .collect();
        assert_eq!(codes, [(1_000, Some("08006")), (1_000, Some("08006")), (1_000, None)]);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_end_at_the_policys_count() {
        let gone = vec![Fault::transient("08006", "gone"); 9];
        let (result, attempts, _) = run(SETTINGS, &gone, Duration::ZERO).await;
        assert_eq!((result.unwrap_err().message.as_str(), attempts.len()), ("gone", 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_fault_is_tried_once() {
        let refused = Fault::permanent("CredentialsRejected", "refused");
        let (result, attempts, took) = run(SETTINGS, &[refused], Duration::ZERO).await;
        assert_eq!((result.is_err(), attempts.len(), took), (true, 1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn lesson_06_a_retry_that_cannot_end_in_time_is_not_begun_and_the_fault_says_so() {
        let gone = vec![Fault::transient("08006", "gone"); 9];
        let settings = RetrySettings {
            run_budget: Duration::from_secs(100),
            ..SETTINGS
        };
        let (result, attempts, took) = run(settings, &gone, Duration::from_secs(20)).await;
        assert_eq!((attempts.len(), took.as_secs()), (2, 100));
        assert!(result.unwrap_err().message.contains("not tried again"));
    }

    #[tokio::test(start_paused = true)]
    async fn sigterm_ends_the_wait_for_a_retry() {
        let (terminate, attempts) = (CancellationToken::new(), Attempts::default());
        let began = Instant::now();
        let run = with_retries(
            &SETTINGS,
            began + SETTINGS.run_budget,
            &terminate,
            &attempts,
            || async { Err::<(), _>(Fault::transient("08006", "gone")) },
        );
        let end = async {
            sleep(Duration::from_secs(5)).await;
            terminate.cancel();
        };
        let (result, ()) = tokio::join!(run, end);
        assert_eq!(
            (result.unwrap_err().code.as_ref(), attempts.borrow().len()),
            ("Terminated", 1)
        );
        assert_eq!(began.elapsed().as_secs(), 5);
    }
}
