//! Stores that are down, hang or refuse; signals; deadlines.

use std::{io::Write, sync::Arc, time::Duration};

use mapa_refresh_crds::report::FaultClass;
use redis::Commands;

use crate::{
    servers::{Postgres, free_port, wait_until},
    world::{CACHE_PASSWORD, World},
};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";

/// A run may take so much longer than its limits.
const GRACE: Duration = Duration::from_secs(5);

/// A view whose refresh takes a minute.
fn slow_view(world: &World) {
    world.outage(1, 90, "");
    world.succeed(VIEW);
    world.sql("DROP MATERIALIZED VIEW radar.mv_portal_publico; CREATE MATERIALIZED VIEW radar.mv_portal_publico AS SELECT *, pg_sleep(60)::text AS x FROM radar.interrupcao WITH NO DATA; CREATE UNIQUE INDEX ON radar.mv_portal_publico (linha); ALTER MATERIALIZED VIEW radar.mv_portal_publico OWNER TO mapa_refresh");
}

/// The sessions of runs that refresh.
const REFRESHING: &str = "FROM pg_stat_activity WHERE usename = 'mapa_refresh' AND datname = current_database() AND state = 'active' AND query LIKE 'REFRESH%'";

fn is_refreshing(world: &World) -> bool {
    world.sql(&format!("SELECT count(*) {REFRESHING}")) != "0"
}

#[test]
fn f32_a_database_that_is_down_is_tried_again_as_the_policy_says() {
    let world = World::new();
    let dead = format!("postgres://127.0.0.1:{}/x", free_port());
    world.secret("database", &[("url", &dead), ("username", "u"), ("password", "p")]);
    let run = world
        .runner(VIEW)
        .env("MAPA_MAX_RETRIES", "2")
        .env("MAPA_RETRY_DELAY_SECONDS", "1")
        .run();
    let error = run.failure(1);
    assert_eq!((error.class, error.code.as_str()), (FaultClass::Transient, "08001"));
    assert_eq!(run.report.retries(), 2);
    assert!(
        run.report
            .attempts
            .iter()
            .all(|attempt| attempt.code.as_deref() == Some("08001"))
    );
    assert!(run.took >= Duration::from_secs(2));
}

#[test]
fn f32_a_wrong_password_is_tried_once() {
    let postgres = Arc::new(Postgres::start());
    let world = World::on(Arc::clone(&postgres));
    let url = format!("postgres://127.0.0.1:{}/{}", postgres.port(), world.database);
    world.secret(
        "database",
        &[
            ("url", &url),
            ("username", "mapa_refresh"),
            ("password", "c4n4ry-wrong"),
        ],
    );
    for task in [VIEW, MAP] {
        let run = world
            .runner(task)
            .env("MAPA_MAX_RETRIES", "3")
            .env("MAPA_RETRY_DELAY_SECONDS", "0")
            .run();
        let error = run.failure(2);
        assert_eq!(
            (error.code.as_str(), run.report.attempts.len()),
            ("CredentialsRejected", 1),
            "{error:?}"
        );
        assert!(error.message.contains("password authentication failed"), "{error:?}");
    }
    assert_eq!(
        postgres.log().matches("password authentication failed").count(),
        2,
        "one per run"
    );
}

#[test]
fn f32_a_server_that_hangs_costs_at_most_the_deadline_and_five_seconds() {
    let postgres = Arc::new(Postgres::start());
    let world = World::on(Arc::clone(&postgres));
    world.outage(1, 90, "");
    world.succeed(VIEW);
    postgres.stall(true);
    let run = world
        .runner(MAP)
        .env("MAPA_ATTEMPT_TIMEOUT_SECONDS", "2")
        .env("MAPA_RUN_BUDGET_SECONDS", "3")
        .run();
    let fault = run.failure(1);
    assert_eq!(fault.code, "AttemptTimeout");
    assert!(
        fault.message.contains("while connecting to the database at "),
        "{fault:?}"
    );
    assert!(run.took < Duration::from_secs(3) + GRACE, "{:?}", run.took);

    let running = world.runner(MAP).start();
    running.terminate();
    let run = running.finish();
    assert!(run.took < GRACE, "{:?}", run.took);
    postgres.stall(false);
}

