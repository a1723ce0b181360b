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
        self.0.get_or_init(|| {
            let cluster = Cluster::start();
            let crd = std::fs::read_to_string(images::repository().join("crds/maparefreshpolicies.yaml")).unwrap();
            cluster.kubectl().apply(&crd).unwrap();
            cluster.wait_for_crd();
            cluster
        })
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
        let established = [
            "wait",
            "--for=condition=Established",
            "crd/maparefreshpolicies.mapa.radar.dev",
            "--timeout=30s",
        ];
        self.kubectl().run(established).unwrap();
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
