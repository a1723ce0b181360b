//! `kubectl mapa runs`: what the last runs of a policy did, from its status and from the Jobs and pods that still exist.

use std::collections::BTreeMap;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::{CronJob, Job},
        core::v1::Pod,
    },
    jiff::Timestamp,
};
use kube::{Api, Resource, api::ListParams, runtime::watcher::Event};
use mapa_refresh_crds::{
    MapaRefreshPolicy, MapaRefreshPolicyStatus,
    labels::{FIELD_MANAGER, MANAGED_BY, POLICY, cron_job_name},
    policy::TaskName,
    report::Attempt,
    rows::RowCounts,
    status::{LastError, TaskStatus},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    NOT_WELL, WELL,
    arguments::RunsArguments,
    cluster::Cluster,
    error::PluginError,
    output::Format,
    terminal::{Mood, ago, duration, harmless, print, shortened},
};
use crate::{
    fingerprint::Uid,
    index::{Index, Indexed},
    observe::{Run, observe},
    outcome::{Outcome, Progress, Trust, progress},
    records::PolicyKey,
    text_table::{painted, row},
};

/// Longest error in a table that is not wide, in bytes.
const SHORT: usize = 80;

/// Seconds after which nothing more is expected of the pod of a Job that ended.
const NOTHING_TO_COME: std::time::Duration = std::time::Duration::from_secs(60);

/// The answer, as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    policy: String,
    at: String,
    tasks: Vec<Task>,
    runs: Vec<RunTold>,
}

/// What the status keeps of a task, whether or not its Jobs still exist.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    task: TaskName,
    last_success_time: Option<Timestamp>,
    last_failure_time: Option<Timestamp>,
    attempts: i32,
    duration_seconds: Option<i64>,
    records: Option<i64>,
    /// Rows left out, by why.
    quarantined: BTreeMap<String, i64>,
    /// Rows mended, by what was mended.
    repaired: BTreeMap<String, i64>,
    total_runs: i64,
    total_retries: i64,
    consecutive_failures: i32,
    last_error: Option<LastError>,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Result {
    Succeeded,
    Failed,
    Running,
}

/// What a run was started by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Cause {
    /// The schedule.
    Schedule,
    /// The operator, before the data becomes too old.
    Rescue,
    /// The operator, on request: `kubectl mapa trigger`, or the annotation.
    Request,
    /// A person, without the operator: `kubectl create job --from`.
    ByHand,
}

impl Cause {
    /// By the slot of the Job and by its name, which the operator makes of its CronJob's and of what the run is for.
    fn of(run: &Run, policy: &str) -> Self {
        if run.job.slot.is_some() {
            return Self::Schedule;
        }
        let cron_job = format!("{}-", cron_job_name(policy, run.task));
        let is_hex = |char: char| char.is_ascii_digit() || ('a'..='f').contains(&char);
        match run
            .job
            .name
            .strip_prefix(&cron_job)
            .and_then(|id| id.split_at_checked(1))
        {
            Some(("r", deadline)) if !deadline.is_empty() && deadline.chars().all(|char| char.is_ascii_digit()) => {
                Self::Rescue
            }
            Some(("q", request)) if request.len() == 8 && request.chars().all(is_hex) => Self::Request,
            _ => Self::ByHand,
        }
    }

    /// In a table, of a run without a slot.
    fn beside_the_schedule(self) -> &'static str {
        match self {
            Self::Schedule => "-",
            Self::Rescue => "rescue",
            Self::Request => "request",
            Self::ByHand => "by hand",
        }
    }
}

/// A run whose Job still exists.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunTold {
    task: TaskName,
    job: String,
    /// The slot, absent of a run beside the schedule.
    slot: Option<Timestamp>,
    cause: Cause,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    result: Result,
    attempts: i32,
    duration_seconds: Option<i64>,
    records: Option<i64>,
    /// The rows that were not as they should be; absent of a run that did not report on them.
    rows: Option<RowCounts>,
    error: Option<Trouble>,
    /// Each attempt, as the pod reported it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reported_attempts: Vec<Attempt>,
}

/// Why a run failed, or what keeps it from running.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trouble {
    code: String,
    message: String,
}

