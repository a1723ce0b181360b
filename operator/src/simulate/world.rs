//! The world in which the operator is simulated: Kubernetes starts a Job at every slot, pods start late, runners try and try again, the
//! database goes down.
//!
//! The runner is simulated as it behaves, not as it is written: an attempt has `attemptTimeoutSeconds`; a retry comes after
//! `retryDelaySeconds`, unless it could not end within the run's budget; map and statistics wait, at most half of their budget,
//! for the view's refresh of their slot, publish at once what the view has that is newer than what is public, and read the view before
//! they work; a Job that is not done at its deadline is ended.

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::{policy::TaskName, report::Publication};

use super::{
    draws::{Downtime, Draws, Odds},
    engine::{Ended, Operator},
};
use crate::{
    desired::DEADLINE_MARGIN_SECONDS,
    policy_file::Planned,
    validate::{Plan, TaskPlan},
};

/// Between two looks of a waiting run at the view's stamp.
const POLL_MS: i64 = 500;
/// An attempt that would have less time than this is not begun.
const LEAST_ATTEMPT_MS: i64 = 2_000;
/// A world in which not everything was published once after so many slots of the first task never gets there: without an end it would be
/// simulated for ever.
const MOST_SLOTS_BEFORE_ALL_IS_PUBLISHED: u64 = 10_000;
/// When the simulated time begins: the first of a year, so that months are whole. Milliseconds since 1970.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Slots of the first task.
    pub(super) slots: u64,
    /// Seconds since everything was published once.
    pub(super) seconds: i64,
    /// Breaches, or days with one.
    pub(super) breaches: u64,
    /// Runs that failed.
    pub(super) failed_runs: u64,
}

impl Limits {
    pub(super) fn slots(slots: u64) -> Self {
        Self {
            slots,
            seconds: i64::MAX,
            breaches: u64::MAX,
            failed_runs: u64::MAX,
        }
    }
}

/// One run that has not ended.
#[derive(Clone, Debug)]
struct Running {
    task: TaskPlan,
    /// Which of the draws.
    stream: usize,
    created: i64,
    slot: Option<i64>,
    /// Name of the Job, if the operator created it.
    extra_job: Option<String>,
    /// When the runner starts.
    starts: i64,
    attempts: u32,
    attempt_began: i64,
    /// When the attempt began, or its last publication ended: a waiting run looks at the view twice a second from then on.
    waits_since: i64,
    /// Data of what this attempt has published before the view's slot was met.
    early: Option<i64>,
    /// The view's slot that it waits for.
    view_slot: Option<i64>,
    /// The view's stamp when another run was found refreshing it.
    before_other: Option<i64>,
    phase: Phase,
    /// When something happens to it next.
    next: i64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Until an attempt begins: the first, or one more.
    Before,
    /// For the view.
    Waiting,
    /// For another run that refreshes the view.
    Busy,
    /// On data of that moment; whether it will succeed, and whether the run goes on waiting for the view's slot after it.
    Working {
        data_as_of: i64,
        succeeds: bool,
        is_early: bool,
    },
}

impl Running {
    fn run_ends(&self) -> i64 {
        self.starts + i64::from(self.task.run_budget_seconds) * 1_000
    }

    fn wait_ends(&self) -> i64 {
        self.starts + i64::from(self.task.run_budget_seconds) * 500
    }

    fn deadline(&self) -> i64 {
        self.created + i64::from(self.task.run_budget_seconds + DEADLINE_MARGIN_SECONDS) * 1_000
    }

    /// The first look at the view at or after `moment`.
    fn look_at(&self, moment: i64) -> i64 {
        let since = (moment - self.waits_since).max(0);
        self.waits_since + (since + POLL_MS - 1).div_euclid(POLL_MS) * POLL_MS
    }

    /// Whether the view, refreshed at `stamp`, is not of this run's slot, and there is time to wait for that.
    fn awaits(&self, stamp: i64, now: i64) -> bool {
        self.view_slot.is_some_and(|slot| stamp < slot) && now + POLL_MS < self.wait_ends()
    }

    /// Data of what was published early, where that is the result of a run whose budget ends before one more publication does.
    fn result_at_its_end(&self, now: i64) -> Option<i64> {
        self.early.filter(|_| self.attempts == 1 && now >= self.run_ends())
    }
}

/// What the longest draws were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Longest {
    /// From a Job's creation to its runner's start, in milliseconds.
    pub(super) start: i64,
    /// Of one attempt's own work, in milliseconds.
    pub(super) work: i64,
}

