//! The fake API server: the store, the faults before it, and what is looked at after every request.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    failure::Failure,
    faults::Faults,
    http::{Call, Latency, Verb},
    invariants::Invariants,
    resource::{self, Key, Resource},
    selector::Selector,
    store::{Author, Store, Webhook},
    time::{Skew, VirtualTime},
    truth::Truth,
    watch::Watch,
};

/// Requests and remarks that a violation is reported with.
const TRACE: usize = 120;

/// How long after a disturbance the operator may still be busy with it: a half-open watch is found out after 295 s.
const AFTERMATH: Duration = Duration::from_secs(310);

/// The fake API server.
#[derive(Debug)]
pub struct Server {
    /// The objects.
    pub store: Store,
    /// What goes wrong.
    pub faults: Faults,
    /// The true time.
    pub time: VirtualTime,
    /// What is true of the runs and the data, whatever anybody says.
    pub truth: Truth,
    /// The operator's clock.
    pub operator_clock: Skew,
    pub(super) invariants: Invariants,
    trace: VecDeque<String>,
    random: fastrand::Rng,
    watches: u64,
    checked: u64,
    disturbed: Option<Instant>,
    operator_is_up: bool,
    ticked: Option<i64>,
    writes: u64,
    asked: BTreeMap<&'static str, u64>,
}

