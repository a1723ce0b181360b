//! Whether the operator is ready and alive, and if not, why.

pub mod caches;
pub mod work;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use self::work::Work;

/// A check: what is not met yet, one entry each; nothing when it is met.
type Check = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// The checks of `/readyz` and `/livez`.
#[derive(Default)]
pub struct Health {
    checks: Mutex<Vec<(&'static str, Check)>>,
    work: Mutex<Vec<Arc<Work>>>,
}

impl Health {
    /// One more condition for being ready. `unmet` is asked at every probe: it only looks at what is known, for example at a
    /// [`tokio::sync::watch::Receiver`], and waits for nothing.
    pub fn require(&self, name: &'static str, unmet: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((name, Box::new(unmet)));
    }

    /// One more loop that has to move.
    pub fn watch_over(&self, work: Arc<Work>) {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).push(work);
    }

    /// What is missing for being ready, one line each.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks
            .iter()
            .flat_map(|(name, check)| check().into_iter().map(move |unmet| format!("{name}: {unmet}")))
            .collect()
    }

    /// Why the operator is dead, one line each; nothing while it lives.
    #[must_use]
    pub fn not_alive(&self, now: Instant) -> Vec<String> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.iter()
            .filter_map(|work| work.standstill(now))
            .map(|why| format!("reconcile loop: {why}"))
            .collect()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[test]
    fn each_unmet_check_is_a_line_with_its_name_and_one_that_is_met_says_nothing() {
        let health = Health::default();
        assert!(health.not_ready().is_empty(), "nothing is asked for");
        let (leads, standing) = watch::channel(Some("waiting for the API server"));
        health.require("lease", move || {
            standing.borrow().iter().map(ToString::to_string).collect()
        });
        health.require("caches", || vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(
            health.not_ready(),
            ["lease: waiting for the API server", "caches: a", "caches: b"]
        );
        leads.send_replace(None);
        assert_eq!(health.not_ready(), ["caches: a", "caches: b"]);
    }
}
