//! A PostgreSQL of one's own, reachable from pods.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use nix::sys::signal::Signal;

use crate::{
    Result,
    error::Step,
    packages,
    process::{self, Process, free_port},
    progress,
    scratch::Scratch,
    wait::{self, Look},
};

const BINARIES: &str = "/usr/lib/postgresql/15/bin";
/// Database of the seed.
pub const DATABASE: &str = "radar";
/// Role that the job-runner uses.
pub const RUNNER_ROLE: &str = "mapa_runner";
/// Its password; long, so that a search of logs and reports for it means something.
pub const RUNNER_PASSWORD: &str = "canary-db-7f3c51e0";

/// A running server. It ends when it is dropped.
pub struct Postgres {
    process: Option<Process>,
    port: u16,
    folder: Scratch,
}

impl Postgres {
    /// Starts a server with an empty database [`DATABASE`].
    ///
    /// # Errors
    /// PostgreSQL is missing or does not start; with the end of its log.
    pub fn start() -> Result<Self> {
        packages::ensure(packages::POSTGRES)?;
        progress::during("starting PostgreSQL", || {
            let folder = Scratch::new("pg")?;
            let mut server = Self {
                process: None,
                port: free_port()?,
                folder,
            };
            server.initialise()?;
            server.resume()?;
            server.sql_in("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
            Ok(server)
        })
    }

    /// Its port on every address of this machine.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL without credentials, as it stands in a Secret.
    #[must_use]
    pub fn url(&self, host: &str) -> String {
        format!("postgres://{host}:{}/{DATABASE}", self.port)
    }

    /// Runs `sql` as the superuser and returns what psql prints, unaligned.
    ///
    /// # Errors
    /// The server refuses it; with its words.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.sql_in(DATABASE, sql)
    }

    /// Ends the server as a crash does.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Immediate shutdown: SIGKILL would leave its children behind.
            process.signal(Signal::SIGQUIT);
            process.wait(Duration::from_secs(5));
        }
    }

    /// Starts it again.
    ///
    /// # Errors
    /// It does not start; with the end of its log.
    pub fn resume(&mut self) -> Result<()> {
        let mut command = self.as_owner(&format!("{BINARIES}/postgres"));
        command
            .arg("-D")
            .arg(self.data())
            .args(["-c", "listen_addresses=*", "-c", &format!("port={}", self.port)])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", self.folder.path().display()))
            .args(["-c", "fsync=off", "-c", "timezone=UTC", "-c", "shared_buffers=32MB"]);
        let mut process = Process::start("postgres", &command, self.folder.path())?;
        wait::until("PostgreSQL", Duration::from_secs(60), || {
            if let Err(ended) = process.check() {
                return Look::Never(ended.to_string());
            }
            match self.sql_in("postgres", "SELECT 1") {
                Ok(_) => Look::Met(()),
                Err(error) => Look::Saw(error.to_string()),
            }
        })?;
        self.process = Some(process);
        Ok(())
    }

    fn initialise(&self) -> Result<()> {
        if process::is_root() {
            // PostgreSQL refuses root; Debian's package brings this user.
            process::output(
                "give the folder to postgres",
                Command::new("chown").arg("postgres").arg(self.folder.path()),
            )?;
        }
        let password = self.folder.path().join("password");
        fs::write(&password, "superuser-7f3c51e0").step_at("write", &password)?;
        let mut initdb = self.as_owner(&format!("{BINARIES}/initdb"));
        initdb
            .arg("-D")
            .arg(self.data())
            .args([
                "-U",
                "postgres",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--locale=C.UTF-8",
                "--encoding=UTF8",
                "--no-sync",
            ])
            .arg(format!("--pwfile={}", password.display()));
        process::output("make the database's files", &mut initdb)?;
        let access = self.data().join("pg_hba.conf");
        let rules = "local all all trust\nhost all all 0.0.0.0/0 scram-sha-256\n";
        fs::write(&access, rules).step_at("write", &access)
    }

    fn sql_in(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = Command::new(format!("{BINARIES}/psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
        ])
        .args(["-p", &self.port.to_string(), "-h"])
        .arg(self.folder.path());
        let file = tempfile::NamedTempFile::new_in(self.folder.path()).step("create a file")?;
        fs::write(file.path(), sql).step_at("write", file.path())?;
        psql.arg("-f").arg(file.path());
        process::output("psql", &mut psql)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn as_owner(&self, program: &str) -> Command {
        if !process::is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        // The kernel forgets the death signal when the user changes, so it is asked for again after that.
        command.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--",
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
            program,
        ]);
        command.env("HOME", self.folder.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}
