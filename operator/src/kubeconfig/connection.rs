//! Address, trust and credentials of a cluster.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Uri, uri::Scheme};
use kube::config::{AuthInfo, Cluster, ExecAuthCluster};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::ExposeSecret;

use super::{
    Asked, ConnectionError, Environment, choice::Chosen, exec::Plugin, id_token::IdToken, login::Source, proxy::Proxy,
};

/// Where a pod has its account.
pub(super) const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How a cluster is reached, and as whom.
#[derive(Debug)]
pub struct Connection {
    /// URL of the API server, with a scheme; the path is a prefix of every request.
    pub server: Uri,
    /// The namespace of requests without one.
    pub namespace: String,
    /// The proxy on the way, if there is one.
    pub proxy: Option<Proxy>,
    pub(super) trust: Trust,
    pub(super) server_name: Option<String>,
    pub(super) identity: Option<Pem>,
    pub(super) source: Source,
    pub(super) impersonation: AuthInfo,
}

/// By what the API server's certificate is checked.
#[derive(Debug)]
pub(super) enum Trust {
    /// By the authorities of this machine.
    System,
    /// By these.
    Authorities(Vec<CertificateDer<'static>>),
    /// By those in this file, which is read again from time to time.
    File(PathBuf, Vec<CertificateDer<'static>>),
    /// It is not.
    Nothing,
}

/// A client's certificate and key as PEM.
pub(super) struct Pem {
    pub(super) certificates: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pem")
    }
}

impl Connection {
    /// The way to what was chosen of a kubeconfig.
    ///
    /// # Errors
    /// A file that it names can't be read, or what is in it is of no use.
    pub(super) fn of(chosen: Chosen, environment: &Environment) -> Result<Self, ConnectionError> {
        let Chosen {
            cluster,
            user,
            namespace,
        } = chosen;
        let server = server(cluster.server.as_deref().unwrap_or_default())?;
        let is_secure = server.scheme() == Some(&Scheme::HTTPS);
        let proxy = match &cluster.proxy_url {
            Some(url) => Some(Proxy::of_cluster(url).map_err(|what| invalid(format!("cluster: proxy-url {what}")))?),
            None => Proxy::of_environment(environment, &server),
        };
        // No credentials without TLS: they could be read on the way.
        let (identity, source) = if is_secure {
            (identity(&user)?, source(&cluster, &user)?)
        } else {
            (None, Source::Nobody)
        };
        Ok(Self {
            trust: trust(&cluster)?,
            server,
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            proxy,
            server_name: cluster.tls_server_name,
            identity,
            source,
            impersonation: AuthInfo {
                impersonate: user.impersonate,
                impersonate_uid: user.impersonate_uid,
                impersonate_groups: user.impersonate_groups,
                impersonate_user_extra: user.impersonate_user_extra,
                ..AuthInfo::default()
            },
        })
    }

    /// The way from a pod to its cluster, as its account. As for client-go, a proxy of the environment is used here, too, unless `NO_PROXY`
    /// exempts the address in `KUBERNETES_SERVICE_HOST`. The account is in the folder `account`.
    ///
    /// # Errors
    /// The account can't be read.
    pub(super) fn of_pod(asked: &Asked, environment: &Environment, account: &Path) -> Result<Self, ConnectionError> {
        let text = |name| environment.text(name).unwrap_or_default();
        let (host, port) = (text("KUBERNETES_SERVICE_HOST"), text("KUBERNETES_SERVICE_PORT"));
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host,
        };
        let server = server(&format!("https://{host}:{port}"))?;
        let authority = asked
            .certificate_authority
            .clone()
            .filter(|path| !path.as_os_str().is_empty())
            .unwrap_or_else(|| account.join("ca.crt"));
        let authorities = authorities(
            &read("certificate-authority", &authority)?,
            &authority.display().to_string(),
        )?;
        let said = asked.namespace.clone().filter(|namespace| !namespace.is_empty());
        let namespace = said
            .or_else(|| environment.text("POD_NAMESPACE"))
            .or_else(|| std::fs::read_to_string(account.join("namespace")).ok())
            .map(|namespace| namespace.trim().to_owned())
            .filter(|namespace| !namespace.is_empty());
        let token = asked.token.clone().filter(|token| !token.is_empty());
        Ok(Self {
            proxy: Proxy::of_environment(environment, &server),
            server,
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            trust: Trust::File(authority, authorities),
            server_name: None,
            identity: None,
            source: match token {
                Some(token) => Source::token(Some(token), None)?,
                None => Source::token(None, Some(account.join("token")))?,
            },
            impersonation: AuthInfo {
                impersonate: asked.impersonate.clone(),
                impersonate_uid: asked.impersonate_uid.clone(),
                impersonate_groups: Some(asked.impersonate_groups.clone()).filter(|groups| !groups.is_empty()),
                ..AuthInfo::default()
            },
        })
    }
}

