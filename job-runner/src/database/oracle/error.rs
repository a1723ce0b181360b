//! The driver's errors, classified.

use std::borrow::Cow;

use mapa_refresh_crds::report::FaultClass;
use oracle::{Error, ErrorKind};

use crate::database::{DatabaseError, message, ora};

/// Oracle's client can't be found.
const DPI_LOAD_LIBRARY: i32 = 1047;
/// Symbols are missing in it; it is older than 11.2; it does not say what it is.
const DPI_UNUSABLE_CLIENT: [i32; 3] = [1049, 1050, 1072];

/// Says what was being done when an error came.
pub(super) trait Doing<T> {
    /// Of a call that computes no row of the view.
    fn doing(self, what: &str) -> Result<T, DatabaseError>;

    /// Of a call that runs the view's query, or reads its rows: texts that can hold values of rows are not quoted.
    fn computing(self, what: &str) -> Result<T, DatabaseError>;
}

impl<T> Doing<T> for Result<T, Error> {
    fn doing(self, what: &str) -> Result<T, DatabaseError> {
        self.map_err(|error| {
            classify(&error, what, ora::readable, |number, _| {
                ora::meaning(number).remedy.into()
            })
        })
    }

    fn computing(self, what: &str) -> Result<T, DatabaseError> {
        self.map_err(|error| classify(&error, what, ora::readable_of_rows, ora::remedy_of_rows))
    }
}

/// The error with the number `ora` that we found ourselves.
pub(super) fn found(ora: u32, message: String) -> DatabaseError {
    DatabaseError {
        class: ora::meaning(ora).class,
        code: format!("ORA-{ora:05}").into(),
        message,
    }
}

/// A connection, or an answer, that did not come in time.
pub(super) fn silent(place: &str, seconds: u64) -> DatabaseError {
    found(
        ora::CONNECT_TIMEOUT,
        format!("connecting to {place}: no answer within {seconds} s"),
    )
}

/// No refresh was ever recorded: nothing dates the rows.
pub(super) fn never_refreshed(view: &str) -> DatabaseError {
    DatabaseError {
        class: FaultClass::Transient,
        code: "ORA-23401".into(),
        message: format!("{view} was never refreshed; run refresh-mv-portal first"),
    }
}

/// Whether the block named what is not there for this user: a grant is missing.
pub(super) fn is_undeclared(error: &Error) -> bool {
    error.to_string().contains("PLS-00201")
}

fn classify(
    error: &Error,
    doing: &str,
    readable: fn(&str) -> String,
    remedy: fn(u32, &str) -> Cow<'static, str>,
) -> DatabaseError {
    let text = error
        .db_error()
        .map_or_else(|| error.to_string(), |inner| inner.message().to_owned());
    if let Some(dpi) = error.dpi_code()
        && (dpi == DPI_LOAD_LIBRARY || DPI_UNUSABLE_CLIENT.contains(&dpi))
    {
        return DatabaseError {
            class: FaultClass::MissingClient,
            code: format!("DPI-{dpi}").into(),
            message: format!(
                "Oracle Instant Client is missing or unusable: --runner-image-oracle of the operator should name the image that is built from \
                 job-runner/Dockerfile.oracle, which has it ({})",
                ora::readable(&text)
            ),
        };
    }
    match (ora::number_in(&text), error.dpi_code()) {
        (Some(number), _) => {
            let meaning = ora::meaning(number);
            DatabaseError {
                class: meaning.class,
                code: meaning
                    .code
                    .map_or_else(|| format!("ORA-{number:05}").into(), Into::into),
                message: message(doing, &readable(&text), &remedy(number, &text)),
            }
        }
        (None, Some(dpi)) => DatabaseError {
            class: without_number(error),
            code: format!("DPI-{dpi}").into(),
            message: message(doing, &readable(&text), ""),
        },
        // The driver's own words can quote what it could not convert.
        (None, None) => DatabaseError {
            class: without_number(error),
            code: "DPI".into(),
            message: message(doing, &format!("the driver reports {:?}", error.kind()), ""),
        },
    }
}

/// The driver's own errors: what the program did wrong does not pass.
fn without_number(error: &Error) -> FaultClass {
    match error.kind() {
        ErrorKind::OciError | ErrorKind::DpiError | ErrorKind::NoDataFound => FaultClass::Transient,
        _ => FaultClass::Permanent,
    }
}
