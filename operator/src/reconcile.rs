//! The driver: observe → validate → desired → apply → fold → Jobs beside the schedule → status → events.
//!
//! Level-based: nothing here depends on what triggered it, and every call may be a repeat after a crash.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Resource,
    runtime::{controller::Action, reflector::ObjectRef},
};
use mapa_refresh_crds::{MapaRefreshPolicy, MapaRefreshPolicyStatus};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::{
    applied::Applied,
    apply::Writer,
    backoff::Backoff,
    clock::Clock,
    deletion::{Deletion, deletion},
    desired::desired,
    error::{Class, Error},
    extra_runs::WantedJob,
    fingerprint::Uid,
    guard::Guard,
    health::work::Work,
    index::Index,
    observe::{Observed, observe},
    records::PolicyKey,
    settings::RunnerSettings,
    status::{Facts, Folded, credentials, fold},
    transitions,
    undecodable::{self, Undecodable},
    validate::validate,
    vitals::Vitals,
};

/// A policy as the watch delivers it: perhaps undecodable, which concerns it alone.
pub type Guarded = Guard<MapaRefreshPolicy>;

/// What every reconcile needs.
pub struct Context {
    /// The caches.
    pub index: Arc<Index>,
    /// Becomes true when every cache has been filled once.
    pub synced: watch::Receiver<bool>,
    /// The only writer.
    pub writer: Writer,
    /// Which undecodable objects were reported.
    pub undecodable: Undecodable,
    /// How and where runs happen.
    pub runner: RunnerSettings,
    /// The time.
    pub clock: Clock,
    /// Waits between failed tries.
    pub backoff: Backoff,
    /// Policies whose newest state we know from our own write before the watch tells it.
    pub written: Mutex<HashMap<PolicyKey, MapaRefreshPolicy>>,
    /// What the operator tells of itself.
    pub vitals: Arc<Vitals>,
    /// What this loop has to do.
    pub work: Arc<Work>,
}

/// Brings one policy into its desired state and tells what became of it.
///
/// # Errors
/// What could not be finished and is to be tried again.
pub async fn reconcile(policy: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let key = PolicyKey::of_policy(policy.meta()).ok_or(Error::Incomplete("namespace or name"))?;
    context.wait_until_synced().await;
    let (cached, lost) = match &policy.object {
        Ok(cached) => (cached, policy.lost.as_deref()),
        Err(invalid) => return context.tell_undecodable(&key, &policy, invalid).await,
    };
    let policy = context.newest(&key, cached);
    // What we wrote since is whole.
    let lost = lost.filter(|_| policy.metadata.resource_version == cached.metadata.resource_version);
    let held = match deletion(&policy) {
        None => None,
        // Garbage collection takes the CronJobs, Jobs and pods away.
        Some(Deletion::UnderWay) => return Ok(Action::await_change()),
        Some(Deletion::Held(refusal)) => Some(refusal),
    };
    let uid = Uid::parse(policy.metadata.uid.as_deref().ok_or(Error::Incomplete("uid"))?);
    let now = context.clock.now();
    let previous = policy.status.clone().unwrap_or_default();

    let since = policy.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let mut observed = observe(&context.index, &key, uid, since);
    let credentials = credentials(&policy, &previous);
    let plan = held.map_or_else(
        || {
            validate(
                &key.namespace,
                &key.name,
                &policy.spec,
                &context.runner,
                credentials,
                now,
            )
        },
        Err,
    );
    let (wanted, mut applied) = match &plan {
        Ok(plan) => {
            let wanted = desired(&policy, plan, &context.runner);
            let writer = &context.writer;
            let applied = writer
                .cron_jobs(&policy, &wanted, &observed, &context.index, now)
                .await?;
            (wanted, applied)
        }
        Err(_) => (Vec::new(), Applied::default()),
    };
    let folded = |applied: &Applied, observed: &Observed, attempted: &[WantedJob]| {
        fold(Facts {
            policy: &policy,
            previous: &previous,
            plan: plan.as_ref(),
            desired: &wanted,
            applied,
            runs: &observed.runs,
            other_jobs: &observed.other_jobs,
            attempted,
            now,
        })
    };
    let mut outcome = folded(&applied, &observed, &[]);
    if !outcome.jobs.is_empty() {
        let writer = &context.writer;
        let refused = writer
            .jobs(&policy, &outcome.jobs, &wanted, &context.index, &observed, now)
            .await?;
        applied.problems.extend(refused);
        // What was created is now among what is there.
        observed = observe(&context.index, &key, uid, since);
        outcome = folded(&applied, &observed, &outcome.jobs);
    }
    let Folded {
        status,
        look_again,
        counted,
        jobs: _,
        finished,
    } = outcome;
    if status != previous || lost.is_some() {
        context.write_status(&key, &policy, &previous, lost, status).await?;
        context.vitals.metrics.runs_ended(&finished);
    }
    context.index.retire(&key, &counted);

    let doubted = plan.as_ref().ok().and_then(|plan| plan.credible_at);
    let look_again = look_again.into_iter().chain(doubted).min();
    let Some(problem) = applied.problems.first() else {
        context.backoff.reset(&key);
        return Ok(wake(look_again, None, now));
    };
    // No event tells when a foreign CronJob goes away or a quota grows.
    let retry = context.backoff.failed(&key);
    debug!(problem = problem.refusal.message, ?retry, "will look again");
    Ok(wake(look_again, Some(retry), now))
}

