//! Whatever the resource's schema admits, the operator understands.
//!
//! The generated schema is walked, and of each field its whole range is drawn, edges first: what the API server takes for a value of that type, format and
//! pattern, not what this operator takes for one. The CEL rules are the translated ones.

use proptest::{
    prelude::*,
    sample::select,
    strategy::BoxedStrategy,
    string::string_regex,
    test_runner::{Config, TestError, TestRng, TestRunner},
};
use serde_json::json;

use super::*;
use crate::{
    applied::Applied,
    guard::Guard,
    settings::RunnerSettings,
    status::{Facts, fold},
    validate::{Credentials, validate},
};

const CASES: u32 = 4_000;

/// Values that `schema` admits.
fn admitted(schema: &Value) -> BoxedStrategy<Value> {
    let number = |name: &str| schema.get(name).and_then(whole);
    let size = |name: &str, otherwise: usize| number(name).map_or(otherwise, |size| usize::try_from(size).unwrap());
    let values = match schema["type"].as_str().unwrap() {
        "object" => fields(schema),
        "array" => items(schema, size("minItems", 0), size("maxItems", 8)),
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "integer" => integers(number("minimum"), number("maximum")),
        "string" => texts(schema, size("minLength", 0), size("maxLength", 300)),
        other => panic!("no values of type {other} are drawn yet"),
    };
    let (rules, pattern) = (schema.clone(), schema.get("pattern").cloned());
    let values = values.prop_filter("a rule or the pattern", move |value| {
        let matches_pattern = |pattern: &Value| matches(pattern.as_str().unwrap(), value.as_str().unwrap());
        pattern.as_ref().is_none_or(matches_pattern) && obeys(&rules, value)
    });
    if is_nullable(schema) {
        prop_oneof![1 => Just(Value::Null), 9 => values].boxed()
    } else {
        values.boxed()
    }
}

/// A bound of the schema, which may stand there as `1.0`.
fn whole(bound: &Value) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a bound is a whole number far below 2^53"
    )]
    bound.as_i64().or_else(|| bound.as_f64().map(|bound| bound as i64))
}

/// Whether `value` obeys the rules of `schema`; one that is not known here is obeyed by everything.
fn obeys(schema: &Value, value: &Value) -> bool {
    rules_of(schema).all(|rule| {
        let known = RULES.iter().find(|(text, _)| rule["rule"] == *text);
        known.is_none_or(|(_, holds)| holds(value))
    })
}

fn fields(schema: &Value) -> BoxedStrategy<Value> {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|required| required == name));
    let properties = schema["properties"].as_object().unwrap();
    let fields: Vec<BoxedStrategy<Option<(String, Value)>>> = properties
        .iter()
        .map(|(name, schema)| {
            let field = name.clone();
            let given = admitted(schema).prop_map(move |value| Some((field.clone(), value)));
            if is_required(name) {
                given.boxed()
            } else {
                prop_oneof![1 => Just(None), 2 => given].boxed()
            }
        })
        .collect();
    // The API server prunes what it does not know; an older definition may have known it.
    let unknown = prop_oneof![3 => Just(None), 1 => Just(Some(("fromTheFuture".to_owned(), json!({ "a": [1] }))))];
    (fields, unknown)
        .prop_map(|(fields, unknown)| Value::Object(fields.into_iter().chain([unknown]).flatten().collect()))
        .boxed()
}

fn items(schema: &Value, least: usize, most: usize) -> BoxedStrategy<Value> {
    let keys = schema.get("x-kubernetes-list-map-keys").cloned();
    proptest::collection::vec(admitted(&schema["items"]), least..=most)
        .prop_map(move |mut items| {
            if let Some(keys) = &keys {
                let mut seen = BTreeSet::new();
                let key = |item: &Value| -> String {
                    let names = keys.as_array().unwrap().iter();
                    names.map(|name| item[name.as_str().unwrap()].to_string()).collect()
                };
                items.retain(|item| seen.insert(key(item)));
            }
            Value::from(items)
        })
        .boxed()
}

