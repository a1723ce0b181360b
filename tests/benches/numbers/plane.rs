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
    kubectl.established("maparefreshpolicies.mapa.radar.dev").unwrap();
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

/// A request that the API server answered, in its own words.
pub struct Request {
    /// When it had read the request's head, in microseconds since the epoch.
    pub came: i64,
    /// When its answer was complete, in microseconds since the epoch.
    pub answered: i64,
    pub verb: String,
    /// With its subresource: `jobs/status`.
    pub resource: String,
    pub name: String,
}

impl Request {
    pub fn is(&self, verb: &str, resource: &str) -> bool {
        self.verb == verb && self.resource == resource
    }
}

/// Every answered request that was about the namespace `bench`, in the order of the answers.
pub fn requests(plane: &ControlPlane) -> Vec<Request> {
    let log = std::fs::read_to_string(plane.audit_log()).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["objectRef"]["namespace"] == "bench")
        .filter_map(|event| {
            let moment = |field: &str| -> Option<i64> {
                let moment: k8s_openapi::jiff::Timestamp = event[field].as_str()?.parse().ok()?;
                Some(moment.as_microsecond())
            };
            let object = &event["objectRef"];
            let subresource = object["subresource"]
                .as_str()
                .map(|sub| format!("/{sub}"))
                .unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            Some(Request {
                came: moment("requestReceivedTimestamp")?,
                answered: moment("stageTimestamp")?,
                verb: text(&event["verb"]),
                resource: format!("{}{subresource}", text(&object["resource"])),
                name: text(&object["name"]),
            })
        })
        .collect()
}
