//! Pure: which flips of conditions are worth an Event. Nothing else is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};
use mapa_refresh_crds::status::{AtRiskReason, ConditionType, ReadyReason};

/// Longest note of an Event, in bytes (<https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>).
const MAX_NOTE: usize = 1024;

/// Events for what changed from `before` to `after`. What is good from the start is not news.
#[must_use]
pub fn events(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    after
        .iter()
        .filter_map(|condition| event(before.iter().find(|old| old.type_ == condition.type_), condition))
        .collect()
}

fn event(before: Option<&Condition>, after: &Condition) -> Option<Event> {
    // Ready says why, and has an Event of its own.
    if after.type_ != ConditionType::Ready.as_str()
        && [AtRiskReason::NotCarriedOut.as_str(), ReadyReason::Undecodable.as_str()].contains(&after.reason.as_str())
    {
        return None;
    }
    // Suspended and AtRisk are good while they are False.
    let is_good = |condition: &Condition| {
        let bad_when_true = [ConditionType::Suspended.as_str(), ConditionType::AtRisk.as_str()];
        (condition.status == "True") != bad_when_true.contains(&condition.type_.as_str())
    };
    let changed = match before {
        Some(before) => before.status != after.status || (!is_good(after) && before.reason != after.reason),
        // A new policy has published nothing yet: that is a beginning, no event.
        None => {
            let beginnings = [ConditionType::Compliant.as_str(), ConditionType::AtRisk.as_str()];
            !is_good(after) && !beginnings.contains(&after.type_.as_str())
        }
    };
    changed.then(|| {
        let mut note = after.message.clone();
        mapa_refresh_crds::report::clean(&mut note, MAX_NOTE);
        let warns = !is_good(after) && after.type_ != ConditionType::Suspended.as_str();
        Event {
            type_: if warns { EventType::Warning } else { EventType::Normal },
            reason: after.reason.clone(),
            note: Some(note),
            action: format!("{}{}", after.type_, after.status),
            secondary: None,
        }
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn condition(type_: ConditionType, status: &str, reason: &str) -> Condition {
        Condition {
            type_: type_.as_str().into(),
            status: status.into(),
            reason: reason.into(),
            message: "why".into(),
            observed_generation: None,
            last_transition_time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
        }
    }

    fn reasons(before: &[Condition], after: &[Condition]) -> Vec<(bool, String)> {
        events(before, after)
            .into_iter()
            .map(|event| (event.type_ == EventType::Warning, event.reason))
            .collect()
    }

    #[test]
    fn promise_9_events_on_transitions_only() {
        let fresh = [condition(ConditionType::Compliant, "True", "Fresh")];
        let old = [condition(ConditionType::Compliant, "False", "DataTooOld")];
        assert_eq!(reasons(&fresh, &fresh), []);
        assert_eq!(reasons(&fresh, &old), [(true, "DataTooOld".into())]);
        assert_eq!(reasons(&old, &old), []);
        assert_eq!(reasons(&old, &fresh), [(false, "Fresh".into())]);
    }

    #[test]
    fn a_new_policy_makes_no_event_unless_it_cannot_be_honoured() {
        let beginning = [
            condition(ConditionType::Ready, "True", "Reconciled"),
            condition(ConditionType::Compliant, "False", "NeverPublished"),
            condition(ConditionType::Suspended, "False", "NotSuspended"),
        ];
        assert_eq!(reasons(&[], &beginning), []);
        let refused = [
            condition(ConditionType::Ready, "False", "UnknownTimeZone"),
            condition(ConditionType::Feasible, "False", "NotCarriedOut"),
            condition(ConditionType::AtRisk, "True", "NotCarriedOut"),
        ];
        assert_eq!(reasons(&[], &refused), [(true, "UnknownTimeZone".into())]);
    }
}
