//! What one reconcile loop has to do and does, so that a loop that stands still is told from one that has nothing to do.
//!
//! The probe is answered by the same thread that reconciles: when that thread is blocked or spins, the probe gets no answer and its
//! timeout ends the operator. What is left to detect is a loop that waits for ever while the thread is free, and that is what is looked at
//! here: a reconcile that does not end, or policies that wait while none begins. Each request of a reconcile is given up after 5 s, so
//! that the longest takes under three minutes even when the API server answers nothing; an idle loop has nothing waiting; a loop that
//! fails moves all the same. Before the caches are filled nothing is expected of it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::metrics::gauge::Gauge;

use crate::records::PolicyKey;

/// Longer than this nothing takes that ever ends.
pub const STANDSTILL: Duration = Duration::from_secs(300);

/// The work of one watched scope.
#[derive(Debug)]
pub struct Work {
    state: Mutex<State>,
    waiting: Gauge,
    running: Gauge,
}

#[derive(Debug, Default)]
struct State {
    /// When the caches were filled.
    open_since: Option<Instant>,
    /// Touched, not begun.
    waiting: HashSet<PolicyKey>,
    /// Since when policies wait without a pause.
    waiting_since: Option<Instant>,
    /// Begun, not ended.
    running: HashMap<u64, (PolicyKey, Instant)>,
    /// When the last one began or ended.
    moved: Option<Instant>,
    next: u64,
}

impl Work {
    /// No work yet; how much there is, is added to the gauges.
    #[must_use]
    pub fn new(waiting: Gauge, running: Gauge) -> Self {
        Self {
            state: Mutex::default(),
            waiting,
            running,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caches are filled: from now on it has to move.
    pub fn open(&self, now: Instant) {
        self.state().open_since.get_or_insert(now);
    }

    /// An event touched the policy.
    pub fn touched(&self, key: PolicyKey, now: Instant) {
        let mut state = self.state();
        if state.waiting.insert(key) {
            self.waiting.inc();
            state.waiting_since.get_or_insert(now);
        }
    }

    /// The policy will not be reconciled: it is gone.
    pub fn dropped(&self, key: &PolicyKey) {
        let mut state = self.state();
        self.no_longer_waits(&mut state, key);
    }

    fn no_longer_waits(&self, state: &mut State, key: &PolicyKey) {
        if state.waiting.remove(key) {
            self.waiting.dec();
        }
        if state.waiting.is_empty() {
            state.waiting_since = None;
        }
    }

    /// The reconcile of the policy begins; it ends when what is returned is dropped.
    #[must_use]
    pub fn begun(self: &Arc<Self>, key: &PolicyKey, now: Instant) -> Running {
        let mut state = self.state();
        self.no_longer_waits(&mut state, key);
        let number = state.next;
        state.next += 1;
        state.moved = Some(now);
        state.running.insert(number, (key.clone(), now));
        self.running.inc();
        drop(state);
        Running {
            work: Arc::clone(self),
            number,
        }
    }

    fn ended(&self, number: u64, now: Instant) {
        let mut state = self.state();
        if state.running.remove(&number).is_some() {
            self.running.dec();
        }
        state.moved = Some(now);
    }

    /// Why the loop stands still, if it does.
    #[must_use]
    pub fn standstill(&self, now: Instant) -> Option<String> {
        let state = self.state();
        let open_since = state.open_since?;
        let oldest = state.running.values().min_by_key(|(_, since)| *since);
        if let Some((key, since)) = oldest
            && now.duration_since(*since) > STANDSTILL
        {
            return Some(format!(
                "the reconcile of {}/{} has been under way for {} s",
                key.namespace,
                key.name,
                now.duration_since(*since).as_secs()
            ));
        }
        let since = state
            .waiting_since?
            .max(open_since)
            .max(state.moved.unwrap_or(open_since));
        (now.duration_since(since) > STANDSTILL).then(|| {
            format!(
                "{} policies wait and none has begun or ended for {} s",
                state.waiting.len(),
                now.duration_since(since).as_secs()
            )
        })
    }
}

impl Drop for Work {
    /// What still waits will be found again by whoever works next.
    fn drop(&mut self) {
        let waiting = self.state().waiting.len();
        self.waiting.dec_by(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
}

/// A reconcile that is under way.
#[derive(Debug)]
pub struct Running {
    work: Arc<Work>,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.work.ended(self.number, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> Arc<Work> {
        Arc::new(Work::new(Gauge::default(), Gauge::default()))
    }

    fn key(name: &str) -> PolicyKey {
        PolicyKey {
            namespace: "radar".into(),
            name: name.into(),
        }
    }

    const LONG: Duration = Duration::from_secs(100_000);

    #[test]
    fn an_idle_loop_and_one_that_waits_for_its_caches_are_alive() {
        let start = Instant::now();
        let work = work();
        work.touched(key("a"), start);
        assert_eq!(work.standstill(start + LONG), None, "the caches are not filled");
        work.open(start + LONG);
        assert_eq!(work.standstill(start + LONG + STANDSTILL), None);
        drop(work.begun(&key("a"), start + LONG));
        assert_eq!(work.standstill(start + LONG + LONG), None, "nothing to do");
    }

    #[test]
    fn a_reconcile_that_does_not_end_is_a_standstill_and_its_policy_is_named() {
        let start = Instant::now();
        let work = work();
        work.open(start);
        let running = work.begun(&key("stuck"), start);
        drop(work.begun(&key("other"), start + STANDSTILL));
        assert_eq!(work.standstill(start + STANDSTILL), None);
        let why = work.standstill(start + STANDSTILL + Duration::from_secs(1)).unwrap();
        assert!(why.contains("radar/stuck"), "{why}");
        drop(running);
        assert_eq!(work.standstill(start + LONG), None);
    }

    #[test]
    fn policies_that_wait_while_none_begins_are_a_standstill_and_a_long_queue_that_moves_is_none() {
        let start = Instant::now();
        let work = work();
        work.open(start);
        for number in 0..100_u32 {
            work.touched(key(&number.to_string()), start);
        }
        for number in 0..99_u32 {
            let now = start + STANDSTILL * number;
            assert_eq!(work.standstill(now), None, "{number}");
            let running = work.begun(&key(&number.to_string()), now);
            work.ended(running.number, now);
            std::mem::forget(running);
        }
        let why = work.standstill(start + STANDSTILL * 100).unwrap();
        assert!(why.starts_with("1 policies wait"), "{why}");
        work.dropped(&key("99"));
        assert_eq!(work.standstill(start + STANDSTILL * 200), None);
    }

    #[test]
    fn how_much_there_is_to_do_is_told_by_gauges() {
        let (waiting, running) = (Gauge::default(), Gauge::default());
        let work = Arc::new(Work::new(waiting.clone(), running.clone()));
        let now = Instant::now();
        work.touched(key("a"), now);
        work.touched(key("a"), now);
        work.touched(key("b"), now);
        assert_eq!((waiting.get(), running.get()), (2, 0));
        let first = work.begun(&key("a"), now);
        assert_eq!((waiting.get(), running.get()), (1, 1));
        work.dropped(&key("b"));
        drop(first);
        assert_eq!((waiting.get(), running.get()), (0, 0));
    }
}
