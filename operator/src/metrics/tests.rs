//! The exposition as a scraper reads it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use kube::runtime::{
    reflector::{self, store::Writer},
    watcher::Event,
};
use openmetrics_parser::openmetrics::parse_openmetrics;
use serde_json::json;

use super::*;
use crate::{metrics::labels::Verb, reconcile::Guarded};

/// 2026-11-23T10:00:00Z.
const NOW: i64 = 1_795_428_000;

fn policy(name: &str, compliant: &str, reason: &str, until: i64) -> Guarded {
    let time = |second: i64| Timestamp::from_second(second).unwrap().to_string();
    let condition = |type_: &str, status: &str, reason: &str| json!({ "type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": time(NOW) });
    serde_json::from_value(json!({
        "apiVersion": "mapa.radar.dev/v1",
        "kind": "MapaRefreshPolicy",
        "metadata": { "name": name, "namespace": "radar", "uid": name, "resourceVersion": "1" },
        "spec": {
            "intervalMinutes": 15,
            "database": { "kind": "postgresql", "secretRef": { "name": "db" } },
            "cache": { "secretRef": { "name": "cache" } },
        },
        "status": {
            "dataAsOf": time(NOW - 600),
            "lastSuccessTime": time(NOW - 590),
            "compliantUntil": time(until),
            "consecutiveFailures": 2,
            // Every family has a sample: the parser does not know those without, which are allowed.
            "conditions": [
                condition("Compliant", compliant, reason),
                condition("Ready", "True", "Reconciled"),
                condition("AtRisk", "False", "OnSchedule"),
                condition("Feasible", "True", "WithinLimit"),
                condition("Suspended", "False", "NotSuspended"),
            ],
            "tasks": [{
                "name": "refresh-mapa-cache", "cronJobName": "", "schedule": "",
                "maxRetries": 3, "retryDelaySeconds": 60, "attemptTimeoutSeconds": 120,
                "records": 305,
                "quarantined": { "INVALID_ID": 300, "FUTURE_START": 2 },
                "repaired": { "COORDINATES_MISSING": 7, "FROM_ANOTHER_VERSION": 1, format!("Hostile\"\n{name}"): 4 },
            }],
            "compliance": {
                "since": time(NOW), "accountedUntil": time(NOW),
                "breaches": 3, "secondsInBreach": 77, "worstDataAgeSeconds": 2000,
                "settled": { "until": time(NOW) },
            },
        },
    }))
    .unwrap()
}

struct World {
    metrics: Metrics,
    cache: Writer<Guarded>,
    /// As long as the scope is watched.
    _told: Arc<Store<Guarded>>,
}

impl World {
    fn new() -> Self {
        let (reader, cache) = reflector::store();
        let metrics = Metrics::new(Clock::from_fn(|| Timestamp::from_second(NOW).unwrap()));
        let told = Arc::new(reader);
        metrics.tell_policies_of(&told);
        Self {
            metrics,
            cache,
            _told: told,
        }
    }

    fn with(policies: impl IntoIterator<Item = Guarded>) -> Self {
        let mut world = Self::new();
        world.cache.apply_watcher_event(&Event::Init);
        for policy in policies {
            world.cache.apply_watcher_event(&Event::InitApply(policy));
        }
        world.cache.apply_watcher_event(&Event::InitDone);
        world
    }

    fn scrape(&self) -> String {
        (0..)
            .map_while(|part| self.metrics.part(part))
            .map(Result::unwrap)
            .collect()
    }

    /// Every series with its value.
    fn series(&self) -> BTreeMap<String, String> {
        let scrape = self.scrape();
        let lines = scrape.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(series, value)| (series.to_owned(), value.to_owned()))
            .collect()
    }

    fn value(&self, series: &str) -> Option<String> {
        self.series().remove(series)
    }
}

