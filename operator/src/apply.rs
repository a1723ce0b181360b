//! The only writer. Every write is preceded by a look at the lease, carries a deterministic name or a resource version, and is given up
//! after 5 s.
//!
//! CronJobs are created by POST and repaired by PUT: a forced apply would leave hand-added fields in place. What belongs to somebody
//! else is never touched; whose it is, is told by the UID of the controller reference.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job},
        core::v1::ObjectReference,
    },
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions, PropagationPolicy},
    core::Status,
    runtime::events::{Event, Recorder, Reporter},
};
use mapa_refresh_crds::{
    MapaRefreshPolicy, MapaRefreshPolicyStatus,
    labels::{self, FIELD_MANAGER},
    policy::TaskName,
    status::ReadyReason,
};
use tracing::{debug, info, warn};

use crate::{
    desired::{self, DesiredCronJob},
    error::Error,
    extra_runs::WantedJob,
    fence::Fence,
    fingerprint::Uid,
    health::permissions::Permissions,
    index::Index,
    observe::Observed,
    records::{CronJobRecord, JobRecord},
    validate::Refusal,
};

/// Longest that one write may take; a replica that lost its lease writes nothing later than this (I12).
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Repairs of one CronJob that are made within [`CONTEST_WINDOW`].
const MAX_REPAIRS: usize = 3;
const CONTEST_WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// Writes CronJobs, statuses and Events.
pub struct Writer {
    client: Client,
    fence: Fence,
    permissions: Arc<Permissions>,
    recorder: Recorder,
    repairs: Mutex<HashMap<Uid, VecDeque<Timestamp>>>,
}

impl Writer {
    /// A writer by `client`, which writes only while `fence` is open, and doubts `permissions` when a write is forbidden.
    #[must_use]
    pub fn new(client: Client, fence: Fence, permissions: Arc<Permissions>) -> Self {
        let recorder = Recorder::new(client.clone(), Reporter::from(FIELD_MANAGER));
        Self {
            client,
            fence,
            permissions,
            recorder,
            repairs: Mutex::default(),
        }
    }

    /// The one way to write: not without the lease, and not for longer than a write may take (I12).
    async fn write<T>(
        &self,
        action: &'static str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<kube::Result<T>, Error> {
        if !self.fence.is_open() {
            return Err(Error::NotLeading { action });
        }
        let answer = in_time(action, request).await?;
        if let Err(kube::Error::Api(status)) = &answer
            && status.is_forbidden()
        {
            self.permissions.doubt();
        }
        Ok(answer)
    }

    /// Makes the policy's CronJobs as `desired`: creates, repairs, and deletes those of tasks that the policy has no more.
    ///
    /// Returns what cannot be done until somebody changes something, one entry per CronJob.
    ///
    /// # Errors
    /// What may pass by itself. What was done until then is done; the next try goes on from there.
    pub async fn cron_jobs(
        &self,
        policy: &MapaRefreshPolicy,
        desired: &[DesiredCronJob],
        observed: &Observed,
        index: &Index,
        now: Timestamp,
    ) -> Result<Vec<Refusal>, Error> {
        let api: Api<CronJob> = Api::namespaced(
            self.client.clone(),
            policy.metadata.namespace.as_deref().unwrap_or_default(),
        );
        let mut refusals = Vec::new();
        for wanted in desired {
            let outcome = match observed.cron_job(wanted.task.name) {
                None => self.create(&api, wanted, index, now).await?,
                Some(record) if record.deleting || is_as(wanted, record) => None,
                Some(record) => self.repair(&api, wanted, record.uid, index, now).await?,
            };
            refusals.extend(outcome);
        }
        for record in &observed.cron_jobs {
            let wanted = |task: TaskName| desired.iter().any(|cron_job| cron_job.task.name == task);
            if let Some(task) = record.task.filter(|task| !wanted(*task) && !record.deleting) {
                let name = labels::cron_job_name(policy.metadata.name.as_deref().unwrap_or_default(), task);
                self.delete(&api, &name, record).await?;
            }
        }
        Ok(refusals)
    }

