//! Labels of the metrics that count: every value comes from an enum, so that no object of the cluster decides how many series there are.

use std::fmt::{self, Write};

use http::{Method, Uri};
use mapa_refresh_crds::{policy::TaskName, report::FaultClass};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

macro_rules! label_values {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$inner])* $variant),+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value as it stands in the label.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label_values! {
    /// What became of a run.
    RunOutcome {
        /// It did its work.
        Succeeded = "succeeded",
        /// It failed for something that may pass by itself.
        Transient = "transient",
        /// It failed for something that a person has to change.
        Permanent = "permanent",
        /// The database's client library is not in the runner's image.
        MissingClient = "missing_client",
    }
}

impl From<FaultClass> for RunOutcome {
    fn from(class: FaultClass) -> Self {
        match class {
            FaultClass::Transient => Self::Transient,
            FaultClass::Permanent => Self::Permanent,
            FaultClass::MissingClient => Self::MissingClient,
        }
    }
}

label_values! {
    /// What is watched.
    Watched {
        /// The policies.
        Policies = "maparefreshpolicies",
        /// Their CronJobs.
        CronJobs = "cronjobs",
        /// Those CronJobs' Jobs.
        Jobs = "jobs",
        /// Those Jobs' pods.
        Pods = "pods",
    }
}

label_values! {
    /// What a request to the API server does, in the words of RBAC.
    Verb {
        /// Reads one object.
        Get = "get",
        /// Reads many.
        List = "list",
        /// Waits for changes.
        Watch = "watch",
        /// Makes one.
        Create = "create",
        /// Replaces one.
        Update = "update",
        /// Changes fields of one.
        Patch = "patch",
        /// Deletes one.
        Delete = "delete",
        /// Anything else, such as asking for the server's version.
        Other = "other",
    }
}

impl Verb {
    /// The verb of a request.
    #[must_use]
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let Some(names_one) = names_one_object(uri.path()) else {
            return Self::Other;
        };
        let watches = || {
            uri.query()
                .is_some_and(|query| query.split('&').any(|part| matches!(part, "watch=true" | "watch=1")))
        };
        match *method {
            Method::GET if watches() => Self::Watch,
            Method::GET if names_one => Self::Get,
            Method::GET => Self::List,
            Method::POST => Self::Create,
            Method::PUT => Self::Update,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            _ => Self::Other,
        }
    }
}

/// Whether a path of the API server names one object or all of a kind; `None` for what is no object. The server may have a path of its own
/// in front, as behind a proxy.
fn names_one_object(path: &str) -> Option<bool> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let root = segments.iter().position(|segment| matches!(*segment, "api" | "apis"))?;
    let version = if segments.get(root) == Some(&"apis") { 3 } else { 2 };
    let rest = segments.get(root + version..)?;
    let rest = match rest {
        ["namespaces", _, of_namespace @ ..] if !of_namespace.is_empty() => of_namespace,
        other => other,
    };
    match rest {
        [] => None,
        [_] => Some(false),
        [_, ..] => Some(true),
    }
}

/// What came back from the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// An answer, with its HTTP status.
    Status(u16),
    /// Nothing: the connection failed, or the answer was not waited for.
    NoAnswer,
}

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(encoder, "{status}"),
            Self::NoAnswer => encoder.write_str("none"),
        }
    }
}

/// Labels of requests to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// What it does.
    pub verb: Verb,
    /// State in the API server's answer.
    pub code: Code,
}

/// Labels of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RunLabels {
    /// Its task.
    pub task: Task,
    /// What became of it.
    pub outcome: RunOutcome,
}

/// Label of what is counted by task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TaskLabel {
    /// The task.
    pub task: Task,
}

/// A task as the value of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task(pub TaskName);

impl EncodeLabelValue for Task {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.0.as_str())
    }
}

/// Labels of reconciles that could not be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    /// What kind of fault it is.
    pub class: &'static str,
    /// The fault.
    pub error: &'static str,
}

/// Label of watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResourceLabel {
    /// What is watched.
    pub resource: Watched,
}

/// Label of the build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BuildLabel {
    /// Version of the operator.
    pub version: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_verb_that_rbac_knows_it_by() {
        for (method, uri, verb) in [
            (Method::GET, "/api/v1/pods?limit=500", Verb::List),
            (Method::GET, "/api/v1/namespaces/a/pods?&watch=true&x=1", Verb::Watch),
            (Method::GET, "/apis/batch/v1/namespaces/a/cronjobs/b", Verb::Get),
            (Method::GET, "/apis/batch/v1/cronjobs", Verb::List),
            (Method::GET, "/prefix/apis/batch/v1/cronjobs", Verb::List),
            (Method::GET, "/api/v1/namespaces/a", Verb::Get),
            (Method::POST, "/apis/batch/v1/namespaces/a/jobs", Verb::Create),
            (
                Method::PUT,
                "/apis/mapa.radar.dev/v1/namespaces/a/maparefreshpolicies/b/status",
                Verb::Update,
            ),
            (
                Method::PATCH,
                "/apis/events.k8s.io/v1/namespaces/a/events/b",
                Verb::Patch,
            ),
            (Method::DELETE, "/apis/batch/v1/namespaces/a/cronjobs/b", Verb::Delete),
            (Method::GET, "/version", Verb::Other),
            (Method::GET, "/apis", Verb::Other),
            (Method::GET, "/apis/batch/v1", Verb::Other),
        ] {
            assert_eq!(Verb::of(&method, &uri.parse().unwrap()), verb, "{method} {uri}");
        }
    }
}
