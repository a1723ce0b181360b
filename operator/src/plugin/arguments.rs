//! The command line of `kubectl mapa`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand,
    builder::{OsStringValueParser, TypedValueParser},
};
use clap_complete::{Shell, engine::ArgValueCompleter};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{completion::policy_names, output::Format};
use crate::kubeconfig::Asked;

const EXAMPLES: &str = "\
Examples:
  kubectl mapa status -A                    How old is what each policy publishes, and is that within its limit?
  kubectl mapa runs roraima                 What did the last runs do?
  kubectl mapa trigger roraima --wait       Run every task now and wait until it is published
  kubectl mapa explain roraima              Can the policy hold its limit, at the paces that were seen?
  kubectl mapa doctor                       What is wrong, and what to do about it?

Exit codes: 0 all is well; 1 something is not, or is not known; 2 the question was wrong or the cluster does not answer it. Each command's help
says what that means for it.";

const STATUS_EXAMPLES: &str = "\
Examples:
  # The policies of this namespace, of all namespaces, of one utility
  kubectl mapa status
  kubectl mapa status -A -o wide
  kubectl mapa status -A -l utility=roraima

  # In a script: complain when a map is too old, or when nobody knows
  kubectl mapa status roraima -n radar > /dev/null || echo 'look at roraima'

  # Live
  kubectl mapa status -A --watch

A policy whose Compliant=True has outlived compliantUntil is Unknown: the operator that would have said otherwise is silent.

Exit codes: 0 every policy is compliant; 1 one is not, or is Unknown, or there is no policy; 2 bad usage, a named policy does not exist, or no
access to the cluster.";

const RUNS_EXAMPLES: &str = "\
Examples:
  # The last five runs of each task whose Jobs still exist, and what the status keeps of those that are gone
  kubectl mapa runs roraima

  # Every attempt of every run that still exists, for a program
  kubectl mapa runs roraima --last 100 -o json

Exit codes: 0 the last run of each task succeeded; 1 one failed, or a task has not run yet; 2 bad usage, no such policy, or no access to the
cluster.";

const TRIGGER_EXAMPLES: &str = "\
Examples:
  # Ask the operator for one run of each task
  kubectl mapa trigger roraima

  # The same, and wait until it is published or has failed
  kubectl mapa trigger roraima --wait --timeout 5m

Exit codes: 0 asked for, with --wait published; 1 a run failed, or another request replaced this one; 2 bad usage, no such policy, or no access
to the cluster; 3 neither published nor failed within --timeout.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  # The schedule of the next hour, and the sum of what a policy's data can age, at the paces that its runs had
  kubectl mapa explain roraima

  # For a program, at a given moment
  kubectl mapa explain roraima --at 2026-11-23T10:00:00Z -o json

The same without a cluster, from a file: mapa-refresh-operator explain policy.yaml

Exit codes: 0 the policy is feasible; 1 it is not; 2 it is not valid, does not exist, or no access to the cluster.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  # Everything that can be checked from here about this namespace
  kubectl mapa doctor -n radar

  # The checks that failed, for a program
  kubectl mapa doctor -A -o json | jq '.checks[] | select(.verdict == \"Failed\")'

It writes nothing, and prints names of Secrets and of their keys, never a value.

