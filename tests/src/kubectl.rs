//! The harness's own kubectl; the machine's may be old.

use std::{
    ffi::OsStr,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    Error, Result,
    error::Step,
    process::{self, Process},
    wait::{self, Look},
};

/// kubectl for one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    binary: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// kubectl for the cluster of `kubeconfig`.
    #[must_use]
    pub fn new(binary: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { binary, kubeconfig }
    }

    /// The program.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Errors
    /// It fails; with what it printed.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        process::output("kubectl", self.command().args(arguments))
    }

    /// `kubectl apply -f -` of `manifest`.
    ///
    /// # Errors
    /// The API server refuses it; with its words.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], manifest)
    }

    /// Runs kubectl with `input` on its standard input.
    ///
    /// # Errors
    /// It fails; with what it printed.
    pub fn with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .step("start kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).step("write to kubectl")?;
        }
        let output = child.wait_with_output().step("wait for kubectl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(Error::new("kubectl", errors.trim_end()))
        }
    }

    /// Starts kubectl as a process of its own, with its output in `folder/<name>.log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
        folder: &Path,
    ) -> Result<Process> {
        Process::start(name, self.command().args(arguments), folder)
    }

    /// A namespace, with its default ServiceAccount: before it exists no pod can be created.
    ///
    /// # Errors
    /// The cluster does not make it within 30 s.
    pub fn namespace(&self, name: &str) -> Result<()> {
        // In block style: an older kubectl takes what begins with a brace for JSON.
        self.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: \"{name}\"\n"
        ))?;
        wait::until("the default ServiceAccount", Duration::from_secs(30), || {
            match self.run(["-n", name, "get", "serviceaccount", "default"]) {
                Ok(_) => Look::Met(()),
                Err(error) => Look::Saw(error.to_string()),
            }
        })
    }

    /// Waits until the definition `crd` is served. `kubectl wait` ends with an error while a definition has no conditions at all.
    ///
    /// # Errors
    /// It is not within 30 s.
    pub fn established(&self, crd: &str) -> Result<()> {
        const STATUS: &str = "jsonpath={.status.conditions[?(@.type==\"Established\")].status}";
        wait::until(
            "the definition to be established",
            Duration::from_secs(30),
            || match self.run(["get", "crd", crd, "-o", STATUS]) {
                Ok(status) if status == "True" => Look::Met(()),
                Ok(status) => Look::Saw(status),
                Err(error) => Look::Saw(error.to_string()),
            },
        )
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }
}
