//! What an admin writes: the `MapaRefreshPolicy` and its `spec`.
//!
//! A policy says *what* and *when*. Where and how (image, service account, resources, placement) belongs to the operator's own
//! configuration, so that whoever may write a policy can never choose what runs. Numbers are kept as they stand on the
//! wire: the operator validates them again, because a policy may have got past admission (an older CRD, a restored backup).

use std::fmt;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::status::MapaRefreshPolicyStatus;

/// The legal limit, in minutes, between two updates of the public information and on its age: REN 1.137/2025 Art. 106
/// (items 106 and 107 of PRODIST Módulo 4).
pub const LEGAL_LIMIT_MINUTES: i32 = 30;

/// A moment of the years 2000 to 2199 by RFC 3339, seconds with up to nine decimals, an offset below a day.
///
/// The format `date-time` alone admits what no type of ours holds: years to 9999, offsets such as +99:99, and anything behind a second `t`. A CEL
/// rule could bound the years with better words, but where it meets a stored text that is no moment it does not fail, it errs; and the API
/// server, which forgives an unchanged field its failures, forgives no errors: not even the status of such a policy could be written.
const MOMENT: &str = r"^2[01][0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";

/// Keeps a distributor's public outage map fresh within the legal limit, and proves it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "mapa.radar.dev",
    version = "v1",
    kind = "MapaRefreshPolicy",
    plural = "maparefreshpolicies",
    namespaced,
    status = "MapaRefreshPolicyStatus",
    derive = "PartialEq",
    shortname = "mapa-refresh",
    shortname = "mrp",
    category = "mapa",
    selectable = ".spec.suspend",
    doc = "Keeps a distributor's public outage map fresh within the limit of REN 1.137/2025 Art. 106, and proves it.",
    validation = Rule::new("size(self.metadata.name) <= 30").message(
        "metadata.name must have at most 30 characters: the CronJobs are called <policy>-<task>, and a CronJob's name may have 52"
    ),
    printcolumn(name = "Interval", type_ = "integer", json_path = ".spec.intervalMinutes", description = "Minutes between two refreshes"),
    printcolumn(name = "Compliant", type_ = "string", json_path = ".status.conditions[?(@.type==\"Compliant\")].status", description = "True while the published data is younger than maxDataAgeMinutes"),
    printcolumn(name = "Data-As-Of", type_ = "date", json_path = ".status.dataAsOf", description = "Age of what the public sees"),
    printcolumn(name = "Last-Success", type_ = "date", json_path = ".status.lastSuccessTime", description = "Since when the oldest of the data tasks has not succeeded again"),
    printcolumn(name = "Retries", type_ = "integer", json_path = ".status.retries", description = "Retries of the tasks' last runs, summed"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Compliant\")].reason", description = "Reason of the condition Compliant"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend", priority = 1),
    printcolumn(name = "Failures", type_ = "integer", json_path = ".status.consecutiveFailures", description = "Failed runs in a row, of the worst task", priority = 1),
    printcolumn(name = "Worst-Age", type_ = "integer", json_path = ".status.compliance.worstDataAgeSeconds", description = "Oldest that the published data has been, in seconds", priority = 1),
    printcolumn(name = "Breaches", type_ = "integer", json_path = ".status.compliance.breaches", description = "Times that the limit was exceeded", priority = 1),
    printcolumn(name = "Compliant-Until", type_ = "string", json_path = ".status.compliantUntil", description = "After this moment Compliant=True means Unknown: the operator may be down", priority = 1),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "True while the policy is carried out as written", priority = 1),
    printcolumn(name = "At-Risk", type_ = "string", json_path = ".status.conditions[?(@.type==\"AtRisk\")].status", description = "True while the limit will be exceeded unless something changes", priority = 1),
    printcolumn(name = "Max-Age", type_ = "integer", json_path = ".spec.maxDataAgeMinutes", description = "Oldest that the published data may be, in minutes", priority = 1),
    printcolumn(name = "Downstream", type_ = "integer", json_path = ".spec.downstreamCacheSeconds", description = "What caches after ours add to the age, in seconds", priority = 1),
    printcolumn(name = "Data-Time", type_ = "string", json_path = ".status.dataAsOf", description = "The moment of Data-As-Of", priority = 1),
    printcolumn(name = "First-Task", type_ = "string", json_path = ".spec.tasks[0].name", description = "First of the tasks that the policy names; empty: the three refresh tasks", priority = 1),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".metadata.namespace", description = "For programs that ask for rows without objects", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Compliant\")].message", description = "Message of the condition Compliant", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.suspend || has(self.suspendReason)").message(
    "suspendReason is required while suspend is true: a suspended map ages past the limit of REN 1.137/2025 Art. 106, so the reason is kept as evidence"
))]
pub struct MapaRefreshPolicySpec {
    /// Minutes between two refreshes, 1 to 30. The largest gap between two runs never exceeds it. 10 leaves room for
    /// retries; 30 is allowed by the rule and leaves no margin.
    #[schemars(range(min = 1))]
    #[x_kube(validation = Rule::new("self <= 30").message(
        "intervalMinutes must be at most 30: REN 1.137/2025 Art. 106 demands an update at least every 30 minutes"
    ))]
    pub interval_minutes: i32,

    /// Oldest that the published data may be, in minutes, 1 to 30; the default is the legal limit, 30.
    #[serde(default = "defaults::max_data_age_minutes")]
    #[schemars(range(min = 1))]
    #[x_kube(validation = Rule::new("self <= 30").message(
        "maxDataAgeMinutes must be at most 30: REN 1.137/2025 Art. 106 does not allow the public information to be older"
    ))]
    pub max_data_age_minutes: i32,

    /// IANA name of the zone in which the view's DATE columns are written, which have none of their own, and of calendar
    /// months in the evidence. The schedule itself is in UTC.
    #[serde(default = "defaults::time_zone")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$")
    )]
    pub time_zone: String,

    /// True stops the schedule; nothing is deleted. What is published ages and expires.
    #[serde(default)]
    pub suspend: bool,

    /// Why the policy is suspended, 1 to 256 characters; required while `suspend` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub suspend_reason: Option<String>,

    /// Moment (RFC 3339, such as 2027-01-31T06:00:00-04:00) at which a suspension ends by itself; one more than two years ahead is doubted.
    // That two years are the most is the operator's to say: neither a pattern nor CEL knows what time it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 35), regex(pattern = MOMENT))]
    pub suspend_until: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,

    /// Name of the area definition: bounding box and municipalities. RR (Roraima) is built in; others are defined in the
    /// operator's configuration.
    #[serde(default = "defaults::area")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[A-Za-z][A-Za-z0-9-]*$"))]
    pub area: String,

    /// Where the outages are read.
    pub database: Database,

    /// Where the documents are published.
    pub cache: Cache,

    /// Seconds for which caches after ours (a CDN, a browser) may serve an older document, 0 to 1800. They count as age.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1800))]
    pub downstream_cache_seconds: i32,

    /// What is too doubtful to be published at once; absent, the defaults of its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plausibility: Option<Plausibility>,

    /// Whether the operator starts a run between two slots when waiting for the next would exceed the limit.
    #[serde(default = "defaults::rescue")]
    pub rescue: bool,

    /// The tasks to run, 1 to 4, each at most once. A given list replaces the default: the three refresh tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tasks: Option<Vec<Task>>,
}