/// The world of one policy.
pub(super) struct World<'a> {
    plan: &'a Plan,
    pub(super) operator: Operator<'a>,
    draws: Vec<Draws>,
    downtime: Downtime,
    /// The next slot of each task.
    slots: Vec<i64>,
    running: Vec<Running>,
    /// When the view was refreshed last.
    view_stamp: i64,
    /// What each task has published. In the beginning all that the view holds is public.
    published: Vec<i64>,
    /// Publications of each task that no report has listed yet, newest first.
    unreported: Vec<Vec<Publication>>,
    pub(super) slots_passed: u64,
    /// Those before everything was published once.
    slots_in_vain: u64,
    pub(super) longest: Longest,
    now: i64,
}

impl<'a> World<'a> {
    /// Before the first slot.
    pub(super) fn new(planned: &'a Planned, plan: &'a Plan, odds: &Odds, seed: u64) -> Self {
        let begin = moment(BEGIN_MS);
        Self {
            plan,
            operator: Operator::new(planned, plan, begin),
            draws: plan
                .tasks
                .iter()
                .map(|task| Draws::new(odds, seed, stream_of(task.name)))
                .collect(),
            downtime: Downtime::new(odds.outage, seed, BEGIN_MS),
            slots: plan
                .tasks
                .iter()
                .map(|task| task.schedule.next_after(begin).as_millisecond())
                .collect(),
            running: Vec::new(),
            view_stamp: BEGIN_MS,
            published: vec![BEGIN_MS; plan.tasks.len()],
            unreported: vec![Vec::new(); plan.tasks.len()],
            slots_passed: 0,
            slots_in_vain: 0,
            longest: Longest::default(),
            now: BEGIN_MS,
        }
    }

    /// Lets time pass until one of `limits` is met, or it is plain that not everything will ever be published once.
    pub(super) fn run(&mut self, limits: Limits) {
        let mut begun: Option<i64> = None;
        loop {
            let (stream, slot) = least(self.slots.iter().copied());
            let (position, next) = least(self.running.iter().map(|run| run.next));
            let wake = self.operator.look_again.map_or(i64::MAX, Timestamp::as_millisecond);
            let now = slot.min(next).min(wake);
            if begun.is_none() && self.operator.has_begun() {
                begun = Some(self.now);
            }
            let is_over = begun.is_some_and(|begun| (now - begun) / 1_000 >= limits.seconds)
                || self.operator.ages.breaches_or_days() >= limits.breaches
                || self.operator.failed_runs >= limits.failed_runs
                || self.slots_passed >= limits.slots && now == slot && stream == 0;
            if now == i64::MAX || self.slots_in_vain >= MOST_SLOTS_BEFORE_ALL_IS_PUBLISHED {
                return;
            }
            self.now = now.max(self.now);
            if is_over {
                return;
            }
            if slot <= next && slot <= wake {
                self.fire(stream);
            } else if next <= wake {
                self.step(position);
            } else {
                self.decide(None);
            }
        }
    }

    /// The simulated moment.
    pub(super) fn now(&self) -> Timestamp {
        moment(self.now)
    }

    /// The CronJob of the task at `stream` creates a Job.
    fn fire(&mut self, stream: usize) {
        let Some(task) = self.plan.tasks.get(stream).copied() else {
            return;
        };
        let slot = self.now;
        if let Some(next) = self.slots.get_mut(stream) {
            *next = task.schedule.next_after(moment(slot)).as_millisecond();
        }
        if stream == 0 {
            if self.operator.has_begun() {
                self.slots_passed += 1;
            } else {
                self.slots_in_vain += 1;
            }
        }
        // A Job that still runs at the next slot is replaced (`concurrencyPolicy: Replace`).
        let replaced = self
            .running
            .iter()
            .position(|run| run.stream == stream && run.extra_job.is_none());
        if let Some(position) = replaced {
            self.end(position, None);
        }
        self.create(stream, task, Some(slot), None);
        self.decide(None);
    }

