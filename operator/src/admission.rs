//! Pure: what the API server would say to a policy, without one: the bounds of the resource's schema, its CEL rules and its defaults.
//!
//! The schema that is generated for the cluster is walked itself, so that no bound is written twice. Its CEL rules are few, and are
//! looked up by their text; a test fails when the resource gains one that is not known here.

use std::{collections::BTreeSet, fmt};

use k8s_openapi::jiff::Timestamp;
use kube::CustomResourceExt;
use mapa_refresh_crds::{MapaRefreshPolicy, labels::GROUP, policy::LEGAL_LIMIT_MINUTES};
use regex_lite::Regex;
use serde::Serialize;
use serde_json::{Map, Value};

/// Longest name of an object.
///
/// Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>
const MAX_NAME: usize = 253;

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Where, such as `spec.tasks[0].maxRetries`.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A field that the policy did not give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Defaulted {
    /// Which.
    pub field: String,
    /// What the API server fills in.
    pub value: Value,
}

/// A policy as the API server would keep it.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The policy, defaults filled in.
    pub policy: MapaRefreshPolicy,
    /// What was filled in.
    pub defaulted: Vec<Defaulted>,
}

/// Judges `object` as the API server would on `kubectl apply`; without a namespace of its own it is of `namespace`.
///
/// # Errors
/// Every problem, in the order of the schema.
pub fn admit(mut object: Value, namespace: &str) -> Result<Admitted, Vec<Problem>> {
    let mut walk = Walk::default();
    walk.check_identity(&object);
    walk.check_metadata(&object);
    // What is asked about is the spec: a status is the operator's, and metadata the API server's.
    let mut root = Map::new();
    if let Some(spec) = object.get_mut("spec") {
        root.insert("spec".to_owned(), spec.take());
    }
    let schema = schema();
    let mut root = Value::Object(root);
    walk.visit(&schema, &mut root, "");
    // The rule about the name stands beside the root.
    walk.check_rules(&schema, &object, "");
    if let Some(known) = object.as_object_mut() {
        if let Some(spec) = root.get_mut("spec") {
            known.insert("spec".to_owned(), spec.take());
        }
        known.remove("status");
    }
    if !walk.problems.is_empty() {
        return Err(walk.problems);
    }
    let mut policy: MapaRefreshPolicy = serde_json::from_value(object).map_err(|error| {
        vec![Problem {
            field: "spec".to_owned(),
            message: error.to_string(),
        }]
    })?;
    policy.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
    Ok(Admitted {
        policy,
        defaulted: walk.defaulted,
    })
}

/// The schema of the resource as the API server gets it, without the status, which nobody applies; empty if it had none.
fn schema() -> Value {
    let crd = MapaRefreshPolicy::crd();
    let mut schema = crd
        .spec
        .versions
        .into_iter()
        .find_map(|version| version.schema?.open_api_v3_schema)
        .and_then(|schema| serde_json::to_value(schema).ok())
        .unwrap_or_default();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("status");
    }
    schema
}

#[derive(Default)]
struct Walk {
    problems: Vec<Problem>,
    defaulted: Vec<Defaulted>,
}

