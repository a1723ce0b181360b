//! Secrets, read from the directories in which they are mounted. No password ever leaves [`SecretString`] but to the store.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use mapa_refresh_crds::secret_keys as keys;
use secrecy::{ExposeSecret, SecretString};

/// Whose Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// `spec.database.secretRef`.
    Database,
    /// `spec.cache.secretRef`.
    Cache,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "database",
            Self::Cache => "cache",
        })
    }
}

/// A mounted Secret. What is empty in it is absent here; an empty certificate or key is an error.
#[derive(Debug)]
pub struct Secret {
    /// Where the store is; it may carry a password.
    pub url: SecretString,
    /// Name by which to log in.
    pub username: Option<String>,
    /// Password.
    pub password: Option<SecretString>,
    /// Certificate authorities in PEM, which the store's certificate must come from.
    pub ca: Option<Vec<u8>>,
    /// Client certificate and its key in PEM.
    pub client: Option<ClientPem>,
    /// Name by which to log in to a cache's Sentinels.
    pub sentinel_username: Option<String>,
    /// Their password: they have one of their own, or none.
    pub sentinel_password: Option<SecretString>,
}

/// A client certificate and its key, in PEM.
#[derive(Debug)]
pub struct ClientPem {
    /// The certificate, followed by its chain.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: SecretString,
}

/// A Secret that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{subject} ({place}): {problem}{}{remedy}", if .remedy.is_empty() { "" } else { "; " })]
pub struct SecretError {
    subject: String,
    place: String,
    problem: String,
    remedy: String,
}

impl SecretError {
    /// Says that `key` of the Secret has `problem`, and what it should look like.
    #[must_use]
    pub fn new(store: Store, dir: &Path, key: &str, problem: impl fmt::Display, scheme: Scheme) -> Self {
        Self {
            subject: format!("the {store}'s Secret"),
            place: dir.display().to_string(),
            problem: format!("key {key} {problem}"),
            remedy: expectation(key, scheme),
        }
    }

    /// The same of a `problem` that names its remedy itself.
    #[must_use]
    pub fn complete(store: Store, dir: &Path, key: &str, problem: impl fmt::Display) -> Self {
        Self {
            remedy: String::new(),
            ..Self::new(store, dir, key, problem, "")
        }
    }

    /// Says that the bundle of authorities at `path`, which the certificate of `store` is judged by, has `problem`.
    #[must_use]
    pub fn of_bundle(store: Store, path: &Path, problem: impl fmt::Display) -> Self {
        Self {
            subject: "the bundle of authorities".to_owned(),
            place: path.display().to_string(),
            problem: problem.to_string(),
            remedy: format!(
                "the policy's namespace needs the ConfigMap that runner.caBundle of the operator's configuration names, with certificates \
                 in PEM; or add the key ca.crt to the {store}'s Secret"
            ),
        }
    }

    /// Says that the wallet at `dir` has `problem`.
    #[must_use]
    pub fn of_wallet(dir: &Path, problem: impl fmt::Display) -> Self {
        Self {
            subject: "the wallet".to_owned(),
            place: dir.display().to_string(),
            problem: problem.to_string(),
            remedy: "the policy's namespace needs the Secret that runner.walletSecretName of the operator's configuration names, with the key \
                     cwallet.sso (or ewallet.pem for client 23); or add that key to the database's Secret"
                .to_owned(),
        }
    }
}

/// What the url should begin with, for the messages.
pub type Scheme = &'static str;

impl Secret {
    /// Reads the Secret of `store`, mounted at `dir`. `scheme` is what its url should look like, for the messages.
    ///
    /// # Errors
    /// When it is absent, has no url, or holds what is no text.
    pub fn read(store: Store, dir: &Path, scheme: Scheme) -> Result<Self, SecretError> {
        if !is_mounted(dir) {
            return Err(SecretError {
                subject: format!("the {store}'s Secret"),
                place: dir.display().to_string(),
                problem: "it does not exist, or has no keys".to_owned(),
                remedy: format!(
                    "create the Secret that spec.{store}.secretRef names, in the policy's namespace, with the keys {}",
                    match store {
                        Store::Database => "url, username and password",
                        Store::Cache => "url and, where the cache asks for them, username and password",
                    }
                ),
            });
        }
        let key = |name| Key {
            store,
            dir,
            name,
            scheme,
        };
        let url = key(keys::URL)
            .name()?
            .ok_or_else(|| key(keys::URL).error("is missing or empty"))?;
        Ok(Self {
            url: url.into(),
            username: key(keys::USERNAME).name()?,
            password: key(keys::PASSWORD).password()?,
            ca: key(keys::CA_CERT).pem()?,
            client: Self::client(&key(keys::TLS_CERT), &key(keys::TLS_KEY))?,
            sentinel_username: key(keys::SENTINEL_USERNAME).name()?,
            sentinel_password: key(keys::SENTINEL_PASSWORD).password()?,
        })
    }

