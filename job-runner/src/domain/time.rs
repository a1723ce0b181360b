//! Time: the view's stamp, and DATE columns, which have no zone.
//!
//! A DATE is read in the policy's zone. A local time that a change of the clocks skips or repeats is resolved, not refused: an
//! outage is never hidden for the clock on the wall.

use chrono::{
    DateTime, Duration, FixedOffset, NaiveDateTime, NaiveTime, Offset, SecondsFormat, TimeZone, Utc,
    format::{Fixed, Item, Numeric, Pad, Parsed},
};
use chrono_tz::Tz;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use serde::{Serialize, Serializer};

/// Generations stay below this: Redis' Lua knows only doubles.
const MAX_MICROS: i64 = 1 << 53;

/// The view's stamp: the moment at which its data was true in the database, in whole microseconds since 1970, UTC.
///
/// The same number is the generation of what is built from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(i64);

impl Stamp {
    /// The stamp `micros` microseconds after 1970-01-01T00:00:00Z; `None` before that moment, and from 2^53 µs (the year 2255).
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        (0..MAX_MICROS).contains(&micros).then_some(Self(micros))
    }

    /// Microseconds since 1970: the generation.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0 / 1_000_000
    }

    /// Seconds from `earlier` to this stamp; negative when `earlier` is later.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        // Below 2^53, so exact.
        #[expect(clippy::cast_precision_loss, reason = "both are below 2^53")]
        let micros = (self.0 - earlier.0) as f64;
        micros / 1e6
    }

    /// The same moment, for arithmetic.
    #[must_use]
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// The same moment, for the report: the only bridge from this crate's clock to that of the Kubernetes types.
    #[must_use]
    pub fn to_micro_time(self) -> MicroTime {
        MicroTime(Timestamp::from_microsecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH))
    }
}

impl Serialize for Stamp {
    /// RFC 3339 in UTC, with microseconds.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

/// A moment as a column holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Without a zone: a DATE.
    Local(NaiveDateTime),
    /// With an offset.
    Instant(DateTime<FixedOffset>),
}

/// Which of two moments a repeated local time means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// The first: for a start, so that no outage looks shorter than it is.
    Earlier,
    /// The second: for a forecast, so that it does not seem to precede the start.
    Later,
}

/// How a local time had to be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It existed once.
    Plain,
    /// It existed twice; the clocks went back.
    Ambiguous,
    /// It did not exist; the clocks went forward. Read with the offset before the change.
    Nonexistent,
}

/// Reads `YYYY-MM-DD[ HH:MM[:SS[.f]]][±HH[[:]MM]]`, with a space or a `T`, with `/` instead of `-` in the date, `,` instead of `.`
/// before the fraction, and `Z` or `UTC` for the offset. `None` for anything else, `infinity`, BC and years above 9999 among them;
/// and for dates that begin with the day, because some begin with the month.
#[must_use]
pub fn parse(text: &str) -> Option<Written> {
    let text = text.trim();
    let (date, rest) = text.split_at_checked(10)?;
    let date = read(date, DATE)
        .or_else(|| read(date, DATE_WITH_SLASHES))?
        .to_naive_date()
        .ok()?;
    if rest.is_empty() {
        return Some(Written::Local(date.and_time(NaiveTime::MIN)));
    }
    let rest = rest.strip_prefix([' ', 'T', 't'])?;
    let (time, offset) = match rest.find(['+', '-', 'Z', 'z', 'U']) {
        Some(at) => rest.split_at_checked(at).map(|(time, offset)| (time, Some(offset)))?,
        None => (rest, None),
    };
    let local = date.and_time(time_of_day(time.trim_end())?);
    match offset {
        None => Some(Written::Local(local)),
        Some(offset) => parse_offset(offset)?
            .from_local_datetime(&local)
            .single()
            .map(Written::Instant),
    }
}

/// The moment in `zone`, and how it was resolved. Never panics; a moment at the edge of time is read as UTC.
#[must_use]
pub fn resolve(written: Written, zone: Tz, fold: Fold) -> (DateTime<Tz>, Resolution) {
    match written {
        Written::Instant(at) => (at.with_timezone(&zone), Resolution::Plain),
        Written::Local(local) => match zone.from_local_datetime(&local) {
            chrono::LocalResult::Single(at) => (at, Resolution::Plain),
            chrono::LocalResult::Ambiguous(earlier, later) => (
                if fold == Fold::Earlier { earlier } else { later },
                Resolution::Ambiguous,
            ),
            chrono::LocalResult::None => (after_gap(local, zone), Resolution::Nonexistent),
        },
    }
}

