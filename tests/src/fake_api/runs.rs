//! What becomes of a run: the script, and the report that a runner would leave.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use mapa_refresh_crds::{
    RunReport,
    policy::TaskName,
    report::{self, Attempt, FaultClass, Publications, Published, RunError, RunResult, Success, SuccessKind},
    runner_env,
};
use serde_json::Value;

use super::{time::Skew, truth::Truth};

/// What becomes of a run.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It does what it is for.
    Succeeds,
    /// It fails, and says why.
    Fails(FaultClass, &'static str, &'static str),
    /// It hangs until the Job's deadline, and is killed without a word.
    Hangs,
    /// The pod never comes: quota, Pod Security, ServiceAccount.
    NoPod,
    /// It does what it is for, and this stands in its termination message.
    Says(String),
    /// It does what it is for, and its report is changed before it is read.
    Tells(fn(&mut Value)),
    /// The node evicts the pod; the Job makes another one.
    Evicted,
    /// The kernel kills it.
    OutOfMemory,
    /// Its image cannot be pulled, until the Job's deadline.
    ImagePullBackOff,
    /// Its node goes away; the Job makes another pod.
    NodeLost,
    /// Its kubelet never comes back: the pod runs for ever as far as anybody can tell, and is never gone, so that its Job never ends either.
    KubeletLost,
    /// It does what it is for, and its Job is deleted in that moment.
    Vanishes,
}

/// How runs go.
#[derive(Debug)]
pub struct Script {
    next: BTreeMap<TaskName, Vec<Outcome>>,
    always: BTreeMap<TaskName, Outcome>,
    /// How long a run takes.
    pub duration: Duration,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            next: BTreeMap::new(),
            always: BTreeMap::new(),
            duration: Duration::from_secs(8),
        }
    }
}

impl Script {
    /// The next runs of `task` go like this, one after the other.
    pub fn next(&mut self, task: TaskName, outcomes: impl IntoIterator<Item = Outcome>) {
        self.next.entry(task).or_default().extend(outcomes);
    }

    /// Every run of `task` from now on goes like this.
    pub fn always(&mut self, task: TaskName, outcome: Outcome) {
        self.always.insert(task, outcome);
    }

    /// Every run succeeds from now on.
    pub fn clear(&mut self) {
        self.next.clear();
        self.always.clear();
    }

    pub(super) fn take(&mut self, task: Option<TaskName>) -> Outcome {
        let Some(task) = task else { return Outcome::Succeeds };
        if let Some(queue) = self.next.get_mut(&task).filter(|queue| !queue.is_empty()) {
            return queue.remove(0);
        }
        self.always.get(&task).cloned().unwrap_or(Outcome::Succeeds)
    }
}

/// What a pod was told.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Which task.
    pub task: Option<TaskName>,
    /// For which policy, by UID.
    pub policy: String,
    /// The target.
    pub target: String,
    /// The pod's own UID.
    pub pod: String,
}

impl Orders {
    /// Reads them off the pod.
    #[must_use]
    pub fn of(pod: &Value) -> Self {
        let container = pod["spec"]["containers"].get(0).cloned().unwrap_or_default();
        let variable = |name: &str| {
            let variables = container["env"].as_array().into_iter().flatten();
            let value = variables.clone().find(|variable| variable["name"] == name);
            value
                .and_then(|variable| variable["value"].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            task: container["args"]
                .get(1)
                .and_then(Value::as_str)
                .and_then(|task| task.parse().ok()),
            policy: variable(runner_env::POLICY_UID),
            target: variable(runner_env::TARGET),
            pod: pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// The report with `result`, of a run from `started` to `ended` by the true time, as a pod whose clock is wrong by `skew` writes it.
    #[must_use]
    pub fn report(
        &self,
        result: RunResult,
        published: Option<Published>,
        started: Timestamp,
        ended: Timestamp,
        skew: &Skew,
    ) -> RunReport {
        let failed = match &result {
            RunResult::Failed(error) => Some(error.clone()),
            RunResult::Succeeded(_) => None,
        };
        let duration_ms = u64::try_from(ended.duration_since(started).as_millis()).unwrap_or_default();
        RunReport {
            version: report::VERSION,
            policy_uid: self.policy.clone(),
            task: self.task.unwrap_or(TaskName::RefreshMvPortal),
            target: self.target.clone(),
            pod_uid: self.pod.clone(),
            started_at: MicroTime(skew.shown(started)),
            finished_at: MicroTime(skew.shown(ended)),
            duration_ms,
            attempts: vec![Attempt {
                duration_ms,
                class: failed.as_ref().map(|error| error.class),
                code: failed.map(|error| error.code),
            }],
            result,
            refused_rows: None,
            published,
            publications: Publications::default(),
        }
    }

    /// Does what the run is for at `now`, and says so. Database and cache have the true time.
    pub fn carry_out(&self, truth: &mut Truth, started: Timestamp, now: Timestamp, skew: &Skew) -> RunReport {
        let before = |seconds: i64| now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(now);
        let Some(task) = self.task else {
            return self.report(
                failure(FaultClass::Permanent, report::code::INVALID_CONFIGURATION, "no task"),
                None,
                started,
                now,
                skew,
            );
        };
        let read = before(2);
        if task == TaskName::RefreshMvPortal {
            truth.views.insert(self.target.clone(), read);
        }
        // A policy that does not refresh the view itself leaves that to others, who do it every minute.
        let stamp = truth.views.get(&self.target).copied().unwrap_or_else(|| before(60));
        let kind = match task {
            TaskName::RefreshMvPortal => SuccessKind::Refreshed,
            TaskName::RefreshMapaCache | TaskName::CalcularEstatisticas => {
                let published = truth.published.entry((self.target.clone(), task)).or_insert(stamp);
                *published = stamp.max(*published);
                SuccessKind::Published
            }
            TaskName::HealthCheck => SuccessKind::Healthy,
        };
        let document = |task: TaskName| {
            truth
                .published
                .get(&(self.target.clone(), task))
                .copied()
                .map(MicroTime)
        };
        let published = (task == TaskName::HealthCheck).then(|| Published {
            map: document(TaskName::RefreshMapaCache),
            statistics: document(TaskName::CalcularEstatisticas),
        });
        let result = RunResult::Succeeded(Success {
            kind,
            data_as_of: MicroTime(stamp),
            age_seconds: read.duration_since(stamp).as_secs_f64().max(0.0),
            elapsed_seconds: 2.0,
            records: 305,
            repaired: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            built_from_stale_view: false,
        });
        self.report(result, published, started, now, skew)
    }
}

/// A failure as a run reports it.
#[must_use]
pub fn failure(class: FaultClass, code: &str, message: &str) -> RunResult {
    RunResult::Failed(RunError {
        class,
        code: code.to_owned(),
        message: message.to_owned(),
    })
}
