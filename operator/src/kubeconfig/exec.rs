//! Credential plugins: programs that a kubeconfig names, which print a token or a certificate.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins>

use std::{
    io::{self, IsTerminal},
    process::{Command, Stdio},
};

use k8s_openapi::jiff::Timestamp;
use kube::config::{ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use mapa_refresh_crds::report::clean;
use serde::Deserialize;
use serde_json::json;

use crate::yaml;

/// Longest line of a hint that is shown, in bytes.
const LONGEST_LINE: usize = 500;

/// A program that prints a credential.
#[derive(Clone, Debug)]
pub struct Plugin {
    config: ExecConfig,
    cluster: Option<ExecAuthCluster>,
}

/// What it printed.
pub struct Credential {
    /// Bearer token.
    pub token: Option<String>,
    /// Certificates and key as PEM.
    pub identity: Option<(String, String)>,
    /// Until when it holds; without one, until it is refused.
    pub expires: Option<Timestamp>,
}

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The program is not there.
    #[error("the kubeconfig's credential plugin {command} is not there: {error}{}", hinted(hint.as_deref()))]
    Missing {
        /// The program.
        command: String,
        /// Error of the operating system.
        error: io::Error,
        /// The `installHint` of the kubeconfig.
        hint: Option<String>,
    },
    /// It can't be run.
    #[error("can't run the kubeconfig's credential plugin {command}: {error}")]
    Run {
        /// The program.
        command: String,
        /// Why.
        error: io::Error,
    },
    /// It failed, and printed the reason to stderr.
    #[error("the kubeconfig's credential plugin {command} failed ({status}); what it says stands above")]
    Failed {
        /// The program.
        command: String,
        /// How.
        status: std::process::ExitStatus,
    },
    /// It needs a terminal.
    #[error(
        "the kubeconfig's credential plugin {command} wants to ask at a terminal (interactiveMode: Always), and stdin is none"
    )]
    NobodyToAsk {
        /// The program.
        command: String,
    },
    /// It printed what is none.
    #[error("the kubeconfig's credential plugin {command} printed no credential: {what}")]
    NoCredential {
        /// The program.
        command: String,
        /// What is wrong with it.
        what: String,
    },
}

