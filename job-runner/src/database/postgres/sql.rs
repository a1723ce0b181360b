//! The statements. Names in them are checked and quoted identifiers, or come quoted from the catalogue; values are parameters.
//!
//! Those about the catalogue name its schema: a role's `search_path` may put another one before it.

use std::{error::Error, time::Duration};

use tokio_postgres::{
    Row as PgRow,
    types::{FromSql, Type},
};

use super::{column, encoding::Encoding, error::missing, permanent};
use crate::database::{
    DatabaseError,
    name::Identifier,
    schema::{self, STAMP_TABLE},
    sqlstate,
};

/// The relations that could be the view, and what state they are in. `$1` is its schema, or null for those of the
/// `search_path`, and `$2` its name, both folded. Names come as bytes, for the server may be unable to convert them.
pub(super) const LOCATE: &str = "\
SELECT c.oid, pg_catalog.convert_to(n.nspname::pg_catalog.text, pg_catalog.getdatabaseencoding()), c.relname::pg_catalog.text,
       pg_catalog.convert_to(pg_catalog.quote_ident(n.nspname::pg_catalog.text), pg_catalog.getdatabaseencoding()),
       pg_catalog.quote_ident(c.relname::pg_catalog.text), c.relkind = 'm', c.relispopulated,
       pg_catalog.pg_has_role(c.relowner, 'USAGE'),
       CASE WHEN pg_catalog.current_setting('server_version_num')::int4 >= 170000
            THEN pg_catalog.has_table_privilege(c.oid, 'MAINTAIN') END,
       pg_catalog.convert_to(pg_catalog.quote_ident(current_user::pg_catalog.text), pg_catalog.getdatabaseencoding()),
       EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                 AND i.indpred IS NULL AND i.indexprs IS NULL),
       pg_catalog.to_regclass(pg_catalog.quote_ident(n.nspname::pg_catalog.text) || '.mapa_refresh_stamp') IS NOT NULL,
       (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()),
       pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'),
       pg_catalog.getdatabaseencoding()::pg_catalog.text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE pg_catalog.lower(c.relname::pg_catalog.text COLLATE \"C\") = $2 AND c.relkind IN ('m', 'r', 'v', 'f', 'p')
   AND CASE WHEN $1 IS NULL THEN n.nspname = ANY (pg_catalog.current_schemas(false))
            ELSE pg_catalog.lower(n.nspname::pg_catalog.text COLLATE \"C\") = $1 END
 ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(false), n.nspname), c.oid";

/// Number of the server's data: what was copied to another server by anything but its files has another one there.
pub(super) const SYSTEM: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";

/// Whether the server is a replica, and whether the view `$1` holds data.
pub(super) const STATE: &str = "\
SELECT pg_catalog.pg_is_in_recovery(), (SELECT c.relispopulated FROM pg_catalog.pg_class c WHERE c.oid = $1)";

/// The columns of the relation `$1` whose folded names are among `$2`, and whether their type has an order of its own.
pub(super) const COLUMNS: &str = "\
SELECT a.attname::pg_catalog.text, pg_catalog.quote_ident(a.attname::pg_catalog.text), t.typcategory IN ('N', 'S', 'D', 'T', 'I', 'V', 'B', 'E')
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
   AND pg_catalog.lower(a.attname::pg_catalog.text COLLATE \"C\") = ANY ($2)";

/// Takes the lock `$1` until the transaction ends, or says false at once; and when the transaction began, in microseconds.
pub(super) const LOCK: &str = "\
SELECT pg_catalog.pg_try_advisory_xact_lock($1), (extract(epoch from pg_catalog.transaction_timestamp()) * 1000000)::int8";

/// First half of the advisory lock's key, `mapa`; the second is the view's oid.
const LOCK_SPACE: i64 = 0x6d61_7061 << 32;

/// Longest name that PostgreSQL keeps, in bytes: of a longer one it takes the beginning.
const LONGEST_NAME: usize = 63;

/// As PostgreSQL keeps the name.
pub(super) fn folded(name: &Identifier) -> String {
    cut(&name.folded()).to_owned()
}

/// In lower case, by which the catalogue is searched.
pub(super) fn lower_case(name: &Identifier) -> String {
    cut(&name.written().to_ascii_lowercase()).to_owned()
}

/// What of a name PostgreSQL looks at. An identifier is ASCII.
pub(super) fn cut(name: &str) -> &str {
    name.get(..LONGEST_NAME).unwrap_or(name)
}

/// The view, as the catalogue has it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) oid: u32,
    /// Not quoted.
    pub(super) plain_schema: String,
    /// Quoted where it has to be.
    pub(super) schema: String,
    /// Not quoted.
    pub(super) name: String,
    /// Quoted where it has to be.
    pub(super) quoted: String,
    is_materialized: bool,
    pub(super) is_populated: bool,
    is_owned: bool,
    /// Whether the role may refresh what it does not own; none before PostgreSQL 17.
    may_maintain: Option<bool>,
    /// The role of this session, quoted where it has to be.
    pub(super) role: String,
    pub(super) has_unique_index: bool,
    pub(super) has_stamp_table: bool,
    database: u32,
    /// Whether the role may ask for the [system's number](SYSTEM).
    pub(super) may_identify: bool,
    pub(super) encoding: Encoding,
    /// Key of its stamp, once it is known.
    pub(super) key: String,
}

impl View {
    pub(super) fn from_row(row: &PgRow) -> Result<Self, DatabaseError> {
        let encoding = Encoding::named(column(row, 14)?);
        let text = |at| {
            column::<Bytes<'_>>(row, at).map(|Bytes(bytes)| encoding.decode(bytes.unwrap_or_default()).into_owned())
        };
        Ok(Self {
            oid: column(row, 0)?,
            plain_schema: text(1)?,
            name: column(row, 2)?,
            schema: text(3)?,
            quoted: column(row, 4)?,
            is_materialized: column(row, 5)?,
            is_populated: column(row, 6)?,
            is_owned: column(row, 7)?,
            may_maintain: column(row, 8)?,
            role: text(9)?,
            has_unique_index: column(row, 10)?,
            has_stamp_table: column(row, 11)?,
            database: column(row, 12)?,
            may_identify: column(row, 13)?,
            encoding,
            key: String::new(),
        })
    }

    /// The view on the server whose data has the number `system`: see [`schema`] for what dates it.
    pub(super) fn on(self, system: i64) -> Self {
        Self {
            key: schema::stamp_key(&self.name, system, self.database, self.oid),
            ..self
        }
    }

    /// That it is a materialized view.
    pub(super) fn demand_materialized(&self) -> Result<(), DatabaseError> {
        if self.is_materialized {
            return Ok(());
        }
        let message = format!("{} is no materialized view; check spec.database.view", self.relation());
        Err(permanent(sqlstate::WRONG_OBJECT_TYPE, message))
    }

    /// That it can be refreshed while others read it; `id` is the column of a unique index that would do.
    pub(super) fn demand_unique_index(&self, id: &str) -> Result<(), DatabaseError> {
        if self.has_unique_index {
            return Ok(());
        }
        let problem = "the view has no unique index on plain columns, which CONCURRENTLY needs";
        let ddl = schema::unique_index(&self.schema, &self.quoted, id);
        Err(missing(
            sqlstate::NOT_IN_PREREQUISITE_STATE,
            problem,
            &ddl,
            self,
            Some(id),
        ))
    }

    /// The DDL without which the role can't refresh the view; none when it is something else that it may not do.
    pub(super) fn permission_to_refresh(&self) -> Option<DatabaseError> {
        if self.is_owned || self.may_maintain == Some(true) {
            return None;
        }
        let Self {
            schema, quoted, role, ..
        } = self;
        let (problem, ddl) = match self.may_maintain {
            None => (
                "only its owner may refresh the view",
                schema::ownership(schema, quoted, role),
            ),
            Some(_) => (
                "only its owner, or a role with MAINTAIN, may refresh the view",
                schema::maintain(schema, quoted, role),
            ),
        };
        Some(missing(sqlstate::INSUFFICIENT_PRIVILEGE, problem, &ddl, self, None))
    }

    /// Key of the advisory lock.
    pub(super) fn lock(&self) -> i64 {
        LOCK_SPACE | i64::from(self.oid)
    }

    /// Schema and name, quoted where they have to be.
    pub(super) fn relation(&self) -> String {
        format!("{}.{}", self.schema, self.quoted)
    }
}

/// A column of the view, as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Not quoted.
    pub(super) name: String,
    /// Quoted where it has to be.
    pub(super) quoted: String,
    /// Whether its type has an order: json, xml and points have none.
    pub(super) is_ordered: bool,
}

