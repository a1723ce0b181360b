//! Whether each operator is alive: its Lease is renewed, or, where it has none, its Deployment has a pod that is ready.

use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{Client, api::ListParams};

use super::{
    check::Check,
    installed::{Installed, LABELS, list},
};
use crate::{plugin::terminal::duration, settings::LEASE_NAME};

const SUBJECT: &str = "operator";

/// Seconds for which a Lease holds that does not say it.
const LEASE_SECONDS: i32 = 15;

/// Judges the operators that Deployments run; where there are none, one that runs elsewhere by its Lease in `namespace`, or in all.
pub async fn check(client: &Client, namespace: Option<&str>, installed: &kube::Result<Vec<Installed>>) -> Vec<Check> {
    match installed {
        Ok(installed) if !installed.is_empty() => installed
            .iter()
            .map(|installed| of_deployment(installed, Timestamp::now()))
            .collect(),
        _ => {
            let named = ListParams::default().fields(&format!("metadata.name={LEASE_NAME}"));
            let leases = list(client, namespace, &named).await;
            vec![elsewhere(&leases, installed.is_ok(), Timestamp::now())]
        }
    }
}

fn of_deployment(installed: &Installed, now: Timestamp) -> Check {
    let Installed {
        namespace,
        name,
        ready,
        lease,
        ..
    } = installed;
    if let Some(held) = lease.as_ref().and_then(Held::read) {
        return held.judge(&format!("{namespace}/{name}"), now);
    }
    if *ready > 0 {
        Check::passed(
            SUBJECT,
            format!("Deployment {namespace}/{name} has {ready} pods that are ready"),
        )
    } else {
        Check::failed(
            SUBJECT,
            format!("Deployment {namespace}/{name} has no pod that is ready"),
            format!(
                "look at `kubectl -n {namespace} describe deployment {name}` and its pods' logs; the CronJobs go on meanwhile"
            ),
        )
    }
}

/// An operator without a Deployment: the one that renewed its Lease last.
fn elsewhere(leases: &kube::Result<Vec<Lease>>, deployments_seen: bool, now: Timestamp) -> Check {
    let held = leases.iter().flatten().filter_map(Held::read);
    if let Some(newest) = held.max_by_key(|held| held.renewed) {
        return newest.judge(newest.place, now);
    }
    match leases {
        Err(error) if !deployments_seen => Check::unanswered(SUBJECT, error),
        Ok(_) if deployments_seen => Check::failed(
            SUBJECT,
            format!("there is no Lease {LEASE_NAME} and no Deployment with {LABELS}"),
            "install the chart, as its README says; name its namespace by --operator-namespace if you may not look everywhere",
        ),
        _ => Check::unseen(
            SUBJECT,
            "neither a Lease nor a Deployment of it can be seen from here",
            "name its namespace by --operator-namespace, or ask somebody who may list Leases and Deployments",
        ),
    }
}

/// A Lease that somebody holds or held.
struct Held<'a> {
    place: &'a str,
    holder: &'a str,
    renewed: Timestamp,
    seconds: i64,
}

impl<'a> Held<'a> {
    fn read(lease: &'a Lease) -> Option<Self> {
        let spec = lease.spec.as_ref()?;
        Some(Self {
            place: lease.metadata.namespace.as_deref().unwrap_or_default(),
            holder: spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())?,
            renewed: spec.renew_time.as_ref()?.0,
            seconds: spec.lease_duration_seconds.unwrap_or(LEASE_SECONDS).into(),
        })
    }

    /// Whether the operator at `place` is led.
    fn judge(&self, place: &str, now: Timestamp) -> Check {
        let Self { holder, .. } = self;
        let since = now.as_second() - self.renewed.as_second();
        if since <= self.seconds {
            return Check::passed(
                SUBJECT,
                format!("{holder} leads in {place}, renewed {} ago", duration(since.max(0))),
            );
        }
        Check::failed(
            SUBJECT,
            format!(
                "nobody leads in {place}: {holder} last renewed its Lease {} ago",
                duration(since)
            ),
            format!(
                "look at its pods: `kubectl -n {} get pods -l {LABELS}` and their logs; the CronJobs go on meanwhile",
                self.place
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::check::Verdict;
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn lease(namespace: &str, renewed: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": { "name": LEASE_NAME, "namespace": namespace },
            "spec": { "holderIdentity": "pod-a", "leaseDurationSeconds": 15, "renewTime": renewed },
        }))
        .unwrap()
    }

    fn installed(ready: i32, lease: Option<Lease>) -> Installed {
        Installed {
            namespace: "mapa-system".to_owned(),
            name: "o".to_owned(),
            ready,
            selector: "app=o".to_owned(),
            account: "o".to_owned(),
            settings: None,
            lease,
        }
    }

    #[test]
    fn a_lease_lives_as_long_as_it_says_and_wins_over_the_pods() {
        let verdict = |ready, lease| of_deployment(&installed(ready, lease), now()).verdict;
        let lives = || Some(lease("mapa-system", "2026-11-23T09:59:45.000000Z"));
        let died = || Some(lease("mapa-system", "2026-11-23T09:59:44.000000Z"));
        assert_eq!(verdict(0, lives()), Verdict::Passed);
        assert_eq!(verdict(1, died()), Verdict::Failed);
        assert_eq!(verdict(1, None), Verdict::Passed);
        assert_eq!(verdict(0, None), Verdict::Failed);
    }

    #[test]
    fn an_operator_without_a_deployment_is_known_by_the_newest_lease() {
        let leases = |all: &[(&str, &str)]| Ok(all.iter().map(|(place, renewed)| lease(place, renewed)).collect());
        let two = leases(&[
            ("old", "2026-11-22T10:00:00.000000Z"),
            ("new", "2026-11-23T09:59:50.000000Z"),
        ]);
        let check = elsewhere(&two, true, now());
        assert_eq!(check.verdict, Verdict::Passed);
        assert!(check.finding.contains("leads in new"), "{}", check.finding);
        assert_eq!(elsewhere(&leases(&[]), true, now()).verdict, Verdict::Failed);
        assert_eq!(elsewhere(&leases(&[]), false, now()).verdict, Verdict::Unseen);
    }
}
