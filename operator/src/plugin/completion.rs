//! `kubectl mapa completion`: scripts for shells, and the words that they offer.

use std::{ffi::OsStr, time::Duration};

use clap::CommandFactory;
use clap_complete::{CompletionCandidate, engine::complete};
use kube::{Api, api::ListParams};
use mapa_refresh_crds::MapaRefreshPolicy;

use super::{
    WELL,
    arguments::{Arguments, ClusterArguments, CompleteArguments, CompletionArguments},
    cluster::Cluster,
    error::PluginError,
    terminal::{harmless, print},
};

/// What kubectl runs for `kubectl mapa <TAB>`.
///
/// Source: <https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/#completion>
const KUBECTL_SCRIPT: &str = "#!/bin/sh\n# Called by kubectl's own completion with the words after `kubectl mapa`.\nexec kubectl-mapa __complete \"$@\"\n";

/// The last line of the answer to kubectl: no names of files.
const NO_FILES: &str = ":4";

/// Somebody presses a key: later than this nothing is offered.
const OFFER_WITHIN: Duration = Duration::from_secs(3);

/// Prints the script.
///
/// # Errors
/// It cannot be printed.
pub fn print_script(asked: &CompletionArguments) -> Result<u8, PluginError> {
    let script = match asked.shell {
        Some(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut plain_command(), "kubectl-mapa", &mut script);
            String::from_utf8_lossy(&script).into_owned()
        }
        None => KUBECTL_SCRIPT.to_owned(),
    };
    print(&script)?;
    Ok(WELL)
}

/// The command under the name of its binary: a script cannot complete a name of two words.
fn plain_command() -> clap::Command {
    Arguments::command().bin_name("kubectl-mapa")
}

/// Prints what may stand for the last word, one a line, in the words of kubectl.
///
/// # Errors
/// It cannot be printed.
pub fn candidates(asked: &CompleteArguments) -> Result<u8, PluginError> {
    print(&offered(&mut Arguments::command(), asked))?;
    Ok(WELL)
}

fn offered(command: &mut clap::Command, asked: &CompleteArguments) -> String {
    let words: Vec<_> = std::iter::once("kubectl-mapa".into())
        .chain(asked.words.iter().cloned())
        .collect();
    let last = words.len().saturating_sub(1);
    let mut lines = String::new();
    for candidate in complete(command, words, last, None).unwrap_or_default() {
        if candidate.is_hide_set() {
            continue;
        }
        let value = harmless(&candidate.get_value().to_string_lossy());
        match candidate.get_help() {
            Some(help) => lines.push_str(&format!("{value}\t{}\n", harmless(&help.to_string()))),
            None => lines.push_str(&format!("{value}\n")),
        }
    }
    lines + NO_FILES + "\n"
}

/// Names of policies that begin with `current`, of the namespace that the line says; none when the cluster does not answer in time.
#[must_use]
pub fn policy_names(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else {
        return Vec::new();
    };
    let line: Vec<String> = std::env::args().collect();
    names(&cluster_of(&line))
        .unwrap_or_default()
        .into_iter()
        .filter(|name| name.starts_with(current))
        .map(CompletionCandidate::new)
        .collect()
}

/// Which cluster an unfinished line means.
fn cluster_of(line: &[String]) -> ClusterArguments {
    let mut cluster = ClusterArguments::default();
    let after = |flag: &str, word: &str, next: Option<&String>| match word.strip_prefix(flag)? {
        "" => next.cloned(),
        rest => rest.strip_prefix('=').map(str::to_owned),
    };
    for (position, word) in line.iter().enumerate() {
        let next = line.get(position + 1);
        let value = |flag| after(flag, word, next);
        if let Some(namespace) = value("--namespace").or_else(|| value("-n")) {
            cluster.namespace = Some(namespace);
        } else if let Some(context) = value("--context") {
            cluster.context = Some(context);
        } else if let Some(file) = value("--kubeconfig") {
            cluster.kubeconfig = Some(file.into());
        } else if let Some(name) = value("--cluster") {
            cluster.cluster = Some(name);
        } else if let Some(name) = value("--user") {
            cluster.user = Some(name);
        } else if let Some(user) = value("--as") {
            cluster.act_as = Some(user);
        } else if let Some(group) = value("--as-group") {
            cluster.act_as_groups.push(group);
        }
    }
    cluster
}

fn names(arguments: &ClusterArguments) -> Option<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let names = async {
        let cluster = Cluster::connect(arguments).ok()?;
        let policies: Api<MapaRefreshPolicy> = cluster.policies();
        let list = policies.list_metadata(&ListParams::default().limit(500)).await.ok()?;
        Some(
            list.items
                .into_iter()
                .filter_map(|policy| policy.metadata.name)
                .collect(),
        )
    };
    let names = runtime.block_on(async { tokio::time::timeout(OFFER_WITHIN, names).await.ok().flatten() });
    // Completion must not wait for a credential plugin's login.
    runtime.shutdown_background();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(words: &[&str]) -> String {
        let asked = CompleteArguments {
            words: words.iter().map(Into::into).collect(),
        };
        offered(&mut Arguments::command(), &asked)
    }

    #[test]
    fn kubectl_is_offered_sub_commands_flags_and_values_and_no_files() {
        let commands = offer(&[""]);
        for command in [
            "status\t",
            "runs\t",
            "trigger\t",
            "explain\t",
            "doctor\t",
            "completion\t",
        ] {
            assert!(commands.lines().any(|line| line.starts_with(command)), "{commands}");
        }
        assert!(!commands.contains("__complete"), "{commands}");
        assert_eq!(commands.lines().last(), Some(NO_FILES));
        assert!(
            offer(&["status", "--wa"]).starts_with("--watch"),
            "{}",
            offer(&["status", "--wa"])
        );
        assert!(
            offer(&["status", "-o", "j"]).starts_with("json"),
            "{}",
            offer(&["status", "-o", "j"])
        );
    }

    #[test]
    fn an_unfinished_line_says_its_namespace_in_every_spelling() {
        for words in [&["-n", "radar"][..], &["--namespace", "radar"], &["--namespace=radar"]] {
            let line: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(cluster_of(&line).namespace.as_deref(), Some("radar"), "{words:?}");
        }
    }

    #[test]
    fn there_is_a_script_for_every_shell() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut plain_command(), "kubectl-mapa", &mut script);
            assert!(String::from_utf8(script).unwrap().contains("kubectl-mapa"), "{shell}");
        }
    }
}
