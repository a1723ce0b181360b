//! The test of a release: what `helm test` starts, run as a process with the account that the chart gives it.

use std::process::{Command, Output};

use serde_json::Value;

use crate::world::{Cluster, Test, World};

pub const TESTS: &[Test] = &[(
    "self_test::it_passes_with_the_fewest_permissions_says_why_it_fails_and_leaves_nothing",
    self_test,
)];

const NAMESPACE: &str = "mapa-system";
const NAME: &str = "mapa-refresh-operator-self-test";

fn self_test(_: &World) {
    // A cluster of its own: the CustomResourceDefinition belongs to the release.
    let cluster = Cluster::start();
    cluster.kubectl().namespace(NAMESPACE).unwrap();
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    cluster
        .kubectl()
        .run(["label", "namespace", NAMESPACE, restricted])
        .unwrap();
    cluster
        .release("install", NAMESPACE, &["--set=selfTest.timeoutSeconds=30"])
        .unwrap();
    cluster.wait_for_crd();
    let hooks = ["get", "hooks", "mapa-refresh-operator", "--namespace", NAMESPACE];
    // There is no node on which helm could wait for the pod: its objects are made, and its arguments are run here.
    cluster
        .kubectl()
        .apply(&cluster.helm.run(hooks).unwrap())
        .expect("Pod Security lets the pod in");
    let pod = cluster.ask(&["-n", NAMESPACE, "get", "pod", NAME, "-o", "json"]);
    let pod: Value = serde_json::from_str(&pod).unwrap();
    assert_ne!(
        pod["metadata"]["labels"]["app.kubernetes.io/name"], "mapa-refresh-operator",
        "the operator's Service selects by it"
    );
    let arguments: Vec<&str> = pod["spec"]["containers"][0]["args"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();

    let operator = cluster.start_operator(NAMESPACE, &[]);
    let passed = run(&cluster, NAME, &arguments);
    let said = String::from_utf8_lossy(&passed.stdout).into_owned();
    assert!(
        passed.status.success(),
        "{said}{}; {}",
        String::from_utf8_lossy(&passed.stderr),
        operator.last_lines()
    );
    assert!(
        said.contains("3 CronJobs, Ready") && said.contains("it is removed"),
        "{said}"
    );
    assert_nothing_is_left(&cluster);

    let forbidden = run(&cluster, "default", &arguments);
    let said = String::from_utf8_lossy(&forbidden.stderr).into_owned();
    assert_eq!(forbidden.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("error: could not create a policy: ") && said.contains("forbidden"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");

    drop(operator);
    // Long enough for a busy API server to answer at all.
    let namespace = format!("--namespace={NAMESPACE}");
    let alone = run(&cluster, NAME, &["self-test", &namespace, "--timeout-seconds=8"]);
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert_eq!(alone.status.code(), Some(1), "{said}");
    assert!(
        said.contains("not within 8 s: the policy to be Ready; no operator has looked at it"),
        "{said}"
    );
    assert_nothing_is_left(&cluster);
}

fn run(cluster: &Cluster, account: &str, arguments: &[&str]) -> Output {
    Command::new(&cluster.operator)
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig_of(NAMESPACE, account))
        .output()
        .unwrap()
}

fn assert_nothing_is_left(cluster: &Cluster) {
    for kind in ["mapa-refresh", "cronjobs", "jobs"] {
        let left = cluster
            .kubectl()
            .run(["-n", NAMESPACE, "get", kind, "-o", "name"])
            .unwrap();
        assert_eq!(left, "", "{kind}");
    }
}
