//! The objects, their versions and the log of changes: what etcd and the API server's registry do.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    failure::Failure,
    resource::{Key, Resource},
    selector::Selector,
    time,
};

/// Who wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The operator under test.
    Operator,
    /// A controller, the garbage collector or a kubelet.
    Kubernetes,
    /// A person, or anybody else.
    User,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The resource version that it made.
    pub version: u64,
    /// When, by the true time.
    pub at: Timestamp,
    /// By whom.
    pub author: Author,
    /// Of which object.
    pub key: Key,
    /// What.
    pub kind: ChangeKind,
    /// The object before; `None` for a new one.
    pub before: Option<Arc<Value>>,
    /// The object after; for one that is gone, its last state with the version of its end.
    pub after: Arc<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:?} {:?} {} @{}",
            self.at, self.author, self.kind, self.key, self.version
        )
    }
}

/// Which part of an object a replacement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status, where that has a path of its own.
    Main,
    /// The status alone.
    Status,
}

/// What has to be true of an object for it to be deleted.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    /// Its UID.
    pub uid: Option<String>,
    /// Its resource version.
    pub resource_version: Option<String>,
}

/// A mutating webhook: changes an object that is created or replaced.
pub type Webhook = fn(&Key, &mut Value);

/// The objects.
#[derive(Debug)]
pub struct Store {
    /// What stands between a write and what is stored.
    pub webhook: Option<Webhook>,
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    log: VecDeque<Change>,
    compacted: u64,
    random: fastrand::Rng,
    changed: watch::Sender<u64>,
}

/// The first resource version.
const FIRST_VERSION: u64 = 1_000;

