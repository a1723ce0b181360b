//! Whether the operator may write what it has to in one watched scope, and if not, what it may not.
//!
//! The API server is asked at the start and, because roles can be changed at any time, after a write that was forbidden. What it
//! forbids for another reason, such as a quota, is no lack of permission, and this is how the two are told apart.

use std::{
    convert::Infallible,
    future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::Client;
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use crate::permissions::{Permission, denied};

/// Between two questions while something is missing, and after a doubt.
const AGAIN: Duration = Duration::from_secs(5);

/// The permissions of one scope.
#[derive(Debug)]
pub struct Permissions {
    namespace: Option<String>,
    denied: Mutex<Vec<Permission>>,
    doubted: Notify,
}

impl Permissions {
    /// The permissions in a namespace, or in all; until somebody asked, nothing is known to be missing.
    #[must_use]
    pub fn of(namespace: Option<&str>) -> Self {
        Self {
            namespace: namespace.map(str::to_owned),
            denied: Mutex::default(),
            doubted: Notify::new(),
        }
    }

    /// A write was forbidden: perhaps the permission for it is gone.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// What is missing, in one line.
    #[must_use]
    pub fn unmet(&self) -> Option<String> {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        if denied.is_empty() {
            return None;
        }
        let missing: Vec<String> = denied.iter().map(ToString::to_string).collect();
        let place = match &self.namespace {
            Some(namespace) => format!("namespace {namespace}"),
            None => "all namespaces".to_owned(),
        };
        Some(format!(
            "the operator may not {} in {place}: look at its role and binding, which the chart makes",
            missing.join(", ")
        ))
    }

    /// Asks at once, again while something is missing, and after each doubt.
    pub async fn keep(&self, client: &Client) -> Infallible {
        loop {
            match denied(client, self.namespace.as_deref()).await {
                Ok(denied) => self.tell(denied),
                // Everybody who is authenticated may ask, unless the cluster's admins took that away.
                Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                    debug!(reason = status.message, "the API server tells nobody what they may");
                    return future::pending().await;
                }
                Err(error) => {
                    debug!(%error, "the API server does not say what the operator may");
                    self.doubt();
                }
            }
            tokio::time::sleep(AGAIN).await;
            if self.unmet().is_none() {
                self.doubted.notified().await;
            }
        }
    }

    /// Says what has changed.
    fn tell(&self, denied: Vec<Permission>) {
        let before = {
            let mut known = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, denied.clone())
        };
        if denied == before {
            return;
        }
        match self.unmet() {
            Some(missing) => warn!("{missing}"),
            None => info!(namespace = self.namespace, "the operator may write what it has to"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::NEEDED;

    #[test]
    fn what_is_missing_is_one_line_with_verbs_and_place_and_nothing_when_all_is_given() {
        let permissions = Permissions::of(Some("radar"));
        assert_eq!(permissions.unmet(), None);
        permissions.tell(
            NEEDED
                .into_iter()
                .filter(|permission| permission.verb == "update")
                .collect(),
        );
        let unmet = permissions.unmet().unwrap();
        assert!(
            unmet.starts_with(
                "the operator may not update cronjobs, update maparefreshpolicies/finalizers, update \
                 maparefreshpolicies/status in namespace radar:"
            ) && !unmet.contains('\n'),
            "{unmet}"
        );
        permissions.tell(Vec::new());
        assert_eq!(permissions.unmet(), None);
    }
}
