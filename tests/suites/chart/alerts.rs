//! The alert rules and the dashboard: they fire when they shall, and speak of metrics that exist.

use std::{collections::BTreeSet, fs, process::Command};

use mapa_refresh_tests::{
    assets, dashboard,
    helm::chart,
    images,
    metrics_table::{Described, exported, names_in},
    process,
};

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

/// Every alert is once expected to fire.
fn tested(_: &World) {
    let tests = fs::read_to_string(fixture("alerts", "tests")).unwrap();
    let fired: BTreeSet<&str> = tests
        .split("ALERTS{alertname=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let rules = rules();
    let alerts: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
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
