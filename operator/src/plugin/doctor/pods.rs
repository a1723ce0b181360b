//! The runs' pods: whether their images can be pulled, and what else keeps them from running.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Api, api::ListParams};
use mapa_refresh_crds::labels::{FIELD_MANAGER, MANAGED_BY};

use super::{Scope, check::Check};
use crate::records::PodRecord;

const SUBJECT: &str = "images and pods";

/// Looks at the pods that exist.
pub async fn check(scope: Scope<'_>) -> Check {
    let api: Api<Pod> = match scope.namespace {
        Some(namespace) => Api::namespaced(scope.cluster.client.clone(), namespace),
        None => Api::all(scope.cluster.client.clone()),
    };
    let now = Timestamp::now();
    let mut page = ListParams::default()
        .labels(&format!("{MANAGED_BY}={FIELD_MANAGER}"))
        .limit(500);
    let mut seen = Seen::default();
    loop {
        let list = match api.list(&page).await {
            Ok(list) => list,
            Err(error) => return Check::unanswered(SUBJECT, &error),
        };
        list.items.iter().for_each(|pod| seen.take(pod, now));
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page.continue_token = Some(next),
            None => return seen.judge(),
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

    fn judge(&self) -> Check {
        // What a person has to change first; the rest may pass by itself.
        let worst = self
            .troubles
            .get_key_value("ImagePullBackOff")
            .or_else(|| self.troubles.iter().next());
        let Some((code, (count, example))) = worst else {
            return match self.pods {
                0 => Check::unseen(
                    SUBJECT,
                    "there is no pod of a run",
                    "start one: `kubectl mapa trigger POLICY --wait`",
                ),
                pods => Check::passed(SUBJECT, format!("none of {pods} pods says that it cannot run")),
            };
        };
        let remedy = match code.as_str() {
            "ImagePullBackOff" => {
                "check runner.image and runner.imagePullSecrets of the chart, and that the pull secret exists in the policy's namespace"
            }
            "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
            | "ContainerCannotRun"
            | "StartError" => "look at `kubectl describe pod` and at the runner's settings in the chart",
            "Unschedulable" => {
                "give the nodes room, or change runner.nodeSelector, runner.tolerations or runner.resources"
            }
            _ => "look at `kubectl describe pod`; the next slot tries again",
        };
        Check::failed(
            SUBJECT,
            format!("{code}: {count} of {} pods, {example}", self.pods),
            remedy,
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::check::Verdict;
    use super::*;

    fn seen(statuses: &[Value]) -> Check {
        let mut seen = Seen::default();
        for status in statuses {
            let pod = json!({ "metadata": { "uid": "1f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a11", "name": "p", "namespace": "radar" }, "spec": { "containers": [] }, "status": status });
            seen.take(
                &serde_json::from_value(pod).unwrap(),
                "2026-11-23T10:00:00Z".parse().unwrap(),
            );
        }
        seen.judge()
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_told_before_everything_else() {
        let waiting = |reason: &str| {
            json!({ "containerStatuses": [{ "name": "job-runner", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": reason, "message": "why" } } }] })
        };
        assert_eq!(seen(&[]).verdict, Verdict::Unseen);
        assert_eq!(seen(&[waiting("ContainerCreating")]).verdict, Verdict::Passed);
        let check = seen(&[waiting("CreateContainerConfigError"), waiting("ErrImagePull")]);
        assert_eq!(check.verdict, Verdict::Failed);
        assert!(
            check.finding.starts_with("ImagePullBackOff: 1 of 2 pods, radar/p: why"),
            "{}",
            check.finding
        );
    }
}
