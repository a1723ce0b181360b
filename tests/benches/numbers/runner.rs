//! The job-runner on PostgreSQL and on Oracle's driver, from its start to its exit.

use std::{net::IpAddr, path::Path, sync::Arc};

use mapa_refresh_tests::{
    cargo,
    postgres::{self, Postgres},
    redis::{self, Redis},
    seed,
};
use oci_stub::{portal, server::Server};

use crate::{
    child::{Measured, best, best_time, measured},
    table::Table,
};

/// Rows of the views: 50,000 and 100,000 show that time and memory grow with the rows and no faster.
const VIEWS: [usize; 4] = [341, 10_000, 50_000, 100_000];

/// On PostgreSQL.
pub fn on_postgresql(table: &mut Table) {
    let binary = cargo::binary("mapa-refresh-job-runner", "job-runner").unwrap();
    let database = Postgres::start().unwrap();
    seed::load(&database).unwrap();
    let cache = Redis::start().unwrap();
    let secrets = tempfile::tempdir().unwrap();
    write_secret(
        &secrets.path().join("database"),
        &[
            ("url", &database.url("127.0.0.1")),
            ("username", postgres::RUNNER_ROLE),
            ("password", postgres::RUNNER_PASSWORD),
        ],
    );
    write_secret(
        &secrets.path().join("cache"),
        &[("url", &cache.url("127.0.0.1")), ("password", redis::PASSWORD)],
    );
    let run = |task: &str| run_task(&binary, task, secrets.path(), "postgresql");
    run("refresh-mv-portal");

    let refresh = best(|| run("refresh-mv-portal"));
    let peer = best_time(|| {
        drop(
            database
                .sql("REFRESH MATERIALIZED VIEW CONCURRENTLY radar.mv_portal_publico")
                .unwrap(),
        )
    });
    table.row(
        "refresh-mv-portal, 341 rows, start to exit",
        format!("{:.0} ms", refresh.wall_ms()),
        &format!("psql, the same statement: {:.0} ms", peer.as_secs_f64() * 1e3),
    );

    for rows in VIEWS {
        grow(&database, rows);
        run("refresh-mv-portal");
        let map = best(|| run("refresh-mapa-cache"));
        let peer = best_time(|| {
            drop(
                database
                    .sql("\\copy (SELECT * FROM radar.mv_portal_publico) TO '/dev/null'")
                    .unwrap(),
            )
        });
        table.row(
            &format!("refresh-mapa-cache, {rows} rows, start to exit"),
            format!(
                "{:.0} ms (CPU {:.0} ms), peak {:.0} MB",
                map.wall_ms(),
                map.cpu_ms(),
                map.peak_mb
            ),
            &format!(
                "psql, reading the same rows: {:.0} ms; 100 ms and 64 MB at 10,000, 1 s and 256 MB at 100,000",
                peer.as_secs_f64() * 1e3
            ),
        );
    }
}

/// Through the genuine driver, over the OCI stub, which is not Oracle: what the runner costs beyond the database's own time, which the stub counts.
pub fn on_oracle(table: &mut Table) {
    let binary = cargo::binary("mapa-refresh-job-runner", "job-runner").unwrap();
    let server = Server::start(IpAddr::from([127, 0, 0, 1]), portal::database("radar", "bench")).unwrap();
    let cache = Redis::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("oracle://radar:bench@{}/RADAR", server.address());
    write_secret(&folder.path().join("database"), &[("url", &url)]);
    write_secret(
        &folder.path().join("cache"),
        &[("url", &cache.url("127.0.0.1")), ("password", redis::PASSWORD)],
    );
    std::fs::create_dir(folder.path().join("client")).unwrap();
    oci_stub::install(&folder.path().join("client")).unwrap();
    let run = |task: &str| run_task(&binary, task, folder.path(), "oracle");
    let (owner, name) = portal::VIEW;
    for rows in VIEWS {
        server.world(|world| {
            let start = world.sysdate() - chrono::Duration::minutes(90);
            world.view(owner, name).source = Arc::new((1..).take(rows).map(|id| portal::outage(id, start)).collect());
            // Stamps are whole seconds: let this refresh be a later one.
            world.clock_ahead += chrono::Duration::seconds(2);
        });
        run("refresh-mv-portal");
        let (map, own) = (0..10)
            .map(|_| {
                let before = server.world(|world| world.busy);
                let map = run("refresh-mapa-cache");
                (map, server.world(|world| world.busy) - before)
            })
            .min_by_key(|(map, own)| map.wall.saturating_sub(*own))
            .unwrap();
        table.row(
            &format!("refresh-mapa-cache, {rows} rows, Oracle's driver over the OCI stub, start to exit"),
            format!(
                "{:.0} ms, of which the stub {:.0} ms (CPU {:.0} ms), peak {:.0} MB",
                map.wall_ms(),
                own.as_secs_f64() * 1e3,
                map.cpu_ms(),
                map.peak_mb
            ),
            "beyond the database: 100 ms and 64 MB at 10,000, 1 s and 256 MB at 100,000",
        );
    }
}

fn write_secret(folder: &Path, keys: &[(&str, &str)]) {
    std::fs::create_dir_all(folder).unwrap();
    for (key, value) in keys {
        std::fs::write(folder.join(key), value).unwrap();
    }
}

fn grow(database: &Postgres, rows: usize) {
    database
        .sql(&format!(
            "INSERT INTO radar.ocorrencia (id, numero_ocorrencia, codigo_ibge, bairro, latitude, longitude, data_inicio, tipo, status_codigo,
                                           ucs_afetadas, equipes_designadas, causa)
             SELECT 900000 + i, 'B' || i, '1400100', 'Centro', 2.8, -60.6, radar.agora() - make_interval(mins => (i % 4000)::int), 'NAO_PROGRAMADA', 'E',
                    i % 500, 1, 'Queda de árvore sobre a rede'
               FROM generate_series(1, greatest(0, {rows} - (SELECT count(*) FROM radar.ocorrencia))) AS i"
        ))
        .unwrap();
}

fn run_task(binary: &Path, task: &str, secrets: &Path, kind: &str) -> Measured {
    let settings = [
        ("POLICY_NAMESPACE", "radar"),
        ("POLICY_NAME", "bench"),
        ("POLICY_UID", "0"),
        ("TARGET", "0"),
        ("POD_UID", "0"),
        ("JOB_NAME", "by-hand"),
        ("DATABASE_KIND", kind),
        ("DATABASE_VIEW", "RADAR.MV_PORTAL_PUBLICO"),
        ("CACHE_KEY_PREFIX", "bench"),
        ("TIME_ZONE", "America/Boa_Vista"),
        ("AREA", "RR"),
        ("INTERVAL_MINUTES", "10"),
        ("MAX_DATA_AGE_MINUTES", "30"),
        ("MAX_RETRIES", "0"),
        ("RETRY_DELAY_SECONDS", "0"),
        ("ATTEMPT_TIMEOUT_SECONDS", "60"),
        ("RUN_BUDGET_SECONDS", "570"),
    ];
    measured(
        |command| {
            command
                .arg(binary)
                .args(["run", task])
                .arg("--database-secret-dir")
                .arg(secrets.join("database"))
                .arg("--cache-secret-dir")
                .arg(secrets.join("cache"))
                // Where the OCI stub is, if this is about Oracle.
                .env("LD_LIBRARY_PATH", secrets.join("client"))
                .envs(settings.map(|(name, value)| (format!("MAPA_{name}"), value)));
        },
        &[0],
    )
}
