//! What the operator logs, for programs that collect it and for people.

use std::path::PathBuf;

use mapa_refresh_tests::wait::Look;
use serde_json::Value;

use crate::world::{Tenant, Test, World};

pub const TESTS: &[Test] = &[
    (
        "logs::promise_9_each_line_of_a_json_log_is_an_object_and_those_of_a_reconcile_name_the_policy_and_its_version",
        json,
    ),
    ("logs::a_text_log_that_is_no_terminal_has_no_escapes", text),
];

/// A suspension for a reason that would begin a line of its own and colour it, if a log let it.
const HOSTILE: &str = r#"  suspend: true
  suspendReason: "troca\n\e[31m{\"level\":\"ERROR\"}"
"#;

/// A tenant whose operator logs with `arguments`, and what its log has from beginning to end.
fn log_of_a_life(world: &World, namespace: &str, arguments: &[String]) -> String {
    let mut tenant = world.tenant_with(namespace, arguments);
    tenant.apply("roraima", HOSTILE);
    tenant.wait_for_condition("roraima", "Suspended", "True", "SuspendedBySpec");
    tenant.wait("the transition to be logged", || {
        let log = tenant.log();
        Look::when(log.contains("SuspendedBySpec"), log).map(drop)
    });
    let path = log_path(world, &tenant);
    // The last words belong to it.
    assert!(tenant.stop_operator());
    std::fs::read_to_string(path).unwrap()
}

fn log_path(world: &World, tenant: &Tenant) -> PathBuf {
    world
        .plane()
        .folder()
        .join(format!("operator-{}.log", tenant.namespace))
}

fn json(world: &World) {
    let log = log_of_a_life(world, "logs-json", &["--log-format=json".to_owned()]);
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        let moment = line["timestamp"].as_str().unwrap_or_default();
        assert!(moment.parse::<k8s_openapi::jiff::Timestamp>().is_ok(), "{line}");
        let level = line["level"].as_str().unwrap_or_default();
        assert!(["ERROR", "WARN", "INFO"].contains(&level), "{line}");
        assert!(
            line["fields"]["message"].as_str().is_some_and(|said| !said.is_empty()),
            "{line}"
        );
    }
    let changed = lines
        .iter()
        .find(|line| line["fields"]["message"] == "condition changed" && line["fields"]["reason"] == "SuspendedBySpec")
        .unwrap_or_else(|| panic!("{log}"));
    let span = &changed["span"];
    assert_eq!(span["name"], "reconcile", "{changed}");
    assert!(span["id"].as_u64().is_some_and(|id| id > 0), "{changed}");
    assert_eq!(span["namespace"], "logs-json", "{changed}");
    assert_eq!(span["policy"], "roraima", "{changed}");
    let version = span["resource_version"].as_str().unwrap_or_default();
    assert!(version.parse::<u64>().is_ok(), "{changed}");
}

fn text(world: &World) {
    let log = log_of_a_life(world, "logs-text", &[]);
    assert!(!log.contains('\u{1b}'), "{log}");
    let changed = log
        .lines()
        .find(|line| line.contains("condition changed") && line.contains("SuspendedBySpec"))
        .unwrap_or_else(|| panic!("{log}"));
    for part in [" INFO ", "reconcile{id=", "namespace=logs-text", "policy=roraima"] {
        assert!(changed.contains(part), "{part}: {changed}");
    }
    // Nothing that somebody wrote into a policy begins a line.
    let begins_with_moment = |line: &str| {
        let moment = line.trim_start().split(' ').next().unwrap_or_default();
        moment.parse::<k8s_openapi::jiff::Timestamp>().is_ok()
    };
    let strange: Vec<&str> = log.lines().filter(|line| !begins_with_moment(line)).collect();
    assert!(strange.is_empty(), "{strange:#?}");
}
