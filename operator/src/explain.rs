//! `explain`: what a policy will do in the next hour and whether it can hold its limit, without a cluster.

use std::{
    fmt::{self, Write},
    path::PathBuf,
};

use chrono::{DateTime, TimeZone};
use chrono_tz::Tz;
use clap::{Parser, ValueEnum};
use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::{MapaRefreshPolicyStatus, area::RR, policy::TaskName, status::TaskStatus};
use serde::Serialize;

use crate::{
    admission::{Defaulted, Problem},
    conditions::whole_seconds,
    desired::desired,
    feasibility::{self, Feasibility, WorstCase},
    forecast::after,
    pace::Pace,
    policy_file::{Document, FileError, Planned, read},
    settings::RunnerSettings,
    text_table::{aligned, row},
};

/// Exit code: what was asked holds for every policy.
pub const HOLDS: u8 = 0;
/// Exit code: a policy is valid, but can't be expected to hold its limit.
pub const DOES_NOT_HOLD: u8 = 1;
/// Exit code: a policy, the file or the command line is not valid.
pub const BAD_INPUT: u8 = 2;

/// The time of which the schedule is printed.
const AN_HOUR: u32 = 3_600;

/// Settings of `explain`.
#[derive(Clone, Debug, Parser)]
pub struct ExplainSettings {
    /// The file.
    #[command(flatten)]
    pub input: PolicyInput,

    /// The moment at which the hour begins, RFC 3339; default: now
    #[arg(long, value_name = "MOMENT")]
    pub at: Option<Timestamp>,
}

/// Which policies, and how the answer is printed.
#[derive(Clone, Debug, Parser)]
pub struct PolicyInput {
    /// File with one or more policies, YAML or JSON, other objects are passed over; - is stdin
    #[arg(value_name = "POLICY.YAML")]
    pub file: PathBuf,

    /// Namespace of policies that name none: it decides, with the name, on the minutes at which they run
    #[arg(long, short, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: String,

    /// Format of the answer on stdout
    #[arg(long, short, value_name = "FORMAT", default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// Format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For programs: one object with a list of policies.
    Json,
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Json => "json",
        })
    }
}

/// What a command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For stdout.
    pub stdout: String,
    /// For stderr: everything that is wrong.
    pub stderr: String,
    /// [`HOLDS`], [`DOES_NOT_HOLD`] or [`BAD_INPUT`].
    pub exit_code: u8,
}

impl Answer {
    /// The answer when the file itself is of no use.
    #[must_use]
    pub fn unreadable(error: &FileError) -> Self {
        Self {
            stdout: String::new(),
            stderr: format!("error: {error}\n"),
            exit_code: BAD_INPUT,
        }
    }
}

/// An answer as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listing<T> {
    /// One entry for each valid policy.
    pub(crate) policies: Vec<T>,
    /// Those that are not valid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) refused: Vec<Refused>,
}

/// A policy that is not valid.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refused {
    policy: String,
    problems: Vec<Problem>,
}

impl Refused {
    pub(crate) fn new(policy: String, problems: Vec<Problem>) -> Self {
        Self { policy, problems }
    }
}

/// Splits what was read into policies, and what is wrong with the others.
pub(crate) fn sorted(documents: Vec<Document>) -> (Vec<(String, Planned)>, Vec<Refused>, String) {
    let (mut planned, mut refused, mut complaints) = (Vec::new(), Vec::new(), String::new());
    for Document { name, policy } in documents {
        match policy {
            Ok(policy) => planned.push((name, *policy)),
            Err(problems) => {
                for problem in &problems {
                    complaints.push_str(&format!("error: {name}: {problem}\n"));
                }
                refused.push(Refused { policy: name, problems });
            }
        }
    }
    (planned, refused, complaints)
}

/// Explains every policy of the file.
#[must_use]
pub fn explain(settings: &ExplainSettings, now: Timestamp) -> Answer {
    let at = whole_seconds(settings.at.unwrap_or(now)).0;
    let input = &settings.input;
    match read(&input.file, &input.namespace, at) {
        Ok(documents) => answer(documents, input.output, at),
        Err(error) => Answer::unreadable(&error),
    }
}

