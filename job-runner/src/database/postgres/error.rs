//! The driver's errors, classified.

use std::error::Error as _;

use mapa_refresh_crds::report::{FaultClass, code};

use super::sql::View;
use crate::database::{DatabaseError, sqlstate};

/// Says what was being done when an error came.
pub(super) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, DatabaseError>;
}

impl<T> Doing<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, what: &str) -> Result<T, DatabaseError> {
        self.map_err(|error| classify(&error, what))
    }
}

/// Something that an administrator has to create first.
pub(super) fn missing(code: &'static str, problem: &str, ddl: &str) -> DatabaseError {
    DatabaseError {
        class: FaultClass::Permanent,
        code: code.into(),
        message: format!("{problem}; an administrator has to run: {ddl}"),
    }
}

/// No refresh was ever recorded: nothing dates the rows.
pub(super) fn never_refreshed(view: &View) -> DatabaseError {
    DatabaseError {
        class: FaultClass::Transient,
        code: sqlstate::NOT_IN_PREREQUISITE_STATE.into(),
        message: format!(
            "no refresh of {}.{} was ever recorded; run refresh-mv-portal first",
            view.schema, view.name
        ),
    }
}

fn classify(error: &tokio_postgres::Error, doing: &str) -> DatabaseError {
    if let Some(server) = error.as_db_error() {
        let meaning = sqlstate::meaning(server.code().code());
        let mut message = format!("{doing}: {}", server.message());
        for more in [
            server.detail(),
            server.hint(),
            Some(meaning.remedy).filter(|remedy| !remedy.is_empty()),
        ] {
            message.extend(more.into_iter().flat_map(|more| ["; ", more]));
        }
        let code = meaning
            .code
            .map_or_else(|| server.code().code().to_owned().into(), Into::into);
        return DatabaseError {
            class: meaning.class,
            code,
            message,
        };
    }
    let (class, code) = without_sqlstate(error);
    DatabaseError {
        class,
        code: code.into(),
        message: format!("{doing}: {}", with_causes(error)),
    }
}

/// The driver's own errors have kinds, but hides them: only their texts tell.
fn without_sqlstate(error: &tokio_postgres::Error) -> (FaultClass, &'static str) {
    match error.to_string().as_str() {
        "invalid configuration" | "invalid connection string" => (FaultClass::Permanent, code::SECRET_INCOMPLETE),
        "authentication error" => (FaultClass::Permanent, code::CREDENTIALS_REJECTED),
        "error performing TLS handshake" if is_certificate_refused(error) => {
            (FaultClass::Permanent, sqlstate::UNABLE_TO_CONNECT)
        }
        "error connecting to server" | "error performing TLS handshake" => {
            (FaultClass::Transient, sqlstate::UNABLE_TO_CONNECT)
        }
        _ => (FaultClass::Transient, sqlstate::CONNECTION_FAILURE),
    }
}

/// A certificate that we refuse, or a server that has none: that does not pass.
fn is_certificate_refused(error: &tokio_postgres::Error) -> bool {
    let text = with_causes(error);
    text.contains("certificate") || text.contains("server does not support TLS")
}

fn with_causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
