//! What must hold after every request and every step. Judged from the log of changes and from the truth, never from the operator's code.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mapa_refresh_crds::{labels, policy::TaskName, report::code};
use serde_json::Value;

use super::{
    resource::{self, Key},
    schedule::Minutes,
    store::{Author, Change, ChangeKind, Store},
    time,
    truth::{Truth, controller},
};

/// Largest status, in bytes of JSON (I9).
const MAX_STATUS: usize = 8 * 1024;
/// Longest time between a change of the world and the last write that follows from it: 60 s for a Job that cannot be created, 30 s for a
/// pod that never comes, 15 s for a Job that was deleted, retries.
const ECHO: SignedDuration = SignedDuration::from_secs(75);
/// Longest time until everything of a policy that was deleted is gone (I10).
const COLLECTED: SignedDuration = SignedDuration::from_secs(60);
/// Times in a status have whole seconds.
const RESOLUTION: SignedDuration = SignedDuration::from_secs(1);

/// What is remembered between looks.
#[derive(Debug, Default)]
pub(super) struct Invariants {
    violations: Vec<String>,
    /// UIDs of every policy that ever was.
    policies: BTreeSet<String>,
    /// UIDs of the policies that are gone, and since when the garbage collector could have known.
    gone: BTreeMap<String, Timestamp>,
    /// Jobs beside the schedule that the operator created: the UID of their CronJob, and their name; with the version of the first one.
    extra_jobs: BTreeMap<(String, String), u64>,
    last_cause: Option<Timestamp>,
}

impl Invariants {
    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(super) fn extra_jobs(&self) -> impl Iterator<Item = &String> {
        self.extra_jobs.keys().map(|(_, name)| name)
    }

    pub(super) fn violated(&mut self, invariant: &str, what: impl std::fmt::Display) {
        self.violations.push(format!("{invariant}: {what}"));
    }

    pub(super) fn cause(&mut self, now: Timestamp) {
        self.last_cause = Some(now);
    }

    /// Looks at one change. `shown`: the version that reads show at that moment.
    pub(super) fn check(&mut self, change: &Change, store: &Store, truth: &Truth, calm: bool, shown: u64) {
        if change.key.resource == resource::POLICIES
            && let Some(uid) = change.after["metadata"]["uid"].as_str()
        {
            self.policies.insert(uid.to_owned());
            if change.kind == ChangeKind::Deleted {
                self.gone.insert(uid.to_owned(), change.at);
            }
        }
        if change.author != Author::Operator {
            self.cause(change.at);
            return;
        }
        match change.key.resource {
            resource::CRON_JOBS => self.cron_job(change, store),
            resource::POLICIES => self.status(change, truth),
            resource::JOBS if change.kind == ChangeKind::Added => self.extra_job(change, store, shown),
            resource::JOBS => self.ours(change),
            _ => {}
        }
        if change.key.resource == resource::POLICIES {
            self.compliance(&change.key, &change.after, truth, change.at);
        }
        if calm {
            self.at_rest(change, store);
        }
    }

    pub(super) fn check_ages(&mut self, store: &Store, truth: &Truth, now: Timestamp) {
        for (key, policy) in store.of(resource::POLICIES) {
            self.compliance(key, policy, truth, now);
        }
    }

    /// I10: a minute after a policy is deleted nothing of it is left. While the controllers are down nobody can collect it. An operator
    /// whose watches are half open may not have heard of it (F6) and make a CronJob once more: that has its own minute.
    pub(super) fn check_orphans(&mut self, store: &Store, controllers_are_up: bool, now: Timestamp) {
        if !controllers_are_up {
            for since in self.gone.values_mut() {
                *since = now;
            }
        }
        let gone = &self.gone;
        let is_late = |object: &Value| {
            let created = time::read(&object["metadata"]["creationTimestamp"]);
            controller(object)
                .and_then(|owner| gone.get(owner["uid"].as_str()?))
                .is_some_and(|since| {
                    now.duration_since(created.map_or(*since, |created| created.max(*since))) > COLLECTED
                })
        };
        // Jobs go with their CronJob.
        let orphan = store
            .of(resource::CRON_JOBS)
            .find(|(_, object)| is_late(object))
            .map(|(key, _)| key.clone());
        if let Some(orphan) = orphan {
            self.violated("I10", format!("{orphan} outlives its policy"));
        }
    }

