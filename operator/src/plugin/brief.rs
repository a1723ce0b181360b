//! Pure: what a table that is not wide says of a policy at a moment, from what its status said when it was written.

use std::{borrow::Cow, fmt};

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::terminal::Mood;
use crate::{compliance, schedule::Schedule, validate::max_data_age_of};

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
    /// The status of a condition.
    #[must_use]
    pub fn read(status: &str) -> Self {
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
    /// Nobody knows, because of `reason`.
    #[must_use]
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: Word::Unknown,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// The limit as the spec has it now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Oldest that our part may be, in seconds.
    ours: i64,
    /// What caches after ours add, in seconds.
    downstream: i64,
}

impl Limit {
    /// From `maxDataAgeMinutes` and `downstreamCacheSeconds`.
    #[must_use]
    pub fn of(max_data_age_minutes: i32, downstream_cache_seconds: i32) -> Self {
        let ours = max_data_age_of(max_data_age_minutes, downstream_cache_seconds);
        Self {
            ours: i64::try_from(ours.as_secs()).unwrap_or(i64::MAX),
            downstream: i64::from(downstream_cache_seconds.max(0)),
        }
    }

    /// The moment after which data of `as_of` is too old, of which the status says `said`. A limit that was lowered since then holds already.
    fn until(self, as_of: Timestamp, said: Timestamp) -> Timestamp {
        let ours = std::time::Duration::from_secs(self.ours.unsigned_abs());
        said.min(compliance::compliant_until(as_of, ours))
    }
}

/// What is kept of a policy for a [`Brief`]: everything that does not change with the time alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BriefFacts {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The limit.
    pub limit: Limit,
    /// The condition Compliant.
    pub compliant: Said,
    /// The condition Ready.
    pub ready: Option<Said>,
    /// The condition AtRisk.
    pub at_risk: Option<Said>,
    /// Whether the schedule is stopped.
    pub suspended: bool,
    /// `status.dataAsOf`.
    pub data_as_of: Option<Timestamp>,
    /// `status.compliantUntil`.
    pub compliant_until: Option<Timestamp>,
    /// Oldest that the published data has been, in seconds.
    pub worst_data_age_seconds: Option<i64>,
    /// When its tasks run; of none, never.
    pub schedules: Vec<Schedule>,
}

/// A policy at a moment: of thousands, no text is there twice.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Brief<'a> {
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
    /// The earliest next slot of any task.
    pub next_run: Option<String>,
    /// Seconds until then.
    pub next_run_in_seconds: Option<i64>,
    /// Whether the schedule is stopped.
    pub suspended: bool,
    /// The condition Ready.
    pub ready: Option<&'a Said>,
    /// The condition AtRisk.
    pub at_risk: Option<&'a Said>,
}

impl BriefFacts {
    /// Of an object that is not understood, because of `reason`.
    #[must_use]
    pub fn of_undecodable(namespace: String, name: String, reason: &str) -> Self {
        Self {
            namespace,
            name,
            limit: Limit::default(),
            compliant: Said::unknown(UNDECODABLE, format!("the policy is not understood: {reason}")),
            ready: None,
            at_risk: None,
            suspended: false,
            data_as_of: None,
            compliant_until: None,
            worst_data_age_seconds: None,
            schedules: Vec::new(),
        }
    }

    fn until(&self) -> Option<Timestamp> {
        self.compliant_until
            .zip(self.data_as_of)
            .map(|(said, as_of)| self.limit.until(as_of, said))
    }

    /// `Compliant` as it can be known at `now`, with its reason and its message: True that has outlived its proof is Unknown.
    fn compliant_at(&self, now: Timestamp) -> (Word, Cow<'_, str>, Cow<'_, str>) {
        let Said {
            status,
            reason,
            message,
        } = &self.compliant;
        let until = self.until();
        let proved = until.is_some_and(|until| now <= until);
        if *status != Word::True || proved {
            return (*status, reason.into(), message.into());
        }
        let message = match until {
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
    pub fn at(&self, now: Timestamp) -> Brief<'_> {
        let (compliant, reason, message) = self.compliant_at(now);
        let next_run = self.schedules.iter().map(|schedule| schedule.next_after(now)).min();
        let text = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string());
        Brief {
            namespace: &self.namespace,
            name: &self.name,
            compliant,
            reason,
            message,
            data_age_seconds: self
                .data_as_of
                .map(|as_of| (now.as_second() - as_of.as_second()).saturating_add(self.limit.downstream)),
            limit_seconds: self.limit.ours.saturating_add(self.limit.downstream),
            data_as_of: text(self.data_as_of),
            compliant_until: text(self.until()),
            worst_data_age_seconds: self.worst_data_age_seconds,
            next_run: text(next_run),
            next_run_in_seconds: next_run.map(|next| next.as_second() - now.as_second()),
            suspended: self.suspended,
            ready: self.ready.as_ref(),
            at_risk: self.at_risk.as_ref(),
        }
    }
}

impl Brief<'_> {
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
