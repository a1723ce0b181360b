//! The DDL that the database needs, for its administrator to run.

use mapa_refresh_crds::policy::DatabaseKind;

use crate::database::name::{ColumnNames, Identifier, ViewName};

/// Table that keeps the moment of each view's last refresh: PostgreSQL itself keeps none.
pub const STAMP_TABLE: &str = "mapa_refresh_stamp";

/// What `role` needs in a database of `kind` to refresh and read `view`, whose outages are identified by the id among `columns`.
#[must_use]
pub fn ddl(kind: DatabaseKind, view: &ViewName, columns: &ColumnNames, role: &Identifier) -> String {
    match kind {
        DatabaseKind::Postgresql => postgresql(view, columns, role),
        DatabaseKind::Oracle => oracle(view, role),
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

/// Name of the procedure by which the owner of the Oracle view `view` lets others refresh it.
#[must_use]
pub fn owners_procedure(view: &str) -> String {
    // 128 bytes is the longest name that Oracle keeps.
    format!("REFRESH_{view}").chars().take(128).collect()
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

fn oracle(view: &ViewName, role: &Identifier) -> String {
    let role = role.in_upper_case();
    let owner = view.schema().map_or_else(|| role.clone(), Identifier::in_upper_case);
    let name = view.name().in_upper_case();
    let relation = format!("{owner}.{name}");
    let procedure = format!("{owner}.{}", owners_procedure(&name));
    let mut lines = vec![
        "-- What job-runner needs in Oracle, besides the materialized view itself. To be run once, by an administrator.\n".to_owned(),
        "-- 1. To log on.".to_owned(),
        format!("GRANT CREATE SESSION TO {role};"),
        "\n-- 2. So that a second refresher is seen before it waits.".to_owned(),
        format!("GRANT EXECUTE ON SYS.DBMS_LOCK TO {role};"),
    ];
    if owner == role {
        lines.push(format!("\n-- Nothing else: {role} owns {relation}."));
    } else {
        lines.extend([
            "\n-- 3. To read the view, and its time of refresh in ALL_MVIEWS.".to_owned(),
            format!("GRANT SELECT ON {relation} TO {role};"),
            "\n-- 4. To refresh it. For a view of another user Oracle has no privilege but ALTER ANY MATERIALIZED VIEW; so its owner refreshes it, in a".to_owned(),
            "-- procedure that job-runner calls when DBMS_MVIEW refuses it. The owner needs its rights on the view's tables directly, not by a role.".to_owned(),
            format!("CREATE OR REPLACE PROCEDURE {procedure} AUTHID DEFINER AS"),
            "BEGIN".to_owned(),
            format!("  DBMS_MVIEW.REFRESH(list => '{relation}', method => 'C', atomic_refresh => TRUE);"),
            "END;".to_owned(),
            "/".to_owned(),
            format!("GRANT EXECUTE ON {procedure} TO {role};"),
        ]);
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ddl_names_view_index_stamp_and_role() {
        let view = ViewName::parse("RADAR.MV_PORTAL_PUBLICO").unwrap();
        let columns = ColumnNames::parse("id=NUM").unwrap();
        let role = Identifier::parse("mapa_refresh").unwrap();
        let ddl = ddl(DatabaseKind::Postgresql, &view, &columns, &role);
        for line in [
            "CREATE UNIQUE INDEX mv_portal_publico_unico ON radar.mv_portal_publico (num);",
            "CREATE TABLE IF NOT EXISTS radar.mapa_refresh_stamp (view_name text PRIMARY KEY, refreshed_at timestamptz NOT NULL);",
            "ALTER MATERIALIZED VIEW radar.mv_portal_publico OWNER TO mapa_refresh;",
            "GRANT SELECT, INSERT, UPDATE ON radar.mapa_refresh_stamp TO mapa_refresh;",
        ] {
            assert!(ddl.lines().any(|l| l == line), "{line}\n{ddl}");
        }
    }

    #[test]
    fn oracles_grants_name_owner_view_and_user() {
        let (view, columns) = (ViewName::parse("radar.mv").unwrap(), ColumnNames::parse("").unwrap());
        let other = ddl(
            DatabaseKind::Oracle,
            &view,
            &columns,
            &Identifier::parse("mapa_refresh").unwrap(),
        );
        for line in [
            "GRANT CREATE SESSION TO MAPA_REFRESH;",
            "GRANT EXECUTE ON SYS.DBMS_LOCK TO MAPA_REFRESH;",
            "GRANT SELECT ON RADAR.MV TO MAPA_REFRESH;",
            "CREATE OR REPLACE PROCEDURE RADAR.REFRESH_MV AUTHID DEFINER AS",
            "  DBMS_MVIEW.REFRESH(list => 'RADAR.MV', method => 'C', atomic_refresh => TRUE);",
            "GRANT EXECUTE ON RADAR.REFRESH_MV TO MAPA_REFRESH;",
        ] {
            assert!(other.lines().any(|l| l == line), "{line}\n{other}");
        }
        let owner = ddl(
            DatabaseKind::Oracle,
            &view,
            &columns,
            &Identifier::parse("radar").unwrap(),
        );
        assert!(
            !owner.contains("PROCEDURE") && owner.contains("RADAR owns RADAR.MV"),
            "{owner}"
        );
    }
}
