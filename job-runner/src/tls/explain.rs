//! Why a connection over TLS failed, as a sentence, and what to do about it.

use std::{error::Error, io};

use chrono::DateTime;
use rustls::{
    AlertDescription, CertificateError, InvalidMessage,
    pki_types::{ServerName, UnixTime},
};

use crate::secret::Store;

/// Most names of a certificate in a message.
const MAX_NAMES: usize = 3;

/// Longest name of a certificate in a message, in bytes.
const MAX_NAME: usize = 60;

/// Why a connection over TLS failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What happened.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether it may pass by itself.
    pub may_pass: bool,
}

impl Explanation {
    fn lasting(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
            may_pass: false,
        }
    }
}

/// The error of TLS that `error` wraps, however deep.
#[must_use]
pub fn in_chain<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // An error of I/O passes over the error that it wraps: its source is that error's source.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner
        .and_then(|inner| in_chain(inner))
        .or_else(|| error.source().and_then(in_chain))
}

/// What `error` means for the connection to `store`. `has_certificate` says whether the Secret has a client certificate.
#[must_use]
pub fn explain(error: &rustls::Error, store: Store, has_certificate: bool) -> Explanation {
    match error {
        rustls::Error::InvalidCertificate(problem) => certificate(problem, store),
        rustls::Error::AlertReceived(alert) => alert_received(*alert, store, has_certificate),
        rustls::Error::PeerIncompatible(_) => incompatible(),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            Explanation::lasting(
                "the server answers in plain text",
                format!("check the port in the url, or ask for no TLS there ({})", plain(store)),
            )
        }
        rustls::Error::NoCertificatesPresented => Explanation::lasting(
            "the server shows no certificate",
            "give the server a certificate for its name",
        ),
        rustls::Error::InvalidCertRevocationList(_) => {
            Explanation::lasting("a revocation list can't be used", "renew it")
        }
        other => Explanation {
            what: format!("TLS failed: {other}"),
            remedy: "is something between that changes what is sent?".to_owned(),
            may_pass: true,
        },
    }
}

/// How the url of `store` asks for no TLS.
fn plain(store: Store) -> &'static str {
    match store {
        Store::Database => "sslmode=disable",
        Store::Cache => "redis:// instead of rediss://",
    }
}

