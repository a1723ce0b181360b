//! The only reader of the caches: gathers everything that one reconcile decides on into one [`Observed`].
//!
//! Here ownership is verified: a Job belongs to a policy only if a CronJob controls it that the policy controls, each by UID. Names
//! and labels prove nothing.

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::policy::TaskName;

use crate::{
    fingerprint::Uid,
    index::Index,
    records::{CronJobRecord, JobRecord, PodRecord, PolicyKey},
};

/// One snapshot of what exists for a policy.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The policy's own CronJobs.
    pub cron_jobs: Vec<CronJobRecord>,
    /// The runs of those CronJobs, and of those that are gone.
    pub runs: Vec<Run>,
    /// Jobs that name the policy and are no run of it now: forged, or their CronJob's owner was changed by hand.
    pub other_jobs: Vec<Uid>,
}

/// A Job with its pods, the UID chain verified.
#[derive(Clone, Debug)]
pub struct Run {
    /// The task that it runs.
    pub task: TaskName,
    /// The Job.
    pub job: JobRecord,
    /// Its pods.
    pub pods: Vec<PodRecord>,
}

impl Observed {
    /// The CronJob of `task`, if there is one.
    #[must_use]
    pub fn cron_job(&self, task: TaskName) -> Option<&CronJobRecord> {
        self.cron_jobs.iter().find(|cron_job| cron_job.task == Some(task))
    }
}

/// Gathers what exists for the policy `key` with the UID `policy`, which was created at `since`: Jobs that are older are runs of another policy,
/// whose CronJob was adopted.
#[must_use]
pub fn observe(index: &Index, key: &PolicyKey, policy: Uid, since: Option<Timestamp>) -> Observed {
    let group = index.group(key);
    let is_ours = |cron_job: &&CronJobRecord| cron_job.owner == Some(policy);
    let cron_jobs: Vec<CronJobRecord> = group.cron_jobs.iter().filter(is_ours).cloned().collect();
    let past = group.past_cron_jobs.iter().filter(is_ours);
    let tasks: Vec<(Uid, TaskName)> = cron_jobs
        .iter()
        .chain(past)
        .filter_map(|cron_job| Some((cron_job.uid, cron_job.task?)))
        .collect();

    let mut other_jobs = Vec::new();
    let runs = group
        .jobs
        .into_iter()
        .filter_map(|job| {
            let is_older = since.is_some_and(|since| job.created < since);
            let owner = tasks.iter().find(|(uid, _)| Some(*uid) == job.owner && !is_older);
            let Some((_, task)) = owner.copied() else {
                other_jobs.push(job.uid);
                return None;
            };
            let pods = group
                .pods
                .iter()
                .filter(|pod| pod.owner == Some(job.uid))
                .cloned()
                .collect();
            Some(Run { task, job, pods })
        })
        .collect();
    Observed {
        cron_jobs,
        runs,
        other_jobs,
    }
}
