//! Differences between platforms: assigned UIDs, the port of the DNS pods, the architecture of the nodes.

use serde_json::{Value, json};

use crate::{
    rendering::render,
    world::{Test, World},
};

pub const TESTS: &[Test] = &[
    (
        "platform::ids_are_the_charts_or_the_clusters_and_the_rest_of_the_security_context_stays",
        user_ids,
    ),
    ("platform::both_ports_of_dns_are_open_to_the_operator", dns),
    (
        "platform::every_pod_and_run_asks_for_a_node_for_which_the_images_are_built",
        nodes,
    ),
];

const OPENSHIFT: &str = "--api-versions=security.openshift.io/v1";

fn objects(further: &[&str]) -> Vec<Value> {
    let text = render("defaults", &[further, &["--set=networkPolicy.enabled=true"]].concat());
    text.split("\n---\n")
        .map(|document| serde_yaml::from_str(document).unwrap())
        .collect()
}

/// The pods that are made: of the Deployment, and of `helm test`.
fn pods(objects: &[Value]) -> Vec<&Value> {
    let found: Vec<&Value> = objects
        .iter()
        .filter_map(|object| match object["kind"].as_str() {
            Some("Deployment") => Some(&object["spec"]["template"]["spec"]),
            Some("Pod") => Some(&object["spec"]),
            _ => None,
        })
        .collect();
    assert_eq!(found.len(), 2);
    found
}

/// The operator's configuration.
fn config(objects: &[Value]) -> Value {
    let object = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
    serde_yaml::from_str(object["data"]["config.yaml"].as_str().unwrap()).unwrap()
}

fn user_ids(_: &World) {
    for (further, is_fixed, told) in [
        (&[][..], true, None),
        (&[OPENSHIFT][..], false, None),
        (&["--set=userIds=auto", OPENSHIFT][..], false, None),
        (&["--set=userIds=fixed", OPENSHIFT][..], true, Some("fixed")),
        (&["--set=userIds=platform"][..], false, Some("platform")),
    ] {
        let objects = objects(further);
        for pod in pods(&objects) {
            let mut wanted = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
            if is_fixed {
                wanted["runAsUser"] = json!(65532);
                wanted["runAsGroup"] = json!(65532);
            }
            assert_eq!(pod["securityContext"], wanted, "{further:?}");
            let of_container = json!({
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
            });
            assert_eq!(pod["containers"][0]["securityContext"], of_container, "{further:?}");
        }
        // In none of them, wherever it may be.
        let text = serde_json::to_string(&objects).unwrap();
        for id in ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"] {
            assert!(is_fixed || !text.contains(id), "{further:?}: {id}");
        }
        // The operator discovers the platform itself, unless configured.
        assert_eq!(config(&objects)["runner"]["userIds"].as_str(), told, "{further:?}");
    }
}

fn dns(_: &World) {
    let objects = objects(&[]);
    let policy = objects.iter().find(|object| object["kind"] == "NetworkPolicy").unwrap();
    // No more than the API server and DNS, and DNS by both protocols on both ports.
    let of_dns = &policy["spec"]["egress"][0];
    assert_eq!(of_dns.get("to"), None);
    let port = |protocol: &str, port: u16| json!({ "protocol": protocol, "port": port });
    let ports =
        [("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353)].map(|(protocol, number)| port(protocol, number));
    assert_eq!(of_dns["ports"], json!(ports));
    assert_eq!(policy["spec"]["egress"].as_array().unwrap().len(), 2);
}

fn nodes(_: &World) {
    let wanted = json!({ "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" });
    let by_default = objects(&[]);
    for pod in pods(&by_default) {
        assert_eq!(pod["nodeSelector"], wanted);
    }
    assert_eq!(config(&by_default)["runner"]["nodeSelector"], wanted);
    let without = objects(&[
        "--set=nodeSelector=null",
        r"--set=runner.nodeSelector.kubernetes\.io/arch=null,runner.nodeSelector.kubernetes\.io/os=null",
    ]);
    for pod in pods(&without) {
        assert_eq!(pod.get("nodeSelector"), None);
    }
    assert_eq!(config(&without)["runner"].get("nodeSelector"), None);
}
