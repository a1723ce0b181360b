//! `self-test`: whether the operator of a cluster carries out a policy, as `helm test` asks.
//!
//! The policy is suspended from its beginning, so that no run starts, no pod is made and no Secret is needed.

use std::time::Duration;

use clap::Parser;
use k8s_openapi::api::batch::v1::CronJob;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
    client::retry::RetryPolicy,
};
use mapa_refresh_crds::{MapaRefreshPolicy, status::ConditionType};
use tokio::time::{Instant, sleep, timeout_at};
use tower::retry::RetryLayer;

use crate::{
    explain::Answer,
    kubeconfig::{self, Asked, ConnectionError, Environment, Timeouts},
    run::AGENT,
};

/// Tasks of a policy that names none.
const TASKS: usize = 3;
/// Between two looks: somebody waits, and there are few.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longest that taking the policy away may take: the garbage collector looks every 30 s for CustomResourceDefinitions that are new, and takes
/// away nothing of an owner whose kind it does not know.
const REMOVE_WITHIN: Duration = Duration::from_secs(90);

/// Settings of `self-test`.
#[derive(Clone, Debug, Parser)]
pub struct SelfTestSettings {
    /// Namespace of the policy, one that the operator watches; default: that of the pod, or of the kubeconfig's context
    #[arg(long, short, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Seconds that the operator gets
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout_seconds: u64,
}

/// Why the test failed.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// No runtime.
    #[error("could not start the runtime: {0}")]
    Runtime(#[source] std::io::Error),
    /// No cluster.
    #[error("could not find the cluster (KUBECONFIG, ~/.kube/config, or the pod's service account): {0}")]
    Connection(#[from] ConnectionError),
    /// The policy of the test is none: a fault of this program.
    #[error("the policy of the test is wrong: {0}")]
    Policy(#[source] serde_json::Error),
    /// The API server refuses what the test asks.
    #[error("could not {action}: {source}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// Time ran out.
    #[error("not within {seconds} s: {awaited}; {seen}")]
    TooLate {
        /// How long it was waited, in seconds.
        seconds: u64,
        /// What for.
        awaited: &'static str,
        /// What was seen last.
        seen: String,
    },
}

impl SelfTestError {
    fn refused(action: &'static str) -> impl Fn(kube::Error) -> Self {
        move |source| Self::Refused {
            action,
            source: Box::new(source),
        }
    }
}

/// Applies a policy, waits until it is carried out, and takes it away, whatever became of it.
#[must_use]
pub fn self_test(settings: &SelfTestSettings) -> Answer {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SelfTestError::Runtime)
        .and_then(|runtime| runtime.block_on(test(settings)));
    match outcome {
        Ok(stdout) => Answer {
            stdout,
            stderr: String::new(),
            exit_code: 0,
        },
        Err(error) => Answer {
            stdout: String::new(),
            stderr: format!("error: {error}\n"),
            exit_code: 1,
        },
    }
}

async fn test(settings: &SelfTestSettings) -> Result<String, SelfTestError> {
    let asked = Asked {
        namespace: settings.namespace.clone(),
        ..Asked::default()
    };
    let connection = kubeconfig::find(&asked, &Environment::of_process())?;
    let namespace = connection.namespace.clone();
    // An API server that has no time asks to be asked again.
    let repeats = RetryLayer::new(RetryPolicy::server_retry());
    let client = connection
        .client(AGENT, Timeouts::default())?
        .with_layer(&repeats)
        .build();
    let policies: Api<MapaRefreshPolicy> = Api::namespaced(client.clone(), &namespace);
    let cron_jobs: Api<CronJob> = Api::namespaced(client, &namespace);
    let deadline = Deadline {
        at: Instant::now() + Duration::from_secs(settings.timeout_seconds),
        seconds: settings.timeout_seconds,
    };
    // A name of its own: what an earlier test left behind, or one that runs now, is not in its way.
    let name = format!("mapa-self-test-{:06x}", fastrand::u32(..1 << 24));
    let policy = policy(&name).map_err(SelfTestError::Policy)?;
    let made = deadline
        .keep(
            "an answer of the API server",
            policies.create(&PostParams::default(), &policy),
        )
        .await?
        .map_err(SelfTestError::refused("create a policy"))?;

    let started = Instant::now();
    let outcome = is_carried_out(&policies, &cron_jobs, &made, &deadline).await;
    let took = started.elapsed();
    let gone = remove(&policies, &cron_jobs, &made).await;
    outcome.and(gone)?;
    Ok(format!(
        "the operator carried out the policy {namespace}/{name} ({TASKS} CronJobs, Ready) in {:.1} s; it is removed\n",
        took.as_secs_f64()
    ))
}

/// A policy that is lawful and starts nothing.
fn policy(name: &str) -> Result<MapaRefreshPolicy, serde_json::Error> {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "mapa.radar.dev/v1",
        "kind": "MapaRefreshPolicy",
        "metadata": { "name": name, "labels": { "app.kubernetes.io/component": "self-test" } },
        "spec": {
            "intervalMinutes": 10,
            "suspend": true,
            "suspendReason": "self-test of the operator",
            "database": { "kind": "postgresql", "secretRef": { "name": name } },
            "cache": { "secretRef": { "name": name }, "keyPrefix": name },
        },
    }))
}

