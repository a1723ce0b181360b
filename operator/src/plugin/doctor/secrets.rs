//! The policies' Secrets: whether their keys exist, by name. No value is ever looked at.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use kube::api::Request;
use mapa_refresh_crds::secret_keys as keys;
use serde::{Deserialize, de::IgnoredAny};

use super::check::Check;
use crate::plugin::{cluster::Cluster, policies::Listed};

/// Most Secrets that are asked for.
const MOST: usize = 200;

/// Requests at the same time.
const CONCURRENCY: usize = 6;

/// What a Secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Store {
    Database,
    Cache,
}

impl Store {
    fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Cache => "cache",
        }
    }
}

/// A Secret that a policy names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    namespace: String,
    name: String,
    store: Store,
}

/// The names of a Secret's keys: the values are skipped while the answer is read.
#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    data: BTreeMap<String, IgnoredAny>,
}

/// Looks at each Secret that one of `listed` names.
pub async fn check(cluster: &Cluster, listed: &[Listed]) -> Vec<Check> {
    let named = named(listed);
    let more = named.len().saturating_sub(MOST);
    let mut checks: Vec<Check> = stream::iter(named.iter().take(MOST).map(|named| look(cluster, named)))
        .buffered(CONCURRENCY)
        .collect()
        .await;
    if more > 0 {
        checks.push(Check::unseen(
            "Secrets",
            format!("{more} more were not looked at"),
            "look at one namespace at a time, by -n",
        ));
    }
    checks
}

fn named(listed: &[Listed]) -> BTreeSet<Named> {
    listed
        .iter()
        .filter_map(|listed| match listed {
            Listed::Policy(policy) => Some(policy),
            Listed::Undecodable { .. } => None,
        })
        .flat_map(|policy| {
            let namespace = policy.metadata.namespace.clone().unwrap_or_default();
            let spec = &policy.spec;
            [
                (Store::Database, &spec.database.secret_ref.name),
                (Store::Cache, &spec.cache.secret_ref.name),
            ]
            .map(|(store, name)| Named {
                namespace: namespace.clone(),
                name: name.clone(),
                store,
            })
        })
        .collect()
}

async fn look(cluster: &Cluster, named: &Named) -> Check {
    let subject = subject(named);
    let path = format!("/api/v1/namespaces/{}/secrets", named.namespace);
    let request = match Request::new(path).get(&named.name, &Default::default()) {
        Ok(request) => request,
        Err(error) => {
            return Check::failed(
                &subject,
                error.to_string(),
                "correct the name of the Secret in the policy",
            );
        }
    };
    match cluster.client.request::<Keys>(request).await {
        Ok(keys) => judge(named, Some(&keys.data.into_keys().collect())),
        Err(kube::Error::Api(status)) if status.is_not_found() => judge(named, None),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Check::unseen(
            &subject,
            "can't be seen from here: you may not read Secrets, which is as it should be for most",
            "the next run names a key that is missing: `kubectl mapa runs POLICY`",
        ),
        Err(error) => Check::unanswered(&subject, &error),
    }
}

fn subject(named: &Named) -> String {
    format!("Secret {}/{} ({})", named.namespace, named.name, named.store.as_str())
}

/// `present` are the names of the Secret's keys, absent when there is no such Secret.
fn judge(named: &Named, present: Option<&BTreeSet<String>>) -> Check {
    let subject = subject(named);
    let wanted: &[&str] = match named.store {
        Store::Database => &[keys::URL, keys::USERNAME, keys::PASSWORD],
        Store::Cache => &[keys::URL],
    };
    let Some(present) = present else {
        return Check::failed(
            &subject,
            "does not exist",
            format!(
                "create it: `kubectl -n {} create secret generic {} {}`",
                named.namespace,
                named.name,
                wanted
                    .iter()
                    .map(|key| format!("--from-literal={key}=…"))
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        );
    };
    let has = |key: &str| present.contains(key);
    if !has(keys::URL) {
        return Check::failed(
            &subject,
            "has no key url",
            format!(
                "add it: `kubectl -n {} patch secret {} -p '{{\"stringData\":{{\"url\":\"…\"}}}}'`",
                named.namespace, named.name
            ),
        );
    }
    for (key, other) in [(keys::TLS_CERT, keys::TLS_KEY), (keys::TLS_KEY, keys::TLS_CERT)] {
        if has(key) && !has(other) {
            return Check::failed(
                &subject,
                format!("has the key {key} and no key {other}"),
                "add the other one, or drop both: a client certificate needs its key",
            );
        }
    }
    // A client certificate may log in without a password.
    let is_dispensable = |key: &str| key == keys::PASSWORD && has(keys::TLS_CERT);
    let missing: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|key| !has(key) && !is_dispensable(key))
        .collect();
    if missing.is_empty() {
        let names: Vec<&str> = present.iter().map(String::as_str).collect();
        return Check::passed(&subject, format!("has the keys {}", names.join(", ")));
    }
    Check::warning(
        &subject,
        format!("has no key {}", missing.join(" and no key ")),
        "add it, unless the url holds the credentials or a wallet does",
    )
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    fn verdict(store: Store, keys: Option<&[&str]>) -> Verdict {
        let named = Named {
            namespace: "radar".into(),
            name: "s".into(),
            store,
        };
        let keys: Option<BTreeSet<String>> = keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect());
        judge(&named, keys.as_ref()).verdict
    }

    #[test]
    fn a_secret_or_url_that_is_missing_fails_and_credentials_may_be_in_the_url() {
        assert_eq!(verdict(Store::Database, None), Verdict::Failed);
        assert_eq!(
            verdict(Store::Database, Some(&["username", "password"])),
            Verdict::Failed
        );
        assert_eq!(verdict(Store::Database, Some(&["url"])), Verdict::Warning);
        assert_eq!(
            verdict(Store::Database, Some(&["url", "username", "password"])),
            Verdict::Passed
        );
        assert_eq!(verdict(Store::Cache, Some(&["url"])), Verdict::Passed);
        assert_eq!(verdict(Store::Cache, Some(&[])), Verdict::Failed);
    }

    #[test]
    fn a_client_certificate_needs_its_key_and_may_stand_for_a_password() {
        for store in [Store::Database, Store::Cache] {
            for half in ["tls.crt", "tls.key"] {
                let keys = ["url", "username", "password", half];
                assert_eq!(verdict(store, Some(&keys)), Verdict::Failed, "{half}");
            }
            let keys = ["url", "username", "tls.crt", "tls.key"];
            assert_eq!(verdict(store, Some(&keys)), Verdict::Passed);
        }
    }

    #[test]
    fn values_are_not_kept() {
        let keys: Keys = serde_json::from_str(r#"{"kind":"Secret","data":{"url":"c2VjcmV0"}}"#).unwrap();
        assert_eq!(keys.data.into_keys().collect::<Vec<_>>(), ["url"]);
    }
}