impl Store {
    /// An empty store, whose UIDs follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            webhook: None,
            version: FIRST_VERSION,
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            compacted: FIRST_VERSION,
            random: fastrand::Rng::with_seed(seed),
            changed: watch::channel(FIRST_VERSION).0,
        }
    }

    /// The newest resource version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The oldest resource version from which a watch can start.
    #[must_use]
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Tells of every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes whoever waits for a change, for reasons other than one.
    pub fn wake(&self) {
        self.changed.send_replace(self.version);
    }

    /// The object at `key`.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(key).cloned()
    }

    /// Every object of a kind, by namespace and name.
    pub fn of(&self, resource: Resource) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter().filter(move |(key, _)| key.resource == resource)
    }

    /// Every object.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// The objects of a kind as they were at `version`; `None` when that is compacted.
    #[must_use]
    pub fn snapshot(&self, resource: Resource, version: u64) -> Option<BTreeMap<Key, Arc<Value>>> {
        if version < self.compacted {
            return None;
        }
        let mut objects: BTreeMap<Key, Arc<Value>> = self
            .of(resource)
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect();
        for change in self.log.iter().rev().take_while(|change| change.version > version) {
            if change.key.resource != resource {
                continue;
            }
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                None => objects.remove(&change.key),
            };
        }
        Some(objects)
    }

    /// The changes after `version`, oldest first.
    pub fn changes_after(&self, version: u64) -> impl Iterator<Item = &Change> {
        // Versions follow each other without gaps.
        let first = self.log.front().map_or(self.version + 1, |change| change.version);
        let skip = usize::try_from((version + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.log.range(skip.min(self.log.len())..)
    }

    /// Lists and watches from before `version` get 410 from now on.
    pub fn compact(&mut self, version: u64) {
        self.compacted = self.compacted.max(version.min(self.version));
    }

    /// Forgets the changes that are compacted; whoever follows the log has to have seen them.
    pub fn trim(&mut self) {
        while self.log.front().is_some_and(|change| change.version <= self.compacted) {
            self.log.pop_front();
        }
    }

    /// Creates `object` at `key`.
    ///
    /// # Errors
    /// One of that name exists.
    pub fn create(
        &mut self,
        author: Author,
        at: Timestamp,
        key: &Key,
        mut object: Value,
    ) -> Result<Arc<Value>, Failure> {
        if self.objects.contains_key(key) {
            return Err(Failure::already_exists(key));
        }
        if let Some(webhook) = self.webhook {
            webhook(key, &mut object);
        }
        object["apiVersion"] = key.resource.api_version().into();
        object["kind"] = key.resource.kind.into();
        if key.resource.has_status
            && author == Author::Operator
            && let Some(fields) = object.as_object_mut()
        {
            // What a client says of the status of a new object is ignored.
            fields.remove("status");
        }
        let uid = self.new_uid();
        let metadata = &mut object["metadata"];
        metadata["name"] = key.name.clone().into();
        metadata["namespace"] = key.namespace.clone().into();
        metadata["uid"] = uid.into();
        metadata["creationTimestamp"] = time::seconds(at).into();
        metadata["generation"] = 1.into();
        Ok(self.commit(author, at, key, ChangeKind::Added, object))
    }

    /// Replaces `part` of the object at `key`. A replacement that changes nothing makes no version.
    ///
    /// # Errors
    /// There is none, it is another, or it has changed since.
    pub fn replace(
        &mut self,
        author: Author,
        at: Timestamp,
        key: &Key,
        part: Part,
        mut object: Value,
    ) -> Result<Arc<Value>, Failure> {
        let current = self.get(key).ok_or_else(|| Failure::not_found(key))?;
        let metadata = &object["metadata"];
        let differs = |field: &str| !metadata[field].is_null() && metadata[field] != current["metadata"][field];
        if differs("resourceVersion") || differs("uid") {
            return Err(Failure::conflict(key));
        }
        let next = match part {
            Part::Status => {
                let mut next = Value::clone(&current);
                next["status"] = object["status"].take();
                next
            }
            Part::Main => {
                let mut next = object;
                if let Some(webhook) = self.webhook {
                    webhook(key, &mut next);
                }
                next["apiVersion"] = key.resource.api_version().into();
                next["kind"] = key.resource.kind.into();
                if key.resource.has_status {
                    keep(&mut next, &current, "status");
                }
                for field in [
                    "uid",
                    "name",
                    "namespace",
                    "creationTimestamp",
                    "deletionTimestamp",
                    "generation",
                    "resourceVersion",
                ] {
                    keep(&mut next["metadata"], &current["metadata"], field);
                }
                if next["spec"] != current["spec"] {
                    let generation = current["metadata"]["generation"].as_i64().unwrap_or(1);
                    next["metadata"]["generation"] = (generation + 1).into();
                }
                next
            }
        };
        if next == *current {
            return Ok(current);
        }
        Ok(self.commit(author, at, key, ChangeKind::Modified, next))
    }

    /// Changes the object at `key` in place, status and metadata too, as whoever may do that does. False when there is none.
    pub fn edit(&mut self, author: Author, at: Timestamp, key: &Key, change: impl FnOnce(&mut Value)) -> bool {
        let Some(current) = self.get(key) else { return false };
        let mut next = Value::clone(&current);
        change(&mut next);
        if next["spec"] != current["spec"] {
            let generation = current["metadata"]["generation"].as_i64().unwrap_or(1);
            next["metadata"]["generation"] = (generation + 1).into();
        }
        if next != *current {
            let was_let_go = !next["metadata"]["deletionTimestamp"].is_null() && !has_finalizer(&next);
            self.commit(author, at, key, ChangeKind::Modified, next.clone());
            if was_let_go && has_finalizer(&current) {
                self.commit(author, at, key, ChangeKind::Deleted, next);
            }
        }
        true
    }

    /// Deletes the object at `key`; what it owns is left to the garbage collector. A finalizer keeps it, with the moment of its deletion.
    ///
    /// # Errors
    /// There is none, or a precondition does not hold.
    pub fn delete(
        &mut self,
        author: Author,
        at: Timestamp,
        key: &Key,
        preconditions: &Preconditions,
    ) -> Result<Arc<Value>, Failure> {
        let current = self.get(key).ok_or_else(|| Failure::not_found(key))?;
        let Preconditions { uid, resource_version } = preconditions;
        let metadata = &current["metadata"];
        let is = |field: &str, wanted: &Option<String>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| metadata[field].as_str() == Some(wanted))
        };
        if !is("uid", uid) || !is("resourceVersion", resource_version) {
            return Err(Failure::conflict(key));
        }
        let mut next = Value::clone(&current);
        if !has_finalizer(&next) {
            return Ok(self.commit(author, at, key, ChangeKind::Deleted, next));
        }
        if !next["metadata"]["deletionTimestamp"].is_null() {
            return Ok(current);
        }
        next["metadata"]["deletionTimestamp"] = time::seconds(at).into();
        Ok(self.commit(author, at, key, ChangeKind::Modified, next))
    }

    fn commit(&mut self, author: Author, at: Timestamp, key: &Key, kind: ChangeKind, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let after = Arc::new(object);
        let before = match kind {
            ChangeKind::Deleted => self.objects.remove(key),
            _ => self.objects.insert(key.clone(), Arc::clone(&after)),
        };
        self.log.push_back(Change {
            version: self.version,
            at,
            author,
            key: key.clone(),
            kind,
            before,
            after: Arc::clone(&after),
        });
        self.changed.send_replace(self.version);
        after
    }

    fn new_uid(&mut self) -> String {
        let (a, b) = (self.random.u64(..), self.random.u64(..));
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xfff,
            b >> 48 & 0xfff,
            b & 0xffff_ffff_ffff
        )
    }
}

fn has_finalizer(object: &Value) -> bool {
    let finalizers = object["metadata"]["finalizers"].as_array();
    finalizers.is_some_and(|finalizers| !finalizers.is_empty())
}

