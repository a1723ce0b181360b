//! From a Secret to what Oracle's client wants to know. Nothing here needs that client.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};

use crate::secret::{Scheme, Secret, SecretError, Store};

/// What the url should look like.
const SCHEME: Scheme = "oracle://host:1521/SERVICE, oracle+tcps://host:2484/SERVICE, or any connect string of Oracle's client \
                        (as spec.database.kind is oracle)";

/// Seconds for a connection, when the url does not say: a silent host should cost less than an attempt.
const CONNECT_TIMEOUT: &str = "connect_timeout=10";

/// Wallets that Oracle's client opens by itself; the last only since version 23.
const WALLETS: [&str; 2] = ["cwallet.sso", "ewallet.pem"];

/// Files that Oracle's client reads in its directory of configuration.
const CONFIGURATION: [&str; 2] = ["tnsnames.ora", "sqlnet.ora"];

/// Where to connect, and as whom.
#[derive(Debug)]
pub struct Target {
    connect_string: SecretString,
    place: String,
    login: Option<(String, SecretString)>,
    config_dir: Option<PathBuf>,
    passwords: Vec<SecretString>,
}

impl Target {
    /// Reads the Secret mounted at `dir`.
    ///
    /// The url may be `oracle://[user:password@]host[:port]/SERVICE[?…]` (`oracle+tcps://` for TLS), an easy connect string
    /// (`host:port/SERVICE`, `tcps://host:port/SERVICE`), a whole `(DESCRIPTION=…)`, or an alias of a `tnsnames.ora` among the Secret's keys. For TLS a
    /// wallet among the keys (`cwallet.sso`, `ewallet.pem`) is used, or else the one in `wallet_dir`; without user and password, the wallet logs on.
    ///
    /// # Errors
    /// When the Secret, or a key of it, is missing or malformed.
    pub fn from_secret(dir: &Path, wallet_dir: Option<&Path>) -> Result<Self, SecretError> {
        Self::new(&Secret::read(Store::Database, dir, SCHEME)?, dir, wallet_dir)
    }

    /// The same, of a Secret that was read from `dir`.
    ///
    /// # Errors
    /// When a key of it is missing or malformed.
    pub fn new(secret: &Secret, dir: &Path, wallet_dir: Option<&Path>) -> Result<Self, SecretError> {
        let wrong =
            |key: &str, problem: &dyn fmt::Display| SecretError::new(Store::Database, dir, key, problem, SCHEME);
        let url = ConnectUrl::parse(secret.url.expose_secret()).map_err(|problem| wrong("url", &problem))?;
        let wallet = [Some(dir), wallet_dir]
            .into_iter()
            .flatten()
            .find(|dir| holds(dir, WALLETS));
        if let (true, None, false, Some(dir)) = (url.is_tls(), wallet, url.names_wallet(), wallet_dir) {
            return Err(SecretError::of_wallet(
                dir,
                "is not there, and neither is one among the keys of the database's Secret",
            ));
        }
        if url.is_tls() && secret.ca.is_some() && wallet.is_none() && !url.names_wallet() {
            let problem = "alone is not enough: Oracle's client takes authorities from a wallet only; add the key cwallet.sso (or ewallet.pem \
                           for client 23) to this Secret, and drop ca.crt";
            return Err(wrong("ca.crt", &problem));
        }
        let mut passwords: Vec<SecretString> = url.passwords().map(SecretString::from).collect();
        passwords.extend(secret.password.clone());
        let user = secret.username.clone().or_else(|| url.user());
        let password = secret.password.clone().or_else(|| url.password().map(Into::into));
        let login = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) if wallet.is_some() => None,
            (None, _) => {
                return Err(wrong(
                    "username",
                    &"is missing, the url names no user, and there is no wallet",
                ));
            }
            (Some(_), None) => return Err(wrong("password", &"is missing, and the url has none")),
        };
        let config_dir = [Some(dir), wallet_dir]
            .into_iter()
            .flatten()
            .find(|dir| holds(dir, CONFIGURATION));
        Ok(Self {
            connect_string: url.connect_string(wallet).into(),
            place: url.place(),
            login,
            config_dir: config_dir.map(Path::to_owned),
            passwords,
        })
    }

    /// Every password that came with the Secret: none may appear in a message.
    #[must_use]
    pub fn passwords(&self) -> &[SecretString] {
        &self.passwords
    }

    /// What Oracle's client is given. It may hold a wallet's password, hence a secret.
    #[must_use]
    pub fn connect_string(&self) -> &SecretString {
        &self.connect_string
    }

    /// User and password; none when the wallet logs on.
    #[must_use]
    pub fn login(&self) -> Option<&(String, SecretString)> {
        self.login.as_ref()
    }

    /// Where `tnsnames.ora` and `sqlnet.ora` are, when the Secret or the wallet's directory has them: `TNS_ADMIN`.
    #[must_use]
    pub fn config_dir(&self) -> Option<&Path> {
        self.config_dir.as_deref()
    }

    /// Where this is, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }
}

