//! What the API server accepts, refuses with which words, and fills in.

use serde_json::Value;

use crate::world::{Test, World};

pub const TESTS: &[Test] = &[
    ("admission::every_bound_is_refused_with_words_that_help", refusals),
    ("admission::every_limit_itself_is_accepted", limits),
    ("admission::defaults_are_filled_in_by_the_api_server", defaults),
    ("admission::every_field_is_described", described),
    (
        "admission::short_names_category_columns_and_selectable_field",
        names_and_columns,
    ),
];

/// A policy of `spec` lines on top of the minimum.
fn policy(name: &str, spec: &Value) -> String {
    let mut policy = serde_json::json!({
        "apiVersion": "mapa.radar.dev/v1",
        "kind": "MapaRefreshPolicy",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "intervalMinutes": 10,
            "database": { "secretRef": { "name": "radar-database" } },
            "cache": { "secretRef": { "name": "radar-cache" } },
        },
    });
    for (path, value) in spec.as_object().unwrap() {
        *at(&mut policy["spec"], path) = value.clone();
    }
    policy.to_string()
}

fn at<'a>(value: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(value, |value, key| &mut value[key])
}

fn create(world: &World, name: &str, spec: &Value) -> Result<String, String> {
    world
        .kubectl()
        .with_input(
            &["create", "--dry-run=server", "-o", "json", "-f", "-"],
            &policy(name, spec),
        )
        .map_err(|error| error.to_string())
}