fn wake(look_again: Option<Timestamp>, retry: Option<Duration>, now: Timestamp) -> Action {
    let until = look_again.map(|moment| Duration::try_from(moment.duration_since(now)).unwrap_or_default());
    match until.into_iter().chain(retry).min() {
        Some(wait) => Action::requeue(wait),
        None => Action::await_change(),
    }
}

/// Decides when a policy whose reconcile failed is tried again.
pub fn on_error(policy: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let Some(key) = PolicyKey::of_policy(policy.meta()) else {
        return Action::await_change();
    };
    match error.class() {
        Class::Invalid => {
            error!(%error, "the policy cannot be reconciled");
            Action::await_change()
        }
        Class::Waiting => {
            debug!(%error, "will try again with newer state");
            Action::requeue(context.backoff.failed(&key))
        }
        Class::Transient => {
            let retry = context.backoff.failed(&key);
            warn!(%error, class = error.label(), ?retry, "could not finish, will try again");
            Action::requeue(retry)
        }
    }
}

impl Context {
    /// A policy is gone: nothing about it is kept.
    pub fn forget(&self, key: &PolicyKey) {
        self.index.policy_gone(key);
        self.writer.forget(key);
        self.work.dropped(key);
        self.backoff.reset(key);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Waits until every cache has been filled once.
    pub async fn wait_until_synced(&self) {
        let mut synced = self.synced.clone();
        // The sender lives as long as the watches; without it the process is stopping.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// The policy as the watch told it, or as we wrote it when that is newer.
    fn newest(&self, key: &PolicyKey, cached: &MapaRefreshPolicy) -> MapaRefreshPolicy {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get(key) {
            Some(ours) if ours.metadata.uid == cached.metadata.uid && version(ours) > version(cached) => ours.clone(),
            Some(_) => {
                written.remove(key);
                cached.clone()
            }
            None => cached.clone(),
        }
    }

    async fn write_status(
        &self,
        key: &PolicyKey,
        policy: &MapaRefreshPolicy,
        previous: &MapaRefreshPolicyStatus,
        lost: Option<&str>,
        status: MapaRefreshPolicyStatus,
    ) -> Result<(), Error> {
        let mut written = match self.writer.status(policy, status).await {
            Ok(written) => written,
            Err(error) => {
                // If what we wrote last is out of date, the watch knows better.
                self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
                return Err(error);
            }
        };
        let after = written
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        let mut events = transitions::events(&previous.conditions, after);
        events.extend(lost.map(undecodable::status_lost));
        for event in &events {
            info!(
                reason = event.reason,
                note = event.note,
                condition = event.action,
                "condition changed"
            );
        }
        let reference = policy.object_ref(&());
        written.metadata.managed_fields = None;
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), written);
        self.writer.events(&reference, &events).await;
        Ok(())
    }
}

/// Resource versions are comparable as integers (KEP-5504).
fn version(policy: &MapaRefreshPolicy) -> Option<u64> {
    policy.metadata.resource_version.as_deref()?.parse().ok()
}

/// A reference by which the queue knows the policy `key`.
#[must_use]
pub fn object_ref(key: &PolicyKey) -> ObjectRef<Guarded> {
    ObjectRef::new(&key.name).within(&key.namespace)
}
