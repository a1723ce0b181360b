//! What a database's error says: never values of rows, and always what to do.

use std::process::Command;

use mapa_refresh_crds::{
    report::{FaultClass, RunError},
    status::MAX_ERROR_MESSAGE,
};

use crate::world::{Run, World};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";

/// What [`World`] looks for in everything that a run says.
const PERSONAL: &str = "c4n4ry Joao tel 95 99999-0000";

/// Fails for what is no error of `code`, or says too much, or too little.
fn judge(run: &Run, code: &str, class: FaultClass) -> RunError {
    let exit = if class == FaultClass::Transient { 1 } else { 2 };
    let error = run.failure(exit);
    assert_eq!((error.code.as_str(), error.class), (code, class), "{error:?}");
    assert!(error.message.len() < MAX_ERROR_MESSAGE, "cut: {error:?}");
    for part in ["Joao", "tel 95", "99999"] {
        assert!(!error.message.contains(part) && !run.stderr.contains(part), "{run:?}");
    }
    error
}

#[test]
fn values_of_rows_are_in_no_error_of_a_views_own_query() {
    let world = World::new();
    world.outage(1, 90, &format!(", causa = '{PERSONAL}'"));
    for (query, code, remedy) in [
        ("SELECT id, causa::integer FROM radar.interrupcao", "22P02", "the type"),
        ("SELECT id, causa::timestamp FROM radar.interrupcao", "22007", "no date"),
        (
            "SELECT id, ('99/99/' || id)::date FROM radar.interrupcao",
            "22008",
            "out of range",
        ),
        (
            "SELECT id, (id || '9999999999')::int FROM radar.interrupcao",
            "22003",
            "out of its type's range",
        ),
        (
            "SELECT id, id / (id - 1) AS x FROM radar.interrupcao",
            "22012",
            "division by zero",
        ),
        (
            "SELECT id, causa::json::text AS x FROM radar.interrupcao",
            "22P02",
            "the type",
        ),
        (
            "SELECT i.id, (SELECT causa FROM radar.interrupcao UNION ALL SELECT causa FROM radar.interrupcao) AS x FROM radar.interrupcao i",
            "21000",
            "a subquery yields several rows",
        ),
        (
            "SELECT i.id, causa FROM radar.interrupcao i CROSS JOIN generate_series(1, 2)",
            "23505",
            "several rows for one key",
        ),
    ] {
        world.remake_view(query, "id");
        let error = judge(&world.runner(VIEW).run(), code, FaultClass::Permanent);
        assert!(
            error.message.contains(remedy) && error.message.contains(code),
            "{error:?}"
        );
    }
}

#[test]
fn a_table_of_stamps_that_is_not_as_printed_is_what_the_remedy_names() {
    let world = World::new();
    for (spoil, code) in [
        (
            "ALTER TABLE radar.mapa_refresh_stamp DROP CONSTRAINT mapa_refresh_stamp_pkey",
            "42P10",
        ),
        (
            "ALTER TABLE radar.mapa_refresh_stamp ADD COLUMN note text NOT NULL",
            "23502",
        ),
        ("REVOKE INSERT ON radar.mapa_refresh_stamp FROM mapa_refresh", "42501"),
        (
            "ALTER TABLE radar.mapa_refresh_stamp RENAME COLUMN refreshed_at TO x",
            "42703",
        ),
    ] {
        world.sql(spoil);
        let error = judge(&world.runner(VIEW).run(), code, FaultClass::Permanent);
        assert!(
            error.message.contains("is the table mapa_refresh_stamp as") && !error.message.contains("spec.database"),
            "{error:?}"
        );
        world.sql(&format!("DROP TABLE radar.mapa_refresh_stamp; {}", world.schema()));
    }
    world.succeed(VIEW);
}

#[test]
fn two_equal_rows_are_reported_without_their_values() {
    let world = World::new();
    world.remake_view("SELECT id, causa FROM radar.interrupcao", "id");
    world.outage(1, 90, &format!(", causa = '{PERSONAL}'"));
    world.succeed(VIEW);
    world.outage(1, 90, &format!(", causa = '{PERSONAL}'"));
    let error = judge(&world.runner(VIEW).run(), "21000", FaultClass::Permanent);
    assert!(error.message.contains("several rows for one key"), "{error:?}");
    world.sql(
        "DELETE FROM radar.interrupcao; INSERT INTO radar.interrupcao (id, causa) VALUES (2, 'x'), (2, 'c4n4ry Joao')",
    );
    judge(&world.runner(VIEW).run(), "23505", FaultClass::Permanent);
}

