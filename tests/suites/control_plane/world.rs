//! One control plane for all tests, a namespace and an operator for each.

use std::{
    fmt,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_operator::run::AGENT;
use mapa_refresh_tests::{
    cargo,
    control_plane::ControlPlane,
    images,
    kubectl::Kubectl,
    operator::Operator,
    policy::Example,
    process::Process,
    vitals,
    wait::{self, Look},
};
use serde_json::Value;

use crate::permissions::Calls;

/// A test: a name that says the promise, and what proves it.
pub type Test = (&'static str, fn(&World));

/// Lines of a spec: no run beside the schedule.
pub const ON_SCHEDULE_ALONE: &str = "  rescue: false\n";

/// The control plane with the CRD.
#[derive(Clone)]
pub struct World {
    plane: Arc<Recorded>,
    operator: PathBuf,
    calls: Calls,
}

/// A control plane, whose operators' calls are kept beyond its end.
struct Recorded {
    plane: ControlPlane,
    calls: Calls,
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let log = std::fs::read(self.plane.audit_log()).unwrap_or_default();
        self.calls.record(&log);
    }
}

impl World {
    pub fn start() -> Self {
        Self::with_crd(
            &crd(),
            cargo::binary("mapa-refresh-operator", "mapa-refresh-operator").unwrap(),
            Calls::default(),
        )
    }

    /// A world of its own, with the same operator and another CRD.
    pub fn beside(&self, crd: &str) -> Self {
        Self::with_crd(crd, self.operator.clone(), self.calls.clone())
    }

    /// What the operators asked for of every control plane that has ended.
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }

    fn with_crd(crd: &str, operator: PathBuf, calls: Calls) -> Self {
        let plane = ControlPlane::start().unwrap();
        plane.kubectl().apply(crd).unwrap();
        plane
            .kubectl()
            .established("maparefreshpolicies.mapa.radar.dev")
            .unwrap();
        // Discovery follows a moment later.
        wait::until("kubectl to know the resource", Duration::from_secs(30), || match plane
            .kubectl()
            .run(["explain", "mapa-refresh"])
        {
            Ok(_) => Look::Met(()),
            Err(error) => Look::Saw(error.to_string()),
        })
        .unwrap();
        Self {
            plane: Arc::new(Recorded {
                plane,
                calls: calls.clone(),
            }),
            operator,
            calls,
        }
    }

    pub fn kubectl(&self) -> Kubectl {
        self.plane().kubectl()
    }

    pub fn plane(&self) -> &ControlPlane {
        &self.plane.plane
    }

    /// Ends the controller-manager of a world of one's own: no slot fires, and no Job gets a pod.
    pub fn stop_controller_manager(&self) {
        self.plane().stop_controller_manager();
    }

    /// Starts it again.
    pub fn start_controller_manager(&self) {
        self.plane().start_controller_manager().unwrap();
    }

    /// Kills the API server of a world of one's own: every watch is cut, and nothing is answered.
    pub fn stop_api_server(&self) {
        self.plane().stop_api_server();
    }

    /// Starts it again, and waits until it is ready.
    pub fn start_api_server(&self) {
        self.plane().start_api_server().unwrap();
    }

    /// An operator that is `user` for the API server, not started yet.
    pub fn operator_of(&self, user: &str) -> Operator {
        let pki = self.plane().pki();
        pki.issue(user, user, "operators", &[]).unwrap();
        let kubeconfig = pki.kubeconfig(user, &self.plane().server()).unwrap();
        Operator::new(
            self.operator.clone(),
            Some(&kubeconfig),
            "runner:1",
            self.plane().folder(),
        )
        .named(user)
    }

    /// Everything that the audit log has.
    pub fn audit_events(&self) -> Vec<Value> {
        self.plane().audit_events().unwrap()
    }

    /// A namespace of the test's own with an operator that watches it alone.
    pub fn tenant(&self, namespace: &str) -> Tenant {
        self.tenant_with(namespace, &[])
    }

    /// The same with further arguments for the operator.
    pub fn tenant_with(&self, namespace: &str, arguments: &[String]) -> Tenant {
        self.tenant_where(namespace, |operator| {
            arguments
                .iter()
                .fold(operator, |operator, argument| operator.with_argument(argument))
        })
    }

    /// The same with an operator that `start` changes before its start.
    pub fn tenant_where(&self, namespace: &str, start: impl FnOnce(Operator) -> Operator) -> Tenant {
        self.kubectl().namespace(namespace).unwrap();
        self.tenant_by(namespace, self.plane().kubeconfig(), start)
    }

    /// A namespace with an operator that may do what the namespace's service account `account`, which is made, may do: nothing yet.
    pub fn tenant_as_service_account(
        &self,
        namespace: &str,
        account: &str,
        start: impl FnOnce(Operator) -> Operator,
    ) -> Tenant {
        let kubectl = self.kubectl();
        kubectl.namespace(namespace).unwrap();
        kubectl
            .run(["-n", namespace, "create", "serviceaccount", account])
            .unwrap();
        let token = kubectl.run(["-n", namespace, "create", "token", account]).unwrap();
        let kubeconfig = self.plane().folder().join(format!("kubeconfig-{namespace}"));
        let ca = self.plane().pki().path("ca.crt");
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{ "name": "x", "cluster": { "server": self.plane().server(), "certificate-authority": ca } }],
            "users": [{ "name": "x", "user": { "token": token.trim() } }],
            "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        self.tenant_by(namespace, &kubeconfig, start)
    }

    fn tenant_by(&self, namespace: &str, kubeconfig: &Path, start: impl FnOnce(Operator) -> Operator) -> Tenant {
        let kubectl = self.kubectl();
        let operator = Operator::new(
            self.operator.clone(),
            Some(kubeconfig),
            "runner:1",
            self.plane().folder(),
        )
        .named(namespace)
        .with_argument(&format!("--watch-namespace={namespace}"));
        let operator = start(operator);
        let process = operator.start().unwrap();
        Tenant {
            kubectl,
            namespace: namespace.to_owned(),
            operator,
            process: Some(process),
            audit_log: self.plane().audit_log(),
            folder: self.plane().folder().to_owned(),
        }
    }
}

