//! Pure: `fold(previous status, observed runs, now) → status`.
//!
//! Level-based: folding the same facts again changes nothing, and a run that is gone never erases what it proved.

use std::cmp::Reverse;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use mapa_refresh_crds::{
    MapaRefreshPolicy, MapaRefreshPolicyStatus,
    labels::cron_job_name,
    policy::TaskName,
    report::code,
    status::{MAX_ACCEPTED_TEMPLATES, MAX_COUNTED_RUNS, TaskStatus},
};

use crate::{
    compliance,
    conditions::{self, whole_seconds},
    desired::DesiredCronJob,
    fingerprint::Uid,
    observe::Run,
    outcome::{Found, Outcome, Progress, Trust, progress},
    records::Trouble,
    validate::{Credentials, Plan, Refusal},
};

/// Runs in a row with rejected credentials after which only one run an hour may try again.
const REJECTIONS: i32 = 2;

/// Everything that a new status is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The policy.
    pub policy: &'a MapaRefreshPolicy,
    /// Its status as last written.
    pub previous: &'a MapaRefreshPolicyStatus,
    /// What is to be done, or why nothing can be.
    pub plan: Result<&'a Plan, &'a Refusal>,
    /// The CronJobs that the plan asks for.
    pub desired: &'a [DesiredCronJob],
    /// What could not be done about them.
    pub problems: &'a [Refusal],
    /// The policy's runs.
    pub runs: &'a [Run],
    /// Jobs that name the policy and are no run of it now.
    pub other_jobs: &'a [Uid],
    /// The time.
    pub now: Timestamp,
}

/// What folding gives.
#[derive(Clone, Debug)]
pub struct Folded {
    /// The new status; equal to the previous one when nothing has to be written.
    pub status: MapaRefreshPolicyStatus,
    /// When to look again although nothing happens.
    pub look_again: Option<Timestamp>,
    /// Jobs whose runs this status has counted.
    pub counted: Vec<Uid>,
}

/// Folds what was observed into the previous status.
#[must_use]
pub fn fold(facts: Facts<'_>) -> Folded {
    let Facts {
        policy,
        previous,
        plan,
        desired,
        problems,
        runs,
        other_jobs,
        now,
    } = facts;
    let mut status = previous.clone();
    let generation = policy.metadata.generation;
    let spec_changed = status.observed_generation != generation;
    status.observed_generation = generation;
    retarget(&mut status, policy.spec.target());
    if let Ok(plan) = plan {
        status.tasks = planned_tasks(policy, plan, &status.tasks, desired);
    }
    if spec_changed {
        // A changed spec may have brought other credentials: one more rejection is needed to believe that it did not.
        for task in status.tasks.iter_mut().filter(|task| rejected(task)) {
            task.consecutive_failures = task.consecutive_failures.min(REJECTIONS - 1);
        }
    }

    let mut look_again: Vec<Timestamp> = Vec::new();
    let mut counted = Vec::new();
    let mut trouble: Option<Trouble> = None;
    let mut found: Vec<Found> = Vec::new();
    for task in &mut status.tasks {
        let templates = task.accepted_templates.clone();
        let trust = Trust {
            policy_uid: policy.metadata.uid.as_deref().unwrap_or_default(),
            templates: &templates,
        };
        let target = status.target.as_deref().unwrap_or_default();
        let seen = count_runs(task, runs, other_jobs, trust, target, now);
        look_again.extend(seen.look_again);
        counted.extend(seen.counted);
        trouble = trouble.or(seen.trouble);
        found.extend(seen.found.into_iter().filter(|found| found.target == target));
    }
    for found in found {
        lower(&mut status.tasks, &found);
    }

    summarise(&mut status);
    let mut verdicts = vec![
        conditions::ready(plan, problems, &status.tasks, trouble.as_ref()),
        conditions::suspended(&policy.spec, now),
    ];
    let max_data_age = plan.map_or_else(|_| policy_limit(policy), |plan| plan.max_data_age);
    let compliant = compliance::verdict(&status.tasks, max_data_age, now);
    let data_as_of = compliance::data_as_of(&status.tasks);
    status.data_as_of = data_as_of.map(whole_seconds);
    status.compliant_until = data_as_of.map(|moment| whole_seconds(compliance::compliant_until(moment, max_data_age)));
    if compliant.holds
        && let Some(until) = &status.compliant_until
    {
        look_again.push(until.0 + std::time::Duration::from_millis(1));
    }
    verdicts.insert(1, compliant);
    conditions::set(&mut status.conditions, verdicts, generation, now);
    look_again.extend(plan.ok().and_then(|plan| plan.resumes_at));

    if status != *previous {
        // It moves with every slot: alone it is no reason to write.
        status.next_schedule_time = next_slot(plan.ok(), now).or(status.next_schedule_time);
    }
    Folded {
        status,
        look_again: look_again.into_iter().filter(|moment| *moment > now).min(),
        counted,
    }
}

