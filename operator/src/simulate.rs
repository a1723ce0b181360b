//! `simulate`: how old the data of a policy gets, over years of virtual time, by the operator's own engine.
//!
//! [`world`] is what the operator lives in, [`engine`] the operator itself, [`draws`] what is left to chance, [`ages`] what the public
//! saw. Without a cluster, a clock or a database.

mod ages;
mod draws;
mod engine;
mod said;
mod world;

use std::{panic, thread, time::Instant};

use clap::Parser;
use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::policy::LEGAL_LIMIT_MINUTES;
use serde::Serialize;

pub use draws::{Chance, DrawError, Odds, Outages, Spread};

use crate::{
    admission::Problem,
    explain::{Answer, BAD_INPUT, DOES_NOT_HOLD, HOLDS, Listing, OutputFormat, PolicyInput, Refused, as_json, sorted},
    policy_file::{Document, Planned, read},
    schedule::Interval,
    validate::{Plan, at_interval},
};
use world::{Limits, World};

/// Years that are simulated of every interval in the search for the largest that holds.
const SEARCHED_YEARS: u64 = 4;
const YEAR_SECONDS: i64 = 365 * 86_400;
/// From no event in so much time follows, with 95 % confidence, that it is rarer than three in that time.
///
/// Source: Hanley and Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA 249 (1983).
const RULE_OF_THREE: f64 = 3.0;

/// Settings of `simulate`.
#[derive(Clone, Debug, Parser)]
pub struct SimulateSettings {
    /// The file.
    #[command(flatten)]
    pub input: PolicyInput,

    /// Slots to simulate; at each, one run of every task is started
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub runs: u64,

    /// Probability that an attempt fails, for a reason that may pass, 0 to 1
    #[arg(long, value_name = "RATE", default_value = "0.01")]
    pub failure_rate: Chance,

    /// What an attempt takes, whether it fails or not: a log-normal distribution through these percentiles
    #[arg(long, value_name = "SPREAD", default_value = "p50=3s,p99=40s")]
    pub duration: Spread,

    /// What passes between a slot and the start of its runner
    #[arg(long, value_name = "SPREAD", default_value = "p50=2s,p99=10s")]
    pub start: Spread,

    /// Times in which every attempt fails: how long one lasts and how often one comes on average, such as 45m/30d; default: none
    #[arg(long, value_name = "LENGTH/EVERY")]
    pub outage: Option<Outages>,

    /// Seed of the draws: the same seed gives the same answer
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
}

impl SimulateSettings {
    fn odds(&self) -> Odds {
        Odds {
            failure_rate: self.failure_rate,
            duration: self.duration,
            start: self.start,
            outage: self.outage,
        }
    }
}

/// Simulates every policy of the file; what that took is said on stderr.
#[must_use]
pub fn simulate(settings: &SimulateSettings, now: Timestamp) -> Answer {
    let input = &settings.input;
    let documents = match read(&input.file, &input.namespace, now) {
        Ok(documents) => documents,
        Err(error) => return Answer::unreadable(&error),
    };
    answer(documents, settings)
}

fn answer(documents: Vec<Document>, settings: &SimulateSettings) -> Answer {
    let (planned, mut refused, mut stderr) = sorted(documents);
    let mut policies = Vec::new();
    for (name, planned) in planned {
        if let Some(problem) = nothing_to_simulate(&planned.plan) {
            stderr.push_str(&format!("error: {name}: {problem}\n"));
            refused.push(Refused::new(name, vec![problem]));
            continue;
        }
        let began = Instant::now();
        let simulated = match Simulated::of(name.clone(), &planned, settings) {
            Ok(simulated) => simulated,
            Err(problem) => {
                stderr.push_str(&format!("error: {name}: {problem}\n"));
                refused.push(Refused::new(name, vec![problem]));
                continue;
            }
        };
        stderr.push_str(&format!(
            "{}: {} runs, and {} more in search of the largest interval, took {:.2} s\n",
            simulated.policy,
            simulated.job_runs,
            simulated.searched_job_runs,
            began.elapsed().as_secs_f64()
        ));
        policies.push(simulated);
    }
    let exit_code = if !refused.is_empty() {
        BAD_INPUT
    } else if policies.iter().all(Simulated::holds) {
        HOLDS
    } else {
        DOES_NOT_HOLD
    };
    let stdout = match settings.input.output {
        OutputFormat::Json => as_json(&Listing { policies, refused }),
        OutputFormat::Table => policies.iter().map(Simulated::to_string).collect::<Vec<_>>().join("\n"),
    };
    Answer {
        stdout,
        stderr,
        exit_code,
    }
}