    fn create(&mut self, stream: usize, task: TaskPlan, slot: Option<i64>, extra_job: Option<String>) {
        let created = self.now;
        let start = self.draws.get_mut(stream).map_or(0, Draws::start);
        self.longest.start = self.longest.start.max(start);
        self.operator
            .created(task.name, slot.map(moment), extra_job.as_deref(), moment(created));
        let view_slot = slot
            .filter(|_| task.name.publishes())
            .zip(task.view_lead_minutes)
            .map(|(slot, lead)| slot - i64::from(lead) * 60_000);
        let mut run = Running {
            task,
            stream,
            created,
            slot,
            extra_job,
            starts: created + start,
            attempts: 0,
            attempt_began: 0,
            waits_since: 0,
            early: None,
            view_slot,
            before_other: None,
            phase: Phase::Before,
            next: 0,
        };
        run.next = run.starts.min(run.deadline());
        self.running.push(run);
    }

    /// What was to happen to the run at `position` happens.
    fn step(&mut self, position: usize) {
        let now = self.now;
        let Some(run) = self.running.get_mut(position) else {
            return;
        };
        if now >= run.deadline() {
            self.end(position, None);
            return;
        }
        match run.phase {
            Phase::Before => {
                run.attempts += 1;
                run.attempt_began = now;
                run.waits_since = now;
                self.look(position);
            }
            Phase::Waiting if self.downtime.next(now) <= now => self.fail_attempt(position),
            Phase::Waiting => self.look(position),
            Phase::Busy => self.work(position, false),
            Phase::Working {
                data_as_of,
                succeeds: true,
                is_early,
            } => self.succeed(position, data_as_of, is_early),
            Phase::Working { succeeds: false, .. } => self.fail_attempt(position),
        }
    }

    /// The run at `position` looks at the view: it publishes what is newer than what is public, and goes on waiting for its slot's.
    fn look(&mut self, position: usize) {
        let (now, stamp) = (self.now, self.view_stamp);
        let Some(run) = self.running.get_mut(position) else {
            return;
        };
        if run.awaits(stamp, now) {
            if self.published.get(run.stream).is_some_and(|public| stamp > *public) {
                self.work(position, true);
                return;
            }
            let gives_up = run.look_at(run.wait_ends() - POLL_MS);
            run.next = gives_up.min(run.deadline()).min(self.downtime.next(now).max(now));
            run.phase = Phase::Waiting;
        } else if run.early.is_some_and(|early| stamp <= early) {
            let early = run.early;
            self.end(position, early);
        } else {
            self.work(position, false);
        }
    }

    /// The attempt's own work begins; after that of `is_early` it goes on waiting.
    fn work(&mut self, position: usize, is_early: bool) {
        let now = self.now;
        let others_end = self.refreshed_by_another(position);
        let Some(run) = self.running.get_mut(position) else {
            return;
        };
        let is_view = run.task.name == TaskName::RefreshMvPortal;
        if is_view {
            let by_other = run.before_other.is_some_and(|before| self.view_stamp > before);
            if by_other || run.slot.is_some_and(|slot| self.view_stamp >= slot) {
                let stamp = self.view_stamp;
                self.succeed(position, stamp, false);
                return;
            }
            if let Some(end) = others_end {
                run.before_other.get_or_insert(self.view_stamp);
                run.phase = Phase::Busy;
                run.next = (end + POLL_MS).min(run.deadline());
                return;
            }
        }
        let (takes, fails) = self.draws.get_mut(run.stream).map_or((0, false), Draws::attempt);
        self.longest.work = self.longest.work.max(takes);
        let limit = (now + i64::from(run.task.attempt_timeout_seconds) * 1_000)
            .min(run.run_ends())
            .min(run.deadline());
        let mut ends = now + takes;
        let mut succeeds = !fails && ends < limit;
        ends = ends.min(limit);
        let down = self.downtime.next(now);
        if down < ends {
            succeeds = false;
            // A database that is down already is not found out at once.
            if down > now {
                ends = down;
            }
        }
        let data_as_of = if is_view || run.task.view_lead_minutes.is_none() {
            now
        } else {
            self.view_stamp
        };
        run.phase = Phase::Working {
            data_as_of,
            succeeds,
            is_early,
        };
        run.next = ends;
    }

    /// When another run than that at `position`, which refreshes the view now, will be done.
    fn refreshed_by_another(&self, position: usize) -> Option<i64> {
        self.running
            .iter()
            .enumerate()
            .filter(|(other, run)| *other != position && run.task.name == TaskName::RefreshMvPortal)
            .find(|(_, run)| matches!(run.phase, Phase::Working { .. }))
            .map(|(_, run)| run.next)
    }

