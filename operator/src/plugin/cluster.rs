//! The cluster that kubectl would talk to.

use std::time::Duration;

use http::{HeaderValue, header::USER_AGENT};
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use mapa_refresh_crds::MapaRefreshPolicy;

use super::{arguments::ClusterArguments, error::PluginError, nearest::nearest};

/// How long the way to the API server may take: somebody is waiting.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// What it calls itself in every request.
const AGENT: &str = concat!("kubectl-mapa/", env!("CARGO_PKG_VERSION"));

/// A client, and the namespace that is meant when none is said.
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl Cluster {
    /// Finds the cluster as kubectl does.
    ///
    /// # Errors
    /// There is no kubeconfig, or it is of no use. Nothing is asked of the cluster yet.
    pub async fn connect(arguments: &ClusterArguments) -> Result<Self, PluginError> {
        let mut config = configuration(arguments).await?;
        config.connect_timeout = Some(CONNECT_WITHIN);
        // Its own repeats would wait for minutes; whoever asked can ask again.
        config.default_retry = false;
        config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
        let namespace = arguments
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| PluginError::Client(Box::new(error)))?;
        Ok(Self { client, namespace })
    }

    /// The policies of the namespace.
    #[must_use]
    pub fn policies(&self) -> Api<MapaRefreshPolicy> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What `error` means that came of asking for the policy `name`.
    pub async fn about_policy(&self, name: &str, error: kube::Error) -> PluginError {
        let action = format!("read the policy {}/{name}", self.namespace);
        match error {
            kube::Error::Api(status) if status.is_not_found() => {
                let existing = self.policies().list_metadata(&ListParams::default()).await;
                match existing {
                    Ok(list) => PluginError::NoSuchPolicy {
                        namespace: self.namespace.clone(),
                        name: name.to_owned(),
                        nearest: nearest(name, list.items.into_iter().filter_map(|policy| policy.metadata.name)),
                    },
                    // It may be that there is no such resource at all.
                    Err(error) => PluginError::of(action, error),
                }
            }
            error => PluginError::of(action, error),
        }
    }
}

async fn configuration(arguments: &ClusterArguments) -> Result<Config, PluginError> {
    let ClusterArguments {
        kubeconfig, context, ..
    } = arguments;
    let options = KubeConfigOptions {
        context: context.clone(),
        ..KubeConfigOptions::default()
    };
    let unusable = |error| PluginError::Kubeconfig {
        path: kubeconfig.clone(),
        error,
    };
    match (kubeconfig, context) {
        (Some(path), _) => {
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(unusable)
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(unusable),
        (None, None) => Config::infer().await.map_err(PluginError::NoCluster),
    }
}