    async fn create(
        &self,
        api: &Api<CronJob>,
        wanted: &DesiredCronJob,
        index: &Index,
        now: Timestamp,
    ) -> Result<Option<Refusal>, Error> {
        const ACTION: &str = "create a CronJob";
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.write(ACTION, api.create(&parameters, &wanted.object)).await? {
            Ok(created) => {
                info!(cron_job = wanted.name(), schedule = %wanted.task.schedule, "created the CronJob");
                index.wrote(&created, now);
                Ok(None)
            }
            // Our own, by a try whose answer was lost or before our cache knew of it; or somebody else's.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                self.adopt_or_refuse(api, wanted, index, now).await
            }
            Err(error) => refused_or_failed(ACTION, wanted, error).map(Some),
        }
    }

    /// Creates `jobs` beside the schedule, each controlled by the CronJob of its task. One whose CronJob is not there yet waits for it.
    ///
    /// Returns what cannot be done until somebody changes something, one entry per Job.
    ///
    /// # Errors
    /// What may pass by itself. What was done until then is done; the next try goes on from there.
    pub async fn jobs(
        &self,
        policy: &MapaRefreshPolicy,
        jobs: &[WantedJob],
        desired: &[DesiredCronJob],
        index: &Index,
        observed: &Observed,
        now: Timestamp,
    ) -> Result<Vec<Refusal>, Error> {
        const ACTION: &str = "create a Job";
        let api: Api<Job> = Api::namespaced(
            self.client.clone(),
            policy.metadata.namespace.as_deref().unwrap_or_default(),
        );
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let mut refusals = Vec::new();
        for wanted in jobs {
            let Some((cron_job, record)) = desired
                .iter()
                .find(|cron_job| cron_job.task.name == wanted.task)
                .zip(observed.cron_job(wanted.task).filter(|record| !record.deleting))
            else {
                continue;
            };
            let job = desired::job(cron_job, &record.uid_text, &wanted.id);
            let name = job.metadata.name.clone().unwrap_or_default();
            match self.write(ACTION, api.create(&parameters, &job)).await? {
                Ok(created) => {
                    info!(job = name, "started a run beside the schedule");
                    index.wrote(&created, now);
                }
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    let existing = in_time(ACTION, api.get(&name))
                        .await?
                        .map_err(|error| failed(ACTION, error))?;
                    if JobRecord::read(&existing, now).is_some_and(|existing| existing.owner == Some(record.uid)) {
                        index.wrote(&existing, now);
                    } else {
                        refusals.push(Refusal {
                            reason: ReadyReason::JobConflict,
                            message: format!(
                                "Job {name} exists and belongs to somebody else, so it is left alone and no run is started: delete it"
                            ),
                        });
                    }
                }
                Err(kube::Error::Api(status)) if is_refusal(&status) => refusals.push(Refusal {
                    reason: ReadyReason::JobRejected,
                    message: format!("the API server refuses to {ACTION}, {name}: {}", status.message),
                }),
                Err(error) => return Err(failed(ACTION, error)),
            }
        }
        Ok(refusals)
    }

    async fn adopt_or_refuse(
        &self,
        api: &Api<CronJob>,
        wanted: &DesiredCronJob,
        index: &Index,
        now: Timestamp,
    ) -> Result<Option<Refusal>, Error> {
        const ACTION: &str = "read a CronJob";
        let existing = in_time(ACTION, api.get(wanted.name()))
            .await?
            .map_err(|error| failed(ACTION, error))?;
        let Some(record) = CronJobRecord::read(&existing) else {
            return Err(Error::Incomplete("uid on a CronJob"));
        };
        if record.owner != owner_of(&wanted.object) {
            return Ok(Some(Refusal {
                reason: ReadyReason::CronJobConflict,
                message: format!(
                    "CronJob {} exists and belongs to somebody else, so it is left alone: delete or rename it, or rename the policy",
                    wanted.name()
                ),
            }));
        }
        index.wrote(&existing, now);
        if record.deleting || is_as(wanted, &record) {
            return Ok(None);
        }
        self.repair(api, wanted, record.uid, index, now).await
    }

    /// Puts back what is ours of a CronJob: the whole spec, our labels, the owner. Other labels and annotations stay.
    async fn repair(
        &self,
        api: &Api<CronJob>,
        wanted: &DesiredCronJob,
        uid: Uid,
        index: &Index,
        now: Timestamp,
    ) -> Result<Option<Refusal>, Error> {
        const ACTION: &str = "repair a CronJob";
        if self.is_contested(uid, now) {
            return Ok(Some(Refusal {
                reason: ReadyReason::CronJobContested,
                message: format!(
                    "CronJob {} was changed back {MAX_REPAIRS} times within a minute: look for a webhook or another controller that changes \
                     it with `kubectl get cronjob {} --show-managed-fields -o yaml`",
                    wanted.name(),
                    wanted.name()
                ),
            }));
        }
        let mut current = match in_time(ACTION, api.get(wanted.name())).await? {
            Ok(current) => current,
            Err(kube::Error::Api(status)) if status.is_not_found() => return Err(Error::Outdated { action: ACTION }),
            Err(error) => return Err(failed(ACTION, error)),
        };
        let Some(record) = CronJobRecord::read(&current)
            .filter(|record| record.uid == uid && record.owner == owner_of(&wanted.object))
        else {
            return Err(Error::Outdated { action: ACTION });
        };
        if is_as(wanted, &record) {
            // Our cache is behind: it was put back already.
            index.wrote(&current, now);
            return Ok(None);
        }
        current.spec.clone_from(&wanted.object.spec);
        current
            .metadata
            .labels
            .get_or_insert_default()
            .extend(wanted.object.metadata.labels.clone().unwrap_or_default());
        current.metadata.managed_fields = None;
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self
            .write(ACTION, api.replace(wanted.name(), &parameters, &current))
            .await?
        {
            Ok(repaired) => {
                info!(cron_job = wanted.name(), "put the CronJob back as the policy asks");
                index.wrote(&repaired, now);
                self.repairs
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(uid)
                    .or_default()
                    .push_back(now);
                Ok(None)
            }
            Err(error) => refused_or_failed(ACTION, wanted, error).map(Some),
        }
    }

    fn is_contested(&self, uid: Uid, now: Timestamp) -> bool {
        let mut repairs = self.repairs.lock().unwrap_or_else(PoisonError::into_inner);
        repairs.retain(|_, times| {
            times.retain(|time| now.duration_since(*time) < CONTEST_WINDOW);
            !times.is_empty()
        });
        repairs.get(&uid).is_some_and(|times| times.len() >= MAX_REPAIRS)
    }

    async fn delete(&self, api: &Api<CronJob>, name: &str, record: &CronJobRecord) -> Result<(), Error> {
        const ACTION: &str = "delete a CronJob";
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions {
                uid: Some(record.uid_text.to_string()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.write(ACTION, api.delete(name, &parameters)).await? {
            Ok(_) => {
                info!(
                    cron_job = name,
                    "deleted the CronJob of a task that the policy has no more"
                );
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 409 => Ok(()),
            Err(error) => Err(failed(ACTION, error)),
        }
    }

    /// Writes `status` to the policy as it stands in `policy`, whose resource version it carries.
    ///
    /// # Errors
    /// [`Error::Outdated`] when somebody wrote in between, else what may pass by itself.
    pub async fn status(
        &self,
        policy: &MapaRefreshPolicy,
        status: MapaRefreshPolicyStatus,
    ) -> Result<MapaRefreshPolicy, Error> {
        const ACTION: &str = "write the status";
        let namespace = policy
            .metadata
            .namespace
            .as_deref()
            .ok_or(Error::Incomplete("namespace"))?;
        let name = policy.metadata.name.as_deref().ok_or(Error::Incomplete("name"))?;
        let api: Api<MapaRefreshPolicy> = Api::namespaced(self.client.clone(), namespace);
        let mut written = policy.clone();
        written.metadata.managed_fields = None;
        written.status = Some(status);
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self
            .write(ACTION, api.replace_status(name, &parameters, &written))
            .await?
        {
            Ok(policy) => Ok(policy),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Err(Error::Outdated { action: ACTION })
            }
            Err(error) => Err(failed(ACTION, error)),
        }
    }

    /// Publishes `events` about `object`. An Event that cannot be published is logged: it is news, not state.
    pub async fn events(&self, object: &ObjectReference, events: &[Event]) {
        for event in events {
            match self
                .write("publish an Event", self.recorder.publish(event, object))
                .await
            {
                Ok(Ok(())) => debug!(reason = event.reason, "published an Event"),
                Ok(Err(error)) => warn!(reason = event.reason, %error, "could not publish an Event"),
                Err(error) => warn!(reason = event.reason, %error, "no Event"),
            }
        }
    }
}

/// Whether the CronJob is as wanted: whole spec and our labels.
fn is_as(wanted: &DesiredCronJob, record: &CronJobRecord) -> bool {
    record.labels_intact && wanted.fingerprint.is_some() && record.fingerprint == wanted.fingerprint
}

fn owner_of(cron_job: &CronJob) -> Option<Uid> {
    let owners = cron_job.metadata.owner_references.as_ref()?;
    owners
        .iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| Uid::parse(&owner.uid))
}

async fn in_time<T>(
    action: &'static str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<kube::Result<T>, Error> {
    tokio::time::timeout(WRITE_TIMEOUT, request)
        .await
        .map_err(|_| Error::Timeout {
            action,
            limit: WRITE_TIMEOUT,
        })
}

fn failed(action: &'static str, source: kube::Error) -> Error {
    match source {
        kube::Error::Api(status) if status.is_conflict() => Error::Outdated { action },
        source => Error::Api {
            action,
            source: Box::new(source),
        },
    }
}

/// A refusal for what the API server will refuse again until somebody changes something; the policy says so and others go on.
fn refused_or_failed(action: &'static str, wanted: &DesiredCronJob, error: kube::Error) -> Result<Refusal, Error> {
    match error {
        kube::Error::Api(status) if is_refusal(&status) => Ok(Refusal {
            reason: ReadyReason::CronJobRejected,
            message: format!(
                "the API server refuses to {action}, {}: {}",
                wanted.name(),
                status.message
            ),
        }),
        error => Err(failed(action, error)),
    }
}

/// Forbidden (quota, RBAC, a terminating namespace), invalid, or a request it cannot read.
fn is_refusal(status: &Status) -> bool {
    matches!(status.code, 400 | 403 | 404 | 422)
}
