//! Pure: how old what the public sees is, and until when that is within the limit.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::{
    policy::TaskName,
    status::{CompliantReason, ConditionType, TaskStatus},
};

use crate::{
    conditions::Verdict,
    outcome::{REPORT_FOREIGN, REPORT_FROM_FUTURE, UNTRUSTED_POD},
    records::{REPORT_MALFORMED, REPORT_MISSING},
};

/// The tasks by which a policy is judged.
///
/// The map and the statistics are public. A policy that publishes neither is judged by the data tasks it has, or else by
/// what its health-check finds.
pub fn judged(tasks: &[TaskStatus]) -> impl Iterator<Item = &TaskStatus> {
    let publishes = tasks.iter().any(|task| task.name.publishes());
    let has_data = tasks.iter().any(|task| task.name.is_data_task());
    tasks.iter().filter(move |task| {
        if publishes {
            task.name.publishes()
        } else {
            task.name.is_data_task() || !has_data
        }
    })
}

/// The task whose data is the oldest of what is published, and the moment at which that was true; `None` while something that should
/// be published never was.
#[must_use]
pub fn oldest(tasks: &[TaskStatus]) -> Option<(TaskName, Timestamp)> {
    let moments: Option<Vec<_>> = judged(tasks)
        .map(|task| task.data_as_of.as_ref().map(|time| (task.name, time.0)))
        .collect();
    moments?.into_iter().min_by_key(|(_, moment)| *moment)
}

/// Moment at which the oldest of what is published was true.
#[must_use]
pub fn data_as_of(tasks: &[TaskStatus]) -> Option<Timestamp> {
    oldest(tasks).map(|(_, moment)| moment)
}

/// Last moment at which the published data is young enough.
#[must_use]
pub fn compliant_until(data_as_of: Timestamp, max_data_age: Duration) -> Timestamp {
    data_as_of.checked_add(max_data_age).unwrap_or(Timestamp::MAX)
}

/// `Compliant`: whether the published data is within the limit at `now`.
#[must_use]
pub fn verdict(tasks: &[TaskStatus], max_data_age: Duration, suspended: bool, now: Timestamp) -> Verdict {
    let (holds, reason, message) = match oldest(tasks) {
        Some((oldest, data_as_of)) => {
            let until = compliant_until(data_as_of, max_data_age);
            let limit = max_data_age.as_secs() / 60;
            if now <= until {
                let message = format!(
                    "the oldest of what is published ({oldest}) was true at {data_as_of} and is within the limit of {limit} min until {until}"
                );
                (true, CompliantReason::Fresh, message)
            } else {
                let reason = why_too_old(tasks, max_data_age, suspended, now);
                let message = format!(
                    "the oldest of what is published ({oldest}) was true at {data_as_of} and exceeded the limit of {limit} min of REN \
                     1.137/2025 Art. 106 at {until}{}{}",
                    advice(reason),
                    blame(tasks)
                );
                (false, reason, message)
            }
        }
        None if tasks
            .iter()
            .any(|task| task.name.publishes() && task.data_as_of.is_none() && task.last_success_time.is_some()) =>
        {
            (
                false,
                CompliantReason::PublishedDataLost,
                "a health-check found a published document missing; the next run publishes it again".to_owned(),
            )
        }
        None => {
            let reason = match unbelieved(tasks) {
                Some(reason) => reason,
                None => CompliantReason::NeverPublished,
            };
            (
                false,
                reason,
                format!("nothing was published yet{}{}", advice(reason), blame(tasks)),
            )
        }
    };
    Verdict {
        type_: ConditionType::Compliant,
        holds,
        reason: reason.as_str(),
        message,
    }
}

/// Why the limit is exceeded, the most telling first.
fn why_too_old(tasks: &[TaskStatus], max_data_age: Duration, suspended: bool, now: Timestamp) -> CompliantReason {
    if suspended {
        return CompliantReason::SuspendedByPolicy;
    }
    if let Some(reason) = unbelieved(tasks) {
        return reason;
    }
    let within = |moment: Timestamp| now <= compliant_until(moment, max_data_age);
    let too_old = || judged(tasks).filter(|task| task.data_as_of.as_ref().is_some_and(|time| !within(time.0)));
    let by_another_clock = too_old().all(|task| {
        let skew = task.clock_skew_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        skew.zip(task.data_as_of.as_ref())
            .is_some_and(|(skew, time)| within(time.0.checked_add(Duration::from_secs(skew)).unwrap_or(Timestamp::MAX)))
    });
    if by_another_clock {
        return CompliantReason::ClockSkew;
    }
    // What was published last was half used up already: it was not the publishing that failed.
    let was_stale = |task: &TaskStatus| {
        let published = task.last_success_time.as_ref().map(|time| time.0);
        let half = task
            .data_as_of
            .as_ref()
            .map(|time| compliant_until(time.0, max_data_age / 2));
        task.name.publishes() && task.last_error.is_none() && published > half
    };
    if too_old().all(was_stale) {
        CompliantReason::SourceStale
    } else {
        CompliantReason::DataTooOld
    }
}

