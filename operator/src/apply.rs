//! The only writer. Every write is preceded by a look at the lease, carries a deterministic name or a resource version, and is given up
//! after 5 s.
//!
//! CronJobs are created by POST and repaired by PUT: a forced apply would leave hand-added fields in place. What belongs to somebody
//! else is never touched; whose it is, is told by the UID of the controller reference.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, PostParams, Preconditions, PropagationPolicy},
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
    applied::{Applied, Problem},
    clock::CLOCKS_APART,
    contest::{self, Contest, Judgement, Written},
    desired::{self, DesiredCronJob},
    drift,
    error::Error,
    extra_runs::WantedJob,
    fence::Fence,
    fingerprint::Uid,
    health::permissions::Permissions,
    index::Index,
    managed_fields,
    observe::Observed,
    records::{CronJobRecord, JobRecord, PolicyKey},
    validate::Refusal,
};

/// Longest that one write may take; a replica that lost its lease writes nothing later than this (I12).
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Recent writes of CronJobs.
type Contests = HashMap<PolicyKey, BTreeMap<TaskName, Contest>>;

/// Writes CronJobs, statuses and Events.
pub struct Writer {
    client: Client,
    fence: Fence,
    permissions: Arc<Permissions>,
    recorder: Recorder,
    contests: Mutex<Contests>,
}

impl Writer {
    /// A writer by `client`, which writes only while `fence` is open, and doubts `permissions` when a write is forbidden.
    #[must_use]
    pub fn new(client: Client, fence: Fence, permissions: Arc<Permissions>) -> Self {
        let client = managed_fields::left_out(client);
        let recorder = Recorder::new(client.clone(), Reporter::from(FIELD_MANAGER));
        Self {
            client,
            fence,
            permissions,
            recorder,
            contests: Mutex::default(),
        }
    }

    /// Drops everything about a policy that is gone.
    pub fn forget(&self, key: &PolicyKey) {
        self.contests().remove(key);
    }

    fn contests(&self) -> MutexGuard<'_, Contests> {
        self.contests.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// # Errors
    /// What may pass by itself. What was done until then is done; the next try goes on from there.
    pub async fn cron_jobs(
        &self,
        policy: &MapaRefreshPolicy,
        desired: &[DesiredCronJob],
        observed: &Observed,
        index: &Index,
        now: Timestamp,
    ) -> Result<Applied, Error> {
        let key = PolicyKey::of_policy(&policy.metadata).ok_or(Error::Incomplete("namespace or name"))?;
        let work = CronJobs {
            api: Api::namespaced(self.client.clone(), &key.namespace),
            writer: self,
            key: &key,
            index,
            now,
        };
        let mut applied = Applied::default();
        for wanted in desired {
            let standing = match observed.cron_job(wanted.task.name) {
                None => work.create(wanted).await?,
                Some(record) if record.deleting => Standing::Fine,
                Some(record) => work.keep(wanted, record).await?,
            };
            match standing {
                Standing::Fine => {}
                Standing::Borne(what) => applied.borne.push(format!("{} of CronJob {}", what, wanted.name())),
                Standing::Refused(refusal) => applied.problems.push(Problem {
                    task: wanted.task.name,
                    refusal,
                }),
            }
        }
        for record in &observed.cron_jobs {
            let wanted = |task: TaskName| desired.iter().any(|cron_job| cron_job.task.name == task);
            if let Some(task) = record.task.filter(|task| !wanted(*task) && !record.deleting) {
                work.delete(&labels::cron_job_name(&key.name, task), record).await?;
            }
        }
        Ok(applied)
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
    ) -> Result<Vec<Problem>, Error> {
        const ACTION: &str = "create a Job";
        let api: Api<Job> = Api::namespaced(
            self.client.clone(),
            policy.metadata.namespace.as_deref().unwrap_or_default(),
        );
        let parameters = by_us();
        let mut problems = Vec::new();
        for wanted in jobs {
            let refused = |reason, message| Problem {
                task: wanted.task,
                refusal: Refusal { reason, message },
            };
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
                        problems.push(refused(
                            ReadyReason::JobConflict,
                            format!("Job {name} exists and belongs to somebody else, so it is left alone and no run is started: delete it"),
                        ));
                    }
                }
                Err(kube::Error::Api(status)) if is_refusal(&status) => problems.push(refused(
                    ReadyReason::JobRejected,
                    format!("the API server refuses to {ACTION}, {name}: {}", status.message),
                )),
                Err(error) => return Err(failed(ACTION, error)),
            }
        }
        Ok(problems)
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
        let answer = self.write(ACTION, api.replace_status(name, &by_us(), &written)).await?;
        answer.map_err(|error| outdated_or_failed(ACTION, error))
    }

    /// Writes `status` to the policy of `metadata`, whose resource version it carries; the policy itself need not be understood.
    ///
    /// # Errors
    /// As [`Writer::status`].
    pub async fn status_of_undecodable(
        &self,
        metadata: &ObjectMeta,
        status: &MapaRefreshPolicyStatus,
    ) -> Result<(), Error> {
        const ACTION: &str = "write the status of a policy that cannot be decoded";
        let namespace = metadata.namespace.as_deref().ok_or(Error::Incomplete("namespace"))?;
        let name = metadata.name.as_deref().ok_or(Error::Incomplete("name"))?;
        let resource = ApiResource::erase::<MapaRefreshPolicy>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        // On this path the API server takes the status alone, and leaves the spec as it is.
        let mut written = DynamicObject::new(name, &resource)
            .within(namespace)
            .data(serde_json::json!({ "status": status }));
        written.metadata.uid.clone_from(&metadata.uid);
        written.metadata.resource_version.clone_from(&metadata.resource_version);
        let answer = self.write(ACTION, api.replace_status(name, &by_us(), &written)).await?;
        answer.map(drop).map_err(|error| outdated_or_failed(ACTION, error))
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

/// The CronJobs of one policy, at one moment.
struct CronJobs<'a> {
    api: Api<CronJob>,
    writer: &'a Writer,
    key: &'a PolicyKey,
    index: &'a Index,
    now: Timestamp,
}

