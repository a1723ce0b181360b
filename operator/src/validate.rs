//! Pure: from a policy as it stands in the API to a plan that can be carried out, or the reason why it cannot.
//!
//! The API server has checked the bounds already, but a policy may have got past it (an older CRD, a restored backup): every number
//! is brought into its range here, and what could not be meant otherwise is refused with its reason.

use std::time::Duration;

use chrono_tz::Tz;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mapa_refresh_crds::{
    MapaRefreshPolicy, MapaRefreshPolicySpec,
    area::RR,
    policy::{LEGAL_LIMIT_MINUTES, Task, TaskName},
    status::ReadyReason,
};

use crate::{
    schedule::{Interval, Schedule, lead_minutes, policy_offset},
    settings::RunnerSettings,
};

/// Furthest ahead that the end of a suspension is believed: two years.
pub const LONGEST_SUSPENSION: SignedDuration = SignedDuration::from_hours(24 * 731);

/// Seconds of an interval that a run leaves to Kubernetes for starting the next.
const BUDGET_MARGIN_SECONDS: u32 = 30;

/// A policy that can be carried out: every number in its range.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Minutes between two runs.
    pub interval: Interval,
    /// Oldest that the published data may be, what caches after ours add taken off already.
    pub max_data_age: Duration,
    /// Seconds for which caches after ours may serve an older document.
    pub downstream_seconds: u32,
    /// Zone of the view's dates and of the account's months.
    pub time_zone: Tz,
    /// Whether the operator may start runs between two slots.
    pub rescue: bool,
    /// Whether the schedule is stopped now.
    pub suspended: bool,
    /// When a suspension ends by itself.
    pub resumes_at: Option<Timestamp>,
    /// When a suspension that ends too far ahead is too far no more.
    pub credible_at: Option<Timestamp>,
    /// Image of the runner for the policy's kind of database.
    pub image: String,
    /// Hash of what the evidence is about.
    pub target: String,
    /// The tasks, in the order in which they run.
    pub tasks: Vec<TaskPlan>,
    /// What is carried out otherwise than written.
    pub reservation: Option<Refusal>,
}

/// One task of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskPlan {
    /// Which task.
    pub name: TaskName,
    /// When it runs.
    pub schedule: Schedule,
    /// Minutes by which its slot lies after the view's; `None` when the policy does not refresh the view.
    pub view_lead_minutes: Option<u32>,
    /// Retries after the first attempt, 0 to 10.
    pub max_retries: u32,
    /// Seconds between two attempts, 0 to 600.
    pub retry_delay_seconds: u32,
    /// Seconds that one attempt may take, 5 to 1500.
    pub attempt_timeout_seconds: u32,
    /// Seconds that the whole run may take.
    pub run_budget_seconds: u32,
    /// Whether the CronJob is suspended.
    pub suspended: bool,
}

impl Plan {
    /// The task, if the policy has it.
    #[must_use]
    pub fn task(&self, name: TaskName) -> Option<&TaskPlan> {
        self.tasks.iter().find(|task| task.name == name)
    }
}

/// Why a policy cannot be carried out as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Reason of `Ready=False`.
    pub reason: ReadyReason,
    /// What is wrong and what to do.
    pub message: String,
}

