//! What the chart's objects select is what its Deployment makes.

use serde_yaml::Value;

use crate::{
    rendering::render,
    world::{Test, World},
};

pub const TESTS: &[Test] = &[(
    "selectors::monitors_service_budget_and_policy_select_the_operators_pods_and_ports_that_exist",
    selected,
)];

/// What makes each of them, also where the values have it otherwise because it does not go together with the rest.
const ALL: &str = "--set=replicas=2,leaderElection.enabled=true,podDisruptionBudget.enabled=true,networkPolicy.enabled=true,\
metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true";

/// The objects that were rendered.
struct Rendered(Vec<Value>);

impl Rendered {
    fn new(set: &str) -> Self {
        let text = render(set, &[ALL]);
        let documents = text
            .split("\n---\n")
            .map(|document| serde_yaml::from_str(document).unwrap());
        Self(documents.collect())
    }

    /// The only one of its kind; a hook is none of the release.
    fn only(&self, kind: &str) -> &Value {
        let is_hook = |object: &Value| !object["metadata"]["annotations"]["helm.sh/hook"].is_null();
        let of_kind: Vec<&Value> = self
            .0
            .iter()
            .filter(|object| object["kind"] == kind && !is_hook(object))
            .collect();
        assert_eq!(of_kind.len(), 1, "{kind}: {of_kind:?}");
        of_kind[0]
    }
}

/// Whether each label of `selector`, of which there is one at least, is among `labels`.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_mapping().unwrap();
    !wanted.is_empty() && wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// The one of `ports` that has the name `name`.
fn port<'a>(ports: &'a Value, name: &Value) -> &'a Value {
    let ports = ports.as_sequence().unwrap();
    let found = ports.iter().find(|port| port["name"] == *name);
    found.unwrap_or_else(|| panic!("{name:?} is not among {ports:?}"))
}

fn selected(_: &World) {
    for set in ["defaults", "everything"] {
        let rendered = Rendered::new(set);
        let deployment = rendered.only("Deployment");
        let template = &deployment["spec"]["template"];
        let pod = &template["metadata"]["labels"];
        let namespace = &deployment["metadata"]["namespace"];
        let ports = &template["spec"]["containers"][0]["ports"];
        assert!(selects(&deployment["spec"]["selector"]["matchLabels"], pod), "{set}");

        let service = rendered.only("Service");
        assert!(selects(&service["spec"]["selector"], pod), "{set}");
        for (kind, selector) in [
            ("PodDisruptionBudget", "selector"),
            ("NetworkPolicy", "podSelector"),
            ("PodMonitor", "selector"),
        ] {
            let object = rendered.only(kind);
            assert!(selects(&object["spec"][selector]["matchLabels"], pod), "{set}: {kind}");
            assert_eq!(object["metadata"]["namespace"], *namespace, "{set}: {kind}");
        }
        let service_monitor = rendered.only("ServiceMonitor");
        let wanted = &service_monitor["spec"]["selector"]["matchLabels"];
        assert!(selects(wanted, &service["metadata"]["labels"]), "{set}");
        // Neither names a namespace: a monitor looks in its own.
        for object in [service, service_monitor] {
            assert_eq!(object["metadata"]["namespace"], *namespace, "{set}");
        }

        // Monitor → port of the Service → port of the pod.
        let of_service = port(
            &service["spec"]["ports"],
            &service_monitor["spec"]["endpoints"][0]["port"],
        );
        let of_pod = port(ports, &of_service["targetPort"]);
        let pod_monitor = rendered.only("PodMonitor");
        assert_eq!(
            port(ports, &pod_monitor["spec"]["podMetricsEndpoints"][0]["port"]),
            of_pod,
            "{set}"
        );
        let let_in = &rendered.only("NetworkPolicy")["spec"]["ingress"][0]["ports"];
        assert_eq!(let_in.as_sequence().unwrap().len(), 1, "{set}");
        assert_eq!(let_in[0]["port"], of_pod["containerPort"], "{set}");
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            if let Some(probe) = template["spec"]["containers"][0].get(probe) {
                assert_eq!(port(ports, &probe["httpGet"]["port"]), of_pod, "{set}");
            }
        }

        // The pod of `helm test` has labels of the operator's, and is none of these.
        let is_test = |object: &&Value| object["kind"] == "Pod";
        let test = rendered.0.iter().find(is_test).unwrap();
        assert!(
            !selects(&service["spec"]["selector"], &test["metadata"]["labels"]),
            "{set}"
        );
    }
}
