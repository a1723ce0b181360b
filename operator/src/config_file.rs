//! The configuration file: YAML in which what is not known is refused, so that a slip of the pen is no silent default.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use k8s_openapi::{
    api::core::v1::{Affinity, LocalObjectReference, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};
use mapa_refresh_crds::{
    area::{Area, RR},
    runner_env::CA_BUNDLE_FILE,
};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, Error, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use serde_json::Value;

use crate::{
    collector::Collector,
    listen::Listen,
    quantity::canonical,
    settings::{CaBundle, LogFormat, PullPolicy, RunnerSettings, UserIds},
};

mod metadata;

/// Why the configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not there, or may not be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says what cannot be meant.
    #[error("the configuration file {} is wrong: {source}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Mistake,
    },
}

/// What is wrong in a configuration file, with field and line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(String);

impl Mistake {
    fn new(error: &serde_yaml::Error, text: &str) -> Self {
        let said = error.to_string().replace('\n', " ");
        // Of a field at the top the parser tells no line, only the name.
        let field = said.split('`').nth(1).unwrap_or_default();
        let begins = |line: &str| line.strip_prefix(field).is_some_and(|rest| rest.starts_with(':'));
        match text.lines().collect::<Vec<_>>().into_iter().rposition(begins) {
            Some(above) if !said.contains(" at line ") => Self(format!("{said} at line {}", above + 1)),
            _ => Self(said),
        }
    }
}

/// What the file may say. Everything is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConfigFile {
    /// How and where runs happen.
    pub runner: RunnerSection,
    /// Areas beside those that the runner has built in, by the name that policies use.
    #[serde(deserialize_with = "areas")]
    pub areas: BTreeMap<String, Area>,
    /// The namespaces that are watched; empty: all.
    pub watch_namespaces: Vec<String>,
    /// Policies that are reconciled at the same time, 1 to 64.
    #[serde(deserialize_with = "concurrency")]
    pub concurrency: Option<u16>,
    /// How one of several operators is chosen.
    pub leader_election: LeaderElectionSection,
    /// Format of the logs.
    pub log_format: Option<LogFormat>,
    /// Where metrics and probes are served.
    pub listen: Option<Listen>,
    /// Where traces are sent.
    pub otlp_endpoint: Option<Collector>,
}

/// What the file may say about the choice of one of several operators.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LeaderElectionSection {
    /// Whether there is one.
    pub enabled: Option<bool>,
    /// Name of the lease.
    pub lease_name: Option<String>,
    /// Namespace of the lease.
    pub lease_namespace: Option<String>,
}

/// What the file may say about the runner's pods, by the names that Kubernetes uses in a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RunnerSection {
    image: Option<String>,
    image_oracle: Option<String>,
    image_pull_policy: PullPolicy,
    #[serde(deserialize_with = "of_kubernetes")]
    image_pull_secrets: Vec<LocalObjectReference>,
    service_account_name: Option<String>,
    resources: Resources,
    node_selector: BTreeMap<String, String>,
    #[serde(deserialize_with = "of_kubernetes")]
    tolerations: Vec<Toleration>,
    #[serde(deserialize_with = "of_kubernetes")]
    affinity: Option<Affinity>,
    priority_class_name: Option<String>,
    #[serde(deserialize_with = "metadata::labels")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "metadata::annotations")]
    annotations: BTreeMap<String, String>,
    user_ids: UserIds,
    ca_bundle: Option<CaBundleSection>,
    wallet_secret_name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CaBundleSection {
    config_map_name: String,
    #[serde(default)]
    key: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Resources {
    requests: Option<BTreeMap<String, Canonical>>,
    limits: Option<BTreeMap<String, Canonical>>,
}

impl ConfigFile {
    /// Reads `path`.
    ///
    /// # Errors
    /// It cannot be read, or is wrong.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|source| ConfigError::Wrong {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads `text`; an empty one leaves everything to the defaults.
    ///
    /// # Errors
    /// With the field and its line.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let is_comment = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
        if text.lines().all(is_comment) {
            return Ok(Self::default());
        }
        serde_yaml::from_str(text).map_err(|error| Mistake::new(&error, text))
    }
}

impl RunnerSection {
    /// As the rest of the operator knows it, with the `areas` that the runner is told of.
    #[must_use]
    pub fn settings(self, areas: BTreeMap<String, Area>) -> RunnerSettings {
        let Self {
            image,
            image_oracle,
            image_pull_policy,
            image_pull_secrets,
            service_account_name,
            resources: Resources { requests, limits },
            node_selector,
            tolerations,
            affinity,
            priority_class_name,
            labels,
            annotations,
            user_ids,
            ca_bundle,
            wallet_secret_name,
        } = self;
        // An empty text is stored as none.
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let quantities = |map: Option<BTreeMap<String, Canonical>>| {
            map.map(|map| {
                map.into_iter()
                    .map(|(name, Canonical(quantity))| (name, quantity))
                    .collect()
            })
        };
        RunnerSettings {
            image: given(image),
            image_oracle: given(image_oracle),
            image_pull_policy,
            image_pull_secrets,
            service_account: given(service_account_name),
            requests: quantities(requests),
            limits: quantities(limits),
            node_selector,
            tolerations,
            affinity,
            priority_class: given(priority_class_name),
            labels,
            annotations,
            user_ids,
            ca_bundle: ca_bundle
                .filter(|bundle| !bundle.config_map_name.is_empty())
                .map(|bundle| CaBundle {
                    config_map: bundle.config_map_name,
                    key: given(bundle.key).unwrap_or_else(|| CA_BUNDLE_FILE.to_owned()),
                }),
            wallet_secret: given(wallet_secret_name),
            areas,
        }
    }
}