/// Why there is no data whose age could be simulated.
fn nothing_to_simulate(plan: &Plan) -> Option<Problem> {
    let problem = |field: &str, message: &str| {
        Some(Problem {
            field: field.to_owned(),
            message: message.to_owned(),
        })
    };
    if plan.suspended {
        return problem(
            "spec.suspend",
            "is true: nothing runs; leave it out to simulate the schedule",
        );
    }
    if !plan.tasks.iter().any(|task| task.name.is_data_task()) {
        return problem(
            "spec.tasks",
            "holds no task that makes data newer: there is no age to simulate",
        );
    }
    None
}

/// Before everything was published once there is no age.
fn never_published(plan: &Plan) -> Problem {
    Problem {
        field: "spec.intervalMinutes".to_owned(),
        message: format!(
            "{}: at these odds not all that is public is ever published, so there is no age to simulate; \
             give a lower --failure-rate or --duration, or a longer interval with more retries",
            plan.interval.minutes()
        ),
    }
}

/// What came of simulating one policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Simulated {
    policy: String,
    interval_minutes: u32,
    limit_seconds: i64,
    seed: u64,
    #[serde(flatten)]
    odds: Odds,
    /// Slots that passed.
    runs: u64,
    /// Runs of any task, rescues included.
    job_runs: u64,
    failed_job_runs: u64,
    attempts: u64,
    simulated_seconds: i64,
    data_age_seconds: DataAge,
    breaches: u64,
    breaches_per_year: f64,
    breach_days_per_year: f64,
    seconds_in_breach: i64,
    breach_probability_per_day: Probability,
    breach_probability_per_month: Probability,
    rescue: bool,
    rescues: u64,
    /// The sum of Feasible, at the longest of what was drawn.
    feasible_worst_case_seconds: u32,
    largest_interval_below_one_breach_a_year: Option<u32>,
    searched_years: u64,
    searched: Vec<Searched>,
    searched_job_runs: u64,
    shares: Vec<Share>,
}

/// Ages that the public saw, weighted by time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct DataAge {
    p50: i64,
    p95: i64,
    p99: i64,
    worst: i64,
}

/// A probability, as a share of simulated days or months.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Probability {
    /// Those with a breach.
    with_breach: i64,
    /// All of them, a begun one included.
    of: i64,
    /// The share; where there was no breach, the bound below which it lies with 95 % confidence.
    value: f64,
    /// Whether it is a bound.
    is_upper_bound: bool,
}

impl Probability {
    #[expect(clippy::cast_precision_loss, reason = "days of some thousand years are below 2^52")]
    fn of((with_breach, of): (i64, i64)) -> Self {
        let is_upper_bound = with_breach == 0;
        let value = if is_upper_bound {
            (RULE_OF_THREE / of as f64).min(1.0)
        } else {
            with_breach as f64 / of as f64
        };
        Self {
            with_breach,
            of,
            value,
            is_upper_bound,
        }
    }
}

/// One interval that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Searched {
    interval_minutes: u32,
    /// Whether everything was ever published: without that there is no age.
    ever_published: bool,
    breaches: u64,
    /// Days with a breach.
    breach_days: u64,
    years: f64,
}

/// Share of the time in which the data was of an age.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Share {
    from_seconds: i64,
    /// Absent from the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_seconds: Option<i64>,
    share: f64,
}

impl Simulated {
    /// Whether the limit is kept but for less than one day a year. By breaches alone one that never ends would be one.
    fn holds(&self) -> bool {
        self.breaches_per_year.max(self.breach_days_per_year) < 1.0
    }

    /// Fails when the runs of the policy never get as far as to publish everything once.
    fn of(policy: String, planned: &Planned, settings: &SimulateSettings) -> Result<Self, Problem> {
        let odds = settings.odds();
        // Neither needs the other, and each takes about half of the time.
        thread::scope(|scope| {
            let search = scope.spawn(|| search(planned, &odds, settings.seed));
            let simulated = Self::at_its_interval(policy, planned, settings, odds);
            let found = search.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
            Ok(Self {
                largest_interval_below_one_breach_a_year: found.largest,
                searched: found.searched,
                searched_job_runs: found.job_runs,
                ..simulated?
            })
        })
    }

