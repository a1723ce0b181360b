//! Several operators with one lease: one works, another takes over, and who has lost the lease writes nothing.
//!
//! Each operator has a user of its own, so that the audit log tells whose every request was.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mapa_refresh_tests::{
    limit,
    process::Process,
    vitals,
    wait::{self, Look},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::world::{Test, World};

pub const TESTS: &[Test] = &[
    (
        "replicas::f24_i12_a_leader_stopped_past_its_lease_makes_no_successful_write_when_it_goes_on",
        stopped,
    ),
    (
        "replicas::a_killed_leader_is_replaced_within_20_s_and_a_follower_writes_nothing",
        killed,
    ),
    (
        "replicas::sigterm_hands_the_lease_over_within_2_s_and_ends_with_0_within_3_s",
        terminated,
    ),
    (
        "replicas::without_permission_on_the_lease_nobody_works_until_it_is_given",
        forbidden,
    ),
];

const LEASE: &str = "mapa-refresh-operator";
/// I12: a write that began under the lease may end so much later.
const GRACE: SignedDuration = SignedDuration::from_secs(5);
/// How long tests wait for what is promised sooner; what is promised is judged by the audit log.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of several operators.
struct Replica {
    user: String,
    process: Process,
}

impl Replica {
    /// Waits until its probe is answered with `status`, by one line that has all of `words`.
    fn wait_for_readiness(&self, status: u16, words: &[&str]) {
        wait::until("the probe", PATIENCE, || {
            let Some(address) = vitals::address(&self.process.log()) else {
                return Look::Saw("it does not serve yet".to_owned());
            };
            match vitals::ask(address, "/readyz") {
                Ok((code, text)) => {
                    let is_said = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
                    Look::when(code == status && is_said, (code, text)).map(drop)
                }
                Err(error) => Look::Saw(error.to_string()),
            }
        })
        .unwrap();
    }
}

/// A request as the audit log has it.
#[derive(Debug)]
struct Request {
    user: String,
    verb: String,
    resource: String,
    code: u64,
    /// When it was answered.
    at: Timestamp,
}

impl Request {
    /// Whether it is one that changes something: to ask what one may do is a question, though it is sent as a creation.
    fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch") && self.resource != "selfsubjectaccessreviews"
    }

    fn is_of_lease(&self) -> bool {
        self.resource == "leases"
    }

    /// Whether it changed something.
    fn succeeded(&self) -> bool {
        self.is_write() && (200..300).contains(&self.code)
    }
}

/// A namespace with several operators.
struct Stage<'world> {
    world: &'world World,
    namespace: String,
}

impl<'world> Stage<'world> {
    fn new(world: &'world World, namespace: &str) -> Self {
        world.kubectl().namespace(namespace).unwrap();
        Self {
            world,
            namespace: namespace.to_owned(),
        }
    }

    fn user(&self, replica: &str) -> String {
        format!("{}-{replica}", self.namespace)
    }

    /// Starts an operator called `replica`, a user who may do everything in the namespace.
    fn start(&self, replica: &str) -> Replica {
        let user = self.user(replica);
        let binding = [
            "-n",
            &self.namespace,
            "create",
            "rolebinding",
            replica,
            "--clusterrole=cluster-admin",
            "--user",
            &user,
        ];
        self.world.kubectl().run(binding).unwrap();
        self.start_as(replica)
    }

    /// Starts an operator called `replica`, a user with the permissions that were given.
    fn start_as(&self, replica: &str) -> Replica {
        let user = self.user(replica);
        let process = self
            .world
            .operator_of(&user)
            .electing(LEASE, &self.namespace)
            .with_argument(&format!("--watch-namespace={}", self.namespace))
            .with_argument(&format!("--replica-name={replica}"))
            .start()
            .unwrap();
        Replica { user, process }
    }

    fn ask(&self, arguments: &[&str]) -> String {
        self.world
            .kubectl()
            .run(["-n", &self.namespace].iter().chain(arguments))
            .unwrap_or_else(|error| error.to_string())
    }

    fn lease(&self) -> Value {
        serde_json::from_str(&self.ask(&["get", "lease", LEASE, "-o", "json"])).unwrap_or_default()
    }

    fn wait_for_holder(&self, holder: &Replica, replica: &str) {
        let looked = wait::until("the lease", PATIENCE, || {
            let lease = self.lease();
            let identity = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            Look::when(identity.starts_with(&format!("{replica}_")), lease.to_string())
        });
        looked.unwrap_or_else(|error| panic!("{error}\n{}", holder.process.log()));
    }

    /// Applies a policy and waits until an operator has made it Ready.
    fn reconciles(&self, policy: &str) {
        let example = mapa_refresh_tests::policy::Example {
            interval_minutes: 30,
            ..mapa_refresh_tests::policy::Example::every_minute(&self.namespace, policy)
        };
        self.world
            .kubectl()
            .apply(&example.manifest("  rescue: false\n"))
            .unwrap();
        self.wait_until_ready(policy);
    }

