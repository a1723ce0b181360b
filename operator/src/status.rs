//! Pure: `fold(previous status, observed runs, now) → status`.
//!
//! Level-based: folding the same facts again changes nothing, and a run that is gone never erases what it proved.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use chrono_tz::Tz;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use mapa_refresh_crds::{
    MapaRefreshPolicy, MapaRefreshPolicyStatus,
    labels::{REQUESTED_AT, cron_job_name},
    policy::TaskName,
    report::{FaultClass, Publication, Publications, clean, code},
    rows,
    status::{ConditionType, ExtraRuns, MAX_ACCEPTED_TEMPLATES, MAX_COUNTED_RUNS, MAX_STATUS, ReadyReason, TaskStatus},
};

use crate::{
    account::{self, Rules, Settle},
    applied::{Applied, Problem},
    compliance,
    conditions::{self, MAX_MESSAGE, whole_seconds},
    desired::DesiredCronJob,
    extra_runs::{self, Rescue, WantedJob},
    feasibility,
    fingerprint::Uid,
    forecast::{ActiveRun, Forecast, Outlook, slot_grace},
    observe::Run,
    outcome::{Found, Outcome, Progress, Trust, progress},
    pace,
    records::Trouble,
    risk, undecodable,
    validate::{Credentials, Plan, Refusal, max_data_age},
};

mod impossible_times;

/// Runs in a row with rejected credentials after which only one run an hour may try again.
const REJECTIONS: i32 = 2;

/// No view has more rows. The cap bounds the digits that a report can add to the status (bytes count towards its 8 KiB).
const MAX_ROWS: i64 = 9_999_999_999;

/// A run that starts this much later than its slot was not slow: nothing fired the slot at all.
const LONGEST_START_SECONDS: i64 = 300;

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
    /// What could not be done about them, and what was borne.
    pub applied: &'a Applied,
    /// The policy's runs.
    pub runs: &'a [Run],
    /// Jobs that name the policy and are no run of it now.
    pub other_jobs: &'a [Uid],
    /// Jobs beside the schedule that were to be created just now: what `runs` does not have of them was refused.
    pub attempted: &'a [WantedJob],
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
    /// Jobs to create beside the schedule.
    pub jobs: Vec<WantedJob>,
    /// The runs that this status counts and the previous one did not.
    pub finished: Vec<FinishedRun>,
}

/// What is to be measured of a run that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedRun {
    /// Its task.
    pub task: TaskName,
    /// Why it failed; absent after a success.
    pub failed: Option<FaultClass>,
    /// Attempts after the first.
    pub retries: u32,
    /// How long it took, if it reported.
    pub duration_seconds: Option<u32>,
}

impl FinishedRun {
    fn of(task: TaskName, outcome: &Outcome) -> Self {
        Self {
            task,
            failed: outcome.result.as_ref().err().map(|error| error.class),
            retries: u32::try_from(outcome.attempts.saturating_sub(1)).unwrap_or(0),
            duration_seconds: outcome.duration_seconds.and_then(|seconds| u32::try_from(seconds).ok()),
        }
    }
}