    fn fail_attempt(&mut self, position: usize) {
        let now = self.now;
        let Some(run) = self.running.get_mut(position) else {
            return;
        };
        if let Some(early) = run.result_at_its_end(now) {
            self.end(position, Some(early));
            return;
        }
        run.early = None;
        let delay = i64::from(run.task.retry_delay_seconds) * 1_000;
        let fits = now + delay + LEAST_ATTEMPT_MS <= run.run_ends();
        if run.attempts <= run.task.max_retries && fits {
            run.phase = Phase::Before;
            run.next = (now + delay).min(run.deadline());
        } else {
            self.end(position, None);
        }
    }

    fn succeed(&mut self, position: usize, data_as_of: i64, is_early: bool) {
        let now = self.now;
        let Some(run) = self.running.get(position) else {
            return;
        };
        let (name, stream) = (run.task.name, run.stream);
        let Some(published) = self.published.get_mut(stream) else {
            return;
        };
        // What is older than what is published is fenced off: the run succeeds with the newer.
        *published = data_as_of.max(*published);
        let data_as_of = *published;
        if self.operator.judges(name) {
            self.publish_to_public(stream, data_as_of);
        }
        if name == TaskName::RefreshMvPortal {
            self.view_stamp = self.view_stamp.max(data_as_of);
            for run in &mut self.running {
                if matches!(run.phase, Phase::Waiting) {
                    run.next = run.next.min(run.look_at(now));
                }
            }
        }
        if is_early {
            if let Some(run) = self.running.get_mut(position) {
                run.early = Some(data_as_of);
                run.waits_since = now;
            }
            self.look(position);
        } else {
            self.end(position, Some(data_as_of));
        }
    }

    /// The task at `stream` has published data of that moment.
    fn publish_to_public(&mut self, stream: usize, data_as_of: i64) {
        let publication = Publication {
            published_at: self.now.div_euclid(1_000),
            data_as_of: data_as_of.div_euclid(1_000),
        };
        if let Some(unreported) = self.unreported.get_mut(stream) {
            unreported.insert(0, publication);
        }
        let judged = self.plan.tasks.iter().zip(&self.published);
        let oldest = judged
            .filter(|(task, _)| self.operator.judges(task.name))
            .map(|(_, published)| *published)
            .min();
        if let Some(oldest) = oldest {
            self.operator.saw(moment(self.now), moment(oldest));
        }
    }

    /// The run at `position` ends, with data of that moment if it succeeded, and the operator gets its report.
    fn end(&mut self, position: usize, data_as_of: Option<i64>) {
        let now = moment(self.now);
        let run = self.running.swap_remove(position);
        let log = self
            .unreported
            .get_mut(run.stream)
            .map(std::mem::take)
            .unwrap_or_default();
        let end = Ended {
            task: run.task.name,
            created: moment(run.created),
            slot: run.slot.map(moment),
            attempts: run.attempts,
            duration_ms: self.now - run.starts,
            attempt_ms: self.now - run.attempt_began,
            data_as_of: data_as_of.map(moment),
        };
        self.operator.ended(position, end, log, now);
        self.decide(
            run.extra_job
                .as_deref()
                .map(|job| (run.task.name, job, data_as_of.is_some())),
        );
    }

    /// The operator, once every publication is reported to it, as by the next reports.
    pub(super) fn into_operator(self) -> Operator<'a> {
        let mut operator = self.operator;
        for (task, unreported) in self.plan.tasks.iter().zip(self.unreported) {
            operator.reported(task.name, &unreported, moment(self.now));
        }
        operator
    }

    fn decide(&mut self, ended: Option<(TaskName, &str, bool)>) {
        for job in self.operator.decide(ended, moment(self.now)) {
            let Some(stream) = self.plan.tasks.iter().position(|task| task.name == job.task) else {
                continue;
            };
            if let Some(task) = self.plan.tasks.get(stream).copied() {
                let name = self.operator.job_name(&job);
                self.create(stream, task, None, Some(name));
            }
        }
    }
}

/// The draws of a task are the same whichever other tasks the policy has.
fn stream_of(task: TaskName) -> u64 {
    match task {
        TaskName::RefreshMvPortal => 1,
        TaskName::RefreshMapaCache => 2,
        TaskName::CalcularEstatisticas => 3,
        TaskName::HealthCheck => 4,
    }
}

fn moment(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

/// The least of `moments`, and where it stands; of equal ones the first.
fn least(moments: impl Iterator<Item = i64>) -> (usize, i64) {
    moments
        .enumerate()
        .fold((usize::MAX, i64::MAX), |least, (position, moment)| {
            if moment < least.1 { (position, moment) } else { least }
        })
}

#[cfg(test)]
mod tests;
