//! One history: the API server, the rest of Kubernetes, and the operator under test.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use futures::future;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use mapa_refresh_crds::policy::TaskName;
use mapa_refresh_operator::{
    clock::{BootClock, Clock},
    listen::Listen,
    replica,
    settings::{Election, LogFormat, RunnerSettings, Settings},
    vitals::Vitals,
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{
    faults::{Effect, Faults},
    http::{Call, Session, Shared, transport},
    invariants::{condition, task_of},
    kubernetes::Kubernetes,
    replica::{Replica, stoppable},
    resource::{self, Key, Resource},
    schedule::Minutes,
    server::Server,
    store::{Author, Preconditions},
    time::{Skew, VirtualTime},
    truth::controller,
};

/// The namespace in which everything happens.
pub const NAMESPACE: &str = "radar";

/// Time between two compactions of the log, as etcd has it.
const COMPACT_EVERY: Duration = Duration::from_secs(300);

/// A policy called `name` that refreshes every ten minutes, with further fields of its spec.
#[must_use]
pub fn policy(name: &str, extra: Value) -> Value {
    let mut policy = json!({
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "intervalMinutes": 10, "maxDataAgeMinutes": 30, "timeZone": "America/Boa_Vista", "area": "RR", "suspend": false,
            "downstreamCacheSeconds": 0, "rescue": true,
            "database": { "kind": "postgresql", "secretRef": { "name": "radar-database" }, "view": "MV_PORTAL" },
            "cache": { "secretRef": { "name": "radar-cache" }, "keyPrefix": format!("mapa-{name}") },
        },
    });
    super::http::merge(&mut policy["spec"], &extra);
    policy
}

struct Running {
    session: Session,
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// One history.
pub struct World {
    server: Shared,
    time: VirtualTime,
    /// Controllers and kubelet: the script of the runs, the controller-manager, the nodes' clock.
    pub kubernetes: Kubernetes,
    /// How long the operator stays down when a fault crashes it.
    pub restart_after: Duration,
    /// How many operators run side by side without a lease.
    rivals: usize,
    settings: Settings,
    seed: u64,
    operators: Vec<Running>,
    restart_at: Option<Instant>,
    compacted_at: (Instant, u64),
    crashes: u32,
}

impl World {
    /// An empty cluster without an operator. Needs a tokio runtime of one thread whose time is paused.
    #[must_use]
    pub fn without_operator(seed: u64) -> Self {
        // The operator's jitter follows from the seed too.
        fastrand::seed(seed);
        let server = Server::new(seed);
        let kubernetes = Kubernetes::new(&server);
        let time = server.time;
        let version = server.store.version();
        Self {
            server: Shared::new(server),
            time,
            kubernetes,
            restart_after: Duration::from_secs(2),
            settings: Settings {
                runner: RunnerSettings {
                    image: Some("runner:1".to_owned()),
                    ..RunnerSettings::default()
                },
                watch_namespaces: Vec::new(),
                concurrency: 8,
                election: None,
                log_format: LogFormat::Text,
                collector: None,
                listen: Listen::Off,
            },
            rivals: 1,
            seed,
            operators: Vec::new(),
            restart_at: None,
            compacted_at: (Instant::now(), version),
            crashes: 0,
        }
    }

    /// An empty cluster with an operator.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut world = Self::without_operator(seed);
        world.start_operator();
        world
    }

    /// An empty cluster with so many operators, none of which knows of the others: without a lease.
    #[must_use]
    pub fn with_rivals(seed: u64, rivals: usize) -> Self {
        let mut world = Self::without_operator(seed);
        world.rivals = rivals;
        world.start_operator();
        world
    }

