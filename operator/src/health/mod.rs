//! Whether the operator is ready and alive, and if not, why.

pub mod caches;
pub mod permissions;
pub mod work;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use self::{caches::Caches, permissions::Permissions, work::Work};

/// A check: what is not met yet, one entry each; nothing when it is met.
type Check = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// The checks of `/readyz` and `/livez`.
#[derive(Default)]
pub struct Health {
    checks: Mutex<Vec<(&'static str, Check)>>,
    scopes: Mutex<Vec<Weak<Scope>>>,
}

/// One watched scope: a loop that has to move, caches that have to be filled, and what has to be permitted.
#[derive(Debug)]
pub struct Scope {
    /// The loop.
    pub work: Arc<Work>,
    /// The caches.
    pub caches: Arc<Caches>,
    /// The permissions.
    pub permissions: Arc<Permissions>,
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

    /// One more watched scope, as long as it lives: a term as leader that is over takes its own along.
    pub fn watch_over(&self, scope: &Arc<Scope>) {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.retain(|scope| scope.strong_count() > 0);
        scopes.push(Arc::downgrade(scope));
    }

    /// What is missing for being ready, one line each.
    #[must_use]
    pub fn not_ready(&self, now: Instant) -> Vec<String> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let unmet = checks
            .iter()
            .flat_map(|(name, check)| check().into_iter().map(move |unmet| format!("{name}: {unmet}")));
        let of_scopes = scopes.iter().filter_map(Weak::upgrade).flat_map(|scope| {
            let unfilled = scope.caches.unmet(now);
            let forbidden = scope.permissions.unmet();
            unfilled
                .into_iter()
                .map(|unmet| format!("caches: {unmet}"))
                .chain(forbidden.map(|unmet| format!("permissions: {unmet}")))
        });
        unmet.chain(of_scopes).collect()
    }

    /// Why the operator is dead, one line each; nothing while it lives.
    #[must_use]
    pub fn not_alive(&self, now: Instant) -> Vec<String> {
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes
            .iter()
            .filter_map(|scope| scope.upgrade()?.work.standstill(now))
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
        let now = Instant::now();
        assert!(health.not_ready(now).is_empty(), "nothing is asked for");
        let (leads, standing) = watch::channel(Some("waiting for the API server"));
        health.require("lease", move || {
            standing.borrow().iter().map(ToString::to_string).collect()
        });
        health.require("caches", || vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(
            health.not_ready(now),
            ["lease: waiting for the API server", "caches: a", "caches: b"]
        );
        leads.send_replace(None);
        assert_eq!(health.not_ready(now), ["caches: a", "caches: b"]);
    }
}