/// Prints the runs.
///
/// # Errors
/// The policy does not exist, or the cluster does not answer.
pub async fn run(cluster: &Cluster, asked: &RunsArguments) -> std::result::Result<u8, PluginError> {
    let policy = cluster.policy(&asked.policy).await?;
    let now = Timestamp::now();
    let index = Index::default();
    let key = PolicyKey {
        namespace: cluster.namespace.as_str().into(),
        name: asked.policy.as_str().into(),
    };
    index.policy_lives(key.clone());
    fill::<CronJob>(cluster, &asked.policy, &index, now).await?;
    fill::<Job>(cluster, &asked.policy, &index, now).await?;
    fill::<Pod>(cluster, &asked.policy, &index, now).await?;
    let uid = policy.metadata.uid.as_deref().unwrap_or_default();
    let answer = answer(
        &policy,
        observe(
            &index,
            &key,
            Uid::parse(uid),
            policy.metadata.creation_timestamp.as_ref().map(|time| time.0),
        )
        .runs,
        usize::from(asked.last),
        now,
    );
    print(
        &asked
            .output
            .render(&answer, |answer| tables(answer, now, asked.output == Format::Wide)),
    )?;
    Ok(if is_well(&answer) { WELL } else { NOT_WELL })
}

/// Reads what carries the policy's label into the index, which verifies by UID what belongs to it.
async fn fill<K>(cluster: &Cluster, policy: &str, index: &Index, now: Timestamp) -> std::result::Result<(), PluginError>
where
    K: Indexed
        + Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let mut page = ListParams::default()
        .labels(&format!("{MANAGED_BY}={FIELD_MANAGER},{POLICY}={policy}"))
        .limit(500);
    loop {
        let list = api
            .list(&page)
            .await
            .map_err(|error| PluginError::of(format!("list the {} of the policy", K::plural(&())), error))?;
        for object in list.items {
            index.handle(&Event::Apply(object), now);
        }
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page.continue_token = Some(next),
            None => return Ok(()),
        }
    }
}

fn answer(policy: &MapaRefreshPolicy, mut runs: Vec<Run>, last: usize, now: Timestamp) -> Answer {
    let empty = MapaRefreshPolicyStatus::default();
    let status = policy.status.as_ref().unwrap_or(&empty);
    let templates = |task: TaskName| {
        let task = status.tasks.iter().find(|status| status.name == task);
        task.map_or(&[][..], |task| &task.accepted_templates[..])
    };
    runs.sort_by_key(|run| (run.task, std::cmp::Reverse(run.job.created)));
    let mut of_task = (None, 0);
    runs.retain(|run| {
        of_task = if of_task.0 == Some(run.task) {
            (of_task.0, of_task.1 + 1)
        } else {
            (Some(run.task), 1)
        };
        of_task.1 <= last
    });
    let uid = policy.metadata.uid.as_deref().unwrap_or_default();
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    Answer {
        policy: format!("{}/{name}", policy.metadata.namespace.as_deref().unwrap_or_default()),
        at: now.to_string(),
        tasks: status.tasks.iter().map(Task::of).collect(),
        runs: runs
            .iter()
            .map(|run| {
                let trust = Trust {
                    policy_uid: uid,
                    template: None,
                    templates: templates(run.task),
                };
                RunTold::of(run, Cause::of(run, name), trust, now)
            })
            .collect(),
    }
}

impl Task {
    fn of(task: &TaskStatus) -> Self {
        let mut last_error = task.last_error.clone();
        if let Some(error) = &mut last_error {
            error.code = harmless(&error.code);
            error.message = harmless(&error.message);
        }
        Self {
            task: task.name,
            last_success_time: task.last_success_time.as_ref().map(|time| time.0),
            last_failure_time: task.last_failure_time.as_ref().map(|time| time.0),
            attempts: task.attempts,
            duration_seconds: task.last_duration_seconds,
            records: task.records,
            quarantined: harmless_words(&task.quarantined),
            repaired: harmless_words(&task.repaired),
            total_runs: task.total_runs,
            total_retries: task.total_retries,
            consecutive_failures: task.consecutive_failures,
            last_error,
        }
    }
}

