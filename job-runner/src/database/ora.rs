//! Numbers of Oracle's errors: which may pass by themselves, and what to do about those that don't.
//!
//! Source: <https://docs.oracle.com/en/error-help/db/>; the dead-session codes are those of ODPI-C's `dpiError.c`.

use mapa_refresh_crds::report::{FaultClass, code};

/// No such table or view.
pub const NO_SUCH_VIEW: u32 = 942;
/// No such column.
pub const NO_SUCH_COLUMN: u32 = 904;
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

/// One entry each: number, class, remedy.
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

/// Wrappers: what went wrong is said by the next number.
const WRAPPERS: &[u32] = &[12008, 12048, 6512];

/// Numbers that mean that the user may not log on.
const REJECTIONS: &[u32] = &[1005, 1017, 28000, 28001];

/// What the number `ora` means. What the table doesn't know is tried again: a retry too many costs less than one too few.
#[must_use]
pub fn meaning(ora: u32) -> Meaning {
    let found = TABLE.iter().find(|(number, ..)| *number == ora);
    let (class, remedy) = found.map_or((FaultClass::Transient, ""), |(_, class, remedy)| (*class, *remedy));
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

/// The first line of a message, or as many as hold numbers: what an administrator wants to read.
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
    fn each_number_is_there_once() {
        let mut numbers: Vec<_> = TABLE.iter().map(|(number, ..)| number).collect();
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), TABLE.len());
        assert_eq!(meaning(99_999).class, FaultClass::Transient);
    }
}
