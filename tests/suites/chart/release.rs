//! The life of a release on a real API server.

use std::{fs, path::Path, process::Command};

use mapa_refresh_tests::{
    helm::{chart, image_arguments, previous_chart},
    policy::Example,
};
use serde_json::Value;

use crate::world::{Cluster, Test, World, fixture};

pub const TESTS: &[Test] = &[
    (
        "release::it_is_installed_upgraded_rolled_back_and_uninstalled_and_policies_stay",
        life,
    ),
    (
        "release::live_policies_keep_identity_account_and_cron_jobs_from_the_previous_chart_to_this_one_and_back",
        upgraded,
    ),
    (
        "release::the_values_of_the_previous_chart_are_accepted_and_it_names_those_that_it_does_not_know",
        values_of_the_previous,
    ),
];

const NAMESPACE: &str = "mapa-system";
const CRD: &str = "crd/maparefreshpolicies.mapa.radar.dev";

fn life(_: &World) {
    // A cluster of its own: the CustomResourceDefinition belongs to the release.
    let cluster = Cluster::start();
    cluster.release("install", NAMESPACE, &["--create-namespace"]).unwrap();
    cluster.wait_for_crd();
    let example = Example::every_minute("radar", "roraima");
    cluster.kubectl().namespace("radar").unwrap();
    cluster.kubectl().apply(&example.manifest("")).unwrap();
    // What kubectl says where something is missing has its name in it, and would be the same before and after.
    let found = |arguments: &[&str]| cluster.kubectl().run(arguments).unwrap().trim().to_owned();
    let path_of_uid = "jsonpath={.metadata.uid}";
    let uid = || found(&["-n", "radar", "get", "mapa-refresh", "roraima", "-o", path_of_uid]);
    let before = uid();
    let of_deployment = |path: &str| {
        let path = format!("jsonpath={path}");
        cluster.ask(&[
            "-n",
            NAMESPACE,
            "get",
            "deployment",
            "mapa-refresh-operator",
            "-o",
            &path,
        ])
    };
    let checksum = || of_deployment("{.spec.template.metadata.annotations.checksum/config}");
    let image = || of_deployment("{.spec.template.spec.containers[0].image}");
    let (first_checksum, first_image) = (checksum(), image());
    assert_eq!(first_image, "ghcr.io/radar-dev/mapa-refresh-operator:0.1.0");

    define_monitors(&cluster);

    // Every template, accepted by the API server; names stay, so that it is the same release.
    let everything = fixture("values", "everything").display().to_string();
    let same_names = "--set=nameOverride=,fullnameOverride=,crds.keep=true";
    let with_everything = ["--values", &everything, same_names];
    cluster.release("upgrade", NAMESPACE, &with_everything).unwrap();
    assert_eq!(image(), "registry.example/operator:1.2.3");
    assert_ne!(checksum(), first_checksum, "another configuration is another pod");
    assert_eq!(of_deployment("{.metadata.annotations.i}"), "j");
    let names = |namespace: &str, kind: &str| found(&["-n", namespace, "get", kind, "-o", "name"]);
    for (kind, object) in [
        ("networkpolicy", "networkpolicy.networking.k8s.io/mapa-refresh-operator"),
        ("podmonitor", "podmonitor.monitoring.coreos.com/mapa-refresh-operator"),
        (
            "servicemonitor",
            "servicemonitor.monitoring.coreos.com/mapa-refresh-operator",
        ),
        (
            "prometheusrule",
            "prometheusrule.monitoring.coreos.com/mapa-refresh-operator",
        ),
    ] {
        assert_eq!(names(NAMESPACE, kind), object);
    }
    let dashboard = "configmap/mapa-refresh-operator-dashboard";
    assert!(names(NAMESPACE, "configmap").lines().any(|name| name == dashboard));
    assert_eq!(uid(), before, "a live policy stays");

    assert_operator_reads_the_configuration(&cluster);

    // What does not go together with the rest: several replicas, and a list of namespaces.
    let apart = "--set=replicas=3,leaderElection.enabled=true,podDisruptionBudget.enabled=true,watchNamespaces={radar}";
    cluster
        .release("upgrade", NAMESPACE, &[&with_everything[..], &[apart]].concat())
        .unwrap();
    let disruptions = "poddisruptionbudget.policy/mapa-refresh-operator";
    assert_eq!(names(NAMESPACE, "poddisruptionbudget"), disruptions);
    for kind in ["role", "rolebinding"] {
        let object = format!("{kind}.rbac.authorization.k8s.io/mapa-refresh-operator");
        assert_eq!(names("radar", kind), object);
        let cluster_wide = format!("cluster{kind}");
        let of_helm = ["-l", "app.kubernetes.io/managed-by=Helm"];
        let left = found(&[&["get", cluster_wide.as_str(), "-o", "name"][..], &of_helm].concat());
        assert_eq!(left, "", "{cluster_wide}");
    }
    assert_eq!(uid(), before, "a live policy stays");

    cluster
        .helm
        .run(["rollback", "mapa-refresh-operator", "1", "--namespace", NAMESPACE])
        .unwrap();
    assert_eq!((checksum(), image()), (first_checksum, first_image));
    assert_eq!(names(NAMESPACE, "networkpolicy"), "");
    assert_eq!(uid(), before, "a live policy stays");

    cluster
        .helm
        .run(["uninstall", "mapa-refresh-operator", "--namespace", NAMESPACE])
        .unwrap();
    assert_eq!(
        uid(),
        before,
        "what the release leaves: the definition and the policies"
    );
    let definition = "customresourcedefinition.apiextensions.k8s.io/maparefreshpolicies.mapa.radar.dev";
    assert_eq!(found(&["get", CRD, "-o", "name"]), definition);
    for kind in [
        "deployment",
        "service",
        "role",
        "rolebinding",
        "configmap",
        "serviceaccount",
    ] {
        let left = cluster.ask(&[
            "-n",
            NAMESPACE,
            "get",
            kind,
            "-o",
            "name",
            "-l",
            "app.kubernetes.io/managed-by=Helm",
        ]);
        assert_eq!(left, "", "{kind}");
    }
    for kind in ["clusterrole", "clusterrolebinding"] {
        let left = cluster.ask(&["get", kind, "-o", "name", "-l", "app.kubernetes.io/managed-by=Helm"]);
        assert_eq!(left, "", "{kind}");
    }

    // The next release takes over what the last one left.
    let images = image_arguments("a/operator:2", "a/runner:2");
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    cluster.release("install", NAMESPACE, &images).unwrap();
    assert_eq!(image(), "a/operator:2");
    assert_eq!(uid(), before);
}