#[test]
fn i8_of_an_object_that_cannot_be_decoded_nobody_knows_whether_it_is_compliant() {
    let broken = json!({
        "metadata": { "name": "broken", "namespace": "radar", "uid": "broken", "resourceVersion": "1" },
        "spec": { "intervalMinutes": "ten" },
    });
    let broken: Guarded = serde_json::from_value(broken).unwrap();
    assert!(broken.object.is_err());
    let world = World::with([policy("a", "True", "Fresh", NOW + 60), broken]);
    let told: BTreeMap<String, String> = world
        .series()
        .into_iter()
        .filter(|(series, _)| series.contains("broken"))
        .collect();
    let unknown = r#"mapa_refresh_compliance_unknown{namespace="radar",policy="broken"}"#;
    assert_eq!(told, BTreeMap::from([(unknown.to_owned(), "1.0".to_owned())]));
    assert_eq!(world.value("mapa_refresh_policies").as_deref(), Some("1"));
}

#[test]
fn a_scrape_is_valid_openmetrics_in_which_everything_has_a_help_text() {
    let world = World::with([
        policy("a", "True", "Fresh", NOW + 60),
        policy("b", "False", "DataTooOld", NOW),
    ]);
    world.metrics.set_leader(true);
    world
        .metrics
        .reconciled(Duration::from_millis(3), Some(&Error::Incomplete("uid")));
    world.metrics.runs_ended(&[FinishedRun {
        task: TaskName::RefreshMapaCache,
        failed: None,
        retries: 2,
        duration_seconds: Some(7),
    }]);
    let text = world.scrape();
    assert!(text.ends_with("# EOF\n"));
    let families = parse_openmetrics(&text).unwrap().families;
    assert!(families.len() > 25, "{}", families.len());
    for (name, family) in &families {
        assert!(name.starts_with("mapa_refresh_"), "{name}");
        assert!(family.help.len() > 20, "{name}: {}", family.help);
        assert!(family.help.ends_with('.'), "{name}: {}", family.help);
        assert!(!family.help.ends_with(".."), "{name}: {}", family.help);
    }

    for (series, value) in [
        (
            r#"mapa_refresh_data_age_seconds{namespace="radar",policy="a"}"#,
            "600.0",
        ),
        (
            r#"mapa_refresh_data_timestamp_seconds{namespace="radar",policy="a"}"#,
            "1795427400.0",
        ),
        (
            r#"mapa_refresh_compliant_until_timestamp_seconds{namespace="radar",policy="a"}"#,
            "1795428060.0",
        ),
        (r#"mapa_refresh_compliant{namespace="radar",policy="a"}"#, "1.0"),
        (r#"mapa_refresh_compliant{namespace="radar",policy="b"}"#, "0.0"),
        (
            r#"mapa_refresh_compliant_reason{namespace="radar",policy="b",reason="DataTooOld"}"#,
            "1",
        ),
        (
            r#"mapa_refresh_rows{namespace="radar",policy="a",task="refresh-mapa-cache",outcome="quarantined",reason="INVALID_ID"}"#,
            "300",
        ),
        (
            r#"mapa_refresh_rows{namespace="radar",policy="a",task="refresh-mapa-cache",outcome="repaired",reason="COORDINATES_MISSING"}"#,
            "7",
        ),
        (
            r#"mapa_refresh_rows{namespace="radar",policy="a",task="refresh-mapa-cache",outcome="repaired",reason="OTHER"}"#,
            "5",
        ),
        (
            r#"mapa_refresh_records{namespace="radar",policy="a",task="refresh-mapa-cache"}"#,
            "305",
        ),
        (r#"mapa_refresh_breaches{namespace="radar",policy="a"}"#, "3.0"),
        (r#"mapa_refresh_breach_seconds{namespace="radar",policy="a"}"#, "77.0"),
        (
            r#"mapa_refresh_data_age_limit_seconds{namespace="radar",policy="a"}"#,
            "1800.0",
        ),
        (
            r#"mapa_refresh_runs_total{task="refresh-mapa-cache",outcome="succeeded"}"#,
            "1",
        ),
        (
            r#"mapa_refresh_runs_total{task="refresh-mapa-cache",outcome="transient"}"#,
            "0",
        ),
        (r#"mapa_refresh_run_retries_total{task="refresh-mapa-cache"}"#, "2"),
        (
            r#"mapa_refresh_run_duration_seconds_sum{task="refresh-mapa-cache"}"#,
            "7.0",
        ),
        (
            r#"mapa_refresh_reconcile_errors_total{class="invalid",error="incomplete"}"#,
            "1",
        ),
        ("mapa_refresh_reconcile_duration_seconds_count", "1"),
        ("mapa_refresh_policies", "2"),
        ("mapa_refresh_leader", "1"),
    ] {
        assert_eq!(world.value(series).as_deref(), Some(value), "{series}\n{text}");
    }
}

#[test]
fn compliant_past_its_moment_is_unknown() {
    let world = World::with([
        policy("proved", "True", "Fresh", NOW),
        policy("left-behind", "True", "Fresh", NOW - 60),
        policy("breach", "False", "DataTooOld", NOW - 60),
        policy("odd", "Unknown", "Fresh", NOW + 60),
    ]);
    let of = |metric: &str, name: &str| {
        world.value(&format!(
            r#"mapa_refresh_{metric}{{namespace="radar",policy="{name}"}}"#
        ))
    };
    for (name, compliant, unknown) in [
        ("proved", Some("1.0"), "0.0"),
        ("left-behind", None, "1.0"),
        ("breach", Some("0.0"), "0.0"),
        ("odd", None, "1.0"),
    ] {
        assert_eq!(of("compliant", name).as_deref(), compliant, "{name}");
        assert_eq!(of("compliance_unknown", name).as_deref(), Some(unknown), "{name}");
    }
}

#[test]
fn a_breach_that_goes_on_is_counted_at_the_scrape_although_the_account_ends_before_it() {
    let mut before = policy("before", "False", "DataTooOld", NOW - 60);
    let mut within = policy("within", "False", "DataTooOld", NOW - 60);
    let reaches = |guarded: &mut Guarded, second: i64| {
        let account = guarded
            .object
            .as_mut()
            .unwrap()
            .status
            .as_mut()
            .unwrap()
            .compliance
            .as_mut()
            .unwrap();
        account.accounted_until.0 = Timestamp::from_second(second).unwrap();
    };
    reaches(&mut before, NOW - 60);
    reaches(&mut within, NOW - 20);
    let world = World::with([before, within, policy("over", "True", "Fresh", NOW + 60)]);
    for (name, breaches, seconds) in [
        ("before", "4.0", "137.0"),
        ("within", "3.0", "97.0"),
        ("over", "3.0", "77.0"),
    ] {
        let of = |metric: &str| {
            world.value(&format!(
                r#"mapa_refresh_{metric}{{namespace="radar",policy="{name}"}}"#
            ))
        };
        assert_eq!(of("breaches").as_deref(), Some(breaches), "{name}");
        assert_eq!(of("breach_seconds").as_deref(), Some(seconds), "{name}");
    }
}

#[test]
fn a_policy_that_is_gone_has_no_series() {
    let mut world = World::with([
        policy("stays", "True", "Fresh", NOW),
        policy("goes", "True", "Fresh", NOW),
    ]);
    assert!(world.scrape().contains(r#"policy="goes""#));
    world
        .cache
        .apply_watcher_event(&Event::Delete(policy("goes", "True", "Fresh", NOW)));
    assert!(!world.scrape().contains(r#"policy="goes""#));
    assert!(world.scrape().contains(r#"policy="stays""#));
    assert_eq!(world.value("mapa_refresh_policies").as_deref(), Some("1"));
}

#[test]
fn the_number_of_series_is_bounded_whatever_objects_say() {
    let empty = World::new().series().len();
    let world = World::with((0..50).map(|number| {
        let reason = format!("Hostile\"\n{number}");
        policy(&format!("p-{number}"), "False", &reason, NOW)
    }));
    let series = world.series();
    let of_policies = series.keys().filter(|series| series.contains("policy=")).count();
    assert_eq!(series.len() - of_policies, empty, "what is counted knows no policy");
    // The reason of Compliant, four reasons of rows, and the records of one task.
    assert!(of_policies <= 50 * (GAUGES.len() + 1 + 4 + 1), "{of_policies}");
    let reasons: BTreeSet<&str> = series
        .keys()
        .filter(|series| series.starts_with("mapa_refresh_compliant_reason"))
        .filter_map(|series| series.split_once("reason=\""))
        .map(|(_, reason)| reason)
        .collect();
    assert_eq!(reasons, BTreeSet::from(["Other\"}"]));
    parse_openmetrics(&world.scrape()).unwrap();
    // Verbs are an enum, and HTTP knows some five hundred codes of which an API server sends a dozen.
    assert_eq!(Verb::ALL.len(), 8);
}
