//! What the operator writes: `status`, with condition types and reasons as enums.
//!
//! Times end in `Time` and have whole seconds, durations are integers with their unit in the name, as the Kubernetes API conventions ask
//! (<https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md>).

use std::{collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    policy::TaskName,
    report::{FaultClass, Publications},
};

/// Most Jobs that a task's `countedRuns` names.
pub const MAX_COUNTED_RUNS: usize = 8;

/// Most templates whose pods are believed, per task: the newest, and those that an active run may still use.
pub const MAX_ACCEPTED_TEMPLATES: usize = 3;

/// Most bytes that a status takes as JSON. Where more is to be said, messages are shortened.
pub const MAX_STATUS: usize = 8_192;

/// Longest message of a task's `lastError`, in bytes of JSON.
pub const MAX_ERROR_MESSAGE: usize = 320;

/// Runs of which a task's status keeps how long they took.
pub const MAX_OBSERVED_RUNS: usize = 12;

/// Publications that a task's status keeps, because an account of the time since is not final yet.
pub const MAX_OPEN_PUBLICATIONS: usize = 6;

/// Most words under which a task's status counts rows: those of [`crate::rows`], and one for all others.
pub const MAX_ROW_REASONS: usize = 16;

/// Calendar months of which the account of breaches is kept: the current one and the twelve before.
pub const MAX_MONTHS: usize = 13;

/// State of a policy as the operator last saw it.
// One writer writes it whole. Parts that are atomic keep `metadata.managedFields` from naming every number of it: that was half of an object.
// kstatus, and Flux with it, takes an object without a status for current. The schema's default is of a generation that never was.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = serde_json::json!({ "observedGeneration": -1 })))]
pub struct MapaRefreshPolicyStatus {
    /// `metadata.generation` of the spec that this status is about; -1 until an operator has looked at the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready, Compliant, AtRisk, Feasible and Suspended; a reason on every one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), transform = whole_items)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Moment at which the oldest of what is published was true in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_as_of: Option<Time>,

    /// Moment after which the published data is older than allowed. Whoever reads Compliant=True later than this treats it as Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliant_until: Option<Time>,

    /// The oldest last success among the data tasks; absent until each has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,

    /// Next slot of any task, as of the last write of this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,

    /// Worst age that the published data can reach while the policy works as planned, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_case_data_age_seconds: Option<i64>,

    /// Failed runs in a row: the maximum over the tasks.
    #[serde(default)]
    pub consecutive_failures: i32,

    /// Retries of the tasks' last runs, summed.
    #[serde(default)]
    pub retries: i32,

    /// Seconds that Kubernetes took around the last runs that had a slot, of any task: from the slot to the Job's end, without the
    /// run itself, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    pub recent_start_seconds: Vec<i32>,

    /// One entry per task of the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tasks: Vec<TaskStatus>,

    /// Account of the breaches of the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance: Option<ComplianceAccount>,

    /// Last value of the annotation `mapa.radar.dev/requestedAt` that was acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_request: Option<String>,

    /// The runs of the last manual request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<ExtraRuns>,

    /// The runs that were last started because waiting for the next slot would have exceeded the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescue: Option<ExtraRuns>,

    /// Hash of what the evidence is about: database kind, Secrets' names, view and key prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub target: Option<String>,

    /// Since when the policy is about this target: what was published before proves nothing about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_since: Option<Time>,
}

