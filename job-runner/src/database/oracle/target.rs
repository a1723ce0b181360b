//! From a Secret to what Oracle's client wants to know. Nothing here needs that client.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use mapa_refresh_crds::secret_keys as keys;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    host::{self, HostPort, Parts, Userinfo},
    secret::{Scheme, Secret, SecretError, Store, has_blanks_around},
};

/// What the url should look like.
const SCHEME: Scheme = "oracle://host:1521/SERVICE, oracle+tcps://host:2484/SERVICE, or any connect string of Oracle's client \
                        (as spec.database.kind is oracle)";

/// Seconds for a connection, when the url does not say; each host of a list has its share. A silent host should cost less than an attempt.
const CONNECT_TIMEOUT: usize = 10;

/// Most seconds for the network's part of it, which counts for each address of a name: a silent one leaves time for the next.
const TRANSPORT_TIMEOUT: usize = 3;

/// Minutes without traffic after which Oracle's client probes the server: balancers and firewalls drop what is silent for longer.
const EXPIRE_TIME: &str = "expire_time=1";

/// Port where the url names none.
const PORT: u16 = 1521;

/// Where to connect, and as whom.
#[derive(Debug)]
pub struct Target {
    connect_string: SecretString,
    place: String,
    login: Option<(String, SecretString)>,
    config_dir: Option<PathBuf>,
    has_blanks: bool,
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
        let complete = |problem: &dyn fmt::Display| SecretError::complete(Store::Database, dir, keys::URL, problem);
        let url = ConnectUrl::parse(secret.url.expose_secret()).map_err(|problem| match problem {
            Problem::Form(problem) => wrong(keys::URL, &problem),
            Problem::Host(problem @ host::Problem::NoHost) => wrong(keys::URL, &problem),
            Problem::Host(problem) => complete(&problem),
        })?;
        let wallet = wallet(dir, wallet_dir)?;
        if let (true, None, false, Some(dir)) = (url.is_tls(), wallet, url.names_wallet(), wallet_dir) {
            return Err(SecretError::of_wallet(
                dir,
                "is not there, and neither is one among the keys of the database's Secret",
            ));
        }
        if wallet.is_none() && !url.names_wallet() {
            let alone = |key: &str, what: &str| {
                let problem = format!(
                    "alone is not enough: Oracle's client takes {what} from a wallet only; add the key cwallet.sso (or ewallet.pem for client 23) to this \
                     Secret, and drop {key}"
                );
                SecretError::complete(Store::Database, dir, key, problem)
            };
            if secret.client.is_some() {
                return Err(alone(keys::TLS_CERT, "client certificates"));
            }
            if url.is_tls() && secret.ca.is_some() {
                return Err(alone(keys::CA_CERT, "authorities"));
            }
        }
        let userinfo = url.userinfo();
        let mut passwords: Vec<SecretString> = userinfo.written_password.into_iter().collect();
        let url_password = userinfo.password.inspect(|password| passwords.push(password.clone()));
        passwords.extend(secret.password.clone());
        let user = secret
            .username
            .clone()
            .or(Some(userinfo.user).filter(|user| !user.is_empty()));
        let password = secret.password.clone().or(url_password);
        let has_blanks = password.as_ref().is_some_and(has_blanks_around);
        let login = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) if wallet.is_some() => None,
            (None, _) => {
                return Err(wrong(
                    keys::USERNAME,
                    &"is missing, the url names no user, and there is no wallet",
                ));
            }
            (Some(_), None) => return Err(wrong(keys::PASSWORD, &"is missing, and the url has none")),
        };
        let config_dir = [Some(dir), wallet_dir]
            .into_iter()
            .flatten()
            .find(|dir| holds(dir, keys::ORACLE_CONFIGURATION));
        if let ConnectUrl::Verbatim(text) = url
            && !is_defined(text, config_dir)
        {
            // It may be anything, a password in the wrong key, too; and the client quotes what it can't resolve.
            passwords.push(text.to_owned().into());
        }
        Ok(Self {
            connect_string: url.connect_string(wallet).into(),
            place: url.place(),
            login,
            config_dir: config_dir.map(Path::to_owned),
            has_blanks,
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

    /// Whether the password begins or ends with a blank.
    #[must_use]
    pub fn has_blanks(&self) -> bool {
        self.has_blanks
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

/// Whether `alias` stands in the `tnsnames.ora` of `dir`.
fn is_defined(alias: &str, dir: Option<&Path>) -> bool {
    let names = dir.and_then(|dir| fs::read_to_string(dir.join("tnsnames.ora")).ok());
    names.is_some_and(|names| {
        names
            .lines()
            .filter_map(|line| line.split_once('='))
            .flat_map(|(aliases, _)| aliases.split(','))
            .any(|name| name.trim().eq_ignore_ascii_case(alias))
    })
}

/// The directory with the wallet: the Secret's own, or else the one for all. An empty wallet is an error: Oracle's client names no file.
fn wallet<'d>(dir: &'d Path, wallet_dir: Option<&'d Path>) -> Result<Option<&'d Path>, SecretError> {
    let Some(found) = [Some(dir), wallet_dir]
        .into_iter()
        .flatten()
        .find(|dir| holds(dir, keys::WALLETS))
    else {
        return Ok(None);
    };
    let is_empty = |name: &&&str| fs::metadata(found.join(name)).is_ok_and(|file| file.len() == 0);
    match keys::WALLETS.iter().find(is_empty) {
        Some(name) if found == dir => {
            let problem = "is empty; put the wallet there as it is, in base64, or drop the key";
            Err(SecretError::complete(Store::Database, dir, name, problem))
        }
        Some(name) => Err(SecretError::of_wallet(found, format!("{name} is empty"))),
        None => Ok(Some(found)),
    }
}

/// A url, taken apart.
enum ConnectUrl<'a> {
    Easy {
        is_tls: bool,
        userinfo: Userinfo,
        hosts: Vec<HostPort>,
        /// The hosts as they are written, which Oracle's client groups.
        written: &'a str,
        service: &'a str,
        parameters: Vec<&'a str>,
    },
    /// A description or an alias: given on as it is.
    Verbatim(&'a str),
}

/// Why a url can't be used. Its text never quotes the url.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// It has not the form of one.
    Form(&'static str),
    /// Its hosts, or user and password.
    Host(host::Problem),
}

impl<'a> ConnectUrl<'a> {
    fn parse(url: &'a str) -> Result<Self, Problem> {
        if url.chars().any(char::is_control) {
            return Err(Problem::Host(host::Problem::ControlCharacter));
        }
        if url.starts_with('(') {
            return Ok(Self::Verbatim(url));
        }
        let (is_tls, rest) = match url.split_once("://") {
            Some(("oracle" | "tcp", rest)) => (false, rest),
            Some(("oracle+tcps" | "tcps", rest)) => (true, rest),
            Some(_) => return Err(Problem::Form("does not begin with oracle://")),
            None => (false, url.trim_start_matches("//")),
        };
        if !url.contains("://") && !rest.contains('/') && !rest.contains('?') && host::is_name(rest) {
            return Ok(Self::Verbatim(rest));
        }
        if rest.contains('@') && !url.contains("://") {
            return Err(Problem::Form(
                "has an @ and no scheme: write user and password into the keys username and password, or oracle://user:password@host:1521/SERVICE",
            ));
        }
        let Parts {
            userinfo,
            hosts,
            path,
            query,
        } = host::parts(rest, PORT).map_err(Problem::Host)?;
        let service = path
            .filter(|path| !path.is_empty())
            .ok_or(Problem::Form("names no service"))?;
        if !service
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-$#:/".contains(&b))
        {
            return Err(Problem::Form("has a malformed service"));
        }
        let authority = rest.split('/').next().unwrap_or_default();
        Ok(Self::Easy {
            is_tls,
            userinfo,
            hosts,
            written: authority.split_once('@').map_or(authority, |(_, hosts)| hosts),
            service,
            parameters: query
                .unwrap_or_default()
                .split('&')
                .filter(|parameter| !parameter.is_empty())
                .collect(),
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

    fn userinfo(&self) -> Userinfo {
        match self {
            Self::Easy { userinfo, .. } => userinfo.clone(),
            Self::Verbatim(_) => Userinfo::default(),
        }
    }

    /// As Oracle's client wants it, with a wallet in `wallet` and our defaults.
    fn connect_string(&self, wallet: Option<&Path>) -> String {
        let (is_tls, hosts, written, service, parameters) = match self {
            Self::Verbatim(text) => return (*text).to_owned(),
            Self::Easy {
                is_tls,
                hosts,
                written,
                service,
                parameters,
                ..
            } => (*is_tls, hosts, written, service, parameters),
        };
        let mut all: Vec<String> = parameters.iter().map(|parameter| (*parameter).to_owned()).collect();
        if !has(parameters, "connect_timeout") {
            let seconds = (CONNECT_TIMEOUT / hosts.len().max(1)).max(1);
            all.push(format!("connect_timeout={seconds}"));
            if !has(parameters, "transport_connect_timeout") {
                all.push(format!("transport_connect_timeout={}", TRANSPORT_TIMEOUT.min(seconds)));
            }
        }
        if !has(parameters, "expire_time") {
            all.push(EXPIRE_TIME.to_owned());
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
        format!("{protocol}//{written}/{service}?{}", all.join("&"))
    }

    fn place(&self) -> String {
        match self {
            Self::Easy { written, service, .. } => format!("{written}/{service}"),
            Self::Verbatim(text) if text.starts_with('(') => "the url's description".to_owned(),
            Self::Verbatim(_) => "the url's alias".to_owned(),
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
            (
                "oracle://db:1521/RADAR",
                "//db:1521/RADAR?connect_timeout=10&transport_connect_timeout=3&expire_time=1",
            ),
            (
                "oracle://db1:1521,db2:1521/radar.example?connect_timeout=3",
                "//db1:1521,db2:1521/radar.example?connect_timeout=3&expire_time=1",
            ),
            (
                "oracle+tcps://db/RADAR",
                "tcps://db/RADAR?connect_timeout=10&transport_connect_timeout=3&expire_time=1&ssl_server_dn_match=yes",
            ),
            (
                "tcps://db/RADAR?ssl_server_dn_match=no",
                "tcps://db/RADAR?ssl_server_dn_match=no&connect_timeout=10&transport_connect_timeout=3&expire_time=1",
            ),
            (
                "oracle://db1,db2:1522/RADAR?expire_time=5",
                "//db1,db2:1522/RADAR?expire_time=5&connect_timeout=5&transport_connect_timeout=3",
            ),
            (
                "db:1521/RADAR",
                "//db:1521/RADAR?connect_timeout=10&transport_connect_timeout=3&expire_time=1",
            ),
            (
                "//db/RADAR",
                "//db/RADAR?connect_timeout=10&transport_connect_timeout=3&expire_time=1",
            ),
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
            "tcps://db/RADAR?connect_timeout=10&transport_connect_timeout=3&expire_time=1&wallet_location={}&ssl_server_dn_match=yes",
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
        assert_eq!(passwords, ["c4n%40ry", "c4n@ry"]);
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

    #[test]
    fn a_host_that_is_none_is_refused_with_the_escape() {
        for (url, expected) in [
            ("oracle://u:c4n4@ry@h/S", "more than one @"),
            ("oracle://u:c4n4/ry@h/S", "%2F for /"),
            ("oracle+tcps://u:c4n4?ry@h/S", "%3F for ?"),
            ("oracle://u:c4n4%ry@h/S", "%25"),
            ("oracle://h;c4n4/S", "malformed host"),
            ("oracle://::1:1521/S", "write [::1]"),
            ("u/c4n4@h:1521/S", "keys username and password"),
            ("u/c4n4@radar", "keys username and password"),
            ("//u:c4n4@h/S", "keys username and password"),
        ] {
            let error = target(&[("url", url), LOGIN[0], LOGIN[1]]).unwrap_err().to_string();
            let text = error.replace(SCHEME, "");
            assert!(text.contains(expected) && !text.contains("c4n4"), "{url}: {error}");
        }
    }

    #[test]
    fn an_alias_may_be_a_password_in_the_wrong_key_and_is_not_shown() {
        let (target_, _) = target(&[("url", "c4n4ry-1"), LOGIN[0], LOGIN[1]]).unwrap();
        assert_eq!(target_.place(), "the url's alias");
        assert!(
            target_
                .passwords()
                .iter()
                .any(|password| password.expose_secret() == "c4n4ry-1")
        );
        let names = ("tnsnames.ora", "other = (X)\nC4N4RY-1, b = (DESCRIPTION=)");
        let (target_, _) = target(&[("url", "c4n4ry-1"), LOGIN[0], LOGIN[1], names]).unwrap();
        let passwords: Vec<_> = target_.passwords().iter().map(ExposeSecret::expose_secret).collect();
        assert_eq!(passwords, ["p"], "a name that is defined is no secret");
    }

    #[test]
    fn an_empty_wallet_and_a_client_certificate_without_a_wallet_are_named() {
        let error = |keys: &[(&str, &str)]| target(keys).unwrap_err().to_string();
        let url = ("url", "oracle+tcps://db/RADAR");
        let empty = error(&[url, LOGIN[0], LOGIN[1], ("cwallet.sso", "")]);
        assert!(empty.contains("key cwallet.sso is empty"), "{empty}");
        let certificate = error(&[url, LOGIN[0], LOGIN[1], ("tls.crt", "x"), ("tls.key", "x")]);
        assert!(certificate.contains("key tls.crt alone is not enough"), "{certificate}");
        assert!(certificate.contains("cwallet.sso"), "{certificate}");

        let all = tempfile::tempdir().unwrap();
        let own = tempfile::tempdir().unwrap();
        fs::write(own.path().join("url"), url.1).unwrap();
        fs::write(all.path().join("ewallet.pem"), "").unwrap();
        let error = Target::from_secret(own.path(), Some(all.path()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("ewallet.pem is empty"), "{error}");
    }

    #[test]
    fn empty_keys_do_not_beat_the_credentials_of_the_url() {
        let (target_, _) = target(&[("url", "oracle://u:p@h/S"), ("username", "\n"), ("password", "")]).unwrap();
        let (user, password) = target_.login().unwrap();
        assert_eq!((user.as_str(), password.expose_secret()), ("u", "p"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn no_url_panics_or_shows_a_piece_of_its_password(
            scheme in r"(oracle(\+tcps)?://)?",
            canary in r"[A-Z0-9]{4}[-@/:#?%,\[\]&= .A-Z0-9]{0,12}",
            user in "[a-z]{0,3}[:/]",
            rest in r"h:1521/s|h,i:1/s\?x=y|[-a-z0-9:@/?&=%\[\],.()]{0,20}",
        ) {
            let text = match target(&[("url", &format!("{scheme}{user}{canary}@{rest}")), ("username", "u"), ("password", "p")]) {
                Ok((target, _)) => target.place().to_owned(),
                Err(error) => error.to_string().replace(SCHEME, ""),
            };
            for piece in crate::host::pieces(&canary) {
                prop_assert!(!text.contains(piece), "{:?} of {:?} is in {}", piece, canary, text);
            }
        }
    }
}
