//! What is told of each policy, read from the cache of policies at every scrape: nothing is kept for it, a policy that is gone has no
//! series, and an age is right at the moment of the scrape although nothing was reconciled since.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Resource, runtime::reflector::Store};
use mapa_refresh_crds::{
    MapaRefreshPolicy,
    rows::{quarantine_word, repair_word},
    status::{CompliantReason, ConditionType, Tally, TaskStatus},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};

use crate::{clock::Clock, reconcile::Guarded, validate::max_data_age};

type PolicyStore = Store<Guarded>;

/// The caches of policies, one for each scope that is watched now.
#[derive(Clone)]
pub struct Policies {
    stores: Arc<Mutex<Vec<Weak<PolicyStore>>>>,
    clock: Clock,
}

impl Policies {
    /// No cache yet; the time of a scrape is told by `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            stores: Arc::default(),
            clock,
        }
    }

    /// One more cache, as long as it lives.
    pub fn include(&self, store: &Arc<PolicyStore>) {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|store| store.strong_count() > 0);
        stores.push(Arc::downgrade(store));
    }

    /// Namespace and name of each object, and the policy that it is; none: it cannot be decoded.
    fn each(&self, mut look: impl FnMut(&str, &str, Option<&MapaRefreshPolicy>) -> fmt::Result) -> fmt::Result {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stores = stores.iter().filter_map(Weak::upgrade);
        for guarded in stores.flat_map(|store| store.state()) {
            let meta = guarded.meta();
            if let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) {
                look(namespace, name, guarded.object.as_ref().ok())?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").finish_non_exhaustive()
    }
}

/// One gauge of each policy.
#[derive(Clone, Copy, Debug)]
pub struct PolicyGauge {
    /// Its name, without prefix and unit.
    pub name: &'static str,
    /// Whether it is in seconds.
    pub in_seconds: bool,
    /// What it tells.
    pub help: &'static str,
    /// Of an object that cannot be decoded there is no policy.
    read: fn(Option<&MapaRefreshPolicy>, Timestamp) -> Option<f64>,
}

/// Every gauge of a policy. Each is a series per policy; one that is not known has none.
pub const GAUGES: &[PolicyGauge] = &[
    PolicyGauge {
        name: "data_timestamp",
        in_seconds: true,
        help: "Moment at which the oldest of what is published was true in the database, in seconds since 1970.",
        read: |policy, _| seconds_since_1970(policy?.status.as_ref()?.data_as_of.as_ref()?.0),
    },
    PolicyGauge {
        name: "data_age",
        in_seconds: true,
        help: "Age of the oldest of what is published, at the scrape.",
        read: |policy, now| {
            let moment = policy?.status.as_ref()?.data_as_of.as_ref()?.0;
            Some(now.duration_since(moment).as_secs_f64())
        },
    },
    PolicyGauge {
        name: "data_age_limit",
        in_seconds: true,
        help: "Oldest that the published data may be, what caches after ours add taken off.",
        read: |policy, _| Some(max_data_age(&policy?.spec).as_secs_f64()),
    },
    PolicyGauge {
        name: "compliant_until_timestamp",
        in_seconds: true,
        help: "Moment until which the published data is within the limit, in seconds since 1970; a Compliant=True read later is unknown.",
        read: |policy, _| seconds_since_1970(compliant_until(policy?)?),
    },
    PolicyGauge {
        name: "compliant",
        in_seconds: false,
        help: "1 while the published data is within the limit, 0 while it is not; no series while that is unknown.",
        read: |policy, now| match is_compliance_unknown(policy?, now) {
            true => None,
            false => condition(policy?, ConditionType::Compliant),
        },
    },
    PolicyGauge {
        name: "compliance_unknown",
        in_seconds: false,
        help: "1 while nobody can say whether the limit is held: no status yet, Compliant=True past its moment because no operator reconciles, or an object that cannot be decoded.",
        read: |policy, now| {
            let is_unknown = policy.is_none_or(|policy| is_compliance_unknown(policy, now));
            Some(f64::from(u8::from(is_unknown)))
        },
    },
    PolicyGauge {
        name: "ready",
        in_seconds: false,
        help: "1 while the policy is carried out as written, 0 while it is not.",
        read: |policy, _| condition(policy?, ConditionType::Ready),
    },
    PolicyGauge {
        name: "at_risk",
        in_seconds: false,
        help: "1 while the limit will be exceeded, or is, unless something changes, else 0.",
        read: |policy, _| condition(policy?, ConditionType::AtRisk),
    },
    PolicyGauge {
        name: "feasible",
        in_seconds: false,
        help: "1 while the limit holds even when every retry is needed, else 0.",
        read: |policy, _| condition(policy?, ConditionType::Feasible),
    },
    PolicyGauge {
        name: "suspended",
        in_seconds: false,
        help: "1 while the schedule is stopped by the policy, else 0.",
        read: |policy, _| condition(policy?, ConditionType::Suspended),
    },
    PolicyGauge {
        name: "breaches",
        in_seconds: false,
        help: "Times that the limit began to be exceeded, from the account in the status and, at the scrape, a breach that began since; later evidence may lower it.",
        read: |policy, now| Some(as_float(tally(policy?, now)?.breaches)),
    },
    PolicyGauge {
        name: "breach",
        in_seconds: true,
        help: "Seconds in breach, from the account in the status and, at the scrape, of a breach that goes on; later evidence may lower it.",
        read: |policy, now| Some(as_float(tally(policy?, now)?.seconds_in_breach)),
    },
    PolicyGauge {
        name: "unproven",
        in_seconds: true,
        help: "Seconds without evidence either way up to the last write of the status, from the account in it; later evidence may lower it.",
        read: |policy, now| Some(as_float(tally(policy?, now)?.seconds_unproven)),
    },
    PolicyGauge {
        name: "worst_data_age",
        in_seconds: true,
        help: "Oldest that the published data has been, from the account in the status and, at the scrape, the age now.",
        read: |policy, now| Some(as_float(tally(policy?, now)?.worst_data_age_seconds)),
    },
    PolicyGauge {
        name: "consecutive_failures",
        in_seconds: false,
        help: "Failed runs in a row, of the task that has most.",
        read: |policy, _| Some(f64::from(policy?.status.as_ref()?.consecutive_failures)),
    },
    PolicyGauge {
        name: "last_success_timestamp",
        in_seconds: true,
        help: "The oldest last success among the data tasks, in seconds since 1970.",
        read: |policy, _| seconds_since_1970(policy?.status.as_ref()?.last_success_time.as_ref()?.0),
    },
    PolicyGauge {
        name: "clock_skew",
        in_seconds: true,
        help: "Most by which two of the clocks of database, node and operator were apart at a task's last run; 0 up to 60 s.",
        read: |policy, _| {
            let skew = |task: &TaskStatus| task.clock_skew_seconds;
            let tasks = &policy?.status.as_ref()?.tasks;
            Some(as_float(tasks.iter().filter_map(skew).max().unwrap_or(0)))
        },
    },
];

