//! What is left to chance: how long things take, which attempts fail, when the database is down.

use std::{fmt, str::FromStr, time::Duration};

use rand_distr::{Distribution, Exp, Open01, StandardNormal};
use rand_pcg::{Pcg64Mcg, rand_core::SeedableRng};
use serde::Serialize;

/// The 99th percentile of the standard normal distribution.
const Z_99: f64 = 2.326_347_874_040_841;

/// Longest time that anything may be said to take.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// Why a text is no [`Spread`], [`Chance`] or [`Outages`].
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DrawError {
    /// A duration can't be read.
    #[error("{0:?} is no duration; write a number with its unit, such as 500ms, 3s, 45m, 2h or 30d, a year at most")]
    Duration(String),
    /// A spread can't be read.
    #[error("{0:?} is no spread; write p50=3s,p99=40s")]
    Spread(String),
    /// The percentiles contradict each other.
    #[error("p50 must be more than 0 and at most p99")]
    Order,
    /// A probability can't be read.
    #[error("{0:?} is no probability; write a number from 0 to 1, such as 0.05")]
    Chance(String),
    /// Outages can't be read.
    #[error("{0:?} are no outages; write how long one lasts and how often one comes, such as 45m/30d")]
    Outages(String),
}

fn duration(text: &str) -> Result<Duration, DrawError> {
    let error = || DrawError::Duration(text.to_owned());
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| error())?;
    let seconds = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        "d" => number * 86_400.0,
        _ => return Err(error()),
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(error)
}

/// `duration` in the largest unit that gives a whole number.
pub(super) fn shown(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
        (1, "ms"),
    ];
    units
        .iter()
        .find(|(unit, _)| milliseconds != 0 && milliseconds.is_multiple_of(*unit))
        .map_or_else(
            || "0s".to_owned(),
            |(unit, name)| format!("{}{name}", milliseconds / unit),
        )
}

/// How long something takes: a log-normal distribution, through its median and its 99th percentile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    p50: Duration,
    p99: Duration,
}

impl Spread {
    /// A spread from its percentiles.
    ///
    /// # Errors
    /// When the median is 0 or above the 99th percentile.
    pub fn new(p50: Duration, p99: Duration) -> Result<Self, DrawError> {
        if p50.is_zero() || p50 > p99 {
            return Err(DrawError::Order);
        }
        Ok(Self { p50, p99 })
    }

    fn law(self) -> LogNormal {
        let (p50, p99) = (self.p50.as_secs_f64() * 1e3, self.p99.as_secs_f64() * 1e3);
        LogNormal {
            mu: p50.ln(),
            sigma: (p99 / p50).ln() / Z_99,
        }
    }
}

/// A log-normal distribution of milliseconds.
#[derive(Clone, Copy, Debug)]
struct LogNormal {
    mu: f64,
    sigma: f64,
}

impl LogNormal {
    fn draw(self, random: &mut Pcg64Mcg) -> i64 {
        let normal: f64 = StandardNormal.sample(random);
        milliseconds((self.mu + self.sigma * normal).exp())
    }
}

impl FromStr for Spread {
    type Err = DrawError;

    fn from_str(text: &str) -> Result<Self, DrawError> {
        let error = || DrawError::Spread(text.to_owned());
        let (mut p50, mut p99) = (None, None);
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(error)?;
            match name.trim() {
                "p50" => p50 = Some(duration(value.trim())?),
                "p99" => p99 = Some(duration(value.trim())?),
                _ => return Err(error()),
            }
        }
        let p50 = p50.ok_or_else(error)?;
        Self::new(p50, p99.ok_or_else(error)?)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50={},p99={}", shown(self.p50), shown(self.p99))
    }
}

impl Serialize for Spread {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Chance(f64);

impl Chance {
    /// From 0 to 1.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0
    }
}

impl FromStr for Chance {
    type Err = DrawError;

    fn from_str(text: &str) -> Result<Self, DrawError> {
        text.parse()
            .ok()
            .filter(|chance| (0.0..=1.0).contains(chance))
            .map(Self)
            .ok_or_else(|| DrawError::Chance(text.to_owned()))
    }
}

/// Times in which the database is down: all of the same length, at random moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outages {
    lasts: Duration,
    every: Duration,
}

impl FromStr for Outages {
    type Err = DrawError;

    fn from_str(text: &str) -> Result<Self, DrawError> {
        let error = || DrawError::Outages(text.to_owned());
        let (lasts, every) = text.split_once('/').ok_or_else(error)?;
        let (lasts, every) = (duration(lasts)?, duration(every)?);
        if lasts.is_zero() || every.is_zero() {
            return Err(error());
        }
        Ok(Self { lasts, every })
    }
}

impl fmt::Display for Outages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", shown(self.lasts), shown(self.every))
    }
}

impl Serialize for Outages {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Everything that is left to chance, as the command line says it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Odds {
    /// Probability that an attempt fails.
    pub failure_rate: Chance,
    /// What an attempt takes.
    pub duration: Spread,
    /// What passes between the creation of a Job and the start of its runner.
    pub start: Spread,
    /// When the database is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage: Option<Outages>,
}

/// The draws for one task. Each task has its own, so that the same run meets the same luck whatever the others do and whatever the
/// interval is.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    random: Pcg64Mcg,
    failure_rate: f64,
    duration: LogNormal,
    start: LogNormal,
}

