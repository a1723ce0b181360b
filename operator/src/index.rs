//! The caches: one record per CronJob, Job and pod, grouped by the policy that their label names.
//!
//! Synchronous and without I/O: the controller feeds it the watches' events, it says which policy to look at again. A Job or
//! pod that is gone stays until its run is counted; a result is never lost because an object was.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job},
        core::v1::Pod,
    },
    jiff::Timestamp,
};
use kube::runtime::watcher::Event;

use crate::{
    fingerprint::Uid,
    records::{CronJobRecord, JobRecord, PodRecord, PolicyKey},
};

/// A kind of object that is kept as a record.
pub trait Indexed: kube::Resource<DynamicType = ()> + Sized {
    /// Reads the record and puts it into its group.
    #[doc(hidden)]
    fn insert(&self, group: &mut Group, now: Timestamp);
    /// Takes it out of its group, or marks it as gone.
    #[doc(hidden)]
    fn remove(uid: Uid, group: &mut Group, policy_lives: bool, now: Timestamp);
    /// The part of the index that finds a group by UID.
    #[doc(hidden)]
    const KIND: Kind;
}

/// The three kinds that are indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// CronJobs.
    CronJob,
    /// Jobs.
    Job,
    /// Pods.
    Pod,
}

/// Everything that names one policy.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// CronJobs that exist.
    pub cron_jobs: Vec<CronJobRecord>,
    /// CronJobs that are gone, whose Jobs may still have to be counted.
    pub past_cron_jobs: Vec<CronJobRecord>,
    /// Jobs that exist, or are not counted yet.
    pub jobs: Vec<JobRecord>,
    /// Pods that exist, or whose Job is not counted yet.
    pub pods: Vec<PodRecord>,
}

/// Most CronJobs that are gone and still remembered, per policy.
const MAX_PAST: usize = 8;

impl Group {
    fn is_empty(&self) -> bool {
        self.cron_jobs.is_empty() && self.past_cron_jobs.is_empty() && self.jobs.is_empty() && self.pods.is_empty()
    }
}

/// The caches of CronJobs, Jobs and pods.
#[derive(Debug, Default)]
pub struct Index {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    groups: HashMap<PolicyKey, Group>,
    places: HashMap<(Kind, Uid), PolicyKey>,
    listed: HashMap<Kind, HashSet<Uid>>,
    policies: HashSet<PolicyKey>,
    retired: HashSet<Uid>,
}