/// Whether the last run of a judged task left nothing that can be believed.
fn unbelieved(tasks: &[TaskStatus]) -> Option<CompliantReason> {
    judged(tasks).find_map(|task| match task.last_error.as_ref()?.code.as_str() {
        REPORT_MISSING | REPORT_MALFORMED | REPORT_FOREIGN | UNTRUSTED_POD => Some(CompliantReason::EvidenceMissing),
        REPORT_FROM_FUTURE => Some(CompliantReason::ClockSkew),
        _ => None,
    })
}

fn advice(reason: CompliantReason) -> &'static str {
    match reason {
        CompliantReason::SuspendedByPolicy => {
            ", while the policy is suspended: the time counts; set spec.suspend to false"
        }
        CompliantReason::SourceStale => {
            "; documents are published, but from a view that is not refreshed: look at refresh-mv-portal, or at who else refreshes the view"
        }
        CompliantReason::ClockSkew => "; clocks are apart: synchronise database, nodes and operator by NTP",
        CompliantReason::EvidenceMissing => "; what the last run published is not proved",
        CompliantReason::Fresh
        | CompliantReason::DataTooOld
        | CompliantReason::NeverPublished
        | CompliantReason::PublishedDataLost
        | CompliantReason::Undecodable => "",
    }
}

/// The last error of the first task in the chain that fails.
fn blame(tasks: &[TaskStatus]) -> String {
    tasks
        .iter()
        .find_map(|task| {
            let error = task.last_error.as_ref()?;
            Some(format!(
                "; {} failed {} times in a row: {}: {}",
                task.name, task.consecutive_failures, error.code, error.message
            ))
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{conditions::whole_seconds, status::blank_task};

    const LIMIT: Duration = Duration::from_secs(1_800);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn task(name: TaskName, data_as_of: Option<i64>) -> TaskStatus {
        TaskStatus {
            data_as_of: data_as_of.map(|second| whole_seconds(at(second))),
            ..blank_task(name)
        }
    }

    #[test]
    fn promise_3_compliant_flips_at_its_moment_neither_early_nor_late() {
        let tasks = [
            task(TaskName::RefreshMapaCache, Some(1_000)),
            task(TaskName::CalcularEstatisticas, Some(1_100)),
        ];
        assert!(verdict(&tasks, LIMIT, false, at(2_800)).holds);
        let late = verdict(&tasks, LIMIT, false, at(2_800) + Duration::from_millis(1));
        assert!(!late.holds && late.reason == "DataTooOld" && late.message.contains("REN 1.137"));
    }

    #[test]
    fn the_oldest_of_what_is_public_counts_and_the_view_itself_is_not_public() {
        let tasks = [
            task(TaskName::RefreshMvPortal, Some(1)),
            task(TaskName::RefreshMapaCache, Some(1_000)),
            task(TaskName::CalcularEstatisticas, Some(900)),
        ];
        assert_eq!(data_as_of(&tasks), Some(at(900)));
        assert_eq!(data_as_of(&tasks[..1]), Some(at(1)));
        assert_eq!(data_as_of(&[]), None);
    }

    #[test]
    fn i4_without_evidence_for_every_document_nothing_is_compliant() {
        let half = [
            task(TaskName::RefreshMapaCache, Some(1_000)),
            task(TaskName::CalcularEstatisticas, None),
        ];
        assert_eq!(verdict(&half, LIMIT, false, at(1_000)).reason, "NeverPublished");
        let mut lost = half;
        lost[1].last_success_time = Some(whole_seconds(at(990)));
        assert_eq!(verdict(&lost, LIMIT, false, at(1_000)).reason, "PublishedDataLost");
    }
}
