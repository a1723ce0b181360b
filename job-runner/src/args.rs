//! The command line. Every setting is a flag and an environment variable; the operator sets the variables.
//!
//! Settings are taken as text here and judged in [`crate::settings`]: a wrong one must end in a report, not only in a usage
//! message that nobody reads in a pod.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use mapa_refresh_crds::{policy::TaskName, runner_env as env};

use crate::exit;

/// Refreshes the view, builds and publishes the outage map and its statistics, and reports.
#[derive(Debug, Parser)]
#[command(name = "job-runner", version, after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a task once, with its retries
    Run(RunArgs),
    /// Check database, view, cache and the age of what is published; the same as `run health-check`
    HealthCheck(SettingArgs),
    /// Print the DDL and grants that the database needs, for its administrator to run
    Schema(SchemaArgs),
    /// End with an exit code: what a run turns into that can't end otherwise (see [`crate::exit::end_soon`])
    #[command(name = exit::END, hide = true)]
    End {
        /// The exit code
        code: u8,
    },
}

/// Arguments of `run`.
#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// refresh-mv-portal, refresh-mapa-cache, calcular-estatisticas or health-check
    pub task: TaskName,
    /// The settings.
    #[command(flatten)]
    pub settings: SettingArgs,
}

/// Settings of a run, unjudged.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Settings")]
pub struct SettingArgs {
    /// Namespace of the policy; with its name the owner of what is published
    #[arg(long, env = env::POLICY_NAMESPACE, hide_env_values = true)]
    pub policy_namespace: Option<String>,
    /// Name of the policy
    #[arg(long, env = env::POLICY_NAME, hide_env_values = true)]
    pub policy_name: Option<String>,
    /// UID of the policy, for the report
    #[arg(long, env = env::POLICY_UID, hide_env_values = true)]
    pub policy_uid: Option<String>,
    /// Hash of the target, for the report
    #[arg(long, env = env::TARGET, hide_env_values = true)]
    pub target: Option<String>,
    /// UID of the pod, for the report
    #[arg(long, env = env::POD_UID, hide_env_values = true)]
    pub pod_uid: Option<String>,
    /// Name of the Job: `<policy>-<task>-<minutes since 1970>` has a slot, any other name has none
    #[arg(long, env = env::JOB_NAME, hide_env_values = true)]
    pub job_name: Option<String>,
    /// oracle or postgresql; must agree with the scheme of the Secret's url [default: oracle]
    #[arg(long, env = env::DATABASE_KIND, hide_env_values = true)]
    pub database_kind: Option<String>,
    /// The materialized view, [SCHEMA.]NAME [default: RADAR.MV_PORTAL_PUBLICO]
    #[arg(long, env = env::DATABASE_VIEW, hide_env_values = true)]
    pub database_view: Option<String>,
    /// Renamed columns: default=name,default=name
    #[arg(long, env = env::DATABASE_COLUMNS, hide_env_values = true)]
    pub database_columns: Option<String>,
    /// Prefix of the published keys [default: mapa]
    #[arg(long, env = env::CACHE_KEY_PREFIX, hide_env_values = true)]
    pub cache_key_prefix: Option<String>,
    /// IANA zone of the view's DATE columns [default: America/Boa_Vista]
    #[arg(long, env = env::TIME_ZONE, hide_env_values = true)]
    pub time_zone: Option<String>,
    /// Area definition [default: RR]
    #[arg(long, env = env::AREA, hide_env_values = true)]
    pub area: Option<String>,
    /// Bounding box and municipalities of an area that is not built in, as JSON
    #[arg(long, value_name = "JSON", env = env::AREA_DEFINITION, hide_env_values = true)]
    pub area_definition: Option<String>,
    /// Minutes between two slots, 1 to 30 [default: 10]
    #[arg(long, env = env::INTERVAL_MINUTES, hide_env_values = true)]
    pub interval_minutes: Option<String>,
    /// Oldest that the published data may be, in minutes [default: 30]
    #[arg(long, env = env::MAX_DATA_AGE_MINUTES, hide_env_values = true)]
    pub max_data_age_minutes: Option<String>,
    /// Names of the policy's tasks, separated by commas [default: both publishing tasks]
    #[arg(long, env = env::POLICY_TASKS, hide_env_values = true)]
    pub policy_tasks: Option<String>,
    /// Minutes by which this task's slot lies after the view's [default: the run does not wait for the view]
    #[arg(long, env = env::VIEW_SLOT_LEAD_MINUTES, hide_env_values = true)]
    pub view_slot_lead_minutes: Option<String>,
    /// Largest drop of the number of outages that is published at once, in percent, 1 to 100 [default: 90]
    #[arg(long, env = env::MAX_DROP_PERCENT, hide_env_values = true)]
    pub max_drop_percent: Option<String>,
    /// Largest drop of the number of outages that is published at once, in outages, 0 to 1000000 [default: 20]
    #[arg(long, env = env::MAX_DROP_OUTAGES, hide_env_values = true)]
    pub max_drop_outages: Option<String>,
    /// Largest share of the rows of active outages that may be quarantined, in percent, 0 to 100 [default: 50]
    #[arg(long, env = env::MAX_QUARANTINED_PERCENT, hide_env_values = true)]
    pub max_quarantined_percent: Option<String>,
    /// Retries after the first attempt, 0 to 10 [default: 3]
    #[arg(long, env = env::MAX_RETRIES, hide_env_values = true)]
    pub max_retries: Option<String>,
    /// Seconds between two attempts, 0 to 600 [default: 120 for refresh-mv-portal, else 60]
    #[arg(long, env = env::RETRY_DELAY_SECONDS, hide_env_values = true)]
    pub retry_delay_seconds: Option<String>,
    /// Seconds that one attempt may take [default: 300 for refresh-mv-portal, else 120]
    #[arg(long, env = env::ATTEMPT_TIMEOUT_SECONDS, hide_env_values = true)]
    pub attempt_timeout_seconds: Option<String>,
    /// Seconds that the whole run may take [default: 60 × interval − 30]
    #[arg(long, env = env::RUN_BUDGET_SECONDS, hide_env_values = true)]
    pub run_budget_seconds: Option<String>,
    /// Directory of the database's Secret: url, username, password; optionally ca.crt (PostgreSQL), a wallet or tnsnames.ora (Oracle)
    #[arg(long, value_name = "DIR", default_value = env::DATABASE_SECRET_DIR)]
    pub database_secret_dir: PathBuf,
    /// Directory of the cache's Secret: url, optionally username, password, ca.crt
    #[arg(long, value_name = "DIR", default_value = env::CACHE_SECRET_DIR)]
    pub cache_secret_dir: PathBuf,
    /// Authorities in PEM, for stores over TLS whose Secret has no ca.crt [default: the public authorities]
    #[arg(long, value_name = "FILE", env = env::CA_BUNDLE, hide_env_values = true)]
    pub ca_bundle: Option<PathBuf>,
    /// Directory with a wallet, tnsnames.ora or sqlnet.ora, for an Oracle database whose Secret has none
    #[arg(long, value_name = "DIR", env = env::WALLET_DIR, hide_env_values = true)]
    pub wallet_dir: Option<PathBuf>,
    /// File that receives the report as well; the default is written only where it exists
    #[arg(long, value_name = "FILE", default_value = env::TERMINATION_MESSAGE_PATH)]
    pub termination_message_path: PathBuf,
    /// error, warn, info or debug, on stderr [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<tracing::Level>,
}