impl Index {
    /// Takes one event of a watch and returns the policies that it may concern.
    pub fn handle<K: Indexed>(&self, event: &Event<K>, now: Timestamp) -> Vec<PolicyKey> {
        let mut state = self.lock();
        match event {
            Event::Init => {
                state.listed.insert(K::KIND, HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(uid) = uid(object) {
                    state.listed.entry(K::KIND).or_default().insert(uid);
                }
                state.apply(object, now)
            }
            Event::InitDone => {
                let listed = state.listed.remove(&K::KIND).unwrap_or_default();
                let gone: Vec<Uid> = state
                    .places
                    .keys()
                    .filter(|(kind, uid)| *kind == K::KIND && !listed.contains(uid))
                    .map(|(_, uid)| *uid)
                    .collect();
                gone.into_iter().filter_map(|uid| state.delete::<K>(uid, now)).collect()
            }
            Event::Apply(object) => state.apply(object, now),
            Event::Delete(object) => {
                // The last state comes with the event: a Job may have ended and gone between two looks.
                let mut touched = state.apply(object, now);
                if let Some(uid) = uid(object) {
                    touched.extend(state.delete::<K>(uid, now));
                }
                touched.dedup();
                touched
            }
        }
    }

    /// What we wrote ourselves, so that the next look does not wait for the watch to tell it.
    pub fn wrote<K: Indexed>(&self, object: &K, now: Timestamp) {
        self.lock().apply(object, now);
    }

    /// Whether a policy of this name exists: what names no policy is not kept once it is gone.
    pub fn policy_lives(&self, key: PolicyKey) {
        self.lock().policies.insert(key);
    }

    /// After a new list: every policy that it does not name is gone.
    pub fn policies_are(&self, listed: &HashSet<PolicyKey>) {
        let gone: Vec<PolicyKey> = self.lock().policies.difference(listed).cloned().collect();
        for key in gone {
            self.policy_gone(&key);
        }
    }

    /// A policy is gone, and with it what was kept for counting.
    pub fn policy_gone(&self, key: &PolicyKey) {
        let mut state = self.lock();
        state.policies.remove(key);
        if let Some(group) = state.groups.get_mut(key) {
            group.past_cron_jobs.clear();
            let places: HashSet<Uid> = group.jobs.iter().filter(|job| job.deleted).map(|job| job.uid).collect();
            group.jobs.retain(|job| !job.deleted);
            group
                .pods
                .retain(|pod| pod.owner.is_none_or(|job| !places.contains(&job)));
        }
        state.forget_if_empty(key);
    }

    /// The records of one policy, as of now.
    #[must_use]
    pub fn group(&self, key: &PolicyKey) -> Group {
        self.lock().groups.get(key).cloned().unwrap_or_default()
    }

    /// The runs of these Jobs are counted and written: their pods are needed no more, and neither are they once gone.
    pub fn retire(&self, key: &PolicyKey, jobs: &[Uid]) {
        let mut state = self.lock();
        let State { groups, retired, .. } = &mut *state;
        let Some(group) = groups.get_mut(key) else { return };
        group
            .pods
            .retain(|pod| pod.owner.is_none_or(|job| !jobs.contains(&job)));
        for job in &group.jobs {
            if jobs.contains(&job.uid) && !job.deleted {
                retired.insert(job.uid);
            }
        }
        group.jobs.retain(|job| !(job.deleted && jobs.contains(&job.uid)));
        state.forget_if_empty(key);
    }

    /// Of the Jobs that are gone and not counted, keeps the `most` that ended last, with their pods: while a policy's runs cannot be counted
    /// they must not fill the memory.
    pub fn keep_newest(&self, key: &PolicyKey, most: usize) {
        let mut state = self.lock();
        let Some(group) = state.groups.get_mut(key) else { return };
        let mut gone: Vec<_> = group
            .jobs
            .iter()
            .filter(|job| job.deleted)
            .map(|job| (job.settled_at, job.uid))
            .collect();
        if gone.len() <= most {
            return;
        }
        gone.sort_unstable();
        gone.truncate(gone.len() - most);
        let forgotten: HashSet<Uid> = gone.into_iter().map(|(_, uid)| uid).collect();
        group.jobs.retain(|job| !forgotten.contains(&job.uid));
        group
            .pods
            .retain(|pod| pod.owner.is_none_or(|job| !forgotten.contains(&job)));
    }

    /// Number of CronJobs, Jobs and pods that are kept.
    #[must_use]
    pub fn sizes(&self) -> [usize; 3] {
        let state = self.lock();
        state.groups.values().fold([0; 3], |[cron_jobs, jobs, pods], group| {
            [
                cron_jobs + group.cron_jobs.len(),
                jobs + group.jobs.len(),
                pods + group.pods.len(),
            ]
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything could panic, so the content of a poisoned lock is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply<K: Indexed>(&mut self, object: &K, now: Timestamp) -> Vec<PolicyKey> {
        let Some(uid) = uid(object) else { return Vec::new() };
        let place = (K::KIND, uid);
        let key = PolicyKey::of_label(object.meta());
        let mut touched = Vec::new();
        if let Some(old) = self.places.get(&place).cloned()
            && Some(&old) != key.as_ref()
        {
            // Its label was changed by hand: it is gone from where it was.
            touched.extend(self.delete::<K>(uid, now));
        }
        let Some(key) = key else { return touched };
        if let Some(owner) = job_of(object)
            && self.retired.contains(&owner)
        {
            return touched;
        }
        object.insert(self.groups.entry(key.clone()).or_default(), now);
        self.places.insert(place, key.clone());
        touched.push(key);
        touched
    }

    fn delete<K: Indexed>(&mut self, uid: Uid, now: Timestamp) -> Option<PolicyKey> {
        let key = self.places.remove(&(K::KIND, uid))?;
        let lives = self.policies.contains(&key) && !self.retired.contains(&uid);
        if K::KIND == Kind::Job {
            self.retired.remove(&uid);
        }
        if let Some(group) = self.groups.get_mut(&key) {
            K::remove(uid, group, lives, now);
        }
        self.forget_if_empty(&key);
        Some(key)
    }

    fn forget_if_empty(&mut self, key: &PolicyKey) {
        if self.groups.get(key).is_some_and(Group::is_empty) {
            self.groups.remove(key);
        }
    }
}

fn uid(object: &impl kube::Resource) -> Option<Uid> {
    object.meta().uid.as_deref().map(Uid::parse)
}

/// The Job that controls `object`, for pods; a CronJob or Job has none.
fn job_of<K: Indexed>(object: &K) -> Option<Uid> {
    if K::KIND != Kind::Pod {
        return None;
    }
    let owners = object.meta().owner_references.as_ref()?;
    owners
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == "Job")
        .map(|owner| Uid::parse(&owner.uid))
}

/// Replaces the record with the same identity, or appends.
fn put<R>(records: &mut Vec<R>, record: R, same: impl Fn(&R) -> bool) {
    match records.iter_mut().find(|old| same(old)) {
        Some(old) => *old = record,
        None => records.push(record),
    }
}

impl Indexed for CronJob {
    fn insert(&self, group: &mut Group, _now: Timestamp) {
        let Some(record) = CronJobRecord::read(self) else {
            return;
        };
        // Also one that is gone: the watch may tell its end before the answer to our own write comes.
        let mut known = group.cron_jobs.iter().chain(&group.past_cron_jobs);
        let known = known.find(|old| old.uid == record.uid);
        if known.is_some_and(|old| is_newer(&old.resource_version, &record.resource_version)) {
            return;
        }
        let uid = record.uid;
        put(&mut group.cron_jobs, record, |old| old.uid == uid);
    }

    fn remove(uid: Uid, group: &mut Group, policy_lives: bool, _now: Timestamp) {
        if let Some(position) = group.cron_jobs.iter().position(|cron_job| cron_job.uid == uid) {
            let record = group.cron_jobs.swap_remove(position);
            if policy_lives && record.owner.is_some() {
                group.past_cron_jobs.push(record);
                if group.past_cron_jobs.len() > MAX_PAST {
                    group.past_cron_jobs.remove(0);
                }
            }
        }
    }

    const KIND: Kind = Kind::CronJob;
}

impl Indexed for Job {
    fn insert(&self, group: &mut Group, now: Timestamp) {
        if let Some(mut record) = JobRecord::read(self, now) {
            let uid = record.uid;
            if let Some(old) = group.jobs.iter().find(|old| old.uid == uid) {
                record.settled_at = old.settled_at.or(record.settled_at);
                record.created = old.created.min(record.created);
                record.seen = old.seen;
                if let (Some(halt), Some(known)) = (&mut record.halt, old.halt)
                    && halt.why == known.why
                {
                    halt.since = known.since;
                }
            }
            put(&mut group.jobs, record, |old| old.uid == uid);
        }
    }

    fn remove(uid: Uid, group: &mut Group, policy_lives: bool, now: Timestamp) {
        if policy_lives {
            if let Some(job) = group.jobs.iter_mut().find(|job| job.uid == uid) {
                job.deleted = true;
                job.settled_at = job.settled_at.or(Some(now));
            }
        } else {
            group.jobs.retain(|job| job.uid != uid);
        }
    }

    const KIND: Kind = Kind::Job;
}

impl Indexed for Pod {
    fn insert(&self, group: &mut Group, now: Timestamp) {
        let Some(mut record) = PodRecord::read(self, now) else {
            return;
        };
        let known = group.pods.iter().find(|old| old.uid == record.uid);
        if let Some(old) = known {
            if let (Some(end), Some(seen)) = (&mut record.ended, &old.ended) {
                end.first_seen = seen.first_seen;
            }
            // A pod that is deleted while it waits for its image says so no more in its last state.
            if record.trouble.is_none() && record.ended.is_none() {
                record.trouble.clone_from(&old.trouble);
            }
        }
        let uid = record.uid;
        put(&mut group.pods, record, |old| old.uid == uid);
    }

    fn remove(uid: Uid, group: &mut Group, policy_lives: bool, _now: Timestamp) {
        let job = group.pods.iter().find(|pod| pod.uid == uid).and_then(|pod| pod.owner);
        let job_is_open = group.jobs.iter().any(|record| Some(record.uid) == job);
        if !(policy_lives && job_is_open) {
            group.pods.retain(|pod| pod.uid != uid);
        }
    }

    const KIND: Kind = Kind::Pod;
}

/// Whether `a` is a later resource version than `b`: they are comparable as integers (KEP-5504).
fn is_newer(a: &str, b: &str) -> bool {
    matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if a > b)
}

#[cfg(test)]
mod tests {
    use mapa_refresh_crds::labels;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn key() -> PolicyKey {
        PolicyKey {
            namespace: "radar".into(),
            name: "roraima".into(),
        }
    }

    fn meta(uid: &str, policy: &str, owner: Option<(&str, &str)>) -> serde_json::Value {
        let owners: Vec<_> = owner
            .map(|(kind, uid)| serde_json::json!({ "apiVersion": "batch/v1", "kind": kind, "name": "x", "uid": uid, "controller": true }))
            .into_iter()
            .collect();
        serde_json::json!({
            "name": uid, "namespace": "radar", "uid": uid, "resourceVersion": "1",
            "labels": { labels::POLICY: policy }, "ownerReferences": owners,
        })
    }

    fn cron_job(uid: &str, version: &str) -> CronJob {
        let mut meta = meta(uid, "roraima", None);
        meta["resourceVersion"] = version.into();
        serde_json::from_value(serde_json::json!({ "metadata": meta })).unwrap()
    }

    fn job(uid: &str, policy: &str) -> Job {
        serde_json::from_value(serde_json::json!({ "metadata": meta(uid, policy, Some(("CronJob", "c"))) })).unwrap()
    }

    fn pod(uid: &str, job: &str) -> Pod {
        serde_json::from_value(serde_json::json!({ "metadata": meta(uid, "roraima", Some(("Job", job))) })).unwrap()
    }

    fn index() -> Index {
        let index = Index::default();
        index.policy_lives(key());
        index
    }

    #[test]
    fn f20_a_job_that_goes_before_it_is_counted_stays_until_then() {
        let index = index();
        index.handle(&Event::Apply(job("j", "roraima")), now());
        index.handle(&Event::Apply(pod("p", "j")), now());
        assert_eq!(index.handle(&Event::Delete(pod("p", "j")), now()), [key()]);
        assert_eq!(index.handle(&Event::Delete(job("j", "roraima")), now()), [key()]);
        let group = index.group(&key());
        assert!(group.jobs[0].deleted && group.pods.len() == 1);
        index.retire(&key(), &[Uid::parse("j")]);
        assert_eq!(index.sizes(), [0, 0, 0]);
    }

    #[test]
    fn a_counted_run_keeps_its_job_and_drops_its_pods_also_those_that_change_later() {
        let index = index();
        index.handle(&Event::Apply(job("j", "roraima")), now());
        index.handle(&Event::Apply(pod("p", "j")), now());
        index.retire(&key(), &[Uid::parse("j")]);
        index.handle(&Event::Apply(pod("p", "j")), now());
        assert_eq!(index.sizes(), [0, 1, 0]);
        index.handle(&Event::Delete(job("j", "roraima")), now());
        assert_eq!(index.sizes(), [0, 0, 0]);
    }

    #[test]
    fn f08_what_a_new_list_does_not_name_is_gone() {
        let index = index();
        index.handle(&Event::Apply(cron_job("c", "1")), now());
        index.handle(&Event::<CronJob>::Init, now());
        assert_eq!(index.handle(&Event::<CronJob>::InitDone, now()), [key()]);
        assert_eq!(index.sizes()[0], 0);
    }

    #[test]
    fn f10_an_older_state_from_the_watch_does_not_undo_what_we_wrote() {
        let index = index();
        index.wrote(&cron_job("c", "12"), now());
        index.handle(&Event::Apply(cron_job("c", "9")), now());
        assert_eq!(&*index.group(&key()).cron_jobs[0].resource_version, "12");
    }

    #[test]
    fn f10_a_cron_job_whose_end_is_told_before_the_answer_to_its_creation_is_gone() {
        let at = |version: &str| -> CronJob {
            let mut meta = meta("c", "roraima", Some(("MapaRefreshPolicy", "p")));
            meta["resourceVersion"] = version.into();
            meta["ownerReferences"][0]["apiVersion"] = "mapa.radar.dev/v1".into();
            serde_json::from_value(serde_json::json!({ "metadata": meta })).unwrap()
        };
        let index = index();
        index.handle(&Event::Apply(at("12")), now());
        index.handle(&Event::Delete(at("13")), now());
        index.wrote(&at("12"), now());
        assert_eq!(index.group(&key()).cron_jobs.len(), 0);
        // One that only lost its label for a while has a newer version when it is back.
        index.wrote(&at("14"), now());
        assert_eq!(index.group(&key()).cron_jobs.len(), 1);
    }

    #[test]
    fn f31_a_flipped_label_moves_the_record_and_tells_both_policies() {
        let index = index();
        index.handle(&Event::Apply(job("j", "roraima")), now());
        let touched = index.handle(&Event::Apply(job("j", "acre")), now());
        assert_eq!(touched.len(), 2);
        let other = PolicyKey {
            namespace: "radar".into(),
            name: "acre".into(),
        };
        assert_eq!(index.group(&other).jobs.len(), 1);
    }

    #[test]
    fn of_the_runs_that_cannot_be_counted_the_newest_are_kept() {
        let index = index();
        for minute in 0..9 {
            let at = now() + k8s_openapi::jiff::SignedDuration::from_mins(minute);
            let (job_uid, pod_uid) = (format!("j{minute}"), format!("p{minute}"));
            index.handle(&Event::Apply(job(&job_uid, "roraima")), at);
            index.handle(&Event::Apply(pod(&pod_uid, &job_uid)), at);
            if minute < 8 {
                index.handle(&Event::Delete(pod(&pod_uid, &job_uid)), at);
                index.handle(&Event::Delete(job(&job_uid, "roraima")), at);
            }
            index.keep_newest(&key(), 3);
        }
        let group = index.group(&key());
        let kept: Vec<Uid> = group.jobs.iter().map(|job| job.uid).collect();
        assert_eq!(
            kept,
            ["j5", "j6", "j7", "j8"].map(Uid::parse),
            "and the one that exists"
        );
        assert_eq!(group.pods.len(), 4);
        index.policy_gone(&key());
        index.handle(&Event::Delete(pod("p8", "j8")), now());
        index.handle(&Event::Delete(job("j8", "roraima")), now());
        assert_eq!(index.sizes(), [0, 0, 0]);
    }

    #[test]
    fn nothing_is_kept_for_a_policy_that_is_gone() {
        let index = index();
        for job_uid in ["a", "b"] {
            index.handle(&Event::Apply(job(job_uid, "roraima")), now());
            index.handle(&Event::Apply(pod(&format!("{job_uid}-pod"), job_uid)), now());
        }
        index.handle(&Event::Delete(job("a", "roraima")), now());
        index.policy_gone(&key());
        index.handle(&Event::Delete(pod("b-pod", "b")), now());
        index.handle(&Event::Delete(job("b", "roraima")), now());
        index.handle(&Event::Delete(pod("a-pod", "a")), now());
        assert_eq!(index.sizes(), [0, 0, 0]);
    }
}
