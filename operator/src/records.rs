//! Pure: from a CronJob, Job or pod of the API to the record that is kept of it.
//!
//! A full CronJob in a cache costs 34 kB, a record some 150 bytes. What a record does not hold cannot be believed later, so
//! everything that decides is read here, once.

use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job, JobCondition},
        core::v1::{ContainerStateTerminated, Pod, PodSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::{SignedDuration, Timestamp},
};
use mapa_refresh_crds::{
    RunReport,
    labels::{self, cron_job_name},
    policy::TaskName,
    report::{ReportError, clean},
};

use crate::{
    clock::{CLOCKS_APART, not_ahead},
    fingerprint::{Fingerprint, PodFingerprint, RUNNER_CONTAINER, Uid},
};

/// Longest text that is kept of a pod's or Job's own message, in bytes.
const MAX_MESSAGE: usize = 256;
/// Longest deadline of a Job of ours, in seconds: it lies before the next slot, at most 30 minutes later.
const LONGEST_DEADLINE: i64 = 1_800;
/// How long after its deadline Kubernetes may take to mark a Job as failed.
const DEADLINE_GRACE: SignedDuration = SignedDuration::from_secs(60);
/// Longest time from a slot to the creation of its Job: Kubernetes makes up for a slot within one interval of at most 30 minutes.
const OLDEST_SLOT: SignedDuration = SignedDuration::from_hours(1);
/// Largest skew of a node's clock that is kept.
const NODE_CLOCK_APART: SignedDuration = SignedDuration::from_hours(24);

/// Namespace and name of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyKey {
    /// Namespace.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
}

impl PolicyKey {
    /// The policy that an object's label names: a hint where to look, no proof.
    #[must_use]
    pub fn of_label(meta: &ObjectMeta) -> Option<Self> {
        let name = meta.labels.as_ref()?.get(labels::POLICY)?;
        Some(Self {
            namespace: meta.namespace.as_deref()?.into(),
            name: name.as_str().into(),
        })
    }

    /// The policy itself.
    #[must_use]
    pub fn of_policy(meta: &ObjectMeta) -> Option<Self> {
        Some(Self {
            namespace: meta.namespace.as_deref()?.into(),
            name: meta.name.as_deref()?.into(),
        })
    }
}

/// What is kept of a CronJob.
#[derive(Clone, Debug, PartialEq)]
pub struct CronJobRecord {
    /// Its UID.
    pub uid: Uid,
    /// Its UID as the API spells it, for preconditions.
    pub uid_text: Box<str>,
    /// UID of the policy that controls it.
    pub owner: Option<Uid>,
    /// Whether nothing controls it, so that it may be adopted.
    pub is_orphan: bool,
    /// The task whose name it has; `None` when its name is not `<policy>-<task>`.
    pub task: Option<TaskName>,
    /// Of its whole spec.
    pub fingerprint: Option<Fingerprint>,
    /// Whether our three labels are right.
    pub labels_intact: bool,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// `status.lastScheduleTime`. While it lies in the future, the CronJob starts no run.
    pub last_schedule: Option<Timestamp>,
}

/// What is kept of a Job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// Its UID.
    pub uid: Uid,
    /// Its name.
    pub name: Box<str>,
    /// UID of the CronJob that controls it.
    pub owner: Option<Uid>,
    /// When it was created.
    pub created: Timestamp,
    /// The slot for which it was created; `None` for a run by hand.
    pub slot: Option<Timestamp>,
    /// Why it may never end; `None` of a Job that ended or is at work.
    pub halt: Option<Halt>,
    /// When we saw it first.
    pub seen: Timestamp,
    /// When its deadline began to count.
    pub started: Timestamp,
    /// Its deadline, in seconds.
    pub deadline_seconds: i64,
    /// How it ended; `None` while it runs.
    pub ended: Option<JobEnd>,
    /// When we first saw that it had ended or was gone.
    pub settled_at: Option<Timestamp>,
    /// Whether it is gone from the API. It is kept until it is counted.
    pub deleted: bool,
}

/// Why a Job may never end, and when the operator saw that first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Why.
    pub why: Halted,
    /// When we saw it first.
    pub since: Timestamp,
}

/// Reasons why a Job may never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halted {
    /// Suspended, by hand or by a queue; without a pod by design.
    Suspended,
    /// Failed, but its pods have not ended: those on a lost node never do.
    Failing,
    /// Being deleted, and held by a finalizer.
    Deleting,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEnd {
    /// Whether it is Complete, else Failed.
    pub complete: bool,
    /// When.
    pub at: Timestamp,
    /// Reason of the condition.
    pub reason: Box<str>,
    /// Message of the condition.
    pub message: Box<str>,
}

