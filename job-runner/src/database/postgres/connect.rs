//! From a Secret to a session.

use std::{fmt, path::Path, str::FromStr, time::Duration};

use futures::FutureExt;
use mapa_refresh_crds::{report::code, secret_keys as keys};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::{Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Postgres, login};
use crate::{
    database::{
        DatabaseError,
        name::{ColumnNames, ViewName},
        sqlstate,
    },
    dial::{self, Address, Reason},
    host::{self, HostPort, Parts},
    secret::{BLANKS_AROUND, Scheme, Secret, SecretError, Store, has_blanks_around},
    tls::{self, Identity},
};

/// What the url should look like.
const SCHEME: Scheme = "postgres://host:5432/database (as spec.database.kind is postgresql)";

/// How long a connection may take. A silent host should cost less than an attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The server ends a statement this much later than the runner asks it to: only when the runner is gone.
const STATEMENT_GRACE: Duration = Duration::from_secs(5);

/// Port where the url names none.
const PORT: u16 = 5432;

/// Where to connect, and how.
pub struct Target {
    /// Everything but the hosts.
    config: Config,
    hosts: Vec<HostPort>,
    tls: Option<MakeRustlsConnect>,
    has_certificate: bool,
    has_blanks: bool,
    passwords: Vec<SecretString>,
}

impl Target {
    /// Reads the Secret mounted at `dir`.
    ///
    /// TLS is used when the url says `sslmode=require` (or `verify-ca`, `verify-full`) or the Secret has a `ca.crt` or a client certificate; the
    /// server's certificate and name are then always verified, against `ca.crt`, or else `ca_bundle`, or else the public authorities.
    ///
    /// # Errors
    /// When the Secret, or a key of it, is missing or malformed.
    pub fn from_secret(dir: &Path, ca_bundle: Option<&Path>) -> Result<Self, SecretError> {
        Self::new(Secret::read(Store::Database, dir, SCHEME)?, dir, ca_bundle)
    }

    /// The same, of a Secret that was read from `dir`.
    ///
    /// # Errors
    /// When a key of it is missing or malformed.
    pub fn new(mut secret: Secret, dir: &Path, ca_bundle: Option<&Path>) -> Result<Self, SecretError> {
        let wrong =
            |key: &str, problem: &dyn fmt::Display| SecretError::new(Store::Database, dir, key, problem, SCHEME);
        let complete = |problem: &dyn fmt::Display| SecretError::complete(Store::Database, dir, keys::URL, problem);
        let url = secret.url.expose_secret();
        let Some((_, rest)) = url
            .split_once("://")
            .filter(|(scheme, _)| ["postgres", "postgresql"].contains(scheme))
        else {
            return Err(wrong(keys::URL, &"does not begin with postgres://"));
        };
        let Parts {
            userinfo,
            hosts,
            path,
            query,
        } = host::parts(rest, PORT).map_err(|problem| match problem {
            host::Problem::NoHost => wrong(keys::URL, &problem),
            _ => complete(&problem),
        })?;
        let mut passwords: Vec<SecretString> = userinfo.written_password.into_iter().collect();
        let (mut config, sslmode) =
            parameters(query.unwrap_or_default(), &mut passwords).map_err(|error| complete(&error))?;
        if let Some(database) = path.filter(|path| !path.is_empty()) {
            config.dbname(host::decoded(database).map_err(|problem| complete(&problem))?);
        }
        let identity = secret
            .client
            .take()
            .map(|pem| Identity::new(Store::Database, dir, pem))
            .transpose()?;

        let given_user = Some(userinfo.user).filter(|user| !user.is_empty());
        if let Some(user) = secret.username.take().or(given_user) {
            config.user(user);
        } else if config.get_user().is_none_or(str::is_empty) {
            return Err(wrong(keys::USERNAME, &"is missing, and the url names no user"));
        }
        if let Some(password) = secret.password.take().or(userinfo.password) {
            config.password(password.expose_secret());
            passwords.push(password);
        } else if config.get_password().is_none_or(<[u8]>::is_empty) && identity.is_none() {
            return Err(wrong(
                keys::PASSWORD,
                &"is missing, the url has none, and there is no client certificate (tls.crt, tls.key)",
            ));
        }
        let has_blanks = passwords.last().is_some_and(has_blanks_around);

        let is_tls = match (sslmode.as_deref(), secret.ca.is_some() || identity.is_some()) {
            (Some("disable"), _) | (None | Some("allow" | "prefer"), false) => false,
            (None | Some("allow" | "prefer" | "require" | "verify-ca" | "verify-full"), _) => true,
            (Some(_), _) => return Err(complete(&"has an unknown sslmode: disable, require or verify-full")),
        };
        if let Some(identity) = &identity {
            if !is_tls {
                return Err(complete(
                    &"has sslmode=disable, and a client certificate is shown over TLS only: drop sslmode, or the keys tls.crt and tls.key",
                ));
            }
            passwords.extend(identity.secrets());
        }
        let tls = if is_tls {
            let authorities = tls::authorities(Store::Database, dir, &secret, ca_bundle)?;
            let client =
                tls::client(authorities.roots, identity.as_ref()).map_err(|error| wrong(keys::TLS_CERT, &error))?;
            Some(MakeRustlsConnect::new(client))
        } else {
            None
        };
        config.ssl_mode(if is_tls { SslMode::Require } else { SslMode::Disable });
        config.application_name("mapa-refresh-job-runner");
        Ok(Self {
            config,
            hosts,
            tls,
            has_certificate: identity.is_some(),
            has_blanks,
            passwords,
        })
    }

