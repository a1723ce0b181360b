//! The cache's errors, classified.

use std::borrow::Cow;

use mapa_refresh_crds::report::{FaultClass, code};
use redis::{ErrorKind, RedisError};

use crate::fault::Fault;

/// An error of the cache, classified.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct CacheError {
    /// Whether trying again may help.
    pub class: FaultClass,
    /// One of the report's codes, or the first word of the server's error.
    pub code: Cow<'static, str>,
    /// What happened and what to do about it.
    pub message: String,
}

impl From<CacheError> for Fault {
    fn from(error: CacheError) -> Self {
        let CacheError { class, code, message } = error;
        Self::new(class, code, format_args!("cache: {message}"))
    }
}

impl CacheError {
    /// A document that can't be written as JSON.
    pub(super) fn unwritable(error: &dyn std::fmt::Display) -> Self {
        Self {
            class: FaultClass::Permanent,
            code: "ERR".into(),
            message: format!("writing the document: {error}"),
        }
    }
}

/// Says what was being done when an error came.
pub(super) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, CacheError>;
}

impl<T> Doing<T> for Result<T, RedisError> {
    fn doing(self, what: &str) -> Result<T, CacheError> {
        self.map_err(|error| classify(&error, what))
    }
}

/// One entry: the first word of a Redis error, or a word in one that begins with ERR, as Redis 6 wraps errors of scripts.
///
/// Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors>
const TABLE: &[(&str, FaultClass, &str)] = &[
    (
        "OOM",
        FaultClass::Transient,
        "its memory is full: raise maxmemory or evict; what was published stays",
    ),
    (
        "READONLY",
        FaultClass::Transient,
        "this server is a replica, or a failover is under way; the url should name the primary",
    ),
    ("LOADING", FaultClass::Transient, "it is starting"),
    ("BUSY", FaultClass::Transient, "another script runs"),
    (
        "MISCONF",
        FaultClass::Transient,
        "it can't save to disk, and so takes no writes",
    ),
    (
        "NOREPLICAS",
        FaultClass::Transient,
        "it lacks replicas, and so takes no writes",
    ),
    ("TRYAGAIN", FaultClass::Transient, ""),
    ("CLUSTERDOWN", FaultClass::Transient, ""),
    ("MASTERDOWN", FaultClass::Transient, ""),
    ("max number of clients", FaultClass::Transient, "too many clients"),
    (
        "WRONGPASS",
        FaultClass::Permanent,
        "check username and password in the cache's Secret",
    ),
    (
        "NOAUTH",
        FaultClass::Permanent,
        "the cache asks for a password: add it to the cache's Secret",
    ),
    (
        "without any password configured",
        FaultClass::Permanent,
        "the cache has no password: remove it from the cache's Secret",
    ),
    (
        "invalid password",
        FaultClass::Permanent,
        "check the password in the cache's Secret",
    ),
    (
        "NOPERM",
        FaultClass::Permanent,
        "the user needs EVAL and read and write access to the prefix's keys; behind Sentinels also ROLE",
    ),
    ("DENIED", FaultClass::Permanent, "the cache is in protected mode"),
    (
        "WRONGTYPE",
        FaultClass::Permanent,
        "something else uses the key: choose another spec.cache.keyPrefix, or delete it",
    ),
    (
        "MOVED",
        FaultClass::Permanent,
        "the cache is a Redis Cluster: write redis+cluster:// in the url",
    ),
    ("CROSSSLOT", FaultClass::Permanent, ""),
    ("ERR", FaultClass::Permanent, ""),
];

/// Words of the table that mean rejected credentials.
const CREDENTIALS: [&str; 4] = [
    "WRONGPASS",
    "NOAUTH",
    "without any password configured",
    "invalid password",
];

fn classify(error: &RedisError, doing: &str) -> CacheError {
    // The library's own log-in does not repeat the server's word.
    if error.code().is_none() && is_login_refused(error) {
        return CacheError {
            class: FaultClass::Permanent,
            code: code::CREDENTIALS_REJECTED.into(),
            message: format!("{doing}: the cache refused to log in; check username and password in the cache's Secret"),
        };
    }
    let Some(code) = error.code() else {
        return CacheError {
            class: if is_certificate_refused(error) {
                FaultClass::Permanent
            } else {
                FaultClass::Transient
            },
            code: code::CACHE_UNREACHABLE.into(),
            message: format!("{doing}: {error}"),
        };
    };
    let detail = error.detail().unwrap_or_default();
    let found = TABLE
        .iter()
        .find(|(word, ..)| code == *word && *word != "ERR")
        .or_else(|| TABLE.iter().find(|(word, ..)| detail.contains(word)))
        .or_else(|| TABLE.iter().find(|(word, ..)| code == *word));
    let (word, class, remedy) = found.map_or((code, FaultClass::Transient, ""), |(word, class, remedy)| {
        (*word, *class, *remedy)
    });
    let separator = if remedy.is_empty() { "" } else { "; " };
    CacheError {
        class,
        code: if CREDENTIALS.contains(&word) {
            code::CREDENTIALS_REJECTED.into()
        } else {
            code.to_owned().into()
        },
        message: format!("{doing}: {code} {detail}{separator}{remedy}"),
    }
}

/// The connection to a cluster wraps what its nodes said in an error of its own, as text.
fn is_login_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || error.to_string().contains("Password authentication failed")
}

/// A certificate that we refuse does not pass by itself.
fn is_certificate_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Io && error.to_string().contains("certificate")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn of_server(line: &str) -> CacheError {
        let error = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).and_then(redis::Value::extract_error);
        classify(&error.unwrap_err(), "publishing")
    }

    #[test]
    fn each_error_of_the_server_has_its_class_and_code() {
        use FaultClass::{Permanent, Transient};
        for (line, class, code) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Transient,
                "OOM",
            ),
            (
                "READONLY You can't write against a read only replica.",
                Transient,
                "READONLY",
            ),
            ("LOADING Redis is loading the dataset in memory", Transient, "LOADING"),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                Transient,
                "MISCONF",
            ),
            ("ERR max number of clients reached", Transient, "ERR"),
            (
                "ERR Error running script: @user_script: 66: OOM command not allowed",
                Transient,
                "ERR",
            ),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                Permanent,
                "CredentialsRejected",
            ),
            ("NOAUTH Authentication required.", Permanent, "CredentialsRejected"),
            (
                "NOPERM this user has no permissions to run the 'eval' command",
                Permanent,
                "NOPERM",
            ),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                Permanent,
                "WRONGTYPE",
            ),
            ("ERR unknown command 'EVAL'", Permanent, "ERR"),
            ("SOMETHING new", Transient, "SOMETHING"),
        ] {
            let error = of_server(line);
            assert_eq!(
                (error.class, error.code.as_ref()),
                (class, code),
                "{line}: {}",
                error.message
            );
        }
    }

    #[test]
    fn an_unreachable_cache_is_transient() {
        let refused = RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(classify(&refused, "connecting").class, FaultClass::Transient);
    }
}
