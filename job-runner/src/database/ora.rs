//! Numbers of Oracle's errors: which may pass by themselves, whose texts may be quoted, and what to do about those that don't pass.
//!
//! Source: <https://docs.oracle.com/en/error-help/db/>; the dead-session codes are those of ODPI-C's `dpiError.c`.

use std::{borrow::Cow, ops::RangeInclusive};

use mapa_refresh_crds::report::{FaultClass, code};

/// No such table or view.
pub const NO_SUCH_VIEW: u32 = 942;
/// No such column.
pub const NO_SUCH_COLUMN: u32 = 904;
/// Several relations or columns have the name.
pub const AMBIGUOUS_NAME: u32 = 918;
/// No service answered in time.
pub const CONNECT_TIMEOUT: u32 = 12170;
/// An identifier of a block is not there, or not granted (PLS-00201 inside).
pub const PLSQL_COMPILATION: u32 = 6550;

/// What the number of an error means to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Whether trying again may help.
    pub class: FaultClass,
    /// Code in the report, when it is not the number itself.
    pub code: Option<&'static str>,
    /// What to do; empty when it says itself.
    pub remedy: &'static str,
}

const CREDENTIALS: &str = "check username and password in the database's Secret; tried once only, for each try counts towards locking the account";
const REACH: &str = "is the listener up and reachable from the pod? check the url in the database's Secret";
const DEAD: &str = "";

/// One entry each: number, class, remedy. Their texts hold names alone, and are quoted.
pub const TABLE: &[(u32, FaultClass, &str)] = {
    use FaultClass::{Permanent, Transient};
    &[
        // The session is dead.
        (22, Transient, DEAD),
        (28, Transient, "an administrator killed the session"),
        (31, Transient, "an administrator killed the session"),
        (45, Transient, DEAD),
        (378, Transient, DEAD),
        (602, Transient, DEAD),
        (603, Transient, DEAD),
        (609, Transient, DEAD),
        (1012, Transient, DEAD),
        (1041, Transient, DEAD),
        (1043, Transient, DEAD),
        (1089, Transient, "the database is being shut down"),
        (1092, Transient, DEAD),
        (2396, Transient, "the profile's IDLE_TIME ended the session"),
        (3113, Transient, DEAD),
        (3114, Transient, DEAD),
        (3122, Transient, DEAD),
        (3135, Transient, DEAD),
        (12153, Transient, DEAD),
        (12537, Transient, REACH),
        (12547, Transient, DEAD),
        (12570, Transient, DEAD),
        (12583, Transient, DEAD),
        (27146, Transient, DEAD),
        (28511, Transient, DEAD),
        (56600, Transient, DEAD),
        // The database can't be reached, or not now.
        (CONNECT_TIMEOUT, Transient, REACH),
        (12541, Transient, REACH),
        (
            12514,
            Transient,
            "is the database open, and its service registered? check the service in the Secret's url",
        ),
        (
            12516,
            Transient,
            "the database has no free handler: too many sessions or processes",
        ),
        (
            12518,
            Transient,
            "the database has no free handler: too many sessions or processes",
        ),
        (
            12519,
            Transient,
            "the database has no free handler: too many sessions or processes",
        ),
        (
            12520,
            Transient,
            "the database has no free handler: too many sessions or processes",
        ),
        (12528, Transient, "the database is starting"),
        (12543, Transient, REACH),
        (12545, Transient, REACH),
        (12571, Transient, REACH),
        (1033, Transient, "the database is starting or being shut down"),
        (1034, Transient, "the database is not started"),
        (1090, Transient, "the database is being shut down"),
        (3136, Transient, ""),
        (3156, Transient, ""),
        // Others are at it.
        (54, Transient, ""),
        (60, Transient, ""),
        (1013, Transient, ""),
        (
            1555,
            Transient,
            "the undo retention is shorter than the reading or the refresh takes",
        ),
        (2049, Transient, ""),
        (4020, Transient, ""),
        (4021, Transient, ""),
        (4061, Transient, ""),
        (4068, Transient, ""),
        (8177, Transient, ""),
        // Somebody has to change something.
        (1005, Permanent, CREDENTIALS),
        (1017, Permanent, CREDENTIALS),
        (
            28000,
            Permanent,
            "the account is locked: an administrator has to unlock it (ALTER USER … ACCOUNT UNLOCK)",
        ),
        (
            28001,
            Permanent,
            "the password has expired: set a new one and write it into the database's Secret",
        ),
        (
            1045,
            Permanent,
            "`job-runner schema --kind oracle` prints the grants that the user needs",
        ),
        (
            NO_SUCH_VIEW,
            Permanent,
            "check spec.database.view; `job-runner schema --kind oracle` prints the grants that the user needs",
        ),
        (NO_SUCH_COLUMN, Permanent, "check spec.database.columns"),
        (
            AMBIGUOUS_NAME,
            Permanent,
            "check spec.database.view and spec.database.columns",
        ),
        (
            1031,
            Permanent,
            "`job-runner schema --kind oracle` prints the grants that the user needs",
        ),
        (
            PLSQL_COMPILATION,
            Permanent,
            "`job-runner schema --kind oracle` prints the grants that the user needs",
        ),
        (
            23401,
            Permanent,
            "check spec.database.view: it should name a materialized view",
        ),
        (
            12154,
            Permanent,
            "check the url in the database's Secret: host:port/SERVICE, or an alias of a tnsnames.ora in the same Secret",
        ),
        (12533, Permanent, "check the url in the database's Secret"),
        (
            28759,
            Permanent,
            "the wallet can't be read: the database's Secret should hold cwallet.sso (or ewallet.pem for client 23)",
        ),
        (
            29024,
            Permanent,
            "the server's certificate is not trusted by the wallet in the database's Secret",
        ),
    ]
};

