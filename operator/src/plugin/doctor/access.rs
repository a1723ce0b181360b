//! What the caller may do, as the API server itself says it.

use futures::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::ResourceAttributes;

use super::{Scope, check::Check};
use crate::permissions::allowed;

const SUBJECT: &str = "your permissions";

/// Requests at the same time.
const CONCURRENCY: usize = 6;

/// What a sub-command needs: verb, group, resource, and what it is for.
const NEEDED: [(&str, &str, &str, &str); 6] = [
    ("list", "mapa.radar.dev", "maparefreshpolicies", "status and doctor"),
    (
        "get",
        "mapa.radar.dev",
        "maparefreshpolicies",
        "runs, trigger and explain",
    ),
    (
        "watch",
        "mapa.radar.dev",
        "maparefreshpolicies",
        "status --watch and trigger --wait",
    ),
    ("list", "batch", "jobs", "runs"),
    ("list", "batch", "cronjobs", "runs"),
    ("list", "", "pods", "runs and doctor"),
];

/// What only somebody who operates needs.
const USEFUL: [(&str, &str, &str, &str); 1] = [("patch", "mapa.radar.dev", "maparefreshpolicies", "trigger")];

/// Asks the API server about each.
pub async fn check(scope: Scope<'_>) -> Vec<Check> {
    let all: Vec<_> = NEEDED.iter().chain(&USEFUL).collect();
    let answers: Vec<Result<bool, kube::Error>> = stream::iter(all.iter().map(|needed| may(scope, needed)))
        .buffered(CONCURRENCY)
        .collect()
        .await;
    if let Some(error) = answers.iter().find_map(|answer| answer.as_ref().err()) {
        return vec![Check::unanswered(SUBJECT, error)];
    }
    let may: Vec<bool> = answers.into_iter().map(|answer| answer.unwrap_or(false)).collect();
    judge(&may, scope.namespace)
}

async fn may(scope: Scope<'_>, &(verb, group, resource, _): &(&str, &str, &str, &str)) -> kube::Result<bool> {
    let attributes = ResourceAttributes {
        namespace: scope.namespace.map(str::to_owned),
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        ..ResourceAttributes::default()
    };
    allowed(&scope.cluster.client, attributes).await
}

/// `may` says of each of [`NEEDED`] and then [`USEFUL`] whether it is allowed.
fn judge(may: &[bool], namespace: Option<&str>) -> Vec<Check> {
    let missing = |all: &[(&str, &str, &str, &str)], may: &[bool]| -> Vec<String> {
        all.iter()
            .zip(may)
            .filter(|(_, may)| !**may)
            .map(|((verb, _, resource, purpose), _)| format!("{verb} {resource} ({purpose})"))
            .collect()
    };
    let place = namespace.map_or_else(|| "in all namespaces".to_owned(), |namespace| format!("in {namespace}"));
    let (needed, useful) = may.split_at(NEEDED.len().min(may.len()));
    let (needed, useful) = (missing(&NEEDED, needed), missing(&USEFUL, useful));
    let mut checks = Vec::new();
    if !needed.is_empty() {
        checks.push(Check::failed(
            SUBJECT,
            format!("{place} you may not {}", needed.join(", ")),
            "ask an admin for the cluster role view, into which the chart aggregates reading policies (rbac.aggregateClusterRoles)",
        ));
    }
    if !useful.is_empty() {
        checks.push(Check::warning(
            SUBJECT,
            format!("{place} you may not {}", useful.join(", ")),
            "ask an admin for the cluster role edit if you are to start runs",
        ));
    }
    if checks.is_empty() {
        checks.push(Check::passed(
            SUBJECT,
            format!("{place} you may do everything that the plugin does"),
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn what_is_needed_to_read_fails_and_what_is_needed_to_trigger_is_told() {
        let verdicts = |may: &[bool]| {
            judge(may, Some("radar"))
                .iter()
                .map(|check| check.verdict)
                .collect::<Vec<_>>()
        };
        assert_eq!(verdicts(&[true; 7]), [Verdict::Passed]);
        let mut reader = [true; 7];
        reader[6] = false;
        assert_eq!(verdicts(&reader), [Verdict::Warning]);
        assert_eq!(verdicts(&[false; 7]), [Verdict::Failed, Verdict::Warning]);
        let mut no_pods = [true; 7];
        no_pods[5] = false;
        assert!(judge(&no_pods, None)[0].finding.contains("list pods (runs and doctor)"));
    }
}
