//! Objects that cannot be decoded are skipped, counted and logged, and each gets an Event.
//!
//! A policy also gets conditions, so that its last status does not stand for ever: claims are withdrawn, proved facts stay. Reconciling
//! resumes once the policy decodes again.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Resource,
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use mapa_refresh_crds::{
    MapaRefreshPolicyStatus,
    report::clean,
    status::{CompliantReason, ConditionType, ReadyReason, SuspendedReason},
};
use tracing::{error, info, warn};

use crate::{
    conditions,
    error::Error,
    feasibility,
    fingerprint::Uid,
    guard::{Guard, Invalid},
    reconcile::{Context, Guarded},
    records::PolicyKey,
    risk, status, transitions,
};

const MAX_NOTE: usize = 512;
/// Longest words of the decoder in a message, in bytes of JSON: they repeat what stands in the field, and the remedy comes after them.
const MAX_WORDS: usize = 240;
/// Most objects that are remembered as reported: a flood of them costs log lines, not memory.
const MAX_REMEMBERED: usize = 10_000;
/// Most Jobs that are gone and still to be counted, per policy that cannot be decoded: ten hours of three tasks every twenty minutes. The
/// report of each carries what was published in about a day before it.
const MAX_UNCOUNTED: usize = 96;
/// After which a status that was refused is tried again: the definition may be another by then. A correction is an event of the watch.
const REFUSED_AGAIN: Duration = Duration::from_secs(600);
/// A status is shortened in eight steps, and each look leaves out one at least.
const MAX_LOOKS: usize = 8;

/// Objects and versions that were reported already.
#[derive(Debug, Default)]
pub struct Undecodable {
    reported: Mutex<HashSet<(Uid, Box<str>)>>,
    /// Policies, by their generation, whose status the API server refuses.
    refused: Mutex<HashSet<(Uid, i64)>>,
}

impl Undecodable {
    /// Number of reported objects and versions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn is_newly_refused(&self, policy: &ObjectMeta) -> bool {
        let uid = Uid::parse(policy.uid.as_deref().unwrap_or_default());
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.len() < MAX_REMEMBERED && refused.insert((uid, policy.generation.unwrap_or_default()))
    }

    fn is_new(&self, uid: &str, version: &str) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.len() < MAX_REMEMBERED && reported.insert((Uid::parse(uid), version.into()))
    }
}

impl Context {
    /// Reports `object` if it could not be decoded, once per state: in the log, and by an Event on itself.
    pub fn report_undecodable<K: Resource<DynamicType = ()>>(self: &Arc<Self>, object: &Guard<K>) {
        let Err(invalid) = &object.object else { return };
        let version = invalid.metadata.resource_version.as_deref().unwrap_or_default();
        if !self.log_undecodable::<K>(invalid, version) {
            return;
        }
        let mut reason = invalid.error.clone();
        clean(&mut reason, MAX_NOTE);
        let event = Event {
            type_: EventType::Warning,
            reason: ReadyReason::Undecodable.as_str().to_owned(),
            note: Some(format!("the operator cannot decode this object and skips it: {reason}")),
            action: "Decode".to_owned(),
            secondary: None,
        };
        let reference = object.object_ref(&());
        let context = Arc::clone(self);
        if tokio::runtime::Handle::try_current().is_err() {
            warn!("no runtime to publish the Event");
            return;
        }
        tokio::spawn(async move { context.writer.events(&reference, &[event]).await });
    }

    /// Logs what cannot be decoded of a policy, once per generation. Its conditions and their Events follow when it is reconciled.
    pub fn log_undecodable_policy(&self, policy: &Guarded) {
        if let Err(invalid) = &policy.object {
            let generation = invalid.metadata.generation.unwrap_or_default().to_string();
            self.log_undecodable::<mapa_refresh_crds::MapaRefreshPolicy>(invalid, &generation);
        }
    }

    /// False: this version of the object was logged already.
    fn log_undecodable<K: Resource<DynamicType = ()>>(&self, invalid: &Invalid, version: &str) -> bool {
        let meta = &invalid.metadata;
        if !self
            .undecodable
            .is_new(meta.uid.as_deref().unwrap_or_default(), version)
        {
            return false;
        }
        let mut reason = invalid.error.clone();
        clean(&mut reason, MAX_NOTE);
        error!(
            kind = %K::kind(&()),
            namespace = meta.namespace.as_deref().unwrap_or_default(),
            name = meta.name.as_deref().unwrap_or_default(),
            error = reason,
            count = self.undecodable.count(),
            "an object cannot be decoded and is skipped; compare the installed CRD with this operator's version"
        );
        true
    }