impl Refusal {
    fn new(reason: ReadyReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Whether the database refused the credentials in two runs in a row, so that only one run an hour may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing is known against them.
    Usable,
    /// Refused twice: more attempts would lock the account.
    Rejected,
}

/// Validates `spec` of the policy `namespace/name`.
///
/// # Errors
/// The first reason why the policy cannot be carried out. Its CronJobs, if there are any, stay as they are.
pub fn validate(
    namespace: &str,
    name: &str,
    spec: &MapaRefreshPolicySpec,
    runner: &RunnerSettings,
    credentials: Credentials,
    now: Timestamp,
) -> Result<Plan, Refusal> {
    let Ok(time_zone) = spec.time_zone.parse::<Tz>() else {
        return Err(Refusal::new(
            ReadyReason::UnknownTimeZone,
            format!(
                "spec.timeZone {:?} is not in the IANA time zone data; write a name such as America/Boa_Vista",
                spec.time_zone
            ),
        ));
    };
    if spec.area != RR && !runner.areas.contains_key(&spec.area) {
        let known: Vec<&str> = [RR]
            .into_iter()
            .chain(runner.areas.keys().map(String::as_str))
            .collect();
        return Err(Refusal::new(
            ReadyReason::UnknownArea,
            format!(
                "spec.area {:?} is not known: write one of {}, or define it below `areas` in the operator's configuration",
                spec.area,
                known.join(", ")
            ),
        ));
    }
    let Some(image) = runner.image_for(spec.database.kind) else {
        return Err(Refusal::new(
            ReadyReason::RunnerImageMissing,
            format!(
                "the operator has no runner image for spec.database.kind {}: start it with --runner-image{}",
                spec.database.kind,
                if spec.database.kind == mapa_refresh_crds::policy::DatabaseKind::Oracle {
                    " or --runner-image-oracle"
                } else {
                    ""
                }
            ),
        ));
    };

    let interval = Interval::clamped(spec.interval_minutes);
    let resumes_at = spec
        .suspend_until
        .as_ref()
        .map(|until| until.0)
        .filter(|until| spec.suspend && *until > now);
    let suspended = spec.suspend && (spec.suspend_until.is_none() || resumes_at.is_some());
    let credible_at = resumes_at
        .map(|until| until.saturating_sub(LONGEST_SUSPENSION).unwrap_or(now))
        .filter(|moment| *moment > now);
    Ok(Plan {
        interval,
        max_data_age: max_data_age(spec),
        downstream_seconds: downstream_seconds(spec.downstream_cache_seconds),
        time_zone,
        rescue: spec.rescue,
        suspended,
        resumes_at,
        credible_at,
        image: image.to_owned(),
        target: spec.target(),
        tasks: tasks(namespace, name, spec, interval, suspended, credentials)?,
        reservation: reservation(spec).or_else(|| credible_at.and_then(|_| doubtful_end(spec))),
    })
}

/// `plan`, the plan of `policy`, at another interval: what would be if `intervalMinutes` said so.
///
/// # Errors
/// As [`validate`].
pub fn at_interval(policy: &MapaRefreshPolicy, plan: &Plan, interval: Interval) -> Result<Plan, Refusal> {
    let (namespace, name) = (
        policy.metadata.namespace.as_deref().unwrap_or_default(),
        policy.metadata.name.as_deref().unwrap_or_default(),
    );
    Ok(Plan {
        interval,
        tasks: tasks(
            namespace,
            name,
            &policy.spec,
            interval,
            plan.suspended,
            Credentials::Usable,
        )?,
        ..plan.clone()
    })
}

/// Oldest that the published data may be, what caches after ours add taken off.
#[must_use]
pub fn max_data_age(spec: &MapaRefreshPolicySpec) -> Duration {
    max_data_age_of(spec.max_data_age_minutes, spec.downstream_cache_seconds)
}

/// The same, of these two fields of a spec.
#[must_use]
pub fn max_data_age_of(max_data_age_minutes: i32, downstream_cache_seconds: i32) -> Duration {
    let limit = max_data_age_minutes.clamp(1, LEGAL_LIMIT_MINUTES).unsigned_abs() * 60;
    Duration::from_secs(u64::from(
        limit.saturating_sub(downstream_seconds(downstream_cache_seconds)),
    ))
}

fn downstream_seconds(downstream_cache_seconds: i32) -> u32 {
    downstream_cache_seconds.clamp(0, 1800).unsigned_abs()
}

/// Seconds that a run may take at `interval`, attempts and delays.
#[must_use]
pub fn run_budget_seconds(interval: Interval) -> u32 {
    interval.minutes() * 60 - BUDGET_MARGIN_SECONDS
}

fn reservation(spec: &MapaRefreshPolicySpec) -> Option<Refusal> {
    (spec.interval_minutes > LEGAL_LIMIT_MINUTES || spec.interval_minutes < 1).then(|| {
        Refusal::new(
            ReadyReason::IntervalAboveLegalLimit,
            format!(
                "spec.intervalMinutes is {}, outside 1 to 30, and got past admission; the tasks run every {} minutes: REN 1.137/2025 \
                 Art. 106 demands an update at least every 30 minutes. Install the current CRD and correct the policy",
                spec.interval_minutes,
                Interval::clamped(spec.interval_minutes).minutes()
            ),
        )
    })
}

/// A suspension ends so far ahead that the year is rather a slip than meant. It is carried out: that nothing is to run now is certain.
fn doubtful_end(spec: &MapaRefreshPolicySpec) -> Option<Refusal> {
    let until = spec.suspend_until.as_ref()?.0;
    Some(Refusal::new(
        ReadyReason::InvalidSpec,
        format!(
            "spec.suspendUntil is {until}, more than two years ahead; the schedule is stopped. Write a moment within two years, or leave it out              to suspend until spec.suspend is set to false"
        ),
    ))
}

fn tasks(
    namespace: &str,
    name: &str,
    spec: &MapaRefreshPolicySpec,
    interval: Interval,
    suspended: bool,
    credentials: Credentials,
) -> Result<Vec<TaskPlan>, Refusal> {
    let given: Vec<Task> = match &spec.tasks {
        Some(tasks) => tasks.clone(),
        None => TaskName::DEFAULT
            .map(|name| Task {
                name,
                max_retries: None,
                retry_delay_seconds: None,
                attempt_timeout_seconds: None,
            })
            .into(),
    };
    let has_view = given.iter().any(|task| task.name == TaskName::RefreshMvPortal);
    let prober = if has_view {
        Some(TaskName::RefreshMvPortal)
    } else {
        given.iter().map(|task| task.name).min()
    };
    let offset = policy_offset(namespace, name, interval);

    let mut tasks = Vec::with_capacity(given.len());
    for name in TaskName::ALL {
        let mut named = given.iter().filter(|task| task.name == name);
        let Some(task) = named.next() else { continue };
        if named.next().is_some() {
            return Err(Refusal::new(
                ReadyReason::InvalidSpec,
                format!("spec.tasks names {name} more than once"),
            ));
        }
        let defaults = name.defaults();
        let number = |given: Option<i32>, default: i32, min: i32, max: i32| {
            given.unwrap_or(default).clamp(min, max).unsigned_abs()
        };
        let lead = lead_minutes(name, interval);
        let rejected = credentials == Credentials::Rejected;
        tasks.push(TaskPlan {
            name,
            schedule: if rejected {
                Schedule::hourly(offset + lead)
            } else {
                Schedule::every(interval, offset + lead)
            },
            view_lead_minutes: has_view.then_some(lead),
            max_retries: number(task.max_retries, defaults.max_retries, 0, 10),
            retry_delay_seconds: number(task.retry_delay_seconds, defaults.retry_delay_seconds, 0, 600),
            attempt_timeout_seconds: number(task.attempt_timeout_seconds, defaults.attempt_timeout_seconds, 5, 1500),
            run_budget_seconds: run_budget_seconds(interval),
            suspended: suspended || (rejected && Some(name) != prober),
        });
    }
    if tasks.is_empty() {
        return Err(Refusal::new(
            ReadyReason::InvalidSpec,
            "spec.tasks is empty: leave it out for the three refresh tasks",
        ));
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(extra: serde_json::Value) -> MapaRefreshPolicySpec {
        let mut spec = serde_json::json!({
            "intervalMinutes": 10,
            "database": { "kind": "postgresql", "secretRef": { "name": "radar-database" } },
            "cache": { "secretRef": { "name": "radar-cache" } },
        });
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    fn plan(extra: serde_json::Value) -> Result<Plan, Refusal> {
        let runner = RunnerSettings {
            image: Some("runner:1".into()),
            ..RunnerSettings::default()
        };
        validate(
            "radar",
            "roraima",
            &spec(extra),
            &runner,
            Credentials::Usable,
            "2026-11-23T10:00:00Z".parse().unwrap(),
        )
    }

    #[test]
    fn absent_numbers_are_filled_by_task_name() {
        let plan = plan(serde_json::json!({})).unwrap();
        let numbers: Vec<_> = plan
            .tasks
            .iter()
            .map(|t| (t.name, t.max_retries, t.retry_delay_seconds, t.attempt_timeout_seconds))
            .collect();
        assert_eq!(
            numbers,
            [
                (TaskName::RefreshMvPortal, 3, 120, 300),
                (TaskName::RefreshMapaCache, 3, 60, 120),
                (TaskName::CalcularEstatisticas, 3, 60, 120),
            ]
        );
        assert_eq!(plan.tasks[0].run_budget_seconds, 570);
    }

    #[test]
    fn a_given_list_of_tasks_replaces_the_default_and_runs_in_the_right_order() {
        let plan = plan(serde_json::json!({ "tasks": [{ "name": "health-check" }, { "name": "refresh-mv-portal", "maxRetries": 0 }] })).unwrap();
        assert_eq!(
            plan.tasks.iter().map(|t| t.name).collect::<Vec<_>>(),
            [TaskName::RefreshMvPortal, TaskName::HealthCheck]
        );
        assert_eq!(plan.tasks[0].max_retries, 0);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_its_reason() {
        let reason = |extra| plan(extra).unwrap_err().reason;
        assert_eq!(
            reason(serde_json::json!({ "timeZone": "America/Macondo" })),
            ReadyReason::UnknownTimeZone
        );
        assert_eq!(reason(serde_json::json!({ "area": "XX" })), ReadyReason::UnknownArea);
        assert_eq!(reason(serde_json::json!({ "tasks": [] })), ReadyReason::InvalidSpec);
        let twice = serde_json::json!({ "tasks": [{ "name": "health-check" }, { "name": "health-check" }] });
        assert_eq!(reason(twice), ReadyReason::InvalidSpec);
        let missing = validate(
            "radar",
            "roraima",
            &spec(serde_json::json!({})),
            &RunnerSettings::default(),
            Credentials::Usable,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(missing.unwrap_err().reason, ReadyReason::RunnerImageMissing);
    }

    #[test]
    fn i11_numbers_that_got_past_admission_are_brought_into_range() {
        let plan = plan(serde_json::json!({
            "intervalMinutes": 90, "maxDataAgeMinutes": 90,
            "tasks": [{ "name": "refresh-mv-portal", "maxRetries": -5, "retryDelaySeconds": 9999, "attemptTimeoutSeconds": 0 }],
        }))
        .unwrap();
        assert_eq!(plan.interval.minutes(), 30);
        assert_eq!(plan.max_data_age, Duration::from_secs(1800));
        assert_eq!(plan.reservation.unwrap().reason, ReadyReason::IntervalAboveLegalLimit);
        let task = plan.tasks[0];
        assert_eq!(
            (task.max_retries, task.retry_delay_seconds, task.attempt_timeout_seconds),
            (0, 600, 5)
        );
    }

    #[test]
    fn a_suspension_ends_by_itself_at_its_moment() {
        let until = |at: &str| {
            plan(serde_json::json!({ "suspend": true, "suspendReason": "obra", "suspendUntil": at })).unwrap()
        };
        let running = until("2026-11-23T12:00:00Z");
        assert!(running.suspended && running.tasks.iter().all(|t| t.suspended));
        assert_eq!(running.resumes_at, Some("2026-11-23T12:00:00Z".parse().unwrap()));
        let over = until("2026-11-23T10:00:00Z");
        assert!(!over.suspended && over.resumes_at.is_none());
    }

    #[test]
    fn an_end_more_than_two_years_ahead_is_doubted_and_the_suspension_is_carried_out() {
        let until = |at: &str| {
            plan(serde_json::json!({ "suspend": true, "suspendReason": "obra", "suspendUntil": at })).unwrap()
        };
        let within = until("2028-11-23T10:00:00Z");
        assert!(within.suspended && within.reservation.is_none() && within.credible_at.is_none());
        for at in ["2028-11-24T10:00:01Z", "2062-11-23T10:00:00Z", "9999-12-30T21:59:59Z"] {
            let beyond = until(at);
            assert!(beyond.suspended && beyond.tasks.iter().all(|task| task.suspended));
            let doubt = beyond.reservation.unwrap();
            assert_eq!(doubt.reason, ReadyReason::InvalidSpec);
            assert!(
                doubt.message.contains(&at[..10]) && doubt.message.contains("two years"),
                "{}",
                doubt.message
            );
            assert_eq!(
                beyond.credible_at.unwrap() + LONGEST_SUSPENSION,
                beyond.resumes_at.unwrap(),
                "looked at again once it is within them"
            );
        }
        let running = plan(serde_json::json!({ "suspend": false, "suspendUntil": "2062-11-23T10:00:00Z" })).unwrap();
        assert!(running.reservation.is_none(), "it does not matter");
    }

    #[test]
    fn rejected_credentials_leave_one_run_an_hour() {
        let runner = RunnerSettings {
            image: Some("runner:1".into()),
            ..RunnerSettings::default()
        };
        let spec = spec(serde_json::json!({}));
        let plan = validate(
            "radar",
            "roraima",
            &spec,
            &runner,
            Credentials::Rejected,
            Timestamp::UNIX_EPOCH,
        )
        .unwrap();
        let running: Vec<_> = plan.tasks.iter().filter(|t| !t.suspended).collect();
        assert_eq!(running.len(), 1);
        assert_eq!(running[0].name, TaskName::RefreshMvPortal);
        assert_eq!(running[0].schedule.largest_gap_minutes(), 60);
    }
}
