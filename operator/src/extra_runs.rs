//! Pure: runs that the operator starts beside the schedule, to keep a deadline (rescue) or because somebody asked (request).
//!
//! One Job per task, first the view, then what is built from it, then the check. The Jobs' names are made of what they are for, the deadline
//! or the request, so that two operators, or one before and after a crash, mean the same Job and the API server lets only one be
//! created. A deadline is acted upon only once it stands in the status: what two operators read there is the same.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::{
    MapaRefreshPolicyStatus,
    policy::TaskName,
    report::code,
    status::{ConditionType, ExtraRuns, TaskStatus},
};
use sha2::{Digest, Sha256};

use crate::{
    conditions::whole_seconds,
    forecast::{ActiveRun, Forecast, Outlook, is_newer},
    observe::Run,
    validate::Plan,
};

/// How long an idle chain retries the creation of its next Job. A quota or a foreign object of the same name may stay for ever.
const CREATION_GRACE: Duration = Duration::from_secs(60);

/// Longest request that is kept as it is; a longer one is kept as its hash.
const MAX_TOKEN: usize = 100;

/// A Job to create beside the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedJob {
    /// The task it runs.
    pub task: TaskName,
    /// What its name ends in.
    pub id: String,
}

/// A run of extra runs that was counted just now.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// The task.
    pub task: TaskName,
    /// Name of the Job.
    pub job: &'a str,
    /// Whether it succeeded.
    pub succeeded: bool,
}

/// How a request stands in the status.
#[must_use]
pub fn token_as_kept(token: &str) -> String {
    if token.len() <= MAX_TOKEN && !token.chars().any(char::is_control) {
        token.to_owned()
    } else {
        format!("sha256:{}", hash(token, 32))
    }
}

fn hash(text: &str, bytes: usize) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .take(bytes)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The runs of the request `token`, which follows the request `before`: every task of the policy once. A repeated token is a new request, whose
/// Jobs have other names.
#[must_use]
pub fn request(token: &str, before: Option<&ExtraRuns>, plan: &Plan, now: Timestamp) -> ExtraRuns {
    let asked = match before {
        Some(before) => format!("{token}\n{}\n{}", before.id, before.started_at.0),
        None => token.to_owned(),
    };
    extra_runs(
        format!("q{}", hash(&asked, 4)),
        plan.tasks.iter().map(|task| task.name).collect(),
        now,
    )
}

fn extra_runs(id: String, tasks: Vec<TaskName>, now: Timestamp) -> ExtraRuns {
    ExtraRuns {
        id,
        started_at: whole_seconds(now),
        waiting: tasks,
        running: Vec::new(),
        finished_at: None,
        advanced_at: None,
        failed: false,
    }
}

/// Which of several tasks can run at the same time: the view, then what is built from it, then the check.
fn stage(task: TaskName) -> u8 {
    match task {
        TaskName::RefreshMvPortal => 0,
        TaskName::RefreshMapaCache | TaskName::CalcularEstatisticas => 1,
        TaskName::HealthCheck => 2,
    }
}

