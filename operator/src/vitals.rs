//! What the operator tells of itself: metrics, and whether it is ready and alive.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use kube::runtime::controller::Action;
use tokio::sync::watch;
use tracing::{Instrument, field::Empty, info_span};

use crate::{
    clock::Clock,
    election::Standing,
    error::Error,
    health::Health,
    metrics::Metrics,
    reconcile::{Context, Guarded, reconcile},
    records::PolicyKey,
};

/// Metrics and health.
#[derive(Debug)]
pub struct Vitals {
    /// What is counted.
    pub metrics: Metrics,
    /// Whether it is ready and alive.
    pub health: Health,
    /// How this replica stands in the election.
    pub standing: watch::Sender<Standing>,
    reconciles: AtomicU64,
}

impl Vitals {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let (standing, stands) = watch::channel(Standing::Unknown {
            why: "the lease was not looked at yet".to_owned(),
        });
        let health = Health::default();
        // A follower that reaches the API server and sees the lease is ready to take over.
        health.require("lease", move || match &*stands.borrow() {
            Standing::Leader | Standing::Follower { .. } => Vec::new(),
            Standing::Unknown { why } => vec![why.clone()],
        });
        Self {
            metrics: Metrics::new(clock),
            health,
            standing,
            reconciles: AtomicU64::new(1),
        }
    }
}

/// [`reconcile`], measured, within a span that names the policy and its version.
///
/// # Errors
/// As those of [`reconcile`].
pub async fn measured(policy: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    // What waits for the caches does not work, and is no measure of anything.
    context.wait_until_synced().await;
    let metadata = match &policy.object {
        Ok(policy) => &policy.metadata,
        Err(invalid) => &invalid.metadata,
    };
    let key = PolicyKey::of_policy(metadata).ok_or(Error::Incomplete("namespace or name"))?;
    let span = info_span!(
        "reconcile",
        id = context.vitals.reconciles.fetch_add(1, Ordering::Relaxed),
        namespace = %key.namespace,
        policy = %key.name,
        resource_version = metadata.resource_version.as_deref().unwrap_or_default(),
        error = Empty,
        otel.status_code = Empty,
    );
    let started = Instant::now();
    let running = context.work.begun(&key, started);
    let outcome = reconcile(Arc::clone(&policy), Arc::clone(&context))
        .instrument(span.clone())
        .await;
    drop(running);
    if let Err(error) = &outcome {
        span.record("error", tracing::field::display(error));
        span.record("otel.status_code", "ERROR");
    }
    context
        .vitals
        .metrics
        .reconciled(started.elapsed(), outcome.as_ref().err());
    outcome
}
