//! Several hosts, silent ones, and poolers: what a connection makes of each, and how often it tries.

use std::{sync::Arc, time::Duration};

use mapa_refresh_crds::report::FaultClass;

use crate::{
    servers::{PgBouncer, Postgres, Silent, free_port},
    world::{CACHE_PASSWORD, DATABASE_PASSWORD, Run, World},
};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";

/// A run with the database's Secret for `hosts`, with retries that a permanent fault must not use.
fn run(world: &World, hosts: &str, rest: &str, user: &str, password: &str) -> Run {
    let url = format!("postgres://{hosts}/{rest}");
    world.secret("database", &[("url", &url), ("username", user), ("password", password)]);
    world
        .runner(VIEW)
        .env("MAPA_MAX_RETRIES", "2")
        .env("MAPA_RETRY_DELAY_SECONDS", "0")
        .env("MAPA_ATTEMPT_TIMEOUT_SECONDS", "8")
        .run()
}

#[test]
fn a_silent_first_host_leaves_time_for_the_second_and_each_is_named() {
    let world = World::new();
    let (silent, dead) = (Silent::start(), free_port());
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", silent.port(), world.postgres.port());
    let reached = run(&world, &hosts, &world.database, "mapa_refresh", DATABASE_PASSWORD);
    assert_eq!((reached.code(), reached.report.attempts.len()), (0, 1), "{reached:?}");
    assert!(reached.took < Duration::from_secs(8), "{:?}", reached.took);

    let hosts = format!("127.0.0.1:{},127.0.0.1:{dead}", silent.port());
    let error = run(&world, &hosts, "d", "u", DATABASE_PASSWORD).failure(1);
    assert_eq!((error.class, error.code.as_str()), (FaultClass::Transient, "08001"));
    for said in [
        format!("127.0.0.1:{}: no answer within 4 s", silent.port()),
        format!("127.0.0.1:{dead}: Connection refused"),
    ] {
        assert!(error.message.contains(&said), "{said}: {error:?}");
    }
}

#[test]
fn a_host_that_takes_no_writes_is_passed_over_where_the_url_asks_for_one_that_does() {
    let world = World::new();
    let replica = Postgres::start();
    replica.sql(
        "postgres",
        &format!("CREATE ROLE mapa_refresh LOGIN PASSWORD '{DATABASE_PASSWORD}'"),
    );
    replica.sql("postgres", &format!("CREATE DATABASE {}", world.database));
    replica.sql("postgres", "ALTER SYSTEM SET default_transaction_read_only = on");
    replica.sql("postgres", "SELECT pg_reload_conf()");
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", replica.port(), world.postgres.port());
    for attributes in ["read-write", "primary"] {
        let rest = format!("{}?target_session_attrs={attributes}", world.database);
        let reached = run(&world, &hosts, &rest, "mapa_refresh", DATABASE_PASSWORD);
        assert_eq!((reached.code(), reached.report.attempts.len()), (0, 1), "{reached:?}");
    }
    let hosts = format!("127.0.0.1:{}", replica.port());
    let rest = format!("{}?target_session_attrs=primary", world.database);
    let error = run(&world, &hosts, &rest, "mapa_refresh", DATABASE_PASSWORD).failure(1);
    assert!(error.message.contains("target_session_attrs"), "{error:?}");
}

#[test]
fn f32_refused_credentials_are_tried_at_one_host_only() {
    let postgres = Arc::new(Postgres::start());
    let world = World::on(Arc::clone(&postgres));
    let port = postgres.port();
    let hosts = format!("127.0.0.1:{port},127.0.0.1:{port}");
    let refused = run(&world, &hosts, &world.database, "mapa_refresh", " c4n4ry-wrong");
    let error = refused.failure(2);
    assert_eq!(error.code, "CredentialsRejected", "{error:?}");
    assert!(error.message.contains("begins or ends with a blank"), "{error:?}");
    assert_eq!(postgres.log().matches("password authentication failed").count(), 1);
}

#[test]
fn f32_a_poolers_refusal_is_told_from_a_server_that_it_cannot_reach() {
    let world = World::new();
    let pooler = PgBouncer::start(
        &world.database,
        world.postgres.port(),
        "mapa_refresh",
        DATABASE_PASSWORD,
    );
    let hosts = format!("127.0.0.1:{}", pooler.port());
    let served = run(&world, &hosts, &world.database, "mapa_refresh", DATABASE_PASSWORD);
    assert_eq!(served.code(), 0, "{served:?}");

    for (database, user, password, code) in [
        (
            world.database.as_str(),
            "mapa_refresh",
            "c4n4ry-wrong",
            "CredentialsRejected",
        ),
        (&world.database, "stranger", "c4n4ry-wrong", "CredentialsRejected"),
        ("elsewhere", "mapa_refresh", DATABASE_PASSWORD, "3D000"),
    ] {
        let refused = run(&world, &hosts, database, user, password);
        let error = refused.failure(2);
        assert_eq!(
            (error.code.as_str(), refused.report.attempts.len()),
            (code, 1),
            "{error:?}"
        );
    }

    // The pooler's own login to the database is refused: so is ours, and the account is the same.
    let wrong = PgBouncer::start(&world.database, world.postgres.port(), "mapa_refresh", "c4n4ry-old");
    let hosts = format!("127.0.0.1:{}", wrong.port());
    let refused = run(&world, &hosts, &world.database, "mapa_refresh", "c4n4ry-old");
    let error = refused.failure(2);
    assert_eq!(
        (error.code.as_str(), refused.report.attempts.len()),
        ("CredentialsRejected", 1),
        "{error:?}"
    );

    let lost = PgBouncer::start(&world.database, free_port(), "mapa_refresh", DATABASE_PASSWORD);
    let hosts = format!("127.0.0.1:{}", lost.port());
    let unreached = run(&world, &hosts, &world.database, "mapa_refresh", DATABASE_PASSWORD);
    let error = unreached.failure(1);
    assert_eq!(error.class, FaultClass::Transient, "{error:?}");
    assert_eq!(unreached.report.attempts.len(), 3, "{error:?}");
}

#[test]
fn a_silent_cache_names_its_address_and_keeps_its_share_of_the_time() {
    let world = World::new();
    world.succeed(VIEW);
    let silent = Silent::start();
    let url = format!("redis://127.0.0.1:{}", silent.port());
    world.secret("cache", &[("url", &url), ("password", CACHE_PASSWORD)]);
    let run = world.runner(MAP).run();
    let error = run.failure(1);
    assert_eq!(
        (error.class, error.code.as_str()),
        (FaultClass::Transient, "CacheUnreachable")
    );
    assert!(
        error.message.contains(&format!(
            "connecting to 127.0.0.1:{}: no answer within 10 s",
            silent.port()
        )),
        "{error:?}"
    );
}
