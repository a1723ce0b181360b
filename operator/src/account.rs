//! Pure: the account of breaches, from what is known of every publication.
//!
//! Between two publications the age of a document is certain, whatever ran or failed meanwhile, so the account is an integral over a
//! timeline of publications and needs nobody who watched. What lies behind the last known publication of every document is settled;
//! what lies after it is computed anew each time, because a later report may tell of publications whose own reports were lost
//! (the operator was down, a pod was killed between publication and report).

use chrono::{Datelike, NaiveDate, TimeZone};
use chrono_tz::Tz;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use mapa_refresh_crds::{
    report::{Publication, Publications},
    status::{ComplianceAccount, MAX_MONTHS, MAX_OPEN_PUBLICATIONS, MonthTally, SettledAccount, Tally, TaskStatus},
};

/// `dataAsOf` of an entry that says: from here on nothing is published (a health-check found the document missing).
const LOST: i64 = 0;
/// `dataAsOf` of an entry that says: from here on it is not known what was published.
const UNKNOWN: i64 = -1;

/// What decides whether data of a certain age is a breach.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Oldest that the data may be, in seconds; what caches after ours add is taken off already.
    pub limit_seconds: i64,
    /// Zone of the calendar months.
    pub zone: Tz,
}

/// A new account that begins at `since`.
#[must_use]
pub fn opened(since: Timestamp) -> ComplianceAccount {
    let since = Time(Timestamp::from_second(since.as_second()).unwrap_or(since));
    ComplianceAccount {
        since: since.clone(),
        accounted_until: since.clone(),
        total: Tally::default(),
        seconds_suspended: 0,
        months: Vec::new(),
        settled: SettledAccount {
            until: since,
            in_breach: false,
            total: Tally::default(),
            month: Tally::default(),
        },
    }
}

/// Adds what a run's report says about publications of its document to `known`, both newest first.
///
/// `newest` is what the run itself proves, `log` what its report carries of the document's recent publications, `not_before` the beginning
/// of the target: older entries speak of another one. No publication is later than `seen`, whatever the cache's clock says.
pub fn publish(
    known: &mut Publications,
    newest: Publication,
    log: &Publications,
    not_before: i64,
    seen: i64,
    limit_seconds: i64,
) {
    let last = known.iter().next();
    let mut entries: Vec<Publication> = log
        .iter()
        .filter(|entry| entry.published_at >= not_before && entry.data_as_of > LOST)
        .collect();
    // The newest is dated by the oldest of several clocks; the others have their stamps alone.
    match entries.first_mut() {
        Some(first) => first.data_as_of = first.data_as_of.min(newest.data_as_of),
        None => entries.push(newest),
    }
    let reaches_back = last.is_none_or(|last| entries.iter().any(|entry| entry.published_at <= last.published_at));
    let oldest_told = entries.last().map_or(newest.published_at, |entry| entry.published_at);
    if let Some(last) = last {
        // Of several within one second, as many are new as are not known: their stamps tell nothing, because what is known has the oldest of
        // several clocks.
        let then = |entry: &Publication| entry.published_at == last.published_at;
        let told = entries.iter().filter(|entry| then(entry)).count();
        let mut new = told.saturating_sub(known.iter().filter(then).count());
        entries.retain(|entry| {
            let is_new = then(entry) && new > 0;
            new -= usize::from(is_new);
            is_new || entry.published_at > last.published_at
        });
    }
    for entry in &mut entries {
        entry.data_as_of = entry.data_as_of.min(seen);
        entry.published_at = entry.published_at.max(entry.data_as_of).min(seen);
    }
    if let Some(last) = last.filter(|last| !reaches_back && last.data_as_of > LOST) {
        // The log has a gap. What was published last is public at least until its own deadline; after that nobody knows.
        let known_until = last.data_as_of.saturating_add(limit_seconds).max(last.published_at);
        if known_until < oldest_told {
            entries.push(Publication {
                published_at: known_until,
                data_as_of: UNKNOWN,
            });
        }
    }
    entries.extend(known.iter());
    *known = Publications::new(entries);
}

