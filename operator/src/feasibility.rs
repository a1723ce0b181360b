//! Pure: whether a policy can hold its limit at all, as a sum.
//!
//! The worst age of what is public is reached just before a publication: the largest gap between two slots, and everything that can pass from
//! a slot to the publication of its data while every run still succeeds. A run that fails altogether costs one gap more; how many
//! of those in a row are survived stands beside the sum. Why the sum is never too small: docs/concepts/feasible.md.

use std::fmt::{self, Write};

use mapa_refresh_crds::{
    policy::{LEGAL_LIMIT_MINUTES, TaskName},
    status::{ConditionType, FeasibleReason, TaskStatus},
};

use crate::{
    conditions::Verdict,
    pace::Pace,
    schedule::{Interval, Schedule, lead_minutes},
    validate::{Plan, TaskPlan, run_budget_seconds},
};

/// One task in the sum.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The task's numbers.
    pub plan: TaskPlan,
    /// What is expected of its runs.
    pub pace: Pace,
}

/// The sum for one interval, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorstCase {
    /// Largest gap between two slots.
    pub gap: u32,
    /// One gap more: the view may be refreshed later than what is built from it waits, so that its data is published a slot later.
    pub stale_gap: u32,
    /// From the slot to the start of the first run.
    pub start: u32,
    /// What retries and their delays can add to the view's run, and to the run of what is built from it.
    pub retries: u32,
    /// The runs themselves, at the pace that is expected.
    pub run: u32,
    /// What caches after ours add.
    pub downstream: u32,
    /// The part of it that is reached when every run succeeds at once.
    pub usual: u32,
}

impl WorstCase {
    /// All of it.
    #[must_use]
    pub fn total(self) -> u32 {
        let Self {
            gap,
            stale_gap,
            start,
            retries,
            run,
            downstream,
            usual: _,
        } = self;
        gap + stale_gap + start + retries + run + downstream
    }
}

impl fmt::Display for WorstCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s gap", self.gap)?;
        if self.stale_gap > 0 {
            write!(
                f,
                " + {} s gap (the view can outlast the map's wait for it)",
                self.stale_gap
            )?;
        }
        write!(
            f,
            " + {} s start + {} s retries + {} s run",
            self.start, self.retries, self.run
        )?;
        if self.downstream > 0 {
            write!(f, " + {} s downstream caches", self.downstream)?;
        }
        write!(f, " = {} s", self.total())
    }
}

/// What a policy's limit allows and needs.
#[derive(Clone, Debug)]
pub struct Feasibility {
    /// The sum at the policy's own interval.
    pub worst: WorstCase,
    /// The limit, in seconds, what caches after ours add not taken off.
    pub limit: u32,
    /// Failed runs in a row that are survived when the next succeeds at once.
    pub survives: u32,
    /// The largest interval, in minutes, whose worst case fits.
    pub largest_interval: Option<u32>,
    /// Retries that are allowed, but have no room when every attempt takes its whole time: task, those that fit, those allowed.
    pub cut_retries: Vec<(TaskName, u32, u32)>,
}

/// Judges `plan` at the paces seen in `tasks` and `recent_start_seconds`.
#[must_use]
pub fn feasibility(plan: &Plan, tasks: &[TaskStatus], recent_start_seconds: &[i32]) -> Feasibility {
    let members: Vec<Member> = plan
        .tasks
        .iter()
        .map(|task| {
            let seen = tasks.iter().find(|seen| seen.name == task.name);
            Member {
                plan: *task,
                pace: seen.map_or_else(
                    || Pace::configured(task),
                    |seen| Pace::of(seen, recent_start_seconds, task),
                ),
            }
        })
        .collect();
    let gap_seconds = plan
        .tasks
        .iter()
        .filter(|task| task.name.is_data_task())
        .map(|task| task.schedule.largest_gap_minutes() * 60)
        .max()
        .unwrap_or(plan.interval.minutes() * 60);
    let downstream = plan.downstream_seconds;
    let limit = u32::try_from(plan.max_data_age.as_secs()).unwrap_or(u32::MAX) + downstream;
    let worst = worst_case(&members, plan.interval, gap_seconds, downstream);
    let usual = worst.usual;
    Feasibility {
        worst,
        limit,
        survives: limit.saturating_sub(usual) / gap_seconds.max(1),
        largest_interval: (1..=LEGAL_LIMIT_MINUTES)
            .rev()
            .map(Interval::clamped)
            .find(|interval| {
                let gap = Schedule::every(*interval, 0).largest_gap_minutes() * 60;
                worst_case(&members, *interval, gap, downstream).total() <= limit
            })
            .map(Interval::minutes),
        cut_retries: members
            .iter()
            .filter_map(|member| {
                let fit = retries_that_fit(&member.plan);
                (fit < member.plan.max_retries).then_some((member.plan.name, fit, member.plan.max_retries))
            })
            .collect(),
    }
}

/// Retries of which even the last can begin when each attempt before it took its whole time.
fn retries_that_fit(task: &TaskPlan) -> u32 {
    let step = task.attempt_timeout_seconds + task.retry_delay_seconds;
    (task.run_budget_seconds / step.max(1)).min(task.max_retries)
}

/// The longest time from a run's start to its success: every attempt takes as long as is expected of one, and the last succeeds.
fn longest_run(member: &Member, budget: u32) -> u32 {
    let TaskPlan {
        max_retries,
        retry_delay_seconds,
        ..
    } = member.plan;
    let run = member.pace.run_seconds;
    (max_retries * (run + retry_delay_seconds) + run).min(budget)
}

/// A waiting run looks at the view twice a second: what it sees is at most this late, and its last look this early.
const LOOK_SECONDS: u32 = 1;

