//! A session: the questions of [`Database`], each in a thread for blocking work.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime};
use mapa_refresh_crds::report::FaultClass;
use oracle::{
    Connection, ResultSet, RowValue,
    sql_type::{OracleType, Timestamp},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{
    error::{Doing, found, is_undeclared, never_refreshed},
    sql::{self, Statements},
};
use crate::{
    database::{Database, DatabaseError, Interrupt, Reading, Refresh, RowSink, message, ora},
    domain::{
        row::{Cell, Row},
        time::Stamp,
    },
};

/// How long a request to break off may take. A run has 5 s from SIGTERM to its end.
const INTERRUPT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long logging off may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What `DBMS_MVIEW` says to a user who may not refresh the view.
const FORBIDDEN: &str = "ORA-01031";

/// Rows that come with one round trip: some 100 KiB.
const FETCH_ROWS: u32 = 500;

/// Batches of rows on their way to the sink.
const BATCHES: usize = 2;

/// A session.
pub struct Oracle {
    pub(super) connection: Arc<Connection>,
    /// Taken by the call that is going on.
    pub(super) idle: Arc<Semaphore>,
    pub(super) statements: Statements,
    /// The view, as the policy names it.
    pub(super) view: String,
    /// Whether the statements are about the view as the database names it.
    pub(super) is_located: bool,
}

/// Breaks off the session's call.
pub struct OracleInterrupt {
    connection: Arc<Connection>,
    idle: Arc<Semaphore>,
}

impl Interrupt for OracleInterrupt {
    async fn interrupt(self) {
        let Self { connection, idle } = self;
        if idle.available_permits() > 0 {
            return;
        }
        let ended = async {
            let broken = spawn_blocking(move || connection.break_execution()).await;
            matches!(broken, Ok(Ok(()))) && idle.acquire().await.is_ok()
        };
        match timeout(INTERRUPT_TIMEOUT, ended).await {
            Ok(true) => tracing::info!("the statement was broken off in the database"),
            Ok(false) | Err(_) => tracing::warn!("the database did not break the statement off in time"),
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // Whoever holds the last reference logs off, which may block: never this thread.
        let connection = Arc::clone(&self.connection);
        spawn_blocking(move || drop(connection));
    }
}

impl Database for Oracle {
    type Interrupt = OracleInterrupt;

    fn interrupt(&self) -> OracleInterrupt {
        OracleInterrupt {
            connection: Arc::clone(&self.connection),
            idle: Arc::clone(&self.idle),
        }
    }

    async fn reading(&mut self) -> Result<Option<Reading>, DatabaseError> {
        self.locate().await?;
        let view = self.view.clone();
        self.call(move |connection, statements| reading(connection, statements, &view))
            .await
    }

    async fn refresh(&mut self, is_fresh: &dyn Fn(&Reading) -> bool) -> Result<Refresh, DatabaseError> {
        self.locate().await?;
        let view = self.view.clone();
        let before = self
            .call(move |connection, statements| match lock(connection, statements)? {
                Lock::Busy => Ok(None),
                lock => Ok(Some((
                    lock,
                    clock(connection)?,
                    reading(connection, statements, &view)?,
                ))),
            })
            .await?;
        let Some((lock, began, before)) = before else {
            return Ok(Refresh::Busy);
        };
        let overtaken = |before: &Reading| before.stamp >= began && before.age_seconds >= 0.0;
        let refreshed = match before.filter(|before| is_fresh(before) || overtaken(before)) {
            Some(before) => Ok(Refresh::AlreadyFresh(before)),
            None => {
                let view = self.view.clone();
                self.call(move |connection, statements| {
                    refresh(connection, statements)?;
                    proof(reading(connection, statements, &view)?, before, began)
                })
                .await
            }
        };
        if lock == Lock::Taken && refreshed.is_ok() {
            self.call(unlock).await?;
        }
        refreshed
    }

    async fn count(&mut self) -> Result<u64, DatabaseError> {
        self.locate().await?;
        self.call(|connection, statements| {
            connection
                .query_row_as(&statements.count(), &[])
                .computing("counting the view's rows")
        })
        .await
    }

    async fn read(&mut self, sink: &mut dyn RowSink) -> Result<Reading, DatabaseError> {
        self.locate().await?;
        let (begun, batches, end) = self.read_in_thread();
        let read = async {
            // The reading comes before the rows; without it, its sender is gone and the end says why.
            if let Ok(reading) = begun.await {
                sink.begin(&reading);
                let mut batches = batches;
                while let Some(batch) = batches.recv().await {
                    for Cells(cells) in &batch {
                        let cell = |at: usize| -> Result<Cell<'_>, std::convert::Infallible> {
                            Ok(cells.get(at).and_then(Option::as_deref).map(Into::into))
                        };
                        let Ok(row) = Row::from_cells(cell);
                        sink.row(&row);
                    }
                }
            }
        };
        let ((), end) = tokio::join!(read, end);
        end
    }

    async fn close(self) {
        let connection = Arc::clone(&self.connection);
        let closing = spawn_blocking(move || connection.close());
        if !matches!(timeout(CLOSE_TIMEOUT, closing).await, Ok(Ok(Ok(())))) {
            tracing::debug!("the session was left to the database to end");
        }
    }
}

impl Oracle {
    /// Looks, once in a session, for the view that the policy names, whatever the case of its letters.
    async fn locate(&mut self) -> Result<(), DatabaseError> {
        if self.is_located {
            return Ok(());
        }
        let views = self.call(candidates).await?;
        match self.statements.clone().about(&views) {
            Ok(statements) => self.statements = statements,
            Err(several) => {
                let text = message(
                    &format!("{} could be several", self.view),
                    &several.join(", "),
                    "write one of them into spec.database.view, letter by letter",
                );
                return Err(found(ora::AMBIGUOUS_NAME, text));
            }
        }
        self.is_located = true;
        Ok(())
    }

    /// Runs `work` in a thread for blocking work, after whatever runs there for this session.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Statements) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (connection, statements) = (Arc::clone(&self.connection), self.statements.clone());
        let permit = Arc::clone(&self.idle).acquire_owned().await;
        let done = spawn_blocking(move || {
            let result = work(&connection, &statements);
            drop(connection);
            drop(permit);
            result
        });
        done.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Begins to read: the reading, then the rows in batches, and the end with its error.
    fn read_in_thread(
        &self,
    ) -> (
        tokio::sync::oneshot::Receiver<Reading>,
        mpsc::Receiver<Vec<Cells>>,
        impl Future<Output = Result<Reading, DatabaseError>>,
    ) {
        let (tell_begin, begun) = tokio::sync::oneshot::channel();
        let (tell_rows, batches) = mpsc::channel(BATCHES);
        let view = self.view.clone();
        let end = self.call(move |connection, statements| {
            connection.execute(sql::READ_ONLY, &[]).doing("beginning to read")?;
            let read = (|| {
                let reading = reading(connection, statements, &view)?.ok_or_else(|| never_refreshed(&view))?;
                let statements = with_columns(connection, statements, &view)?;
                let _ = tell_begin.send(reading);
                send_rows(connection, &statements, &tell_rows)?;
                Ok(reading)
            })();
            // Either ends the transaction; after an error the session may not take it.
            match read {
                Ok(reading) => connection.commit().doing("ending the transaction").map(|()| reading),
                Err(error) => {
                    let _ = connection.rollback();
                    Err(error)
                }
            }
        });
        (begun, batches, end)
    }
}

/// What became of the request for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Taken,
    /// Another session has it.
    Busy,
    /// The user may not use locks: the refresh itself waits for another one (JI enqueue).
    NotGranted,
}