fn answer(documents: Vec<Document>, output: OutputFormat, at: Timestamp) -> Answer {
    let (planned, refused, stderr) = sorted(documents);
    let policies: Vec<Explained> = planned
        .iter()
        .map(|(name, planned)| Explained::of(name, planned, None, at))
        .collect();
    let exit_code = if !refused.is_empty() {
        BAD_INPUT
    } else if policies.iter().all(|policy| policy.feasible.holds) {
        HOLDS
    } else {
        DOES_NOT_HOLD
    };
    let stdout = match output {
        OutputFormat::Json => as_json(&Listing { policies, refused }),
        OutputFormat::Table => policies.iter().map(Explained::to_string).collect::<Vec<_>>().join("\n"),
    };
    Answer {
        stdout,
        stderr,
        exit_code,
    }
}

pub(crate) fn as_json(answer: &impl Serialize) -> String {
    // Numbers, texts and lists of them: there is nothing that JSON could not hold.
    serde_json::to_string_pretty(answer).map_or_else(|error| format!("{{\"error\":\"{error}\"}}\n"), |json| json + "\n")
}

/// What is to be said of one policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explained {
    policy: String,
    at: String,
    interval_minutes: u32,
    max_data_age_minutes: i32,
    time_zone: String,
    area: String,
    suspended: bool,
    rescue: bool,
    cron_jobs: Vec<CronJobExplained>,
    slots: Vec<Slot>,
    feasible: FeasibleExplained,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paces: Vec<PaceExplained>,
    defaults: Vec<Defaulted>,
}

