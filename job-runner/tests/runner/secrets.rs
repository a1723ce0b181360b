//! Secrets and settings that can't be used: one line that says which, and what it should be; exit 2, and never a password.

use crate::world::{CACHE_PASSWORD, DATABASE_PASSWORD, Run, World};

const MAP: &str = "refresh-mapa-cache";

/// Keys of a Secret, and what the message says.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

fn incomplete(world: &World, task: &str, code: &str, said: &[&str]) -> Run {
    let run = world.runner(task).env("MAPA_MAX_RETRIES", "3").run();
    let error = run.failure(2);
    assert_eq!((error.code.as_str(), run.report.attempts.len()), (code, 1), "{error:?}");
    for words in said {
        assert!(error.message.contains(words), "{words:?} is not in {:?}", error.message);
    }
    run
}

#[test]
fn a_database_secret_that_cannot_be_used_is_named_with_its_key() {
    let world = World::new();
    let url = format!("postgres://127.0.0.1:{}/{}", world.postgres.port(), world.database);
    let with_password = |rest: &str| format!("postgres://mapa_refresh:{DATABASE_PASSWORD}@{rest}");
    let (no_port, bad_option, bad_mode) = (
        with_password("127.0.0.1:x/db"),
        with_password("127.0.0.1/db?sslrootcert=/x"),
        with_password("127.0.0.1/db?sslmode=maybe"),
    );
    let cases: [Case<'_>; 12] = [
        (&[], &["the database's Secret", "spec.database.secretRef"]),
        (
            &[("username", "u"), ("password", "p")],
            &["key url is missing", "postgres://host:5432/database"],
        ),
        (&[("url", &url), ("password", "p")], &["key username is missing"]),
        (&[("url", &url), ("username", "u")], &["key password is missing"]),
        (
            &[
                ("url", "oracle://db:1521/RADAR"),
                ("username", "u"),
                ("password", DATABASE_PASSWORD),
            ],
            &["key url", "spec.database.kind is postgresql"],
        ),
        (&[("url", &no_port)], &["key url has a malformed port"]),
        (&[("url", &bad_option)], &["key url is malformed", "sslrootcert"]),
        (&[("url", &bad_mode)], &["unknown sslmode"]),
        (
            &[
                ("url", &url),
                ("username", "u"),
                ("password", "p"),
                ("ca.crt", "not PEM"),
            ],
            &["key ca.crt", "PEM"],
        ),
        (
            &[("url", &url), ("username", "u"), ("password", "p"), ("ca.crt", "\n")],
            &["key ca.crt is empty"],
        ),
        (
            &[("url", &url), ("username", "u"), ("password", "p"), ("tls.crt", "x")],
            &["key tls.key is missing"],
        ),
        (&[("url", "postgres://::1:5432/d")], &["key url", "[::1]:5432"]),
    ];
    for (keys, said) in cases {
        world.secret("database", keys);
        incomplete(&world, "refresh-mv-portal", "SecretIncomplete", said);
    }
}

#[test]
fn a_cache_secret_that_cannot_be_used_is_named_with_its_key() {
    let world = World::new();
    world.succeed("refresh-mv-portal");
    let (scheme, port) = (
        format!("http://:{CACHE_PASSWORD}@127.0.0.1"),
        format!("redis://:{CACHE_PASSWORD}@127.0.0.1:x"),
    );
    let cases: [Case<'_>; 5] = [
        (&[], &["the cache's Secret", "spec.cache.secretRef"]),
        (
            &[("password", CACHE_PASSWORD)],
            &["key url is missing", "redis://host:6379"],
        ),
        (&[("url", &scheme)], &["key url does not begin with redis://"]),
        (&[("url", &port)], &["key url has a malformed port"]),
        (&[("url", "rediss://127.0.0.1"), ("ca.crt", "not PEM")], &["key ca.crt"]),
    ];
    for (keys, said) in cases {
        world.secret("cache", keys);
        incomplete(&world, MAP, "SecretIncomplete", said);
    }
}