/// Says of a list that each of its items is written as a whole.
fn whole_items(list: &mut Schema) {
    if let Some(items) = list.get_mut("items").and_then(Value::as_object_mut) {
        items.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
}

/// Runs that the operator started beside the schedule, one Job per task: first the view, then what is built from it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ExtraRuns {
    /// What the names of the Jobs end in: `<cronjob>-<id>`. `r` and the deadline in minutes since 1970, or `q` and a hash of the
    /// request.
    #[schemars(length(max = 16))]
    pub id: String,

    /// When they were decided upon.
    pub started_at: Time,

    /// The tasks whose Job is still to be created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub waiting: Vec<TaskName>,

    /// The tasks whose Job was created and has not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub running: Vec<TaskName>,

    /// When the last of them ended; absent while they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,

    /// When the last of their Jobs was created or ended; absent before the first, and when all have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advanced_at: Option<Time>,

    /// True when one of them failed, could not be created, or does not end: those that come after it are not started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

/// State of one task.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// Which task.
    pub name: TaskName,

    /// Name of its CronJob.
    #[schemars(length(max = 52))]
    pub cron_job_name: String,

    /// Its schedule, in UTC, as five cron fields.
    #[schemars(length(max = 256))]
    pub schedule: String,

    /// Retries that a run may make.
    pub max_retries: i32,

    /// Seconds between two attempts.
    pub retry_delay_seconds: i32,

    /// Seconds that one attempt may take.
    pub attempt_timeout_seconds: i32,

    /// Slot of the last counted run that had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,

    /// Completion time of the last successful run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,

    /// End of the last failed run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_time: Option<Time>,

    /// Moment at which what the task published (or, for refresh-mv-portal, the view) was true in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_as_of: Option<Time>,

    /// Attempts of the last run.
    #[serde(default)]
    pub attempts: i32,

    /// Retries of the last run: attempts after the first.
    #[serde(default)]
    pub retries: i32,

    /// Retries of all runs.
    #[serde(default)]
    pub total_retries: i64,

    /// Runs counted.
    #[serde(default)]
    pub total_runs: i64,

    /// Failed runs in a row.
    #[serde(default)]
    pub consecutive_failures: i32,

    /// Duration of the last run that reported, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_duration_seconds: Option<i64>,

    /// Rows that the last successful run published or saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<i64>,

    /// Rows that the last run which read the view and reported on them left out, by why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = MAX_ROW_REASONS))]
    pub quarantined: BTreeMap<String, i64>,

    /// Rows that it repaired, by what was repaired; a row may have several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = MAX_ROW_REASONS))]
    pub repaired: BTreeMap<String, i64>,

    /// Why the last run failed; absent after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,

    /// Short UIDs of the Jobs that are counted already, newest first: those that still exist, and as many of those that are gone as have
    /// room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub counted_runs: Vec<String>,

    /// Runs that ended at or before this moment are counted, even when `countedRuns` had no room left for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_until: Option<Time>,

    /// Hashes of the pod templates whose runs are believed, newest first: a run is judged by the template it ran with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub accepted_templates: Vec<String>,

    /// Since when the CronJob has had this schedule: earlier slots were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_since: Option<Time>,

    /// Seconds that the last runs worked in their last attempt, newest first. Their high quantile is the run time that is
    /// expected of the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    pub recent_run_seconds: Vec<i32>,

    /// Publications since the account's settled moment and the last one before it, newest first, as in the run report:
    /// `publishedAt` and `dataAsOf` of the newest in seconds since 1970, then the differences to each older one.
    #[serde(default, skip_serializing_if = "Publications::is_empty")]
    #[schemars(with = "Vec<i64>", length(max = 12))]
    pub publications: Publications,

    /// Most seconds by which two of the clocks that the last run met (database, node, operator) are apart; absent up to 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_seconds: Option<i64>,
}

/// Why a run failed.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// Whether trying again may help.
    pub class: FaultClass,

    /// A code that a person can look up: the runner's, the database's, or the state of Job or pod.
    #[schemars(length(max = 64))]
    pub code: String,

    /// What happened and what to do about it.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// Account of the breaches of the limit: what the public saw, from what is proved about every publication.
///
/// It reaches to `accountedUntil` and is brought forward whenever the status is written. The time after the last publication that
/// is known may still turn out otherwise, because a run's report also tells of publications whose own reports were lost:
/// what is final is kept in `settled`.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ComplianceAccount {
    /// Since when this account is kept.
    pub since: Time,

    /// Until when it reaches.
    pub accounted_until: Time,

    /// Everything since `since`.
    #[serde(flatten)]
    pub total: Tally,

    /// Seconds during which the policy was suspended. They count as whatever the age of the data made them, too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seconds_suspended: i64,

    /// Per calendar month of the policy's time zone, newest first: the current one and the twelve before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 13))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub months: Vec<MonthTally>,

    /// What is final.
    pub settled: SettledAccount,
}

