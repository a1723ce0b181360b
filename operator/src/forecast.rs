//! Pure: when what is public will be renewed, if runs go as they lately did.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::{policy::TaskName, status::TaskStatus};

use crate::{
    feasibility::Feasibility,
    fingerprint::Uid,
    pace::Pace,
    validate::{Plan, TaskPlan},
};

/// Time after a slot by which its Job must have been created, at least.
const SHORTEST_SLOT_GRACE: Duration = Duration::from_secs(40);
/// The same, at most.
pub const LONGEST_SLOT_GRACE: Duration = Duration::from_secs(60);

/// Time after a slot of the policy `uid` by which its Job must have been created. Slots are at whole minutes: where nothing fires them,
/// thousands of policies would have the same to tell in one second, and a breach of another would be told after them all.
#[must_use]
pub fn slot_grace(uid: Uid) -> Duration {
    SHORTEST_SLOT_GRACE + uid.share_of(LONGEST_SLOT_GRACE - SHORTEST_SLOT_GRACE)
}

/// A run that has not ended.
#[derive(Clone, Debug)]
pub struct ActiveRun {
    /// Its task.
    pub task: TaskName,
    /// When its Job was created.
    pub created: Timestamp,
    /// Name of the Job.
    pub job: Box<str>,
}

/// Everything that a forecast is made of.
#[derive(Clone, Copy, Debug)]
pub struct Forecast<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// The tasks as they stand.
    pub tasks: &'a [TaskStatus],
    /// What Kubernetes took around the last runs, in seconds.
    pub recent_start_seconds: &'a [i32],
    /// The runs that have not ended, or whose end is not understood yet.
    pub active: &'a [ActiveRun],
    /// The slots of the Jobs that exist.
    pub slots: &'a [(TaskName, Timestamp)],
    /// Time after a slot by which its Job must have been created.
    pub slot_grace: Duration,
    /// The time.
    pub now: Timestamp,
}

/// What the future of a policy is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    /// What is expected.
    pub forecast: Forecast<'a>,
    /// The tasks by which the policy is judged.
    pub documents: &'a [TaskName],
    /// The limit and what it allows.
    pub feasibility: &'a Feasibility,
    /// The first slot that passed without a Job.
    pub missed: Option<(TaskName, Timestamp)>,
}

