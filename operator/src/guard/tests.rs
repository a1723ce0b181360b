use kube::core::ObjectList;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A moment that no type of ours holds, and that the API server takes for one.
const BEYOND: &str = "9999-12-31T23:59:59Z";

fn policy(status: Value) -> Value {
    json!({
        "apiVersion": "mapa.radar.dev/v1", "kind": "MapaRefreshPolicy",
        "metadata": { "name": "roraima", "namespace": "radar", "uid": "u", "resourceVersion": "7", "generation": 3 },
        "spec": {
            "intervalMinutes": 10,
            "database": { "kind": "postgresql", "secretRef": { "name": "d" } },
            "cache": { "secretRef": { "name": "c" } },
        },
        "status": status,
    })
}

fn condition(type_: &str, at: &str) -> Value {
    json!({ "type": type_, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": at })
}

fn task(name: &str) -> Value {
    json!({
        "name": name, "cronJobName": "c", "schedule": "0 * * * *",
        "maxRetries": 3, "retryDelaySeconds": 60, "attemptTimeoutSeconds": 120, "totalRuns": 5,
    })
}

fn status() -> Value {
    json!({
        "observedGeneration": 3,
        "conditions": [condition("Ready", "2026-11-23T10:00:00Z"), condition("Compliant", "2026-11-23T10:00:00Z")],
        "dataAsOf": "2026-11-23T10:00:00Z",
        "tasks": [task("refresh-mv-portal"), task("refresh-mapa-cache")],
        "recentStartSeconds": [1, 2, 3],
        "compliance": { "since": "2026-11-01T00:00:00Z", "accountedUntil": "2026-11-23T10:00:00Z", "settled": { "until": "2026-11-23T10:00:00Z" }, "breaches": 1 },
        "lastHandledRequest": "x",
    })
}

fn guarded(raw: Value) -> Guard<MapaRefreshPolicy> {
    serde_json::from_value(raw).unwrap()
}

#[test]
fn of_a_status_that_cannot_be_decoded_everything_that_can_is_kept() {
    type Spoil = fn(&mut Value);
    type Expect = fn(&mut Value);
    let cases: [(&str, Spoil, Expect); 10] = [
        (
            "status.conditions[0].lastTransitionTime",
            |status| status["conditions"][0]["lastTransitionTime"] = "10000-01-01T00:00:00Z".into(),
            |status| drop(status["conditions"].as_array_mut().unwrap().remove(0)),
        ),
        (
            "status.conditions",
            |status| status["conditions"] = json!({ "type": "Ready" }),
            |status| status["conditions"] = json!([]),
        ),
        (
            "status.dataAsOf",
            |status| status["dataAsOf"] = BEYOND.into(),
            |status| drop(status.as_object_mut().unwrap().remove("dataAsOf")),
        ),
        (
            "status.tasks[1].totalRuns",
            |status| status["tasks"][1]["totalRuns"] = "five".into(),
            |status| drop(status["tasks"][1].as_object_mut().unwrap().remove("totalRuns")),
        ),
        (
            "status.tasks[0].publications",
            |status| status["tasks"][0]["publications"] = json!({}),
            |_| {},
        ),
        (
            "status.tasks[1].maxRetries",
            |status| status["tasks"][1]["maxRetries"] = json!([]),
            |status| drop(status["tasks"].as_array_mut().unwrap().remove(1)),
        ),
        (
            "status.tasks[0].name",
            |status| status["tasks"][0]["name"] = "backup".into(),
            |status| drop(status["tasks"].as_array_mut().unwrap().remove(0)),
        ),
        (
            "status.recentStartSeconds[1]",
            |status| status["recentStartSeconds"][1] = 3_000_000_000_i64.into(),
            |status| status["recentStartSeconds"] = json!([1, 3]),
        ),
        (
            // What is written flat has no path of its own.
            "status.compliance",
            |status| status["compliance"]["breaches"] = "one".into(),
            |status| drop(status.as_object_mut().unwrap().remove("compliance")),
        ),
        (
            "status: ",
            |status| *status = "gone".into(),
            |status| *status = Value::Null,
        ),
    ];
    for (path, spoil, expect) in cases {
        let (mut spoilt, mut expected) = (status(), status());
        spoil(&mut spoilt);
        expect(&mut expected);
        let guard = guarded(policy(spoilt));
        let lost = guard.lost.unwrap();
        assert!(lost.starts_with(path), "{path}: {lost}");
        let object = guard.object.unwrap();
        let expected: Option<MapaRefreshPolicyStatus> = serde_json::from_value(expected).unwrap();
        assert_eq!(object.status, expected, "{path}");
        assert_eq!(object.spec.interval_minutes, 10);
    }
    let hopeless = json!({ "conditions": vec![json!(1); 100], "dataAsOf": "2026-11-23T10:00:00Z" });
    let guard = guarded(policy(hopeless));
    assert_eq!((guard.lost.is_some(), guard.object.unwrap().status), (true, None));
    let sound = guarded(policy(status()));
    assert_eq!(
        (sound.lost, sound.object.unwrap().status.unwrap().tasks.len()),
        (None, 2)
    );
}

#[test]
fn of_a_policy_that_cannot_be_decoded_metadata_and_status_are_known_and_where_it_is_wrong() {
    let mut raw = policy(status());
    raw["spec"]["suspendUntil"] = BEYOND.into();
    let guard = guarded(raw.clone());
    let invalid = guard.object.as_ref().unwrap_err();
    assert!(invalid.error.starts_with("spec.suspendUntil: "), "{}", invalid.error);
    assert_eq!((&invalid.status, guard.lost.as_ref()), (&status(), None));
    assert_eq!(
        (guard.meta().name.as_deref(), guard.meta().generation),
        (Some("roraima"), Some(3))
    );

    // Both at once: the words are of the spec, the status is what is left of it.
    raw["status"]["dataAsOf"] = BEYOND.into();
    let guard = guarded(raw);
    assert!(guard.lost.unwrap().starts_with("status.dataAsOf: "));
    let invalid = guard.object.unwrap_err();
    assert!(invalid.error.starts_with("spec.suspendUntil: "), "{}", invalid.error);
    let mut expected = status();
    expected.as_object_mut().unwrap().remove("dataAsOf");
    assert_eq!(invalid.status, expected);
}

#[test]
fn i8_managed_fields_of_any_content_hide_nothing() {
    for fields in [
        json!([{ "manager": "m", "operation": "Update", "time": BEYOND }]),
        json!("x"),
        json!([1]),
    ] {
        let mut raw = policy(status());
        raw["metadata"]["managedFields"] = fields.clone();
        let guard = guarded(raw);
        assert_eq!(guard.object.unwrap().metadata.managed_fields, None);
        let pod = json!({ "metadata": { "name": "p", "managedFields": fields }, "spec": { "containers": [] } });
        let list = json!({ "metadata": {}, "items": [pod] });
        let list: ObjectList<Guard<Pod>> = serde_json::from_value(list).unwrap();
        assert!(list.items[0].object.is_ok());
    }
}

#[test]
fn metadata_that_cannot_be_decoded_keep_what_names_the_object() {
    let mut raw = policy(Value::Null);
    raw["metadata"]["creationTimestamp"] = BEYOND.into();
    raw["metadata"]["annotations"] = json!([]);
    let guard = guarded(raw);
    let invalid = guard.object.unwrap_err();
    assert!(invalid.error.starts_with("metadata."), "{}", invalid.error);
    let expected = ObjectMeta {
        name: Some("roraima".into()),
        namespace: Some("radar".into()),
        uid: Some("u".into()),
        resource_version: Some("7".into()),
        generation: Some(3),
        ..ObjectMeta::default()
    };
    assert_eq!(invalid.metadata, expected);
}

fn any_json() -> impl Strategy<Value = Value> {
    let moment = proptest::sample::select(vec![BEYOND, "2026-11-23T10:00:00Z", "10000-01-01T00:00:00Z", "x"]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        moment.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let field = prop_oneof![
            3 => proptest::sample::select(vec![
                "metadata", "spec", "status", "name", "labels", "conditions", "type", "lastTransitionTime", "tasks",
                "compliance", "since", "settled", "until", "publications", "dataAsOf", "request", "containers",
            ]).prop_map(str::to_owned),
            1 => ".{0,4}",
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((field, inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i8_no_object_ends_a_list(objects in proptest::collection::vec(any_json(), 0..4)) {
        let list = json!({ "metadata": {}, "items": objects });
        prop_assert!(serde_json::from_value::<ObjectList<Guard<MapaRefreshPolicy>>>(list.clone()).is_ok());
        prop_assert!(serde_json::from_value::<ObjectList<Guard<CronJob>>>(list.clone()).is_ok());
        prop_assert!(serde_json::from_value::<ObjectList<Guard<Job>>>(list.clone()).is_ok());
        prop_assert!(serde_json::from_value::<ObjectList<Guard<Pod>>>(list).is_ok());
    }

    #[test]
    fn whatever_stands_in_a_status_the_spec_is_understood(garbage in any_json(), field in 0_usize..8) {
        let mut spoilt = status();
        let names: Vec<String> = spoilt.as_object().unwrap().keys().cloned().collect();
        match names.get(field) {
            Some(name) => spoilt[name] = garbage,
            None => spoilt = garbage,
        }
        let guard = guarded(policy(spoilt.clone()));
        prop_assert!(guard.object.is_ok(), "{spoilt}");
        // What was left out, was left out for a reason.
        let strict = serde_json::from_value::<MapaRefreshPolicy>(policy(spoilt));
        prop_assert_eq!(guard.lost.is_some(), strict.is_err());
        if let Ok(strict) = strict {
            prop_assert_eq!(guard.object.unwrap(), strict);
        }
    }
}