impl Draws {
    pub(super) fn new(odds: &Odds, seed: u64, stream: u64) -> Self {
        Self {
            random: generator(seed, stream),
            failure_rate: odds.failure_rate.as_f64(),
            duration: odds.duration.law(),
            start: odds.start.law(),
        }
    }

    /// Milliseconds from a Job's creation to its runner's start.
    pub(super) fn start(&mut self) -> i64 {
        self.start.draw(&mut self.random)
    }

    /// Milliseconds that an attempt takes, and whether it fails.
    pub(super) fn attempt(&mut self) -> (i64, bool) {
        let duration = self.duration.draw(&mut self.random);
        let luck: f64 = Open01.sample(&mut self.random);
        (duration, luck < self.failure_rate)
    }
}

fn generator(seed: u64, stream: u64) -> Pcg64Mcg {
    // Seeds that lie side by side are mixed by `seed_from_u64`; the streams lie far apart.
    Pcg64Mcg::seed_from_u64(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
fn milliseconds(number: f64) -> i64 {
    number.clamp(1.0, LONGEST.as_secs_f64() * 1e3).round() as i64
}

/// The times in which the database is down, one after the other; asked in the order of time.
#[derive(Clone, Debug)]
pub(super) struct Downtime {
    random: Pcg64Mcg,
    law: Option<(Exp<f64>, i64)>,
    /// The current or next one, in milliseconds.
    from: i64,
    to: i64,
}

impl Downtime {
    pub(super) fn new(outages: Option<Outages>, seed: u64, begin: i64) -> Self {
        let law = outages.and_then(|outages| {
            let every = Exp::new(1.0 / (outages.every.as_secs_f64() * 1e3)).ok()?;
            Some((every, milliseconds(outages.lasts.as_secs_f64() * 1e3)))
        });
        let mut downtime = Self {
            random: generator(seed, u64::MAX),
            law,
            from: i64::MAX,
            to: i64::MAX,
        };
        downtime.draw(begin);
        downtime
    }

    fn draw(&mut self, after: i64) {
        if let Some((every, lasts)) = self.law {
            self.from = after.saturating_add(milliseconds(every.sample(&mut self.random)));
            self.to = self.from.saturating_add(lasts);
        }
    }

    /// When the database goes down next, `now` or earlier when it is.
    pub(super) fn next(&mut self, now: i64) -> i64 {
        while self.to <= now {
            self.draw(self.to);
        }
        self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_chances_and_outages_are_read_as_they_are_shown() {
        for text in ["p50=3s,p99=40s", "p50=500ms,p99=500ms", "p50=1m,p99=2h"] {
            assert_eq!(text.parse::<Spread>().unwrap().to_string(), text);
        }
        assert_eq!("45m/30d".parse::<Outages>().unwrap().to_string(), "45m/30d");
        assert_eq!("0.05".parse::<Chance>(), Ok(Chance(0.05)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "",
            "3s",
            "p50=3s",
            "p50=3,p99=4s",
            "p50=0s,p99=1s",
            "p50=2s,p99=1s",
            "p50=1s,p95=2s,p99=3s",
        ] {
            assert!(text.parse::<Spread>().is_err(), "{text}");
        }
        for text in [
            "p50=NaNs,p99=1s",
            "p50=1s,p99=infs",
            "p50=1s,p99=999999d",
            "p50=-1s,p99=1s",
        ] {
            assert!(text.parse::<Spread>().is_err(), "{text}");
        }
        for text in ["", "-0.1", "1.1", "NaN", "5%"] {
            assert!(text.parse::<Chance>().is_err(), "{text}");
        }
        for text in ["", "45m", "0s/1d", "45m/0d", "45m/30"] {
            assert!(text.parse::<Outages>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_law_goes_through_its_percentiles() {
        let odds = Odds {
            failure_rate: Chance(0.05),
            duration: "p50=3s,p99=40s".parse().unwrap(),
            start: "p50=2s,p99=2s".parse().unwrap(),
            outage: None,
        };
        let mut draws = Draws::new(&odds, 1, 0);
        let mut attempts: Vec<(i64, bool)> = (0..100_000).map(|_| draws.attempt()).collect();
        attempts.sort_unstable();
        let near = |position: usize, expected: i64| {
            let seen = attempts[position].0;
            assert!((seen - expected).abs() * 20 < expected, "{seen} instead of {expected}");
        };
        near(50_000, 3_000);
        near(99_000, 40_000);
        let failed = attempts.iter().filter(|(_, failed)| *failed).count();
        assert!((4_700..5_300).contains(&failed), "{failed}");
        assert_eq!(draws.start(), 2_000);
    }

    #[test]
    fn outages_come_as_often_as_they_are_said_to() {
        let mut downtime = Downtime::new(Some("1h/10d".parse().unwrap()), 7, 0);
        let (mut now, mut down) = (0, 0);
        let year = 365 * 86_400_000;
        while now < 100 * year {
            let from = downtime.next(now);
            down += 1;
            now = from + 3_600_000;
        }
        assert!((3_400..3_900).contains(&down), "{down}");
        assert_eq!(Downtime::new(None, 7, 0).next(5), i64::MAX);
    }
}
