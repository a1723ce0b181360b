//! The DDL that the database needs, for its administrator to run; and what ties a stamp in PostgreSQL to its view.
//!
//! A row of the [`STAMP_TABLE`] says when which view was refreshed. Logical replication and `pg_dump -t` copy the row and not the view's
//! data, and a view can be dropped and made anew beside it. The row's [key](stamp_key) therefore holds, besides the view's name, the
//! number of the server's data (`system_identifier`), the database's oid and the view's oid. Only a row with the key of this view, here,
//! dates its data, and that only while the view holds data (`relispopulated`).
//!
//! - Whatever copies all files keeps both, and rightly so: a standby, its promotion, a restored base backup.
//! - `pg_upgrade`, a dump that is restored, and `CREATE DATABASE … TEMPLATE` copy the data under another key: until its next refresh the view
//!   has no stamp there. That errs on the safe side.
//! - The file of the view's data (`relfilenode`) is no part of the key: a refresh by somebody else and `VACUUM FULL` change it, and leave
//!   data that is as young as the stamp says, or younger.
//! - The key is in the column that used to hold the name alone. Rows of before are not believed, the table stays as it is, and rows
//!   that a publisher sends meet none of ours.

use mapa_refresh_crds::policy::DatabaseKind;

use crate::database::name::{ColumnNames, Identifier, ViewName};

/// Table that keeps the moment of each view's last refresh: PostgreSQL itself keeps none.
pub const STAMP_TABLE: &str = "mapa_refresh_stamp";

/// Key of the stamp of the view `name`: which view of which database (oids) on which server (`system_identifier`) it dates.
#[must_use]
pub fn stamp_key(name: &str, system: i64, database: u32, view: u32) -> String {
    // PostgreSQL prints the number as signed, `pg_controldata` as unsigned: as that.
    format!("{name} {}/{database}/{view}", system.cast_unsigned())
}

/// What `role` needs in a database of `kind` to refresh and read `view`, whose outages are identified by the id among `columns`.
#[must_use]
pub fn ddl(kind: DatabaseKind, view: &ViewName, columns: &ColumnNames, role: &Identifier) -> String {
    match kind {
        DatabaseKind::Postgresql => postgresql(view, columns, role),
        DatabaseKind::Oracle => oracle(view, role),
    }
}

