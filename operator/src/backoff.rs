//! How long to wait before a policy is tried again: exponentially longer, with jitter, per policy.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::records::PolicyKey;

const FIRST: Duration = Duration::from_millis(200);
/// Converged at most 10 s after a fault clears (I7): no wait may be longer, jitter included.
const LONGEST: Duration = Duration::from_secs(4);

/// Failed tries in a row, per policy.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: Mutex<HashMap<PolicyKey, usize>>,
}

impl Backoff {
    /// One more failed try of `key`: how long to wait.
    pub fn failed(&self, key: &PolicyKey) -> Duration {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = tries.entry(key.clone()).or_default();
        let wait = ExponentialBuilder::default()
            .with_min_delay(FIRST)
            .with_max_delay(LONGEST)
            .with_jitter()
            .without_max_times()
            .build()
            .nth((*tried).min(16))
            .unwrap_or(LONGEST);
        *tried += 1;
        wait
    }

    /// `key` is well again, or gone.
    pub fn reset(&self, key: &PolicyKey) {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_the_wait_grows_and_never_exceeds_ten_seconds() {
        let backoff = Backoff::default();
        let key = PolicyKey {
            namespace: "a".into(),
            name: "b".into(),
        };
        let waits: Vec<Duration> = (0..40).map(|_| backoff.failed(&key)).collect();
        assert!(waits[0] < Duration::from_millis(500), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait < Duration::from_secs(10)), "{waits:?}");
        assert!(waits[39] >= LONGEST);
        backoff.reset(&key);
        assert!(backoff.failed(&key) < Duration::from_millis(500));
    }
}
