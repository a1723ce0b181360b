//! Pure: how long runs take, learned from the last ones.

use mapa_refresh_crds::{
    policy::TaskName,
    status::{MAX_OBSERVED_RUNS, TaskStatus},
};

use crate::validate::TaskPlan;

/// Seconds from a slot to the end of its Job, without the run itself, until enough was observed: creating the Job, placing the pod,
/// perhaps pulling the image, and telling the end.
pub const START_ALLOWANCE_SECONDS: u32 = 30;

/// Seconds that a run of the view, and one of another task, may be expected to take until enough was observed.
const VIEW_RUN_SECONDS: u32 = 60;
const RUN_SECONDS: u32 = 30;

/// Runs after which what was observed is believed.
const ENOUGH: usize = 3;

/// What is expected of the next run of a task, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What Kubernetes takes around the run.
    pub start_seconds: u32,
    /// What the run takes when its first attempt succeeds.
    pub run_seconds: u32,
}

impl Pace {
    /// The pace before anything was observed; no run is longer than one attempt may take.
    #[must_use]
    pub fn configured(plan: &TaskPlan) -> Self {
        let run_seconds = match plan.name {
            TaskName::RefreshMvPortal => VIEW_RUN_SECONDS,
            TaskName::RefreshMapaCache | TaskName::CalcularEstatisticas | TaskName::HealthCheck => RUN_SECONDS,
        };
        Self {
            start_seconds: START_ALLOWANCE_SECONDS,
            run_seconds: run_seconds.min(plan.attempt_timeout_seconds),
        }
    }

    /// The pace of `task`, whose runs start as `recent_start_seconds` says: the 95th percentile of what was observed, where that is
    /// enough.
    #[must_use]
    pub fn of(task: &TaskStatus, recent_start_seconds: &[i32], plan: &TaskPlan) -> Self {
        let configured = Self::configured(plan);
        Self {
            start_seconds: percentile_95(recent_start_seconds).unwrap_or(configured.start_seconds),
            // What was observed under longer timeouts says nothing about runs that are cut off earlier.
            run_seconds: percentile_95(&task.recent_run_seconds).map_or(configured.run_seconds, |seconds| {
                seconds.min(plan.attempt_timeout_seconds)
            }),
        }
    }

    /// Both together.
    #[must_use]
    pub fn total_seconds(self) -> u32 {
        self.start_seconds + self.run_seconds
    }
}

/// Puts the newest observation first and drops the oldest.
pub fn remember(observed: &mut Vec<i32>, seconds: i64) {
    observed.insert(0, i32::try_from(seconds.max(0)).unwrap_or(i32::MAX));
    observed.truncate(MAX_OBSERVED_RUNS);
}

/// Nearest rank, at least a second. Of fewer than twenty observations that is the longest, and no more are kept.
fn percentile_95(observed: &[i32]) -> Option<u32> {
    const { assert!(MAX_OBSERVED_RUNS < 20, "the longest is no longer the 95th percentile") };
    if observed.len() < ENOUGH {
        return None;
    }
    observed
        .iter()
        .take(MAX_OBSERVED_RUNS)
        .map(|seconds| seconds.unsigned_abs().max(1))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_learned_from_fewer_than_three_runs() {
        assert_eq!(percentile_95(&[]), None);
        assert_eq!(percentile_95(&[5, 5]), None);
        assert_eq!(percentile_95(&[1, 9, 2]), Some(9));
    }

    #[test]
    fn an_outlier_counts_until_twelve_runs_later() {
        let mut observed = vec![3; 5];
        remember(&mut observed, 900);
        for _ in 0..11 {
            assert_eq!(percentile_95(&observed), Some(900));
            remember(&mut observed, 3);
        }
        remember(&mut observed, 3);
        assert_eq!(percentile_95(&observed), Some(3));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_newest_first() {
        let mut observed = Vec::new();
        for seconds in 0..50 {
            remember(&mut observed, seconds);
        }
        assert_eq!((observed.len(), observed[0], observed[11]), (12, 49, 38));
        remember(&mut observed, -7);
        assert_eq!(observed[0], 0);
    }
}