/// The unique index without which PostgreSQL can't refresh a view while others read it. Names are quoted where they have to be.
#[must_use]
pub fn unique_index(schema: &str, view: &str, id: &str) -> String {
    let quote = if view.starts_with('"') { "\"" } else { "" };
    // 63 bytes is the longest name that PostgreSQL keeps.
    let index: String = view.trim_matches('"').chars().take(52).collect();
    format!("CREATE UNIQUE INDEX {quote}{index}_unico{quote} ON {schema}.{view} ({id});")
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

/// The grant by which a role refreshes a view that it does not own, from PostgreSQL 17 on.
#[must_use]
pub fn maintain(schema: &str, view: &str, role: &str) -> String {
    format!("GRANT SELECT, MAINTAIN ON {schema}.{view} TO {role};")
}

/// The grant by which `role` asks for the number of the server's data. PUBLIC has it unless somebody revoked it.
#[must_use]
pub fn identity_grant(role: &str) -> String {
    format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO {role};")
}

/// The command that prints the DDL of PostgreSQL for the view `schema.name`, all names quoted where they have to be; none when a name has
/// signs that the command does not take.
#[must_use]
pub fn command(schema: &str, name: &str, id: Option<&str>, role: &str) -> Option<String> {
    let view = format!("{schema}.{name}");
    let columns = id.filter(|id| *id != "id").map(|id| format!("id={id}"));
    ViewName::parse(&view).ok()?;
    Identifier::parse(role).ok()?;
    ColumnNames::parse(columns.as_deref().unwrap_or_default()).ok()?;
    let columns = columns.map_or_else(String::new, |columns| format!(" --columns {}", in_shell(&columns)));
    Some(format!(
        "`job-runner schema --kind postgresql --role {} --view {}{columns}`",
        in_shell(role),
        in_shell(&view)
    ))
}

fn in_shell(word: &str) -> String {
    if word.contains('"') {
        format!("'{word}'")
    } else {
        word.to_owned()
    }
}

/// Name of the procedure by which the owner of the Oracle view `view` lets others refresh it.
#[must_use]
pub fn owners_procedure(view: &str) -> String {
    // 128 bytes is the longest name that Oracle keeps.
    format!("REFRESH_{view}").chars().take(128).collect()
}

fn postgresql(view: &ViewName, columns: &ColumnNames, role: &Identifier) -> String {
    let schema = view.schema().map_or_else(|| "public".to_owned(), in_postgresql);
    let name = in_postgresql(view.name());
    let id = columns.id().map_or_else(|| "id".to_owned(), in_postgresql);
    let role = in_postgresql(role);
    [
        "-- What job-runner needs in PostgreSQL, besides the materialized view itself. To be run once, by an administrator.",
        "-- A view or column that was made in quotes, with upper-case letters, has to be given so: --view 'radar.\"MV_Portal\"'.\n",
        "-- 1. REFRESH ... CONCURRENTLY, so that readers keep the old rows meanwhile, needs a unique index on plain columns.",
        &unique_index(&schema, &name, &id),
        "\n-- 2. PostgreSQL keeps no time of refresh: it is recorded here, in the refresh's own transaction.",
        &stamp_table(&schema),
        "\n-- 3. Only its owner may refresh a view; the new owner must see the tables that the view reads.",
        &format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role};"),
        &ownership(&schema, &name, &role),
        &stamp_grant(&schema, &role),
        "-- From PostgreSQL 17 on the view can keep its owner, who then needs TEMPORARY on the database; instead of the new owner:",
        &format!("-- {}", maintain(&schema, &name, &role)),
        "\n-- 4. What PUBLIC has unless somebody revoked it, as far as the role lacks it: CONNECT, TEMPORARY (for CONCURRENTLY), to",
        "-- tell this server from a copy of it; and what the view's query reads and calls. What its functions read is not known here.",
        &grants_of_public(&format!("{schema}.{name}"), &role),
        "",
    ]
    .join("\n")
}

/// Grants what `role` lacks in a database where PUBLIC has nothing. Names in it hold no quote that could end a constant.
fn grants_of_public(relation: &str, role: &str) -> String {
    let (relation, role) = (format!("'{relation}'::regclass"), format!("'{role}'::regrole"));
    format!(
        "DO $grants$
DECLARE
  missing text;
BEGIN
  FOR missing IN
    WITH used AS (
      SELECT DISTINCT d.refclassid, d.refobjid
        FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
       WHERE r.ev_class = {relation} AND d.refobjid <> r.ev_class
    ), used_schema AS (
      SELECT relnamespace AS oid FROM pg_class JOIN used ON refclassid = 'pg_class'::regclass AND refobjid = oid
      UNION SELECT pronamespace FROM pg_proc JOIN used ON refclassid = 'pg_proc'::regclass AND refobjid = oid
    )
    SELECT format('CONNECT ON DATABASE %I', current_database())
     WHERE NOT has_database_privilege({role}, current_database(), 'CONNECT')
    UNION ALL SELECT format('TEMPORARY ON DATABASE %I', current_database())
     WHERE NOT has_database_privilege({role}, current_database(), 'TEMPORARY')
    UNION ALL SELECT 'EXECUTE ON FUNCTION pg_catalog.pg_control_system()'
     WHERE NOT has_function_privilege({role}, 'pg_catalog.pg_control_system()', 'EXECUTE')
    UNION ALL SELECT format('USAGE ON SCHEMA %I', nspname) FROM pg_namespace JOIN used_schema USING (oid)
     WHERE NOT has_schema_privilege({role}, oid, 'USAGE')
    UNION ALL SELECT format('SELECT ON %s', oid::regclass) FROM pg_class JOIN used ON refclassid = 'pg_class'::regclass AND refobjid = oid
     WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT has_table_privilege({role}, oid, 'SELECT')
    UNION ALL SELECT format('EXECUTE ON ROUTINE %s', oid::regprocedure) FROM pg_proc JOIN used ON refclassid = 'pg_proc'::regclass AND refobjid = oid
     WHERE NOT has_function_privilege({role}, oid, 'EXECUTE')
  LOOP
    EXECUTE format('GRANT %s TO %s', missing, {role});
  END LOOP;
END $grants$;"
    )
}

