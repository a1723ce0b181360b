//! What is true of runs and data, whatever reports, clocks and the operator say. The invariants are judged by it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::{labels, policy::TaskName};
use serde_json::Value;

use super::{
    resource::{self, Key},
    store::{Change, ChangeKind, Store},
};

/// The runs of one task of one policy, by the UIDs of their Jobs.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// Those that ended.
    pub ended: BTreeSet<String>,
    /// Those of them that were gone before anybody can be blamed for not having seen them.
    pub perhaps_unseen: BTreeSet<String>,
}

/// What is true.
#[derive(Debug, Default)]
pub struct Truth {
    /// When the view of a target was refreshed last.
    pub views: BTreeMap<String, Timestamp>,
    /// When what is published was true in the database, by target and task.
    pub published: BTreeMap<(String, TaskName), Timestamp>,
    /// The runs, by the policy's UID and task.
    pub runs: BTreeMap<(String, TaskName), Runs>,
    /// Whose run a Job is: the UID chain as it was when the Job was created.
    chains: BTreeMap<String, (String, TaskName)>,
    /// The policy (UID) and task of every CronJob (UID) that ever was.
    cron_jobs: BTreeMap<String, (String, TaskName)>,
}

impl Truth {
    /// The policy (UID) and task that the Job with this UID runs for.
    #[must_use]
    pub fn chain(&self, job: &str) -> Option<&(String, TaskName)> {
        self.chains.get(job)
    }

    /// Takes notice of a change. `calm`: the operator had every opportunity to see it.
    pub(super) fn note(&mut self, change: &Change, store: &Store, calm: bool) {
        let job = &change.after;
        let Some(uid) = job["metadata"]["uid"].as_str() else {
            return;
        };
        if change.key.resource == resource::CRON_JOBS
            && let Some(chain) = chain_of_cron_job(job)
        {
            self.cron_jobs.insert(uid.to_owned(), chain);
        }
        if change.key.resource != resource::JOBS {
            return;
        }
        // An owner reference that is changed later makes the Job a run of ours, or none.
        if let Some(chain) = chain_of(job, &change.key, store) {
            self.chains.insert(uid.to_owned(), chain);
        }
        // Who reads from a server that stands still may make a Job for a CronJob that is gone, and count it.
        let orphan = controller(job).and_then(|owner| self.cron_jobs.get(owner["uid"].as_str()?));
        if let Some(chain) = orphan.filter(|_| !self.chains.contains_key(uid)).cloned() {
            let runs = self.runs.entry(chain.clone()).or_default();
            runs.perhaps_unseen.insert(uid.to_owned());
            self.chains.insert(uid.to_owned(), chain);
        }
        let Some(chain) = self.chains.get(uid).cloned() else {
            return;
        };
        let runs = self.runs.entry(chain.clone()).or_default();
        let gone = change.kind == ChangeKind::Deleted;
        if gone || ended(job) {
            runs.ended.insert(uid.to_owned());
        }
        if gone && !calm && !is_counted(store, &chain, uid) {
            runs.perhaps_unseen.insert(uid.to_owned());
        }
    }
}

/// Whether a Job ended.
#[must_use]
pub fn ended(job: &Value) -> bool {
    job["status"]["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|condition| {
            condition["status"] == "True" && (condition["type"] == "Complete" || condition["type"] == "Failed")
        })
    })
}

/// The reference to the controller of `object`.
#[must_use]
pub fn controller(object: &Value) -> Option<&Value> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)
}

fn chain_of(job: &Value, key: &Key, store: &Store) -> Option<(String, TaskName)> {
    let owner = controller(job).filter(|owner| owner["kind"] == "CronJob")?;
    let cron_job = store.get(&Key::new(resource::CRON_JOBS, &key.namespace, owner["name"].as_str()?))?;
    if cron_job["metadata"]["uid"] != owner["uid"] {
        return None;
    }
    chain_of_cron_job(&cron_job)
}

fn chain_of_cron_job(cron_job: &Value) -> Option<(String, TaskName)> {
    let policy = controller(cron_job).filter(|owner| owner["kind"] == "MapaRefreshPolicy")?;
    let name = cron_job["metadata"]["name"].as_str()?;
    let task = TaskName::ALL.into_iter().find(|task| name.ends_with(task.as_str()))?;
    Some((policy["uid"].as_str()?.to_owned(), task))
}

fn is_counted(store: &Store, (policy, task): &(String, TaskName), job: &str) -> bool {
    let short = job.get(..8).unwrap_or_default();
    store
        .of(resource::POLICIES)
        .filter(|(_, object)| object["metadata"]["uid"] == policy.as_str())
        .flat_map(|(_, object)| object["status"]["tasks"].as_array().cloned().unwrap_or_default())
        .any(|status| {
            status["name"] == task.as_str()
                && status["countedRuns"]
                    .as_array()
                    .is_some_and(|runs| runs.iter().any(|run| run == short))
        })
}

/// The task that an object's label names.
#[must_use]
pub fn task_label(object: &Value) -> Option<TaskName> {
    object["metadata"]["labels"][labels::TASK].as_str()?.parse().ok()
}
