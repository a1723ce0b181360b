//! What the schema of the values refuses, and that it knows every value.

use std::fs;

use mapa_refresh_tests::helm::{Helm, chart};
use serde_json::{Value, json};

use crate::{
    rendering::render,
    umbrella::Umbrella,
    world::{Test, World},
};

pub const TESTS: &[Test] = &[
    ("schema::a_wrong_value_fails_with_its_name", wrong),
    (
        "schema::every_value_of_another_type_fails_with_its_name",
        of_another_type,
    ),
    (
        "schema::what_null_takes_away_is_named_or_nothing_stands_for_it",
        taken_away,
    ),
    ("schema::no_object_takes_what_it_does_not_know", closed),
    ("schema::it_has_every_value_and_no_other", complete),
];

fn wrong(_: &World) {
    for (value, place, why) in [
        ("runer.image.tag=1", "", "additional properties 'runer' not allowed"),
        (
            "runner.image.tga=1",
            "/runner/image",
            "additional properties 'tga' not allowed",
        ),
        (
            "runner.resources.limits.memory=1gi",
            "/runner/resources/limits/memory",
            "'1gi' does not match pattern",
        ),
        (
            "runner.resources.limit.memory=1Gi",
            "/runner/resources",
            "additional properties 'limit' not allowed",
        ),
        (
            "runner.imagePullPolicy=Sometimes",
            "/runner/imagePullPolicy",
            "value must be one of 'Always', 'IfNotPresent', 'Never'",
        ),
        (
            "runner.affinity.nodeAffinity.required.a=b",
            "/runner/affinity/nodeAffinity",
            "additional properties 'required' not allowed",
        ),
        (
            "runner.tolerations[0].tolerationSecs=3",
            "/runner/tolerations/0",
            "additional properties 'tolerationSecs' not allowed",
        ),
        (
            "runner.nodeSelector.disk=true",
            "/runner/nodeSelector/disk",
            "got boolean, want string",
        ),
        (
            "runner.serviceAccountName=Runner",
            "/runner/serviceAccountName",
            "'Runner' does not match pattern",
        ),
        (
            "runner.image.repository=",
            "/runner/image/repository",
            "minLength: got 0, want 1",
        ),
        (
            "runner.caBundle.configMap=x",
            "/runner/caBundle",
            "additional properties 'configMap' not allowed",
        ),
        (
            "runner.walletSecretName=W",
            "/runner/walletSecretName",
            "'W' does not match pattern",
        ),
        ("areas.AC.box=1", "/areas/AC", "additional properties 'box' not allowed"),
        (
            "areas.A_C.latitude.min=1",
            "/areas",
            "additional properties 'A_C' not allowed",
        ),
        ("areas.RR.latitude.min=1", "/areas", "'not' failed"),
        ("watchNamespaces=radar", "/watchNamespaces", "got string, want array"),
        (
            "watchNamespaces={Radar}",
            "/watchNamespaces/0",
            "'Radar' does not match pattern",
        ),
        ("concurrency=65", "/concurrency", "maximum: got 65, want 64"),
        ("concurrency=many", "/concurrency", "got string, want integer"),
        ("log.format=xml", "/log/format", "value must be one of 'text', 'json'"),
        (
            "traces.endpoint=collector:4317",
            "/traces/endpoint",
            "'collector:4317' does not match pattern",
        ),
        (
            "traces.caBundle.configMap=x",
            "/traces/caBundle",
            "additional properties 'configMap' not allowed",
        ),
        ("crds.install=yes", "/crds/install", "got string, want boolean"),
        (
            "serviceAccount.create=false",
            "/serviceAccount/name",
            "minLength: got 0, want 1",
        ),
        (
            "topologySpread.enable=false",
            "/topologySpread",
            "additional properties 'enable' not allowed",
        ),
        ("metrics.port=80", "/metrics/port", "minimum: got 80, want 1,024"),
        (
            "metrics.serviceMonitor.interval=often",
            "/metrics/serviceMonitor/interval",
            "'often' does not match pattern",
        ),
        (
            "metrics.serviceMonitor.enabled=true,metrics.service.enabled=false",
            "/metrics/service/enabled",
            "value must be true",
        ),
        (
            "probes.liveness.periodSeconds=0",
            "/probes/liveness/periodSeconds",
            "minimum: got 0, want 1",
        ),
        (
            "networkPolicy.scrapeFrom[0].pods=x",
            "/networkPolicy/scrapeFrom/0",
            "additional properties 'pods' not allowed",
        ),
        (
            "image.digest=sha256:0",
            "/image/digest",
            "'sha256:0' does not match pattern",
        ),
        (
            "selfTest.timeoutSeconds=0",
            "/selfTest/timeoutSeconds",
            "minimum: got 0, want 1",
        ),
        ("selfTest.enabled=no", "/selfTest/enabled", "got string, want boolean"),
        ("replicas=10", "/replicas", "maximum: got 10, want 9"),
        ("enabled=on", "/enabled", "got string, want boolean"),
        (
            "userIds=root",
            "/userIds",
            "value must be one of 'auto', 'fixed', 'platform'",
        ),
        (
            "fullnameOverride=Mapa",
            "/fullnameOverride",
            "'Mapa' does not match pattern",
        ),
        ("commonLabels.a=b c", "/commonLabels/a", "'b c' does not match pattern"),
        (
            "podLabels.a/b/c=d",
            "/podLabels",
            "additional properties 'a/b/c' not allowed",
        ),
        (
            "runner.resources.limits.gpu=1",
            "/runner/resources/limits",
            "additional properties 'gpu' not allowed",
        ),
        (
            "runner.labels.a b=c",
            "/runner/labels",
            "additional properties 'a b' not allowed",
        ),
        (
            "runner.annotations.-a=c",
            "/runner/annotations",
            "additional properties '-a' not allowed",
        ),
        (
            "extraEnv[0].name=A=B",
            "/extraEnv/0/name",
            "'A=B' does not match pattern",
        ),
        (
            "tolerations[0].value=x",
            "/tolerations/0",
            "missing property 'operator'",
        ),
        (
            "networkPolicy.apiServerCIDRs={10.0.0.256/32}",
            "/networkPolicy/apiServerCIDRs/0",
            "'10.0.0.256/32' does not match pattern",
        ),
        ("leaderElection.enabled=false", "/replicas", "maximum: got 2, want 1"),
        (
            "leaderElection.enabled=maybe",
            "/leaderElection/enabled",
            "got string, want boolean",
        ),
        (
            "podDisruptionBudget.maxUnavailable=many",
            "/podDisruptionBudget/maxUnavailable",
            "'many' does not match pattern",
        ),
        (
            "networkPolicy.apiServerPorts={0}",
            "/networkPolicy/apiServerPorts/0",
            "minimum: got 0, want 1",
        ),
    ] {
        let said = refusal("--set", value);
        assert!(said.contains(&format!("at '{place}': {why}")), "{value}: {said}");
    }
}

