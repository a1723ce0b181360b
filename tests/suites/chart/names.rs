//! Names that YAML would take for something else, on a real API server.

use mapa_refresh_tests::{helm::chart, operator::Operator};
use serde_json::{Value, json};

use crate::world::{Cluster, Test, World};

pub const TESTS: &[Test] = &[
    (
        "names::a_release_y_in_a_namespace_of_digits_is_installed_upgraded_and_uninstalled",
        installed,
    ),
    (
        "names::releases_and_namespaces_that_yaml_takes_for_numbers_and_nothing_are_taken_by_the_api_server",
        ambiguous,
    ),
    (
        "names::a_label_that_is_called_namespace_moves_no_object",
        label_called_namespace,
    ),
];

const SWITCHES: &str = "--set=crds.install=false,networkPolicy.enabled=true,metrics.dashboard.enabled=true";

fn helm(cluster: &Cluster, verb: &str, release: &str, namespace: &str, further: &[&str]) -> String {
    let chart = chart().display().to_string();
    let fixed = [verb, release, &chart, "--namespace", namespace];
    cluster.helm.run(fixed.iter().chain(further)).unwrap()
}

/// What the release made in its namespace, and of the cluster.
fn objects(cluster: &Cluster, release: &str, namespace: &str) -> Vec<String> {
    let label = format!("app.kubernetes.io/instance={release}");
    let kinds = "deployment,service,configmap,serviceaccount,role,rolebinding,networkpolicy,poddisruptionbudget,clusterrole,clusterrolebinding";
    let found = cluster.ask(&["-n", namespace, "get", kinds, "-l", &label, "-o", "name"]);
    found.lines().map(str::to_owned).collect()
}

fn installed(world: &World) {
    let cluster = world.cluster();
    let (release, namespace) = ("y", "943161054");
    helm(
        cluster,
        "install",
        release,
        namespace,
        &["--create-namespace", SWITCHES],
    );
    let made = objects(cluster, release, namespace);
    for object in [
        "deployment.apps/y-mapa-refresh-operator",
        "service/y-mapa-refresh-operator-metrics",
        "configmap/y-mapa-refresh-operator",
        "serviceaccount/y-mapa-refresh-operator",
        "role.rbac.authorization.k8s.io/y-mapa-refresh-operator-leader-election",
        "rolebinding.rbac.authorization.k8s.io/y-mapa-refresh-operator-leader-election",
        "networkpolicy.networking.k8s.io/y-mapa-refresh-operator",
        "poddisruptionbudget.policy/y-mapa-refresh-operator",
        "clusterrole.rbac.authorization.k8s.io/y-mapa-refresh-operator",
        "clusterrolebinding.rbac.authorization.k8s.io/y-mapa-refresh-operator",
    ] {
        assert!(made.iter().any(|found| found == object), "{object}: {made:?}");
    }
    let read = |path: &str, kind: &str| {
        let path = format!("jsonpath={path}");
        cluster.ask(&["-n", namespace, "get", kind, "y-mapa-refresh-operator", "-o", &path])
    };
    assert_eq!(read("{.subjects[0].namespace}", "clusterrolebinding"), namespace);

    // The tests share the cluster: this operator looks at its own namespace alone.
    let narrow = format!("--set-string=watchNamespaces={{{namespace}}},podLabels.y=no");
    helm(cluster, "upgrade", release, namespace, &[SWITCHES, &narrow]);
    assert_eq!(read("{.spec.template.metadata.labels.y}", "deployment"), "no");
    // The operator that has this configuration and this account works, and holds the Lease of that name.
    let folder = cluster.plane.folder().join(namespace);
    std::fs::create_dir_all(&folder).unwrap();
    let config = folder.join("config.yaml");
    std::fs::write(&config, read(r"{.data.config\.yaml}", "configmap")).unwrap();
    let kubeconfig = cluster.kubeconfig_of(namespace, "y-mapa-refresh-operator");
    let operator = Operator::configured(cluster.operator.clone(), &kubeconfig, &config, &folder)
        .start()
        .unwrap();
    let holder = || match read("{.spec.holderIdentity}", "lease") {
        holder if holder.is_empty() || holder.contains("NotFound") => operator.last_lines(),
        _ => "held".to_owned(),
    };
    cluster.wait_until("the Lease to be held", 30, holder, "held");
    assert!(operator.terminate());

    cluster
        .helm
        .run(["uninstall", release, "--namespace", namespace])
        .unwrap();
    assert_eq!(objects(cluster, release, namespace), Vec::<String>::new());
}

fn ambiguous(world: &World) {
    let cluster = world.cluster();
    for (release, namespace) in [
        ("null", "1e3"),
        ("9", "0x1f"),
        ("1.5", "no"),
        ("on", "0"),
        ("0x1f", "null"),
    ] {
        helm(
            cluster,
            "install",
            release,
            namespace,
            &["--create-namespace", SWITCHES],
        );
        let made = objects(cluster, release, namespace);
        assert!(made.len() > 9, "{release} in {namespace}: {made:?}");
        // A Service is a name in DNS, which begins with a letter and has no dots.
        let service = made.iter().find_map(|object| object.strip_prefix("service/")).unwrap();
        assert!(
            service.starts_with(|first: char| first.is_ascii_lowercase()),
            "{service}"
        );
        assert!(!service.contains('.'), "{service}");
        cluster
            .helm
            .run(["uninstall", release, "--namespace", namespace])
            .unwrap();
    }
}

fn label_called_namespace(world: &World) {
    let cluster = world.cluster();
    for namespace in ["labelled", "labelled-a"] {
        cluster.kubectl().namespace(namespace).unwrap();
    }
    // Its line in a manifest is that of the namespace.
    let labels = json!({ "namespace": "labelled", "x.example/namespace": "labelled" });
    let labels = format!("--set-json=commonLabels={labels}");
    let annotations = format!("--set-json=commonAnnotations={}", json!({ "namespace": "labelled" }));
    let narrow = "--set=watchNamespaces={labelled-a}";
    helm(
        cluster,
        "install",
        "labelled",
        "labelled",
        &[SWITCHES, narrow, &labels, &annotations],
    );
    for (namespace, kind, name) in [
        ("labelled-a", "role", "labelled-mapa-refresh-operator"),
        ("labelled-a", "rolebinding", "labelled-mapa-refresh-operator"),
        ("labelled", "deployment", "labelled-mapa-refresh-operator"),
        ("labelled", "role", "labelled-mapa-refresh-operator-leader-election"),
    ] {
        let object = cluster.ask(&["-n", namespace, "get", kind, name, "-o", "json"]);
        let object: Value = serde_json::from_str(&object).unwrap_or_else(|_| panic!("{kind} {name}: {object}"));
        let found = (
            &object["metadata"]["labels"]["namespace"],
            &object["metadata"]["labels"]["x.example/namespace"],
            &object["metadata"]["annotations"]["namespace"],
        );
        let all = json!("labelled");
        assert_eq!(found, (&all, &all, &all), "{kind} {name}");
    }
    // Without a list it is a ClusterRole, which has no namespace.
    helm(
        cluster,
        "upgrade",
        "labelled",
        "labelled",
        &[SWITCHES, &labels, &annotations],
    );
    let role = cluster.ask(&["get", "clusterrole", "labelled-mapa-refresh-operator", "-o", "json"]);
    let role: Value = serde_json::from_str(&role).unwrap_or_else(|_| panic!("{role}"));
    assert_eq!(role["metadata"]["labels"]["namespace"], "labelled");
}
