//! Discovery of the platform, where runs need other settings on it.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use kube::Client;
use tracing::{info, warn};

use crate::settings::UserIds;

/// The API group of OpenShift's security context constraints, which give each namespace ids of its own.
///
/// <https://docs.openshift.com/container-platform/latest/authentication/managing-security-context-constraints.html>
const SECURITY_CONTEXT_CONSTRAINTS: &str = "security.openshift.io";
/// Longest wait between two questions to an API server that does not answer.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// Resolves `UserIds::Auto` by the API groups of the cluster; any other value is returned as it is. Retries until the cluster answers.
pub async fn user_ids(client: &Client, wanted: UserIds) -> UserIds {
    if wanted != UserIds::Auto {
        return wanted;
    }
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times();
    let groups = (|| client.list_api_groups())
        .retry(backoff)
        // Every account may list API groups by default. Where that was taken away, a retry does not help.
        .when(|error| !matches!(error, kube::Error::Api(status) if status.is_forbidden()))
        .notify(|error, wait| warn!(%error, ?wait, "could not ask which APIs the cluster has, will try again"))
        .await;
    let found = match groups {
        Ok(groups)
            if groups
                .groups
                .iter()
                .any(|group| group.name == SECURITY_CONTEXT_CONSTRAINTS) =>
        {
            UserIds::Platform
        }
        Ok(_) => UserIds::Fixed,
        Err(error) => {
            warn!(%error, "not allowed to ask which APIs the cluster has: runs get fixed ids (runner.userIds)");
            UserIds::Fixed
        }
    };
    if found == UserIds::Platform {
        info!("security context constraints are here: the platform chooses the ids of the runs' pods (runner.userIds)");
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use http::{Request, Response, StatusCode};
    use kube::client::Body;

    use super::*;

    /// A cluster that answers the question for its groups so, from the second time on; and how often it was asked.
    fn cluster(status: StatusCode, groups: &'static [&'static str]) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                assert_eq!(request.uri().path(), "/apis");
                let versions =
                    |name: &str| serde_json::json!([{ "groupVersion": format!("{name}/v1"), "version": "v1" }]);
                let groups: Vec<_> = groups
                    .iter()
                    .map(|name| serde_json::json!({ "name": name, "versions": versions(name) }))
                    .collect();
                let (status, body) = if is_first {
                    (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({}))
                } else if status == StatusCode::OK {
                    (
                        status,
                        serde_json::json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }),
                    )
                } else {
                    let reason = serde_json::json!({
                        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403,
                    });
                    (status, reason)
                };
                let response = Response::builder()
                    .status(status)
                    .body(Body::from(body.to_string().into_bytes()));
                Ok::<_, std::io::Error>(response.unwrap())
            }
        });
        (Client::new(service, "default"), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn the_platform_chooses_ids_where_it_has_constraints_for_them() {
        for (status, groups, expected) in [
            (
                StatusCode::OK,
                &["apps", "security.openshift.io"] as &[_],
                UserIds::Platform,
            ),
            (StatusCode::OK, &["apps", "not-security.openshift.io"], UserIds::Fixed),
            (StatusCode::FORBIDDEN, &[], UserIds::Fixed),
        ] {
            let (client, asked) = cluster(status, groups);
            assert_eq!(user_ids(&client, UserIds::Auto).await, expected);
            assert_eq!(asked.load(Ordering::Relaxed), 2);
        }
    }

    #[tokio::test]
    async fn who_says_it_is_believed_without_a_question() {
        let (client, asked) = cluster(StatusCode::OK, &["security.openshift.io"]);
        for wanted in [UserIds::Fixed, UserIds::Platform] {
            assert_eq!(user_ids(&client, wanted).await, wanted);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }
}
