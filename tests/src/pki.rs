//! Certificates for one cluster.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::{Result, error::Step};

/// A certificate authority and the folder that its certificates are written to.
pub struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes the authority: `ca.crt`, and `sa.key` with `sa.pub` for service account tokens.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn new(folder: PathBuf) -> Result<Self> {
        const STEP: &str = "make the certificate authority";
        fs::create_dir_all(&folder).step_at("create", &folder)?;
        let key = KeyPair::generate().step(STEP)?;
        let mut params = CertificateParams::new(Vec::new()).step(STEP)?;
        params.distinguished_name.push(DnType::CommonName, "mapa-refresh-test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params.self_signed(&key).step(STEP)?;
        write(&folder.join("ca.crt"), &certificate.pem())?;
        let tokens = KeyPair::generate().step(STEP)?;
        write(&folder.join("sa.key"), &tokens.serialize_pem())?;
        write(&folder.join("sa.pub"), &tokens.public_key_pem())?;
        Ok(Self {
            folder,
            issuer: Issuer::new(params, key),
        })
    }

    /// Writes `<name>.crt` and `<name>.key` for the user `common_name` in the group `organization`, valid as a server at `names`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn issue(&self, name: &str, common_name: &str, organization: &str, names: &[&str]) -> Result<()> {
        let step = format!("make the certificate {name}");
        let key = KeyPair::generate().step(&step)?;
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).step(&step)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let certificate = params.signed_by(&key, &self.issuer).step(&step)?;
        write(&self.path(&format!("{name}.crt")), &certificate.pem())?;
        write(&self.path(&format!("{name}.key")), &key.serialize_pem())
    }

    /// Where a file of it is.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// A kubeconfig for the certificate `name`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn kubeconfig(&self, name: &str, server: &str) -> Result<PathBuf> {
        let path = self.path(&format!("{name}.kubeconfig"));
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": { "server": server, "certificate-authority": self.path("ca.crt") } }],
            "users": [{ "name": name, "user": {
                "client-certificate": self.path(&format!("{name}.crt")),
                "client-key": self.path(&format!("{name}.key")),
            } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": name } }],
            "current-context": "test",
        });
        write(&path, &config.to_string())?;
        Ok(path)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).step_at("write", path)
}
