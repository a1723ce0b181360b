//! The operator as a pod, from the image of its own Dockerfile, as the Helm chart installs it.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mapa_refresh_tests::{
    helm::{chart, image_arguments},
    images, limit,
    policy::Example,
    process, progress,
    wait::{self, Look},
};
use serde_json::Value;

use crate::{
    restricted::{assert_restricted, identities, nobody, process_of},
    world::{Test, World},
};

pub const TESTS: &[Test] = &[(
    "in_cluster::the_chart_installs_a_restricted_operator_within_10_seconds_that_reconciles_with_roles_alone",
    reconciles,
)];

const NAMESPACE: &str = "in-cluster";
const RELEASE: &str = "mapa-refresh-operator";
/// The operator's process, as the kernel calls it, which keeps 15 letters.
const COMMAND: &str = "mapa-refresh-op";
/// From `helm install` to an operator that is up, on a machine that does nothing else.
const INSTALLED_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// From the API server's answer about a new policy to that about the last of its CronJobs.
const CRON_JOBS_WITHIN: Duration = Duration::from_secs(1);
/// What an operator that has nothing to do may take of the node's memory, in MB of PSS.
const IDLE: f64 = 10.0;

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
    let took = SignedDuration::try_from(started.elapsed()).unwrap();
    limit::keeps("helm install, until the operator is up", took, INSTALLED_WITHIN);

    let run = |arguments: &[&str]| kubectl.run(["-n", NAMESPACE].iter().chain(arguments));
    let operators = || {
        let label = "app.kubernetes.io/name=mapa-refresh-operator";
        run(&["get", "pods", "-l", label, "-o", "json"]).unwrap()
    };
    assert_restricted(&operators(), true);
    let example = Example {
        interval_minutes: 30,
        ..Example::every_minute(NAMESPACE, "roraima")
    };
    kubectl.apply(&example.manifest("")).unwrap();
    let created = wait::until("three CronJobs", Duration::from_secs(20), || {
        match until_cron_jobs(&world.audit_events()) {
            Ok(took) => Look::Met(took),
            Err(count) => Look::Saw(format!("{count}")),
        }
    })
    .unwrap();
    progress::say(&format!("policy → its three CronJobs: {:.3} s", created.as_secs_f64()));
    assert!(created < CRON_JOBS_WITHIN, "{created:?}");
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
    are_small_and_nobody(&operators());
    helm.run(["test", RELEASE, "--namespace", NAMESPACE, "--timeout=180s"])
        .unwrap();
    assert_eq!(run(&["get", "mapa-refresh", "-o", "name"]).unwrap(), "");
    helm.run(["uninstall", RELEASE, "--namespace", NAMESPACE]).unwrap();
}

/// How long the operator took from the policy to its third CronJob, by the API server's own words; else how many there are.
fn until_cron_jobs(events: &[Value]) -> Result<Duration, usize> {
    let created = |resource: &str| -> Vec<Timestamp> {
        let of_it = events.iter().filter(|event| {
            event["objectRef"]["namespace"] == NAMESPACE
                && event["objectRef"]["resource"] == resource
                && event["responseStatus"]["code"] == 201
        });
        of_it
            .filter_map(|event| event["stageTimestamp"].as_str()?.parse().ok())
            .collect()
    };
    let (policies, cron_jobs) = (created("maparefreshpolicies"), created("cronjobs"));
    match (policies.first(), cron_jobs.get(2)) {
        (Some(policy), Some(last)) => Ok(Duration::try_from(last.duration_since(*policy)).unwrap_or_default()),
        _ => Err(cron_jobs.len()),
    }
}

/// Asserts of the processes of kubectl's `list` of pods what only the node knows: how much memory they take, and as whom they run.
fn are_small_and_nobody(list: &str) {
    let list: Value = serde_json::from_str(list).unwrap();
    let pods = list["items"].as_array().unwrap();
    assert_eq!(pods.len(), 2, "{list}");
    for pod in pods {
        let id = process_of(pod, COMMAND).unwrap();
        let memory = process::proportional_memory(id).unwrap();
        let name = &pod["metadata"]["name"];
        progress::say(&format!("{name}, idle: {memory:.1} MB PSS"));
        assert!(memory < IDLE, "{name}: {memory:.1} MB");
        assert_eq!(identities(id), Some(nobody()), "{name}");
    }
}
