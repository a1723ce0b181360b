//! Pure: the pod of a run, from a policy's plan and the operator's settings.
//!
//! Every field that the API server would default is written out: see [`crate::desired`].

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, EnvVar, EnvVarSource, KeyToPath, ObjectFieldSelector,
        PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext,
        Toleration, Volume, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use mapa_refresh_crds::{
    MapaRefreshPolicy, labels,
    policy::{DatabaseKind, Plausibility},
    runner_env as env,
};

use crate::{
    fingerprint::RUNNER_CONTAINER,
    settings::{CaBundle, RunnerSettings, UserIds},
    validate::{Plan, TaskPlan},
};

/// Seconds that Kubernetes waits after SIGTERM; the runner needs 5.
const GRACE_SECONDS: i64 = 10;
/// Seconds after which a run leaves a node that is gone.
const DEAD_NODE_SECONDS: i64 = 30;
/// User and group of the runner's process; the images have no other.
const NON_ROOT: i64 = 65_532;
/// Owner and group may read (octal 0440).
const SECRET_MODE: i32 = 0o440;

/// The pod in which the task's runs happen.
#[must_use]
pub fn pod(policy: &MapaRefreshPolicy, plan: &Plan, task: &TaskPlan, runner: &RunnerSettings) -> PodSpec {
    let mounts = mounts(policy, runner);
    let id = match runner.user_ids {
        UserIds::Auto | UserIds::Fixed => Some(NON_ROOT),
        UserIds::Platform => None,
    };
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
            run_as_user: id,
            run_as_group: id,
            fs_group: id,
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
        volumes: Some(mounts.iter().map(|mount| mount.volume.clone()).collect()),
        containers: vec![container(policy, plan, task, runner, mounts)],
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

/// A volume, and where the runner finds it.
struct Mount {
    volume: Volume,
    path: &'static str,
    /// Which variable tells the runner of it, and what; none for those that every run has.
    told: Option<(&'static str, String)>,
}

fn mounts(policy: &MapaRefreshPolicy, runner: &RunnerSettings) -> Vec<Mount> {
    let spec = &policy.spec;
    let always = |name, secret: &str, path| Mount {
        volume: secret_volume(name, secret),
        path,
        told: None,
    };
    let mut mounts = vec![
        always("database", &spec.database.secret_ref.name, env::DATABASE_SECRET_DIR),
        always("cache", &spec.cache.secret_ref.name, env::CACHE_SECRET_DIR),
    ];
    if let Some(bundle) = &runner.ca_bundle {
        mounts.push(Mount {
            volume: authorities_volume(bundle),
            path: env::CA_BUNDLE_DIR,
            told: Some((
                env::CA_BUNDLE,
                format!("{}/{}", env::CA_BUNDLE_DIR, env::CA_BUNDLE_FILE),
            )),
        });
    }
    // Nobody else has a use for it.
    if let (DatabaseKind::Oracle, Some(secret)) = (spec.database.kind, &runner.wallet_secret) {
        mounts.push(Mount {
            volume: secret_volume("wallet", secret),
            path: env::WALLET_SECRET_DIR,
            told: Some((env::WALLET_DIR, env::WALLET_SECRET_DIR.to_owned())),
        });
    }
    mounts
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

/// Optional for the same reason.
fn authorities_volume(bundle: &CaBundle) -> Volume {
    Volume {
        name: "authorities".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: bundle.config_map.clone(),
            optional: Some(true),
            default_mode: Some(SECRET_MODE),
            items: Some(vec![KeyToPath {
                key: bundle.key.clone(),
                path: env::CA_BUNDLE_FILE.to_owned(),
                mode: None,
            }]),
        }),
        ..Volume::default()
    }
}

fn container(
    policy: &MapaRefreshPolicy,
    plan: &Plan,
    task: &TaskPlan,
    runner: &RunnerSettings,
    mounts: Vec<Mount>,
) -> Container {
    let mut variables = environment(policy, plan, task, runner);
    let mut volume_mounts = Vec::new();
    for mount in mounts {
        variables.extend(mount.told.map(|(name, place)| scalar(name, place)));
        volume_mounts.push(VolumeMount {
            name: mount.volume.name,
            mount_path: mount.path.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    Container {
        name: RUNNER_CONTAINER.to_owned(),
        image: Some(plan.image.clone()),
        image_pull_policy: Some(runner.image_pull_policy.as_str().to_owned()),
        args: Some(vec!["run".to_owned(), task.name.to_string()]),
        env: Some(variables),
        volume_mounts: Some(volume_mounts),
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
        // Where the runner wrote no report, Kubernetes keeps the end of its log instead.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
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

fn environment(policy: &MapaRefreshPolicy, plan: &Plan, task: &TaskPlan, runner: &RunnerSettings) -> Vec<EnvVar> {
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
    // Numbers and texts: there is nothing that JSON could not hold.
    let definition = runner.areas.get(&spec.area).map(serde_json::to_string);
    if let Some(Ok(definition)) = definition {
        variables.push(scalar(env::AREA_DEFINITION, definition));
    }
    if let Some(lead) = task.view_lead_minutes {
        variables.push(scalar(env::VIEW_SLOT_LEAD_MINUTES, lead.to_string()));
    }
    if let Some(plausibility) = spec.plausibility {
        let Plausibility {
            max_drop_percent,
            max_drop_outages,
            max_quarantined_percent,
        } = plausibility;
        variables.push(scalar(
            env::MAX_DROP_PERCENT,
            max_drop_percent.clamp(1, 100).to_string(),
        ));
        let outages = max_drop_outages.clamp(0, 1_000_000);
        variables.push(scalar(env::MAX_DROP_OUTAGES, outages.to_string()));
        let quarantined = max_quarantined_percent.clamp(0, 100);
        variables.push(scalar(env::MAX_QUARANTINED_PERCENT, quarantined.to_string()));
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
mod tests {
    use super::*;
    use crate::desired::tests::{plan_of, policy};

    fn pod_with(extra: serde_json::Value, settings: &RunnerSettings) -> PodSpec {
        let policy = policy(extra);
        let plan = plan_of(&policy);
        pod(&policy, &plan, &plan.tasks[1], settings)
    }

    fn pod_of(extra: serde_json::Value) -> PodSpec {
        pod_with(extra, &RunnerSettings::default())
    }

    fn variable(pod: &PodSpec, name: &str) -> Option<String> {
        let env = pod.containers[0].env.clone().unwrap();
        env.into_iter().find(|variable| variable.name == name)?.value
    }

    #[test]
    fn no_field_of_the_policy_reaches_the_pod_beside_scalars_in_the_environment_and_secret_names() {
        let plain = pod_of(serde_json::json!({}));
        let other = pod_of(serde_json::json!({
            "timeZone": "UTC", "maxDataAgeMinutes": 20,
            "database": { "kind": "oracle", "secretRef": { "name": "a" }, "view": "X.Y", "columns": { "causa": "MOTIVO" } },
            "cache": { "secretRef": { "name": "b" }, "keyPrefix": "outro" },
        }));
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
        let limit = |spec, name: &str| variable(&pod_of(spec), name);
        assert_eq!(limit(serde_json::json!({}), env::MAX_DROP_PERCENT), None);
        let given = serde_json::json!({ "plausibility": { "maxDropPercent": 500, "maxQuarantinedPercent": -1 } });
        assert_eq!(
            limit(given.clone(), env::MAX_DROP_PERCENT).as_deref(),
            Some("100"),
            "got past admission"
        );
        assert_eq!(limit(given.clone(), env::MAX_DROP_OUTAGES).as_deref(), Some("20"));
        assert_eq!(limit(given, env::MAX_QUARANTINED_PERCENT).as_deref(), Some("0"));
        let defaults = serde_json::json!({ "plausibility": {} });
        assert_eq!(limit(defaults, env::MAX_QUARANTINED_PERCENT).as_deref(), Some("50"));
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
    fn authorities_and_wallet_for_all_are_mounted_where_the_runner_is_told_and_the_wallet_for_oracle_only() {
        let settings = RunnerSettings {
            ca_bundle: Some(CaBundle {
                config_map: "corporate".to_owned(),
                key: "bundle.pem".to_owned(),
            }),
            wallet_secret: Some("wallet".to_owned()),
            ..RunnerSettings::default()
        };
        let oracle = serde_json::json!({ "database": { "kind": "oracle", "secretRef": { "name": "a" } } });
        let pod = pod_with(oracle, &settings);
        let volumes = pod.volumes.clone().unwrap();
        let bundle = volumes.iter().find_map(|volume| volume.config_map.clone()).unwrap();
        let item = &bundle.items.as_ref().unwrap()[0];
        assert_eq!(
            (
                bundle.name.as_str(),
                bundle.optional,
                item.key.as_str(),
                item.path.as_str()
            ),
            ("corporate", Some(true), "bundle.pem", "ca.crt")
        );
        assert_eq!(
            variable(&pod, env::CA_BUNDLE).as_deref(),
            Some("/etc/mapa/authorities/ca.crt")
        );
        assert_eq!(variable(&pod, env::WALLET_DIR).as_deref(), Some("/etc/mapa/wallet"));
        let mounts = pod.containers[0].volume_mounts.clone().unwrap();
        let named = |list: Vec<String>| list.join(" ");
        assert_eq!(
            named(volumes.iter().map(|volume| volume.name.clone()).collect()),
            named(mounts.iter().map(|mount| mount.name.clone()).collect())
        );

        let postgresql = pod_with(serde_json::json!({}), &settings);
        assert_eq!(variable(&postgresql, env::WALLET_DIR), None);
        assert_eq!(postgresql.volumes.unwrap().len(), 3);
    }

    #[test]
    fn a_defined_area_reaches_the_runner_whole_and_a_built_in_one_by_name() {
        let definition = mapa_refresh_crds::area::Area::roraima();
        let settings = RunnerSettings {
            areas: BTreeMap::from([("AC".to_owned(), definition.clone())]),
            ..RunnerSettings::default()
        };
        let pod = pod_with(serde_json::json!({ "area": "AC" }), &settings);
        assert_eq!(variable(&pod, env::AREA).as_deref(), Some("AC"));
        let told = variable(&pod, env::AREA_DEFINITION).unwrap();
        assert_eq!(
            serde_json::from_str::<mapa_refresh_crds::area::Area>(&told).unwrap(),
            definition
        );
        let built_in = pod_with(serde_json::json!({}), &settings);
        assert_eq!(variable(&built_in, env::AREA_DEFINITION), None);
    }
}
