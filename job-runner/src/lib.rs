//! The job-runner: what a pod of a `MapaRefreshPolicy` runs.
//!
//! One process runs one task once, with its retries, against the database that holds the view and the cache that the public map
//! reads. It leaves a [`RunReport`], on stdout and in the pod's termination message, and an exit code ([`exit`]). It never
//! speaks to Kubernetes.
//!
//! - [`args`], [`settings`], [`secret`]: what a run is told, and what of it can't be used.
//! - [`task`]: what one attempt of each task does; [`retry`] and [`stop`] bound the attempts.
//! - [`domain`]: pure, from rows to documents.
//! - [`host`], [`dial`], [`tls`]: what both stores share of their urls and connections.
//! - [`database`], [`cache`]: the stores. [`fault`]: why something failed, as the report says it.

pub mod args;
pub mod cache;
pub mod database;
pub mod dial;
pub mod domain;
pub mod exit;
pub mod fault;
pub mod host;
pub mod report;
pub mod retry;
pub mod secret;
pub mod settings;
pub mod stop;
pub mod task;
pub mod tls;

use std::{cell::RefCell, time::Duration};

use chrono::{DateTime, Utc};
use mapa_refresh_crds::{
    RunReport,
    policy::TaskName,
    report::{Attempt, code},
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    args::SettingArgs,
    fault::Fault,
    report::Begun,
    retry::{Attempts, with_retries},
    settings::Settings,
    stop::Stop,
    task::{Context, Done, Notes},
};

/// From SIGTERM, or from the end of the budget, to the report: a run has 5 s, and something may still hang then.
const LAST_CALL: Duration = Duration::from_secs(4);

/// Runs `task` as `args` say, until it is done, its retries or its time are used up, or `terminate` is cancelled. `now` is the
/// wall clock.
pub async fn run(
    task: TaskName,
    args: &SettingArgs,
    terminate: CancellationToken,
    now: fn() -> DateTime<Utc>,
) -> RunReport {
    let begun = Begun::new(task, args, now());
    let settings = match Settings::judge(task, args) {
        Ok(settings) => settings,
        Err(error) => {
            let fault = Fault::permanent(code::INVALID_CONFIGURATION, error);
            return begun.report(Err(fault), Vec::new(), Notes::default(), now());
        }
    };
    let attempts = Attempts::default();
    let budget = settings.retry.run_budget;
    let clock_lag = settings
        .slot
        .map_or(chrono::Duration::zero(), |slot| slot.clock_lag(now()));
    let context = Context {
        settings,
        now,
        clock_lag,
        wait_ends: begun.began() + budget / 2,
        notes: RefCell::default(),
        passwords: RefCell::default(),
    };
    let run_ends = begun.began() + budget;
    let result = tokio::select! {
        result = attempt_all(&context, run_ends, &terminate, &attempts) => result,
        fault = last_call(run_ends, &terminate) => Err(fault),
    };
    let attempts: Vec<Attempt> = attempts.take();
    begun.report(result, attempts, context.notes.take(), now())
}

async fn attempt_all(
    context: &Context,
    run_ends: Instant,
    terminate: &CancellationToken,
    attempts: &Attempts,
) -> Result<Done, Fault> {
    let retry = &context.settings.retry;
    with_retries(retry, run_ends, terminate, attempts, || async {
        let stop = Stop::new(terminate.clone(), run_ends, retry.attempt_timeout);
        let is_first = attempts.borrow().is_empty();
        let result = task::attempt(context, &stop).await;
        let early = context.notes.borrow_mut().early.take();
        match (result, early) {
            // Nothing went wrong, there was only no time for one more publication: the next run publishes it as soon as it starts.
            (Err(_), Some(early)) if is_first && Instant::now() >= run_ends && !terminate.is_cancelled() => {
                tracing::warn!("one more publication did not fit into the run: left to the next run");
                Ok(early)
            }
            (result, _) => result,
        }
    })
    .await
}

/// Every wait ends by itself at its limits; this is for the one that does not.
async fn last_call(run_ends: Instant, terminate: &CancellationToken) -> Fault {
    tokio::select! {
        () = terminate.cancelled() => {
            sleep(LAST_CALL).await;
            Fault::terminated()
        }
        () = sleep_until(run_ends + LAST_CALL) => {
            Fault::transient(code::ATTEMPT_TIMEOUT, "the time of the whole run ended, and the attempt did not").without_retry()
        }
    }
}
