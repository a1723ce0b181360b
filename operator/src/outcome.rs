//! Pure: from a Job and its pods to what became of the run.
//!
//! A run's own report is believed only from a pod that ran our template, for this policy and task. Without one, the state of the Job
//! and its pods is named, each with a reason of its own that a person can act on.

use std::time::Duration;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use mapa_refresh_crds::{
    RunReport,
    policy::TaskName,
    report::{FaultClass, Publications, Published, RunResult, Success, SuccessKind, clean},
    rows::RowCounts,
    status::{LastError, MAX_ERROR_MESSAGE},
};

use crate::{
    clock::{CLOCKS_APART, not_ahead},
    fingerprint,
    observe::Run,
    records::{Halt, Halted, JobEnd, NoReport, PodEnd, PodRecord, REPORT_MISSING, Trouble},
};

/// How long a Job that ended waits for the word of its pod, which comes by another watch.
const EVIDENCE_GRACE: Duration = Duration::from_secs(5);
/// How long a Job that was deleted while it ran waits: its pod has 10 s to end.
const DELETION_GRACE: Duration = Duration::from_secs(15);
/// How long a Job may be without a pod before that is a fault.
pub const POD_GRACE: Duration = Duration::from_secs(30);
/// A container's end is told in whole seconds, cut off: it may have been almost a second later.
const FINISHED_AT_RESOLUTION: SignedDuration = SignedDuration::from_millis(999);

/// Code of a run whose report speaks of another policy, task or pod.
pub const REPORT_FOREIGN: &str = "ReportForeign";
/// Code of a run whose pod is not of our template.
pub const UNTRUSTED_POD: &str = "UntrustedPod";
/// Code of a run that reports data of the future.
pub const REPORT_FROM_FUTURE: &str = "ReportFromFuture";
/// Seconds by which clocks may be apart before that is worth telling.
const TOLERATED_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// Code of a suspended Job.
pub const JOB_SUSPENDED: &str = "JobSuspended";
/// Upper bound of every number of seconds in a status, whatever a report contains.
const MOST_SECONDS: i64 = 366 * 86_400;

/// Whose reports are believed.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// UID of the policy.
    pub policy_uid: &'a str,
    /// Fingerprint of the task's current pod template, by which differences are named; `None` while the policy cannot be carried out.
    pub template: Option<&'a fingerprint::PodFingerprint>,
    /// Fingerprints of the templates whose pods are believed.
    pub templates: &'a [String],
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// It runs. `trouble` is what keeps it from doing so, `look_again` when silence becomes trouble.
    Active {
        /// What keeps it from running.
        trouble: Option<Trouble>,
        /// When to look again although nothing happens.
        look_again: Option<Timestamp>,
    },
    /// It has not ended, and the operator no longer waits for it: it is suspended, or its end depends on an event that may never come. If it
    /// ends later, it is counted like any other run.
    GivenUp {
        /// Why it does not end, with the remedy.
        trouble: Option<Trouble>,
    },
    /// It ended, and its pod's word is still to come.
    AwaitingEvidence {
        /// When to do without.
        until: Timestamp,
    },
    /// It ended.
    Ended(Box<Outcome>),
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// When it ended.
    pub ended_at: Timestamp,
    /// Attempts; 0 when the run could not report them.
    pub attempts: i32,
    /// Duration of the run, if it reported.
    pub duration_seconds: Option<i64>,
    /// Duration of its last attempt, if it succeeded.
    pub attempt_seconds: Option<i64>,
    /// Rows, or why it failed.
    pub result: Result<i64, LastError>,
    /// Rows that were not as they should be; absent of a run that did not report on them.
    pub rows: Option<RowCounts>,
    /// What a verified report proves about the data, for which target.
    pub evidence: Option<Evidence>,
    /// What a verified report lists of publications.
    pub log: Option<PublicationLog>,
    /// What a verified health-check found published.
    pub published: Option<Found>,
    /// Seconds by which the clocks that the run met are apart, where that is worth telling.
    pub clock_skew_seconds: Option<i64>,
}

/// Proof of the age of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// When the data was true in the database: the oldest of what the clocks say.
    pub data_as_of: Timestamp,
    /// When it was published or seen, at the latest.
    pub published_at: Timestamp,
    /// The target that the run worked on.
    pub target: String,
}

/// What a verified report lists of publications: the run's own, also before it failed, and those of earlier runs. They are facts for the
/// account; only [`Evidence`] proves by several clocks how old data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicationLog {
    /// Recent publications of the document, newest first.
    pub publications: Publications,
    /// When the operator first knew of them.
    pub seen: Timestamp,
    /// The target that the run worked on.
    pub target: String,
}