/// What is expected of a task's next run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PaceExplained {
    task: TaskName,
    start_seconds: u32,
    run_seconds: u32,
    observed_starts: usize,
    observed_runs: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CronJobExplained {
    name: String,
    task: TaskName,
    schedule: String,
    time_zone: String,
    max_retries: u32,
    retry_delay_seconds: u32,
    attempt_timeout_seconds: u32,
    run_budget_seconds: u32,
    deadline_seconds: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Slot {
    utc: String,
    local: String,
    task: TaskName,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FeasibleExplained {
    holds: bool,
    reason: &'static str,
    message: String,
    gap_seconds: u32,
    stale_gap_seconds: u32,
    start_seconds: u32,
    retries_seconds: u32,
    run_seconds: u32,
    downstream_seconds: u32,
    worst_case_seconds: u32,
    limit_seconds: u32,
    survived_failed_runs: u32,
    largest_interval_minutes: Option<u32>,
    cut_retries: Vec<CutRetries>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CutRetries {
    task: TaskName,
    fit: u32,
    allowed: u32,
}

impl Explained {
    /// `planned` at the paces that `seen`, its status, has observed; without one at what is allowed for.
    pub(crate) fn of(name: &str, planned: &Planned, seen: Option<&MapaRefreshPolicyStatus>, at: Timestamp) -> Self {
        let Planned {
            policy,
            defaulted,
            plan,
        } = planned;
        let (tasks, starts) = seen.map_or((&[][..], &[][..]), |seen| {
            (&seen.tasks[..], &seen.recent_start_seconds[..])
        });
        let feasible = feasibility::feasibility(plan, tasks, starts);
        let verdict = feasibility::verdict(plan, &feasible);
        let Feasibility {
            worst,
            limit,
            survives,
            largest_interval,
            cut_retries,
        } = feasible;
        let WorstCase {
            gap,
            stale_gap,
            start,
            retries,
            run,
            downstream,
            usual: _,
        } = worst;
        Self {
            policy: name.to_owned(),
            at: at.to_string(),
            interval_minutes: plan.interval.minutes(),
            max_data_age_minutes: policy.spec.max_data_age_minutes,
            time_zone: plan.time_zone.name().to_owned(),
            area: policy.spec.area.clone(),
            suspended: plan.suspended,
            rescue: plan.rescue,
            cron_jobs: cron_jobs(planned),
            slots: slots(planned, at),
            feasible: FeasibleExplained {
                holds: verdict.holds,
                reason: verdict.reason,
                message: verdict.message,
                gap_seconds: gap,
                stale_gap_seconds: stale_gap,
                start_seconds: start,
                retries_seconds: retries,
                run_seconds: run,
                downstream_seconds: downstream,
                worst_case_seconds: worst.total(),
                limit_seconds: limit,
                survived_failed_runs: survives,
                largest_interval_minutes: largest_interval,
                cut_retries: cut_retries
                    .into_iter()
                    .map(|(task, fit, allowed)| CutRetries { task, fit, allowed })
                    .collect(),
            },
            paces: seen.map_or_else(Vec::new, |seen| paces(planned, seen)),
            defaults: defaulted.clone(),
        }
    }

    /// Whether the limit can be held.
    pub(crate) fn holds(&self) -> bool {
        self.feasible.holds
    }
}

/// What the runs of each task are expected to take, after what was seen of them.
fn paces(planned: &Planned, seen: &MapaRefreshPolicyStatus) -> Vec<PaceExplained> {
    let of = |task: &TaskStatus| {
        let pace = Pace::of(task, &seen.recent_start_seconds, planned.plan.task(task.name)?);
        Some(PaceExplained {
            task: task.name,
            start_seconds: pace.start_seconds,
            run_seconds: pace.run_seconds,
            observed_starts: seen.recent_start_seconds.len(),
            observed_runs: task.recent_run_seconds.len(),
        })
    };
    seen.tasks.iter().filter_map(of).collect()
}

/// The CronJobs as the operator would create them.
fn cron_jobs(planned: &Planned) -> Vec<CronJobExplained> {
    desired(&planned.policy, &planned.plan, &RunnerSettings::default())
        .into_iter()
        .map(|cron_job| {
            let name = cron_job.name().to_owned();
            let task = cron_job.task;
            let spec = cron_job.object.spec.unwrap_or_default();
            let job = spec.job_template.spec.unwrap_or_default();
            CronJobExplained {
                name,
                task: task.name,
                schedule: spec.schedule,
                time_zone: spec.time_zone.unwrap_or_default(),
                max_retries: task.max_retries,
                retry_delay_seconds: task.retry_delay_seconds,
                attempt_timeout_seconds: task.attempt_timeout_seconds,
                run_budget_seconds: task.run_budget_seconds,
                deadline_seconds: job.active_deadline_seconds.unwrap_or_default(),
            }
        })
        .collect()
}

/// Every slot of the hour that begins at `at`, in the order of time and then of the tasks.
fn slots(planned: &Planned, at: Timestamp) -> Vec<Slot> {
    let end = after(at, AN_HOUR);
    let mut moments: Vec<(Timestamp, TaskName)> = Vec::new();
    for task in planned.plan.tasks.iter().filter(|task| !task.suspended) {
        // A slot at the very moment belongs to the hour.
        let mut slot = task.schedule.last_until(at);
        if slot < at {
            slot = task.schedule.next_after(at);
        }
        while slot < end {
            moments.push((slot, task.name));
            slot = task.schedule.next_after(slot);
        }
    }
    moments.sort_unstable();
    moments
        .into_iter()
        .map(|(slot, task)| Slot {
            utc: slot.to_string(),
            local: local(slot, planned.plan.time_zone),
            task,
        })
        .collect()
}

/// RFC 3339 in `zone`.
fn local(moment: Timestamp, zone: Tz) -> String {
    let utc = DateTime::from_timestamp(moment.as_second(), 0).unwrap_or_default();
    zone.from_utc_datetime(&utc.naive_utc()).to_rfc3339()
}

/// A value as YAML would say it on one line.
fn plainly(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            policy,
            at,
            interval_minutes,
            max_data_age_minutes,
            ..
        } = self;
        writeln!(
            f,
            "{policy}: every {interval_minutes} min, limit {max_data_age_minutes} min"
        )?;
        if self.area != RR {
            // The configuration is not at hand here.
            let area = &self.area;
            writeln!(
                f,
                "Area {area} is not built in: the operator's configuration has to define it, below `areas`."
            )?;
        }
        self.write_cron_jobs(f)?;
        if self.suspended {
            writeln!(
                f,
                "\nSuspended: no slot fires; the time counts against the limit all the same."
            )?;
        } else {
            writeln!(f, "\nThe hour from {at}")?;
            let header = row(["UTC", self.time_zone.as_str(), "TASKS"]);
            f.write_str(&aligned(2, &[vec![header], self.rows_of_slots()].concat()))?;
        }
        self.feasible.write_sum(f)?;
        self.write_paces(f)?;
        if !self.defaults.is_empty() {
            let filled: Vec<String> = self
                .defaults
                .iter()
                .map(|default| format!("{} {}", default.field, plainly(&default.value)))
                .collect();
            writeln!(f, "\nDefaults filled in: {}", filled.join(", "))?;
        }
        Ok(())
    }
}

impl Explained {
    fn write_cron_jobs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![row([
            "CRONJOB", "SCHEDULE", "TIMEZONE", "RETRIES", "DELAY", "ATTEMPT", "RUN", "DEADLINE",
        ])];
        for job in &self.cron_jobs {
            rows.push(vec![
                job.name.clone(),
                job.schedule.clone(),
                job.time_zone.clone(),
                job.max_retries.to_string(),
                format!("{} s", job.retry_delay_seconds),
                format!("{} s", job.attempt_timeout_seconds),
                format!("{} s", job.run_budget_seconds),
                format!("{} s", job.deadline_seconds),
            ]);
        }
        write!(f, "\n{}", aligned(2, &rows))
    }

    fn write_paces(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.paces.is_empty() {
            return writeln!(
                f,
                "  Start and run times are allowances until three runs were seen; the operator then takes what it saw."
            );
        }
        let mut rows = vec![row(["TASK", "START", "RUN", "SEEN"])];
        for pace in &self.paces {
            rows.push(vec![
                pace.task.to_string(),
                format!("{} s", pace.start_seconds),
                format!("{} s", pace.run_seconds),
                format!("{} starts, {} runs", pace.observed_starts, pace.observed_runs),
            ]);
        }
        writeln!(
            f,
            "\nPaces: the 95th percentile of what was seen, an allowance where that is fewer than three"
        )?;
        f.write_str(&aligned(2, &rows))
    }

    /// One row for each moment.
    fn rows_of_slots(&self) -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> = Vec::new();
        for slot in &self.slots {
            match rows.last_mut() {
                Some(last) if last.first() == Some(&slot.utc) => {
                    if let Some(tasks) = last.last_mut() {
                        let _ = write!(tasks, ", {}", slot.task);
                    }
                }
                _ => rows.push(vec![slot.utc.clone(), slot.local.clone(), slot.task.to_string()]),
            }
        }
        rows
    }
}

impl FeasibleExplained {
    fn write_sum(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds { "True" } else { "False" };
        writeln!(f, "\nFeasible: {verdict}, {}", self.reason)?;
        let parts = [
            (self.gap_seconds, "largest gap between two slots"),
            (
                self.stale_gap_seconds,
                "one gap more: the view can outlast the map's wait for it",
            ),
            (self.start_seconds, "start: creating the Job, placing the pod"),
            (self.retries_seconds, "retries and their delays"),
            (self.run_seconds, "the runs, the view's and then the map's"),
            (self.downstream_seconds, "caches after ours"),
        ];
        let mut rows: Vec<Vec<String>> = parts
            .iter()
            .filter(|(seconds, _)| *seconds > 0)
            .map(|(seconds, what)| vec![format!("{seconds:>6} s"), (*what).to_owned()])
            .collect();
        rows.push(vec![
            format!("{:>6} s", self.worst_case_seconds),
            format!("worst age, of {} s", self.limit_seconds),
        ]);
        f.write_str(&aligned(2, &rows))?;
        writeln!(f, "  {}", self.message)
    }
}

#[cfg(test)]
mod tests;
