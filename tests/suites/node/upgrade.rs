//! From the chart before this one to this one and back, while a policy is alive and the operators are pods.

use std::{collections::BTreeSet, time::Duration};

use mapa_refresh_tests::{
    helm::{chart, image_arguments, previous_chart},
    images,
    kubectl::Kubectl,
    policy::Example,
    wait::{self, Look},
};
use serde_json::Value;

use crate::world::{Test, World, condition};

pub const TESTS: &[Test] = &[(
    "upgrade::a_live_policy_goes_through_upgrade_and_rollback_with_the_operator_in_its_pods",
    upgraded,
)];

const NAMESPACE: &str = "upgrade";
const RELEASE: &str = "mapa-refresh-operator";
/// What the chart before this one runs, and what this one runs unless told otherwise.
const REPLICAS: [usize; 2] = [1, 2];

/// The chart before this one knows no election, which the operator of today holds unless told otherwise: with this both charts have one.
const LEASE: &str = "apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: lease-of-the-previous, namespace: upgrade }
rules:
- { apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: lease-of-the-previous, namespace: upgrade }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: lease-of-the-previous }
subjects:
- { kind: ServiceAccount, name: mapa-refresh-operator, namespace: upgrade }
";

fn upgraded(world: &World) {
    let tenant = Tenant {
        kubectl: world.kubectl(),
        example: Example::every_minute(NAMESPACE, "roraima"),
    };
    tenant.kubectl.namespace(NAMESPACE).unwrap();
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    tenant
        .kubectl
        .run(["label", "namespace", NAMESPACE, restricted])
        .unwrap();
    tenant.kubectl.apply(LEASE).unwrap();
    let (database, cache) = (world.database(), world.cache());
    let host = world.host();
    let secrets = tenant.example.secrets(&database.url(host), &cache.url(host));
    tenant.kubectl.apply(&secrets).unwrap();

    let helm = world.helm();
    let release = |verb: &[&str], further: &[&str]| {
        let fixed = ["--namespace", NAMESPACE, "--wait", "--timeout=90s"];
        helm.run(verb.iter().chain(&fixed).chain(further)).unwrap();
    };
    let previous = previous_chart().display().to_string();
    let images = image_arguments(images::OPERATOR, images::JOB_RUNNER);
    // The cluster's tests share the definition, and each operator watches its own namespace.
    let narrow = "--set=crds.install=false,watchNamespaces={upgrade}";
    let of_install: Vec<&str> = images.iter().map(String::as_str).chain([narrow]).collect();
    release(&["install", RELEASE, &previous], &of_install);
    tenant.kubectl.apply(&tenant.example.manifest("")).unwrap();
    tenant.wait("Ready and compliant", 150, |policy| {
        condition(policy, "Ready")["status"] == "True" && condition(policy, "Compliant")["status"] == "True"
    });
    let before = tenant.lasting();
    assert_eq!(before.cron_jobs.len(), 3, "{before:?}");
    let of_previous = tenant.one_of_these_leads(REPLICAS[0], &BTreeSet::new());

    let current = chart().display().to_string();
    release(&["upgrade", RELEASE, &current], &["--reset-then-reuse-values"]);
    let of_current = tenant.one_of_these_leads(REPLICAS[1], &of_previous);
    tenant.carries_out(29);
    assert_eq!(tenant.lasting(), before, "after the upgrade");

    release(&["rollback", RELEASE, "1"], &[]);
    let earlier = of_previous.union(&of_current).cloned().collect();
    tenant.one_of_these_leads(REPLICAS[0], &earlier);
    tenant.carries_out(28);
    assert_eq!(tenant.lasting(), before, "after the rollback");

    release(&["uninstall", RELEASE], &[]);
    wait::until("the operators to end", Duration::from_secs(30), || {
        let left = tenant.run(&["get", "pods", "-l", OPERATORS, "-o", "name"]);
        Look::when(left.is_empty(), left)
    })
    .unwrap();
    assert_eq!(tenant.lasting(), before, "after the end of the release");
    // Its runs would go on for as long as the cluster does.
    tenant.run(&["delete", "mapa-refresh", "roraima"]);
}

