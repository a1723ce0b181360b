//! PostgreSQL, with a real materialized view.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use mapa_refresh_crds::policy::DatabaseKind;
use mapa_refresh_job_runner::database::{
    DatabaseError,
    name::{ColumnNames, Identifier},
    postgres::{Postgres as Session, Target},
    schema,
};
use tempfile::TempDir;

use crate::{
    backend::{Backend, names},
    servers::Postgres,
};

pub struct PostgreSql {
    server: Arc<Postgres>,
    database: String,
    secret: TempDir,
}

impl PostgreSql {
    fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.database, sql)
    }
}

impl Backend for PostgreSql {
    type Session = Session;

    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = Postgres::shared();
        let database = format!("contract{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let _ = server.try_sql("postgres", "CREATE ROLE mapa_refresh LOGIN PASSWORD 'contract'");
        server.sql("postgres", &format!("CREATE DATABASE {database}"));
        let secret = tempfile::tempdir().unwrap();
        fs::write(
            secret.path().join("url"),
            format!(
                "postgres://mapa_refresh:contract@127.0.0.1:{}/{database}",
                server.port()
            ),
        )
        .unwrap();
        let backend = Self {
            server,
            database,
            secret,
        };
        backend.sql(
            "CREATE SCHEMA radar; CREATE TABLE radar.knob (seconds float8); INSERT INTO radar.knob VALUES (0);
             CREATE TABLE radar.interrupcao (id numeric, numero_ocorrencia text, codigo_ibge text, bairro text, latitude numeric, longitude numeric,
                 data_inicio timestamp, tipo text, status_codigo text, ucs_afetadas numeric, equipes_designadas numeric, causa text,
                 previsao_restabelecimento timestamp);
             CREATE MATERIALIZED VIEW radar.mv_portal_publico AS SELECT *, (SELECT pg_sleep(seconds)::text FROM radar.knob) AS waited FROM radar.interrupcao WITH NO DATA;
             GRANT SELECT ON ALL TABLES IN SCHEMA radar TO mapa_refresh;",
        );
        let (view, columns) = names(&backend.view(), "");
        let ddl = schema::ddl(
            DatabaseKind::Postgresql,
            &view,
            &columns,
            &Identifier::parse("mapa_refresh").unwrap(),
        );
        backend.sql(&ddl);
        backend
    }

    async fn connect_to(&self, view: &str, columns: &str) -> Result<Session, DatabaseError> {
        let (view, columns): (_, ColumnNames) = names(view, columns);
        Target::from_secret(self.secret.path(), None)
            .unwrap()
            .connect(&view, &columns, Duration::from_secs(60))
            .await
    }

    fn source(&self, outages: &[(i64, Option<&str>)]) {
        let values: Vec<String> = outages
            .iter()
            .map(|(id, cause)| {
                format!(
                    "({id}, {})",
                    cause.map_or("NULL".to_owned(), |cause| format!("'{}'", cause.replace('\'', "''")))
                )
            })
            .collect();
        self.sql(&format!(
            "TRUNCATE radar.interrupcao; INSERT INTO radar.interrupcao (id, causa) VALUES {}",
            values.join(", ")
        ));
    }

    fn refresh_takes(&self, time: Duration) {
        self.sql(&format!("UPDATE radar.knob SET seconds = {}", time.as_secs_f64()));
    }

    fn refresh_from_outside(&self) {
        self.sql(
            "BEGIN; UPDATE radar.mapa_refresh_stamp SET refreshed_at = transaction_timestamp(); REFRESH MATERIALIZED VIEW CONCURRENTLY radar.mv_portal_publico; COMMIT",
        );
    }

    fn age_stamp(&self, seconds: i64) -> bool {
        self.sql(&format!(
            "UPDATE radar.mapa_refresh_stamp SET refreshed_at = refreshed_at - interval '{seconds} s'"
        ));
        true
    }

    fn is_refreshing(&self) -> bool {
        self.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'mapa_refresh' AND state = 'active' AND query LIKE 'REFRESH%'") != "0"
    }

    fn let_stamps_differ(&self) {
        // Stamps are microseconds.
    }
}