fn integers(least: Option<i64>, most: Option<i64>) -> BoxedStrategy<Value> {
    let (least, most) = (least.unwrap_or(i64::MIN), most.unwrap_or(i64::MAX));
    let edges: Vec<i64> = [
        least,
        least.saturating_add(1),
        0,
        29,
        30,
        31,
        i64::from(i32::MAX),
        i64::from(i32::MAX) + 1,
        most.saturating_sub(1),
        most,
    ]
    .into_iter()
    .filter(|edge| (least..=most).contains(edge))
    .collect();
    let small = least..=most.min(least.saturating_add(60));
    prop_oneof![select(edges), small, least..=most]
        .prop_map(Value::from)
        .boxed()
}

fn texts(schema: &Value, least: usize, most: usize) -> BoxedStrategy<Value> {
    if let Some(names) = schema.get("enum").and_then(Value::as_array) {
        return select(names.clone()).boxed();
    }
    let drawn = match (schema.get("format").and_then(Value::as_str), schema.get("pattern")) {
        (Some("date-time"), _) => moments(),
        (None, Some(pattern)) => {
            let pattern = pattern.as_str().unwrap().trim_start_matches('^').trim_end_matches('$');
            string_regex(pattern).unwrap().boxed()
        }
        (None, None) => {
            let any_character = prop_oneof![
                8 => any::<char>(),
                1 => select(vec!['\0', '\u{1b}', '\u{202e}', '\u{feff}', '\u{ffff}', '\u{10ffff}', '"', '\\', '\n']),
            ];
            let sizes = prop_oneof![Just(least), Just(most), least..=most];
            sizes
                .prop_flat_map(move |size| proptest::collection::vec(any_character.clone(), size))
                .prop_map(|characters| characters.into_iter().collect())
                .boxed()
        }
        (Some(format), _) => panic!("no values of format {format} are drawn yet"),
    };
    drawn
        .prop_filter("longer or shorter", move |text| {
            (least..=most).contains(&text.chars().count())
        })
        .prop_map(Value::from)
        .boxed()
}

/// What the API server takes for a date-time: a date of the years 0000 to 9999, `t`, a time of day, anything and a fraction, any offset, and
/// anything behind a second `t`.
///
/// Source: `IsDateTime` of <https://github.com/kubernetes/kube-openapi/blob/master/pkg/validation/strfmt/time.go>
fn moments() -> BoxedStrategy<String> {
    let year = prop_oneof![
        select(vec![0, 1, 1969, 1970, 2026, 2199, 2200, 9998, 9999]),
        2000..=2199,
        0..=9999
    ];
    let date = (
        year,
        prop_oneof![select(vec![1, 2, 12]), 1..=12_u32],
        prop_oneof![select(vec![1, 28, 29, 30, 31]), 1..=31_u32],
    )
        .prop_filter("no such day", |(year, month, day)| {
            chrono::NaiveDate::from_ymd_opt(*year, *month, *day).is_some()
        })
        .prop_map(|(year, month, day)| format!("{year:04}-{month:02}-{day:02}"));
    let ends = select(vec![
        "0000-01-01",
        "1999-12-31",
        "2000-01-01",
        "2199-12-31",
        "2200-01-01",
        "9999-12-30",
        "9999-12-31",
    ]);
    let date = prop_oneof![1 => ends.prop_map(str::to_owned), 4 => date];
    let hour = prop_oneof![Just(23), Just(0), 0..=23_u32];
    let minute = || prop_oneof![Just(59), Just(0), 0..=59_u32];
    let time =
        (hour, minute(), minute()).prop_map(|(hour, minute, second)| format!("{hour:02}:{minute:02}:{second:02}"));
    let fraction = prop_oneof![
        6 => Just(String::new()),
        3 => "[.][0-9]{1,9}",
        1 => "[.][0-9]{10,12}",
        1 => "[x,: é][0-9]{1,3}",
    ];
    let zone = prop_oneof![
        4 => Just("Z".to_owned()),
        1 => Just("z".to_owned()),
        4 => "[+-]([01][0-9]|2[0-3]):[0-5][0-9]",
        1 => "[+-][0-9]{2}:[0-9]{2}",
    ];
    let rest = prop_oneof![9 => Just(String::new()), 1 => "[tT].{0,4}"];
    let separator = select(vec!["T", "T", "T", "t"]);
    (date, separator, time, fraction, zone, rest)
        .prop_map(|(date, separator, time, fraction, zone, rest)| {
            format!("{date}{separator}{time}{fraction}{zone}{rest}")
        })
        .boxed()
}

