//! What Prometheus reads: what is counted while the operator works, and what the cache says of each policy at the scrape.

pub mod api_requests;
pub mod exposition;
pub mod labels;
pub mod policies;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use kube::runtime::reflector::Store;
use mapa_refresh_crds::policy::TaskName;
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use self::{
    api_requests::{CountRequests, Requests},
    labels::{
        BuildLabel, Code, ErrorLabels, RequestLabels, ResourceLabel, RunLabels, RunOutcome, Task, TaskLabel, Verb,
        Watched,
    },
    policies::{GAUGES, Policies, Tell, TellReason, TellRecords, TellRows},
};
use crate::{clock::Clock, error::Error, health::work::Work, reconcile::Guarded, status::FinishedRun};

/// What every metric's name begins with.
pub const PREFIX: &str = "mapa_refresh";

/// Seconds of a run. The limit is 30 minutes, most runs take seconds.
const RUN_BUCKETS: [f64; 10] = [1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_500.0];
/// Seconds of a reconcile. One that writes nothing takes less than a millisecond, a write is given up after 5 s.
const RECONCILE_BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 20.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything that is measured.
#[derive(Debug)]
pub struct Metrics {
    /// What is told in one piece each: one family of all policies fills a piece, so that a scrape of thousands needs no more memory.
    parts: Vec<Registry>,
    policies: Policies,
    runs: Family<RunLabels, Counter>,
    retries: Family<TaskLabel, Counter>,
    run_durations: Histograms<TaskLabel>,
    reconcile_durations: Histogram,
    reconcile_errors: Family<ErrorLabels, Counter>,
    queue_depth: Gauge,
    reconciling: Gauge,
    watch_restarts: Family<ResourceLabel, Counter>,
    api_requests: Requests,
    leader: Gauge,
}