/// A name as PostgreSQL's DDL has it: quoted where it is written so, is a keyword or has a sign that a name without quotes can't have.
fn in_postgresql(name: &Identifier) -> String {
    let folded = name.folded();
    if name.is_quoted() || folded.contains('#') || KEYWORDS.split_whitespace().any(|keyword| keyword == folded) {
        format!("\"{folded}\"")
    } else {
        folded
    }
}

/// What is no name of a relation or column without quotes, in PostgreSQL 12 to 17 (`pg_get_keywords()`, categories R and T).
const KEYWORDS: &str = "all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation column \
    concurrently constraint create cross current_catalog current_date current_role current_schema current_time current_timestamp \
    current_user default deferrable desc distinct do else end except false fetch for foreign freeze from full grant group having ilike \
    in initially inner intersect into is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null \
    offset on only or order outer overlaps placing primary references returning right select session_user similar some symmetric \
    system_user table tablesample then to trailing true union unique user using variadic verbose when where window with";

/// A name as Oracle's DDL has it: quoted where it is written so.
fn in_oracle(name: &Identifier) -> String {
    let quote = if name.is_quoted() { "\"" } else { "" };
    format!("{quote}{}{quote}", name.in_upper_case())
}

fn oracle(view: &ViewName, role: &Identifier) -> String {
    let role = in_oracle(role);
    let owner = view.schema().map_or_else(|| role.clone(), in_oracle);
    let relation = format!("{owner}.{}", in_oracle(view.name()));
    let procedure = format!(
        "{owner}.{}",
        owners_procedure(&view.name().written().to_ascii_uppercase())
    );
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
            "-- GRANT SELECT, MAINTAIN ON radar.mv_portal_publico TO mapa_refresh;",
            "GRANT SELECT, INSERT, UPDATE ON radar.mapa_refresh_stamp TO mapa_refresh;",
        ] {
            assert!(ddl.lines().any(|l| l == line), "{line}\n{ddl}");
        }
    }

    #[test]
    fn the_ddl_can_be_given_to_a_database_of_any_encoding() {
        let view = ViewName::parse("radar.mv").unwrap();
        let columns = ColumnNames::parse("").unwrap();
        for kind in [DatabaseKind::Postgresql, DatabaseKind::Oracle] {
            let ddl = ddl(kind, &view, &columns, &Identifier::parse("mapa").unwrap());
            assert!(ddl.is_ascii(), "{ddl}");
        }
    }

    #[test]
    fn names_that_were_made_in_quotes_and_keywords_are_quoted() {
        let view = ViewName::parse("radar.\"MV_Portal\"").unwrap();
        let columns = ColumnNames::parse("id=order").unwrap();
        let role = Identifier::parse("user").unwrap();
        let ddl = ddl(DatabaseKind::Postgresql, &view, &columns, &role);
        for line in [
            "CREATE UNIQUE INDEX \"MV_Portal_unico\" ON radar.\"MV_Portal\" (\"order\");",
            "ALTER MATERIALIZED VIEW radar.\"MV_Portal\" OWNER TO \"user\";",
        ] {
            assert!(ddl.lines().any(|l| l == line), "{line}\n{ddl}");
        }
        assert_eq!(
            command("radar", "\"MV\"", Some("\"ID\""), "\"mapa-refresh\"").unwrap(),
            "`job-runner schema --kind postgresql --role '\"mapa-refresh\"' --view 'radar.\"MV\"' --columns 'id=\"ID\"'`"
        );
        assert_eq!(command("radar", "mv", None, "\"joão\""), None);
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
