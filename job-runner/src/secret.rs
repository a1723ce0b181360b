//! Secrets, read from the directories in which they are mounted. No password ever leaves [`SecretString`] but to the store.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

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

/// A mounted Secret.
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
    /// Name by which to log in to a cache's Sentinels.
    pub sentinel_username: Option<String>,
    /// Their password: they have one of their own, or none.
    pub sentinel_password: Option<SecretString>,
}

/// A Secret that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{subject} ({place}): {problem}; {remedy}")]
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
        let url = key("url")
            .text()?
            .filter(|url| !url.is_empty())
            .ok_or_else(|| key("url").error("is missing"))?;
        Ok(Self {
            url: url.into(),
            username: key("username").text()?,
            password: key("password").text()?.map(Into::into),
            ca: key("ca.crt").bytes()?.filter(|pem| !pem.is_empty()),
            sentinel_username: key("sentinel-username").text()?.filter(|name| !name.is_empty()),
            sentinel_password: key("sentinel-password")
                .text()?
                .filter(|password| !password.is_empty())
                .map(Into::into),
        })
    }
}

struct Key<'a> {
    store: Store,
    dir: &'a Path,
    name: &'static str,
    scheme: Scheme,
}

impl Key<'_> {
    /// The key's text without the newline at its end, which `echo` and editors leave there.
    fn text(&self) -> Result<Option<String>, SecretError> {
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|_| self.error("is not UTF-8"))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>, SecretError> {
        let path: PathBuf = self.dir.join(self.name);
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(format!("can't be read: {error}"))),
        }
    }

    fn error(&self, problem: impl fmt::Display) -> SecretError {
        SecretError::new(self.store, self.dir, self.name, problem, self.scheme)
    }
}

/// A mount of an absent optional Secret is an empty directory.
fn is_mounted(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn expectation(key: &str, scheme: Scheme) -> String {
    match key {
        "url" => format!("it should look like {scheme}"),
        "username" => "it should be the name by which the job-runner logs in".to_owned(),
        "password" => "it should be the password of that user".to_owned(),
        "sentinel-username" => "it should be the name by which the job-runner logs in to the Sentinels".to_owned(),
        "sentinel-password" => "it should be the password of the Sentinels".to_owned(),
        "ca.crt" => "it should be one or more certificates in PEM".to_owned(),
        other => format!("{other} should be a file"),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

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
        assert!(error(&[("url", b"\n")]).contains("key url is missing"));
        assert!(error(&[("url", b"x"), ("password", b"\xff")]).contains("key password is not UTF-8"));
    }

    #[test]
    fn a_secret_prints_no_password() {
        let dir = mounted(&[("url", b"postgres://u:c4n4ry!@h/d"), ("password", b"c4n4ry!")]);
        let secret = Secret::read(Store::Database, dir.path(), SCHEME).unwrap();
        assert!(!format!("{secret:?}").contains("c4n4ry"));
    }
}
