//! The Grafana dashboard: made here, committed as `files/dashboard.json` of the chart, compared by a test.

use serde_json::{Value, json};

/// One panel.
struct Panel {
    title: &'static str,
    kind: &'static str,
    unit: &'static str,
    width: u32,
    /// Expression and legend.
    queries: &'static [(&'static str, &'static str)],
}

const POLICY: &str = "{{namespace}}/{{policy}}";

const ROWS: &[(&str, &[Panel])] = &[
    (
        "Policies",
        &[
            panel(
                "Within the limit",
                "stat",
                "none",
                4,
                &[(
                    r#"sum(max by (namespace, policy) (mapa_refresh_compliant{namespace=~"$namespace"}))"#,
                    "",
                )],
            ),
            panel(
                "In breach",
                "stat",
                "none",
                4,
                &[(
                    r#"count(min by (namespace, policy) (mapa_refresh_compliant{namespace=~"$namespace"}) == 0) or vector(0)"#,
                    "",
                )],
            ),
            panel(
                "Unknown",
                "stat",
                "none",
                4,
                &[(
                    r#"count(min by (namespace, policy) (mapa_refresh_compliance_unknown{namespace=~"$namespace"}) == 1) or vector(0)"#,
                    "",
                )],
            ),
            panel(
                "At risk",
                "stat",
                "none",
                4,
                &[(
                    r#"count(max by (namespace, policy) (mapa_refresh_at_risk{namespace=~"$namespace"}) == 1) or vector(0)"#,
                    "",
                )],
            ),
            panel(
                "Not ready",
                "stat",
                "none",
                4,
                &[(
                    r#"count(min by (namespace, policy) (mapa_refresh_ready{namespace=~"$namespace"}) == 0) or vector(0)"#,
                    "",
                )],
            ),
            panel(
                "Suspended",
                "stat",
                "none",
                4,
                &[(
                    r#"count(max by (namespace, policy) (mapa_refresh_suspended{namespace=~"$namespace"}) == 1) or vector(0)"#,
                    "",
                )],
            ),
            panel(
                "Share of the limit that the data's age uses",
                "timeseries",
                "percentunit",
                12,
                &[(
                    r#"(time() - max by (namespace, policy) (mapa_refresh_data_timestamp_seconds{namespace=~"$namespace"})) / max by (namespace, policy) (mapa_refresh_data_age_limit_seconds{namespace=~"$namespace"})"#,
                    POLICY,
                )],
            ),
            panel(
                "Time left until the limit is exceeded",
                "timeseries",
                "s",
                12,
                &[(
                    r#"max by (namespace, policy) (mapa_refresh_compliant_until_timestamp_seconds{namespace=~"$namespace"}) - time()"#,
                    POLICY,
                )],
            ),
            panel(
                "Why",
                "table",
                "none",
                12,
                &[(
                    r#"max by (namespace, policy, reason) (mapa_refresh_compliant_reason{namespace=~"$namespace"})"#,
                    "",
                )],
            ),
            panel(
                "Seconds in breach, and unproven",
                "timeseries",
                "s",
                12,
                &[
                    (
                        r#"max by (namespace, policy) (mapa_refresh_breach_seconds{namespace=~"$namespace"})"#,
                        "{{namespace}}/{{policy}} in breach",
                    ),
                    (
                        r#"max by (namespace, policy) (mapa_refresh_unproven_seconds{namespace=~"$namespace"})"#,
                        "{{namespace}}/{{policy}} unproven",
                    ),
                ],
            ),
            panel(
                "Breaches",
                "timeseries",
                "none",
                8,
                &[(
                    r#"max by (namespace, policy) (mapa_refresh_breaches{namespace=~"$namespace"})"#,
                    POLICY,
                )],
            ),
            panel(
                "Oldest data so far",
                "timeseries",
                "s",
                8,
                &[(
                    r#"max by (namespace, policy) (mapa_refresh_worst_data_age_seconds{namespace=~"$namespace"})"#,
                    POLICY,
                )],
            ),
            panel(
                "Failed runs in a row",
                "timeseries",
                "none",
                8,
                &[(
                    r#"max by (namespace, policy) (mapa_refresh_consecutive_failures{namespace=~"$namespace"})"#,
                    POLICY,
                )],
            ),
        ],
    ),
    (
        "Runs",
        &[
            panel(
                "Runs by outcome",
                "timeseries",
                "none",
                8,
                &[(
                    "sum by (task, outcome) (increase(mapa_refresh_runs_total[$__rate_interval]))",
                    "{{task}} {{outcome}}",
                )],
            ),
            panel(
                "Retries",
                "timeseries",
                "none",
                8,
                &[(
                    "sum by (task) (increase(mapa_refresh_run_retries_total[$__rate_interval]))",
                    "{{task}}",
                )],
            ),
            panel(
                "Duration, 95 of 100 runs",
                "timeseries",
                "s",
                8,
                &[(
                    "histogram_quantile(0.95, sum by (task, le) (rate(mapa_refresh_run_duration_seconds_bucket[1h])))",
                    "{{task}}",
                )],
            ),
        ],
    ),
    (
        "Rows",
        &[
            panel(
                "Rows left out",
                "timeseries",
                "none",
                12,
                &[(
                    r#"max by (namespace, policy, task, reason) (mapa_refresh_rows{namespace=~"$namespace", outcome="quarantined"})"#,
                    "{{namespace}}/{{policy}} {{task}} {{reason}}",
                )],
            ),
            panel(
                "Rows repaired",
                "timeseries",
                "none",
                12,
                &[(
                    r#"max by (namespace, policy, task, reason) (mapa_refresh_rows{namespace=~"$namespace", outcome="repaired"})"#,
                    "{{namespace}}/{{policy}} {{task}} {{reason}}",
                )],
            ),
        ],
    ),
    (
        "Operator",
        &[
            panel("Leader", "timeseries", "none", 6, &[("mapa_refresh_leader", "{{pod}}")]),
            panel(
                "Version",
                "table",
                "none",
                6,
                &[("count by (version) (mapa_refresh_build_info)", "")],
            ),
            panel(
                "Policies",
                "timeseries",
                "none",
                6,
                &[("max(mapa_refresh_policies)", "policies")],
            ),
            panel(
                "Waiting and being reconciled",
                "timeseries",
                "none",
                6,
                &[
                    ("sum(mapa_refresh_queue_depth)", "waiting"),
                    ("sum(mapa_refresh_reconciles_in_progress)", "being reconciled"),
                ],
            ),
            panel(
                "Reconcile, 99 of 100",
                "timeseries",
                "s",
                6,
                &[(
                    "histogram_quantile(0.99, sum by (le) (rate(mapa_refresh_reconcile_duration_seconds_bucket[$__rate_interval])))",
                    "p99",
                )],
            ),
            panel(
                "Errors",
                "timeseries",
                "none",
                6,
                &[(
                    "sum by (class, error) (rate(mapa_refresh_reconcile_errors_total[$__rate_interval]))",
                    "{{class}} {{error}}",
                )],
            ),
            panel(
                "Requests to the API server",
                "timeseries",
                "reqps",
                6,
                &[(
                    "sum by (verb, code) (rate(mapa_refresh_api_requests_total[$__rate_interval]))",
                    "{{verb}} {{code}}",
                )],
            ),
            panel(
                "Watches started again",
                "timeseries",
                "none",
                6,
                &[(
                    "sum by (resource) (increase(mapa_refresh_watch_restarts_total[$__rate_interval]))",
                    "{{resource}}",
                )],
            ),
        ],
    ),
];

