//! A control plane that is started by the first test that needs one; rendering needs none.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use mapa_refresh_tests::{
    cargo,
    control_plane::ControlPlane,
    helm::{Helm, chart},
    images,
    kubectl::Kubectl,
    operator::Operator,
    process::Process,
    wait::{self, Look},
};

/// A test: a name that says the promise, and what proves it.
pub type Test = (&'static str, fn(&World));

/// What the tests share.
#[derive(Clone, Default)]
pub struct World(Arc<OnceLock<Cluster>>);

impl World {
    /// The cluster of the tests that need the CustomResourceDefinition and do not care who installed it.
    pub fn cluster(&self) -> &Cluster {
        self.0.get_or_init(Cluster::with_crd)
    }
}

/// A control plane.
pub struct Cluster {
    pub plane: ControlPlane,
    pub helm: Helm,
    pub operator: PathBuf,
}

impl Cluster {
    pub fn start() -> Self {
        let operator = cargo::binary("mapa-refresh-operator", "mapa-refresh-operator").unwrap();
        let plane = ControlPlane::start().unwrap();
        Self {
            helm: Helm::new(Some(plane.kubeconfig())).unwrap(),
            plane,
            operator,
        }
    }

    /// One that has the CustomResourceDefinition as it is committed.
    pub fn with_crd() -> Self {
        let cluster = Self::start();
        let crd = std::fs::read_to_string(images::repository().join("crds/maparefreshpolicies.yaml")).unwrap();
        cluster.kubectl().apply(&crd).unwrap();
        cluster.wait_for_crd();
        cluster
    }

    pub fn kubectl(&self) -> Kubectl {
        self.plane.kubectl()
    }

    /// `helm <verb> <release> <chart> -n <namespace> …`.
    pub fn release(&self, verb: &str, namespace: &str, further: &[&str]) -> mapa_refresh_tests::Result<String> {
        let chart = chart().display().to_string();
        let fixed = [verb, "mapa-refresh-operator", &chart, "--namespace", namespace];
        self.helm.run(fixed.iter().chain(further))
    }

    pub fn wait_for_crd(&self) {
        self.kubectl()
            .established("maparefreshpolicies.mapa.radar.dev")
            .unwrap();
    }

    /// The operator as a process that has the configuration and the token of what is installed in `namespace`, and `arguments`.
    pub fn start_operator(&self, namespace: &str, arguments: &[&str]) -> Process {
        let folder = self.plane.folder().join(namespace);
        std::fs::create_dir_all(&folder).unwrap();
        let config = folder.join("config.yaml");
        let path = r"jsonpath={.data.config\.yaml}";
        let text = self.ask(&["-n", namespace, "get", "configmap", "mapa-refresh-operator", "-o", path]);
        std::fs::write(&config, text).unwrap();
        let kubeconfig = self.kubeconfig_of(namespace, "mapa-refresh-operator");
        let operator = Operator::configured(self.operator.clone(), &kubeconfig, &config, &folder);
        let with = |operator: Operator, argument: &&str| operator.with_argument(argument);
        arguments.iter().fold(operator, with).start().unwrap()
    }

    /// A kubeconfig with a token of the service account `account` and its namespace as the context's.
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let token = self.ask(&["-n", namespace, "create", "token", account]);
        let path = self.plane.folder().join(format!("kubeconfig-{namespace}-{account}"));
        let ca = self.plane.pki().path("ca.crt");
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{ "name": "x", "cluster": { "server": self.plane.server(), "certificate-authority": ca } }],
            "users": [{ "name": "x", "user": { "token": token } }],
            "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x", "namespace": namespace } }],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }

    /// Reason of a policy's condition Ready, or what kubectl says instead.
    pub fn ready_reason(&self, namespace: &str, name: &str) -> String {
        let reason = r#"jsonpath={.status.conditions[?(@.type=="Ready")].reason}"#;
        self.ask(&["-n", namespace, "get", "mapa-refresh", name, "-o", reason])
    }

    /// What kubectl says, or why not.
    pub fn ask(&self, arguments: &[&str]) -> String {
        self.kubectl()
            .run(arguments)
            .unwrap_or_else(|error| error.to_string())
            .trim()
            .to_owned()
    }

    pub fn wait_until(&self, what: &str, seconds: u64, mut answer: impl FnMut() -> String, wanted: &str) {
        wait::until(what, Duration::from_secs(seconds), || {
            let answer = answer();
            if answer == wanted {
                Look::Met(())
            } else {
                Look::Saw(answer)
            }
        })
        .unwrap();
    }
}

/// `tests/suites/chart/<folder>/<name>.yaml`.
pub fn fixture(folder: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("suites/chart")
        .join(folder)
        .join(format!("{name}.yaml"))
}
