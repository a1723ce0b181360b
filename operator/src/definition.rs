//! Whether the cluster's CustomResourceDefinition has every field that this operator reads and writes.
//!
//! The API server drops what a definition does not have, silently: under an older one the operator would lose its own account at every write.
//! So it looks before it takes part in the election, and stays unready, and without a lease, until the definition fits: in a rolling upgrade
//! the older operator goes on meanwhile. It reads the published OpenAPI document, which every account may (the cluster's role
//! `system:discovery`), so that it needs no permission on definitions themselves.

use std::{collections::BTreeMap, time::Duration};

use kube::{Client, CustomResourceExt};
use mapa_refresh_crds::MapaRefreshPolicy;
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::watch, time::sleep};
use tracing::{debug, info, warn};

/// Where the API server publishes the schemas of our group and version.
const PUBLISHED: &str = "/openapi/v3/apis/mapa.radar.dev/v1";
/// Between two looks while it does not fit: the document follows a change of the definition by a second or two.
const UNTIL_IT_FITS: Duration = Duration::from_secs(2);
/// Between two looks afterwards: definitions change at upgrades.
const WHILE_IT_FITS: Duration = Duration::from_secs(600);
/// After a look to which nobody gave an answer of use.
const AFTER_NO_ANSWER: Duration = Duration::from_secs(30);

/// What was seen of the definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Definition {
    /// The API server gave no answer of use: nothing is held against it.
    Unknown,
    /// There is none. The caches tell that by themselves, and wait for it.
    Missing,
    /// It lacks a field, or one of its words, that this operator knows.
    Older {
        /// The first one, as `status.compliance`.
        lacks: String,
    },
    /// It has all of them.
    Fits,
}

impl Definition {
    /// What is missing for being ready.
    #[must_use]
    pub fn unmet(&self) -> Vec<String> {
        match self {
            Self::Older { lacks } => vec![format!(
                "the CustomResourceDefinition maparefreshpolicies.mapa.radar.dev is older than this operator ({version}): it does not have {lacks}; \
                 apply crds/maparefreshpolicies.yaml of version {version}",
                version = env!("CARGO_PKG_VERSION"),
            )],
            Self::Unknown | Self::Missing | Self::Fits => Vec::new(),
        }
    }

    fn looked_at_again_after(&self) -> Duration {
        match self {
            Self::Unknown => AFTER_NO_ANSWER,
            Self::Missing | Self::Older { .. } => UNTIL_IT_FITS,
            Self::Fits => WHILE_IT_FITS,
        }
    }
}

/// Looks again and again, and tells `seen` what changed. Never ends.
pub async fn look(client: Client, seen: watch::Sender<Option<Definition>>) {
    let ours = ours();
    loop {
        let definition = published(&client, ours.as_ref()).await;
        let after = definition.looked_at_again_after();
        seen.send_if_modified(|before| {
            let is_news = before.as_ref() != Some(&definition);
            if is_news {
                say(&definition);
                *before = Some(definition);
            }
            is_news
        });
        sleep(after).await;
    }
}

fn say(definition: &Definition) {
    match definition {
        Definition::Unknown => debug!("the definition of the policies was not seen"),
        Definition::Missing => warn!(
            "the CustomResourceDefinition maparefreshpolicies.mapa.radar.dev is not installed: apply crds/maparefreshpolicies.yaml"
        ),
        Definition::Older { .. } => warn!("{}", definition.unmet().concat()),
        Definition::Fits => info!("the definition of the policies has every field of this version"),
    }
}

async fn published(client: &Client, ours: Option<&Schema>) -> Definition {
    let Ok(request) = http::Request::get(PUBLISHED).body(Vec::new()) else {
        return Definition::Unknown;
    };
    match client.request::<Document>(request).await {
        Ok(document) => judge(&document, ours),
        Err(kube::Error::Api(status)) if status.is_not_found() => Definition::Missing,
        Err(error) => {
            debug!(%error, "cannot read the published schema of the policies");
            Definition::Unknown
        }
    }
}

fn judge(document: &Document, ours: Option<&Schema>) -> Definition {
    let is_of_policies = |schema: &&Schema| schema.kinds.iter().any(|kind| kind.kind == "MapaRefreshPolicy");
    let theirs = document.components.schemas.values().find(is_of_policies);
    let (Some(theirs), Some(ours)) = (theirs, ours) else {
        return Definition::Unknown;
    };
    match ours.first_beyond(theirs, "") {
        Some(lacks) => Definition::Older { lacks },
        None => Definition::Fits,
    }
}

/// The schema of this operator's version.
fn ours() -> Option<Schema> {
    let definition = MapaRefreshPolicy::crd();
    let version = definition.spec.versions.into_iter().next()?;
    let schema = version.schema?.open_api_v3_schema?;
    serde_json::from_value(serde_json::to_value(schema).ok()?).ok()
}