/// What the view's own query can run into, of which trying again is no help. Their texts hold values of rows, or what a trigger or
/// function puts into them, and are never quoted.
pub const OF_ROWS: &[(RangeInclusive<u32>, &str)] = &[
    (
        1..=1,
        "the view's query yields several rows for one key: mend the view or its unique constraint",
    ),
    (
        1400..=1401,
        "a row breaks a constraint: mend the view or the data under it",
    ),
    (1403..=1403, NO_ROW),
    (
        1407..=1407,
        "a row breaks a constraint: mend the view or the data under it",
    ),
    (1422..=1422, NO_ROW),
    (1426..=1427, NO_ROW),
    (1438..=1438, NO_ROW),
    (1476..=1476, "division by zero: mend the view or the data under it"),
    (1481..=1482, NO_ROW),
    (1489..=1489, NO_ROW),
    (1722..=1722, "a text is no number: mend the view or the data under it"),
    (
        1830..=1898,
        "a text is no date, or a date is out of range: mend the view or the data under it",
    ),
    (
        2290..=2293,
        "a row breaks a constraint: mend the view or the data under it",
    ),
    (6502..=6502, NO_ROW),
    (
        12899..=12899,
        "a text is too long for its column: mend the view or the data under it",
    ),
    (
        20000..=20999,
        "a function or trigger that the view uses raised it: mend it or the data under the view",
    ),
    (22835..=22835, NO_ROW),
    (
        29275..=29275,
        "a text holds bytes that its encoding does not have: mend the data under the view",
    ),
];

const NO_ROW: &str = "the view's own query can't compute a row: mend the view or the data under it";

/// Texts of warnings at a logon that hold no value either: the password expires soon.
const WARNINGS: &[u32] = &[28002, 28011, 28098];

/// Wrappers: what went wrong is said by the next number.
const WRAPPERS: &[u32] = &[12008, 12048, 6512];

/// Numbers that mean that the user may not log on.
const REJECTIONS: &[u32] = &[1005, 1017, 28000, 28001];