/// Whether two runs in a row were refused by the database: more attempts would lock the account.
#[must_use]
pub fn credentials(policy: &MapaRefreshPolicy, status: &MapaRefreshPolicyStatus) -> Credentials {
    let unchanged = status.observed_generation == policy.metadata.generation;
    let view = status.tasks.iter().find(|task| task.name == TaskName::RefreshMvPortal);
    let rejected_twice = |task: &TaskStatus| rejected(task) && task.consecutive_failures >= REJECTIONS;
    let locked = match view {
        Some(view) => rejected_twice(view),
        None => status.tasks.iter().any(rejected_twice),
    };
    if unchanged && locked {
        Credentials::Rejected
    } else {
        Credentials::Usable
    }
}

fn rejected(task: &TaskStatus) -> bool {
    task.last_error
        .as_ref()
        .is_some_and(|error| error.code == code::CREDENTIALS_REJECTED)
}

/// Evidence is about one target; another one starts without.
fn retarget(status: &mut MapaRefreshPolicyStatus, target: String) {
    if status.target.as_ref() == Some(&target) {
        return;
    }
    for task in &mut status.tasks {
        task.data_as_of = None;
        task.last_success_time = None;
    }
    status.target = Some(target);
}

/// A task of which nothing is known.
#[must_use]
pub fn blank_task(name: TaskName) -> TaskStatus {
    TaskStatus {
        name,
        cron_job_name: String::new(),
        schedule: String::new(),
        max_retries: 0,
        retry_delay_seconds: 0,
        attempt_timeout_seconds: 0,
        last_schedule_time: None,
        last_success_time: None,
        last_failure_time: None,
        data_as_of: None,
        attempts: 0,
        retries: 0,
        total_retries: 0,
        total_runs: 0,
        consecutive_failures: 0,
        last_duration_seconds: None,
        records: None,
        last_error: None,
        counted_runs: Vec::new(),
        counted_until: None,
        accepted_templates: Vec::new(),
    }
}

fn planned_tasks(
    policy: &MapaRefreshPolicy,
    plan: &Plan,
    known: &[TaskStatus],
    desired: &[DesiredCronJob],
) -> Vec<TaskStatus> {
    let signed = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    plan.tasks
        .iter()
        .map(|planned| {
            let mut task = known
                .iter()
                .find(|task| task.name == planned.name)
                .cloned()
                .unwrap_or_else(|| blank_task(planned.name));
            task.cron_job_name = cron_job_name(policy.metadata.name.as_deref().unwrap_or_default(), planned.name);
            task.schedule = planned.schedule.to_string();
            task.max_retries = signed(planned.max_retries);
            task.retry_delay_seconds = signed(planned.retry_delay_seconds);
            task.attempt_timeout_seconds = signed(planned.attempt_timeout_seconds);
            let template = desired
                .iter()
                .find(|cron_job| cron_job.task.name == planned.name)
                .and_then(|cron_job| cron_job.evidence);
            if let Some(template) = template.map(|template| template.to_string())
                && task.accepted_templates.first() != Some(&template)
            {
                task.accepted_templates.retain(|known| *known != template);
                task.accepted_templates.insert(0, template);
                task.accepted_templates.truncate(MAX_ACCEPTED_TEMPLATES);
            }
            task
        })
        .collect()
}