    fn wait_until_ready(&self, policy: &str) {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].reason}"#;
        wait::until("the policy to be Ready", PATIENCE, || {
            let reason = self.ask(&["get", "mapa-refresh", policy, "-o", path]);
            Look::when(reason == "Reconciled", reason)
        })
        .unwrap();
    }

    /// What the operators asked for here, in the order of the answers.
    fn requests(&self) -> Vec<Request> {
        let prefix = format!("{}-", self.namespace);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut requests: Vec<Request> = self
            .world
            .audit_events()
            .into_iter()
            .filter(|event| {
                let user = event["user"]["username"].as_str().unwrap_or_default();
                user.starts_with(&prefix)
            })
            .map(|event| Request {
                user: text(&event["user"]["username"]),
                verb: text(&event["verb"]),
                resource: text(&event["objectRef"]["resource"]),
                code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
                at: text(&event["stageTimestamp"]).parse().unwrap(),
            })
            .collect();
        requests.sort_by_key(|request| request.at);
        requests
    }

    /// The first of the requests that is as wanted, once the audit log has it.
    fn wait_for_request(&self, what: &str, is_wanted: impl Fn(&Request) -> bool) -> Timestamp {
        wait::until(what, PATIENCE, || {
            let mut requests = self.requests();
            match requests.iter().position(&is_wanted) {
                Some(place) => Look::Met(requests.swap_remove(place).at),
                None => Look::Saw(format!("{} requests", requests.len())),
            }
        })
        .unwrap()
    }

    /// When `replica` took the lease that another had held.
    fn wait_for_takeover(&self, replica: &Replica) -> Timestamp {
        self.wait_for_request("another leader", |request| {
            request.user == replica.user && request.is_of_lease() && request.succeeded()
        })
    }

    /// When `replica` first changed something in a namespace that is not the lease.
    fn wait_for_work(&self, replica: &Replica) -> Timestamp {
        self.wait_for_request("the other to reconcile", |request| {
            request.user == replica.user && !request.is_of_lease() && request.succeeded()
        })
    }

    /// The last successful write of `user` to the lease: a renewal, or that it gives it up.
    fn last_renewal(&self, user: &str) -> Timestamp {
        self.requests()
            .iter()
            .rfind(|request| request.user == user && request.is_of_lease() && request.succeeded())
            .unwrap()
            .at
    }

    fn writes_beside_the_lease(&self, replica: &Replica) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(|request| request.user == replica.user && request.is_write() && !request.is_of_lease())
            .collect()
    }
}

fn stopped(world: &World) {
    let stage = Stage::new(world, "replicas-stopped");
    let one = stage.start("one");
    stage.wait_for_holder(&one, "one");
    stage.reconciles("acre");
    let two = stage.start("two");
    // It is stopped while it has work to do at every moment: CronJobs go, and have to be made again.
    one.process.signal(Signal::SIGSTOP);
    stage.ask(&["delete", "cronjobs", "--all"]);
    let taken = stage.wait_for_takeover(&two);
    stage.wait_for_work(&two);
    stage.wait_until_ready("acre");
    let cron_jobs = || stage.ask(&["get", "cronjobs", "-o", "name"]);
    wait::until("the CronJobs to be back", PATIENCE, || {
        let all = cron_jobs();
        Look::when(all.lines().count() == 3, all)
    })
    .unwrap();
    // More work, which both will see at the moment at which the stopped one goes on.
    two.process.signal(Signal::SIGSTOP);
    stage.ask(&["delete", "cronjobs", "--all"]);
    let continued = Timestamp::now();
    one.process.signal(Signal::SIGCONT);
    two.process.signal(Signal::SIGCONT);
    stage.reconciles("amapa");
    // It has heard of the other when it looks at the lease a second time.
    stage.wait_for_request("the stopped one to follow", |request| {
        request.user == one.user && request.verb == "get" && request.is_of_lease() && request.at > continued
    });
    wait::until("the stopped one to follow", PATIENCE, || {
        let log = one.process.log();
        Look::when(log.contains("follows"), log)
    })
    .unwrap();
    let late: Vec<Request> = stage
        .requests()
        .into_iter()
        .filter(|request| request.user == one.user && request.succeeded() && request.at > taken + GRACE)
        .collect();
    assert!(late.is_empty(), "I12: the other leads since {taken}: {late:#?}");
    // Stricter than promised: nothing at all after it went on, successful or not, but what asks for the lease.
    let tried: Vec<Request> = stage
        .writes_beside_the_lease(&one)
        .into_iter()
        .filter(|request| request.at > continued)
        .collect();
    assert!(tried.is_empty(), "{tried:#?}");
    assert_eq!(stage.lease()["spec"]["leaseTransitions"], 1);

    // It is a candidate again.
    drop(two);
    stage.wait_for_holder(&one, "one");
    stage.reconciles("para");
}

