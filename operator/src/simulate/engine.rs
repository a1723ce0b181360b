//! The operator under a virtual clock: it hears of every run's end at once, counts it as it would in a cluster, and decides.
//!
//! Nothing is decided here: counting is [`status::count`], ages and deadlines are [`compliance`], breaches [`account`], rescues
//! [`extra_runs`]. Slots are never missed in this world, pods always start, and clocks agree.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::{
    MapaRefreshPolicyStatus,
    labels::cron_job_name,
    policy::TaskName,
    report::{FaultClass, Publication, Publications, code},
    status::{ComplianceAccount, LastError, MAX_OPEN_PUBLICATIONS, TaskStatus},
};

use super::ages::Ages;
use crate::{
    account::{self, Rules, Settle},
    compliance,
    conditions::{self, whole_seconds},
    extra_runs::{self, Counted, Rescue, WantedJob},
    feasibility::{Feasibility, feasibility},
    fingerprint::Uid,
    forecast::{ActiveRun, Forecast, LONGEST_SLOT_GRACE, Outlook},
    observe::Run,
    outcome::{Evidence, Outcome, PublicationLog},
    pace::{self, Pace},
    policy_file::Planned,
    records::JobRecord,
    status::{self, Target, around, blank_task},
    validate::Plan,
};

/// A run that ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) task: TaskName,
    pub(super) created: Timestamp,
    pub(super) slot: Option<Timestamp>,
    pub(super) attempts: u32,
    pub(super) duration_ms: i64,
    /// Of its last attempt.
    pub(super) attempt_ms: i64,
    /// When what it published, or the view that it refreshed, was true; `None` when it failed.
    pub(super) data_as_of: Option<Timestamp>,
}

/// The operator, for one policy.
pub(super) struct Operator<'a> {
    plan: &'a Plan,
    name: &'a str,
    /// Of every Job: who owns what is no question here.
    uid: Uid,
    target: Target,
    rules: Rules,
    max_data_age: Duration,
    /// The status as it would be written.
    pub(super) status: MapaRefreshPolicyStatus,
    active: Vec<ActiveRun>,
    active_slots: Vec<Option<Timestamp>>,
    /// The Jobs of the rescue that runs.
    rescue_runs: Vec<Run>,
    /// Judged at these paces.
    feasible: Option<(Vec<Pace>, Feasibility)>,
    /// When a rescue may begin at the earliest.
    never_before: Option<Timestamp>,
    /// When to look again although nothing happens.
    pub(super) look_again: Option<Timestamp>,
    /// What the world has seen of the ages of the data.
    pub(super) ages: Ages,
    pub(super) rescues: u64,
    pub(super) failed_runs: u64,
    pub(super) ended_runs: u64,
    pub(super) attempts: u64,
}

impl<'a> Operator<'a> {
    pub(super) fn new(planned: &'a Planned, plan: &'a Plan, now: Timestamp) -> Self {
        let max_data_age = plan.max_data_age;
        let tasks: Vec<TaskStatus> = plan
            .tasks
            .iter()
            .map(|task| TaskStatus {
                schedule_since: Some(whole_seconds(now)),
                ..blank_task(task.name)
            })
            .collect();
        let rules = Rules {
            limit_seconds: i64::try_from(max_data_age.as_secs()).unwrap_or(i64::MAX),
            zone: plan.time_zone,
        };
        let target = Target {
            name: plan.target.clone(),
            since: i64::MIN,
            judged: compliance::judged(&tasks).map(|task| task.name).collect(),
            limit_seconds: rules.limit_seconds,
        };
        let mut status = MapaRefreshPolicyStatus {
            tasks,
            target: Some(plan.target.clone()),
            ..MapaRefreshPolicyStatus::default()
        };
        let suspended = conditions::suspended(&planned.policy.spec, now);
        conditions::set(&mut status.conditions, [suspended], None, now);
        Self {
            plan,
            name: planned.policy.metadata.name.as_deref().unwrap_or_default(),
            uid: Uid::parse("simulated"),
            target,
            rules,
            max_data_age,
            status,
            active: Vec::new(),
            active_slots: Vec::new(),
            rescue_runs: Vec::new(),
            feasible: None,
            never_before: None,
            look_again: None,
            ages: Ages::new(rules.limit_seconds, plan.downstream_seconds),
            rescues: 0,
            failed_runs: 0,
            ended_runs: 0,
            attempts: 0,
        }
    }

    /// Whether everything that is public was published once: before that there is no age.
    pub(super) fn has_begun(&self) -> bool {
        self.status.compliance.is_some()
    }

    /// A Job was created.
    pub(super) fn created(&mut self, task: TaskName, slot: Option<Timestamp>, extra_job: Option<&str>, now: Timestamp) {
        self.active.push(ActiveRun {
            task,
            created: now,
            job: Box::default(),
        });
        self.active_slots.push(slot);
        if let Some(job) = extra_job {
            self.rescue_runs.push(Run {
                task,
                job: record(self.uid, now, None, job),
                pods: Vec::new(),
            });
        }
    }

