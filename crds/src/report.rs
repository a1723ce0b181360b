//! The `RunReport`: what a run tells the operator, in the pod's termination message.
//!
//! The runner writes it, the operator reads it and believes it only after the UID chain and the pod's template are verified.
//! A container's termination message holds 4096 bytes
//! (<https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>): [`RunReport::encode`] always keeps below
//! that and always writes valid JSON; what does not fit is left out, the oldest publications first.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{policy::TaskName, rows::RowCounts, status::MAX_ERROR_MESSAGE};

/// Version of the contract; a report of another version is not understood.
pub const VERSION: u32 = 1;

/// Bytes that a container's termination message holds.
pub const MAX_BYTES: usize = 4096;

/// Most attempts that a report lists: 10 retries and the first.
pub const MAX_ATTEMPTS: usize = 11;

/// Longest error code, in bytes.
pub const MAX_CODE: usize = 64;

/// What a run did.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunReport {
    /// [`VERSION`].
    pub version: u32,
    /// UID of the policy for which the run was started.
    pub policy_uid: String,
    /// Which task.
    pub task: TaskName,
    /// Hash of the target, as the operator gave it to the pod.
    pub target: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// When the process started, by the pod's clock.
    pub started_at: MicroTime,
    /// When the report was written, by the pod's clock.
    pub finished_at: MicroTime,
    /// Duration of the run by a monotonic clock, in milliseconds.
    pub duration_ms: u64,
    /// Every attempt, in order; empty when the run ended before the first.
    pub attempts: Vec<Attempt>,
    /// How it ended.
    pub result: RunResult,
    /// The rows for which a run failed; the result of a success has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_rows: Option<RowCounts>,
    /// What the health-check found published; absent from other tasks, and when the cache could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// Recent publications of the task's document, newest first, as many as fit.
    #[serde(default, skip_serializing_if = "Publications::is_empty")]
    pub publications: Publications,
}

/// How a run ended.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum RunResult {
    /// The task did what it is for.
    Succeeded(Success),
    /// It did not; nothing that was published is lost.
    Failed(RunError),
}

/// Evidence of a successful run.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Success {
    /// What happened.
    pub kind: SuccessKind,
    /// Moment at which the data was true in the database: the view's stamp. Its microseconds since 1970 are the generation.
    pub data_as_of: MicroTime,
    /// Age of the data by the database's own clock when it was read, in seconds, 0 or more.
    pub age_seconds: f64,
    /// Monotonic seconds from that reading to the writing of the report, 0 or more.
    pub elapsed_seconds: f64,
    /// Active rows published (or, for refresh-mv-portal and health-check, rows in the view).
    pub records: u64,
    /// Rows repaired, by what was repaired.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub repaired: BTreeMap<String, u64>,
    /// Rows left out, by why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantined: BTreeMap<String, u64>,
    /// True when the documents were built before the view's refresh of this slot was seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub built_from_stale_view: bool,
}

/// What a successful run did.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum SuccessKind {
    /// The view was refreshed, and its stamp advanced.
    Refreshed,
    /// Another run had refreshed the view for this slot already.
    AlreadyFresh,
    /// The documents were published.
    Published,
    /// A newer generation was published already; `dataAsOf` is that one's.
    Fenced,
    /// The health-check found everything in order.
    Healthy,
}

/// Why a run failed.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunError {
    /// Whether trying again may help.
    pub class: FaultClass,
    /// Code: one of [`code`], a SQLSTATE, an ORA number or the first word of a Redis error. At most 64 bytes.
    pub code: String,
    /// What happened and what to do, without secrets. At most [`MAX_ERROR_MESSAGE`] bytes.
    pub message: String,
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
pub enum FaultClass {
    /// It may pass by itself.
    Transient,
    /// Somebody has to change something.
    Permanent,
    /// The database's client library is not in the runner's image.
    MissingClient,
}

/// One attempt of a run.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Duration, in milliseconds.
    pub duration_ms: u64,
    /// Class of the fault; absent from the attempt that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FaultClass>,
    /// Code of the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// What the health-check found published.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// `dataAsOf` of the map's document; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<MicroTime>,
    /// `dataAsOf` of the statistics; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<MicroTime>,
}