/// Folds what was observed into the previous status.
#[must_use]
pub fn fold(facts: Facts<'_>) -> Folded {
    let Facts {
        policy,
        previous,
        plan,
        desired,
        applied: _,
        runs: _,
        other_jobs: _,
        attempted: _,
        now,
    } = facts;
    let mut status = previous.clone();
    impossible_times::forget(&mut status, now);
    let generation = policy.metadata.generation;
    let spec_changed = status.observed_generation != generation;
    // While the spec could not be decoded no run was counted, and what was published meanwhile is yet to be heard of.
    let is_behind =
        undecodable::is_told(&previous.conditions) && previous.target.as_ref() == Some(&policy.spec.target());
    if spec_changed && !is_behind {
        // What the account is about may change: the time until now is judged by what held until now.
        let rules = rules_as_written(policy, previous, plan.ok());
        account_for(&mut status, previous, rules, Settle::Everything, now);
    }
    status.observed_generation = generation;
    retarget(&mut status, policy.spec.target(), now);
    if let Ok(plan) = plan {
        status.tasks = planned_tasks(policy, plan, &status.tasks, desired, now);
    }
    if spec_changed {
        // A changed spec may have brought other credentials: one more rejection is needed to believe that it did not.
        for task in status.tasks.iter_mut().filter(|task| rejected(task)) {
            task.consecutive_failures = task.consecutive_failures.min(REJECTIONS - 1);
        }
    }

    let rules = Rules {
        limit_seconds: seconds(plan.map_or_else(|_| max_data_age(&policy.spec), |plan| plan.max_data_age)),
        zone: plan.map_or(Tz::UTC, |plan| plan.time_zone),
    };
    let seen = count_all(facts, &mut status, rules);
    let mut look_again = seen.look_again.clone();
    summarise(&mut status);
    let jobs = judge(facts, &mut status, &seen, &mut look_again);
    look_again.extend(plan.ok().and_then(|plan| plan.resumes_at));
    shorten(&mut status);
    if status != *previous {
        // These move with the time: alone they are no reason to write.
        account_for(&mut status, previous, rules, Settle::Proved, now);
        status.next_schedule_time = next_slot(plan.ok(), now).or(status.next_schedule_time);
        shorten(&mut status);
    }
    Folded {
        status,
        look_again: look_again.into_iter().filter(|moment| *moment > now).min(),
        counted: seen.counted,
        finished: seen.finished,
        jobs,
    }
}

/// Counts the runs of every task and takes what they prove.
fn count_all(facts: Facts<'_>, status: &mut MapaRefreshPolicyStatus, rules: Rules) -> Seen {
    let Facts { policy, desired, .. } = facts;
    let target = Target {
        name: status.target.clone().unwrap_or_default(),
        since: status
            .target_since
            .as_ref()
            .map_or(i64::MIN, |since| since.0.as_second()),
        judged: compliance::judged(&status.tasks).map(|task| task.name).collect(),
        limit_seconds: rules.limit_seconds,
    };
    let mut all = Seen::default();
    for task in &mut status.tasks {
        let templates = task.accepted_templates.clone();
        let wanted = desired.iter().find(|cron_job| cron_job.task.name == task.name);
        let trust = Trust {
            policy_uid: policy.metadata.uid.as_deref().unwrap_or_default(),
            template: wanted.and_then(|cron_job| cron_job.evidence.as_ref()),
            templates: &templates,
        };
        count_runs(task, facts, trust, &target, &mut all);
        if !target.judged.contains(&task.name) {
            task.publications = Publications::default();
        }
    }
    for seconds in &all.starts {
        pace::remember(&mut status.recent_start_seconds, *seconds);
    }
    for found in std::mem::take(&mut all.found) {
        if found.target == target.name {
            lower(&mut status.tasks, &found);
        }
    }
    all
}