fn certificate(problem: &CertificateError, store: Store) -> Explanation {
    let new_one = "give the server a certificate of version 3 for its name, which is no authority's";
    match problem {
        CertificateError::UnknownIssuer => Explanation::lasting(
            "the server's certificate comes from an authority that is not trusted",
            format!(
                "put the certificate of that authority into the key ca.crt of the {store}'s Secret; if it is there, the server has to send the \
                 intermediate certificates, too"
            ),
        ),
        CertificateError::Expired => expired(None),
        CertificateError::ExpiredContext { not_after, .. } => expired(Some(*not_after)),
        CertificateError::NotValidYet => not_yet(None),
        CertificateError::NotValidYetContext { not_before, .. } => not_yet(Some(*not_before)),
        CertificateError::NotValidForName => Explanation::lasting(
            "the server's certificate is for another name",
            "write a name of the certificate as the url's host, or give the server one for the url's",
        ),
        CertificateError::NotValidForNameContext { expected, presented } => other_name(expected, presented),
        CertificateError::Revoked => {
            Explanation::lasting("the server's certificate was revoked", "give the server a new one")
        }
        CertificateError::BadSignature => Explanation::lasting(
            "the server's certificate is not signed by the authority that it names",
            format!(
                "the key ca.crt of the {store}'s Secret may hold an older authority of the same name: put the present one there"
            ),
        ),
        CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => {
            Explanation::lasting("the server's certificate can't be read", new_one)
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Explanation::lasting(
            "the server's certificate is not made for servers",
            "give the server one with the extended key usage serverAuth",
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => weak(),
        CertificateError::Other(other) => by_text(&other.to_string(), new_one),
        // Names that are deprecated, and what later versions add.
        other if format!("{other:?}").starts_with("UnsupportedSignatureAlgorithm") => weak(),
        other => Explanation::lasting(format!("the server's certificate is refused: {other}"), new_one),
    }
}

/// Errors of the verifier that rustls has no names for. Their text is the name of the variant.
fn by_text(name: &str, new_one: &str) -> Explanation {
    let begins = |begin: &str| name.starts_with(begin);
    if begins("CaUsedAsEndEntity") {
        Explanation::lasting(
            "the server's certificate is an authority's own (CA:TRUE), as `openssl req -x509` makes it",
            "give the server one with basicConstraints=CA:FALSE, signed by an authority",
        )
    } else if begins("EndEntityUsedAsCa") {
        Explanation::lasting(
            "the server's certificate is signed by one that is no authority's (CA:FALSE)",
            "sign it by an authority: basicConstraints=CA:TRUE",
        )
    } else if begins("UnsupportedCertVersion") {
        Explanation::lasting("the server's certificate is not of X.509 version 3", new_one)
    } else if begins("PathLenConstraintViolated") || begins("NameConstraintViolation") {
        Explanation::lasting(
            "the server's certificate breaks a constraint of its authority",
            "have it issued by an authority that may",
        )
    } else if begins("UnsupportedSignatureAlgorithm") {
        weak()
    } else {
        Explanation::lasting(format!("the server's certificate is refused: {}", short(name)), new_one)
    }
}

fn weak() -> Explanation {
    Explanation::lasting(
        "the server's certificate is signed by an algorithm that is not trusted",
        "give the server one with SHA-256 or later, and RSA from 2048 bits, ECDSA or Ed25519",
    )
}

fn expired(not_after: Option<UnixTime>) -> Explanation {
    Explanation::lasting(
        format!("the server's certificate expired{}", on(not_after)),
        "renew it, and have the server load it; if it is valid, the node's clock is wrong",
    )
}

fn not_yet(not_before: Option<UnixTime>) -> Explanation {
    Explanation::lasting(
        format!("the server's certificate is not valid before{}", on(not_before)),
        "check the clocks of the node and of the authority",
    )
}

fn on(moment: Option<UnixTime>) -> String {
    let date = moment
        .and_then(|moment| i64::try_from(moment.as_secs()).ok())
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    date.map_or_else(String::new, |date| format!(" {}", date.format("%Y-%m-%dT%H:%M:%SZ")))
}

fn other_name(expected: &ServerName<'_>, presented: &[String]) -> Explanation {
    let expected = expected.to_str();
    let names: Vec<String> = presented
        .iter()
        .take(MAX_NAMES)
        .map(|name| readable_name(name))
        .collect();
    let more = presented.len().saturating_sub(MAX_NAMES);
    let of = match (names.is_empty(), more) {
        (true, _) => "no name at all (its subjectAltName counts, not its common name)".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    };
    Explanation::lasting(
        format!("the server's certificate is not for {expected}, but for {of}"),
        "write a name of the certificate as the url's host, or give the server one for the url's",
    )
}

/// A name as the verifier prints it, `DnsName("db")` or `IpAddress(10.0.0.1)`, without that frame.
fn readable_name(name: &str) -> String {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .unwrap_or(name);
    short(inner.trim_matches('"'))
}

fn short(text: &str) -> String {
    let cut = text.floor_char_boundary(MAX_NAME);
    text.get(..cut).unwrap_or_default().to_owned()
}

fn alert_received(alert: AlertDescription, store: Store, has_certificate: bool) -> Explanation {
    use AlertDescription as Alert;
    let client = |what: &str| {
        Explanation::lasting(
            format!("the server refuses the client certificate in tls.crt: {what}"),
            format!("renew tls.crt and tls.key in the {store}'s Secret by an authority that the server trusts"),
        )
    };
    match alert {
        Alert::CertificateRequired | Alert::NoCertificate => asks_for_certificate(store),
        // What a server says in TLS 1.2 when it wanted a certificate and got none.
        Alert::HandshakeFailure | Alert::BadCertificate if !has_certificate => Explanation::lasting(
            "the server broke off the handshake: it asks for a client certificate, or shares no cipher",
            format!(
                "add the keys tls.crt and tls.key to the {store}'s Secret, or have the server take TLS 1.2 or 1.3 with AES-GCM or ChaCha20"
            ),
        ),
        Alert::HandshakeFailure | Alert::InsufficientSecurity | Alert::ProtocolVersion => incompatible(),
        Alert::UnknownCA => client("it does not trust its authority"),
        Alert::CertificateExpired => client("it expired, or is not valid yet"),
        Alert::CertificateRevoked => client("it was revoked"),
        Alert::UnsupportedCertificate => client("it is not made for clients (extended key usage clientAuth)"),
        Alert::BadCertificate | Alert::CertificateUnknown | Alert::DecryptError => client("it can't be verified"),
        Alert::AccessDenied => client("it may not connect"),
        Alert::UnrecognisedName => Explanation::lasting(
            "the server does not know the url's host by that name",
            "write the name that it serves (SNI) as the url's host",
        ),
        other => Explanation {
            what: format!("the server broke off TLS with the alert {other:?}"),
            remedy: "the server's log has the reason".to_owned(),
            may_pass: true,
        },
    }
}

/// A server that takes no client without a certificate.
fn asks_for_certificate(store: Store) -> Explanation {
    let or = match store {
        Store::Database => "",
        Store::Cache => ", or set `tls-auth-clients optional` in Redis",
    };
    Explanation::lasting(
        "the server asks for a client certificate",
        format!("add the keys tls.crt and tls.key to the {store}'s Secret{or}"),
    )
}

fn incompatible() -> Explanation {
    Explanation::lasting(
        "client and server share no version of TLS or no cipher",
        "have the server take TLS 1.2 or 1.3 with AES-GCM or ChaCha20",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Text(&'static str);

    /// The status keeps so many bytes of a message; the place of the store comes first.
    const ROOM: usize = 230;

    #[test]
    fn each_refused_certificate_has_a_sentence_a_remedy_and_does_not_pass() {
        let other = |text| CertificateError::Other(OtherError(Arc::new(Text(text))));
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_700_000_000));
        let name = ServerName::try_from("db.example").unwrap();
        for (error, expected) in [
            (
                CertificateError::UnknownIssuer,
                "not trusted; put the certificate of that authority into the key ca.crt",
            ),
            (CertificateError::Expired, "expired; renew it"),
            (
                CertificateError::ExpiredContext { time, not_after: time },
                "expired 2023-11-14T22:13:20Z; renew it",
            ),
            (CertificateError::NotValidYet, "clocks"),
            (
                CertificateError::NotValidYetContext { time, not_before: time },
                "before 2023-11-14T22:13:20Z",
            ),
            (CertificateError::NotValidForName, "another name"),
            (
                CertificateError::NotValidForNameContext {
                    expected: name.clone(),
                    presented: vec!["DnsName(\"a\")".into(), "IpAddress(10.0.0.1)".into()],
                },
                "is not for db.example, but for a, 10.0.0.1;",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: name.clone(),
                    presented: vec!["x".repeat(200); 9],
                },
                "and 6 more",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: name,
                    presented: Vec::new(),
                },
                "no name at all",
            ),
            (CertificateError::Revoked, "revoked"),
            (CertificateError::BadSignature, "older authority of the same name"),
            (CertificateError::BadEncoding, "can't be read"),
            (CertificateError::InvalidPurpose, "serverAuth"),
            (CertificateError::ApplicationVerificationFailure, "is refused"),
            (other("CaUsedAsEndEntity"), "CA:FALSE"),
            (other("EndEntityUsedAsCa"), "CA:TRUE"),
            (other("UnsupportedCertVersion"), "X.509 version 3"),
            (other("SomethingNew(1)"), "is refused: SomethingNew(1)"),
        ] {
            let error = rustls::Error::InvalidCertificate(error);
            let Explanation { what, remedy, may_pass } = explain(&error, Store::Database, false);
            let text = format!("{what}; {remedy}");
            assert!(text.contains(expected) && text.contains("certificate"), "{text}");
            assert!(
                !may_pass && (text.len() <= ROOM || text.contains(" more")),
                "{} bytes: {text}",
                text.len()
            );
        }
    }

    #[test]
    fn each_alert_has_a_sentence_and_says_whether_it_passes() {
        use AlertDescription as Alert;
        for (alert, has_certificate, expected, may_pass) in [
            (Alert::CertificateRequired, false, "tls.crt and tls.key", false),
            (Alert::HandshakeFailure, false, "tls.crt and tls.key", false),
            (Alert::HandshakeFailure, true, "no cipher", false),
            (Alert::ProtocolVersion, false, "TLS 1.2 or 1.3", false),
            (Alert::UnknownCA, true, "does not trust its authority", false),
            (Alert::CertificateExpired, true, "expired", false),
            (Alert::UnrecognisedName, false, "SNI", false),
            (Alert::InternalError, false, "InternalError", true),
        ] {
            let found = explain(&rustls::Error::AlertReceived(alert), Store::Cache, has_certificate);
            let text = format!("{}; {}", found.what, found.remedy);
            assert!(
                text.contains(expected) && text.len() <= ROOM,
                "{alert:?}: {} bytes: {text}",
                text.len()
            );
            assert_eq!(found.may_pass, may_pass, "{alert:?}");
        }
    }

    #[test]
    fn a_server_without_tls_is_named() {
        let error = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let found = explain(&error, Store::Cache, false);
        assert!(
            found.what.contains("plain text") && found.remedy.contains("redis://"),
            "{found:?}"
        );
        assert!(!found.may_pass);
    }

    #[test]
    fn the_error_of_tls_is_found_however_deep_it_is_wrapped() {
        let inner = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner.clone()));
        assert_eq!(in_chain(&wrapped), Some(&inner));
        assert_eq!(in_chain(&io::Error::from(io::ErrorKind::BrokenPipe)), None);
    }
}