/// The gauge whose second label is a reason.
pub const REASON: (&str, &str) = (
    "compliant_reason",
    "1 for the reason of the condition Compliant; a reason that this version does not know is Other.",
);

/// The gauge of rows that were not as they should be: a series for each reason that has rows.
pub const ROWS: (&str, &str) = (
    "rows",
    "Rows of the view that the task's last run left out (outcome quarantined) or mended (repaired), by reason; a reason that this version does not know is OTHER.",
);

/// The gauge of rows that are published.
pub const RECORDS: (&str, &str) = (
    "records",
    "Outages that the task's last successful run published; of refresh-mv-portal and health-check the rows of the view.",
);

/// How many policies there are.
pub const COUNT: (&str, &str) = (
    "policies",
    "Policies that are watched and can be read, in all watched namespaces.",
);

fn seconds_since_1970(moment: Timestamp) -> Option<f64> {
    Some(as_float(moment.as_second()))
}

#[expect(clippy::cast_precision_loss, reason = "seconds and counts are far below 2^53")]
fn as_float(number: i64) -> f64 {
    number as f64
}

fn compliant_until(policy: &MapaRefreshPolicy) -> Option<Timestamp> {
    Some(policy.status.as_ref()?.compliant_until.as_ref()?.0)
}

fn condition(policy: &MapaRefreshPolicy, type_: ConditionType) -> Option<f64> {
    let conditions = &policy.status.as_ref()?.conditions;
    let condition = conditions.iter().find(|condition| condition.type_ == type_.as_str())?;
    match condition.status.as_str() {
        "True" => Some(1.0),
        "False" => Some(0.0),
        _ => None,
    }
}

fn is_compliance_unknown(policy: &MapaRefreshPolicy, now: Timestamp) -> bool {
    /// The operator flips the condition within a second or so: until then a scrape does not call it unknown.
    const TO_FLIP: SignedDuration = SignedDuration::from_secs(5);
    match condition(policy, ConditionType::Compliant) {
        None => true,
        Some(value) => {
            let is_past = |until: Timestamp| now.duration_since(until) > TO_FLIP;
            value > 0.5 && compliant_until(policy).is_none_or(is_past)
        }
    }
}