/// What is kept of a pod.
#[derive(Clone, Debug)]
pub struct PodRecord {
    /// Its UID.
    pub uid: Uid,
    /// Its UID as the API spells it, as the report must repeat it.
    pub uid_text: Box<str>,
    /// UID of the Job that controls it.
    pub owner: Option<Uid>,
    /// Of what decides whether its report is evidence.
    pub evidence: PodFingerprint,
    /// What keeps it from running, or from ending.
    pub trouble: Option<Trouble>,
    /// How the runner ended; `None` while it has not.
    pub ended: Option<PodEnd>,
}

/// What keeps a pod from doing its work, in words that a person can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A code such as `ImagePullBackOff`, `Evicted`, `OOMKilled`, `NodeLost`.
    pub code: Box<str>,
    /// What Kubernetes says about it.
    pub message: Box<str>,
}

/// How the runner's container ended.
#[derive(Clone, Debug)]
pub struct PodEnd {
    /// When, by the node's clock, in whole seconds.
    pub finished_at: Timestamp,
    /// When we saw it first.
    pub first_seen: Timestamp,
    /// Its exit code.
    pub exit_code: i32,
    /// What it reported.
    pub report: Result<Box<RunReport>, NoReport>,
}

/// Why a container that ended left no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoReport {
    /// A code such as [`REPORT_MISSING`].
    pub code: &'static str,
    /// What is known, and what to do.
    pub message: Box<str>,
}

/// Code of a run that left no report.
pub const REPORT_MISSING: &str = "ReportMissing";
/// Code of a run whose report cannot be read.
pub const REPORT_MALFORMED: &str = "ReportMalformed";
/// Code of a run whose program is not of the node's architecture.
pub const EXEC_FORMAT_ERROR: &str = "ExecFormatError";

/// The controller among `owners`, if it is of `kind` in the API group of `api_version`.
fn controller_uid(owners: Option<&Vec<OwnerReference>>, group: &str, kind: &str) -> Option<Uid> {
    let owner = owners?.iter().find(|owner| owner.controller == Some(true))?;
    let owner_group = owner.api_version.split_once('/').map(|(group, _)| group)?;
    (owner_group == group && owner.kind == kind).then(|| Uid::parse(&owner.uid))
}

fn shortened(text: Option<&str>) -> Box<str> {
    let mut text = text.unwrap_or_default().to_owned();
    clean(&mut text, MAX_MESSAGE);
    text.into()
}

impl CronJobRecord {
    /// Reads a CronJob that carries our labels; `None` when it has no UID.
    #[must_use]
    pub fn read(cron_job: &CronJob) -> Option<Self> {
        let meta = &cron_job.metadata;
        let uid = meta.uid.as_deref()?;
        let name = meta.name.as_deref()?;
        let label = |key: &str| {
            meta.labels
                .as_ref()
                .and_then(|labels| labels.get(key))
                .map(String::as_str)
        };
        let policy = label(labels::POLICY);
        // The name decides which task it is; a label may have been changed by hand.
        let task = TaskName::ALL.into_iter().find(|task| {
            name.strip_suffix(task.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('-'))
        });
        let labels_intact = task.zip(policy).is_some_and(|(task, policy)| {
            name == cron_job_name(policy, task)
                && label(labels::TASK) == Some(task.as_str())
                && label(labels::MANAGED_BY) == Some(labels::FIELD_MANAGER)
        });
        Some(Self {
            uid: Uid::parse(uid),
            uid_text: uid.into(),
            owner: controller_uid(meta.owner_references.as_ref(), labels::GROUP, "MapaRefreshPolicy"),
            is_orphan: !meta
                .owner_references
                .iter()
                .flatten()
                .any(|owner| owner.controller == Some(true)),
            task,
            fingerprint: cron_job.spec.as_ref().and_then(Fingerprint::of_cron_job),
            labels_intact,
            resource_version: meta.resource_version.as_deref().unwrap_or_default().into(),
            deleting: meta.deletion_timestamp.is_some(),
            last_schedule: cron_job
                .status
                .as_ref()
                .and_then(|status| status.last_schedule_time.as_ref())
                .map(|time| time.0),
        })
    }
}

