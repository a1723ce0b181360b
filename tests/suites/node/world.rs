//! One cluster with a node for all tests; a namespace, an operator and stores for each.

use std::{path::PathBuf, sync::Arc, time::Duration};

use mapa_refresh_tests::{
    cargo,
    control_plane::ControlPlane,
    helm::Helm,
    images,
    kubectl::Kubectl,
    node::Node,
    operator::Operator,
    policy::Example,
    postgres::Postgres,
    process::Process,
    redis::Redis,
    seed,
    wait::{self, Look},
};
use serde_json::Value;

/// A test: a name that says the promise, and what proves it.
pub type Test = (&'static str, fn(&World));

/// The cluster with the CRD and the runner's image.
#[derive(Clone)]
pub struct World(Arc<Cluster>);

struct Cluster {
    // The order of the fields is the order of the end.
    node: Node,
    plane: ControlPlane,
    operator: PathBuf,
}

impl World {
    pub fn start() -> Self {
        // Before any test: a build beside them would take the processor from runs that are timed.
        let image_archives = [
            images::job_runner().unwrap(),
            images::job_runner_oracle().unwrap(),
            images::operator().unwrap(),
        ];
        let operator = cargo::binary("mapa-refresh-operator", "mapa-refresh-operator").unwrap();
        let plane = ControlPlane::start().unwrap();
        let node = Node::start(&plane).unwrap();
        for archive in &image_archives {
            node.import(archive).unwrap();
        }
        let crd = std::fs::read_to_string(images::repository().join("crds/maparefreshpolicies.yaml")).unwrap();
        plane.kubectl().apply(&crd).unwrap();
        plane
            .kubectl()
            .established("maparefreshpolicies.mapa.radar.dev")
            .unwrap();
        Self(Arc::new(Cluster { node, plane, operator }))
    }

    /// A namespace of the test's own, with Pod Security `restricted` enforced and an operator that watches it alone.
    pub fn tenant(&self, namespace: &str, image: &str) -> Tenant {
        let plane = &self.0.plane;
        let kubectl = plane.kubectl();
        kubectl.namespace(namespace).unwrap();
        kubectl
            .run([
                "label",
                "namespace",
                namespace,
                "pod-security.kubernetes.io/enforce=restricted",
            ])
            .unwrap();
        let operator = Operator::new(self.0.operator.clone(), Some(plane.kubeconfig()), image, plane.folder())
            .named(namespace)
            .with_argument(&format!("--runner-image-oracle={}", images::JOB_RUNNER_ORACLE))
            .with_argument(&format!("--watch-namespace={namespace}"));
        let process = operator.start().unwrap();
        let example = Example::every_minute(namespace, "roraima");
        Tenant {
            kubectl,
            example,
            operator,
            process: Some(process),
            host: self.0.node.host_address(),
        }
    }

    pub fn kubectl(&self) -> Kubectl {
        self.0.plane.kubectl()
    }

    /// Everything that the audit log has.
    pub fn audit_events(&self) -> Vec<Value> {
        self.0.plane.audit_events().unwrap()
    }

    /// Ends the controller-manager: no slot fires, and no Job gets a pod, of any tenant.
    pub fn stop_controller_manager(&self) {
        self.0.plane.stop_controller_manager();
    }

    /// Starts it again.
    pub fn start_controller_manager(&self) {
        self.0.plane.start_controller_manager().unwrap();
    }

    pub fn helm(&self) -> Helm {
        Helm::new(Some(self.0.plane.kubeconfig())).unwrap()
    }

    /// Where pods reach servers of the host.
    pub fn host(&self) -> &'static str {
        self.0.node.host_address()
    }

    /// A database with the seed.
    pub fn database(&self) -> Postgres {
        let database = Postgres::start().unwrap();
        seed::load(&database).unwrap();
        database
    }

    pub fn cache(&self) -> Redis {
        Redis::start().unwrap()
    }
}

/// A namespace with its operator.
pub struct Tenant {
    kubectl: Kubectl,
    pub example: Example,
    operator: Operator,
    process: Option<Process>,
    host: &'static str,
}

impl Tenant {
    pub fn apply(&self, manifest: &str) {
        self.kubectl.apply(manifest).unwrap();
    }

    pub fn apply_secrets(&self, database: &Postgres, cache: &Redis) {
        self.apply(&self.example.secrets(&database.url(self.host), &cache.url(self.host)));
    }

    /// Where pods reach servers of the host.
    pub fn host(&self) -> &'static str {
        self.host
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        self.kubectl
            .run(
                ["-n", &self.example.namespace]
                    .into_iter()
                    .chain(arguments.iter().copied()),
            )
            .unwrap()
    }

    pub fn policy(&self) -> Value {
        serde_json::from_str(&self.run(&["get", "mapa-refresh", "roraima", "-o", "json"])).unwrap()
    }

    /// Waits until `look` at the policy is met; says what the policy and the operator said last otherwise.
    pub fn wait<T>(&self, what: &str, seconds: u64, mut look: impl FnMut(&Value) -> Option<T>) -> T {
        wait::until(what, Duration::from_secs(seconds), || {
            let policy = self.policy();
            look(&policy).map_or_else(|| Look::Saw(policy["status"].to_string()), Look::Met)
        })
        .unwrap_or_else(|error| {
            panic!(
                "{error}\npods:\n{}\noperator:\n{}",
                self.run(&["get", "jobs,pods"]),
                self.log()
            )
        })
    }

    pub fn wait_for_condition(&self, type_: &str, status: &str, reason: &str, seconds: u64) -> Value {
        self.wait(&format!("{type_}={status} {reason}"), seconds, |policy| {
            let condition = condition(policy, type_);
            (condition["status"] == status && condition["reason"] == reason).then(|| condition.clone())
        })
    }

    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    pub fn kill_operator(&mut self) {
        self.process = None;
    }

    pub fn start_operator(&mut self) {
        self.process = Some(self.operator.start().unwrap());
    }
}

pub fn condition<'a>(policy: &'a Value, type_: &str) -> &'a Value {
    let conditions = policy["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    conditions
        .iter()
        .find(|condition| condition["type"] == type_)
        .unwrap_or(&Value::Null)
}

pub fn task<'a>(policy: &'a Value, name: &str) -> &'a Value {
    let tasks = policy["status"]["tasks"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    tasks.iter().find(|task| task["name"] == name).unwrap_or(&Value::Null)
}