/// What a health-check found published.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What it found.
    pub published: Published,
    /// When it began to look.
    pub since: Timestamp,
    /// The target that it looked at.
    pub target: String,
}

/// Where `run` stands at `now`.
#[must_use]
pub fn progress(run: &Run, trust: Trust<'_>, now: Timestamp) -> Progress {
    let Some(settled) = run.job.settled_at else {
        return active(run, now);
    };
    let ended_pod = run
        .pods
        .iter()
        .filter_map(|pod| Some((pod, pod.ended.as_ref()?)))
        .max_by_key(|(_, end)| end.finished_at);
    let Some((pod, end)) = ended_pod else {
        let grace = if run.job.ended.is_some() {
            EVIDENCE_GRACE
        } else {
            DELETION_GRACE
        };
        let until = settled.checked_add(grace).unwrap_or(settled);
        // A pod that never started reports nothing, and a suspended Job has no pod.
        let never_started =
            run.job.ended.as_ref().is_some_and(|end| !end.complete) && run.pods.iter().any(|pod| pod.trouble.is_some());
        let is_suspended = run.job.halt.is_some_and(|halt| halt.why == Halted::Suspended) && run.pods.is_empty();
        if now < until && !never_started && !is_suspended {
            return Progress::AwaitingEvidence { until };
        }
        return Progress::Ended(Box::new(without_word(run, settled)));
    };
    Progress::Ended(Box::new(with_word(run, pod, end, trust)))
}

fn active(run: &Run, now: Timestamp) -> Progress {
    let trouble = run.pods.iter().find_map(|pod| pod.trouble.clone());
    if let Some(halt) = run.job.halt {
        return halted(run, halt, trouble, now);
    }
    if now >= run.job.expected_until() {
        return Progress::GivenUp { trouble };
    }
    if !run.pods.is_empty() {
        return Progress::Active {
            trouble,
            look_again: Some(run.job.expected_until()),
        };
    }
    let due = run.job.created.checked_add(POD_GRACE).unwrap_or(run.job.created);
    if now < due {
        return Progress::Active {
            trouble: None,
            look_again: Some(due),
        };
    }
    let message = format!(
        "Job {} has had no pod for {} s: look for quota, Pod Security or a missing ServiceAccount with `kubectl describe job {}`",
        run.job.name,
        POD_GRACE.as_secs(),
        run.job.name
    );
    Progress::Active {
        trouble: Some(Trouble {
            code: "PodNotCreated".into(),
            message: message.into(),
        }),
        look_again: Some(run.job.expected_until()),
    }
}

/// A Job that waits for something beside its own work. The grace covers the ordinary cases: a queue admits within a second, pods end in time.
fn halted(run: &Run, halt: Halt, trouble: Option<Trouble>, now: Timestamp) -> Progress {
    let grace = match halt.why {
        Halted::Suspended => POD_GRACE,
        Halted::Failing | Halted::Deleting => DELETION_GRACE,
    };
    let until = halt.since.checked_add(grace).unwrap_or(halt.since);
    if now < until {
        return Progress::Active {
            trouble,
            look_again: Some(until),
        };
    }
    let name = &run.job.name;
    let suspended = || {
        Trouble {
        code: JOB_SUSPENDED.into(),
        message: format!(
            "Job {name} is suspended: `kubectl patch job {name} --type merge -p '{{\"spec\":{{\"suspend\":false}}}}'` lets it run; a queue \
             such as Kueue suspends Jobs until it admits them, so look at its quota, or keep it from this namespace"
        )
        .into(),
    }
    };
    Progress::GivenUp {
        trouble: trouble.or_else(|| (halt.why == Halted::Suspended).then(suspended)),
    }
}

