//! TLS for both stores: rustls with ring, the Secret's own authorities, or else a bundle for all, or else the public ones; always verified.

use std::{fs, path::Path};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::secret::{SecretError, Store};

/// Authorities that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Not PEM.
    #[error("is no PEM: {0}")]
    Pem(String),
    /// PEM without a certificate, or with one that is none.
    #[error("holds no usable certificate")]
    NoCertificate,
}

/// Makes ring the process' provider of cryptography, for libraries that look for one.
pub fn install_provider() {
    // An error means that one is installed already: the same.
    let _ = ring::default_provider().install_default();
}

/// The authorities in `pem`.
///
/// # Errors
/// When there is none, or one can't be read.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, CaError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| CaError::Pem(error.to_string()))?;
        roots.add(certificate).map_err(|_| CaError::NoCertificate)?;
    }
    if roots.is_empty() {
        Err(CaError::NoCertificate)
    } else {
        Ok(roots)
    }
}

/// Authorities for stores whose Secret has none.
#[derive(Debug)]
pub struct Bundle {
    /// As it was read.
    pub pem: Vec<u8>,
    /// What it holds.
    pub roots: RootCertStore,
}

/// Reads the bundle at `path` for the certificate of `store`.
///
/// # Errors
/// When it is not there, or holds no usable authority.
pub fn bundle(store: Store, path: &Path) -> Result<Bundle, SecretError> {
    let unusable = |problem: &dyn std::fmt::Display| SecretError::of_bundle(store, path, problem);
    let pem = fs::read(path).map_err(|error| unusable(&format_args!("can't be read: {error}")))?;
    let roots = authorities(&pem).map_err(|error| unusable(&error))?;
    Ok(Bundle { pem, roots })
}

/// The authorities of Mozilla's program, as compiled in.
#[must_use]
pub fn public_authorities() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// A client that trusts `roots`.
#[must_use]
pub fn client(roots: RootCertStore) -> ClientConfig {
    // The process' own provider, which is ring: the builder with another could fail.
    install_provider();
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_ca_is_named_as_such() {
        assert!(matches!(authorities(b"x"), Err(CaError::NoCertificate)));
        let spoilt = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(authorities(spoilt), Err(CaError::NoCertificate)));
        assert!(!public_authorities().is_empty());
    }

    #[test]
    fn a_bundle_that_is_missing_or_empty_names_its_file_and_who_should_make_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.crt");
        let missing = bundle(Store::Cache, &path).unwrap_err().to_string();
        fs::write(&path, "x").unwrap();
        let empty = bundle(Store::Cache, &path).unwrap_err().to_string();
        for (error, problem) in [(missing, "can't be read"), (empty, "holds no usable certificate")] {
            let place = format!("the bundle of authorities ({})", path.display());
            assert!(error.contains(&place) && error.contains(problem), "{error}");
            assert!(
                error.contains("ConfigMap") && error.contains("cache's Secret"),
                "{error}"
            );
        }
    }
}
