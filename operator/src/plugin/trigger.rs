//! `kubectl mapa trigger`: asks the operator for one run of each task, and waits for them.

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::{
    api::{Patch, PatchParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use mapa_refresh_crds::{
    MapaRefreshPolicy, MapaRefreshPolicyStatus, labels::REQUESTED_AT, policy::TaskName, status::ExtraRuns,
};
use serde::Serialize;

use super::{
    NOT_WELL, TIMED_OUT, WELL,
    arguments::TriggerArguments,
    cluster::Cluster,
    error::PluginError,
    output::Format,
    terminal::{Mood, duration, harmless, print, remark},
};
use crate::extra_runs::token_as_kept;

/// How the request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// The operator has not taken it.
    Asked,
    /// Its runs are under way.
    Running {
        waiting: Vec<TaskName>,
        running: Vec<TaskName>,
    },
    /// All of them succeeded; the moment at which what is published was true.
    Published(Option<Timestamp>),
    /// One of them failed; why, as far as it is known.
    Failed(Vec<String>),
    /// Another request replaced it: its token, if the annotation is still there.
    Replaced(Option<String>),
}

/// Asks, and waits if it is wanted.
///
/// # Errors
/// The policy does not exist, may not be changed, or the cluster does not answer.
pub async fn run(cluster: &Cluster, asked: &TriggerArguments) -> Result<u8, PluginError> {
    // So that a name that is none is told with those that may have been meant.
    cluster.object(&asked.policy).await?;
    let token = token(Timestamp::now());
    let patch = serde_json::json!({ "metadata": { "annotations": { REQUESTED_AT: token } } });
    cluster
        .policies()
        .patch_metadata(&asked.policy, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(|error| {
            PluginError::of(
                format!("annotate the policy {}/{}", cluster.namespace, asked.policy),
                error,
            )
        })?;
    let request = Request {
        namespace: &cluster.namespace,
        policy: &asked.policy,
        token: &token,
    };
    if !asked.wait {
        return conclude(&request, &Stage::Asked, asked);
    }
    remark(&request.asked());
    let stage = follow(cluster, asked, &token).await?;
    conclude(&request, &stage, asked)
}

/// What was asked for.
struct Request<'a> {
    namespace: &'a str,
    policy: &'a str,
    token: &'a str,
}

impl Request<'_> {
    fn asked(&self) -> String {
        let Self {
            namespace,
            policy,
            token,
        } = self;
        format!("{namespace}/{policy}: asked for a run of each task ({token})")
    }
}

/// What became of it, as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    namespace: &'a str,
    policy: &'a str,
    /// The value of the annotation.
    request: &'a str,
    /// Requested, Running, Published, Failed or Replaced.
    state: &'static str,
    /// Moment at which what is published was true.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_as_of: Option<String>,
    /// Its age now.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_age_seconds: Option<i64>,
    /// Tasks that are running.
    running: Vec<String>,
    /// Tasks that come after them.
    waiting: Vec<String>,
    /// Why a run failed, as far as it is known.
    errors: &'a [String],
}

impl<'a> Answer<'a> {
    fn of(request: &Request<'a>, stage: &'a Stage, now: Timestamp) -> Self {
        let names = |tasks: &[TaskName]| tasks.iter().map(ToString::to_string).collect();
        let mut answer = Self {
            namespace: request.namespace,
            policy: request.policy,
            request: request.token,
            state: "Requested",
            data_as_of: None,
            data_age_seconds: None,
            running: Vec::new(),
            waiting: Vec::new(),
            errors: &[],
        };
        match stage {
            Stage::Asked => {}
            Stage::Running { waiting, running } => {
                answer.state = "Running";
                (answer.running, answer.waiting) = (names(running), names(waiting));
            }
            Stage::Published(as_of) => {
                answer.state = "Published";
                answer.data_as_of = as_of.map(|as_of| as_of.to_string());
                answer.data_age_seconds = as_of.map(|as_of| now.as_second() - as_of.as_second());
            }
            Stage::Failed(reasons) => {
                answer.state = "Failed";
                answer.errors = reasons;
            }
            Stage::Replaced(_) => answer.state = "Replaced",
        }
        answer
    }
}