/// Sets the conditions, and decides on runs beside the schedule.
fn judge(
    facts: Facts<'_>,
    status: &mut MapaRefreshPolicyStatus,
    seen: &Seen,
    look_again: &mut Vec<Timestamp>,
) -> Vec<WantedJob> {
    let Facts {
        policy,
        plan,
        applied,
        runs,
        now,
        ..
    } = facts;
    let max_age = plan.map_or_else(|_| max_data_age(&policy.spec), |plan| plan.max_data_age);
    let suspended = conditions::suspended(&policy.spec, now);
    let compliant = compliance::verdict(&status.tasks, max_age, suspended.holds, now);
    let data_as_of = compliance::data_as_of(&status.tasks);
    status.data_as_of = data_as_of.map(whole_seconds);
    status.compliant_until = data_as_of.map(|moment| whole_seconds(compliance::compliant_until(moment, max_age)));
    if compliant.holds
        && let Some(until) = &status.compliant_until
    {
        look_again.push(until.0 + Duration::from_millis(1));
    }
    let ready = conditions::ready(plan, applied, &status.tasks, seen.trouble.as_ref());
    let generation = policy.metadata.generation;
    let Ok(plan) = plan else {
        let verdicts = [
            ready,
            compliant,
            suspended,
            feasibility::not_carried_out(),
            risk::not_carried_out(),
        ];
        conditions::set(&mut status.conditions, verdicts, generation, now);
        status.worst_case_data_age_seconds = None;
        return Vec::new();
    };

    let feasible = feasibility::feasibility(plan, &status.tasks, &status.recent_start_seconds);
    status.worst_case_data_age_seconds = Some(i64::from(feasible.worst.total()));
    conditions::set(&mut status.conditions, [ready, compliant, suspended], generation, now);
    let slot_of = |run: &Run| {
        let task = status.tasks.iter().find(|task| task.name == run.task)?;
        Some((run.task, slot(run, task, facts)?))
    };
    let slots: Vec<(TaskName, Timestamp)> = runs.iter().filter_map(slot_of).collect();
    let (tasks, starts) = (status.tasks.clone(), status.recent_start_seconds.clone());
    let forecast = Forecast {
        plan,
        tasks: &tasks,
        recent_start_seconds: &starts,
        active: &seen.active,
        slots: &slots,
        slot_grace: slot_grace(Uid::parse(policy.metadata.uid.as_deref().unwrap_or_default())),
        now,
    };
    let documents: Vec<TaskName> = compliance::judged(&tasks).map(|task| task.name).collect();
    // The first that was: it is named until it is made up for, whichever join it.
    let missed = plan
        .tasks
        .iter()
        .filter(|task| task.name.is_data_task() || documents.contains(&task.name))
        .filter_map(|task| Some((task.name, forecast.missed_slot(task.name)?)))
        .min_by_key(|(_, slot)| *slot);
    look_again.extend(plan.tasks.iter().filter_map(|task| forecast.next_slot_check(task.name)));
    look_again.extend(
        forecast
            .healthy()
            .map(|run| forecast.overdue_at(run) + Duration::from_millis(1)),
    );

    let outlook = Outlook {
        forecast,
        documents: &documents,
        feasibility: &feasible,
        missed,
    };
    let jobs = start_extra_runs(facts, outlook, status, seen, look_again);
    let matters = |task: TaskName| task.is_data_task() || documents.contains(&task);
    let mut problems = applied.problems.iter();
    let blocked = problems.find(|problem| keeps_from_running(problem) && matters(problem.task));
    let compliant_until = status.compliant_until.as_ref().map(|until| until.0);
    let verdicts = [
        risk::verdict(
            outlook,
            compliant_until,
            blocked,
            seen.trouble.as_ref(),
            status.rescue.as_ref(),
        ),
        feasibility::verdict(plan, &feasible),
    ];
    conditions::set(&mut status.conditions, verdicts, generation, now);
    jobs
}

/// Whether the task has no CronJob of ours, or an outdated one, until somebody acts.
fn keeps_from_running(problem: &Problem) -> bool {
    matches!(
        problem.refusal.reason,
        ReadyReason::CronJobConflict | ReadyReason::CronJobRejected | ReadyReason::CronJobNeverFires
    )
}