// Errors are raised within visitors: there the parser knows the place and adds it.

fn areas<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Area>, D::Error> {
    struct ByName;

    impl<'de> Visitor<'de> for ByName {
        type Value = BTreeMap<String, Area>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("areas by name")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut areas = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                // As spec.area of a policy may be written.
                let begins = name.starts_with(|first: char| first.is_ascii_alphabetic());
                let goes_on = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                if !begins || !goes_on || name.len() > 32 {
                    return Err(A::Error::custom(format_args!(
                        "an area cannot be called {name:?}: 1 to 32 letters, digits and '-', the first a letter"
                    )));
                }
                if name == RR {
                    return Err(A::Error::custom(format_args!(
                        "area {RR} is built in: call another definition otherwise, and write that into spec.area"
                    )));
                }
                let area = map.next_value()?;
                if areas.insert(name.clone(), area).is_some() {
                    return Err(A::Error::custom(format_args!("area {name} is there twice")));
                }
            }
            Ok(areas)
        }
    }

    deserializer.deserialize_any(ByName)
}

fn concurrency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    struct Count;

    impl Visitor<'_> for Count {
        type Value = Option<u16>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number from 1 to 64")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_u64<E: Error>(self, count: u64) -> Result<Self::Value, E> {
            match u16::try_from(count) {
                Ok(count @ 1..=64) => Ok(Some(count)),
                _ => Err(E::invalid_value(Unexpected::Unsigned(count), &self)),
            }
        }
    }

    deserializer.deserialize_any(Count)
}

/// A value of one of Kubernetes' own types, which skip fields that they do not know: here these are refused.
fn of_kubernetes<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    struct OfKubernetes<T>(PhantomData<T>);

    impl<'de, T: DeserializeOwned> Visitor<'de> for OfKubernetes<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("what Kubernetes has in a pod under this name")
        }

        fn visit_unit<E: Error>(self) -> Result<T, E> {
            strictly(Value::Null)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            strictly(Value::deserialize(MapAccessDeserializer::new(map))?)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
            strictly(Value::deserialize(SeqAccessDeserializer::new(list))?)
        }
    }

    deserializer.deserialize_any(OfKubernetes(PhantomData))
}

/// `value` in the form in which the API server stores it, with nothing unknown in it.
fn strictly<T: DeserializeOwned, E: Error>(mut value: Value) -> Result<T, E> {
    drop_what_is_not_stored(&mut value);
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
    let known = serde_path_to_error::deserialize(serde_ignored::Deserializer::new(value, &mut note))
        .map_err(|error| E::custom(readable(&error.to_string())))?;
    match unknown.first() {
        Some(field) => Err(E::custom(format_args!("unknown field `{}`", readable(field)))),
        None => Ok(known),
    }
}

/// Without the marks of optional fields in a path (`nodeAffinity.?.…`).
fn readable(path: &str) -> String {
    path.replace(".?", "").trim_start_matches("?.").to_owned()
}

/// Absent, null and empty are one for the API server, except an object with no fields (all of something) and the values of labels.
fn drop_what_is_not_stored(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_what_is_not_stored),
        Value::Object(fields) => fields.retain(|name, field| match field {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => {
                items.iter_mut().for_each(drop_what_is_not_stored);
                !items.is_empty()
            }
            Value::Object(labels) if name == "matchLabels" => !labels.is_empty(),
            Value::Object(_) => {
                drop_what_is_not_stored(field);
                true
            }
            Value::Bool(_) | Value::Number(_) => true,
        }),
        _ => {}
    }
}

/// A quantity as the API server stores it, written as text or as a number.
#[derive(Clone, Debug)]
struct Canonical(Quantity);

impl<'de> Deserialize<'de> for Canonical {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;