fn lock(connection: &Connection, statements: &Statements) -> Result<Lock, DatabaseError> {
    let requested = connection.execute(sql::LOCK, &[&OracleType::Int64, &statements.lock()]);
    let statement = match requested {
        Err(error) if is_undeclared(&error) => {
            tracing::warn!(
                "no EXECUTE on DBMS_LOCK: a second refresher is not seen, only waited for; `job-runner schema --kind oracle` prints the grant"
            );
            return Ok(Lock::NotGranted);
        }
        requested => requested.doing("taking the lock")?,
    };
    match statement.bind_value::<usize, i64>(1).doing("taking the lock")? {
        0 | 4 => Ok(Lock::Taken),
        1 => Ok(Lock::Busy),
        status => Err(DatabaseError {
            class: FaultClass::Transient,
            code: "DBMS_LOCK".into(),
            message: format!("taking the lock: DBMS_LOCK.REQUEST answered {status}"),
        }),
    }
}

fn unlock(connection: &Connection, statements: &Statements) -> Result<(), DatabaseError> {
    connection
        .execute(sql::UNLOCK, &[&OracleType::Int64, &statements.lock()])
        .doing("giving the lock back")
        .map(drop)
}

/// Refreshes the view; where the user itself may not, by the procedure that its owner has made for that, if there is one.
fn refresh(connection: &Connection, statements: &Statements) -> Result<(), DatabaseError> {
    let refreshed = connection.execute(sql::REFRESH, &[&statements.list()]);
    let refreshed = refreshed.map(drop).computing("refreshing the view");
    match (refreshed, statements.owners_refresh()) {
        (Err(forbidden), Some(block)) if forbidden.code == FORBIDDEN => match connection.execute(&block, &[]) {
            Err(error) if is_undeclared(&error) => Err(forbidden),
            called => called
                .map(drop)
                .computing("refreshing the view by its owner's procedure"),
        },
        (refreshed, _) => refreshed,
    }
}

