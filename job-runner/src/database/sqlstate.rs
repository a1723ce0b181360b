//! SQLSTATEs: which may pass by themselves, and what to do about those that don't.
//!
//! Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use mapa_refresh_crds::report::{FaultClass, code};

/// A connection could not be made; also used where the driver gives no code.
pub const UNABLE_TO_CONNECT: &str = "08001";
/// A connection broke; also used where the driver gives no code.
pub const CONNECTION_FAILURE: &str = "08006";
/// The view is not there, or not yet usable.
pub const NOT_IN_PREREQUISITE_STATE: &str = "55000";
/// No such table or view.
pub const UNDEFINED_TABLE: &str = "42P01";
/// No such column.
pub const UNDEFINED_COLUMN: &str = "42703";
/// Not the owner, or without the grant.
pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// A relation of the wrong kind.
pub const WRONG_OBJECT_TYPE: &str = "42809";

/// What a SQLSTATE means to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Whether trying again may help.
    pub class: FaultClass,
    /// Code in the report, when it is not the SQLSTATE itself.
    pub code: Option<&'static str>,
    /// What to do; empty when it says itself.
    pub remedy: &'static str,
}

/// One entry: a SQLSTATE or the beginning of some; the longest that fits counts.
const TABLE: &[(&str, FaultClass, &str)] = &[
    // May pass by itself.
    (
        "08",
        FaultClass::Transient,
        "is the database up and reachable from the pod?",
    ),
    ("08P01", FaultClass::Transient, ""),
    (
        "25006",
        FaultClass::Transient,
        "this server takes no writes: a replica, or a failover under way",
    ),
    ("25P03", FaultClass::Transient, ""),
    ("40", FaultClass::Transient, ""),
    (
        "53",
        FaultClass::Transient,
        "the server lacks connections, memory or disk",
    ),
    (
        "55000",
        FaultClass::Transient,
        "the view has no data yet: run refresh-mv-portal",
    ),
    ("55006", FaultClass::Transient, ""),
    ("55P03", FaultClass::Transient, ""),
    ("57", FaultClass::Transient, ""),
    ("58", FaultClass::Transient, ""),
    ("72000", FaultClass::Transient, ""),
    ("XX000", FaultClass::Transient, ""),
    // Somebody has to change something.
    ("0A", FaultClass::Permanent, ""),
    (
        "21",
        FaultClass::Permanent,
        "the view's query yields several rows for one key: mend the view or its unique index",
    ),
    (
        "22",
        FaultClass::Permanent,
        "the view's own query can't compute a row: mend the view or the data under it",
    ),
    (
        "23",
        FaultClass::Permanent,
        "the view's query yields several rows for one key: mend the view or its unique index",
    ),
    (
        "28",
        FaultClass::Permanent,
        "check username and password in the database's Secret, and the server's pg_hba.conf (does it ask for TLS? then sslmode=require in the url)",
    ),
    (
        "3D000",
        FaultClass::Permanent,
        "check the database's name in the Secret's url",
    ),
    ("3F000", FaultClass::Permanent, "check spec.database.view"),
    ("42", FaultClass::Permanent, ""),
    (
        "42501",
        FaultClass::Permanent,
        "`job-runner schema --kind postgresql` prints the grants that the role needs, besides SELECT on the tables that the view reads",
    ),
    ("42703", FaultClass::Permanent, "check spec.database.columns"),
    (
        "42P01",
        FaultClass::Permanent,
        "check spec.database.view; `job-runner schema --kind postgresql` prints what the database needs",
    ),
    ("54", FaultClass::Permanent, ""),
    ("57P04", FaultClass::Permanent, "the database was dropped"),
    ("P0", FaultClass::Permanent, "the view's own functions raised it"),
    ("XX001", FaultClass::Permanent, "the database reports corrupted data"),
    ("XX002", FaultClass::Permanent, "the database reports a corrupted index"),
];

/// What `sqlstate` means. What the table doesn't know is tried again: a retry too many costs less than one too few.
#[must_use]
pub fn meaning(sqlstate: &str) -> Meaning {
    let found = TABLE
        .iter()
        .filter(|(begin, ..)| sqlstate.starts_with(begin))
        .max_by_key(|(begin, ..)| begin.len());
    let (class, remedy) = found.map_or((FaultClass::Transient, ""), |(_, class, remedy)| (*class, *remedy));
    let code = sqlstate.starts_with("28").then_some(code::CREDENTIALS_REJECTED);
    Meaning { class, code, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_class() {
        use FaultClass::{Permanent, Transient};
        for (class, codes) in [
            (
                Transient,
                "08000 08001 08003 08004 08006 25006 40001 40P01 53000 53100 53200 53300 53400 55000 55006 55P03 57014 57P01 57P02 57P03 57P05 58030 XX000 99999",
            ),
            (
                Permanent,
                "0A000 21000 22012 22003 23505 28000 28P01 3D000 3F000 42501 42601 42703 42809 42P01 54000 57P04 P0001 XX001 XX002",
            ),
        ] {
            for code in codes.split(' ') {
                assert_eq!(meaning(code).class, class, "{code}");
            }
        }
    }

    #[test]
    fn rejected_credentials_have_the_reports_own_code() {
        assert_eq!(meaning("28P01").code, Some(code::CREDENTIALS_REJECTED));
        assert_eq!(meaning("28000").code, Some(code::CREDENTIALS_REJECTED));
        assert_eq!(meaning("42501").code, None);
    }
}