impl Server {
    /// An empty server; what is left to chance follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let store = Store::new(seed);
        Self {
            checked: store.version(),
            store,
            faults: Faults::default(),
            time: VirtualTime::begin(),
            truth: Truth::default(),
            operator_clock: Skew::default(),
            invariants: Invariants::default(),
            trace: VecDeque::new(),
            random: fastrand::Rng::with_seed(seed ^ 0x5eed),
            watches: 0,
            disturbed: None,
            operator_is_up: false,
            ticked: None,
            writes: 0,
            asked: BTreeMap::new(),
        }
    }

    /// Notes something for whoever reads a violation.
    pub fn trace(&mut self, line: impl Into<String>) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        let line = format!("{} {}", self.time.now(), line.into());
        if std::env::var_os("FAKE_API_TRACE").is_some() {
            eprintln!("{line}");
        }
        self.trace.push_back(line);
    }

    /// The last requests and remarks, oldest first.
    #[must_use]
    pub fn history(&self) -> String {
        self.trace.iter().map(|line| format!("  {line}\n")).collect()
    }

    /// Writes of the operator that were carried out, Events not counted.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Writes of objects of `resource` that the operator asked for, whether they were carried out and changed anything or not.
    #[must_use]
    pub fn writes_of(&self, resource: Resource) -> u64 {
        self.asked.get(resource.plural).copied().unwrap_or_default()
    }

    pub(super) fn asked_to_write(&mut self, resource: Resource) {
        *self.asked.entry(resource.plural).or_default() += 1;
    }

    /// Names of the Jobs that the operator created, beside the schedule.
    #[must_use]
    pub fn jobs_beside_the_schedule(&self) -> Vec<String> {
        self.invariants.extra_jobs().cloned().collect()
    }

    /// What must hold and did not, in the order in which it was seen.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        self.invariants.violations()
    }

    /// Something goes wrong now, or did until now: for a while the operator may write more than a world at rest asks for, and need not
    /// have seen everything.
    pub fn disturb(&mut self) {
        self.disturbed = Some(Instant::now());
    }

    /// Whether everything works, and has for long enough that nothing may be left to find out.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.operator_is_up
            && self.faults.are_clear()
            && self.store.webhook.is_none()
            && self.disturbed.is_none_or(|moment| moment.elapsed() > AFTERMATH)
    }

    /// Whether there is an operator that could see anything.
    pub(super) fn operator_is(&mut self, up: bool) {
        self.operator_is_up = up;
        self.disturb();
    }

    /// Every watch that is open now is half open from now on (F6).
    pub fn silence_watches(&mut self) {
        self.faults.watches().silent_below = self.watches + 1;
        self.disturb();
        self.store.wake();
    }

    /// Every watch that is open now ends with 410, and what happened until now cannot be listed any more (F7).
    pub fn expire_watches(&mut self) {
        self.faults.watches().expired_below = self.watches + 1;
        self.store.compact(self.store.version());
        self.disturb();
        self.store.wake();
    }

    /// What stands between writes and what is stored from now on.
    pub fn admit_by(&mut self, webhook: Option<Webhook>) {
        self.store.webhook = webhook;
        self.disturb();
    }

    /// Reads are served as of now, and watches stand still, until the faults are cleared (F9).
    pub fn freeze(&mut self) {
        self.faults.watches().frozen_at = Some(self.store.version());
        self.disturb();
    }

    /// Looks at every change since the last look.
    pub fn settle(&mut self) {
        let (calm, shown) = (self.is_calm(), self.visible_version());
        let Self {
            store,
            truth,
            invariants,
            checked,
            writes,
            ..
        } = self;
        let changes: Vec<_> = store.changes_after(*checked).cloned().collect();
        *checked = store.version();
        for change in &changes {
            if change.author == Author::Operator && change.key.resource != resource::EVENTS {
                *writes += 1;
            }
            truth.note(change, store, calm);
            invariants.check(change, store, truth, calm, shown);
        }
    }

    /// Looks at what becomes untrue by the passing of time, once a second.
    pub fn tick(&mut self, controllers_are_up: bool) {
        let now = self.time.now();
        if self.ticked == Some(now.as_second()) {
            return;
        }
        self.ticked = Some(now.as_second());
        self.invariants.check_ages(&self.store, &self.truth, now);
        self.invariants.check_orphans(&self.store, controllers_are_up, now);
    }

    pub(super) fn latency(&mut self) -> Latency {
        let mut some = || Duration::from_millis(self.random.u64(1..4));
        (some(), some())
    }

    pub(super) fn open_watch(&mut self, call: &Call) -> Result<Watch, Failure> {
        let parameter = |name: &str| call.query.get(name).map(String::as_str);
        let cursor = match parameter("resourceVersion") {
            None | Some("" | "0") => self.visible_version(),
            Some(version) => version.parse().map_err(|_| Failure::bad_request("resourceVersion"))?,
        };
        let timeout = parameter("timeoutSeconds")
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(1_800);
        self.watches += 1;
        Ok(Watch {
            number: self.watches,
            resource: call.resource,
            namespace: call.namespace.clone(),
            selector: Selector::parse(parameter("labelSelector").unwrap_or_default())?,
            metadata_only: call.metadata_only,
            bookmarks: parameter("allowWatchBookmarks") == Some("true"),
            cursor,
            deadline: Instant::now() + Duration::from_secs(timeout),
        })
    }

    /// The version that reads show.
    pub(super) fn visible_version(&self) -> u64 {
        self.faults.frozen_at().unwrap_or_else(|| self.store.version())
    }

    /// What reads show of a kind, when that is not the present.
    pub(super) fn frozen_snapshot(&self, resource: Resource) -> Result<Option<BTreeMap<Key, Arc<Value>>>, Failure> {
        match self.faults.frozen_at() {
            None => Ok(None),
            Some(version) => self
                .store
                .snapshot(resource, version)
                .map(Some)
                .ok_or_else(Failure::expired),
        }
    }

    /// Whether the operator's role allows `call`, a write.
    pub(super) fn admit(&mut self, call: &Call) -> Result<(), Failure> {
        let allowed = match (call.resource, call.verb) {
            (resource::POLICIES, Verb::Replace | Verb::Patch) => call.status,
            (resource::CRON_JOBS, _) => !call.status,
            (resource::JOBS, Verb::Create | Verb::Delete) => true,
            (resource::EVENTS, Verb::Create | Verb::Patch) => true,
            (resource::LEASES | resource::CONFIG_MAPS, _) => true,
            _ => false,
        };
        if allowed {
            return Ok(());
        }
        self.invariants
            .violated("I2", format!("{call}: the operator has no business to do that"));
        Err(Failure::forbidden(format!("{call} is not in the operator's role")))
    }

    /// The operator wrote what was there already.
    pub(super) fn idle_write(&mut self, call: &Call) {
        self.invariants.violated("I3", format!("{call}: it changes nothing"));
    }

    /// Something justifies that the operator writes: it started, say.
    pub fn cause(&mut self, now: Timestamp) {
        self.invariants.cause(now);
    }
}