impl Column {
    pub(super) fn from_row(row: &PgRow) -> Result<Self, DatabaseError> {
        Ok(Self {
            name: column(row, 0)?,
            quoted: column(row, 1)?,
            is_ordered: column(row, 2)?,
        })
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
    let key = literal(&view.key);
    format!(
        "INSERT INTO {}.{STAMP_TABLE} AS s (view_name, refreshed_at) VALUES ({key}, pg_catalog.transaction_timestamp()) \
         ON CONFLICT (view_name) DO UPDATE SET refreshed_at = excluded.refreshed_at",
        view.schema
    )
}

/// Refreshes the view. One that was never populated can't be refreshed CONCURRENTLY, and has no readers to keep waiting.
pub(super) fn refresh(view: &View) -> String {
    let how = if view.is_populated { "CONCURRENTLY " } else { "" };
    format!("REFRESH MATERIALIZED VIEW {how}{}", view.relation())
}

/// Stamp of the view `$2` with the key `$1` in microseconds, and its age in seconds by the database's clock. A view without
/// data has none: somebody emptied it after that refresh.
pub(super) fn stamp(view: &View) -> String {
    format!(
        "SELECT (extract(epoch from s.refreshed_at) * 1000000)::int8, \
                extract(epoch from pg_catalog.clock_timestamp() - s.refreshed_at)::float8 \
           FROM {}.{STAMP_TABLE} s JOIN pg_catalog.pg_class c ON c.oid = $2 WHERE s.view_name = $1 AND c.relispopulated",
        view.schema
    )
}

/// Whether there are stamps of a view with the name `$1`, whatever server, database or view they are of.
pub(super) fn stamps_of_others(view: &View) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM {}.{STAMP_TABLE} s WHERE s.view_name = $1 OR pg_catalog.starts_with(s.view_name, $1 || ' '))",
        view.schema
    )
}

