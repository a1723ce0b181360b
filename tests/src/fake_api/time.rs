//! Virtual time: a wall clock that follows tokio's clock, which a test pauses.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::Instant;

/// When every history begins: 2026-03-02T10:00:00Z.
const EPOCH_SECOND: i64 = 1_772_445_600;

/// The true time of a history.
#[derive(Clone, Copy, Debug)]
pub struct VirtualTime {
    start: Instant,
}

impl VirtualTime {
    /// Begins now. Needs a runtime.
    #[must_use]
    pub fn begin() -> Self {
        Self { start: Instant::now() }
    }

    /// The wall clock's time, if it is right.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let epoch = Timestamp::from_second(EPOCH_SECOND).unwrap_or(Timestamp::UNIX_EPOCH);
        epoch.saturating_add(self.start.elapsed()).unwrap_or(epoch)
    }

    /// Time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The moment on tokio's clock at which the wall clock shows `moment`; now, when that has passed.
    #[must_use]
    pub fn instant_of(&self, moment: Timestamp) -> Instant {
        let wait = Duration::try_from(moment.duration_since(self.now())).unwrap_or_default();
        Instant::now() + wait
    }
}

/// By how much one machine's clock is wrong. Copies are the same clock.
#[derive(Clone, Debug, Default)]
pub struct Skew(Arc<AtomicI64>);

impl Skew {
    /// From now on the clock shows `seconds` more than the truth (less, when negative).
    pub fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::Relaxed);
    }

    /// What the clock shows when it is `moment`.
    #[must_use]
    pub fn shown(&self, moment: Timestamp) -> Timestamp {
        let skew = SignedDuration::from_secs(self.0.load(Ordering::Relaxed));
        moment.saturating_add(skew).unwrap_or(moment)
    }
}

/// `moment` as Kubernetes writes times: whole seconds, cut off.
#[must_use]
pub fn seconds(moment: Timestamp) -> String {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment).to_string()
}

/// Reads a time out of an object.
#[must_use]
pub fn read(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}