    /// Whether the policy is judged by what `task` publishes.
    pub(super) fn judges(&self, task: TaskName) -> bool {
        self.target.judged.contains(&task)
    }

    /// The public sees something new: from `now` on the oldest of what it sees was true at `data_as_of`. The operator learns of it when
    /// the run ends.
    pub(super) fn saw(&mut self, now: Timestamp, data_as_of: Timestamp) {
        if self.has_begun() {
            self.ages.publish(now.as_second(), data_as_of.as_second());
        } else {
            self.ages.publish_before_begin(data_as_of.as_second());
        }
    }

    /// The run at `position` of those that were created and have not ended has ended. `log` are the publications that its report lists,
    /// newest first.
    pub(super) fn ended(&mut self, position: usize, end: Ended, log: Vec<Publication>, now: Timestamp) {
        self.active.swap_remove(position);
        self.active_slots.swap_remove(position);
        self.ended_runs += 1;
        self.attempts += u64::from(end.attempts);
        self.failed_runs += u64::from(end.data_as_of.is_none());
        let run = Run {
            task: end.task,
            job: record(self.uid, end.created, end.slot, ""),
            pods: Vec::new(),
        };
        let outcome = self.outcome(end, log, now);
        if let Some(seconds) = around(&run, &outcome) {
            pace::remember(&mut self.status.recent_start_seconds, seconds);
        }
        let is_judged = self.judges(end.task);
        if let Some(task) = self.status.tasks.iter_mut().find(|task| task.name == end.task) {
            status::count(task, run.job.slot, &outcome, &self.target);
            if !is_judged {
                task.publications = Publications::default();
            }
        }
        if is_judged && end.data_as_of.is_some() {
            self.published(now);
        }
    }

    fn outcome(&self, end: Ended, log: Vec<Publication>, now: Timestamp) -> Outcome {
        let known = self.status.tasks.iter().find(|task| task.name == end.task);
        let before = known.and_then(|task| task.publications.iter().next());
        let target = self.target.name.clone();
        Outcome {
            ended_at: now,
            attempts: i32::try_from(end.attempts).unwrap_or(i32::MAX),
            duration_seconds: Some(whole(end.duration_ms)),
            attempt_seconds: end.data_as_of.map(|_| whole(end.attempt_ms)),
            result: if end.data_as_of.is_some() {
                Ok(0)
            } else {
                Err(failure())
            },
            rows: None,
            evidence: end.data_as_of.map(|data_as_of| Evidence {
                data_as_of,
                published_at: now,
                target: target.clone(),
            }),
            log: Some(PublicationLog {
                publications: Publications::new(log.into_iter().chain(before)),
                seen: now,
                target,
            }),
            published: None,
            clock_skew_seconds: None,
        }
    }

    /// Something that is public was published again.
    fn published(&mut self, now: Timestamp) {
        let Some(data_as_of) = compliance::data_as_of(&self.status.tasks) else {
            return;
        };
        if self.status.compliance.is_none() {
            self.status.compliance = Some(account::opened(now));
            self.ages.begin(now.as_second());
        }
        let until = compliance::compliant_until(data_as_of, self.max_data_age);
        self.status.data_as_of = Some(whole_seconds(data_as_of));
        self.status.compliant_until = Some(whole_seconds(until));
        self.never_before = extra_runs::never_before(&self.status, self.plan);
        let is_full = |task: &TaskStatus| task.publications.len() >= MAX_OPEN_PUBLICATIONS;
        if self.status.tasks.iter().any(is_full) {
            self.settle(Settle::Proved, now);
        }
    }

    /// Brings the account forward.
    pub(super) fn settle(&mut self, settle: Settle, now: Timestamp) {
        let Some(account) = &mut self.status.compliance else {
            return;
        };
        let mut documents: Vec<&mut TaskStatus> = self
            .status
            .tasks
            .iter_mut()
            .filter(|task| self.target.judged.contains(&task.name))
            .collect();
        account::bring_forward(account, &mut documents, self.rules, settle, now);
    }

    /// A report lists `publications` of `task`, newest first.
    pub(super) fn reported(&mut self, task: TaskName, publications: &[Publication], now: Timestamp) {
        let Some(newest) = publications.first() else {
            return;
        };
        let Some(known) = self.status.tasks.iter_mut().find(|known| known.name == task) else {
            return;
        };
        let before = known.publications.iter().next();
        account::publish(
            &mut known.publications,
            *newest,
            &Publications::new(publications.iter().copied().chain(before)),
            self.target.since,
            now.as_second(),
            self.target.limit_seconds,
        );
    }

