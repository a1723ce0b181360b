//! The driver's errors, classified.
//!
//! A server's text can hold values of the rows that a statement computes: `Key (tel)=(95 …) already exists`. What reaches the
//! status, Events and logs is therefore chosen, not filtered: the text of the codes whose texts hold names alone, when the server
//! itself raised it; else a sentence of our own with the SQLSTATE and the names in the error's fields. Detail, hint and context never.

use std::error::Error as _;

use mapa_refresh_crds::report::{FaultClass, code};
use tokio_postgres::error::DbError;

use super::sql::View;
use crate::database::{DatabaseError, MAX_MESSAGE, message, schema, sqlstate, sqlstate::Words};

/// Says what was being done when an error came.
pub(super) trait Doing<T> {
    /// Of a statement that computes no row of the view.
    fn doing(self, what: &str) -> Result<T, DatabaseError>;

    /// Of a statement on the table of stamps.
    fn at_stamps(self, what: &str) -> Result<T, DatabaseError>;

    /// Of a statement that runs the view's query, or reads its rows.
    fn computing(self, what: &str) -> Result<T, DatabaseError>;
}

impl<T> Doing<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, what: &str) -> Result<T, DatabaseError> {
        self.map_err(|error| classify(&error, what, Work::Own))
    }

    fn at_stamps(self, what: &str) -> Result<T, DatabaseError> {
        self.map_err(|error| classify(&error, what, Work::Stamps))
    }

    fn computing(self, what: &str) -> Result<T, DatabaseError> {
        self.map_err(|error| classify(&error, what, Work::Rows))
    }
}

/// What a statement works on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Own,
    Stamps,
    Rows,
}

/// Something that an administrator has to create first, by `ddl`. A message that can't hold it names the command that
/// prints it: DDL that is cut is of no use.
pub(super) fn missing(code: &'static str, problem: &str, ddl: &str, view: &View, id: Option<&str>) -> DatabaseError {
    let prints = schema::command(&view.schema, &view.quoted, id, &view.role);
    let message = [
        Some(format!("{problem}; an administrator has to run: {ddl}")),
        prints.map(|prints| format!("{problem}; an administrator has to run what this prints: {prints}")),
    ]
    .into_iter()
    .flatten()
    .find(|message| message.len() <= MAX_MESSAGE)
    .unwrap_or_else(|| {
        format!(
            "{problem}; an administrator has to run what `job-runner schema --kind postgresql` prints for the policy's view and columns and the Secret's user"
        )
    });
    DatabaseError {
        class: FaultClass::Permanent,
        code: code.into(),
        message,
    }
}

/// No refresh was ever recorded: nothing dates the rows.
pub(super) fn never_refreshed(view: &View, others: bool) -> DatabaseError {
    let why = if others {
        "the stamps that are there are of another server, database or view (a copy, or a view that was made anew), or it was emptied"
    } else {
        ""
    };
    DatabaseError {
        class: FaultClass::Transient,
        code: sqlstate::NOT_IN_PREREQUISITE_STATE.into(),
        message: message(
            &format!("no refresh of {} was ever recorded", view.relation()),
            why,
            "run refresh-mv-portal first",
        ),
    }
}

/// The same error of a server that takes no writes: another one does, or this one will.
pub(super) fn replica(error: &DatabaseError) -> DatabaseError {
    let words = error.message.split("; ").next().unwrap_or_default();
    DatabaseError {
        class: FaultClass::Transient,
        code: error.code.clone(),
        message: format!("{words}; {}", sqlstate::REPLICA),
    }
}

/// A view that lost its data after we had looked at it.
pub(super) fn emptied(view: &View) -> DatabaseError {
    DatabaseError {
        class: FaultClass::Transient,
        code: sqlstate::NOT_IN_PREREQUISITE_STATE.into(),
        message: format!(
            "{} was emptied meanwhile (REFRESH … WITH NO DATA), and the next attempt fills it",
            view.relation()
        ),
    }
}

fn classify(error: &tokio_postgres::Error, doing: &str, work: Work) -> DatabaseError {
    if let Some(server) = error.as_db_error() {
        return of_server(server, doing, work);
    }
    let (class, code) = without_sqlstate(error);
    DatabaseError {
        class,
        code: code.into(),
        message: message(doing, &with_causes(error), ""),
    }
}