/// The database's clock, in whole seconds, as stamps are.
fn clock(connection: &Connection) -> Result<Stamp, DatabaseError> {
    let now: Timestamp = connection
        .query_row_as("SELECT SYSTIMESTAMP FROM dual", &[])
        .doing("reading the clock")?;
    let now = zoned(&now)?.timestamp();
    Stamp::from_micros(now * 1_000_000).ok_or_else(|| unusable(&now))
}

fn reading(connection: &Connection, statements: &Statements, view: &str) -> Result<Option<Reading>, DatabaseError> {
    // Before the question: what the answer takes on its way counts as age.
    let at = Instant::now();
    let binds = statements.binds();
    let binds: Vec<&dyn oracle::sql_type::ToSql> = binds.iter().map(|bind| bind as _).collect();
    let rows: Result<Vec<(Option<Timestamp>, Timestamp)>, _> = connection
        .query_as::<(Option<Timestamp>, Timestamp)>(&statements.stamp(), &binds)
        .and_then(Iterator::collect);
    match rows.doing("reading the stamp")?.first() {
        None => {
            let message =
                format!("there is no materialized view {view}, or the user may not see it; check spec.database.view");
            Err(found(ora::NO_SUCH_VIEW, message))
        }
        Some((None, _)) => Ok(None),
        Some((Some(stamp), now)) => Ok(Some(measure(stamp, now, at)?)),
    }
}

/// The age of a stamp that has no zone, by the clock that set it.
fn measure(stamp: &Timestamp, now: &Timestamp, at: Instant) -> Result<Reading, DatabaseError> {
    let (stamp, now) = (local(stamp)?, zoned(now)?);
    let age = now.naive_local() - stamp;
    #[expect(clippy::cast_precision_loss, reason = "microseconds of an age are far below 2^53")]
    let age_seconds = age.num_microseconds().map_or(f64::MAX, |micros| micros as f64 / 1e6);
    let utc = (stamp - *now.offset()).and_utc();
    Ok(Reading {
        stamp: Stamp::from_micros(utc.timestamp_micros()).ok_or_else(|| unusable(&utc))?,
        age_seconds,
        at,
    })
}

/// A refresh happened only if the stamp advanced.
fn proof(after: Option<Reading>, before: Option<Reading>, began: Stamp) -> Result<Refresh, DatabaseError> {
    let advanced = |after: &Reading| after.stamp >= began && before.is_none_or(|before| after.stamp != before.stamp);
    match after.filter(advanced) {
        Some(after) => Ok(Refresh::Done(after)),
        None => Err(DatabaseError {
            class: FaultClass::Transient,
            code: "ORA-12008".into(),
            message: "DBMS_MVIEW.REFRESH ended without an error, but the view's LAST_REFRESH_DATE did not advance"
                .into(),
        }),
    }
}

/// Owners and names of the views that the policy could mean.
fn candidates(connection: &Connection, statements: &Statements) -> Result<Vec<(String, String)>, DatabaseError> {
    let binds = statements.locate_binds();
    let binds: Vec<&dyn oracle::sql_type::ToSql> = binds.iter().map(|bind| bind as _).collect();
    connection
        .query_as::<(String, String)>(&statements.locate(), &binds)
        .and_then(Iterator::collect)
        .doing("looking for the view")
}