/// A health-check found at `at` that the document is missing, or that it is older than it was.
pub fn found(known: &mut Publications, at: i64, data_as_of: Option<i64>) {
    let entry = Publication {
        published_at: at,
        data_as_of: data_as_of.unwrap_or(LOST),
    };
    let older: Vec<Publication> = known.iter().filter(|entry| entry.published_at <= at).collect();
    *known = Publications::new(std::iter::once(entry).chain(older));
}

/// How much of the account is made final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// What no later evidence can change.
    Proved,
    /// Everything: what it is about changes.
    Everything,
}

/// Brings `account` forward to `now`, settles what can be, and forgets the publications of `documents` that are needed no more.
pub fn bring_forward(
    account: &mut ComplianceAccount,
    documents: &mut [&mut TaskStatus],
    rules: Rules,
    settle: Settle,
    now: Timestamp,
) {
    let now = now.as_second();
    let mut timelines: Vec<Vec<Publication>> = documents
        .iter()
        .map(|document| document.publications.iter().collect())
        .collect();
    let until = account.settled.until.0.as_second();
    let final_until = match settle {
        Settle::Everything => now,
        Settle::Proved => proved_until(&timelines, until).min(now),
    };
    if final_until > until {
        let mut sums = Sums::from_settled(account, rules.zone);
        sums.add(&timelines, rules, until, final_until);
        sums.settle(account, final_until, rules.zone);
        for (document, timeline) in documents.iter_mut().zip(&mut timelines) {
            forget_before(timeline, final_until);
            document.publications = Publications::new(timeline.iter().copied());
        }
    }
    let until = account.settled.until.0.as_second();
    let mut sums = Sums::from_settled(account, rules.zone);
    sums.add(&timelines, rules, until, now);
    sums.show(account, now.max(until));
}

/// The last moment up to which every document's publications are known; later where a document has more of them than are kept.
fn proved_until(timelines: &[Vec<Publication>], until: i64) -> i64 {
    let newest = |timeline: &Vec<Publication>| timeline.first().map_or(until, |entry| entry.published_at);
    let everyone = timelines.iter().map(newest).min().unwrap_or(until);
    timelines
        .iter()
        .filter_map(|timeline| timeline.get(MAX_OPEN_PUBLICATIONS - 1))
        .map(|entry| entry.published_at)
        .fold(everyone, i64::max)
}

/// Keeps what was published after `moment` and the last before it.
fn forget_before(timeline: &mut Vec<Publication>, moment: i64) {
    let newer = timeline.iter().take_while(|entry| entry.published_at > moment).count();
    timeline.truncate((newer + 1).min(MAX_OPEN_PUBLICATIONS));
}

/// How things stand during a stretch of time in which nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Compliant,
    Breach,
    Unproven,
}

struct Sums {
    total: Tally,
    in_breach: bool,
    /// Newest first.
    months: Vec<MonthTally>,
}

impl Sums {
    /// What is settled: of the months, those before the one in which it ends, and that one's settled part.
    fn from_settled(account: &ComplianceAccount, zone: Tz) -> Self {
        let settled = &account.settled;
        let current = Month::of(settled.until.0.as_second(), zone).name();
        let mut months: Vec<MonthTally> = account
            .months
            .iter()
            .filter(|month| month.month < current)
            .cloned()
            .collect();
        months.insert(
            0,
            MonthTally {
                month: current,
                tally: settled.month,
            },
        );
        Self {
            total: settled.total,
            in_breach: settled.in_breach,
            months,
        }
    }

    /// Adds the time from `from` to `to`.
    fn add(&mut self, timelines: &[Vec<Publication>], rules: Rules, from: i64, to: i64) {
        let mut at = from;
        while at < to {
            let month = Month::of(at, rules.zone);
            let mut end = to.min(month.end.max(at + 1));
            let mut standing = Standing::Compliant;
            let mut oldest: Option<i64> = None;
            for timeline in timelines {
                let position = timeline.iter().position(|entry| entry.published_at <= at);
                let next = position.unwrap_or(timeline.len()).checked_sub(1);
                if let Some(next) = next.and_then(|next| timeline.get(next)) {
                    end = end.min(next.published_at);
                }
                let current = position.and_then(|position| timeline.get(position));
                let (its_standing, until) = stands(current, rules.limit_seconds, at);
                end = end.min(until);
                standing = worse(standing, its_standing);
                if let Some(entry) = current.filter(|entry| entry.data_as_of > LOST) {
                    oldest = Some(oldest.map_or(entry.data_as_of, |oldest| oldest.min(entry.data_as_of)));
                }
            }
            if timelines.is_empty() {
                standing = Standing::Unproven;
            }
            // Every end is later than `at`: publications and deadlines that are not are passed already.
            let end = end.max(at + 1);
            let worst = oldest.map_or(0, |oldest| end.saturating_sub(oldest));
            self.record(&month.name(), standing, end - at, worst);
            at = end;
        }
    }

