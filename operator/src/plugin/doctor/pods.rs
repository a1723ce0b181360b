//! Pods of runs and of the operators: whether their images can be pulled, and what else keeps them from running.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Api, Client, api::ListParams};
use mapa_refresh_crds::labels::{FIELD_MANAGER, MANAGED_BY};

use super::{Scope, check::Check, installed::Installed};
use crate::records::PodRecord;

/// Looks at the pods of runs that exist.
pub async fn of_runs(scope: Scope<'_>) -> Check {
    let api: Api<Pod> = match scope.namespace {
        Some(namespace) => Api::namespaced(scope.cluster.client.clone(), namespace),
        None => Api::all(scope.cluster.client.clone()),
    };
    look(&api, &format!("{MANAGED_BY}={FIELD_MANAGER}"), Whose::Run).await
}

/// Looks at the pods of each operator.
pub async fn of_operators(client: &Client, installed: &[Installed]) -> Vec<Check> {
    let mut checks = Vec::new();
    for operator in installed {
        let api: Api<Pod> = Api::namespaced(client.clone(), &operator.namespace);
        let check = look(&api, &operator.selector, Whose::Operator).await;
        let place = format!("{}/{}: ", operator.namespace, operator.name);
        checks.push(Check {
            finding: place + &check.finding,
            ..check
        });
    }
    checks
}

async fn look(api: &Api<Pod>, selector: &str, whose: Whose) -> Check {
    let now = Timestamp::now();
    let mut page = ListParams::default().labels(selector).limit(500);
    let mut seen = Seen::default();
    loop {
        let list = match api.list(&page).await {
            Ok(list) => list,
            Err(error) => return Check::unanswered(whose.subject(), &error),
        };
        list.items
            .iter()
            .filter(|pod| whose.counts(pod))
            .for_each(|pod| seen.take(pod, now));
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page.continue_token = Some(next),
            None => return seen.judge(whose),
        }
    }
}

/// Whose pods they are.
#[derive(Clone, Copy)]
enum Whose {
    Run,
    Operator,
}

impl Whose {
    fn subject(self) -> &'static str {
        match self {
            Self::Run => "images and pods",
            Self::Operator => "operator's image and pods",
        }
    }

    fn none(self) -> Check {
        match self {
            Self::Run => Check::unseen(
                self.subject(),
                "there is no pod of a run",
                "start one: `kubectl mapa trigger POLICY --wait`",
            ),
            Self::Operator => Check::failed(
                self.subject(),
                "its Deployment has no pod",
                "look at `kubectl describe deployment` and `kubectl get events`: replicas, a quota, or Pod Security",
            ),
        }
    }

    /// Whether `pod` is to be looked at. What is left of an operator's pod that was evicted or drained says nothing about those that run.
    fn counts(self, pod: &Pod) -> bool {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        match self {
            Self::Run => true,
            Self::Operator => {
                pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
            }
        }
    }

    /// What to do about pods that say `code`.
    fn remedy(self, code: &str) -> &'static str {
        match (code, self) {
            ("ImagePullBackOff", Self::Run) => {
                "check runner.image and runner.imagePullSecrets of the chart, and that the pull secret exists in the policy's namespace"
            }
            ("ImagePullBackOff", Self::Operator) => {
                "check image and imagePullSecrets of the chart, and that the pull secret exists in the operator's namespace"
            }
            (
                "CreateContainerConfigError"
                | "CreateContainerError"
                | "RunContainerError"
                | "ContainerCannotRun"
                | "StartError",
                Self::Run,
            ) => "look at `kubectl describe pod` and at the runner's settings in the chart",
            ("Unschedulable", Self::Run) => {
                "give the nodes room, or change runner.nodeSelector, runner.tolerations or runner.resources"
            }
            ("Unschedulable", Self::Operator) => {
                "give the nodes room, or change nodeSelector, tolerations, affinity or resources of the chart"
            }
            ("CrashLoopBackOff", Self::Operator) => "the last line of `kubectl logs --previous` says why it ended",
            (_, Self::Run) => "look at `kubectl describe pod`; the next slot tries again",
            (_, Self::Operator) => "look at `kubectl describe pod`",
        }
    }
}

