//! The operator as a process of this machine.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Result, cargo, process::Process};

/// How to start an operator.
#[derive(Clone, Debug)]
pub struct Operator {
    binary: PathBuf,
    kubeconfig: Option<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// Many run side by side: each is given a port that is free, unless a test says otherwise.
    listen: String,
    log: PathBuf,
    name: String,
}

impl Operator {
    /// The operator `binary`, for the cluster of `kubeconfig` (absent: as kubectl finds it), which runs tasks with `runner_image` and logs
    /// into `folder`. It is the only one, and waits for no lease.
    #[must_use]
    pub fn new(binary: PathBuf, kubeconfig: Option<&Path>, runner_image: &str, folder: &Path) -> Self {
        Self {
            binary,
            kubeconfig: kubeconfig.map(Path::to_owned),
            arguments: vec![
                "run".to_owned(),
                "--runner-image".to_owned(),
                runner_image.to_owned(),
                "--leader-elect=false".to_owned(),
            ],
            environment: Vec::new(),
            listen: "127.0.0.1:0".to_owned(),
            log: folder.to_owned(),
            name: "operator".to_owned(),
        }
    }

    /// The operator `binary` as the chart runs it: everything is in the file `config`.
    #[must_use]
    pub fn configured(binary: PathBuf, kubeconfig: &Path, config: &Path, folder: &Path) -> Self {
        Self {
            binary,
            kubeconfig: Some(kubeconfig.to_owned()),
            arguments: vec!["run".to_owned(), "--config".to_owned(), config.display().to_string()],
            environment: Vec::new(),
            listen: "127.0.0.1:0".to_owned(),
            log: folder.to_owned(),
            name: "operator".to_owned(),
        }
    }

    /// The same, built by cargo first.
    ///
    /// # Errors
    /// It does not compile.
    pub fn build(kubeconfig: Option<&Path>, runner_image: &str, folder: &Path) -> Result<Self> {
        let binary = cargo::binary("mapa-refresh-operator", "mapa-refresh-operator")?;
        Ok(Self::new(binary, kubeconfig, runner_image, folder))
    }

    /// The same with one more argument.
    #[must_use]
    pub fn with_argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The same with one more environment variable.
    #[must_use]
    pub fn with_environment(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// The same as one of several, of which the holder of the lease `lease` in `namespace` works.
    #[must_use]
    pub fn electing(mut self, lease: &str, namespace: &str) -> Self {
        self.arguments
            .retain(|argument| !argument.starts_with("--leader-elect"));
        self.with_argument(&format!("--lease-name={lease}"))
            .with_argument(&format!("--lease-namespace={namespace}"))
    }

    /// The same, serving metrics and probes at `place`.
    #[must_use]
    pub fn listening_on(mut self, place: &str) -> Self {
        place.clone_into(&mut self.listen);
        self
    }

    /// The same with a log of its own, `operator-<name>.log`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = format!("operator-{name}");
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&self) -> Result<Process> {
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).args(["--listen", &self.listen]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        Process::start(&self.name, &command, &self.log)
    }
}
