//! TLS for both stores: rustls with ring, the Secret's own authorities, or else a bundle for all, or else the public ones; always verified.

mod explain;

use std::{fs, path::Path};

use mapa_refresh_crds::secret_keys as keys;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use secrecy::{ExposeSecret, SecretString};

pub use self::explain::{Explanation, explain, in_chain};
use crate::secret::{ClientPem, Secret, SecretError, Store};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Shortest line of a key that is redacted: shorter ones occur in any text.
const MIN_KEY_LINE: usize = 16;

/// Makes ring the process' provider of cryptography, for libraries that look for one.
pub fn install_provider() {
    // An error means that one is installed already: the same.
    let _ = ring::default_provider().install_default();
}

/// Certificate authorities that a store's certificate may come from.
#[derive(Clone, Debug)]
pub struct Authorities {
    /// What a connection trusts.
    pub roots: RootCertStore,
    /// The same in PEM, for libraries that read it themselves; absent for the public ones.
    pub pem: Option<Vec<u8>>,
}

/// The authorities of Mozilla's program, as compiled in.
#[must_use]
pub fn public_authorities() -> Authorities {
    Authorities {
        roots: webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
        pem: None,
    }
}

/// The authorities by which the certificate of `store` is judged: those of its Secret, mounted at `dir`, or else of the bundle for all, or else the
/// public ones.
///
/// # Errors
/// When none of the Secret's, or of the bundle's, can be used.
pub fn authorities(
    store: Store,
    dir: &Path,
    secret: &Secret,
    bundle: Option<&Path>,
) -> Result<Authorities, SecretError> {
    match (&secret.ca, bundle) {
        (Some(pem), _) => {
            let of = format!("key {} of the {store}'s Secret", keys::CA_CERT);
            parse(pem, &of).map_err(|problem| SecretError::new(store, dir, keys::CA_CERT, problem, ""))
        }
        (None, Some(path)) => {
            let unusable = |problem: &dyn std::fmt::Display| SecretError::of_bundle(store, path, problem);
            let pem = fs::read(path).map_err(|error| unusable(&format_args!("can't be read: {error}")))?;
            parse(&pem, "the bundle of authorities").map_err(|problem| unusable(&problem))
        }
        (None, None) => Ok(public_authorities()),
    }
}

/// The certificates in `pem`, which is `of` something. One that can't be read is skipped with a warning: a bundle of a whole company should not fail
/// for one of them.
fn parse(pem: &[u8], of: &str) -> Result<Authorities, &'static str> {
    let text = String::from_utf8_lossy(pem);
    let mut roots = RootCertStore::empty();
    let mut usable = String::new();
    let mut number = 0;
    for block in text.split(BEGIN).skip(1) {
        number += 1;
        let block = block.split(END).next().unwrap_or_default();
        let block = format!("{BEGIN}{block}{END}\n");
        let added =
            CertificateDer::from_pem_slice(block.as_bytes()).is_ok_and(|certificate| roots.add(certificate).is_ok());
        if added {
            usable.push_str(&block);
        } else {
            tracing::warn!("certificate {number} of {of} can't be read, and is skipped");
        }
    }
    match (number, roots.is_empty()) {
        (0, _) => Err("holds no certificate in PEM"),
        (_, true) => Err("holds no certificate that can be read"),
        (_, false) => Ok(Authorities {
            roots,
            pem: Some(usable.into_bytes()),
        }),
    }
}

/// A client certificate with its chain, and its key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pem: ClientPem,
}

impl Identity {
    /// The client certificate of a Secret of `store` that is mounted at `dir`.
    ///
    /// # Errors
    /// When certificate or key can't be read, or they are not of each other.
    pub fn new(store: Store, dir: &Path, pem: ClientPem) -> Result<Self, SecretError> {
        let wrong = |key: &str, problem: &str| SecretError::new(store, dir, key, problem, "");
        let chain = CertificateDer::pem_slice_iter(&pem.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| wrong(keys::TLS_CERT, "holds a certificate that can't be read"))?;
        if chain.is_empty() {
            return Err(wrong(keys::TLS_CERT, "holds no certificate in PEM"));
        }
        let text = pem.key.expose_secret();
        if text.contains("ENCRYPTED") {
            return Err(SecretError::complete(
                store,
                dir,
                keys::TLS_KEY,
                "is encrypted: `openssl pkey -in tls.key -out decrypted.key` decrypts it",
            ));
        }
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| wrong(keys::TLS_KEY, "holds no private key in PEM"))?;
        let identity = Self { chain, key, pem };
        identity.judge().map_err(|(key, problem)| wrong(key, problem))?;
        Ok(identity)
    }

    fn judge(&self) -> Result<(), (&'static str, &'static str)> {
        let provider = ring::default_provider();
        let belongs = |certificate: &CertificateDer<'static>| {
            CertifiedKey::from_der(vec![certificate.clone()], self.key.clone_key(), &provider)
        };
        match self.chain.first().map(belongs) {
            Some(Ok(_)) => Ok(()),
            Some(Err(rustls::Error::InconsistentKeys(_))) => {
                if self.chain.iter().skip(1).any(|other| belongs(other).is_ok()) {
                    Err((
                        keys::TLS_CERT,
                        "has its certificates in the wrong order: the client's own comes first",
                    ))
                } else {
                    Err((keys::TLS_KEY, "does not belong to the certificate in tls.crt"))
                }
            }
            Some(Err(rustls::Error::InvalidCertificate(_))) | None => {
                Err((keys::TLS_CERT, "holds a certificate that can't be read"))
            }
            Some(Err(_)) => Err((
                keys::TLS_KEY,
                "is of a kind that is not supported: RSA from 2048 bits, ECDSA on P-256 or P-384, Ed25519",
            )),
        }
    }

    /// Certificate and key as they were read, for libraries that read PEM themselves.
    #[must_use]
    pub fn pem(&self) -> (Vec<u8>, Vec<u8>) {
        (
            self.pem.certificate.clone(),
            self.pem.key.expose_secret().as_bytes().to_vec(),
        )
    }

    /// The lines of the key: none may appear in a message.
    pub fn secrets(&self) -> impl Iterator<Item = SecretString> {
        let lines = self.pem.key.expose_secret().lines().map(str::trim);
        lines
            .filter(|line| line.len() >= MIN_KEY_LINE && !line.starts_with("---"))
            .map(|line| line.to_owned().into())
    }
}

