//! Caches that limit requests, values or commands: the message says which limit, and repeats nothing of a document.

use mapa_refresh_crds::report::{FaultClass, SuccessKind};
use redis::Commands;

use crate::{
    servers::Redis,
    world::{CACHE_PASSWORD, World},
};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";

/// A view of so many outages of about 800 bytes each on the map, whose every text is a canary: no output may hold it.
fn refreshed(outages: u32) -> World {
    let world = World::new();
    world.sql(&format!(
        "INSERT INTO radar.interrupcao (id, codigo_ibge, bairro, latitude, longitude, tipo, status_codigo, ucs_afetadas, equipes_designadas, data_inicio, causa) \
         SELECT n, '1400100', repeat('c4n4ry ', 28), 2.82, -60.67, 'NAO_PROGRAMADA', 'E', 10, 1, localtimestamp - interval '5 h', repeat('c4n4ry ', 30) FROM generate_series(1, {outages}) n"
    ));
    world.succeed(VIEW);
    world
}

fn configure(world: &World, setting: &str, value: &str) {
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg(setting).arg(value).exec(&mut world.cache()).unwrap();
}

#[test]
fn documents_reach_a_cache_that_takes_only_requests_of_less_than_a_mebibyte() {
    let world = refreshed(5_000);
    // Redis ends the connection of a client whose request is larger.
    configure(&world, "client-query-buffer-limit", "1mb");
    assert_eq!(world.succeed(MAP).kind, SuccessKind::Published);
    let length: usize = world.cache().strlen("mapa:interrupcoes").unwrap();
    assert!(length > 3 << 20, "larger than any request by far: {length}");
}

#[test]
fn f33_a_document_above_the_caches_limit_of_a_value_is_a_permanent_failure_that_names_the_limit() {
    let world = refreshed(100);
    configure(&world, "proto-max-bulk-len", "1mb");
    world.succeed(MAP);
    let before = world.document("mapa:interrupcoes");
    world.sql("INSERT INTO radar.interrupcao SELECT i.linha + 100 * n, i.id + 100 * n, i.numero_ocorrencia, i.codigo_ibge, i.bairro, i.latitude, i.longitude, i.data_inicio, i.tipo, i.status_codigo, i.ucs_afetadas, i.equipes_designadas, i.causa FROM radar.interrupcao i, generate_series(1, 29) n");
    world.succeed(VIEW);
    let run = world.runner(MAP).env("MAPA_MAX_RETRIES", "3").run();
    let error = run.failure(2);
    assert_eq!(
        (error.class, error.code.as_str(), run.report.attempts.len()),
        (FaultClass::Permanent, "ERR", 1),
        "{error:?}"
    );
    assert!(error.message.contains("raise proto-max-bulk-len"), "{error:?}");
    assert_eq!(world.document("mapa:interrupcoes"), before);
    let staged: Vec<String> = world.cache().keys("*:staging:*").unwrap();
    assert_eq!(staged, Vec::<String>::new());
    configure(&world, "proto-max-bulk-len", "512mb");
    assert_eq!(world.succeed(MAP).records, 3_000);
}

#[test]
fn f33_what_a_cache_repeats_of_a_document_is_in_no_message() {
    let world = refreshed(2_000);
    for command in ["SET", "APPEND", "EVAL", "RENAME"] {
        let crippled = Redis::start(&["--requirepass", CACHE_PASSWORD, "--rename-command", command, ""]);
        let url = format!("redis://127.0.0.1:{}", crippled.port());
        world.secret("cache", &[("url", &url), ("password", CACHE_PASSWORD)]);
        // A run that says "c4n4ry" fails the test by itself.
        let error = world.runner(MAP).run().failure(2);
        assert_eq!(
            (error.class, error.code.as_str()),
            (FaultClass::Permanent, "ERR"),
            "{error:?}"
        );
        assert!(error.message.contains("the cache lacks a command"), "{error:?}");
        assert!(!error.message.contains("publishedAt"), "{error:?}");
    }
}
