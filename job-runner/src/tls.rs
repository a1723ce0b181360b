//! TLS for both stores: rustls with ring, the roots compiled in or the Secret's own authority, always verified.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// A `ca.crt` that can't be used.
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

/// A client that trusts the authorities in `ca`, or else the public ones.
///
/// # Errors
/// When `ca` can't be used.
pub fn client(ca: Option<&[u8]>) -> Result<ClientConfig, CaError> {
    let roots = match ca {
        Some(pem) => authorities(pem)?,
        None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| CaError::NoCertificate)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_ca_is_named_as_such() {
        assert!(matches!(client(Some(b"x")), Err(CaError::NoCertificate)));
        let spoilt = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(client(Some(spoilt)), Err(CaError::NoCertificate)));
        assert!(client(None).is_ok());
    }
}
