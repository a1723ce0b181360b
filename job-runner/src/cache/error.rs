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

/// What a message may quote of the server's words, which can repeat the arguments of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    /// Its words up to what looks like an argument.
    Words,
    /// Nothing but its code: an argument was part of a document, where any word may be somebody's name.
    Code,
}

/// Says what was being done when an error came.
pub(super) trait Doing<T>: Sized {
    fn doing(self, what: &str) -> Result<T, CacheError> {
        self.doing_with(Quoting::Words, what)
    }

    fn doing_with(self, quoting: Quoting, what: &str) -> Result<T, CacheError>;
}

impl<T> Doing<T> for Result<T, RedisError> {
    fn doing_with(self, quoting: Quoting, what: &str) -> Result<T, CacheError> {
        self.map_err(|error| Verdict::of(&error, quoting).while_doing(what))
    }
}

/// Code of a permission that the user lacks.
pub(super) const NOPERM: &str = "NOPERM";

/// The commands of the README's ACL.
const COMMANDS: &str = "+ping +select +eval +set +append +expire +unlink +rename +getrange +setrange +strlen +exists +type +time \
                        +hmget +hset +lpush +lrange +publish";

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
    (
        "invalid bulk length",
        FaultClass::Permanent,
        "the cache takes requests of less than 512 KiB only: raise proto-max-bulk-len, or the provider's limit of a request",
    ),
    (
        "exceeds maximum allowed size",
        FaultClass::Permanent,
        "the document is larger than the cache allows a value to be: raise proto-max-bulk-len above the document's size",
    ),
    (
        "size exceeded",
        FaultClass::Permanent,
        "raise the provider's limit of a request and of a value above the document's size",
    ),
    (
        "nknown command",
        FaultClass::Permanent,
        "the cache lacks a command, or its configuration or provider forbids it",
    ),
    (
        "nknown Redis command",
        FaultClass::Permanent,
        "the cache lacks a command, or its configuration or provider forbids it",
    ),
    ("ERR", FaultClass::Permanent, ""),
];

/// Words of the table that mean rejected credentials.
const CREDENTIALS: [&str; 4] = [
    "WRONGPASS",
    "NOAUTH",
    "without any password configured",
    "invalid password",
];

/// What an error of the library means, whatever was being done.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Whether trying again may help.
    pub(super) class: FaultClass,
    /// One of the report's codes, or the first word of the server's error.
    pub(super) code: Cow<'static, str>,
    /// What happened.
    pub(super) what: String,
    /// What to do about it; empty when `what` names it.
    pub(super) remedy: Cow<'static, str>,
}

impl Verdict {
    pub(super) fn of(error: &RedisError, quoting: Quoting) -> Self {
        // The library's own log-in does not repeat the server's word.
        if error.code().is_none() && is_login_refused(error) {
            return Self {
                class: FaultClass::Permanent,
                code: code::CREDENTIALS_REJECTED.into(),
                what: "the cache refused to log in".to_owned(),
                remedy: "check username and password in the cache's Secret".into(),
            };
        }
        match error.code() {
            Some(code) => Self::of_server(code, error.detail().unwrap_or_default(), quoting),
            None => Self {
                class: if is_certificate_refused(error) {
                    FaultClass::Permanent
                } else {
                    FaultClass::Transient
                },
                code: code::CACHE_UNREACHABLE.into(),
                what: match error.kind() {
                    // The library quotes the answer.
                    ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
                        format!("the answer is not one of Redis ({})", error.category())
                    }
                    _ => error.to_string(),
                },
                remedy: "".into(),
            },
        }
    }

    /// Of an error that the server sent: its first word, and the rest.
    fn of_server(code: &str, words: &str, quoting: Quoting) -> Self {
        // A server's first word is its code only where it looks like one.
        let whole = format!("{code} {words}");
        let (code, words) = if is_code(code) {
            (code, words)
        } else {
            ("ERR", whole.as_str())
        };
        let words = without_arguments(words);
        if let Some(missing) = Permission::missing(code, words) {
            return missing.verdict();
        }
        let found = TABLE
            .iter()
            .find(|(word, ..)| code == *word && *word != "ERR")
            .or_else(|| TABLE.iter().find(|(word, ..)| words.contains(word)))
            .or_else(|| TABLE.iter().find(|(word, ..)| code == *word));
        let (word, class, remedy) = found.map_or((code, FaultClass::Transient, ""), |(word, class, remedy)| {
            (*word, *class, *remedy)
        });
        // Redis 6 wraps the code of a script's error.
        let code = if is_code(word) { word } else { code };
        let words = match quoting {
            Quoting::Words => words,
            Quoting::Code if remedy.is_empty() => {
                "(the cache's words are left out, because they may repeat the document)"
            }
            Quoting::Code => "",
        };
        Self {
            class,
            code: if CREDENTIALS.contains(&word) {
                code::CREDENTIALS_REJECTED.into()
            } else {
                code.to_owned().into()
            },
            what: format!("{code} {words}").trim_end().to_owned(),
            remedy: remedy.into(),
        }
    }

    fn while_doing(self, doing: &str) -> CacheError {
        let Self {
            class,
            code,
            what,
            remedy,
        } = self;
        let separator = if remedy.is_empty() { "" } else { "; " };
        CacheError {
            class,
            code,
            message: format!("{doing}: {what}{separator}{remedy}"),
        }
    }
}

