//! The operators that Deployments of the cluster run, with the settings that the chart gave them.

use k8s_openapi::api::{
    apps::v1::Deployment,
    coordination::v1::Lease,
    core::v1::{ConfigMap, PodSpec},
};
use kube::{Api, Client, Resource, api::ListParams};

use crate::{config_file::ConfigFile, settings::LEASE_NAME};

/// Labels of the chart's Deployment, whatever the release is called.
pub const LABELS: &str = "app.kubernetes.io/part-of=mapa-refresh,app.kubernetes.io/component=operator";
/// Key of the ConfigMap that holds the settings.
const SETTINGS: &str = "config.yaml";

/// An operator that a Deployment runs.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Namespace of the Deployment.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its pods that are ready.
    pub ready: i32,
    /// Label selector of its pods: `a=b,c=d`.
    pub selector: String,
    /// Account of its pods.
    pub account: String,
    /// What it was told; absent where that may not be read, or is not understood.
    pub settings: Option<ConfigFile>,
    /// The Lease that its settings name, if it is there and may be read.
    pub lease: Option<Lease>,
}

/// Finds them in `namespace`, or in all.
///
/// # Errors
/// Deployments may not be listed there.
pub async fn find(client: &Client, namespace: Option<&str>) -> kube::Result<Vec<Installed>> {
    let deployments: Vec<Deployment> = list(client, namespace, &ListParams::default().labels(LABELS)).await?;
    let mut found = Vec::new();
    for deployment in deployments {
        found.push(read(client, deployment).await);
    }
    Ok(found)
}

/// The `K`s of `namespace`, or of all.
///
/// # Errors
/// They may not be listed there.
pub async fn list<K>(client: &Client, namespace: Option<&str>, which: &ListParams) -> kube::Result<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    api.list(which).await.map(|list| list.items)
}

async fn read(client: &Client, deployment: Deployment) -> Installed {
    let namespace = deployment.metadata.namespace.unwrap_or_default();
    let ready = deployment.status.and_then(|status| status.ready_replicas);
    let spec = deployment.spec.unwrap_or_default();
    // Without labels it would be every pod of the namespace.
    let labels = spec.selector.match_labels.filter(|labels| !labels.is_empty());
    let labels = labels
        .or(spec.template.metadata.and_then(|metadata| metadata.labels))
        .unwrap_or_default();
    let selector: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    let pod = spec.template.spec.unwrap_or_default();
    let settings = settings(client, &namespace, &pod).await;
    let lease = match settings.as_ref().and_then(|settings| lease_of(settings, &namespace)) {
        Some((place, name)) => Api::namespaced(client.clone(), &place)
            .get_opt(&name)
            .await
            .ok()
            .flatten(),
        None => None,
    };
    Installed {
        name: deployment.metadata.name.unwrap_or_default(),
        ready: ready.unwrap_or_default(),
        selector: selector.join(","),
        account: pod.service_account_name.unwrap_or_else(|| "default".to_owned()),
        namespace,
        settings,
        lease,
    }
}

/// Of the volumes of `pod`, the one that holds the settings.
async fn settings(client: &Client, namespace: &str, pod: &PodSpec) -> Option<ConfigFile> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let volumes = pod.volumes.iter().flatten();
    for name in volumes.filter_map(|volume| Some(&volume.config_map.as_ref()?.name)) {
        let Ok(Some(config_map)) = config_maps.get_opt(name).await else {
            continue;
        };
        if let Some(text) = config_map.data.and_then(|mut data| data.remove(SETTINGS)) {
            return ConfigFile::parse(&text).ok();
        }
    }
    None
}

/// Namespace and name of the Lease, if there is to be one.
fn lease_of(settings: &ConfigFile, namespace: &str) -> Option<(String, String)> {
    let election = &settings.leader_election;
    (election.enabled != Some(false)).then(|| {
        let place = election.lease_namespace.as_deref().unwrap_or(namespace);
        let name = election.lease_name.as_deref().unwrap_or(LEASE_NAME);
        (place.to_owned(), name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_is_the_one_of_the_settings_and_there_is_none_without_election() {
        let lease = |text: &str| lease_of(&ConfigFile::parse(text).unwrap(), "mapa-system");
        let named = |place: &str, name: &str| Some((place.to_owned(), name.to_owned()));
        assert_eq!(lease(""), named("mapa-system", "mapa-refresh-operator"));
        assert_eq!(
            lease("leaderElection: { leaseName: radar-operator, leaseNamespace: radar }"),
            named("radar", "radar-operator")
        );
        assert_eq!(lease("leaderElection: { enabled: false, leaseName: x }"), None);
    }
}
