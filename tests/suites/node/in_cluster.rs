//! The operator as a pod, from the image of its own Dockerfile, with the permissions that it needs and no others.

use std::time::Duration;

use mapa_refresh_tests::{
    images,
    wait::{self, Look},
};

use crate::world::{Test, World};

pub const TESTS: &[Test] = &[(
    "in_cluster::the_operators_image_reconciles_as_a_restricted_pod_with_a_short_list_of_permissions",
    reconciles,
)];

const NAMESPACE: &str = "in-cluster";

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
    kubectl.apply(&manifest()).unwrap();
    let run = |arguments: &[&str]| kubectl.run(["-n", NAMESPACE].iter().chain(arguments));
    wait::until("the policy to be Ready", Duration::from_secs(60), || {
        let reason = r#"jsonpath={.status.conditions[?(@.type=="Ready")].reason}"#;
        match run(&["get", "mapa-refresh", "roraima", "-o", reason]) {
            Ok(reason) if reason == "Reconciled" => Look::Met(()),
            Ok(reason) => Look::Saw(format!(
                "{reason:?}; {}",
                run(&["logs", "operator"]).unwrap_or_else(|error| error.to_string())
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
}

fn manifest() -> String {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| serde_json::json!({ "apiGroups": [group], "resources": resources, "verbs": verbs });
    let objects = [
        serde_json::json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "operator", "namespace": NAMESPACE } }),
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": { "name": "operator", "namespace": NAMESPACE },
            "rules": [
                rule("mapa.radar.dev", &["maparefreshpolicies"], &["list", "watch"]),
                rule("mapa.radar.dev", &["maparefreshpolicies/status"], &["update"]),
                rule("batch", &["cronjobs"], &["get", "list", "watch", "create", "update", "delete"]),
                // Setting blockOwnerDeletion needs the right to delete the owner's finalizers, where that is enforced.
                rule("mapa.radar.dev", &["maparefreshpolicies/finalizers"], &["update"]),
                rule("batch", &["jobs"], &["get", "list", "watch", "create"]),
                rule("", &["pods"], &["list", "watch"]),
                rule("events.k8s.io", &["events"], &["create", "patch"]),
            ],
        }),
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": "operator", "namespace": NAMESPACE },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator" },
            "subjects": [{ "kind": "ServiceAccount", "name": "operator", "namespace": NAMESPACE }],
        }),
        serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "operator", "namespace": NAMESPACE },
            "spec": {
                "serviceAccountName": "operator",
                "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{
                    "name": "operator", "image": images::OPERATOR, "imagePullPolicy": "IfNotPresent",
                    "args": ["run", "--runner-image", images::JOB_RUNNER, "--watch-namespace", NAMESPACE],
                    "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } },
                }],
            },
        }),
        serde_json::json!({
            "apiVersion": "mapa.radar.dev/v1", "kind": "MapaRefreshPolicy",
            "metadata": { "name": "roraima", "namespace": NAMESPACE },
            "spec": {
                "intervalMinutes": 30,
                "database": { "kind": "postgresql", "secretRef": { "name": "radar-database" } },
                "cache": { "secretRef": { "name": "radar-cache" } },
            },
        }),
    ];
    objects.map(|object| format!("{object}\n")).join("---\n")
}