    /// The API server: objects, faults, truth. Nothing else goes on while it is held.
    pub fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock()
    }

    /// The true time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// The operator's clock.
    #[must_use]
    pub fn operator_clock(&self) -> Skew {
        self.server().operator_clock.clone()
    }

    /// Settings for the next start of the operator.
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    // The operator.

    /// Starts the operators; those that run die.
    pub fn start_operator(&mut self) {
        self.kill_operator();
        self.start_missing();
    }

    fn start_missing(&mut self) {
        while self.operators.len() < self.rivals {
            let operator = self.started();
            self.operators.push(operator);
        }
        let now = self.now();
        let mut server = self.server();
        server.trace("the operator starts");
        server.operator_is(true);
        server.cause(now);
        drop(server);
        self.restart_at = None;
    }

    fn started(&self) -> Running {
        let session = Session::default();
        let client = Client::new(transport(&self.server, &session), "default");
        let (stop, stopped) = watch::channel(false);
        let (time, skew) = (self.time, self.operator_clock());
        let clock = Clock::from_fn(move || skew.shown(time.now()));
        let boot = BootClock::from_fn(move || time.elapsed());
        let vitals = Arc::new(Vitals::new(clock.clone()));
        let settings = self.settings.clone();
        let task = tokio::spawn(async move { replica::run(client, &settings, clock, boot, vitals, stopped).await });
        Running { session, task, stop }
    }

    /// Starts one more operator called `name`, one of several with one lease.
    pub fn replica(&mut self, name: &str) -> Replica {
        let session = Session::default();
        let client = Client::new(transport(&self.server, &session), "default");
        let (shutdown, ended) = watch::channel(false);
        let (stopped, is_stopped) = watch::channel(false);
        let (time, skew) = (self.time, self.operator_clock());
        let clock = Clock::from_fn(move || skew.shown(time.now()));
        let boot = BootClock::from_fn(move || time.elapsed());
        let settings = Settings {
            election: Some(Election {
                lease_name: "mapa-refresh-operator".to_owned(),
                lease_namespace: Some("mapa-system".to_owned()),
                replica_name: name.to_owned(),
            }),
            ..self.settings.clone()
        };
        let vitals = Arc::new(Vitals::new(clock.clone()));
        let standing = vitals.standing.subscribe();
        let process = async move { replica::run(client, &settings, clock, boot, vitals, ended).await };
        let task = tokio::spawn(stoppable(process, is_stopped));
        let now = self.now();
        let mut server = self.server();
        server.trace(format!("the operator {name} starts"));
        server.operator_is(true);
        server.cause(now);
        drop(server);
        Replica {
            session,
            task,
            shutdown,
            stopped,
            standing,
        }
    }

    /// The operators die, in the middle of whatever they do.
    pub fn kill_operator(&mut self) {
        for Running { session, task, .. } in self.operators.drain(..) {
            session.kill();
            task.abort();
        }
        self.is_dead();
    }

    fn is_dead(&self) {
        let mut server = self.server();
        server.trace("the operator is dead");
        server.operator_is(false);
    }

    /// The operators are told to end, and end.
    pub async fn stop_operator(&mut self) {
        for Running { session, task, stop } in self.operators.drain(..) {
            stop.send_replace(true);
            tokio::time::timeout(Duration::from_secs(3), task)
                .await
                .expect("SIGTERM ends the operator within 3 s")
                .expect("I8: the operator panicked");
            session.kill();
        }
        self.server().operator_is(false);
    }

    /// How often a fault crashed the operator.
    #[must_use]
    pub fn crashes(&self) -> u32 {
        self.crashes
    }

    // Objects.

    /// Creates or replaces a policy, as `kubectl apply` does.
    pub fn apply(&mut self, object: Value) {
        let key = self.policy_key(object["metadata"]["name"].as_str().expect("a name"));
        if self.server().store.get(&key).is_some() {
            self.edit(&key, |policy| policy["spec"] = object["spec"].clone());
        } else {
            self.create(&key, object);
        }
    }

    /// Creates an object, as a person does.
    pub fn create(&mut self, key: &Key, object: Value) {
        let now = self.now();
        self.server()
            .store
            .create(Author::User, now, key, object)
            .expect("it does not exist yet");
    }

    /// Changes an object, as a person does; status and metadata too.
    pub fn edit(&mut self, key: &Key, change: impl FnOnce(&mut Value)) {
        let now = self.now();
        assert!(self.server().store.edit(Author::User, now, key, change), "no {key}");
    }

    /// Deletes an object, as a person does.
    pub fn delete(&mut self, key: &Key) {
        let now = self.now();
        self.server()
            .store
            .delete(Author::User, now, key, &Preconditions::default())
            .expect("it exists");
    }

    /// The place of a policy.
    #[must_use]
    pub fn policy_key(&self, name: &str) -> Key {
        Key::new(resource::POLICIES, NAMESPACE, name)
    }

    /// The place of a policy's CronJob.
    #[must_use]
    pub fn cron_job_key(&self, policy: &str, task: TaskName) -> Key {
        Key::new(resource::CRON_JOBS, NAMESPACE, &format!("{policy}-{task}"))
    }

    /// The object at `key`; null when there is none.
    #[must_use]
    pub fn get(&self, key: &Key) -> Value {
        self.server()
            .store
            .get(key)
            .map(|object| Value::clone(&object))
            .unwrap_or_default()
    }

    /// The policy called `name`; null when there is none.
    #[must_use]
    pub fn policy(&self, name: &str) -> Value {
        self.get(&self.policy_key(name))
    }

    /// A condition of a policy; null when there is none.
    #[must_use]
    pub fn condition(&self, policy: &str, type_: &str) -> Value {
        condition(&self.policy(policy), type_)
    }

    /// Whether a condition of a policy has `status` and `reason`.
    #[must_use]
    pub fn is(&self, policy: &str, type_: &str, status: &str, reason: &str) -> bool {
        let condition = self.condition(policy, type_);
        condition["status"] == status && condition["reason"] == reason
    }

    /// A task of a policy's status; null when there is none.
    #[must_use]
    pub fn task(&self, policy: &str, task: TaskName) -> Value {
        task_of(&self.policy(policy), task)
    }

    /// Every object of a kind.
    #[must_use]
    pub fn all(&self, resource: Resource) -> Vec<Value> {
        self.server()
            .store
            .of(resource)
            .map(|(_, object)| Value::clone(object))
            .collect()
    }

    // Faults.

    /// The next `times` requests for which `when` is true meet `effect`.
    pub fn fault(&mut self, times: u32, when: impl FnMut(&Call) -> bool + Send + 'static, effect: Effect) {
        self.with_faults(|faults| faults.next(times, when, effect));
    }

    /// Sets faults.
    pub fn with_faults(&mut self, set: impl FnOnce(&mut Faults)) {
        let mut server = self.server();
        server.disturb();
        set(&mut server.faults);
        server.store.wake();
    }

    /// Nothing goes wrong any more.
    pub fn clear_faults(&mut self) {
        let mut server = self.server();
        server.disturb();
        server.faults.clear();
        server.trace("the faults are cleared");
        let now = server.time.now();
        server.cause(now);
        server.store.wake();
    }

    /// The controller-manager is back, and does what it missed.
    pub fn controllers_come_up(&mut self) {
        let mut server = self.server.lock();
        self.kubernetes.come_up(&mut server);
        server.settle();
    }

    // Time.

    /// Lets `duration` pass.
    ///
    /// # Panics
    /// An invariant does not hold.
    pub async fn run_for(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        self.run(end, |_| false).await;
    }

    /// Lets time pass until `met`, at most `within`; returns how long it took.
    ///
    /// # Panics
    /// It took longer, or an invariant does not hold.
    pub async fn run_until(&mut self, what: &str, within: Duration, met: impl FnMut(&Self) -> bool) -> Duration {
        let began = Instant::now();
        if !self.run(began + within, met).await {
            self.fail(&format!("not within {within:?}: {what}"));
        }
        began.elapsed()
    }

    /// Lets time pass until everything is as every policy asks and every run is counted (I7).
    ///
    /// # Panics
    /// It took longer than `within`, or an invariant does not hold.
    pub async fn converges_within(&mut self, within: Duration) -> Duration {
        let began = Instant::now();
        if !self.run(began + within, |world| world.unsettled().is_empty()).await {
            let unsettled = self.unsettled().join("\n  ");
            self.fail(&format!("I7: not converged within {within:?}:\n  {unsettled}"));
        }
        began.elapsed()
    }

    async fn run(&mut self, end: Instant, mut met: impl FnMut(&Self) -> bool) -> bool {
        loop {
            self.step();
            if met(self) {
                return true;
            }
            let now = Instant::now();
            if now >= end {
                return false;
            }
            let mut changed = self.server().store.subscribe();
            let next = self.kubernetes.next().map(|moment| self.time.instant_of(moment));
            let until = [next, self.restart_at].into_iter().flatten().fold(end, Instant::min);
            let died = async {
                match self.operators.as_slice() {
                    [] => future::pending().await,
                    operators => {
                        future::select_all(operators.iter().map(|running| Box::pin(running.session.died()))).await;
                    }
                }
            };
            let woken = future::select(Box::pin(changed.changed()), Box::pin(died));
            // A timer's resolution is a millisecond; to be early would be to spin.
            let until = until.max(now + Duration::from_millis(1));
            let _ = tokio::time::timeout_at(until, woken).await;
        }
    }

    fn step(&mut self) {
        let now = Instant::now();
        {
            let mut server = self.server.lock();
            self.kubernetes.react(&mut server);
            server.settle();
            server.tick(self.kubernetes.is_up());
            server.store.trim();
            if now - self.compacted_at.0 > COMPACT_EVERY {
                // What is older than five minutes is forgotten; watches that were idle longer have had bookmarks.
                let (_, version) = self.compacted_at;
                let version = server.faults.frozen_at().map_or(version, |frozen| frozen.min(version));
                server.store.compact(version);
                self.compacted_at = (now, server.store.version());
            }
        }
        let running = self.operators.len();
        self.operators.retain(|running| {
            let is_dead = running.session.is_dead();
            if is_dead {
                running.task.abort();
            }
            !is_dead
        });
        let crashed = running - self.operators.len();
        if crashed > 0 {
            self.crashes += u32::try_from(crashed).unwrap_or(u32::MAX);
            self.is_dead();
            self.restart_at = Some(now + self.restart_after);
        }
        if self.operators.iter().any(|running| running.task.is_finished()) {
            self.fail("I8: the operator ended by itself");
        }
        if self.restart_at.is_some_and(|moment| moment <= now) {
            self.start_missing();
        }
        if !self.server().violations().is_empty() {
            let violations = self.server().violations().join("\n  ");
            self.fail(&format!("violated:\n  {violations}"));
        }
    }

    fn fail(&self, what: &str) -> ! {
        let server = self.server();
        let policies: BTreeMap<String, String> = server
            .store
            .of(resource::POLICIES)
            .map(|(key, policy)| {
                (
                    key.name.clone(),
                    serde_json::to_string_pretty(&policy["status"]).unwrap_or_default(),
                )
            })
            .collect();
        let history = server.history();
        let now = server.time.now();
        drop(server);
        panic!(
            "{what}\nseed {}, at {now}\nlast requests:\n{history}statuses: {policies:#?}",
            self.seed
        );
    }

    /// What is not yet as the policies ask, in words.
    #[must_use]
    pub fn unsettled(&self) -> Vec<String> {
        let server = self.server();
        let mut unsettled = Vec::new();
        let mut expected = BTreeMap::new();
        for (key, policy) in server.store.of(resource::POLICIES) {
            let status = &policy["status"];
            if status["observedGeneration"] != policy["metadata"]["generation"] {
                unsettled.push(format!(
                    "{}: generation {} not observed",
                    key.name, policy["metadata"]["generation"]
                ));
            }
            for task in planned_tasks(policy) {
                let place = Key::new(resource::CRON_JOBS, &key.namespace, &format!("{}-{task}", key.name));
                expected.insert(place.clone(), policy["metadata"]["uid"].clone());
                let uid = policy["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                let counted = task_of(policy, task)["totalRuns"].as_u64().unwrap_or(0);
                if let Some(runs) = server.truth.runs.get(&(uid, task)) {
                    let ended = runs.ended.len() as u64;
                    let seen = runs.ended.difference(&runs.perhaps_unseen).count() as u64;
                    if counted < seen || counted > ended {
                        unsettled.push(format!(
                            "I6: {} {task}: {counted} runs counted, {seen} to {ended} ended",
                            key.name
                        ));
                    }
                }
                let Some(cron_job) = server.store.get(&place) else {
                    unsettled.push(format!("I1: no {place}"));
                    continue;
                };
                unsettled.extend(misfits(&cron_job, policy, task).map(|misfit| format!("{place}: {misfit}")));
            }
        }
        for (key, cron_job) in server.store.of(resource::CRON_JOBS) {
            let policy = controller(cron_job).filter(|owner| owner["kind"] == "MapaRefreshPolicy");
            if policy.is_some_and(|policy| expected.get(key) != Some(&policy["uid"])) {
                unsettled.push(format!("I10: {key} is nobody's"));
            }
        }
        unsettled
    }
}