/// Whether this process is in a pod that has an account, in the folder `account`.
pub(super) fn is_pod(environment: &Environment, account: &Path) -> bool {
    environment.value("KUBERNETES_SERVICE_HOST").is_some()
        && environment.value("KUBERNETES_SERVICE_PORT").is_some()
        && account.join("token").is_file()
}

fn invalid(what: impl Into<String>) -> ConnectionError {
    ConnectionError::Invalid(vec![what.into()])
}

/// The URL of a server; without a scheme it is one in plain text, as for kubectl.
fn server(text: &str) -> Result<Uri, ConnectionError> {
    let none = || invalid(format!("cluster: server is {text:?}; write https://HOST:PORT"));
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: Uri = whole.parse().map_err(|_| none())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => {}
        _ => return Err(none()),
    }
    // What is behind a question mark is no part of a prefix.
    let mut parts = uri.into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", |path| path.path()).to_owned();
    parts.path_and_query = Some(path.parse().map_err(|_| none())?);
    Uri::from_parts(parts).map_err(|_| none())
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ConnectionError> {
    std::fs::read(path).map_err(|error| ConnectionError::Unreadable {
        what,
        path: path.to_owned(),
        error,
    })
}

/// What stands in `data` as base64, else in the file at `path`.
fn data_or_file(
    what: &'static str,
    data: Option<&str>,
    path: Option<&str>,
) -> Result<Option<(Vec<u8>, String)>, ConnectionError> {
    if let Some(data) = data {
        // A long value may be folded.
        let lines: String = data.chars().filter(|char| !matches!(char, '\n' | '\r')).collect();
        let decoded = BASE64_STANDARD
            .decode(lines)
            .map_err(|error| invalid(format!("{what}-data is no base64: {error}")))?;
        return Ok(Some((decoded, format!("{what}-data"))));
    }
    path.map(|path| Ok((read(what, Path::new(path))?, path.to_owned())))
        .transpose()
}

fn trust(cluster: &Cluster) -> Result<Trust, ConnectionError> {
    let found = data_or_file(
        "certificate-authority",
        cluster.certificate_authority_data.as_deref(),
        cluster.certificate_authority.as_deref(),
    )?;
    Ok(match found {
        _ if cluster.insecure_skip_tls_verify == Some(true) => Trust::Nothing,
        Some((pem, whence)) if !pem.is_empty() => Trust::Authorities(authorities(&pem, &whence)?),
        _ => Trust::System,
    })
}

/// The authorities of a bundle. Unusable certificates are skipped, as by Go, as long as one is usable.
fn authorities(pem: &[u8], whence: &str) -> Result<Vec<CertificateDer<'static>>, ConnectionError> {
    let mut probe = RootCertStore::empty();
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .filter_map(Result::ok)
        .filter(|certificate| probe.add(certificate.clone()).is_ok())
        .collect();
    if all.is_empty() {
        return Err(invalid(format!("{whence}: there is no certificate in PEM")));
    }
    Ok(all)
}

fn identity(user: &AuthInfo) -> Result<Option<Pem>, ConnectionError> {
    let certificates = data_or_file(
        "client-certificate",
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_deref(),
    )?;
    let Some((certificates, _)) = certificates else {
        return Ok(None);
    };
    let key = data_or_file(
        "client-key",
        user.client_key_data.as_ref().map(|key| key.expose_secret()),
        user.client_key.as_deref(),
    )?;
    Ok(key.map(|(key, _)| Pem { certificates, key }))
}