#[test]
fn f32_a_server_that_hangs_in_the_middle_of_a_statement_does_not_hold_the_runner() {
    let postgres = Arc::new(Postgres::start());
    let world = World::on(Arc::clone(&postgres));
    slow_view(&world);
    let running = world.runner(VIEW).start();
    wait_until("the view is being refreshed", || is_refreshing(&world));
    postgres.stall(true);
    let began = std::time::Instant::now();
    running.terminate();
    let run = running.finish();
    assert!(began.elapsed() < GRACE, "{:?}", began.elapsed());
    assert_eq!(run.failure(1).code, "Terminated");
    postgres.stall(false);
}

#[test]
fn f32_a_database_that_dies_in_the_middle_of_a_refresh_keeps_the_old_view_and_is_tried_again() {
    let world = World::new();
    slow_view(&world);
    let before = world.stamp();
    let running = world
        .runner(VIEW)
        .env("MAPA_MAX_RETRIES", "1")
        .env("MAPA_RETRY_DELAY_SECONDS", "0")
        .start();
    let mut session = "0".to_owned();
    for attempt in 1..=2 {
        wait_until(&format!("attempt {attempt} refreshes"), || {
            let other = world.sql(&format!("SELECT max(pid) {REFRESHING} AND pid <> {session}"));
            let is_there = !other.is_empty();
            if is_there {
                session = other;
            }
            is_there
        });
        world.sql(&format!("SELECT pg_terminate_backend({session})"));
    }
    let run = running.finish();
    let error = run.failure(1);
    // What PostgreSQL says when an administrator ends a session.
    assert_eq!((error.class, error.code.as_str()), (FaultClass::Transient, "57P01"));
    assert_eq!(run.report.attempts.len(), 2);
    assert_eq!(world.stamp(), before);
}

#[test]
fn sigterm_stops_the_statement_in_the_database_and_leaves_a_report() {
    let world = World::new();
    slow_view(&world);
    let before = world.stamp();
    let running = world.runner(VIEW).start();
    wait_until("the view is being refreshed", || is_refreshing(&world));
    let began = std::time::Instant::now();
    running.terminate();
    let run = running.finish();
    assert!(began.elapsed() < GRACE);
    let error = run.failure(1);
    assert_eq!(
        (error.class, error.code.as_str()),
        (FaultClass::Transient, "Terminated")
    );
    assert_eq!(run.report.attempts.len(), 1);
    wait_until("the statement ends", || !is_refreshing(&world));
    assert_eq!(world.stamp(), before);
}

#[test]
fn an_attempt_that_takes_too_long_is_stopped_and_tried_again() {
    let world = World::new();
    slow_view(&world);
    let run = world
        .runner(VIEW)
        .env("MAPA_ATTEMPT_TIMEOUT_SECONDS", "1")
        .env("MAPA_MAX_RETRIES", "1")
        .env("MAPA_RETRY_DELAY_SECONDS", "0")
        .run();
    let fault = run.failure(1);
    assert_eq!(fault.code, "AttemptTimeout");
    assert!(fault.message.contains("while refreshing the view "), "{fault:?}");
    assert_eq!(run.report.attempts.len(), 2);
    wait_until("the statement ends", || !is_refreshing(&world));
}

#[test]
fn lesson_06_a_retry_that_cannot_end_before_the_deadline_is_not_begun_and_that_is_said() {
    let world = World::new();
    let dead = format!("postgres://127.0.0.1:{}/x", free_port());
    world.secret("database", &[("url", &dead), ("username", "u"), ("password", "p")]);
    let run = world
        .runner(VIEW)
        .env("MAPA_MAX_RETRIES", "3")
        .env("MAPA_RETRY_DELAY_SECONDS", "60")
        .env("MAPA_RUN_BUDGET_SECONDS", "30")
        .run();
    let error = run.failure(1);
    assert!(error.message.contains("not tried again"), "{error:?}");
    assert!(run.took < Duration::from_secs(5));
}

