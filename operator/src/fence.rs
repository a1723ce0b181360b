//! Whether this replica may write, asked before every write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::clock::BootClock;

/// Until when this replica may write. A copy is the same fence.
///
/// It is judged by the time since boot and not by who was told what: a process that was stopped past its lease finds it run out at the
/// first thing that it does, before it has heard of another leader (I12).
#[derive(Clone, Debug)]
pub struct Fence(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    /// Nanoseconds since boot; zero: the lease is not held.
    until: AtomicU64,
    clock: BootClock,
}

impl Fence {
    /// For the only operator: always open.
    #[must_use]
    pub fn open() -> Self {
        Self(None)
    }

    /// For one of several: closed until the lease is held.
    #[must_use]
    pub fn closed(clock: BootClock) -> Self {
        Self(Some(Arc::new(Held {
            until: AtomicU64::new(0),
            clock,
        })))
    }

    /// The lease is held until `until` since boot; none: it is not.
    pub fn hold(&self, until: Option<Duration>) {
        if let Some(held) = &self.0 {
            let until = until.map_or(0, |until| u64::try_from(until.as_nanos()).unwrap_or(u64::MAX));
            held.until.store(until, Ordering::SeqCst);
        }
    }

    /// Whether a write may begin now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|held| {
            let until = Duration::from_nanos(held.until.load(Ordering::SeqCst));
            held.clock.now() < until
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn i12_the_fence_closes_by_time_alone() {
        let second = Arc::new(AtomicU64::new(100));
        let clock = {
            let second = Arc::clone(&second);
            BootClock::from_fn(move || Duration::from_secs(second.load(Ordering::SeqCst)))
        };
        let fence = Fence::closed(clock);
        let writer = fence.clone();
        assert!(!writer.is_open(), "nobody has given it the lease");
        fence.hold(Some(Duration::from_secs(115)));
        assert!(writer.is_open());
        second.store(114, Ordering::SeqCst);
        assert!(writer.is_open());
        // Whoever was to tell was stopped as well.
        second.store(115, Ordering::SeqCst);
        assert!(!writer.is_open());
        fence.hold(Some(Duration::from_secs(130)));
        assert!(writer.is_open());
        fence.hold(None);
        assert!(!writer.is_open());
    }

    #[test]
    fn without_an_election_the_fence_is_open() {
        let fence = Fence::open();
        fence.hold(None);
        assert!(fence.is_open());
    }
}