/// Minutes as `hh:mm`, with as many digits for the hours as they need.
#[must_use]
pub fn hours_and_minutes(minutes: u64) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// `%Y-%m-%d`, taken apart once and not for every cell.
const DATE: &[Item<'static>] = &[
    Item::Numeric(Numeric::Year, Pad::Zero),
    Item::Literal("-"),
    Item::Numeric(Numeric::Month, Pad::Zero),
    Item::Literal("-"),
    Item::Numeric(Numeric::Day, Pad::Zero),
];

/// `%Y/%m/%d`.
const DATE_WITH_SLASHES: &[Item<'static>] = &[
    Item::Numeric(Numeric::Year, Pad::Zero),
    Item::Literal("/"),
    Item::Numeric(Numeric::Month, Pad::Zero),
    Item::Literal("/"),
    Item::Numeric(Numeric::Day, Pad::Zero),
];

/// `%H:%M`.
const MINUTES: &[Item<'static>] = &[
    Item::Numeric(Numeric::Hour, Pad::Zero),
    Item::Literal(":"),
    Item::Numeric(Numeric::Minute, Pad::Zero),
];

/// `%H:%M:%S%.f`.
const TIME: &[Item<'static>] = &[
    Item::Numeric(Numeric::Hour, Pad::Zero),
    Item::Literal(":"),
    Item::Numeric(Numeric::Minute, Pad::Zero),
    Item::Literal(":"),
    Item::Numeric(Numeric::Second, Pad::Zero),
    Item::Fixed(Fixed::Nanosecond),
];