#[test]
fn a_password_that_is_not_escaped_is_shown_nowhere_and_the_escape_is_named() {
    let world = World::new();
    world.succeed("refresh-mv-portal");
    // `Run` fails where any output holds the canary.
    for password in [
        "x@c4n4ry",
        "x/c4n4ry",
        "x?c4n4ry",
        "1/@c4n4ry",
        "x@c4n4ry/y",
        "50%c4n4ry",
    ] {
        let place = format!("127.0.0.1:{}/{}", world.postgres.port(), world.database);
        world.secret(
            "database",
            &[("url", &format!("postgres://mapa_refresh:{password}@{place}"))],
        );
        incomplete(&world, MAP, "SecretIncomplete", &["key url has", "%25"]);
    }
    let world = World::new();
    world.succeed("refresh-mv-portal");
    for password in ["x@c4n4ry", "x/c4n4ry", "x?c4n4ry", "1/@c4n4ry"] {
        for (scheme, rest) in [("redis", ""), ("redis+sentinel", "/mapa"), ("redis+cluster", "")] {
            let url = format!("{scheme}://:{password}@127.0.0.1:{}{rest}", world.redis.port());
            world.secret("cache", &[("url", &url)]);
            incomplete(&world, MAP, "SecretIncomplete", &["key url has", "%40"]);
        }
    }
}

#[test]
fn what_editors_leave_around_a_value_does_no_harm() {
    let world = World::new();
    let url = format!(
        "\u{feff}postgres://127.0.0.1:{}/{}\r\n",
        world.postgres.port(),
        world.database
    );
    let keys = [
        ("url", url),
        ("username", " mapa_refresh\r\n".to_owned()),
        ("password", format!("\u{feff}{DATABASE_PASSWORD}\r\n")),
    ];
    world.secret("database", &keys.each_ref().map(|(key, value)| (*key, value.as_str())));
    world.succeed("refresh-mv-portal");
}

#[test]
fn credentials_in_the_url_work_and_keys_of_their_own_win() {
    let world = World::new();
    let place = format!("127.0.0.1:{}/{}", world.postgres.port(), world.database);
    world.secret(
        "database",
        &[("url", &format!("postgres://mapa_refresh:{DATABASE_PASSWORD}@{place}"))],
    );
    world.secret(
        "cache",
        &[(
            "url",
            &format!("redis://:{CACHE_PASSWORD}@127.0.0.1:{}/0", world.redis.port()),
        )],
    );
    world.succeed("refresh-mv-portal");
    world.succeed(MAP);
    world.secret(
        "database",
        &[
            ("url", &format!("postgres://other:c4n4ry-old@{place}")),
            ("username", "mapa_refresh"),
            ("password", DATABASE_PASSWORD),
        ],
    );
    world.succeed("refresh-mv-portal");
}

#[test]
fn a_server_that_demands_what_the_secret_lacks_says_so() {
    let world = World::new();
    let place = format!("127.0.0.1:{}/{}", world.postgres.port(), world.database);
    world.secret(
        "database",
        &[
            ("url", &format!("postgres://{place}?sslmode=require")),
            ("username", "mapa_refresh"),
            ("password", DATABASE_PASSWORD),
        ],
    );
    let run = world.runner("refresh-mv-portal").run();
    assert!(run.failure(2).message.contains("TLS"), "{run:?}");
}

#[test]
fn oracle_needs_an_image_that_has_its_driver() {
    let world = World::new();
    let oracle = |url: &str| {
        world.secret(
            "database",
            &[("url", url), ("username", "u"), ("password", DATABASE_PASSWORD)],
        );
        world
            .runner("refresh-mv-portal")
            .env("MAPA_DATABASE_KIND", "oracle")
            .run()
            .failure(2)
    };
    assert_eq!(oracle("postgres://h/d").code, "SecretIncomplete");
    let missing = oracle("oracle://db:1521/RADAR");
    assert_eq!(missing.class, mapa_refresh_crds::report::FaultClass::MissingClient);
    assert!(missing.message.contains("--runner-image-oracle"), "{missing:?}");
}

#[test]
fn a_wrong_setting_is_reported_with_its_variable_before_any_attempt() {
    let world = World::new();
    for (variable, value) in [
        ("MAPA_DATABASE_KIND", "mysql"),
        ("MAPA_DATABASE_VIEW", "radar.mv; DROP TABLE x"),
        ("MAPA_DATABASE_COLUMNS", "id=a\"b"),
        ("MAPA_CACHE_KEY_PREFIX", "*"),
        ("MAPA_TIME_ZONE", "Mars/Olympus"),
        ("MAPA_AREA", "AM"),
        ("MAPA_MAX_RETRIES", "many"),
        ("MAPA_POLICY_NAME", ""),
    ] {
        let run = world.runner(MAP).env(variable, value).run();
        let error = run.failure(2);
        assert_eq!(
            (error.code.as_str(), run.report.attempts.len()),
            ("InvalidConfiguration", 0)
        );
        assert!(error.message.contains(variable), "{error:?}");
    }
}
