//! Pure: how a policy stands at a moment, from what its status said when it was written.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use mapa_refresh_crds::{MapaRefreshPolicy, MapaRefreshPolicyStatus, status::ConditionType};
use serde::Serialize;

use super::{
    brief::{Brief, BriefFacts, Limit, NOT_RECONCILED, Said, Word},
    policies::Listed,
    terminal::harmless,
};
use crate::{
    settings::RunnerSettings,
    status::credentials,
    validate::{Plan, Refusal, validate},
};

/// What is kept of a policy: everything that does not change with the time alone.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What every table says.
    pub brief: BriefFacts,
    interval_minutes: i32,
    feasible: Option<Said>,
    last_success: Option<Timestamp>,
    worst_case_data_age_seconds: Option<i64>,
    breaches: Option<i64>,
    seconds_in_breach: Option<i64>,
    retries: i32,
    consecutive_failures: i32,
}

/// A policy at a moment, as programs read it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing<'a> {
    /// What every table says.
    #[serde(flatten)]
    pub brief: Brief<'a>,
    /// Oldest that the data can get while the policy works as planned.
    pub worst_case_data_age_seconds: Option<i64>,
    /// Minutes between two runs.
    pub interval_minutes: i32,
    /// The condition Feasible.
    pub feasible: Option<&'a Said>,
    /// The oldest last success among the data tasks.
    pub last_success_time: Option<String>,
    /// Retries of the tasks' last runs.
    pub retries: i32,
    /// Failed runs in a row, of the worst task.
    pub consecutive_failures: i32,
    /// Times that the limit was exceeded.
    pub breaches: Option<i64>,
    /// How long it was.
    pub seconds_in_breach: Option<i64>,
}

/// What the operator would do about `policy` at `now`.
///
/// # Errors
/// Why it cannot be carried out.
pub fn planned(policy: &MapaRefreshPolicy, now: Timestamp) -> Result<Plan, Refusal> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let credentials = match &policy.status {
        Some(status) => credentials(policy, status),
        None => crate::validate::Credentials::Usable,
    };
    validate(
        &text(&policy.metadata.namespace),
        &text(&policy.metadata.name),
        &policy.spec,
        &RunnerSettings::assumed_for(&policy.spec),
        credentials,
        now,
    )
}

fn condition(status: &MapaRefreshPolicyStatus, type_: ConditionType) -> Option<Said> {
    let found: &Condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_.as_str())?;
    Some(Said {
        status: Word::read(&found.status),
        reason: harmless(&found.reason),
        message: harmless(&found.message),
    })
}

fn moment(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

impl Facts {
    /// Keeps what is needed of `listed`, seen at `now`.
    #[must_use]
    pub fn of(listed: &Listed, now: Timestamp) -> Self {
        match listed {
            Listed::Policy(policy) => Self::of_policy(policy, now),
            Listed::Undecodable {
                namespace,
                name,
                reason,
            } => Self {
                brief: BriefFacts::of_undecodable(harmless(namespace), harmless(name), &harmless(reason)),
                interval_minutes: 0,
                feasible: None,
                last_success: None,
                worst_case_data_age_seconds: None,
                breaches: None,
                seconds_in_breach: None,
                retries: 0,
                consecutive_failures: 0,
            },
        }
    }

    fn of_policy(policy: &MapaRefreshPolicy, now: Timestamp) -> Self {
        let empty = MapaRefreshPolicyStatus::default();
        let status = policy.status.as_ref().unwrap_or(&empty);
        let account = status.compliance.as_ref().map(|account| &account.total);
        Self {
            brief: brief(policy, status, now),
            interval_minutes: policy.spec.interval_minutes,
            feasible: condition(status, ConditionType::Feasible),
            last_success: moment(status.last_success_time.as_ref()),
            worst_case_data_age_seconds: status.worst_case_data_age_seconds,
            breaches: account.map(|total| total.breaches),
            seconds_in_breach: account.map(|total| total.seconds_in_breach),
            retries: status.retries,
            consecutive_failures: status.consecutive_failures,
        }
    }

    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> (String, String) {
        (self.brief.namespace.clone(), self.brief.name.clone())
    }

    /// The policy at `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Standing<'_> {
        Standing {
            brief: self.brief.at(now),
            worst_case_data_age_seconds: self.worst_case_data_age_seconds,
            interval_minutes: self.interval_minutes,
            feasible: self.feasible.as_ref(),
            last_success_time: self.last_success.map(|moment| moment.to_string()),
            retries: self.retries,
            consecutive_failures: self.consecutive_failures,
            breaches: self.breaches,
            seconds_in_breach: self.seconds_in_breach,
        }
    }
}

