//! Child processes that end with the value that started them, and with this process whatever happens to it.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
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
    interrupt,
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
        let _ = interrupt::shielded(|| {
            wait::until("a process to end", deadline, || match child.try_wait() {
                Ok(None) => Look::Saw("it runs".to_owned()),
                Ok(Some(_)) | Err(_) => Look::Met(()),
            })
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
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--pdeathsig", "KILL", "--"]);
    wrapped_in(setpriv, command)
}

/// `command` as the last arguments of `wrapper`, with its environment and folder.
fn wrapped_in(mut wrapper: Command, command: &Command) -> Command {
    wrapper.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(key, value),
            None => wrapper.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapper.current_dir(folder);
    }
    wrapper
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

/// Runs `command` to its end, or to ours, and returns what it printed.
///
/// # Errors
/// It cannot be started, or fails; with what it printed. It was ended, because [somebody asked for the end](interrupt).
pub fn output(step: &str, command: &mut Command) -> Result<String> {
    interrupt::check(step)?;
    let mut command = dying_with_us(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = spawn(command).step(step)?;
    let ending = interrupt::Ending::of(child.id());
    let output = child.wait_with_output().step(step)?;
    drop(ending);
    if !output.status.success() {
        interrupt::check(step)?;
    }
    printed(step, &output)
}

/// Runs `command` to its end whatever becomes of us, and returns what it printed: for what must not be broken off, as an installation.
///
/// # Errors
/// It cannot be started, or fails; with what it printed.
pub fn output_to_the_end(step: &str, command: &mut Command) -> Result<String> {
    interrupt::check(step)?;
    // In a group of its own: Ctrl-C in a terminal reaches the whole group.
    let output = command.stdin(Stdio::null()).process_group(0).output().step(step)?;
    printed(step, &output)
}

/// `command` in a process namespace of its own: with it all ends that it has started. `isolation` are further arguments of unshare. It has a
/// low priority, because a cluster may start beside it. Needs root.
#[must_use]
pub fn contained(command: &Command, isolation: &[&str]) -> Command {
    let mut nice = Command::new("nice");
    nice.args([
        "-n",
        "10",
        "unshare",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
    ])
    .args(isolation)
    .arg("--");
    wrapped_in(nice, command)
}

fn printed(step: &str, output: &Output) -> Result<String> {
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
