//! A PostgreSQL and a Redis on free ports, ended with the last test that uses them.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, Once, Weak},
    thread,
    time::{Duration, Instant},
};

use mapa_refresh_tests::packages;
use tempfile::TempDir;

const BINARIES: &str = "/usr/lib/postgresql/15/bin";

/// Installs what is missing, once for all tests of the process.
fn ensure_packages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| packages::ensure(&[packages::POSTGRES, packages::REDIS].concat()).unwrap());
}

/// Waits until `condition` holds; fails with `what` after 30 s.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let ends = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < ends, "in 30 s not seen: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends `signal` to the process group `pid`.
pub fn signal_group(signal: &str, pid: u32) {
    let _ = Command::new("kill")
        .args([&format!("-{signal}"), "--", &format!("-{pid}")])
        .stderr(Stdio::null())
        .status();
}

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub struct Postgres {
    server: Child,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// The server that tests share: each has its own database in it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// A server of one's own, to stop and to stall.
    pub fn start() -> Self {
        ensure_packages();
        let folder = folder_of_postgres();
        let data = folder.path().join("data");
        let mut initdb = as_owner(&format!("{BINARIES}/initdb"));
        initdb.args([
            "-U",
            "postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]);
        let made = initdb.arg("--no-sync").arg("-D").arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self::on(folder)
    }

    /// The server of the data in `folder`.
    fn on(folder: TempDir) -> Self {
        let port = free_port();
        let server = Self {
            server: spawn(folder.path(), port),
            port,
            folder,
        };
        wait_until("PostgreSQL answers", || server.try_sql("postgres", "SELECT 1").is_ok());
        server
    }

    /// A physical standby of this server, which follows it until it is promoted.
    pub fn standby(&self) -> Self {
        let folder = folder_of_postgres();
        let mut copy = as_owner(&format!("{BINARIES}/pg_basebackup"));
        copy.args([
            "-U",
            "postgres",
            "-X",
            "stream",
            "-R",
            "--checkpoint=fast",
            "--no-sync",
            "-h",
        ])
        .arg(self.folder.path())
        .args(["-p", &self.port.to_string(), "-D"])
        .arg(folder.path().join("data"));
        let made = copy.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self::on(folder)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs `sql` as superuser; what psql prints, unaligned.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap()
    }

    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = self.psql(database).arg("-c").arg(sql).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// psql as superuser, for a session that stays open.
    pub fn psql(&self, database: &str) -> Command {
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
        ]);
        psql.args(["-p", &self.port.to_string(), "-h"]).arg(self.folder.path());
        psql
    }

    /// Replaces who may log in, and how, over TCP; the superuser's socket stays open.
    pub fn set_hba(&self, lines: &str) {
        let file = self.folder.path().join("data/pg_hba.conf");
        fs::write(file, format!("local all all trust\n{lines}\n")).unwrap();
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Stops every process of the server, as a machine that hangs does; or lets them go on.
    pub fn stall(&self, stalled: bool) {
        signal_group(if stalled { "STOP" } else { "CONT" }, self.server.id());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stall(false);
        signal_group("QUIT", self.server.id());
        let _ = self.server.wait();
    }
}

/// A pooler before a PostgreSQL.
pub struct PgBouncer {
    server: Child,
    port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    /// Serves `database` of the server at `port` to the user with `password`.
    pub fn start(database: &str, port: u16, user: &str, password: &str) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| packages::ensure(packages::PGBOUNCER).unwrap());
        let folder = tempfile::Builder::new().prefix("runner-pgbouncer-").tempdir().unwrap();
        let (config, users) = (folder.path().join("pgbouncer.ini"), folder.path().join("users.txt"));
        let listen = free_port();
        let text = format!(
            "[databases]\n{database} = host=127.0.0.1 port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listen}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = session\n",
            users.display()
        );
        fs::write(&config, text).unwrap();
        fs::write(&users, format!("\"{user}\" \"{password}\"\n")).unwrap();
        if is_root() {
            // PgBouncer refuses root, too.
            Command::new("chown")
                .arg("-R")
                .arg("postgres")
                .arg(folder.path())
                .status()
                .unwrap();
        }
        let server = as_owner("/usr/sbin/pgbouncer")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let pooler = Self {
            server,
            port: listen,
            _folder: folder,
        };
        wait_until("PgBouncer listens", || {
            TcpStream::connect(("127.0.0.1", listen)).is_ok()
        });
        pooler
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A host that takes connections and never answers, as one behind a firewall that drops packets looks to a login.
pub struct Silent(TcpListener);

impl Silent {
    pub fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

pub struct Redis {
    server: Child,
    port: u16,
    folder: TempDir,
}

impl Redis {
    pub fn start(arguments: &[&str]) -> Self {
        ensure_packages();
        // Between the choice of a port and its use somebody else may take it.
        (0..5).find_map(|_| Self::try_start(arguments)).expect("Redis starts")
    }

    fn try_start(arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("runner-redis-").tempdir().unwrap();
        let port = free_port();
        let server = spawn_redis(
            &["--port", &port.to_string(), "--save", "", "--appendonly", "no"],
            folder.path(),
            arguments,
        );
        let mut redis = Self { server, port, folder };
        redis.has_started().then_some(redis)
    }

    /// Whether it listens; otherwise it has ended.
    fn has_started(&mut self) -> bool {
        let mut ended = false;
        wait_until("Redis answers or ends", || {
            ended = self.server.try_wait().unwrap().is_some();
            ended || TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        !ended
    }

    /// Ends the server as a crash does, and starts it again at its port, with what it saved to disk.
    pub fn restart(&mut self, arguments: &[&str]) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        let port = self.port.to_string();
        self.server = spawn_redis(&["--port", &port, "--save", ""], self.folder.path(), arguments);
        assert!(self.has_started());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A Sentinel that watches `primary` under `name`; `settings` are more lines of its configuration.
    pub fn sentinel(name: &str, primary: u16, password: &str, settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("runner-sentinel-").tempdir().unwrap();
        let port = free_port();
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "protected-mode no\nsentinel monitor {name} 127.0.0.1 {primary} 1\nsentinel auth-pass {name} {password}\n\
             sentinel down-after-milliseconds {name} 300\nsentinel failover-timeout {name} 2000\n{settings}\n",
        );
        fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        let server = spawn_redis(
            &[&config, "--sentinel", "--port", &port.to_string()],
            folder.path(),
            &[],
        );
        let mut sentinel = Self { server, port, folder };
        assert!(sentinel.has_started());
        sentinel
    }

    pub fn connect(&self) -> redis::Connection {
        self.try_connect().unwrap()
    }

    pub fn try_connect(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(("127.0.0.1", self.port))?.get_connection()
    }

    pub fn stall(&self, stalled: bool) {
        signal_group(if stalled { "STOP" } else { "CONT" }, self.server.id());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn spawn_redis(first: &[&str], folder: &Path, others: &[&str]) -> Child {
    Command::new("redis-server")
        .args(first)
        .args(["--bind", "127.0.0.1", "--dir"])
        .arg(folder)
        .args(others)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// A folder that PostgreSQL may write, which refuses root.
fn folder_of_postgres() -> TempDir {
    let folder = tempfile::Builder::new().prefix("runner-pg-").tempdir().unwrap();
    if is_root() {
        let given = Command::new("chown").arg("postgres").arg(folder.path()).status();
        assert!(given.unwrap().success());
    }
    folder
}

fn spawn(folder: &Path, port: u16) -> Child {
    let mut postgres = as_owner(&format!("{BINARIES}/postgres"));
    postgres.arg("-D").arg(folder.join("data")).args([
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        &format!("port={port}"),
    ]);
    postgres
        .arg("-c")
        .arg(format!("unix_socket_directories={}", folder.display()));
    postgres.args([
        "-c",
        "fsync=off",
        "-c",
        "shared_buffers=16MB",
        "-c",
        "max_connections=60",
        "-c",
        "timezone=UTC",
        "-c",
        "wal_level=logical",
    ]);
    let log = fs::File::create(folder.join("log")).unwrap();
    postgres
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

fn as_owner(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--", program]);
    command
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}