/// Brings requested and rescuing runs forward, and begins them where there is a reason.
fn start_extra_runs(
    facts: Facts<'_>,
    outlook: Outlook<'_>,
    status: &mut MapaRefreshPolicyStatus,
    seen: &Seen,
    look_again: &mut Vec<Timestamp>,
) -> Vec<WantedJob> {
    let Facts {
        policy,
        previous,
        runs,
        attempted,
        now,
        ..
    } = facts;
    let counted: Vec<extra_runs::Counted<'_>> = seen
        .ended
        .iter()
        .map(|(task, job, succeeded)| extra_runs::Counted {
            task: *task,
            job,
            succeeded: *succeeded,
        })
        .collect();
    let policy_name = policy.metadata.name.as_deref().unwrap_or_default();
    let deadline = extra_runs::written_deadline(status);
    let advance = |extra: &mut Option<ExtraRuns>| {
        extra.as_mut().map_or_else(Vec::new, |extra| {
            let cron_job = |task| cron_job_name(policy_name, task);
            extra_runs::advance(extra, cron_job, runs, &seen.active, &counted, attempted, now)
        })
    };
    let mut jobs = advance(&mut status.request);
    jobs.extend(advance(&mut status.rescue));
    if let Some(rescue) = &mut status.rescue
        && extra_runs::is_pointless(rescue, deadline)
    {
        rescue.finished_at = Some(whole_seconds(now));
        jobs.retain(|job| job.id != rescue.id);
    }

    let token = policy
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(REQUESTED_AT))
        .map(|token| extra_runs::token_as_kept(token));
    let is_over = |request: &Option<ExtraRuns>| request.as_ref().is_none_or(|request| request.finished_at.is_some());
    if let Some(token) =
        token.filter(|token| is_over(&status.request) && status.last_handled_request.as_ref() != Some(token))
    {
        // The end of the previous request is written first, because `trigger --wait` may watch for it.
        if is_over(&previous.request) {
            let plan = outlook.forecast.plan;
            status.request = Some(extra_runs::request(&token, previous.request.as_ref(), plan, now));
            status.last_handled_request = Some(token);
            jobs.extend(advance(&mut status.request));
        } else {
            look_again.push(now + Duration::from_secs(1));
        }
    }
    match extra_runs::rescue(outlook, previous, status) {
        Rescue::No => {}
        Rescue::NotBefore(moment) => look_again.push(moment),
        Rescue::Start(rescue) => {
            status.rescue = Some(rescue);
            jobs.extend(advance(&mut status.rescue));
        }
    }
    jobs
}

