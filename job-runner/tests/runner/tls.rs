//! TLS to both stores, with an authority of one's own.

use std::{fs, path::Path, process::Command, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::{
    servers::{Postgres, Redis, free_port, wait_until},
    world::{CACHE_PASSWORD, DATABASE_PASSWORD, World},
};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";

/// What a certificate is for besides its names; each is valid now unless it says otherwise.
pub enum Kind<'a> {
    Server,
    Expired,
    /// A server's, as `openssl req -x509` makes it: its own authority.
    OwnAuthority,
    /// A client's, with this common name.
    Client(&'a str),
}

/// An authority that the tests make certificates with.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        Self::named("authority")
    }

    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // By its own name: OpenSSL takes a certificate whose issuer is called like itself for its own authority.
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for `names` and its key, in PEM.
    pub fn issue(&self, names: &[&str], kind: &Kind<'_>) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        match kind {
            Kind::Server => {}
            Kind::Expired => params.not_after = rcgen::date_time_ymd(2020, 2, 3),
            Kind::OwnAuthority => {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                return (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
            }
            Kind::Client(name) => {
                params.distinguished_name.push(DnType::CommonName, *name);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
        }
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Writes `server.crt` and `server.key`, valid for `names`, and `ca.crt` into `dir`.
    pub fn write(&self, dir: &Path, names: &[&str], kind: &Kind<'_>) {
        let (certificate, key) = self.issue(names, kind);
        for (file, text) in [
            ("server.crt", &certificate),
            ("server.key", &key),
            ("ca.crt", &self.pem),
        ] {
            fs::write(dir.join(file), text).unwrap();
        }
    }
}

/// Writes `server.crt` and `server.key`, valid for `names`, and `ca.crt` into `dir`; the authority's certificate in PEM.
pub fn certificates(dir: &Path, names: &[&str]) -> String {
    let authority = Authority::new();
    authority.write(dir, names, &Kind::Server);
    authority.pem
}

/// The arguments with which a Redis also listens on `port` over TLS, with the certificates in `dir`.
pub fn redis_arguments(dir: &Path, port: u16) -> Vec<String> {
    let mut arguments = demanding_redis_arguments(dir, port);
    arguments.extend(["--tls-auth-clients", "no"].map(str::to_owned));
    arguments
}

/// The same, of a Redis that asks for client certificates, as it does unless it is told not to.
pub fn demanding_redis_arguments(dir: &Path, port: u16) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    let pairs = [
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", file("server.crt")),
        ("--tls-key-file", file("server.key")),
        ("--tls-ca-cert-file", file("ca.crt")),
    ];
    pairs
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}

fn other_authority() -> String {
    certificates(tempfile::tempdir().unwrap().path(), &["localhost"])
}

/// Has `postgres` speak TLS with the certificates in `dir`.
fn speak_tls(postgres: &Postgres, dir: &Path) {
    Command::new("sh")
        .arg("-c")
        .arg(format!(
            "chown -R postgres {0}; chmod 600 {0}/server.key",
            dir.display()
        ))
        .status()
        .unwrap();
    for (setting, file) in [
        ("ssl_cert_file", "server.crt"),
        ("ssl_key_file", "server.key"),
        ("ssl_ca_file", "ca.crt"),
    ] {
        postgres.sql(
            "postgres",
            &format!("ALTER SYSTEM SET {setting} = '{}/{file}'", dir.display()),
        );
    }
    postgres.sql("postgres", "ALTER SYSTEM SET ssl = on");
    postgres.sql("postgres", "SELECT pg_reload_conf()");
    wait_until("PostgreSQL speaks TLS", || postgres.sql("postgres", "SHOW ssl") == "on");
}

#[test]
fn postgresql_is_verified_against_the_secrets_authority() {
    let postgres = Arc::new(Postgres::start());
    let world = World::on(Arc::clone(&postgres));
    let dir = tempfile::Builder::new().prefix("runner-tls-").tempdir().unwrap();
    let ca = certificates(dir.path(), &["localhost"]);
    speak_tls(&postgres, dir.path());

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

#[test]
fn postgresql_takes_a_client_certificate_instead_of_a_password() {
    let postgres = Arc::new(Postgres::start());
    let world = World::on(Arc::clone(&postgres));
    let dir = tempfile::Builder::new().prefix("runner-tls-").tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::named("another"));
    authority.write(dir.path(), &["localhost"], &Kind::Server);
    speak_tls(&postgres, dir.path());
    postgres.set_hba("hostssl all all 127.0.0.1/32 cert");
    let url = format!("postgres://localhost:{}/{}", postgres.port(), world.database);
    let run = |keys: &[(&str, &str)]| {
        let all = [
            ("url", url.as_str()),
            ("username", "mapa_refresh"),
            ("ca.crt", &authority.pem),
        ];
        world.secret("database", &[&all[..], keys].concat());
        world
            .runner(VIEW)
            .env("MAPA_MAX_RETRIES", "3")
            .env("MAPA_RETRY_DELAY_SECONDS", "0")
            .run()
    };
    let own = authority.issue(&[], &Kind::Client("mapa_refresh"));
    let run_with = |(certificate, key): &(String, String)| run(&[("tls.crt", certificate), ("tls.key", key)]);
    assert_eq!(run_with(&own).code(), 0, "{:?}", run_with(&own));

    let stranger = authority.issue(&[], &Kind::Client("somebody"));
    let foreign = other.issue(&[], &Kind::Client("mapa_refresh"));
    let none = run(&[("password", DATABASE_PASSWORD)]);
    for (run, code, said) in [
        (none, "CredentialsRejected", "add the keys tls.crt and tls.key"),
        (
            run_with(&stranger),
            "CredentialsRejected",
            "the common name of tls.crt has to be the username",
        ),
        (run_with(&foreign), "08001", "does not trust its authority"),
        (
            run_with(&(own.0.clone(), foreign.1.clone())),
            "SecretIncomplete",
            "tls.key does not belong",
        ),
    ] {
        let error = run.failure(2);
        assert_eq!((error.code.as_str(), run.report.attempts.len()), (code, 1), "{error:?}");
        assert!(error.message.contains(said), "{error:?}");
    }

    postgres.set_hba("hostssl all all 127.0.0.1/32 scram-sha-256");
    wait_until("the server asks for a password again", || {
        let error = run_with(&own).failure(2);
        error.code == "CredentialsRejected" && error.message.contains("the database's Secret has none")
    });
}

