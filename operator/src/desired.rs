//! Pure: from a plan to the CronJobs that carry it out.
//!
//! Every field that the API server would default is written out, so that what we want and what is there can be compared whole: a
//! hand-added container, volume or `hostNetwork` is drift.

use k8s_openapi::{
    api::{
        batch::v1::{
            CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec, PodFailurePolicy,
            PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource;
use mapa_refresh_crds::{
    MapaRefreshPolicy,
    labels::{self, cron_job_name},
};
use std::collections::BTreeMap;

use crate::{
    fingerprint::{Fingerprint, PodFingerprint, RUNNER_CONTAINER},
    runner_pod::pod,
    settings::RunnerSettings,
    validate::{Plan, TaskPlan},
};

/// Seconds by which the Job's deadline lies after the run's own budget: the runner ends first and reports.
pub const DEADLINE_MARGIN_SECONDS: u32 = 20;
/// A day: long enough to look at a finished run.
const TTL_SECONDS: i32 = 86_400;

/// The CronJob of one task, and the fingerprints by which it and its pods are recognised.
#[derive(Clone, Debug)]
pub struct DesiredCronJob {
    /// The task it is for.
    pub task: TaskPlan,
    /// The object to create, or whose labels, owner and spec to restore.
    pub object: CronJob,
    /// Of the whole spec.
    pub fingerprint: Option<Fingerprint>,
    /// Of what makes a pod's report evidence.
    pub evidence: Option<PodFingerprint>,
}

impl DesiredCronJob {
    /// Name of the CronJob.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }
}

/// The CronJobs of `policy`, in the order of its tasks.
#[must_use]
pub fn desired(policy: &MapaRefreshPolicy, plan: &Plan, runner: &RunnerSettings) -> Vec<DesiredCronJob> {
    plan.tasks
        .iter()
        .map(|task| {
            let object = cron_job(policy, plan, task, runner);
            let spec = object.spec.as_ref();
            DesiredCronJob {
                task: *task,
                fingerprint: spec.and_then(Fingerprint::of_cron_job),
                evidence: spec
                    .and_then(|spec| spec.job_template.spec.as_ref())
                    .and_then(|job| job.template.spec.as_ref())
                    .map(PodFingerprint::of),
                object,
            }
        })
        .collect()
}

/// Label that switches Istio's sidecar injection.
const ISTIO_INJECT: &str = "sidecar.istio.io/inject";
/// The same for Linkerd's injector, an annotation.
const LINKERD_INJECT: &str = "linkerd.io/inject";

/// Whether a label or annotation decides what the operator or a controller of Kubernetes takes an object for, so that no configuration may set it.
#[must_use]
pub fn is_own_key(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    let is_of = |group: &str| prefix == group || prefix.strip_suffix(group).is_some_and(|rest| rest.ends_with('.'));
    let prefixes = [labels::GROUP, "batch.kubernetes.io", "cronjob.kubernetes.io"];
    // The last two are what Kubernetes called its own before they had a prefix.
    let keys = [
        labels::MANAGED_BY,
        ISTIO_INJECT,
        LINKERD_INJECT,
        "job-name",
        "controller-uid",
    ];
    keys.contains(&key) || prefixes.into_iter().any(is_of)
}

/// Labels of everything that belongs to one task of a policy; what is configured never replaces ours.
fn task_labels(policy: &str, task: &TaskPlan, runner: &RunnerSettings) -> BTreeMap<String, String> {
    let mut all = runner.labels.clone();
    all.extend([
        (labels::MANAGED_BY.to_owned(), labels::FIELD_MANAGER.to_owned()),
        (labels::POLICY.to_owned(), policy.to_owned()),
        (labels::TASK.to_owned(), task.name.to_string()),
    ]);
    all
}

/// The reference by which garbage collection finds what belongs to `policy`, and by which we know it again.
fn owner(policy: &MapaRefreshPolicy) -> OwnerReference {
    OwnerReference {
        api_version: MapaRefreshPolicy::api_version(&()).into_owned(),
        kind: MapaRefreshPolicy::kind(&()).into_owned(),
        name: policy.metadata.name.clone().unwrap_or_default(),
        uid: policy.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn cron_job(policy: &MapaRefreshPolicy, plan: &Plan, task: &TaskPlan, runner: &RunnerSettings) -> CronJob {
    let policy_name = policy.metadata.name.as_deref().unwrap_or_default();
    let labels = task_labels(policy_name, task, runner);
    let annotations = (!runner.annotations.is_empty()).then(|| runner.annotations.clone());
    let template_metadata = || ObjectMeta {
        labels: Some(labels.clone()),
        annotations: annotations.clone(),
        ..ObjectMeta::default()
    };
    CronJob {
        metadata: ObjectMeta {
            name: Some(cron_job_name(policy_name, task.name)),
            namespace: policy.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            annotations: annotations.clone(),
            owner_references: Some(vec![owner(policy)]),
            ..ObjectMeta::default()
        },
        spec: Some(CronJobSpec {
            schedule: task.schedule.to_string(),
            time_zone: Some("Etc/UTC".to_owned()),
            // A healthy run never reaches the next slot; with Forbid, a pod stuck on a dead node would block the policy.
            concurrency_policy: Some("Replace".to_owned()),
            suspend: Some(task.suspended),
            starting_deadline_seconds: Some(i64::from(plan.interval.minutes()) * 60),
            successful_jobs_history_limit: Some(3),
            failed_jobs_history_limit: Some(3),
            job_template: JobTemplateSpec {
                metadata: Some(template_metadata()),
                spec: Some(JobSpec {
                    active_deadline_seconds: Some(i64::from(task.run_budget_seconds + DEADLINE_MARGIN_SECONDS)),
                    backoff_limit: Some(0),
                    pod_failure_policy: Some(pod_failure_policy()),
                    pod_replacement_policy: Some("Failed".to_owned()),
                    ttl_seconds_after_finished: Some(TTL_SECONDS),
                    template: PodTemplateSpec {
                        metadata: Some(outside_of_meshes(template_metadata())),
                        spec: Some(pod(policy, plan, task, runner)),
                    },
                    ..JobSpec::default()
                }),
            },
        }),
        ..CronJob::default()
    }
}

/// Istio and Linkerd leave the pod alone: a report is believed from one container that is ours, and a sidecar would outlive the run.
///
/// <https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/#controlling-the-injection-policy>,
/// <https://linkerd.io/2/reference/proxy-configuration/>
fn outside_of_meshes(metadata: ObjectMeta) -> ObjectMeta {
    let mut labels = metadata.labels.unwrap_or_default();
    labels.insert(ISTIO_INJECT.to_owned(), "false".to_owned());
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(LINKERD_INJECT.to_owned(), "disabled".to_owned());
    ObjectMeta {
        labels: Some(labels),
        annotations: Some(annotations),
        ..metadata
    }
}

/// A Job of `cron_job`, as the schedule would make it, but called `<cronjob>-<id>`. The CronJob, of the UID `owner`, controls it.
#[must_use]
pub fn job(cron_job: &DesiredCronJob, owner: &str, id: &str) -> Job {
    let template = cron_job.object.spec.as_ref().map(|spec| spec.job_template.clone());
    let JobTemplateSpec { metadata, spec } = template.unwrap_or_default();
    let metadata = metadata.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(labels::INSTANTIATE.to_owned(), "manual".to_owned());
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{id}", cron_job.name())),
            namespace: cron_job.object.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: CronJob::api_version(&()).into_owned(),
                kind: CronJob::kind(&()).into_owned(),
                name: cron_job.name().to_owned(),
                uid: owner.to_owned(),
                controller: Some(true),
                // It would need a permission on the CronJobs' finalizers where OwnerReferencesPermissionEnforcement is on, and wins nothing.
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec,
        ..Job::default()
    }
}

/// A lost pod is replaced by Kubernetes; a run that ended is final, because the runner has made its retries itself.
fn pod_failure_policy() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "Ignore".to_owned(),
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".to_owned(),
                    status: "True".to_owned(),
                }]),
                on_exit_codes: None,
            },
            PodFailurePolicyRule {
                action: "FailJob".to_owned(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: Some(RUNNER_CONTAINER.to_owned()),
                    operator: "In".to_owned(),
                    values: vec![1, 2],
                }),
                on_pod_conditions: None,
            },
        ],
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    use super::*;
    use crate::validate::{Credentials, validate};

    pub(crate) fn policy(extra: serde_json::Value) -> MapaRefreshPolicy {
        let mut policy = serde_json::json!({
            "apiVersion": "mapa.radar.dev/v1",
            "kind": "MapaRefreshPolicy",
            "metadata": { "name": "roraima", "namespace": "radar", "uid": "6f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a10", "generation": 1 },
            "spec": {
                "intervalMinutes": 10,
                "database": { "kind": "postgresql", "secretRef": { "name": "radar-database" } },
                "cache": { "secretRef": { "name": "radar-cache" } },
            },
        });
        for (key, value) in extra.as_object().unwrap() {
            policy["spec"][key] = value.clone();
        }
        serde_json::from_value(policy).unwrap()
    }

    pub(crate) fn plan_of(policy: &MapaRefreshPolicy) -> Plan {
        let runner = RunnerSettings {
            image: Some("runner:1".into()),
            ..RunnerSettings::assumed_for(&policy.spec)
        };
        validate(
            "radar",
            "roraima",
            &policy.spec,
            &runner,
            Credentials::Usable,
            "2026-11-23T10:00:00Z".parse().unwrap(),
        )
        .unwrap()
    }

    fn cron_jobs(extra: serde_json::Value) -> Vec<DesiredCronJob> {
        let policy = policy(extra);
        desired(&policy, &plan_of(&policy), &RunnerSettings::default())
    }

    fn pod_of(cron_job: &DesiredCronJob) -> PodSpec {
        cron_job
            .object
            .spec
            .clone()
            .unwrap()
            .job_template
            .spec
            .unwrap()
            .template
            .spec
            .unwrap()
    }

    #[test]
    fn promise_1_one_cron_job_per_task_named_after_policy_and_task_and_owned() {
        let cron_jobs = cron_jobs(serde_json::json!({}));
        let names: Vec<_> = cron_jobs.iter().map(DesiredCronJob::name).collect();
        assert_eq!(
            names,
            [
                "roraima-refresh-mv-portal",
                "roraima-refresh-mapa-cache",
                "roraima-calcular-estatisticas"
            ]
        );
        for cron_job in &cron_jobs {
            let owner = &cron_job.object.metadata.owner_references.as_ref().unwrap()[0];
            assert_eq!(
                (owner.controller, owner.kind.as_str()),
                (Some(true), "MapaRefreshPolicy")
            );
        }
    }

    #[test]
    fn f23_a_change_of_the_clocks_moves_no_slot() {
        let slots = |zone: &str| -> Vec<_> {
            cron_jobs(serde_json::json!({ "timeZone": zone }))
                .into_iter()
                .map(|cron_job| cron_job.object.spec.unwrap())
                .map(|spec| (spec.time_zone, spec.schedule))
                .collect()
        };
        let without = slots("America/Boa_Vista");
        for (zone, schedule) in &without {
            assert_eq!(zone.as_deref(), Some("Etc/UTC"));
            assert!(schedule.ends_with(" * * * *"), "every hour is alike: {schedule}");
        }
        // By an hour, by half an hour, and by nothing.
        for zone in ["America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"] {
            assert_eq!(slots(zone), without, "{zone}");
        }
    }

    #[test]
    fn the_deadline_is_after_the_budget_and_before_the_next_slot_for_every_interval() {
        for interval in 1..=30 {
            let cron_job = &cron_jobs(serde_json::json!({ "intervalMinutes": interval }))[0];
            let deadline = cron_job
                .object
                .spec
                .as_ref()
                .unwrap()
                .job_template
                .spec
                .as_ref()
                .unwrap()
                .active_deadline_seconds
                .unwrap();
            assert_eq!(deadline, i64::from(cron_job.task.run_budget_seconds) + 20);
            assert!(deadline < i64::from(interval) * 60);
        }
    }

    #[test]
    fn service_meshes_leave_the_pods_alone_and_nothing_but_the_pods() {
        let cron_job = serde_json::to_value(&cron_jobs(serde_json::json!({}))[0].object).unwrap();
        let template = &cron_job["spec"]["jobTemplate"];
        let pod = &template["spec"]["template"]["metadata"];
        assert_eq!(pod["labels"]["sidecar.istio.io/inject"], "false");
        assert_eq!(pod["annotations"]["linkerd.io/inject"], "disabled");
        assert_eq!(template["metadata"]["labels"].as_object().unwrap().len(), 3);
    }

    #[test]
    fn labels_and_annotations_that_a_cluster_demands_are_on_everything_and_replace_none_of_ours() {
        let policy = policy(serde_json::json!({}));
        let pairs = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let runner = RunnerSettings {
            labels: pairs(&[("team", "grid"), (labels::POLICY, "another"), (ISTIO_INJECT, "true")]),
            annotations: pairs(&[("cost", "42"), (LINKERD_INJECT, "enabled")]),
            ..RunnerSettings::default()
        };
        let cron_job = desired(&policy, &plan_of(&policy), &runner).swap_remove(0);
        let job = job(&cron_job, "uid", "q1");
        let object = serde_json::to_value(&cron_job.object).unwrap();
        let template = &object["spec"]["jobTemplate"];
        let pod = &template["spec"]["template"]["metadata"];
        let created = serde_json::to_value(&job).unwrap();
        for metadata in [&object["metadata"], &template["metadata"], pod, &created["metadata"]] {
            assert_eq!(metadata["labels"]["team"], "grid", "{metadata}");
            assert_eq!(metadata["labels"][labels::POLICY], "roraima", "{metadata}");
            assert_eq!(metadata["annotations"]["cost"], "42", "{metadata}");
        }
        assert_eq!(pod["labels"][ISTIO_INJECT], "false");
        assert_eq!(pod["annotations"][LINKERD_INJECT], "disabled");
        assert_eq!(created["metadata"]["annotations"][labels::INSTANTIATE], "manual");
        let own = [
            labels::TASK,
            "sub.mapa.radar.dev/x",
            labels::JOB_NAME,
            labels::INSTANTIATE,
            "job-name",
        ];
        assert!(own.into_iter().all(is_own_key));
        assert!(
            [
                "team",
                "example.org/team",
                "notmapa.radar.dev/x",
                "app.kubernetes.io/part-of"
            ]
            .into_iter()
            .all(|key| !is_own_key(key))
        );
    }

    #[test]
    fn where_the_platform_chooses_ids_none_is_named_and_everything_else_stays() {
        let policy = policy(serde_json::json!({}));
        let pod = |user_ids| {
            let runner = RunnerSettings {
                user_ids,
                ..RunnerSettings::default()
            };
            pod_of(&desired(&policy, &plan_of(&policy), &runner)[0])
        };
        let (fixed, left) = (
            pod(crate::settings::UserIds::Fixed),
            pod(crate::settings::UserIds::Platform),
        );
        assert_eq!(PodFingerprint::of(&fixed), PodFingerprint::of(&left));
        let context = fixed.security_context.unwrap();
        assert_eq!(
            (context.run_as_user, context.run_as_group, context.fs_group),
            (Some(65_532), Some(65_532), Some(65_532))
        );
        let context = left.security_context.unwrap();
        assert_eq!(
            (context.run_as_user, context.run_as_group, context.fs_group),
            (None, None, None)
        );
        assert_eq!(context.run_as_non_root, Some(true));
        assert!(context.seccomp_profile.is_some());
    }

    #[test]
    fn the_evidence_fingerprint_sees_what_runs_and_ignores_where() {
        let pod = pod_of(&cron_jobs(serde_json::json!({}))[0]);
        let of_evidence = |pod: &PodSpec| PodFingerprint::of(pod).whole;
        let fingerprint = of_evidence(&pod).unwrap();
        let mut placed = pod.clone();
        placed.node_name = Some("node-1".into());
        placed.priority = Some(7);
        assert_eq!(of_evidence(&placed), Some(fingerprint));
        let mutations: [fn(&mut PodSpec); 6] = [
            |p| p.containers[0].image = Some("evil".into()),
            |p| p.containers[0].command = Some(vec!["sh".into()]),
            |p| p.containers[0].args = None,
            |p| p.containers[0].env.as_mut().unwrap()[2].value = Some("other".into()),
            |p| p.volumes.as_mut().unwrap().truncate(1),
            |p| p.service_account_name = Some("other".into()),
        ];
        for mutate in mutations {
            let mut forged = pod.clone();
            mutate(&mut forged);
            assert_ne!(of_evidence(&forged), Some(fingerprint));
        }
        let mut sidecar = pod;
        sidecar.containers.push(Container::default());
        assert_eq!(of_evidence(&sidecar), None);
    }
}
