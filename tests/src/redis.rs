//! A Redis of one's own, reachable from pods.

use std::{process::Command, time::Duration};

use crate::{
    Error, Result, packages,
    process::{self, Process, free_port},
    scratch::Scratch,
    wait::{self, Look},
};

/// Password of the server; long, so that a search of logs and reports for it means something.
pub const PASSWORD: &str = "canary-redis-91b2aa04";

/// A running server. It ends when it is dropped.
pub struct Redis {
    process: Option<Process>,
    port: u16,
    folder: Scratch,
}

impl Redis {
    /// Starts a server that asks for [`PASSWORD`] and keeps nothing on disk.
    ///
    /// # Errors
    /// Redis is missing or does not start.
    pub fn start() -> Result<Self> {
        packages::ensure(packages::REDIS)?;
        let folder = Scratch::new("redis")?;
        let mut server = Self {
            process: None,
            port: free_port()?,
            folder,
        };
        server.resume()?;
        Ok(server)
    }

    /// Its port on every address of this machine.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL without credentials, as it stands in a Secret.
    #[must_use]
    pub fn url(&self, host: &str) -> String {
        format!("redis://{host}:{}/0", self.port)
    }

    /// Sends a command and returns the answer, raw.
    ///
    /// # Errors
    /// The server does not answer, or with an error.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string(), "--raw"])
            .env("REDISCLI_AUTH", PASSWORD)
            .args(arguments);
        let answer = process::output("redis-cli", &mut cli)?;
        if answer.starts_with("ERR ") || answer.starts_with("NOAUTH") || answer.starts_with("OOM ") {
            return Err(Error::new("redis-cli", answer));
        }
        Ok(answer.trim_end_matches('\n').to_owned())
    }

    /// Ends the server and all that it holds.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again, empty.
    ///
    /// # Errors
    /// It does not start; with the end of its log.
    pub fn resume(&mut self) -> Result<()> {
        let mut command = Command::new("redis-server");
        command
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "0.0.0.0",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(["--requirepass", PASSWORD, "--protected-mode", "no", "--dir"])
            .arg(self.folder.path());
        let mut process = Process::start("redis", &command, self.folder.path())?;
        wait::until("Redis", Duration::from_secs(30), || {
            if let Err(ended) = process.check() {
                return Look::Never(ended.to_string());
            }
            match self.command(&["PING"]) {
                Ok(answer) => Look::when(answer == "PONG", answer),
                Err(error) => Look::Saw(error.to_string()),
            }
        })?;
        self.process = Some(process);
        Ok(())
    }
}
