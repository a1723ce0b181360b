//! How the cluster is found and reached, in the rules of kubectl: for the plugin, the self-test and the operator alike.
//!
//! [`file`] reads and merges kubeconfigs, [`choice`] picks cluster, user and namespace, [`connection`] makes of it what a client needs:
//! authorities, certificates, [`login`] and [`proxy`]. kube's own loader differs from kubectl where it hurts: it ends at a file that is not
//! there, falls back to the pod's account when a kubeconfig is broken, compares `NO_PROXY` with the proxy, sends a token file's last line
//! break along, and runs a credential plugin for each client and each TLS setting that it makes. Its types, TLS and layers are used as they
//! are.
//!
//! Source: `tools/clientcmd`, `rest` and `transport` of <https://github.com/kubernetes/client-go/tree/v0.35.4>

pub mod choice;
pub mod connection;
pub mod error;
pub mod exec;
pub mod file;
pub mod id_token;
pub mod login;
pub mod pinned;
pub mod proxy;
pub mod route;
pub mod transport;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

pub use connection::Connection;
pub use error::ConnectionError;
pub use transport::Timeouts;

/// Connection flags of the command line. The kubeconfig supplies what is absent or empty.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// Context of it.
    pub context: Option<String>,
    /// Cluster of it.
    pub cluster: Option<String>,
    /// User of it.
    pub user: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// URL of the API server.
    pub server: Option<String>,
    /// Name that the API server's certificate must have.
    pub tls_server_name: Option<String>,
    /// File of the authorities that the API server's certificate is checked by.
    pub certificate_authority: Option<PathBuf>,
    /// Whether that certificate is not checked.
    pub insecure_skip_tls_verify: bool,
    /// Bearer token.
    pub token: Option<String>,
    /// File of the client's certificate.
    pub client_certificate: Option<PathBuf>,
    /// File of its key.
    pub client_key: Option<PathBuf>,
    /// User to act as.
    pub impersonate: Option<String>,
    /// Its UID.
    pub impersonate_uid: Option<String>,
    /// Its groups.
    pub impersonate_groups: Vec<String>,
}

/// The environment variables of a process.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// These.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = |(name, value): (&str, &str)| (name.into(), value.into());
        Self(variables.into_iter().map(owned).collect())
    }

    /// The value of a variable that is set and not empty.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        let value = self.0.get(OsStr::new(name))?;
        (!value.is_empty()).then_some(value.as_os_str())
    }

    /// The same, if it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        Some(self.value(name)?.to_str()?.to_owned())
    }
}

/// Finds the cluster that kubectl would talk to. Nothing is asked of it, and no credential plugin is run.
///
/// # Errors
/// No kubeconfig names a cluster and this is no pod, or what is named is of no use.
pub fn find(asked: &Asked, environment: &Environment) -> Result<Connection, ConnectionError> {
    let account = Path::new(connection::ACCOUNT);
    let files = file::Files::named(asked.kubeconfig.as_deref(), environment);
    let read = files.read()?;
    match choice::choose(&read.kubeconfig, asked, environment)? {
        Some(chosen) => Connection::of(chosen, environment),
        None if connection::is_pod(environment, account) => Connection::of_pod(asked, environment, account),
        None => Err(ConnectionError::NoCluster { missing: read.missing }),
    }
}
