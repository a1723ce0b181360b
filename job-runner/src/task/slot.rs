//! The slot of a run, from the name of its Job.

use chrono::{DateTime, Utc};
use mapa_refresh_crds::policy::TaskName;

use crate::settings::cron_job;

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
        let now = slot.to_utc() + chrono::Duration::seconds(20);
        assert!(slot.is_met_by(20.0, now));
        assert!(slot.is_met_by(0.5, now));
        assert!(!slot.is_met_by(20.5, now));
    }
}
