//! The operator's own configuration: how and where runs happen. Flags, environment and one file; a policy never decides these.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use k8s_openapi::{
    api::core::v1::{Affinity, LocalObjectReference, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};
use mapa_refresh_crds::{MapaRefreshPolicySpec, area::Area, policy::DatabaseKind};
use serde::Deserialize;

use crate::{
    collector::Collector,
    config_file::{ConfigError, ConfigFile},
    explain::ExplainSettings,
    listen::Listen,
    self_test::SelfTestSettings,
    simulate::SimulateSettings,
};

/// Policies that are reconciled at the same time, unless configured otherwise.
const CONCURRENCY: u16 = 8;

/// Name of the lease by which replicas agree on a leader, unless configured otherwise.
pub const LEASE_NAME: &str = "mapa-refresh-operator";

const EXAMPLES: &str = "\
Examples:
  # Watch every namespace of the cluster that kubectl talks to
  mapa-refresh-operator run --runner-image registry.example/mapa-job-runner:0.1.0

  # Watch two namespaces only, with logs for a collector
  mapa-refresh-operator run --runner-image IMAGE --watch-namespace radar --watch-namespace radar-ac --log-format json

  # Read everything from a file, as the Helm chart does; flags and environment win over it
  mapa-refresh-operator run --config /etc/mapa-refresh/config.yaml

The cluster is found as kubectl finds it: KUBECONFIG, ~/.kube/config, or the service account of the pod.
Of several operators with one lease one works, and another takes over within 20 seconds when it is killed.
SIGTERM hands the lease over and stops the operator within 3 seconds; the CronJobs go on.";

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

Exit codes: 0 every policy has fewer than one breach and fewer than one day with a breach a year; 1 one has more; 2 one is not valid or can
never publish (stderr names each field and what to write), or the file or an argument is of no use.";

const SELF_TEST_EXAMPLES: &str = "\
Examples:
  # Does the operator of the cluster that kubectl talks to carry out policies in this namespace?
  mapa-refresh-operator self-test --namespace radar --timeout-seconds 30

The policy is suspended from its beginning: no run starts. It needs create, get and delete of policies, and list of CronJobs.

Exit codes: 0 the policy got its CronJobs and became Ready, and is gone again; 1 not, stderr says why.";

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
    Run(RunArguments),
    /// Print what policies do in the next hour and whether they can hold their limit; needs no cluster.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainSettings),
    /// Simulate years of a policy and print how old its data gets; needs no cluster.
    #[command(after_help = SIMULATE_EXAMPLES)]
    Simulate(SimulateSettings),
    /// Apply a policy that starts nothing, wait until the operator of the cluster carries it out, and remove it; `helm test` runs it.
    #[command(after_help = SELF_TEST_EXAMPLES)]
    SelfTest(SelfTestSettings),
}

/// Flags and environment of `run`.
#[derive(Clone, Debug, Parser)]
pub struct RunArguments {
    /// YAML file with everything below and more about the runner's pods; flags and environment win over it
    #[arg(long, value_name = "FILE", env = "MAPA_CONFIG")]
    pub config: Option<PathBuf>,

    /// Image of the job-runner
    #[arg(long, value_name = "IMAGE", env = "MAPA_RUNNER_IMAGE")]
    pub runner_image: Option<String>,

    /// Image of the job-runner for policies with database.kind oracle; default: --runner-image
    #[arg(long, value_name = "IMAGE", env = "MAPA_RUNNER_IMAGE_ORACLE")]
    pub runner_image_oracle: Option<String>,

    /// Service account of the runner's pods, in each policy's namespace; default: the namespace's own
    #[arg(long, value_name = "NAME", env = "MAPA_RUNNER_SERVICE_ACCOUNT")]
    pub runner_service_account: Option<String>,

    /// Watch this namespace only; may be given more than once. Default: all namespaces
    #[arg(
        long = "watch-namespace",
        value_name = "NAMESPACE",
        env = "MAPA_WATCH_NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,

    /// Policies that are reconciled at the same time; default: 8
    #[arg(long, value_name = "COUNT", env = "MAPA_CONCURRENCY", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: Option<u16>,

    /// Work only while holding the lease, so that one of several operators works at a time; default: true
    #[arg(
        long,
        value_name = "BOOL",
        env = "MAPA_LEADER_ELECT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub leader_elect: Option<bool>,

    /// Name of the lease, the same for all operators of which one shall work; default: mapa-refresh-operator
    #[arg(long, value_name = "NAME", env = "MAPA_LEASE_NAME")]
    pub lease_name: Option<String>,

    /// Namespace of the lease; default: the operator's own, or that of the kubeconfig's context
    #[arg(long, value_name = "NAMESPACE", env = "MAPA_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Name of this operator in the lease; default: the host's, which in a pod is the pod's
    #[arg(long, value_name = "NAME", env = "MAPA_REPLICA_NAME")]
    pub replica_name: Option<String>,