    /// I2: what the operator changes or deletes is a policy's, by UID; a CronJob that nothing controls may be adopted by its labels.
    fn ours(&mut self, change: &Change) {
        let Some(before) = &change.before else { return };
        let is_adopted = change.key.resource == resource::CRON_JOBS
            && change.kind == ChangeKind::Modified
            && controller(before).is_none()
            && before["metadata"]["labels"][labels::MANAGED_BY] == labels::FIELD_MANAGER;
        let ours = is_adopted
            || controller(before).is_some_and(|owner| match change.key.resource {
                resource::CRON_JOBS => {
                    owner["kind"] == "MapaRefreshPolicy"
                        && owner["uid"].as_str().is_some_and(|uid| self.policies.contains(uid))
                }
                _ => owner["kind"] == "CronJob",
            });
        if !ours {
            self.violated("I2", format!("{change}: it belongs to somebody else"));
        }
        let foreign = |object: &Value, field: &str| -> Value {
            let mut fields = object["metadata"][field].as_object().cloned().unwrap_or_default();
            fields.retain(|key, _| ![labels::MANAGED_BY, labels::POLICY, labels::TASK].contains(&key.as_str()));
            fields.into()
        };
        for field in ["labels", "annotations"] {
            if change.kind == ChangeKind::Modified && foreign(before, field) != foreign(&change.after, field) {
                self.violated("I2", format!("{change}: somebody else's {field} were changed"));
            }
        }
    }

    /// Promises 5 and 7: a Job's name is its deadline's or its request's, and for none is there a second one.
    ///
    /// Who reads from a server that stands still cannot know that policy, CronJob and Job were deleted: a Job of nobody's is collected at
    /// once. Nor, after a crash, that there was a Job at all which was made since, ended, and was cleaned up.
    fn extra_job(&mut self, change: &Change, store: &Store, shown: u64) {
        let owner = controller(&change.after)
            .filter(|owner| owner["kind"] == "CronJob")
            .and_then(|owner| owner["uid"].as_str());
        let Some(owner) = owner else {
            self.violated("I1", format!("{change}: no CronJob controls it"));
            return;
        };
        let owner_lives = store
            .of(resource::CRON_JOBS)
            .any(|(_, cron_job)| cron_job["metadata"]["uid"] == owner);
        let job = (owner.to_owned(), change.key.name.clone());
        let first = *self.extra_jobs.entry(job).or_insert(change.version);
        if first != change.version && owner_lives && shown >= first {
            self.violated("promise 5", format!("{change}: for the second time"));
        }
    }

    /// I1, I11: owned by its policy, and never more than 30 minutes between two runs.
    fn cron_job(&mut self, change: &Change, store: &Store) {
        if change.kind != ChangeKind::Added {
            self.ours(change);
        }
        if change.kind == ChangeKind::Deleted {
            return;
        }
        let cron_job = &change.after;
        let owned = controller(cron_job)
            .and_then(|owner| owner["uid"].as_str())
            .is_some_and(|uid| self.policies.contains(uid));
        if !owned {
            self.violated("I1", format!("{change}: no policy controls it"));
        }
        let spec = &cron_job["spec"];
        let gap = spec["schedule"]
            .as_str()
            .and_then(Minutes::parse)
            .map(|minutes| minutes.largest_gap());
        // While credentials are rejected a run an hour is all that may be tried.
        let longest = if credentials_are_rejected(cron_job, store) {
            60
        } else {
            30
        };
        if spec["timeZone"] != "Etc/UTC" || gap.is_none_or(|gap| gap > longest) {
            self.violated(
                "I11",
                format!("{change}: schedule {} in {}", spec["schedule"], spec["timeZone"]),
            );
        }
    }

    /// I5, I6, I9 of a status that was written.
    fn status(&mut self, change: &Change, truth: &Truth) {
        let (after, Some(before)) = (&change.after, &change.before) else {
            return;
        };
        let size = after["status"].to_string().len();
        if size > MAX_STATUS {
            self.violated("I9", format!("{change}: the status has {size} bytes"));
        }
        let target = after["status"]["target"].as_str().unwrap_or_default();
        let same_target = before["status"]["target"] == target;
        for task in after["status"]["tasks"].as_array().into_iter().flatten() {
            let Some(name) = task["name"].as_str().and_then(|name| name.parse::<TaskName>().ok()) else {
                continue;
            };
            let previous = task_of(before, name);
            for field in ["lastSuccessTime", "dataAsOf"] {
                let (old, new) = (time::read(&previous[field]), time::read(&task[field]));
                let lost = field == "dataAsOf" && {
                    let really = truth.published.get(&(target.to_owned(), name));
                    really.is_none_or(|really| old.is_some_and(|old| *really + RESOLUTION < old))
                };
                if same_target && old > new && !lost {
                    self.violated(
                        "I5",
                        format!("{change}: {name} {field} goes back from {old:?} to {new:?}"),
                    );
                }
            }
            let uid = after["metadata"]["uid"].as_str().unwrap_or_default();
            let ended = truth
                .runs
                .get(&(uid.to_owned(), name))
                .map_or(0, |runs| runs.ended.len());
            let counted = task["totalRuns"].as_u64().unwrap_or(0);
            if counted > ended as u64 {
                self.violated("I6", format!("{change}: {name} counts {counted} runs, {ended} ended"));
            }
        }
    }