/// What is too doubtful to be published at once. A number of outages that falls by more than both limits, from one
/// publication to the next, is published only when the next run finds the same: an empty view is more often a broken source than
/// the end of every outage. A view of which too many rows are quarantined is not published before it is mended.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Plausibility {
    /// Largest drop that is published at once, in percent of the outages published before, 1 to 100; 100 switches the check off.
    #[serde(default = "defaults::max_drop_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub max_drop_percent: i32,

    /// Largest drop that is published at once, in outages, whatever the percentage, 0 to 1000000.
    #[serde(default = "defaults::max_drop_outages")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_drop_outages: i32,

    /// Largest share of the rows of active outages that may be quarantined, in percent, 0 to 100. Above it nothing is published. At
    /// 100 a view is published as long as one row is left.
    #[serde(default = "defaults::max_quarantined_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub max_quarantined_percent: i32,
}

impl Default for Plausibility {
    fn default() -> Self {
        Self {
            max_drop_percent: defaults::max_drop_percent(),
            max_drop_outages: defaults::max_drop_outages(),
            max_quarantined_percent: defaults::max_quarantined_percent(),
        }
    }
}

/// Where the outages are read.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// The kind of database; it selects the runner's image, and must agree with the scheme of the Secret's `url`.
    #[serde(default)]
    pub kind: DatabaseKind,

    /// Secret in the policy's namespace with the keys `url` (`oracle://host:1521/SERVICE` or `postgres://host:5432/db`),
    /// `username`, `password` and, optionally, `ca.crt`; for a client certificate `tls.crt` and `tls.key`, then without `password` where the
    /// server asks for none. Oracle has a wallet instead of these three. The operator never reads it: it is mounted into the runner's pod.
    pub secret_ref: SecretReference,

    /// The materialized view, `[SCHEMA.]NAME`.
    #[serde(default = "defaults::view")]
    #[schemars(
        length(min = 1, max = 257),
        regex(pattern = r"^([A-Za-z][A-Za-z0-9_$#]{0,127}\.)?[A-Za-z][A-Za-z0-9_$#]{0,127}$")
    )]
    pub view: String,

    /// Names of the view's columns where they differ from the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Columns>,
}

