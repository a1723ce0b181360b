//! Pure: how old what the public sees is, and until when that is within the limit.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::status::{CompliantReason, ConditionType, TaskStatus};

use crate::conditions::Verdict;

/// Moment at which the oldest of what is published was true; `None` while something that should be published never was.
///
/// The map and the statistics are public. A policy that publishes neither is judged by the data tasks it has, or else by
/// what its health-check finds.
#[must_use]
pub fn data_as_of(tasks: &[TaskStatus]) -> Option<Timestamp> {
    let oldest = |counts: &dyn Fn(&TaskStatus) -> bool| {
        let mut counted = tasks.iter().filter(|task| counts(task)).peekable();
        counted.peek()?;
        Some(
            counted
                .map(|task| task.data_as_of.as_ref().map(|time| time.0))
                .min()
                .flatten(),
        )
    };
    oldest(&|task| task.name.publishes())
        .or_else(|| oldest(&|task| task.name.is_data_task()))
        .or_else(|| oldest(&|_| true))
        .flatten()
}

/// Last moment at which the published data is young enough.
#[must_use]
pub fn compliant_until(data_as_of: Timestamp, max_data_age: Duration) -> Timestamp {
    data_as_of.checked_add(max_data_age).unwrap_or(Timestamp::MAX)
}

/// `Compliant`: whether the published data is within the limit at `now`.
#[must_use]
pub fn verdict(tasks: &[TaskStatus], max_data_age: Duration, now: Timestamp) -> Verdict {
    let (holds, reason, message) = match data_as_of(tasks) {
        Some(data_as_of) => {
            let until = compliant_until(data_as_of, max_data_age);
            let limit = max_data_age.as_secs() / 60;
            if now <= until {
                let message = format!(
                    "what is published was true at {data_as_of} and is within the limit of {limit} min until {until}"
                );
                (true, CompliantReason::Fresh, message)
            } else {
                let message = format!(
                    "what is published was true at {data_as_of} and exceeded the limit of {limit} min of REN 1.137/2025 Art. 106 at \
                     {until}{}",
                    blame(tasks)
                );
                (false, CompliantReason::DataTooOld, message)
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
        None => (
            false,
            CompliantReason::NeverPublished,
            format!("nothing was published yet{}", blame(tasks)),
        ),
    };
    Verdict {
        type_: ConditionType::Compliant,
        holds,
        reason: reason.as_str(),
        message,
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
    use mapa_refresh_crds::policy::TaskName;

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
        assert!(verdict(&tasks, LIMIT, at(2_800)).holds);
        let late = verdict(&tasks, LIMIT, at(2_800) + Duration::from_millis(1));
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
        assert_eq!(verdict(&half, LIMIT, at(1_000)).reason, "NeverPublished");
        let mut lost = half;
        lost[1].last_success_time = Some(whole_seconds(at(990)));
        assert_eq!(verdict(&lost, LIMIT, at(1_000)).reason, "PublishedDataLost");
    }
}
