//! Pure: removes times far in the future from a stored status. An older version copied such times from objects that others may write.

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use mapa_refresh_crds::MapaRefreshPolicyStatus;

use crate::conditions::whole_seconds;

/// Bound for slots.
const A_DAY: Duration = Duration::from_secs(86_400);
/// Bound for evidence: it must survive a new leader whose clock is days behind. With a clock a year behind, TLS to the API server fails.
const A_YEAR: Duration = Duration::from_secs(366 * 86_400);

/// Removes every time of `status` that lies too far after `now` for any clock skew; what depends on it starts over.
pub(super) fn forget(status: &mut MapaRefreshPolicyStatus, now: Timestamp) {
    let is_ahead = |time: &Time, by: Duration| now.checked_add(by).is_ok_and(|latest| time.0 > latest);
    let keep = |time: &mut Option<Time>, by: Duration| {
        if time.as_ref().is_some_and(|time| is_ahead(time, by)) {
            *time = None;
        }
    };
    for task in &mut status.tasks {
        keep(&mut task.last_schedule_time, A_DAY);
        keep(&mut task.schedule_since, A_DAY);
        keep(&mut task.last_success_time, A_YEAR);
        keep(&mut task.last_failure_time, A_YEAR);
        keep(&mut task.data_as_of, A_YEAR);
        keep(&mut task.counted_until, A_YEAR);
    }
    keep(&mut status.next_schedule_time, A_DAY);
    keep(&mut status.target_since, A_YEAR);
    if status.target_since.is_none() && status.target.is_some() {
        status.target_since = Some(whole_seconds(now));
    }
    for extra in [&mut status.request, &mut status.rescue].into_iter().flatten() {
        keep(&mut extra.finished_at, A_YEAR);
        keep(&mut extra.advanced_at, A_YEAR);
        if is_ahead(&extra.started_at, A_YEAR) {
            extra.started_at = whole_seconds(now);
        }
    }
    for condition in &mut status.conditions {
        if is_ahead(&condition.last_transition_time, A_YEAR) {
            condition.last_transition_time = whole_seconds(now);
        }
    }
    if let Some(account) = &status.compliance
        && (is_ahead(&account.since, A_YEAR) || is_ahead(&account.accounted_until, A_YEAR))
    {
        status.compliance = None;
    }
}
