//! One control plane with policies in two namespaces, and both programs.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use mapa_refresh_tests::{
    cargo,
    control_plane::ControlPlane,
    images,
    kubectl::Kubectl,
    policy::Example,
    wait::{self, Look},
};
use serde_json::{Value, json};

/// A test: a name that says the promise, and what proves it.
pub type Test = (&'static str, fn(&World));

/// The policy of the namespace default.
pub const OF_DEFAULT: &[&str] = &["of-default"];
/// The policy of the namespace radar.
pub const OF_RADAR: &[&str] = &["of-radar"];

pub struct World {
    pub plane: ControlPlane,
    pub plugin: PathBuf,
    pub operator: PathBuf,
    /// Token of a service account that may do everything.
    pub token: String,
    home: PathBuf,
}

impl World {
    pub fn start() -> Self {
        let plugin = cargo::binary("mapa-refresh-operator", "kubectl-mapa").unwrap();
        let operator = cargo::binary("mapa-refresh-operator", "mapa-refresh-operator").unwrap();
        let plane = ControlPlane::start().unwrap();
        let kubectl = plane.kubectl();
        let crd = std::fs::read_to_string(images::repository().join("crds/maparefreshpolicies.yaml")).unwrap();
        kubectl.apply(&crd).unwrap();
        kubectl.namespace("radar").unwrap();
        for namespace in ["default", "radar"] {
            let policy = Example::every_minute(namespace, &format!("of-{namespace}")).manifest("");
            wait::until("the policy to be taken", Duration::from_secs(30), || {
                match kubectl.apply(&policy) {
                    Ok(_) => Look::Met(()),
                    Err(error) => Look::Saw(error.to_string()),
                }
            })
            .unwrap();
        }
        kubectl
            .run(["-n", "radar", "create", "serviceaccount", "reader"])
            .unwrap();
        let binding = ["create", "clusterrolebinding", "reader", "--clusterrole=cluster-admin"];
        kubectl
            .run(binding.into_iter().chain(["--serviceaccount=radar:reader"]))
            .unwrap();
        let token = kubectl
            .run(["-n", "radar", "create", "token", "reader"])
            .unwrap()
            .trim()
            .to_owned();
        let home = plane.folder().join("home");
        std::fs::create_dir_all(&home).unwrap();
        Self {
            plane,
            plugin,
            operator,
            token,
            home,
        }
    }

    pub fn kubectl(&self) -> Kubectl {
        self.plane.kubectl()
    }

    /// A cluster by the API server's own address.
    pub fn cluster(&self) -> Value {
        json!({ "server": self.plane.server(), "certificate-authority": self.pki("ca.crt") })
    }

    /// A cluster by an address of this machine that is no loopback address for a proxy's rules.
    pub fn cluster_beyond_loopback(&self) -> Value {
        json!({
            "server": self.plane.server().replace("127.0.0.1", "0.0.0.0"), "tls-server-name": "127.0.0.1",
            "certificate-authority": self.pki("ca.crt"),
        })
    }

    /// A user with a token.
    pub fn user(&self) -> Value {
        json!({ "token": self.token })
    }

    pub fn pki(&self, file: &str) -> PathBuf {
        self.plane.pki().path(file)
    }

    /// What stands in a file of the certificates.
    pub fn pem(&self, file: &str) -> String {
        std::fs::read_to_string(self.pki(file)).unwrap()
    }

    /// A case with a folder of its own, `name`.
    pub fn case(&self, name: &str) -> Case<'_> {
        let folder = self.plane.folder().join("cases").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Case {
            world: self,
            folder,
            environment: vec![("HOME".into(), self.home.clone().into())],
            arguments: Vec::new(),
        }
    }
}

/// As the `-data` fields of a kubeconfig have it.
pub fn base64(text: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(text)
}

/// A kubeconfig with one context.
pub fn kubeconfig(cluster: &Value, user: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{ "name": "x", "cluster": cluster }], "users": [{ "name": "x", "user": user }],
        "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
    })
}

/// What both programs are started with.
pub struct Case<'a> {
    world: &'a World,
    pub folder: PathBuf,
    environment: Vec<(OsString, OsString)>,
    arguments: Vec<OsString>,
}

impl Case<'_> {
    /// Writes a file of the case.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// With this kubeconfig.
    pub fn with(self, kubeconfig: &Value) -> Self {
        self.with_text(&kubeconfig.to_string())
    }

    pub fn with_text(self, text: &str) -> Self {
        let path = self.file("kubeconfig", text);
        self.set("KUBECONFIG", path)
    }

    pub fn set(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    pub fn unset(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    pub fn flag(mut self, flag: impl AsRef<OsStr>) -> Self {
        self.arguments.push(flag.as_ref().to_owned());
        self
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub fn kubectl(&self) -> Outcome {
        let binary = self.world.kubectl().binary().to_owned();
        let output = self
            .command(&binary, &["get", "maparefreshpolicies", "-o", "name"])
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let names = stdout
            .lines()
            .filter_map(|line| Some(line.rsplit_once('/')?.1.to_owned()));
        Outcome {
            names: output.status.success().then(|| names.collect()),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn plugin(&self) -> Outcome {
        let output = self
            .command(&self.world.plugin, &["status", "-o", "json"])
            .output()
            .unwrap();
        let code = output.status.code().unwrap();
        assert!(code <= 2, "{output:?}");
        let names = || {
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            let policies = answer["policies"].as_array().unwrap();
            policies
                .iter()
                .map(|policy| policy["name"].as_str().unwrap().to_owned())
                .collect()
        };
        Outcome {
            // 1 is an answer, too: none of the policies was ever published.
            names: (code < 2).then(names),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs another subcommand of the plugin; returns exit code and output.
    pub fn plugin_with(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(&self.world.plugin, arguments).output().unwrap();
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// Runs the operator with these arguments; returns exit code and output.
    pub fn operator_with(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(&self.world.operator, arguments).output().unwrap();
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// Both see the policies called `names`.
    #[track_caller]
    pub fn works(&self, names: &[&str]) {
        let expected: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        for (program, outcome) in [("kubectl", self.kubectl()), ("the plugin", self.plugin())] {
            assert_eq!(
                outcome.names.as_ref(),
                Some(&expected),
                "{program} in {}: {}",
                self.folder.display(),
                outcome.said
            );
        }
    }

    /// Both fail, and the plugin's error contains all of `words`.
    #[track_caller]
    pub fn fails(&self, words: &[&str]) {
        let kubectl = self.kubectl();
        assert_eq!(
            kubectl.names,
            None,
            "kubectl in {}: {}",
            self.folder.display(),
            kubectl.said
        );
        self.plugin_fails(words);
    }

    /// The plugin fails, and its error contains all of `words`.
    #[track_caller]
    pub fn plugin_fails(&self, words: &[&str]) {
        let plugin = self.plugin();
        assert_eq!(
            plugin.names,
            None,
            "the plugin in {}: {}",
            self.folder.display(),
            plugin.said
        );
        for word in words {
            assert!(plugin.said.contains(word), "{word:?} in {}", plugin.said);
        }
    }
}

/// What a program made of a case.
#[derive(Debug)]
pub struct Outcome {
    /// The policies that it saw; none if it failed.
    pub names: Option<BTreeSet<String>>,
    pub said: String,
}
