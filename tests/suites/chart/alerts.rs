//! The alert rules and the dashboard: they fire when they shall, and speak of metrics that exist.

use std::{collections::BTreeSet, fs, process::Command};

use mapa_refresh_tests::{
    assets, dashboard,
    helm::chart,
    images,
    metrics_table::{Described, exported, names_in},
    process,
};
use serde_json::Value;

use crate::world::{Test, World, fixture};

pub const TESTS: &[Test] = &[
    ("alerts::promtool_finds_the_rules_right", checked),
    ("alerts::each_alert_fires_when_it_shall_and_not_otherwise", fire),
    ("alerts::every_alert_has_a_test", tested),
    ("alerts::rules_and_dashboard_speak_of_metrics_that_exist", known),
    (
        "alerts::every_metric_has_a_help_text_and_a_row_in_the_charts_readme",
        documented,
    ),
];

fn rules() -> String {
    fs::read_to_string(chart().join("files/alerts.yaml")).unwrap()
}

fn promtool(arguments: &[&str]) -> String {
    let mut promtool = Command::new(assets::promtool().unwrap());
    promtool.current_dir(images::repository());
    process::output("promtool", promtool.args(arguments)).unwrap()
}

fn checked(_: &World) {
    let said = promtool(&[
        "check",
        "rules",
        "--lint=all",
        "--lint-fatal",
        "charts/mapa-refresh-operator/files/alerts.yaml",
    ]);
    assert!(said.contains("SUCCESS"), "{said}");
}

fn fire(_: &World) {
    let tests = fixture("alerts", "tests").display().to_string();
    let said = promtool(&["test", "rules", &tests]);
    assert!(said.contains("SUCCESS"), "{said}");
}

/// Every alert is once expected to fire: among the samples of an expression over `ALERTS`, or in a test of the alert itself.
fn tested(_: &World) {
    fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
        of[name].as_array().map(Vec::as_slice).unwrap_or_default()
    }
    let tests = fs::read_to_string(fixture("alerts", "tests")).unwrap();
    let tests: Value = serde_yaml::from_str(&tests).unwrap();
    let mut fired = BTreeSet::new();
    for test in list(&tests, "tests") {
        let expressions = list(test, "promql_expr_test").iter();
        let over_alerts = expressions.filter(|test| test["expr"] == r#"ALERTS{alertstate="firing"}"#);
        for sample in over_alerts.flat_map(|test| list(test, "exp_samples")) {
            assert_eq!(sample["value"], 1, "{sample}");
            let labels = sample["labels"].as_str().unwrap();
            let (_, rest) = labels.split_once(r#"alertname=""#).unwrap();
            fired.insert(rest.split('"').next().unwrap().to_owned());
        }
        for alert in list(test, "alert_rule_test") {
            if !list(alert, "exp_alerts").is_empty() {
                fired.insert(alert["alertname"].as_str().unwrap().to_owned());
            }
        }
    }
    let rules: Value = serde_yaml::from_str(&rules()).unwrap();
    let rules = list(&rules, "groups").iter().flat_map(|group| list(group, "rules"));
    let alerts: BTreeSet<String> = rules.map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect();
    assert_eq!(fired, alerts);
}

fn known(_: &World) {
    let series: BTreeSet<String> = exported().iter().flat_map(Described::series).collect();
    let rules = rules();
    let expressions = dashboard::expressions().collect::<Vec<_>>().join("\n");
    let committed = fs::read_to_string(chart().join("files/dashboard.json")).unwrap();
    for text in [&rules, &expressions, &committed] {
        let names = names_in(text);
        assert!(names.len() > 5, "{names:?}");
        for name in names {
            assert!(series.contains(name), "{name} does not exist: {series:?}");
        }
    }
}

fn documented(_: &World) {
    let readme = fs::read_to_string(chart().join("README.md")).unwrap();
    let exported = exported();
    assert!(exported.len() > 25, "{}", exported.len());
    for metric in exported {
        assert!(metric.help.len() > 20, "{metric:?}");
        let names = metric.series();
        let is_documented = names
            .iter()
            .any(|name| readme.contains(&format!("| `{}` |", name.replace("_bucket", ""))));
        assert!(is_documented, "{names:?}");
    }
}