/// Codes of faults that are not a database's or a cache's own.
pub mod code {
    /// A Secret, or one of its keys, is missing, unreadable or malformed.
    pub const SECRET_INCOMPLETE: &str = "SecretIncomplete";
    /// A setting of the pod is missing or malformed; the operator and the runner differ in version, or it was started by hand.
    pub const INVALID_CONFIGURATION: &str = "InvalidConfiguration";
    /// The database or the cache refuses user name or password.
    pub const CREDENTIALS_REJECTED: &str = "CredentialsRejected";
    /// Another policy's live document has the same key prefix.
    pub const CACHE_KEY_CONFLICT: &str = "CacheKeyConflict";
    /// The published document is missing.
    pub const PUBLISHED_DATA_MISSING: &str = "PublishedDataMissing";
    /// The published document is older than allowed.
    pub const PUBLISHED_DATA_TOO_OLD: &str = "PublishedDataTooOld";
    /// The view is older than allowed.
    pub const VIEW_TOO_OLD: &str = "ViewTooOld";
    /// The number of outages collapsed; published only when the next run finds the same.
    pub const IMPLAUSIBLE_RESULT: &str = "ImplausibleResult";
    /// More rows are quarantined than `plausibility.maxQuarantinedPercent`, or no row is left to publish.
    pub const ROWS_QUARANTINED: &str = "RowsQuarantined";
    /// The cache can't be reached, or the connection to it broke.
    pub const CACHE_UNREACHABLE: &str = "CacheUnreachable";
    /// What is published lies in the future by the database's clock, which was set back.
    pub const CLOCK_SET_BACK: &str = "ClockSetBack";
    /// An attempt took longer than `attemptTimeoutSeconds`.
    pub const ATTEMPT_TIMEOUT: &str = "AttemptTimeout";
    /// The run was ended by SIGTERM: deadline, replacement by the next run, or drain of the node.
    pub const TERMINATED: &str = "Terminated";
}

/// Recent publications of one document, newest first: moments in whole seconds since 1970, delta-encoded.
///
/// On the wire a flat list of integers: `publishedAt`, `dataAsOf` of the newest, then for each older one how many seconds both
/// lie before the one that follows it in time. Ten minutes apart, a day takes some 1,150 bytes.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Publications(Vec<i64>);

/// One publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// When it was published, seconds since 1970, by the cache's clock.
    pub published_at: i64,
    /// When its data was true in the database, seconds since 1970.
    pub data_as_of: i64,
}

impl Publications {
    /// Encodes `newest_first`.
    pub fn new(newest_first: impl IntoIterator<Item = Publication>) -> Self {
        let mut flat = Vec::new();
        let mut newer: Option<Publication> = None;
        for publication in newest_first {
            let Publication {
                published_at,
                data_as_of,
            } = publication;
            match newer {
                None => flat.extend([published_at, data_as_of]),
                Some(n) => flat.extend([
                    n.published_at.saturating_sub(published_at),
                    n.data_as_of.saturating_sub(data_as_of),
                ]),
            }
            newer = Some(publication);
        }
        Self(flat)
    }

    /// Decodes, newest first. An odd last integer is ignored.
    pub fn iter(&self) -> impl Iterator<Item = Publication> + '_ {
        self.0
            .as_chunks::<2>()
            .0
            .iter()
            .scan(None, |newer: &mut Option<Publication>, &[published, as_of]| {
                let publication = match *newer {
                    None => Publication {
                        published_at: published,
                        data_as_of: as_of,
                    },
                    Some(n) => Publication {
                        published_at: n.published_at.saturating_sub(published),
                        data_as_of: n.data_as_of.saturating_sub(as_of),
                    },
                };
                *newer = Some(publication);
                Some(publication)
            })
    }

    /// Number of publications.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / 2
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn drop_oldest_half(&mut self) {
        self.0.truncate(self.len() / 2 * 2);
    }
}

/// Why a termination message is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Nothing was written.
    #[error("the termination message is empty")]
    Missing,
    /// More bytes than a container may leave.
    #[error("the termination message has {0} bytes, more than {MAX_BYTES}")]
    Oversized(usize),
    /// Not JSON, or not a report.
    #[error("the termination message is no run report: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Another version of the contract.
    #[error("the report has version {0}, this operator reads version {VERSION}")]
    Version(u32),
    /// A number that cannot be.
    #[error("the report's {0} is out of range")]
    OutOfRange(&'static str),
}

impl RunReport {
    /// Retries: attempts after the first.
    #[must_use]
    pub fn retries(&self) -> usize {
        self.attempts.len().saturating_sub(1)
    }

