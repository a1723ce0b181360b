//! Credentials for the API server, cached until they expire or are refused.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use tokio::sync::Mutex;

use super::{
    ConnectionError,
    exec::{ExecError, Plugin},
    id_token::IdToken,
};

/// How long a token that was read from a file is taken for the one that is there, as client-go has it: the kubelet replaces it.
const READ_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(50);

/// Where a proof comes from.
#[derive(Debug)]
pub enum Source {
    /// No header: anonymous, or authenticated by a certificate.
    Nobody,
    /// The same with every request.
    Fixed(HeaderValue),
    /// A token in a file that another program renews; `else_` while the file can't be read.
    File {
        /// The file.
        path: PathBuf,
        /// The token that is there instead.
        else_: Option<HeaderValue>,
    },
    /// The token of an OpenID Connect provider.
    IdToken(IdToken),
    /// A program that prints a credential.
    Plugin(Box<Plugin>),
}

impl Source {
    /// A token, a file of one, or both, of which the file holds while it can be read.
    ///
    /// # Errors
    /// There is no token, or it can't be sent.
    pub fn token(token: Option<String>, file: Option<PathBuf>) -> Result<Self, ConnectionError> {
        let token = token.map(|token| bearer(&token)).transpose().map_err(refused)?;
        match (token, file) {
            (token, Some(path)) => {
                if token.is_none() {
                    std::fs::metadata(&path).map_err(|error| ConnectionError::Unreadable {
                        what: "token",
                        path: path.clone(),
                        error,
                    })?;
                    read(&path).map_err(refused)?;
                }
                Ok(Self::File { path, else_: token })
            }
            (Some(token), None) => Ok(Self::Fixed(token)),
            (None, None) => Ok(Self::Nobody),
        }
    }

    /// A user and a password.
    ///
    /// # Errors
    /// Never: base64 can be sent.
    pub fn basic(user: &str, password: &str) -> Result<Self, ConnectionError> {
        let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
        header(format!("Basic {both}")).map(Self::Fixed).map_err(refused)
    }
}

fn refused(error: LoginError) -> ConnectionError {
    ConnectionError::Invalid(vec![format!("user: {error}")])
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// A token has what no header can have.
    #[error("the token has a line break or another character that no header can have")]
    Unsendable,
    /// The file of the token is of no use.
    #[error("no token in {}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The provider's token is of no use.
    #[error("{0}")]
    IdToken(String),
    /// The credential plugin gave none.
    #[error(transparent)]
    Plugin(#[from] ExecError),
    /// A certificate or key is of no use.
    #[error("the client certificate is of no use: {0}")]
    Identity(String),
    /// This machine has no room.
    #[error("could not wait for the credential plugin: {0}")]
    Runtime(String),
}

fn header(text: String) -> Result<HeaderValue, LoginError> {
    let mut header = HeaderValue::try_from(text).map_err(|_| LoginError::Unsendable)?;
    header.set_sensitive(true);
    Ok(header)
}

fn bearer(token: &str) -> Result<HeaderValue, LoginError> {
    header(format!("Bearer {token}"))
}

/// The token in the file at `path`, without the blanks and line breaks around it.
fn read(path: &Path) -> Result<HeaderValue, LoginError> {
    let none = |what: String| LoginError::File {
        path: path.to_owned(),
        what,
    };
    let text = std::fs::read_to_string(path).map_err(|error| none(error.to_string()))?;
    match text.trim() {
        "" => Err(none("it is empty".to_owned())),
        token => bearer(token),
    }
}

/// A proof as it is held.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// What goes with each request.
    pub authorization: Option<HeaderValue>,
    /// Which certificate is shown; another number, another one.
    pub generation: u64,
    /// When another is asked for.
    until: Option<Timestamp>,
}

/// Who asks.
pub struct Login {
    source: Source,
    held: Mutex<Option<Held>>,
    identity: Arc<Identity>,
    provider: Arc<CryptoProvider>,
}

impl Login {
    /// By `source`, and by what `identity` shows.
    #[must_use]
    pub fn new(source: Source, identity: Arc<Identity>, provider: Arc<CryptoProvider>) -> Self {
        Self {
            source,
            held: Mutex::default(),
            identity,
            provider,
        }
    }

    /// The proof of now. Of all who ask at once one runs the credential plugin, and the others wait for it.
    ///
    /// # Errors
    /// There is none.
    pub async fn current(&self) -> Result<Held, LoginError> {
        let mut held = self.held.lock().await;
        let now = Timestamp::now();
        if let Some(known) = &*held
            && known.until.is_none_or(|until| now < until)
        {
            return Ok(known.clone());
        }
        let new = match self.renewed(held.as_ref(), now).await {
            Ok(new) => new,
            // A file that is being replaced may be missing for a moment: the API server decides whether the old token still holds.
            Err(LoginError::File { .. }) if held.is_some() => return Ok(held.clone().unwrap_or_default()),
            Err(error) => return Err(error),
        };
        *held = Some(new.clone());
        Ok(new)
    }

    /// The API server does not believe `proof`: the next request asks for another.
    pub async fn was_refused(&self, proof: &Held) {
        let mut held = self.held.lock().await;
        if let Some(known) = &mut *held
            && known.authorization == proof.authorization
            && known.generation == proof.generation
        {
            known.until = Some(Timestamp::MIN);
        }
    }

