//! Pure: times of a status that cannot have been, such as an older version took from an object that anybody may write.

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use mapa_refresh_crds::MapaRefreshPolicyStatus;

use crate::conditions::whole_seconds;

/// Further ahead than any slot.
const A_DAY: Duration = Duration::from_secs(86_400);
/// What was proved is not thrown away because the clock of a new leader is days behind. No cluster's certificates hold on a clock that is
/// a year behind.
const A_YEAR: Duration = Duration::from_secs(366 * 86_400);

/// Takes away what lies so far ahead of `now` that no clock can have told it: what rests on it begins anew.
pub(super) fn forget_impossible(status: &mut MapaRefreshPolicyStatus, now: Timestamp) {
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
