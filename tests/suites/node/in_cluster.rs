//! The operator as a pod, from the image of its own Dockerfile, as the Helm chart installs it.

use std::time::{Duration, Instant};

use mapa_refresh_tests::{
    helm::{chart, image_arguments},
    images,
    policy::Example,
    progress,
    wait::{self, Look},
};

use crate::{
    restricted::assert_restricted,
    world::{Test, World},
};

pub const TESTS: &[Test] = &[(
    "in_cluster::the_chart_installs_a_restricted_operator_within_10_seconds_that_reconciles_with_roles_alone",
    reconciles,
)];

const NAMESPACE: &str = "in-cluster";
const RELEASE: &str = "mapa-refresh-operator";
/// From `helm install` to an operator that is up, on a machine that does nothing else beside the other tests.
const INSTALLED_WITHIN: Duration = Duration::from_secs(10);

fn reconciles(world: &World) {
    let kubectl = world.kubectl();
    kubectl.namespace(NAMESPACE).unwrap();
    kubectl
        .run([
            "label",
            "namespace",
            NAMESPACE,
            "pod-security.kubernetes.io/enforce=restricted",
        ])
        .unwrap();
    let helm = world.helm();
    let chart = chart().display().to_string();
    let install = [
        "install",
        RELEASE,
        &chart,
        "--namespace",
        NAMESPACE,
        // The cluster's tests share the definition, and each operator watches its own namespace.
        "--set=crds.install=false,watchNamespaces={in-cluster}",
        "--wait",
        "--timeout=60s",
    ];
    let images = image_arguments(images::OPERATOR, images::JOB_RUNNER);
    let started = Instant::now();
    helm.run(install.into_iter().chain(images.iter().map(String::as_str)))
        .unwrap();
    let took = started.elapsed();
    progress::say(&format!(
        "helm install, until the operator is up: {:.1} s",
        took.as_secs_f64()
    ));
    assert!(took < INSTALLED_WITHIN, "{took:?}");

    let run = |arguments: &[&str]| kubectl.run(["-n", NAMESPACE].iter().chain(arguments));
    let operators = run(&[
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/name=mapa-refresh-operator",
        "-o",
        "json",
    ]);
    assert_restricted(&operators.unwrap(), true);
    let example = Example {
        interval_minutes: 30,
        ..Example::every_minute(NAMESPACE, "roraima")
    };
    kubectl.apply(&example.manifest("")).unwrap();
    wait::until("the policy to be Ready", Duration::from_secs(60), || {
        let reason = r#"jsonpath={.status.conditions[?(@.type=="Ready")].reason}"#;
        match run(&["get", "mapa-refresh", "roraima", "-o", reason]) {
            Ok(reason) if reason == "Reconciled" => Look::Met(()),
            Ok(reason) => Look::Saw(format!(
                "{reason:?}; {}",
                run(&["logs", "deployment/mapa-refresh-operator"]).unwrap_or_else(|error| error.to_string())
            )),
            Err(error) => Look::Saw(error.to_string()),
        }
    })
    .unwrap();
    assert_eq!(run(&["get", "cronjobs", "-o", "name"]).unwrap().lines().count(), 3);
    wait::until(
        "the first run, which waits for no slot",
        Duration::from_secs(30),
        || {
            let jobs = run(&["get", "jobs", "-o", "name"]).unwrap();
            Look::when(jobs.contains("roraima-refresh-mv-portal-r"), jobs)
        },
    )
    .unwrap();
    run(&["delete", "mapa-refresh", "roraima"]).unwrap();
    helm.run(["test", RELEASE, "--namespace", NAMESPACE, "--timeout=180s"])
        .unwrap();
    assert_eq!(run(&["get", "mapa-refresh", "-o", "name"]).unwrap(), "");
    helm.run(["uninstall", RELEASE, "--namespace", NAMESPACE]).unwrap();
}