impl Metrics {
    /// Nothing counted yet; the time of a scrape is told by `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let policies = Policies::new(clock);
        let mut metrics = Self {
            parts: Vec::new(),
            policies,
            runs: Family::default(),
            retries: Family::default(),
            run_durations: Family::new_with_constructor(|| Histogram::new(RUN_BUCKETS)),
            reconcile_durations: Histogram::new(RECONCILE_BUCKETS),
            reconcile_errors: Family::default(),
            queue_depth: Gauge::default(),
            reconciling: Gauge::default(),
            watch_restarts: Family::default(),
            api_requests: Requests::default(),
            leader: Gauge::default(),
        };
        metrics.begin_at_zero();
        metrics.parts.push(metrics.of_the_operator());
        let mut of_policies = Vec::new();
        for gauge in GAUGES {
            let mut registry = Registry::with_prefix(PREFIX);
            registry.register_collector(Box::new(Tell {
                policies: metrics.policies.clone(),
                gauge: *gauge,
            }));
            of_policies.push(registry);
        }
        let mut reasons = Registry::with_prefix(PREFIX);
        reasons.register_collector(Box::new(TellReason(metrics.policies.clone())));
        of_policies.push(reasons);
        let mut rows = Registry::with_prefix(PREFIX);
        rows.register_collector(Box::new(TellRows(metrics.policies.clone())));
        of_policies.push(rows);
        let mut records = Registry::with_prefix(PREFIX);
        records.register_collector(Box::new(TellRecords(metrics.policies.clone())));
        of_policies.push(records);
        metrics.parts.extend(of_policies);
        metrics
    }

    /// A rate can be taken of what was told before it happened first.
    fn begin_at_zero(&self) {
        for task in TaskName::ALL.map(Task) {
            drop(self.retries.get_or_create(&TaskLabel { task }));
            drop(self.run_durations.get_or_create(&TaskLabel { task }));
            for outcome in RunOutcome::ALL.iter().copied() {
                drop(self.runs.get_or_create(&RunLabels { task, outcome }));
            }
        }
        for (class, error) in Error::KINDS {
            let class = class.label();
            drop(self.reconcile_errors.get_or_create(&ErrorLabels { class, error }));
        }
        for resource in Watched::ALL.iter().copied() {
            drop(self.watch_restarts.get_or_create(&ResourceLabel { resource }));
        }
        for verb in Verb::ALL.iter().copied() {
            let code = Code::NoAnswer;
            drop(self.api_requests.get_or_create(&RequestLabels { verb, code }));
        }
    }

    fn of_the_operator(&self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        let version = env!("CARGO_PKG_VERSION");
        registry.register(
            "build",
            "The operator that is running",
            Info::new(BuildLabel { version }),
        );
        registry.register(
            "leader",
            "1 while this replica is the one that reconciles, else 0",
            self.leader.clone(),
        );
        registry.register("runs", "Runs that ended, by task and outcome", self.runs.clone());
        registry.register(
            "run_retries",
            "Retries within runs that ended, by task",
            self.retries.clone(),
        );
        registry.register(
            "run_duration_seconds",
            "Duration of runs that ended and reported, by task",
            self.run_durations.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "Duration of reconciles, from the moment that the caches are filled",
            self.reconcile_durations.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciles that could not be finished, by class (invalid: waits for a change; waiting: newer state is on its way; transient: may pass) and error",
            self.reconcile_errors.clone(),
        );
        registry.register(
            "queue_depth",
            "Policies that an event touched and whose reconcile has not begun; looks that are planned for later are not in it",
            self.queue_depth.clone(),
        );
        registry.register(
            "reconciles_in_progress",
            "Policies that are being reconciled",
            self.reconciling.clone(),
        );
        registry.register(
            "watch_restarts",
            "Interruptions after which a watch or its list was started again, by resource",
            self.watch_restarts.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the API server, by verb and HTTP status; none: the connection failed or the answer was not waited for",
            self.api_requests.clone(),
        );
        registry.register_collector(Box::new(policies::Count(self.policies.clone())));
        registry
    }

    /// The cache of one watched scope's policies: they are told from now on, as long as it lives.
    pub fn tell_policies_of(&self, store: &Arc<Store<Guarded>>) {
        self.policies.include(store);
    }

    /// The layer of the client that counts its requests.
    #[must_use]
    pub fn count_requests(&self) -> CountRequests {
        CountRequests(self.api_requests.clone())
    }

    /// Whether this replica is the one that reconciles.
    pub fn set_leader(&self, leader: bool) {
        self.leader.set(i64::from(leader));
    }

    /// Runs ended and are in the status.
    pub fn runs_ended(&self, runs: &[FinishedRun]) {
        for run in runs {
            let FinishedRun {
                task,
                failed,
                retries,
                duration_seconds,
            } = run;
            let task = Task(*task);
            let outcome = failed.map_or(RunOutcome::Succeeded, RunOutcome::from);
            self.runs.get_or_create(&RunLabels { task, outcome }).inc();
            self.retries
                .get_or_create(&TaskLabel { task })
                .inc_by(u64::from(*retries));
            if let Some(seconds) = duration_seconds {
                self.run_durations
                    .get_or_create(&TaskLabel { task })
                    .observe(f64::from(*seconds));
            }
        }
    }

    /// A reconcile ended.
    pub fn reconciled(&self, took: Duration, error: Option<&Error>) {
        self.reconcile_durations.observe(took.as_secs_f64());
        if let Some(error) = error {
            let labels = ErrorLabels {
                class: error.class().label(),
                error: error.label(),
            };
            self.reconcile_errors.get_or_create(&labels).inc();
        }
    }

    /// A watch was interrupted.
    pub fn watch_restarts(&self, resource: Watched) {
        self.watch_restarts.get_or_create(&ResourceLabel { resource }).inc();
    }

    /// The work of one more watched scope, which counts into the gauges of all.
    #[must_use]
    pub fn work(&self) -> Work {
        Work::new(self.queue_depth.clone(), self.reconciling.clone())
    }

    /// The piece `number` of what is told, in the text format of OpenMetrics; `None` after the last.
    ///
    /// # Errors
    /// Never: a text can always be longer.
    pub fn part(&self, number: usize) -> Option<Result<String, fmt::Error>> {
        let mut text = String::new();
        let written = match self.parts.get(number) {
            Some(registry) => text::encode_registry(&mut text, registry),
            None if number == self.parts.len() => text::encode_eof(&mut text),
            None => return None,
        };
        Some(written.map(|()| text))
    }
}
