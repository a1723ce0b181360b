//! The rest of Kubernetes, as a small deterministic model: CronJob controller, Job controller, garbage collector, kubelet.
//!
//! It reacts to the log of changes and to the time, never to who caused them: a Job that the operator, a person or the CronJob
//! controller creates runs alike. Sources: kubernetes `pkg/controller/{cronjob,job,garbagecollector}`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mapa_refresh_crds::{labels, report::MAX_BYTES};
use serde_json::{Value, json};

use super::{
    resource::{self, Key},
    runs::{Orders, Outcome, Script, failure},
    schedule::Minutes,
    server::Server,
    store::{Author, ChangeKind, Preconditions},
    time::{self, Skew},
    truth::{controller, ended},
};

/// On an object: the model leaves it alone, a test plays its part.
pub const BY_HAND: &str = "fake.mapa.radar.dev/by-hand";

/// Time in which a controller reacts.
const REACTION: Duration = Duration::from_millis(400);
/// Time from a pod's creation to its container's start.
const START: Duration = Duration::from_millis(900);
/// Time that a container takes to end when it is told to.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    /// The CronJob controller looks at a minute (since 1970).
    Slot(i64),
    CreatePod(Key, String),
    StartContainer(Key, String),
    EndContainer(Key, String),
    RemovePod(Key, String),
    EndJob(Key, String),
    Deadline(Key, String),
    Expire(Key, String),
    CollectGarbage,
}

impl Action {
    /// Whether the controller-manager does it; the rest are the kubelet's.
    fn is_controllers(&self) -> bool {
        !matches!(
            self,
            Self::StartContainer(..) | Self::EndContainer(..) | Self::RemovePod(..)
        )
    }
}

#[derive(Clone, Debug)]
struct Plan {
    outcome: Outcome,
    started: Timestamp,
}

/// Controllers and kubelet.
#[derive(Debug)]
pub struct Kubernetes {
    /// How runs go.
    pub script: Script,
    /// The clock of pods and nodes.
    pub node_clock: Skew,
    queue: BTreeMap<(Timestamp, u64), Action>,
    held: Vec<Action>,
    sequence: u64,
    cursor: u64,
    is_up: bool,
    last_slots: BTreeMap<String, i64>,
    plans: BTreeMap<String, Plan>,
    garbage_is_due: bool,
}

impl Kubernetes {
    /// Controllers that begin now.
    #[must_use]
    pub fn new(server: &Server) -> Self {
        let mut model = Self {
            script: Script::default(),
            node_clock: Skew::default(),
            queue: BTreeMap::new(),
            held: Vec::new(),
            sequence: 0,
            cursor: server.store.version(),
            is_up: true,
            last_slots: BTreeMap::new(),
            plans: BTreeMap::new(),
            garbage_is_due: false,
        };
        let now = server.time.now();
        let minute = now.as_second().div_euclid(60) + 1;
        model.at(minute_start(minute), Action::Slot(minute));
        model
    }

    /// Whether the controller-manager runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// The controller-manager goes down (F21). Kubelets go on.
    pub fn go_down(&mut self) {
        self.is_up = false;
    }

    /// The controller-manager comes back and does what was left undone; of missed slots only the latest.
    pub fn come_up(&mut self, server: &mut Server) {
        self.is_up = true;
        let now = server.time.now();
        for action in std::mem::take(&mut self.held) {
            self.at(now, action);
        }
        let this_minute = now.as_second().div_euclid(60);
        let cron_jobs: Vec<(Key, Value)> = server
            .store
            .of(resource::CRON_JOBS)
            .map(|(key, object)| (key.clone(), Value::clone(object)))
            .collect();
        for (key, cron_job) in cron_jobs {
            let Some(minutes) = cron_job["spec"]["schedule"].as_str().and_then(Minutes::parse) else {
                continue;
            };
            let created = time::read(&cron_job["metadata"]["creationTimestamp"])
                .map_or(this_minute, |at| at.as_second().div_euclid(60));
            let last = uid_of(&cron_job)
                .and_then(|uid| self.last_slots.get(&uid).copied())
                .unwrap_or(created);
            let allowed = cron_job["spec"]["startingDeadlineSeconds"].as_i64().unwrap_or(6_000) / 60;
            let missed = (last + 1..=this_minute).rev().find(|minute| minutes.contains(*minute));
            if let Some(missed) = missed.filter(|missed| this_minute - missed <= allowed) {
                self.start_run(server, &key, &cron_job, missed);
            }
        }
    }

