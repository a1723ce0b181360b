//! What the operator has to be permitted where policies are. The chart's roles give this and no more.

use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};

/// Requests at the same time.
const CONCURRENCY: usize = 6;

const BATCH: &str = "batch";
const EVENTS: &str = "events.k8s.io";
const POLICIES: &str = "mapa.radar.dev";

/// Everything that the operator asks for beside its Lease, and what admission asks for when it sets the owner of a CronJob.
pub const NEEDED: [Permission; 18] = [
    Permission::of("list", "", "pods"),
    Permission::of("watch", "", "pods"),
    Permission::of("list", BATCH, "cronjobs"),
    Permission::of("watch", BATCH, "cronjobs"),
    Permission::of("get", BATCH, "cronjobs"),
    Permission::of("create", BATCH, "cronjobs"),
    Permission::of("update", BATCH, "cronjobs"),
    Permission::of("delete", BATCH, "cronjobs"),
    Permission::of("list", BATCH, "jobs"),
    Permission::of("watch", BATCH, "jobs"),
    Permission::of("get", BATCH, "jobs"),
    Permission::of("create", BATCH, "jobs"),
    Permission::of("create", EVENTS, "events"),
    Permission::of("patch", EVENTS, "events"),
    Permission::of("list", POLICIES, "maparefreshpolicies"),
    Permission::of("watch", POLICIES, "maparefreshpolicies"),
    Permission::of("update", POLICIES, "maparefreshpolicies").on("finalizers"),
    Permission::of("update", POLICIES, "maparefreshpolicies").on("status"),
];

/// One thing that may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The verb of the API.
    pub verb: &'static str,
    /// The group; empty: the core's.
    pub group: &'static str,
    /// The resource, in plural.
    pub resource: &'static str,
    /// The part of it.
    pub subresource: Option<&'static str>,
}

impl Permission {
    const fn of(verb: &'static str, group: &'static str, resource: &'static str) -> Self {
        Self {
            verb,
            group,
            resource,
            subresource: None,
        }
    }

    const fn on(self, subresource: &'static str) -> Self {
        Self {
            subresource: Some(subresource),
            ..self
        }
    }

    /// Whether it is needed for a cache: a watch that fails says so itself.
    fn fills_a_cache(self) -> bool {
        matches!(self.verb, "list" | "watch")
    }

    /// As the API server is asked about it, in `namespace` or in all.
    #[must_use]
    pub fn attributes(self, namespace: Option<&str>) -> ResourceAttributes {
        ResourceAttributes {
            namespace: namespace.map(str::to_owned),
            verb: Some(self.verb.to_owned()),
            group: Some(self.group.to_owned()),
            resource: Some(self.resource.to_owned()),
            subresource: self.subresource.map(str::to_owned),
            ..ResourceAttributes::default()
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        match self.subresource {
            Some(subresource) => write!(f, "/{subresource}"),
            None => Ok(()),
        }
    }
}

/// What of [`NEEDED`] beside the watches the caller may not do in `namespace`, or in all, as the API server itself says it.
///
/// # Errors
/// It does not answer, or the cluster lets nobody ask.
pub async fn denied(client: &Client, namespace: Option<&str>) -> kube::Result<Vec<Permission>> {
    let asked = NEEDED.into_iter().filter(|permission| !permission.fills_a_cache());
    let answers = stream::iter(asked.map(|permission| async move {
        let may = allowed(client, permission.attributes(namespace)).await;
        may.map(|may| (!may).then_some(permission))
    }));
    let denied: Vec<Option<Permission>> = answers.buffered(CONCURRENCY).try_collect().await?;
    Ok(denied.into_iter().flatten().collect())
}

/// Whether the caller may do it.
///
/// # Errors
/// The API server does not answer, or lets nobody ask.
pub async fn allowed(client: &Client, attributes: ResourceAttributes) -> kube::Result<bool> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