/// A token that nobody used before: the time, and who asks.
fn token(now: Timestamp) -> String {
    format!("{now:.9}-{}", std::process::id())
}

/// Tells each step until the last, or until the time is up.
async fn follow(cluster: &Cluster, asked: &TriggerArguments, token: &str) -> Result<Stage, PluginError> {
    let config = watcher::Config::default().fields(&format!("metadata.name={}", asked.policy));
    let mut events = pin!(watcher(cluster.policies(), config).default_backoff().applied_objects());
    let deadline = tokio::time::Instant::now() + asked.timeout;
    let mut stage = Stage::Asked;
    let mut token = token.to_owned();
    loop {
        let event = tokio::time::timeout_at(deadline, events.next()).await;
        let policy = match event {
            Err(_) | Ok(None) => return Ok(stage),
            // The watch starts again by itself; the time that is left is for that.
            Ok(Some(Err(error))) => {
                remark(&format!(
                    "the watch was interrupted and starts again: {}",
                    harmless(&error.to_string())
                ));
                continue;
            }
            Ok(Some(Ok(policy))) => policy,
        };
        let mut next = stage_of(&policy, &token);
        // The runs of a later request begin later, so what they publish is at least as new.
        while let Stage::Replaced(Some(newer)) = &next {
            remark(&format!(
                "  somebody asked again ({}): waiting for those runs, which begin later",
                harmless(newer)
            ));
            token.clone_from(newer);
            next = stage_of(&policy, &token);
        }
        if next != stage {
            stage = next;
            if let Stage::Running { waiting, running } = &stage {
                remark(&step(waiting, running));
            }
        }
        if matches!(stage, Stage::Published(_) | Stage::Failed(_) | Stage::Replaced(_)) {
            return Ok(stage);
        }
    }
}

fn step(waiting: &[TaskName], running: &[TaskName]) -> String {
    let names = |tasks: &[TaskName]| tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (running, waiting) {
        ([], waiting) => format!("  to come: {}", names(waiting)),
        (running, []) => format!("  running: {}", names(running)),
        (running, waiting) => format!("  running: {}; then: {}", names(running), names(waiting)),
    }
}

/// How the request `token` stands in `policy`.
fn stage_of(policy: &MapaRefreshPolicy, token: &str) -> Stage {
    let empty = MapaRefreshPolicyStatus::default();
    let status = policy.status.as_ref().unwrap_or(&empty);
    let annotation = policy
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(REQUESTED_AT));
    let taken = status.last_handled_request.as_ref() == Some(&token_as_kept(token));
    let request = status.request.as_ref().filter(|_| taken);
    match request {
        Some(request) if request.finished_at.is_none() => Stage::Running {
            waiting: request.waiting.clone(),
            running: request.running.clone(),
        },
        Some(request) if request.failed => Stage::Failed(failures(status, request)),
        Some(_) => Stage::Published(status.data_as_of.as_ref().map(|time| time.0)),
        None if annotation.is_none_or(|annotation| annotation != token) => Stage::Replaced(annotation.cloned()),
        None => Stage::Asked,
    }
}

/// What the tasks say that failed since the request began.
fn failures(status: &MapaRefreshPolicyStatus, request: &ExtraRuns) -> Vec<String> {
    status
        .tasks
        .iter()
        .filter(|task| {
            task.last_failure_time
                .as_ref()
                .is_some_and(|failed| failed.0 >= request.started_at.0)
        })
        .filter_map(|task| {
            let error = task.last_error.as_ref()?;
            Some(format!(
                "{}: {}: {}",
                task.name,
                harmless(&error.code),
                harmless(&error.message)
            ))
        })
        .collect()
}