/// The part of the account that no later evidence can change.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SettledAccount {
    /// Until when it reaches: the last moment up to which the publications of every document are known.
    pub until: Time,

    /// Whether the limit was exceeded just before that moment, so that a breach after it is the same one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_breach: bool,

    /// Everything from the account's beginning to `until`.
    #[serde(default)]
    pub total: Tally,

    /// The part of it that lies in the calendar month of `until`.
    #[serde(default)]
    pub month: Tally,
}

/// One calendar month of the account.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MonthTally {
    /// The month, `YYYY-MM`, in the policy's time zone.
    #[schemars(length(max = 8))]
    pub month: String,

    /// What happened in it. A breach counts in the month in which it began.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Sums over a stretch of time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Times that the limit began to be exceeded.
    #[serde(default)]
    pub breaches: i64,

    /// Seconds during which the limit was exceeded, or nothing was published any more.
    #[serde(default)]
    pub seconds_in_breach: i64,

    /// Seconds for which there is no evidence either way: before the first publication, and where what became of the published
    /// data is not known. They are not counted as compliant.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seconds_unproven: i64,

    /// Oldest that the published data has been, in seconds.
    #[serde(default)]
    pub worst_data_age_seconds: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Types of the conditions. States, not verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The policy is carried out as written.
    Ready,
    /// The published data is younger than `maxDataAgeMinutes`.
    Compliant,
    /// The limit will be exceeded unless something changes.
    AtRisk,
    /// The limit holds even when every retry is needed.
    Feasible,
    /// The schedule is stopped by `spec.suspend`.
    Suspended,
}

impl ConditionType {
    /// The type as it stands in `status.conditions`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Compliant => "Compliant",
            Self::AtRisk => "AtRisk",
            Self::Feasible => "Feasible",
            Self::Suspended => "Suspended",
        }
    }
}

macro_rules! reasons {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$inner])* $variant),+ }

        impl $name {
            /// Every value, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The reason as it stands in the condition.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// Reasons of [`ConditionType::Ready`].
    ReadyReason {
        /// True: every CronJob is as desired and no run complains of the set-up.
        Reconciled,
        /// False: the policy is being deleted, and a finalizer holds it.
        BeingDeleted,
        /// False: the operator does not understand the spec; the message names the field.
        Undecodable,
        /// False: the spec says something that cannot be done; the message names the field.
        InvalidSpec,
        /// False: the time zone is not in the IANA data of this operator.
        UnknownTimeZone,
        /// False: the area is neither built in nor in the operator's configuration.
        UnknownArea,
        /// False: the interval is above the legal limit and is run at 30 minutes.
        IntervalAboveLegalLimit,
        /// False: the operator has no runner image for this kind of database.
        RunnerImageMissing,
        /// False: a CronJob of our name belongs to somebody else; it is left alone.
        CronJobConflict,
        /// False: admission changes what is written of a CronJob, or something changes it back as often as it is repaired.
        CronJobContested,
        /// False: the API server refuses to create or repair a CronJob.
        CronJobRejected,
        /// False: the last schedule time of a CronJob lies in the future, so that it starts no run before.
        CronJobNeverFires,
        /// False: a Job of the name that a run beside the schedule would have belongs to somebody else.
        JobConflict,
        /// False: the API server refuses to create a Job beside the schedule.
        JobRejected,
        /// False: a run found that a Secret or one of its keys is missing or malformed.
        SecretIncomplete,
        /// False: the database or the cache refuses the credentials.
        CredentialsRejected,
        /// False: another policy publishes under the same key prefix.
        CacheKeyConflict,
        /// False: a run found that the policy or its database is set up wrongly; the message says how.
        RunnerMisconfigured,
        /// False: a Job has had no pod for 30 seconds: quota, Pod Security or ServiceAccount.
        PodNotCreated,
        /// False: the runner's image cannot be pulled.
        ImagePullBackOff,
    }
}