#[test]
fn f33_whatever_the_caches_fault_what_was_published_stays() {
    let world = World::new();
    world.outage(1, 90, "");
    world.succeed(VIEW);
    world.succeed(MAP);
    let before = world.document("mapa:interrupcoes");
    world.succeed(VIEW);
    let mut cache = world.cache();
    let mut config = |arguments: &[&str]| redis::cmd("CONFIG").arg("SET").arg(arguments).exec(&mut cache).unwrap();

    config(&["maxmemory", "1", "maxmemory-policy", "noeviction"]);
    let full = world.runner(MAP).run().failure(1);
    assert_eq!(
        (full.class, full.code.as_str()),
        (FaultClass::Transient, "OOM"),
        "{full:?}"
    );
    config(&["maxmemory", "0"]);

    config(&["min-replicas-to-write", "1"]);
    assert_eq!(world.runner(MAP).run().failure(1).code, "NOREPLICAS");
    config(&["min-replicas-to-write", "0"]);

    redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(free_port())
        .exec(&mut cache)
        .unwrap();
    let replica = world.runner(MAP).run().failure(1);
    assert_eq!(
        (replica.class, replica.code.as_str()),
        (FaultClass::Transient, "READONLY"),
        "{replica:?}"
    );
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut cache).unwrap();

    world.redis.stall(true);
    let hung = world.runner(MAP).env("MAPA_ATTEMPT_TIMEOUT_SECONDS", "2").run();
    let fault = hung.failure(1);
    assert_eq!(fault.code, "AttemptTimeout");
    assert!(fault.message.ends_with("while publishing to the cache"), "{fault:?}");
    assert!(hung.took < Duration::from_secs(2) + GRACE);
    world.redis.stall(false);

    let url = format!("redis://127.0.0.1:{}", world.redis.port());
    for keys in [
        &[("url", url.as_str()), ("password", "c4n4ry-wrong")][..],
        &[("url", url.as_str())][..],
    ] {
        world.secret("cache", keys);
        let run = world.runner(MAP).env("MAPA_MAX_RETRIES", "3").run();
        assert_eq!(
            (run.failure(2).code.as_str(), run.report.attempts.len()),
            ("CredentialsRejected", 1),
            "{run:?}"
        );
    }
    world.secret(
        "cache",
        &[
            ("url", &format!("redis://127.0.0.1:{}", free_port())),
            ("password", CACHE_PASSWORD),
        ],
    );
    let gone = world.runner(MAP).run().failure(1);
    assert_eq!(
        (gone.class, gone.code.as_str()),
        (FaultClass::Transient, "CacheUnreachable")
    );

    assert_eq!(world.document("mapa:interrupcoes"), before);
}

