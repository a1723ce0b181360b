//! refresh-mv-portal.

use std::{
    io::Write,
    process::{Child, ChildStdin, Stdio},
};

use mapa_refresh_crds::report::SuccessKind;

use crate::{
    servers::wait_until,
    world::{World, generation, slot},
};

const TASK: &str = "refresh-mv-portal";

#[test]
fn a_refresh_fills_the_view_and_each_one_advances_the_stamp() {
    let world = World::new();
    world.outage(1, 90, "");
    let first = world.succeed(TASK);
    assert_eq!((first.kind, first.records), (SuccessKind::Refreshed, 1));
    assert_eq!(generation(&first), world.stamp());
    assert!((0.0..5.0).contains(&first.age_seconds));
    world.outage(2, 30, "");
    let second = world.succeed(TASK);
    assert_eq!((second.kind, second.records), (SuccessKind::Refreshed, 2));
    assert!(generation(&second) > generation(&first));
}

#[test]
fn a_slot_that_has_its_refresh_needs_no_other() {
    let world = World::new();
    let first = world.runner(TASK).job(TASK, 1).run().success();
    let again = world.runner(TASK).job(TASK, 1).run().success();
    assert_eq!(
        (first.kind, again.kind),
        (SuccessKind::Refreshed, SuccessKind::AlreadyFresh)
    );
    assert_eq!(generation(&again), generation(&first));
    world.sql("UPDATE radar.mapa_refresh_stamp SET refreshed_at = now() - interval '10 min'");
    assert_eq!(
        world.runner(TASK).job(TASK, 1).run().success().kind,
        SuccessKind::Refreshed,
        "the stamp is before the slot"
    );
}

/// A session that has the view's lock, in a transaction that is open; what is written to it is executed.
fn lock_holder(world: &World) -> (Child, ChildStdin) {
    let mut other = world
        .postgres
        .psql(&world.database)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut statements = other.stdin.take().unwrap();
    let key = world.sql("SELECT (1835102305::bigint << 32) + 'radar.mv_portal_publico'::regclass::oid::bigint");
    writeln!(statements, "BEGIN; SELECT pg_advisory_xact_lock({key});").unwrap();
    wait_until("the other session has the lock", || {
        world.sql("SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE datname = current_database() AND locktype = 'advisory' AND granted") != "0"
    });
    (other, statements)
}

#[test]
fn lesson_11_while_another_session_refreshes_the_runner_waits_for_its_stamp() {
    let world = World::new();
    world.succeed(TASK);
    let before = world.stamp();
    let (mut other, mut statements) = lock_holder(&world);

    let waiting = world.runner(TASK).start();
    world.wait_for_look_at_stamp();
    writeln!(
        statements,
        "UPDATE radar.mapa_refresh_stamp SET refreshed_at = transaction_timestamp(); COMMIT;"
    )
    .unwrap();
    drop(statements);
    other.wait().unwrap();
    let done = waiting.finish().success();
    assert_eq!(done.kind, SuccessKind::AlreadyFresh);
    assert!(generation(&done) > before);
}

#[test]
fn lesson_11_when_the_other_session_fails_the_runner_does_its_work() {
    let world = World::new();
    world.succeed(TASK);
    let before = world.stamp();
    let (mut other, mut statements) = lock_holder(&world);
    let waiting = world.runner(TASK).start();
    world.wait_for_look_at_stamp();
    writeln!(statements, "ROLLBACK;").unwrap();
    drop(statements);
    other.wait().unwrap();
    let done = waiting.finish().success();
    assert_eq!(done.kind, SuccessKind::Refreshed);
    assert!(generation(&done) > before);
}

#[test]
fn lesson_11_of_several_runs_of_one_slot_exactly_one_refreshes() {
    let world = World::new();
    let runs: Vec<_> = (0..4).map(|_| world.runner(TASK).job(TASK, 1).start()).collect();
    let kinds: Vec<_> = runs.into_iter().map(|run| run.finish().success().kind).collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == SuccessKind::Refreshed).count(),
        1,
        "{kinds:?}"
    );
    assert_eq!(
        kinds.iter().filter(|kind| **kind == SuccessKind::AlreadyFresh).count(),
        3,
        "{kinds:?}"
    );
}

#[test]
fn what_an_administrator_has_to_create_is_in_the_message_and_mends_it() {
    let spoilt = [
        (
            "DROP INDEX radar.mv_portal_publico_unico",
            "55000",
            "CREATE UNIQUE INDEX",
        ),
        (
            "ALTER MATERIALIZED VIEW radar.mv_portal_publico OWNER TO postgres",
            "42501",
            "ALTER MATERIALIZED VIEW",
        ),
        ("DROP TABLE radar.mapa_refresh_stamp", "42P01", "CREATE TABLE"),
    ];
    let world = World::new();
    world.outage(1, 90, "");
    for (spoil, code, ddl) in spoilt {
        world.sql(spoil);
        let run = world.runner(TASK).env("MAPA_MAX_RETRIES", "3").run();
        let error = run.failure(2);
        assert_eq!((error.code.as_str(), run.report.attempts.len()), (code, 1), "{error:?}");
        let (_, remedy) = error.message.split_once("an administrator has to run: ").unwrap();
        assert!(remedy.starts_with(ddl), "{remedy}");
        world.sql(remedy);
        assert_eq!(world.succeed(TASK).kind, SuccessKind::Refreshed);
    }
}

#[test]
fn a_view_that_is_not_there_or_is_none_is_named() {
    let world = World::new();
    let absent = world
        .runner(TASK)
        .env("MAPA_DATABASE_VIEW", "RADAR.MV_OUTRA")
        .run()
        .failure(2);
    assert_eq!(absent.code, "42P01");
    assert!(
        absent.message.contains("RADAR.MV_OUTRA") && absent.message.contains("spec.database.view"),
        "{absent:?}"
    );
    let table = world
        .runner(TASK)
        .env("MAPA_DATABASE_VIEW", "radar.interrupcao")
        .run()
        .failure(2);
    assert!(table.message.contains("is no materialized view"), "{table:?}");
}

#[test]
fn a_view_whose_own_query_fails_stays_as_it_was() {
    let world = World::new();
    world.outage(1, 90, "");
    world.succeed(TASK);
    let before = world.stamp();
    world.sql("DROP MATERIALIZED VIEW radar.mv_portal_publico; CREATE MATERIALIZED VIEW radar.mv_portal_publico AS SELECT *, 1 / (ucs_afetadas - 10) AS x FROM radar.interrupcao WITH NO DATA; CREATE UNIQUE INDEX ON radar.mv_portal_publico (linha); ALTER MATERIALIZED VIEW radar.mv_portal_publico OWNER TO mapa_refresh");
    let error = world.runner(TASK).run().failure(2);
    assert_eq!(error.code, "22012", "{error:?}");
    assert_eq!(world.stamp(), before, "refresh and stamp are one transaction");
}

#[test]
fn a_stamp_from_the_future_does_not_stop_the_refreshes() {
    let world = World::new();
    world.succeed(TASK);
    for job in ["by-hand".to_owned(), format!("roraima-{TASK}-{}", slot(1))] {
        world.sql("UPDATE radar.mapa_refresh_stamp SET refreshed_at = now() + interval '1 h'");
        let done = world.runner(TASK).env("MAPA_JOB_NAME", &job).run().success();
        assert_eq!(done.kind, SuccessKind::Refreshed);
        assert!(generation(&done) / 60_000_000 <= slot(0).parse::<i64>().unwrap());
    }
}