/// Number of rows.
pub(super) fn count(view: &View) -> String {
    format!("SELECT pg_catalog.count(*) FROM {}", view.relation())
}

/// Every row as text: whatever type a column has, no value of it can abort the reading. Ordered, so that equal generations
/// have equal documents and the first of two equal ids is always the same one.
pub(super) fn rows(view: &View, columns: &[Column]) -> String {
    let cells: Vec<_> = columns
        .iter()
        .map(|column| {
            let text = format!("v.{}::pg_catalog.text", column.quoted);
            match view.encoding {
                Encoding::Converted => text,
                Encoding::Raw(_) => format!("pg_catalog.convert_to({text}, pg_catalog.getdatabaseencoding())"),
            }
        })
        .collect();
    // The id, the number, the start: what tells two rows apart.
    let order: Vec<_> = [0, 1, 6]
        .iter()
        .filter_map(|at| columns.get(*at))
        .map(|column| {
            let cast = if column.is_ordered { "" } else { "::pg_catalog.text" };
            format!("v.{}{cast}", column.quoted)
        })
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

/// A text value, or bytes: as they come.
pub(super) struct Bytes<'a>(pub(super) Option<&'a [u8]>);

impl<'a> FromSql<'a> for Bytes<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Some(raw)))
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

    fn view(may_maintain: Option<bool>) -> View {
        View {
            oid: 16_402,
            plain_schema: "radar".into(),
            schema: "radar".into(),
            name: "MV".into(),
            quoted: "\"MV\"".into(),
            is_materialized: true,
            is_populated: true,
            is_owned: false,
            may_maintain,
            role: "mapa".into(),
            has_unique_index: true,
            has_stamp_table: true,
            database: 5,
            may_identify: true,
            encoding: Encoding::named("UTF8"),
            key: String::new(),
        }
    }

    /// No PostgreSQL 17 is at hand where these tests run: the columns of [`LOCATE`] stand for it.
    #[test]
    fn from_postgresql_17_on_the_grant_of_maintain_is_enough_and_is_what_the_remedy_names() {
        let before = view(None).permission_to_refresh().unwrap().message;
        assert!(
            before.ends_with("ALTER MATERIALIZED VIEW radar.\"MV\" OWNER TO mapa;"),
            "{before}"
        );
        let since = view(Some(false)).permission_to_refresh().unwrap().message;
        assert!(
            since.ends_with("GRANT SELECT, MAINTAIN ON radar.\"MV\" TO mapa;"),
            "{since}"
        );
        assert_eq!(view(Some(true)).permission_to_refresh(), None);
    }

    #[test]
    fn columns_that_have_no_order_are_sorted_by_their_text() {
        let column = |name: &str, is_ordered| Column {
            name: name.to_owned(),
            quoted: format!("\"{name}\""),
            is_ordered,
        };
        let query = rows(&view(None), &[column("id", false), column("Numero", true)]);
        assert_eq!(
            query,
            "SELECT v.\"id\"::pg_catalog.text, v.\"Numero\"::pg_catalog.text FROM radar.\"MV\" AS v ORDER BY v.\"id\"::pg_catalog.text, v.\"Numero\""
        );
    }
}