Exit codes: 0 no check failed (what can't be seen from here is no failure); 1 one failed; 2 bad usage or no access to the cluster.";

const COMPLETION_EXAMPLES: &str = "\
Examples:
  # For `kubectl mapa <TAB>`: a script of this name beside the plugin, on the PATH; kubectl's own completion calls it
  kubectl mapa completion --kubectl > ~/.local/bin/kubectl_complete-mapa && chmod +x ~/.local/bin/kubectl_complete-mapa

  # For `kubectl-mapa <TAB>`
  source <(kubectl mapa completion bash)";

/// Policies of public outage maps: how old their data is, what their runs did, and what is wrong.
#[derive(Debug, Parser)]
#[command(name = "kubectl-mapa", bin_name = "kubectl mapa", version, about, after_help = EXAMPLES)]
pub struct Arguments {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster and namespace, and as whom, in the words of kubectl.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArguments {
    /// Kubeconfig file; default: those in KUBECONFIG, then ~/.kube/config, then the pod's service account
    #[arg(long, global = true, value_name = "FILE", value_parser = path())]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig; default: its current one
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,

    /// Namespace; default: that of the context
    #[arg(long, short, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Cluster of the kubeconfig; default: that of the context
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub cluster: Option<String>,

    /// User of the kubeconfig; default: that of the context
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub user: Option<String>,

    /// URL of the API server; default: that of the cluster
    #[arg(long, short, global = true, value_name = "URL", hide_short_help = true)]
    pub server: Option<String>,

    /// Name that the API server's certificate must have; default: that of its URL
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub tls_server_name: Option<String>,

    /// File of the authorities by which the API server's certificate is checked
    #[arg(long, global = true, value_name = "FILE", value_parser = path(), hide_short_help = true)]
    pub certificate_authority: Option<PathBuf>,

    /// Do not check the API server's certificate: anybody on the way can read and change everything
    #[arg(long, global = true, hide_short_help = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub insecure_skip_tls_verify: Option<bool>,

    /// Bearer token
    #[arg(long, global = true, value_name = "TOKEN", hide_short_help = true)]
    pub token: Option<String>,

    /// File of the client's certificate
    #[arg(long, global = true, value_name = "FILE", value_parser = path(), hide_short_help = true)]
    pub client_certificate: Option<PathBuf>,

    /// File of the certificate's key
    #[arg(long, global = true, value_name = "FILE", value_parser = path(), hide_short_help = true)]
    pub client_key: Option<PathBuf>,

    /// User to act as
    #[arg(long = "as", global = true, value_name = "USER", hide_short_help = true)]
    pub act_as: Option<String>,

    /// Group to act as, with --as; may be given several times
    #[arg(long = "as-group", global = true, value_name = "GROUP", hide_short_help = true)]
    pub act_as_groups: Vec<String>,

    /// UID to act as, with --as
    #[arg(long = "as-uid", global = true, value_name = "UID", hide_short_help = true)]
    pub act_as_uid: Option<String>,
}

impl ClusterArguments {
    /// What is asked of the kubeconfig.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            user: self.user.clone(),
            namespace: self.namespace.clone(),
            server: self.server.clone(),
            tls_server_name: self.tls_server_name.clone(),
            certificate_authority: self.certificate_authority.clone(),
            insecure_skip_tls_verify: self.insecure_skip_tls_verify.unwrap_or(false),
            token: self.token.clone(),
            client_certificate: self.client_certificate.clone(),
            client_key: self.client_key.clone(),
            impersonate: self.act_as.clone(),
            impersonate_uid: self.act_as_uid.clone(),
            impersonate_groups: self.act_as_groups.clone(),
        }
    }
}

/// What `kubectl mapa` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print how old each policy's data is, whether that is within its limit, and why not.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArguments),
    /// Print the last runs of a policy: attempts, durations, errors.
    #[command(after_help = RUNS_EXAMPLES)]
    Runs(RunsArguments),
    /// Ask for one run of each task of a policy now.
    #[command(after_help = TRIGGER_EXAMPLES)]
    Trigger(TriggerArguments),
    /// Print the next hour of a policy and the sum that says whether it can hold its limit.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArguments),
    /// Check the installation and the policies; each complaint comes with its remedy.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArguments),
    /// Print a script for shell completion.
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completion(CompletionArguments),
    /// What kubectl's completion asks.
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete(CompleteArguments),
}

/// Arguments of `status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArguments {
    /// Names of policies; default: all of the namespace
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(policy_names))]
    pub names: Vec<String>,

    /// Policies of all namespaces; wins over --namespace
    #[arg(long, short = 'A', conflicts_with = "names")]
    pub all_namespaces: bool,

    /// Policies with these labels, as kubectl's -l
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with = "names")]
    pub selector: Option<String>,

    /// Format
    #[arg(long, short, value_name = "FORMAT", default_value_t = Format::Table)]
    pub output: Format,

    /// Go on: redraw every second on a terminal, else print the table again when a policy changes; until Ctrl-C
    #[arg(long, short)]
    pub watch: bool,
}

