//! Without helm: the plain manifests, and how Argo CD, Flux and kubectl tell the health of a policy.

use mapa_refresh_tests::{
    helm::{Helm, chart},
    images,
    policy::Example,
};
use mlua::{Lua, Table};
use serde_json::{Value, json};

use crate::{
    rendering::assert_committed,
    world::{Cluster, Test, World},
};

pub const TESTS: &[Test] = &[
    (
        "gitops::the_plain_manifests_are_what_helm_renders_without_its_own_marks",
        manifests,
    ),
    (
        "gitops::apply_k_installs_an_operator_that_reconciles_and_says_nothing_the_second_time",
        applied,
    ),
    (
        "gitops::argo_cd_and_kubectl_wait_tell_progressing_healthy_degraded_and_suspended",
        health,
    ),
];

const NAMESPACE: &str = "mapa-system";
const REMEDY: &str = "UPDATE_GOLDEN=1 cargo test -p mapa-refresh-tests --test chart -- gitops";

fn folder() -> String {
    images::repository().join("charts/kustomize").display().to_string()
}

fn manifests(_: &World) {
    let chart = chart().display().to_string();
    let rendered = Helm::new(None)
        .unwrap()
        .run([
            "template",
            "mapa-refresh-operator",
            &chart,
            "--namespace",
            NAMESPACE,
            "--kube-version=1.33.0",
            "--no-hooks",
        ])
        .unwrap();
    // Nobody shall take these objects for those of a release.
    let marks = [
        "helm.sh/chart:",
        "helm.sh/resource-policy:",
        "app.kubernetes.io/managed-by:",
    ];
    let (mut crd, mut operator) = (String::new(), String::new());
    for document in rendered.split("---\n").filter(|document| !document.trim().is_empty()) {
        let file = if document.contains("kind: CustomResourceDefinition") {
            &mut crd
        } else {
            &mut operator
        };
        file.push_str("---\n");
        for line in document.lines() {
            if !marks.iter().any(|mark| line.trim_start().starts_with(mark)) {
                file.push_str(line.trim_end());
                file.push('\n');
            }
        }
    }
    let folder = images::repository().join("charts/kustomize");
    assert_committed(&folder.join("crd.yaml"), &crd, REMEDY);
    assert_committed(&folder.join("operator.yaml"), &operator, REMEDY);
}

fn applied(_: &World) {
    // A cluster of its own: the CustomResourceDefinition is part of it.
    let cluster = Cluster::start();
    let apply = ["apply", "--server-side", "-k", &folder(), "-o", "name"];
    let made = cluster.kubectl().run(apply).unwrap();
    for object in [
        "namespace/mapa-system",
        "customresourcedefinition.apiextensions.k8s.io/maparefreshpolicies.mapa.radar.dev",
        "clusterrole.rbac.authorization.k8s.io/mapa-refresh-operator",
        "clusterrolebinding.rbac.authorization.k8s.io/mapa-refresh-operator",
        "role.rbac.authorization.k8s.io/mapa-refresh-operator-leader-election",
        "serviceaccount/mapa-refresh-operator",
        "configmap/mapa-refresh-operator",
        "service/mapa-refresh-operator-metrics",
        "deployment.apps/mapa-refresh-operator",
        "poddisruptionbudget.policy/mapa-refresh-operator",
    ] {
        assert!(made.lines().any(|line| line == object), "{object} is missing:\n{made}");
        // What kubectl says that it did is asked for again.
        let (kind, name) = object.split_once('/').unwrap();
        let found = cluster.ask(&["-n", NAMESPACE, "get", kind, name, "-o", "name"]);
        assert_eq!(found, object);
    }
    cluster.wait_for_crd();
    let pods = || {
        let label = "-lapp.kubernetes.io/name=mapa-refresh-operator";
        let pods = cluster.ask(&["-n", NAMESPACE, "get", "pods", label, "-o", "name"]);
        pods.lines().count().to_string()
    };
    // There is no node to run them; Pod Security and the service account let them be made.
    cluster.wait_until("both pods to be made", 30, pods, "2");

    // The same operator as a process, with the account and the configuration that were applied.
    let operator = cluster.start_operator(NAMESPACE, &[]);
    cluster.kubectl().namespace("radar").unwrap();
    let example = Example::every_minute("radar", "roraima");
    cluster.kubectl().apply(&example.manifest("")).unwrap();
    let reason = || match cluster.ready_reason("radar", "roraima") {
        reason if reason == "Reconciled" => reason,
        other => format!("{other}; {}", operator.last_lines()),
    };
    cluster.wait_until("the policy to be Ready", 30, reason, "Reconciled");

    // Applied again it changes nothing: what a GitOps tool would show as drift.
    let deployment = ["-n", NAMESPACE, "get", "deployment", "mapa-refresh-operator", "-o"];
    let generation = || cluster.ask(&[&deployment[..], &["jsonpath={.metadata.generation}"]].concat());
    let before = generation();
    cluster.kubectl().run(apply).unwrap();
    assert_eq!((generation(), before.as_str()), (before.clone(), "1"));
}

/// The first code block in the README that is written in Lua.
fn snippet() -> String {
    let readme = std::fs::read_to_string(images::repository().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```lua\n").unwrap();
    let (snippet, _) = rest.split_once("```").unwrap();
    snippet.to_owned()
}

/// JSON as Argo CD gives it to Lua: objects and arrays are tables, and arrays begin at 1.
fn in_lua(lua: &Lua, value: &Value) -> mlua::Value {
    match value {
        Value::Null => mlua::Value::Nil,
        Value::Bool(value) => mlua::Value::Boolean(*value),
        Value::Number(number) => mlua::Value::Number(number.as_f64().unwrap()),
        Value::String(text) => mlua::Value::String(lua.create_string(text).unwrap()),
        Value::Array(items) => {
            let items = items.iter().map(|item| in_lua(lua, item));
            mlua::Value::Table(lua.create_sequence_from(items).unwrap())
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, field)| (name.as_str(), in_lua(lua, field)));
            mlua::Value::Table(lua.create_table_from(fields).unwrap())
        }
    }
}