    async fn renewed(&self, old: Option<&Held>, now: Timestamp) -> Result<Held, LoginError> {
        let generation = old.map_or(0, |old| old.generation);
        let with = |authorization, until| Held {
            authorization,
            generation,
            until,
        };
        Ok(match &self.source {
            Source::Nobody => with(None, None),
            Source::Fixed(header) => with(Some(header.clone()), None),
            Source::File { path, else_ } => {
                let until = Some(now + READ_AGAIN_AFTER);
                match (read(path), else_) {
                    (Ok(token), _) => with(Some(token), until),
                    (Err(_), Some(token)) => with(Some(token.clone()), until),
                    (Err(error), None) => return Err(error),
                }
            }
            Source::IdToken(token) => {
                let token = token.at(now).map_err(LoginError::IdToken)?;
                // Whether it still holds is asked each time: that costs nothing.
                with(Some(bearer(token)?), Some(now))
            }
            Source::Plugin(plugin) => {
                let plugin = plugin.clone();
                // It may wait for a login in a browser; meanwhile other work goes on.
                let credential = tokio::task::spawn_blocking(move || plugin.run())
                    .await
                    .map_err(|error| LoginError::Runtime(error.to_string()))??;
                let shown = match &credential.identity {
                    Some((certificates, key)) => {
                        Some(certified(certificates.as_bytes(), key.as_bytes(), &self.provider)?)
                    }
                    None => None,
                };
                Held {
                    generation: self.identity.show(shown),
                    authorization: credential.token.as_deref().map(bearer).transpose()?,
                    until: credential.expires,
                }
            }
        })
    }
}

/// Certificates and key, which must belong together.
///
/// # Errors
/// They are none, or don't.
pub fn certified(certificates: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, LoginError> {
    let none = |what: String| LoginError::Identity(what);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .map_err(|error| none(format!("client-certificate: {error}")))?;
    if chain.is_empty() {
        return Err(none("client-certificate: there is no certificate in PEM".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| none(format!("client-key: {error}")))?;
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(|error| none(error.to_string()))
}

/// The certificate that is shown to a server that asks for one.
#[derive(Default)]
pub struct Identity(RwLock<(u64, Option<Arc<CertifiedKey>>)>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Shows `certificate` from now on; returns the number of times that another one was shown.
    pub fn show(&self, certificate: Option<Arc<CertifiedKey>>) -> u64 {
        let mut shown = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let chain = |key: &Option<Arc<CertifiedKey>>| key.as_ref().map(|key| key.cert.clone());
        if chain(&shown.1) != chain(&certificate) {
            shown.0 += 1;
        }
        shown.1 = certificate;
        shown.0
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    fn has_certs(&self) -> bool {
        // Whether one comes of a credential plugin is known only when it is asked for.
        true
    }
}

#[cfg(test)]
mod tests {
    use kube::config::ExecConfig;

    use super::*;

    fn login(source: Source) -> Login {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Login::new(source, Arc::default(), provider)
    }

    fn sent(held: &Held) -> String {
        held.authorization.as_ref().unwrap().to_str().unwrap().to_owned()
    }

    /// A plugin that counts its runs in `folder` and prints the count as its token.
    fn counting(folder: &Path, expires: &str) -> Source {
        let script = format!(
            "echo >> '{0}/runs'; echo '{{\"kind\": \"ExecCredential\", \"apiVersion\": \"v\", \"status\": {{\"token\": \"'$(wc -l < '{0}/runs')'\" {expires}}}}}'",
            folder.display()
        );
        let config: ExecConfig = serde_json::from_value(serde_json::json!({
            "apiVersion": "v", "command": "sh", "args": ["-c", script], "interactiveMode": "Never",
        }))
        .unwrap();
        Source::Plugin(Box::new(Plugin::of(&config, None)))
    }

    #[tokio::test]
    async fn a_credential_plugin_is_run_once_until_its_credential_ends_or_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let login = login(counting(folder.path(), ""));
        let (first, second) = tokio::join!(login.current(), login.current());
        let first = first.unwrap();
        assert_eq!(
            (sent(&first), sent(&second.unwrap())),
            ("Bearer 1".to_owned(), "Bearer 1".to_owned())
        );
        login.was_refused(&first).await;
        let second = login.current().await.unwrap();
        assert_eq!(sent(&second), "Bearer 2");
        // Somebody else's request that was refused with the first says nothing about the second.
        login.was_refused(&first).await;
        assert_eq!(sent(&login.current().await.unwrap()), "Bearer 2");
    }

    #[tokio::test]
    async fn an_expired_credential_is_asked_for_anew() {
        let folder = tempfile::tempdir().unwrap();
        let login = login(counting(
            folder.path(),
            ", \"expirationTimestamp\": \"2020-01-01T00:00:00Z\"",
        ));
        assert_eq!(sent(&login.current().await.unwrap()), "Bearer 1");
        assert_eq!(sent(&login.current().await.unwrap()), "Bearer 2");
    }

    #[tokio::test]
    async fn a_token_file_holds_over_a_token_and_its_line_break_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "\n file-token \r\n").unwrap();
        let of = |token: Option<&str>| Source::token(token.map(str::to_owned), Some(path.clone()));
        for token in [None, Some("token")] {
            assert_eq!(
                sent(&login(of(token).unwrap()).current().await.unwrap()),
                "Bearer file-token"
            );
        }
        let alone = login(of(None).unwrap());
        let held = alone.current().await.unwrap();
        std::fs::remove_file(&path).unwrap();
        alone.was_refused(&held).await;
        assert_eq!(
            sent(&alone.current().await.unwrap()),
            "Bearer file-token",
            "the last that was read"
        );
        assert_eq!(
            sent(&login(of(Some("token")).unwrap()).current().await.unwrap()),
            "Bearer token"
        );
        assert!(matches!(of(None), Err(ConnectionError::Unreadable { .. })));
        std::fs::write(&path, " \n").unwrap();
        assert!(of(None).unwrap_err().to_string().contains("it is empty"));
        let broken = Source::token(Some("a\nb".to_owned()), None).unwrap_err().to_string();
        assert!(broken.contains("line break"), "{broken}");
    }
}