    fn client(certificate: &Key<'_>, key: &Key<'_>) -> Result<Option<ClientPem>, SecretError> {
        match (certificate.pem()?, key.pem()?) {
            (None, None) => Ok(None),
            (Some(certificate), Some(pem)) => Ok(Some(ClientPem {
                certificate,
                key: key.utf8(pem)?.into(),
            })),
            (Some(_), None) => Err(key.error("is missing, and tls.crt is there")),
            (None, Some(_)) => Err(certificate.error("is missing, and tls.key is there")),
        }
    }
}

/// Whether a blank at its begin or end may be what makes `password` wrong.
#[must_use]
pub fn has_blanks_around(password: &SecretString) -> bool {
    let password = password.expose_secret();
    password.trim() != password
}

/// A note for messages about rejected credentials: blanks are kept in a password, and are invisible.
pub const BLANKS_AROUND: &str = "the password begins or ends with a blank";

struct Key<'a> {
    store: Store,
    dir: &'a Path,
    name: &'static str,
    scheme: Scheme,
}

impl Key<'_> {
    /// A name or a url: no blank around it is part of it.
    fn name(&self) -> Result<Option<String>, SecretError> {
        let text = self.text()?;
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    /// A password keeps its blanks. Line breaks around it, which `echo` and editors leave there, are stripped.
    fn password(&self) -> Result<Option<SecretString>, SecretError> {
        let text = self.text()?;
        Ok(text
            .map(|text| text.trim_matches(['\r', '\n']).to_owned())
            .filter(|text| !text.is_empty())
            .map(Into::into))
    }

    /// Certificates or a key. An empty file is an error: taken for absent, it would silently switch TLS or its checks off.
    fn pem(&self) -> Result<Option<Vec<u8>>, SecretError> {
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(self.error("is empty"));
        }
        Ok(Some(bytes))
    }

    fn text(&self) -> Result<Option<String>, SecretError> {
        self.bytes()?.map(|bytes| self.utf8(bytes)).transpose()
    }

    fn utf8(&self, bytes: Vec<u8>) -> Result<String, SecretError> {
        let text = String::from_utf8(bytes).map_err(|_| self.error("is not UTF-8"))?;
        if text.contains('\0') {
            return Err(self.error("holds zero bytes"));
        }
        Ok(text)
    }

    /// The file's bytes without a byte order mark of UTF-8.
    fn bytes(&self) -> Result<Option<Vec<u8>>, SecretError> {
        let path: PathBuf = self.dir.join(self.name);
        let mut bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.error(format!("can't be read: {error}"))),
        };
        if is_utf16(&bytes) {
            return Err(self.error("is UTF-16, as editors of Windows write: save it as UTF-8"));
        }
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(Some(bytes))
    }

    fn error(&self, problem: impl fmt::Display) -> SecretError {
        SecretError::new(self.store, self.dir, self.name, problem, self.scheme)
    }
}

/// What editors of Windows put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether the bytes begin as UTF-16 does: with its byte order mark, or with a letter of two bytes.
fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\xfe")
        || bytes.starts_with(b"\xfe\xff")
        || matches!(bytes, [0, letter, ..] | [letter, 0, ..] if letter.is_ascii_graphic())
}