/// The statements with the columns' names as the database has them.
fn with_columns(connection: &Connection, statements: &Statements, view: &str) -> Result<Statements, DatabaseError> {
    let binds = statements.binds();
    let binds: Vec<&dyn oracle::sql_type::ToSql> = binds.iter().map(|bind| bind as _).collect();
    let present: Result<Vec<String>, _> = connection
        .query_as(&statements.columns(), &binds)
        .and_then(Iterator::collect);
    let present = present.doing("looking for the columns")?;
    let (statements, absent, ambiguous) = statements.clone().with_columns(&present);
    if !absent.is_empty() {
        let text = message(
            &format!("{view} has no column {}", absent.join(", ")),
            "",
            "name them in spec.database.columns",
        );
        return Err(found(ora::NO_SUCH_COLUMN, text));
    }
    if !ambiguous.is_empty() {
        let text = message(
            &format!("{view} has columns that differ by the case of their letters alone"),
            &ambiguous.join(", "),
            "write one of them into spec.database.columns, letter by letter",
        );
        return Err(found(ora::AMBIGUOUS_NAME, text));
    }
    Ok(statements)
}

fn send_rows(
    connection: &Connection,
    statements: &Statements,
    rows: &mpsc::Sender<Vec<Cells>>,
) -> Result<(), DatabaseError> {
    let query = statements.rows();
    let mut statement = connection
        .statement(&query)
        .fetch_array_size(FETCH_ROWS)
        // The driver's own buffer is the array: a second one in the client would only copy.
        .prefetch_rows(0)
        .build()
        .computing("reading the view")?;
    let rows_found: ResultSet<'_, Cells> = statement.query_as(&[]).computing("reading the view")?;
    let mut batch = Vec::with_capacity(FETCH_ROWS as usize);
    for cells in rows_found {
        batch.push(cells.computing("reading the view")?);
        if batch.len() == FETCH_ROWS as usize && rows.blocking_send(std::mem::take(&mut batch)).is_err() {
            // Nobody listens any more.
            return Ok(());
        }
    }
    let _ = rows.blocking_send(batch);
    Ok(())
}

/// A row as text: whatever type a column has, no value of it can abort the reading.
struct Cells([Option<String>; Row::COLUMNS]);

impl RowValue for Cells {
    fn get(row: &oracle::Row) -> oracle::Result<Self> {
        let mut cells = [const { None }; Row::COLUMNS];
        for (cell, value) in cells.iter_mut().zip(row.sql_values()) {
            *cell = match value.oracle_type()? {
                _ if value.is_null()? => None,
                // The driver writes a blank before the offset.
                OracleType::TimestampTZ(_) | OracleType::TimestampLTZ(_) => {
                    Some(value.get::<String>()?.replace(" +", "+").replace(" -", "-"))
                }
                _ => Some(value.get()?),
            };
        }
        Ok(Self(cells))
    }
}

fn local(written: &Timestamp) -> Result<NaiveDateTime, DatabaseError> {
    NaiveDate::from_ymd_opt(written.year(), written.month(), written.day())
        .and_then(|day| day.and_hms_nano_opt(written.hour(), written.minute(), written.second(), written.nanosecond()))
        .ok_or_else(|| unusable(written))
}

fn zoned(written: &Timestamp) -> Result<DateTime<FixedOffset>, DatabaseError> {
    let local = local(written)?;
    let offset = FixedOffset::east_opt(written.tz_offset()).ok_or_else(|| unusable(written))?;
    local
        .and_local_timezone(offset)
        .single()
        .ok_or_else(|| unusable(written))
}

fn unusable(moment: &impl std::fmt::Display) -> DatabaseError {
    DatabaseError {
        class: FaultClass::Permanent,
        code: "ORA-01841".into(),
        message: format!("{moment} is no moment from 1970 to 2255: check the database's clock"),
    }
}

fn lost() -> DatabaseError {
    DatabaseError {
        class: FaultClass::Transient,
        code: "DPI-1010".into(),
        message: "the session's thread was lost".into(),
    }
}