        impl Visitor<'_> for TextOrNumber {
            type Value = Canonical;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 10m or 32Mi")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Canonical, E> {
                canonical(text).map(Canonical).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Canonical, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Canonical, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Canonical, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(TextOrNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(text: &str) -> RunnerSettings {
        let file = ConfigFile::parse(text).unwrap();
        file.runner.settings(file.areas)
    }

    #[test]
    fn an_empty_file_leaves_everything_to_the_defaults() {
        for text in ["", "\n# nothing yet\n", "runner: {}", "{}"] {
            assert_eq!(runner(text), RunnerSettings::default(), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused_with_field_and_line() {
        for (text, field, line, what) in [
            ("runner:\n  imge: x\n", "runner", 2, "imge"),
            ("concurrencia: 1\n", "", 1, "concurrencia"),
            ("runner:\n  image: [x]\n", "runner.image", 2, "string"),
            ("concurrency: 65\n", "concurrency", 1, "1 to 64"),
            ("concurrency: many\n", "concurrency", 1, "1 to 64"),
            ("leaderElection:\n  leaseNam: x\n", "leaderElection", 2, "leaseNam"),
            (
                "leaderElection:\n  enabled: maybe\n",
                "leaderElection.enabled",
                2,
                "boolean",
            ),
            ("logFormat: xml\n", "logFormat", 1, "xml"),
            ("listen: 8080\n", "listen", 1, ":8080"),
            ("listen: everywhere\n", "listen", 1, "off"),
            (
                "runner:\n  imagePullPolicy: Sometimes\n",
                "runner.imagePullPolicy",
                2,
                "Sometimes",
            ),
            (
                "runner:\n  resources:\n    limits:\n      memory: 1gi\n",
                "runner.resources.limits.memory",
                4,
                "1gi",
            ),
            ("runner:\n  resources:\n    limit: {}\n", "runner.resources", 3, "limit"),
            (
                "runner:\n  nodeSelector: { disk: [x] }\n",
                "runner.nodeSelector.disk",
                2,
                "string",
            ),
            (
                "runner:\n  tolerations:\n  - key: a\n    tolerationSecs: 3\n",
                "runner.tolerations",
                3,
                "0.tolerationSecs",
            ),
            (
                "runner:\n  tolerations:\n  - key: a\n    tolerationSeconds: soon\n",
                "runner.tolerations",
                3,
                "tolerationSeconds",
            ),
            (
                "runner:\n  affinity:\n    nodeAffinity:\n      required: {}\n",
                "runner.affinity",
                3,
                "nodeAffinity.required",
            ),
            (
                "runner:\n  labels: { mapa.radar.dev/task: x }\n",
                "runner.labels",
                2,
                "the operator's own",
            ),
            ("runner:\n  labels: { team: two words }\n", "runner.labels", 2, "63"),
            (
                "runner:\n  annotations: { linkerd.io/inject: enabled }\n",
                "runner.annotations",
                2,
                "the operator's own",
            ),
            ("runner:\n  annotations: { /x: y }\n", "runner.annotations", 2, "prefix"),
            ("runner:\n  userIds: mine\n", "runner.userIds", 2, "platform"),
            (
                "runner:\n  imagePullSecrets: [registry]\n",
                "runner.imagePullSecrets",
                2,
                "[0]",
            ),
            (
                "runner:\n  caBundle: { configMap: x }\n",
                "runner.caBundle",
                2,
                "configMapName",
            ),
            ("areas:\n  RR: {}\n", "areas", 2, "built in"),
            ("areas:\n  A_C: {}\n", "areas", 2, "called \"A_C\""),
            (
                "areas:\n  AC:\n    latitude: { min: 3, max: 1 }\n",
                "areas.AC.latitude",
                3,
                "min below max",
            ),
            ("runner: {}\nrunner: {}\n", "", 2, "runner"),
            ("runner: {\n", "", 2, ""),
        ] {
            let said = ConfigFile::parse(text).unwrap_err().to_string();
            assert!(said.starts_with(field), "{text:?}: {said}");
            assert!(said.contains(&format!("line {line}")), "{text:?}: {said}");
            assert!(said.contains(what), "{text:?}: {said}");
            assert!(!said.contains('\n'), "one line: {said}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let said = ConfigFile::read(Path::new("/nowhere/config.yaml"))
            .unwrap_err()
            .to_string();
        assert!(said.contains("/nowhere/config.yaml"), "{said}");
    }

    #[test]
    fn what_the_api_server_does_not_store_is_left_out() {
        let given = runner(
            "runner:
  image: ''
  priorityClassName: ''
  resources: { requests: { cpu: 0.5, memory: 1024Mi }, limits: {} }
  tolerations: [{ key: a, operator: Exists, value: '', effect: null }]
  affinity:
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution: []
      preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 1
        podAffinityTerm:
          topologyKey: zone
          namespaces: []
          namespaceSelector: {}
          labelSelector: { matchExpressions: [], matchLabels: { tier: '' } }
",
        );
        let plain = runner(
            "runner:
  resources: { requests: { cpu: 500m, memory: 1Gi }, limits: {} }
  tolerations: [{ key: a, operator: Exists }]
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 1
        podAffinityTerm:
          topologyKey: zone
          namespaceSelector: {}
          labelSelector: { matchLabels: { tier: '' } }
",
        );
        assert_eq!(given, plain);
        assert!(given.affinity.is_some() && given.limits.is_some_and(|limits| limits.is_empty()));
    }
}