/// The pod's container ended, so there is a report, or the reason why there is none.
fn with_word(run: &Run, pod: &PodRecord, end: &PodEnd, trust: Trust<'_>) -> Outcome {
    let ended_at = run
        .job
        .ended
        .as_ref()
        .map_or_else(|| not_ahead(end.finished_at, end.first_seen), |job| job.at);
    let failed = |error: LastError| Outcome {
        ended_at,
        attempts: 0,
        duration_seconds: None,
        attempt_seconds: None,
        result: Err(error),
        rows: None,
        evidence: None,
        log: None,
        published: None,
        clock_skew_seconds: None,
    };
    let report = match &end.report {
        Ok(report) => report,
        Err(reason) => return failed(no_report(run, pod, reason)),
    };
    if let Err(error) = believe(report, run.task, pod, end, trust) {
        return failed(error);
    }

    let (result, evidence) = match &report.result {
        RunResult::Failed(error) => (
            Err(LastError {
                class: error.class,
                code: error.code.clone(),
                message: error.message.clone(),
            }),
            None,
        ),
        RunResult::Succeeded(success) => {
            let evidence = Evidence {
                data_as_of: oldest(success, end),
                published_at: end.finished_at.min(end.first_seen),
                target: report.target.clone(),
            };
            let result = match &run.job.ended {
                // Published, and yet the Job failed: the data is proved, the run is not a success.
                Some(job) if !job.complete => Err(job_failed(job)),
                _ => Ok(i64::try_from(success.records).unwrap_or(i64::MAX)),
            };
            (result, Some(evidence))
        }
    };
    Outcome {
        ended_at,
        attempts: i32::try_from(report.attempts.len()).unwrap_or(i32::MAX),
        duration_seconds: Some(seconds(report.duration_ms)),
        attempt_seconds: report
            .attempts
            .last()
            .filter(|_| result.is_ok())
            .map(|attempt| seconds(attempt.duration_ms)),
        clock_skew_seconds: match &report.result {
            RunResult::Succeeded(success) => skew(success, end),
            RunResult::Failed(_) => None,
        },
        result,
        rows: rows(report),
        evidence,
        log: Some(PublicationLog {
            publications: report.publications.clone(),
            seen: end.first_seen,
            target: report.target.clone(),
        }),
        published: report.published.clone().map(|published| Found {
            published: bounded(published),
            since: report.started_at.0.min(end.first_seen),
            target: report.target.clone(),
        }),
    }
}

/// What a run that read rows reported of them: a task that publishes, and one that refused to.
fn rows(report: &RunReport) -> Option<RowCounts> {
    match &report.result {
        RunResult::Succeeded(success) if report.task.publishes() => Some(RowCounts {
            repaired: success.repaired.clone(),
            quarantined: success.quarantined.clone(),
        }),
        RunResult::Succeeded(_) => None,
        RunResult::Failed(_) => report.refused_rows.clone(),
    }
}

fn seconds(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds.div_ceil(1_000)).map_or(MOST_SECONDS, |seconds| seconds.min(MOST_SECONDS))
}

/// Whether the report comes from a pod of ours and speaks of this run.
fn believe(
    report: &RunReport,
    task: TaskName,
    pod: &PodRecord,
    end: &PodEnd,
    trust: Trust<'_>,
) -> Result<(), LastError> {
    let trusted = pod
        .evidence
        .whole
        .is_some_and(|evidence| trust.templates.contains(&evidence.to_string()));
    if !trusted {
        let differences = trust
            .template
            .map(|template| pod.evidence.differences(template))
            .filter(|differences| !differences.is_empty())
            .unwrap_or_else(|| "image, command, environment, volumes or service account".to_owned());
        return Err(fault(
            UNTRUSTED_POD,
            &format!(
                "the pod differs from the CronJob's template ({differences}): its report proves nothing. Look for a webhook that changes pods, and \
                 keep it from them, or for who created or changed the Job"
            ),
        ));
    }
    let kind_fits = match &report.result {
        RunResult::Failed(_) => true,
        RunResult::Succeeded(success) => matches!(
            (task, success.kind),
            (
                TaskName::RefreshMvPortal,
                SuccessKind::Refreshed | SuccessKind::AlreadyFresh
            ) | (
                TaskName::RefreshMapaCache | TaskName::CalcularEstatisticas,
                SuccessKind::Published | SuccessKind::Fenced
            ) | (TaskName::HealthCheck, SuccessKind::Healthy)
        ),
    };
    if report.policy_uid != trust.policy_uid || report.task != task || *report.pod_uid != *pod.uid_text || !kind_fits {
        return Err(fault(
            REPORT_FOREIGN,
            "the report speaks of another policy, task or pod: it proves nothing. Look for who wrote the pod's termination message",
        ));
    }
    if let RunResult::Succeeded(success) = &report.result
        && success.data_as_of.0.duration_since(end.first_seen) > CLOCKS_APART
    {
        return Err(fault(
            REPORT_FROM_FUTURE,
            "the report says that the data was true at a moment that is still to come: it proves nothing. Synchronise the clocks of database \
             and operator by NTP",
        ));
    }
    Ok(())
}

/// No API server keeps a moment of before year 0, and nothing was published before there were computers.
fn bounded(published: Published) -> Published {
    let bounded = |moment: Option<MicroTime>| moment.map(|moment| MicroTime(moment.0.max(Timestamp::UNIX_EPOCH)));
    Published {
        map: bounded(published.map),
        statistics: bounded(published.statistics),
    }
}

