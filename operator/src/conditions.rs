//! Pure: the conditions of a policy, as ordered checks of which the first that applies gives reason and message.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use mapa_refresh_crds::{
    MapaRefreshPolicySpec,
    report::{FaultClass, clean, code},
    status::{ConditionType, ReadyReason, SuspendedReason, TaskStatus},
};

use crate::{
    applied::Applied,
    records::Trouble,
    validate::{Plan, Refusal},
};

/// Longest message of a condition, in bytes of JSON.
pub const MAX_MESSAGE: usize = 560;

/// One condition, before it is known when it became so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which condition.
    pub type_: ConditionType,
    /// Whether it holds.
    pub holds: bool,
    /// Why, as one word.
    pub reason: &'static str,
    /// Why and what to do, as a sentence.
    pub message: String,
}

/// `Ready`: whether the policy is carried out as written.
#[must_use]
pub fn ready(
    plan: Result<&Plan, &Refusal>,
    applied: &Applied,
    tasks: &[TaskStatus],
    trouble: Option<&Trouble>,
) -> Verdict {
    let refusal = plan
        .err()
        .cloned()
        .or_else(|| applied.problems.first().map(|problem| problem.refusal.clone()))
        .or_else(|| plan.ok().and_then(|plan| plan.reservation.clone()))
        .or_else(|| tasks.iter().find_map(run_complains))
        .or_else(|| trouble.and_then(pod_complains));
    match refusal {
        Some(Refusal { reason, message }) => Verdict {
            type_: ConditionType::Ready,
            holds: false,
            reason: reason.as_str(),
            message,
        },
        None => Verdict {
            type_: ConditionType::Ready,
            holds: true,
            reason: ReadyReason::Reconciled.as_str(),
            message: match applied.borne.as_slice() {
                [] => "every CronJob is as the policy asks".to_owned(),
                borne => format!(
                    "every CronJob is as the policy asks, but for what admission changes and decides nothing: {}",
                    borne.join("; ")
                ),
            },
        },
    }
}

/// A run failed in a way that does not pass by itself.
fn run_complains(task: &TaskStatus) -> Option<Refusal> {
    let error = task.last_error.as_ref()?;
    let reason = match error.code.as_str() {
        code::SECRET_INCOMPLETE => ReadyReason::SecretIncomplete,
        code::CREDENTIALS_REJECTED => ReadyReason::CredentialsRejected,
        code::CACHE_KEY_CONFLICT => ReadyReason::CacheKeyConflict,
        "ImagePullBackOff" => ReadyReason::ImagePullBackOff,
        "PodNotCreated" => ReadyReason::PodNotCreated,
        // The data is in doubt, not the settings: the next run settles it.
        code::IMPLAUSIBLE_RESULT | code::VIEW_TOO_OLD => return None,
        _ => match error.class {
            FaultClass::Permanent | FaultClass::MissingClient => ReadyReason::RunnerMisconfigured,
            FaultClass::Transient => return None,
        },
    };
    Some(Refusal {
        reason,
        message: format!("{}: {}", task.name, error.message),
    })
}

/// A run that is still active cannot start.
fn pod_complains(trouble: &Trouble) -> Option<Refusal> {
    let reason = match &*trouble.code {
        "PodNotCreated" => ReadyReason::PodNotCreated,
        "ImagePullBackOff" => ReadyReason::ImagePullBackOff,
        _ => return None,
    };
    Some(Refusal {
        reason,
        message: trouble.message.to_string(),
    })
}

/// `Suspended`: whether the schedule is stopped.
#[must_use]
pub fn suspended(spec: &MapaRefreshPolicySpec, now: Timestamp) -> Verdict {
    let over = spec.suspend_until.as_ref().is_some_and(|until| until.0 <= now);
    if spec.suspend && !over {
        let why = spec.suspend_reason.as_deref().unwrap_or("no reason given");
        let until = spec
            .suspend_until
            .as_ref()
            .map_or_else(String::new, |until| format!(", until {}", until.0));
        return Verdict {
            type_: ConditionType::Suspended,
            holds: true,
            reason: SuspendedReason::SuspendedBySpec.as_str(),
            message: format!("the schedule is stopped: {why}{until}"),
        };
    }
    Verdict {
        type_: ConditionType::Suspended,
        holds: false,
        reason: SuspendedReason::NotSuspended.as_str(),
        message: if over && spec.suspend {
            "the suspension is over"
        } else {
            "the schedule runs"
        }
        .to_owned(),
    }
}

/// Puts `verdicts` into `conditions`; those of other types stay. The transition time moves only when a condition flips.
pub fn set(
    conditions: &mut Vec<Condition>,
    verdicts: impl IntoIterator<Item = Verdict>,
    generation: Option<i64>,
    now: Timestamp,
) {
    for Verdict {
        type_,
        holds,
        reason,
        message,
    } in verdicts
    {
        let status = if holds { "True" } else { "False" };
        put(conditions, (type_, status, reason, message), generation, now);
    }
}

/// Puts one condition, of type, status, reason and message, into `conditions`; the others stay. The transition time moves only when the status
/// changes.
pub fn put(
    conditions: &mut Vec<Condition>,
    (type_, status, reason, mut message): (ConditionType, &str, &str, String),
    generation: Option<i64>,
    now: Timestamp,
) {
    clean(&mut message, MAX_MESSAGE);
    let previous = conditions
        .iter_mut()
        .find(|condition| condition.type_ == type_.as_str());
    let since = previous
        .as_ref()
        .filter(|previous| previous.status == status)
        .map(|previous| previous.last_transition_time.clone());
    let condition = Condition {
        type_: type_.as_str().to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: since.unwrap_or_else(|| whole_seconds(now)),
    };
    match previous {
        Some(previous) => *previous = condition,
        None => conditions.push(condition),
    }
}

/// As times stand in a status: whole seconds, cut off.
#[must_use]
pub fn whole_seconds(moment: Timestamp) -> Time {
    Time(
        Timestamp::from_second(moment.as_nanosecond().div_euclid(1_000_000_000).try_into().unwrap_or(0))
            .unwrap_or(moment),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(holds: bool) -> Verdict {
        Verdict {
            type_: ConditionType::Compliant,
            holds,
            reason: "Fresh",
            message: "m".into(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_on_a_flip() {
        let mut conditions = Vec::new();
        set(&mut conditions, [verdict(true)], Some(1), at(10));
        set(
            &mut conditions,
            [Verdict {
                message: "other".into(),
                ..verdict(true)
            }],
            Some(2),
            at(20),
        );
        assert_eq!(
            (conditions[0].last_transition_time.0, conditions[0].observed_generation),
            (at(10), Some(2))
        );
        set(&mut conditions, [verdict(false)], Some(2), at(30));
        assert_eq!((conditions.len(), conditions[0].last_transition_time.0), (1, at(30)));
    }

    #[test]
    fn hostile_text_and_long_text_stay_harmless_in_a_message() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            [Verdict {
                message: "\u{1b}[31m\n".repeat(500),
                ..verdict(true)
            }],
            None,
            at(0),
        );
        assert!(conditions[0].message.len() <= MAX_MESSAGE && !conditions[0].message.chars().any(char::is_control));
    }
}