impl Walk {
    fn problem(&mut self, field: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            field: field.to_owned(),
            message: message.into(),
        });
    }

    fn check_identity(&mut self, object: &Value) {
        let version = format!("{GROUP}/v1");
        if object.get("apiVersion").and_then(Value::as_str) != Some(&version) {
            self.problem("apiVersion", format!("write {version}"));
        }
        match object.pointer("/metadata/name").and_then(Value::as_str) {
            None if object.pointer("/metadata/name").is_some_and(|name| !name.is_null()) => {}
            None => self.problem("metadata.name", "is required: write a name of at most 30 characters"),
            Some(name) if name.len() > MAX_NAME || !matches(DNS_SUBDOMAIN, name) => self.problem(
                "metadata.name",
                format!("is {name:?}; write lower case letters, digits, hyphens and dots, with a letter or digit at both ends"),
            ),
            Some(_) => {}
        }
    }

    /// What has to be text in the metadata that a file gives: the API server reads it before anything else.
    fn check_metadata(&mut self, object: &Value) {
        let texts = |map: &'static str| {
            let fields = object.get("metadata").and_then(|metadata| metadata.get(map));
            fields.and_then(Value::as_object).into_iter().flatten()
        };
        let named = ["name", "namespace"]
            .into_iter()
            .filter_map(|field| Some((format!("metadata.{field}"), object.get("metadata")?.get(field)?)));
        let labels = ["labels", "annotations"]
            .into_iter()
            .flat_map(|map| texts(map).map(move |(key, value)| (format!("metadata.{map}[{key}]"), value)));
        for (field, value) in named.chain(labels) {
            if !value.is_string() && !value.is_null() {
                self.problem(
                    &field,
                    format!("is {}; must be of type string{}", shown(value), quotes("string", value)),
                );
            }
        }
    }

    fn visit(&mut self, schema: &Value, value: &mut Value, path: &str) {
        if value.is_null() && is_nullable(schema) {
            return;
        }
        let type_ = schema.get("type").and_then(Value::as_str).unwrap_or("object");
        if !is_of(type_, value) {
            return self.problem(
                path,
                format!("is {}; must be of type {type_}{}", shown(value), quotes(type_, value)),
            );
        }
        self.check_bounds(schema, value, path);
        match value {
            Value::Object(fields) => self.visit_fields(schema, fields, path),
            Value::Array(items) => self.visit_items(schema, items, path),
            _ => {}
        }
        // At the root the rule is about metadata, which is not part of what is walked.
        if !path.is_empty() {
            self.check_rules(schema, value, path);
        }
    }

    fn visit_fields(&mut self, schema: &Value, fields: &mut Map<String, Value>, path: &str) {
        let empty = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        for field in fields.keys().filter(|field| !known.contains_key(*field)) {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            self.problem(
                &joined(path, field),
                format!("is not a field of the resource; there are {}", names.join(", ")),
            );
        }
        for (field, schema) in known {
            // As the API server does: a null where none may be is as if it were not there.
            if fields.get(field).is_some_and(Value::is_null) && !is_nullable(schema) {
                fields.remove(field);
            }
            if !fields.contains_key(field)
                && let Some(default) = schema.get("default")
            {
                fields.insert(field.clone(), default.clone());
                self.defaulted.push(Defaulted {
                    field: joined(path, field),
                    value: default.clone(),
                });
            }
            if let Some(value) = fields.get_mut(field) {
                self.visit(schema, value, &joined(path, field));
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for field in required.into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(field) {
                let about = known
                    .get(field)
                    .and_then(|schema| schema.get("description"))
                    .and_then(Value::as_str)
                    .map_or_else(String::new, |about| format!(": {}", first_sentence(about)));
                self.problem(&joined(path, field), format!("is required{about}"));
            }
        }
    }

    fn visit_items(&mut self, schema: &Value, items: &mut [Value], path: &str) {
        let mut keys = BTreeSet::new();
        let key_names: Vec<&str> = schema
            .get("x-kubernetes-list-map-keys")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (position, item) in items.iter_mut().enumerate() {
            let path = format!("{path}[{position}]");
            if let Some(schema) = schema.get("items") {
                self.visit(schema, item, &path);
            }
            let key: Vec<String> = key_names
                .iter()
                .filter_map(|name| Some(item.get(*name)?.to_string()))
                .collect();
            if !key.is_empty() && !keys.insert(key.clone()) {
                self.problem(
                    &path,
                    format!("{} stands in the list twice; leave one out", key.join(", ")),
                );
            }
        }
    }

    fn check_bounds(&mut self, schema: &Value, value: &Value, path: &str) {
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        if let Some(number) = value.as_f64() {
            let (least, most) = (bound("minimum"), bound("maximum"));
            if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
                self.problem(
                    path,
                    format!("is {value}; write {}", range(least, most.or(legal_maximum(schema)))),
                );
            } else if schema.get("format").and_then(Value::as_str) == Some("int32")
                && value.as_i64().is_none_or(|number| i32::try_from(number).is_err())
            {
                self.problem(path, format!("is {value}; write a smaller number"));
            }
        }
        let size = match value {
            Value::String(text) => Some((text.chars().count(), "minLength", "maxLength", "characters")),
            Value::Array(items) => Some((items.len(), "minItems", "maxItems", "items")),
            _ => None,
        };
        if let Some((size, least, most, unit)) = size {
            let (least, most) = (bound(least), bound(most));
            #[expect(clippy::cast_precision_loss, reason = "no text or list of a policy has 2^52 parts")]
            let size = size as f64;
            if least.is_some_and(|least| size < least) || most.is_some_and(|most| size > most) {
                self.problem(path, format!("has {size} {unit}; write {}", range(least, most)));
            }
        }
        let Some(text) = value.as_str() else { return };
        let is_moment = schema.get("format").and_then(Value::as_str) == Some("date-time");
        let pattern = schema.get("pattern").and_then(Value::as_str);
        let mismatch = pattern.filter(|pattern| !matches(pattern, text));
        if let Some(pattern) = mismatch.filter(|_| !is_moment) {
            self.problem(path, format!("is {text:?}; must match {pattern}"));
        }
        if let Some(names) = schema.get("enum").and_then(Value::as_array)
            && !names.contains(value)
        {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            self.problem(path, format!("is {text:?}; write one of {}", names.join(", ")));
        }
        if is_moment && (mismatch.is_some() || text.parse::<Timestamp>().is_err()) {
            self.problem(
                path,
                format!("is {text:?}; write a moment of the years 2000 to 2199, such as 2026-11-23T10:00:00Z"),
            );
        }
    }

    fn check_rules(&mut self, schema: &Value, value: &Value, path: &str) {
        for rule in rules_of(schema) {
            let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
            let field = if path.is_empty() { "metadata.name" } else { path };
            match RULES.iter().find(|(known, _)| *known == text("rule")) {
                Some((_, holds)) if holds(value) => {}
                Some(_) => self.problem(field, text("message")),
                None => self.problem(
                    field,
                    format!("has a rule that only a cluster can check: {}", text("rule")),
                ),
            }
        }
    }
}