    /// Every password that came with the Secret: none may appear in a message.
    #[must_use]
    pub fn passwords(&self) -> &[SecretString] {
        &self.passwords
    }

    /// Opens a session for `view`, within an attempt of `limit`. Its statements end by themselves some seconds after that.
    ///
    /// # Errors
    /// When no server can be reached within ten seconds, or it refuses.
    pub async fn connect(
        &self,
        view: &ViewName,
        columns: &ColumnNames,
        limit: Duration,
    ) -> Result<Postgres, DatabaseError> {
        let connected = dial::first(&self.hosts, CONNECT_TIMEOUT, limit, async |address| {
            self.connect_to(address).await
        });
        // On the heap, without its type: it is large, and nests deeper than the compiler follows.
        let connected = connected.boxed_local().await;
        let (client, connection) = connected.map_err(|unreached| self.error(unreached.into_reason()))?;
        Ok(Postgres {
            client,
            connection,
            tls: self.tls.clone(),
            name: view.clone(),
            columns: columns.clone(),
            view: None,
            statement_timeout: limit + STATEMENT_GRACE,
        })
    }

    async fn connect_to(
        &self,
        Address { host, socket, .. }: Address<'_>,
    ) -> Result<(tokio_postgres::Client, tokio::task::JoinHandle<()>), Reason> {
        let mut config = self.config.clone();
        // The name is for the certificate.
        config.host(&host.host).hostaddr(socket.ip()).port(host.port);
        let connected = match &self.tls {
            Some(tls) => config
                .connect(tls.clone())
                .await
                .map(|(client, connection)| (client, tokio::spawn(quiet(connection)))),
            None => config
                .connect(NoTls)
                .await
                .map(|(client, connection)| (client, tokio::spawn(quiet(connection)))),
        };
        connected.map_err(|error| login::reason(&error, self.has_certificate))
    }

    fn error(&self, reason: Reason) -> DatabaseError {
        let mut message = format!("connecting to {}: {}", self.place(), reason.sentence());
        let code = reason.code.unwrap_or(sqlstate::UNABLE_TO_CONNECT.into());
        if code == code::CREDENTIALS_REJECTED && self.has_blanks {
            message = format!("{message}; {BLANKS_AROUND}");
        }
        DatabaseError {
            class: reason.class,
            code,
            message,
        }
    }

    /// Where this is, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        host::place(&self.hosts)
    }
}

/// An error of the connection reaches whoever uses the client; here it would be said twice.
async fn quiet<T>(connection: impl Future<Output = Result<(), T>>) {
    let _ = connection.await;
}