impl RunTold {
    fn of(run: &Run, cause: Cause, trust: Trust<'_>, now: Timestamp) -> Self {
        // The operator waits for a pod's word, which comes by another watch; everything was read after the Job ended.
        let asked_at = if run.job.ended.is_some() || run.job.halt.is_some() {
            now.checked_add(NOTHING_TO_COME).unwrap_or(now)
        } else {
            now
        };
        let told = Self {
            task: run.task,
            job: harmless(&run.job.name),
            slot: run.job.slot,
            cause,
            started_at: run.job.created,
            ended_at: None,
            result: Result::Running,
            attempts: 0,
            duration_seconds: None,
            records: None,
            rows: None,
            error: None,
            reported_attempts: Vec::new(),
        };
        match progress(run, trust, asked_at) {
            Progress::Active { trouble, .. } | Progress::GivenUp { trouble } => Self {
                error: trouble.map(|trouble| Trouble {
                    code: harmless(&trouble.code),
                    message: harmless(&trouble.message),
                }),
                ..told
            },
            Progress::AwaitingEvidence { .. } => told,
            Progress::Ended(outcome) => told.ended(run, *outcome),
        }
    }

    fn ended(self, run: &Run, outcome: Outcome) -> Self {
        // What is not believed as a whole is not quoted in part either.
        let report = run
            .pods
            .iter()
            .filter_map(|pod| pod.ended.as_ref()?.report.as_ref().ok())
            .find(|_| outcome.attempts > 0);
        Self {
            ended_at: Some(outcome.ended_at),
            attempts: outcome.attempts,
            duration_seconds: outcome.duration_seconds,
            reported_attempts: report.map_or_else(Vec::new, |report| report.attempts.clone()),
            result: if outcome.result.is_ok() {
                Result::Succeeded
            } else {
                Result::Failed
            },
            records: outcome.result.as_ref().ok().copied(),
            rows: outcome.rows.map(|rows| RowCounts {
                repaired: harmless_words(&rows.repaired),
                quarantined: harmless_words(&rows.quarantined),
            }),
            error: outcome.result.err().map(|error| Trouble {
                code: harmless(&error.code),
                message: harmless(&error.message),
            }),
            ..self
        }
    }
}

/// Whether every task has run, and its last run succeeded.
fn is_well(answer: &Answer) -> bool {
    let ran = |task: &Task| task.total_runs > 0 && task.last_error.is_none();
    // What ended after the status was written counts, too.
    let ended_last = |task: &Task| {
        let runs = answer.runs.iter().filter(|run| run.task == task.task);
        runs.filter(|run| run.result != Result::Running)
            .max_by_key(|run| run.ended_at)
    };
    !answer.tasks.is_empty()
        && answer
            .tasks
            .iter()
            .all(|task| ended_last(task).map_or_else(|| ran(task), |run| run.result == Result::Succeeded))
}