/// A DNS subdomain, as the names of objects are.
pub(crate) const DNS_SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// The text of a CEL rule, and what it says.
type Rule = (&'static str, fn(&Value) -> bool);

/// The CEL rules of the resource. A value of another type than theirs is a problem already.
const RULES: [Rule; 3] = [
    ("size(self.metadata.name) <= 30", |object| {
        object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .is_none_or(|name| name.chars().count() <= mapa_refresh_crds::labels::MAX_POLICY_NAME)
    }),
    ("self <= 30", |value| {
        value
            .as_i64()
            .is_none_or(|number| number <= i64::from(LEGAL_LIMIT_MINUTES))
    }),
    ("!self.suspend || has(self.suspendReason)", |spec| {
        let has_reason = spec.get("suspendReason").is_some_and(|reason| !reason.is_null());
        has_reason || spec.get("suspend").and_then(Value::as_bool) != Some(true)
    }),
];

fn rules_of(schema: &Value) -> impl Iterator<Item = &Value> {
    schema
        .get("x-kubernetes-validations")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The upper bound that a rule sets, where the schema itself has none.
fn legal_maximum(schema: &Value) -> Option<f64> {
    rules_of(schema)
        .any(|rule| rule.get("rule").and_then(Value::as_str) == Some("self <= 30"))
        .then_some(f64::from(LEGAL_LIMIT_MINUTES))
}

fn is_nullable(schema: &Value) -> bool {
    schema.get("nullable").and_then(Value::as_bool) == Some(true)
}

fn is_of(type_: &str, value: &Value) -> bool {
    match type_ {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    }
}

/// Whether `text` matches the regular expression `pattern`.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    // A pattern that cannot be read admits nothing: better refused here than surprised there.
    Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
}

fn range(least: Option<f64>, most: Option<f64>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => "another".to_owned(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        plain => plain.to_string(),
    }
}

/// The remedy where text is wanted and YAML understood something else: `on` is true for it, `017` is 15.
fn quotes(type_: &str, value: &Value) -> &'static str {
    match (type_, value) {
        ("string", Value::Bool(_)) => {
            "; put it in quotes: without them YAML takes on, off, yes, no, y and n for true and false"
        }
        ("string", Value::Number(_)) => "; put it in quotes: without them YAML takes it for a number",
        _ => "",
    }
}

fn joined(path: &str, field: &str) -> String {
    if path.is_empty() {
        field.to_owned()
    } else {
        format!("{path}.{field}")
    }
}

fn first_sentence(text: &str) -> String {
    let end = text.find(". ").or(text.find(".\n")).unwrap_or(text.len());
    let sentence = text.get(..end).unwrap_or(text);
    sentence.trim_end_matches('.').replace('\n', " ")
}

#[cfg(test)]
mod range;

#[cfg(test)]
mod tests;
