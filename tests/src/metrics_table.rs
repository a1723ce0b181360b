//! The operator's metrics and alerts as tables for the chart's README: from the exporter itself and from the rules.

use std::{collections::BTreeSet, fmt::Write};

use mapa_refresh_operator::{clock::Clock, metrics::Metrics};
use serde_yaml::Value;

use crate::{Error, Result};

/// What one metric says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name, as its series begin.
    pub name: String,
    /// counter, gauge, histogram or info.
    pub kind: String,
    /// Its help text.
    pub help: String,
}

impl Described {
    /// The names of its series.
    #[must_use]
    pub fn series(&self) -> Vec<String> {
        let suffixes: &[&str] = match self.kind.as_str() {
            "counter" => &["_total"],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        suffixes.iter().map(|suffix| format!("{}{suffix}", self.name)).collect()
    }
}

/// Everything that the operator exports.
#[must_use]
pub fn exported() -> Vec<Described> {
    let metrics = Metrics::new(Clock::system());
    let text: String = (0..)
        .map_while(|part| metrics.part(part))
        .filter_map(Result::ok)
        .collect();
    described(&text)
}

/// What an exposition says of its metrics.
#[must_use]
pub fn described(exposition: &str) -> Vec<Described> {
    let of = |word: &'static str| {
        let lines = exposition.lines().filter_map(move |line| line.strip_prefix(word));
        lines.filter_map(|rest| rest.trim_start().split_once(' '))
    };
    of("# TYPE ")
        .map(|(name, kind)| Described {
            name: name.to_owned(),
            kind: kind.to_owned(),
            help: of("# HELP ")
                .find(|(helped, _)| *helped == name)
                .map(|(_, help)| help.to_owned())
                .unwrap_or_default(),
        })
        .collect()
}

/// The names of our series in an expression, or in any other text.
#[must_use]
pub fn names_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("mapa_refresh_"))
        .collect()
}

/// The table of the metrics.
#[must_use]
pub fn metrics_table() -> String {
    let mut table = "| metric | type | meaning |\n|---|---|---|\n".to_owned();
    for described in exported() {
        let name = described
            .series()
            .first()
            .map_or(String::new(), |first| first.replace("_bucket", ""));
        let _ = writeln!(table, "| `{name}` | {} | {} |", described.kind, described.help);
    }
    table
}

/// The table of the alerts in `rules` (the text of files/alerts.yaml).
///
/// # Errors
/// It is no YAML, or an alert has no severity or summary.
pub fn alerts_table(rules: &str) -> Result<String> {
    const STEP: &str = "make the table of alerts";
    let rules: Value = serde_yaml::from_str(rules).map_err(|error| Error::new(STEP, error))?;
    let groups = rules.get("groups").and_then(Value::as_sequence).into_iter().flatten();
    let mut table = "| alert | severity | after | meaning |\n|---|---|---|---|\n".to_owned();
    for alert in groups.filter_map(|group| group.get("rules")?.as_sequence()).flatten() {
        let field = |path: &[&str]| {
            path.iter()
                .try_fold(alert, |value, key| value.get(*key))
                .and_then(Value::as_str)
                .ok_or_else(|| Error::new(STEP, format!("an alert has no {}", path.join("."))))
        };
        let summary = field(&["annotations", "summary"])?
            .replace("The policy {{ $labels.namespace }}/{{ $labels.policy }}", "A policy")
            .replace("{{ $labels.namespace }}/{{ $labels.policy }}", "a policy")
            .replace("{{ $labels.resource }}", "a resource")
            .replace("{{ with $labels.operator_namespace }} of {{ . }}{{ end }}", "");
        let (name, severity, after) = (field(&["alert"])?, field(&["labels", "severity"])?, field(&["for"])?);
        let _ = writeln!(table, "| `{name}` | {severity} | {after} | {summary} |");
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_known_by_the_names_of_its_series() {
        let text = "# HELP a_b Some help.\n# TYPE a_b counter\n# UNIT a_b x\na_b_total 1\n# EOF\n";
        let found = described(text);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].help.as_str(), found[0].series()),
            ("Some help.", vec!["a_b_total".to_owned()])
        );
    }

    #[test]
    fn a_summary_speaks_of_a_policy_where_the_alert_names_one() {
        let rules = serde_json::json!({ "groups": [{ "rules": [
            { "alert": "A", "for": "1m", "labels": { "severity": "warning" }, "annotations": {
                "summary": "The policy {{ $labels.namespace }}/{{ $labels.policy }} waits.",
            } },
            { "alert": "B", "for": "2m", "labels": { "severity": "critical" }, "annotations": {
                "summary": "The map of {{ $labels.namespace }}/{{ $labels.policy }} waits for {{ $labels.resource }}.",
            } },
        ] }] });
        let table = alerts_table(&rules.to_string()).unwrap();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `A` | warning | 1m | A policy waits. |",
                "| `B` | critical | 2m | The map of a policy waits for a resource. |",
            ]
        );
    }

    #[test]
    fn names_are_found_in_an_expression() {
        let names = names_in("max by (x) (mapa_refresh_a{b=\"c\"}) / mapa_refresh_d_total[5m] > up");
        assert_eq!(names, BTreeSet::from(["mapa_refresh_a", "mapa_refresh_d_total"]));
    }
}
