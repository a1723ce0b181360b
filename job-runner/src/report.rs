//! The run's report: one line of JSON on stdout and in the termination message.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
};

use chrono::{DateTime, Utc};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use mapa_refresh_crds::{
    policy::TaskName,
    report::{Attempt, MAX_BYTES, Publications, RunReport, RunResult, Success, VERSION},
    runner_env::TERMINATION_MESSAGE_PATH,
};
use tokio::time::Instant;

use crate::{args::SettingArgs, fault::Fault, task::Done, task::Notes};

/// What is known of a run before anything else: enough for a report, whatever happens next.
#[derive(Clone, Debug)]
pub struct Begun {
    task: TaskName,
    policy_uid: String,
    target: String,
    pod_uid: String,
    started_at: DateTime<Utc>,
    began: Instant,
}

impl Begun {
    /// A run of `task` that begins at `now`.
    #[must_use]
    pub fn new(task: TaskName, args: &SettingArgs, now: DateTime<Utc>) -> Self {
        let echoed = |text: &Option<String>| text.clone().unwrap_or_default().chars().take(64).collect();
        Self {
            task,
            policy_uid: echoed(&args.policy_uid),
            target: echoed(&args.target),
            pod_uid: echoed(&args.pod_uid),
            started_at: now,
            began: Instant::now(),
        }
    }

    /// When the run began, by the monotonic clock.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The report of a run that ends at `now` with `result`.
    #[must_use]
    pub fn report(
        self,
        result: Result<Done, Fault>,
        attempts: Vec<Attempt>,
        notes: Notes,
        now: DateTime<Utc>,
    ) -> RunReport {
        let Self {
            task,
            policy_uid,
            target,
            pod_uid,
            started_at,
            began,
        } = self;
        let Notes {
            refused_rows,
            published,
            publications,
            early: _,
        } = notes;
        RunReport {
            version: VERSION,
            policy_uid,
            task,
            target,
            pod_uid,
            started_at: micro_time(started_at),
            finished_at: micro_time(now),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            attempts,
            refused_rows: refused_rows.filter(|_| result.is_err()),
            result: match result {
                Ok(done) => RunResult::Succeeded(success(done)),
                Err(fault) => RunResult::Failed(fault.into_error()),
            },
            published,
            publications: Publications::new(publications),
        }
    }
}

fn success(done: Done) -> Success {
    let Done {
        kind,
        stamp,
        age_seconds,
        read_at,
        records,
        repaired,
        quarantined,
        built_from_stale_view,
    } = done;
    Success {
        kind,
        data_as_of: stamp.to_micro_time(),
        // A database's clock that was set back makes a negative age; the report's are 0 or more.
        age_seconds: if age_seconds.is_finite() {
            age_seconds.max(0.0)
        } else {
            0.0
        },
        elapsed_seconds: read_at.elapsed().as_secs_f64(),
        records,
        repaired,
        quarantined,
        built_from_stale_view,
    }
}

fn micro_time(at: DateTime<Utc>) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(at.timestamp_micros()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Writes the report to stdout and to the termination message at `path`. What can't be written is said on stderr: the exit
/// code still tells.
pub fn write(report: &RunReport, path: &Path) {
    let line = match report.encode(MAX_BYTES) {
        Ok(line) => line,
        Err(error) => return tracing::error!("the report can't be written: {error}"),
    };
    if let Err(error) = write_stdout(&line) {
        tracing::warn!("the report can't be written to stdout: {error}");
    }
    if let Err(error) = write_termination_message(&line, path) {
        tracing::warn!("the termination message {} is not written: {error}", path.display());
    }
}

fn write_stdout(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Kubernetes makes its own file, and outside a pod none should be made in `/dev`; any other place was asked for.
fn write_termination_message(line: &str, path: &Path) -> io::Result<()> {
    let is_kubernetes_own = path == Path::new(TERMINATION_MESSAGE_PATH);
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .create(!is_kubernetes_own)
        .open(path)?;
    file.write_all(line.as_bytes())
}
