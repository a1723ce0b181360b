//! The database that holds the view: what a run asks of it, whatever its kind.
//!
//! The trait asks whole questions, so that a backend whose driver blocks can answer each from its own thread. An operation
//! that has to end early is dropped, and [`Interrupt::interrupt`] stops it in the database.

pub mod name;
pub mod ora;
pub mod oracle;
pub mod postgres;
pub mod schema;
pub mod sqlstate;

use std::borrow::Cow;

use mapa_refresh_crds::{report::FaultClass, status::MAX_ERROR_MESSAGE};
use tokio::time::Instant;

use crate::{
    domain::{row::Row, time::Stamp},
    fault::Fault,
};

/// A session with the database.
#[expect(
    async_fn_in_trait,
    reason = "a run is one task on one thread: no future has to be Send"
)]
pub trait Database {
    /// What stops an operation of this session.
    type Interrupt: Interrupt;

    /// A handle that stops whatever the session is doing.
    fn interrupt(&self) -> Self::Interrupt;

    /// The view's stamp and age; `None` when nothing has recorded a refresh yet.
    ///
    /// # Errors
    /// Any error of the database.
    async fn reading(&mut self) -> Result<Option<Reading>, DatabaseError>;

    /// Refreshes the view and records its stamp, both or neither, unless another session is at it, or `is_fresh` says of the
    /// stamp found under the lock that there is nothing left to do. Readers keep the old rows meanwhile.
    ///
    /// # Errors
    /// Any error of the database; permanent ones say which DDL is missing.
    async fn refresh(&mut self, is_fresh: &dyn Fn(&Reading) -> bool) -> Result<Refresh, DatabaseError>;

    /// Number of rows in the view.
    ///
    /// # Errors
    /// Any error of the database.
    async fn count(&mut self) -> Result<u64, DatabaseError>;

    /// Reads the stamp, then every row, in one snapshot. `sink` gets the reading first, then each row, ordered by id.
    ///
    /// # Errors
    /// Any error of the database; a missing column by its name.
    async fn read(&mut self, sink: &mut dyn RowSink) -> Result<Reading, DatabaseError>;

    /// Ends the session, and waits a moment for that at most. One that is dropped instead is ended by the database, in its time.
    async fn close(self);
}

/// Stops what a session is doing, from outside.
#[expect(
    async_fn_in_trait,
    reason = "a run is one task on one thread: no future has to be Send"
)]
pub trait Interrupt {
    /// Asks the database to stop, and waits a moment for it at most.
    async fn interrupt(self);
}

/// Takes in what [`Database::read`] reads.
pub trait RowSink {
    /// The stamp, before any row.
    fn begin(&mut self, reading: &Reading);
    /// A row.
    fn row(&mut self, row: &Row<'_>);
}

/// The view's stamp, and how old it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The stamp.
    pub stamp: Stamp,
    /// Age by the database's own clock, in seconds; negative when that clock was set back.
    pub age_seconds: f64,
    /// When it was read, by this process' monotonic clock.
    pub at: Instant,
}

/// What came of a request to refresh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refresh {
    /// The view was refreshed, and its stamp advanced.
    Done(Reading),
    /// There was nothing left to do.
    AlreadyFresh(Reading),
    /// Another session is refreshing it.
    Busy,
}

/// An error of the database, classified.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct DatabaseError {
    /// Whether trying again may help.
    pub class: FaultClass,
    /// SQLSTATE, ORA number, or one of the report's codes.
    pub code: Cow<'static, str>,
    /// What happened and what to do about it.
    pub message: String,
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        let DatabaseError { class, code, message } = error;
        Self::new(class, code, format_args!("{PREFIX}{message}"))
    }
}

/// What a database's error begins with in the report.
const PREFIX: &str = "database: ";

/// Longest message of a [`DatabaseError`], in bytes: the report cuts what is longer, and a remedy stands at the end.
pub const MAX_MESSAGE: usize = MAX_ERROR_MESSAGE - PREFIX.len();

/// `doing: words; remedy`. Where that is too long, the end of the words is cut: the remedy has to arrive.
#[must_use]
pub fn message(doing: &str, words: &str, remedy: &str) -> String {
    let separator = if words.is_empty() { "" } else { ": " };
    let mut text = format!("{doing}{separator}{words}");
    let end = if remedy.is_empty() {
        String::new()
    } else {
        format!("; {remedy}")
    };
    if text.len() + end.len() > MAX_MESSAGE {
        let room = MAX_MESSAGE.saturating_sub("…".len() + end.len());
        text.truncate(text.floor_char_boundary(room));
        text.push('…');
    }
    text + &end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_of_a_long_error_arrives_whole() {
        assert_eq!(message("a", "b", ""), "a: b");
        assert_eq!(message("a", "b", "c"), "a: b; c");
        assert_eq!(message("a", "", "c"), "a; c");
        assert!(message(&"a".repeat(400), "b", "c").ends_with("a…; c"));
        let long = message("reading the view", &"ação ".repeat(200), "check spec.database.view");
        assert!(
            long.len() <= MAX_MESSAGE && long.len() > MAX_MESSAGE - 3,
            "{}",
            long.len()
        );
        assert!(long.ends_with("…; check spec.database.view"), "{long}");
        let fault = Fault::from(DatabaseError {
            class: FaultClass::Permanent,
            code: "42P01".into(),
            message: long,
        });
        assert!(fault.message.len() <= MAX_ERROR_MESSAGE);
    }
}