/// The driver's configuration by the parameters of `query`, and `sslmode`, of which the driver does not know all values. Adds the password among them.
fn parameters(query: &str, passwords: &mut Vec<SecretString>) -> Result<(Config, Option<String>), Malformed> {
    let (mut mode, mut others) = (None, Vec::new());
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or(Malformed::Unknown)?;
        match (name, value) {
            ("sslmode", mode_) => mode = Some(mode_.to_owned()),
            ("host" | "hostaddr" | "port", _) => return Err(Malformed::Host),
            ("target_session_attrs", "primary") => others.push("target_session_attrs=read-write".to_owned()),
            _ => others.push(parameter.to_owned()),
        }
        if name == "password" {
            passwords.push(value.to_owned().into());
        }
    }
    let mut config =
        Config::from_str(&format!("postgres:///?{}", others.join("&"))).map_err(|error| Malformed::new(&error))?;
    passwords.extend(
        config
            .get_password()
            .map(|password| SecretString::from(String::from_utf8_lossy(password).into_owned())),
    );
    let has = |name: &str| others.iter().any(|parameter| parameter.starts_with(name));
    if !has("keepalives_idle=") {
        config.keepalives_idle(dial::KEEPALIVE_IDLE);
    }
    if !has("keepalives_interval=") {
        config.keepalives_interval(dial::KEEPALIVE_INTERVAL);
    }
    if !has("keepalives_retries=") {
        config.keepalives_retries(dial::KEEPALIVE_RETRIES);
    }
    Ok((config, mode))
}

/// Why the parameters of a url can't be used. The driver's own words quote what it takes for a parameter's name, which may be the rest of a password
/// that was not escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Malformed {
    #[error("has a host or port after its ?: write it before the path, postgres://host:5432/database")]
    Host,
    #[error(
        "is malformed: the parameter {0} is not known here; certificates belong into the keys ca.crt, tls.crt and tls.key"
    )]
    LibpqOnly(&'static str),
    #[error(
        "is malformed: after its ? is a parameter that is not known, or a password whose ?, @, / or # is not escaped (%3F, %40, %2F, %23)"
    )]
    Unknown,
    #[error("is malformed: the parameter {0} after its ? has a wrong value")]
    Value(&'static str),
    #[error("is malformed: a parameter after its ? has a wrong value")]
    Other,
}

/// Parameters of libpq that the driver does not have: these may be named.
const LIBPQ_ONLY: [&str; 8] = [
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "service",
    "passfile",
    "gssencmode",
];

/// Parameters of the driver whose values are judged: these may be named.
const JUDGED: [&str; 11] = [
    "target_session_attrs",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "channel_binding",
    "load_balance_hosts",
    "sslnegotiation",
    "options",
];