    /// One line of JSON of at most `max_bytes` (4096 in a pod). Older publications are left out until it fits, then the
    /// attempts' list; strings are shortened to their limits first.
    ///
    /// # Errors
    /// Only when the rest alone exceeds `max_bytes`, which needs thousands of repair or quarantine reasons.
    pub fn encode(&self, max_bytes: usize) -> Result<String, ReportError> {
        let mut report = self.clone();
        if let RunResult::Failed(error) = &mut report.result {
            clean(&mut error.code, MAX_CODE);
            clean(&mut error.message, MAX_ERROR_MESSAGE);
        }
        report.attempts.truncate(MAX_ATTEMPTS);
        for attempt in &mut report.attempts {
            if let Some(code) = &mut attempt.code {
                clean(code, MAX_CODE);
            }
        }
        loop {
            let line = serde_json::to_string(&report)?;
            if line.len() <= max_bytes {
                return Ok(line);
            }
            if report.publications.is_empty() {
                return Err(ReportError::Oversized(line.len()));
            }
            report.publications.drop_oldest_half();
        }
    }

    /// Reads a termination message. Free text comes out without control characters and within its limits.
    ///
    /// # Errors
    /// Anything that is not a whole report of this version with plausible numbers. Never panics, whatever the bytes: nesting is
    /// limited by the JSON reader.
    pub fn decode(message: &str) -> Result<Self, ReportError> {
        if message.trim().is_empty() {
            return Err(ReportError::Missing);
        }
        if message.len() > MAX_BYTES {
            return Err(ReportError::Oversized(message.len()));
        }
        let mut report: Self = serde_json::from_str(message)?;
        if report.version != VERSION {
            return Err(ReportError::Version(report.version));
        }
        if report.attempts.len() > MAX_ATTEMPTS {
            return Err(ReportError::OutOfRange("attempts"));
        }
        match &mut report.result {
            RunResult::Succeeded(success) => {
                if !(0.0..=1e9).contains(&success.age_seconds) {
                    return Err(ReportError::OutOfRange("ageSeconds"));
                }
                if !(0.0..=1e9).contains(&success.elapsed_seconds) {
                    return Err(ReportError::OutOfRange("elapsedSeconds"));
                }
                if success.records > u64::from(u32::MAX) {
                    return Err(ReportError::OutOfRange("records"));
                }
            }
            RunResult::Failed(error) => {
                clean(&mut error.code, MAX_CODE);
                clean(&mut error.message, MAX_ERROR_MESSAGE);
            }
        }
        Ok(report)
    }
}

/// Replaces control characters by spaces and cuts at `max` bytes of JSON, on a character's boundary: the text reaches terminals,
/// logs and events, and the status has a limit in which an escaped character counts twice.
pub fn clean(text: &mut String, max: usize) {
    if text.chars().any(|c| c.is_control() || is_direction_override(c)) {
        *text = text
            .chars()
            .map(|c| {
                if c.is_control() || is_direction_override(c) {
                    ' '
                } else {
                    c
                }
            })
            .collect();
    }
    let in_json = |c: char| c.len_utf8() + usize::from(matches!(c, '"' | '\\'));
    if text.chars().map(in_json).sum::<usize>() <= max {
        return;
    }
    let room = max.saturating_sub('…'.len_utf8());
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += in_json(*c);
        used > room
    });
    text.truncate(end.map_or(0, |(position, _)| position));
    text.push('…');
}

