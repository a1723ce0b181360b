//! What was simulated, as text.

use std::fmt::{self, Write};

use mapa_refresh_crds::status::{MAX_OBSERVED_RUNS, TaskStatus};

use super::{DataAge, Odds, Probability, Searched, Share, Simulated, ages::Ages, world::Longest, years};
use crate::{
    feasibility::feasibility,
    status::blank_task,
    text_table::{aligned, row},
    validate::Plan,
};

/// Stretches of age up to the limit.
const STRETCHES: i64 = 10;
/// Characters of the longest bar.
const LONGEST_BAR: f64 = 40.0;

/// The worst case of Feasible at the longest of what was drawn: what it promises as long as every run succeeds within its retries.
pub(super) fn worst_case(plan: &Plan, longest: Longest) -> u32 {
    let seconds = |milliseconds: i64| i32::try_from((milliseconds + 999) / 1_000).unwrap_or(i32::MAX);
    let tasks: Vec<TaskStatus> = plan
        .tasks
        .iter()
        .map(|task| TaskStatus {
            recent_run_seconds: vec![seconds(longest.work); MAX_OBSERVED_RUNS],
            ..blank_task(task.name)
        })
        .collect();
    feasibility(plan, &tasks, &[seconds(longest.start); MAX_OBSERVED_RUNS])
        .worst
        .total()
}

/// The time by age: ten stretches up to the limit, and what is beyond.
pub(super) fn shares(ages: &Ages, limit: i64) -> Vec<Share> {
    (0..=STRETCHES)
        .map(|stretch| {
            let from_seconds = limit * stretch / STRETCHES;
            let to_seconds = (stretch < STRETCHES).then_some(limit * (stretch + 1) / STRETCHES);
            Share {
                from_seconds,
                to_seconds,
                share: ages.share(from_seconds, to_seconds.unwrap_or(i64::MAX)),
            }
        })
        .collect()
}

/// `number` with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as minutes and seconds.
fn clock(seconds: i64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

impl fmt::Display for Odds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "failure rate {}, attempts {}, start {}",
            self.failure_rate.as_f64(),
            self.duration,
            self.start
        )?;
        match &self.outage {
            Some(outage) => write!(f, ", outages {outage}"),
            None => f.write_str(", no outages"),
        }
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = if self.is_upper_bound { "< " } else { "" };
        write!(
            f,
            "{bound}{:.3} % ({} of {})",
            self.value * 100.0,
            self.with_breach,
            self.of
        )
    }
}

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            policy,
            interval_minutes,
            limit_seconds,
            seed,
            odds,
            runs,
            simulated_seconds,
            ..
        } = self;
        writeln!(
            f,
            "{policy}: every {interval_minutes} min, limit {} min; {} slots in {:.2} simulated years, seed {seed}",
            limit_seconds / 60,
            grouped(*runs),
            years(*simulated_seconds)
        )?;
        writeln!(f, "  {odds}\n")?;
        f.write_str(&aligned(2, &self.rows()))?;
        self.write_shares(f)?;
        self.write_search(f)
    }
}

impl Simulated {
    fn rows(&self) -> Vec<Vec<String>> {
        let DataAge { p50, p95, p99, worst } = self.data_age_seconds;
        let age = |seconds: i64| format!("{} ({seconds} s)", clock(seconds));
        let rescues = if self.rescue {
            grouped(self.rescues)
        } else {
            "not allowed (spec.rescue)".to_owned()
        };
        vec![
            row(["data age p50", &age(p50)]),
            row(["data age p95", &age(p95)]),
            row(["data age p99", &age(p99)]),
            row(["data age worst", &age(worst)]),
            row([
                "worst case of Feasible",
                &format!(
                    "{}, at the longest of what was drawn, while every run succeeds within its retries",
                    age(i64::from(self.feasible_worst_case_seconds))
                ),
            ]),
            row([
                "breaches",
                &format!(
                    "{} ({:.2} a year), {} s in breach",
                    grouped(self.breaches),
                    self.breaches_per_year,
                    grouped(self.seconds_in_breach.unsigned_abs())
                ),
            ]),
            row(["days with a breach", &self.breach_probability_per_day.to_string()]),
            row(["months with a breach", &self.breach_probability_per_month.to_string()]),
            row(["rescues", &rescues]),
            row([
                "runs of any task",
                &format!(
                    "{}, {} failed; {} attempts",
                    grouped(self.job_runs),
                    grouped(self.failed_job_runs),
                    grouped(self.attempts)
                ),
            ]),
        ]
    }

    fn write_shares(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self
            .shares
            .iter()
            .map(|share| share.share)
            .fold(f64::MIN_POSITIVE, f64::max);
        let rows: Vec<Vec<String>> = self
            .shares
            .iter()
            .map(|share| {
                let to = share
                    .to_seconds
                    .map_or_else(|| "beyond".to_owned(), |to| format!("to {}", clock(to)));
                let mut bar = bar(share.share / most);
                if share.to_seconds.is_none() && share.share > 0.0 {
                    bar.push_str(" over the limit");
                }
                vec![
                    format!("{:>5} {to}", clock(share.from_seconds)),
                    format!("{:>8.4} %", share.share * 100.0),
                    bar,
                ]
            })
            .collect();
        write!(f, "\n  Share of the time by the age of the data\n{}", aligned(2, &rows))
    }

    fn write_search(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tried: Vec<String> = self
            .searched
            .iter()
            .map(
                |Searched {
                     interval_minutes,
                     ever_published,
                     breaches,
                     breach_days,
                     years,
                 }| {
                    if *ever_published && breach_days > breaches {
                        format!("{interval_minutes} min {breaches} on {breach_days} days in {years:.2} years")
                    } else if *ever_published {
                        format!("{interval_minutes} min {breaches} in {years:.2} years")
                    } else {
                        format!("{interval_minutes} min never publishes")
                    }
                },
            )
            .collect();
        let mut shown = String::new();
        // The nearest are telling; that 30 minutes do not hold is not.
        let skipped = tried.len().saturating_sub(4);
        if skipped > 0 {
            shown.push_str("…, ");
        }
        shown.push_str(&tried.get(skipped..).unwrap_or_default().join(", "));
        match self.largest_interval_below_one_breach_a_year {
            Some(minutes) => write!(
                f,
                "\n  Largest interval with fewer than one breach, and one day with a breach, a year: {minutes} min"
            )?,
            None => write!(
                f,
                "\n  No interval has fewer than one breach, and one day with a breach, a year"
            )?,
        }
        writeln!(f, " (breaches: {shown})")
    }
}

/// A bar of `share` of the longest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most the longest bar, and at least nothing"
)]
fn bar(share: f64) -> String {
    let eighths = (share.clamp(0.0, 1.0) * LONGEST_BAR * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(eighths % 8);
    let _ = bar.write_str(rest.copied().unwrap_or_default());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_bars_have_their_length() {
        assert_eq!(["1", "1,000", "12,345,678"], [1, 1_000, 12_345_678].map(grouped));
        assert_eq!(bar(1.0).chars().count(), 40);
        assert_eq!((bar(0.0), bar(1.0 / 80.0)), (String::new(), "▌".to_owned()));
    }
}
