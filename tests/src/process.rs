//! Child processes that end with the value that started them, and with this process whatever happens to it.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Error, Result,
    error::Step,
    wait::{self, Look},
};

/// A running server with its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, with its output in `folder/<name>.log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(name: &str, command: &Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .step_at("open", &log)?;
        let errors = output.try_clone().step_at("open", &log)?;
        let mut command = dying_with_us(command);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = spawn(command).step(format!("start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(id), signal);
        }
    }

    /// Fails if the process has ended, with the end of its log.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::new(format!("{} ended: {status}", self.name), self.last_lines())),
            Err(error) => Err(Error::new(format!("{} cannot be waited for", self.name), error)),
        }
    }

    /// The end of its log.
    #[must_use]
    pub fn last_lines(&self) -> String {
        tail(&self.log)
    }

    /// Its whole log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until it has ended, but not longer than `deadline`.
    pub fn wait(&mut self, deadline: Duration) {
        let child = &mut self.child;
        // Whoever waits kills it afterwards if it has not ended.
        let _ = wait::until("a process to end", deadline, || match child.try_wait() {
            Ok(None) => Look::Saw("it runs".to_owned()),
            Ok(Some(_)) | Err(_) => Look::Met(()),
        });
    }

    /// Asks it to end and waits; returns whether it ended with exit code 0.
    pub fn terminate(mut self) -> bool {
        self.signal(Signal::SIGTERM);
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2_000)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("{}: {error}", log.display()))
}

/// The same command under `setpriv --pdeathsig`: the kernel kills the server when we die, however we die.
fn dying_with_us(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped
        .args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

type Request = (Command, Sender<std::io::Result<Child>>);

/// The signal comes when the *thread* that started the server ends, and tests run in short-lived threads: one thread starts them all.
fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<std::sync::Mutex<Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in requests {
                // Ctrl-C in a terminal reaches the whole group: servers outlive it until they are stopped in order.
                let _ = answer.send(command.process_group(0).spawn());
            }
        });
        std::sync::Mutex::new(sender)
    });
    let (answer, child) = channel();
    let gone = |_| std::io::Error::other("the thread that starts processes is gone");
    spawner
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| std::io::Error::other("the thread that starts processes is gone"))?;
    child.recv().map_err(gone)?
}

/// Runs `command` to its end and returns what it printed.
///
/// # Errors
/// It cannot be started, or fails; with what it printed.
pub fn output(step: &str, command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().step(step)?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(
        format!("{step}: {}", output.status),
        format!("{}\n{}", printed.trim_end(), errors.trim_end()),
    ))
}

/// A TCP port that is free now.
///
/// # Errors
/// None is.
pub fn free_port() -> Result<u16> {
    std::net::TcpListener::bind(("0.0.0.0", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .step("find a free port")
}

/// What the process `id` takes of the machine's memory, in MB: its own pages, and its share of those that others use too (PSS).
///
/// # Errors
/// It has ended, or is another user's.
pub fn proportional_memory(id: u32) -> Result<f64> {
    let step = "read the process's memory";
    let memory = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).step(step)?;
    let kilobytes = memory.lines().find_map(|line| {
        line.strip_prefix("Pss:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<f64>()
            .ok()
    });
    kilobytes
        .map(|kilobytes| kilobytes / 1024.0)
        .ok_or_else(|| Error::new(step, memory))
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
