//! The policy and the Secrets of tests and demo.

use crate::{postgres, redis};

/// What a policy is made of.
#[derive(Clone, Debug)]
pub struct Example {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `spec.intervalMinutes`.
    pub interval_minutes: u32,
    /// Prefix of the published keys.
    pub key_prefix: String,
}

impl Example {
    /// A policy that runs every minute.
    #[must_use]
    pub fn every_minute(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            interval_minutes: 1,
            key_prefix: "mapa".to_owned(),
        }
    }

    /// The policy as YAML, as an admin writes it. `extra` are further lines of the spec, indented by two.
    #[must_use]
    pub fn manifest(&self, extra: &str) -> String {
        let Self {
            namespace,
            name,
            interval_minutes,
            key_prefix,
        } = self;
        format!(
            "apiVersion: mapa.radar.dev/v1
kind: MapaRefreshPolicy
metadata:
  name: {name}
  namespace: {namespace}
spec:
  intervalMinutes: {interval_minutes}
  database:
    kind: postgresql
    secretRef: {{ name: radar-database }}
  cache:
    secretRef: {{ name: radar-cache }}
    keyPrefix: {key_prefix}
{extra}"
        )
    }

    /// The two Secrets for the servers of the tests.
    #[must_use]
    pub fn secrets(&self, database_url: &str, cache_url: &str) -> String {
        let database = [
            ("url", database_url),
            ("username", postgres::RUNNER_ROLE),
            ("password", postgres::RUNNER_PASSWORD),
        ];
        let cache = [("url", cache_url), ("password", redis::PASSWORD)];
        format!(
            "{}---\n{}",
            self.secret("radar-database", &database),
            self.secret("radar-cache", &cache)
        )
    }

    /// The two Secrets from URLs that hold the credentials.
    #[must_use]
    pub fn secrets_of_urls(&self, database_url: &str, cache_url: &str) -> String {
        let database = self.secret("radar-database", &[("url", database_url)]);
        format!("{database}---\n{}", self.secret("radar-cache", &[("url", cache_url)]))
    }

    /// A Secret in the policy's namespace.
    #[must_use]
    pub fn secret(&self, name: &str, keys: &[(&str, &str)]) -> String {
        let Self { namespace, .. } = self;
        let data: String = keys
            .iter()
            .map(|(key, value)| format!("  {key}: {}\n", serde_json::Value::from(*value)))
            .collect();
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\nstringData:\n{data}"
        )
    }
}
