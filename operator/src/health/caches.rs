//! Whether the caches of one watched scope are filled and kept, and if not, what the API server said.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::runtime::watcher;
use mapa_refresh_crds::report::clean;

use crate::metrics::labels::Watched;

/// Interruptions further apart than this are not one: a watch that fails is tried again every few seconds.
const SAME_TROUBLE: Duration = Duration::from_secs(20);
/// A watch that has been failing for so long no longer keeps its cache. Restarts of the API server are shorter.
const LOST: Duration = Duration::from_secs(30);
/// Longest that a line of the probe is told, in bytes.
const LONGEST: usize = 400;

/// The caches of one scope.
#[derive(Debug)]
pub struct Caches {
    place: String,
    states: Mutex<BTreeMap<Watched, State>>,
}

#[derive(Debug, Default)]
struct State {
    filled: bool,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    last: Instant,
    said: String,
}

impl Caches {
    /// The caches of a namespace, or of all.
    #[must_use]
    pub fn of(namespace: Option<&str>) -> Self {
        let states = Watched::ALL.iter().map(|resource| (*resource, State::default()));
        Self {
            place: namespace.map_or_else(
                || "all namespaces".to_owned(),
                |namespace| format!("namespace {namespace}"),
            ),
            states: Mutex::new(states.collect()),
        }
    }

    /// The cache has been filled, or filled again.
    pub fn filled(&self, resource: Watched) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(resource).or_default();
        state.filled = true;
        state.trouble = None;
    }

    /// Its watch or list was interrupted.
    pub fn interrupted(&self, resource: Watched, error: &watcher::Error, now: Instant) {
        let said = remedy(resource, error);
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(resource).or_default();
        let since = match &state.trouble {
            Some(before) if now.duration_since(before.last) <= SAME_TROUBLE => before.since,
            _ => now,
        };
        state.trouble = Some(Trouble { since, last: now, said });
    }

    /// What is missing, one entry for each resource.
    #[must_use]
    pub fn unmet(&self, now: Instant) -> Vec<String> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states
            .iter()
            .filter_map(|(resource, state)| {
                let lasting = state.trouble.as_ref().filter(|trouble| {
                    now.duration_since(trouble.last) <= SAME_TROUBLE && now.duration_since(trouble.since) >= LOST
                });
                let (verb, trouble) = match (state.filled, lasting) {
                    (true, None) => return None,
                    (true, lasting) => ("lost sight of", lasting),
                    (false, _) => ("waiting for", state.trouble.as_ref()),
                };
                let said = trouble.map_or("no answer yet", |trouble| trouble.said.as_str());
                Some(format!("{verb} {} in {}: {said}", resource.as_str(), self.place))
            })
            .collect()
    }
}

/// What was said, in one line, and what to do about it.
fn remedy(resource: Watched, error: &watcher::Error) -> String {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    };
    let mut said = match status {
        Some(status) if status.code == 404 && resource == Watched::Policies => {
            "the CustomResourceDefinition maparefreshpolicies.mapa.radar.dev is not installed: apply crds/maparefreshpolicies.yaml".to_owned()
        }
        Some(status) if status.code == 403 => format!("forbidden, look at the operator's RBAC: {}", status.message),
        Some(status) => status.message.clone(),
        None => error.to_string(),
    };
    clean(&mut said, LONGEST);
    said
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> watcher::Error {
        let status = Status::failure("pods is forbidden:\nno", "Forbidden").with_code(code);
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    }

    fn filled() -> Caches {
        let caches = Caches::of(Some("radar"));
        for resource in Watched::ALL {
            caches.filled(*resource);
        }
        caches
    }

    #[test]
    fn each_cache_that_is_not_filled_is_a_line_with_what_the_api_server_said() {
        let caches = Caches::of(None);
        let now = Instant::now();
        caches.filled(Watched::CronJobs);
        caches.filled(Watched::Jobs);
        caches.interrupted(Watched::Policies, &refused(404), now);
        caches.interrupted(Watched::Pods, &refused(403), now);
        let unmet = caches.unmet(now);
        assert_eq!(unmet.len(), 2, "{unmet:?}");
        assert!(
            unmet[0].starts_with("waiting for maparefreshpolicies in all namespaces: the CustomResourceDefinition"),
            "{unmet:?}"
        );
        assert_eq!(
            unmet[1],
            "waiting for pods in all namespaces: forbidden, look at the operator's RBAC: pods is forbidden: no"
        );
        caches.filled(Watched::Policies);
        caches.filled(Watched::Pods);
        assert!(caches.unmet(now).is_empty());
    }

    #[test]
    fn f27_a_watch_that_goes_on_failing_makes_it_unready_and_one_that_recovers_makes_it_ready() {
        let caches = filled();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        caches.interrupted(Watched::Jobs, &refused(500), start);
        assert!(caches.unmet(start).is_empty(), "one interruption is none");
        for round in 1..=10_u32 {
            caches.interrupted(Watched::Jobs, &refused(403), start + second * 5 * round);
        }
        let unmet = caches.unmet(start + second * 51);
        assert!(
            unmet[0].starts_with("lost sight of jobs in namespace radar: forbidden"),
            "{unmet:?}"
        );
        // A watch that is back says nothing when nothing happens.
        assert!(caches.unmet(start + second * 80).is_empty());
    }
}