/// Arguments of `schema`.
#[derive(Debug, ClapArgs)]
pub struct SchemaArgs {
    /// postgresql or oracle
    #[arg(long, env = env::DATABASE_KIND, hide_env_values = true)]
    pub kind: String,
    /// The materialized view, [SCHEMA.]NAME; a name that was made in quotes, in quotes
    #[arg(long, env = env::DATABASE_VIEW, hide_env_values = true, default_value = "RADAR.MV_PORTAL_PUBLICO")]
    pub view: String,
    /// Renamed columns: default=name,default=name
    #[arg(long, env = env::DATABASE_COLUMNS, hide_env_values = true, default_value = "")]
    pub columns: String,
    /// The role by which the job-runner connects
    #[arg(long, default_value = "mapa_refresh")]
    pub role: String,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done; also when a newer run had done it already
  1  a transient fault outlasted the retries, the data is too old, or the run was terminated
  2  a permanent fault or a wrong setting: somebody has to change something";

const EXAMPLES: &str = "\
Exit codes:
  0  done; also when a newer run had done it already
  1  a transient fault outlasted the retries, the data is too old, or the run was terminated
  2  a permanent fault or a wrong setting: somebody has to change something

Output: one line of JSON, the run's report, on stdout and in the termination message; logs on stderr.

Examples:
  In a pod, all settings given by the operator:
    job-runner run refresh-mapa-cache

  By hand, with the Secrets' keys as files in two directories:
    job-runner run refresh-mv-portal --database-kind postgresql --database-secret-dir ./database

  What the database's administrator has to run first:
    job-runner schema --kind postgresql --view radar.mv_portal_publico --role mapa_refresh | psql -d radar
    job-runner schema --kind oracle --role radar";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_help_names_the_exit_codes() {
        Args::command().debug_assert();
        let help = Args::command().render_long_help().to_string();
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    }

    #[test]
    fn lesson_01_every_task_that_a_policy_can_have_is_one_that_the_runner_knows() {
        for task in TaskName::ALL {
            let args = Args::try_parse_from(["job-runner", "run", task.as_str()]).unwrap();
            assert!(matches!(args.command, Command::Run(run) if run.task == task), "{task}");
        }
    }
}