    /// When something is to be done next.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Does what is due, and takes notice of what changed.
    pub fn react(&mut self, server: &mut Server) {
        loop {
            self.notice(server);
            let now = server.time.now();
            let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= now) else {
                break;
            };
            let action = entry.remove();
            if action.is_controllers() && !self.is_up {
                if let Action::Slot(minute) = action {
                    self.at(minute_start(minute + 1), Action::Slot(minute + 1));
                } else {
                    self.held.push(action);
                }
                continue;
            }
            self.act(server, action);
            server.settle();
        }
    }

    fn at(&mut self, moment: Timestamp, action: Action) {
        self.sequence += 1;
        self.queue.insert((moment, self.sequence), action);
    }

    fn after(&mut self, server: &Server, wait: Duration, action: Action) {
        let now = server.time.now();
        self.at(now.saturating_add(wait).unwrap_or(now), action);
    }

    fn garbage(&mut self, server: &mut Server) {
        if !std::mem::replace(&mut self.garbage_is_due, true) {
            self.after(server, REACTION, Action::CollectGarbage);
        }
    }

    fn notice(&mut self, server: &mut Server) {
        let changes: Vec<_> = server.store.changes_after(self.cursor).cloned().collect();
        self.cursor = server.store.version();
        for change in changes {
            let object = &change.after;
            let Some(uid) = uid_of(object) else { continue };
            match (change.key.resource, change.kind) {
                (_, ChangeKind::Deleted) => self.garbage(server),
                (resource::JOBS, ChangeKind::Added) if !is_by_hand(object) && object["spec"]["suspend"] != true => {
                    self.after(server, REACTION, Action::CreatePod(change.key.clone(), uid.clone()));
                    if let Some(deadline) = object["spec"]["activeDeadlineSeconds"].as_u64() {
                        self.after(
                            server,
                            Duration::from_secs(deadline),
                            Action::Deadline(change.key.clone(), uid),
                        );
                    }
                }
                // It is resumed, by hand or by a queue.
                (resource::JOBS, ChangeKind::Modified)
                    if object["spec"]["suspend"] != true
                        && change
                            .before
                            .as_ref()
                            .is_some_and(|before| before["spec"]["suspend"] == true) =>
                {
                    self.after(server, REACTION, Action::CreatePod(change.key.clone(), uid.clone()));
                }
                (resource::CRON_JOBS | resource::JOBS, ChangeKind::Modified)
                    if change.before.as_ref().is_some_and(|before| {
                        before["metadata"]["ownerReferences"] != object["metadata"]["ownerReferences"]
                    }) =>
                {
                    self.garbage(server);
                }
                (resource::CRON_JOBS, ChangeKind::Added) => self.garbage(server),
                _ => {}
            }
        }
    }

    fn act(&mut self, server: &mut Server, action: Action) {
        match action {
            Action::Slot(minute) => self.slot(server, minute),
            Action::CreatePod(job, uid) => self.create_pod(server, &job, &uid),
            Action::StartContainer(pod, uid) => self.start_container(server, &pod, &uid),
            Action::EndContainer(pod, uid) => self.end_container(server, &pod, &uid),
            Action::RemovePod(pod, uid) => remove(server, &pod, &uid),
            Action::EndJob(job, uid) => self.end_job(server, &job, &uid),
            Action::Deadline(job, uid) => self.deadline(server, &job, &uid),
            Action::Expire(job, uid) => remove(server, &job, &uid),
            Action::CollectGarbage => self.collect_garbage(server),
        }
    }

    fn slot(&mut self, server: &mut Server, minute: i64) {
        self.at(minute_start(minute + 1), Action::Slot(minute + 1));
        let due: Vec<(Key, Value)> = server
            .store
            .of(resource::CRON_JOBS)
            .filter(|(_, cron_job)| cron_job["spec"]["suspend"] != true && !is_by_hand(cron_job))
            .filter(|(_, cron_job)| {
                cron_job["spec"]["schedule"]
                    .as_str()
                    .and_then(Minutes::parse)
                    .is_some_and(|minutes| minutes.contains(minute))
            })
            .map(|(key, cron_job)| (key.clone(), Value::clone(cron_job)))
            .collect();
        for (key, cron_job) in due {
            self.start_run(server, &key, &cron_job, minute);
        }
    }

    fn start_run(&mut self, server: &mut Server, key: &Key, cron_job: &Value, minute: i64) {
        if cron_job["spec"]["suspend"] == true {
            return;
        }
        let Some(uid) = uid_of(cron_job) else { return };
        if self.last_slots.get(&uid).is_some_and(|last| *last >= minute) {
            return;
        }
        let active: Vec<(Key, String)> = server
            .store
            .of(resource::JOBS)
            .filter(|(_, job)| controller(job).is_some_and(|owner| owner["uid"] == uid.as_str()) && !ended(job))
            // Those that the controller started itself: it keeps a list, and leaves others alone ("UnexpectedJob").
            .filter(|(_, job)| !job["metadata"]["annotations"][labels::SCHEDULED_TIMESTAMP].is_null())
            .filter_map(|(key, job)| Some((key.clone(), uid_of(job)?)))
            .collect();
        match cron_job["spec"]["concurrencyPolicy"].as_str() {
            Some("Forbid") if !active.is_empty() => return,
            Some("Replace") => active.iter().for_each(|(key, uid)| remove(server, key, uid)),
            _ => {}
        }
        let template = &cron_job["spec"]["jobTemplate"];
        let mut annotations = template["metadata"]["annotations"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        annotations.insert(
            labels::SCHEDULED_TIMESTAMP.to_owned(),
            time::seconds(minute_start(minute)).into(),
        );
        let job = json!({
            "metadata": {
                "labels": template["metadata"]["labels"],
                "annotations": annotations,
                "ownerReferences": [{
                    "apiVersion": "batch/v1", "kind": "CronJob", "name": key.name, "uid": uid,
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": template["spec"],
            "status": {},
        });
        let place = Key::new(resource::JOBS, &key.namespace, &format!("{}-{minute}", key.name));
        let now = server.time.now();
        // A Job of that name that is somebody else's keeps the slot from running: the controller says nothing.
        if server.store.create(Author::Kubernetes, now, &place, job).is_ok() {
            self.last_slots.insert(uid, minute);
            server.store.edit(Author::Kubernetes, now, key, |cron_job| {
                cron_job["status"]["lastScheduleTime"] = time::seconds(minute_start(minute)).into();
            });
        }
    }

    fn create_pod(&mut self, server: &mut Server, place: &Key, uid: &str) {
        let is_due = |job: &Value| !ended(job) && job["spec"]["suspend"] != true;
        let Some(job) = same(server, place, uid).filter(is_due) else {
            return;
        };
        let mut spec = job["spec"]["template"]["spec"].clone();
        let outcome = self.script.take(Orders::of(&json!({ "spec": spec })).task);
        if matches!(outcome, Outcome::NoPod) {
            return;
        }
        if spec["serviceAccountName"].is_null() {
            spec["serviceAccountName"] = "default".into();
        }
        spec["nodeName"] = "node-1".into();
        let mut labels = job["spec"]["template"]["metadata"]["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        labels.insert(labels::JOB_NAME.to_owned(), place.name.clone().into());
        let now = server.time.now();
        let name = format!("{}-{:05}", place.name, self.sequence % 100_000);
        let pod = Key::new(resource::PODS, &place.namespace, &name);
        let owner = json!([{
            "apiVersion": "batch/v1", "kind": "Job", "name": place.name, "uid": uid, "controller": true, "blockOwnerDeletion": true,
        }]);
        let object = json!({
            "metadata": { "labels": labels, "ownerReferences": owner },
            "spec": spec,
            "status": { "phase": "Pending" },
        });
        server.store.edit(Author::Kubernetes, now, place, |job| {
            job["status"]["startTime"] = time::seconds(now).into();
            job["status"]["active"] = 1.into();
        });
        if let Ok(created) = server.store.create(Author::Kubernetes, now, &pod, object)
            && let Some(uid) = uid_of(&created)
        {
            self.plans.insert(uid.clone(), Plan { outcome, started: now });
            self.after(server, START, Action::StartContainer(pod, uid));
        }
    }

    fn start_container(&mut self, server: &mut Server, place: &Key, uid: &str) {
        let (Some(_), Some(plan)) = (same(server, place, uid), self.plans.get_mut(uid)) else {
            return;
        };
        let now = server.time.now();
        plan.started = now;
        let outcome = plan.outcome.clone();
        if matches!(outcome, Outcome::ImagePullBackOff) {
            let state = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image \"runner:1\"" } });
            edit_pod(server, place, now, "Pending", &state);
            return;
        }
        edit_pod(
            server,
            place,
            now,
            "Running",
            &json!({ "running": { "startedAt": time::seconds(self.node_clock.shown(now)) } }),
        );
        if !matches!(outcome, Outcome::Hangs | Outcome::KubeletLost) {
            self.after(
                server,
                self.script.duration,
                Action::EndContainer(place.clone(), uid.to_owned()),
            );
        }
    }

    fn end_container(&mut self, server: &mut Server, place: &Key, uid: &str) {
        let (Some(pod), Some(plan)) = (same(server, place, uid), self.plans.remove(uid)) else {
            return;
        };
        let now = server.time.now();
        let orders = Orders::of(&pod);
        let Some(job) = controller(&pod)
            .and_then(|owner| Some((owner["name"].as_str()?.to_owned(), owner["uid"].as_str()?.to_owned())))
        else {
            return;
        };
        let job_place = Key::new(resource::JOBS, &place.namespace, &job.0);
        let clock = self.node_clock.clone();
        let end = |server: &mut Server, exit_code: i32, reason: &str, message: String| {
            let mut message = message;
            let mut cut = message.len().min(MAX_BYTES);
            while !message.is_char_boundary(cut) {
                cut -= 1;
            }
            message.truncate(cut);
            let state = json!({ "terminated": {
                "exitCode": exit_code, "reason": reason, "message": message,
                "startedAt": time::seconds(clock.shown(plan.started)), "finishedAt": time::seconds(clock.shown(now)),
            } });
            edit_pod(
                server,
                place,
                now,
                if exit_code == 0 { "Succeeded" } else { "Failed" },
                &state,
            );
        };
        let line = |report: mapa_refresh_crds::RunReport| report.encode(MAX_BYTES).unwrap_or_default();
        match &plan.outcome {
            Outcome::Succeeds | Outcome::Vanishes => {
                let report = orders.carry_out(&mut server.truth, plan.started, now, &self.node_clock);
                end(server, 0, "Completed", line(report));
            }
            Outcome::Says(message) => {
                let _ = orders.carry_out(&mut server.truth, plan.started, now, &self.node_clock);
                end(server, 0, "Completed", message.clone());
            }
            Outcome::Tells(change) => {
                let report = orders.carry_out(&mut server.truth, plan.started, now, &self.node_clock);
                let mut report: Value = serde_json::from_str(&line(report)).unwrap_or_default();
                change(&mut report);
                end(server, 0, "Completed", report.to_string());
            }
            Outcome::Fails(class, code, message) => {
                let report = orders.report(
                    failure(*class, code, message),
                    None,
                    plan.started,
                    now,
                    &self.node_clock,
                );
                end(
                    server,
                    if *class == mapa_refresh_crds::report::FaultClass::Transient {
                        1
                    } else {
                        2
                    },
                    "Error",
                    line(report),
                );
            }
            Outcome::OutOfMemory => end(server, 137, "OOMKilled", String::new()),
            Outcome::Evicted | Outcome::NodeLost => {
                let (reason, condition) = match plan.outcome {
                    Outcome::Evicted => ("Evicted", "TerminationByKubelet"),
                    _ => ("NodeLost", "DeletionByTaintManager"),
                };
                server.store.edit(Author::Kubernetes, now, place, |pod| {
                    pod["status"] = json!({
                        "phase": "Failed", "reason": reason, "message": "The node was low on resource: memory.",
                        "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": condition }],
                    });
                });
                // The pod failure policy ignores disruptions: the Job makes another pod.
                self.after(server, REACTION, Action::CreatePod(job_place, job.1));
                return;
            }
            Outcome::Hangs | Outcome::KubeletLost | Outcome::NoPod | Outcome::ImagePullBackOff => return,
        }
        if matches!(plan.outcome, Outcome::Vanishes) {
            remove(server, place, uid);
            remove(server, &job_place, &job.1);
            return;
        }
        self.after(server, REACTION, Action::EndJob(job_place, job.1));
    }

    fn end_job(&mut self, server: &mut Server, place: &Key, uid: &str) {
        // The controller leaves one alone that is being deleted.
        let is_open = |job: &Value| !ended(job) && job["metadata"]["deletionTimestamp"].is_null();
        let Some(job) = same(server, place, uid).filter(is_open) else {
            return;
        };
        let exit_code = pods_of(server, uid)
            .into_iter()
            .find_map(|(_, pod)| pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64());
        match exit_code {
            Some(0) => self.finish(
                server,
                place,
                &job,
                "Complete",
                "CompletionsReached",
                "Reached expected number of succeeded pods",
            ),
            Some(1 | 2) => self.finish(
                server,
                place,
                &job,
                "Failed",
                "PodFailurePolicy",
                "Container job-runner failed with an exit code",
            ),
            _ => self.finish(
                server,
                place,
                &job,
                "Failed",
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            ),
        }
    }

    fn deadline(&mut self, server: &mut Server, place: &Key, uid: &str) {
        // The controller leaves one alone that is being deleted.
        let is_open = |job: &Value| !ended(job) && job["metadata"]["deletionTimestamp"].is_null();
        let Some(job) = same(server, place, uid).filter(is_open) else {
            return;
        };
        let mut is_gone = true;
        for (pod, _) in pods_of(server, uid) {
            let pod_uid = server.store.get(&pod).as_deref().and_then(uid_of).unwrap_or_default();
            if self.kubelet_is_lost(&pod_uid) {
                is_gone = false;
                is_told_to_end(server, &pod);
                continue;
            }
            self.plans.remove(&pod_uid);
            remove(server, &pod, &pod_uid);
        }
        if !is_gone {
            // The Job is Failed only once its pods are gone (KEP-3939).
            let at = time::seconds(server.time.now());
            let now = server.time.now();
            server.store.edit(Author::Kubernetes, now, place, |job| {
                job["status"]["conditions"] = json!([{
                    "type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded",
                    "message": "Job was active longer than specified deadline", "lastTransitionTime": at,
                }]);
            });
            return;
        }
        self.finish(
            server,
            place,
            &job,
            "Failed",
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        );
    }

    fn finish(&mut self, server: &mut Server, place: &Key, job: &Value, type_: &str, reason: &str, message: &str) {
        let now = server.time.now();
        let at = time::seconds(now);
        server.store.edit(Author::Kubernetes, now, place, |job| {
            job["status"]["conditions"] =
                json!([{ "type": type_, "status": "True", "reason": reason, "message": message, "lastTransitionTime": at }]);
            job["status"]["active"] = 0.into();
            if type_ == "Complete" {
                job["status"]["completionTime"] = at.into();
            }
        });
        let uid = uid_of(job).unwrap_or_default();
        if let Some(ttl) = job["spec"]["ttlSecondsAfterFinished"].as_u64() {
            self.after(server, Duration::from_secs(ttl), Action::Expire(place.clone(), uid));
        }
        self.keep_history(server, job);
    }

    /// Three Jobs that succeeded and three that failed are kept, or what the CronJob says.
    fn keep_history(&self, server: &mut Server, job: &Value) {
        let Some(owner) = controller(job).filter(|owner| owner["kind"] == "CronJob") else {
            return;
        };
        let cron_job = server
            .store
            .of(resource::CRON_JOBS)
            .find(|(_, cron_job)| cron_job["metadata"]["uid"] == owner["uid"]);
        let Some((_, cron_job)) = cron_job else { return };
        let limit = |field: &str| usize::try_from(cron_job["spec"][field].as_u64().unwrap_or(3)).unwrap_or(3);
        for (type_, limit) in [
            ("Complete", limit("successfulJobsHistoryLimit")),
            ("Failed", limit("failedJobsHistoryLimit")),
        ] {
            let mut finished: Vec<(Option<Timestamp>, Key, String)> = server
                .store
                .of(resource::JOBS)
                .filter(|(_, job)| controller(job).is_some_and(|of| of["uid"] == owner["uid"]))
                .filter(|(_, job)| job["status"]["conditions"][0]["type"] == type_)
                .filter_map(|(key, job)| {
                    let at = time::read(&job["status"]["conditions"][0]["lastTransitionTime"]);
                    Some((at, key.clone(), uid_of(job)?))
                })
                .collect();
            finished.sort();
            let surplus = finished.len().saturating_sub(limit);
            for (_, key, uid) in finished.into_iter().take(surplus) {
                remove(server, &key, &uid);
            }
        }
    }

    /// What has owners, all of which are gone, goes too.
    fn collect_garbage(&mut self, server: &mut Server) {
        self.garbage_is_due = false;
        let uids: BTreeSet<String> = server.store.all().filter_map(|(_, object)| uid_of(object)).collect();
        let orphans: Vec<(Key, String, bool)> = server
            .store
            .all()
            .filter(|(_, object)| {
                let owners = object["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|owners| {
                    !owners.is_empty()
                        && owners
                            .iter()
                            .all(|owner| owner["uid"].as_str().is_none_or(|uid| !uids.contains(uid)))
                })
            })
            .filter_map(|(key, object)| Some((key.clone(), uid_of(object)?, object["status"]["phase"] == "Running")))
            .collect();
        for (key, uid, running) in orphans {
            if key.resource == resource::PODS && running {
                self.terminate(server, &key, &uid);
            } else {
                remove(server, &key, &uid);
            }
        }
    }

    fn kubelet_is_lost(&self, pod: &str) -> bool {
        self.plans
            .get(pod)
            .is_some_and(|plan| matches!(plan.outcome, Outcome::KubeletLost))
    }

    /// A running pod is told to end, reports, and goes.
    fn terminate(&mut self, server: &mut Server, place: &Key, uid: &str) {
        let Some(pod) = same(server, place, uid).filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()) else {
            return;
        };
        if self.kubelet_is_lost(uid) {
            is_told_to_end(server, place);
            return;
        }
        let now = server.time.now();
        let hangs = self
            .plans
            .remove(uid)
            .is_some_and(|plan| matches!(plan.outcome, Outcome::Hangs));
        let report = Orders::of(&pod).report(
            failure(
                mapa_refresh_crds::report::FaultClass::Transient,
                mapa_refresh_crds::report::code::TERMINATED,
                "ended by SIGTERM",
            ),
            None,
            now,
            now,
            &self.node_clock,
        );
        let message = if hangs {
            String::new()
        } else {
            report.encode(MAX_BYTES).unwrap_or_default()
        };
        let at = time::seconds(self.node_clock.shown(now));
        server.store.edit(Author::Kubernetes, now, place, |pod| {
            pod["metadata"]["deletionTimestamp"] = time::seconds(now).into();
            let state =
                json!({ "terminated": { "exitCode": 1, "reason": "Error", "message": message, "finishedAt": at } });
            pod["status"] = pod_status("Failed", &state);
        });
        self.after(server, GRACE, Action::RemovePod(place.clone(), uid.to_owned()));
    }
}

