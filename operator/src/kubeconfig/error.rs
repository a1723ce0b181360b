//! Why there is no cluster to talk to, and what to do about it.

use std::{io, path::PathBuf};

/// Why there is no way to a cluster, in one line.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Nothing names a cluster.
    #[error("no kubeconfig names a cluster{}, and this is no pod", not_there(missing))]
    NoCluster {
        /// Files that are named and not there.
        missing: Vec<PathBuf>,
    },
    /// A file can't be read.
    #[error("{}: can't read the {what}: {error}{}", path.display(), home(path))]
    Unreadable {
        /// What is in it.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file is no kubeconfig.
    #[error("{}: is no kubeconfig: {what}", path.display())]
    Malformed {
        /// Where it is.
        path: PathBuf,
        /// What is wrong, and where in it.
        what: String,
    },
    /// Something that is named is not there.
    #[error("there is no {kind} {name:?} in the kubeconfig{}", named(*by))]
    NoSuch {
        /// A context, cluster or user.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Who names it, unless it is a flag.
        by: Option<&'static str>,
    },
    /// What is chosen contradicts itself or lacks something.
    #[error("the kubeconfig can't be used: {}", .0.join("; "))]
    Invalid(Vec<String>),
    /// No client can be made of it.
    #[error("no client for the cluster: {0}")]
    Client(#[source] Box<kube::Error>),
}

impl ConnectionError {
    /// The remedy for a user of kubectl, beyond mending what is named.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NoCluster { .. } => Some(
                "set KUBECONFIG, or name a file by --kubeconfig; `kubectl config get-contexts` shows what there is"
                    .to_owned(),
            ),
            Self::NoSuch { kind, .. } => Some(format!("`kubectl config get-{kind}s` shows what there is")),
            Self::Client(_) => Some("look at the certificates of the kubeconfig's cluster and user".to_owned()),
            Self::Unreadable { .. } | Self::Malformed { .. } | Self::Invalid(_) => None,
        }
    }
}

fn not_there(missing: &[PathBuf]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let missing: Vec<_> = missing.iter().map(|path| path.display().to_string()).collect();
    format!(" ({}: not there)", missing.join(", "))
}

fn named(by: Option<&str>) -> String {
    by.map_or_else(String::new, |by| format!(", which {by} names"))
}

fn home(path: &std::path::Path) -> &'static str {
    let is_literal = path.components().any(|part| part.as_os_str() == "~");
    if is_literal {
        "; ~ is for shells: write the whole path"
    } else {
        ""
    }
}