    /// Writes the conditions of the policy `key`, which cannot be decoded, unless they are up to date.
    ///
    /// # Errors
    /// What could not be finished and is to be tried again.
    pub async fn tell_undecodable(
        &self,
        key: &PolicyKey,
        policy: &Guarded,
        invalid: &Invalid,
    ) -> Result<Action, Error> {
        if invalid.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        self.index.keep_newest(key, MAX_UNCOUNTED);
        // The guard has left in it what can be decoded.
        let previous: MapaRefreshPolicyStatus = serde_json::from_value(invalid.status.clone()).unwrap_or_default();
        let told = settled(invalid, &previous, self.clock.now());
        if told == previous && policy.lost.is_none() {
            self.backoff.reset(key);
            return Ok(Action::await_change());
        }
        let written = self.writer.status_of_undecodable(&invalid.metadata, &told).await;
        let mut events = transitions::events(&previous.conditions, &told.conditions);
        if let Err(error) = written {
            if !is_refused(&error) {
                return Err(error);
            }
            if self.undecodable.is_newly_refused(&invalid.metadata) {
                warn!(%error, "the API server takes no status of a policy that cannot be decoded before it is corrected");
                self.writer.events(&policy.object_ref(&()), &events).await;
            }
            return Ok(Action::requeue(REFUSED_AGAIN));
        }
        events.extend(policy.lost.as_deref().map(status_lost));
        for event in &events {
            info!(
                reason = event.reason,
                note = event.note,
                condition = event.action,
                "condition changed"
            );
        }
        self.writer.events(&policy.object_ref(&()), &events).await;
        self.backoff.reset(key);
        Ok(Action::await_change())
    }
}

/// A rule of the definition errs where it meets another type than its own, and the API server then refuses every write of the object, its
/// status too. (A rule that is not obeyed by what was stored before, it forgives.)
fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Api { source, .. } if matches!(&**source, kube::Error::Api(status) if status.code == 422))
}

/// The Event for a status of which a part was lost because of `error`.
#[must_use]
pub fn status_lost(error: &str) -> Event {
    let mut reason = error.to_owned();
    clean(&mut reason, MAX_NOTE);
    Event {
        type_: EventType::Warning,
        reason: "StatusLost".to_owned(),
        note: Some(format!(
            "the operator cannot decode all of the status, which nobody but itself writes: what can be decoded is kept, the rest begins \
             anew. {reason}"
        )),
        action: "Decode".to_owned(),
        secondary: None,
    }
}

/// The status to write: a second look at it changes nothing more. Shortening it may leave room for words that the next look would put back.
fn settled(invalid: &Invalid, previous: &MapaRefreshPolicyStatus, now: Timestamp) -> MapaRefreshPolicyStatus {
    let mut status = told(invalid, previous, now);
    for _ in 0..MAX_LOOKS {
        let again = told(invalid, &status, now);
        if again == status {
            break;
        }
        status = again;
    }
    status
}

/// The status of a policy whose spec cannot be decoded. Proved facts stay: publications, runs, the account. What follows from the spec is
/// unknown.
fn told(invalid: &Invalid, previous: &MapaRefreshPolicyStatus, now: Timestamp) -> MapaRefreshPolicyStatus {
    let mut words = invalid.error.clone();
    clean(&mut words, MAX_WORDS);
    let (at_risk, feasible) = (risk::not_carried_out(), feasibility::not_carried_out());
    let told = [
        (
            ConditionType::Ready,
            "False",
            ReadyReason::Undecodable.as_str(),
            format!(
                "the operator cannot decode this policy: {words}. Its CronJobs stay as they are, and no run is counted, until it is \
                 corrected: `kubectl explain mapa-refresh.spec` says what each field takes. If the policy is right, bring CRD and operator \
                 to one version"
            ),
        ),
        (
            ConditionType::Compliant,
            "Unknown",
            CompliantReason::Undecodable.as_str(),
            "the limit cannot be known, because the operator cannot decode the policy: see Ready".to_owned(),
        ),
        (
            ConditionType::Suspended,
            "Unknown",
            SuspendedReason::Undecodable.as_str(),
            "the CronJobs stay as they are, because the operator cannot decode the policy: see Ready".to_owned(),
        ),
        (at_risk.type_, "True", at_risk.reason, at_risk.message),
        (feasible.type_, "False", feasible.reason, feasible.message),
    ];
    let mut status = previous.clone();
    let was_suspended = previous
        .conditions
        .iter()
        .any(|condition| condition.type_ == ConditionType::Suspended.as_str() && condition.status == "True");
    if was_suspended && let Some(account) = &mut status.compliance {
        // It is known until now, and will not be known any more when the account is brought forward next.
        let until = account.accounted_until.0.as_second();
        let seconds = now.as_second().saturating_sub(until).max(0);
        account.seconds_suspended = account.seconds_suspended.saturating_add(seconds);
    }
    let generation = invalid.metadata.generation;
    for (type_, value, reason, message) in told {
        conditions::put(&mut status.conditions, (type_, value, reason, message), generation, now);
    }
    status.observed_generation = generation;
    // Claims that follow from the limit, from the schedule and from the tasks that are asked for.
    status.compliant_until = None;
    status.worst_case_data_age_seconds = None;
    status.next_schedule_time = None;
    status::shorten(&mut status);
    status
}

/// Whether `conditions` record that the policy could not be decoded.
#[must_use]
pub fn is_told(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| {
        condition.type_ == ConditionType::Ready.as_str() && condition.reason == ReadyReason::Undecodable.as_str()
    })
}

#[cfg(test)]
mod tests;