fn of_server(server: &DbError, doing: &str, work: Work) -> DatabaseError {
    let sqlstate = server.code().code();
    let meaning = sqlstate::meaning(sqlstate);
    // What is raised within a function has a context, and may have any code and any text.
    let is_of_function = work == Work::Rows && server.where_().is_some_and(|context| !context.trim().is_empty());
    let is_quotable = match meaning.words {
        Words::Names => !is_of_function,
        Words::Own => work != Work::Rows || server.routine() == Some("ExecRefreshMatView"),
        Words::Values => false,
    };
    let words = if is_quotable {
        server.message().to_owned()
    } else {
        withheld(server)
    };
    DatabaseError {
        class: meaning.class,
        code: meaning.code.map_or_else(|| sqlstate.to_owned().into(), Into::into),
        message: message(doing, &words, &remedy(server, meaning, work, is_of_function)),
    }
}

fn remedy(server: &DbError, meaning: sqlstate::Meaning, work: Work, is_of_function: bool) -> String {
    let is_permanent = meaning.class == FaultClass::Permanent;
    match (work, server.code().code(), server.routine()) {
        (Work::Stamps, ..) if is_permanent => sqlstate::STAMPS,
        (Work::Rows, "21000", Some("refresh_by_match_merge")) => sqlstate::duplicates(),
        (Work::Rows, ..) if is_of_function => return in_function(server, meaning),
        (Work::Rows, sqlstate::NOT_IN_PREREQUISITE_STATE, _) => sqlstate::NO_DATA,
        // What the policy names was found: it is not what is missing.
        (Work::Rows, ..) if is_permanent && meaning.words == Words::Own => sqlstate::OWN_QUERY,
        _ => meaning.remedy,
    }
    .to_owned()
}

/// Stands in place of a text that can hold values of rows.
fn withheld(server: &DbError) -> String {
    // A function may put anything into the fields of what it raises.
    let is_raised = server.routine() == Some("exec_stmt_raise");
    let names: Vec<String> = [
        ("table", server.table()),
        ("column", server.column()),
        ("type", server.datatype()),
        ("constraint", server.constraint()),
    ]
    .into_iter()
    .filter_map(|(what, name)| name.filter(|_| !is_raised).map(|name| format!("{what} {name}")))
    .collect();
    let at = if names.is_empty() {
        String::new()
    } else {
        format!(" at {}", names.join(", "))
    };
    format!(
        "SQLSTATE {}{at} (its text, which may hold values of rows, is in the server's log alone)",
        server.code().code()
    )
}

/// What to do about an error inside a function: a view that is there was found, whatever relation the function misses.
fn in_function(server: &DbError, meaning: sqlstate::Meaning) -> String {
    let function = server.where_().and_then(function_in);
    match (meaning.class, meaning.words, function) {
        (FaultClass::Permanent, Words::Values, Some(function)) => {
            format!("{} (in the function {function})", meaning.remedy)
        }
        (FaultClass::Permanent, Words::Values, None) | (FaultClass::Transient, ..) => meaning.remedy.to_owned(),
        (_, _, Some(function)) => format!("the view's query calls {function}, which failed: mend it or the view"),
        (_, _, None) => sqlstate::OWN_QUERY.to_owned(),
    }
}

/// Name of the innermost function of a context, where the server writes English. Its arguments' types are left out.
fn function_in(context: &str) -> Option<String> {
    context.lines().find_map(|line| {
        let name = match (
            line.strip_prefix("PL/pgSQL function "),
            line.strip_prefix("SQL function \""),
        ) {
            (Some(rest), _) if rest.contains(" line ") || rest.contains(" during ") || rest.contains(" while ") => {
                rest.split_once('(')?.0
            }
            (_, Some(rest)) => rest.split_once('"')?.0,
            _ => return None,
        };
        let is_name =
            !name.is_empty() && name.len() <= 130 && name.chars().all(|c| c.is_alphanumeric() || "_$.".contains(c));
        is_name.then(|| name.to_owned())
    })
}

/// The driver's own errors have kinds, but hides them: only their texts tell.
pub(super) fn without_sqlstate(error: &tokio_postgres::Error) -> (FaultClass, &'static str) {
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

pub(super) fn with_causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_names_the_function_and_nothing_else_of_it_is_taken() {
        for (context, expected) in [
            (
                "PL/pgSQL function radar.f(integer,text) line 3 at RAISE",
                Some("radar.f"),
            ),
            (
                "SQL statement \"SELECT 'João'\"\nPL/pgSQL function f() line 1 at EXECUTE",
                Some("f"),
            ),
            ("SQL function \"g\" statement 1", Some("g")),
            ("SQL function \"João tel 95\" statement 1", None),
            ("função PL/pgSQL f() linha 3 em RAISE", None),
            ("while updating tuple (0,1) in relation \"x\"", None),
        ] {
            assert_eq!(function_in(context).as_deref(), expected, "{context}");
        }
    }
}
