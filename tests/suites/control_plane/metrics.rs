//! What is counted of runs, reconciles and watches, when each of them goes wrong.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use mapa_refresh_tests::{vitals, wait::Look};

use crate::{
    permissions,
    pods::{self, TASKS},
    world::{ON_SCHEDULE_ALONE, Tenant, Test, World, crd},
};

pub const TESTS: &[Test] = &[
    (
        "metrics::f06_a_cut_watch_is_counted_for_each_resource_and_the_operator_goes_on_when_the_api_server_is_back",
        watches,
    ),
    ("metrics::policies_that_wait_are_counted_until_none_does", queue),
    (
        "metrics::retries_and_durations_of_runs_are_counted_whether_they_succeed_or_fail",
        runs,
    ),
    (
        "metrics::reconciles_that_could_not_be_finished_are_counted_by_class_and_error",
        errors,
    ),
];

fn metrics(tenant: &Tenant) -> String {
    let (_, metrics) = tenant.ask("/metrics").unwrap_or_default();
    metrics
}

fn wait_for(tenant: &Tenant, series: &str, is_met: impl Fn(f64) -> bool) {
    tenant.wait_within(series, Duration::from_secs(60), || {
        let value = vitals::value(&metrics(tenant), series);
        Look::when(value.is_some_and(&is_met), value).map(drop)
    });
}

/// Asserts that each series has its value, now.
fn assert_values(tenant: &Tenant, wanted: &[(String, f64)]) {
    let metrics = metrics(tenant);
    for (series, wanted) in wanted {
        let value = vitals::value(&metrics, series);
        assert_eq!(value, Some(*wanted), "{series}:\n{metrics}");
    }
}

fn watches(world: &World) {
    let world = world.beside(&crd());
    let tenant = world.tenant("cut");
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    let series = ["maparefreshpolicies", "cronjobs", "jobs", "pods"]
        .map(|resource| format!(r#"mapa_refresh_watch_restarts_total{{resource="{resource}"}}"#));
    assert_values(&tenant, &series.clone().map(|series| (series, 0.0)));

    world.stop_api_server();
    for series in &series {
        wait_for(&tenant, series, |restarts| restarts >= 1.0);
    }
    let no_answer = r#"mapa_refresh_api_requests_total{verb="watch",code="none"}"#;
    wait_for(&tenant, no_answer, |requests| requests >= 1.0);
    world.start_api_server();
    tenant.wait_within("the operator to be ready", Duration::from_secs(60), || {
        match tenant.ask("/readyz") {
            Ok((200, _)) => Look::Met(()),
            other => Look::Saw(format!("{other:?}")),
        }
    });
    tenant.apply("acre", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("acre", "Ready", "True", "Reconciled");
}

fn queue(world: &World) {
    const SERIES: &str = "mapa_refresh_queue_depth";
    /// So many that they cannot all be begun between two looks.
    const POLICIES: usize = 100;
    let mut tenant = world.tenant("queue");
    wait_for(&tenant, SERIES, |depth| depth == 0.0);
    tenant.kill_operator();
    let manifest = (0..POLICIES).fold(String::new(), |mut all, number| {
        let policy = tenant.example(&format!("utility-{number}")).manifest(ON_SCHEDULE_ALONE);
        let _ = write!(all, "---\n{policy}");
        all
    });
    tenant.kubectl.with_input(&["create", "-f", "-"], &manifest).unwrap();
    tenant.start_operator();
    let (mut deepest, deadline) = (0.0, Instant::now() + Duration::from_secs(60));
    // The first list names them all; waiting between two looks could miss it.
    while deepest == 0.0 {
        deepest = vitals::value(&metrics(&tenant), SERIES).unwrap_or_default();
        assert!(Instant::now() < deadline, "no policy waits:\n{}", tenant.log());
        std::thread::yield_now();
    }
    assert!(deepest <= POLICIES as f64, "{deepest}");
    tenant.wait_within("every policy to be Ready", Duration::from_secs(60), || {
        let ready = tenant.run(&["get", "mapa-refresh", "-o", READY]);
        Look::when(ready.matches("True").count() == POLICIES, ready)
    });
    wait_for(&tenant, SERIES, |depth| depth == 0.0);
    wait_for(&tenant, "mapa_refresh_reconciles_in_progress", |running| running == 0.0);
    tenant.run(&["delete", "mapa-refresh", "--all"]);
}

const READY: &str = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;

fn runs(world: &World) {
    let tenant = world.tenant("counted");
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    let of = |task: &str, successes: f64, failures: f64| -> Vec<(String, f64)> {
        // Each that is pretended here takes a second and a half, of which the status has whole ones, with one retry.
        let all = successes + failures;
        let bucket = |le: &str| format!(r#"mapa_refresh_run_duration_seconds_bucket{{le="{le}",task="{task}"}}"#);
        vec![
            (
                format!(r#"mapa_refresh_runs_total{{task="{task}",outcome="succeeded"}}"#),
                successes,
            ),
            (
                format!(r#"mapa_refresh_runs_total{{task="{task}",outcome="transient"}}"#),
                failures,
            ),
            (format!(r#"mapa_refresh_run_retries_total{{task="{task}"}}"#), all),
            (
                format!(r#"mapa_refresh_run_duration_seconds_count{{task="{task}"}}"#),
                all,
            ),
            (
                format!(r#"mapa_refresh_run_duration_seconds_sum{{task="{task}"}}"#),
                2.0 * all,
            ),
            (bucket("1.0"), 0.0),
            (bucket("2.5"), all),
            (bucket("+Inf"), all),
        ]
    };
    let (view, _) = TASKS[0];
    for (task, _) in TASKS {
        assert_values(&tenant, &of(task, 0.0, 0.0));
    }
    pods::run_all(&tenant, "1");
    for (task, _) in TASKS {
        let succeeded = format!(r#"mapa_refresh_runs_total{{task="{task}",outcome="succeeded"}}"#);
        wait_for(&tenant, &succeeded, |runs| runs == 1.0);
        assert_values(&tenant, &of(task, 1.0, 0.0));
    }
    pods::start(&tenant, view, "broken");
    pods::fail(&tenant, "broken");
    let failed = format!(r#"mapa_refresh_runs_total{{task="{view}",outcome="transient"}}"#);
    wait_for(&tenant, &failed, |runs| runs == 1.0);
    assert_values(&tenant, &of(view, 1.0, 1.0));
    for (task, _) in &TASKS[1..] {
        assert_values(&tenant, &of(task, 1.0, 0.0));
    }
}

fn errors(world: &World) {
    let tenant = world.tenant_as_service_account("miscounted", "operator", |operator| operator);
    // It may look, and write nothing.
    tenant.kubectl.apply(&permissions::to_read("miscounted")).unwrap();
    let of =
        |class: &str, error: &str| format!(r#"mapa_refresh_reconcile_errors_total{{class="{class}",error="{error}"}}"#);
    let others = [
        of("transient", "timeout"),
        of("waiting", "outdated"),
        of("waiting", "not-leading"),
        of("invalid", "incomplete"),
    ];
    wait_for(&tenant, &of("transient", "api"), |errors| errors == 0.0);
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    // It is tried again, and counted each time.
    wait_for(&tenant, &of("transient", "api"), |errors| errors >= 2.0);
    assert_values(&tenant, &others.map(|series| (series, 0.0)));
    wait_for(
        &tenant,
        r#"mapa_refresh_api_requests_total{verb="create",code="403"}"#,
        |requests| requests >= 2.0,
    );
}