/// The sum at `interval`.
///
/// The map and the statistics start their lead after the view and wait for it at most half of their budget. A view that is refreshed in
/// time for that is public in its own slot. One that is later is public in the next one, whose runs publish it as soon as they start.
#[must_use]
pub fn worst_case(members: &[Member], interval: Interval, gap_seconds: u32, downstream: u32) -> WorstCase {
    let budget = run_budget_seconds(interval);
    let view = members
        .iter()
        .find(|member| member.plan.name == TaskName::RefreshMvPortal);
    let built: Vec<&Member> = members.iter().filter(|member| member.plan.name.publishes()).collect();
    let start = members
        .iter()
        .filter(|member| member.plan.name.is_data_task() || built.is_empty())
        .map(|member| member.pace.start_seconds)
        .max()
        .unwrap_or(crate::pace::START_ALLOWANCE_SECONDS);
    let slowest = |members: &[&Member]| {
        let slowest = members.iter().max_by_key(|member| longest_run(member, budget));
        slowest.map(|member| **member)
    };
    let alone = match view {
        Some(view) if !built.is_empty() => {
            let fixed = Fixed {
                gap_seconds,
                start,
                downstream,
            };
            return of_view_and_built(view, &built, interval, fixed);
        }
        Some(view) => Some(*view),
        None if !built.is_empty() => slowest(&built),
        // The health-check: what it finds is judged.
        None => slowest(&members.iter().collect::<Vec<_>>()),
    };
    let run = alone.map_or(0, |member| member.pace.run_seconds.min(budget));
    let longest = alone.map_or(0, |member| longest_run(&member, budget));
    WorstCase {
        gap: gap_seconds,
        stale_gap: 0,
        start,
        retries: longest - run,
        run,
        downstream,
        usual: gap_seconds + start + run + downstream,
    }
}

/// What does not depend on runs, in seconds.
#[derive(Clone, Copy)]
struct Fixed {
    gap_seconds: u32,
    start: u32,
    downstream: u32,
}

fn of_view_and_built(view: &Member, built: &[&Member], interval: Interval, fixed: Fixed) -> WorstCase {
    let Fixed {
        gap_seconds,
        start,
        downstream,
    } = fixed;
    let budget = run_budget_seconds(interval);
    let lead = 60
        * built
            .iter()
            .map(|member| lead_minutes(member.plan.name, interval))
            .max()
            .unwrap_or(0);
    let (view_run, view_longest) = (view.pace.run_seconds.min(budget), longest_run(view, budget));
    let built_run = built
        .iter()
        .map(|member| member.pace.run_seconds.min(budget))
        .max()
        .unwrap_or(0);
    let built_longest = built
        .iter()
        .map(|member| longest_run(member, budget))
        .max()
        .unwrap_or(0);
    // The view may start late and what is built from it early. What was left over from the slot before is published first.
    let is_a_slot_late = |view_takes: u32| {
        let met_after = (start + view_takes + LOOK_SECONDS).saturating_sub(lead);
        met_after > budget / 2 || met_after.max(built_run) + built_run >= budget
    };
    // From the slot, starts not counted, to the publication of the data of this slot, or of the one before.
    let public_after = |view_takes: u32, built_takes: u32| {
        if is_a_slot_late(view_takes) {
            return lead + built_takes;
        }
        let begins = (view_takes + LOOK_SECONDS).max(lead);
        // The build's own budget runs from its own start.
        (begins + built_takes).min(lead + budget)
    };
    let gap_of = |view_takes: u32| if is_a_slot_late(view_takes) { gap_seconds } else { 0 };
    let usual = public_after(view_run, built_run);
    let stale_gap = gap_of(view_longest);
    let all = public_after(view_longest, built_longest);
    let run = usual.min(all);
    WorstCase {
        gap: gap_seconds,
        stale_gap,
        start,
        retries: all - run,
        run,
        downstream,
        usual: gap_seconds + gap_of(view_run) + start + usual + downstream,
    }
}

/// `Feasible`: whether the limit holds even when every retry is needed.
#[must_use]
pub fn verdict(plan: &Plan, feasibility: &Feasibility) -> Verdict {
    let Feasibility {
        worst,
        limit,
        survives,
        largest_interval,
        cut_retries,
    } = feasibility;
    let reason = if worst.total() <= *limit {
        FeasibleReason::WithinLimit
    } else if worst.usual <= *limit {
        FeasibleReason::RetriesExceedLimit
    } else {
        FeasibleReason::IntervalExceedsLimit
    };
    let runs = if *survives == 1 { "run" } else { "runs" };
    let mut message = format!("{worst} of {limit} s; survives {survives} failed {runs} in a row; ");
    // Writing into a String cannot fail.
    let _ = match largest_interval {
        Some(minutes) if *minutes == plan.interval.minutes() => {
            write!(message, "the interval is the largest that fits")
        }
        Some(minutes) => write!(message, "largest interval that fits: {minutes}"),
        None => write!(
            message,
            "no interval fits: lower attemptTimeoutSeconds, retryDelaySeconds or maxRetries"
        ),
    };
    for (task, fit, allowed) in cut_retries {
        let _ = write!(
            message,
            "; of {allowed} retries of {task} {fit} fit into a run when attempts take their whole time"
        );
    }
    Verdict {
        type_: ConditionType::Feasible,
        holds: reason == FeasibleReason::WithinLimit,
        reason: reason.as_str(),
        message,
    }
}

/// `Feasible` of a policy that cannot be carried out.
#[must_use]
pub fn not_carried_out() -> Verdict {
    Verdict {
        type_: ConditionType::Feasible,
        holds: false,
        reason: FeasibleReason::NotCarriedOut.as_str(),
        message: "the policy cannot be carried out as written: see Ready".to_owned(),
    }
}

#[cfg(test)]
mod tests;
