//! Pure: the differences between a wanted and a stored CronJob, and which of them the operator accepts.
//!
//! Admission adds resources, labels or tolerations in many clusters. The operator accepts what affects neither the schedule nor the evidence of
//! runs: fighting it would gain nothing.

use k8s_openapi::api::batch::v1::CronJob;
use mapa_refresh_crds::report::clean;
use serde_json::{Map, Value};

/// Longest text of one value, in bytes.
const MAX_VALUE: usize = 60;

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path, such as `spec.jobTemplate.spec.template.spec.containers[0].resources.limits`.
    pub path: String,
    /// The written and the stored value, shortened; values of the environment are hidden.
    pub values: String,
    /// Whether the field affects neither the schedule nor the evidence of runs.
    pub is_borne: bool,
}

/// The fields in which `found` differs from `wanted`: the whole spec, and our labels.
#[must_use]
pub fn differences(wanted: &CronJob, found: &CronJob) -> Vec<Difference> {
    let json = |value: serde_json::Result<Value>| value.unwrap_or_default();
    let mut all = Vec::new();
    let spec = |cron_job: &CronJob| json(serde_json::to_value(&cron_job.spec));
    compare("spec", &spec(wanted), &spec(found), &mut all);
    let labels = |cron_job: &CronJob| cron_job.metadata.labels.clone().unwrap_or_default();
    let found_labels = labels(found);
    for (key, value) in labels(wanted) {
        if found_labels.get(&key) != Some(&value) {
            all.push(difference(
                &format!("metadata.labels.{key}"),
                Some(&Value::String(value)),
                found_labels
                    .get(&key)
                    .map(|value| Value::String(value.clone()))
                    .as_ref(),
            ));
        }
    }
    all
}

fn compare(path: &str, wanted: &Value, found: &Value, all: &mut Vec<Difference>) {
    match (wanted, found) {
        (wanted, found) if wanted == found => {}
        (Value::Object(wanted), Value::Object(found)) => compare_fields(path, wanted, found, all),
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            for (position, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                compare(&format!("{path}[{position}]"), wanted, found, all);
            }
        }
        (wanted, found) => all.push(difference(path, Some(wanted), Some(found))),
    }
}

fn compare_fields(path: &str, wanted: &Map<String, Value>, found: &Map<String, Value>, all: &mut Vec<Difference>) {
    for (field, wanted) in wanted {
        let path = format!("{path}.{field}");
        match found.get(field) {
            Some(found) => compare(&path, wanted, found, all),
            None => all.push(difference(&path, Some(wanted), None)),
        }
    }
    for (field, found) in found.iter().filter(|(field, _)| !wanted.contains_key(*field)) {
        all.push(difference(&format!("{path}.{field}"), None, Some(found)));
    }
}

fn difference(path: &str, wanted: Option<&Value>, found: Option<&Value>) -> Difference {
    // A foreign variable may hold a secret.
    let is_environment = path.contains(".env");
    let shown = |value: Option<&Value>| match value {
        None => "nothing".to_owned(),
        Some(Value::Array(items)) if is_environment => format!("{} entries", items.len()),
        Some(_) if is_environment => "another value".to_owned(),
        Some(value) => {
            let mut text = value.to_string();
            clean(&mut text, MAX_VALUE);
            text
        }
    };
    Difference {
        path: path.to_owned(),
        values: format!("wrote {}, came back {}", shown(wanted), shown(found)),
        is_borne: is_borne(path, wanted.is_none()),
    }
}

/// Fields of a pod's spec that are accepted: placement, resources, priority.
const BORNE_OF_A_POD: [&str; 14] = [
    "affinity",
    "dnsConfig",
    "imagePullSecrets",
    "nodeSelector",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "tolerations",
    "topologySpreadConstraints",
    "containers[0].imagePullPolicy",
    "containers[0].resources",
];

/// Fields of a security context, of pod or container, that are accepted: ids that a platform assigns, and further restrictions.
const BORNE_OF_A_SECURITY_CONTEXT: [&str; 9] = [
    "runAsUser",
    "runAsGroup",
    "fsGroup",
    "fsGroupChangePolicy",
    "supplementalGroups",
    "seLinuxOptions",
    "seccompProfile",
    "appArmorProfile",
    "capabilities.drop",
];