/// What was seen of pods.
#[derive(Default)]
struct Seen {
    pods: usize,
    /// By code: how many, and what one of them says.
    troubles: BTreeMap<String, (usize, String)>,
}

impl Seen {
    fn take(&mut self, pod: &Pod, now: Timestamp) {
        self.pods += 1;
        // A pod that ended did run: its Job tells what became of it.
        let Some(record) = PodRecord::read(pod, now).filter(|record| record.ended.is_none()) else {
            return;
        };
        if let Some(trouble) = record.trouble {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let place = pod.metadata.namespace.as_deref().unwrap_or_default();
            let example = format!("{place}/{name}: {}", trouble.message);
            self.troubles.entry(trouble.code.into()).or_insert((0, example)).0 += 1;
        }
    }

    fn judge(&self, whose: Whose) -> Check {
        // What a person has to change first; the rest may pass by itself.
        let worst = self
            .troubles
            .get_key_value("ImagePullBackOff")
            .or_else(|| self.troubles.iter().next());
        match (worst, self.pods) {
            (None, 0) => whose.none(),
            (None, pods) => Check::passed(whose.subject(), format!("none of {pods} pods says that it cannot run")),
            (Some((code, (count, example))), pods) => Check::failed(
                whose.subject(),
                format!("{code}: {count} of {pods} pods, {example}"),
                whose.remedy(code),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::check::Verdict;
    use super::*;

    fn seen(statuses: &[Value], whose: Whose) -> Check {
        let mut seen = Seen::default();
        for status in statuses {
            let pod: Value = json!({ "metadata": { "uid": "1f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a11", "name": "p", "namespace": "radar" }, "spec": { "containers": [] }, "status": status });
            let pod = serde_json::from_value(pod).unwrap();
            if whose.counts(&pod) {
                seen.take(&pod, "2026-11-23T10:00:00Z".parse().unwrap());
            }
        }
        seen.judge(whose)
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_told_before_everything_else() {
        assert_eq!(seen(&[], Whose::Run).verdict, Verdict::Unseen);
        assert_eq!(seen(&[], Whose::Operator).verdict, Verdict::Failed);
        for (whose, remedy) in [(Whose::Run, "check runner.image"), (Whose::Operator, "check image and")] {
            assert_eq!(seen(&[waiting("ContainerCreating")], whose).verdict, Verdict::Passed);
            let check = seen(&[waiting("CreateContainerConfigError"), waiting("ErrImagePull")], whose);
            assert_eq!(check.verdict, Verdict::Failed);
            assert!(
                check.finding.starts_with("ImagePullBackOff: 1 of 2 pods, radar/p: why"),
                "{}",
                check.finding
            );
            assert!(
                check.remedy.as_deref().unwrap().starts_with(remedy),
                "{:?}",
                check.remedy
            );
        }
    }

    #[test]
    fn an_operator_that_ends_again_and_again_is_told_with_where_it_says_why() {
        let check = seen(&[waiting("CrashLoopBackOff")], Whose::Operator);
        assert!(
            check.finding.starts_with("CrashLoopBackOff: 1 of 1 pods"),
            "{}",
            check.finding
        );
        assert!(
            check.remedy.as_deref().unwrap().contains("--previous"),
            "{:?}",
            check.remedy
        );
    }

    #[test]
    fn what_is_left_of_an_operators_pod_says_nothing_about_those_that_run() {
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "disk" });
        let runs = json!({ "phase": "Running" });
        let check = seen(&[evicted.clone(), runs], Whose::Operator);
        assert_eq!(
            (check.verdict, check.finding.as_str()),
            (Verdict::Passed, "none of 1 pods says that it cannot run")
        );
        assert_eq!(
            seen(&[evicted], Whose::Operator).verdict,
            Verdict::Failed,
            "there is no other"
        );
    }

    fn waiting(reason: &str) -> Value {
        json!({ "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": "why" } } }] })
    }
}
