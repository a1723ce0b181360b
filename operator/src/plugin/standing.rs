//! Pure: how a policy stands at a moment, from what its status said when it was written.

use std::{borrow::Cow, fmt};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use mapa_refresh_crds::{MapaRefreshPolicy, MapaRefreshPolicyStatus, status::ConditionType};
use serde::Serialize;

use super::{
    policies::Listed,
    terminal::{Mood, harmless},
};
use crate::{
    schedule::Schedule,
    settings::RunnerSettings,
    status::credentials,
    validate::{Plan, Refusal, max_data_age, validate},
};

/// Reason of Unknown: Compliant=True has outlived the moment until which it was proved.
pub const OUTLIVED: &str = "OperatorSilent";
/// Reason of Unknown: the operator has not looked at the policy yet.
pub const NOT_RECONCILED: &str = "NotReconciled";
/// Reason of Unknown: the object is not understood.
pub const UNDECODABLE: &str = "Undecodable";

/// A condition's status, or what has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Word {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        })
    }
}

impl Word {
    fn read(status: &str) -> Self {
        match status {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }

    /// Its colour, where True is what one wants.
    #[must_use]
    pub fn mood(self) -> Mood {
        match self {
            Self::True => Mood::Good,
            Self::False => Mood::Bad,
            Self::Unknown => Mood::Doubtful,
        }
    }
}

/// A condition without its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// Whether it holds.
    pub status: Word,
    /// Why, as one word.
    pub reason: String,
    /// Why, as a sentence.
    pub message: String,
}

