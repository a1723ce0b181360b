//! The slot of a run, from the name of its Job.

use chrono::{DateTime, Duration, Utc};
use mapa_refresh_crds::policy::TaskName;

use crate::settings::cron_job;

/// Between a slot and the start of its run: the pod has to be placed and its image is there.
const START_ALLOWANCE: Duration = Duration::seconds(10);

/// Digits of a slot: the minutes since 1970 have eight from 1989 to 2160. A Job made by hand may end in a number, too.
const DIGITS: usize = 8;

/// A minute at which Kubernetes was to start a run, in minutes since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    /// The slot of the Job called `job`: `<policy>-<task>-<minutes since 1970>`, as the CronJob controller names it. `None`
    /// for any other name.
    #[must_use]
    pub fn of_job(job: &str, policy: Option<&str>, task: TaskName) -> Option<Self> {
        let (cron, minutes) = job.rsplit_once('-')?;
        if cron_job(policy, task).is_some_and(|expected| expected != cron) {
            return None;
        }
        let digits = minutes.len() == DIGITS && minutes.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| minutes.parse().ok().map(Self))?
    }

    /// The slot `minutes` before.
    #[must_use]
    pub fn earlier_by(self, minutes: u32) -> Self {
        Self(self.0.saturating_sub(minutes))
    }

    /// By how much the wall clock at hand is behind the one that fires the slots, as far as the run can tell: none starts before
    /// its slot, so a clock that says otherwise, at `started`, is behind. Some seconds more, for the run did not start at the
    /// very slot either.
    #[must_use]
    pub fn clock_lag(self, started: DateTime<Utc>) -> Duration {
        let behind = self.to_utc() - started;
        if behind > Duration::zero() {
            behind + START_ALLOWANCE
        } else {
            Duration::zero()
        }
    }

    /// The moment of the slot.
    #[must_use]
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp(i64::from(self.0) * 60, 0).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Whether a view that is `age_seconds` old at `now` was refreshed at or after this slot.
    ///
    /// The age comes from the database's clock, slot and `now` from Kubernetes' clocks: an age carries over from one clock to
    /// another, a stamp would not when they stand minutes apart.
    #[must_use]
    pub fn is_met_by(self, age_seconds: f64, now: DateTime<Utc>) -> bool {
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds since the slot are far below 2^53"
        )]
        let since_slot = (now - self.to_utc()).num_milliseconds() as f64 / 1e3;
        age_seconds <= since_slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controllers_names_have_a_slot_and_others_have_none() {
        let slot = |job| Slot::of_job(job, Some("roraima"), TaskName::RefreshMvPortal);
        assert_eq!(slot("roraima-refresh-mv-portal-29924340"), Some(Slot(29_924_340)));
        assert_eq!(Slot(29_924_340).to_utc().to_rfc3339(), "2026-11-23T19:00:00+00:00");
        for job in [
            "roraima-refresh-mv-portal-1",
            "roraima-refresh-mv-portal-2992434x",
            "roraima-refresh-mv-portal-",
            "roraima-refresh-mv-portal-rescue-29924340",
            "other-refresh-mv-portal-29924340",
            "29924340",
            "",
        ] {
            assert_eq!(slot(job), None, "{job:?}");
        }
        assert!(Slot::of_job("x-29924340", None, TaskName::HealthCheck).is_some());
    }

    #[test]
    fn a_slot_is_met_by_age_whatever_the_databases_clock_says() {
        let slot = Slot(29_924_340);
        let now = slot.to_utc() + Duration::seconds(20);
        assert!(slot.is_met_by(20.0, now));
        assert!(slot.is_met_by(0.5, now));
        assert!(!slot.is_met_by(20.5, now));
    }

    #[test]
    fn a_pod_whose_clock_is_minutes_behind_does_not_wait_for_a_refresh_that_it_has() {
        let view_slot = Slot(29_924_340);
        let own_slot = Slot(29_924_341);
        let started = own_slot.to_utc() + Duration::seconds(3) - Duration::minutes(5);
        let lag = own_slot.clock_lag(started);
        // Refreshed 2 s after the view's slot: 61 s before this run's start.
        assert!(view_slot.is_met_by(61.0, started + lag));
        // The refresh of the slot before, at an interval of one minute.
        assert!(!view_slot.is_met_by(121.0, started + lag));
        assert_eq!(
            own_slot.clock_lag(own_slot.to_utc() + Duration::seconds(3)),
            Duration::zero()
        );
    }
}
