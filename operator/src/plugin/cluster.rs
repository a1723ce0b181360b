//! The cluster that kubectl would talk to.

use std::time::Duration;

use kube::{Api, Client, api::ListParams};
use mapa_refresh_crds::MapaRefreshPolicy;

use super::{arguments::ClusterArguments, error::PluginError, nearest::nearest};
use crate::kubeconfig::{self, Environment, Timeouts};

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
    /// There is no kubeconfig, or it is of no use. Nothing is asked of the cluster yet, and no credential plugin is run.
    pub fn connect(arguments: &ClusterArguments) -> Result<Self, PluginError> {
        let connection = kubeconfig::find(&arguments.asked(), &Environment::of_process())?;
        let namespace = connection.namespace.clone();
        let timeouts = Timeouts {
            connect: CONNECT_WITHIN,
            ..Timeouts::default()
        };
        // No retries: the user can run the command again.
        let client = connection.client(AGENT, timeouts)?.build();
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