/// Prints what became of it.
fn conclude(request: &Request<'_>, stage: &Stage, asked: &TriggerArguments) -> Result<u8, PluginError> {
    let now = Timestamp::now();
    match asked.output {
        Format::Json | Format::Yaml => {
            print(&asked.output.render(&Answer::of(request, stage, now), |_| String::new()))?;
        }
        Format::Table | Format::Wide if !asked.wait => print(&format!("{}\n", request.asked()))?,
        Format::Table | Format::Wide => match stage {
            Stage::Published(as_of) => {
                let age = as_of.map_or_else(String::new, |as_of| {
                    format!(": the data is {} old", duration(now.as_second() - as_of.as_second()))
                });
                print(&format!("{}{age}\n", Mood::Good.paint("published")))?;
            }
            stage => complaint(stage, asked.timeout).iter().for_each(|line| remark(line)),
        },
    }
    Ok(exit_code(stage, asked.wait))
}

/// Whether it came to what was wanted: to be asked for, or to be published.
fn exit_code(stage: &Stage, wait: bool) -> u8 {
    match stage {
        _ if !wait => WELL,
        Stage::Published(_) => WELL,
        Stage::Failed(_) | Stage::Replaced(_) => NOT_WELL,
        Stage::Asked | Stage::Running { .. } => TIMED_OUT,
    }
}