reasons! {
    /// Reasons of [`ConditionType::Compliant`].
    CompliantReason {
        /// True: the published data is younger than the limit.
        Fresh,
        /// False: the published data is older than the limit.
        DataTooOld,
        /// False: nothing was published yet for this target.
        NeverPublished,
        /// False: a health-check found the published document missing or older than it was.
        PublishedDataLost,
        /// False: runs ended, but nothing that can be believed was heard of what they published.
        EvidenceMissing,
        /// False: the evidence lies in the future, or is too old by one clock and not by another.
        ClockSkew,
        /// False: documents are published, but from a view that is not refreshed.
        SourceStale,
        /// False: the limit is exceeded while the policy is suspended.
        SuspendedByPolicy,
        /// Unknown: the operator does not understand the spec, and with it the limit.
        Undecodable,
    }
}

reasons! {
    /// Reasons of [`ConditionType::AtRisk`].
    AtRiskReason {
        /// False: the next run ends in time.
        OnSchedule,
        /// True: the limit is exceeded already, or nothing was published yet.
        LimitExceeded,
        /// True: the policy is suspended, and what is published ages.
        SuspendedByPolicy,
        /// True: a pod of a run cannot start.
        PodCannotStart,
        /// True: the last runs were refused for something that a person has to change.
        RunnerMisconfigured,
        /// True: a run takes longer than one attempt may.
        RunHung,
        /// True: a slot passed and no Job was created for it.
        ScheduleMissed,
        /// True: so many runs failed in a row that one more exceeds the limit.
        ConsecutiveFailures,
        /// True: the next run, at the duration that was observed, ends too late.
        NextRunTooLate,
        /// True: the clocks of database, node and operator are more than 60 s apart.
        ClockSkew,
        /// True: the policy cannot be carried out as written.
        NotCarriedOut,
    }
}

reasons! {
    /// Reasons of [`ConditionType::Feasible`].
    FeasibleReason {
        /// True: the limit holds even when every retry is needed.
        WithinLimit,
        /// False: the limit holds only while runs succeed at once; retries may exceed it.
        RetriesExceedLimit,
        /// False: the interval alone, with an ordinary run, exceeds the limit.
        IntervalExceedsLimit,
        /// False: the policy cannot be carried out as written.
        NotCarriedOut,
    }
}

reasons! {
    /// Reasons of [`ConditionType::Suspended`].
    SuspendedReason {
        /// False: the schedule runs.
        NotSuspended,
        /// True: `spec.suspend` stops the schedule.
        SuspendedBySpec,
        /// Unknown: the operator does not understand the spec; the CronJobs stay as they are.
        Undecodable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_status_is_written_and_read_without_loss() {
        let status = MapaRefreshPolicyStatus::default();
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json, serde_json::json!({ "consecutiveFailures": 0, "retries": 0 }));
        assert_eq!(serde_json::from_value::<MapaRefreshPolicyStatus>(json).unwrap(), status);
    }

    #[test]
    fn the_readme_has_a_row_for_every_reason_of_every_condition() {
        let readme = include_str!("../../README.md");
        let rows: Vec<(String, &str)> = readme
            .lines()
            .filter(|line| line.starts_with('|'))
            .scan(String::new(), |condition, line| {
                let mut cells = line.split('|').skip(1).map(str::trim);
                let (first, reasons) = (cells.next()?, cells.next()?);
                if let Some((type_, _)) = first.split_once('=') {
                    type_.clone_into(condition);
                } else if !first.is_empty() {
                    condition.clear();
                }
                Some((condition.clone(), reasons))
            })
            .collect();
        let has_row = |type_: ConditionType, reason: &str| {
            let reason = format!("`{reason}`");
            rows.iter()
                .any(|(condition, reasons)| condition == type_.as_str() && reasons.contains(&reason))
        };
        let reasons = [
            (ConditionType::Ready, words(ReadyReason::ALL)),
            (ConditionType::Compliant, words(CompliantReason::ALL)),
            (ConditionType::AtRisk, words(AtRiskReason::ALL)),
            (ConditionType::Feasible, words(FeasibleReason::ALL)),
            (ConditionType::Suspended, words(SuspendedReason::ALL)),
        ];
        for (type_, reasons) in reasons {
            for reason in reasons {
                assert!(has_row(type_, &reason), "{}: {reason}", type_.as_str());
            }
        }
    }

    fn words(reasons: &[impl fmt::Display]) -> Vec<String> {
        reasons.iter().map(ToString::to_string).collect()
    }
}
