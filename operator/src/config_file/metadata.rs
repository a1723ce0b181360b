//! Labels and annotations that a cluster demands: valid ones, and none of the operator's own.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{Error, MapAccess, Visitor},
};

use crate::{
    admission::{DNS_SUBDOMAIN, matches},
    desired::is_own_key,
};

/// Longest prefix, name and value of a label.
const MAX_PREFIX: usize = 253;
const MAX_NAME: usize = 63;

/// Labels by key.
pub(super) fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    deserializer.deserialize_any(Pairs {
        check_value: label_value,
    })
}

/// Annotations by key.
pub(super) fn annotations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    deserializer.deserialize_any(Pairs {
        check_value: |_| Ok(()),
    })
}

struct Pairs {
    check_value: fn(&str) -> Result<(), String>,
}

impl<'de> Visitor<'de> for Pairs {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("texts by key")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            qualified_name(&key).map_err(A::Error::custom)?;
            if is_own_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "{key} is the operator's own and cannot be set: leave it out"
                )));
            }
            let value: String = map.next_value()?;
            (self.check_value)(&value).map_err(A::Error::custom)?;
            if pairs.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format_args!("{key} is there twice")));
            }
        }
        Ok(pairs)
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME && matches(r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", text)
}

fn qualified_name(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_prefix = |prefix: &str| prefix.len() <= MAX_PREFIX && matches(DNS_SUBDOMAIN, prefix);
    if is_name(name) && prefix.is_none_or(is_prefix) {
        return Ok(());
    }
    Err(format!(
        "{key:?} is no key of a label or annotation: write a name of at most {MAX_NAME} letters, digits, '-', '_' and '.', with a letter or \
         digit at both ends, and before it, if any, a DNS prefix and '/'"
    ))
}

fn label_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_name(value) {
        return Ok(());
    }
    Err(format!(
        "{value:?} is no value of a label: write at most {MAX_NAME} letters, digits, '-', '_' and '.', with a letter or digit at both ends"
    ))
}