fn policy_of(spec: &Value) -> Value {
    json!({
        "apiVersion": "mapa.radar.dev/v1", "kind": "MapaRefreshPolicy",
        "metadata": { "name": "roraima", "namespace": "radar", "uid": "u", "resourceVersion": "1", "generation": 1 },
        "spec": spec,
    })
}

/// Draws specs of `schema` until one is not understood.
fn first_not_understood(schema: &Value) -> Result<(), TestError<Value>> {
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_local_rejects: 1_000_000,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let algorithm = config.rng_algorithm;
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(algorithm)).run(&admitted(schema), |spec| {
        let guard: Guard<MapaRefreshPolicy> = serde_json::from_value(policy_of(&spec)).unwrap();
        let policy = guard.object.map_err(|invalid| TestCaseError::fail(invalid.error))?;
        // And it can be carried out, or refused.
        let runner = RunnerSettings {
            image: Some("runner:1".into()),
            ..RunnerSettings::default()
        };
        let now = "2026-11-23T10:00:00Z".parse().unwrap();
        let plan = validate("radar", "roraima", &policy.spec, &runner, Credentials::Usable, now);
        let folded = fold(Facts {
            policy: &policy,
            previous: &Default::default(),
            plan: plan.as_ref(),
            desired: &[],
            applied: &Applied::default(),
            attempted: &[],
            runs: &[],
            other_jobs: &[],
            now,
        });
        prop_assert_eq!(folded.status.observed_generation, Some(1));
        let written = serde_json::to_value(&policy).unwrap();
        prop_assert!(serde_json::from_value::<MapaRefreshPolicy>(written).is_ok());
        Ok(())
    })
}

fn spec_schema() -> Value {
    schema()["properties"]["spec"].clone()
}

#[test]
fn whatever_the_schema_and_the_rules_admit_is_understood() {
    if let Err(TestError::Fail(why, spec)) = first_not_understood(&spec_schema()) {
        panic!("{why}: {spec}");
    }
}

#[test]
fn a_schema_without_one_of_its_bounds_admits_what_is_not_understood() {
    type Loosen = Box<dyn Fn(&mut Value)>;
    let cases: [(&str, Loosen); 6] = [
        (
            "spec.suspendUntil",
            Box::new(|spec| {
                drop(
                    spec["properties"]["suspendUntil"]
                        .as_object_mut()
                        .unwrap()
                        .remove("pattern"),
                )
            }),
        ),
        (
            "spec.suspendUntil",
            Box::new(|spec| {
                let pattern = &mut spec["properties"]["suspendUntil"]["pattern"];
                let any_year = pattern.as_str().unwrap().replace("2[01][0-9]{2}", "[0-9]{4}");
                assert_ne!(*pattern, any_year);
                *pattern = any_year.into();
            }),
        ),
        (
            "spec.downstreamCacheSeconds",
            Box::new(|spec| {
                drop(
                    spec["properties"]["downstreamCacheSeconds"]
                        .as_object_mut()
                        .unwrap()
                        .remove("maximum"),
                )
            }),
        ),
        (
            "spec.intervalMinutes",
            Box::new(|spec| {
                drop(
                    spec["properties"]["intervalMinutes"]
                        .as_object_mut()
                        .unwrap()
                        .remove("x-kubernetes-validations"),
                );
            }),
        ),
        (
            "spec.tasks",
            Box::new(|spec| {
                drop(
                    spec["properties"]["tasks"]["items"]["properties"]["name"]
                        .as_object_mut()
                        .unwrap()
                        .remove("enum"),
                )
            }),
        ),
        (
            "spec.rescue",
            Box::new(|spec| spec["properties"]["rescue"]["nullable"] = true.into()),
        ),
    ];
    for (field, loosen) in cases {
        let mut loose = spec_schema();
        loosen(&mut loose);
        match first_not_understood(&loose) {
            Err(TestError::Fail(why, _)) if why.message().starts_with(field) => {}
            other => panic!("{field}: {other:?}"),
        }
    }
}
