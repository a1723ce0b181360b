//! What the operator tells of itself: metrics, and whether it is ready and alive.

use std::time::Duration;

use mapa_refresh_tests::{vitals, wait::Look};
use serde_json::Value;

use crate::{
    permissions,
    pods::{TASKS, end, report, start, success_of_age},
    world::{ON_SCHEDULE_ALONE, Tenant, Test, World, crd},
};

pub const TESTS: &[Test] = &[
    (
        "vitals::promise_9_metrics_tell_age_breach_runs_and_requests_of_a_policy_and_nothing_once_it_is_gone",
        told,
    ),
    (
        "vitals::a_missing_crd_is_named_by_readyz_until_it_is_installed",
        without_crd,
    ),
    (
        "vitals::a_crd_older_than_the_operator_is_named_by_readyz_and_nothing_is_done_until_it_is_replaced",
        older_crd,
    ),
    (
        "vitals::f27_missing_permissions_are_named_by_readyz_until_they_are_given_and_when_they_are_taken_away",
        without_permissions,
    ),
];

fn wait_for_ready(tenant: &Tenant) {
    tenant.wait("the operator to be ready", || match tenant.ask("/readyz") {
        Ok((200, _)) => Look::Met(()),
        other => Look::Saw(format!("{other:?}")),
    });
}

/// Waits until `/readyz` refuses with a line that has all of `words`.
fn wait_for_line(tenant: &Tenant, words: &[&str]) {
    tenant.wait("the line of what is missing", || match tenant.ask("/readyz") {
        Ok((503, lines)) if lines.lines().any(|line| words.iter().all(|word| line.contains(word))) => Look::Met(()),
        other => Look::Saw(format!("{other:?}")),
    });
    let (alive, _) = tenant.ask("/livez").unwrap();
    assert_eq!(alive, 200, "what is missing does not kill it");
}