/// Why nothing was published within `timeout`.
fn complaint(stage: &Stage, timeout: Duration) -> Vec<String> {
    let waited = duration(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX));
    match stage {
        Stage::Published(_) => Vec::new(),
        Stage::Failed(reasons) => {
            let mut lines = vec![format!("{}: a run did not succeed", Mood::Bad.paint("failed"))];
            lines.extend(reasons.iter().map(|reason| format!("  {reason}")));
            if reasons.is_empty() {
                lines.push("  it could not be started, or does not end: `kubectl mapa status` says why".to_owned());
            }
            lines.push("  `kubectl mapa runs` shows every run".to_owned());
            lines
        }
        Stage::Replaced(_) => vec![format!(
            "{}: somebody took the annotation {REQUESTED_AT} away before the operator took the request",
            Mood::Bad.paint("withdrawn")
        )],
        Stage::Asked => vec![format!(
            "{}: the operator has not taken the request within {waited}: does it run, and does it watch this namespace? \
             An earlier request may still be running. `kubectl mapa doctor`",
            Mood::Bad.paint("timed out")
        )],
        Stage::Running { waiting, running } => vec![format!(
            "{}: not published within {waited}; {}. The runs go on",
            Mood::Bad.paint("timed out"),
            step(waiting, running).trim()
        )],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TOKEN: &str = "2026-11-23T10:00:00.000000001Z-7";

    fn policy(annotation: &str, status: Value) -> MapaRefreshPolicy {
        serde_json::from_value(json!({
            "apiVersion": "mapa.radar.dev/v1",
            "kind": "MapaRefreshPolicy",
            "metadata": { "name": "roraima", "annotations": { REQUESTED_AT: annotation } },
            "spec": {
                "intervalMinutes": 10,
                "database": { "secretRef": { "name": "d" } },
                "cache": { "secretRef": { "name": "c" } },
            },
            "status": status,
        }))
        .unwrap()
    }

    fn request(finished: bool, failed: bool) -> Value {
        let mut request = json!({
            "id": "q1", "startedAt": "2026-11-23T10:00:00Z", "running": ["refresh-mv-portal"], "waiting": ["refresh-mapa-cache"],
        });
        if finished {
            request["finishedAt"] = "2026-11-23T10:01:00Z".into();
        }
        request["failed"] = failed.into();
        request
    }

    #[test]
    fn a_request_counts_from_when_the_operator_took_this_very_one() {
        let old = json!({ "lastHandledRequest": "another", "request": request(true, false) });
        assert_eq!(stage_of(&policy(TOKEN, old.clone()), TOKEN), Stage::Asked);
        let newer = Stage::Replaced(Some("somebody else's".to_owned()));
        assert_eq!(stage_of(&policy("somebody else's", old), TOKEN), newer);
        let taken = |finished, failed| json!({ "lastHandledRequest": TOKEN, "request": request(finished, failed) });
        assert!(matches!(
            stage_of(&policy(TOKEN, taken(false, false)), TOKEN),
            Stage::Running { .. }
        ));
        assert_eq!(
            stage_of(&policy(TOKEN, taken(true, false)), TOKEN),
            Stage::Published(None)
        );
        assert_eq!(
            stage_of(&policy(TOKEN, taken(true, true)), TOKEN),
            Stage::Failed(Vec::new())
        );
    }

    #[test]
    fn a_failure_is_told_with_what_the_task_said_and_only_if_it_is_of_this_request() {
        let task = |at: &str| {
            json!({
                "name": "refresh-mv-portal", "cronJobName": "x", "schedule": "0 * * * *", "maxRetries": 3, "retryDelaySeconds": 120,
                "attemptTimeoutSeconds": 300, "lastFailureTime": at,
                "lastError": { "class": "Transient", "code": "57P03", "message": "the database\u{1b}[2J starts" },
            })
        };
        let status = |at| json!({ "lastHandledRequest": TOKEN, "request": request(true, true), "tasks": [task(at)] });
        let Stage::Failed(reasons) = stage_of(&policy(TOKEN, status("2026-11-23T10:00:30Z")), TOKEN) else {
            panic!("another stage");
        };
        assert_eq!(reasons, ["refresh-mv-portal: 57P03: the database [2J starts"]);
        assert_eq!(
            stage_of(&policy(TOKEN, status("2026-11-23T09:00:00Z")), TOKEN),
            Stage::Failed(Vec::new())
        );
    }

    #[test]
    fn the_exit_code_says_what_became_of_it() {
        let code = |stage: &Stage| exit_code(stage, true);
        assert_eq!(code(&Stage::Published(None)), WELL);
        assert_eq!(code(&Stage::Failed(Vec::new())), NOT_WELL);
        assert_eq!(code(&Stage::Replaced(None)), NOT_WELL);
        assert_eq!(code(&Stage::Asked), TIMED_OUT);
        assert_eq!(exit_code(&Stage::Asked, false), WELL);
    }

    #[test]
    fn a_program_reads_what_became_of_it() {
        let request = Request {
            namespace: "radar",
            policy: "roraima",
            token: TOKEN,
        };
        let now = "2026-11-23T10:02:00Z".parse().unwrap();
        let answer = |stage: &Stage| serde_json::to_value(Answer::of(&request, stage, now)).unwrap();
        let published = answer(&Stage::Published(Some("2026-11-23T10:01:00Z".parse().unwrap())));
        assert_eq!(
            (&published["state"], &published["dataAgeSeconds"], &published["request"]),
            (&json!("Published"), &json!(60), &json!(TOKEN))
        );
        assert_eq!(answer(&Stage::Failed(vec!["why".to_owned()]))["errors"], json!(["why"]));
        let running = answer(&Stage::Running {
            waiting: Vec::new(),
            running: vec![TaskName::RefreshMapaCache],
        });
        assert_eq!(
            (&running["state"], &running["running"]),
            (&json!("Running"), &json!(["refresh-mapa-cache"]))
        );
    }

    #[test]
    fn a_token_is_kept_as_it_is_and_no_two_are_alike() {
        let first = token("2026-11-23T10:00:00.000000001Z".parse().unwrap());
        assert_eq!(token_as_kept(&first), first);
        assert_ne!(first, token("2026-11-23T10:00:00.000000002Z".parse().unwrap()));
    }
}