    /// Format of the logs on stderr, default: text; their level follows RUST_LOG, default info
    #[arg(long, value_name = "FORMAT", env = "MAPA_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Where /metrics, /livez and /readyz are served: :PORT on every address, ADDRESS:PORT on one, or off; default: :8080
    #[arg(long, value_name = "ADDRESS", env = "MAPA_LISTEN")]
    pub listen: Option<Listen>,

    /// Collector to which traces of reconciles are sent by OTLP over HTTP, such as http://otel-collector.observability:4318; default: none
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Collector>,
}

impl RunArguments {
    /// What holds: flags and environment, else the file, else the defaults.
    ///
    /// # Errors
    /// The file cannot be read, or is wrong.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let file = match &self.config {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        Ok(self.over(file))
    }

    fn over(&self, file: ConfigFile) -> Settings {
        let Self {
            config: _,
            runner_image,
            runner_image_oracle,
            runner_service_account,
            watch_namespaces,
            concurrency,
            leader_elect,
            lease_name,
            lease_namespace,
            replica_name,
            log_format,
            listen,
            otlp_endpoint,
        } = self.clone();
        let mut runner = file.runner.settings(file.areas);
        runner.image = runner_image.or(runner.image);
        runner.image_oracle = runner_image_oracle.or(runner.image_oracle);
        runner.service_account = runner_service_account.or(runner.service_account);
        Settings {
            runner,
            watch_namespaces: if watch_namespaces.is_empty() {
                file.watch_namespaces
            } else {
                watch_namespaces
            },
            concurrency: concurrency.or(file.concurrency).unwrap_or(CONCURRENCY),
            election: leader_elect
                .or(file.leader_election.enabled)
                .unwrap_or(true)
                .then(|| Election {
                    lease_name: lease_name
                        .or(file.leader_election.lease_name)
                        .unwrap_or_else(|| LEASE_NAME.to_owned()),
                    lease_namespace: lease_namespace.or(file.leader_election.lease_namespace),
                    replica_name: replica_name.unwrap_or_else(host_name),
                }),
            log_format: log_format.or(file.log_format).unwrap_or(LogFormat::Text),
            listen: listen.or(file.listen).unwrap_or_default(),
            collector: otlp_endpoint.or(file.otlp_endpoint),
        }
    }
}

/// Settings of `run`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How and where runs happen.
    pub runner: RunnerSettings,
    /// The namespaces that are watched; empty: all.
    pub watch_namespaces: Vec<String>,
    /// Policies that are reconciled at the same time, 1 to 64.
    pub concurrency: u16,
    /// How one of several operators is chosen; none: this is the only one.
    pub election: Option<Election>,
    /// Format of the logs.
    pub log_format: LogFormat,
    /// Where metrics and probes are served.
    pub listen: Listen,
    /// Where traces are sent, if anywhere.
    pub collector: Option<Collector>,
}

/// How one of several operators is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// Name of the lease.
    pub lease_name: String,
    /// Its namespace; absent: the client's own.
    pub lease_namespace: Option<String>,
    /// Name of this operator, which need not be unlike those of others or of earlier processes.
    pub replica_name: String,
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "operator".to_owned() } else { name }
}

/// How the runner's pods look, as far as it may be chosen: every value as the API server stores it, so that what it gives back is no drift.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunnerSettings {
    /// Image of the job-runner.
    pub image: Option<String>,
    /// Image for policies on Oracle; absent: the same.
    pub image_oracle: Option<String>,
    /// When the node pulls the image.
    pub image_pull_policy: PullPolicy,
    /// Secrets of each policy's namespace with credentials of the image's registry.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Service account of the pods, in each policy's namespace; absent: the namespace's own.
    pub service_account: Option<String>,
    /// What a run asks for; absent: the built-in requests.
    pub requests: Option<BTreeMap<String, Quantity>>,
    /// What a run may take; absent: the built-in limits.
    pub limits: Option<BTreeMap<String, Quantity>>,
    /// Labels of the nodes on which runs may happen.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that runs tolerate, beside the built-in ones.
    pub tolerations: Vec<Toleration>,
    /// Where runs may and should happen.
    pub affinity: Option<Affinity>,
    /// Priority class of the pods.
    pub priority_class: Option<String>,
    /// Labels that CronJobs, Jobs and pods have beside ours, which they never replace.
    pub labels: BTreeMap<String, String>,
    /// Annotations that CronJobs, Jobs and pods have.
    pub annotations: BTreeMap<String, String>,
    /// Source of the pods' user and group ids.
    pub user_ids: UserIds,
    /// Authorities for databases and caches whose Secret has none; absent: the public ones.
    pub ca_bundle: Option<CaBundle>,
    /// Secret of each policy's namespace with the wallet for Oracle databases whose own Secret has none.
    pub wallet_secret: Option<String>,
    /// Areas beside those that the runner has built in, by name.
    pub areas: BTreeMap<String, Area>,
}