fn refusals(world: &World) {
    let task = |extra: Value| {
        let mut task = serde_json::json!({ "name": "refresh-mv-portal" });
        task.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::json!({ "tasks": [task] })
    };
    let text = |length: usize| "x".repeat(length);
    let cases = [
        (
            serde_json::json!({ "intervalMinutes": 31 }),
            "intervalMinutes must be at most 30: REN 1.137/2025 Art. 106 demands an update at least every 30 minutes",
        ),
        (
            serde_json::json!({ "intervalMinutes": 0 }),
            "spec.intervalMinutes in body should be greater than or equal to 1",
        ),
        (
            serde_json::json!({ "intervalMinutes": null }),
            "spec.intervalMinutes: Required value",
        ),
        (
            serde_json::json!({ "intervalMinutes": "10" }),
            "must be of type integer",
        ),
        (
            serde_json::json!({ "maxDataAgeMinutes": 31 }),
            "maxDataAgeMinutes must be at most 30: REN 1.137/2025 Art. 106",
        ),
        (
            serde_json::json!({ "maxDataAgeMinutes": 0 }),
            "spec.maxDataAgeMinutes in body should be greater than or equal to 1",
        ),
        (
            serde_json::json!({ "timeZone": "Boa Vista" }),
            "spec.timeZone in body should match",
        ),
        (
            serde_json::json!({ "timeZone": text(65) }),
            "spec.timeZone: Too long: may not be more than 64 bytes",
        ),
        (serde_json::json!({ "area": "R R" }), "spec.area in body should match"),
        (
            serde_json::json!({ "suspend": true }),
            "suspendReason is required while suspend is true",
        ),
        (
            serde_json::json!({ "suspend": true, "suspendReason": "" }),
            "spec.suspendReason in body should be at least 1 chars long",
        ),
        (
            serde_json::json!({ "suspend": true, "suspendReason": text(257) }),
            "spec.suspendReason: Too long: may not be more than 256 bytes",
        ),
        (
            serde_json::json!({ "suspendUntil": "amanhã" }),
            "spec.suspendUntil in body must be of type date-time",
        ),
        (serde_json::json!({ "database": null }), "spec.database: Required value"),
        (
            serde_json::json!({ "database.kind": "mysql" }),
            "Unsupported value: \"mysql\": supported values: \"oracle\", \"postgresql\"",
        ),
        (
            serde_json::json!({ "database.secretRef.name": "Not_A_Name" }),
            "spec.database.secretRef.name in body should match",
        ),
        (
            serde_json::json!({ "database.secretRef.name": text(254) }),
            "spec.database.secretRef.name: Too long: may not be more than 253 bytes",
        ),
        (
            serde_json::json!({ "database.view": "X; DROP TABLE Y" }),
            "spec.database.view in body should match",
        ),
        (
            serde_json::json!({ "database.view": "A.B.C" }),
            "spec.database.view in body should match",
        ),
        (
            serde_json::json!({ "database.columns": { "causa": "a b" } }),
            "spec.database.columns.causa in body should match",
        ),
        (serde_json::json!({ "cache": null }), "spec.cache: Required value"),
        (
            serde_json::json!({ "cache.secretRef.name": "" }),
            "spec.cache.secretRef.name in body should be at least 1 chars long",
        ),
        (
            serde_json::json!({ "cache.keyPrefix": "Mapa*" }),
            "spec.cache.keyPrefix in body should match",
        ),
        (
            serde_json::json!({ "cache.keyPrefix": text(64) }),
            "spec.cache.keyPrefix: Too long: may not be more than 63 bytes",
        ),
        (
            serde_json::json!({ "plausibility": { "maxDropPercent": 0 } }),
            "spec.plausibility.maxDropPercent in body should be greater than or equal to 1",
        ),
        (
            serde_json::json!({ "plausibility": { "maxDropPercent": 101 } }),
            "spec.plausibility.maxDropPercent in body should be less than or equal to 100",
        ),
        (
            serde_json::json!({ "plausibility": { "maxQuarantinedPercent": -1 } }),
            "spec.plausibility.maxQuarantinedPercent in body should be greater than or equal to 0",
        ),
        (
            serde_json::json!({ "plausibility": { "maxQuarantinedPercent": 101 } }),
            "spec.plausibility.maxQuarantinedPercent in body should be less than or equal to 100",
        ),
        (
            serde_json::json!({ "plausibility": { "maxDropOutages": -1 } }),
            "spec.plausibility.maxDropOutages in body should be greater than or equal to 0",
        ),
        (
            serde_json::json!({ "plausibility": { "maxDropOutages": 1_000_001 } }),
            "spec.plausibility.maxDropOutages in body should be less than or equal to 1000000",
        ),
        (
            serde_json::json!({ "downstreamCacheSeconds": -1 }),
            "spec.downstreamCacheSeconds in body should be greater than or equal to 0",
        ),
        (
            serde_json::json!({ "downstreamCacheSeconds": 1801 }),
            "spec.downstreamCacheSeconds in body should be less than or equal to 1800",
        ),
        (
            serde_json::json!({ "tasks": [] }),
            "spec.tasks in body should have at least 1 items",
        ),
        (
            serde_json::json!({ "tasks": [{ "name": "health-check" }, { "name": "health-check" }] }),
            "Duplicate value: {\"name\":\"health-check\"}",
        ),
        (
            serde_json::json!({ "tasks": [{ "name": "backup" }] }),
            "spec.tasks[0].name: Unsupported value: \"backup\"",
        ),
        (
            task(serde_json::json!({ "maxRetries": -1 })),
            "maxRetries in body should be greater than or equal to 0",
        ),
        (
            task(serde_json::json!({ "maxRetries": 11 })),
            "maxRetries in body should be less than or equal to 10",
        ),
        (
            task(serde_json::json!({ "retryDelaySeconds": -1 })),
            "retryDelaySeconds in body should be greater than or equal to 0",
        ),
        (
            task(serde_json::json!({ "retryDelaySeconds": 601 })),
            "retryDelaySeconds in body should be less than or equal to 600",
        ),
        (
            task(serde_json::json!({ "attemptTimeoutSeconds": 4 })),
            "attemptTimeoutSeconds in body should be greater than or equal to 5",
        ),
        (
            task(serde_json::json!({ "attemptTimeoutSeconds": 1501 })),
            "attemptTimeoutSeconds in body should be less than or equal to 1500",
        ),
    ];
    let mut wrong = Vec::new();
    for (spec, words) in cases {
        match create(world, "refused", &spec) {
            Ok(_) => wrong.push(format!("{spec}: accepted")),
            Err(error) if !error.contains(words) => wrong.push(format!("{spec}: expected {words:?} in: {error}")),
            Err(_) => {}
        }
    }
    match create(world, &"n".repeat(31), &serde_json::json!({})) {
        Err(error) if error.contains("metadata.name must have at most 30 characters") => {}
        other => wrong.push(format!("a name of 31 characters: {other:?}")),
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn limits(world: &World) {
    let task = |extra: &str| {
        serde_json::from_str::<Value>(&format!(r#"{{"tasks":[{{"name":"refresh-mv-portal",{extra}}}]}}"#)).unwrap()
    };
    let cases = [
        serde_json::json!({ "intervalMinutes": 1 }),
        serde_json::json!({ "intervalMinutes": 30, "maxDataAgeMinutes": 1 }),
        serde_json::json!({ "timeZone": "America/Argentina/Buenos_Aires" }),
        serde_json::json!({ "suspend": true, "suspendReason": "x".repeat(256), "suspendUntil": "2027-01-01T00:00:00Z" }),
        serde_json::json!({ "database.view": "SYS$A.V_1#" }),
        serde_json::json!({ "downstreamCacheSeconds": 1800 }),
        task(r#""maxRetries":0,"retryDelaySeconds":0,"attemptTimeoutSeconds":5"#),
        task(r#""maxRetries":10,"retryDelaySeconds":600,"attemptTimeoutSeconds":1500"#),
    ];
    for spec in cases {
        assert_eq!(create(world, &"n".repeat(30), &spec).map(drop), Ok(()), "{spec}");
    }
}

fn defaults(world: &World) {
    let created: Value = serde_json::from_str(&create(world, "minimal", &serde_json::json!({})).unwrap()).unwrap();
    let expected = serde_json::json!({
        "intervalMinutes": 10,
        "maxDataAgeMinutes": 30,
        "timeZone": "America/Boa_Vista",
        "suspend": false,
        "area": "RR",
        "downstreamCacheSeconds": 0,
        "rescue": true,
        "database": { "kind": "oracle", "secretRef": { "name": "radar-database" }, "view": "RADAR.MV_PORTAL_PUBLICO" },
        "cache": { "secretRef": { "name": "radar-cache" }, "keyPrefix": "mapa" },
    });
    assert_eq!(created["spec"], expected);
}

fn described(world: &World) {
    let crd: Value = serde_json::from_str(
        &world
            .kubectl()
            .run(["get", "crd", "maparefreshpolicies.mapa.radar.dev", "-o", "json"])
            .unwrap(),
    )
    .unwrap();
    let mut missing = Vec::new();
    fn walk(path: &str, schema: &Value, missing: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) && !path.ends_with(".metadata") {
                missing.push(path.clone());
            }
            walk(&path, property, missing);
        }
        if schema["items"].is_object() {
            walk(&format!("{path}[]"), &schema["items"], missing);
        }
    }
    walk(
        "",
        &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
        &mut missing,
    );
    assert_eq!(missing, Vec::<String>::new());
    let explained = world
        .kubectl()
        .run(["explain", "mapa-refresh.spec.intervalMinutes"])
        .unwrap();
    assert!(
        explained.contains("Minutes between two refreshes, 1 to 30"),
        "{explained}"
    );
}

fn names_and_columns(world: &World) {
    let kubectl = world.kubectl();
    kubectl.namespace("columns").unwrap();
    let apply = |name: &str, extra: Value| {
        let mut spec = extra;
        spec["rescue"] = false.into();
        kubectl
            .with_input(
                &["-n", "columns", "create", "-f", "-"],
                &policy(name, &spec).replace("\"default\"", "\"columns\""),
            )
            .unwrap();
    };
    apply("running", serde_json::json!({}));
    apply(
        "stopped",
        serde_json::json!({ "suspend": true, "suspendReason": "obra" }),
    );
    for name in ["mapa-refresh", "mrp", "mapa", "maparefreshpolicies"] {
        let table = kubectl.run(["-n", "columns", "get", name]).unwrap();
        let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(
            header,
            [
                "NAME",
                "INTERVAL",
                "COMPLIANT",
                "DATA-AS-OF",
                "LAST-SUCCESS",
                "RETRIES",
                "REASON",
                "AGE"
            ],
            "{name}"
        );
    }
    let wide = kubectl.run(["-n", "columns", "get", "mrp", "-o", "wide"]).unwrap();
    let heading: Vec<&str> = wide.lines().next().unwrap().split_whitespace().skip(8).collect();
    assert_eq!(
        heading,
        [
            "SUSPEND",
            "FAILURES",
            "WORST-AGE",
            "BREACHES",
            "COMPLIANT-UNTIL",
            "READY",
            "AT-RISK",
            "MAX-AGE",
            "DOWNSTREAM",
            "DATA-TIME",
            "FIRST-TASK",
            "NAMESPACE",
            "MESSAGE"
        ],
        "{wide}"
    );
    let selected = kubectl
        .run([
            "-n",
            "columns",
            "get",
            "mrp",
            "--field-selector",
            "spec.suspend=true",
            "-o",
            "name",
        ])
        .unwrap();
    assert_eq!(selected.trim(), "maparefreshpolicy.mapa.radar.dev/stopped");
}