/// The CRD as it is committed.
pub fn crd() -> String {
    std::fs::read_to_string(images::repository().join("crds/maparefreshpolicies.yaml")).unwrap()
}

/// A namespace with its operator.
pub struct Tenant {
    pub kubectl: Kubectl,
    pub namespace: String,
    operator: Operator,
    process: Option<Process>,
    audit_log: PathBuf,
    folder: PathBuf,
}

impl Tenant {
    pub fn example(&self, name: &str) -> Example {
        Example {
            interval_minutes: 30,
            ..Example::every_minute(&self.namespace, name)
        }
    }

    pub fn apply(&self, name: &str, extra: &str) {
        self.kubectl.apply(&self.example(name).manifest(extra)).unwrap();
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).unwrap()
    }

    pub fn try_run(&self, arguments: &[&str]) -> mapa_refresh_tests::Result<String> {
        self.kubectl
            .run(["-n", &self.namespace].into_iter().chain(arguments.iter().copied()))
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
        self.try_run(&all)
            .ok()
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default()
    }

    pub fn policy(&self, name: &str) -> Value {
        self.json(&["get", "mapa-refresh", name])
    }

    pub fn names(&self, kind: &str) -> Vec<String> {
        self.run(&["get", kind, "-o", "jsonpath={.items[*].metadata.name}"])
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    pub fn wait<T>(&self, what: &str, look: impl FnMut() -> Look<T>) -> T {
        self.wait_within(what, Duration::from_secs(15), look)
    }

    pub fn wait_within<T>(&self, what: &str, deadline: Duration, look: impl FnMut() -> Look<T>) -> T {
        wait::until(what, deadline, look).unwrap_or_else(|error| panic!("{error}\noperator:\n{}", self.log()))
    }

    /// Waits until the condition `type_` has `status` and `reason`; returns its message.
    pub fn wait_for_condition(&self, policy: &str, type_: &str, status: &str, reason: &str) -> String {
        self.wait(&format!("{type_}={status} {reason}"), || {
            let condition = condition(&self.policy(policy), type_);
            if condition["status"] == status && condition["reason"] == reason {
                Look::Met(condition["message"].as_str().unwrap_or_default().to_owned())
            } else {
                Look::Saw(condition.to_string())
            }
        })
    }

    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// What the operator answers on `path`; an error until it serves.
    pub fn ask(&self, path: &str) -> mapa_refresh_tests::Result<(u16, String)> {
        let serves = vitals::address(&self.log());
        let address =
            serves.ok_or_else(|| mapa_refresh_tests::Error::new("find the operator", "it does not serve yet"))?;
        vitals::ask(address, path)
    }

    pub fn kill_operator(&mut self) {
        self.process = None;
    }

    pub fn start_operator(&mut self) {
        self.process = Some(self.operator.start().unwrap());
    }

    pub fn stop_operator(&mut self) -> bool {
        self.process.take().unwrap().terminate()
    }

    /// One more operator, beside the first.
    pub fn another_operator(&self) -> Process {
        self.operator
            .clone()
            .named(&format!("{}-2", self.namespace))
            .start()
            .unwrap()
    }

    /// Kills the operator as soon as it has made `writes` writes since the audit log was `from` bytes long.
    pub fn kill_operator_after(&mut self, from: u64, writes: usize) {
        let deadline = Instant::now() + Duration::from_secs(15);
        // It writes every few milliseconds: looking at it now and then would always be too late.
        while self.requests_since(from).filter(Request::is_write).count() < writes {
            assert!(Instant::now() < deadline, "fewer than {writes} writes");
            std::thread::yield_now();
        }
        self.kill_operator();
    }

    /// A process that writes down every version of the policies here.
    pub fn watch(&self) -> Process {
        let arguments = [
            "-n",
            &self.namespace,
            "get",
            "mapa-refresh",
            "--watch",
            "--output-watch-events",
            "-o",
            "json",
        ];
        self.kubectl
            .start(&format!("watch-{}", self.namespace), arguments, &self.folder)
            .unwrap()
    }

    /// How many bytes the audit log has.
    pub fn audit_position(&self) -> u64 {
        std::fs::metadata(&self.audit_log).unwrap().len()
    }

    /// The operator's requests in this namespace, from the audit log.
    pub fn requests_since(&self, from: u64) -> impl Iterator<Item = Request> {
        let mut file = std::fs::File::open(&self.audit_log).unwrap();
        file.seek(SeekFrom::Start(from)).unwrap();
        let mut log = Vec::new();
        file.read_to_end(&mut log).unwrap();
        let lines: Vec<Value> = log
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        let namespace = self.namespace.clone();
        lines
            .into_iter()
            .filter(move |event| event["objectRef"]["namespace"] == namespace.as_str())
            .filter(is_of_an_operator)
            .map(|event| Request::read(&event))
    }

    /// The operator's requests in this namespace, as "verb resource[/subresource] name code", from the audit log.
    pub fn operator_requests(&self) -> Vec<String> {
        self.requests_since(0).map(|request| request.to_string()).collect()
    }

    pub fn operator_writes(&self) -> Vec<String> {
        self.operator_requests()
            .into_iter()
            .filter(|request| !request.starts_with("list") && !request.starts_with("watch"))
            .collect()
    }
}

/// Whether the audit log's `event` is a request of an operator, whatever account it uses.
pub fn is_of_an_operator(event: &Value) -> bool {
    event["userAgent"] == AGENT
}

/// A request in the words of the audit log.
#[derive(Debug)]
pub struct Request {
    pub verb: String,
    /// With its subresource.
    pub resource: String,
    pub name: String,
    pub code: Value,
    /// When it was answered.
    pub at: Timestamp,
}

impl Request {
    fn read(event: &Value) -> Self {
        let object = &event["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let subresource = object["subresource"]
            .as_str()
            .map(|sub| format!("/{sub}"))
            .unwrap_or_default();
        Self {
            verb: text(&event["verb"]),
            resource: format!("{}{subresource}", text(&object["resource"])),
            name: text(&object["name"]),
            code: event["responseStatus"]["code"].clone(),
            at: text(&event["stageTimestamp"]).parse().unwrap(),
        }
    }

    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.verb, self.resource, self.name, self.code)
    }
}

pub fn condition(policy: &Value, type_: &str) -> Value {
    let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == type_)
        .unwrap_or_default()
}
