//! What ends an attempt from outside: SIGTERM, the attempt's own limit, the end of the run's budget.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use mapa_refresh_crds::report::code;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::fault::Fault;

/// The limits of one attempt.
#[derive(Clone, Debug)]
pub struct Stop {
    terminate: CancellationToken,
    run_ends: Instant,
    attempt_timeout: Duration,
    attempt_ends: Cell<Instant>,
    step: RefCell<String>,
}

impl Stop {
    /// An attempt that begins now, may take `attempt_timeout`, and ends in any case at `run_ends` or with `terminate`.
    #[must_use]
    pub fn new(terminate: CancellationToken, run_ends: Instant, attempt_timeout: Duration) -> Self {
        let attempt_ends = Cell::new(Instant::now() + attempt_timeout);
        Self {
            terminate,
            run_ends,
            attempt_timeout,
            attempt_ends,
            step: RefCell::default(),
        }
    }

    /// Gives the attempt its whole time again. Waiting for the view's slot is not the attempt's own work.
    pub fn restart_attempt(&self) {
        self.attempt_ends.set(Instant::now() + self.attempt_timeout);
    }

    /// Says what the attempt does from now on, as in “connecting to db:5432”: an admin wants to know of a limit who was waited for.
    pub fn begins(&self, step: impl Into<String>) {
        self.step.replace(step.into());
    }

    /// Time that is left to the attempt.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.attempt_ends
            .get()
            .min(self.run_ends)
            .saturating_duration_since(Instant::now())
    }

    /// Runs `work` within these limits. When one of them is met first, `work` is dropped, `interrupt` is run, and the reason
    /// is the error.
    ///
    /// # Errors
    /// The error of `work`, or the limit that was met.
    pub async fn bound<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
        interrupt: impl Future<Output = ()>,
    ) -> Result<T, Fault> {
        let met = tokio::select! {
            // The limits first: work that is always ready must not outrun them.
            biased;
            met = self.met() => met,
            result = work => return result,
        };
        interrupt.await;
        Err(met)
    }

    /// Ends when a limit is met, with the fault that says which.
    async fn met(&self) -> Fault {
        loop {
            let ends = self.attempt_ends.get().min(self.run_ends);
            tokio::select! {
                () = self.terminate.cancelled() => return Fault::terminated(),
                () = sleep_until(ends) => {}
            }
            let now = Instant::now();
            if now >= self.run_ends {
                let message = format!("the time of the whole run ended {}", self.during());
                return Fault::transient(code::ATTEMPT_TIMEOUT, message);
            }
            if now >= self.attempt_ends.get() {
                let seconds = self.attempt_timeout.as_secs();
                let message = format!(
                    "the attempt took longer than attemptTimeoutSeconds ({seconds} s); they ended {}",
                    self.during()
                );
                return Fault::transient(code::ATTEMPT_TIMEOUT, message);
            }
        }
    }

    fn during(&self) -> String {
        match self.step.borrow().as_str() {
            "" => "during this attempt".to_owned(),
            step => format!("while {step}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_limit_names_itself_and_interrupts_the_work() {
        let (terminate, now) = (CancellationToken::new(), Instant::now());
        let attempt = Stop::new(terminate.clone(), now + Duration::from_secs(60), Duration::from_secs(5));
        let fault = attempt.bound::<()>(pending(), ready(())).await.unwrap_err();
        assert!(
            fault.retry && fault.message.contains("(5 s); they ended during this attempt"),
            "{fault}"
        );
        attempt.begins("connecting to db:5432");
        let fault = attempt.bound::<()>(pending(), ready(())).await.unwrap_err();
        assert!(fault.message.ends_with("while connecting to db:5432"), "{fault}");

        let run = Stop::new(
            terminate.clone(),
            now + Duration::from_secs(10),
            Duration::from_secs(60),
        );
        let fault = run.bound::<()>(pending(), ready(())).await.unwrap_err();
        assert!(fault.message.contains("whole run"), "{fault}");

        let interrupted = Cell::new(false);
        let stop = Stop::new(
            terminate.clone(),
            now + Duration::from_secs(600),
            Duration::from_secs(60),
        );
        terminate.cancel();
        let fault = stop
            .bound::<()>(pending(), async { interrupted.set(true) })
            .await
            .unwrap_err();
        assert_eq!(
            (fault.code.as_ref(), fault.retry, interrupted.get()),
            (code::TERMINATED, false, true)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_view_does_not_consume_the_attempt() {
        let stop = Stop::new(
            CancellationToken::new(),
            Instant::now() + Duration::from_secs(600),
            Duration::from_secs(5),
        );
        let work = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(4)).await;
                stop.restart_attempt();
            }
            Ok(())
        };
        assert!(stop.bound(work, ready(())).await.is_ok());
    }
}
