//! The chart's README: a text around the table of its values, which is made of the comments in values.yaml.
//!
//! The comments have the form that helm-docs reads (`# -- …` above the key); helm-docs itself is Go and templates of its own.

use std::fmt::Write;

use serde_yaml::Value;

use crate::{
    Error, Result,
    metrics_table::{alerts_table, metrics_table},
};

const BEFORE: &str = "\
<!-- Made by `cargo chart-readme` from values.yaml: change that, and tests/src/chart_readme.rs, instead. -->
# mapa-refresh-operator

Keeps electricity distributors' public outage maps fresh within the limit of ANEEL's REN 1.137/2025 Art. 106, and proves it. What a policy says
and what its status means is in the repository's README.

## Install

```console
$ helm install mapa-refresh-operator charts/mapa-refresh-operator --namespace mapa-system --create-namespace --wait \\
    --set image.repository=registry.example/mapa-refresh-operator --set runner.image.repository=registry.example/mapa-job-runner
$ helm test mapa-refresh-operator --namespace mapa-system
```

The repository's README says how to build the images, and what comes next: a first policy, an upgrade, another installation of the
CustomResourceDefinition. Kubernetes 1.33 or later, and helm 4 (tested with 4.3.1) or helm 3 (installation, upgrade, rollback, self-test and removal tried with 3.19.2). The operator runs under Pod Security `restricted` and so do the pods that it makes; it reads no Secret.

- **Some namespaces only**: `--set 'watchNamespaces={radar,radar-ac}'` makes Roles there and no ClusterRole. The CustomResourceDefinition is the cluster's in any
  case: install it once and set `crds.install=false` elsewhere.
- **As a part of another chart**: as any dependency, by `condition: mapa-refresh-operator.enabled` (or an alias of yours), `tags` and `global`, of which nothing is read
  here. `enabled` has no default, so that a parent's tags count. The CustomResourceDefinition is once in a cluster: of several aliases all but one have `crds.install: false`.
- **Labels and annotations**: those by which the chart selects its pods, helm knows its objects and the operator its runs are refused with the remedy, and so is a variable in
  `extraEnv` that a value of the chart sets. Of the others the nearer wins: `podLabels` over `commonLabels`, and either over `app.kubernetes.io/version`, `part-of` and `component`.
- **Null** takes a default away: `--set nodeSelector=null`, or one key, `--set 'nodeSelector.kubernetes\\.io/arch=null'` (images of your own for other nodes). What cannot be
  absent is refused with its name.
- **OpenShift** (SCC `restricted-v2`): UID and group are of the namespace's range, not the chart's. With `userIds: auto` helm sees by the cluster's API that it is one; `helm template`
  and tools that render without the cluster need `--api-versions security.openshift.io/v1` or `userIds: platform`. Elsewhere `platform` leaves it to the image, whose user is 65532.
- **Upgrade**: `helm upgrade` brings the CustomResourceDefinition with it, and `helm rollback` takes it back; with values of your own add `--reset-then-reuse-values`. Schedules go on while the operator is away; a changed `runner` reaches
  every CronJob within seconds.
- **Uninstall**: `helm uninstall` takes the operator and its permissions away. The CustomResourceDefinition, the policies and their CronJobs stay and go on running: delete
  the policies first if they shall not (`kubectl delete mapa-refresh --all --all-namespaces`), the CustomResourceDefinition last (`kubectl delete crd
  maparefreshpolicies.mapa.radar.dev`).

## Metrics and alerts

Each replica serves `/metrics` (OpenMetrics, or the text format 0.0.4 for who does not ask for it), `/livez` and `/readyz` on the port `metrics.port`. A ServiceMonitor or PodMonitor lets Prometheus read them, a PrometheusRule brings the
alerts, and a ConfigMap the Grafana dashboard: each has its switch below `metrics`. Several replicas tell the same policies, so that expressions take `max` or `min by (namespace, policy)`.

METRICS
ALERTS
## Values

| value | default | meaning |
|---|---|---|
";

/// What is written above a value.
const MARK: &str = "# -- ";

/// The README of the chart with `values` (the text of values.yaml) and the alerts of `rules` (the text of files/alerts.yaml).
///
/// # Errors
/// One is no YAML, a value has no comment, or an alert no summary.
pub fn readme(values: &str, rules: &str) -> Result<String> {
    const STEP: &str = "make the chart's README";
    let defaults: Value = serde_yaml::from_str(values).map_err(|error| Error::new(STEP, error))?;
    let mut text = BEFORE
        .replace("METRICS\n", &format!("{}\n", metrics_table()))
        .replace("ALERTS\n", &format!("{}\n", alerts_table(rules)?));
    let described = described(values);
    for (path, meaning) in &described {
        let default = path
            .split('.')
            .try_fold(&defaults, |value, key| value.get(key))
            .ok_or_else(|| Error::new(STEP, format!("{path} is not where its indentation says")))?;
        let default = serde_json::to_string(default).map_err(|error| Error::new(STEP, error))?;
        let _ = writeln!(text, "| `{path}` | `{default}` | {meaning} |");
    }
    let mut leaves = Vec::new();
    collect_leaves(&defaults, "", &mut leaves);
    let is_described = |leaf: &String| {
        described
            .iter()
            .any(|(path, _)| leaf == path || leaf.starts_with(&format!("{path}.")))
    };
    match leaves.iter().find(|leaf| !is_described(leaf)) {
        Some(leaf) => Err(Error::new(
            STEP,
            format!("{leaf} has no comment that begins with {MARK:?}"),
        )),
        None => Ok(text),
    }
}

/// The values with a comment, by path, in the order of the file.
fn described(values: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut above: Vec<(usize, &str)> = Vec::new();
    let mut comment = None;
    for line in values.lines() {
        let trimmed = line.trim_start();
        if let Some(text) = trimmed.strip_prefix(MARK) {
            comment = Some(text);
            continue;
        }
        let Some((key, _)) = trimmed.split_once(':').filter(|_| !trimmed.starts_with(['#', '-'])) else {
            continue;
        };
        let indentation = line.len() - trimmed.len();
        above.retain(|(depth, _)| *depth < indentation);
        above.push((indentation, key));
        if let Some(comment) = comment.take() {
            let path: Vec<&str> = above.iter().map(|(_, key)| *key).collect();
            found.push((path.join("."), comment.to_owned()));
        }
    }
    found
}

/// Everything that is no map, and empty maps.
fn collect_leaves(value: &Value, path: &str, leaves: &mut Vec<String>) {
    match value {
        Value::Mapping(map) if !map.is_empty() => {
            for (key, value) in map {
                let key = key.as_str().unwrap_or_default();
                let below = if path.is_empty() {
                    key.to_owned()
                } else {
                    format!("{path}.{key}")
                };
                collect_leaves(value, &below, leaves);
            }
        }
        _ => leaves.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::readme;

    #[test]
    fn every_value_has_a_row_or_lies_below_one_that_has() {
        let text = readme("a:\n  # -- Inner.\n  b: x\n# -- Whole.\nc:\n  d: 1\n", "groups: []").unwrap();
        assert!(
            text.ends_with("| `a.b` | `\"x\"` | Inner. |\n| `c` | `{\"d\":1}` | Whole. |\n"),
            "{text}"
        );
    }

    #[test]
    fn a_value_without_a_comment_is_named() {
        let said = readme("# -- Known.\na: 1\nb:\n  c: {}\n", "groups: []")
            .unwrap_err()
            .to_string();
        assert!(said.contains("b.c has no comment"), "{said}");
    }
}