/// A mount of an absent optional Secret is an empty directory.
fn is_mounted(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn expectation(key: &str, scheme: Scheme) -> String {
    match key {
        keys::URL => format!("it should look like {scheme}"),
        keys::USERNAME => "it should be the name by which the job-runner logs in".to_owned(),
        keys::PASSWORD => "it should be the password of that user".to_owned(),
        keys::SENTINEL_USERNAME => "it should be the name by which the job-runner logs in to the Sentinels".to_owned(),
        keys::SENTINEL_PASSWORD => "it should be the password of the Sentinels".to_owned(),
        keys::CA_CERT => "it should be one or more certificates in PEM, or not be there".to_owned(),
        keys::TLS_CERT => {
            "it should be the client certificate in PEM and its chain; neither tls.crt nor tls.key is needed without one".to_owned()
        }
        keys::TLS_KEY => {
            "it should be the private key of tls.crt in PEM, not encrypted; neither is needed without a client certificate".to_owned()
        }
        other => format!("{other} should be a file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEME: Scheme = "postgres://host:5432/database";

    fn mounted(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        dir
    }

    fn error(files: &[(&str, &[u8])]) -> String {
        let dir = mounted(files);
        Secret::read(Store::Database, dir.path(), SCHEME)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_trailing_newline_is_not_part_of_a_password() {
        let dir = mounted(&[
            ("url", b"postgres://h/d\n"),
            ("username", b"u\r\n"),
            ("password", b" p w \n"),
        ]);
        let secret = Secret::read(Store::Database, dir.path(), SCHEME).unwrap();
        assert_eq!(secret.url.expose_secret(), "postgres://h/d");
        assert_eq!(secret.username.as_deref(), Some("u"));
        assert_eq!(secret.password.unwrap().expose_secret(), " p w ");
    }

    #[test]
    fn what_is_missing_is_named_with_what_it_should_be() {
        let absent = Secret::read(Store::Cache, Path::new("/nao/existe"), "redis://host:6379")
            .unwrap_err()
            .to_string();
        assert!(
            absent.contains("the cache's Secret (/nao/existe)") && absent.contains("spec.cache.secretRef"),
            "{absent}"
        );
        assert!(error(&[]).contains("spec.database.secretRef"));
        let no_url = error(&[("username", b"u")]);
        assert!(
            no_url.contains("key url is missing") && no_url.contains(SCHEME),
            "{no_url}"
        );
        assert!(error(&[("url", b"\n")]).contains("key url is missing or empty"));
        assert!(error(&[("url", b"x"), ("password", b"\xff")]).contains("key password is not UTF-8"));
    }

    #[test]
    fn what_is_empty_is_absent_but_for_certificates_and_keys() {
        let dir = mounted(&[
            ("url", b"postgres://h/d"),
            ("username", b" \n"),
            ("password", b"\r\n"),
            ("sentinel-username", b""),
            ("sentinel-password", b"\n"),
        ]);
        let secret = Secret::read(Store::Cache, dir.path(), SCHEME).unwrap();
        assert!(secret.username.is_none() && secret.password.is_none());
        assert!(secret.sentinel_username.is_none() && secret.sentinel_password.is_none());
        for (key, value) in [
            ("ca.crt", &b""[..]),
            ("ca.crt", b" \r\n\t"),
            ("ca.crt", b"\xef\xbb\xbf\n"),
            ("tls.crt", b""),
            ("tls.key", b"\n"),
        ] {
            let error = error(&[("url", b"postgres://h/d"), (key, value)]);
            assert!(error.contains(&format!("key {key} is empty")), "{error}");
        }
    }

    #[test]
    fn a_client_certificate_needs_its_key_and_a_key_its_certificate() {
        let url = ("url", &b"postgres://h/d"[..]);
        let no_key = error(&[url, ("tls.crt", b"x")]);
        assert!(no_key.contains("key tls.key is missing"), "{no_key}");
        let no_certificate = error(&[url, ("tls.key", b"x")]);
        assert!(no_certificate.contains("key tls.crt is missing"), "{no_certificate}");
    }

    #[test]
    fn a_byte_order_mark_and_blanks_around_are_none_of_a_value_and_utf_16_is_named() {
        let dir = mounted(&[
            ("url", b"\xef\xbb\xbf postgres://h/d\t\r\n"),
            ("username", b"\xef\xbb\xbfu "),
            ("password", b"\xef\xbb\xbf\n p w \r\n\r\n"),
        ]);
        let secret = Secret::read(Store::Database, dir.path(), SCHEME).unwrap();
        assert_eq!(secret.url.expose_secret(), "postgres://h/d");
        assert_eq!(secret.username.as_deref(), Some("u"));
        let password = secret.password.unwrap();
        assert_eq!(password.expose_secret(), " p w ", "blanks may be part of a password");
        assert!(has_blanks_around(&password) && !has_blanks_around(&"p w".to_owned().into()));
        for value in [&b"\xff\xfep\0"[..], b"\xfe\xff\0p", b"p\0w\0", b"\0p\0w"] {
            for key in ["url", "username", "password", "ca.crt"] {
                let error = error(&[("url", b"postgres://h/d"), (key, value)]);
                assert!(error.contains(&format!("key {key} is UTF-16")), "{error}");
            }
        }
        assert!(error(&[("url", b"x"), ("password", b"pass\0word")]).contains("zero bytes"));
    }

    #[test]
    fn a_secret_prints_no_password() {
        let dir = mounted(&[("url", b"postgres://u:c4n4ry!@h/d"), ("password", b"c4n4ry!")]);
        let secret = Secret::read(Store::Database, dir.path(), SCHEME).unwrap();
        assert!(!format!("{secret:?}").contains("c4n4ry"));
        let dir = mounted(&[("url", b"postgres://h/d"), ("tls.crt", b"x"), ("tls.key", b"c4n4ry!")]);
        let secret = Secret::read(Store::Database, dir.path(), SCHEME).unwrap();
        assert!(!format!("{secret:?}").contains("c4n4ry"));
    }
}
