//! Why a login to a Redis failed.

use mapa_refresh_crds::report::{FaultClass, code};
use redis::RedisError;

use super::error::{CacheError, Doing};
use crate::dial::Reason;

/// The reason that `error` gives, which came before a connection could be used.
pub(super) fn reason(error: RedisError) -> Reason {
    // What happened and its remedy are told apart again: of several addresses each is named with what happened, and one remedy with all.
    let CacheError { class, code, message } = match Err::<(), _>(error).doing("") {
        Err(error) => error,
        Ok(()) => return Reason::unreachable("no answer"),
    };
    let message = message.strip_prefix(": ").unwrap_or(&message);
    let (what, remedy) = message.split_once("; ").unwrap_or((message, ""));
    if code == code::CACHE_UNREACHABLE && class == FaultClass::Transient {
        return Reason::unreachable(message).fitted();
    }
    Reason {
        class,
        is_final: code == code::CREDENTIALS_REJECTED,
        what: what.to_owned(),
        remedy: remedy.to_owned().into(),
        code: Some(code),
    }
    .fitted()
}
