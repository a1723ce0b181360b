//! The same file has the same meaning for `explain`, kubectl and the API server.

use std::collections::BTreeMap;

use mapa_refresh_operator::yaml;
use mapa_refresh_tests::policy::Example;
use serde_json::{Value, json};

use crate::world::{Test, World};

pub const TESTS: &[Test] = &[
    ("every_scalar_without_quotes_is_what_it_is_for_kubectl", scalars),
    ("anchors_tags_merges_and_keys_are_what_they_are_for_kubectl", structures),
    (
        "explain_refuses_what_the_api_server_refuses_and_says_to_put_it_in_quotes",
        explain,
    ),
];

/// Plain scalars that readers of YAML disagree about.
const SCALARS: &[&str] = &[
    "on",
    "off",
    "yes",
    "no",
    "y",
    "n",
    "Y",
    "N",
    "On",
    "OFF",
    "Yes",
    "NO",
    "oN",
    "true",
    "False",
    "TRUE",
    "tRue",
    "~",
    "null",
    "Null",
    "NULL",
    "nULL",
    "",
    "0",
    "-0",
    "+1",
    "017",
    "08",
    "0o17",
    "0O17",
    "0b11",
    "-0b11",
    "0x1f",
    "0X1F",
    "-0x1f",
    "0xg",
    "0_7",
    "1_000",
    "1__000",
    "1_000.5",
    "_1",
    "12:30:00",
    "190:20:30",
    "2026-01-01",
    "2026-01-01T10:00:00Z",
    "2026-01-01 10:00:00",
    "2026-13-01",
    ".5",
    "+.5",
    "-.5",
    "5.",
    "1e3",
    "1E3",
    "1e-3",
    "1.5e3",
    "1e400",
    ".5e3",
    "1e21",
    "1e20",
    "1.0",
    "0.1",
    "123456789.125",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "+9223372036854775808",
    "18446744073709551616",
    "1e1000000",
    "=",
    "<<",
    "+",
    ".",
    "...x",
    "e3",
    "1e",
    "0x",
    "0b",
    "0o",
    "0.0.1",
    "1-2",
    "--1",
    "+-1",
    "1 2",
    "nan",
    "NaN",
    "inf",
    "infinity",
    ".infinity",
    "-",
    "é",
];

/// What kubectl would send of the document.
fn by_kubectl(world: &World, spec: &str) -> Result<Value, String> {
    let text = format!("apiVersion: mapa.radar.dev/v1\nkind: MapaRefreshPolicy\nmetadata: {{name: x}}\nspec:\n{spec}");
    let sent = world
        .kubectl()
        .with_input(
            &[
                "create",
                "--dry-run=client",
                "--validate=false",
                "-o",
                "json",
                "-f",
                "-",
            ],
            &text,
        )
        .map_err(|error| error.to_string())?;
    let sent: Value = serde_json::from_str(&sent).unwrap();
    Ok(sent["spec"].clone())
}

fn scalars(world: &World) {
    // A dash alone is a list.
    let scalars: Vec<&str> = SCALARS.iter().copied().filter(|scalar| *scalar != "-").collect();
    let spec: String = scalars
        .iter()
        .enumerate()
        .map(|(at, scalar)| format!("  k{at}: {scalar}\n"))
        .collect();
    let ours = yaml::first(&spec).unwrap();
    let theirs = by_kubectl(world, &spec).unwrap();
    // Beyond 63 bits a number is a float for the API server, however it is printed.
    let as_kept = |value: &Value| match value.as_f64() {
        Some(float) if value.as_i64().is_none() => json!(float),
        _ => value.clone(),
    };
    let differ = |other: &Value| -> BTreeMap<&str, (Value, Value)> {
        let pairs = scalars.iter().enumerate().map(|(at, scalar)| {
            let key = format!("k{at}");
            (*scalar, (ours[&key].clone(), as_kept(&other[&key])))
        });
        pairs.filter(|(_, (ours, theirs))| ours != theirs).collect()
    };
    assert_eq!(differ(&theirs), BTreeMap::new(), "ours and kubectl's");
    assert_eq!(theirs.as_object().unwrap().len(), scalars.len());
    for refused in [".nan", ".inf", "-.INF", "+.inf"] {
        let spec = format!("  a: {refused}\n");
        assert!(
            by_kubectl(world, &spec).is_err() && yaml::first(&spec).is_err(),
            "{refused}"
        );
    }
}