#[test]
fn f33_a_cache_that_restarts_is_waited_for_and_has_lost_nothing() {
    let mut world = World::new();
    world.outage(1, 90, "");
    world.succeed(VIEW);
    world.succeed(MAP);
    let before = world.document("mapa:interrupcoes");
    let mut cache = world.cache();
    // Enough to load for some seconds, at a millisecond each.
    let mut filling = redis::pipe();
    for n in 0..4_000 {
        filling.set(format!("filling:{n}"), n).ignore();
    }
    filling.exec(&mut cache).unwrap();
    redis::cmd("SAVE").exec(&mut cache).unwrap();
    let slow = [
        "--key-load-delay",
        "1000",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    world.restart_cache(&slow);

    let loading = world.runner(MAP).run().failure(1);
    assert_eq!(
        (loading.class, loading.code.as_str()),
        (FaultClass::Transient, "LOADING"),
        "{loading:?}"
    );
    let run = world
        .runner(MAP)
        .env("MAPA_MAX_RETRIES", "10")
        .env("MAPA_RETRY_DELAY_SECONDS", "1")
        .run();
    assert_eq!(run.report.attempts[0].code.as_deref(), Some("LOADING"), "{run:?}");
    run.success();
    let published = |document: Option<serde_json::Value>| document.map(|document| document["interrupcoes"].clone());
    assert_eq!(published(world.document("mapa:interrupcoes")), published(before));
    let publications: usize = world.cache().llen("{mapa:interrupcoes}:log").unwrap();
    assert_eq!(publications, 2, "what was published before the restart is remembered");
}

#[test]
fn f33_a_slow_cache_is_waited_for_within_the_attempt() {
    let world = World::new();
    world.outage(1, 90, "");
    world.succeed(VIEW);
    world.succeed(MAP);
    let before = world.document("mapa:interrupcoes");
    let pause = |milliseconds: u32| {
        redis::cmd("CLIENT")
            .arg("PAUSE")
            .arg(milliseconds)
            .arg("WRITE")
            .exec(&mut world.cache())
            .unwrap()
    };
    pause(2_500);
    let too_slow = world.runner(MAP).env("MAPA_ATTEMPT_TIMEOUT_SECONDS", "1").run();
    assert_eq!(too_slow.failure(1).code, "AttemptTimeout");
    assert_eq!(world.document("mapa:interrupcoes"), before);
    pause(1_000);
    let slow = world.runner(MAP).run();
    assert!(slow.took >= Duration::from_millis(800), "{:?}", slow.took);
    slow.success();
}

#[test]
fn a_user_without_permission_is_told_what_is_needed() {
    let world = World::new();
    world.succeed(VIEW);
    let mut cache = world.cache();
    redis::cmd("ACL")
        .arg(&["SETUSER", "mapa", "on", &format!(">{CACHE_PASSWORD}"), "+@read", "~*"])
        .exec(&mut cache)
        .unwrap();
    let url = format!("redis://127.0.0.1:{}", world.redis.port());
    world.secret(
        "cache",
        &[("url", &url), ("username", "mapa"), ("password", CACHE_PASSWORD)],
    );
    let error = world.runner(MAP).run().failure(2);
    assert_eq!(error.code, "NOPERM");
    assert!(
        error.message.contains("grant +set;") && error.message.contains("+eval"),
        "{error:?}"
    );

    // More than the message asks for serves, too; a channel that is not allowed costs only the event.
    redis::cmd("ACL")
        .arg(&["SETUSER", "mapa", "+@all", "-@dangerous", "resetchannels"])
        .exec(&mut cache)
        .unwrap();
    world.succeed(MAP);
    assert!(cache.exists::<_, bool>("mapa:interrupcoes").unwrap());
}

#[test]
fn a_termination_message_that_cannot_be_written_is_said_and_changes_nothing_else() {
    let world = World::new();
    let run = world
        .runner(VIEW)
        .termination(std::path::Path::new("/nao/existe/termination-log"))
        .output();
    assert_eq!(run.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&run.stderr).contains("/nao/existe/termination-log is not written"));
    let line = String::from_utf8(run.stdout).unwrap();
    assert!(mapa_refresh_crds::RunReport::decode(line.trim_end()).is_ok(), "{line}");
}

#[test]
fn documents_and_stamps_from_the_future_are_never_called_fresh() {
    let world = World::new();
    world.outage(1, 90, "");
    for task in [VIEW, MAP, "calcular-estatisticas"] {
        world.succeed(task);
    }
    let future = world.stamp() + 600_000_000;
    world.set_generation("mapa:interrupcoes", future);
    for task in [MAP, "health-check"] {
        let error = world.runner(task).run().failure(1);
        assert_eq!(error.code, "ClockSetBack");
        assert!(error.message.contains("HDEL of generation"), "{error:?}");
    }
    let mut cache = world.cache();
    cache
        .hdel::<_, _, ()>("{mapa:interrupcoes}:meta", "generation")
        .unwrap();
    for task in [MAP, "health-check"] {
        world.succeed(task);
    }
    world.sql("UPDATE radar.mapa_refresh_stamp SET refreshed_at = now() + interval '10 min'");
    for task in [MAP, "health-check"] {
        assert_eq!(world.runner(task).run().failure(1).code, "ClockSetBack");
    }
}

#[test]
fn f32_a_replica_is_a_passing_fault_and_its_promotion_is_met_by_a_retry() {
    let primary = Arc::new(Postgres::start());
    let world = World::on(Arc::clone(&primary));
    world.outage(1, 90, "");
    world.succeed(VIEW);
    let before = world.stamp();
    let replica = primary.standby();
    world.use_database(replica.port(), &world.database);

    let error = world.runner(VIEW).run().failure(1);
    assert_eq!((error.class, error.code.as_str()), (FaultClass::Transient, "0A000"));
    assert!(
        error.message.contains("a replica, or a failover under way"),
        "{error:?}"
    );
    assert_eq!(
        world.succeed(MAP).records,
        1,
        "a replica can be read, and has the stamp"
    );

    let waiting = world
        .runner(VIEW)
        .env("MAPA_MAX_RETRIES", "1")
        .env("MAPA_RETRY_DELAY_SECONDS", "3")
        .start();
    wait_until("the runner has met the replica", || {
        replica.log().matches("during recovery").count() >= 2
    });
    drop(primary);
    replica.sql("postgres", "SELECT pg_promote()");
    let run = waiting.finish();
    assert_eq!(run.report.attempts.len(), 2, "{run:?}");
    let done = run.success();
    assert_eq!(done.kind, mapa_refresh_crds::report::SuccessKind::Refreshed);
    assert!(crate::world::generation(&done) > before);
}