#[derive(Debug, Deserialize)]
struct Document {
    components: Components,
}

#[derive(Debug, Deserialize)]
struct Components {
    schemas: BTreeMap<String, Schema>,
}

/// Of a schema what decides whether a value is kept: its fields and words. Everything else, descriptions and bounds, may differ.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Schema {
    properties: BTreeMap<String, Self>,
    items: Option<Box<Self>>,
    #[serde(rename = "enum")]
    words: Vec<Value>,
    #[serde(rename = "x-kubernetes-preserve-unknown-fields")]
    keeps_unknown: bool,
    #[serde(rename = "x-kubernetes-group-version-kind")]
    kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    kind: String,
}

impl Schema {
    /// The first field or word of this schema, which is that of `path`, that `other` does not have.
    fn first_beyond(&self, other: &Self, path: &str) -> Option<String> {
        let dot = if path.is_empty() { "" } else { "." };
        for (name, field) in &self.properties {
            let path = format!("{path}{dot}{name}");
            let beyond = match other.properties.get(name) {
                Some(theirs) => field.first_beyond(theirs, &path),
                None if other.keeps_unknown => None,
                None => Some(path),
            };
            if beyond.is_some() {
                return beyond;
            }
        }
        if let (Some(items), Some(theirs)) = (&self.items, &other.items)
            && let Some(beyond) = items.first_beyond(theirs, &format!("{path}[]"))
        {
            return Some(beyond);
        }
        // No list of words takes any.
        let word = self
            .words
            .iter()
            .filter(|_| !other.words.is_empty())
            .find(|word| !word.is_null() && !other.words.contains(word))?;
        Some(format!("the value {word} of {path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an API server publishes for our definition after `change`.
    fn seen_after(change: impl FnOnce(&mut Value)) -> Definition {
        let schema = MapaRefreshPolicy::crd().spec.versions.remove(0).schema.unwrap();
        let mut schema = serde_json::to_value(schema.open_api_v3_schema).unwrap();
        schema["x-kubernetes-group-version-kind"] =
            serde_json::json!([{ "group": "mapa.radar.dev", "kind": "MapaRefreshPolicy", "version": "v1" }]);
        change(&mut schema);
        let document = serde_json::json!({
            "components": { "schemas": { "dev.radar.mapa.v1.MapaRefreshPolicy": schema, "io.k8s.Other": { "type": "object" } } },
        });
        judge(&serde_json::from_value(document).unwrap(), ours().as_ref())
    }

    fn remove(schema: &mut Value, pointer: &str, name: &str) {
        let fields = schema.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
        assert!(fields.remove(name).is_some());
    }

    #[test]
    fn our_own_definition_fits_and_so_does_a_newer_one() {
        assert_eq!(seen_after(|_| {}), Definition::Fits);
        let newer = |schema: &mut Value| {
            schema["properties"]["status"]["properties"]["novo"] = serde_json::json!({ "type": "string" });
            schema["properties"]["spec"]["description"] = "other words".into();
        };
        assert_eq!(seen_after(newer), Definition::Fits);
    }

    #[test]
    fn a_definition_without_one_of_our_fields_or_words_is_older_and_names_it() {
        let lacks = |change: &dyn Fn(&mut Value)| match seen_after(change) {
            Definition::Older { lacks } => lacks,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            lacks(&|schema| remove(schema, "/properties/status/properties", "compliance")),
            "status.compliance"
        );
        assert_eq!(
            lacks(&|schema| remove(
                schema,
                "/properties/status/properties/tasks/items/properties",
                "retries"
            )),
            "status.tasks[].retries"
        );
        let words = |schema: &mut Value| {
            let words = schema.pointer_mut("/properties/spec/properties/database/properties/kind/enum");
            words.unwrap().as_array_mut().unwrap().retain(|word| word != "oracle");
        };
        assert_eq!(lacks(&words), "the value \"oracle\" of spec.database.kind");
        let older = Definition::Older {
            lacks: "status.compliance".to_owned(),
        };
        let line = older.unmet().concat();
        assert!(
            line.contains("older than this operator") && line.contains("crds/maparefreshpolicies.yaml"),
            "{line}"
        );
        assert!(!line.contains('\n'));
    }

    #[test]
    fn a_definition_that_keeps_what_it_does_not_know_drops_nothing() {
        let lax = |schema: &mut Value| {
            schema["properties"]["spec"] =
                serde_json::json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        };
        assert_eq!(seen_after(lax), Definition::Fits);
    }

    #[test]
    fn a_document_that_says_nothing_of_policies_is_held_against_nobody() {
        let document = serde_json::from_value(serde_json::json!({ "components": { "schemas": {} } })).unwrap();
        assert_eq!(judge(&document, ours().as_ref()), Definition::Unknown);
    }
}