/// The user's credentials, besides a certificate.
fn source(cluster: &Cluster, user: &AuthInfo) -> Result<Source, ConnectionError> {
    let token = user.token.as_ref().map(|token| token.expose_secret().to_owned());
    if token.is_some() || user.token_file.is_some() {
        return Source::token(token, user.token_file.as_ref().map(PathBuf::from));
    }
    if user.username.is_some() || user.password.is_some() {
        let password = user.password.as_ref().map_or("", |password| password.expose_secret());
        return Source::basic(user.username.as_deref().unwrap_or_default(), password);
    }
    if let Some(provider) = &user.auth_provider {
        return IdToken::of(provider).map(Source::IdToken).map_err(invalid);
    }
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    match &user.exec {
        // A client certificate is proof enough.
        Some(exec) if !has_certificate => {
            let cluster = if exec.provide_cluster_info {
                let told = ExecAuthCluster::try_from(cluster).map_err(|error| invalid(format!("cluster: {error}")))?;
                Some(told)
            } else {
                None
            };
            Ok(Source::Plugin(Box::new(Plugin::of(exec, cluster))))
        }
        _ => Ok(Source::Nobody),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_scheme_is_one_in_plain_text() {
        for (text, expected) in [
            ("https://x:6443", "https://x:6443/"),
            ("https://x:6443/", "https://x:6443/"),
            ("https://x/k8s/clusters/c-1?a=b", "https://x/k8s/clusters/c-1"),
            ("https://[2001:db8::1]:6443", "https://[2001:db8::1]:6443/"),
            ("x:8080", "http://x:8080/"),
        ] {
            assert_eq!(server(text).unwrap().to_string(), expected);
        }
        for text in ["", "unix:///x", "https://", "https:///x", "https://x y"] {
            assert!(server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_folded_value_in_base64_is_one_value() {
        let found = data_or_file("client-key", Some("aGVs\n  \nbG8=\r\n"), None);
        assert!(found.is_err(), "a blank is none of base64");
        let (found, _) = data_or_file("client-key", Some("aGVs\nbG8=\r\n"), None)
            .unwrap()
            .unwrap();
        assert_eq!(found, b"hello");
        assert!(data_or_file("client-key", None, None).unwrap().is_none());
    }

    /// An authority that has signed nothing.
    const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUdC3ZluaeIVB5Tkt+KGlcltnKe48wCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMzAwMDA2MDZaGA8yMTI2MTEwNjAwMDYw
NlowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJJa
nmAEY2n2UgENuHjKh/YG0IrTj7ofr2W2xgj/7KlTsWHQj68c/8bodnaMkmyC0K2c
rkicxxsEB/tkBE4LJ1ajUzBRMB0GA1UdDgQWBBTcK7Q40sMb1RK6L7DddFbcEnE4
HTAfBgNVHSMEGDAWgBTcK7Q40sMb1RK6L7DddFbcEnE4HTAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIQDAEWn3QgET3KqoaR/b4PrdCxhy7B2fzwms
cDSaaA4P6gIgKv5QhPmEKukJc/H9bi316IhV/LG+9a4YIT9Aq+PQ2Ek=
-----END CERTIFICATE-----
";

    #[test]
    fn a_pod_goes_to_its_cluster_as_its_account_and_by_the_proxy_of_its_environment() {
        let account = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(account.path().join(name), text).unwrap();
        let pod = [
            ("KUBERNETES_SERVICE_HOST", "fd00::1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
        ];
        let with = |more: &[(&'static str, &'static str)]| Environment::of([&pod[..], more].concat());
        assert!(!is_pod(&with(&[]), account.path()), "there is no account");
        write("token", "secret\n");
        write("ca.crt", AUTHORITY);
        assert!(is_pod(&with(&[]), account.path()));
        assert!(!is_pod(&Environment::of([pod[0]]), account.path()));

        let connect = |asked: &Asked, more: &[(&'static str, &'static str)]| {
            Connection::of_pod(asked, &with(more), account.path()).unwrap()
        };
        let by_default = connect(&Asked::default(), &[]);
        assert_eq!(by_default.server, "https://[fd00::1]:443/");
        assert_eq!((by_default.namespace.as_str(), &by_default.proxy), ("default", &None));
        assert!(matches!(&by_default.source, Source::File { path, else_: None } if path.ends_with("token")));
        assert!(matches!(&by_default.trust, Trust::File(path, all) if path.ends_with("ca.crt") && all.len() == 1));
        write("namespace", "mapa-system\n");
        assert_eq!(connect(&Asked::default(), &[]).namespace, "mapa-system");
        assert_eq!(
            connect(&Asked::default(), &[("POD_NAMESPACE", "other")]).namespace,
            "other"
        );
        let asked = Asked {
            namespace: Some("radar".to_owned()),
            token: Some("mine".to_owned()),
            ..Asked::default()
        };
        let flagged = connect(&asked, &[]);
        assert_eq!(flagged.namespace, "radar");
        assert!(matches!(&flagged.source, Source::Fixed(header) if header == "Bearer mine"));

        let proxied = connect(&Asked::default(), &[("HTTPS_PROXY", "cache.test:3128")]);
        assert_eq!(proxied.proxy.unwrap().to_string(), "http://cache.test:3128");
        let exempt = [("HTTPS_PROXY", "cache.test:3128"), ("NO_PROXY", "fd00::/8")];
        assert_eq!(connect(&Asked::default(), &exempt).proxy, None);
        write("ca.crt", "none");
        assert!(Connection::of_pod(&Asked::default(), &with(&[]), account.path()).is_err());
    }
}