impl Malformed {
    fn new(error: &tokio_postgres::Error) -> Self {
        let cause = std::error::Error::source(error)
            .map(ToString::to_string)
            .unwrap_or_default();
        let named = |names: &[&'static str], frame: &str| {
            names.iter().copied().find(|name| cause == format!("{frame} `{name}`"))
        };
        if let Some(name) = named(&LIBPQ_ONLY, "unknown option") {
            Self::LibpqOnly(name)
        } else if let Some(name) = named(&JUDGED, "invalid value for option") {
            Self::Value(name)
        } else if cause.starts_with("invalid value for option") {
            Self::Other
        } else {
            Self::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn target(keys: &[(&str, &str)]) -> Result<Target, SecretError> {
        let dir = tempfile::tempdir().unwrap();
        keys.iter()
            .for_each(|(key, value)| fs::write(dir.path().join(key), value).unwrap());
        Target::from_secret(dir.path(), None)
    }

    #[test]
    fn the_password_of_the_url_is_known_in_both_its_spellings() {
        let target = target(&[("url", "postgres://u:c4n%40ry@h:1/d?sslmode=disable&connect_timeout=3")]).unwrap();
        let passwords: Vec<_> = target.passwords().iter().map(ExposeSecret::expose_secret).collect();
        assert_eq!(passwords, ["c4n%40ry", "c4n@ry"]);
        assert_eq!((target.place().as_str(), target.tls.is_some()), ("h:1", false));
    }

    #[test]
    fn keys_of_their_own_win_over_the_url() {
        let target = target(&[
            ("url", "postgresql://u:old@h/d"),
            ("username", "v"),
            ("password", "new"),
        ])
        .unwrap();
        assert_eq!(
            (target.config.get_user(), target.config.get_password()),
            (Some("v"), Some(&b"new"[..]))
        );
        assert_eq!(target.place(), "h:5432");
    }

    #[test]
    fn empty_keys_do_not_beat_the_credentials_of_the_url() {
        let target = target(&[("url", "postgres://u:p@h/d"), ("username", "\n"), ("password", "")]).unwrap();
        assert_eq!(
            (target.config.get_user(), target.config.get_password()),
            (Some("u"), Some(&b"p"[..]))
        );
        let error = |keys: &[(&str, &str)]| super::tests::target(keys).err().unwrap().to_string();
        let no_user = error(&[("url", "postgres://:p@h/d"), ("username", "")]);
        assert!(no_user.contains("key username is missing"), "{no_user}");
        let no_password = error(&[("url", "postgres://u:@h/d"), ("password", "\n")]);
        assert!(no_password.contains("key password is missing"), "{no_password}");
    }

    #[test]
    fn parameters_of_the_url_reach_the_driver_and_silent_connections_are_probed() {
        let read = |query: &str| target(&[("url", &format!("postgres://u:p@h/d?{query}"))]);
        let config = read("target_session_attrs=primary&keepalives_interval=7")
            .unwrap()
            .config;
        assert_eq!(
            config.get_target_session_attrs(),
            tokio_postgres::config::TargetSessionAttrs::ReadWrite
        );
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(30));
        assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(7)));
        assert!(config.get_keepalives());
        for (query, expected) in [
            (
                "target_session_attrs=standby",
                "target_session_attrs after its ? has a wrong value",
            ),
            ("host=other", "write it before the path"),
            ("sslcert=/x", "the parameter sslcert is not known here"),
            ("x=y", "not known, or a password"),
            ("word", "not known, or a password"),
            ("sslmode=maybe", "unknown sslmode"),
        ] {
            let error = read(query).err().unwrap().to_string();
            assert!(error.contains(expected), "{query}: {error}");
        }
    }

    #[test]
    fn tls_is_used_when_it_is_asked_for() {
        let uses_tls = |url: &str| {
            target(&[("url", url), ("username", "u"), ("password", "p")])
                .unwrap()
                .tls
                .is_some()
        };
        for (url, expected) in [
            ("postgres://h/d", false),
            ("postgres://h/d?sslmode=prefer", false),
            ("postgres://h/d?sslmode=require", true),
            ("postgres://h/d?application_name=x&sslmode=verify-full", true),
        ] {
            assert_eq!(uses_tls(url), expected, "{url}");
        }
    }

    #[test]
    fn a_host_that_is_none_is_refused_with_the_escape() {
        for (url, expected) in [
            ("postgres://u:c4n4@ry@h/d", "more than one @"),
            ("postgres://u:c4n4/ry@h/d", "%2F for /"),
            ("postgres://u:c4n4?ry@h/d", "%3F for ?"),
            ("postgres://u:c4n4%ry@h/d", "%25"),
            ("postgres://c4n4@ry:x@h/d", "%40"),
            ("postgres://::1:5432/d", "[::1]:5432"),
        ] {
            let error = target(&[("url", url)]).err().unwrap().to_string();
            assert!(error.contains(expected) && !error.contains("c4n4"), "{url}: {error}");
            assert!(
                error.len() <= 320 - "database: ".len(),
                "{} bytes: {error}",
                error.len()
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn no_url_panics_or_shows_a_piece_of_its_password(
            canary in r"[A-Z0-9]{4}[-@/:#?%,\[\]&= .A-Z0-9]{0,12}",
            user in "[a-z]{0,3}",
            rest in r"h:5432/d|h/d\?sslmode=require|[-a-z0-9:@/?&=%\[\],.]{0,20}",
        ) {
            let text = match target(&[("url", &format!("postgres://{user}:{canary}@{rest}")), ("username", "u")]) {
                Ok(target) => format!("{} {:?}", target.place(), target.config.get_dbname()),
                Err(error) => error.to_string().replace(SCHEME, ""),
            };
            for piece in crate::host::pieces(&canary) {
                prop_assert!(!text.contains(piece), "{:?} of {:?} is in {}", piece, canary, text);
            }
        }
    }
}