/// Certificates in PEM, in a ConfigMap of each policy's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaBundle {
    /// Name of the ConfigMap.
    pub config_map: String,
    /// Key in it.
    pub key: String,
}

impl RunnerSettings {
    /// For a policy that is judged where the operator's settings are not at hand: they have an image, and the policy's area.
    /// Neither says anything about when its tasks run.
    #[must_use]
    pub fn assumed_for(spec: &MapaRefreshPolicySpec) -> Self {
        Self {
            image: Some("job-runner".to_owned()),
            areas: BTreeMap::from([(spec.area.clone(), Area::roraima())]),
            ..Self::default()
        }
    }

    /// The image that serves `kind`.
    #[must_use]
    pub fn image_for(&self, kind: DatabaseKind) -> Option<&str> {
        match kind {
            DatabaseKind::Oracle => self.image_oracle.as_deref().or(self.image.as_deref()),
            DatabaseKind::Postgresql => self.image.as_deref(),
        }
    }
}

/// Source of user id, group id and fsGroup of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserIds {
    /// `Platform` where the cluster serves `security.openshift.io`, else `Fixed`.
    #[default]
    Auto,
    /// The ids of the images, 65532.
    Fixed,
    /// No ids in the pods. OpenShift assigns them from each namespace's range; its `restricted-v2` refuses any other.
    Platform,
}

/// When a node pulls an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// Not at all.
    Never,
}

impl PullPolicy {
    /// As Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Format of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
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

    fn resolved(arguments: &[&str], file: &str) -> Settings {
        let line = ["mapa-refresh-operator", "run"].iter().chain(arguments);
        let Command::Run(arguments) = Arguments::parse_from(line).command else {
            panic!("another command");
        };
        arguments.over(ConfigFile::parse(file).unwrap())
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "{ runner: { image: f, imageOracle: fo, serviceAccountName: fs }, watchNamespaces: [f], concurrency: 3, logFormat: json, \
                    leaderElection: { enabled: false, leaseName: fl, leaseNamespace: fn }, listen: \"127.0.0.1:1\", otlpEndpoint: \"http://f:4318\" }";
        let by_file = resolved(&[], file);
        assert_eq!(by_file.runner.image.as_deref(), Some("f"));
        assert_eq!(by_file.runner.image_oracle.as_deref(), Some("fo"));
        assert_eq!(by_file.runner.service_account.as_deref(), Some("fs"));
        assert_eq!(by_file.watch_namespaces, ["f"]);
        assert_eq!((by_file.concurrency, by_file.log_format), (3, LogFormat::Json));
        assert_eq!(by_file.election, None);
        assert_eq!(by_file.listen.to_string(), "127.0.0.1:1");
        let traces = |settings: &Settings| settings.collector.as_ref().map(Collector::traces);
        assert_eq!(traces(&by_file).as_deref(), Some("http://f:4318/v1/traces"));

        let flags = [
            "--runner-image=a",
            "--runner-image-oracle=b",
            "--runner-service-account=c",
            "--watch-namespace=d,e",
            "--concurrency=9",
            "--leader-elect",
            "--replica-name=r",
            "--log-format=text",
            "--listen=off",
            "--otlp-endpoint=https://a",
        ];
        let by_flag = resolved(&flags, file);
        assert_eq!(by_flag.runner.image.as_deref(), Some("a"));
        assert_eq!(by_flag.runner.image_oracle.as_deref(), Some("b"));
        assert_eq!(by_flag.runner.service_account.as_deref(), Some("c"));
        assert_eq!(by_flag.watch_namespaces, ["d", "e"]);
        assert_eq!((by_flag.concurrency, by_flag.log_format), (9, LogFormat::Text));
        assert_eq!(
            by_flag.election,
            Some(Election {
                lease_name: "fl".to_owned(),
                lease_namespace: Some("fn".to_owned()),
                replica_name: "r".to_owned(),
            })
        );
        assert_eq!(by_flag.listen, Listen::Off);
        assert_eq!(traces(&by_flag).as_deref(), Some("https://a/v1/traces"));

        let by_default = resolved(&[], "");
        assert_eq!(by_default.runner, RunnerSettings::default());
        assert!(by_default.watch_namespaces.is_empty());
        assert_eq!(
            (by_default.concurrency, by_default.log_format),
            (CONCURRENCY, LogFormat::Text)
        );
        let election = by_default.election.unwrap();
        assert_eq!(
            (election.lease_name.as_str(), election.lease_namespace),
            (LEASE_NAME, None)
        );
        assert!(!election.replica_name.is_empty());
        assert_eq!(resolved(&["--leader-elect=false"], "").election, None);
        let named = resolved(&["--lease-name=a", "--lease-namespace=b"], file);
        assert_eq!(named.election, None, "a name alone elects nobody");
        assert_eq!(by_default.listen, Listen::EveryAddress(8080));
        assert_eq!(by_default.collector, None);
    }
}