/// The tasks that `policy` asks for.
fn planned_tasks(policy: &Value) -> Vec<TaskName> {
    match policy["spec"]["tasks"].as_array() {
        Some(tasks) => tasks
            .iter()
            .filter_map(|task| task["name"].as_str()?.parse().ok())
            .collect(),
        None => TaskName::DEFAULT.to_vec(),
    }
}

/// What of a CronJob is not as its policy asks: judged by what must be true of it, not by how the operator makes it.
fn misfits(cron_job: &Value, policy: &Value, task: TaskName) -> impl Iterator<Item = String> {
    let spec = &cron_job["spec"];
    let pod = &spec["jobTemplate"]["spec"]["template"]["spec"];
    let interval = usize::try_from(policy["spec"]["intervalMinutes"].as_i64().unwrap_or(30).clamp(1, 30)).unwrap_or(30);
    let gap = spec["schedule"]
        .as_str()
        .and_then(Minutes::parse)
        .map(|minutes| minutes.largest_gap());
    let owner = controller(cron_job).map(|owner| owner["uid"].clone());
    let checks = [
        (
            owner.as_ref() == Some(&policy["metadata"]["uid"]),
            format!("I1: owner {owner:?}"),
        ),
        (
            gap.is_some_and(|gap| gap <= interval),
            format!("schedule {}", spec["schedule"]),
        ),
        (
            spec["suspend"] == policy["spec"]["suspend"],
            format!("suspend {}", spec["suspend"]),
        ),
        (
            pod["containers"].as_array().is_some_and(|all| all.len() == 1),
            format!("containers {}", pod["containers"]),
        ),
        (pod["hostNetwork"].is_null(), "hostNetwork".to_owned()),
        (
            pod["containers"][0]["image"] == "runner:1",
            format!("image {}", pod["containers"][0]["image"]),
        ),
        (
            pod["containers"][0]["args"] == json!(["run", task.as_str()]),
            format!("args {}", pod["containers"][0]["args"]),
        ),
    ];
    checks.into_iter().filter(|(fits, _)| !fits).map(|(_, misfit)| misfit)
}
