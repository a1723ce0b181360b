//! Pure: from an interval to the minutes of the hour at which a task runs.
//!
//! CronJobs list their minutes and say `timeZone: Etc/UTC`: the list repeats every hour, so no change of clocks can double
//! or skip a slot (kubernetes#121594), and the largest gap can be proved. A step such as `*/25` could not hold its
//! interval: it starts again at minute 0.

use std::{fmt, time::Duration};

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::policy::{LEGAL_LIMIT_MINUTES, TaskName};
use sha2::{Digest, Sha256};

const MINUTES_PER_HOUR: u32 = 60;

/// Minutes between two runs, 1 to 30: a longer one cannot be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(u32);

impl Interval {
    /// The nearest interval that the law allows.
    #[must_use]
    pub fn clamped(minutes: i32) -> Self {
        Self(minutes.clamp(1, LEGAL_LIMIT_MINUTES).unsigned_abs())
    }

    /// In minutes, 1 to 30.
    #[must_use]
    pub fn minutes(self) -> u32 {
        self.0
    }

    /// As a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * 60)
    }
}

/// The minute slot of a policy, by a stable hash of its name: policies spread evenly over the interval, so that neither the
/// database nor the CronJob controller meets them all at once.
#[must_use]
pub fn policy_offset(namespace: &str, name: &str, interval: Interval) -> u32 {
    let digest = Sha256::new()
        .chain_update(namespace)
        .chain_update([0])
        .chain_update(name)
        .finalize();
    let hash = digest
        .iter()
        .take(4)
        .fold(0_u32, |hash, byte| hash << 8 | u32::from(*byte));
    hash % interval.minutes()
}

/// Minutes by which a task's slot lies after the view's: first the view, then what is built from it, then the check. Within
/// the interval, so with an interval of 1 all start together and the runner holds the order.
#[must_use]
pub fn lead_minutes(task: TaskName, interval: Interval) -> u32 {
    let lead = match task {
        TaskName::RefreshMvPortal => 0,
        TaskName::RefreshMapaCache | TaskName::CalcularEstatisticas => 1,
        TaskName::HealthCheck => 2,
    };
    lead % interval.minutes()
}

/// The schedules of a policy that names no tasks and whose credentials are not rejected.
#[must_use]
pub fn default_schedules(namespace: &str, name: &str, interval: Interval) -> Vec<Schedule> {
    let offset = policy_offset(namespace, name, interval);
    let of_task = |task| Schedule::every(interval, offset + lead_minutes(task, interval));
    TaskName::DEFAULT.map(of_task).into()
}

/// The minutes of every hour, UTC, at which a task runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Bit `m` is minute `m`. Never zero.
    minutes: u64,
}

impl Schedule {
    /// Slots spread evenly over the hour, at most `interval` apart, shifted by `offset` minutes.
    ///
    /// An hour takes the smallest number of slots whose largest gap fits; they differ by at most a minute.
    #[must_use]
    pub fn every(interval: Interval, offset: u32) -> Self {
        let slots = MINUTES_PER_HOUR.div_ceil(interval.minutes());
        let minutes = (0..slots)
            .map(|slot| (slot * MINUTES_PER_HOUR / slots + offset) % MINUTES_PER_HOUR)
            .fold(0, |minutes, minute| minutes | 1 << minute);
        Self { minutes }
    }

    /// One slot an hour.
    #[must_use]
    pub fn hourly(offset: u32) -> Self {
        Self {
            minutes: 1 << (offset % MINUTES_PER_HOUR),
        }
    }

    /// Minutes of the hour, ascending.
    pub fn minutes(self) -> impl Iterator<Item = u32> {
        (0..MINUTES_PER_HOUR).filter(move |minute| self.minutes >> minute & 1 == 1)
    }

    /// Longest time between two slots, in minutes, the turn of the hour included.
    #[must_use]
    pub fn largest_gap_minutes(self) -> u32 {
        let first = self.minutes().next().unwrap_or_default();
        let following = self.minutes().skip(1).chain([first + MINUTES_PER_HOUR]);
        self.minutes()
            .zip(following)
            .map(|(slot, next)| next - slot)
            .max()
            .unwrap_or(MINUTES_PER_HOUR)
    }

    /// Whether `moment` is one of the slots.
    #[must_use]
    pub fn has_slot_at(self, moment: Timestamp) -> bool {
        self.last_until(moment) == moment
    }

    /// Last slot at or before `moment`.
    #[must_use]
    pub fn last_until(self, moment: Timestamp) -> Timestamp {
        let minute = moment.as_second().div_euclid(60);
        let last = (0..i64::from(MINUTES_PER_HOUR))
            .map(|step| minute.saturating_sub(step))
            .find(|minute| self.minutes >> minute.rem_euclid(60) & 1 == 1)
            .unwrap_or(minute);
        Timestamp::from_second(last.saturating_mul(60)).unwrap_or(moment)
    }

