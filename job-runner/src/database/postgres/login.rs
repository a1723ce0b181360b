//! Why a login failed: what comes before a session began means something else than the same code in it.

use mapa_refresh_crds::report::{FaultClass, code};
use tokio_postgres::error::DbError;

use super::error::{with_causes, without_sqlstate};
use crate::{database::sqlstate, dial::Reason, secret::Store, tls};

/// No such database.
const INVALID_CATALOG_NAME: &str = "3D000";

/// Why a server could not be logged in to. `has_certificate` says whether the Secret has a client certificate.
pub(super) fn reason(error: &tokio_postgres::Error, has_certificate: bool) -> Reason {
    if let Some(server) = error.as_db_error() {
        return refusal(server, has_certificate);
    }
    if let Some(tls) = tls::in_chain(error) {
        return tls::explain(tls, Store::Database, has_certificate).into();
    }
    let text = with_causes(error);
    let lasting = |code: &'static str, what: &str, remedy: &'static str| Reason {
        class: FaultClass::Permanent,
        code: Some(code.into()),
        what: what.to_owned(),
        remedy: remedy.into(),
        is_final: code != sqlstate::UNABLE_TO_CONNECT,
    };
    if text.contains("server does not support TLS") {
        return lasting(
            sqlstate::UNABLE_TO_CONNECT,
            "the server does not support TLS",
            "switch it on there (ssl = on), or ask for none: sslmode=disable in the url, and no ca.crt and tls.crt in the Secret",
        );
    }
    if text.contains("password missing") {
        return lasting(
            code::CREDENTIALS_REJECTED,
            "the server asks for a password, and the database's Secret has none",
            "add the key password, or let the server's pg_hba.conf take the client certificate alone (method cert)",
        );
    }
    if text.contains("database does not allow writes") || text.contains("database is not read only") {
        return Reason {
            remedy: "the server is not of the kind that target_session_attrs in the url asks for: a failover may be under way".into(),
            ..Reason::unreachable(text)
        };
    }
    let (class, code) = without_sqlstate(error);
    let is_credentials = code == code::CREDENTIALS_REJECTED;
    Reason {
        class,
        code: Some(code.into()),
        is_final: class == FaultClass::Permanent,
        remedy: if is_credentials {
            "check username and password in the database's Secret".into()
        } else {
            sqlstate::meaning("08").remedy.into()
        },
        // The driver's frame repeats what the rest states.
        what: text
            .strip_prefix("error connecting to server: ")
            .or_else(|| text.strip_prefix("authentication error: "))
            .unwrap_or(&text)
            .to_owned(),
    }
}

/// An error that the server itself sent before the session began.
fn refusal(server: &DbError, has_certificate: bool) -> Reason {
    let sqlstate = server.code().code();
    let text = server.message();
    let (class, code, remedy) = match Pooler::read(sqlstate, text) {
        Some(answer) => answer.meaning(),
        None => {
            let meaning = sqlstate::meaning(sqlstate);
            (meaning.class, meaning.code, meaning.remedy)
        }
    };
    let remedy = match code {
        Some(code::CREDENTIALS_REJECTED) if text.contains("client certificate") && !has_certificate => {
            "add the keys tls.crt and tls.key to the database's Secret"
        }
        Some(code::CREDENTIALS_REJECTED) if text.contains("certificate authentication failed") => {
            "the common name of tls.crt has to be the username, or mapped to it by the server's pg_ident.conf"
        }
        _ => remedy,
    };
    let mut what = text.to_owned();
    for more in [server.detail(), server.hint()].into_iter().flatten() {
        what = format!("{what}; {more}");
    }
    Reason {
        class,
        code: Some(code.map_or_else(|| sqlstate.to_owned().into(), Into::into)),
        what,
        remedy: remedy.into(),
        is_final: class == FaultClass::Permanent,
    }
    .fitted()
}

/// What a pooler answers to a login. PgBouncer and others have one SQLSTATE, 08P01, for most of what they refuse; what it means in a session differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pooler {
    /// User, password or certificate are wrong.
    Rejected,
    /// It does not serve this database.
    NoDatabase,
    /// It refuses a parameter of the connection.
    Parameter,
    /// It can't serve now.
    Unavailable,
}