const OPERATORS: &str = "app.kubernetes.io/name=mapa-refresh-operator";

/// What no change of the release may touch: of the policy its identity, account and since when it has been Ready, of each CronJob its
/// identity.
#[derive(Debug, PartialEq)]
struct Lasting {
    policy: Value,
    account: Value,
    ready: (Value, Value),
    cron_jobs: BTreeSet<(String, String)>,
}

/// The namespace with the release and its policy.
struct Tenant {
    kubectl: Kubectl,
    example: Example,
}

impl Tenant {
    fn run(&self, arguments: &[&str]) -> String {
        self.kubectl.run(["-n", NAMESPACE].iter().chain(arguments)).unwrap()
    }

    fn get(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[&["get", "-o", "json"][..], arguments].concat())).unwrap()
    }

    fn policy(&self) -> Value {
        self.get(&["mapa-refresh", "roraima"])
    }

    fn wait(&self, what: &str, seconds: u64, is_met: impl Fn(&Value) -> bool) {
        wait::until(what, Duration::from_secs(seconds), || {
            let policy = self.policy();
            if is_met(&policy) {
                return Look::Met(());
            }
            let log = self
                .kubectl
                .run(["-n", NAMESPACE, "logs", "-l", OPERATORS, "--tail=20"]);
            Look::Saw(format!(
                "{}\n{}",
                policy["status"],
                log.unwrap_or_else(|error| error.to_string())
            ))
        })
        .unwrap();
    }

    /// Changes the spec, and waits until the operator has carried the change out.
    fn carries_out(&self, max_age: u32) {
        let patch = format!(r#"{{"spec":{{"maxDataAgeMinutes":{max_age}}}}}"#);
        self.run(&["patch", "mapa-refresh", "roraima", "--type=merge", "-p", &patch]);
        self.wait("the change to be carried out", 40, |policy| {
            condition(policy, "Ready")["status"] == "True"
                && policy["status"]["observedGeneration"] == policy["metadata"]["generation"]
        });
    }

    fn lasting(&self) -> Lasting {
        let policy = self.policy();
        let ready = condition(&policy, "Ready");
        let name_and_uid = |object: &Value| {
            let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
            (text("name"), text("uid"))
        };
        Lasting {
            policy: policy["metadata"]["uid"].clone(),
            account: policy["status"]["compliance"]["since"].clone(),
            ready: (ready["status"].clone(), ready["lastTransitionTime"].clone()),
            cron_jobs: self.get(&["cronjobs"])["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(name_and_uid)
                .collect(),
        }
    }

    /// Waits until there are `count` operators and one of them holds the only Lease; asserts that none of them is among `earlier`. Their
    /// UIDs.
    fn one_of_these_leads(&self, count: usize, earlier: &BTreeSet<String>) -> BTreeSet<String> {
        wait::until("a leader among the operators that are there", Duration::from_secs(30), || {
            let pods = self.get(&["pods", "-l", OPERATORS]);
            let pods = pods["items"].as_array().unwrap();
            let text = |pod: &Value, field: &str| pod["metadata"][field].as_str().unwrap().to_owned();
            let leases = self.get(&["leases"]);
            let holders: Vec<&str> = leases["items"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|lease| lease["spec"]["holderIdentity"].as_str())
                .collect();
            // A replica's name, and what tells its process from others.
            let leads = |pod: &Value| matches!(holders[..], [holder] if holder.rsplit_once('_').is_some_and(|(name, _)| name == text(pod, "name")));
            let uids: BTreeSet<String> = pods.iter().map(|pod| text(pod, "uid")).collect();
            let is_running = |pod: &Value| {
                pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running"
            };
            if pods.len() == count
                && pods.iter().all(is_running)
                && pods.iter().any(leads)
                && uids.is_disjoint(earlier)
            {
                Look::Met(uids)
            } else {
                let names: Vec<String> = pods.iter().map(|pod| text(pod, "name")).collect();
                Look::Saw(format!("pods {names:?}, the Lease is held by {holders:?}"))
            }
        })
        .unwrap()
    }
}