fn number<T: ToString>(number: Option<T>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Words from a status that somebody else may have written, or from a report.
fn harmless_words<T: Copy>(counts: &BTreeMap<String, T>) -> BTreeMap<String, T> {
    counts.iter().map(|(word, rows)| (harmless(word), *rows)).collect()
}

/// How many rows there are in all, and in a wide table of each reason.
fn row_counts<T: Copy + Into<i128>>(counts: &BTreeMap<String, T>, wide: bool) -> String {
    let rows: i128 = counts.values().map(|rows| (*rows).into()).sum();
    if !wide || counts.is_empty() {
        return rows.to_string();
    }
    let reasons: Vec<String> = counts
        .iter()
        .map(|(word, rows)| format!("{word} {}", (*rows).into()))
        .collect();
    format!("{rows} ({})", reasons.join(", "))
}

fn error(code: &str, message: &str, wide: bool) -> String {
    if wide {
        format!("{code}: {message}")
    } else {
        format!("{code}: {}", shortened(message, SHORT))
    }
}

fn tables(answer: &Answer, now: Timestamp, wide: bool) -> String {
    let mut text = tasks(&answer.tasks, now, wide);
    if answer.runs.is_empty() {
        text.push_str("\nNo Job of the policy exists.\n");
    } else {
        text.push('\n');
        text.push_str(&runs(&answer.runs, now, wide));
    }
    text
}

fn tasks(tasks: &[Task], now: Timestamp, wide: bool) -> String {
    if tasks.is_empty() {
        return "The operator has not looked at the policy yet: `kubectl mapa doctor`\n".to_owned();
    }
    let mut rows = vec![row([
        "TASK",
        "LAST-SUCCESS",
        "LAST-FAILURE",
        "ATTEMPTS",
        "DURATION",
        "RECORDS",
        "LEFT-OUT",
        "REPAIRED",
        "RUNS",
        "RETRIES",
        "FAILURES",
        "LAST-ERROR",
    ])];
    for task in tasks {
        let of_rows = |counts| {
            if task.task.publishes() {
                row_counts(counts, wide)
            } else {
                "-".to_owned()
            }
        };
        rows.push(vec![
            task.task.to_string(),
            ago(task.last_success_time, now),
            ago(task.last_failure_time, now),
            task.attempts.to_string(),
            task.duration_seconds.map_or_else(|| "-".to_owned(), duration),
            number(task.records),
            of_rows(&task.quarantined),
            of_rows(&task.repaired),
            task.total_runs.to_string(),
            task.total_retries.to_string(),
            task.consecutive_failures.to_string(),
            task.last_error
                .as_ref()
                .map_or_else(String::new, |told| error(&told.code, &told.message, wide)),
        ]);
    }
    painted(0, &rows, |_, _, cell| cell.to_owned())
}

fn runs(runs: &[RunTold], now: Timestamp, wide: bool) -> String {
    let heading = row([
        "JOB", "SLOT", "ENDED", "RESULT", "ATTEMPTS", "DURATION", "RECORDS", "LEFT-OUT", "REPAIRED", "ERROR",
    ]);
    let of_rows = |run: &RunTold, which: fn(&RowCounts) -> &BTreeMap<String, u64>| {
        run.rows
            .as_ref()
            .map_or_else(|| "-".to_owned(), |rows| row_counts(which(rows), wide))
    };
    let result = heading.iter().position(|heading| heading == "RESULT");
    let mut rows = vec![heading];
    for run in runs {
        rows.push(vec![
            run.job.clone(),
            run.slot
                .map_or_else(|| run.cause.beside_the_schedule().to_owned(), |slot| slot.to_string()),
            run.ended_at
                .map_or_else(|| "-".to_owned(), |ended| ago(Some(ended), now)),
            format!("{:?}", run.result),
            if run.attempts == 0 {
                "-".to_owned()
            } else {
                run.attempts.to_string()
            },
            run.duration_seconds.map_or_else(|| "-".to_owned(), duration),
            number(run.records),
            of_rows(run, |rows| &rows.quarantined),
            of_rows(run, |rows| &rows.repaired),
            run.error
                .as_ref()
                .map_or_else(String::new, |told| error(&told.code, &told.message, wide)),
        ]);
    }
    painted(0, &rows, |line, column, cell| {
        let run = line.checked_sub(1).and_then(|line| runs.get(line));
        let mood = match run.map(|run| run.result) {
            Some(_) if Some(column) != result => Mood::Plain,
            Some(Result::Succeeded) => Mood::Good,
            Some(Result::Failed) => Mood::Bad,
            Some(Result::Running) => Mood::Doubtful,
            None => Mood::Plain,
        };
        mood.paint(cell)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        extra_runs,
        policy_file::tests::{NOW, planned},
        records::JobRecord,
    };

    fn cause(name: &str, slot: Option<Timestamp>) -> Cause {
        let job = JobRecord {
            uid: Uid::parse("job"),
            name: name.into(),
            owner: None,
            created: NOW.parse().unwrap(),
            slot,
            halt: None,
            seen: NOW.parse().unwrap(),
            started: NOW.parse().unwrap(),
            deadline_seconds: 590,
            ended: None,
            settled_at: None,
            deleted: false,
        };
        let run = Run {
            task: TaskName::RefreshMvPortal,
            job,
            pods: Vec::new(),
        };
        Cause::of(&run, "roraima")
    }

    #[test]
    fn a_rescue_and_a_request_are_told_from_a_run_by_hand() {
        let now = NOW.parse().unwrap();
        let request = extra_runs::request("2026-11-23 somebody", None, &planned(10, "").plan, now);
        assert_eq!(
            cause(&format!("roraima-refresh-mv-portal-{}", request.id), None),
            Cause::Request
        );
        for (name, expected) in [
            ("roraima-refresh-mv-portal-r29925840", Cause::Rescue),
            ("roraima-refresh-mv-portal-r", Cause::ByHand),
            ("roraima-refresh-mv-portal-r2x", Cause::ByHand),
            ("roraima-refresh-mv-portal-q0123456g", Cause::ByHand),
            ("roraima-refresh-mv-portal-q0123456", Cause::ByHand),
            ("roraima-refresh-mapa-cache-r29925840", Cause::ByHand),
            ("my-r29925840", Cause::ByHand),
            ("roraima-refresh-mv-portal-\u{e9}1", Cause::ByHand),
        ] {
            assert_eq!(cause(name, None), expected, "{name}");
        }
        assert_eq!(cause("roraima-refresh-mv-portal-29925840", Some(now)), Cause::Schedule);
    }
}
