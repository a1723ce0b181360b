//! Pure: from a CronJob, Job or pod of the API to the record that is kept of it.
//!
//! A full CronJob in a cache costs 34 kB, a record some 150 bytes. What a record does not hold cannot be believed later, so
//! everything that decides is read here, once.

use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job},
        core::v1::{ContainerStateTerminated, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use mapa_refresh_crds::{
    RunReport,
    labels::{self, cron_job_name},
    policy::TaskName,
    report::{ReportError, clean},
};

use crate::fingerprint::{Fingerprint, RUNNER_CONTAINER, Uid};

/// Longest text that is kept of a pod's or Job's own message, in bytes.
const MAX_MESSAGE: usize = 256;

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
    /// Whether it is suspended, so that it has no pod by design.
    pub suspended: bool,
    /// How it ended; `None` while it runs.
    pub ended: Option<JobEnd>,
    /// When we first saw that it had ended or was gone.
    pub settled_at: Option<Timestamp>,
    /// Whether it is gone from the API. It is kept until it is counted.
    pub deleted: bool,
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
    pub evidence: Option<Fingerprint>,
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
    pub report: Result<Box<RunReport>, Box<str>>,
}

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
            task,
            fingerprint: cron_job.spec.as_ref().and_then(Fingerprint::of_cron_job),
            labels_intact,
            resource_version: meta.resource_version.as_deref().unwrap_or_default().into(),
            deleting: meta.deletion_timestamp.is_some(),
        })
    }
}

impl JobRecord {
    /// Reads a Job; `None` when it has no UID.
    #[must_use]
    pub fn read(job: &Job, now: Timestamp) -> Option<Self> {
        let meta = &job.metadata;
        let conditions = job
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default();
        let ended = conditions
            .iter()
            .find(|condition| condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed"))
            .map(|condition| {
                let completed = job.status.as_ref().and_then(|status| status.completion_time.as_ref());
                let changed = condition.last_transition_time.as_ref();
                JobEnd {
                    complete: condition.type_ == "Complete",
                    at: completed.or(changed).map_or(now, |time| time.0),
                    reason: shortened(condition.reason.as_deref()),
                    message: shortened(condition.message.as_deref()),
                }
            });
        let slot = meta
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(labels::SCHEDULED_TIMESTAMP))
            .and_then(|slot| slot.parse().ok());
        Some(Self {
            uid: Uid::parse(meta.uid.as_deref()?),
            name: meta.name.as_deref().unwrap_or_default().into(),
            owner: controller_uid(meta.owner_references.as_ref(), "batch", "CronJob"),
            created: meta.creation_timestamp.as_ref().map_or(now, |time| time.0),
            slot,
            suspended: job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false),
            settled_at: ended.is_some().then_some(now),
            ended,
            deleted: false,
        })
    }
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
            evidence: pod.spec.as_ref().and_then(Fingerprint::of_evidence),
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
        finished_at: state.finished_at.as_ref().map_or(now, |time| time.0),
        first_seen: now,
        exit_code: state.exit_code,
        report: RunReport::decode(message).map(Box::new).map_err(|error| {
            let mut text = match error {
                ReportError::Missing => "the runner left no report in its termination message".to_owned(),
                other => other.to_string(),
            };
            clean(&mut text, MAX_MESSAGE);
            text.into()
        }),
    }
}

/// What a person would read off `kubectl describe pod`, most telling first.
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

    if let Some(reason @ ("Evicted" | "NodeLost" | "NodeShutdown" | "Terminated" | "UnexpectedAdmissionError")) =
        status.reason.as_deref()
    {
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
            if terminated.reason.as_deref() == Some("OOMKilled") {
                return trouble("OOMKilled", Some("the container used more memory than its limit"));
            }
            if let Some(reason @ ("ContainerCannotRun" | "StartError")) = terminated.reason.as_deref() {
                return trouble(reason, terminated.message.as_deref());
            }
        }
        if let Some(waiting) = &state.waiting {
            match waiting.reason.as_deref() {
                Some("ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName") => {
                    return trouble("ImagePullBackOff", waiting.message.as_deref());
                }
                Some(
                    reason @ ("CreateContainerConfigError"
                    | "CreateContainerError"
                    | "RunContainerError"
                    | "CrashLoopBackOff"),
                ) => {
                    return trouble(reason, waiting.message.as_deref());
                }
                _ => {}
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
            "{\"version\":1}",
            &"[".repeat(4_000),
            &"x".repeat(5_000),
            "\u{fffd}\u{0}\u{1b}[31m",
        ] {
            let end = pod(ended(0, "Completed", message)).ended.unwrap();
            assert_eq!(end.exit_code, 0);
            let reason = end.report.unwrap_err();
            assert!(
                !reason.is_empty() && reason.len() <= MAX_MESSAGE && !reason.chars().any(char::is_control),
                "{reason:?}"
            );
        }
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