impl Said {
    fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: Word::Unknown,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// What is kept of a policy: everything that does not change with the time alone.
#[derive(Clone, Debug)]
pub struct Facts {
    namespace: String,
    name: String,
    interval_minutes: i32,
    limit_seconds: i64,
    downstream_seconds: i64,
    compliant: Said,
    ready: Option<Said>,
    at_risk: Option<Said>,
    feasible: Option<Said>,
    suspended: bool,
    data_as_of: Option<Timestamp>,
    compliant_until: Option<Timestamp>,
    last_success: Option<Timestamp>,
    worst_data_age_seconds: Option<i64>,
    worst_case_data_age_seconds: Option<i64>,
    breaches: Option<i64>,
    seconds_in_breach: Option<i64>,
    retries: i32,
    consecutive_failures: i32,
    schedules: Vec<Schedule>,
}

/// A policy at a moment, as programs read it: of thousands, no text is there twice.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// `Compliant`, or Unknown where what the status says cannot be known any more.
    pub compliant: Word,
    /// Why, as one word.
    pub reason: Cow<'a, str>,
    /// Why, as a sentence.
    pub message: Cow<'a, str>,
    /// Age of what the public sees now, downstream caches included.
    pub data_age_seconds: Option<i64>,
    /// Oldest that it may be.
    pub limit_seconds: i64,
    /// Moment at which the published data was true.
    pub data_as_of: Option<String>,
    /// Moment until which it is within the limit.
    pub compliant_until: Option<String>,
    /// Oldest that the published data has been since the account began.
    pub worst_data_age_seconds: Option<i64>,
    /// Oldest that it can get while the policy works as planned.
    pub worst_case_data_age_seconds: Option<i64>,
    /// The earliest next slot of any task.
    pub next_run: Option<String>,
    /// Seconds until then.
    pub next_run_in_seconds: Option<i64>,
    /// Minutes between two runs.
    pub interval_minutes: i32,
    /// Whether the schedule is stopped.
    pub suspended: bool,
    /// The condition Ready.
    pub ready: Option<&'a Said>,
    /// The condition AtRisk.
    pub at_risk: Option<&'a Said>,
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
            } => Self::of_undecodable(namespace, name, reason),
        }
    }

    fn of_undecodable(namespace: &str, name: &str, reason: &str) -> Self {
        Self {
            namespace: harmless(namespace),
            name: harmless(name),
            interval_minutes: 0,
            limit_seconds: 0,
            downstream_seconds: 0,
            compliant: Said::unknown(
                UNDECODABLE,
                format!("the policy is not understood: {}", harmless(reason)),
            ),
            ready: None,
            at_risk: None,
            feasible: None,
            suspended: false,
            data_as_of: None,
            compliant_until: None,
            last_success: None,
            worst_data_age_seconds: None,
            worst_case_data_age_seconds: None,
            breaches: None,
            seconds_in_breach: None,
            retries: 0,
            consecutive_failures: 0,
            schedules: Vec::new(),
        }
    }

    fn of_policy(policy: &MapaRefreshPolicy, now: Timestamp) -> Self {
        let empty = MapaRefreshPolicyStatus::default();
        let status = policy.status.as_ref().unwrap_or(&empty);
        let plan = planned(policy, now);
        let downstream_seconds = i64::from(policy.spec.downstream_cache_seconds.max(0));
        let allowed = i64::try_from(max_data_age(&policy.spec).as_secs()).unwrap_or(i64::MAX);
        let data_as_of = moment(status.data_as_of.as_ref());
        // A limit that was lowered since the status was written holds already.
        let compliant_until = moment(status.compliant_until.as_ref())
            .zip(data_as_of)
            .map(|(until, as_of)| until.min(crate::compliance::compliant_until(as_of, max_data_age(&policy.spec))));
        Self {
            namespace: harmless(policy.metadata.namespace.as_deref().unwrap_or_default()),
            name: harmless(policy.metadata.name.as_deref().unwrap_or_default()),
            interval_minutes: policy.spec.interval_minutes,
            limit_seconds: allowed.saturating_add(downstream_seconds),
            downstream_seconds,
            compliant: condition(status, ConditionType::Compliant).unwrap_or_else(|| {
                Said::unknown(
                    NOT_RECONCILED,
                    "the operator has not looked at the policy yet: does it run, and does it watch this namespace? `kubectl mapa doctor`",
                )
            }),
            ready: condition(status, ConditionType::Ready),
            at_risk: condition(status, ConditionType::AtRisk),
            feasible: condition(status, ConditionType::Feasible),
            suspended: plan.as_ref().map_or(policy.spec.suspend, |plan| plan.suspended),
            data_as_of,
            compliant_until,
            last_success: moment(status.last_success_time.as_ref()),
            worst_data_age_seconds: status.compliance.as_ref().map(|account| account.total.worst_data_age_seconds),
            worst_case_data_age_seconds: status.worst_case_data_age_seconds,
            breaches: status.compliance.as_ref().map(|account| account.total.breaches),
            seconds_in_breach: status.compliance.as_ref().map(|account| account.total.seconds_in_breach),
            retries: status.retries,
            consecutive_failures: status.consecutive_failures,
            schedules: plan.map_or_else(
                |_| Vec::new(),
                |plan| plan.tasks.iter().filter(|task| !task.suspended).map(|task| task.schedule).collect(),
            ),
        }
    }

    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }

    /// `Compliant` as it can be known at `now`, with its reason and its message: True that has outlived its proof is Unknown.
    fn compliant_at(&self, now: Timestamp) -> (Word, Cow<'_, str>, Cow<'_, str>) {
        let Said {
            status,
            reason,
            message,
        } = &self.compliant;
        let proved = self.compliant_until.is_some_and(|until| now <= until);
        if *status != Word::True || proved {
            return (*status, reason.into(), message.into());
        }
        let message = match self.compliant_until {
            Some(until) => format!(
                "the status says True, which was proved until {until} only, and the operator has said nothing since: does it run? \
                 `kubectl mapa doctor`"
            ),
            None => "the status says True without saying until when, which the operator never does: who wrote it?"
                .to_owned(),
        };
        (Word::Unknown, OUTLIVED.into(), message.into())
    }

    /// The policy at `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Standing<'_> {
        let (compliant, reason, message) = self.compliant_at(now);
        let next_run = self.schedules.iter().map(|schedule| schedule.next_after(now)).min();
        let text = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string());
        Standing {
            namespace: &self.namespace,
            name: &self.name,
            compliant,
            reason,
            message,
            data_age_seconds: self
                .data_as_of
                .map(|as_of| (now.as_second() - as_of.as_second()).saturating_add(self.downstream_seconds)),
            limit_seconds: self.limit_seconds,
            data_as_of: text(self.data_as_of),
            compliant_until: text(self.compliant_until),
            worst_data_age_seconds: self.worst_data_age_seconds,
            worst_case_data_age_seconds: self.worst_case_data_age_seconds,
            next_run: text(next_run),
            next_run_in_seconds: next_run.map(|next| next.as_second() - now.as_second()),
            interval_minutes: self.interval_minutes,
            suspended: self.suspended,
            ready: self.ready.as_ref(),
            at_risk: self.at_risk.as_ref(),
            feasible: self.feasible.as_ref(),
            last_success_time: text(self.last_success),
            retries: self.retries,
            consecutive_failures: self.consecutive_failures,
            breaches: self.breaches,
            seconds_in_breach: self.seconds_in_breach,
        }
    }
}

impl Standing<'_> {
    /// What there is to say against the policy: why it is not compliant, else what is wrong all the same.
    #[must_use]
    pub fn why_not(&self) -> Option<(Cow<'_, str>, &str)> {
        if self.compliant != Word::True {
            return Some((self.reason.as_ref().into(), &self.message));
        }
        let not_ready = self.ready.filter(|ready| ready.status == Word::False);
        let at_risk = self.at_risk.filter(|risk| risk.status == Word::True);
        not_ready
            .map(|ready| (format!("not ready, {}", ready.reason), ready.message.as_str()))
            .or_else(|| at_risk.map(|risk| (format!("at risk, {}", risk.reason), risk.message.as_str())))
            .map(|(reason, message)| (reason.into(), message))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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
    fn stands<T>(listed: &Listed, now: &str, look: impl FnOnce(&Standing<'_>) -> T) -> T {
        look(&Facts::of(listed, at(now)).at(at(now)))
    }

    fn word(standing: &Standing<'_>) -> Word {
        standing.compliant
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