    /// I4: who says Compliant=True, and is not past its own `compliantUntil`, has published data that is young enough.
    fn compliance(&mut self, key: &Key, policy: &Value, truth: &Truth, now: Timestamp) {
        let status = &policy["status"];
        let Some(until) = time::read(&status["compliantUntil"]) else {
            return;
        };
        if condition(policy, "Compliant")["status"] != "True" || now > until {
            return;
        }
        let spec = &policy["spec"];
        let limit = spec["maxDataAgeMinutes"].as_i64().unwrap_or(30).clamp(1, 30) * 60
            - spec["downstreamCacheSeconds"].as_i64().unwrap_or(0);
        let target = status["target"].as_str().unwrap_or_default();
        for task in status["tasks"].as_array().into_iter().flatten() {
            let Some(name) = task["name"].as_str().and_then(|name| name.parse::<TaskName>().ok()) else {
                continue;
            };
            if !name.publishes() {
                continue;
            }
            let age = truth
                .published
                .get(&(target.to_owned(), name))
                .map(|moment| now.duration_since(*moment));
            if age.is_none_or(|age| age > SignedDuration::from_secs(limit) + RESOLUTION) {
                let complaint =
                    format!("{key} says Compliant=True until {until} at {now}, but {name}'s data is {age:?} old");
                if !self
                    .violations
                    .iter()
                    .any(|known| known.contains(&format!("{key} says Compliant")))
                {
                    self.violated("I4", complaint);
                }
            }
        }
    }

    /// I3: a write has a cause: something else changed a short time ago, or by the passing of time a condition flips or a rescue begins.
    fn at_rest(&mut self, change: &Change, _store: &Store) {
        let caused = self
            .last_cause
            .is_some_and(|cause| change.at.duration_since(cause) <= ECHO);
        let flips = change.before.as_ref().is_some_and(|before| {
            ["Ready", "Compliant", "Suspended", "Feasible", "AtRisk"]
                .iter()
                .any(|type_| {
                    let (before, after) = (condition(before, type_), condition(&change.after, type_));
                    (&before["status"], &before["reason"]) != (&after["status"], &after["reason"])
                })
        });
        let flips = flips
            || change
                .before
                .as_ref()
                .is_some_and(|before| before["status"]["rescue"] != change.after["status"]["rescue"]);
        let is_state = matches!(change.key.resource, resource::POLICIES | resource::CRON_JOBS);
        if is_state && !caused && !flips {
            self.violated(
                "I3",
                format!(
                    "{change}: nothing had changed since {:?}, and yet {}",
                    self.last_cause,
                    differences(change)
                ),
            );
        }
    }
}

/// Whether the policy that controls `cron_job` says that credentials were rejected.
fn credentials_are_rejected(cron_job: &Value, store: &Store) -> bool {
    let Some(uid) = controller(cron_job).map(|owner| &owner["uid"]) else {
        return false;
    };
    store
        .of(resource::POLICIES)
        .filter(|(_, policy)| &policy["metadata"]["uid"] == uid)
        .flat_map(|(_, policy)| policy["status"]["tasks"].as_array().into_iter().flatten())
        .any(|task| task["lastError"]["code"] == code::CREDENTIALS_REJECTED)
}

/// The fields of the status that a change touches, before and after.
fn differences(change: &Change) -> String {
    let fields = |object: Option<&Value>| {
        object
            .and_then(|object| object["status"].as_object().cloned())
            .unwrap_or_default()
    };
    let (before, after) = (fields(change.before.as_deref()), fields(Some(&change.after)));
    after
        .iter()
        .filter(|(field, value)| before.get(*field) != Some(value))
        .map(|(field, value)| format!("{field}: {} became {value}", before.get(field).unwrap_or(&Value::Null)))
        .collect::<Vec<_>>()
        .join("; ")
}

/// The status of `task` in `policy`; null when there is none.
#[must_use]
pub fn task_of(policy: &Value, task: TaskName) -> Value {
    policy["status"]["tasks"]
        .as_array()
        .and_then(|tasks| tasks.iter().find(|status| status["name"] == task.as_str()))
        .cloned()
        .unwrap_or_default()
}

/// The condition `type_` of `policy`; null when there is none.
#[must_use]
pub fn condition(policy: &Value, type_: &str) -> Value {
    policy["status"]["conditions"]
        .as_array()
        .and_then(|conditions| conditions.iter().find(|condition| condition["type"] == type_))
        .cloned()
        .unwrap_or_default()
}