/// Arguments of `runs`.
#[derive(Args, Clone, Debug)]
pub struct RunsArguments {
    /// Name of the policy
    #[arg(value_name = "POLICY", add = ArgValueCompleter::new(policy_names))]
    pub policy: String,

    /// Most runs of each task, the newest
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub last: u16,

    /// Format
    #[arg(long, short, value_name = "FORMAT", default_value_t = Format::Table)]
    pub output: Format,
}

/// Arguments of `trigger`.
#[derive(Args, Clone, Debug)]
pub struct TriggerArguments {
    /// Name of the policy
    #[arg(value_name = "POLICY", add = ArgValueCompleter::new(policy_names))]
    pub policy: String,

    /// Wait until the runs have published or failed
    #[arg(long, short)]
    pub wait: bool,

    /// Longest wait, as 90s, 5m or 1h
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration, requires = "wait")]
    pub timeout: Duration,

    /// Format of what became of it; the steps on the way go to stderr
    #[arg(long, short, value_name = "FORMAT", default_value_t = Format::Table)]
    pub output: Format,
}

/// Arguments of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArguments {
    /// Name of the policy
    #[arg(value_name = "POLICY", add = ArgValueCompleter::new(policy_names))]
    pub policy: String,

    /// The moment at which the hour begins, RFC 3339; default: now
    #[arg(long, value_name = "MOMENT")]
    pub at: Option<Timestamp>,

    /// Format
    #[arg(long, short, value_name = "FORMAT", default_value_t = Format::Table)]
    pub output: Format,
}

/// Arguments of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArguments {
    /// Policies of all namespaces; wins over --namespace
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,

    /// Namespace of the operator; default: all are searched, which needs permission to do so
    #[arg(long, value_name = "NAMESPACE")]
    pub operator_namespace: Option<String>,

    /// Format
    #[arg(long, short, value_name = "FORMAT", default_value_t = Format::Table)]
    pub output: Format,
}

/// Arguments of `completion`.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct CompletionArguments {
    /// For the plugin called by its own name, kubectl-mapa
    #[arg(value_name = "SHELL")]
    pub shell: Option<Shell>,

    /// The script kubectl_complete-mapa, which kubectl's own completion looks for on the PATH
    #[arg(long)]
    pub kubectl: bool,
}

/// What kubectl hands over: the words after `kubectl mapa`, the one to complete last.
#[derive(Args, Clone, Debug)]
pub struct CompleteArguments {
    /// The words.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

/// A path; an empty one counts as absent, as for kubectl.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Reads 90s, 5m, 1h30m.
fn duration(text: &str) -> Result<Duration, String> {
    let usage = || format!("{text:?} is no duration: write 90s, 5m or 1h");
    let duration: SignedDuration = text.parse().map_err(|_| usage())?;
    Duration::try_from(duration).map_err(|_| usage())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_namespace_may_stand_before_or_after_the_sub_command() {
        for line in [
            ["kubectl-mapa", "-n", "radar", "status"],
            ["kubectl-mapa", "status", "-n", "radar"],
        ] {
            let arguments = Arguments::parse_from(line);
            assert_eq!(arguments.cluster.namespace.as_deref(), Some("radar"));
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            vec!["kubectl-mapa", "status", "roraima", "-A"],
            vec!["kubectl-mapa", "status", "roraima", "-l", "a=b"],
            vec!["kubectl-mapa", "trigger", "roraima", "--timeout", "5m"],
            vec!["kubectl-mapa", "trigger", "roraima", "--wait", "--timeout", "soon"],
            vec!["kubectl-mapa", "completion"],
            vec!["kubectl-mapa", "completion", "bash", "--kubectl"],
        ] {
            assert_eq!(Arguments::try_parse_from(&line).unwrap_err().exit_code(), 2, "{line:?}");
        }
        let Command::Trigger(asked) =
            Arguments::parse_from(["kubectl-mapa", "trigger", "x", "--wait", "--timeout=1m30s"]).command
        else {
            panic!("another command");
        };
        assert_eq!(asked.timeout, Duration::from_secs(90));
    }
}