/// The kind of database that holds the view.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// Oracle Database, through the `oracle` crate and Instant Client.
    #[default]
    Oracle,
    /// PostgreSQL 12 or later.
    Postgresql,
}

impl DatabaseKind {
    /// The name as it stands in a policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oracle => "oracle",
            Self::Postgresql => "postgresql",
        }
    }
}

impl fmt::Display for DatabaseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! columns {
    ($($field:ident = $default:literal: $doc:literal),+ $(,)?) => {
        /// Names of the view's columns where they differ from the default, which is the property's name in snake case.
        #[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
        #[serde(rename_all = "camelCase")]
        pub struct Columns {
            $(
                #[doc = $doc]
                #[serde(default, skip_serializing_if = "Option::is_none")]
                #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z][A-Za-z0-9_$#]*$"))]
                pub $field: Option<String>,
            )+
        }

        impl Columns {
            /// Every column as (default name, name in this view), in the order of the domain's table.
            #[must_use]
            pub fn names(&self) -> Vec<(&'static str, &str)> {
                vec![$(($default, self.$field.as_deref().unwrap_or($default))),+]
            }

            /// The same as [`Columns::names`], from pairs of (default name, name in this view); an unknown default name
            /// is handed back as the error.
            ///
            /// # Errors
            /// The first pair whose left side is not the default name of a column.
            pub fn from_names<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, &'a str> {
                let mut columns = Self::default();
                for (default, name) in pairs {
                    match default {
                        $($default => columns.$field = Some(name.to_owned()),)+
                        unknown => return Err(unknown),
                    }
                }
                Ok(columns)
            }
        }
    };
}

columns! {
    id = "id": "Number of the outage in the database.",
    numero_ocorrencia = "numero_ocorrencia": "Number of the occurrence, as the public knows it.",
    codigo_ibge = "codigo_ibge": "IBGE code of the municipality, 7 digits.",
    bairro = "bairro": "Name of the neighbourhood.",
    latitude = "latitude": "Latitude in degrees, WGS 84.",
    longitude = "longitude": "Longitude in degrees, WGS 84.",
    data_inicio = "data_inicio": "Start of the outage, local time.",
    tipo = "tipo": "PROGRAMADA or NAO_PROGRAMADA.",
    status_codigo = "status_codigo": "P, D, E or C.",
    ucs_afetadas = "ucs_afetadas": "Consumer units without supply.",
    equipes_designadas = "equipes_designadas": "Crews assigned.",
    causa = "causa": "Cause, free text.",
    previsao_restabelecimento = "previsao_restabelecimento": "Expected restoration, local time.",
}

