//! Pure: `auth-provider` of a kubeconfig, of which kubectl has only OpenID Connect left.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::config::AuthProviderConfig;
use serde::Deserialize;

/// How long before its end a token is taken for expired, as Go's oauth2 does.
const MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// The token of an OpenID Connect provider, as kubectl has left it in the kubeconfig.
///
/// An expired one is not renewed here: providers accept a refresh token once, and the new one would have to be written into the kubeconfig
/// at the same moment, which kubectl does.
#[derive(Clone, Debug)]
pub struct IdToken {
    token: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
}

impl IdToken {
    /// The token of `provider`.
    ///
    /// # Errors
    /// It is a provider that kubectl does not know, or lacks what kubectl requires.
    pub fn of(provider: &AuthProviderConfig) -> Result<Self, String> {
        let instead = match provider.name.as_str() {
            "oidc" => {
                for field in ["idp-issuer-url", "client-id"] {
                    if !provider.config.contains_key(field) {
                        return Err(format!("user: auth-provider oidc needs {field}"));
                    }
                }
                return Ok(Self {
                    token: provider.config.get("id-token").cloned(),
                });
            }
            "gcp" => ": use the credential plugin gke-gcloud-auth-plugin",
            "azure" => ": use the credential plugin kubelogin",
            _ => "",
        };
        Err(format!(
            "user: the auth-provider {:?} is none of kubectl's any more{instead}",
            provider.name
        ))
    }

    /// The token, if it holds at `now`.
    ///
    /// # Errors
    /// It is malformed, or has expired.
    pub fn at(&self, now: Timestamp) -> Result<&str, String> {
        let renew =
            "run any kubectl command on this cluster, which renews it and writes it into the kubeconfig, and try again";
        let token = self
            .token
            .as_deref()
            .ok_or_else(|| format!("the kubeconfig's user has no id-token yet: {renew}"))?;
        let expires = expiry(token).ok_or("the id-token of the kubeconfig's user is none: log in again")?;
        if now + MARGIN >= expires {
            return Err(format!(
                "the id-token of the kubeconfig's user expired at {expires}: {renew}"
            ));
        }
        Ok(token)
    }
}

fn expiry(token: &str) -> Option<Timestamp> {
    let mut parts = token.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Timestamp::from_second(claims.exp).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(name: &str, fields: &[(&str, &str)]) -> AuthProviderConfig {
        AuthProviderConfig {
            name: name.to_owned(),
            config: fields
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..AuthProviderConfig::default()
        }
    }

    #[test]
    fn a_token_holds_until_ten_seconds_before_its_end() {
        let end: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let claims = BASE64_URL_SAFE_NO_PAD.encode(format!("{{\"exp\": {}}}", end.as_second()));
        let token = format!("x.{claims}.y");
        let issued = [
            ("idp-issuer-url", "https://x"),
            ("client-id", "y"),
            ("id-token", token.as_str()),
        ];
        let found = IdToken::of(&provider("oidc", &issued)).unwrap();
        assert_eq!(found.at(end - SignedDuration::from_secs(11)).unwrap(), token);
        let expired = found.at(end - SignedDuration::from_secs(10)).unwrap_err();
        assert!(
            expired.contains("expired at 2026-11-23T10:00:00Z: run any kubectl command"),
            "{expired}"
        );
        let none = IdToken::of(&provider("oidc", &issued[..2])).unwrap();
        assert!(none.at(end).unwrap_err().contains("no id-token yet"));
        let broken = IdToken {
            token: Some("a.b".to_owned()),
        };
        assert!(broken.at(end).unwrap_err().contains("log in again"));
    }

    #[test]
    fn a_provider_that_kubectl_has_given_up_is_told_with_what_took_its_place() {
        for (name, expected) in [
            ("gcp", "gke-gcloud-auth-plugin"),
            ("azure", "kubelogin"),
            ("oidc", "needs idp-issuer-url"),
            ("other", "none of kubectl's"),
        ] {
            let error = IdToken::of(&provider(name, &[])).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
