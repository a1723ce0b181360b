//! What a test works with: a database with a view, a cache, the Secrets of both, and the runner as a process.

use std::{
    fs,
    ops::Deref,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::Utc;
use mapa_refresh_crds::{
    RunReport,
    report::{RunError, RunResult, Success},
};
use redis::Commands;
use serde_json::Value;
use tempfile::TempDir;

use crate::servers::{Postgres, Redis, wait_until};

/// Passwords that no output may hold.
pub const DATABASE_PASSWORD: &str = "c4n4ry-database-5f0c";
pub const CACHE_PASSWORD: &str = "c4n4ry-cache-91d2";

/// The view's table, the view, and what `schema` asks for.
const VIEW: &str = "
CREATE SCHEMA radar;
CREATE TABLE radar.interrupcao (
    linha serial, id numeric, numero_ocorrencia varchar(50), codigo_ibge varchar(7), bairro varchar(200), latitude numeric,
    longitude float8, data_inicio timestamp, tipo varchar(20), status_codigo char(10), ucs_afetadas numeric,
    equipes_designadas numeric, causa varchar(500), previsao_restabelecimento timestamp);
CREATE MATERIALIZED VIEW radar.mv_portal_publico AS SELECT *, now() AS ultima_atualizacao FROM radar.interrupcao WITH NO DATA;
CREATE UNIQUE INDEX mv_portal_publico_unico ON radar.mv_portal_publico (linha);
GRANT SELECT ON ALL TABLES IN SCHEMA radar TO mapa_refresh;
";

/// A cache, the Secrets of both stores, and the runner; the database is somebody else's.
pub struct Site {
    pub redis: Redis,
    folder: TempDir,
}

/// A site whose database is PostgreSQL.
pub struct World {
    pub postgres: Arc<Postgres>,
    pub database: String,
    site: Site,
}

impl Deref for World {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Site {
    /// An empty cache, and its Secret.
    pub fn new() -> Self {
        let site = Self {
            redis: Redis::start(&["--requirepass", CACHE_PASSWORD]),
            folder: tempfile::tempdir().unwrap(),
        };
        let url = format!("redis://127.0.0.1:{}", site.redis.port());
        site.secret("cache", &[("url", &url), ("password", CACHE_PASSWORD)]);
        site
    }

    /// Writes the Secret of a store; keys that are not named are gone.
    pub fn secret(&self, store: &str, keys: &[(&str, &str)]) {
        let dir = self.folder.path().join(store);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        keys.iter()
            .for_each(|(key, value)| fs::write(dir.join(key), value).unwrap());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn runner(&self, task: &str) -> Runner {
        let mut command = Command::new(env!("CARGO_BIN_EXE_job-runner"));
        command.env_clear().args(["run", task]);
        for (flag, dir) in [("--database-secret-dir", "database"), ("--cache-secret-dir", "cache")] {
            command.arg(flag).arg(self.path(dir));
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let termination = self
            .folder
            .path()
            .join(format!("termination-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        for (variable, value) in [
            ("MAPA_POLICY_NAMESPACE", "radar"),
            ("MAPA_POLICY_NAME", "roraima"),
            ("MAPA_POLICY_UID", "policy-uid"),
            ("MAPA_TARGET", "0123456789abcdef"),
            ("MAPA_POD_UID", "pod-uid"),
            ("MAPA_DATABASE_KIND", "postgresql"),
            ("MAPA_MAX_RETRIES", "0"),
        ] {
            command.env(variable, value);
        }
        Runner { command, termination }
    }

    /// Runs a task that should succeed.
    pub fn succeed(&self, task: &str) -> Success {
        self.runner(task).run().success()
    }

    pub fn cache(&self) -> redis::Connection {
        let mut connection = self.redis.connect();
        redis::cmd("AUTH").arg(CACHE_PASSWORD).exec(&mut connection).unwrap();
        connection
    }

    /// Makes the cache's user that the README defines.
    pub fn make_the_readmes_cache_user(&self, cache: &mut redis::Connection) {
        let readme = include_str!("../../../README.md");
        let line = readme
            .lines()
            .find(|line| line.starts_with("ACL SETUSER mapa-refresh "))
            .unwrap();
        let words = line
            .split_whitespace()
            .skip(1)
            .map(|word| word.replace("PASSWORD", CACHE_PASSWORD));
        redis::cmd("ACL").arg(words.collect::<Vec<_>>()).exec(cache).unwrap();
    }

    /// Makes that user, and has the Secret log in as that one.
    pub fn use_the_readmes_cache_user(&self, cache_url: &str) {
        self.make_the_readmes_cache_user(&mut self.cache());
        let keys = [
            ("url", cache_url),
            ("username", "mapa-refresh"),
            ("password", CACHE_PASSWORD),
        ];
        self.secret("cache", &keys);
    }

    /// Makes the document `key`, its sibling and meta look built from the view's content of `generation`.
    pub fn set_generation(&self, key: &str, generation: i64) {
        let mut cache = self.cache();
        for key in [
            key.to_owned(),
            format!("{{{key}}}:geojson"),
            format!("{{{key}}}:last_good"),
        ] {
            let Some(text) = cache.get::<_, Option<String>>(&key).unwrap() else {
                continue;
            };
            let (before, rest) = text.split_once("\"generation\":").unwrap();
            let (_, after) = rest.split_once(',').unwrap();
            let text = format!("{before}\"generation\":{generation},{after}");
            let mut set = redis::cmd("SET");
            set.arg(key).arg(text).arg("KEEPTTL").exec(&mut cache).unwrap();
        }
        let meta = format!("{{{key}}}:meta");
        cache.hset::<_, _, _, ()>(meta, "generation", generation).unwrap();
    }

    pub fn document(&self, key: &str) -> Option<Value> {
        let text: Option<String> = self.cache().get(key).unwrap();
        text.map(|text| serde_json::from_str(&text).unwrap())
    }
}

impl World {
    /// Ends the cache as a crash does, and starts it again with what it saved to disk.
    pub fn restart_cache(&mut self, arguments: &[&str]) {
        let password = ["--requirepass", CACHE_PASSWORD];
        self.site.redis.restart(&[&password[..], arguments].concat());
    }

    /// A view that was never refreshed, with everything that the runner needs, and an empty cache.
    pub fn new() -> Self {
        Self::on(Postgres::shared())
    }

    /// The same, on a server of one's own.
    pub fn on(postgres: Arc<Postgres>) -> Self {
        Self::with(postgres, "")
    }

    /// The same, in a database with `options` of CREATE DATABASE.
    pub fn with(postgres: Arc<Postgres>, options: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        // Roles belong to the server: the first test makes it.
        let role = format!("CREATE ROLE mapa_refresh LOGIN PASSWORD '{DATABASE_PASSWORD}'");
        let _ = postgres.try_sql("postgres", &role);
        postgres.sql("postgres", &format!("CREATE DATABASE {database} {options}"));
        postgres.sql(&database, VIEW);
        let world = Self {
            postgres,
            database,
            site: Site::new(),
        };
        world.sql(&world.schema());
        world.use_database(world.postgres.port(), &world.database);
        world
    }

    /// Has the Secret name another database, or another server.
    pub fn use_database(&self, port: u16, database: &str) {
        let url = format!("postgres://127.0.0.1:{port}/{database}");
        self.secret(
            "database",
            &[
                ("url", &url),
                ("username", "mapa_refresh"),
                ("password", &format!("{DATABASE_PASSWORD}\n")),
            ],
        );
    }

    /// Makes the view anew, with another query, owned by the runner and with a unique index on `id`.
    pub fn remake_view(&self, query: &str, id: &str) {
        self.sql(&format!(
            "DROP MATERIALIZED VIEW IF EXISTS radar.mv_portal_publico; CREATE MATERIALIZED VIEW radar.mv_portal_publico AS {query} WITH NO DATA; \
             CREATE UNIQUE INDEX ON radar.mv_portal_publico ({id}); ALTER MATERIALIZED VIEW radar.mv_portal_publico OWNER TO mapa_refresh"
        ));
    }

    /// What `job-runner schema` prints, but for the unique index: the tests' ids repeat.
    pub fn schema(&self) -> String {
        let printed = Command::new(env!("CARGO_BIN_EXE_job-runner"))
            .args(["schema", "--kind", "postgresql"])
            .output()
            .unwrap();
        let ddl = String::from_utf8(printed.stdout).unwrap();
        ddl.lines()
            .filter(|line| !line.starts_with("CREATE UNIQUE INDEX"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    pub fn sql(&self, sql: &str) -> String {
        self.postgres.sql(&self.database, sql)
    }

    /// Adds an outage that began so many minutes ago, local time; columns after that as SQL.
    pub fn outage(&self, id: i64, minutes_ago: i64, others: &str) {
        let start = "localtimestamp - interval '4 h'";
        self.sql(&format!(
            "INSERT INTO radar.interrupcao (id, numero_ocorrencia, codigo_ibge, bairro, latitude, longitude, tipo, status_codigo, \
             ucs_afetadas, equipes_designadas, data_inicio) VALUES ({id}, 'OC-{id}', '1400100', 'Centro', 2.82, -60.67, \
             'NAO_PROGRAMADA', 'E', 10, 1, {start} - interval '{minutes_ago} min'); \
             UPDATE radar.interrupcao SET id = id {others} WHERE id = {id}"
        ));
    }

    /// Whether a session of the runner is at, or was last at, a statement like `pattern`.
    pub fn is_at(&self, pattern: &str) -> bool {
        self.sql(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'mapa_refresh' AND datname = current_database() AND query LIKE '{pattern}'"
        )) != "0"
    }

    /// Waits until the runner has looked at the stamp.
    pub fn wait_for_look_at_stamp(&self) {
        wait_until("the runner looks at the stamp", || self.is_at("%clock_timestamp%"));
    }

    /// The last stamp in the database, in microseconds.
    pub fn stamp(&self) -> i64 {
        self.sql("SELECT (extract(epoch from max(refreshed_at)) * 1000000)::bigint FROM radar.mapa_refresh_stamp")
            .parse()
            .unwrap()
    }
}

/// The minute of the slot that lies `ago` minutes back, as a Job's name says it.
pub fn slot(ago: i64) -> String {
    (Utc::now().timestamp() / 60 - ago).to_string()
}

pub struct Runner {
    command: Command,
    termination: PathBuf,
}

impl Runner {
    pub fn env(mut self, variable: &str, value: &str) -> Self {
        self.command.env(variable, value);
        self
    }

    /// A Job of the slot that many minutes ago.
    pub fn job(self, task: &str, ago: i64) -> Self {
        self.env("MAPA_JOB_NAME", &format!("roraima-{task}-{}", slot(ago)))
    }

    /// Another place for the termination message.
    pub fn termination(mut self, path: &Path) -> Self {
        self.command.arg("--termination-message-path").arg(path);
        self
    }

    /// What the process leaves, unjudged.
    pub fn output(mut self) -> Output {
        self.command.output().unwrap()
    }

    pub fn run(self) -> Run {
        self.start().finish()
    }

    pub fn start(mut self) -> Running {
        let _ = fs::remove_file(&self.termination);
        self.command.arg("--termination-message-path").arg(&self.termination);
        // Before the process: on a busy machine it runs while this one waits for its turn.
        let began = Instant::now();
        let child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running {
            child,
            began,
            termination: self.termination,
        }
    }
}

pub struct Running {
    child: Child,
    began: Instant,
    termination: PathBuf,
}

impl Running {
    /// Sends SIGTERM, once the process listens for it.
    pub fn terminate(&self) {
        const SIGTERM: u64 = 1 << 14;
        let status = format!("/proc/{}/status", self.child.id());
        wait_until("the runner listens for SIGTERM", || {
            let status = fs::read_to_string(&status).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(caught.trim(), 16).unwrap() & SIGTERM != 0
        });
        assert!(
            Command::new("kill")
                .args(["-TERM", &self.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Sends SIGKILL; whether that ended it, and not its own end before.
    pub fn kill(mut self) -> bool {
        self.child.kill().unwrap();
        self.child.wait().unwrap().signal() == Some(9)
    }

    pub fn finish(self) -> Run {
        let output = self.child.wait_with_output().unwrap();
        Run::new(output, self.began.elapsed(), &self.termination)
    }
}

/// A run that has ended. No password was in what it said.
#[derive(Debug)]
pub struct Run {
    pub status: ExitStatus,
    pub stderr: String,
    pub took: Duration,
    pub report: RunReport,
}

impl Run {
    fn new(output: Output, took: Duration, termination: &Path) -> Self {
        let (stdout, stderr) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        for canary in [DATABASE_PASSWORD, CACHE_PASSWORD, "c4n4ry"] {
            assert!(
                !stdout.contains(canary) && !stderr.contains(canary),
                "a password was said: {stdout}{stderr}"
            );
        }
        let line = stdout
            .strip_suffix('\n')
            .unwrap_or_else(|| panic!("no report: {stderr}"));
        assert!(!line.contains('\n'), "one line: {line}");
        assert_eq!(
            fs::read_to_string(termination).unwrap(),
            line,
            "the termination message is the line on stdout"
        );
        let report = RunReport::decode(line).unwrap();
        assert_eq!(
            (
                report.policy_uid.as_str(),
                report.target.as_str(),
                report.pod_uid.as_str()
            ),
            ("policy-uid", "0123456789abcdef", "pod-uid")
        );
        Self {
            status: output.status,
            stderr,
            took,
            report,
        }
    }

    pub fn code(&self) -> i32 {
        self.status.code().unwrap()
    }

    pub fn success(self) -> Success {
        assert_eq!(self.code(), 0, "{self:?}");
        match self.report.result {
            RunResult::Succeeded(success) => success,
            RunResult::Failed(error) => panic!("{error:?}"),
        }
    }

    /// The error of a run that exited with `code`.
    pub fn failure(&self, code: i32) -> RunError {
        assert_eq!(self.code(), code, "{self:?}");
        match &self.report.result {
            RunResult::Failed(error) => error.clone(),
            RunResult::Succeeded(success) => panic!("{success:?}"),
        }
    }
}

/// Microseconds since 1970 of a success' `dataAsOf`.
pub fn generation(success: &Success) -> i64 {
    success.data_as_of.0.as_microsecond()
}