    /// The account, brought forward to `now` and closed.
    pub(super) fn closed(mut self, now: Timestamp) -> (Ages, Option<ComplianceAccount>) {
        self.settle(Settle::Everything, now);
        self.ages.end(now.as_second());
        (self.ages, self.status.compliance)
    }

    /// Decides on a rescue, and which of its Jobs to create. `ended` is the run of the rescue that ended just now: its task, the name of
    /// its Job, and whether it succeeded.
    pub(super) fn decide(&mut self, ended: Option<(TaskName, &str, bool)>, now: Timestamp) -> Vec<WantedJob> {
        let mut jobs = self.advance(ended, now);
        let Some(never_before) = self.never_before else {
            self.look_again = None;
            return jobs;
        };
        if now < never_before {
            self.look_again = Some(never_before);
            return jobs;
        }
        self.refresh_feasibility();
        let Some((_, feasible)) = &self.feasible else {
            return jobs;
        };
        let slots: Vec<(TaskName, Timestamp)> = self
            .active
            .iter()
            .zip(&self.active_slots)
            .filter_map(|(run, slot)| Some((run.task, (*slot)?)))
            .collect();
        let forecast = Forecast {
            plan: self.plan,
            tasks: &self.status.tasks,
            recent_start_seconds: &self.status.recent_start_seconds,
            active: &self.active,
            slots: &slots,
            slot_grace: LONGEST_SLOT_GRACE,
            now,
        };
        let outlook = Outlook {
            forecast,
            documents: &self.target.judged,
            feasibility: feasible,
            missed: None,
        };
        let decision = extra_runs::rescue(outlook, &self.status, &self.status);
        let overdue = forecast
            .healthy()
            .map(|run| forecast.overdue_at(run) + Duration::from_millis(1));
        let checks = self
            .plan
            .tasks
            .iter()
            .filter_map(|task| forecast.next_slot_check(task.name));
        let not_before = match &decision {
            Rescue::NotBefore(moment) => Some(*moment),
            Rescue::No | Rescue::Start(_) => None,
        };
        self.look_again = overdue
            .chain(checks)
            .chain(not_before)
            .filter(|moment| *moment > now)
            .min();
        if let Rescue::Start(rescue) = decision {
            self.status.rescue = Some(rescue);
            self.rescues += u64::from(self.has_begun());
            jobs.extend(self.advance(None, now));
        }
        jobs
    }

    /// Name of the Job that the operator creates for `job`.
    pub(super) fn job_name(&self, job: &WantedJob) -> String {
        format!("{}-{}", cron_job_name(self.name, job.task), job.id)
    }

    fn advance(&mut self, ended: Option<(TaskName, &str, bool)>, now: Timestamp) -> Vec<WantedJob> {
        let deadline = extra_runs::written_deadline(&self.status);
        let Some(rescue) = self
            .status
            .rescue
            .as_mut()
            .filter(|rescue| rescue.finished_at.is_none())
        else {
            return Vec::new();
        };
        let counted: Vec<Counted<'_>> = ended
            .into_iter()
            .map(|(task, job, succeeded)| Counted { task, job, succeeded })
            .collect();
        let name = self.name;
        let mut jobs = extra_runs::advance(
            rescue,
            |task| cron_job_name(name, task),
            &self.rescue_runs,
            &self.active,
            &counted,
            &[],
            now,
        );
        if extra_runs::is_pointless(rescue, deadline) {
            rescue.finished_at = Some(whole_seconds(now));
            jobs.clear();
        }
        if rescue.finished_at.is_some() {
            self.rescue_runs.clear();
        }
        jobs
    }

    /// The sum is made anew only when a pace has changed: it tries every interval.
    fn refresh_feasibility(&mut self) {
        let paces: Vec<Pace> = self
            .plan
            .tasks
            .iter()
            .zip(&self.status.tasks)
            .map(|(plan, task)| Pace::of(task, &self.status.recent_start_seconds, plan))
            .collect();
        if self.feasible.as_ref().is_none_or(|(known, _)| *known != paces) {
            let feasible = feasibility(self.plan, &self.status.tasks, &self.status.recent_start_seconds);
            self.feasible = Some((paces, feasible));
        }
    }
}

fn record(uid: Uid, created: Timestamp, slot: Option<Timestamp>, name: &str) -> JobRecord {
    JobRecord {
        uid,
        name: name.into(),
        owner: None,
        created,
        slot,
        halt: None,
        seen: created,
        started: created,
        deadline_seconds: 0,
        ended: None,
        settled_at: None,
        deleted: false,
    }
}

fn failure() -> LastError {
    LastError {
        class: FaultClass::Transient,
        code: code::ATTEMPT_TIMEOUT.to_owned(),
        message: String::new(),
    }
}

/// As a report's durations are read: a second begun is a second.
fn whole(milliseconds: i64) -> i64 {
    milliseconds
        .max(0)
        .unsigned_abs()
        .div_ceil(1_000)
        .try_into()
        .unwrap_or(i64::MAX)
}