fn told(world: &World) {
    let tenant = world.tenant("told");
    wait_for_ready(&tenant);
    tenant.apply("roraima", &format!("{ON_SCHEDULE_ALONE}  maxDataAgeMinutes: 1\n"));
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    for (task, kind) in TASKS {
        let pod = start(&tenant, task, &format!("{task}-1"));
        end(&tenant, &pod, 0, &report(&pod, &success_of_age(kind, 45)).to_string());
    }
    tenant.wait_for_condition("roraima", "Compliant", "True", "Fresh");
    let wait_for = |series: &str, wanted: f64| {
        tenant.wait_within(&format!("{series} {wanted}"), Duration::from_secs(40), || {
            let (_, metrics) = tenant.ask("/metrics").unwrap_or_default();
            let value = vitals::value(&metrics, series);
            Look::when(value == Some(wanted), value).map(drop)
        });
    };
    let of = |metric: &str| format!(r#"mapa_refresh_{metric}{{namespace="told",policy="roraima"}}"#);
    wait_for(&of("ready"), 1.0);
    wait_for(&of("compliant"), 1.0);
    wait_for(&of("compliant"), 0.0);
    wait_for(&of("breaches"), 1.0);
    wait_for(&of("compliance_unknown"), 0.0);
    wait_for(
        r#"mapa_refresh_compliant_reason{namespace="told",policy="roraima",reason="SourceStale"}"#,
        1.0,
    );

    let (status, metrics) = tenant.ask("/metrics").unwrap();
    assert_eq!(status, 200);
    let value = |series: &str| vitals::value(&metrics, series).unwrap_or_else(|| panic!("{series}:\n{metrics}"));
    let age = value(&of("data_age_seconds"));
    assert!((60.0..180.0).contains(&age), "{age}");
    for (task, _) in TASKS {
        let runs = format!(r#"mapa_refresh_runs_total{{task="{task}",outcome="succeeded"}}"#);
        assert!((value(&runs) - 1.0).abs() < f64::EPSILON, "{task}");
    }
    assert!(value(r#"mapa_refresh_api_requests_total{verb="create",code="201"}"#) >= 3.0);
    assert!(value(r#"mapa_refresh_api_requests_total{verb="update",code="200"}"#) >= 1.0);
    assert!(value(r#"mapa_refresh_api_requests_total{verb="watch",code="200"}"#) >= 4.0);
    assert!(value("mapa_refresh_reconcile_duration_seconds_count") >= 3.0);
    assert!(value("mapa_refresh_leader") > 0.5);
    assert!(
        tenant.log().contains("reconcile{"),
        "a span per reconcile:\n{}",
        tenant.log()
    );

    tenant.run(&["delete", "mapa-refresh", "roraima"]);
    tenant.wait("the policy's series to go", || match tenant.ask("/metrics") {
        Ok((200, metrics)) => Look::when(!metrics.contains(r#"policy="roraima""#), "its series").map(drop),
        other => Look::Saw(format!("{other:?}")),
    });
    assert_eq!(tenant.ask("/livez").unwrap(), (200, "ok\n".to_owned()));
}

fn without_crd(world: &World) {
    let other = world.beside(&crd());
    let definition = "crd/maparefreshpolicies.mapa.radar.dev";
    other.kubectl().run(["delete", definition, "--wait"]).unwrap();
    let tenant = other.tenant("no-crd");
    wait_for_line(
        &tenant,
        &[
            "caches: waiting for maparefreshpolicies in namespace no-crd",
            "CustomResourceDefinition",
            "not installed",
        ],
    );
    other.kubectl().apply(&crd()).unwrap();
    wait_for_ready(&tenant);
}

fn older_crd(world: &World) {
    let mut older: Value = serde_yaml::from_str(&crd()).unwrap();
    let status = older.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties");
    assert!(status.unwrap().as_object_mut().unwrap().remove("compliance").is_some());
    let other = world.beside(&older.to_string());
    let tenant = other.tenant_as_service_account("old-crd", "operator", |operator| operator);
    tenant.kubectl.apply(&permissions::of_the_chart("old-crd")).unwrap();
    wait_for_line(
        &tenant,
        &[
            "definition: ",
            "older than this operator",
            "does not have status.compliance",
            "apply crds/maparefreshpolicies.yaml",
        ],
    );
    assert_eq!(
        tenant.operator_requests(),
        Vec::<String>::new(),
        "an older operator may be at work: it looks at no policy"
    );
    other.kubectl().apply(&crd()).unwrap();
    wait_for_ready(&tenant);
}

fn without_permissions(world: &World) {
    let tenant = world.tenant_as_service_account("no-rbac", "operator", |operator| operator);
    for resource in ["maparefreshpolicies", "cronjobs", "jobs", "pods"] {
        let line = format!("caches: waiting for {resource} in namespace no-rbac: forbidden");
        wait_for_line(&tenant, &[&line]);
    }
    let may_not =
        |what: &str| format!("permissions: the operator may not {what} in namespace no-rbac: look at its role");
    tenant.kubectl.apply(&permissions::to_read("no-rbac")).unwrap();
    wait_for_line(
        &tenant,
        &[&may_not(
            "get cronjobs, create cronjobs, update cronjobs, delete cronjobs, get jobs, create jobs, create events, patch events, update \
             maparefreshpolicies/finalizers, update maparefreshpolicies/status",
        )],
    );
    tenant.kubectl.apply(&permissions::of_the_chart("no-rbac")).unwrap();
    wait_for_ready(&tenant);
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");

    // Taken away under its feet: told as soon as it needs it.
    tenant
        .kubectl
        .apply(&permissions::without("no-rbac", "maparefreshpolicies/status"))
        .unwrap();
    tenant.apply("roraima", &format!("{ON_SCHEDULE_ALONE}  maxDataAgeMinutes: 20\n"));
    wait_for_line(&tenant, &[&may_not("update maparefreshpolicies/status")]);
    tenant.kubectl.apply(&permissions::of_the_chart("no-rbac")).unwrap();
    wait_for_ready(&tenant);
    tenant.wait("the status of the new spec", || {
        let policy = tenant.policy("roraima");
        let (seen, wanted) = (
            &policy["status"]["observedGeneration"],
            &policy["metadata"]["generation"],
        );
        Look::when(seen == wanted, seen).map(drop)
    });
}