/// What the number `ora` means. What no table knows is tried again: a retry too many costs less than one too few.
#[must_use]
pub fn meaning(ora: u32) -> Meaning {
    let known = TABLE
        .iter()
        .find(|(number, ..)| *number == ora)
        .map(|(_, class, remedy)| (*class, *remedy));
    let of_rows = || {
        OF_ROWS
            .iter()
            .find(|(numbers, _)| numbers.contains(&ora))
            .map(|(_, remedy)| (FaultClass::Permanent, *remedy))
    };
    let (class, remedy) = known.or_else(of_rows).unwrap_or((FaultClass::Transient, ""));
    let code = REJECTIONS.contains(&ora).then_some(code::CREDENTIALS_REJECTED);
    Meaning { class, code, remedy }
}

/// The number that says what went wrong, of a message that may hold several: the first that is no wrapper, else the first.
///
/// ODPI-C wraps the error of a dead session in its own (`DPI-1080: connection was closed by ORA-03113`), whose second line holds
/// whatever was in memory: of such a message only the first line counts.
#[must_use]
pub fn number_in(message: &str) -> Option<u32> {
    let counted = if message.starts_with("DPI-") {
        message.lines().next().unwrap_or_default()
    } else {
        message
    };
    let numbers: Vec<u32> = counted
        .match_indices("ORA-")
        .filter_map(|(at, mark)| digits(counted, at + mark.len()))
        .collect();
    numbers
        .iter()
        .find(|number| !WRAPPERS.contains(number))
        .or(numbers.first())
        .copied()
}

/// What an administrator wants to read of a message, when no row was computed: the first line, or as many as hold numbers.
#[must_use]
pub fn readable(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    if message.starts_with("DPI-") {
        return lines.take(1).collect();
    }
    lines
        .filter(|line| !line.starts_with("ORA-06512"))
        .take(4)
        .collect::<Vec<_>>()
        .join("; ")
}

/// What to do about the error `number` of a call that computes rows, whose whole text is `message`. The view was found by then: what is not
/// there is something that its query reads or calls.
#[must_use]
pub fn remedy_of_rows(number: u32, message: &str) -> Cow<'static, str> {
    match (number, function_in(message)) {
        (NO_SUCH_VIEW | NO_SUCH_COLUMN | PLSQL_COMPILATION, Some(function)) => {
            format!("the view's query calls {function}, which failed: mend it or the view").into()
        }
        (NO_SUCH_VIEW, None) => {
            "the user may not read the view, or its owner a table under it (a grant, and not by a role): `job-runner schema --kind oracle` \
             prints the user's grants"
                .into()
        }
        (NO_SUCH_COLUMN, None) => "the view's own query names a column that is not there any more: mend the view".into(),
        _ => meaning(number).remedy.into(),
    }
}

/// The innermost function of a user in the stack of a message. Oracle's own packages do not count, nor does the procedure by which the view's
/// owner lets others refresh it.
fn function_in(message: &str) -> Option<&str> {
    message.lines().find_map(|line| {
        let (name, _) = line.trim().strip_prefix("ORA-06512: at \"")?.split_once('"')?;
        let (owner, function) = name.split_once('.')?;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_$#.".contains(&b));
        (is_name && owner != "SYS" && !function.starts_with("REFRESH_")).then_some(name)
    })
}

/// The same of a statement that computes rows: the lines whose numbers are known to hold names alone. From the first other line on the
/// numbers alone, for its text goes on wherever it likes.
#[must_use]
pub fn readable_of_rows(message: &str) -> String {
    if message.starts_with("DPI-") {
        return readable(message);
    }
    let mut parts: Vec<String> = Vec::new();
    // Within a function a name may be a value: of a statement that it puts together.
    let mut is_withheld = function_in(message).is_some();
    for line in message
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("ORA-06512"))
    {
        let number = line.strip_prefix("ORA-").and_then(|rest| digits(rest, 0));
        let is_known = match number {
            Some(number) => TABLE
                .iter()
                .map(|(known, ..)| known)
                .chain(WRAPPERS)
                .chain(WARNINGS)
                .any(|known| *known == number),
            // What follows ORA-06550, which says that it was compiled: no row was computed.
            None => {
                line.starts_with("PLS-")
                    && line
                        .get(4..9)
                        .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            }
        };
        is_withheld |= !is_known;
        match number {
            _ if !is_withheld => parts.push(line.to_owned()),
            Some(number) => parts.push(format!("ORA-{number:05}")),
            None => {}
        }
    }
    parts.dedup();
    parts.truncate(4);
    if is_withheld {
        parts.push("their texts, which may hold values of rows, are withheld".to_owned());
    }
    parts.join("; ")
}

