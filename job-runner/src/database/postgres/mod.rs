//! PostgreSQL, 12 and later.
//!
//! PostgreSQL keeps no time of refresh: it is recorded in a table of our own, in the refresh's transaction, so that view and
//! stamp become visible together. The stamp is that transaction's start: every row is at least as young.

mod connect;
mod error;
mod sql;

use std::time::Duration;

use futures::{TryStreamExt, pin_mut};
use mapa_refresh_crds::report::FaultClass;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_postgres::{CancelToken, Client, NoTls, Row as PgRow, types::Type};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::connect::Target;
use self::{
    error::{Doing, missing},
    sql::{Cell, View},
};
use crate::{
    database::{
        Database, DatabaseError, Interrupt, Reading, Refresh, RowSink,
        name::{ColumnNames, Identifier, ViewName},
        schema, sqlstate,
    },
    domain::{
        row::{self, Row},
        time::Stamp,
    },
};

/// How long a request to cancel may take. A run has 5 s from SIGTERM to its end.
const INTERRUPT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A session.
pub struct Postgres {
    client: Client,
    connection: JoinHandle<()>,
    tls: Option<MakeRustlsConnect>,
    name: ViewName,
    columns: ColumnNames,
    view: Option<View>,
    statement_timeout: Duration,
}

/// Cancels the session's statement, through a connection of its own.
pub struct PostgresInterrupt {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
}

impl Interrupt for PostgresInterrupt {
    async fn interrupt(self) {
        let Self { token, tls } = self;
        let cancelled = async {
            match tls {
                Some(tls) => token.cancel_query(tls).await,
                None => token.cancel_query(NoTls).await,
            }
        };
        match timeout(INTERRUPT_TIMEOUT, cancelled).await {
            Ok(Ok(())) => tracing::info!("the statement was cancelled in the database"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the database did not take the request to cancel the statement"),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Closes the socket: the server rolls back.
        self.connection.abort();
    }
}

impl Database for Postgres {
    type Interrupt = PostgresInterrupt;

    fn interrupt(&self) -> PostgresInterrupt {
        PostgresInterrupt {
            token: self.client.cancel_token(),
            tls: self.tls.clone(),
        }
    }

    async fn reading(&mut self) -> Result<Option<Reading>, DatabaseError> {
        let view = self.located().await?;
        self.stamp_of(&view).await
    }

    async fn refresh(&mut self, is_fresh: &dyn Fn(&Reading) -> bool) -> Result<Refresh, DatabaseError> {
        // Another session may have filled it since the last look.
        self.view = None;
        let view = self.located().await?;
        view.demand_refreshable()?;
        self.execute(&sql::begin_refresh(self.statement_timeout), "beginning the refresh")
            .await?;
        let refreshed = self.refresh_in_transaction(&view, is_fresh).await;
        self.leave_transaction(refreshed).await
    }

    async fn count(&mut self) -> Result<u64, DatabaseError> {
        let view = self.located().await?;
        let row = self.one(&sql::count(&view), "counting the view's rows").await?;
        let count: i64 = column(&row, 0)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn read(&mut self, sink: &mut dyn RowSink) -> Result<Reading, DatabaseError> {
        self.execute(&sql::begin_read(self.statement_timeout), "beginning to read")
            .await?;
        let read = self.read_in_transaction(sink).await;
        self.leave_transaction(read).await
    }

    async fn close(self) {
        // Dropped, it closes the socket: that is all the server needs.
    }
}

impl Postgres {
    async fn refresh_in_transaction(
        &self,
        view: &View,
        is_fresh: &dyn Fn(&Reading) -> bool,
    ) -> Result<Refresh, DatabaseError> {
        let (locked, began) = self.lock(view).await?;
        if !locked {
            self.execute("ROLLBACK", "ending the transaction").await?;
            return Ok(Refresh::Busy);
        }
        let before = self.stamp_of(view).await?;
        if let Some(before) = before.filter(|before| is_fresh(before) || overtaken(before, began)) {
            self.execute("ROLLBACK", "ending the transaction").await?;
            return Ok(Refresh::AlreadyFresh(before));
        }
        self.execute(&sql::record_stamp(view), "recording the stamp").await?;
        self.execute(&sql::refresh(view), "refreshing the view").await?;
        self.execute("COMMIT", "committing the refresh").await?;
        self.proof(view, before, began).await
    }

    async fn read_in_transaction(&mut self, sink: &mut dyn RowSink) -> Result<Reading, DatabaseError> {
        self.view = None;
        let view = self.located().await?;
        self.demand_columns(&view).await?;
        let reading = self
            .stamp_of(&view)
            .await?
            .ok_or_else(|| error::never_refreshed(&view))?;
        sink.begin(&reading);
        let query = sql::rows(&view, &self.columns);
        let rows = self
            .client
            .query_typed_raw::<&str, _>(&query, [])
            .await
            .doing("reading the view")?;
        pin_mut!(rows);
        while let Some(row) = rows.try_next().await.doing("reading the view")? {
            sink.row(&Row::from_cells(|at| {
                column::<Cell<'_>>(&row, at).map(Cell::into_text)
            })?);
        }
        self.execute("COMMIT", "ending the transaction").await?;
        Ok(reading)
    }

    /// After an error the session is still in the transaction, and could begin no other.
    async fn leave_transaction<T>(&self, result: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        if result.is_err() {
            // The error that there was says more than one of the rollback would.
            let _ = self.client.batch_execute("ROLLBACK").await;
        }
        result
    }

    async fn located(&mut self) -> Result<View, DatabaseError> {
        if let Some(view) = &self.view {
            return Ok(view.clone());
        }
        let name = self.name.in_postgres();
        let rows = self
            .client
            .query_typed(sql::LOCATE, &[(&name, Type::TEXT)])
            .await
            .doing("looking for the view")?;
        let Some(row) = rows.first() else {
            let message = format!("there is no {}; check spec.database.view", self.name);
            return Err(permanent(sqlstate::UNDEFINED_TABLE, message));
        };
        let view = View::from_row(row, &self.columns)?;
        if !view.has_stamp_table {
            let ddl = format!(
                "{} {}",
                schema::stamp_table(&view.schema),
                schema::stamp_grant(&view.schema, &view.role)
            );
            return Err(missing(
                sqlstate::UNDEFINED_TABLE,
                "the table that keeps the time of each refresh is missing",
                &ddl,
            ));
        }
        Ok(self.view.insert(view).clone())
    }

    async fn demand_columns(&self, view: &View) -> Result<(), DatabaseError> {
        let names: Vec<String> = self.columns.iter().map(Identifier::folded).collect();
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&view.oid, Type::OID), (&names, Type::TEXT_ARRAY)];
        let row = self
            .client
            .query_typed_one(sql::MISSING_COLUMNS, &parameters)
            .await
            .doing("looking for the columns")?;
        let absent: String = column(&row, 0)?;
        if absent.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{}.{} has no column {absent}; name it in spec.database.columns",
            view.schema, view.name
        );
        Err(permanent(sqlstate::UNDEFINED_COLUMN, message))
    }

