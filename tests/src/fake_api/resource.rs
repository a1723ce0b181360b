//! The kinds of objects that the fake API server knows, and where an object lies.

use std::fmt;

/// A kind of object, as the API server names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Version within the group.
    pub version: &'static str,
    /// Name in paths.
    pub plural: &'static str,
    /// Name in objects.
    pub kind: &'static str,
    /// Whether `status` is written by a path of its own.
    pub has_status: bool,
}

const fn resource(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    has_status: bool,
) -> Resource {
    Resource {
        group,
        version,
        plural,
        kind,
        has_status,
    }
}

/// The product's policies.
pub const POLICIES: Resource = resource("mapa.radar.dev", "v1", "maparefreshpolicies", "MapaRefreshPolicy", true);
/// CronJobs.
pub const CRON_JOBS: Resource = resource("batch", "v1", "cronjobs", "CronJob", true);
/// Jobs.
pub const JOBS: Resource = resource("batch", "v1", "jobs", "Job", true);
/// Pods.
pub const PODS: Resource = resource("", "v1", "pods", "Pod", true);
/// Events.
pub const EVENTS: Resource = resource("events.k8s.io", "v1", "events", "Event", false);
/// Leases.
pub const LEASES: Resource = resource("coordination.k8s.io", "v1", "leases", "Lease", false);
/// ConfigMaps.
pub const CONFIG_MAPS: Resource = resource("", "v1", "configmaps", "ConfigMap", false);

/// Every kind that is served. Secrets are none: the operator must never ask for one.
pub const ALL: [Resource; 7] = [POLICIES, CRON_JOBS, JOBS, PODS, EVENTS, LEASES, CONFIG_MAPS];

impl Resource {
    /// `group/version`, or `version` in the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub resource: Resource,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The place of `name` in `namespace`.
    #[must_use]
    pub fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        Self {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.resource.plural, self.namespace, self.name)
    }
}
