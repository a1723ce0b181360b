//! From a Secret to a session.

use std::{path::Path, str::FromStr, time::Duration};

use mapa_refresh_crds::report::FaultClass;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;
use tokio_postgres::{Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Postgres, error::Doing};
use crate::{
    database::{
        DatabaseError,
        name::{ColumnNames, ViewName},
        sqlstate,
    },
    secret::{Scheme, Secret, SecretError, Store},
    tls,
};

/// What the url should look like.
const SCHEME: Scheme = "postgres://host:5432/database (as spec.database.kind is postgresql)";

/// How long a connection may take. A silent host should cost less than an attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The server ends a statement this much later than the runner asks it to: only when the runner is gone.
const STATEMENT_GRACE: Duration = Duration::from_secs(5);

/// Where to connect, and how.
pub struct Target {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    passwords: Vec<SecretString>,
}

impl Target {
    /// Reads the Secret mounted at `dir`.
    ///
    /// TLS is used when the url says `sslmode=require` (or `verify-ca`, `verify-full`) or the Secret has a `ca.crt`; the
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
    pub fn new(secret: Secret, dir: &Path, ca_bundle: Option<&Path>) -> Result<Self, SecretError> {
        let wrong =
            |key: &str, problem: &dyn std::fmt::Display| SecretError::new(Store::Database, dir, key, problem, SCHEME);
        let url = secret.url.expose_secret();
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(wrong("url", &"does not begin with postgres://"));
        }
        let (url, sslmode) = without_sslmode(url);
        let mut config = Config::from_str(&url).map_err(|error| wrong("url", &Malformed(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(wrong("url", &"names no host"));
        }
        if let Some(username) = &secret.username {
            config.user(username);
        } else if config.get_user().is_none() {
            return Err(wrong("username", &"is missing, and the url names no user"));
        }
        let mut passwords: Vec<SecretString> = config
            .get_password()
            .map(|password| String::from_utf8_lossy(password).into_owned().into())
            .into_iter()
            .collect();
        passwords.extend(written_password(&url));
        if let Some(password) = secret.password {
            config.password(password.expose_secret());
            passwords.push(password);
        } else if config.get_password().is_none() {
            return Err(wrong("password", &"is missing, and the url has none"));
        }
        let tls = match (sslmode.as_deref(), &secret.ca) {
            (Some("disable"), _) | (None | Some("allow" | "prefer"), None) => None,
            (None | Some("allow" | "prefer" | "require" | "verify-ca" | "verify-full"), ca) => {
                let roots = match (ca, ca_bundle) {
                    (Some(pem), _) => tls::authorities(pem).map_err(|error| wrong("ca.crt", &error))?,
                    (None, Some(bundle)) => tls::bundle(Store::Database, bundle)?.roots,
                    (None, None) => tls::public_authorities(),
                };
                Some(MakeRustlsConnect::new(tls::client(roots)))
            }
            (Some(_), _) => return Err(wrong("url", &"has an unknown sslmode: disable, require or verify-full")),
        };
        config.ssl_mode(if tls.is_some() {
            SslMode::Require
        } else {
            SslMode::Disable
        });
        config.application_name("mapa-refresh-job-runner");
        Ok(Self { config, tls, passwords })
    }

    /// Every password that came with the Secret: none may appear in a message.
    #[must_use]
    pub fn passwords(&self) -> &[SecretString] {
        &self.passwords
    }

    /// Opens a session for `view`. Its statements end by themselves some seconds after `limit`.
    ///
    /// # Errors
    /// When the server can't be reached within ten seconds, or refuses.
    pub async fn connect(
        &self,
        view: &ViewName,
        columns: &ColumnNames,
        limit: Duration,
    ) -> Result<Postgres, DatabaseError> {
        let connecting = async {
            match &self.tls {
                Some(tls) => self
                    .config
                    .connect(tls.clone())
                    .await
                    .map(|(client, connection)| (client, tokio::spawn(quiet(connection)))),
                None => self
                    .config
                    .connect(NoTls)
                    .await
                    .map(|(client, connection)| (client, tokio::spawn(quiet(connection)))),
            }
        };
        let (client, connection) = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.doing(&format!("connecting to {}", self.place()))?,
            Err(_) => return Err(self.silent()),
        };
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

    fn silent(&self) -> DatabaseError {
        let seconds = CONNECT_TIMEOUT.as_secs();
        DatabaseError {
            class: FaultClass::Transient,
            code: sqlstate::UNABLE_TO_CONNECT.into(),
            message: format!("connecting to {}: no answer within {seconds} s", self.place()),
        }
    }

    /// Where this is, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        let hosts: Vec<_> = self
            .config
            .get_hosts()
            .iter()
            .map(|host| match host {
                tokio_postgres::config::Host::Tcp(name) => name.clone(),
                tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let ports: Vec<_> = self.config.get_ports().iter().map(u16::to_string).collect();
        let ports = if ports.is_empty() {
            "5432".to_owned()
        } else {
            ports.join(",")
        };
        format!("{}:{ports}", hosts.join(","))
    }
}

/// An error of the connection reaches whoever uses the client; here it would be said twice.
async fn quiet<T>(connection: impl Future<Output = Result<(), T>>) {
    let _ = connection.await;
}

/// The url without its parameter `sslmode`, and that parameter: the driver doesn't know `verify-full`.
fn without_sslmode(url: &str) -> (String, Option<String>) {
    let Some((base, query)) = url.split_once('?') else {
        return (url.to_owned(), None);
    };
    let (mut mode, mut others) = (None, Vec::new());
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.strip_prefix("sslmode=") {
            Some(value) => mode = Some(value.to_owned()),
            None => others.push(parameter),
        }
    }
    let url = if others.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", others.join("&"))
    };
    (url, mode)
}

/// The password as the url spells it, escapes and all.
fn written_password(url: &str) -> Option<SecretString> {
    let (_, rest) = url.split_once("://")?;
    let (user, _) = rest.split_once('@')?;
    let (_, password) = user.split_once(':')?;
    Some(password.to_owned().into())
}

/// Why the driver can't read the url. Its own words quote what it takes for a parameter's name, which may be the rest of a password
/// that was not escaped.
struct Malformed<'a>(&'a tokio_postgres::Error);

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

impl std::fmt::Display for Malformed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cause = std::error::Error::source(self.0)
            .map(ToString::to_string)
            .unwrap_or_default();
        let is_unknown = |name: &&&str| cause == format!("unknown option `{name}`");
        if let Some(name) = LIBPQ_ONLY.iter().find(is_unknown) {
            return write!(
                f,
                "is malformed: the parameter {name} is not known here; certificates belong into the key ca.crt"
            );
        }
        f.write_str(if cause.starts_with("unknown option") {
            "is malformed: after its ? is a parameter that is not known, or a password whose ?, @, / or # is not escaped (%3F, %40, %2F, %23)"
        } else if cause.starts_with("invalid value for option") {
            "is malformed: a parameter after its ? has a wrong value"
        } else {
            "is malformed: a ?, @, /, # or % of a password has to be escaped (%3F, %40, %2F, %23, %25)"
        })
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
        assert_eq!(passwords, ["c4n@ry", "c4n%40ry"]);
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_url_panics_or_is_quoted_with_its_password(rest in "[ -~]{0,40}|[a-z0-9:@/?&=%\\[\\],.]{0,40}") {
            let url = format!("postgres://u:c4n4ry@{rest}");
            if let Err(error) = target(&[("url", &url), ("username", "u"), ("password", "c4n4ry")]) {
                prop_assert!(!error.to_string().contains("c4n4ry"), "{}", error);
            }
        }
    }
}
