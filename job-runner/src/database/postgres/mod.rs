//! PostgreSQL, 12 and later.
//!
//! PostgreSQL keeps no time of refresh: it is recorded in a table of our own, in the refresh's transaction, so that view and
//! stamp become visible together. The stamp is that transaction's start: every row is at least as young. What ties it to its view
//! is in [`schema`].

mod connect;
pub mod encoding;
mod error;
mod login;
mod sql;

use std::time::Duration;

use futures::{TryStreamExt, pin_mut};
use mapa_refresh_crds::report::FaultClass;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_postgres::{
    CancelToken, Client, NoTls, Row as PgRow,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::connect::Target;
use self::{
    error::{Doing, missing},
    sql::{Bytes, Column, View},
};
use crate::{
    database::{
        Database, DatabaseError, Interrupt, Reading, Refresh, RowSink, message,
        name::{self, ColumnNames, ViewName},
        schema, sqlstate,
    },
    domain::{row::Row, time::Stamp},
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
        self.demand_refreshable(&view).await?;
        let begun = self
            .execute(&sql::begin_refresh(self.statement_timeout), "beginning the refresh")
            .await;
        let refreshed = match begun {
            Ok(()) => self.refresh_in_transaction(&view, is_fresh).await,
            Err(error) => Err(error),
        };
        match self.leave_transaction(refreshed).await {
            Err(error) => Err(self.explained(error, &view).await),
            refreshed => refreshed,
        }
    }

    async fn count(&mut self) -> Result<u64, DatabaseError> {
        let view = self.located().await?;
        let row = self
            .client
            .query_typed_one(&sql::count(&view), &[])
            .await
            .computing("counting the view's rows")?;
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
        self.client
            .batch_execute(&sql::record_stamp(view))
            .await
            .at_stamps("recording the stamp")?;
        self.client
            .batch_execute(&sql::refresh(view))
            .await
            .computing("refreshing the view")
            .map_err(|error| match error.code.as_ref() {
                sqlstate::INSUFFICIENT_PRIVILEGE => view.permission_to_refresh().unwrap_or(error),
                _ => error,
            })?;
        self.execute("COMMIT", "committing the refresh").await?;
        self.proof(view, before, began).await
    }

    async fn read_in_transaction(&mut self, sink: &mut dyn RowSink) -> Result<Reading, DatabaseError> {
        self.view = None;
        let view = self.located().await?;
        let columns = self.columns_of(&view).await?;
        let reading = match self.stamp_of(&view).await? {
            Some(reading) => reading,
            None => return Err(self.never_refreshed(&view).await),
        };
        sink.begin(&reading);
        let query = sql::rows(&view, &columns);
        let rows = self
            .client
            .query_typed_raw::<&str, _>(&query, [])
            .await
            .computing("reading the view")?;
        pin_mut!(rows);
        while let Some(row) = rows.try_next().await.computing("reading the view")? {
            sink.row(&Row::from_cells(|at| {
                column::<Bytes<'_>>(&row, at).map(|Bytes(bytes)| bytes.map(|bytes| view.encoding.decode(bytes)))
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
        let view = self.found().await?;
        if !view.has_stamp_table {
            let ddl = format!(
                "{} {}",
                schema::stamp_table(&view.schema),
                schema::stamp_grant(&view.schema, &view.role)
            );
            let problem = "the table that keeps the time of each refresh is missing";
            return Err(missing(sqlstate::UNDEFINED_TABLE, problem, &ddl, &view, None));
        }
        if !view.may_identify {
            let problem = "the role may not ask for the server's number, which ties a stamp to its view";
            let ddl = schema::identity_grant(&view.role);
            return Err(missing(sqlstate::INSUFFICIENT_PRIVILEGE, problem, &ddl, &view, None));
        }
        let row = self.client.query_typed_one(sql::SYSTEM, &[]).await;
        let view = view.on(column(&row.doing("asking for the server's number")?, 0)?);
        Ok(self.view.insert(view).clone())
    }

    /// The relation that the policy names, whatever the case of its letters.
    async fn found(&self) -> Result<View, DatabaseError> {
        let (schema, name) = (
            self.name.schema().map(sql::lower_case),
            sql::lower_case(self.name.name()),
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&schema, Type::TEXT), (&name, Type::TEXT)];
        let rows = self
            .client
            .query_typed(sql::LOCATE, &parameters)
            .await
            .doing("looking for the view")?;
        let views = rows.iter().map(View::from_row).collect::<Result<Vec<_>, _>>()?;
        let is_written = |view: &View| {
            let schema = self.name.schema().map(|schema| sql::cut(schema.written()));
            view.name == sql::cut(self.name.name().written()) && schema.is_none_or(|schema| view.plain_schema == schema)
        };
        let is_folded = |view: &View| {
            let schema = self.name.schema().map(sql::folded);
            view.name == sql::folded(self.name.name()) && schema.is_none_or(|schema| view.plain_schema == schema)
        };
        match name::choose(&views, is_written, is_folded) {
            Ok(Some(view)) => Ok(view.clone()),
            Ok(None) => {
                let message = format!("there is no {}; check spec.database.view", self.name);
                Err(permanent(sqlstate::UNDEFINED_TABLE, message))
            }
            Err(several) => {
                let names: Vec<_> = several.iter().map(View::relation).collect();
                Err(permanent(
                    sqlstate::AMBIGUOUS_NAME,
                    message(
                        &format!("{} could be several", self.name),
                        &names.join(", "),
                        "write one of them into spec.database.view, letter by letter",
                    ),
                ))
            }
        }
    }

    async fn demand_refreshable(&self, view: &View) -> Result<(), DatabaseError> {
        view.demand_materialized()?;
        if view.has_unique_index {
            return Ok(());
        }
        let columns = self.columns_of(view).await;
        let id = columns.as_ref().ok().and_then(|columns| columns.first());
        view.demand_unique_index(id.map_or("id", |id| &id.quoted))
    }

    /// The view's columns in the order of [`Row`]'s fields, whatever the case of their letters.
    async fn columns_of(&self, view: &View) -> Result<Vec<Column>, DatabaseError> {
        let names: Vec<String> = self.columns.iter().map(sql::lower_case).collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&view.oid, Type::OID), (&names, Type::TEXT_ARRAY)];
        let rows = self
            .client
            .query_typed(sql::COLUMNS, &parameters)
            .await
            .doing("looking for the columns")?;
        let present = rows.iter().map(Column::from_row).collect::<Result<Vec<_>, _>>()?;
        let (mut columns, mut absent, mut ambiguous) = (Vec::new(), Vec::new(), Vec::new());
        for (wanted, name) in self.columns.iter().zip(&names) {
            let alike: Vec<_> = present
                .iter()
                .filter(|column| column.name.eq_ignore_ascii_case(name))
                .cloned()
                .collect();
            match name::choose(
                &alike,
                |column| column.name == sql::cut(wanted.written()),
                |column| column.name == sql::folded(wanted),
            ) {
                Ok(Some(column)) => columns.push(column.clone()),
                Ok(None) => absent.push(wanted.folded()),
                Err(several) => ambiguous.extend(several.iter().map(|column| column.quoted.clone())),
            }
        }
        let relation = view.relation();
        if !absent.is_empty() {
            return Err(permanent(
                sqlstate::UNDEFINED_COLUMN,
                message(
                    &format!("{relation} has no column {}", absent.join(", ")),
                    "",
                    "name them in spec.database.columns",
                ),
            ));
        }
        if !ambiguous.is_empty() {
            return Err(permanent(
                sqlstate::AMBIGUOUS_NAME,
                message(
                    &format!("{relation} has columns that differ by the case of their letters alone"),
                    &ambiguous.join(", "),
                    "write one of them into spec.database.columns, letter by letter",
                ),
            ));
        }
        Ok(columns)
    }

    async fn never_refreshed(&self, view: &View) -> DatabaseError {
        let query = sql::stamps_of_others(view);
        let others = match self.client.query_typed_one(&query, &[(&view.name, Type::TEXT)]).await {
            Ok(row) => row.try_get(0).unwrap_or(false),
            Err(_) => false,
        };
        error::never_refreshed(view, others)
    }

    /// The error of a refresh, once it is known what the server and the view are.
    async fn explained(&self, error: DatabaseError, view: &View) -> DatabaseError {
        match error.code.as_ref() {
            sqlstate::FEATURE_NOT_SUPPORTED | sqlstate::READ_ONLY_TRANSACTION => {
                let state = self.client.query_typed_one(sql::STATE, &[(&view.oid, Type::OID)]).await;
                match state.map(|row| (row.try_get(0), row.try_get(1))) {
                    Ok((Ok(false), Ok(is_populated))) if is_populated == Some(view.is_populated) => error,
                    Ok((Ok(false), Ok(Some(false)))) => error::emptied(view),
                    Ok((Ok(false), _)) => error,
                    // It is one, or ends while it becomes one or none.
                    Ok(_) | Err(_) => error::replica(&error),
                }
            }
            _ => error,
        }
    }

    async fn stamp_of(&self, view: &View) -> Result<Option<Reading>, DatabaseError> {
        // Before the question: what the answer takes on its way counts as age.
        let at = Instant::now();
        let query = sql::stamp(view);
        let rows = self
            .client
            .query_typed(&query, &[(&view.key, Type::TEXT), (&view.oid, Type::OID)])
            .await
            .at_stamps("reading the stamp")?;
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
