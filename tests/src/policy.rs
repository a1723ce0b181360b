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
        Self { namespace: namespace.to_owned(), name: name.to_owned(), interval_minutes: 1, key_prefix: "mapa".to_owned() }
    }

    /// The policy as YAML, as an admin writes it. `extra` are further lines of the spec, indented by two.
    #[must_use]
    pub fn manifest(&self, extra: &str) -> String {
        let Self { namespace, name, interval_minutes, key_prefix } = self;
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

    /// The two Secrets of a namespace.
    #[must_use]
    pub fn secrets(&self, database_url: &str, cache_url: &str) -> String {
        let namespace = &self.namespace;
        format!(
            "apiVersion: v1
kind: Secret
metadata: {{ name: radar-database, namespace: {namespace} }}
stringData:
  url: {database_url}
  username: {user}
  password: {database_password}
---
apiVersion: v1
kind: Secret
metadata: {{ name: radar-cache, namespace: {namespace} }}
stringData:
  url: {cache_url}
  password: {cache_password}
",
            user = postgres::RUNNER_ROLE,
            database_password = postgres::RUNNER_PASSWORD,
            cache_password = redis::PASSWORD,
        )
    }
}
