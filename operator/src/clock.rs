//! The time, as a parameter.

use k8s_openapi::jiff::Timestamp;

/// Where the time comes from.
#[derive(Clone, Copy, Debug)]
pub struct Clock(fn() -> Timestamp);

impl Clock {
    /// The system's wall clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Timestamp::now)
    }

    /// Any other source.
    #[must_use]
    pub fn from_fn(now: fn() -> Timestamp) -> Self {
        Self(now)
    }

    /// Now.
    #[must_use]
    pub fn now(self) -> Timestamp {
        (self.0)()
    }
}
