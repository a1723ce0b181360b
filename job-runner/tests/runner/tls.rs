//! TLS to both stores, with an authority of one's own.

use std::{fs, path::Path, process::Command, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::{
    servers::{Postgres, Redis, free_port, wait_until},
    world::{CACHE_PASSWORD, DATABASE_PASSWORD, World},
};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";

/// Writes `server.crt` and `server.key` for localhost into `dir`; the authority's certificate in PEM.
fn certificates(dir: &Path) -> String {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    fs::write(dir.join("server.crt"), server.pem()).unwrap();
    fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
    ca
}

fn other_authority() -> String {
    certificates(tempfile::tempdir().unwrap().path())
}

#[test]
fn postgresql_is_verified_against_the_secrets_authority() {
    let postgres = Arc::new(Postgres::start());
    let world = World::on(Arc::clone(&postgres));
    let dir = tempfile::Builder::new().prefix("runner-tls-").tempdir().unwrap();
    let ca = certificates(dir.path());
    Command::new("sh")
        .arg("-c")
        .arg(format!(
            "chown -R postgres {0}; chmod 600 {0}/server.key",
            dir.path().display()
        ))
        .status()
        .unwrap();
    for (setting, value) in [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")] {
        world.sql(&format!(
            "ALTER SYSTEM SET {setting} = '{}/{value}'",
            dir.path().display()
        ));
    }
    world.sql("ALTER SYSTEM SET ssl = on");
    world.sql("SELECT pg_reload_conf()");
    wait_until("PostgreSQL speaks TLS", || world.sql("SHOW ssl") == "on");

    let secret = |parameters: &str, host: &str, ca: Option<&str>| {
        let url = format!("postgres://{host}:{}/{}{parameters}", postgres.port(), world.database);
        let mut keys = vec![
            ("url", url.as_str()),
            ("username", "mapa_refresh"),
            ("password", DATABASE_PASSWORD),
        ];
        keys.extend(ca.map(|ca| ("ca.crt", ca)));
        world.secret("database", &keys);
        world.runner(VIEW).run()
    };
    for parameters in ["", "?sslmode=require", "?sslmode=verify-full"] {
        let run = secret(parameters, "localhost", Some(&ca));
        assert_eq!(run.code(), 0, "{run:?}");
    }
    for (parameters, host, ca) in [
        ("?sslmode=require", "localhost", None),
        ("", "localhost", Some(other_authority())),
        ("", "127.0.0.1", Some(ca)),
    ] {
        let run = secret(parameters, host, ca.as_deref());
        let error = run.failure(2);
        assert_eq!(
            (error.code.as_str(), run.report.attempts.len()),
            ("08001", 1),
            "{error:?}"
        );
        assert!(error.message.contains("certificate"), "{error:?}");
    }
}

#[test]
fn redis_is_verified_against_the_secrets_authority() {
    let world = World::new();
    world.succeed(VIEW);
    let dir = tempfile::tempdir().unwrap();
    let ca = certificates(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let port = free_port().to_string();
    let _redis = Redis::start(&[
        "--requirepass",
        CACHE_PASSWORD,
        "--tls-port",
        &port,
        "--tls-cert-file",
        &file("server.crt"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("server.crt"),
        "--tls-auth-clients",
        "no",
    ]);
    let url = format!("rediss://localhost:{port}");
    world.secret("cache", &[("url", &url), ("password", CACHE_PASSWORD), ("ca.crt", &ca)]);
    world.succeed(MAP);
    for ca in [None, Some(other_authority())] {
        let mut keys = vec![("url", url.as_str()), ("password", CACHE_PASSWORD)];
        keys.extend(ca.as_deref().map(|ca| ("ca.crt", ca)));
        world.secret("cache", &keys);
        let run = world.runner(MAP).env("MAPA_MAX_RETRIES", "3").run();
        let error = run.failure(2);
        assert_eq!(
            (error.code.as_str(), run.report.attempts.len()),
            ("CacheUnreachable", 1),
            "{error:?}"
        );
        assert!(error.message.contains("certificate"), "{error:?}");
    }
}