/// The oldest of what three clocks say: skewed pods, nodes and API servers cannot make data look younger.
fn oldest(success: &Success, end: &PodEnd) -> Timestamp {
    let since_true =
        SignedDuration::try_from_secs_f64(success.age_seconds + success.elapsed_seconds).unwrap_or(SignedDuration::MAX);
    let before = |moment: Timestamp| moment.checked_sub(since_true).unwrap_or(Timestamp::MIN);
    let finished = end
        .finished_at
        .checked_add(FINISHED_AT_RESOLUTION)
        .unwrap_or(end.finished_at);
    success
        .data_as_of
        .0
        .min(before(finished))
        .min(before(end.first_seen))
        // The API server refuses times before year 0, and with them the whole status.
        .max(Timestamp::UNIX_EPOCH)
}

/// Seconds by which the clocks of database, node and operator are apart, as far as one run can tell; `None` up to a minute.
///
/// The operator may see a run long after its end, so its clock speaks only against a node that is ahead of it.
fn skew(success: &Success, end: &PodEnd) -> Option<i64> {
    let since_true =
        SignedDuration::try_from_secs_f64(success.age_seconds + success.elapsed_seconds).unwrap_or(SignedDuration::MAX);
    let database = success.data_as_of.0.checked_add(since_true).ok()?;
    let apart = database.duration_since(end.finished_at).abs();
    let ahead = end.finished_at.duration_since(end.first_seen);
    let most = apart.max(ahead);
    (most > TOLERATED_SKEW).then_some(most.as_secs().min(MOST_SECONDS))
}

fn no_report(run: &Run, pod: &PodRecord, reason: &NoReport) -> LastError {
    if let Some(trouble) = &pod.trouble {
        return from_trouble(trouble);
    }
    if let Some(job) = run.job.ended.as_ref().filter(|job| &*job.reason == "DeadlineExceeded") {
        return job_failed(job);
    }
    fault(reason.code, &reason.message)
}

/// No container ended: what the pod waited for, what the Job says, or that it was deleted.
fn without_word(run: &Run, settled: Timestamp) -> Outcome {
    let trouble = run.pods.iter().find_map(|pod| pod.trouble.as_ref());
    let error = match (&run.job.ended, trouble) {
        (_, Some(trouble)) => from_trouble(trouble),
        (Some(job), None) if job.complete => fault(
            REPORT_MISSING,
            "the Job is complete, but its pod was gone before its report could be read",
        ),
        (Some(job), None) => job_failed(job),
        (None, None) => fault(
            "JobDeleted",
            "the Job was deleted while it ran, by hand or because the next run replaced it",
        ),
    };
    Outcome {
        ended_at: run.job.ended.as_ref().map_or(settled, |job| job.at),
        attempts: 0,
        duration_seconds: None,
        attempt_seconds: None,
        result: Err(error),
        rows: None,
        evidence: None,
        log: None,
        published: None,
        clock_skew_seconds: None,
    }
}

fn job_failed(job: &JobEnd) -> LastError {
    let advice = match &*job.reason {
        "DeadlineExceeded" => "the run took longer than the interval allows and could not report",
        "BackoffLimitExceeded" | "PodFailurePolicy" => "the runner's pod failed without a report",
        _ => "the Job failed",
    };
    let code = if job.reason.is_empty() {
        "JobFailed"
    } else {
        &job.reason
    };
    fault(code, &format!("{advice}: {}", job.message))
}

fn from_trouble(trouble: &Trouble) -> LastError {
    let advice = match &*trouble.code {
        "ImagePullBackOff" => "the runner's image cannot be pulled: check --runner-image and the pull secrets",
        "OOMKilled" => "the runner was killed for memory: raise its limit in the operator's configuration",
        "Evicted" => "the node evicted the pod: look at its memory and disk",
        "Preempted" => "a pod of higher priority took the place: give the runner a priority class",
        "NodeLost" | "NodeShutdown" | "Terminated" => {
            "the node went away while the run was on it: look at `kubectl get nodes`"
        }
        "Unschedulable" => "no node had room for the pod: look at `kubectl describe pod`",
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "ContainerCannotRun"
        | "StartError" => "the container could not be started",
        _ => "the pod could not run",
    };
    fault(&trouble.code, &format!("{advice}: {}", trouble.message))
}

fn fault(code: &str, message: &str) -> LastError {
    let mut message = message.trim_end_matches(": ").to_owned();
    clean(&mut message, MAX_ERROR_MESSAGE);
    LastError {
        class: FaultClass::Transient,
        code: code.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests;