fn killed(world: &World) {
    let stage = Stage::new(world, "replicas-killed");
    let one = stage.start("one");
    stage.wait_for_holder(&one, "one");
    let two = stage.start("two");
    stage.wait_for_request("the second to look at the lease", |request| {
        request.user == two.user && request.is_of_lease()
    });
    stage.reconciles("acre");
    assert!(!stage.writes_beside_the_lease(&one).is_empty());
    let killed = Timestamp::now();
    let last = stage.last_renewal(&one.user);
    drop(one);
    stage.ask(&["delete", "cronjobs", "--all"]);
    let taken = stage.wait_for_takeover(&two);
    let worked = stage.wait_for_work(&two);
    limit::keeps(
        "from SIGKILL of the leader to the other's first request",
        worked.duration_since(killed),
        SignedDuration::from_secs(20),
    );
    assert!(
        taken.duration_since(last) >= SignedDuration::from_secs(15),
        "the lease of {last} was taken at {taken}"
    );
    let early: Vec<Request> = stage
        .requests()
        .into_iter()
        .filter(|request| request.user == two.user && request.is_write() && request.at < taken)
        .collect();
    assert!(early.is_empty(), "a follower writes nothing: {early:#?}");
    stage.wait_until_ready("acre");
}

fn terminated(world: &World) {
    let stage = Stage::new(world, "replicas-terminated");
    let one = stage.start("one");
    stage.wait_for_holder(&one, "one");
    stage.reconciles("acre");
    let two = stage.start("two");
    stage.wait_for_request("the second to look at the lease", |request| {
        request.user == two.user && request.is_of_lease()
    });
    let told = Timestamp::now();
    let Replica { user, process } = one;
    assert!(process.terminate(), "exit code 0");
    let ended = Timestamp::now();
    limit::keeps(
        "from SIGTERM to the end",
        ended.duration_since(told),
        SignedDuration::from_secs(3),
    );
    let taken = stage.wait_for_takeover(&two);
    limit::keeps(
        "from SIGTERM of the leader to the other's lease",
        taken.duration_since(told),
        SignedDuration::from_secs(2),
    );
    // By the API server's words alone, however busy the machine: without a release the last write would be a renewal from before SIGTERM,
    // and the lease would run for another 15 s from there.
    let released = stage.last_renewal(&user);
    assert!(
        released > told,
        "told to end at {told}, it wrote the lease last at {released}"
    );
    limit::keeps(
        "from the release of the lease to the other's",
        taken.duration_since(released),
        SignedDuration::from_secs(2),
    );
    stage.reconciles("amapa");

    // The last one leaves the lease to whoever comes, at once.
    assert!(two.process.terminate());
    assert_eq!(stage.lease()["spec"]["holderIdentity"], "");
    let three = stage.start("three");
    let taken = stage.wait_for_takeover(&three);
    stage.reconciles("para");
    assert!(stage.wait_for_work(&three) >= taken);
}

fn forbidden(world: &World) {
    let stage = Stage::new(world, "replicas-forbidden");
    let user = stage.user("one");
    let kubectl = world.kubectl();
    // Everything but the lease.
    let rules = format!(
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{ name: one, namespace: {0} }}
rules:
- {{ apiGroups: [mapa.radar.dev, batch, events.k8s.io, ""], resources: ["*"], verbs: ["*"] }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{ name: one, namespace: {0} }}
roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: Role, name: one }}
subjects: [{{ apiGroup: rbac.authorization.k8s.io, kind: User, name: {user} }}]
"#,
        stage.namespace
    );
    kubectl.apply(&rules).unwrap();
    let one = stage.start_as("one");
    wait::until("the reason", PATIENCE, || {
        let log = one.process.log();
        Look::when(
            log.contains("could not read the lease") && log.contains("forbidden"),
            log,
        )
    })
    .unwrap();
    one.wait_for_readiness(
        503,
        &["lease: could not read the lease", "forbidden", r#""leases""#, LEASE],
    );
    assert!(stage.writes_beside_the_lease(&one).is_empty());
    let role = [
        "-n",
        &stage.namespace,
        "create",
        "role",
        "lease",
        "--verb=get,create,update",
        "--resource=leases.coordination.k8s.io",
    ];
    kubectl.run(role).unwrap();
    let binding = [
        "-n",
        &stage.namespace,
        "create",
        "rolebinding",
        "lease",
        "--role=lease",
        "--user",
        &user,
    ];
    kubectl.run(binding).unwrap();
    stage.wait_for_holder(&one, "one");
    one.wait_for_readiness(200, &["ok"]);
    stage.reconciles("acre");
}