    async fn stamp_of(&self, view: &View) -> Result<Option<Reading>, DatabaseError> {
        // Before the question: what the answer takes on its way counts as age.
        let at = Instant::now();
        let query = sql::stamp(view);
        let rows = self
            .client
            .query_typed(&query, &[(&view.name, Type::TEXT)])
            .await
            .doing("reading the stamp")?;
        let Some(row) = rows.first() else { return Ok(None) };
        let stamp = stamp(column(row, 0)?)?;
        Ok(Some(Reading {
            stamp,
            age_seconds: column(row, 1)?,
            at,
        }))
    }

    /// Whether the lock was free, and when the transaction began.
    async fn lock(&self, view: &View) -> Result<(bool, Stamp), DatabaseError> {
        let row = self
            .client
            .query_typed_one(sql::LOCK, &[(&view.lock(), Type::INT8)])
            .await
            .doing("taking the lock")?;
        Ok((column(&row, 0)?, stamp(column(&row, 1)?)?))
    }

    /// A refresh happened only if the stamp that others now read has advanced.
    async fn proof(&self, view: &View, before: Option<Reading>, began: Stamp) -> Result<Refresh, DatabaseError> {
        let after = self.stamp_of(view).await?;
        let advanced =
            |after: &Reading| after.stamp >= began && before.is_none_or(|before| after.stamp != before.stamp);
        match after.filter(advanced) {
            Some(after) => Ok(Refresh::Done(after)),
            None => Err(DatabaseError {
                class: FaultClass::Transient,
                code: sqlstate::NOT_IN_PREREQUISITE_STATE.into(),
                message: "the refresh was committed, but its stamp is not there: does something else write that table?"
                    .into(),
            }),
        }
    }

    async fn one(&self, query: &str, doing: &'static str) -> Result<PgRow, DatabaseError> {
        self.client.query_typed_one(query, &[]).await.doing(doing)
    }

    async fn execute(&self, statement: &str, doing: &'static str) -> Result<(), DatabaseError> {
        self.client.batch_execute(statement).await.doing(doing)
    }
}

/// Whether another session refreshed the view after our transaction had begun. A stamp in the future is no such thing: the
/// database's clock was set back, and the view has to be refreshed.
fn overtaken(before: &Reading, began: Stamp) -> bool {
    before.stamp >= began && before.age_seconds >= 0.0
}

fn stamp(micros: i64) -> Result<Stamp, DatabaseError> {
    Stamp::from_micros(micros).ok_or_else(|| {
        permanent(
            "22008",
            format!("the stamp {micros} µs is no moment from 1970 to 2255: check the database's clock"),
        )
    })
}

fn column<'r, T: tokio_postgres::types::FromSql<'r>>(row: &'r PgRow, at: usize) -> Result<T, DatabaseError> {
    row.try_get(at).doing("reading a column")
}

fn permanent(code: &'static str, message: String) -> DatabaseError {
    DatabaseError {
        class: FaultClass::Permanent,
        code: code.into(),
        message,
    }
}

impl<'a> Cell<'a> {
    fn into_text(self) -> row::Cell<'a> {
        self.0
    }
}
