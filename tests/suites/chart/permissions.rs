//! The permissions that the chart gives suffice for the operator, and reach no further.

use mapa_refresh_tests::{operator::Operator, policy::Example, process::Process};
use serde_json::Value;

use crate::world::{Cluster, Test, World};

pub const TESTS: &[Test] = &[
    (
        "permissions::the_cluster_role_suffices_in_every_namespace_and_reaches_no_further",
        everywhere,
    ),
    (
        "permissions::the_roles_suffice_in_the_listed_namespaces_and_reach_no_other",
        listed,
    ),
    (
        "permissions::view_edit_and_admin_of_the_cluster_reach_policies",
        aggregated,
    ),
];

/// What the operator may do where policies are, and nothing else: one line for each rule.
const RULES: [&str; 7] = [
    " pods [list watch]",
    "batch cronjobs [create delete get list update watch]",
    "batch jobs [create get list watch]",
    "events.k8s.io events [create patch]",
    "mapa.radar.dev maparefreshpolicies [list watch]",
    "mapa.radar.dev maparefreshpolicies/finalizers [update]",
    "mapa.radar.dev maparefreshpolicies/status [update]",
];

/// What it may do in its own namespace beside that.
const LEASE_RULES: [&str; 2] = [
    "coordination.k8s.io leases [create]",
    "coordination.k8s.io leases mapa-refresh-operator [get update]",
];

/// The operator as a process that has the configuration and the token of the release, and nothing else.
fn start(cluster: &Cluster, namespace: &str) -> Process {
    let plane = &cluster.plane;
    let folder = plane.folder().join(namespace);
    std::fs::create_dir_all(&folder).unwrap();
    let config = folder.join("config.yaml");
    let text = cluster.ask(&[
        "-n",
        namespace,
        "get",
        "configmap",
        "mapa-refresh-operator",
        "-o",
        r"jsonpath={.data.config\.yaml}",
    ]);
    std::fs::write(&config, text).unwrap();
    let token = cluster.ask(&["-n", namespace, "create", "token", "mapa-refresh-operator"]);
    let kubeconfig = folder.join("kubeconfig");
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{ "name": "x", "cluster": { "server": plane.server(), "certificate-authority": plane.pki().path("ca.crt") } }],
        "users": [{ "name": "x", "user": { "token": token } }],
        "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    Operator::configured(cluster.operator.clone(), &kubeconfig, &config, &folder)
        .start()
        .unwrap()
}

fn reconciles(cluster: &Cluster, operator: &Process, namespace: &str) {
    let example = Example {
        interval_minutes: 30,
        ..Example::every_minute(namespace, "roraima")
    };
    cluster.kubectl().apply(&example.manifest("")).unwrap();
    let ready = || {
        let reason = r#"jsonpath={.status.conditions[?(@.type=="Ready")].reason}"#;
        let reason = cluster.ask(&["-n", namespace, "get", "mapa-refresh", "roraima", "-o", reason]);
        if reason == "Reconciled" {
            reason
        } else {
            format!("{reason}; {}", operator.last_lines())
        }
    };
    cluster.wait_until("the policy to be Ready", 20, ready, "Reconciled");
    let count = || {
        cluster
            .ask(&["-n", namespace, "get", "cronjobs", "-o", "name"])
            .lines()
            .count()
            .to_string()
    };
    assert_eq!(count(), "3");
    // Repair, deletion of what is too much, and an Event each need a verb of their own.
    let cron_job = "cronjob/roraima-refresh-mv-portal";
    let schedule = || cluster.ask(&["-n", namespace, "get", cron_job, "-o", "jsonpath={.spec.schedule}"]);
    let before = schedule();
    cluster.ask(&[
        "-n",
        namespace,
        "patch",
        cron_job,
        "-p",
        r#"{"spec":{"schedule":"0 0 1 1 *"}}"#,
    ]);
    cluster.wait_until("the CronJob to be put back", 20, schedule, &before);
    cluster
        .kubectl()
        .apply(&example.manifest("  tasks: [{ name: refresh-mv-portal }]"))
        .unwrap();
    cluster.wait_until("the other CronJobs to go", 20, count, "1");
    cluster
        .kubectl()
        .apply(&example.manifest("  timeZone: America/Macondo"))
        .unwrap();
    let event = || {
        let reason = "jsonpath={.items[*].reason}";
        cluster.ask(&["-n", namespace, "get", "events.events.k8s.io", "-o", reason])
    };
    cluster.wait_until(
        "the Event",
        20,
        || event().contains("UnknownTimeZone").to_string(),
        "true",
    );
}

/// The codes other than success that the service account got, from the audit log.
fn refused(cluster: &Cluster, account: &str) -> Vec<String> {
    let log = std::fs::read_to_string(cluster.plane.audit_log()).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut requests = 0;
    let refused = events
        .filter(|event| event["user"]["username"] == account)
        .inspect(|_| requests += 1)
        .filter(|event| matches!(event["responseStatus"]["code"].as_u64(), Some(401 | 403)))
        .map(|event| format!("{} {}", event["verb"], event["requestURI"]))
        .collect();
    assert!(
        requests > 10,
        "the operator works with this account: {requests} requests"
    );
    refused
}