/// Brings `extra` up to date with the Jobs that exist (`runs`), those that are waited for (`active`), those that were `counted` just now
/// and those that could not be created although it was `attempted`, and names what to create next.
///
/// Every chain ends: each of its Jobs ends or is [given up](crate::outcome::Progress::GivenUp), and the creation of a Job is retried for a
/// minute at most.
pub fn advance(
    extra: &mut ExtraRuns,
    cron_job: impl Fn(TaskName) -> String,
    runs: &[Run],
    active: &[ActiveRun],
    counted: &[Counted<'_>],
    attempted: &[WantedJob],
    now: Timestamp,
) -> Vec<WantedJob> {
    if extra.finished_at.is_some() {
        return Vec::new();
    }
    let name = |task: TaskName| format!("{}-{}", cron_job(task), extra.id);
    let job_of = |task: TaskName| {
        let name = name(task);
        runs.iter().find(|run| run.task == task && *run.job.name == *name)
    };
    let exists = |task: TaskName| job_of(task).is_some();
    let ended_well = |task: TaskName| {
        let name = name(task);
        // A Job that was created and is gone uncounted was deleted while nobody looked: it will not come back.
        match counted
            .iter()
            .find(|counted| counted.task == task && counted.job == name)
        {
            Some(counted) => Some(counted.succeeded),
            None if active.iter().any(|run| *run.job == *name) => None,
            // It ended and was counted before the chain was written down.
            None => Some(
                job_of(task)
                    .and_then(|run| run.job.ended.as_ref())
                    .is_some_and(|end| end.complete),
            ),
        }
    };
    let (created, waiting): (Vec<TaskName>, Vec<TaskName>) = extra.waiting.iter().partition(|task| exists(**task));
    let running: Vec<TaskName> = extra.running.iter().copied().chain(created).collect();
    let mut failed = extra.failed || running.iter().any(|task| ended_well(*task) == Some(false));
    let running: Vec<TaskName> = running.into_iter().filter(|task| ended_well(*task).is_none()).collect();
    if (&waiting, &running) != (&extra.waiting, &extra.running) {
        extra.advanced_at = Some(whole_seconds(now));
    }
    extra.waiting = waiting;
    extra.running = running;
    let was_refused = |job: &WantedJob| job.id == extra.id && extra.waiting.contains(&job.task);
    if extra.running.is_empty() && attempted.iter().any(was_refused) {
        let since = extra.advanced_at.as_ref().unwrap_or(&extra.started_at).0;
        failed |= since.checked_add(CREATION_GRACE).is_ok_and(|until| now >= until);
    }
    extra.failed = failed;
    if extra.running.is_empty() && (extra.waiting.is_empty() || failed) {
        extra.waiting.clear();
        extra.finished_at = Some(whole_seconds(now));
        extra.advanced_at = None;
    }
    if failed {
        return Vec::new();
    }
    let next = extra
        .waiting
        .iter()
        .chain(&extra.running)
        .map(|task| stage(*task))
        .min();
    extra
        .waiting
        .iter()
        .filter(|task| Some(stage(**task)) == next)
        .map(|task| WantedJob {
            task: *task,
            id: extra.id.clone(),
        })
        .collect()
}

/// The deadline that `status`, as it was written, sets: of what is published, or of a beginning (a new policy, another target, a
/// suspension that is over), which is a deadline that was missed.
#[must_use]
pub fn written_deadline(status: &MapaRefreshPolicyStatus) -> Option<Timestamp> {
    let deadline = status.compliant_until.as_ref().or(status.target_since.as_ref())?.0;
    let resumed = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == ConditionType::Suspended.as_str() && condition.status == "False")?
        .last_transition_time
        .0;
    Some(deadline.max(resumed))
}

/// Whether a rescue has nothing left to keep, because its deadline has moved and none of its Jobs runs.
#[must_use]
pub fn is_pointless(rescue: &ExtraRuns, deadline: Option<Timestamp>) -> bool {
    rescue.finished_at.is_none()
        && rescue.running.is_empty()
        && deadline.is_none_or(|deadline| rescue.id != rescue_id(deadline))
}

fn rescue_id(deadline: Timestamp) -> String {
    format!("r{}", deadline.as_second().div_euclid(60))
}

/// Whether a rescue is to be started, and when to look again if not yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Rescue {
    /// Not needed, or not allowed.
    No,
    /// Perhaps from then on.
    NotBefore(Timestamp),
    /// Now.
    Start(ExtraRuns),
}

/// Before this moment no rescue of the policy with `status` begins, whatever happens; `None` while there is no deadline.
#[must_use]
pub fn never_before(status: &MapaRefreshPolicyStatus, plan: &Plan) -> Option<Timestamp> {
    written_deadline(status).map(|deadline| begins(status, deadline, plan.max_data_age / 2))
}

/// When a rescue that needs `reserve` begins. A deadline that was missed already waits for nothing.
fn begins(previous: &MapaRefreshPolicyStatus, deadline: Timestamp, reserve: Duration) -> Timestamp {
    if previous.compliant_until.is_some() {
        deadline.checked_sub(reserve).unwrap_or(deadline)
    } else {
        deadline
    }
}