/// Where the documents are published.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// Secret in the policy's namespace with the key `url` (`redis://`, `redis+sentinel://` or `redis+cluster://`; `rediss` for TLS) and, optionally, `username`,
    /// `password`, `ca.crt`, for a client certificate `tls.crt` and `tls.key`, and for Sentinels `sentinel-username` and `sentinel-password`.
    pub secret_ref: SecretReference,

    /// Prefix of the keys: `<prefix>:interrupcoes`, `<prefix>:estatisticas` and their siblings. Two policies that share a
    /// cache need two prefixes.
    #[serde(default = "defaults::key_prefix")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9:_-]{0,62}$"))]
    pub key_prefix: String,
}

/// A Secret in the policy's own namespace.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret, a DNS subdomain.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// One task of a policy. Absent numbers take the defaults of the task's name.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Which task.
    pub name: TaskName,

    /// How many times a run tries again after a transient fault, 0 to 10. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub max_retries: Option<i32>,

    /// Seconds between two attempts, 0 to 600. Default 120 for refresh-mv-portal, else 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 600))]
    pub retry_delay_seconds: Option<i32>,

    /// Seconds that one attempt may take, 5 to 1500. Default 300 for refresh-mv-portal, else 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 1500))]
    pub attempt_timeout_seconds: Option<i32>,
}

/// The tasks that exist.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// Refreshes the materialized view.
    RefreshMvPortal,
    /// Builds the map's documents from the view and publishes them.
    RefreshMapaCache,
    /// Builds the aggregated figures from the view and publishes them.
    CalcularEstatisticas,
    /// Checks database, view, cache and the age of what is published.
    HealthCheck,
}

/// The numbers of a task: what a policy gives, else the defaults by task name, which are those of the system replaced
/// (3 retries; 120 s for the view, 60 s for the others).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskDefaults {
    /// Retries after the first attempt.
    pub max_retries: i32,
    /// Seconds between two attempts.
    pub retry_delay_seconds: i32,
    /// Seconds that one attempt may take.
    pub attempt_timeout_seconds: i32,
}

impl TaskName {
    /// Every task, in the order in which they run.
    pub const ALL: [Self; 4] = [
        Self::RefreshMvPortal,
        Self::RefreshMapaCache,
        Self::CalcularEstatisticas,
        Self::HealthCheck,
    ];

    /// The tasks of a policy that names none.
    pub const DEFAULT: [Self; 3] = [
        Self::RefreshMvPortal,
        Self::RefreshMapaCache,
        Self::CalcularEstatisticas,
    ];

    /// The name as it stands in a policy and in the CronJob's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RefreshMvPortal => "refresh-mv-portal",
            Self::RefreshMapaCache => "refresh-mapa-cache",
            Self::CalcularEstatisticas => "calcular-estatisticas",
            Self::HealthCheck => "health-check",
        }
    }

    /// Whether the task makes data newer; the health-check only looks.
    #[must_use]
    pub fn is_data_task(self) -> bool {
        self != Self::HealthCheck
    }

    /// Whether the task publishes what the public sees.
    #[must_use]
    pub fn publishes(self) -> bool {
        matches!(self, Self::RefreshMapaCache | Self::CalcularEstatisticas)
    }

    /// The numbers of this task where the policy gives none.
    #[must_use]
    pub fn defaults(self) -> TaskDefaults {
        match self {
            Self::RefreshMvPortal => TaskDefaults {
                max_retries: 3,
                retry_delay_seconds: 120,
                attempt_timeout_seconds: 300,
            },
            Self::RefreshMapaCache | Self::CalcularEstatisticas | Self::HealthCheck => TaskDefaults {
                max_retries: 3,
                retry_delay_seconds: 60,
                attempt_timeout_seconds: 120,
            },
        }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for TaskName {
    type Err = UnknownTask;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|task| task.as_str() == name)
            .ok_or_else(|| UnknownTask(name.to_owned()))
    }
}

/// A task name that does not exist.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "unknown task {0:?}: the tasks are refresh-mv-portal, refresh-mapa-cache, calcular-estatisticas and health-check"
)]
pub struct UnknownTask(pub String);