/// Characters that reorder the text around them (CVE-2021-42574).
fn is_direction_override(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::rows::{Quarantine, Repair};

    fn report(result: RunResult) -> RunReport {
        RunReport {
            version: VERSION,
            policy_uid: "6f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a10".into(),
            task: TaskName::RefreshMapaCache,
            target: "0123456789abcdef".into(),
            pod_uid: "1f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a11".into(),
            started_at: MicroTime(Timestamp::UNIX_EPOCH),
            finished_at: MicroTime(Timestamp::UNIX_EPOCH),
            duration_ms: 12,
            attempts: vec![Attempt {
                duration_ms: 12,
                class: None,
                code: None,
            }],
            result,
            refused_rows: None,
            published: None,
            publications: Publications::default(),
        }
    }

    fn failed(message: &str) -> RunResult {
        RunResult::Failed(RunError {
            class: FaultClass::Transient,
            code: "57P03".into(),
            message: message.into(),
        })
    }

    #[test]
    fn publications_survive_delta_encoding() {
        let day: Vec<_> = (0..144)
            .map(|i| Publication {
                published_at: 1_800_000_000 - 600 * i,
                data_as_of: 1_799_999_990 - 601 * i,
            })
            .collect();
        let encoded = Publications::new(day.iter().copied());
        assert_eq!(encoded.iter().collect::<Vec<_>>(), day);
        assert!(serde_json::to_string(&encoded).unwrap().len() < 1_200);
    }

    #[test]
    fn a_day_of_publications_at_interval_10_fits_beside_a_long_error() {
        let mut full = report(failed(&"x".repeat(5_000)));
        full.attempts = vec![
            Attempt {
                duration_ms: 120_000,
                class: Some(FaultClass::Transient),
                code: Some("57P03".into())
            };
            11
        ];
        full.publications = Publications::new((0..144).map(|i| Publication {
            published_at: 1_800_000_000 - 600 * i,
            data_as_of: 1_799_999_990 - 600 * i,
        }));
        let line = full.encode(MAX_BYTES).unwrap();
        assert_eq!(RunReport::decode(&line).unwrap().publications.len(), 144);
    }

    #[test]
    fn what_is_no_report_is_refused_with_its_reason() {
        let good = report(failed("x")).encode(MAX_BYTES).unwrap();
        assert!(matches!(RunReport::decode(" \n"), Err(ReportError::Missing)));
        assert!(matches!(
            RunReport::decode(&"x".repeat(4_097)),
            Err(ReportError::Oversized(4_097))
        ));
        assert!(matches!(
            RunReport::decode(&good[..good.len() - 1]),
            Err(ReportError::Malformed(_))
        ));
        assert!(matches!(
            RunReport::decode(&"[".repeat(4_000)),
            Err(ReportError::Malformed(_))
        ));
        assert!(matches!(
            RunReport::decode(&good.replacen("\"version\":1", "\"version\":2", 1)),
            Err(ReportError::Version(2))
        ));
    }

    #[test]
    fn text_is_cut_by_its_length_in_json() {
        for text in [
            "x".repeat(900),
            "\"".repeat(900),
            "é\\".repeat(900),
            "\u{1b}\n".repeat(900),
        ] {
            let mut cut = text;
            clean(&mut cut, 100);
            let json = serde_json::to_string(&cut).unwrap();
            assert!((90..=102).contains(&json.len()), "{json}");
        }
        let mut short = "ação".to_owned();
        clean(&mut short, 6);
        assert_eq!(short, "ação");
    }

    #[test]
    fn the_counts_of_a_run_that_refused_fit_beside_a_day_of_publications_and_are_no_new_version() {
        let mut full = report(failed(&"x".repeat(5_000)));
        let most = |words: Vec<&str>| {
            words
                .into_iter()
                .map(|word| (word.to_owned(), u64::from(u32::MAX)))
                .collect()
        };
        full.refused_rows = Some(RowCounts {
            quarantined: most(Quarantine::ALL.iter().map(|why| why.as_str()).collect()),
            repaired: most(Repair::ALL.iter().map(|repair| repair.as_str()).collect()),
        });
        full.publications = Publications::new((0..144).map(|i| Publication {
            published_at: 1_800_000_000 - 600 * i,
            data_as_of: 1_799_999_990 - 600 * i,
        }));
        let line = full.encode(MAX_BYTES).unwrap();
        let read = RunReport::decode(&line).unwrap();
        assert_eq!((read.publications.len(), &read.refused_rows), (144, &full.refused_rows));
        // An operator that knows the field reads a report without it, and an older one ignores what it does not know.
        let older = report(failed("x")).encode(MAX_BYTES).unwrap();
        assert!(!older.contains("refusedRows"));
        assert_eq!(RunReport::decode(&older).unwrap().refused_rows, None);
        let newer = older.replacen("\"version\":1", "\"version\":1,\"fromALaterVersion\":{\"a\":1}", 1);
        assert!(RunReport::decode(&newer).is_ok());
    }

    #[test]
    fn an_age_below_zero_is_refused() {
        let success = Success {
            kind: SuccessKind::Published,
            data_as_of: MicroTime(Timestamp::UNIX_EPOCH),
            age_seconds: -1.0,
            elapsed_seconds: 0.0,
            records: 0,
            repaired: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            built_from_stale_view: false,
        };
        let line = report(RunResult::Succeeded(success)).encode(MAX_BYTES).unwrap();
        assert!(matches!(
            RunReport::decode(&line),
            Err(ReportError::OutOfRange("ageSeconds"))
        ));
    }

    proptest! {
        #[test]
        fn any_message_and_any_history_encode_to_valid_json_within_the_limit(
            message in "\\PC{0,900}|[\\x00-\\x1f\"\\\\]{0,900}",
            history in prop::collection::vec((any::<i64>(), any::<i64>()), 0..400),
        ) {
            let mut full = report(failed(&message));
            full.publications =
                Publications::new(history.into_iter().map(|(published_at, data_as_of)| Publication { published_at, data_as_of }));
            let line = full.encode(MAX_BYTES).unwrap();
            prop_assert!(line.len() <= MAX_BYTES && !line.contains('\n'));
            prop_assert!(RunReport::decode(&line).is_ok());
        }

        #[test]
        fn no_text_makes_decoding_panic(text in "\\PC{0,400}|[{}\\[\\]\",:a-z0-9]{0,400}") {
            let _ = RunReport::decode(&text);
        }
    }
}