/// Decides on a rescue: runs of what is needed so that the limit holds although the next slot comes too late.
///
/// `previous` is the status as it was written. The rescue begins as late as leaves room for every retry, but never earlier than half of
/// the limit before the deadline: the data would hardly be newer.
#[must_use]
pub fn rescue(outlook: Outlook<'_>, previous: &MapaRefreshPolicyStatus, status: &MapaRefreshPolicyStatus) -> Rescue {
    let Outlook {
        forecast,
        documents,
        feasibility,
        missed,
    } = outlook;
    let Forecast { plan, tasks, now, .. } = forecast;
    let busy = |extra: &Option<ExtraRuns>| extra.as_ref().is_some_and(|extra| extra.finished_at.is_none());
    let rejected = tasks.iter().any(|task| {
        task.last_error
            .as_ref()
            .is_some_and(|error| error.code == code::CREDENTIALS_REJECTED)
    });
    if !plan.rescue || plan.suspended || rejected || busy(&status.rescue) || busy(&status.request) {
        return Rescue::No;
    }
    let (Some(deadline), true) = (written_deadline(previous), is_as_written(previous, status)) else {
        return Rescue::No;
    };
    let id = rescue_id(deadline);
    if status.rescue.as_ref().is_some_and(|last| last.id == id) {
        return Rescue::No;
    }
    let limit = plan.max_data_age;
    let its_deadline = |task: &TaskStatus| task.data_as_of.as_ref()?.0.checked_add(limit).ok();
    let in_danger: Vec<&TaskStatus> = tasks
        .iter()
        .filter(|task| documents.contains(&task.name))
        .filter(|task| {
            let next = forecast.next_publication(task.name);
            missed.is_some() || next.is_none() || next > its_deadline(task)
        })
        .collect();
    if in_danger.is_empty() {
        return Rescue::No;
    }
    let reserve = u64::from(feasibility.worst.start + feasibility.worst.run + feasibility.worst.retries);
    let reserve = Duration::from_secs(reserve).min(limit / 2);
    // Each document has its own deadline: that of one whose run is about to end is no reason to renew another early.
    // Where nothing is compliant yet, the beginning is the deadline of all.
    let begin = |task: &TaskStatus| {
        let own = its_deadline(task).filter(|_| previous.compliant_until.is_some());
        begins(previous, own.map_or(deadline, |own| own.max(deadline)), reserve)
    };
    let (in_danger, later): (Vec<&TaskStatus>, Vec<&TaskStatus>) =
        in_danger.into_iter().partition(|task| begin(task) <= now);
    if in_danger.is_empty() {
        return later.into_iter().map(begin).min().map_or(Rescue::No, Rescue::NotBefore);
    }
    let view = tasks.iter().find(|task| task.name == TaskName::RefreshMvPortal);
    // What the view holds already is enough when it is newer than what is published and not half used up.
    let view_is_needed = view.filter(|view| {
        let is_young = view
            .data_as_of
            .as_ref()
            .and_then(|moment| moment.0.checked_add(limit / 2).ok())
            .is_some_and(|half| half > now);
        !(is_young && in_danger.iter().all(|document| is_newer(view, document)))
    });
    let needed: Vec<TaskName> = view_is_needed
        .map(|view| view.name)
        .into_iter()
        .chain(in_danger.iter().map(|task| task.name))
        .fold(Vec::new(), |mut needed, task| {
            if !needed.contains(&task) {
                needed.push(task);
            }
            needed
        });
    // Another run beside one that works would not be done earlier. The rescue's own, created just now or before a crash, are no others.
    let is_other = |run: &&ActiveRun| needed.contains(&run.task) && run.job.rsplit('-').next() != Some(id.as_str());
    if let Some(run) = forecast.healthy().find(is_other) {
        let overdue = forecast.overdue_at(run);
        return Rescue::NotBefore(overdue.checked_add(Duration::from_millis(1)).unwrap_or(overdue));
    }
    Rescue::Start(extra_runs(id, needed, now))
}

/// Whether what the deadline is made of stands in the status as it was written.
fn is_as_written(previous: &MapaRefreshPolicyStatus, status: &MapaRefreshPolicyStatus) -> bool {
    let suspended = |status: &MapaRefreshPolicyStatus| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == ConditionType::Suspended.as_str())
            .map(|condition| (condition.status.clone(), condition.last_transition_time.clone()))
    };
    previous.target == status.target
        && previous.target_since == status.target_since
        && previous.compliant_until == status.compliant_until
        && suspended(previous) == suspended(status)
}

#[cfg(test)]
mod tests;