/// A client that trusts `roots`, and shows `identity` when it is asked for a certificate.
///
/// # Errors
/// When the identity can't be used, which [`Identity::new`] has excluded.
pub fn client(roots: RootCertStore, identity: Option<&Identity>) -> Result<ClientConfig, rustls::Error> {
    // The process' own provider, which is ring: the builder with another could fail.
    install_provider();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()),
        None => Ok(builder.with_no_client_auth()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;

    fn self_signed(name: &str, key: &KeyPair) -> String {
        CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .self_signed(key)
            .unwrap()
            .pem()
    }

    fn authority(name: &str) -> String {
        self_signed(name, &KeyPair::generate().unwrap())
    }

    #[test]
    fn an_unusable_ca_is_named_as_such() {
        let spoilt = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (pem, expected) in [
            (&b"x"[..], "no certificate in PEM"),
            (b"# only a comment\n", "no certificate in PEM"),
            (
                b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "no certificate in PEM",
            ),
            (spoilt, "no certificate that can be read"),
            (b"-----BEGIN CERTIFICATE-----\n", "no certificate that can be read"),
        ] {
            let error = parse(pem, "x").unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(!public_authorities().roots.is_empty());
    }

    #[test]
    fn one_bad_certificate_does_not_reject_a_bundle() {
        let (first, last) = (authority("first"), authority("last"));
        let cut = &authority("cut")[..200];
        let base64 = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
        let der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let bundle = format!("# ours\n{first}{base64}\r\n{der}{cut}\n{last}");
        let authorities = parse(bundle.as_bytes(), "x").unwrap();
        assert_eq!(authorities.roots.len(), 2);
        let pem = authorities.pem.unwrap();
        assert_eq!(
            CertificateDer::pem_slice_iter(&pem)
                .collect::<Result<Vec<_>, _>>()
                .unwrap()
                .len(),
            2,
            "what a library reads itself is usable as a whole"
        );
    }

    #[test]
    fn a_bundle_that_is_missing_or_empty_names_its_file_and_who_should_make_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("url"), "x").unwrap();
        let path = dir.path().join("ca.pem");
        let read = || {
            let secret = Secret::read(Store::Cache, dir.path(), "x").unwrap();
            authorities(Store::Cache, dir.path(), &secret, Some(&path))
                .unwrap_err()
                .to_string()
        };
        let missing = read();
        fs::write(&path, "").unwrap();
        let empty = read();
        for (error, problem) in [(missing, "can't be read"), (empty, "holds no certificate")] {
            let place = format!("the bundle of authorities ({})", path.display());
            assert!(error.contains(&place) && error.contains(problem), "{error}");
            assert!(
                error.contains("ConfigMap") && error.contains("cache's Secret"),
                "{error}"
            );
        }
    }

    fn identity(certificate: &str, key: &str) -> Result<Identity, String> {
        let pem = ClientPem {
            certificate: certificate.as_bytes().to_vec(),
            key: key.to_owned().into(),
        };
        Identity::new(Store::Cache, Path::new("/x"), pem).map_err(|error| error.to_string())
    }

    #[test]
    fn a_client_certificate_and_its_key_are_read_or_the_wrong_one_is_named() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let (certificate, other) = (self_signed("client", &key), authority("other"));
        let pem = key.serialize_pem();
        for chain in [certificate.clone(), format!("{certificate}{other}")] {
            let identity = identity(&chain, &pem).unwrap();
            client(public_authorities().roots, Some(&identity)).unwrap();
            let secrets: Vec<_> = identity.secrets().collect();
            let is_covered = |line: &str| secrets.iter().any(|secret| secret.expose_secret() == line);
            assert!(
                pem.lines()
                    .filter(|line| !line.starts_with('-'))
                    .filter(|line| line.len() >= 16)
                    .all(is_covered)
            );
            assert!(!format!("{identity:?}").contains(pem.lines().nth(1).unwrap()));
        }
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        identity(&self_signed("client", &ed25519), &ed25519.serialize_pem()).unwrap();

        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let unknown = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let cases = [
            (
                certificate.clone(),
                KeyPair::generate().unwrap().serialize_pem(),
                "key tls.key does not belong",
            ),
            (
                format!("{other}{certificate}"),
                pem.clone(),
                "key tls.crt has its certificates in the wrong order",
            ),
            (certificate.clone(), encrypted.to_owned(), "key tls.key is encrypted"),
            (certificate.clone(), legacy.to_owned(), "key tls.key is encrypted"),
            (certificate.clone(), unknown.to_owned(), "key tls.key is of a kind"),
            (certificate.clone(), certificate, "key tls.key holds no private key"),
            (pem.clone(), pem.clone(), "key tls.crt holds no certificate"),
            ("x".to_owned(), pem, "key tls.crt holds no certificate"),
        ];
        for (certificate, key, expected) in cases {
            let error = identity(&certificate, &key).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