fn brief(policy: &MapaRefreshPolicy, status: &MapaRefreshPolicyStatus, now: Timestamp) -> BriefFacts {
    let plan = planned(policy, now);
    let account = status.compliance.as_ref();
    BriefFacts {
        namespace: harmless(policy.metadata.namespace.as_deref().unwrap_or_default()),
        name: harmless(policy.metadata.name.as_deref().unwrap_or_default()),
        limit: Limit::of(policy.spec.max_data_age_minutes, policy.spec.downstream_cache_seconds),
        compliant: condition(status, ConditionType::Compliant).unwrap_or_else(|| {
            Said::unknown(
                NOT_RECONCILED,
                "the operator has not looked at the policy yet: does it run, and does it watch this namespace? `kubectl mapa doctor`",
            )
        }),
        ready: condition(status, ConditionType::Ready),
        at_risk: condition(status, ConditionType::AtRisk),
        suspended: plan.as_ref().map_or(policy.spec.suspend, |plan| plan.suspended),
        data_as_of: moment(status.data_as_of.as_ref()),
        compliant_until: moment(status.compliant_until.as_ref()),
        worst_data_age_seconds: account.map(|account| account.total.worst_data_age_seconds),
        schedules: plan.map_or_else(
            |_| Vec::new(),
            |plan| plan.tasks.iter().filter(|task| !task.suspended).map(|task| task.schedule).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::brief::{OUTLIVED, UNDECODABLE},
        *,
    };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn listed(spec: Value, status: Value) -> Listed {
        let mut whole = json!({
            "intervalMinutes": 10,
            "database": { "kind": "postgresql", "secretRef": { "name": "d" } },
            "cache": { "secretRef": { "name": "c" } },
        });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        Listed::of(json!({ "metadata": { "namespace": "radar", "name": "roraima" }, "spec": whole, "status": status }))
    }

    fn fresh() -> Value {
        json!({
            "dataAsOf": "2026-11-23T10:00:00Z",
            "compliantUntil": "2026-11-23T10:30:00Z",
            "conditions": [{ "type": "Compliant", "status": "True", "reason": "Fresh", "message": "m", "lastTransitionTime": "2026-11-23T10:00:00Z" }],
        })
    }

    /// What `look` finds of the policy at `now`.
    fn stands<T>(listed: &Listed, now: &str, look: impl FnOnce(&Brief<'_>) -> T) -> T {
        look(&Facts::of(listed, at(now)).brief.at(at(now)))
    }

    fn word(brief: &Brief<'_>) -> Word {
        brief.compliant
    }

    #[test]
    fn compliant_true_past_its_proof_is_unknown_and_not_a_second_earlier() {
        let policy = listed(json!({}), fresh());
        assert_eq!(stands(&policy, "2026-11-23T10:30:00Z", word), Word::True);
        stands(&policy, "2026-11-23T10:30:01Z", |silent| {
            assert_eq!((silent.compliant, silent.reason.as_ref()), (Word::Unknown, OUTLIVED));
            assert_eq!(silent.data_age_seconds, Some(1_801));
        });
    }

    #[test]
    fn true_without_a_proof_or_of_a_limit_that_was_lowered_since_is_unknown() {
        let mut unproved = fresh();
        unproved.as_object_mut().unwrap().remove("compliantUntil");
        assert_eq!(
            stands(&listed(json!({}), unproved), "2026-11-23T10:01:00Z", word),
            Word::Unknown
        );
        let lowered = listed(json!({ "maxDataAgeMinutes": 15 }), fresh());
        assert_eq!(stands(&lowered, "2026-11-23T10:15:00Z", word), Word::True);
        assert_eq!(stands(&lowered, "2026-11-23T10:15:01Z", word), Word::Unknown);
    }

    #[test]
    fn false_stays_false_whatever_the_time() {
        let mut late = fresh();
        late["conditions"][0]["status"] = "False".into();
        assert_eq!(
            stands(&listed(json!({}), late), "2026-11-23T18:00:00Z", word),
            Word::False
        );
    }

    #[test]
    fn downstream_caches_are_part_of_the_age_and_of_the_limit() {
        let mut status = fresh();
        status["compliantUntil"] = "2026-11-23T10:25:00Z".into();
        let policy = listed(json!({ "downstreamCacheSeconds": 300 }), status);
        stands(&policy, "2026-11-23T10:25:00Z", |last| {
            assert_eq!(
                (last.compliant, last.data_age_seconds, last.limit_seconds),
                (Word::True, Some(1_800), 1_800)
            );
        });
        assert_eq!(stands(&policy, "2026-11-23T10:25:01Z", word), Word::Unknown);
    }

    #[test]
    fn what_the_operator_never_saw_and_what_nobody_understands_is_unknown() {
        let now = "2026-11-23T10:00:00Z";
        stands(&listed(json!({}), json!({})), now, |new| {
            assert_eq!((new.compliant, new.reason.as_ref()), (Word::Unknown, NOT_RECONCILED));
        });
        stands(&listed(json!({ "intervalMinutes": "x" }), fresh()), now, |broken| {
            assert_eq!((broken.compliant, broken.reason.as_ref()), (Word::Unknown, UNDECODABLE));
        });
    }

    #[test]
    fn the_next_run_is_the_earliest_slot_of_any_task_and_none_while_suspended() {
        let now = "2026-11-23T10:00:00Z";
        stands(&listed(json!({}), fresh()), now, |standing| {
            let seconds = standing.next_run_in_seconds.unwrap();
            assert!((1..=600).contains(&seconds), "{seconds}");
        });
        let suspended = listed(json!({ "suspend": true, "suspendReason": "works" }), fresh());
        stands(&suspended, now, |standing| {
            assert_eq!((&standing.next_run, standing.suspended), (&None, true));
        });
    }

    #[test]
    fn names_and_messages_are_harmless() {
        let mut status = fresh();
        status["conditions"][0]["message"] = "\u{1b}[2Jgone".into();
        stands(&listed(json!({}), status), "2026-11-23T10:00:00Z", |standing| {
            assert!(!standing.message.contains('\u{1b}'), "{}", standing.message);
        });
    }
}