/// The limit and the zone by which the status was written last.
fn rules_as_written(policy: &MapaRefreshPolicy, previous: &MapaRefreshPolicyStatus, plan: Option<&Plan>) -> Rules {
    let written = previous
        .compliant_until
        .as_ref()
        .zip(previous.data_as_of.as_ref())
        .map(|(until, data_as_of)| until.0.as_second() - data_as_of.0.as_second());
    Rules {
        limit_seconds: written.unwrap_or_else(|| seconds(max_data_age(&policy.spec))),
        zone: plan.map_or(Tz::UTC, |plan| plan.time_zone),
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Brings the account forward to `now`; without one, it begins.
fn account_for(
    status: &mut MapaRefreshPolicyStatus,
    previous: &MapaRefreshPolicyStatus,
    rules: Rules,
    settle: Settle,
    now: Timestamp,
) {
    let mut account = status.compliance.take().unwrap_or_else(|| account::opened(now));
    let was_suspended = previous
        .conditions
        .iter()
        .any(|condition| condition.type_ == ConditionType::Suspended.as_str() && condition.status == "True");
    if was_suspended {
        let until = account.accounted_until.0.as_second();
        account.seconds_suspended = account
            .seconds_suspended
            .saturating_add((now.as_second() - until).max(0));
    }
    let judged: Vec<TaskName> = compliance::judged(&status.tasks).map(|task| task.name).collect();
    let mut documents: Vec<&mut TaskStatus> = status
        .tasks
        .iter_mut()
        .filter(|task| judged.contains(&task.name))
        .collect();
    account::bring_forward(&mut account, &mut documents, rules, settle, now);
    status.compliance = Some(account);
}

/// Bytes that are left of a message when everything else in the status is as large as can be.
const SHORTEST: usize = 8;

/// Shortens messages until the status has its size (I9): numbers are evidence, words can be looked up elsewhere.
pub(crate) fn shorten(status: &mut MapaRefreshPolicyStatus) {
    // Bytes of a message, and reasons for which bad rows are counted by name.
    for (longest, reasons) in [
        (MAX_MESSAGE, 16),
        (320, 16),
        (240, 8),
        (160, 4),
        (80, 2),
        (40, 1),
        (16, 0),
        (SHORTEST, 0),
    ] {
        let size = serde_json::to_vec(status).map_or(0, |json| json.len());
        if size <= MAX_STATUS {
            return;
        }
        for task in &mut status.tasks {
            merge_rare(&mut task.quarantined, reasons);
            merge_rare(&mut task.repaired, reasons);
            if longest == SHORTEST {
                // Their rows are published all the same.
                task.repaired.clear();
            }
        }
        let errors = status.tasks.iter_mut().filter_map(|task| task.last_error.as_mut());
        let messages = status.conditions.iter_mut().map(|condition| &mut condition.message);
        for message in messages.chain(errors.map(|error| &mut error.message)) {
            clean(message, longest);
        }
    }
}

/// Leaves the `named` largest counts as they are, and counts the others together.
fn merge_rare(counts: &mut BTreeMap<String, i64>, named: usize) {
    let mut by_count: Vec<(String, i64)> = std::mem::take(counts).into_iter().collect();
    by_count.sort_by_key(|(word, count)| (word == rows::OTHER, Reverse(*count)));
    for (position, (word, count)) in by_count.into_iter().enumerate() {
        let word = if position < named { word } else { rows::OTHER.to_owned() };
        let sum = counts.entry(word).or_default();
        *sum = sum.saturating_add(count).min(MAX_ROWS);
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
fn retarget(status: &mut MapaRefreshPolicyStatus, target: String, now: Timestamp) {
    if status.target.as_ref() == Some(&target) {
        return;
    }
    for task in &mut status.tasks {
        task.data_as_of = None;
        task.last_success_time = None;
        task.quarantined.clear();
        task.repaired.clear();
        task.publications = Publications::default();
    }
    status.target = Some(target);
    status.target_since = Some(whole_seconds(now));
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
        quarantined: BTreeMap::new(),
        repaired: BTreeMap::new(),
        last_error: None,
        counted_runs: Vec::new(),
        counted_until: None,
        accepted_templates: Vec::new(),
        schedule_since: None,
        recent_run_seconds: Vec::new(),
        publications: Publications::default(),
        clock_skew_seconds: None,
    }
}

fn planned_tasks(
    policy: &MapaRefreshPolicy,
    plan: &Plan,
    known: &[TaskStatus],
    desired: &[DesiredCronJob],
    now: Timestamp,
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
            let schedule = planned.schedule.to_string();
            if planned.suspended {
                task.schedule_since = None;
            } else if task.schedule != schedule || task.schedule_since.is_none() {
                task.schedule_since = Some(whole_seconds(now));
            }
            task.schedule = schedule;
            task.max_retries = signed(planned.max_retries);
            task.retry_delay_seconds = signed(planned.retry_delay_seconds);
            task.attempt_timeout_seconds = signed(planned.attempt_timeout_seconds);
            let template = desired
                .iter()
                .find(|cron_job| cron_job.task.name == planned.name)
                .and_then(|cron_job| cron_job.evidence.as_ref()?.whole);
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

/// What evidence has to be about.
pub(crate) struct Target {
    /// Its hash.
    pub(crate) name: String,
    /// Since when, in seconds since 1970.
    pub(crate) since: i64,
    /// The tasks whose publications count.
    pub(crate) judged: Vec<TaskName>,
    /// Oldest that what is published may be, in seconds.
    pub(crate) limit_seconds: i64,
}

/// What looking at the runs gave beside the tasks' new status.
#[derive(Default)]
struct Seen {
    look_again: Vec<Timestamp>,
    counted: Vec<Uid>,
    trouble: Option<Trouble>,
    found: Vec<Found>,
    active: Vec<ActiveRun>,
    starts: Vec<i64>,
    /// Task and Job of the runs that were counted now, and whether they succeeded.
    ended: Vec<(TaskName, Box<str>, bool)>,
    finished: Vec<FinishedRun>,
}

fn count_runs(task: &mut TaskStatus, facts: Facts<'_>, trust: Trust<'_>, target: &Target, seen: &mut Seen) {
    let Facts {
        runs, other_jobs, now, ..
    } = facts;
    let mut ended: Vec<(&Run, Option<Outcome>)> = Vec::new();
    for run in runs.iter().filter(|run| run.task == task.name) {
        if is_counted(task, run) {
            ended.push((run, None));
            continue;
        }
        let active = ActiveRun {
            task: task.name,
            created: run.job.created,
            job: run.job.name.clone(),
        };
        match progress(run, trust, now) {
            Progress::Active { trouble, look_again } => {
                seen.trouble = seen.trouble.take().or(trouble);
                seen.look_again.extend(look_again);
                seen.active.push(active);
            }
            Progress::GivenUp { trouble } => {
                // What a later run has shown to be over is no trouble any more, though the Job may stay for ever.
                let success = task.last_success_time.as_ref();
                let is_news = success.is_none_or(|success| success.0 < run.job.created);
                seen.trouble = seen.trouble.take().or(trouble.filter(|_| is_news));
            }
            Progress::AwaitingEvidence { until } => {
                seen.look_again.push(until);
                seen.active.push(active);
            }
            Progress::Ended(outcome) => ended.push((run, Some(*outcome))),
        }
    }
    ended.sort_by_key(|(run, outcome)| (outcome.as_ref().map(|outcome| outcome.ended_at), run.job.name.clone()));
    for (run, outcome) in &ended {
        seen.counted.push(run.job.uid);
        if let Some(outcome) = outcome {
            count(task, slot(run, task, facts), outcome, target);
            seen.starts.extend(around(run, outcome));
            seen.found.extend(outcome.published.clone());
            seen.finished.push(FinishedRun::of(task.name, outcome));
            seen.ended
                .push((task.name, run.job.name.clone(), outcome.result.is_ok()));
        }
    }
    remember(task, &ended, other_jobs);
}

/// The slot of `run`, if its task has such a slot: by the schedule that holds now, or before that held, and not before there was the policy.
fn slot(run: &Run, task: &TaskStatus, facts: Facts<'_>) -> Option<Timestamp> {
    let schedule = facts
        .plan
        .ok()
        .and_then(|plan| plan.task(run.task))
        .map(|task| task.schedule);
    let created = facts.policy.metadata.creation_timestamp.as_ref();
    let slot = run
        .job
        .slot
        .filter(|slot| created.is_none_or(|created| *slot >= created.0));
    slot.filter(|slot| {
        schedule.is_none_or(|schedule| schedule.has_slot_at(*slot))
            || task.schedule_since.as_ref().is_none_or(|since| *slot <= since.0)
    })
}

fn is_counted(task: &TaskStatus, run: &Run) -> bool {
    let before = |until: &Time| run.job.ended.as_ref().is_some_and(|end| end.at <= until.0);
    task.counted_runs.contains(&run.job.uid.short()) || task.counted_until.as_ref().is_some_and(before)
}

/// Keeps the short UIDs of counted Jobs, the newest first.
///
/// Those of Jobs that are gone stay as long as there is room: another operator, or this one after a restart, may still see them for as
/// long as its watch is behind. Where more exist than have room, the oldest are covered by a moment.
fn remember(task: &mut TaskStatus, ended: &[(&Run, Option<Outcome>)], other_jobs: &[Uid]) {
    let ended_at = |run: &Run| run.job.ended.as_ref().map(|end| end.at);
    let mut new: Vec<&Run> = ended
        .iter()
        .filter(|(_, outcome)| outcome.is_some())
        .map(|(run, _)| *run)
        .collect();
    new.sort_by_key(|run| Reverse((ended_at(run), run.job.uid)));
    let mut known: Vec<String> = new.into_iter().map(|run| run.job.uid.short()).collect();
    known.append(&mut task.counted_runs);

    let existing: HashMap<String, Option<Timestamp>> = ended
        .iter()
        .filter(|(run, _)| !run.job.deleted)
        .map(|(run, _)| (run.job.uid.short(), ended_at(run)))
        // A Job whose CronJob is not ours for a while was counted all the same, and may be ours again.
        .chain(other_jobs.iter().map(|job| (job.short(), None)))
        .collect();
    while known.len() > MAX_COUNTED_RUNS {
        if let Some(gone) = known.iter().rposition(|job| !existing.contains_key(job)) {
            known.remove(gone);
            continue;
        }
        let oldest = known
            .iter()
            .enumerate()
            .min_by_key(|(position, job)| (existing.get(*job).copied().flatten(), Reverse(*position)));
        let Some((oldest, job)) = oldest else { break };
        if let Some(covered) = existing.get(job).copied().flatten() {
            raise(&mut task.counted_until, covered);
        }
        known.remove(oldest);
    }
    task.counted_runs = known;
}

/// Counts one run that ended, for `slot` if for any, and takes what it proves.
pub(crate) fn count(task: &mut TaskStatus, slot: Option<Timestamp>, outcome: &Outcome, target: &Target) {
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
    if let Some(slot) = slot {
        raise(&mut task.last_schedule_time, slot);
    }
    if is_latest {
        task.attempts = outcome.attempts;
        task.retries = retries;
        task.last_duration_seconds = outcome.duration_seconds;
        task.clock_skew_seconds = outcome.clock_skew_seconds;
    }
    if let Some(rows) = outcome.rows.as_ref().filter(|_| is_latest) {
        task.quarantined = counted(&rows.quarantined, rows::quarantine_word);
        task.repaired = counted(&rows.repaired, rows::repair_word);
    }
    if let Some(seconds) = outcome.attempt_seconds {
        // Runs that failed end at any time, and tell nothing about the next.
        pace::remember(&mut task.recent_run_seconds, seconds);
    }
    match &outcome.result {
        Ok(records) => {
            let success = task.last_success_time.as_ref();
            if success.is_none_or(|success| ended_at.0 >= success.0) {
                task.records = Some(*records);
            }
            if outcome
                .evidence
                .as_ref()
                .is_none_or(|evidence| evidence.target == target.name)
            {
                raise(&mut task.last_success_time, outcome.ended_at);
            }
            if is_latest {
                task.consecutive_failures = 0;
                task.last_error = None;
            }
        }
        Err(error) => {
            raise(&mut task.last_failure_time, outcome.ended_at);
            // One that is told late, after another failure, is in the same row all the same.
            if task
                .last_success_time
                .as_ref()
                .is_none_or(|success| ended_at.0 >= success.0)
            {
                task.consecutive_failures = task.consecutive_failures.saturating_add(1);
            }
            if is_latest {
                task.last_error = Some(error.clone());
            }
        }
    }
    let Some(log) = outcome.log.as_ref().filter(|log| log.target == target.name) else {
        return;
    };
    let newest = match &outcome.evidence {
        Some(evidence) => {
            raise(&mut task.data_as_of, evidence.data_as_of);
            Some(Publication {
                published_at: evidence.published_at.as_second(),
                data_as_of: evidence.data_as_of.as_second(),
            })
        }
        None => log.publications.iter().next(),
    };
    if let Some(newest) = newest {
        account::publish(
            &mut task.publications,
            newest,
            &log.publications,
            target.since,
            log.seen.as_second(),
            target.limit_seconds,
        );
    }
}

/// Counts by the words of this version: a report of another one decides neither about words nor about their number.
fn counted(reported: &BTreeMap<String, u64>, word: fn(&str) -> &'static str) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for (reason, count) in reported.iter().filter(|(_, count)| **count > 0) {
        let sum: &mut i64 = counts.entry(word(reason).to_owned()).or_default();
        *sum = sum
            .saturating_add(i64::try_from(*count).unwrap_or(i64::MAX))
            .min(MAX_ROWS);
    }
    counts
}

/// Seconds that Kubernetes took around a run that had a slot. Later than that it was a slot that was missed and made up for, not a slow
/// start.
pub(crate) fn around(run: &Run, outcome: &Outcome) -> Option<i64> {
    let (slot, duration) = run.job.slot.zip(outcome.duration_seconds)?;
    let seconds = outcome.ended_at.duration_since(slot).as_secs().saturating_sub(duration);
    (0..=LONGEST_START_SECONDS).contains(&seconds).then_some(seconds)
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
            let since = found.since.as_second();
            account::found(
                &mut task.publications,
                since,
                found_at.as_ref().map(|time| time.0.as_second()),
            );
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