async fn is_carried_out(
    policies: &Api<MapaRefreshPolicy>,
    cron_jobs: &Api<CronJob>,
    made: &MapaRefreshPolicy,
    deadline: &Deadline,
) -> Result<(), SelfTestError> {
    let name = made.metadata.name.as_deref().unwrap_or_default();
    deadline
        .until("the policy to be Ready", async || {
            let policy = policies
                .get(name)
                .await
                .map_err(SelfTestError::refused("read the policy"))?;
            Ok(not_ready(&policy))
        })
        .await?;
    deadline
        .until("its CronJobs", async || {
            let count = owned(cron_jobs, made).await?;
            Ok((count != TASKS).then(|| format!("{count} of {TASKS} are there")))
        })
        .await
}

/// Why the policy as it is now is not known to be carried out; nothing if it is.
fn not_ready(policy: &MapaRefreshPolicy) -> Option<String> {
    let conditions = policy.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions
        .filter(|condition| condition.observed_generation == policy.metadata.generation)
        .find(|condition| condition.type_ == ConditionType::Ready.as_str());
    match ready {
        None => Some("no operator has looked at it: see its logs, and whether it watches this namespace".to_owned()),
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(format!("{}: {}", ready.reason, ready.message)),
    }
}

async fn remove(
    policies: &Api<MapaRefreshPolicy>,
    cron_jobs: &Api<CronJob>,
    made: &MapaRefreshPolicy,
) -> Result<(), SelfTestError> {
    let deadline = Deadline {
        at: Instant::now() + REMOVE_WITHIN,
        seconds: REMOVE_WITHIN.as_secs(),
    };
    let name = made.metadata.name.as_deref().unwrap_or_default();
    deadline
        .keep(
            "an answer of the API server",
            policies.delete(name, &DeleteParams::background()),
        )
        .await?
        .map_err(SelfTestError::refused("delete the policy"))?;
    deadline
        .until("its CronJobs to go with it", async || {
            let count = owned(cron_jobs, made).await?;
            Ok((count != 0).then(|| format!("{count} are left: look at kube-controller-manager")))
        })
        .await
}

/// How many CronJobs belong to the policy, by its UID.
async fn owned(cron_jobs: &Api<CronJob>, policy: &MapaRefreshPolicy) -> Result<usize, SelfTestError> {
    let all = cron_jobs
        .list_metadata(&ListParams::default())
        .await
        .map_err(SelfTestError::refused("list CronJobs"))?;
    let owners = all.items.iter().flat_map(|one| &one.metadata.owner_references);
    Ok(owners
        .flatten()
        .filter(|owner| Some(&owner.uid) == policy.metadata.uid.as_ref())
        .count())
}

/// A moment, and how long it was away, in seconds.
struct Deadline {
    at: Instant,
    seconds: u64,
}

impl Deadline {
    /// What `answer` gives, if it comes in time.
    async fn keep<T>(&self, awaited: &'static str, answer: impl Future<Output = T>) -> Result<T, SelfTestError> {
        timeout_at(self.at, answer).await.map_err(|_| SelfTestError::TooLate {
            seconds: self.seconds,
            awaited,
            seen: "no answer".to_owned(),
        })
    }

    /// Looks until `missing` misses nothing more.
    async fn until(
        &self,
        awaited: &'static str,
        missing: impl AsyncFn() -> Result<Option<String>, SelfTestError>,
    ) -> Result<(), SelfTestError> {
        loop {
            let Some(seen) = self.keep(awaited, missing()).await?? else {
                return Ok(());
            };
            if Instant::now() + LOOK_EVERY >= self.at {
                return Err(SelfTestError::TooLate {
                    seconds: self.seconds,
                    awaited,
                    seen,
                });
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_condition(generation: i64, status: &str) -> MapaRefreshPolicy {
        let mut policy = serde_json::to_value(policy("x").unwrap()).unwrap();
        policy["metadata"]["generation"] = 2.into();
        policy["status"] = serde_json::json!({ "consecutiveFailures": 0, "retries": 0, "conditions": [{
            "type": "Ready", "status": status, "reason": "R", "message": "m", "observedGeneration": generation,
            "lastTransitionTime": "2026-11-25T10:00:00Z",
        }]});
        serde_json::from_value(policy).unwrap()
    }

    #[test]
    fn only_a_ready_true_of_the_present_generation_is_one() {
        assert_eq!(not_ready(&with_condition(2, "True")), None);
        assert_eq!(not_ready(&with_condition(2, "False")).as_deref(), Some("R: m"));
        assert!(not_ready(&with_condition(1, "True")).unwrap().contains("no operator"));
        assert!(not_ready(&policy("x").unwrap()).is_some());
    }
}