fn is_borne(path: &str, is_added: bool) -> bool {
    const JOB: &str = "spec.jobTemplate.";
    const POD: &str = "spec.template.";
    let Some(path) = path.strip_prefix(JOB) else {
        return false;
    };
    let (of_pod, path) = match path.strip_prefix(POD) {
        Some(path) => (true, path),
        None => (false, path),
    };
    if let Some(metadata) = path.strip_prefix("metadata.") {
        // Foreign additions are accepted; a change of our own keys is not.
        return is_added && (metadata.starts_with("labels") || metadata.starts_with("annotations"));
    }
    let Some(path) = path.strip_prefix("spec.").filter(|_| of_pod) else {
        return false;
    };
    let begins_with = |path: &str, field: &str| {
        path.strip_prefix(field)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let context = path
        .strip_prefix("securityContext.")
        .or_else(|| path.strip_prefix("containers[0].securityContext."));
    match context {
        Some(path) => BORNE_OF_A_SECURITY_CONTEXT.iter().any(|field| begins_with(path, field)),
        None => BORNE_OF_A_POD.iter().any(|field| begins_with(path, field)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        desired::{
            desired,
            tests::{plan_of, policy},
        },
        fingerprint::{Fingerprint, PodFingerprint},
        settings::RunnerSettings,
    };

    fn wanted() -> CronJob {
        let policy = policy(json!({}));
        let mut all = desired(&policy, &plan_of(&policy), &RunnerSettings::default());
        all.swap_remove(0).object
    }

    /// What `change` makes of a CronJob, as paths and whether they are borne.
    fn changed(pointer: &str, value: Value) -> (CronJob, Vec<Difference>) {
        let wanted = wanted();
        let mut found = serde_json::to_value(&wanted).unwrap();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        found.pointer_mut(parent).unwrap()[field] = value;
        let found = serde_json::from_value(found).unwrap();
        let all = differences(&wanted, &found);
        (found, all)
    }

    const POD: &str = "/spec/jobTemplate/spec/template/spec";

    #[test]
    fn nothing_differs_where_nothing_was_changed() {
        assert_eq!(differences(&wanted(), &wanted()), []);
    }

    #[test]
    fn what_decides_neither_when_runs_happen_nor_what_they_prove_is_borne() {
        let borne = [
            (
                format!("{POD}/containers/0/resources"),
                json!({ "limits": { "cpu": "1", "memory": "1Gi" } }),
            ),
            (format!("{POD}/nodeSelector"), json!({ "pool": "batch" })),
            (format!("{POD}/tolerations"), json!([{ "operator": "Exists" }])),
            (format!("{POD}/priorityClassName"), json!("batch")),
            (format!("{POD}/securityContext/runAsUser"), json!(1_000_660_000)),
            (format!("{POD}/securityContext/fsGroup"), json!(1_000_660_000)),
            (
                format!("{POD}/containers/0/securityContext/seLinuxOptions"),
                json!({ "level": "s0:c1" }),
            ),
            ("/spec/jobTemplate/metadata/annotations".to_owned(), json!({ "a": "b" })),
            ("/spec/jobTemplate/metadata/labels/team".to_owned(), json!("grid")),
            (
                "/spec/jobTemplate/spec/template/metadata/labels/team".to_owned(),
                json!("grid"),
            ),
        ];
        let evidence_of = |cron_job: &CronJob| {
            let template = cron_job.spec.as_ref().unwrap().job_template.spec.as_ref().unwrap();
            PodFingerprint::of(template.template.spec.as_ref().unwrap()).whole
        };
        for (pointer, value) in borne {
            let (found, all) = changed(&pointer, value);
            assert!(
                !all.is_empty() && all.iter().all(|it| it.is_borne),
                "{pointer}: {all:?}"
            );
            assert_eq!(evidence_of(&found), evidence_of(&wanted()), "{pointer}");
            let of = |cron_job: &CronJob| Fingerprint::of_cron_job(cron_job.spec.as_ref().unwrap());
            assert_ne!(of(&found), of(&wanted()), "{pointer}");
        }
    }

    #[test]
    fn what_decides_is_not_borne_and_is_named() {
        let decisive = [
            (
                "/spec/schedule".to_owned(),
                json!("0 0 1 1 *"),
                "spec.schedule: wrote \"",
            ),
            (
                "/spec/suspend".to_owned(),
                json!(true),
                "spec.suspend: wrote false, came back true",
            ),
            (
                "/spec/jobTemplate/spec/suspend".to_owned(),
                json!(true),
                "spec.jobTemplate.spec.suspend: wrote nothing, came back true",
            ),
            (format!("{POD}/containers/0/image"), json!("evil"), "came back \"evil\""),
            (
                format!("{POD}/hostNetwork"),
                json!(true),
                "hostNetwork: wrote nothing, came back true",
            ),
            (
                format!("{POD}/serviceAccountName"),
                json!("admin"),
                "came back \"admin\"",
            ),
            (
                format!("{POD}/securityContext/runAsNonRoot"),
                json!(false),
                "came back false",
            ),
            (
                format!("{POD}/containers/0/securityContext/privileged"),
                json!(true),
                "came back true",
            ),
            (
                "/metadata/labels/app.kubernetes.io~1managed-by"
                    .replace("~1", "/")
                    .replace("/metadata/labels/app.kubernetes.io/managed-by", "/metadata/labels"),
                json!({}),
                "metadata.labels.app.kubernetes.io/managed-by",
            ),
        ];
        for (pointer, value, words) in decisive {
            let (_, all) = changed(&pointer, value);
            let told: Vec<String> = all.iter().map(|it| format!("{}: {}", it.path, it.values)).collect();
            assert!(all.iter().any(|it| !it.is_borne), "{pointer}: {all:?}");
            assert!(told.iter().any(|told| told.contains(words)), "{pointer}: {told:?}");
        }
        // A label of ours that has another value is not theirs to set.
        let (_, all) = changed(
            "/spec/jobTemplate/spec/template/metadata/labels/sidecar.istio.io~1inject"
                .rsplit_once('/')
                .unwrap()
                .0,
            json!({}),
        );
        assert!(all.iter().any(|it| !it.is_borne), "{all:?}");
    }

    #[test]
    fn what_others_put_into_the_environment_is_not_shown() {
        let mut env = serde_json::to_value(wanted())
            .unwrap()
            .pointer(&format!("{POD}/containers/0/env"))
            .unwrap()
            .clone();
        env.as_array_mut()
            .unwrap()
            .push(json!({ "name": "HTTPS_PROXY", "value": "http://u:hunter2@proxy" }));
        let (_, all) = changed(&format!("{POD}/containers/0/env"), env);
        assert_eq!(all.len(), 1);
        assert!(
            !all[0].is_borne && all[0].path.ends_with("containers[0].env") && !all[0].values.contains("hunter2"),
            "{all:?}"
        );
    }
}