impl JobRecord {
    /// Reads a Job, seen at `now`; `None` when it has no UID.
    ///
    /// Others write its status and annotations, so each time is bounded here.
    #[must_use]
    pub fn read(job: &Job, now: Timestamp) -> Option<Self> {
        let meta = &job.metadata;
        let created = meta
            .creation_timestamp
            .as_ref()
            .map_or(now, |time| not_ahead(time.0, now));
        let ended = end_of(job, created, now);
        Some(Self {
            uid: Uid::parse(meta.uid.as_deref()?),
            name: meta.name.as_deref().unwrap_or_default().into(),
            owner: controller_uid(meta.owner_references.as_ref(), "batch", "CronJob"),
            created,
            slot: slot_of(job, created),
            halt: halted(job)
                .filter(|_| ended.is_none())
                .map(|why| Halt { why, since: now }),
            seen: now,
            started: started(job, created, now),
            deadline_seconds: deadline_seconds(job),
            settled_at: ended.is_some().then_some(now),
            ended,
            deleted: false,
        })
    }

    /// When its deadline and a grace have passed, by the operator's clock. Where the API server's clock lags, the deadline counts from when the
    /// operator first saw the Job.
    #[must_use]
    pub fn expected_until(&self) -> Timestamp {
        let latest = self.started.checked_add(CLOCKS_APART).unwrap_or(self.started);
        let began = self.started.max(self.seen.min(latest));
        began
            .checked_add(SignedDuration::from_secs(self.deadline_seconds) + DEADLINE_GRACE)
            .unwrap_or(began)
    }
}

/// The condition `type_` of `job`, if it is true.
fn condition_of<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == "True")
}

fn end_of(job: &Job, created: Timestamp, now: Timestamp) -> Option<JobEnd> {
    let (complete, condition) = match (condition_of(job, "Complete"), condition_of(job, "Failed")) {
        (Some(condition), _) => (true, condition),
        (None, Some(condition)) => (false, condition),
        (None, None) => return None,
    };
    let completed = job.status.as_ref().and_then(|status| status.completion_time.as_ref());
    let at = completed
        .or(condition.last_transition_time.as_ref())
        .map_or(now, |time| time.0);
    Some(JobEnd {
        complete,
        at: not_ahead(at, now).max(created),
        reason: shortened(condition.reason.as_deref()),
        message: shortened(condition.message.as_deref()),
    })
}

fn halted(job: &Job) -> Option<Halted> {
    if job.metadata.deletion_timestamp.is_some() {
        return Some(Halted::Deleting);
    }
    if condition_of(job, "FailureTarget").is_some() {
        return Some(Halted::Failing);
    }
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false);
    is_suspended.then_some(Halted::Suspended)
}

/// The slot of `job`, which was created at `created`. It is an annotation, so anybody who may create Jobs can forge it.
fn slot_of(job: &Job, created: Timestamp) -> Option<Timestamp> {
    let slot: Timestamp = job
        .metadata
        .annotations
        .as_ref()?
        .get(labels::SCHEDULED_TIMESTAMP)?
        .parse()
        .ok()?;
    let late = created.duration_since(slot);
    (-CLOCKS_APART..=OLDEST_SLOT).contains(&late).then_some(slot)
}

/// A Job's deadline counts from its start time, which Kubernetes resets after a suspension.
fn started(job: &Job, created: Timestamp, now: Timestamp) -> Timestamp {
    let started = job.status.as_ref().and_then(|status| status.start_time.as_ref());
    started
        .map(|time| time.0)
        .filter(|started| (created..=now).contains(started))
        .unwrap_or(created)
}

fn deadline_seconds(job: &Job) -> i64 {
    let deadline = job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    deadline
        .filter(|deadline| (0..=LONGEST_DEADLINE).contains(deadline))
        .unwrap_or(LONGEST_DEADLINE)
}

impl PodRecord {
    /// Reads a pod, seen at `now`; `None` when it has no UID.
    #[must_use]
    pub fn read(pod: &Pod, now: Timestamp) -> Option<Self> {
        let meta = &pod.metadata;
        let uid = meta.uid.as_deref()?;
        Some(Self {
            uid: Uid::parse(uid),
            uid_text: uid.into(),
            owner: controller_uid(meta.owner_references.as_ref(), "batch", "Job"),
            evidence: PodFingerprint::of(pod.spec.as_ref().unwrap_or(&PodSpec::default())),
            trouble: trouble(pod),
            ended: terminated(pod).map(|state| end(state, now)),
        })
    }
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses
        .iter()
        .find(|status| status.name == RUNNER_CONTAINER)?
        .state
        .as_ref()?
        .terminated
        .as_ref()
}

