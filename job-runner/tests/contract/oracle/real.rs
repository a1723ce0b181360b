//! A real Oracle, where one is given: its user needs what `job-runner schema --kind oracle` prints, CREATE TABLE and CREATE MATERIALIZED VIEW.

use std::{
    env, fs,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use mapa_refresh_job_runner::database::{DatabaseError, oracle::Oracle};
use oracle::Connection;
use tempfile::TempDir;

use super::connect;
use crate::backend::Backend;

const VARIABLES: [&str; 3] = ["ORACLE_TEST_DSN", "ORACLE_TEST_USER", "ORACLE_TEST_PASSWORD"];

pub struct Real {
    connection: Connection,
    view: String,
    table: String,
    secret: TempDir,
}

impl Real {
    /// Whether all that says where it is is set.
    pub fn is_given() -> bool {
        VARIABLES.iter().all(|variable| env::var_os(variable).is_some())
    }

    fn sql(&self, sql: &str) {
        self.connection
            .execute(sql, &[])
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for (kind, name) in [("MATERIALIZED VIEW", &self.view), ("TABLE", &self.table)] {
            let _ = self.connection.execute(&format!("DROP {kind} {name}"), &[]);
        }
    }
}

impl Backend for Real {
    type Session = Oracle;

    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let [dsn, user, password] = VARIABLES.map(|variable| env::var(variable).unwrap());
        let connection = Connection::connect(&user, &password, &dsn).unwrap();
        let number = format!("{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let secret = tempfile::tempdir().unwrap();
        for (key, value) in [("url", &dsn), ("username", &user), ("password", &password)] {
            fs::write(secret.path().join(key), value).unwrap();
        }
        let backend = Self {
            connection,
            view: format!("MV_CONTRACT_{number}"),
            table: format!("CONTRACT_{number}"),
            secret,
        };
        backend.sql(&format!(
            "CREATE TABLE {} (id NUMBER, numero_ocorrencia VARCHAR2(50), codigo_ibge VARCHAR2(7), bairro VARCHAR2(200), latitude NUMBER, longitude NUMBER, \
             data_inicio DATE, tipo VARCHAR2(20), status_codigo VARCHAR2(10), ucs_afetadas NUMBER, equipes_designadas NUMBER, causa VARCHAR2(500 CHAR), \
             previsao_restabelecimento DATE)",
            backend.table
        ));
        backend.sql(&format!(
            "CREATE MATERIALIZED VIEW {} BUILD DEFERRED REFRESH COMPLETE ON DEMAND AS SELECT * FROM {}",
            backend.view, backend.table
        ));
        backend
    }

    fn view(&self) -> String {
        self.view.clone()
    }

    async fn connect_to(&self, view: &str, columns: &str) -> Result<Oracle, DatabaseError> {
        connect(self.secret.path(), view, columns).await
    }

    fn source(&self, outages: &[(i64, Option<&str>)]) {
        self.sql(&format!("DELETE FROM {}", self.table));
        let insert = format!("INSERT INTO {} (id, causa) VALUES (:1, :2)", self.table);
        for (id, cause) in outages {
            self.connection.execute(&insert, &[id, cause]).unwrap();
        }
        self.connection.commit().unwrap();
    }

    fn refresh_takes(&self, time: Duration) {
        // Oracle refreshes as fast as it can; enough rows make it slow.
        if time > Duration::ZERO {
            let insert = format!(
                "INSERT INTO {} (id) SELECT 1000000 + level FROM dual CONNECT BY level <= 2000000",
                self.table
            );
            self.sql(&insert);
        } else {
            self.sql(&format!("DELETE FROM {} WHERE id > 1000000", self.table));
        }
        self.connection.commit().unwrap();
    }

    fn refresh_from_outside(&self) {
        let refresh = format!(
            "BEGIN DBMS_MVIEW.REFRESH('{}', 'C', atomic_refresh => TRUE); END;",
            self.view
        );
        self.sql(&refresh);
    }

    fn age_stamp(&self, _: i64) -> bool {
        // Oracle keeps it; nobody sets it.
        false
    }

    fn is_refreshing(&self) -> bool {
        let running = "SELECT COUNT(*) FROM v$session WHERE username = USER AND status = 'ACTIVE' AND sid <> SYS_CONTEXT('USERENV', 'SID')";
        self.connection.query_row_as::<u32>(running, &[]).unwrap() > 0
    }

    fn let_stamps_differ(&self) {
        thread::sleep(Duration::from_millis(1_100));
    }
}