const fn panel(
    title: &'static str,
    kind: &'static str,
    unit: &'static str,
    width: u32,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel {
        title,
        kind,
        unit,
        width,
        queries,
    }
}

/// Every expression of the dashboard.
pub fn expressions() -> impl Iterator<Item = &'static str> {
    let panels = ROWS.iter().flat_map(|(_, panels)| panels.iter());
    panels.flat_map(|panel| panel.queries.iter().map(|(expression, _)| *expression))
}

/// The dashboard as Grafana imports it.
#[must_use]
pub fn dashboard() -> String {
    const HEIGHT: u32 = 7;
    const FULL: u32 = 24;
    let source = json!({ "type": "prometheus", "uid": "${source}" });
    let mut panels: Vec<Value> = Vec::new();
    let mut top = 0;
    for (row, members) in ROWS {
        panels.push(json!({
            "id": panels.len() + 1, "type": "row", "title": row, "collapsed": false,
            "gridPos": { "x": 0, "y": top, "w": FULL, "h": 1 }, "panels": [],
        }));
        top += 1;
        let mut left = 0;
        for panel in *members {
            if left + panel.width > FULL {
                (left, top) = (0, top + HEIGHT);
            }
            let is_table = panel.kind == "table";
            let targets: Vec<Value> = panel
                .queries
                .iter()
                .zip('A'..)
                .map(|((expression, legend), letter)| {
                    json!({
                        "refId": letter.to_string(), "datasource": source, "expr": expression, "legendFormat": legend,
                        "instant": is_table, "range": !is_table, "format": if is_table { "table" } else { "time_series" },
                    })
                })
                .collect();
            panels.push(json!({
                "id": panels.len() + 1, "type": panel.kind, "title": panel.title, "datasource": source,
                "gridPos": { "x": left, "y": top, "w": panel.width, "h": HEIGHT },
                "fieldConfig": { "defaults": { "unit": panel.unit }, "overrides": [] },
                "targets": targets,
            }));
            left += panel.width;
        }
        top += HEIGHT;
    }
    let dashboard = json!({
        "uid": "mapa-refresh", "title": "mapa-refresh", "tags": ["mapa-refresh"], "schemaVersion": 39, "version": 1,
        "editable": true, "refresh": "30s", "time": { "from": "now-6h", "to": "now" }, "timezone": "browser",
        "templating": { "list": [
            { "name": "source", "type": "datasource", "query": "prometheus", "label": "Data source" },
            {
                "name": "namespace", "type": "query", "label": "Namespace", "datasource": source, "multi": true, "includeAll": true,
                "allValue": ".*", "refresh": 2, "current": { "text": "All", "value": "$__all" },
                "query": "label_values(mapa_refresh_data_age_limit_seconds, namespace)",
            },
        ] },
        "panels": panels,
    });
    format!("{dashboard:#}\n")
}