/// Whether `word` has the form of a server's code.
fn is_code(word: &str) -> bool {
    (2..=32).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// A server's words up to the first argument that they repeat. A quoted name of a command or a setting stays.
fn without_arguments(words: &str) -> &str {
    let words = words.split("with args").next().unwrap_or_default();
    let mut end = 0;
    loop {
        let rest = words.get(end..).unwrap_or_default();
        let opens = |(at, _): &(usize, &str)| {
            // An apostrophe stands within a word: can't.
            !rest
                .get(..*at)
                .is_some_and(|before| before.ends_with(char::is_alphanumeric))
        };
        let Some((at, quote)) = rest.match_indices(['\'', '"', '`']).find(opens) else {
            return words.trim_end_matches([' ', ',']);
        };
        let quoted = rest.get(at + 1..).and_then(|from| from.split_once('\''));
        match quoted {
            Some((name, _)) if quote == "'" && is_name(name) => end += at + name.len() + 2,
            _ => return words.get(..end + at).unwrap_or_default().trim_end(),
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'|' | b'_' | b'-');
    (1..=32).contains(&name.len()) && name.bytes().all(is_part)
}

/// Whether `name` is that of a command that this program, or the library for it, sends.
fn is_ours(name: &str) -> bool {
    let name = name.split('|').next().unwrap_or_default().to_lowercase();
    COMMANDS
        .split_whitespace()
        .filter_map(|right| right.strip_prefix('+'))
        .chain(["role", "cluster", "sentinel", "client", "hello", "readonly", "asking"])
        .any(|ours| ours == name)
}

/// A permission that the user lacks.
#[derive(Debug, PartialEq, Eq)]
enum Permission<'a> {
    Command(&'a str),
    Key,
    Unnamed,
}

impl<'a> Permission<'a> {
    /// Reads the wordings of Redis 6 to 8 and Valkey, each of a command and of a command within a script. Redis 6 and 7.0 give those
    /// of scripts no code, and do not name the command; our script does: `COMMAND: words`.
    fn missing(code: &str, words: &'a str) -> Option<Self> {
        let of_script = words.split_once(": ").map(|(name, _)| name);
        let quoted = words
            .split_once("to run the '")
            .and_then(|(_, from)| from.split_once('\''))
            .map(|(name, _)| name);
        let command = of_script
            .filter(|name| is_ours(name))
            .or(quoted.filter(|name| is_ours(name)))
            .map_or(Self::Unnamed, Self::Command);
        if words.contains("permissions to access") || words.contains("access at least one of the keys") {
            Some(Self::Key)
        } else if ["permissions to run", "can't run this command", NOPERM]
            .iter()
            .any(|known| words.contains(known))
            || code == NOPERM
        {
            Some(command)
        } else {
            None
        }
    }

    fn verdict(&self) -> Verdict {
        let (what, remedy) = match self {
            Self::Command(name) => {
                let (command, right) = (name.to_uppercase(), name.to_lowercase());
                (
                    format!("the cache's user may not run {command}: grant +{right}"),
                    format!("a user needs {COMMANDS}"),
                )
            }
            Self::Key => (
                "the cache's user may not read and write a key: grant ~PREFIX:* and ~{PREFIX:*, as the README's ACL does"
                    .to_owned(),
                String::new(),
            ),
            Self::Unnamed => (
                format!("the cache's user lacks a permission: grant what the README's ACL has, {COMMANDS}"),
                String::new(),
            ),
        };
        Verdict {
            class: FaultClass::Permanent,
            code: NOPERM.into(),
            what: format!("{NOPERM} {what}"),
            remedy: remedy.into(),
        }
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

    use mapa_refresh_crds::status::MAX_ERROR_MESSAGE;

    use super::*;

    fn classify(error: &RedisError, quoting: Quoting, doing: &str) -> CacheError {
        Verdict::of(error, quoting).while_doing(doing)
    }

    fn of_server(line: &str) -> CacheError {
        let error = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).and_then(redis::Value::extract_error);
        classify(&error.unwrap_err(), Quoting::Words, "publishing")
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
                "OOM",
            ),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                Permanent,
                "CredentialsRejected",
            ),
            ("NOAUTH Authentication required.", Permanent, "CredentialsRejected"),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                Permanent,
                "WRONGTYPE",
            ),
            ("ERR unknown command 'EVAL'", Permanent, "ERR"),
            ("ERR Protocol error: invalid bulk length", Permanent, "ERR"),
            (
                "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
                Permanent,
                "ERR",
            ),
            ("ERR max request size exceeded. Limit: 1048576 bytes", Permanent, "ERR"),
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
    fn every_wording_of_a_missing_permission_names_what_to_grant() {
        const KEYS: &str = "grant ~PREFIX:* and ~{PREFIX:*";
        for (line, remedy) in [
            // Redis 6
            (
                "NOPERM this user has no permissions to run the 'set' command or its subcommand",
                "may not run SET: grant +set;",
            ),
            (
                "ERR RENAME: The user executing the script can't run this command or subcommand",
                "may not run RENAME: grant +rename;",
            ),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                KEYS,
            ),
            (
                "ERR HSET: The user executing the script can't access at least one of the keys mentioned in the command arguments",
                KEYS,
            ),
            // Redis 7.0
            (
                "NOPERM this user has no permissions to run the 'eval' command",
                "grant +eval;",
            ),
            (
                "NOPERM this user has no permissions to run the 'cluster|slots' command",
                "grant +cluster|slots;",
            ),
            // From Redis 7.2 on, and Valkey
            (
                "NOPERM User mapa has no permissions to run the 'role' command",
                "may not run ROLE: grant +role;",
            ),
            (
                "ERR HSET: ACL failure in script: User mapa has no permissions to run the 'hset' command",
                "may not run HSET: grant +hset;",
            ),
            ("NOPERM No permissions to access a key", KEYS),
            ("ERR LPUSH: ACL failure in script: No permissions to access a key", KEYS),
            (
                "NOPERM User mapa has no permissions to access the '{mapa:interrupcoes}:log' key",
                KEYS,
            ),
            // Our script's own, and one that nobody knows.
            (
                "NOPERM GETRANGE: whose document is there can not be read",
                "grant +getrange;",
            ),
            ("NOPERM not today", "grant what the README's ACL has, +ping"),
        ] {
            let error = of_server(line);
            assert_eq!(
                (error.class, error.code.as_ref()),
                (FaultClass::Permanent, "NOPERM"),
                "{line}"
            );
            assert!(error.message.contains(remedy), "{line}: {}", error.message);
        }
    }

    #[test]
    fn the_remedy_of_a_missing_command_survives_the_cut_and_is_the_readmes() {
        let readme = include_str!("../../../README.md");
        assert!(readme.contains(&format!("-@all {COMMANDS}\n")), "{COMMANDS}");
        for command in COMMANDS.split_whitespace().filter_map(|right| right.strip_prefix('+')) {
            let line = format!("-NOPERM this user has no permissions to run the '{command}' command\r\n");
            let error = redis::parse_redis_value(line.as_bytes()).and_then(redis::Value::extract_error);
            let error = classify(
                &error.unwrap_err(),
                Quoting::Code,
                "bringing the document to the cache in pieces of 512 KiB",
            );
            let message = Fault::from(error).message;
            assert!(message.len() <= MAX_ERROR_MESSAGE, "{message}");
        }
    }

    #[test]
    fn nothing_that_a_server_repeats_of_arguments_is_quoted() {
        for (line, quoted) in [
            (
                "ERR unknown command 'SET', with args beginning with: 'mapa:x' '{\"publishedAt\":\"c4n4ry' ",
                "ERR unknown command 'SET';",
            ),
            (
                "ERR unknown command `SET`, with args beginning with: `c4n4ry`, ",
                "ERR unknown command;",
            ),
            ("ERR Wrong value \"c4n4ry\" for 'set' command", "ERR Wrong value;"),
            (
                "ERR 'maxmemory' can't hold 'Dona c4n4ry' for you",
                "ERR 'maxmemory' can't hold;",
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "OOM command not allowed when used memory > 'maxmemory'.;",
            ),
            (
                "READONLY You can't write against a read only replica.",
                "READONLY You can't write against a read only replica.;",
            ),
            ("Dona c4n4ry", "ERR Dona c4n4ry;"),
        ] {
            let error = redis::parse_redis_value(format!("-{line}\r\n").as_bytes())
                .and_then(redis::Value::extract_error)
                .unwrap_err();
            let message = |quoting| classify(&error, quoting, "publishing").message;
            let words = message(Quoting::Words) + ";";
            assert!(words.contains(quoted), "{line}: {words}");
            assert!(!words.contains("c4n4ry") || line.starts_with("Dona"), "{words}");
            let code = message(Quoting::Code);
            assert!(!code.contains("c4n4ry") && !code.contains("allowed when"), "{code}");
        }
    }

    #[test]
    fn an_unreachable_cache_is_transient() {
        let refused = RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(
            classify(&refused, Quoting::Words, "connecting").class,
            FaultClass::Transient
        );
    }
}
