//! What the chart and helm know their objects by is nobody else's, and everything else is as it was written.

use mapa_refresh_tests::helm::{Helm, chart};
use serde_json::{Value, json};

use crate::{
    rendering::render,
    world::{Test, World},
};

pub const TESTS: &[Test] = &[
    (
        "ownership::labels_annotations_and_variables_of_the_charts_own_are_refused_with_a_remedy",
        refused,
    ),
    ("ownership::everything_that_is_wrong_is_said_at_once", at_once),
    (
        "ownership::of_two_labels_or_annotations_the_nearer_one_wins_also_when_it_is_empty",
        nearer,
    ),
    (
        "ownership::labels_and_annotations_of_runs_reach_the_operators_configuration_only_when_there_are_some",
        runs,
    ),
    ("ownership::ones_own_label_selector_of_a_spread_stays_as_it_is", spread),
];

/// Helm's error for values that contradict each other.
fn refusal(set: &[&str]) -> String {
    let chart = chart().display().to_string();
    let arguments = [&["template", "x", &chart][..], set].concat();
    let said = Helm::new(None)
        .unwrap()
        .run(arguments)
        .map(|_| format!("{set:?} is rendered"))
        .unwrap_err()
        .to_string();
    let (_, complaints) = said
        .split_once("the values do not go together:\n")
        .unwrap_or_else(|| panic!("{set:?}: {said}"));
    let (complaints, _) = complaints.split_once("\n\n").unwrap_or((complaints, ""));
    complaints.trim_end().to_owned()
}

fn refused(_: &World) {
    let labels = [
        "commonLabels",
        "podLabels",
        "metrics.serviceMonitor.labels",
        "metrics.podMonitor.labels",
        "metrics.prometheusRule.labels",
        "metrics.dashboard.labels",
    ];
    let of_labels = [
        (
            "app.kubernetes.io/name",
            "the chart selects its pods by it. Remove it, and set nameOverride for another name.",
        ),
        (
            "app.kubernetes.io/instance",
            "the chart selects its pods by it. Remove it; it is the name of the release.",
        ),
        (
            "app.kubernetes.io/managed-by",
            "helm knows its objects by it. Remove it.",
        ),
        ("helm.sh/chart", "helm knows its objects by it. Remove it."),
        (
            "rbac.authorization.k8s.io/aggregate-to-view",
            "it would give the operator's permissions to others. Remove it; rbac.aggregateClusterRoles lets the cluster's roles reach policies.",
        ),
    ];
    let annotations = [
        "commonAnnotations",
        "podAnnotations",
        "deploymentAnnotations",
        "serviceAccount.annotations",
        "crds.annotations",
        "metrics.service.annotations",
        "metrics.dashboard.annotations",
    ];
    let of_annotations = [
        (
            "checksum/config",
            "the chart starts the pods again by it when the configuration changes. Call yours otherwise.",
        ),
        ("helm.sh/hook", "helm knows its objects by it. Remove it."),
        (
            "helm.sh/resource-policy",
            "the chart sets it. Remove it, and set crds.keep.",
        ),
        ("meta.helm.sh/release-name", "helm knows its objects by it. Remove it."),
    ];
    let runs = ["runner.labels", "runner.annotations"];
    let of_runs = [
        (
            "app.kubernetes.io/managed-by",
            "the operator knows its CronJobs and runs by it. Call yours otherwise.",
        ),
        (
            "mapa.radar.dev/policy",
            "the operator knows its CronJobs and runs by it. Call yours otherwise.",
        ),
        (
            "batch.kubernetes.io/job-name",
            "Kubernetes knows the pods of Jobs by it. Call yours otherwise.",
        ),
        (
            "job-name",
            "Kubernetes knows the pods of Jobs by it. Call yours otherwise.",
        ),
        (
            "sidecar.istio.io/inject",
            "the operator sets it, because a run does not end beside a proxy. Remove it.",
        ),
        (
            "linkerd.io/inject",
            "the operator sets it, because a run does not end beside a proxy. Remove it.",
        ),
    ];
    for (values, keys) in [
        (&labels[..], &of_labels[..]),
        (&annotations[..], &of_annotations[..]),
        (&runs[..], &of_runs[..]),
    ] {
        // Every key in one value, and one key in every value: the chart reports all at once.
        for (key, why) in keys {
            let sets: Vec<String> = values.iter().map(|value| set_string(value, key)).collect();
            let said = refusal(&sets.iter().map(String::as_str).collect::<Vec<_>>());
            for value in values {
                let line = format!("- {value}: {key} is refused: {why}");
                assert!(said.lines().any(|said| said == line), "{line}\n{said}");
            }
            assert_eq!(said.lines().count(), values.len(), "{said}");
        }
    }
    for (name, remedy) in [
        ("RUST_LOG", "Remove it, and set log.level."),
        ("MAPA_REPLICA_NAME", "Remove it."),
        ("MAPA_LISTEN", "Remove it, and set metrics.port."),
        ("MAPA_WATCH_NAMESPACE", "Remove it, and set watchNamespaces."),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "Remove it, and set traces.endpoint."),
    ] {
        let said = refusal(&[&format!("--set=extraEnv[0].name={name}")]);
        assert_eq!(
            said,
            format!("- extraEnv: {name} is refused: the chart sets it. {remedy}")
        );
    }
    let said = refusal(&["--set=extraEnv[0].name=A,extraEnv[1].name=B,extraEnv[2].name=A"]);
    assert_eq!(said, "- extraEnv: A is refused: it is there twice. Leave one.");
    let authorities = "--set=extraEnv[0].name=OTEL_EXPORTER_OTLP_CERTIFICATE";
    let said = refusal(&[authorities, "--set=traces.caBundle.configMapName=ca"]);
    assert_eq!(
        said,
        "- extraEnv: OTEL_EXPORTER_OTLP_CERTIFICATE is refused: the chart sets it. Remove it, and set traces.caBundle."
    );
    // Only then is it the chart's.
    let deployment = render("defaults", &[authorities, "--show-only=templates/deployment.yaml"]);
    assert!(deployment.contains("name: \"OTEL_EXPORTER_OTLP_CERTIFICATE\""));
}