/// Everything that `account` may do in `namespace` beyond what everybody may.
fn rules(cluster: &Cluster, account: &str, namespace: &str) -> Vec<String> {
    let review = serde_json::json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": { "namespace": namespace },
    });
    let arguments = [
        "create",
        "--validate=false",
        "--as",
        account,
        "--as-group=system:serviceaccounts",
        "--as-group=system:authenticated",
        "-f",
        "-",
        "-o",
        "json",
    ];
    let answer = cluster.kubectl().with_input(&arguments, &review.to_string()).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let words = |value: &Value| -> Vec<String> {
        let list = value.as_array().cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut rules = Vec::new();
    for rule in answer["status"]["resourceRules"].as_array().unwrap() {
        let mut verbs = words(&rule["verbs"]);
        verbs.sort();
        let names: String = words(&rule["resourceNames"])
            .iter()
            .map(|name| format!("{name} "))
            .collect();
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                rules.push(format!("{group} {resource} {names}[{}]", verbs.join(" ")));
            }
        }
    }
    // Whoever is authenticated may ask what they may do.
    rules.retain(|rule| !rule.contains(" self"));
    rules.sort();
    rules
}

fn may(cluster: &Cluster, account: &str, what: &[&str]) -> bool {
    let answer = cluster.ask(&[&["auth", "can-i", "--as", account], what].concat());
    // kubectl says no by its exit code as well, and why.
    match answer
        .lines()
        .last()
        .map(|line| line.trim_start_matches("kubectl: exit status: 1: "))
    {
        Some("yes") => true,
        Some(no) if no == "no" || no.starts_with("no - ") => false,
        _ => panic!("{what:?}: {answer}"),
    }
}

fn everywhere(world: &World) {
    let cluster = world.cluster();
    let namespace = "everywhere";
    let account = format!("system:serviceaccount:{namespace}:mapa-refresh-operator");
    cluster
        .release(
            "install",
            namespace,
            &["--create-namespace", "--set=crds.install=false"],
        )
        .unwrap();
    let operator = start(cluster, namespace);
    for policies in ["everywhere-a", "everywhere-b"] {
        cluster.kubectl().namespace(policies).unwrap();
        reconciles(cluster, &operator, policies);
        assert_eq!(rules(cluster, &account, policies), RULES);
    }
    let (own, all) = (rules(cluster, &account, namespace), [&RULES[..], &LEASE_RULES].concat());
    assert!(
        own.len() == all.len() && all.iter().all(|rule| own.iter().any(|own| own == rule)),
        "{own:?}"
    );
    assert!(operator.terminate());
    assert_eq!(refused(cluster, &account), Vec::<String>::new());
    for what in [
        ["get", "secrets"],
        ["list", "secrets"],
        ["create", "pods/exec"],
        ["create", "pods"],
        ["delete", "jobs"],
        ["update", "maparefreshpolicies.mapa.radar.dev"],
        ["create", "clusterroles"],
    ] {
        assert!(!may(cluster, &account, &[what[0], what[1], "-A"]), "{what:?}");
    }
    assert!(may(
        cluster,
        &account,
        &["list", "maparefreshpolicies.mapa.radar.dev", "-A"]
    ));
}

fn listed(world: &World) {
    let cluster = world.cluster();
    let namespace = "listed";
    let account = format!("system:serviceaccount:{namespace}:mapa-refresh-operator");
    for policies in ["listed-a", "listed-b", "not-listed"] {
        cluster.kubectl().namespace(policies).unwrap();
    }
    let further = [
        "--create-namespace",
        "--set=crds.install=false,watchNamespaces={listed-a,listed-b}",
    ];
    cluster.release("install", namespace, &further).unwrap();
    let operator = start(cluster, namespace);
    for policies in ["listed-a", "listed-b"] {
        reconciles(cluster, &operator, policies);
        assert_eq!(rules(cluster, &account, policies), RULES);
    }
    assert!(operator.terminate());
    assert_eq!(refused(cluster, &account), Vec::<String>::new());
    assert_eq!(rules(cluster, &account, "not-listed"), Vec::<String>::new());
    assert_eq!(rules(cluster, &account, namespace), LEASE_RULES);
    assert!(!may(
        cluster,
        &account,
        &["list", "maparefreshpolicies.mapa.radar.dev", "-A"]
    ));
}

fn aggregated(world: &World) {
    let cluster = world.cluster();
    let release = [
        "--create-namespace",
        "--set=crds.install=false,fullnameOverride=aggregated",
    ];
    cluster.release("install", "aggregated", &release).unwrap();
    let kubectl = cluster.kubectl();
    for role in ["view", "edit", "admin"] {
        let binding = [
            "-n",
            "aggregated",
            "create",
            "rolebinding",
            role,
            "--clusterrole",
            role,
            "--user",
            role,
        ];
        kubectl.run(binding).unwrap();
    }
    let can = |user: &str, verb: &str, resource: &str| {
        let resource = format!("{resource}.mapa.radar.dev");
        may(cluster, user, &[verb, &resource, "-n", "aggregated"])
    };
    for role in ["view", "edit", "admin"] {
        cluster.wait_until(
            "the roles to be aggregated",
            20,
            || can(role, "list", "maparefreshpolicies").to_string(),
            "true",
        );
    }
    for role in ["edit", "admin"] {
        cluster.wait_until(
            "the roles to be aggregated",
            20,
            || can(role, "create", "maparefreshpolicies").to_string(),
            "true",
        );
    }
    assert!(!can("view", "create", "maparefreshpolicies"));
    let status = may(
        cluster,
        "admin",
        &[
            "update",
            "maparefreshpolicies.mapa.radar.dev",
            "--subresource=status",
            "-n",
            "aggregated",
        ],
    );
    assert!(!status, "evidence is the operator's alone");
}