fn read(text: &str, items: &[Item<'static>]) -> Option<Parsed> {
    let mut parsed = Parsed::new();
    chrono::format::parse(&mut parsed, text, items.iter()).ok()?;
    Some(parsed)
}

fn time_of_day(text: &str) -> Option<NaiveTime> {
    let parsed = match text.split_once(',') {
        Some((seconds, fraction)) => read(&format!("{seconds}.{fraction}"), TIME),
        None => read(text, TIME).or_else(|| read(text, MINUTES)),
    };
    parsed?.to_naive_time().ok()
}

fn parse_offset(text: &str) -> Option<FixedOffset> {
    if matches!(text, "Z" | "z" | "UTC") {
        return Some(Utc.fix());
    }
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let mut seconds = 0;
    let mut unit = 3_600;
    let in_pairs = match digits.split_at_checked(2) {
        Some((hours, minutes)) if digits.len() == 4 => vec![hours, minutes],
        _ => digits.split(':').collect(),
    };
    for part in in_pairs {
        if part.len() != 2 || unit == 0 {
            return None;
        }
        seconds += part.parse::<u8>().ok().map(i32::from)? * unit;
        unit /= 60;
    }
    FixedOffset::east_opt(sign * seconds)
}

/// Reads a skipped local time with the offset that held before the gap. A gap lasts at most a day (Samoa, 2011-12-30).
fn after_gap(local: NaiveDateTime, zone: Tz) -> DateTime<Tz> {
    let before = [3, 25].into_iter().find_map(|hours| {
        let earlier = local.checked_sub_signed(Duration::hours(hours))?;
        zone.from_local_datetime(&earlier).latest()
    });
    let utc = before
        .and_then(|before| local.checked_sub_signed(Duration::seconds(before.offset().fix().local_minus_utc().into())))
        .unwrap_or(local);
    zone.from_utc_datetime(&utc)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn local(text: &str, zone: Tz, fold: Fold) -> (String, Resolution) {
        let (at, resolution) = resolve(parse(text).unwrap(), zone, fold);
        (at.to_rfc3339(), resolution)
    }

    #[test]
    fn a_date_without_zone_is_the_utilitys_local_time() {
        let read = local("2026-11-23 10:00:00", chrono_tz::America::Boa_Vista, Fold::Earlier);
        assert_eq!(read, ("2026-11-23T10:00:00-04:00".to_owned(), Resolution::Plain));
    }

    #[test]
    fn a_moment_with_its_own_offset_keeps_it() {
        let zone = chrono_tz::America::Boa_Vista;
        for text in [
            "2026-11-23 14:00:00+00",
            "2026-11-23T14:00:00Z",
            "2026-11-23 19:30:00+05:30",
        ] {
            assert_eq!(
                local(text, zone, Fold::Earlier).0,
                "2026-11-23T10:00:00-04:00",
                "{text}"
            );
        }
        assert_eq!(local("2026-11-23", zone, Fold::Earlier).0, "2026-11-23T00:00:00-04:00");
        assert_eq!(
            local("2026-11-23 10:00:00.25", zone, Fold::Earlier).0,
            "2026-11-23T10:00:00.250-04:00"
        );
    }

    #[test]
    fn a_moment_is_read_in_every_spelling_that_has_one_meaning() {
        let zone = chrono_tz::America::Boa_Vista;
        for text in [
            "2026-11-29 08:00",
            "2026-11-29T08:00",
            "2026-11-29t08:00:00",
            "2026/11/29 08:00",
            "2026-11-29 08:00:00,000",
            "2026-11-29 08:00-0400",
            "2026-11-29 08:00:00-0400",
            "2026-11-29 08:00:00 -0400",
            "2026-11-29T08:00-04",
            "2026-11-29 12:00Z",
            "2026-11-29 12:00z",
            "2026-11-29 12:00:00 UTC",
            "2026-11-29T13:30+0130",
        ] {
            let read = parse(text).map(|written| resolve(written, zone, Fold::Earlier).0.to_rfc3339());
            assert_eq!(read.as_deref(), Some("2026-11-29T08:00:00-04:00"), "{text}");
        }
    }

    #[test]
    fn f23_skipped_and_repeated_local_times_are_resolved() {
        let zone = chrono_tz::America::Sao_Paulo;
        assert_eq!(
            local("2018-11-04 00:30:00", zone, Fold::Earlier),
            ("2018-11-04T01:30:00-02:00".to_owned(), Resolution::Nonexistent)
        );
        assert_eq!(
            local("2018-02-17 23:30:00", zone, Fold::Earlier),
            ("2018-02-17T23:30:00-02:00".to_owned(), Resolution::Ambiguous)
        );
        assert_eq!(
            local("2018-02-17 23:30:00", zone, Fold::Later),
            ("2018-02-17T23:30:00-03:00".to_owned(), Resolution::Ambiguous)
        );
        let samoa = local("2011-12-30 12:00:00", chrono_tz::Pacific::Apia, Fold::Earlier);
        assert_eq!(samoa, ("2011-12-31T12:00:00+14:00".to_owned(), Resolution::Nonexistent));
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "infinity",
            "-infinity",
            "0044-03-15 00:00:00 BC",
            "12026-01-01 00:00:00",
            "2026-02-30",
            "2026-11-23 25:00:00",
            "ontem",
            "29/11/2026 08:00",
            "11/29/2026 08:00",
            "2026-11-29 08",
            "2026-11-29 08:00 -04000",
            "2026-11-29 08:00 -é4",
            "2026-11-29 08:00 UTC+4",
            "2026-11-29 08:00 BRT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn hours_grow_beyond_two_digits() {
        assert_eq!(hours_and_minutes(0), "00:00");
        assert_eq!(hours_and_minutes(1_565), "26:05");
        assert_eq!(hours_and_minutes(6_000), "100:00");
    }

    #[test]
    fn a_stamp_is_written_as_the_moment_it_is() {
        let stamp = Stamp::from_micros(1_795_460_400_123_456).unwrap();
        assert_eq!(
            serde_json::to_string(&stamp).unwrap(),
            "\"2026-11-23T19:00:00.123456Z\""
        );
        assert_eq!(
            serde_json::to_string(&stamp.to_micro_time()).unwrap(),
            "\"2026-11-23T19:00:00.123456Z\""
        );
        assert_eq!(Stamp::from_micros(-1), None);
        assert_eq!(Stamp::from_micros(MAX_MICROS), None);
    }

    proptest! {
        #[test]
        fn no_text_and_no_zone_panics(text in "[0-9:+ TZ.-]{0,32}|\\PC{0,32}", zone in 0..chrono_tz::TZ_VARIANTS.len()) {
            if let Some(written) = parse(&text) {
                let _ = resolve(written, chrono_tz::TZ_VARIANTS[zone], Fold::Later).0.to_rfc3339();
            }
        }

        #[test]
        fn any_local_time_resolves_in_any_zone(seconds in -62_135_596_800_i64..253_402_300_800, zone in 0..chrono_tz::TZ_VARIANTS.len()) {
            let written = DateTime::from_timestamp(seconds, 0).unwrap().format("%Y-%m-%d %H:%M:%S").to_string();
            let _ = resolve(parse(&written).unwrap(), chrono_tz::TZ_VARIANTS[zone], Fold::Earlier).0.to_rfc3339();
        }
    }
}