#[test]
fn whatever_a_function_of_the_view_raises_is_not_quoted() {
    use FaultClass::{Permanent, Transient};
    let world = World::new();
    world.outage(1, 90, &format!(", causa = '{PERSONAL}'"));
    let with = |body: &str| {
        world.sql(&format!(
            "DROP MATERIALIZED VIEW IF EXISTS radar.mv_portal_publico; DROP FUNCTION IF EXISTS radar.tratar(text); \
             CREATE FUNCTION radar.tratar(t text) RETURNS text LANGUAGE plpgsql AS $f$ DECLARE r text; BEGIN {body}; RETURN t; END $f$"
        ));
        world.remake_view("SELECT id, radar.tratar(causa) AS causa FROM radar.interrupcao", "id");
    };
    for (body, code, class) in [
        ("RAISE EXCEPTION 'cliente %', t", "P0001", Permanent),
        (
            "RAISE EXCEPTION 'cliente %', t USING ERRCODE = '42501', HINT = t, DETAIL = t, COLUMN = t, TABLE = t",
            "42501",
            Permanent,
        ),
        (
            "RAISE EXCEPTION 'cliente %', t USING ERRCODE = '55000'",
            "55000",
            Transient,
        ),
        (
            "RAISE EXCEPTION 'cliente %', t USING ERRCODE = '40001'",
            "40001",
            Transient,
        ),
        (
            "RAISE EXCEPTION 'cliente %', t USING ERRCODE = '53300'",
            "53300",
            Transient,
        ),
        (
            "RAISE EXCEPTION 'cliente %', t USING ERRCODE = 'XX000'",
            "XX000",
            Transient,
        ),
        (
            "RAISE EXCEPTION 'cliente %', t USING ERRCODE = 'HV000'",
            "HV000",
            Transient,
        ),
        (
            "RAISE EXCEPTION 'cliente %', t USING ERRCODE = 'ZZ001'",
            "ZZ001",
            Transient,
        ),
        ("EXECUTE 'SELECT ' || quote_ident(t)", "42703", Permanent),
        ("EXECUTE 'SELECT 1 FROM ' || quote_ident(t)", "42P01", Permanent),
        ("EXECUTE t", "42601", Permanent),
        ("SELECT x INTO STRICT r FROM radar.que_nao_ha", "42P01", Permanent),
        ("ASSERT false, t", "P0004", Permanent),
    ] {
        with(body);
        let error = judge(&world.runner(VIEW).run(), code, class);
        if class == Permanent {
            assert!(
                error.message.contains("radar.tratar") && !error.message.contains("spec.database"),
                "{error:?}"
            );
        }
    }
    with("RAISE WARNING 'cliente %', t; RAISE NOTICE 'cliente %', t");
    let run = world.runner(VIEW).run();
    assert!(!run.stderr.contains("tel 95"), "{}", run.stderr);
    run.success();
}

#[test]
fn a_database_that_takes_no_connections_is_not_taken_for_a_view_without_data() {
    let world = World::new();
    let allow = |allowed: bool| {
        let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allowed}", world.database);
        world.postgres.sql("postgres", &sql);
    };
    allow(false);
    let error = judge(&world.runner(MAP).run(), "55000", FaultClass::Transient);
    assert!(
        error.message.contains("ALLOW_CONNECTIONS") && !error.message.contains("refresh-mv-portal"),
        "{error:?}"
    );
    allow(true);
    let error = judge(&world.runner(MAP).run(), "55000", FaultClass::Transient);
    assert!(error.message.contains("run refresh-mv-portal"), "{error:?}");
}

#[test]
fn ddl_that_does_not_fit_is_named_by_the_command_that_prints_it_and_never_cut() {
    let world = World::new();
    for length in [10, 30, 40, 55, 63] {
        let (schema, view) = ("s".repeat(length), "v".repeat(length));
        world.sql(&format!(
            "CREATE SCHEMA {schema}; CREATE MATERIALIZED VIEW {schema}.{view} AS SELECT 1 AS id WITH NO DATA; \
             CREATE TABLE {schema}.mapa_refresh_stamp (view_name text PRIMARY KEY, refreshed_at timestamptz NOT NULL); \
             GRANT USAGE, CREATE ON SCHEMA {schema} TO mapa_refresh; GRANT SELECT, INSERT, UPDATE ON {schema}.mapa_refresh_stamp TO mapa_refresh; \
             ALTER MATERIALIZED VIEW {schema}.{view} OWNER TO mapa_refresh"
        ));
        let name = format!("{schema}.{view}");
        let error = judge(
            &world.runner(VIEW).env("MAPA_DATABASE_VIEW", &name).run(),
            "55000",
            FaultClass::Permanent,
        );
        let ddl = match error.message.split_once("has to run: ") {
            Some((_, ddl)) => ddl.to_owned(),
            None => {
                let command = error.message.split('`').nth(1).unwrap();
                assert!(command.starts_with("job-runner schema --kind postgresql"), "{error:?}");
                let mut arguments: Vec<_> = command.split(' ').skip(1).collect();
                if !command.contains("--view") {
                    arguments.extend(["--role", "mapa_refresh", "--view", &name]);
                }
                let printed = Command::new(env!("CARGO_BIN_EXE_job-runner"))
                    .args(arguments)
                    .output()
                    .unwrap();
                String::from_utf8(printed.stdout).unwrap()
            }
        };
        world.sql(&ddl);
        let done = world.runner(VIEW).env("MAPA_DATABASE_VIEW", &name).run().success();
        assert_eq!(done.records, 1, "{ddl}");
    }
}
