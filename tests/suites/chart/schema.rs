//! What the schema of the values refuses, and that it knows every value.

use std::fs;

use mapa_refresh_tests::helm::{Helm, chart};
use serde_json::Value;

use crate::world::{Test, World};

pub const TESTS: &[Test] = &[
    ("schema::a_wrong_value_fails_with_its_name", wrong),
    ("schema::no_object_takes_what_it_does_not_know", closed),
    ("schema::it_has_every_value_and_no_other", complete),
];

fn wrong(_: &World) {
    let helm = Helm::new(None).unwrap();
    let chart = chart().display().to_string();
    for (value, place, word) in [
        ("runer.image.tag=1", "''", "runer"),
        ("runner.image.tga=1", "/runner/image", "tga"),
        (
            "runner.resources.limits.memory=1gi",
            "/runner/resources/limits/memory",
            "1gi",
        ),
        ("runner.resources.limit.memory=1Gi", "/runner/resources", "limit"),
        ("runner.imagePullPolicy=Sometimes", "/runner/imagePullPolicy", "Always"),
        (
            "runner.affinity.nodeAffinity.required.a=b",
            "/runner/affinity/nodeAffinity",
            "required",
        ),
        (
            "runner.tolerations[0].tolerationSecs=3",
            "/runner/tolerations/0",
            "tolerationSecs",
        ),
        ("runner.nodeSelector.disk=true", "/runner/nodeSelector/disk", "string"),
        (
            "runner.serviceAccountName=Runner",
            "/runner/serviceAccountName",
            "Runner",
        ),
        ("runner.image.repository=", "/runner/image/repository", "minLength"),
        ("runner.caBundle.configMap=x", "/runner/caBundle", "configMap"),
        ("runner.walletSecretName=W", "/runner/walletSecretName", "W"),
        ("areas.AC.box=1", "/areas/AC", "box"),
        ("areas.A_C.latitude.min=1", "/areas", "A_C"),
        ("areas.RR.latitude.min=1", "/areas", "not"),
        ("watchNamespaces=radar", "/watchNamespaces", "array"),
        ("watchNamespaces={Radar}", "/watchNamespaces/0", "Radar"),
        ("concurrency=65", "/concurrency", "64"),
        ("concurrency=many", "/concurrency", "integer"),
        ("log.format=xml", "/log/format", "json"),
        ("traces.endpoint=collector:4317", "/traces/endpoint", "http"),
        ("traces.caBundle.configMap=x", "/traces/caBundle", "configMap"),
        ("crds.install=yes", "/crds/install", "boolean"),
        ("metrics.port=80", "/metrics/port", "1,024"),
        (
            "metrics.serviceMonitor.interval=often",
            "/metrics/serviceMonitor/interval",
            "often",
        ),
        ("probes.liveness.periodSeconds=0", "/probes/liveness/periodSeconds", "1"),
        (
            "networkPolicy.scrapeFrom[0].pods=x",
            "/networkPolicy/scrapeFrom/0",
            "pods",
        ),
        ("image.digest=sha256:0", "/image/digest", "sha256:0"),
        ("selfTest.timeoutSeconds=0", "/selfTest/timeoutSeconds", "1"),
        ("selfTest.enabled=no", "/selfTest/enabled", "boolean"),
        ("replicas=10", "/replicas", "9"),
        ("leaderElection.enabled=false", "/replicas", "1"),
        ("leaderElection.enabled=maybe", "/leaderElection/enabled", "boolean"),
        (
            "podDisruptionBudget.maxUnavailable=many",
            "/podDisruptionBudget/maxUnavailable",
            "many",
        ),
        (
            "networkPolicy.apiServerPorts={0}",
            "/networkPolicy/apiServerPorts/0",
            "1",
        ),
    ] {
        let said = helm
            .run(["template", "x", &chart, "--set", value])
            .map(|_| value.to_owned())
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("values don't meet the specifications of the schema"),
            "{value}: {said}"
        );
        assert!(said.contains(place) && said.contains(word), "{value}: {said}");
    }
}

fn read() -> Value {
    serde_json::from_str(&fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap()
}

fn closed(_: &World) {
    fn look(place: &str, schema: &Value) {
        let Value::Object(fields) = schema else { return };
        // A parent chart's values, which are none of ours.
        if fields.get("type") == Some(&"object".into()) && place != "/properties/global" {
            let further = &schema["additionalProperties"];
            let is_closed = *further == false || further.get("type").is_some() || further.get("$ref").is_some();
            assert!(is_closed, "{place} takes anything");
        }
        for (name, field) in fields {
            match field {
                Value::Array(items) => items.iter().for_each(|item| look(&format!("{place}/{name}"), item)),
                field => look(&format!("{place}/{name}"), field),
            }
        }
    }
    look("", &read());
}

fn complete(_: &World) {
    fn compare(place: &str, schema: &Value, values: &Value) {
        let Some(known) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        let values = values.as_object().unwrap();
        for (name, schema) in known.iter().filter(|(name, _)| *name != "global") {
            let value = values
                .get(name)
                .unwrap_or_else(|| panic!("values.yaml has no {place}{name}"));
            compare(&format!("{place}{name}."), schema, value);
        }
        // The other way round helm itself refuses: the defaults are rendered by other tests.
        assert!(values.keys().all(|name| known.contains_key(name)), "{place}");
    }
    let values: Value = serde_yaml::from_str(&fs::read_to_string(chart().join("values.yaml")).unwrap()).unwrap();
    compare("", &read(), &values);
}
