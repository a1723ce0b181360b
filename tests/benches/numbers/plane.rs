//! The control plane and the operator on it, and what the API server says of their requests.

use mapa_refresh_tests::{control_plane::ControlPlane, images, operator::Operator, process::Process};
use serde_json::Value;

/// A control plane with the CRD and the namespace `bench`.
pub fn plane() -> ControlPlane {
    let plane = ControlPlane::start().unwrap();
    let kubectl = plane.kubectl();
    kubectl
        .apply(&std::fs::read_to_string(images::repository().join("crds/maparefreshpolicies.yaml")).unwrap())
        .unwrap();
    kubectl
        .run([
            "wait",
            "--for=condition=Established",
            "crd/maparefreshpolicies.mapa.radar.dev",
            "--timeout=30s",
        ])
        .unwrap();
    kubectl.namespace("bench").unwrap();
    plane
}

/// The operator as it is deployed, by the lease of one replica.
pub fn start_operator(plane: &ControlPlane) -> Process {
    Operator::build(Some(plane.kubeconfig()), "runner:1", plane.folder())
        .unwrap()
        .electing("mapa-refresh-operator", "bench")
        .start()
        .unwrap()
}

/// (moment in microseconds, verb, resource with subresource, name) of every answered request, in the API server's own words.
pub fn requests(plane: &ControlPlane) -> Vec<(i64, String, String, String)> {
    let log = std::fs::read_to_string(plane.audit_log()).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["objectRef"]["namespace"] == "bench")
        .filter_map(|event| {
            let moment: k8s_openapi::jiff::Timestamp = event["stageTimestamp"].as_str()?.parse().ok()?;
            let object = &event["objectRef"];
            let subresource = object["subresource"]
                .as_str()
                .map(|sub| format!("/{sub}"))
                .unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            Some((
                moment.as_microsecond(),
                text(&event["verb"]),
                format!("{}{subresource}", text(&object["resource"])),
                text(&object["name"]),
            ))
        })
        .collect()
}