/// How a CronJob stands after what could be done.
enum Standing {
    /// As wanted, or on its way there.
    Fine,
    /// As wanted but for what admission changed and decides nothing; in what.
    Borne(String),
    /// Blocked until somebody acts.
    Refused(Refusal),
}

impl CronJobs<'_> {
    async fn create(&self, wanted: &DesiredCronJob) -> Result<Standing, Error> {
        const ACTION: &str = "create a CronJob";
        match self
            .writer
            .write(ACTION, self.api.create(&by_us(), &wanted.object))
            .await?
        {
            Ok(created) => {
                info!(cron_job = wanted.name(), schedule = %wanted.task.schedule, "created the CronJob");
                Ok(self.look_at_answer(Written::Created, wanted, &created))
            }
            // Our own (a lost answer, or a cache that lags), an orphan, or a foreign one.
            Err(kube::Error::Api(status)) if status.is_already_exists() => self.adopt_or_refuse(wanted).await,
            Err(error) => refused_or_failed(ACTION, wanted, error),
        }
    }

    async fn adopt_or_refuse(&self, wanted: &DesiredCronJob) -> Result<Standing, Error> {
        const ACTION: &str = "read a CronJob";
        let existing = in_time(ACTION, self.api.get(wanted.name()))
            .await?
            .map_err(|error| failed(ACTION, error))?;
        let Some(record) = CronJobRecord::read(&existing) else {
            return Err(Error::Incomplete("uid on a CronJob"));
        };
        if record.owner == owner_of(&wanted.object) {
            self.index.wrote(&existing, self.now);
            if record.deleting {
                return Ok(Standing::Fine);
            }
            return self.keep(wanted, &record).await;
        }
        // An orphan: restored from a backup, or left by `kubectl delete --cascade=orphan`.
        if record.is_orphan && record.labels_intact {
            if record.deleting {
                return Ok(Standing::Fine);
            }
            return self.replace("adopt a CronJob", wanted, existing).await;
        }
        Ok(Standing::Refused(Refusal {
            reason: ReadyReason::CronJobConflict,
            message: format!(
                "CronJob {} exists and belongs to somebody else, so it is left alone: delete or rename it, or rename the policy",
                wanted.name()
            ),
        }))
    }

    /// Keeps a CronJob as wanted, unless it is contested.
    async fn keep(&self, wanted: &DesiredCronJob, record: &CronJobRecord) -> Result<Standing, Error> {
        let standing = match self.judge(wanted, record) {
            Judgement::Write => self.repair(wanted, record.uid).await?,
            judgement => standing(wanted, judgement),
        };
        Ok(match (standing, fires_not_before(wanted, record, self.now)) {
            (Standing::Fine | Standing::Borne(_), Some(refusal)) => Standing::Refused(refusal),
            (standing, _) => standing,
        })
    }

    /// Puts back what is ours of a CronJob: the whole spec, our labels, the owner. Other labels and annotations stay.
    async fn repair(&self, wanted: &DesiredCronJob, uid: Uid) -> Result<Standing, Error> {
        const ACTION: &str = "repair a CronJob";
        let current = match in_time(ACTION, self.api.get(wanted.name())).await? {
            Ok(current) => current,
            Err(kube::Error::Api(status)) if status.is_not_found() => return Err(Error::Outdated { action: ACTION }),
            Err(error) => return Err(failed(ACTION, error)),
        };
        let Some(record) = CronJobRecord::read(&current)
            .filter(|record| record.uid == uid && record.owner == owner_of(&wanted.object))
        else {
            return Err(Error::Outdated { action: ACTION });
        };
        match self.judge(wanted, &record) {
            Judgement::Write => self.replace(ACTION, wanted, current).await,
            // Our cache is behind: it was put back already.
            judgement => {
                self.index.wrote(&current, self.now);
                Ok(standing(wanted, judgement))
            }
        }
    }

    async fn replace(
        &self,
        action: &'static str,
        wanted: &DesiredCronJob,
        mut current: CronJob,
    ) -> Result<Standing, Error> {
        current.spec.clone_from(&wanted.object.spec);
        let (ours, meta) = (&wanted.object.metadata, &mut current.metadata);
        for (theirs, ours) in [
            (&mut meta.labels, &ours.labels),
            (&mut meta.annotations, &ours.annotations),
        ] {
            if let Some(ours) = ours {
                theirs.get_or_insert_default().extend(ours.clone());
            }
        }
        let is_controlled = meta
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.controller == Some(true));
        if !is_controlled {
            let owners = ours.owner_references.clone().unwrap_or_default();
            meta.owner_references.get_or_insert_default().extend(owners);
        }
        meta.managed_fields = None;
        match self
            .writer
            .write(action, self.api.replace(wanted.name(), &by_us(), &current))
            .await?
        {
            Ok(replaced) => {
                info!(cron_job = wanted.name(), action, "put the CronJob as the policy asks");
                Ok(self.look_at_answer(Written::Repaired, wanted, &replaced))
            }
            Err(error) => refused_or_failed(action, wanted, error),
        }
    }

    /// Compares the API server's answer with what was sent: admission stands in between.
    fn look_at_answer(&self, written: Written, wanted: &DesiredCronJob, answer: &CronJob) -> Standing {
        self.index.wrote(answer, self.now);
        let Some(record) = CronJobRecord::read(answer) else {
            return Standing::Fine;
        };
        let differences = if wanted.fingerprint == record.fingerprint && record.labels_intact {
            Vec::new()
        } else {
            drift::differences(&wanted.object, answer)
        };
        for difference in &differences {
            info!(
                cron_job = wanted.name(),
                field = difference.path,
                values = difference.values,
                borne = difference.is_borne,
                "admission changed the CronJob"
            );
        }
        self.with_contest(wanted, |contest| {
            contest::wrote(contest, written, wanted.fingerprint, &record, &differences, self.now);
        });
        standing(wanted, self.judge(wanted, &record))
    }

    fn judge(&self, wanted: &DesiredCronJob, record: &CronJobRecord) -> Judgement {
        self.with_contest(wanted, |contest| {
            contest::judge(contest, wanted.name(), wanted.fingerprint, record, self.now)
        })
    }

    /// Lets `act` read and change what is remembered of the writes of one CronJob.
    fn with_contest<T>(&self, wanted: &DesiredCronJob, act: impl FnOnce(&mut Option<Contest>) -> T) -> T {
        let mut all = self.writer.contests();
        let mut contest = all.get_mut(self.key).and_then(|tasks| tasks.remove(&wanted.task.name));
        let answer = act(&mut contest);
        if let Some(contest) = contest {
            all.entry(self.key.clone())
                .or_default()
                .insert(wanted.task.name, contest);
        }
        answer
    }

    async fn delete(&self, name: &str, record: &CronJobRecord) -> Result<(), Error> {
        const ACTION: &str = "delete a CronJob";
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions {
                uid: Some(record.uid_text.to_string()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.writer.write(ACTION, self.api.delete(name, &parameters)).await? {
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
}

/// The controller makes no Job for a slot before the last that a CronJob says to have had, which lies ahead where a clock was wrong or somebody
/// wrote it.
fn fires_not_before(wanted: &DesiredCronJob, record: &CronJobRecord, now: Timestamp) -> Option<Refusal> {
    let last = record.last_schedule.filter(|_| !wanted.task.suspended)?;
    let name = wanted.name();
    (last.duration_since(now) > CLOCKS_APART).then(|| Refusal {
        reason: ReadyReason::CronJobNeverFires,
        message: format!(
            "CronJob {name} says that it was scheduled last at {last}, and starts no run before: `kubectl delete cronjob {name}`, and the operator \
             makes it anew"
        ),
    })
}

fn standing(wanted: &DesiredCronJob, judgement: Judgement) -> Standing {
    match judgement {
        Judgement::AsWanted | Judgement::Write => Standing::Fine,
        Judgement::Borne(what) => Standing::Borne(what),
        Judgement::Contested(message) => Standing::Refused(Refusal {
            reason: ReadyReason::CronJobContested,
            message: format!("CronJob {} is not as the policy asks: {message}", wanted.name()),
        }),
    }
}

fn by_us() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
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

/// An object that is gone is as outdated as one that was changed: the watch delivers its newest state.
fn outdated_or_failed(action: &'static str, source: kube::Error) -> Error {
    match source {
        kube::Error::Api(status) if status.is_not_found() => Error::Outdated { action },
        source => failed(action, source),
    }
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
fn refused_or_failed(action: &'static str, wanted: &DesiredCronJob, error: kube::Error) -> Result<Standing, Error> {
    match error {
        kube::Error::Api(status) if is_refusal(&status) => Ok(Standing::Refused(Refusal {
            reason: ReadyReason::CronJobRejected,
            message: format!(
                "the API server refuses to {action}, {}: {}",
                wanted.name(),
                status.message
            ),
        })),
        error => Err(failed(action, error)),
    }
}

/// Forbidden (quota, RBAC, a terminating namespace), invalid, or a request it cannot read.
fn is_refusal(status: &Status) -> bool {
    matches!(status.code, 400 | 403 | 404 | 422)
}