/// What looking at the runs of one task gave beside its new status.
#[derive(Default)]
struct Seen {
    look_again: Vec<Timestamp>,
    counted: Vec<Uid>,
    trouble: Option<Trouble>,
    found: Vec<Found>,
}

fn count_runs(
    task: &mut TaskStatus,
    runs: &[Run],
    other_jobs: &[Uid],
    trust: Trust<'_>,
    target: &str,
    now: Timestamp,
) -> Seen {
    let mut seen = Seen::default();
    let mut ended: Vec<(&Run, Option<Outcome>)> = Vec::new();
    for run in runs.iter().filter(|run| run.task == task.name) {
        if is_counted(task, run) {
            ended.push((run, None));
            continue;
        }
        match progress(run, trust, now) {
            Progress::Active { trouble, look_again } => {
                seen.trouble = seen.trouble.or(trouble);
                seen.look_again.extend(look_again);
            }
            Progress::AwaitingEvidence { until } => seen.look_again.push(until),
            Progress::Ended(outcome) => ended.push((run, Some(*outcome))),
        }
    }
    ended.sort_by_key(|(run, outcome)| (outcome.as_ref().map(|outcome| outcome.ended_at), run.job.name.clone()));
    for (run, outcome) in &ended {
        seen.counted.push(run.job.uid);
        if let Some(outcome) = outcome {
            count(task, run, outcome, target);
            seen.found.extend(outcome.published.clone());
        }
    }
    let existing = ended.iter().map(|(run, _)| *run).filter(|run| !run.job.deleted);
    remember(task, existing, other_jobs);
    seen
}

fn is_counted(task: &TaskStatus, run: &Run) -> bool {
    let before = |until: &Time| run.job.ended.as_ref().is_some_and(|end| end.at <= until.0);
    task.counted_runs.contains(&run.job.uid.short()) || task.counted_until.as_ref().is_some_and(before)
}

/// Keeps the short UIDs of counted Jobs that still exist. Where there are more than have room, the oldest are covered by a moment.
fn remember<'a>(task: &mut TaskStatus, existing: impl Iterator<Item = &'a Run>, other_jobs: &[Uid]) {
    let ended_at = |run: &Run| run.job.ended.as_ref().map(|end| end.at);
    let mut existing: Vec<&Run> = existing.collect();
    existing.sort_by_key(|run| Reverse((ended_at(run), run.job.uid)));
    let covered = existing
        .iter()
        .skip(MAX_COUNTED_RUNS)
        .filter_map(|run| ended_at(run))
        .max();
    if let Some(covered) = covered {
        let known = task.counted_until.as_ref().map(|time| time.0);
        task.counted_until = Some(whole_seconds(known.map_or(covered, |known| known.max(covered))));
    }
    existing.truncate(MAX_COUNTED_RUNS);
    let mut short: Vec<String> = existing.into_iter().map(|run| run.job.uid.short()).collect();
    // A Job whose CronJob is not ours for a while was counted all the same, and may be ours again.
    let others = other_jobs.iter().map(|job| job.short());
    short.extend(others.filter(|job| task.counted_runs.contains(job)));
    short.truncate(MAX_COUNTED_RUNS);
    short.sort();
    task.counted_runs = short;
}