/// A pod is deleted as far as the API server can do that without its kubelet.
fn is_told_to_end(server: &mut Server, place: &Key) {
    let now = server.time.now();
    server.store.edit(Author::Kubernetes, now, place, |pod| {
        pod["metadata"]["deletionTimestamp"] = time::seconds(now).into();
    });
}

fn minute_start(minute: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH
        .saturating_add(SignedDuration::from_secs(minute.saturating_mul(60)))
        .unwrap_or(Timestamp::MAX)
}

fn uid_of(object: &Value) -> Option<String> {
    object["metadata"]["uid"].as_str().map(str::to_owned)
}

fn is_by_hand(object: &Value) -> bool {
    !object["metadata"]["annotations"][BY_HAND].is_null()
}

/// The object at `place`, if it is still the one with `uid`.
fn same(server: &Server, place: &Key, uid: &str) -> Option<Value> {
    server
        .store
        .get(place)
        .filter(|object| object["metadata"]["uid"] == uid)
        .map(|object| Value::clone(&object))
}

fn remove(server: &mut Server, place: &Key, uid: &str) {
    let preconditions = Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    };
    let now = server.time.now();
    let _ = server.store.delete(Author::Kubernetes, now, place, &preconditions);
}

fn pods_of(server: &Server, job: &str) -> Vec<(Key, Value)> {
    server
        .store
        .of(resource::PODS)
        .filter(|(_, pod)| controller(pod).is_some_and(|owner| owner["uid"] == job))
        .map(|(key, pod)| (key.clone(), Value::clone(pod)))
        .collect()
}

/// The status of a pod whose container is in `state`.
#[must_use]
pub fn pod_status(phase: &str, state: &Value) -> Value {
    json!({
        "phase": phase,
        "containerStatuses": [{
            "name": "job-runner", "image": "runner:1", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }],
    })
}

fn edit_pod(server: &mut Server, place: &Key, now: Timestamp, phase: &str, state: &Value) {
    server.store.edit(Author::Kubernetes, now, place, |pod| {
        pod["status"] = pod_status(phase, state)
    });
}
