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
    fingerprint::{Evidence, Fingerprint, RUNNER_CONTAINER, Uid},
};

/// Longest text that is kept of a pod's or Job's own message, in bytes.
const MAX_MESSAGE: usize = 256;
/// Longest that a Job of ours may be active, in seconds: its deadline lies before its next slot, at most 30 minutes later.
const LONGEST_DEADLINE: i64 = 1_800;
/// How long after its deadline a Job may take to be told as failed.
const DEADLINE_GRACE: SignedDuration = SignedDuration::from_secs(60);
/// A slot is made up for at most one interval later, and an interval is at most 30 minutes.
const OLDEST_SLOT: SignedDuration = SignedDuration::from_hours(1);
/// A node's clock that is further ahead than that is no clock.
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
    /// When it says that it was scheduled last. One that says a moment to come fires nothing before.
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
    /// What keeps it from ending although nothing runs any more; `None` of one that ended or is at work.
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

/// Why a Job may never end, and since when that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Why.
    pub why: Halted,
    /// When we saw it first.
    pub since: Timestamp,
}

/// What a Job that does not end waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halted {
    /// It is suspended, by hand or by a queue: it has no pod by design.
    Suspended,
    /// It has failed, and waits for its pods to end: those of a node that is gone do not.
    Failing,
    /// It is being deleted, and a finalizer holds it.
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
    pub evidence: Evidence,
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
    /// Its status and annotations are written by others: a time that they tell counts only where it can be true.
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

    /// Until when it can be expected to end by itself, by its deadline; whether it does depends on others. By the operator's clock: where that
    /// of the API server is behind, the deadline counts from when we saw the Job.
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

/// The slot for which `job`, created at `created`, says to be. It is an annotation, which anybody may write who may create Jobs.
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

/// A Job's deadline counts from its start, which is told anew after a suspension.
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
            evidence: Evidence::of(pod.spec.as_ref().unwrap_or(&PodSpec::default())),
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

/// Where the runner wrote nothing, Kubernetes leaves the end of its log as the message (`FallbackToLogsOnError`).
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
                // The program's own end, which its report tells.
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
mod tests {
    use super::*;

