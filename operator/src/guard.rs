//! Pure: decoding of watched objects, so that one bad object cannot stall the others.
//!
//! The API server stores objects that this operator cannot decode: of an older, looser definition, with a status edited by hand, with times
//! beyond the year 9999. Decoding a [`Guard`] never fails: it keeps the decoder's error, the metadata and, of a policy, the status.
//!
//! `metadata.managedFields` is not decoded at all. A writer of an object can put times into it that k8s-openapi cannot decode, and one such
//! object would fail every list of its kind, because kube's own `DeserializeGuard` decodes metadata strictly.

use std::borrow::Cow;

use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use mapa_refresh_crds::{MapaRefreshPolicy, MapaRefreshPolicyStatus};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

/// An object of a watch, decoded or not.
#[derive(Clone, Debug)]
pub struct Guard<K> {
    /// The object, or what could be decoded of it.
    pub object: Result<K, Invalid>,
    /// The decoder's error for a dispensable part that was cut out: of a policy, its status.
    pub lost: Option<String>,
}

/// An object that cannot be decoded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct Invalid {
    /// The decoder's error, with the path.
    pub error: String,
    /// Its metadata, as far as they can be decoded.
    pub metadata: ObjectMeta,
    /// Its status, as far as it can be decoded; null without one.
    pub status: Value,
}

/// A kind of object that is watched.
pub trait Watchable: Resource<DynamicType = ()> + DeserializeOwned {
    /// Cuts out of `raw` what cannot be decoded and is dispensable; returns the decoder's error.
    #[must_use]
    fn mend(raw: &mut Value) -> Option<String> {
        let _ = raw;
        None
    }
}

impl Watchable for CronJob {}
impl Watchable for Job {}
impl Watchable for Pod {}

impl Watchable for MapaRefreshPolicy {
    /// A status is the operator's own: what of it is lost begins anew. What cannot be decoded is cut out, the smallest part first.
    fn mend(raw: &mut Value) -> Option<String> {
        /// Most cuts. A status that needs more of them was not written by the operator, and is dropped as a whole.
        const MOST_CUTS: usize = 64;
        raw.get("status")?;
        let mut lost = None;
        for _ in 0..MOST_CUTS {
            let Err(error) = serde_path_to_error::deserialize::<_, StatusAlone>(&*raw) else {
                return lost;
            };
            lost.get_or_insert_with(|| error.to_string());
            cut(raw, error.path());
        }
        if let Some(status) = raw.get_mut("status") {
            *status = Value::Null;
        }
        lost
    }
}

/// A policy of which nothing but the status is decoded.
#[derive(Deserialize)]
struct StatusAlone {
    #[serde(rename = "status")]
    _status: Option<MapaRefreshPolicyStatus>,
}

/// Removes what `path` leads to, or leads to last: the smallest part of the status that can be done without is not always known.
fn cut(raw: &mut Value, path: &Path) {
    let mut steps: Vec<&Segment> = path
        .iter()
        .take_while(|step| matches!(step, Segment::Map { .. } | Segment::Seq { .. }))
        .collect();
    while let Some(last) = steps.pop() {
        let parent = steps.iter().try_fold(&mut *raw, |value, step| match step {
            Segment::Map { key } => value.get_mut(key),
            Segment::Seq { index } => value.get_mut(*index),
            _ => None,
        });
        match (parent, last) {
            (Some(Value::Object(fields)), Segment::Map { key }) if fields.contains_key(key) => {
                fields.remove(key);
                return;
            }
            (Some(Value::Array(items)), Segment::Seq { index }) if *index < items.len() => {
                items.remove(*index);
                return;
            }
            _ => {}
        }
    }
}

/// Decodes `raw`; an error begins with the path of what it is about.
fn decoded<T: DeserializeOwned>(raw: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(raw).map_err(|error| error.to_string())
}

impl<K: Watchable> Guard<K> {
    fn of(mut raw: Value) -> Self {
        if let Some(metadata) = raw.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let error = match decoded(&raw) {
            Ok(object) => {
                return Self {
                    object: Ok(object),
                    lost: None,
                };
            }
            Err(error) => error,
        };
        let lost = K::mend(&mut raw);
        let object = match &lost {
            Some(_) => decoded(&raw),
            None => Err(error),
        };
        Self {
            object: object.map_err(|error| Invalid {
                error,
                metadata: metadata(&raw),
                status: raw.get_mut("status").map(Value::take).unwrap_or_default(),
            }),
            lost,
        }
    }
}

/// The metadata of `raw`, field by field: without a name no Event could refer to the object.
fn metadata(raw: &Value) -> ObjectMeta {
    let sound = |(name, value): (&String, &Value)| {
        let alone = Map::from_iter([(name.clone(), value.clone())]);
        let is_sound = serde_json::from_value::<ObjectMeta>(alone.into()).is_ok();
        is_sound.then(|| (name.clone(), value.clone()))
    };
    let fields = raw.get("metadata").and_then(Value::as_object);
    let fields: Map<String, Value> = fields.into_iter().flatten().filter_map(sound).collect();
    serde_json::from_value(fields.into()).unwrap_or_default()
}

impl<'de, K: Watchable> Deserialize<'de> for Guard<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::of)
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Guard<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.object {
            Ok(object) => object.meta(),
            Err(invalid) => &invalid.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.object {
            Ok(object) => object.meta_mut(),
            Err(invalid) => &mut invalid.metadata,
        }
    }
}

#[cfg(test)]
mod tests;