    /// First slot after `now`.
    #[must_use]
    pub fn next_after(self, now: Timestamp) -> Timestamp {
        let minute_now = now.as_second().div_euclid(60);
        let next = (1..=i64::from(MINUTES_PER_HOUR))
            .map(|step| minute_now.saturating_add(step))
            .find(|minute| self.minutes >> minute.rem_euclid(60) & 1 == 1)
            .unwrap_or(minute_now);
        Timestamp::from_second(next.saturating_mul(60)).unwrap_or(now)
    }
}

impl fmt::Display for Schedule {
    /// Five cron fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.minutes().count() == MINUTES_PER_HOUR as usize {
            return f.write_str("* * * * *");
        }
        for (position, minute) in self.minutes().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{minute}")?;
        }
        f.write_str(" * * * *")
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn intervals() -> impl Iterator<Item = Interval> {
        (1..=30).map(Interval::clamped)
    }

    /// Independent of `largest_gap_minutes`: walks two days minute by minute over the text that Kubernetes gets.
    fn largest_gap_walked(cron: &str) -> u32 {
        let list = cron.strip_suffix(" * * * *").unwrap();
        let fires = |minute: u32| list == "*" || list.split(',').any(|m| m.parse() == Ok(minute % 60));
        let slots: Vec<u32> = (0..2 * 24 * 60).filter(|minute| fires(*minute)).collect();
        slots.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
    }

    #[test]
    fn promise_2_the_largest_gap_never_exceeds_the_interval_for_every_interval_and_offset() {
        for interval in intervals() {
            for offset in 0..60 {
                let schedule = Schedule::every(interval, offset);
                let gap = largest_gap_walked(&schedule.to_string());
                assert!(
                    gap <= interval.minutes(),
                    "interval {} offset {offset}: {schedule} has a gap of {gap}",
                    interval.minutes()
                );
                assert_eq!(gap, schedule.largest_gap_minutes());
            }
        }
    }

    #[test]
    fn i11_an_interval_above_the_legal_limit_is_run_at_30_minutes() {
        for minutes in [31, 60, i32::MAX] {
            assert_eq!(Interval::clamped(minutes).minutes(), 30);
        }
        for minutes in [0, -1, i32::MIN] {
            assert_eq!(Interval::clamped(minutes).minutes(), 1);
        }
    }

    #[test]
    fn no_slot_more_than_needed_is_used() {
        for interval in intervals() {
            let slots = u32::try_from(Schedule::every(interval, 7).minutes().count()).unwrap();
            assert!(
                (slots - 1) * interval.minutes() < 60,
                "interval {}: {slots} slots",
                interval.minutes()
            );
        }
    }

    #[test]
    fn lesson_04_the_view_comes_first_and_what_is_built_from_it_a_minute_later() {
        for interval in intervals().skip(1) {
            for offset in 0..interval.minutes() {
                let at = |task| Schedule::every(interval, offset + lead_minutes(task, interval));
                let view = at(TaskName::RefreshMvPortal);
                for task in [TaskName::RefreshMapaCache, TaskName::CalcularEstatisticas] {
                    let after: Vec<u32> = at(task).minutes().map(|minute| (minute + 59) % 60).collect();
                    assert!(
                        view.minutes().all(|minute| after.contains(&minute)),
                        "interval {}",
                        interval.minutes()
                    );
                }
            }
        }
    }

    #[test]
    fn policies_spread_over_all_slots_and_stay_where_they_are() {
        let interval = Interval::clamped(10);
        let mut slots = BTreeMap::new();
        for policy in 0..1_000 {
            *slots
                .entry(policy_offset("radar", &format!("policy-{policy}"), interval))
                .or_insert(0) += 1;
        }
        assert_eq!(slots.len(), 10);
        assert!(slots.values().all(|count| (60..=140).contains(count)), "{slots:?}");
        assert_eq!(
            policy_offset("radar", "roraima", interval),
            policy_offset("radar", "roraima", interval)
        );
        assert_ne!(
            (0..60)
                .map(|i| policy_offset("a", &i.to_string(), interval))
                .collect::<Vec<_>>(),
            (0..60)
                .map(|i| policy_offset("b", &i.to_string(), interval))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_next_slot_is_the_first_after_now() {
        let schedule = Schedule::every(Interval::clamped(25), 3);
        assert_eq!(schedule.to_string(), "3,23,43 * * * *");
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(
            schedule.next_after(at("2026-11-23T10:03:00Z")),
            at("2026-11-23T10:23:00Z")
        );
        assert_eq!(
            schedule.next_after(at("2026-11-23T10:02:59.9Z")),
            at("2026-11-23T10:03:00Z")
        );
        assert_eq!(
            schedule.next_after(at("2026-12-31T23:43:00Z")),
            at("2027-01-01T00:03:00Z")
        );
    }
}
