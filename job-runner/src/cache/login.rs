//! Why a login to a Redis failed.

use mapa_refresh_crds::report::{FaultClass, code};
use redis::RedisError;

use super::error::{Quoting, Verdict};
use crate::dial::Reason;

/// The reason that `error` gives, which came before a connection could be used.
pub(super) fn reason(error: RedisError) -> Reason {
    let Verdict {
        class,
        code,
        what,
        remedy,
    } = Verdict::of(&error, Quoting::Words);
    if code == code::CACHE_UNREACHABLE && class == FaultClass::Transient {
        return Reason::unreachable(what).fitted();
    }
    Reason {
        class,
        is_final: code == code::CREDENTIALS_REJECTED,
        what,
        remedy,
        code: Some(code),
    }
    .fitted()
}
