//! The statements. Names in them are checked and quoted identifiers, or come quoted from the catalogue; values are parameters.

use std::{borrow::Cow, error::Error, time::Duration};

use tokio_postgres::{
    Row as PgRow,
    types::{FromSql, Type},
};

use super::{column, error::missing, permanent};
use crate::database::{
    DatabaseError,
    name::{ColumnNames, Identifier},
    schema::{self, STAMP_TABLE},
    sqlstate,
};

/// Where the view is and what state it is in. `$1` is its quoted name.
pub(super) const LOCATE: &str = "\
SELECT c.oid, quote_ident(n.nspname), c.relname::text, quote_ident(c.relname), c.relkind = 'm', c.relispopulated,
       pg_has_role(c.relowner, 'USAGE'), quote_ident(current_user),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                 AND i.indpred IS NULL AND i.indexprs IS NULL),
       to_regclass(quote_ident(n.nspname) || '.mapa_refresh_stamp') IS NOT NULL
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = to_regclass($1)";

/// Which of the columns `$2` the relation `$1` lacks. A cast to `name` cuts as PostgreSQL cuts long names.
pub(super) const MISSING_COLUMNS: &str = "\
SELECT coalesce(string_agg(wanted, ', '), '') FROM unnest($2) AS wanted
 WHERE NOT EXISTS (SELECT FROM pg_attribute a
                    WHERE a.attrelid = $1 AND a.attname = wanted::name AND a.attnum > 0 AND NOT a.attisdropped)";

/// Takes the lock `$1` until the transaction ends, or says false at once; and when the transaction began, in microseconds.
pub(super) const LOCK: &str =
    "SELECT pg_try_advisory_xact_lock($1), (extract(epoch from transaction_timestamp()) * 1000000)::bigint";

/// First half of the advisory lock's key, `mapa`; the second is the view's oid.
const LOCK_SPACE: i64 = 0x6d61_7061 << 32;

/// The view, as the catalogue has it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) oid: u32,
    /// Quoted where it has to be.
    pub(super) schema: String,
    /// Not quoted: the key of its stamp.
    pub(super) name: String,
    /// Quoted where it has to be.
    quoted: String,
    is_materialized: bool,
    is_populated: bool,
    is_owned: bool,
    /// The role of this session, quoted where it has to be.
    pub(super) role: String,
    has_unique_index: bool,
    pub(super) has_stamp_table: bool,
    /// The column that identifies an outage, for the DDL in a message.
    id: String,
}

impl View {
    pub(super) fn from_row(row: &PgRow, columns: &ColumnNames) -> Result<Self, DatabaseError> {
        Ok(Self {
            oid: column(row, 0)?,
            schema: column(row, 1)?,
            name: column(row, 2)?,
            quoted: column(row, 3)?,
            is_materialized: column(row, 4)?,
            is_populated: column(row, 5)?,
            is_owned: column(row, 6)?,
            role: column(row, 7)?,
            has_unique_index: column(row, 8)?,
            has_stamp_table: column(row, 9)?,
            id: columns.id().map_or_else(|| "id".to_owned(), Identifier::folded),
        })
    }

    /// That the view can be refreshed while others read it. Else the error holds the DDL that is missing.
    pub(super) fn demand_refreshable(&self) -> Result<(), DatabaseError> {
        let Self {
            schema, quoted, role, ..
        } = self;
        if !self.is_materialized {
            let message = format!("{schema}.{quoted} is no materialized view; check spec.database.view");
            return Err(permanent(sqlstate::WRONG_OBJECT_TYPE, message));
        }
        if !self.is_owned {
            let problem = format!("role {role} does not own {schema}.{quoted}, and only its owner may refresh it");
            return Err(missing(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                &problem,
                &schema::ownership(schema, quoted, role),
            ));
        }
        if !self.has_unique_index {
            let problem = format!("{schema}.{quoted} has no unique index on plain columns, which CONCURRENTLY needs");
            let ddl = schema::unique_index(schema, quoted, &self.id);
            return Err(missing(sqlstate::NOT_IN_PREREQUISITE_STATE, &problem, &ddl));
        }
        Ok(())
    }

    /// Key of the advisory lock.
    pub(super) fn lock(&self) -> i64 {
        LOCK_SPACE | i64::from(self.oid)
    }

    fn relation(&self) -> String {
        format!("{}.{}", self.schema, self.quoted)
    }
}

/// Begins a transaction that refreshes. What it runs for a client that is gone must end by itself.
pub(super) fn begin_refresh(limit: Duration) -> String {
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = {}",
        limit.as_millis()
    )
}

/// Begins a transaction that reads one snapshot. Moments with a zone come in UTC, all in ISO's order, floats without loss.
pub(super) fn begin_read(limit: Duration) -> String {
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {}; \
         SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL extra_float_digits = 1",
        limit.as_millis()
    )
}

/// Records the transaction's start as the view's stamp.
pub(super) fn record_stamp(view: &View) -> String {
    let name = literal(&view.name);
    format!(
        "INSERT INTO {}.{STAMP_TABLE} AS s (view_name, refreshed_at) VALUES ({name}, transaction_timestamp()) \
         ON CONFLICT (view_name) DO UPDATE SET refreshed_at = excluded.refreshed_at",
        view.schema
    )
}

/// Refreshes the view. One that was never populated can't be refreshed CONCURRENTLY, and has no readers to keep waiting.
pub(super) fn refresh(view: &View) -> String {
    let how = if view.is_populated { "CONCURRENTLY " } else { "" };
    format!("REFRESH MATERIALIZED VIEW {how}{}", view.relation())
}

/// Stamp of the view `$1` in microseconds, and its age in seconds by the database's clock.
pub(super) fn stamp(view: &View) -> String {
    format!(
        "SELECT (extract(epoch from refreshed_at) * 1000000)::bigint, \
                extract(epoch from clock_timestamp() - refreshed_at)::float8 \
           FROM {}.{STAMP_TABLE} WHERE view_name = $1",
        view.schema
    )
}

/// Number of rows.
pub(super) fn count(view: &View) -> String {
    format!("SELECT count(*) FROM {}", view.relation())
}

/// Every row as text: whatever type a column has, no value of it can abort the reading. Ordered, so that equal generations
/// have equal documents and the first of two equal ids is always the same one.
pub(super) fn rows(view: &View, columns: &ColumnNames) -> String {
    let cells: Vec<_> = columns
        .iter()
        .map(|column| format!("v.{}::text", column.in_postgres()))
        .collect();
    // The id, the number, the start: what tells two rows apart.
    let order: Vec<_> = [0, 1, 6]
        .iter()
        .filter_map(|at| columns.iter().nth(*at))
        .map(|column| format!("v.{}", column.in_postgres()))
        .collect();
    format!(
        "SELECT {} FROM {} AS v ORDER BY {}",
        cells.join(", "),
        view.relation(),
        order.join(", ")
    )
}

/// A string constant. The name comes from the catalogue; batches take no parameters.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A text value, whatever bytes a SQL_ASCII database holds.
pub(super) struct Cell<'a>(pub(super) Option<Cow<'a, str>>);

impl<'a> FromSql<'a> for Cell<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Some(String::from_utf8_lossy(raw))))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_view_name_from_the_catalogue_stays_a_constant() {
        assert_eq!(literal("a'b\\"), "E'a\\'b\\\\'");
    }
}
