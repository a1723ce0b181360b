//! What `job-runner schema` prints is all that a role needs.

use std::process::Command;

use mapa_refresh_crds::report::SuccessKind;

use crate::world::World;

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";

#[test]
fn a_database_where_public_has_nothing_needs_no_more_than_what_is_printed() {
    let world = World::new();
    let database = format!("{}_hardened", world.database);
    let sql = |sql: &str| world.postgres.sql(&database, sql);
    world.postgres.sql("postgres", &format!("CREATE DATABASE {database}"));
    sql(&format!(
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC; \
         ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC; \
         REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC; \
         CREATE SCHEMA radar; CREATE SCHEMA cadastro; CREATE DOMAIN cadastro.nome AS text; \
         CREATE TABLE cadastro.ocorrencia (id int, numero_ocorrencia text, codigo_ibge text, bairro cadastro.nome, latitude numeric, longitude numeric, \
             data_inicio timestamp, tipo text, status_codigo text, ucs_afetadas int, equipes_designadas int, causa text, previsao_restabelecimento timestamp); \
         INSERT INTO cadastro.ocorrencia (id, data_inicio, ucs_afetadas) VALUES (1, localtimestamp - interval '5 h', 3); \
         CREATE FUNCTION cadastro.limpa(t cadastro.nome) RETURNS cadastro.nome LANGUAGE plpgsql AS 'BEGIN RETURN upper(t); END'; \
         CREATE MATERIALIZED VIEW radar.mv_portal_publico AS SELECT *, cadastro.limpa(bairro) AS limpo FROM cadastro.ocorrencia WITH NO DATA"
    ));
    world.use_database(world.postgres.port(), &database);
    let refused = world.runner(VIEW).run().failure(2);
    assert!(
        refused.code == "42501" && refused.message.contains("job-runner schema"),
        "{refused:?}"
    );

    let printed = Command::new(env!("CARGO_BIN_EXE_job-runner"))
        .args(["schema", "--kind", "postgresql"])
        .output()
        .unwrap();
    let ddl = String::from_utf8(printed.stdout).unwrap();
    sql(&ddl);
    for _ in 0..2 {
        // The first refresh is a plain one, the second CONCURRENTLY.
        let done = world.runner(VIEW).run().success();
        assert_eq!((done.kind, done.records), (SuccessKind::Refreshed, 1));
    }
    world.succeed(MAP);
    world.succeed("calcular-estatisticas");
    world.succeed("health-check");
    let without_index: Vec<_> = ddl.lines().filter(|line| !line.starts_with("CREATE UNIQUE")).collect();
    sql(&without_index.join("\n"));

    sql("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM mapa_refresh");
    let refused = world.runner(VIEW).run().failure(2);
    let (_, remedy) = refused.message.split_once("has to run: ").unwrap();
    sql(remedy);
    world.succeed(VIEW);
}