/// What helm says of a value that the schema refuses.
fn refusal(flag: &str, value: &str) -> String {
    let chart = chart().display().to_string();
    let said = Helm::new(None)
        .unwrap()
        .run(["template", "x", &chart, flag, value])
        .map(|_| format!("{value} is rendered"))
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("values don't meet the specifications of the schema"),
        "{value}: {said}"
    );
    said
}

fn of_another_type(_: &World) {
    fn look(place: &str, value: &Value) {
        let (wrong, want) = match value {
            Value::Object(_) => (json!("x"), "got string, want object"),
            Value::Array(_) => (json!("x"), "got string, want array"),
            // Nothing but a map takes a map.
            _ => (json!({ "x": [] }), "got object, want "),
        };
        if !place.is_empty() {
            let said = refusal("--set-json", &format!("{}={wrong}", as_path(place)));
            assert!(said.contains(&format!("at '{place}': {want}")), "{place}: {said}");
        }
        for (name, below) in value.as_object().into_iter().flatten() {
            // As a JSON pointer has it.
            look(
                &format!("{place}/{}", name.replace('~', "~0").replace('/', "~1")),
                below,
            );
        }
    }
    look("", &values());
}

/// A JSON pointer as the path that `--set` reads.
fn as_path(place: &str) -> String {
    let names = place[1..].split('/');
    let names: Vec<String> = names
        .map(|name| name.replace("~1", "/").replace("~0", "~").replace('.', "\\."))
        .collect();
    names.join(".")
}