impl Forecast<'_> {
    fn task(&self, name: TaskName) -> Option<(&TaskPlan, &TaskStatus, Pace)> {
        let plan = self.plan.task(name)?;
        let status = self.tasks.iter().find(|task| task.name == name)?;
        Some((plan, status, Pace::of(status, self.recent_start_seconds, plan)))
    }

    /// When a run has taken longer than one attempt may.
    #[must_use]
    pub fn overdue_at(&self, run: &ActiveRun) -> Timestamp {
        let seconds = self.task(run.task).map_or(0, |(plan, _, pace)| {
            pace.start_seconds + plan.attempt_timeout_seconds.min(plan.run_budget_seconds)
        });
        after(run.created, seconds)
    }

    /// Runs that can still be expected to end.
    pub fn healthy(&self) -> impl Iterator<Item = &ActiveRun> {
        self.active.iter().filter(|run| self.now <= self.overdue_at(run))
    }

    /// Runs that take longer than one attempt may.
    pub fn hung(&self) -> impl Iterator<Item = &ActiveRun> {
        self.active.iter().filter(|run| self.now > self.overdue_at(run))
    }

    /// When `document` is published again with newer data; `None` while nothing will do so.
    #[must_use]
    pub fn next_publication(&self, document: TaskName) -> Option<Timestamp> {
        let (plan, status, pace) = self.task(document)?;
        let ready = self.newer_view(document, status)?;
        // It waits for the view half of its budget; without a view there is nothing to wait for.
        let patience = if plan.view_lead_minutes.is_some() {
            pace.start_seconds + plan.run_budget_seconds / 2
        } else {
            u32::MAX
        };
        let running = self
            .healthy()
            .filter(|run| run.task == document && ready <= after(run.created, patience))
            .map(|run| after(ready.max(after(run.created, pace.start_seconds)), pace.run_seconds).max(self.now))
            .min();
        let scheduled = (!plan.suspended).then(|| {
            let mut slot = self.next_slot(plan, status);
            // No view takes longer than its own budget, which ends before its next slot.
            for _ in 0..3 {
                if ready <= after(slot, patience) {
                    break;
                }
                slot = plan.schedule.next_after(slot);
            }
            after(ready.max(after(slot, pace.start_seconds)), pace.run_seconds).max(self.now)
        });
        running.into_iter().chain(scheduled).min()
    }

    /// When the view holds data that is newer than what `document` published.
    fn newer_view(&self, document: TaskName, status: &TaskStatus) -> Option<Timestamp> {
        let Some((plan, view, pace)) = self.task(TaskName::RefreshMvPortal) else {
            return Some(self.now);
        };
        if document == TaskName::RefreshMvPortal || document == TaskName::HealthCheck {
            return Some(self.now);
        }
        if is_newer(view, status) {
            return Some(self.now);
        }
        let running = self
            .healthy()
            .filter(|run| run.task == TaskName::RefreshMvPortal)
            .map(|run| after(run.created, pace.total_seconds()).max(self.now))
            .min();
        let scheduled =
            (!plan.suspended).then(|| after(self.next_slot(plan, view), pace.total_seconds()).max(self.now));
        running.into_iter().chain(scheduled).min()
    }

    /// The next slot whose Job is still to come: one that passed less than the grace ago counts.
    fn next_slot(&self, plan: &TaskPlan, status: &TaskStatus) -> Timestamp {
        let last = plan.schedule.last_until(self.now);
        let is_pending = self.now < last.checked_add(self.slot_grace).unwrap_or(last)
            && status.schedule_since.as_ref().is_some_and(|since| since.0 < last)
            && self.newest_slot(status).is_none_or(|newest| newest < last);
        if is_pending {
            last
        } else {
            plan.schedule.next_after(self.now)
        }
    }

    /// The newest slot of `task` for which there is or was a Job.
    fn newest_slot(&self, task: &TaskStatus) -> Option<Timestamp> {
        self.slots
            .iter()
            .filter(|(name, _)| *name == task.name)
            .map(|(_, slot)| *slot)
            .chain(task.last_schedule_time.as_ref().map(|time| time.0))
            .max()
    }

    /// The first slot of `task` for which a Job should exist by now and neither it nor a later one has one.
    #[must_use]
    pub fn missed_slot(&self, task: TaskName) -> Option<Timestamp> {
        let (plan, status, _) = self.task(task)?;
        if plan.suspended {
            return None;
        }
        let began = status.schedule_since.as_ref().map(|since| since.0)?;
        let last = self.newest_slot(status).map_or(began, |newest| newest.max(began));
        let slot = plan.schedule.next_after(last);
        let due = slot.checked_add(self.slot_grace).ok()?;
        (self.now >= due).then_some(slot)
    }

    /// When it can be told next whether a slot of `task` was missed.
    #[must_use]
    pub fn next_slot_check(&self, task: TaskName) -> Option<Timestamp> {
        let plan = self.plan.task(task).filter(|plan| !plan.suspended)?;
        let due = self.now.checked_sub(self.slot_grace).ok()?;
        plan.schedule.next_after(due).checked_add(self.slot_grace).ok()
    }
}

/// Whether the view holds newer data than `document` published.
#[must_use]
pub fn is_newer(view: &TaskStatus, document: &TaskStatus) -> bool {
    let moment = |task: &TaskStatus| task.data_as_of.as_ref().map(|time| time.0);
    moment(view).is_some() && moment(view) > moment(document)
}

/// `moment` and `seconds` more.
#[must_use]
pub fn after(moment: Timestamp, seconds: u32) -> Timestamp {
    moment
        .checked_add(Duration::from_secs(u64::from(seconds)))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