    fn record(&mut self, month: &str, standing: Standing, seconds: i64, age: i64) {
        let begins = standing == Standing::Breach && !self.in_breach;
        self.in_breach = standing == Standing::Breach;
        if self.months.first().is_none_or(|newest| newest.month.as_str() < month) {
            self.months.insert(
                0,
                MonthTally {
                    month: month.to_owned(),
                    tally: Tally::default(),
                },
            );
            self.months.truncate(MAX_MONTHS);
        }
        let this_month = self.months.iter_mut().find(|tally| tally.month == month);
        for tally in [Some(&mut self.total), this_month.map(|month| &mut month.tally)]
            .into_iter()
            .flatten()
        {
            tally.breaches += i64::from(begins);
            match standing {
                Standing::Breach => tally.seconds_in_breach = tally.seconds_in_breach.saturating_add(seconds),
                Standing::Unproven => tally.seconds_unproven = tally.seconds_unproven.saturating_add(seconds),
                Standing::Compliant => {}
            }
            // What was public at a time for which there is no evidence has no known age.
            if standing != Standing::Unproven {
                tally.worst_data_age_seconds = tally.worst_data_age_seconds.max(age);
            }
        }
    }

    fn settle(self, account: &mut ComplianceAccount, until: i64, zone: Tz) {
        let month = Month::of(until, zone).name();
        account.settled = SettledAccount {
            until: time(until),
            in_breach: self.in_breach,
            total: self.total,
            month: self
                .months
                .iter()
                .find(|tally| tally.month == month)
                .map(|tally| tally.tally)
                .unwrap_or_default(),
        };
        self.show(account, until);
    }

    fn show(self, account: &mut ComplianceAccount, until: i64) {
        account.total = self.total;
        account.months = self.months;
        account.months.truncate(MAX_MONTHS);
        account.accounted_until = time(until);
    }
}

/// How a document stands at `at`, and until when at most.
fn stands(current: Option<&Publication>, limit_seconds: i64, at: i64) -> (Standing, i64) {
    match current.map(|entry| entry.data_as_of) {
        None | Some(UNKNOWN) => (Standing::Unproven, i64::MAX),
        Some(LOST) => (Standing::Breach, i64::MAX),
        Some(data_as_of) => {
            let deadline = data_as_of.saturating_add(limit_seconds);
            if at < deadline {
                (Standing::Compliant, deadline)
            } else {
                (Standing::Breach, i64::MAX)
            }
        }
    }
}

/// A breach of one document is a breach; without evidence about one, nothing is compliant.
fn worse(a: Standing, b: Standing) -> Standing {
    match (a, b) {
        (Standing::Breach, _) | (_, Standing::Breach) => Standing::Breach,
        (Standing::Unproven, _) | (_, Standing::Unproven) => Standing::Unproven,
        (Standing::Compliant, Standing::Compliant) => Standing::Compliant,
    }
}

/// A calendar month of a zone.
struct Month {
    year: i32,
    month: u32,
    /// Its first moment after, in seconds since 1970.
    end: i64,
}

impl Month {
    fn of(second: i64, zone: Tz) -> Self {
        let local = chrono::DateTime::from_timestamp(second, 0)
            .unwrap_or_default()
            .with_timezone(&zone);
        let (year, month) = (local.year(), local.month());
        let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        // Where midnight does not exist on that day, the day begins with the change of clocks.
        let end = NaiveDate::from_ymd_opt(next_year, next_month, 1)
            .and_then(|first| {
                (0..24).find_map(|hour| zone.from_local_datetime(&first.and_hms_opt(hour, 0, 0)?).earliest())
            })
            .map_or(i64::MAX, |first| first.timestamp());
        Self { year, month, end }
    }

    fn name(&self) -> String {
        format!("{:04}-{:02}", self.year, self.month)
    }
}

fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests;
