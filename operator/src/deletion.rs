//! Pure: whether a policy that is being deleted will be gone in a moment, or is held by a foreign finalizer.

use kube::ResourceExt;
use mapa_refresh_crds::{MapaRefreshPolicy, status::ReadyReason};

use crate::validate::Refusal;

/// Finalizers that Kubernetes sets and removes itself.
///
/// Source: <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#foreground-deletion>
const OF_KUBERNETES: [&str; 2] = ["foregroundDeletion", "orphan"];

/// How far the deletion of a policy has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Only Kubernetes' own work is left: garbage collection removes the CronJobs, Jobs and pods.
    UnderWay,
    /// A foreign finalizer holds the policy. It still looks alive, but nothing is created or repaired for it.
    Held(Refusal),
}

/// The deletion of `policy`; `None` while nobody deletes it.
#[must_use]
pub fn deletion(policy: &MapaRefreshPolicy) -> Option<Deletion> {
    let since = policy.metadata.deletion_timestamp.as_ref()?;
    let foreign: Vec<&str> = policy
        .finalizers()
        .iter()
        .map(String::as_str)
        .filter(|finalizer| !OF_KUBERNETES.contains(finalizer))
        .collect();
    if foreign.is_empty() {
        return Some(Deletion::UnderWay);
    }
    Some(Deletion::Held(Refusal {
        reason: ReadyReason::BeingDeleted,
        message: format!(
            "the policy is being deleted since {} and a finalizer holds it ({}): whoever set it has to take it away; until then its CronJobs go on as \
             they are, and nothing is made or repaired",
            since.0,
            foreign.join(", ")
        ),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(deleted: bool, finalizers: &[&str]) -> MapaRefreshPolicy {
        let mut policy = crate::desired::tests::policy(serde_json::json!({}));
        policy.metadata.finalizers = Some(finalizers.iter().map(|it| (*it).to_owned()).collect());
        policy.metadata.deletion_timestamp = deleted.then(|| {
            "2026-11-23T10:00:00Z"
                .parse()
                .map(crate::conditions::whole_seconds)
                .unwrap()
        });
        policy
    }

    #[test]
    fn only_a_foreign_finalizer_holds_a_policy_and_is_named() {
        assert_eq!(deletion(&policy(false, &["example.org/archive"])), None);
        for of_kubernetes in [&[] as &[_], &["foregroundDeletion"], &["orphan"]] {
            assert_eq!(deletion(&policy(true, of_kubernetes)), Some(Deletion::UnderWay));
        }
        let Some(Deletion::Held(refusal)) = deletion(&policy(true, &["foregroundDeletion", "example.org/archive"]))
        else {
            panic!("not held");
        };
        assert!(refusal.message.contains("(example.org/archive)"), "{}", refusal.message);
    }
}
