use serde_json::json;

use super::*;

fn object(spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "mapa.radar.dev/v1",
        "kind": "MapaRefreshPolicy",
        "metadata": { "name": "roraima" },
        "spec": {
            "intervalMinutes": 10,
            "database": { "secretRef": { "name": "radar-database" } },
            "cache": { "secretRef": { "name": "radar-cache" } },
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object
}

fn problems(spec: &Value) -> Vec<String> {
    match admit(object(spec), "default") {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(Problem::to_string).collect(),
    }
}

#[test]
fn every_rule_of_the_resource_is_known_and_none_more() {
    fn collect(schema: &Value, rules: &mut BTreeSet<String>) {
        for rule in rules_of(schema) {
            rules.insert(rule["rule"].as_str().unwrap().to_owned());
        }
        match schema {
            Value::Object(fields) => fields.values().for_each(|schema| collect(schema, rules)),
            Value::Array(items) => items.iter().for_each(|schema| collect(schema, rules)),
            _ => {}
        }
    }
    let mut rules = BTreeSet::new();
    collect(&schema(), &mut rules);
    let known: BTreeSet<String> = RULES.iter().map(|(rule, _)| (*rule).to_owned()).collect();
    assert_eq!(rules, known);
}

#[test]
fn every_keyword_of_the_schema_is_understood() {
    const UNDERSTOOD: [&str; 19] = [
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "nullable",
        "pattern",
        "properties",
        "required",
        "type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    ];
    fn check(schema: &Value) {
        for keyword in schema.as_object().unwrap().keys() {
            assert!(UNDERSTOOD.contains(&keyword.as_str()), "{keyword}");
        }
        if let Some(pattern) = schema.get("pattern") {
            Regex::new(pattern.as_str().unwrap()).unwrap();
        }
        let format = schema.get("format").map(|format| format.as_str().unwrap());
        assert!(matches!(format, None | Some("int32" | "date-time")), "{format:?}");
        schema.get("items").into_iter().for_each(check);
        let properties = schema.get("properties").and_then(Value::as_object);
        properties.into_iter().flat_map(Map::values).for_each(check);
    }
    check(&schema()["properties"]["spec"]);
}

#[test]
fn a_policy_within_its_bounds_is_admitted_and_what_it_leaves_out_is_named() {
    let admitted = admit(object(&json!({})), "radar").unwrap();
    assert_eq!(admitted.policy.metadata.namespace.as_deref(), Some("radar"));
    assert_eq!(admitted.policy.spec.max_data_age_minutes, 30);
    let fields: Vec<&str> = admitted
        .defaulted
        .iter()
        .map(|default| default.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "spec.area",
            "spec.cache.keyPrefix",
            "spec.database.kind",
            "spec.database.view",
            "spec.downstreamCacheSeconds",
            "spec.maxDataAgeMinutes",
            "spec.rescue",
            "spec.suspend",
            "spec.timeZone"
        ]
    );
}

#[test]
fn i11_an_interval_outside_the_law_is_refused_with_the_law() {
    let said = problems(&json!({ "intervalMinutes": 31, "maxDataAgeMinutes": 60 }));
    assert_eq!(
        said,
        [
            "spec.intervalMinutes: intervalMinutes must be at most 30: REN 1.137/2025 Art. 106 demands an update at least every 30 minutes",
            "spec.maxDataAgeMinutes: maxDataAgeMinutes must be at most 30: REN 1.137/2025 Art. 106 does not allow the public information to be older",
        ]
    );
    assert_eq!(
        problems(&json!({ "intervalMinutes": 0 })),
        ["spec.intervalMinutes: is 0; write 1 to 30"]
    );
}

#[test]
fn every_problem_is_told_with_its_field_and_what_to_write() {
    let said = problems(&json!({
        "intervalMinutes": "10",
        "intervalMinute": 5,
        "suspend": true,
        "database": { "kind": "mysql", "secretRef": {} },
        "cache": { "keyPrefix": "Mapa", "secretRef": { "name": "radar-cache" } },
        "suspendUntil": "tomorrow",
        "tasks": [
            { "name": "health-check", "maxRetries": 11 },
            { "name": "health-check", "retryDelaySeconds": -1 },
            { "name": "refresh-mv-portal", "attemptTimeoutSeconds": 3_000_000_000_i64 },
        ],
    }));
    let fields: Vec<&str> = said.iter().map(|problem| problem.split_once(": ").unwrap().0).collect();
    assert_eq!(
        fields,
        [
            "spec.intervalMinute",
            "spec.cache.keyPrefix",
            "spec.database.kind",
            "spec.database.secretRef.name",
            "spec.intervalMinutes",
            "spec.suspendUntil",
            "spec.tasks[0].maxRetries",
            "spec.tasks[1].retryDelaySeconds",
            "spec.tasks[1]",
            "spec.tasks[2].attemptTimeoutSeconds",
            "spec"
        ],
        "{said:#?}"
    );
    assert!(said.contains(&"spec.database.kind: is \"mysql\"; write one of oracle, postgresql".to_owned()));
    assert!(said.contains(&"spec.tasks[0].maxRetries: is 11; write 0 to 10".to_owned()));
    assert!(said[10].contains("suspendReason is required"), "{}", said[10]);
}

#[test]
fn what_is_missing_or_of_another_type_never_panics() {
    for object in [
        json!(null),
        json!([]),
        json!({}),
        json!({ "spec": null }),
        json!({ "spec": [] }),
        json!({ "metadata": 3, "spec": { "tasks": {}, "database": 1, "cache": "x" } }),
    ] {
        assert!(!admit(object, "default").unwrap_err().is_empty());
    }
}

#[test]
fn a_moment_is_judged_as_the_api_server_judges_it() {
    let said = |until: &str| problems(&json!({ "suspend": true, "suspendReason": "obra", "suspendUntil": until }));
    for moment in [
        "2027-01-01T00:00:00Z",
        "2027-01-01T00:00:00.123456789-03:00",
        "2000-01-01T00:00:00Z",
        "2199-12-31T23:59:59.999999999Z",
        "2028-02-29T23:59:59+23:59",
    ] {
        assert_eq!(said(moment), Vec::<String>::new(), "{moment}");
    }
    for moment in [
        "2200-01-01T00:00:00Z",
        "1999-12-31T23:59:59.999999999Z",
        "0000-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59Z",
        "2027-02-30T00:00:00Z",
        "2027-01-01T00:00:60Z",
        "2027-01-01t00:00:00z",
        "2027-01-01T00:00:00+99:99",
        "2027-01-01T00:00:00.1234567890Z",
        "2027-01-01T00:00:00Z[UTC]",
    ] {
        let said = said(moment);
        assert!(
            said.len() == 1 && said[0].contains("write a moment of the years 2000 to 2199"),
            "{said:?}"
        );
    }
}

#[test]
fn a_null_counts_as_left_out() {
    let admitted = admit(object(&json!({ "maxDataAgeMinutes": null, "tasks": null })), "x").unwrap();
    assert_eq!(admitted.policy.spec.max_data_age_minutes, 30);
    assert_eq!(admitted.policy.spec.tasks, None);
    assert!(problems(&json!({ "intervalMinutes": null }))[0].starts_with("spec.intervalMinutes: is required"));
}

#[test]
fn names_are_judged_as_the_api_server_judges_them() {
    let named = |name: &str| {
        let mut object = object(&json!({}));
        object["metadata"]["name"] = name.into();
        admit(object, "x").map(|_| ()).map_err(|problems| problems.len())
    };
    assert_eq!(named(&"x".repeat(30)), Ok(()));
    assert_eq!(named(&"x".repeat(31)), Err(1));
    assert_eq!(named("Roraima"), Err(1));
    assert_eq!(named("roraima-"), Err(1));
}