    /// All but the search.
    fn at_its_interval(
        policy: String,
        planned: &Planned,
        settings: &SimulateSettings,
        odds: Odds,
    ) -> Result<Self, Problem> {
        let plan = &planned.plan;
        let mut world = World::new(planned, plan, &odds, settings.seed);
        world.run(Limits::slots(settings.runs));
        if !world.operator.has_begun() {
            return Err(never_published(plan));
        }
        let longest = world.longest;
        let (runs, now) = (world.slots_passed, world.now());
        let operator = &world.operator;
        let (job_runs, failed_job_runs, attempts, rescues) = (
            operator.ended_runs,
            operator.failed_runs,
            operator.attempts,
            operator.rescues,
        );
        let (ages, account) = world.into_operator().closed(now);
        let total = account.map(|account| account.total).unwrap_or_default();
        let limit = i64::try_from(plan.max_data_age.as_secs()).unwrap_or(i64::MAX) + i64::from(plan.downstream_seconds);
        Ok(Self {
            policy,
            interval_minutes: plan.interval.minutes(),
            limit_seconds: limit,
            seed: settings.seed,
            odds,
            runs,
            job_runs,
            failed_job_runs,
            attempts,
            simulated_seconds: ages.seconds(),
            data_age_seconds: DataAge {
                p50: ages.quantile(0.5),
                p95: ages.quantile(0.95),
                p99: ages.quantile(0.99),
                worst: total.worst_data_age_seconds + i64::from(plan.downstream_seconds),
            },
            breaches: total.breaches.unsigned_abs(),
            breaches_per_year: per_year(total.breaches.unsigned_abs(), ages.seconds()),
            breach_days_per_year: per_year(ages.breach_days(), ages.seconds()),
            seconds_in_breach: total.seconds_in_breach,
            breach_probability_per_day: Probability::of(ages.days()),
            breach_probability_per_month: Probability::of(ages.months()),
            rescue: plan.rescue,
            rescues,
            feasible_worst_case_seconds: said::worst_case(plan, longest),
            largest_interval_below_one_breach_a_year: None,
            searched_years: SEARCHED_YEARS,
            searched: Vec::new(),
            searched_job_runs: 0,
            shares: said::shares(&ages, limit),
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of some thousand years are below 2^52"
)]
fn per_year(count: u64, seconds: i64) -> f64 {
    count as f64 * YEAR_SECONDS as f64 / seconds.max(1) as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of some thousand years are below 2^52"
)]
fn years(seconds: i64) -> f64 {
    seconds as f64 / YEAR_SECONDS as f64
}

/// What the search came to.
#[derive(Debug, Default)]
struct Found {
    /// The largest interval with fewer than one breach, and fewer than one day with a breach, a year.
    largest: Option<u32>,
    /// The intervals tried, largest first.
    searched: Vec<Searched>,
    /// The runs that took.
    job_runs: u64,
}

/// Every interval meets the same draws. One is given up as soon as it has had as many breaches, or days with one, as years are searched.
fn search(planned: &Planned, odds: &Odds, seed: u64) -> Found {
    let mut found = Found::default();
    let limits = Limits {
        slots: u64::MAX,
        seconds: i64::try_from(SEARCHED_YEARS).unwrap_or(i64::MAX) * YEAR_SECONDS,
        breaches: SEARCHED_YEARS,
        failed_runs: u64::MAX,
    };
    for minutes in (1..=LEGAL_LIMIT_MINUTES).rev() {
        let Ok(plan) = at_interval(&planned.policy, &planned.plan, Interval::clamped(minutes)) else {
            continue;
        };
        let mut world = World::new(planned, &plan, odds, seed);
        world.run(limits);
        let (now, ever_published) = (world.now(), world.operator.has_begun());
        found.job_runs += world.operator.ended_runs;
        let (ages, _) = world.into_operator().closed(now);
        let interval_minutes = plan.interval.minutes();
        found.searched.push(Searched {
            interval_minutes,
            ever_published,
            breaches: ages.breaches,
            breach_days: ages.breach_days(),
            years: years(ages.seconds()),
        });
        if ever_published && ages.breaches_or_days() < SEARCHED_YEARS {
            found.largest = Some(interval_minutes);
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests;