/// Every place of values.yaml is taken away by null: its default stands for it, or helm says that it is missing.
fn taken_away(_: &World) {
    fn collect(place: &str, value: &Value, places: &mut Vec<String>) {
        if !place.is_empty() {
            places.push(place.to_owned());
        }
        for (name, below) in value.as_object().into_iter().flatten() {
            collect(&format!("{place}/{}", name.replace('/', "~1")), below, places);
        }
    }
    let mut places = Vec::new();
    collect("", &values(), &mut places);
    let nothing = |place: &str| {
        let names = place[1..].rsplit('/').map(|name| name.replace("~1", "/"));
        names.fold(Value::Null, |below, name| json!({ name: below }))
    };
    let umbrella = Umbrella::new((0..places.len()).map(|index| format!("alias: m{index}")));
    let given = |is_meant: &dyn Fn(usize) -> bool| {
        let given = places.iter().enumerate().map(|(index, place)| {
            let value = if is_meant(index) { nothing(place) } else { json!({}) };
            (format!("m{index}"), value)
        });
        Value::Object(given.collect())
    };
    let said = umbrella
        .render("x", "x", &given(&|_| true), &[])
        .unwrap_err()
        .to_string();
    let refused: Vec<usize> = (0..places.len())
        .filter(|index| said.contains(&format!("\nm{index}:\n")))
        .collect();
    assert!(refused.len() > 40 && refused.len() < places.len() - 40, "{refused:?}");
    for index in &refused {
        let (_, complaints) = said.split_once(&format!("\nm{index}:\n")).unwrap();
        let first = complaints.lines().next().unwrap();
        let (above, name) = places[*index].rsplit_once('/').unwrap();
        assert_eq!(first, format!("- at '{above}': missing property '{name}'"));
    }
    // Nothing of what is left out is written as a word.
    let rendered = umbrella
        .render("x", "x", &given(&|index| !refused.contains(&index)), &[])
        .unwrap();
    for word in ["null", "<nil>", "no value"] {
        let found = rendered
            .lines()
            .find(|line| line.trim_end().ends_with(&format!(": {word}")));
        assert_eq!(found, None);
    }
    // A label of nodes that is by default is taken away alone, or with all of them.
    let of_deployment = |set: &str| -> Value {
        let text = render("defaults", &[set, "--show-only=templates/deployment.yaml"]);
        serde_yaml::from_str::<Value>(&text).unwrap()["spec"]["template"]["spec"]["nodeSelector"].clone()
    };
    let (os, arch) = ("kubernetes.io/os", "kubernetes.io/arch");
    assert_eq!(
        of_deployment("--set=nodeSelector.disk=ssd"),
        json!({ os: "linux", arch: "amd64", "disk": "ssd" })
    );
    assert_eq!(
        of_deployment(r"--set=nodeSelector.kubernetes\.io/arch=null"),
        json!({ os: "linux" })
    );
    assert_eq!(of_deployment("--set=nodeSelector=null"), Value::Null);
}

/// The schema of the values.
pub fn read() -> Value {
    serde_json::from_str(&fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap()
}

/// What values.yaml says.
fn values() -> Value {
    serde_yaml::from_str(&fs::read_to_string(chart().join("values.yaml")).unwrap()).unwrap()
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
        // What helm puts there, or reads for itself, has no default: one for `enabled` would win over a parent's tags.
        let of_helm = |name: &str| place.is_empty() && ["global", "enabled"].contains(&name);
        for (name, schema) in known.iter().filter(|(name, _)| !of_helm(name)) {
            let value = values
                .get(name)
                .unwrap_or_else(|| panic!("values.yaml has no {place}{name}"));
            compare(&format!("{place}{name}."), schema, value);
        }
        // The other way round helm itself refuses: the defaults are rendered by other tests.
        assert!(values.keys().all(|name| known.contains_key(name)), "{place}");
    }
    compare("", &read(), &values());
}