#[test]
fn a_redis_that_asks_for_client_certificates_gets_one_or_says_what_is_missing() {
    let world = World::new();
    world.succeed(VIEW);
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::named("another"));
    authority.write(dir.path(), &["localhost"], &Kind::Server);
    let own = authority.issue(&[], &Kind::Client("mapa"));
    let foreign = other.issue(&[], &Kind::Client("mapa"));
    for version in ["TLSv1.3", "TLSv1.2"] {
        let port = free_port();
        let tls = demanding_redis_arguments(dir.path(), port);
        let mut arguments = vec!["--requirepass", CACHE_PASSWORD, "--tls-protocols", version];
        arguments.extend(tls.iter().map(String::as_str));
        let redis = Redis::start(&arguments);
        let run = |scheme: &str, port: u16, keys: &[(&str, &str)]| {
            let url = format!("{scheme}://localhost:{port}");
            let all = [
                ("url", url.as_str()),
                ("password", CACHE_PASSWORD),
                ("ca.crt", &authority.pem),
            ];
            world.secret("cache", &[&all[..], keys].concat());
            world
                .runner(MAP)
                .env("MAPA_MAX_RETRIES", "3")
                .env("MAPA_RETRY_DELAY_SECONDS", "0")
                .run()
        };
        let run_with =
            |(certificate, key): &(String, String)| run("rediss", port, &[("tls.crt", certificate), ("tls.key", key)]);
        assert_eq!(run_with(&own).code(), 0, "{version}");
        for (run, said) in [
            (
                run("rediss", port, &[]),
                "add the keys tls.crt and tls.key to the cache's Secret",
            ),
            (run_with(&foreign), "does not trust its authority"),
            (run("redis", port, &[]), "write rediss instead of redis"),
            (run("rediss", redis.port(), &[]), "the server answers in plain text"),
        ] {
            let error = run.failure(2);
            assert_eq!(
                (error.code.as_str(), run.report.attempts.len()),
                ("CacheUnreachable", 1),
                "{version}: {error:?}"
            );
            assert!(error.message.contains(said), "{version}: {error:?}");
        }
    }
}

#[test]
fn a_certificate_that_is_refused_is_told_in_a_sentence_with_its_remedy() {
    let world = World::new();
    world.succeed(VIEW);
    for (names, kind, said) in [
        (
            &["localhost"][..],
            Kind::Expired,
            "expired 2020-02-03T00:00:00Z; renew it",
        ),
        (
            &["cache.example"],
            Kind::Server,
            "is not for localhost, but for cache.example; write",
        ),
        (&[], Kind::Server, "no name at all"),
        (&["localhost"], Kind::Client("x"), "serverAuth"),
        (&["localhost"], Kind::OwnAuthority, "an authority's own (CA:TRUE)"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.write(dir.path(), names, &kind);
        let trusted = match kind {
            Kind::OwnAuthority => fs::read_to_string(dir.path().join("server.crt")).unwrap(),
            _ => authority.pem,
        };
        let port = free_port();
        let tls = redis_arguments(dir.path(), port);
        let _redis = Redis::start(&tls.iter().map(String::as_str).collect::<Vec<_>>());
        let url = format!("rediss://localhost:{port}");
        // The bundle of a whole company has one that can't be read.
        let bundle = format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{trusted}");
        world.secret("cache", &[("url", &url), ("ca.crt", &bundle)]);
        let run = world
            .runner(MAP)
            .env("MAPA_MAX_RETRIES", "3")
            .env("MAPA_RETRY_DELAY_SECONDS", "0")
            .run();
        let error = run.failure(2);
        assert_eq!(
            (error.code.as_str(), run.report.attempts.len()),
            ("CacheUnreachable", 1),
            "{error:?}"
        );
        assert!(error.message.contains(said), "{said}: {error:?}");
        assert!(error.message.len() <= 320, "{} bytes: {error:?}", error.message.len());
        assert!(run.stderr.contains("can't be read, and is skipped"), "{run:?}");
    }
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
        let run = world
            .runner(MAP)
            .env("MAPA_MAX_RETRIES", "3")
            .env("MAPA_RETRY_DELAY_SECONDS", "0")
            .run();
        let error = run.failure(2);
        assert_eq!(
            (error.code.as_str(), run.report.attempts.len()),
            ("CacheUnreachable", 1),
            "{error:?}"
        );
        assert!(error.message.contains("certificate"), "{error:?}");
    }
}
