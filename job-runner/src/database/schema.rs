//! The DDL that the database needs, for its administrator to run.

use mapa_refresh_crds::policy::DatabaseKind;

use crate::database::name::{ColumnNames, Identifier, ViewName};

/// Table that keeps the moment of each view's last refresh: PostgreSQL itself keeps none.
pub const STAMP_TABLE: &str = "mapa_refresh_stamp";

/// A kind of database for which there is no DDL here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("this job-runner has no DDL for {0}: only for postgresql")]
pub struct NoSchema(pub DatabaseKind);

/// The DDL for `view`, whose outages are identified by the id among `columns`, refreshed by `role`.
///
/// # Errors
/// When there is none for this kind of database.
pub fn ddl(kind: DatabaseKind, view: &ViewName, columns: &ColumnNames, role: &Identifier) -> Result<String, NoSchema> {
    match kind {
        DatabaseKind::Postgresql => Ok(postgresql(view, columns, role)),
        DatabaseKind::Oracle => Err(NoSchema(kind)),
    }
}

/// The unique index without which PostgreSQL can't refresh a view while others read it.
#[must_use]
pub fn unique_index(schema: &str, view: &str, id: &str) -> String {
    // 63 bytes is the longest name that PostgreSQL keeps.
    let index: String = view.chars().take(52).collect();
    format!("CREATE UNIQUE INDEX {index}_unico ON {schema}.{view} ({id});")
}

/// The table of stamps.
#[must_use]
pub fn stamp_table(schema: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {schema}.{STAMP_TABLE} (view_name text PRIMARY KEY, refreshed_at timestamptz NOT NULL);"
    )
}

/// The grants on the table of stamps.
#[must_use]
pub fn stamp_grant(schema: &str, role: &str) -> String {
    format!("GRANT SELECT, INSERT, UPDATE ON {schema}.{STAMP_TABLE} TO {role};")
}

/// The change of owner without which `role` can't refresh the view.
#[must_use]
pub fn ownership(schema: &str, view: &str, role: &str) -> String {
    format!("ALTER MATERIALIZED VIEW {schema}.{view} OWNER TO {role};")
}

fn postgresql(view: &ViewName, columns: &ColumnNames, role: &Identifier) -> String {
    let schema = view.schema().map_or_else(|| "public".to_owned(), Identifier::folded);
    let name = view.name().folded();
    let id = columns.id().map_or_else(|| "id".to_owned(), Identifier::folded);
    let role = role.folded();
    [
        "-- What job-runner needs in PostgreSQL, besides the materialized view itself. To be run once, by an administrator.\n",
        "-- 1. REFRESH … CONCURRENTLY, so that readers keep the old rows meanwhile, needs a unique index on plain columns.",
        &unique_index(&schema, &name, &id),
        "\n-- 2. PostgreSQL keeps no time of refresh: it is recorded here, in the refresh's own transaction.",
        &stamp_table(&schema),
        "\n-- 3. Only its owner may refresh a view; the new owner must see the tables that the view reads.",
        &format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role};"),
        &ownership(&schema, &name, &role),
        &stamp_grant(&schema, &role),
        "",
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ddl_names_view_index_stamp_and_role() {
        let view = ViewName::parse("RADAR.MV_PORTAL_PUBLICO").unwrap();
        let columns = ColumnNames::parse("id=NUM").unwrap();
        let role = Identifier::parse("mapa_refresh").unwrap();
        let ddl = ddl(DatabaseKind::Postgresql, &view, &columns, &role).unwrap();
        for line in [
            "CREATE UNIQUE INDEX mv_portal_publico_unico ON radar.mv_portal_publico (num);",
            "CREATE TABLE IF NOT EXISTS radar.mapa_refresh_stamp (view_name text PRIMARY KEY, refreshed_at timestamptz NOT NULL);",
            "ALTER MATERIALIZED VIEW radar.mv_portal_publico OWNER TO mapa_refresh;",
            "GRANT SELECT, INSERT, UPDATE ON radar.mapa_refresh_stamp TO mapa_refresh;",
        ] {
            assert!(ddl.lines().any(|l| l == line), "{line}\n{ddl}");
        }
        assert!(super::ddl(DatabaseKind::Oracle, &view, &columns, &role).is_err());
    }
}
