//! Jobs that have no pod, with the API server's own words: they stand in the Jobs' Events, which the operator does not read.

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Event},
    jiff::Timestamp,
};
use kube::{Api, api::ListParams};
use mapa_refresh_crds::labels::{FIELD_MANAGER, MANAGED_BY};

use super::{Scope, check::Check};
use crate::{
    outcome::POD_GRACE,
    records::{Halted, JobRecord},
};

const SUBJECT: &str = "jobs and their pods";

/// What keeps a Job without a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Suspended,
    NotCreated,
}

/// Looks at the Jobs of runs that have not ended.
pub async fn of_runs(scope: Scope<'_>) -> Check {
    let client = scope.cluster.client.clone();
    let api: Api<Job> = match scope.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let now = Timestamp::now();
    let mut page = ListParams::default()
        .labels(&format!("{MANAGED_BY}={FIELD_MANAGER}"))
        .limit(500);
    let (mut looked_at, mut found) = (0, Vec::new());
    loop {
        let list = match api.list(&page).await {
            Ok(list) => list,
            Err(error) => return Check::unanswered(SUBJECT, &error),
        };
        looked_at += list.items.len();
        found.extend(
            list.items
                .into_iter()
                .filter_map(|job| Some((without_pod(&job, now)?, job))),
        );
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page.continue_token = Some(next),
            None => break,
        }
    }
    let Some((why, job)) = found.first() else {
        return Check::passed(
            SUBJECT,
            format!("none of {looked_at} Jobs waits for a pod that does not come"),
        );
    };
    let said = match why {
        Without::Suspended => None,
        Without::NotCreated => words(scope, job).await,
    };
    complaint(*why, job, said.as_deref(), found.len(), looked_at)
}

/// Why `job` has no pod, if it should have one at `now`.
fn without_pod(job: &Job, now: Timestamp) -> Option<Without> {
    let record = JobRecord::read(job, now).filter(|record| record.ended.is_none())?;
    if record.halt.is_some_and(|halt| halt.why == Halted::Suspended) {
        return Some(Without::Suspended);
    }
    let has_pods = job.status.as_ref().and_then(|status| status.active).unwrap_or(0) > 0;
    let is_due = record.created.checked_add(POD_GRACE).is_ok_and(|due| now >= due);
    (record.halt.is_none() && !has_pods && is_due).then_some(Without::NotCreated)
}

/// The last warning of the Job controller; `None` without one, or without permission to read Events.
async fn words(scope: Scope<'_>, job: &Job) -> Option<String> {
    let namespace = job.metadata.namespace.as_deref()?;
    let api: Api<Event> = Api::namespaced(scope.cluster.client.clone(), namespace);
    let uid = job.metadata.uid.as_deref()?;
    let of_job = ListParams::default().fields(&format!("involvedObject.kind=Job,involvedObject.uid={uid}"));
    let events = api.list(&of_job).await.ok()?;
    let warnings = events
        .items
        .into_iter()
        .filter(|event| event.type_.as_deref() == Some("Warning"));
    warnings
        .max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0))?
        .message
}

fn complaint(why: Without, job: &Job, said: Option<&str>, count: usize, looked_at: usize) -> Check {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    match why {
        Without::Suspended => Check::failed(
            SUBJECT,
            format!("{count} of {looked_at} Jobs have no pod, {namespace}/{name} because it is suspended"),
            format!(
                "`kubectl -n {namespace} patch job {name} --type merge -p '{{\"spec\":{{\"suspend\":false}}}}'` lets it run; keep a queue that suspends Jobs \
                 from this namespace"
            ),
        ),
        Without::NotCreated => Check::failed(
            SUBJECT,
            format!(
                "{count} of {looked_at} Jobs have no pod, {namespace}/{name}: {}",
                said.unwrap_or("no Event says why")
            ),
            format!(
                "`kubectl -n {namespace} describe job {name}`: give the quota room, or correct Pod Security, a webhook or the ServiceAccount"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(spec: serde_json::Value, status: serde_json::Value) -> Job {
        serde_json::from_value(json!({
            "metadata": { "uid": "1", "name": "j", "namespace": "radar", "creationTimestamp": "2026-11-23T10:00:00Z" },
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn at(second: i64) -> Timestamp {
        "2026-11-23T10:00:00Z".parse::<Timestamp>().unwrap() + std::time::Duration::from_secs(second.unsigned_abs())
    }

    #[test]
    fn a_job_that_waits_for_a_pod_is_told_from_one_that_works_ended_or_has_just_begun() {
        let plain = json!({ "template": {} });
        let of = |spec, status, second| without_pod(&job(spec, status), at(second));
        assert_eq!(of(plain.clone(), json!({}), 29), None);
        assert_eq!(of(plain.clone(), json!({}), 30), Some(Without::NotCreated));
        assert_eq!(of(plain.clone(), json!({ "active": 1 }), 300), None);
        let ended = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
        assert_eq!(of(plain.clone(), ended, 300), None);
        let failing = json!({ "conditions": [{ "type": "FailureTarget", "status": "True" }] });
        assert_eq!(of(plain, failing, 300), None);
        let suspended = json!({ "template": {}, "suspend": true });
        assert_eq!(of(suspended, json!({}), 0), Some(Without::Suspended));
    }

    #[test]
    fn the_complaint_has_the_servers_words_and_a_command() {
        let one = job(json!({ "template": {} }), json!({}));
        let check = complaint(Without::NotCreated, &one, Some("exceeded quota: none"), 2, 9);
        assert_eq!(check.finding, "2 of 9 Jobs have no pod, radar/j: exceeded quota: none");
        assert!(check.remedy.unwrap().contains("kubectl -n radar describe job j"));
        let check = complaint(Without::Suspended, &one, None, 1, 1);
        assert!(check.remedy.unwrap().contains("kubectl -n radar patch job j"));
    }
}