fn hinted(hint: Option<&str>) -> String {
    let Some(hint) = hint else {
        return "\n  install it, or choose another user of the kubeconfig".to_owned();
    };
    let line = |line: &str| {
        let mut line = line.to_owned();
        clean(&mut line, LONGEST_LINE);
        format!("\n  {line}")
    };
    hint.trim().lines().map(line).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Printed {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    expiration_timestamp: Option<Timestamp>,
}

impl Plugin {
    /// The program of `config`, with the information about `cluster` that it asks for.
    #[must_use]
    pub fn of(config: &ExecConfig, cluster: Option<ExecAuthCluster>) -> Self {
        Self {
            config: config.clone(),
            cluster,
        }
    }

    fn command(&self) -> String {
        let mut command = self.config.command.clone().unwrap_or_default();
        clean(&mut command, LONGEST_LINE);
        command
    }

    fn version(&self) -> &str {
        self.config.api_version.as_deref().unwrap_or_default()
    }

    /// Runs it and waits for its end, which may be a login in a browser.
    ///
    /// # Errors
    /// It can't be run, fails, or prints no credential.
    pub fn run(&self) -> Result<Credential, ExecError> {
        let is_terminal = io::stdin().is_terminal();
        let asks = match self.config.interactive_mode {
            Some(ExecInteractiveMode::Always) if !is_terminal => {
                return Err(ExecError::NobodyToAsk {
                    command: self.command(),
                });
            }
            Some(ExecInteractiveMode::Never) => false,
            _ => is_terminal,
        };
        let mut command = Command::new(self.config.command.as_deref().unwrap_or_default());
        command.args(self.config.args.iter().flatten());
        for variable in self.config.env.iter().flatten() {
            if let Some(name) = variable.get("name") {
                command.env(name, variable.get("value").map_or("", String::as_str));
            }
        }
        command
            .env("KUBERNETES_EXEC_INFO", self.told(asks).to_string())
            .stdin(if asks { Stdio::inherit() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let output = command.output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => ExecError::Missing {
                command: self.command(),
                error,
                hint: self.config.install_hint.clone(),
            },
            _ => ExecError::Run {
                command: self.command(),
                error,
            },
        })?;
        if !output.status.success() {
            return Err(ExecError::Failed {
                command: self.command(),
                status: output.status,
            });
        }
        self.understand(&output.stdout).map_err(|what| ExecError::NoCredential {
            command: self.command(),
            what,
        })
    }

    /// Content of `KUBERNETES_EXEC_INFO`.
    fn told(&self, asks: bool) -> serde_json::Value {
        let mut told =
            json!({ "kind": "ExecCredential", "apiVersion": self.version(), "spec": { "interactive": asks } });
        if let (Some(cluster), Some(spec)) = (
            &self.cluster,
            told.get_mut("spec").and_then(|spec| spec.as_object_mut()),
        ) {
            spec.insert("cluster".to_owned(), json!(cluster));
        }
        told
    }

    /// What is printed is YAML or JSON. No error quotes it.
    fn understand(&self, printed: &[u8]) -> Result<Credential, String> {
        let text = std::str::from_utf8(printed).map_err(|_| "it is no text in UTF-8".to_owned())?;
        let none = || "it is no ExecCredential in JSON or YAML".to_owned();
        let mut value = yaml::first(text).map_err(|_| none())?;
        if let Some(status) = value.get_mut("status").and_then(|status| status.as_object_mut()) {
            status.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
        }
        let printed: Printed = serde_json::from_value(value).map_err(|_| none())?;
        if printed.kind != "ExecCredential" {
            return Err(none());
        }
        if printed.api_version != self.version() {
            let mut version = printed.api_version;
            clean(&mut version, LONGEST_LINE);
            return Err(format!(
                "its apiVersion is {version:?}, and the kubeconfig's {:?}: update the plugin, or write its kubeconfig anew",
                self.version()
            ));
        }
        let status = printed.status.ok_or("it has no status")?;
        let identity = match (status.client_certificate_data, status.client_key_data) {
            (Some(certificates), Some(key)) => Some((certificates, key)),
            (None, None) => None,
            _ => return Err("of certificate and key only one is there".to_owned()),
        };
        if status.token.is_none() && identity.is_none() {
            return Err("it has neither token nor certificate".to_owned());
        }
        Ok(Credential {
            token: status.token,
            identity,
            expires: status.expiration_timestamp,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(script: &str) -> Plugin {
        let config = serde_json::from_value(json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script],
            "env": [{ "name": "WHO", "value": "radar" }], "interactiveMode": "Never", "installHint": "get it\nfrom \u{1b}[1mthere",
        }))
        .unwrap();
        Plugin::of(&config, None)
    }

    fn printing(status: &str) -> Plugin {
        plugin(&format!(
            "echo 'kind: ExecCredential\napiVersion: client.authentication.k8s.io/v1\n{status}'"
        ))
    }

    #[test]
    fn a_plugin_is_told_and_asked() {
        let script = r#"
            case "$KUBERNETES_EXEC_INFO" in *'"interactive":false'*) ;; *) exit 3 ;; esac
            read -r line && exit 4
            printf '{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",'
            printf '"status": {"token": "%s", "expirationTimestamp": "2026-11-23T10:00:00Z", "clientKeyData": null}}' "$WHO""#;
        let credential = plugin(script).run().unwrap();
        assert_eq!(credential.token.as_deref(), Some("radar"));
        assert_eq!(credential.expires.unwrap().to_string(), "2026-11-23T10:00:00Z");
    }

    #[test]
    fn a_plugin_that_gives_none_is_named_with_the_reason() {
        let mut missing = plugin("");
        missing.config.command = Some("radar-login".to_owned());
        for (plugin, expected) in [
            (missing, "plugin radar-login is not there"),
            (plugin("exit 7"), "plugin sh failed (exit status: 7)"),
            (plugin("echo secret"), "printed no credential: it is no ExecCredential"),
            (printing("status:"), "it has no status"),
            (printing("status: {token: ''}"), "neither token nor certificate"),
            (printing("status: {clientKeyData: k}"), "only one is there"),
            (
                plugin("echo '{\"kind\": \"ExecCredential\", \"apiVersion\": \"v9\"}'"),
                "its apiVersion is \"v9\"",
            ),
        ] {
            let error = plugin.run().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_hint_for_a_missing_plugin_is_shown_and_does_nothing_to_a_terminal() {
        let mut missing = plugin("");
        missing.config.command = Some("radar-login".to_owned());
        let error = missing.run().map(|_| ()).unwrap_err().to_string();
        assert!(
            error.contains("\n  get it\n  from ") && !error.contains('\u{1b}'),
            "{error:?}"
        );
        missing.config.install_hint = None;
        let error = missing.run().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("install it, or choose another user"), "{error}");
    }
}