impl Pooler {
    /// `None` when `sqlstate` alone decides.
    fn read(sqlstate: &str, text: &str) -> Option<Self> {
        if sqlstate != "08P01" {
            return None;
        }
        let text = text.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        Some(if has(&REJECTED) {
            Self::Rejected
        } else if has(&NO_DATABASE) {
            Self::NoDatabase
        } else if has(&PARAMETER) {
            Self::Parameter
        } else if has(&UNAVAILABLE) {
            Self::Unavailable
        } else {
            // It came while we logged in: another attempt with the same credentials may lock the account.
            Self::Rejected
        })
    }

    /// Class, code where it is not the SQLSTATE, and remedy.
    fn meaning(self) -> (FaultClass, Option<&'static str>, &'static str) {
        match self {
            Self::Rejected => (
                FaultClass::Permanent,
                Some(code::CREDENTIALS_REJECTED),
                "check username and password in the database's Secret, and the pooler's own list of users",
            ),
            Self::NoDatabase => (
                FaultClass::Permanent,
                Some(INVALID_CATALOG_NAME),
                "check the database's name in the Secret's url, and the pooler's [databases]",
            ),
            Self::Parameter => (
                FaultClass::Permanent,
                None,
                "drop that parameter from the Secret's url, or add it to the pooler's ignore_startup_parameters",
            ),
            Self::Unavailable => (
                FaultClass::Transient,
                None,
                "can the pooler reach its database, and are its limits of connections high enough?",
            ),
        }
    }
}

/// Words of rejected credentials; also those of the database that a pooler passes on.
const REJECTED: [&str; 7] = [
    "authentication failed",
    "auth failed",
    "no such user",
    "wrong password",
    "password incorrect",
    "incorrect password",
    "role does not exist",
];
/// Words of a database that is not served.
const NO_DATABASE: [&str; 3] = [
    "no such database",
    "no pool configured for database",
    "database not found",
];
/// Words of a parameter that is refused.
const PARAMETER: [&str; 3] = ["startup parameter", "startup packet", "unsupported frontend protocol"];
/// Words of what passes by itself.
const UNAVAILABLE: [&str; 18] = [
    "server login has been failing",
    "server login failed",
    "cannot connect to server",
    "could not connect to server",
    "connect failed",
    "server conn",
    "timeout",
    "timed out",
    "too many",
    "no more connections",
    "not enough",
    "shutting down",
    "shutdown",
    "paused",
    "disabled",
    "dns",
    "try again",
    "out of memory",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poolers_08p01_while_logging_in_is_read_by_its_words_and_else_a_rejection() {
        for (text, expected) in [
            ("password authentication failed", Pooler::Rejected),
            ("SASL authentication failed", Pooler::Rejected),
            ("no such user: mapa", Pooler::Rejected),
            ("no such user", Pooler::Rejected),
            ("auth failed", Pooler::Rejected),
            ("bouncer config error", Pooler::Rejected),
            (
                "server login failed: FATAL password authentication failed for user \"mapa\"",
                Pooler::Rejected,
            ),
            ("no such database: radar", Pooler::NoDatabase),
            (
                "No pool configured for database: \"radar\", user: \"mapa\"",
                Pooler::NoDatabase,
            ),
            ("unsupported startup parameter: options", Pooler::Parameter),
            (
                "server login has been failing, try again later (server_login_retry)",
                Pooler::Unavailable,
            ),
            ("pgbouncer cannot connect to server", Pooler::Unavailable),
            ("client_login_timeout (server down)", Pooler::Unavailable),
            ("query_wait_timeout", Pooler::Unavailable),
            ("no more connections allowed (max_client_conn)", Pooler::Unavailable),
            ("too many connections", Pooler::Unavailable),
            ("database \"radar\" is disabled", Pooler::Unavailable),
            ("pgbouncer is shutting down", Pooler::Unavailable),
        ] {
            assert_eq!(Pooler::read("08P01", text), Some(expected), "{text}");
            let is_rejected = expected.meaning().1 == Some(code::CREDENTIALS_REJECTED);
            assert_eq!(is_rejected, expected == Pooler::Rejected);
        }
        assert_eq!(Pooler::read("28P01", "password authentication failed"), None);
        assert_eq!(Pooler::Rejected.meaning().0, FaultClass::Permanent);
        assert_eq!(Pooler::Unavailable.meaning().0, FaultClass::Transient);
    }
}
