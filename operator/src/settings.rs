//! The operator's own configuration: how and where runs happen. Flags and environment; a policy never decides these.

use std::fmt;

use clap::{Parser, Subcommand, ValueEnum};
use mapa_refresh_crds::policy::DatabaseKind;

use crate::{explain::ExplainSettings, simulate::SimulateSettings};

const EXAMPLES: &str = "\
Examples:
  # Watch every namespace of the cluster that kubectl talks to
  mapa-refresh-operator run --runner-image ghcr.io/radar-dev/mapa-job-runner:0.1.0

  # Watch two namespaces only, with logs for a collector
  mapa-refresh-operator run --runner-image IMAGE --watch-namespace radar --watch-namespace radar-ac --log-format json

The cluster is found as kubectl finds it: KUBECONFIG, ~/.kube/config, or the service account of the pod.
SIGTERM stops the operator within 3 seconds; the CronJobs go on.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  # What will this policy do in the next hour, and can it hold its limit?
  mapa-refresh-operator explain policy.yaml

  # What is in the cluster, at a given moment, for a program
  kubectl get mapa-refresh -A -o yaml | mapa-refresh-operator explain - --at 2026-11-23T10:00:00Z --output json

Exit codes: 0 every policy is feasible; 1 one is not; 2 one is not valid (stderr names each field and what to write), or the file or an
argument is of no use.";

const SIMULATE_EXAMPLES: &str = "\
Examples:
  # One attempt in twenty fails, and one in a hundred takes 40 s: how often will the limit be exceeded?
  mapa-refresh-operator simulate policy.yaml --runs 100000 --failure-rate 0.05 --duration p50=3s,p99=40s

  # The database is down for 45 minutes every 30 days, for a program
  mapa-refresh-operator simulate policy.yaml --outage 45m/30d --output json

The operator's own engine decides on rescues and counts the breaches, under a virtual clock. The world is simulated: a CronJob controller that
misses no slot, runners that try again as theirs do, failures that are independent of each other, and nothing that fails for good.

Exit codes: 0 every policy has fewer than one breach a year; 1 one has more; 2 one is not valid (stderr names each field and what to
write), or the file or an argument is of no use.";

/// Keeps distributors' public outage maps fresh within the limit of REN 1.137/2025 Art. 106, and proves it.
#[derive(Debug, Parser)]
#[command(name = "mapa-refresh-operator", version, about, after_help = EXAMPLES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the operator's binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconcile the policies of a cluster until SIGTERM.
    #[command(after_help = EXAMPLES)]
    Run(Settings),
    /// Print what policies do in the next hour and whether they can hold their limit; needs no cluster.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainSettings),
    /// Simulate years of a policy and print how old its data gets; needs no cluster.
    #[command(after_help = SIMULATE_EXAMPLES)]
    Simulate(SimulateSettings),
}

/// Settings of `run`.
#[derive(Clone, Debug, Parser)]
pub struct Settings {
    /// How and where runs happen.
    #[command(flatten)]
    pub runner: RunnerSettings,

    /// Watch this namespace only; may be given more than once. Default: all namespaces
    #[arg(
        long = "watch-namespace",
        value_name = "NAMESPACE",
        env = "MAPA_WATCH_NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,

    /// Policies that are reconciled at the same time
    #[arg(long, value_name = "COUNT", env = "MAPA_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,

    /// Format of the logs on stderr; their level follows RUST_LOG, default info
    #[arg(long, value_name = "FORMAT", env = "MAPA_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How the runner's pods look, as far as it may be chosen.
#[derive(Clone, Debug, Default, Parser)]
pub struct RunnerSettings {
    /// Image of the job-runner
    #[arg(
        id = "runner_image",
        long = "runner-image",
        value_name = "IMAGE",
        env = "MAPA_RUNNER_IMAGE"
    )]
    pub image: Option<String>,

    /// Image of the job-runner for policies with database.kind oracle; default: --runner-image
    #[arg(
        id = "runner_image_oracle",
        long = "runner-image-oracle",
        value_name = "IMAGE",
        env = "MAPA_RUNNER_IMAGE_ORACLE"
    )]
    pub image_oracle: Option<String>,

    /// Service account of the runner's pods, in each policy's namespace; default: the namespace's own
    #[arg(
        long = "runner-service-account",
        value_name = "NAME",
        env = "MAPA_RUNNER_SERVICE_ACCOUNT"
    )]
    pub service_account: Option<String>,
}

impl RunnerSettings {
    /// The image that serves `kind`.
    #[must_use]
    pub fn image_for(&self, kind: DatabaseKind) -> Option<&str> {
        match kind {
            DatabaseKind::Oracle => self.image_oracle.as_deref().or(self.image.as_deref()),
            DatabaseKind::Postgresql => self.image.as_deref(),
        }
    }
}

/// Format of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
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
    fn the_oracle_image_serves_oracle_only_and_the_general_one_everything() {
        let both = RunnerSettings {
            image: Some("a".into()),
            image_oracle: Some("b".into()),
            ..RunnerSettings::default()
        };
        assert_eq!(both.image_for(DatabaseKind::Oracle), Some("b"));
        assert_eq!(both.image_for(DatabaseKind::Postgresql), Some("a"));
        let one = RunnerSettings {
            image: Some("a".into()),
            ..RunnerSettings::default()
        };
        assert_eq!(one.image_for(DatabaseKind::Oracle), Some("a"));
        let oracle = RunnerSettings {
            image_oracle: Some("b".into()),
            ..RunnerSettings::default()
        };
        assert_eq!(oracle.image_for(DatabaseKind::Postgresql), None);
    }
}
