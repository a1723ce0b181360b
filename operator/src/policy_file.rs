//! Policies from a file, for the commands that need no cluster.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::{MapaRefreshPolicy, status::ReadyReason};
use serde_json::Value;

use crate::{
    admission::{Admitted, Defaulted, Problem, admit},
    settings::RunnerSettings,
    validate::{Credentials, Plan, validate},
    yaml::{self, YamlError},
};

/// Largest file that is read: the API server takes no object beyond 1.5 MiB, and a file may hold a few.
const MAX_BYTES: u64 = 16 << 20;

/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file can't be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// Its path.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It is larger than any policy.
    #[error("{0}: is larger than 16 MiB: that is no policy")]
    TooLarge(String),
    /// It is no YAML, as kubectl reads it.
    #[error("{path}: document {document}: {error}")]
    Malformed {
        /// Its path.
        path: String,
        /// Which document of the file, from 1.
        document: usize,
        /// Why.
        error: YamlError,
    },
    /// No document is a policy.
    #[error("{0}: no document of kind MapaRefreshPolicy")]
    NoPolicy(String),
}

/// A policy that can be carried out.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The policy, defaults filled in.
    pub policy: MapaRefreshPolicy,
    /// What was filled in.
    pub defaulted: Vec<Defaulted>,
    /// What the operator would do about it.
    pub plan: Plan,
}

/// One policy of a file.
#[derive(Debug)]
pub struct Document {
    /// Namespace and name, as far as they are given.
    pub name: String,
    /// The policy, or everything that is wrong with it.
    pub policy: Result<Box<Planned>, Vec<Problem>>,
}

/// Reads every policy of the file at `path` (`-` is stdin), as it would be at `now`.
///
/// # Errors
/// When the file can't be read as YAML, or holds no policy. What is wrong with a policy stands in its document.
pub fn read(path: &Path, namespace: &str, now: Timestamp) -> Result<Vec<Document>, FileError> {
    let shown = if path == Path::new("-") {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    };
    let text = text_of(path).map_err(|error| FileError::Unreadable {
        path: shown.clone(),
        error,
    })?;
    if text.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge(shown));
    }
    parse(&text, &shown, namespace, now)
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().lock().take(MAX_BYTES + 1).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(PathBuf::from(path))?
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)?;
    }
    Ok(text)
}

/// Reads every policy of `text`.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, path: &str, namespace: &str, now: Timestamp) -> Result<Vec<Document>, FileError> {
    let mut objects = Vec::new();
    for (position, document) in yaml::documents(text).enumerate() {
        let object = document.map_err(|error| FileError::Malformed {
            path: path.to_owned(),
            document: position + 1,
            error,
        })?;
        collect(object, &mut objects);
    }
    if objects.is_empty() {
        return Err(FileError::NoPolicy(path.to_owned()));
    }
    Ok(objects
        .into_iter()
        .map(|object| judge(object, namespace, now))
        .collect())
}

/// Takes the policies out of `object`, which may be a list of objects.
fn collect(mut object: Value, policies: &mut Vec<Value>) {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    if kind == "MapaRefreshPolicy" {
        policies.push(object);
    } else if kind.ends_with("List")
        && let Some(Value::Array(items)) = object.get_mut("items").map(Value::take)
    {
        for item in items {
            collect(item, policies);
        }
    }
}

/// Judges one policy as the API server and the operator would; without a namespace of its own it is of `namespace`.
pub(crate) fn judge(object: Value, namespace: &str, now: Timestamp) -> Document {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let name = format!(
        "{}/{}",
        text("/metadata/namespace").unwrap_or(namespace),
        text("/metadata/name").unwrap_or("(without name)")
    );
    let policy = admit(object, namespace).and_then(|admitted| plan(admitted, now).map(Box::new));
    Document { name, policy }
}

/// Plans as the operator would.
///
/// # Errors
/// The first reason for which the operator would not carry it out.
fn plan(admitted: Admitted, now: Timestamp) -> Result<Planned, Vec<Problem>> {
    let Admitted { policy, defaulted } = admitted;
    let runner = RunnerSettings::assumed_for(&policy.spec);
    let (namespace, name) = (
        policy.metadata.namespace.as_deref().unwrap_or_default(),
        policy.metadata.name.as_deref().unwrap_or_default(),
    );
    match validate(namespace, name, &policy.spec, &runner, Credentials::Usable, now) {
        Ok(plan) => Ok(Planned {
            policy,
            defaulted,
            plan,
        }),
        Err(refusal) => Err(vec![Problem {
            field: match refusal.reason {
                ReadyReason::UnknownTimeZone => "spec.timeZone",
                _ => "spec",
            }
            .to_owned(),
            message: refusal.message,
        }]),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const NOW: &str = "2026-11-23T10:00:00Z";

    pub(crate) const EXAMPLE: &str = "\
apiVersion: mapa.radar.dev/v1
kind: MapaRefreshPolicy
metadata: { name: roraima, namespace: radar }
spec:
  intervalMinutes: 10
  database: { kind: postgresql, secretRef: { name: radar-database } }
  cache: { secretRef: { name: radar-cache } }
";

    /// The example, with `more` lines of spec.
    pub(crate) fn planned(interval: u32, more: &str) -> Planned {
        let text = EXAMPLE.replace("intervalMinutes: 10", &format!("intervalMinutes: {interval}")) + more;
        let mut documents = parse(&text, "test", "default", NOW.parse().unwrap()).unwrap();
        *documents.remove(0).policy.unwrap()
    }

    fn read_text(text: &str) -> Result<Vec<Document>, FileError> {
        parse(text, "policy.yaml", "default", NOW.parse().unwrap())
    }

    #[test]
    fn every_policy_of_a_file_is_found_among_other_objects() {
        let text = format!(
            "---\nkind: Secret\n---\n{EXAMPLE}---\n\n---\n{}",
            EXAMPLE.replace("roraima", "acre")
        );
        let names: Vec<String> = read_text(&text)
            .unwrap()
            .into_iter()
            .map(|document| document.name)
            .collect();
        assert_eq!(names, ["radar/roraima", "radar/acre"]);
        let list = serde_json::json!({ "kind": "List", "items": [serde_yaml::from_str::<Value>(EXAMPLE).unwrap()] });
        assert_eq!(read_text(&list.to_string()).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_policy_is_an_error_that_names_the_file() {
        for (text, expected) in [
            ("", "policy.yaml: no document"),
            ("kind: Secret", "policy.yaml: no document"),
            ("a: [", "policy.yaml: document 1"),
            (&format!("{EXAMPLE}---\n\t- x"), "policy.yaml: document 2"),
        ] {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_the_operator_would_refuse_is_told_with_its_field() {
        let text = EXAMPLE.to_owned() + "  timeZone: America/Macondo\n";
        let problems = read_text(&text).unwrap().remove(0).policy.unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["spec.timeZone"]);
    }

    #[test]
    fn an_area_that_the_operators_configuration_may_define_is_no_problem_here() {
        let text = EXAMPLE.to_owned() + "  area: AC\n";
        assert!(read_text(&text).unwrap().remove(0).policy.is_ok());
    }
}