/// The account of the status, with the breach that goes on at `now`: the account reaches to the last write of the status, and a breach
/// during which nothing is published brings no further write.
fn tally(policy: &MapaRefreshPolicy, now: Timestamp) -> Option<Tally> {
    let account = policy.status.as_ref()?.compliance.as_ref()?;
    let mut tally = account.total;
    let Some(data_as_of) = policy.status.as_ref()?.data_as_of.as_ref() else {
        return Some(tally);
    };
    let age = now.duration_since(data_as_of.0).as_secs();
    tally.worst_data_age_seconds = tally.worst_data_age_seconds.max(age);
    if let Some(until) = compliant_until(policy).filter(|until| now > *until) {
        let accounted = account.accounted_until.0;
        tally.breaches += i64::from(accounted <= until);
        tally.seconds_in_breach += now.duration_since(accounted.max(until)).as_secs().max(0);
    }
    Some(tally)
}

fn compliant_reason(policy: &MapaRefreshPolicy) -> Option<&'static str> {
    let conditions = &policy.status.as_ref()?.conditions;
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == ConditionType::Compliant.as_str())?;
    let mut known = CompliantReason::ALL.iter().map(|reason| reason.as_str());
    // From an enum: nobody who may write a status decides how many series there are.
    Some(known.find(|known| *known == condition.reason).unwrap_or("Other"))
}

/// Tells one gauge of every policy.
#[derive(Debug)]
pub(super) struct Tell {
    pub(super) policies: Policies,
    pub(super) gauge: PolicyGauge,
}

impl Collector for Tell {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let PolicyGauge {
            name,
            in_seconds,
            help,
            read,
        } = self.gauge;
        let unit = in_seconds.then_some(Unit::Seconds);
        let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        let now = self.policies.clock.now();
        self.policies.each(|namespace, name, policy| match read(policy, now) {
            Some(value) => {
                let labels = [("namespace", namespace), ("policy", name)];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)
            }
            None => Ok(()),
        })
    }
}

/// Tells the reason of every policy's compliance.
#[derive(Debug)]
pub(super) struct TellReason(pub(super) Policies);

impl Collector for TellReason {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(REASON.0, REASON.1, None, MetricType::Gauge)?;
        self.0
            .each(|namespace, name, policy| match policy.and_then(compliant_reason) {
                Some(reason) => {
                    let labels = [("namespace", namespace), ("policy", name), ("reason", reason)];
                    ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)
                }
                None => Ok(()),
            })
    }
}

/// Exposes the repaired and quarantined rows of every task.
#[derive(Debug)]
pub(super) struct TellRows(pub(super) Policies);

impl Collector for TellRows {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(ROWS.0, ROWS.1, None, MetricType::Gauge)?;
        self.0.each(|namespace, name, policy| {
            let status = policy.and_then(|policy| policy.status.as_ref());
            for task in status.into_iter().flat_map(|status| &status.tasks) {
                for (outcome, reason, rows) in rows_of(task) {
                    let labels = [
                        ("namespace", namespace),
                        ("policy", name),
                        ("task", task.name.as_str()),
                        ("outcome", outcome),
                        ("reason", reason),
                    ];
                    ConstGauge::new(rows).encode(family.encode_family(&labels)?)?;
                }
            }
            Ok(())
        })
    }
}

/// Exposes the rows that every task published or read.
#[derive(Debug)]
pub(super) struct TellRecords(pub(super) Policies);

impl Collector for TellRecords {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(RECORDS.0, RECORDS.1, None, MetricType::Gauge)?;
        self.0.each(|namespace, name, policy| {
            let status = policy.and_then(|policy| policy.status.as_ref());
            for task in status.into_iter().flat_map(|status| &status.tasks) {
                if let Some(records) = task.records {
                    let labels = [("namespace", namespace), ("policy", name), ("task", task.name.as_str())];
                    ConstGauge::new(records).encode(family.encode_family(&labels)?)?;
                }
            }
            Ok(())
        })
    }
}

/// Outcome, reason and number of the rows of a task. Reasons come from an enum: a writer of statuses cannot decide how many
/// series there are.
fn rows_of(task: &TaskStatus) -> impl Iterator<Item = (&'static str, &'static str, i64)> {
    let mut sums = BTreeMap::<_, i64>::new();
    let quarantined = task
        .quarantined
        .iter()
        .map(|(word, rows)| ("quarantined", quarantine_word(word), rows));
    let repaired = task
        .repaired
        .iter()
        .map(|(word, rows)| ("repaired", repair_word(word), rows));
    for (outcome, reason, rows) in quarantined.chain(repaired) {
        let sum = sums.entry((outcome, reason)).or_default();
        *sum = sum.saturating_add(*rows);
    }
    sums.into_iter()
        .map(|((outcome, reason), rows)| (outcome, reason, rows))
}

/// Tells how many policies there are.
#[derive(Debug)]
pub(super) struct Count(pub(super) Policies);

impl Collector for Count {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut count = 0_i64;
        self.0.each(|_, _, policy| {
            count += i64::from(policy.is_some());
            Ok(())
        })?;
        let family = encoder.encode_descriptor(COUNT.0, COUNT.1, None, MetricType::Gauge)?;
        ConstGauge::new(count).encode(family)
    }
}