impl MapaRefreshPolicySpec {
    /// What the evidence is about: a hash of the database's kind, both Secrets' names, the view and the prefix. A report
    /// for another target says nothing about this one, and a changed target starts without evidence.
    ///
    /// 16 hexadecimal digits: the first 64 bits of a SHA-256.
    #[must_use]
    pub fn target(&self) -> String {
        let mut hash = Sha256::new();
        for part in [
            self.database.kind.as_str(),
            &self.database.secret_ref.name,
            &self.cache.secret_ref.name,
            &self.database.view,
            &self.cache.key_prefix,
        ] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Defaults of the schema: the API server fills them in.
mod defaults {
    pub(super) fn max_drop_percent() -> i32 {
        90
    }
    pub(super) fn max_drop_outages() -> i32 {
        20
    }
    pub(super) fn max_quarantined_percent() -> i32 {
        50
    }
    pub(super) fn max_data_age_minutes() -> i32 {
        super::LEGAL_LIMIT_MINUTES
    }
    pub(super) fn time_zone() -> String {
        "America/Boa_Vista".to_owned()
    }
    pub(super) fn area() -> String {
        "RR".to_owned()
    }
    pub(super) fn view() -> String {
        "RADAR.MV_PORTAL_PUBLICO".to_owned()
    }
    pub(super) fn key_prefix() -> String {
        "mapa".to_owned()
    }
    pub(super) fn rescue() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> MapaRefreshPolicySpec {
        serde_json::from_value(serde_json::json!({
            "intervalMinutes": 10,
            "database": { "secretRef": { "name": "radar-database" } },
            "cache": { "secretRef": { "name": "radar-cache" } },
        }))
        .unwrap()
    }

    #[test]
    fn the_committed_yaml_is_what_crdgen_prints() {
        use kube::CustomResourceExt;
        let printed = serde_yaml::to_string(&MapaRefreshPolicy::crd()).unwrap();
        let committed = include_str!("../maparefreshpolicies.yaml");
        assert!(
            committed == printed,
            "run: cargo crdgen > crds/maparefreshpolicies.yaml"
        );
    }

    #[test]
    fn a_minimal_policy_gets_the_documented_defaults() {
        let spec = minimal();
        assert_eq!(spec.max_data_age_minutes, 30);
        assert_eq!(spec.time_zone, "America/Boa_Vista");
        assert!(!spec.suspend);
        assert_eq!(spec.area, "RR");
        assert_eq!(spec.database.kind, DatabaseKind::Oracle);
        assert_eq!(spec.database.view, "RADAR.MV_PORTAL_PUBLICO");
        assert_eq!(spec.cache.key_prefix, "mapa");
        assert_eq!(spec.downstream_cache_seconds, 0);
        assert!(spec.rescue);
        assert_eq!(spec.tasks, None);
    }

    #[test]
    fn the_target_changes_with_each_of_its_parts_and_with_nothing_else() {
        let base = minimal();
        let target = base.target();
        assert_eq!(target.len(), 16);
        let variants: [fn(&mut MapaRefreshPolicySpec); 5] = [
            |s| s.database.kind = DatabaseKind::Postgresql,
            |s| s.database.secret_ref.name.push('x'),
            |s| s.cache.secret_ref.name.push('x'),
            |s| s.database.view.push('X'),
            |s| s.cache.key_prefix.push('x'),
        ];
        for change in variants {
            let mut spec = base.clone();
            change(&mut spec);
            assert_ne!(spec.target(), target);
        }
        let mut spec = base;
        spec.interval_minutes = 5;
        spec.time_zone = "UTC".to_owned();
        assert_eq!(spec.target(), target);
    }

    #[test]
    fn task_names_are_the_same_on_the_wire_in_text_and_parsed() {
        for task in TaskName::ALL {
            assert_eq!(serde_json::to_value(task).unwrap(), task.as_str());
            assert_eq!(task.as_str().parse(), Ok(task));
        }
        assert!("refresh_mv_portal".parse::<TaskName>().is_err());
    }

    #[test]
    fn renamed_columns_survive_the_way_to_the_runner() {
        let columns = Columns {
            data_inicio: Some("DT_INICIO".into()),
            ..Columns::default()
        };
        assert_eq!(columns.names().len(), 13);
        assert!(columns.names().contains(&("data_inicio", "DT_INICIO")));
        let again = Columns::from_names(columns.names()).unwrap();
        assert_eq!(again.names(), columns.names());
        assert_eq!(Columns::from_names([("nao_existe", "x")]), Err("nao_existe"));
    }
}