#[test]
fn f32_a_server_that_takes_no_writes_or_another_ones_lock_passes() {
    let world = World::new();
    world.outage(1, 90, "");
    world.succeed(VIEW);
    // A trigger stands for what refuses a write in the middle: a server that becomes a replica.
    world.sql(
        "CREATE FUNCTION radar.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('transaction_read_only', 'on', true); \
         CREATE TABLE radar.x (); RETURN NEW; END $$; CREATE TRIGGER refuse BEFORE INSERT ON radar.mapa_refresh_stamp EXECUTE FUNCTION radar.refuse()",
    );
    let error = world.runner(VIEW).run().failure(1);
    assert_eq!(
        (error.class, error.code.as_str()),
        (FaultClass::Transient, "25006"),
        "{error:?}"
    );
    assert!(
        error.message.contains("a replica, or a failover under way"),
        "{error:?}"
    );
    world.sql("DROP TRIGGER refuse ON radar.mapa_refresh_stamp");
    world.sql(&format!(
        "ALTER ROLE mapa_refresh IN DATABASE {} SET default_transaction_read_only = on",
        world.database
    ));
    world.succeed(VIEW);
    world.sql(&format!(
        "ALTER ROLE mapa_refresh IN DATABASE {} SET lock_timeout = '100ms'",
        world.database
    ));
    let mut other = world.postgres.psql(&world.database);
    let mut other = other
        .arg("-c")
        .arg("BEGIN; LOCK TABLE radar.interrupcao; SELECT pg_sleep(30)")
        .spawn()
        .unwrap();
    wait_until("the other session has its lock", || {
        world.sql("SELECT count(*) FROM pg_locks WHERE relation = 'radar.interrupcao'::regclass AND granted") != "0"
    });
    let error = world.runner(VIEW).run().failure(1);
    assert_eq!(
        (error.class, error.code.as_str()),
        (FaultClass::Transient, "55P03"),
        "{error:?}"
    );
    assert!(error.message.contains("lock_timeout"), "{error:?}");
    let _ = other.kill();
    let _ = other.wait();
    world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%' AND datname = current_database() AND pid <> pg_backend_pid()");
}

#[test]
fn f32_a_view_that_is_emptied_in_the_middle_of_a_run_is_filled_by_its_retry() {
    let world = World::new();
    world.outage(1, 90, "");
    world.succeed(VIEW);
    let mut other = world
        .postgres
        .psql(&world.database)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut statements = other.stdin.take().unwrap();
    writeln!(statements, "BEGIN; LOCK TABLE radar.mapa_refresh_stamp IN SHARE MODE;").unwrap();
    let locks = |granted: bool| {
        world.sql(&format!(
            "SELECT count(*) FROM pg_locks WHERE relation = 'radar.mapa_refresh_stamp'::regclass AND mode = '{}' AND granted = {granted}",
            if granted { "ShareLock" } else { "RowExclusiveLock" }
        )) != "0"
    };
    wait_until("the other session has its lock", || locks(true));
    let waiting = world
        .runner(VIEW)
        .env("MAPA_MAX_RETRIES", "1")
        .env("MAPA_RETRY_DELAY_SECONDS", "0")
        .start();
    wait_until("the runner wants to record its stamp", || locks(false));
    writeln!(
        statements,
        "REFRESH MATERIALIZED VIEW radar.mv_portal_publico WITH NO DATA; COMMIT;"
    )
    .unwrap();
    drop(statements);
    other.wait().unwrap();
    let run = waiting.finish();
    assert_eq!(run.report.attempts.len(), 2, "{run:?}");
    assert!(run.stderr.contains("was emptied meanwhile"), "{}", run.stderr);
    assert_eq!(run.success().records, 1);
}