/// The Prometheus operator's kinds, as far as a release needs them.
pub fn define_monitors(cluster: &Cluster) {
    for (kind, plural) in [
        ("PodMonitor", "podmonitors"),
        ("ServiceMonitor", "servicemonitors"),
        ("PrometheusRule", "prometheusrules"),
    ] {
        cluster.kubectl().apply(&definition(kind, plural)).unwrap();
        let name = format!("crd/{plural}.monitoring.coreos.com");
        let established = ["wait", "--for=condition=Established", &name, "--timeout=30s"];
        cluster.kubectl().run(established).unwrap();
    }
}

/// A CustomResourceDefinition of the Prometheus operator that takes everything.
fn definition(kind: &str, plural: &str) -> String {
    let singular = kind.to_lowercase();
    format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{ name: {plural}.monitoring.coreos.com }}
spec:
  group: monitoring.coreos.com
  names: {{ kind: {kind}, plural: {plural}, singular: {singular} }}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {{ openAPIV3Schema: {{ type: object, x-kubernetes-preserve-unknown-fields: true }} }}
"
    )
}

/// The operator refuses what it does not know: everything that the chart can write, it reads.
fn assert_operator_reads_the_configuration(cluster: &Cluster) {
    let file = cluster.plane.folder().join("everything.yaml");
    let text = cluster.ask(&[
        "-n",
        NAMESPACE,
        "get",
        "configmap",
        "mapa-refresh-operator",
        "-o",
        r"jsonpath={.data.config\.yaml}",
    ]);
    assert!(text.contains("system-cluster-critical"), "{text}");
    fs::write(&file, text).unwrap();
    let mut operator = Command::new(&cluster.operator);
    operator
        .args(["run", "--config"])
        .arg(&file)
        .env("KUBECONFIG", "/nonexistent");
    let output = operator.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Without a cluster it goes no further than that.
    assert!(
        !output.status.success() && said.contains("could not find the cluster"),
        "{said}"
    );
}