fn digits(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at + 5)?;
    digits
        .bytes()
        .all(|digit| digit.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_that_counts_is_the_one_inside() {
        for (message, expected) in [
            ("ORA-12541: TNS:no listener", Some(12541)),
            (
                "ORA-12008: error in materialized view refresh path\nORA-00942: table or view does not exist\nORA-06512: at line 1",
                Some(942),
            ),
            (
                "ORA-12048: error encountered while refreshing\nORA-12008: x\nORA-01555: snapshot too old",
                Some(1555),
            ),
            (
                "DPI-1080: connection was closed by ORA-03113\nORA-00942: left over",
                Some(3113),
            ),
            ("DPI-1067: call timeout of 5000 ms exceeded with ORA-03156", Some(3156)),
            ("DPI-1047: Cannot locate a 64-bit Oracle Client library", None),
            ("ORA-12008: alone", Some(12008)),
            ("ORA-1", None),
            ("", None),
        ] {
            assert_eq!(number_in(message), expected, "{message}");
        }
    }

    #[test]
    fn texts_that_can_hold_values_of_rows_are_withheld() {
        for (message, expected) in [
            (
                "ORA-12008: error in materialized view refresh path\nORA-01722: invalid number: tel 95\nORA-06512: at line 1",
                "ORA-12008: error in materialized view refresh path; ORA-01722; their texts, which may hold values of rows, are withheld",
            ),
            (
                "ORA-20001: tel 95\nORA-00942: tel 95",
                "ORA-20001; ORA-00942; their texts, which may hold values of rows, are withheld",
            ),
            (
                "ORA-12008: path\nORA-00942: table or view \"R\".\"T\" does not exist",
                "ORA-12008: path; ORA-00942: table or view \"R\".\"T\" does not exist",
            ),
            (
                "ORA-06550: line 1, column 7:\nPLS-00201: identifier 'X' must be declared",
                "ORA-06550: line 1, column 7:; PLS-00201: identifier 'X' must be declared",
            ),
            (
                "ORA-00001: unique constraint (R.U) violated on (TEL) = (95)\nrest of it",
                "ORA-00001; their texts, which may hold values of rows, are withheld",
            ),
            ("tel 95", "their texts, which may hold values of rows, are withheld"),
        ] {
            assert_eq!(readable_of_rows(message), expected);
        }
        let inside = "ORA-12008: path\nORA-00904: \"TEL 95\": invalid identifier\nORA-06512: at \"RADAR.LIMPA\", line 3\nORA-06512: at \"SYS.DBMS_SNAPSHOT\", line 1";
        assert_eq!(
            readable_of_rows(inside),
            "ORA-12008; ORA-00904; their texts, which may hold values of rows, are withheld"
        );
        assert!(remedy_of_rows(904, inside).contains("RADAR.LIMPA"));
        let outside =
            "ORA-00942: table\nORA-06512: at \"RADAR.REFRESH_MV\", line 3\nORA-06512: at \"SYS.DBMS_SNAPSHOT\", line 1";
        assert_eq!(readable_of_rows(outside), "ORA-00942: table");
        assert!(!remedy_of_rows(942, outside).contains("spec.database"));
        for number in [1, 1400, 1427, 1722, 1847, 12899, 20_000, 20_999] {
            assert_eq!(meaning(number).class, FaultClass::Permanent, "{number}");
            assert!(TABLE.iter().all(|(known, ..)| *known != number), "{number}");
        }
    }

    #[test]
    fn each_number_is_there_once() {
        let mut numbers: Vec<_> = TABLE.iter().map(|(number, ..)| number).collect();
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), TABLE.len());
        assert_eq!(meaning(99_999).class, FaultClass::Transient);
    }
}