    const NOW: &str = "2026-11-23T10:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn pod(status: serde_json::Value) -> PodRecord {
        let pod = serde_json::json!({
            "metadata": { "uid": "1f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a11" },
            "spec": { "containers": [] },
            "status": status,
        });
        PodRecord::read(&serde_json::from_value(pod).unwrap(), now()).unwrap()
    }

    fn code(status: serde_json::Value) -> String {
        pod(status)
            .trouble
            .map_or_else(String::new, |trouble| trouble.code.into())
    }

    fn waiting(reason: &str) -> serde_json::Value {
        serde_json::json!({ "containerStatuses": [{
            "name": "job-runner", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": "why" } },
        }] })
    }

    fn ended(exit_code: i32, reason: &str, message: &str) -> serde_json::Value {
        serde_json::json!({ "containerStatuses": [{
            "name": "job-runner", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": exit_code, "reason": reason, "message": message, "finishedAt": NOW } },
        }] })
    }

    #[test]
    fn f18_each_state_of_a_pod_that_a_person_can_act_on_has_its_own_code() {
        assert_eq!(
            code(serde_json::json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" })),
            "Evicted"
        );
        assert_eq!(code(serde_json::json!({ "reason": "NodeLost" })), "NodeLost");
        assert_eq!(code(ended(137, "OOMKilled", "")), "OOMKilled");
        for reason in ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"] {
            assert_eq!(code(waiting(reason)), "ImagePullBackOff");
        }
        assert_eq!(
            code(waiting("CreateContainerConfigError")),
            "CreateContainerConfigError"
        );
        assert_eq!(code(waiting("ContainerCreating")), "");
        let condition = |type_: &str, status: &str, reason: &str| serde_json::json!({ "conditions": [{ "type": type_, "status": status, "reason": reason }] });
        assert_eq!(
            code(condition("DisruptionTarget", "True", "DeletionByTaintManager")),
            "NodeLost"
        );
        assert_eq!(
            code(condition("DisruptionTarget", "True", "PreemptionByScheduler")),
            "Preempted"
        );
        assert_eq!(
            code(condition("PodScheduled", "False", "Unschedulable")),
            "Unschedulable"
        );
        assert_eq!(code(condition("PodScheduled", "True", "")), "");
    }

    #[test]
    fn f19_a_termination_message_that_is_no_report_is_kept_as_its_reason() {
        for message in [
            "",
            "not json",
            "exec /job-runner: exec format error",
            "{\"version\":1}",
            &"[".repeat(4_000),
            &"x".repeat(5_000),
            "\u{fffd}\u{0}\u{1b}[31m",
        ] {
            for exit_code in [0, 1, 255] {
                let end = pod(ended(exit_code, "Completed", message)).ended.unwrap();
                assert_eq!(end.exit_code, exit_code);
                let reason = end.report.unwrap_err().message;
                assert!(
                    !reason.is_empty() && reason.len() <= MAX_MESSAGE && !reason.chars().any(char::is_control),
                    "{reason:?}"
                );
            }
        }
    }

    #[test]
    fn f19_kubernetes_own_reason_comes_first_and_a_foreign_architecture_is_named() {
        let lost = "The container could not be located when the pod was terminated";
        assert_eq!(
            code(ended(137, "ContainerStatusUnknown", lost)),
            "ContainerStatusUnknown"
        );
        assert_eq!(code(ended(128, "StartError", "exec: no such file")), "StartError");
        assert_eq!(
            code(
                serde_json::json!({ "phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough resource" })
            ),
            "OutOfcpu"
        );
        assert_eq!(code(waiting("SomethingNew")), "SomethingNew");
        assert_eq!(code(waiting("PodInitializing")), "");
        let no_report = |exit_code, message| {
            pod(ended(exit_code, "Error", message))
                .ended
                .unwrap()
                .report
                .unwrap_err()
        };
        let foreign = no_report(255, "exec /job-runner: exec format error\n");
        assert_eq!(foreign.code, EXEC_FORMAT_ERROR);
        assert!(foreign.message.contains("kubernetes.io/arch"), "{foreign:?}");
        let panicked = no_report(101, "{\"level\":\"INFO\"}\nthread 'main' panicked at src/main.rs:1\n");
        assert_eq!(panicked.code, REPORT_MISSING);
        assert!(panicked.message.contains("thread 'main' panicked"), "{panicked:?}");
        assert_eq!(no_report(2, "{\"version\":9}").code, REPORT_MALFORMED);
    }

    #[test]
    fn times_that_others_write_are_bounded_where_they_enter() {
        let job = |slot: &str, ended: &str| {
            let job = serde_json::json!({
                "metadata": {
                    "uid": "1", "creationTimestamp": "2026-11-23T09:58:00Z",
                    "annotations": { labels::SCHEDULED_TIMESTAMP: slot },
                },
                "spec": { "activeDeadlineSeconds": 9_000_000_000_000_i64, "template": {} },
                "status": {
                    "startTime": ended,
                    "conditions": [{ "type": "Complete", "status": "True", "lastTransitionTime": ended }],
                },
            });
            JobRecord::read(&serde_json::from_value(job).unwrap(), now()).unwrap()
        };
        let honest = job("2026-11-23T09:58:00Z", "2026-11-23T09:59:00Z");
        assert_eq!(honest.slot, Some("2026-11-23T09:58:00Z".parse().unwrap()));
        assert_eq!(
            honest.ended.as_ref().unwrap().at,
            "2026-11-23T09:59:00Z".parse().unwrap()
        );
        assert_eq!(honest.expected_until(), "2026-11-23T10:31:00Z".parse().unwrap());
        for moment in ["2200-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
            let forged = job(moment, moment);
            assert_eq!(forged.slot, None, "{moment}");
            let at = forged.ended.as_ref().unwrap().at;
            assert!(forged.created <= at && at <= now(), "{moment}: {at}");
            assert!(forged.expected_until() <= "2026-11-23T10:31:00Z".parse().unwrap());
        }
        let ended = pod(serde_json::json!({ "containerStatuses": [{
            "name": "job-runner", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 0, "finishedAt": "2200-01-01T00:00:00Z" } },
        }] }));
        assert_eq!(
            ended.ended.unwrap().finished_at,
            "2026-11-24T10:00:00Z".parse().unwrap()
        );
    }

    #[test]
    fn f31_an_owner_counts_only_as_the_controller_and_of_the_right_kind() {
        let owner = |group: &str, kind: &str, controller: bool| {
            let owner = OwnerReference {
                api_version: format!("{group}/v1"),
                kind: kind.into(),
                name: "x".into(),
                uid: "6f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a10".into(),
                controller: Some(controller),
                block_owner_deletion: None,
            };
            controller_uid(Some(&vec![owner]), "batch", "CronJob")
        };
        assert!(owner("batch", "CronJob", true).is_some());
        assert!(owner("batch", "CronJob", false).is_none());
        assert!(owner("batch", "Job", true).is_none());
        assert!(owner("evil", "CronJob", true).is_none());
    }

    #[test]
    fn a_cron_jobs_task_is_told_by_its_name_and_flipped_labels_are_noticed() {
        let cron_job = |name: &str, policy: &str, task: &str| {
            let cron_job = serde_json::json!({ "metadata": {
                "name": name, "uid": "1", "resourceVersion": "7",
                "labels": { labels::MANAGED_BY: labels::FIELD_MANAGER, labels::POLICY: policy, labels::TASK: task },
            } });
            CronJobRecord::read(&serde_json::from_value(cron_job).unwrap()).unwrap()
        };
        let good = cron_job("roraima-health-check", "roraima", "health-check");
        assert!(good.labels_intact && good.task == Some(TaskName::HealthCheck));
        let flipped = cron_job("roraima-health-check", "acre", "health-check");
        assert!(!flipped.labels_intact && flipped.task == Some(TaskName::HealthCheck));
        assert!(!cron_job("roraima-health-check", "roraima", "refresh-mv-portal").labels_intact);
        assert_eq!(cron_job("other", "roraima", "health-check").task, None);
    }
}
