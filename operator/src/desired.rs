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
        core::v1::{
            Capabilities, Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodSecurityContext, PodSpec,
            PodTemplateSpec, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Toleration,
            Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};
use kube::Resource;
use mapa_refresh_crds::{
    MapaRefreshPolicy,
    labels::{self, cron_job_name},
    policy::Plausibility,
    runner_env as env,
};
use std::collections::BTreeMap;

use crate::{
    fingerprint::{Fingerprint, RUNNER_CONTAINER},
    settings::RunnerSettings,
    validate::{Plan, TaskPlan},
};

/// Seconds by which the Job's deadline lies after the run's own budget: the runner ends first and reports.
pub const DEADLINE_MARGIN_SECONDS: u32 = 20;
/// Seconds that Kubernetes waits after SIGTERM; the runner needs 5.
const GRACE_SECONDS: i64 = 10;
/// Seconds after which a run leaves a node that is gone.
const DEAD_NODE_SECONDS: i64 = 30;
/// A day: long enough to look at a finished run.
const TTL_SECONDS: i32 = 86_400;
/// User and group of the runner's process; the images have no other.
const NON_ROOT: i64 = 65_532;
/// Owner and group may read (octal 0440).
const SECRET_MODE: i32 = 0o440;

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
    pub evidence: Option<Fingerprint>,
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
                    .and_then(Fingerprint::of_evidence),
                object,
            }
        })
        .collect()
}

/// Labels of everything that belongs to one task of a policy.
#[must_use]
pub fn task_labels(policy: &str, task: &TaskPlan) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::MANAGED_BY.to_owned(), labels::FIELD_MANAGER.to_owned()),
        (labels::POLICY.to_owned(), policy.to_owned()),
        (labels::TASK.to_owned(), task.name.to_string()),
    ])
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
    let labels = task_labels(policy_name, task);
    let template_metadata = || {
        Some(ObjectMeta {
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        })
    };
    CronJob {
        metadata: ObjectMeta {
            name: Some(cron_job_name(policy_name, task.name)),
            namespace: policy.metadata.namespace.clone(),
            labels: Some(labels.clone()),
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
                metadata: template_metadata(),
                spec: Some(JobSpec {
                    active_deadline_seconds: Some(i64::from(task.run_budget_seconds + DEADLINE_MARGIN_SECONDS)),
                    backoff_limit: Some(0),
                    pod_failure_policy: Some(pod_failure_policy()),
                    pod_replacement_policy: Some("Failed".to_owned()),
                    ttl_seconds_after_finished: Some(TTL_SECONDS),
                    template: PodTemplateSpec {
                        metadata: template_metadata(),
                        spec: Some(pod(policy, plan, task, runner)),
                    },
                    ..JobSpec::default()
                }),
            },
        }),
        ..CronJob::default()
    }
}

/// A Job of `cron_job`, as the schedule would make it, but called `<cronjob>-<id>`. The CronJob, of the UID `owner`, controls it.
#[must_use]
pub fn job(cron_job: &DesiredCronJob, owner: &str, id: &str) -> Job {
    let template = cron_job.object.spec.as_ref().map(|spec| spec.job_template.clone());
    let template = template.unwrap_or_default();
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{id}", cron_job.name())),
            namespace: cron_job.object.metadata.namespace.clone(),
            labels: template.metadata.and_then(|metadata| metadata.labels),
            annotations: Some(BTreeMap::from([(labels::INSTANTIATE.to_owned(), "manual".to_owned())])),
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
        spec: template.spec,
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

fn pod(policy: &MapaRefreshPolicy, plan: &Plan, task: &TaskPlan, runner: &RunnerSettings) -> PodSpec {
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        dns_policy: Some("ClusterFirst".to_owned()),
        scheduler_name: Some("default-scheduler".to_owned()),
        // The runner never talks to the Kubernetes API.
        automount_service_account_token: Some(false),
        service_account_name: runner.service_account.clone(),
        service_account: runner.service_account.clone(),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NON_ROOT),
            run_as_group: Some(NON_ROOT),
            fs_group: Some(NON_ROOT),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        image_pull_secrets: given(&runner.image_pull_secrets),
        node_selector: (!runner.node_selector.is_empty()).then(|| runner.node_selector.clone()),
        tolerations: Some(tolerations(runner)),
        affinity: runner.affinity.clone(),
        priority_class_name: runner.priority_class.clone(),
        volumes: Some(vec![
            secret_volume("database", &policy.spec.database.secret_ref.name),
            secret_volume("cache", &policy.spec.cache.secret_ref.name),
        ]),
        containers: vec![container(policy, plan, task, runner)],
        ..PodSpec::default()
    }
}