fn count(task: &mut TaskStatus, run: &Run, outcome: &Outcome, target: &str) {
    let latest = task
        .last_success_time
        .iter()
        .chain(&task.last_failure_time)
        .map(|time| time.0)
        .max();
    let ended_at = whole_seconds(outcome.ended_at);
    let is_latest = latest.is_none_or(|latest| ended_at.0 >= latest);
    let retries = (outcome.attempts - 1).max(0);

    task.total_runs = task.total_runs.saturating_add(1);
    task.total_retries = task.total_retries.saturating_add(i64::from(retries));
    if let Some(slot) = run.job.slot {
        raise(&mut task.last_schedule_time, slot);
    }
    if is_latest {
        task.attempts = outcome.attempts;
        task.retries = retries;
        task.last_duration_seconds = outcome.duration_seconds;
    }
    match &outcome.result {
        Ok(records) => {
            if outcome
                .evidence
                .as_ref()
                .is_none_or(|evidence| evidence.target == target)
            {
                raise(&mut task.last_success_time, outcome.ended_at);
            }
            if is_latest {
                task.records = Some(*records);
                task.consecutive_failures = 0;
                task.last_error = None;
            }
        }
        Err(error) => {
            raise(&mut task.last_failure_time, outcome.ended_at);
            if is_latest {
                task.consecutive_failures = task.consecutive_failures.saturating_add(1);
                task.last_error = Some(error.clone());
            }
        }
    }
    if let Some(evidence) = outcome.evidence.as_ref().filter(|evidence| evidence.target == target) {
        raise(&mut task.data_as_of, evidence.data_as_of);
    }
}

/// Never back (I5).
fn raise(time: &mut Option<Time>, moment: Timestamp) {
    let moment = whole_seconds(moment);
    if time.as_ref().is_none_or(|known| known.0 < moment.0) {
        *time = Some(moment);
    }
}

/// A health-check looked at what is published: it may be gone, or older than it was. What was published after it began to look is
/// none of its business.
fn lower(tasks: &mut [TaskStatus], found: &Found) {
    let documents = [
        (TaskName::RefreshMapaCache, &found.published.map),
        (TaskName::CalcularEstatisticas, &found.published.statistics),
    ];
    for (name, data_as_of) in documents {
        let Some(task) = tasks.iter_mut().find(|task| task.name == name) else {
            continue;
        };
        let published_since = task
            .last_success_time
            .as_ref()
            .is_some_and(|success| success.0 >= found.since);
        let found_at = data_as_of.as_ref().map(|time| whole_seconds(time.0));
        if !published_since
            && task.data_as_of.is_some()
            && found_at.as_ref().map(|time| time.0) < task.data_as_of.as_ref().map(|time| time.0)
        {
            task.data_as_of = found_at;
        }
    }
}

fn summarise(status: &mut MapaRefreshPolicyStatus) {
    let data_tasks = || status.tasks.iter().filter(|task| task.name.is_data_task());
    let oldest = data_tasks()
        .map(|task| task.last_success_time.as_ref().map(|time| time.0))
        .min()
        .flatten();
    status.last_success_time = oldest.map(Time);
    status.retries = status.tasks.iter().map(|task| task.retries).sum();
    status.consecutive_failures = status
        .tasks
        .iter()
        .map(|task| task.consecutive_failures)
        .max()
        .unwrap_or(0);
}

fn policy_limit(policy: &MapaRefreshPolicy) -> std::time::Duration {
    let minutes = policy
        .spec
        .max_data_age_minutes
        .clamp(1, mapa_refresh_crds::policy::LEGAL_LIMIT_MINUTES)
        .unsigned_abs();
    std::time::Duration::from_secs(u64::from(minutes) * 60)
}

fn next_slot(plan: Option<&Plan>, now: Timestamp) -> Option<Time> {
    plan?
        .tasks
        .iter()
        .filter(|task| !task.suspended)
        .map(|task| task.schedule.next_after(now))
        .min()
        .map(Time)
}

#[cfg(test)]
mod tests;