/// This chart with one field more in its definition, below `folder`.
fn next(folder: &Path) -> String {
    let copy = folder.join("next");
    let copied = Command::new("cp").arg("-r").arg(chart()).arg(&copy).status().unwrap();
    assert!(copied.success());
    let path = copy.join("files/maparefreshpolicies.yaml");
    let mut definition: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let fields = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties");
    fields.unwrap()["nextField"] = serde_json::json!({ "type": "string" });
    fs::write(&path, serde_yaml::to_string(&definition).unwrap()).unwrap();
    copy.display().to_string()
}

/// What must outlive every upgrade: of the policy identity, spec and account, of its CronJobs the identities.
fn lasting(cluster: &Cluster) -> String {
    let of_policy =
        "jsonpath={.metadata.uid} {.metadata.creationTimestamp} {.spec.cache.keyPrefix} {.status.compliance.since}";
    let policy = cluster.ask(&["-n", "radar", "get", "mapa-refresh", "roraima", "-o", of_policy]);
    let of_cron_jobs = "jsonpath={range .items[*]}{.metadata.name}={.metadata.uid} {end}";
    format!(
        "{policy} {}",
        cluster.ask(&["-n", "radar", "get", "cronjobs", "-o", of_cron_jobs])
    )
}

/// Changes the policy, and waits until the operator has carried the change out.
fn change(cluster: &Cluster, operator: &mapa_refresh_tests::process::Process, max_age: u32) {
    let policy = ["-n", "radar", "get", "mapa-refresh", "roraima", "-o"];
    let patch = format!(r#"{{"spec":{{"maxDataAgeMinutes":{max_age}}}}}"#);
    cluster
        .kubectl()
        .run([
            "-n",
            "radar",
            "patch",
            "mapa-refresh",
            "roraima",
            "--type=merge",
            "-p",
            &patch,
        ])
        .unwrap();
    let generations = || {
        let path = r#"jsonpath={.metadata.generation} {.status.observedGeneration} {.status.conditions[?(@.type=="Ready")].status}"#;
        let said = cluster.ask(&[&policy[..], &[path]].concat());
        match said.split(' ').collect::<Vec<_>>()[..] {
            [wanted, observed, "True"] if wanted == observed => "carried out".to_owned(),
            _ => format!("{said}; {}", operator.last_lines()),
        }
    };
    cluster.wait_until("the change to be carried out", 40, generations, "carried out");
}

fn upgraded(_: &World) {
    let cluster = Cluster::start();
    let fixed = [
        "install",
        "mapa-refresh-operator",
        &previous_chart().display().to_string(),
        "--namespace",
        NAMESPACE,
    ];
    cluster.helm.run(fixed.iter().chain(&["--create-namespace"])).unwrap();
    cluster.wait_for_crd();
    cluster.kubectl().namespace("radar").unwrap();
    let example = Example::every_minute("radar", "roraima");
    cluster.kubectl().apply(&example.manifest("")).unwrap();

    cluster.release("upgrade", NAMESPACE, &[]).unwrap();
    let operator = cluster.start_operator(NAMESPACE, &[]);
    change(&cluster, &operator, 29);
    let before = lasting(&cluster);
    assert_eq!(before.matches('=').count(), 3, "{before}");
    assert_eq!(before.matches('T').count(), 2, "an account is kept: {before}");

    // A version to come, whose policies have a field that this one does not know.
    let name_of_field = "jsonpath={.spec.nextField}";
    let field = || cluster.ask(&["-n", "radar", "get", "mapa-refresh", "roraima", "-o", name_of_field]);
    let next = next(cluster.plane.folder());
    let to_next = ["upgrade", "mapa-refresh-operator", &next, "--namespace", NAMESPACE];
    cluster.helm.run(to_next).unwrap();
    let patch = r#"{"spec":{"nextField":"kept"}}"#;
    let set = [
        "-n",
        "radar",
        "patch",
        "mapa-refresh",
        "roraima",
        "--type=merge",
        "-p",
        patch,
    ];
    let kept = || match cluster.kubectl().run(set) {
        // The API server takes the new schema up a moment later, and drops the field until then.
        Ok(_) => field(),
        Err(error) => error.to_string(),
    };
    cluster.wait_until("the next version's field to be kept", 40, kept, "kept");
    change(&cluster, &operator, 26);
    assert_eq!(
        (field(), lasting(&cluster)),
        ("kept".to_owned(), before.clone()),
        "a newer definition is no obstacle"
    );
    cluster
        .helm
        .run(["rollback", "mapa-refresh-operator", "2", "--namespace", NAMESPACE])
        .unwrap();
    cluster.wait_until("the field to go with its definition", 40, field, "");
    change(&cluster, &operator, 25);
    assert_eq!(lasting(&cluster), before);
    drop(operator);

    cluster
        .helm
        .run(["rollback", "mapa-refresh-operator", "1", "--namespace", NAMESPACE])
        .unwrap();
    // The previous definition lacks fields of this version, whose operator would lose what it writes there.
    let operator = cluster.start_operator(NAMESPACE, &["--leader-elect=false"]);
    let standing = || {
        let lines = operator.last_lines();
        if lines.contains("is older than this operator") {
            "waits".to_owned()
        } else {
            lines
        }
    };
    cluster.wait_until("this operator to find an older definition", 40, standing, "waits");
    assert_eq!(
        lasting(&cluster),
        before,
        "the definition went back as well, and dropped nothing"
    );
    cluster.release("upgrade", NAMESPACE, &[]).unwrap();
    change(&cluster, &operator, 27);
    assert_eq!(lasting(&cluster), before);
}

fn values_of_the_previous(_: &World) {
    let cluster = Cluster::start();
    let all = cluster
        .helm
        .run(["show", "values", &previous_chart().display().to_string()])
        .unwrap();
    let file = cluster.plane.folder().join("previous.yaml");
    fs::write(&file, all).unwrap();
    let values = ["--values", &file.display().to_string(), "--create-namespace"];
    let fixed = [
        "install",
        "mapa-refresh-operator",
        &previous_chart().display().to_string(),
        "--namespace",
        NAMESPACE,
    ];
    cluster.helm.run(fixed.iter().chain(&values)).unwrap();
    // Every value of it, written out, and those that it has in its release.
    cluster.release("upgrade", NAMESPACE, &values).unwrap();
    cluster
        .release(
            "upgrade",
            NAMESPACE,
            &["--reset-then-reuse-values", "--set=log.level=debug"],
        )
        .unwrap();
    // The other way round: what only this chart knows is named.
    let fixed = [
        "upgrade",
        "mapa-refresh-operator",
        &previous_chart().display().to_string(),
        "--namespace",
        NAMESPACE,
    ];
    let error = cluster
        .helm
        .run(fixed.iter().chain(&["--set=metrics.port=9090"]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("'metrics' not allowed"), "{error}");
}