fn holds(dir: &Path, names: [&str; 2]) -> bool {
    names.iter().any(|name| dir.join(name).exists())
}

/// A url, taken apart.
enum ConnectUrl<'a> {
    Easy {
        is_tls: bool,
        userinfo: Option<&'a str>,
        hosts: &'a str,
        service: &'a str,
        parameters: Vec<&'a str>,
    },
    /// A description or an alias: given on as it is.
    Verbatim(&'a str),
}

/// Why a url can't be used; never quotes it.
#[derive(Debug, PartialEq, Eq)]
struct Problem(&'static str);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl<'a> ConnectUrl<'a> {
    fn parse(url: &'a str) -> Result<Self, Problem> {
        if url.chars().any(char::is_control) {
            return Err(Problem("holds control characters"));
        }
        if url.starts_with('(') {
            return Ok(Self::Verbatim(url));
        }
        let (is_tls, rest) = match url.split_once("://") {
            Some(("oracle" | "tcp", rest)) => (false, rest),
            Some(("oracle+tcps" | "tcps", rest)) => (true, rest),
            Some(_) => return Err(Problem("does not begin with oracle://")),
            None => (false, url.trim_start_matches("//")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let is_alias = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let Some((authority, service)) = rest.split_once('/') else {
            return if !url.contains("://") && is_alias(rest) {
                Ok(Self::Verbatim(rest))
            } else {
                Err(Problem("names no service"))
            };
        };
        let (userinfo, hosts) = match authority.rsplit_once('@') {
            Some((userinfo, hosts)) => (Some(userinfo), hosts),
            None => (None, authority),
        };
        if hosts.is_empty() {
            return Err(Problem("names no host"));
        }
        if !hosts
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-:,[]".contains(&b))
        {
            return Err(Problem("has a malformed host"));
        }
        if service.is_empty() {
            return Err(Problem("names no service"));
        }
        if !service
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-$#:/".contains(&b))
        {
            return Err(Problem("has a malformed service"));
        }
        let parameters = query.split('&').filter(|parameter| !parameter.is_empty()).collect();
        Ok(Self::Easy {
            is_tls,
            userinfo,
            hosts,
            service,
            parameters,
        })
    }

    fn is_tls(&self) -> bool {
        match self {
            Self::Easy { is_tls, .. } => *is_tls,
            Self::Verbatim(text) => text.to_ascii_lowercase().contains("tcps"),
        }
    }

    fn names_wallet(&self) -> bool {
        match self {
            Self::Easy { parameters, .. } => has(parameters, "wallet_location"),
            Self::Verbatim(text) => text.to_ascii_lowercase().contains("wallet"),
        }
    }

    fn user(&self) -> Option<String> {
        let Self::Easy {
            userinfo: Some(userinfo),
            ..
        } = self
        else {
            return None;
        };
        let user = userinfo.split_once(':').map_or(*userinfo, |(user, _)| user);
        (!user.is_empty()).then(|| decode(user))
    }

    fn password(&self) -> Option<String> {
        let Self::Easy {
            userinfo: Some(userinfo),
            ..
        } = self
        else {
            return None;
        };
        userinfo.split_once(':').map(|(_, password)| decode(password))
    }

    /// The password in both its spellings.
    fn passwords(&self) -> impl Iterator<Item = String> {
        let written = match self {
            Self::Easy {
                userinfo: Some(userinfo),
                ..
            } => userinfo.split_once(':').map(|(_, password)| password.to_owned()),
            _ => None,
        };
        self.password().into_iter().chain(written)
    }

    /// As Oracle's client wants it, with a wallet in `wallet` and our defaults.
    fn connect_string(&self, wallet: Option<&Path>) -> String {
        let (is_tls, hosts, service, parameters) = match self {
            Self::Verbatim(text) => return (*text).to_owned(),
            Self::Easy {
                is_tls,
                hosts,
                service,
                parameters,
                ..
            } => (*is_tls, hosts, service, parameters),
        };
        let mut all: Vec<String> = parameters.iter().map(|parameter| (*parameter).to_owned()).collect();
        if !has(parameters, "connect_timeout") {
            all.push(CONNECT_TIMEOUT.to_owned());
        }
        if is_tls {
            if let Some(wallet) = wallet.filter(|_| !has(parameters, "wallet_location")) {
                all.push(format!("wallet_location={}", wallet.display()));
            }
            // Client 19 does not look at the certificate's name unless it is told to.
            if !has(parameters, "ssl_server_dn_match") {
                all.push("ssl_server_dn_match=yes".to_owned());
            }
        }
        let protocol = if is_tls { "tcps:" } else { "" };
        format!("{protocol}//{hosts}/{service}?{}", all.join("&"))
    }

    fn place(&self) -> String {
        match self {
            Self::Easy { hosts, service, .. } => format!("{hosts}/{service}"),
            Self::Verbatim(text) if text.starts_with('(') => "the url's description".to_owned(),
            Self::Verbatim(alias) => format!("the alias {alias}"),
        }
    }
}

fn has(parameters: &[&str], name: &str) -> bool {
    parameters.iter().any(|parameter| {
        parameter
            .split('=')
            .next()
            .is_some_and(|own| own.eq_ignore_ascii_case(name))
    })
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn target(keys: &[(&str, &str)]) -> Result<(Target, PathBuf), SecretError> {
        let dir = tempfile::tempdir().unwrap();
        keys.iter()
            .for_each(|(key, value)| fs::write(dir.path().join(key), value).unwrap());
        let path = dir.path().to_owned();
        Target::from_secret(dir.path(), None).map(|target| (target, path))
    }

    const LOGIN: [(&str, &str); 2] = [("username", "u"), ("password", "p")];

    #[test]
    fn urls_become_what_oracles_client_expects() {
        for (url, expected) in [
            ("oracle://db:1521/RADAR", "//db:1521/RADAR?connect_timeout=10"),
            (
                "oracle://db1:1521,db2:1521/radar.example?connect_timeout=3",
                "//db1:1521,db2:1521/radar.example?connect_timeout=3",
            ),
            (
                "oracle+tcps://db/RADAR",
                "tcps://db/RADAR?connect_timeout=10&ssl_server_dn_match=yes",
            ),
            (
                "tcps://db/RADAR?ssl_server_dn_match=no",
                "tcps://db/RADAR?ssl_server_dn_match=no&connect_timeout=10",
            ),
            ("db:1521/RADAR", "//db:1521/RADAR?connect_timeout=10"),
            ("//db/RADAR", "//db/RADAR?connect_timeout=10"),
            ("(DESCRIPTION=(ADDRESS=…))", "(DESCRIPTION=(ADDRESS=…))"),
            ("radar_prod.world", "radar_prod.world"),
        ] {
            let (target, _) = target(&[("url", url), LOGIN[0], LOGIN[1]]).unwrap();
            assert_eq!(target.connect_string().expose_secret(), expected);
        }
    }

    #[test]
    fn urls_of_other_databases_and_halves_of_urls_are_refused() {
        for (url, expected) in [
            ("postgres://h/d", "does not begin with oracle://"),
            ("oracle://h:1521", "names no service"),
            ("oracle://h:1521/", "names no service"),
            ("oracle:///S", "names no host"),
            ("oracle://h;x/S", "malformed host"),
            ("oracle://h/S)(x", "malformed service"),
            ("h:1521", "names no service"),
        ] {
            let error = target(&[("url", url), LOGIN[0], LOGIN[1]]).unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.contains("oracle://host:1521/SERVICE"),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn a_wallet_among_the_keys_is_used_and_logs_on_when_nobody_else_does() {
        let (target_, dir) = target(&[
            ("url", "oracle+tcps://db/RADAR"),
            ("cwallet.sso", "x"),
            ("sqlnet.ora", "x"),
        ])
        .unwrap();
        let expected = format!(
            "tcps://db/RADAR?connect_timeout=10&wallet_location={}&ssl_server_dn_match=yes",
            dir.display()
        );
        assert_eq!(target_.connect_string().expose_secret(), expected);
        assert!(target_.login().is_none());
        assert_eq!(target_.config_dir(), Some(dir.as_path()));
        let error = target(&[("url", "oracle+tcps://db/RADAR"), LOGIN[0], LOGIN[1], ("ca.crt", "x")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("cwallet.sso"), "{error}");
        let error = target(&[("url", "oracle://db/RADAR")]).unwrap_err().to_string();
        assert!(error.contains("key username is missing"), "{error}");
    }

    #[test]
    fn the_wallet_for_all_databases_serves_a_secret_without_one_and_says_when_it_is_not_there() {
        let (all, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write =
            |dir: &tempfile::TempDir, name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let read = || Target::from_secret(own.path(), Some(all.path()));
        write(&own, "url", "oracle+tcps://db/RADAR");

        let error = read().unwrap_err().to_string();
        assert!(
            error.contains(&format!("the wallet ({})", all.path().display())),
            "{error}"
        );
        assert!(error.contains("runner.walletSecretName"), "{error}");

        write(&all, "cwallet.sso", "x");
        write(&all, "tnsnames.ora", "x");
        let found = read().unwrap();
        let place = format!("&wallet_location={}&", all.path().display());
        assert!(found.connect_string().expose_secret().contains(&place));
        assert_eq!((found.config_dir(), found.login().is_none()), (Some(all.path()), true));

        write(&own, "ewallet.pem", "x");
        let place = format!("&wallet_location={}&", own.path().display());
        assert!(
            read().unwrap().connect_string().expose_secret().contains(&place),
            "its own wins"
        );
    }

    #[test]
    fn the_password_of_the_url_is_known_in_both_its_spellings_and_keys_win() {
        let (target_, _) = target(&[("url", "oracle://u:c4n%40ry@h/S")]).unwrap();
        let passwords: Vec<_> = target_.passwords().iter().map(ExposeSecret::expose_secret).collect();
        assert_eq!(passwords, ["c4n@ry", "c4n%40ry"]);
        assert_eq!(
            target_
                .login()
                .map(|(user, password)| (user.as_str(), password.expose_secret())),
            Some(("u", "c4n@ry"))
        );
        let (target_, _) = target(&[("url", "oracle://u:old@h/S"), ("username", "v"), ("password", "new")]).unwrap();
        assert_eq!(
            target_
                .login()
                .map(|(user, password)| (user.as_str(), password.expose_secret())),
            Some(("v", "new"))
        );
        assert_eq!(target_.place(), "h/S");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_url_panics_or_is_quoted_with_its_password(rest in "[ -~]{0,40}|[a-z0-9:@/?&=%\\[\\],.()]{0,40}") {
            let url = format!("oracle://u:c4n4ry@{rest}");
            if let Err(error) = target(&[("url", &url), ("username", "u"), ("password", "c4n4ry")]) {
                prop_assert!(!error.to_string().contains("c4n4ry"), "{}", error);
            }
        }
    }
}