/// What Argo CD would show: the snippet gets the object as `obj` and returns status and message.
fn argo(snippet: &str, object: &Value) -> (String, String) {
    let lua = Lua::new();
    lua.globals().set("obj", in_lua(&lua, object)).unwrap();
    let health: Table = lua.load(snippet).eval().unwrap();
    (health.get("status").unwrap(), health.get("message").unwrap())
}

/// The status of a custom resource by the rules of kstatus, which are Flux's (cli-utils, pkg/kstatus/status, Compute): what the generic
/// properties say, else the condition Ready, else Current.
fn kstatus(object: &Value) -> &'static str {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is = |type_: &str| {
        let condition = conditions.iter().find(|condition| condition["type"] == type_);
        condition.map(|condition| condition["status"].as_str().unwrap().to_owned())
    };
    let (observed, generation) = (
        &object["status"]["observedGeneration"],
        &object["metadata"]["generation"],
    );
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating";
    }
    if !observed.is_null() && observed != generation {
        return "InProgress";
    }
    if is("Reconciling").as_deref() == Some("True") {
        return "InProgress";
    }
    if is("Stalled").as_deref() == Some("True") {
        return "Failed";
    }
    match is("Ready").as_deref() {
        Some("True") | None => "Current",
        Some(_) => "InProgress",
    }
}

fn health(world: &World) {
    let cluster = world.cluster();
    let kubectl = cluster.kubectl();
    kubectl.namespace("health").unwrap();
    kubectl
        .apply(&Example::every_minute("health", "roraima").manifest("  suspend: true\n  suspendReason: a test\n"))
        .unwrap();
    // Nobody reconciles here: each status is the one that is written. A second version of the spec, so that there is an older one.
    let on_policy = |arguments: &[&str]| {
        let fixed: &[&str] = &["-n", "health"];
        kubectl.run([fixed, arguments].concat())
    };
    let untouched: Value =
        serde_json::from_str(&on_policy(&["get", "mapa-refresh", "roraima", "-o", "json"]).unwrap()).unwrap();
    assert_eq!(untouched["status"]["observedGeneration"], -1);
    assert_eq!(kstatus(&untouched), "InProgress", "no operator has looked at it");
    let change = r#"{"spec":{"maxDataAgeMinutes":20}}"#;
    on_policy(&["patch", "mapa-refresh", "roraima", "--type=merge", "-p", change]).unwrap();
    let condition = |type_: &str, status: &str, reason: &str, generation: i64| {
        json!({
            "type": type_, "status": status, "reason": reason, "message": format!("message of {reason}"),
            "observedGeneration": generation, "lastTransitionTime": "2026-11-25T10:00:00Z",
        })
    };
    let ready = |status, reason, generation| condition("Ready", status, reason, generation);
    let runs = || condition("Suspended", "False", "NotSuspended", 2);
    let suspended = || condition("Suspended", "True", "SuspendedBySpec", 2);
    let snippet = snippet();
    let status =
        |observed: i64, conditions: Vec<Value>| json!({ "observedGeneration": observed, "conditions": conditions });
    for (case, status, shown, said, is_ready) in [
        (
            "no status yet",
            json!({ "observedGeneration": -1 }),
            "Progressing",
            "generation",
            false,
        ),
        (
            "the status is of the spec before",
            status(1, vec![ready("True", "Reconciled", 1), runs()]),
            "Progressing",
            "generation",
            false,
        ),
        (
            "carried out",
            status(2, vec![runs(), ready("True", "Reconciled", 2)]),
            "Healthy",
            "Reconciled: message of Reconciled",
            true,
        ),
        (
            "not carried out",
            status(2, vec![ready("False", "InvalidSpec", 2), runs()]),
            "Degraded",
            "InvalidSpec: message of InvalidSpec",
            false,
        ),
        (
            "suspended",
            status(2, vec![ready("True", "Reconciled", 2), suspended()]),
            "Suspended",
            "SuspendedBySpec: message of SuspendedBySpec",
            true,
        ),
        (
            "suspended and not carried out",
            status(2, vec![suspended(), ready("False", "CronJobConflict", 2)]),
            "Degraded",
            "CronJobConflict: message of CronJobConflict",
            false,
        ),
        (
            "unknown",
            status(2, vec![ready("Unknown", "Later", 2), runs()]),
            "Progressing",
            "Later",
            false,
        ),
    ] {
        let patch = json!([{ "op": "replace", "path": "/status", "value": status }]);
        let patch = patch.to_string();
        on_policy(&[
            "patch",
            "mapa-refresh",
            "roraima",
            "--subresource=status",
            "--type=json",
            "-p",
            &patch,
        ])
        .unwrap();
        let object = on_policy(&["get", "mapa-refresh", "roraima", "-o", "json"]).unwrap();
        let object: Value = serde_json::from_str(&object).unwrap();
        assert_eq!(object["metadata"]["generation"], 2, "{case}");
        let (found, message) = argo(&snippet, &object);
        assert_eq!(found, shown, "{case}: {message}");
        assert!(message.contains(said), "{case}: {message}");
        assert_eq!(
            kstatus(&object),
            if is_ready { "Current" } else { "InProgress" },
            "{case}"
        );
        let waited = on_policy(&["wait", "--for=condition=Ready", "mapa-refresh/roraima", "--timeout=1s"]);
        assert_eq!(waited.is_ok(), is_ready, "{case}: {waited:?}");
    }
}
