//! Environment variables by which the operator configures a run, and the places where it mounts the Secrets.
//!
//! Scalars, and one definition as JSON. The operator sets them in the pod's template, the job-runner reads them (each also has a flag).

/// What the name of every variable begins with.
pub const PREFIX: &str = "MAPA_";
/// Namespace of the policy; with [`POLICY_NAME`] the owner of what is published.
pub const POLICY_NAMESPACE: &str = "MAPA_POLICY_NAMESPACE";
/// Name of the policy.
pub const POLICY_NAME: &str = "MAPA_POLICY_NAME";
/// UID of the policy, echoed in the report.
pub const POLICY_UID: &str = "MAPA_POLICY_UID";
/// Hash of the target, echoed in the report.
pub const TARGET: &str = "MAPA_TARGET";
/// UID of the pod (downward API), echoed in the report.
pub const POD_UID: &str = "MAPA_POD_UID";
/// Name of the Job (downward API), from which the run knows its slot: `<cronjob>-<minutes since 1970>`. Other names have no slot.
pub const JOB_NAME: &str = "MAPA_JOB_NAME";
/// `oracle` or `postgresql`.
pub const DATABASE_KIND: &str = "MAPA_DATABASE_KIND";
/// `[SCHEMA.]NAME` of the materialized view.
pub const DATABASE_VIEW: &str = "MAPA_DATABASE_VIEW";
/// Renamed columns, `default=name` separated by commas; empty or absent when none is renamed.
pub const DATABASE_COLUMNS: &str = "MAPA_DATABASE_COLUMNS";
/// Prefix of the published keys.
pub const CACHE_KEY_PREFIX: &str = "MAPA_CACHE_KEY_PREFIX";
/// IANA zone of the view's DATE columns.
pub const TIME_ZONE: &str = "MAPA_TIME_ZONE";
/// Name of the area definition.
pub const AREA: &str = "MAPA_AREA";
/// The definition itself, as JSON ([`crate::area::Area`]); absent for an area that is built in.
pub const AREA_DEFINITION: &str = "MAPA_AREA_DEFINITION";
/// Minutes between two slots.
pub const INTERVAL_MINUTES: &str = "MAPA_INTERVAL_MINUTES";
/// Oldest that the published data may be, in minutes.
pub const MAX_DATA_AGE_MINUTES: &str = "MAPA_MAX_DATA_AGE_MINUTES";
/// Names of the policy's tasks, separated by commas: the health-check asks only for documents that one of them publishes.
pub const POLICY_TASKS: &str = "MAPA_POLICY_TASKS";
/// Minutes by which this task's slot lies after the view's slot; absent when the policy has no refresh-mv-portal.
pub const VIEW_SLOT_LEAD_MINUTES: &str = "MAPA_VIEW_SLOT_LEAD_MINUTES";
/// Largest drop of the number of outages that is published at once, in percent.
pub const MAX_DROP_PERCENT: &str = "MAPA_MAX_DROP_PERCENT";
/// Largest drop of the number of outages that is published at once, in outages.
pub const MAX_DROP_OUTAGES: &str = "MAPA_MAX_DROP_OUTAGES";
/// Largest share of the rows of active outages that may be quarantined, in percent.
pub const MAX_QUARANTINED_PERCENT: &str = "MAPA_MAX_QUARANTINED_PERCENT";
/// Retries after the first attempt.
pub const MAX_RETRIES: &str = "MAPA_MAX_RETRIES";
/// Seconds between two attempts.
pub const RETRY_DELAY_SECONDS: &str = "MAPA_RETRY_DELAY_SECONDS";
/// Seconds that one attempt may take.
pub const ATTEMPT_TIMEOUT_SECONDS: &str = "MAPA_ATTEMPT_TIMEOUT_SECONDS";
/// Seconds that the whole run may take, attempts and delays.
pub const RUN_BUDGET_SECONDS: &str = "MAPA_RUN_BUDGET_SECONDS";

/// File with authorities in PEM for stores whose Secret has no `ca.crt`; absent when none is configured.
pub const CA_BUNDLE: &str = "MAPA_CA_BUNDLE";
/// Directory with an Oracle wallet for Secrets without one; absent when none is configured.
pub const WALLET_DIR: &str = "MAPA_WALLET_DIR";

/// Where the database's Secret is mounted: `url`, `username`, `password`, `ca.crt`, wallet files.
pub const DATABASE_SECRET_DIR: &str = "/etc/mapa/database";
/// Where the cache's Secret is mounted: `url`, `username`, `password`, `ca.crt`.
pub const CACHE_SECRET_DIR: &str = "/etc/mapa/cache";
/// Where the configured bundle of authorities is mounted.
pub const CA_BUNDLE_DIR: &str = "/etc/mapa/authorities";
/// Name of the bundle's file there, whatever its key in the ConfigMap.
pub const CA_BUNDLE_FILE: &str = "ca.crt";
/// Where the configured wallet's Secret is mounted.
pub const WALLET_SECRET_DIR: &str = "/etc/mapa/wallet";
/// Where Kubernetes reads the termination message.
pub const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";