fn structures(world: &World) {
    for spec in [
        "  on: 1\n  no: 2\n  017: 3\n  1e3: 4\n  2026-01-01: 5\n  'on': 6\n",
        "  a: &x {b: 1, c: 2}\n  d: *x\n  e: {<<: *x, c: 3}\n  f: {c: 3, <<: *x}\n  g: {<<: [{c: 5}, *x]}\n",
        "  a: &x on\n  b: [*x, *x]\n  *x : c\n",
        "  a: !!str on\n  b: !!int '5'\n  c: !!float 5\n  d: !!bool 'yes'\n  e: !!null ''\n  f: !mine on\n  g: ! on\n",
        "  a: 'on'\n  b: \"017\"\n  c: |\n    on\n  d: >-\n    1\n    2\n  e: |+\n    x\n\n",
        "  a: 1\n  a: 2\n",
        "  a:\n  - 1\n  -\n  - - 2\n    - 3\n  b: [1, [2], {c: }]\n  d: {}\n  e: []\n",
        "  a: x # comment\n  b: x#y\n  c: 'it''s'\n  d: \"\\u00e9\\n\\x41\"\n  e: a\n    b\n",
    ] {
        let ours = yaml::first(&format!("spec:\n{spec}")).map(|read| read["spec"].clone());
        assert_eq!(
            ours.map_err(|error| error.to_string()),
            by_kubectl(world, spec),
            "{spec}"
        );
    }
    for spec in [
        "  ~: 1\n",
        "  ? [a]\n  : 1\n",
        "  a: !!int x\n",
        "  <<: 1\n",
        "  a: *none\n",
        "  a: &x [*x]\n",
        "  a: [\n",
    ] {
        let ours = yaml::first(&format!("spec:\n{spec}"));
        assert!(by_kubectl(world, spec).is_err() && ours.is_err(), "{spec}: {ours:?}");
    }
}

fn explain(world: &World) {
    let whole = Example::every_minute("default", "judged").manifest("  suspend: no\n");
    for (name, text, words) in [
        ("words", whole.clone(), None),
        (
            "octal",
            whole.replace("intervalMinutes: 1", "intervalMinutes: 0o12"),
            None,
        ),
        (
            "exponent",
            whole.replace("intervalMinutes: 1", "intervalMinutes: 1e1"),
            None,
        ),
        ("quoted", whole.replace("keyPrefix: mapa", "keyPrefix: 'on'"), None),
        (
            "prefix",
            whole.replace("keyPrefix: mapa", "keyPrefix: on"),
            Some((
                "spec.cache.keyPrefix",
                "is true; must be of type string; put it in quotes",
            )),
        ),
        (
            "view",
            whole.replace("kind: postgresql", "kind: postgresql\n    view: 0x1f"),
            Some(("spec.database.view", "is 31; must be of type string; put it in quotes")),
        ),
        (
            "number",
            whole.replace("intervalMinutes: 1", "intervalMinutes: '1'"),
            Some(("spec.intervalMinutes", "must be of type integer")),
        ),
        (
            "suspend",
            whole.replace("suspend: no", "suspend: 'no'"),
            Some(("spec.suspend", "must be of type boolean")),
        ),
        (
            "label",
            whole.replace("name: judged", "name: judged\n  labels: {monitored: yes}"),
            Some(("metadata.labels[monitored]", "put it in quotes")),
        ),
        (
            "name",
            whole.replace("name: judged", "name: no"),
            Some(("metadata.name", "is false; must be of type string; put it in quotes")),
        ),
    ] {
        let case = world.case(&format!("explain-{name}"));
        let file = case.file("policy.yaml", &text);
        let (code, said) = case.operator_with(&["explain", &file.display().to_string()]);
        let admitted = world
            .kubectl()
            .with_input(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &text);
        match words {
            None => {
                assert!(code < 2, "{name}: {said}");
                let admitted: Value = serde_json::from_str(&admitted.unwrap()).unwrap();
                assert_eq!(admitted["spec"]["suspend"], json!(false), "{name}");
            }
            Some((field, remedy)) => {
                assert!(admitted.is_err(), "{name}: {admitted:?}");
                assert!(
                    code == 2 && said.contains(field) && said.contains(remedy),
                    "{name}: {said}"
                );
            }
        }
    }
}
