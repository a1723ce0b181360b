//! TLS to both stores, with an authority of one's own.

use std::{fs, path::Path, process::Command, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::{
    servers::{Postgres, Redis, free_port, wait_until},
    world::{CACHE_PASSWORD, DATABASE_PASSWORD, World},
};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";

/// Writes `server.crt` and `server.key`, valid for `names`, and `ca.crt` into `dir`; the authority's certificate in PEM.
pub fn certificates(dir: &Path, names: &[&str]) -> String {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    // By its own name: OpenSSL takes a certificate whose issuer is called like itself for its own authority.
    authority.distinguished_name.push(DnType::CommonName, "authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let server = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(dir.join("server.crt"), server.pem()).unwrap();
    fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
    fs::write(dir.join("ca.crt"), &ca).unwrap();
    ca
}

/// The arguments with which a Redis also listens on `port` over TLS, with the certificates in `dir`.
pub fn redis_arguments(dir: &Path, port: u16) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    let pairs = [
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", file("server.crt")),
        ("--tls-key-file", file("server.key")),
        ("--tls-ca-cert-file", file("ca.crt")),
        ("--tls-auth-clients", "no".to_owned()),
    ];
    pairs
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}

fn other_authority() -> String {
    certificates(tempfile::tempdir().unwrap().path(), &["localhost"])
}

#[test]
fn postgresql_is_verified_against_the_secrets_authority() {
    let postgres = Arc::new(Postgres::start());
    let world = World::on(Arc::clone(&postgres));
    let dir = tempfile::Builder::new().prefix("runner-tls-").tempdir().unwrap();
    let ca = certificates(dir.path(), &["localhost"]);
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

    // The bundle for all databases serves a Secret without an authority; one that has its own is judged by that alone.
    let bundle = dir.path().join("ca.crt").display().to_string();
    let with_bundle = || world.runner(VIEW).env("MAPA_CA_BUNDLE", &bundle).run();
    secret("?sslmode=require", "localhost", None);
    assert_eq!(with_bundle().code(), 0);
    secret("", "localhost", Some(&other_authority()));
    assert_eq!(with_bundle().failure(2).code, "08001");
}

#[test]
fn redis_is_verified_against_the_secrets_authority() {
    let world = World::new();
    world.succeed(VIEW);
    let dir = tempfile::tempdir().unwrap();
    let ca = certificates(dir.path(), &["localhost"]);
    let port = free_port();
    let tls = redis_arguments(dir.path(), port);
    let arguments: Vec<&str> = ["--requirepass", CACHE_PASSWORD]
        .into_iter()
        .chain(tls.iter().map(String::as_str))
        .collect();
    let _redis = Redis::start(&arguments);
    let url = format!("rediss://localhost:{port}");
    cache_is_verified(&world, &url, &ca);
}

/// A cache at `url`, which has a certificate of the authority `ca`, is published to when the Secret has that, and else refused once.
pub fn cache_is_verified(world: &World, url: &str, ca: &str) {
    let secret = |ca: Option<&str>| {
        let keys = [("url", url), ("password", CACHE_PASSWORD)];
        let all: Vec<_> = keys.into_iter().chain(ca.map(|ca| ("ca.crt", ca))).collect();
        world.secret("cache", &all);
    };
    let bundle = tempfile::NamedTempFile::new().unwrap();
    fs::write(bundle.path(), ca).unwrap();
    let by_bundle = |path: &str| world.runner(MAP).env("MAPA_CA_BUNDLE", path).run();
    secret(None);
    let run = by_bundle(&bundle.path().display().to_string());
    assert_eq!(run.code(), 0, "a bundle serves a Secret without an authority: {run:?}");
    let error = by_bundle("/nao/existe").failure(2);
    assert_eq!(error.code, "SecretIncomplete", "{error:?}");
    assert!(error.message.contains("runner.caBundle"), "{error:?}");
    secret(Some(ca));
    for task in [MAP, "calcular-estatisticas", "health-check"] {
        world.succeed(task);
    }
    for other in [None, Some(other_authority())] {
        secret(other.as_deref());
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
