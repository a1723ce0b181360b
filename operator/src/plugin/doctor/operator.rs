//! Whether an operator is alive: its Lease is renewed, or its Deployment has a pod that is ready.

use k8s_openapi::{
    api::{apps::v1::Deployment, coordination::v1::Lease},
    jiff::Timestamp,
};
use kube::{Api, Client, api::ListParams};

use super::check::Check;
use crate::plugin::{cluster::Cluster, terminal::duration};

const SUBJECT: &str = "operator";

/// Name of the Lease by which replicas agree on a leader.
const LEASE: &str = "mapa-refresh-operator";
/// Label of the chart's objects.
const LABEL: &str = "app.kubernetes.io/name=mapa-refresh-operator";

/// Seconds for which a Lease holds that does not say it.
const LEASE_SECONDS: i32 = 15;

/// Looks for it in `namespace`, or in all.
pub async fn check(cluster: &Cluster, namespace: Option<&str>) -> Check {
    let leases = list::<Lease>(
        &cluster.client,
        namespace,
        ListParams::default().fields(&format!("metadata.name={LEASE}")),
    )
    .await;
    let deployments = list::<Deployment>(&cluster.client, namespace, ListParams::default().labels(LABEL)).await;
    match (leases, deployments) {
        (Err(error), Err(_)) => Check::unanswered(SUBJECT, &error),
        (leases, deployments) => {
            let everything_seen = leases.is_ok() && deployments.is_ok();
            judge(
                &leases.unwrap_or_default(),
                &deployments.unwrap_or_default(),
                everything_seen,
                Timestamp::now(),
            )
        }
    }
}

async fn list<K>(client: &Client, namespace: Option<&str>, which: ListParams) -> Result<Vec<K>, kube::Error>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    api.list(&which).await.map(|list| list.items)
}

fn judge(leases: &[Lease], deployments: &[Deployment], everything_seen: bool, now: Timestamp) -> Check {
    let held: Vec<(&Lease, Timestamp, String)> = leases
        .iter()
        .filter_map(|lease| {
            let spec = lease.spec.as_ref()?;
            let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
            Some((lease, spec.renew_time.as_ref()?.0, holder))
        })
        .collect();
    let newest = held.iter().max_by_key(|(_, renewed, _)| *renewed);
    if let Some((lease, renewed, holder)) = newest {
        let place = lease.metadata.namespace.as_deref().unwrap_or_default();
        let since = now.as_second() - renewed.as_second();
        let lasts = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds)
            .unwrap_or(LEASE_SECONDS);
        if since <= i64::from(lasts) {
            return Check::passed(
                SUBJECT,
                format!("{holder} leads in {place}, renewed {} ago", duration(since.max(0))),
            );
        }
        return Check::failed(
            SUBJECT,
            format!(
                "nobody leads in {place}: {holder} last renewed its Lease {} ago",
                duration(since)
            ),
            format!(
                "look at its pods: `kubectl -n {place} get pods -l {LABEL}` and their logs; the CronJobs go on meanwhile"
            ),
        );
    }
    let ready = |deployment: &Deployment| {
        let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas);
        ready.unwrap_or_default()
    };
    let best = deployments.iter().max_by_key(|deployment| ready(deployment));
    match best {
        Some(deployment) => {
            let place = deployment.metadata.namespace.as_deref().unwrap_or_default();
            let name = deployment.metadata.name.as_deref().unwrap_or_default();
            if ready(deployment) > 0 {
                Check::passed(
                    SUBJECT,
                    format!(
                        "Deployment {place}/{name} has {} pods that are ready",
                        ready(deployment)
                    ),
                )
            } else {
                Check::failed(
                    SUBJECT,
                    format!("Deployment {place}/{name} has no pod that is ready"),
                    format!(
                        "look at `kubectl -n {place} describe deployment {name}` and its pods' logs; the CronJobs go on meanwhile"
                    ),
                )
            }
        }
        None if everything_seen => Check::failed(
            SUBJECT,
            format!("there is no Lease {LEASE} and no Deployment with {LABEL}"),
            "install the chart: `helm install mapa-refresh-operator charts/mapa-refresh-operator -n mapa-system --create-namespace`; \
             name its namespace by --operator-namespace if you may not look everywhere",
        ),
        None => Check::unseen(
            SUBJECT,
            "neither a Lease nor a Deployment of it can be seen from here",
            "name its namespace by --operator-namespace, or ask somebody who may list Leases and Deployments",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::check::Verdict;
    use super::*;

    const NOW: &str = "2026-11-23T10:00:00Z";

    fn lease(renewed: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": { "name": LEASE, "namespace": "mapa-system" },
            "spec": { "holderIdentity": "pod-a", "leaseDurationSeconds": 15, "renewTime": renewed },
        }))
        .unwrap()
    }

    fn deployment(ready: i32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": { "name": "o", "namespace": "mapa-system" }, "status": { "readyReplicas": ready },
        }))
        .unwrap()
    }

    #[test]
    fn a_lease_lives_as_long_as_it_says_and_wins_over_the_deployment() {
        let verdict = |leases: &[Lease], deployments: &[Deployment]| {
            judge(leases, deployments, true, NOW.parse().unwrap()).verdict
        };
        assert_eq!(verdict(&[lease("2026-11-23T09:59:45.000000Z")], &[]), Verdict::Passed);
        assert_eq!(
            verdict(&[lease("2026-11-23T09:59:44.000000Z")], &[deployment(1)]),
            Verdict::Failed
        );
        assert_eq!(verdict(&[], &[deployment(1)]), Verdict::Passed);
        assert_eq!(verdict(&[], &[deployment(0)]), Verdict::Failed);
        assert_eq!(verdict(&[], &[]), Verdict::Failed);
        assert_eq!(judge(&[], &[], false, NOW.parse().unwrap()).verdict, Verdict::Unseen);
    }
}
