//! The policies: whether each is understood, carried out as written, and compliant.

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::MapaRefreshPolicy;

use super::check::Check;
use crate::plugin::{
    brief::{Brief, UNDECODABLE, Word},
    policies::Listed,
    standing::{Facts, planned},
};

const SUBJECT: &str = "policies";

/// Most policies of which each complaint is told: who has more looks at `status`.
const TOLD: usize = 20;

/// Namespace and name.
#[must_use]
pub fn name(policy: &MapaRefreshPolicy) -> String {
    format!(
        "{}/{}",
        policy.metadata.namespace.as_deref().unwrap_or_default(),
        policy.metadata.name.as_deref().unwrap_or_default()
    )
}

/// Judges each of `listed`, those of `namespace` or of all.
#[must_use]
pub fn check(listed: &[Listed], namespace: Option<&str>, now: Timestamp) -> Vec<Check> {
    if listed.is_empty() {
        let place = namespace.map_or_else(String::new, |namespace| format!(" in namespace {namespace}"));
        return vec![Check::warning(
            SUBJECT,
            format!("there is none{place}"),
            "apply one, or look elsewhere by -n or -A",
        )];
    }
    let mut complaints: Vec<Check> = listed.iter().filter_map(|listed| complaint(listed, now)).collect();
    let wrong = complaints.len();
    complaints.truncate(TOLD);
    if wrong > TOLD {
        complaints.push(Check::failed(
            SUBJECT,
            format!("{} more are not as they should be", wrong - TOLD),
            "`kubectl mapa status -A` lists them all",
        ));
    }
    if wrong < listed.len() {
        let well = listed.len() - wrong;
        complaints.insert(
            0,
            Check::passed(
                SUBJECT,
                format!(
                    "{well} of {} understood, carried out as written and compliant",
                    listed.len()
                ),
            ),
        );
    }
    complaints
}

fn complaint(listed: &Listed, now: Timestamp) -> Option<Check> {
    let facts = Facts::of(listed, now);
    let standing = facts.brief.at(now);
    let subject = format!("policy {}/{}", standing.namespace, standing.name);
    if standing.reason == UNDECODABLE {
        return Some(Check::failed(
            &subject,
            &standing.message,
            "correct the field, or bring CRD, operator and plugin to one version",
        ));
    }
    if let Listed::Policy(policy) = listed
        && let Err(refusal) = planned(policy, now)
    {
        return Some(Check::failed(
            &subject,
            format!("{}: {}", refusal.reason, refusal.message),
            "correct the policy; its CronJobs stay as they are until then",
        ));
    }
    if let Some(ready) = standing.ready.filter(|ready| ready.status != Word::True) {
        return Some(Check::failed(
            &subject,
            format!("not ready, {}: {}", ready.reason, ready.message),
            format!(
                "the README's table of conditions says what to do about {}",
                ready.reason
            ),
        ));
    }
    not_compliant(&subject, &standing)
}

fn not_compliant(subject: &str, standing: &Brief<'_>) -> Option<Check> {
    let finding = || format!("{}: {}", standing.reason, standing.message);
    match standing.compliant {
        Word::True => standing.at_risk.filter(|risk| risk.status == Word::True).map(|risk| {
            Check::warning(
                subject,
                format!("at risk, {}: {}", risk.reason, risk.message),
                format!(
                    "look at `kubectl mapa runs {} -n {}`",
                    standing.name, standing.namespace
                ),
            )
        }),
        Word::False => Some(Check::failed(
            subject,
            format!("not compliant, {}", finding()),
            format!(
                "look at `kubectl mapa runs {} -n {}`",
                standing.name, standing.namespace
            ),
        )),
        Word::Unknown => Some(Check::failed(
            subject,
            format!("unknown whether it is compliant, {}", finding()),
            "see the line about the operator; it watches all namespaces, or those of watchNamespaces",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::check::Verdict;
    use super::*;

    fn listed(interval: Value, zone: &str, compliant: &str, ready: &str) -> Listed {
        let condition = |type_: &str, status: &str| json!({ "type": type_, "status": status, "reason": "Because", "message": "so", "lastTransitionTime": "2026-11-23T10:00:00Z" });
        Listed::of(json!({
            "metadata": { "namespace": "radar", "name": "roraima" },
            "spec": {
                "intervalMinutes": interval, "timeZone": zone,
                "database": { "secretRef": { "name": "d" } }, "cache": { "secretRef": { "name": "c" } },
            },
            "status": {
                "dataAsOf": "2026-11-23T10:00:00Z", "compliantUntil": "2026-11-23T10:30:00Z",
                "conditions": [condition("Compliant", compliant), condition("Ready", ready)],
            },
        }))
    }

    #[test]
    fn each_policy_that_is_not_as_it_should_be_has_a_line_of_its_own() {
        let now = "2026-11-23T10:10:00Z".parse().unwrap();
        let verdicts = |listed: Listed| {
            check(&[listed], None, now)
                .iter()
                .map(|check| check.verdict)
                .collect::<Vec<_>>()
        };
        let well = || listed(10.into(), "UTC", "True", "True");
        assert_eq!(verdicts(well()), [Verdict::Passed]);
        assert_eq!(verdicts(listed("x".into(), "UTC", "True", "True")), [Verdict::Failed]);
        assert_eq!(
            verdicts(listed(10.into(), "Mars/Olympus", "True", "True")),
            [Verdict::Failed]
        );
        assert_eq!(verdicts(listed(10.into(), "UTC", "True", "False")), [Verdict::Failed]);
        assert_eq!(verdicts(listed(10.into(), "UTC", "False", "True")), [Verdict::Failed]);
        let late = "2026-11-23T11:00:00Z".parse().unwrap();
        assert!(
            check(&[well()], None, late)[0]
                .finding
                .contains("unknown whether it is compliant")
        );
        assert_eq!(check(&[], Some("radar"), now)[0].verdict, Verdict::Warning);
    }
}