/// `field` stays as it is in `current`, whatever `next` says.
fn keep(next: &mut Value, current: &Value, field: &str) {
    match current.get(field) {
        Some(value) => next[field] = value.clone(),
        None => {
            if let Some(fields) = next.as_object_mut() {
                fields.remove(field);
            }
        }
    }
}

/// What a watch tells of `change`: an object that begins or ceases to be selected comes and goes.
#[must_use]
pub fn watch_event(change: &Change, selector: &Selector) -> Option<(&'static str, Arc<Value>)> {
    let was = change.before.as_ref().is_some_and(|before| selector.selects(before));
    let is = change.kind != ChangeKind::Deleted && selector.selects(&change.after);
    let type_ = match (was, is) {
        (false, false) => return None,
        (false, true) => "ADDED",
        (true, true) => "MODIFIED",
        (true, false) => "DELETED",
    };
    let mut object = Arc::clone(&change.after);
    if change.kind == ChangeKind::Modified && type_ == "DELETED" {
        // It tells of the last state that was selected, with the version that ended it.
        let mut last = change
            .before
            .as_ref()
            .map_or_else(|| json!({}), |before| Value::clone(before));
        last["metadata"]["resourceVersion"] = change.version.to_string().into();
        object = Arc::new(last);
    }
    Some((type_, object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::resource;

    fn key() -> Key {
        Key::new(resource::POLICIES, "radar", "roraima")
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn stored() -> (Store, Value) {
        let mut store = Store::new(1);
        let object = store
            .create(Author::User, now(), &key(), json!({ "spec": { "a": 1 } }))
            .unwrap();
        (store, Value::clone(&object))
    }

    #[test]
    fn a_stale_replacement_is_refused_and_an_equal_one_makes_no_version() {
        let (mut store, object) = stored();
        let mut changed = object;
        changed["spec"]["a"] = 2.into();
        store
            .replace(Author::User, now(), &key(), Part::Main, changed.clone())
            .unwrap();
        let refused = store
            .replace(Author::User, now(), &key(), Part::Main, changed)
            .unwrap_err();
        assert_eq!((refused.code, refused.reason), (409, "Conflict"));
        let same = Value::clone(&store.get(&key()).unwrap());
        let version = store.version();
        store.replace(Author::User, now(), &key(), Part::Main, same).unwrap();
        assert_eq!(store.version(), version);
    }

    #[test]
    fn the_generation_follows_the_spec_and_the_status_has_a_path_of_its_own() {
        let (mut store, object) = stored();
        let mut status = object;
        status["status"] = json!({ "b": 1 });
        status["spec"]["a"] = 9.into();
        let after = store
            .replace(Author::Operator, now(), &key(), Part::Status, status.clone())
            .unwrap();
        assert_eq!(
            (&after["spec"]["a"], &after["metadata"]["generation"]),
            (&json!(1), &json!(1))
        );
        let mut main = Value::clone(&after);
        main["status"] = Value::Null;
        main["spec"]["a"] = 3.into();
        let after = store.replace(Author::User, now(), &key(), Part::Main, main).unwrap();
        assert_eq!(
            (&after["status"]["b"], &after["metadata"]["generation"]),
            (&json!(1), &json!(2))
        );
    }

    #[test]
    fn an_older_snapshot_is_what_was_and_a_compacted_one_is_gone() {
        let (mut store, _) = stored();
        let first = store.version();
        store.edit(Author::User, now(), &key(), |object| object["spec"]["a"] = 2.into());
        store
            .delete(Author::User, now(), &key(), &Preconditions::default())
            .unwrap();
        let old = store.snapshot(resource::POLICIES, first).unwrap();
        assert_eq!(old[&key()]["spec"]["a"], 1);
        assert!(store.snapshot(resource::POLICIES, first - 1).unwrap().is_empty());
        store.compact(first + 1);
        store.trim();
        assert!(store.snapshot(resource::POLICIES, first).is_none());
        assert_eq!(store.changes_after(first + 1).count(), 1);
    }

    #[test]
    fn an_object_that_ceases_to_be_selected_is_told_as_gone() {
        let (mut store, _) = stored();
        store.edit(Author::User, now(), &key(), |object| {
            object["metadata"]["labels"] = json!({ "x": "1" })
        });
        let selector = Selector::parse("x=1").unwrap();
        let told = |store: &Store| {
            store
                .log
                .back()
                .and_then(|change| watch_event(change, &selector))
                .map(|(type_, _)| type_)
        };
        assert_eq!(told(&store), Some("ADDED"));
        store.edit(Author::User, now(), &key(), |object| {
            object["metadata"]["labels"] = json!({})
        });
        assert_eq!(told(&store), Some("DELETED"));
    }
}
