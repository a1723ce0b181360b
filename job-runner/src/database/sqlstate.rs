//! SQLSTATEs: which may pass by themselves, whose texts may be quoted, and what to do about those that don't pass.
//!
//! Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use mapa_refresh_crds::report::{FaultClass, code};

/// A connection could not be made; also used where the driver gives no code.
pub const UNABLE_TO_CONNECT: &str = "08001";
/// A connection broke; also used where the driver gives no code.
pub const CONNECTION_FAILURE: &str = "08006";
/// The server does not do that; also what a replica answers to a transaction that writes.
pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
/// A write where none is taken.
pub const READ_ONLY_TRANSACTION: &str = "25006";
/// The view is not there, or not yet usable.
pub const NOT_IN_PREREQUISITE_STATE: &str = "55000";
/// No such table or view.
pub const UNDEFINED_TABLE: &str = "42P01";
/// No such column.
pub const UNDEFINED_COLUMN: &str = "42703";
/// Several relations or columns have the name.
pub const AMBIGUOUS_NAME: &str = "42702";
/// Not the owner, or without the grant.
pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// A relation of the wrong kind.
pub const WRONG_OBJECT_TYPE: &str = "42809";

/// What to do about a server that takes no writes.
pub const REPLICA: &str = "this server takes no writes: a replica, or a failover under way";

/// What a SQLSTATE means to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Whether trying again may help.
    pub class: FaultClass,
    /// Code in the report, when it is not the SQLSTATE itself.
    pub code: Option<&'static str>,
    /// What the server's text can hold.
    pub words: Words,
    /// What to do; empty when it says itself.
    pub remedy: &'static str,
}

/// What the text of a server's error can hold. Messages reach the status, Events and logs: values of rows must not be in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// Names of objects and settings, when the server itself raised it: may be quoted.
    Names,
    /// Names, too, or a value that the view's query takes for one (`causa::regclass`, `to_tsquery(causa)`): may be quoted of statements
    /// that compute no row.
    Own,
    /// Values of rows: never quoted.
    Values,
}

const RAISED: &str = "a function that the view uses raised it: mend it or the data under the view";

const DUPLICATES: &str = "the view's query yields several rows for one key: mend the view or its unique index";

/// One entry: a SQLSTATE or the beginning of some; the longest that fits counts.
const TABLE: &[(&str, FaultClass, Words, &str)] = {
    use FaultClass::{Permanent, Transient};
    use Words::{Names, Own, Values};
    &[
        // May pass by itself.
        ("08", Transient, Own, "is the database up and reachable from the pod?"),
        ("08P01", Transient, Own, ""),
        (READ_ONLY_TRANSACTION, Transient, Names, REPLICA),
        ("25P0", Transient, Names, ""),
        ("40", Transient, Names, "another session was in the way"),
        ("53", Transient, Names, "the server lacks connections, memory or disk"),
        (
            NOT_IN_PREREQUISITE_STATE,
            Transient,
            Names,
            "does the database take connections (ALTER DATABASE … ALLOW_CONNECTIONS)? is an index of the view being built?",
        ),
        ("55006", Transient, Names, ""),
        (
            "55P03",
            Transient,
            Names,
            "another session holds a lock, and the role's lock_timeout is shorter",
        ),
        ("57", Transient, Names, ""),
        (
            "57014",
            Transient,
            Names,
            "a timeout of the role or the server, an administrator, or a conflict with the replay of a replica",
        ),
        ("58", Transient, Own, ""),
        ("72000", Transient, Names, ""),
        ("XX", Transient, Own, ""),
        // Somebody has to change something.
        ("0A", Permanent, Own, ""),
        (
            "21",
            Permanent,
            Values,
            "a subquery yields several rows where one is expected: mend the view's query or the data under it",
        ),
        (
            "22",
            Permanent,
            Values,
            "the view's own query can't compute a row: mend the view or the data under it",
        ),
        (
            "22001",
            Permanent,
            Values,
            "a text is too long for its type: mend the view or the data under it",
        ),
        (
            "22003",
            Permanent,
            Values,
            "a number is out of its type's range: mend the view or the data under it",
        ),
        (
            "22007",
            Permanent,
            Values,
            "a text is no date or time: mend the view or the data under it",
        ),
        (
            "22008",
            Permanent,
            Values,
            "a date or time is out of range: mend the view or the data under it",
        ),
        (
            "22012",
            Permanent,
            Values,
            "division by zero: mend the view or the data under it",
        ),
        (
            "22021",
            Permanent,
            Values,
            "a text holds bytes that its encoding does not have: mend the data under the view",
        ),
        (
            "22P02",
            Permanent,
            Values,
            "a text is no value of the type that it is converted to: mend the view or the data under it",
        ),
        (
            "22P05",
            Permanent,
            Values,
            "a text holds a character that the other encoding does not have: mend the data under the view",
        ),
        (
            "23",
            Permanent,
            Values,
            "a row breaks a constraint: mend the view or the data under it",
        ),
        ("23505", Permanent, Values, DUPLICATES),
        (
            "28",
            Permanent,
            Own,
            "check username and password in the database's Secret, and the server's pg_hba.conf (does it ask for TLS? then sslmode=require in the url)",
        ),
        ("38", Permanent, Values, RAISED),
        ("39", Permanent, Values, RAISED),
        ("3D000", Permanent, Own, "check the database's name in the Secret's url"),
        ("3F000", Permanent, Own, "check spec.database.view"),
        ("42", Permanent, Own, ""),
        (
            INSUFFICIENT_PRIVILEGE,
            Permanent,
            Names,
            "`job-runner schema --kind postgresql` prints the grants that the role needs, besides SELECT on the tables that the view reads",
        ),
        (UNDEFINED_COLUMN, Permanent, Own, "check spec.database.columns"),
        (
            UNDEFINED_TABLE,
            Permanent,
            Own,
            "check spec.database.view; `job-runner schema --kind postgresql` prints what the database needs",
        ),
        (
            "44",
            Permanent,
            Values,
            "a row breaks a constraint: mend the view or the data under it",
        ),
        ("54", Permanent, Names, ""),
        ("57P04", Permanent, Names, "the database was dropped"),
        // Foreign tables may be of a server that is down.
        ("HV", Transient, Values, "a foreign table under the view can't be read"),
        ("P0", Permanent, Values, RAISED),
        ("XX001", Permanent, Own, "the database reports corrupted data"),
        ("XX002", Permanent, Own, "the database reports a corrupted index"),
    ]
};