/// An empty list is stored as none.
fn given<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// Those by which a run leaves a dead node, unless configured otherwise for that taint, and the configured ones.
fn tolerations(runner: &RunnerSettings) -> Vec<Toleration> {
    const NO_EXECUTE: &str = "NoExecute";
    let is_configured = |taint: &str| {
        runner.tolerations.iter().any(|toleration| {
            toleration.key.as_deref() == Some(taint) && toleration.effect.as_deref().is_none_or(|it| it == NO_EXECUTE)
        })
    };
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .into_iter()
        .filter(|taint| !is_configured(taint))
        .map(|taint| Toleration {
            key: Some(taint.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(NO_EXECUTE.to_owned()),
            toleration_seconds: Some(DEAD_NODE_SECONDS),
            value: None,
        })
        .chain(runner.tolerations.iter().cloned())
        .collect()
}

/// Optional, so that the runner can say which Secret or key is missing instead of a pod that never starts.
fn secret_volume(name: &str, secret: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            optional: Some(true),
            default_mode: Some(SECRET_MODE),
            items: None,
        }),
        ..Volume::default()
    }
}

fn container(policy: &MapaRefreshPolicy, plan: &Plan, task: &TaskPlan, runner: &RunnerSettings) -> Container {
    Container {
        name: RUNNER_CONTAINER.to_owned(),
        image: Some(plan.image.clone()),
        image_pull_policy: Some(runner.image_pull_policy.as_str().to_owned()),
        args: Some(vec!["run".to_owned(), task.name.to_string()]),
        env: Some(environment(policy, plan, task)),
        volume_mounts: Some(vec![
            secret_mount("database", env::DATABASE_SECRET_DIR),
            secret_mount("cache", env::CACHE_SECRET_DIR),
        ]),
        resources: Some(ResourceRequirements {
            requests: quantities(runner.requests.as_ref(), &[("cpu", "10m"), ("memory", "32Mi")]),
            limits: quantities(runner.limits.as_ref(), &[("memory", "256Mi")]),
            claims: None,
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        termination_message_path: Some(env::TERMINATION_MESSAGE_PATH.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        ..Container::default()
    }
}

fn secret_mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// The configured quantities, else the built-in ones; none of them is stored as no map.
fn quantities(
    configured: Option<&BTreeMap<String, Quantity>>,
    built_in: &[(&str, &str)],
) -> Option<BTreeMap<String, Quantity>> {
    let quantities = configured.cloned().unwrap_or_else(|| {
        let built_in = built_in.iter();
        built_in
            .map(|(name, quantity)| ((*name).to_owned(), Quantity((*quantity).to_owned())))
            .collect()
    });
    (!quantities.is_empty()).then_some(quantities)
}

fn environment(policy: &MapaRefreshPolicy, plan: &Plan, task: &TaskPlan) -> Vec<EnvVar> {
    let meta = &policy.metadata;
    let spec = &policy.spec;
    let mut variables = vec![
        scalar(env::POLICY_NAMESPACE, meta.namespace.clone().unwrap_or_default()),
        scalar(env::POLICY_NAME, meta.name.clone().unwrap_or_default()),
        scalar(env::POLICY_UID, meta.uid.clone().unwrap_or_default()),
        scalar(env::TARGET, plan.target.clone()),
        field(env::POD_UID, "metadata.uid".to_owned()),
        field(env::JOB_NAME, format!("metadata.labels['{}']", labels::JOB_NAME)),
        scalar(env::DATABASE_KIND, spec.database.kind.to_string()),
        scalar(env::DATABASE_VIEW, spec.database.view.clone()),
        scalar(env::CACHE_KEY_PREFIX, spec.cache.key_prefix.clone()),
        scalar(env::TIME_ZONE, spec.time_zone.clone()),
        scalar(env::AREA, spec.area.clone()),
        scalar(env::INTERVAL_MINUTES, plan.interval.minutes().to_string()),
        scalar(
            env::MAX_DATA_AGE_MINUTES,
            (plan.max_data_age.as_secs() / 60).max(1).to_string(),
        ),
        scalar(
            env::POLICY_TASKS,
            plan.tasks
                .iter()
                .map(|task| task.name.as_str())
                .collect::<Vec<_>>()
                .join(","),
        ),
        scalar(env::MAX_RETRIES, task.max_retries.to_string()),
        scalar(env::RETRY_DELAY_SECONDS, task.retry_delay_seconds.to_string()),
        scalar(env::ATTEMPT_TIMEOUT_SECONDS, task.attempt_timeout_seconds.to_string()),
        scalar(env::RUN_BUDGET_SECONDS, task.run_budget_seconds.to_string()),
    ];
    if let Some(lead) = task.view_lead_minutes {
        variables.push(scalar(env::VIEW_SLOT_LEAD_MINUTES, lead.to_string()));
    }
    if let Some(plausibility) = spec.plausibility {
        let Plausibility {
            max_drop_percent,
            max_drop_outages,
        } = plausibility;
        variables.push(scalar(
            env::MAX_DROP_PERCENT,
            max_drop_percent.clamp(1, 100).to_string(),
        ));
        let outages = max_drop_outages.clamp(0, 1_000_000);
        variables.push(scalar(env::MAX_DROP_OUTAGES, outages.to_string()));
    }
    if let Some(columns) = &spec.database.columns {
        let renamed: Vec<String> = columns
            .names()
            .into_iter()
            .filter(|(default, name)| default != name)
            .map(|(default, name)| format!("{default}={name}"))
            .collect();
        if !renamed.is_empty() {
            variables.push(scalar(env::DATABASE_COLUMNS, renamed.join(",")));
        }
    }
    variables
}

/// `$(NAME)` in a value would be expanded by Kubernetes; a doubled `$` is the documented way to write it literally.
fn scalar(name: &str, value: String) -> EnvVar {
    let value = if value.contains("$(") {
        value.replace('$', "$$")
    } else {
        value
    };
    // The API server drops an empty value; absent and empty are the same here, so both look the same after a round trip.
    EnvVar {
        name: name.to_owned(),
        value: (!value.is_empty()).then_some(value),
        value_from: None,
    }
}

fn field(name: &str, path: String) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: path,
            }),
            ..EnvVarSource::default()
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
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
            ..RunnerSettings::default()
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
    fn no_field_of_the_policy_reaches_the_pod_beside_scalars_in_the_environment_and_secret_names() {
        let plain = pod_of(&cron_jobs(serde_json::json!({}))[1]);
        let other = pod_of(
            &cron_jobs(serde_json::json!({
                "timeZone": "UTC", "maxDataAgeMinutes": 20,
                "database": { "kind": "oracle", "secretRef": { "name": "a" }, "view": "X.Y", "columns": { "causa": "MOTIVO" } },
                "cache": { "secretRef": { "name": "b" }, "keyPrefix": "outro" },
            }))[1],
        );
        let blank = |mut pod: PodSpec| {
            pod.containers[0].env = None;
            for volume in pod.volumes.as_mut().unwrap() {
                volume.secret.as_mut().unwrap().secret_name = None;
            }
            pod
        };
        assert_ne!(plain, other);
        assert_eq!(blank(plain), blank(other));
    }

    #[test]
    fn limits_of_plausibility_reach_the_runner_only_when_the_policy_has_them() {
        let limit = |spec, name: &str| {
            let pod = pod_of(&cron_jobs(spec)[1]);
            let env = pod.containers[0].env.clone().unwrap();
            env.into_iter().find(|variable| variable.name == name)?.value
        };
        assert_eq!(limit(serde_json::json!({}), env::MAX_DROP_PERCENT), None);
        let given = serde_json::json!({ "plausibility": { "maxDropPercent": 500 } });
        assert_eq!(
            limit(given.clone(), env::MAX_DROP_PERCENT).as_deref(),
            Some("100"),
            "got past admission"
        );
        assert_eq!(limit(given, env::MAX_DROP_OUTAGES).as_deref(), Some("20"));
    }

    #[test]
    fn a_configured_toleration_replaces_the_built_in_one_of_its_taint_only() {
        let of = |configured: serde_json::Value| {
            let settings = RunnerSettings {
                tolerations: serde_json::from_value(configured).unwrap(),
                ..RunnerSettings::default()
            };
            let list = tolerations(&settings);
            list.into_iter()
                .map(|it| (it.key.unwrap_or_default(), it.toleration_seconds))
                .collect::<Vec<_>>()
        };
        let [not_ready, unreachable] =
            ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(str::to_owned);
        assert_eq!(
            of(
                serde_json::json!([{ "key": not_ready, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5 }])
            ),
            [(unreachable.clone(), Some(30)), (not_ready.clone(), Some(5))]
        );
        assert_eq!(
            of(
                serde_json::json!([{ "operator": "Exists" }, { "key": not_ready, "effect": "NoSchedule", "operator": "Exists" }])
            ),
            [
                (not_ready.clone(), Some(30)),
                (unreachable, Some(30)),
                (String::new(), None),
                (not_ready, None)
            ]
        );
    }

    #[test]
    fn kubernetes_expands_nothing_in_a_policys_text() {
        assert_eq!(
            scalar("A", "X.$(MAPA_POD_UID)".into()).value.as_deref(),
            Some("X.$$(MAPA_POD_UID)")
        );
        assert_eq!(scalar("A", "SYS$X".into()).value.as_deref(), Some("SYS$X"));
    }

    #[test]
    fn the_evidence_fingerprint_sees_what_runs_and_ignores_where() {
        let pod = pod_of(&cron_jobs(serde_json::json!({}))[0]);
        let fingerprint = Fingerprint::of_evidence(&pod).unwrap();
        let mut placed = pod.clone();
        placed.node_name = Some("node-1".into());
        placed.priority = Some(7);
        assert_eq!(Fingerprint::of_evidence(&placed), Some(fingerprint));
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
            assert_ne!(Fingerprint::of_evidence(&forged), Some(fingerprint));
        }
        let mut sidecar = pod;
        sidecar.containers.push(Container::default());
        assert_eq!(Fingerprint::of_evidence(&sidecar), None);
    }
}
