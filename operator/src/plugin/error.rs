//! Why a question has no answer, and what to do about it.

use std::io;

use crate::kubeconfig::{ConnectionError, login::LoginError};

/// Why there is no answer. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No runtime.
    #[error("could not start the runtime: {0}")]
    Runtime(#[source] io::Error),
    /// There is no cluster to talk to.
    #[error("no cluster: {0}{remedy}", remedy = .0.remedy().map_or_else(String::new, |remedy| format!("\n  {remedy}")))]
    Connection(#[from] ConnectionError),
    /// Who asks can't be proved.
    #[error("could not {action}: {reason}")]
    Login {
        /// What was tried.
        action: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The cluster cannot be reached.
    #[error("could not {action}: the cluster does not answer: {reason}\n  look at `kubectl cluster-info`")]
    Unreachable {
        /// What was tried.
        action: String,
        /// Why.
        reason: String,
    },
    /// The API server does not know who asks.
    #[error(
        "could not {action}: the cluster refuses the credentials: {reason}\n  log in again; `kubectl auth whoami` tells who you are"
    )]
    Unauthorized {
        /// What was tried.
        action: String,
        /// Its words.
        reason: String,
    },
    /// It knows, and does not allow it.
    #[error(
        "could not {action}: not allowed: {reason}\n  ask an admin for a role: the chart aggregates what is needed into the cluster roles view (to read) and edit (to trigger); \
         `kubectl mapa doctor` lists what you may do"
    )]
    Forbidden {
        /// What was tried.
        action: String,
        /// Its words.
        reason: String,
    },
    /// The resource does not exist in the cluster.
    #[error(
        "could not {action}: the CustomResourceDefinition maparefreshpolicies.mapa.radar.dev is not installed\n  install the chart, or \
         `kubectl apply --server-side -f crds/maparefreshpolicies.yaml`; or is this another cluster? See --context"
    )]
    CrdMissing {
        /// What was tried.
        action: String,
    },
    /// There is no such policy.
    #[error("no policy {namespace}/{name}{}", did_you_mean(nearest))]
    NoSuchPolicy {
        /// Where it was looked for.
        namespace: String,
        /// The name.
        name: String,
        /// Names that may have been meant.
        nearest: Vec<String>,
    },
    /// The API server answered something else.
    #[error("could not {action}: {reason}")]
    Api {
        /// What was tried.
        action: String,
        /// Its words.
        reason: String,
    },
    /// What it answered is not what was asked for.
    #[error(
        "could not {action}: its answer is not understood: {reason}\n  is the plugin older than the operator? `kubectl mapa doctor` compares them"
    )]
    Undecodable {
        /// What was tried.
        action: String,
        /// Where.
        reason: String,
    },
    /// The command line asks for what does not go together.
    #[error("{0}")]
    Usage(&'static str),
    /// The policy cannot be carried out as written.
    #[error("the policy {policy} is not valid:\n  {}", problems.join("\n  "))]
    Invalid {
        /// Namespace and name.
        policy: String,
        /// Each field, and what to write.
        problems: Vec<String>,
    },
    /// The answer cannot be printed.
    #[error("could not print: {0}")]
    Print(#[source] io::Error),
}

impl PluginError {
    /// What `error` means for somebody who tried to `action`.
    #[must_use]
    pub fn of(action: impl Into<String>, error: kube::Error) -> Self {
        let action = action.into();
        match error {
            kube::Error::Api(status) => {
                let reason = status.message.clone();
                match status.code {
                    401 => Self::Unauthorized { action, reason },
                    403 => Self::Forbidden { action, reason },
                    // An object that is missing is named; a resource that is missing is not.
                    404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => {
                        Self::CrdMissing { action }
                    }
                    _ => Self::Api { action, reason },
                }
            }
            kube::Error::SerdeError(error) => Self::Undecodable {
                action,
                reason: error.to_string(),
            },
            other => match chain(&other).find_map(|error| error.downcast_ref::<LoginError>()) {
                Some(login) => Self::Login {
                    action,
                    reason: login.to_string(),
                },
                None => Self::Unreachable {
                    action,
                    // The outer errors add nothing but "failed".
                    reason: chain(&other).last().unwrap_or(&other).to_string(),
                },
            },
        }
    }
}

/// An error and its causes.
fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn did_you_mean(nearest: &[String]) -> String {
    if nearest.is_empty() {
        "\n  `kubectl mapa status -A` lists those that exist".to_owned()
    } else {
        format!("\n  did you mean {}?", nearest.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn said(code: u16, name: &str) -> String {
        let status: Status = serde_json::from_value(serde_json::json!({
            "code": code, "message": "words of the server", "reason": "X", "details": { "name": name },
        }))
        .unwrap();
        PluginError::of("list the policies", kube::Error::Api(Box::new(status))).to_string()
    }

    #[test]
    fn every_refusal_comes_with_what_to_do() {
        assert!(said(401, "").contains("log in again"));
        assert!(said(403, "").contains("ask an admin for a role"));
        assert!(said(404, "").contains("crds/maparefreshpolicies.yaml"));
        assert_eq!(said(500, ""), "could not list the policies: words of the server");
        assert_eq!(said(404, "roraima"), "could not list the policies: words of the server");
    }
}