fn end(state: &ContainerStateTerminated, now: Timestamp) -> PodEnd {
    let message = state.message.as_deref().unwrap_or_default();
    PodEnd {
        finished_at: state
            .finished_at
            .as_ref()
            .map_or(now, |time| time.0.min(now.checked_add(NODE_CLOCK_APART).unwrap_or(now))),
        first_seen: now,
        exit_code: state.exit_code,
        report: RunReport::decode(message)
            .map(Box::new)
            .map_err(|error| no_report(state.exit_code, message, &error)),
    }
}

/// Without a report the message is the end of the runner's log (`FallbackToLogsOnError`).
fn no_report(exit_code: i32, message: &str, error: &ReportError) -> NoReport {
    let last_line = message.lines().map(str::trim).rfind(|line| !line.is_empty());
    let (code, mut text) = match last_line {
        // By runc and crun alike; the program never ran.
        Some(line) if message.contains("exec format error") => (
            EXEC_FORMAT_ERROR,
            format!(
                "the image is not built for the architecture of the node: let runs go only to nodes that it is built for, by the operator's \
                 runner.nodeSelector with kubernetes.io/arch, or build it for this one ({line})"
            ),
        ),
        None => (
            REPORT_MISSING,
            format!(
                "the runner's container ended with exit code {exit_code} and left no report in its termination message"
            ),
        ),
        Some(line) if exit_code != 0 && !message.starts_with("{\"version\"") => (
            REPORT_MISSING,
            format!(
                "the runner's container ended with exit code {exit_code} and left no report; its log ends with: {line}"
            ),
        ),
        Some(_) => (
            REPORT_MALFORMED,
            format!("the runner's container ended with exit code {exit_code} and {error}"),
        ),
    };
    clean(&mut text, MAX_MESSAGE);
    NoReport {
        code,
        message: text.into(),
    }
}

/// What a person would read off `kubectl describe pod`, most telling first. Kubernetes' own reasons are told as they are: there are more of
/// them with every version.
fn trouble(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let condition = |type_: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == type_)
    };
    let trouble = |code: &str, message: Option<&str>| {
        Some(Trouble {
            code: shortened(Some(code)),
            message: shortened(message),
        })
    };

    // Of the kubelet or of a controller, about the pod as a whole: Evicted, NodeLost, OutOfcpu, UnexpectedAdmissionError …
    if let Some(reason) = status.reason.as_deref().filter(|reason| !reason.is_empty()) {
        return trouble(reason, status.message.as_deref());
    }
    if let Some(disruption) = condition("DisruptionTarget").filter(|condition| condition.status == "True") {
        let code = match disruption.reason.as_deref() {
            Some("PreemptionByScheduler") => "Preempted",
            Some("DeletionByTaintManager" | "DeletionByPodGC") => "NodeLost",
            Some("EvictionByEvictionAPI" | "TerminationByKubelet") => "Evicted",
            _ => "Disrupted",
        };
        return trouble(code, disruption.message.as_deref());
    }
    for container in status.container_statuses.iter().flatten() {
        let Some(state) = &container.state else { continue };
        if let Some(terminated) = &state.terminated {
            match terminated.reason.as_deref() {
                Some("OOMKilled") => {
                    return trouble("OOMKilled", Some("the container used more memory than its limit"));
                }
                // The program's own end: its report has the details.
                None | Some("" | "Completed" | "Error") => {}
                // It never began, or the kubelet lost it: ContainerCannotRun, StartError, ContainerStatusUnknown …
                Some(reason) => return trouble(reason, terminated.message.as_deref()),
            }
        }
        if let Some(waiting) = &state.waiting {
            match waiting.reason.as_deref() {
                None | Some("" | "ContainerCreating" | "PodInitializing") => {}
                Some(
                    "ErrImagePull"
                    | "ImagePullBackOff"
                    | "ErrImageNeverPull"
                    | "InvalidImageName"
                    | "ImageInspectError"
                    | "RegistryUnavailable"
                    | "SignatureValidationFailed",
                ) => {
                    return trouble("ImagePullBackOff", waiting.message.as_deref());
                }
                Some(reason) => return trouble(reason, waiting.message.as_deref()),
            }
        }
    }
    let scheduled = condition("PodScheduled").filter(|condition| condition.status == "False")?;
    trouble(
        scheduled.reason.as_deref().unwrap_or("Unschedulable"),
        scheduled.message.as_deref(),
    )
}

#[cfg(test)]
mod tests;