/// What `sqlstate` means. What the table doesn't know is tried again, for a retry too many costs less than one too few, and
/// is not quoted.
#[must_use]
pub fn meaning(sqlstate: &str) -> Meaning {
    let found = TABLE
        .iter()
        .filter(|(begin, ..)| sqlstate.starts_with(begin))
        .max_by_key(|(begin, ..)| begin.len());
    let (class, words, remedy) = found.map_or(
        (FaultClass::Transient, Words::Values, ""),
        |(_, class, words, remedy)| (*class, *words, *remedy),
    );
    let code = sqlstate.starts_with("28").then_some(code::CREDENTIALS_REJECTED);
    Meaning {
        class,
        code,
        words,
        remedy,
    }
}

/// What to do about an error whose usual remedy names the policy, when the view's own query ran into it.
pub const OWN_QUERY: &str = "the view's own query ran into it: mend the view, what it calls, or the data under it";

/// What to do when the view holds nothing that could be read.
pub const NO_DATA: &str = "the view has no data, or no unique index any more: run refresh-mv-portal";

/// What to do when the table of stamps is not usable.
pub const STAMPS: &str =
    "is the table mapa_refresh_stamp as `job-runner schema --kind postgresql` prints it, with its key and its grants?";

/// What to do about two equal rows. The server reports them by the code of a subquery with several rows, too.
#[must_use]
pub fn duplicates() -> &'static str {
    DUPLICATES
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
                "08000 08001 08003 08004 08006 25006 25P03 25P04 40001 40P01 53000 53100 53200 53300 53400 55000 55006 55P03 57014 57P01 57P02 57P03 57P05 58030 HV000 XX000 99999",
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
    fn texts_that_can_hold_values_of_rows_are_never_quoted() {
        for code in "21000 22001 22003 22007 22008 22012 22021 22P02 22P05 23502 23505 23514 38000 44000 HV00L P0001 P0004 99999".split(' ') {
            assert_eq!(meaning(code).words, Words::Values, "{code}");
        }
        for code in "25006 40001 42501 53300 55000 55P03 57014".split(' ') {
            assert_eq!(meaning(code).words, Words::Names, "{code}");
        }
        for code in "08006 0A000 28P01 3D000 3F000 42601 42703 42704 42P01 58030 XX000".split(' ') {
            assert_eq!(meaning(code).words, Words::Own, "{code}");
        }
    }

    #[test]
    fn rejected_credentials_have_the_reports_own_code() {
        assert_eq!(meaning("28P01").code, Some(code::CREDENTIALS_REJECTED));
        assert_eq!(meaning("28000").code, Some(code::CREDENTIALS_REJECTED));
        assert_eq!(meaning("42501").code, None);
    }
}