/// `--set-string` of `value` with the key `key`.
fn set_string(value: &str, key: &str) -> String {
    format!("--set-string={value}.{}=x", key.replace('.', "\\."))
}

fn at_once(_: &World) {
    let said = refusal(&[
        "--set=extraEnv[0].name=RUST_LOG",
        &set_string("podLabels", "app.kubernetes.io/name"),
        &set_string("runner.labels", "mapa.radar.dev/x"),
    ]);
    assert_eq!(said.lines().count(), 3, "{said}");
}

fn nearer(_: &World) {
    let deployment = |set: &[&str]| -> Value {
        let text = render("defaults", &[set, &["--show-only=templates/deployment.yaml"]].concat());
        serde_yaml::from_str(&text).unwrap()
    };
    let part_of = r"app\.kubernetes\.io/part-of";
    let set = format!("--set=commonLabels.{part_of}=grid,commonLabels.a=b,podLabels.{part_of}=,podLabels.a=");
    let annotations = "--set=commonAnnotations.a=b,podAnnotations.a=,deploymentAnnotations.a=";
    let found = deployment(&[&set, annotations]);
    let (of_object, of_pods) = (&found["metadata"], &found["spec"]["template"]["metadata"]);
    assert_eq!(of_object["labels"]["app.kubernetes.io/part-of"], "grid");
    assert_eq!(of_pods["labels"]["app.kubernetes.io/part-of"], "");
    assert_eq!(of_pods["labels"]["a"], "");
    assert_eq!(
        (&of_object["annotations"]["a"], &of_pods["annotations"]["a"]),
        (&json!(""), &json!(""))
    );
    assert!(of_pods["annotations"]["checksum/config"].is_string());
}

fn runs(_: &World) {
    let config = |set: &[&str]| -> Value {
        let text = render("defaults", &[set, &["--show-only=templates/configmap.yaml"]].concat());
        let object: Value = serde_yaml::from_str(&text).unwrap();
        serde_yaml::from_str(object["data"]["config.yaml"].as_str().unwrap()).unwrap()
    };
    let by_default = config(&[]);
    // An operator before these fields takes the file.
    for field in ["labels", "annotations", "userIds"] {
        assert_eq!(by_default["runner"].get(field), None, "{field}");
    }
    let (labels, annotations) = (
        json!({ "team": "y", "cost": "0042" }),
        json!({ "a.example/b": "null", "c": " #d: {" }),
    );
    let set_labels = format!("--set-json=runner.labels={labels}");
    let set_annotations = format!("--set-json=runner.annotations={annotations}");
    let found = config(&[&set_labels, &set_annotations, "--set=userIds=platform"]);
    assert_eq!(found["runner"]["labels"], labels);
    assert_eq!(found["runner"]["annotations"], annotations);
    assert_eq!(found["runner"]["userIds"], "platform");
}

fn spread(_: &World) {
    let constraint = json!([{
        "topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchExpressions": [{ "key": "a", "operator": "Exists" }] },
    }, { "topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {} }]);
    let set = format!("--set-json=topologySpreadConstraints={constraint}");
    let text = render("defaults", &[&set, "--show-only=templates/deployment.yaml"]);
    let deployment: Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(
        deployment["spec"]["template"]["spec"]["topologySpreadConstraints"],
        constraint
    );
}
