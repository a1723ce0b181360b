//! health-check: it tells the truth.

use mapa_refresh_crds::report::{RunError, SuccessKind};
use redis::Commands;

use crate::world::{Run, World, generation};

const TASK: &str = "health-check";

fn published() -> World {
    let world = World::new();
    world.outage(1, 90, "");
    for task in ["refresh-mv-portal", "refresh-mapa-cache", "calcular-estatisticas"] {
        world.succeed(task);
    }
    world
}

/// The finding of a health-check, made in one attempt although it has retries.
fn finding(world: &World) -> (RunError, Run) {
    let run = world.runner(TASK).env("MAPA_MAX_RETRIES", "3").run();
    assert_eq!(run.report.attempts.len(), 1, "looking again finds it older");
    (run.failure(1), run)
}

#[test]
fn lesson_12_what_is_fresh_is_healthy() {
    let world = published();
    let run = world.runner(TASK).run();
    let found = run.report.published.clone().unwrap();
    assert_eq!(found.map.unwrap().0.as_microsecond(), world.stamp());
    assert_eq!(found.statistics.unwrap().0.as_microsecond(), world.stamp());
    let healthy = run.success();
    assert_eq!(
        (healthy.kind, healthy.records, generation(&healthy)),
        (SuccessKind::Healthy, 1, world.stamp())
    );
}

#[test]
fn lesson_12_an_old_view_is_not_healthy() {
    let world = published();
    world.sql("UPDATE radar.mapa_refresh_stamp SET refreshed_at = now() - interval '31 min'");
    let (error, run) = finding(&world);
    assert_eq!(error.code, "ViewTooOld");
    assert!(
        error.message.contains("31 min") && error.message.contains("maxDataAgeMinutes (30)"),
        "{error:?}"
    );
    assert!(run.report.published.is_some(), "said all the same");
}

#[test]
fn lesson_12_old_or_missing_documents_are_not_healthy() {
    let world = published();
    let mut cache = world.cache();
    let old = world.stamp() - 31 * 60_000_000;
    world.set_generation("mapa:estatisticas", old);
    let (error, run) = finding(&world);
    assert_eq!(error.code, "PublishedDataTooOld");
    assert!(error.message.contains("mapa:estatisticas is 31 min old"), "{error:?}");
    assert_eq!(
        run.report.published.unwrap().statistics.unwrap().0.as_microsecond(),
        old
    );

    cache.del::<_, ()>("mapa:interrupcoes").unwrap();
    let (error, run) = finding(&world);
    assert_eq!(error.code, "PublishedDataMissing");
    assert!(error.message.contains("mapa:interrupcoes"), "{error:?}");
    assert_eq!(run.report.published.unwrap().map, None);
}

#[test]
fn a_document_that_no_task_of_the_policy_publishes_is_not_missed() {
    let world = published();
    world.cache().del::<_, ()>("mapa:estatisticas").unwrap();
    let tasks = "refresh-mv-portal,refresh-mapa-cache,health-check";
    world.runner(TASK).env("MAPA_POLICY_TASKS", tasks).run().success();
    let error = world.runner(TASK).env("MAPA_POLICY_TASKS", "backup").run().failure(2);
    assert!(
        error.message.contains("MAPA_POLICY_TASKS") && error.message.contains("backup"),
        "{error:?}"
    );
}

#[test]
fn lesson_12_nothing_published_yet_is_not_healthy() {
    let world = World::new();
    let (error, run) = finding(&world);
    assert_eq!(error.code, "ViewTooOld", "{error:?}");
    assert_eq!(
        run.report.published,
        Some(mapa_refresh_crds::report::Published {
            map: None,
            statistics: None
        })
    );
}

#[test]
fn lesson_12_a_store_that_does_not_answer_is_not_healthy() {
    let world = published();
    let dead = format!("redis://127.0.0.1:{}", crate::servers::free_port());
    world.secret("cache", &[("url", &dead)]);
    let run = world.runner(TASK).run();
    assert_eq!(run.failure(1).code, "CacheUnreachable");
    assert_eq!(run.report.published, None, "the cache could not be read");

    let world = published();
    let dead = format!("postgres://127.0.0.1:{}/x", crate::servers::free_port());
    world.secret("database", &[("url", &dead), ("username", "u"), ("password", "p")]);
    let run = world.runner(TASK).run();
    assert_eq!(run.failure(1).code, "08001");
    assert!(
        run.report.published.is_some(),
        "what is published is said also when the database is down"
    );
}

#[test]
fn another_policys_documents_are_not_ours() {
    let world = published();
    let run = world.runner(TASK).env("MAPA_POLICY_NAME", "boa-vista").run();
    assert_eq!(run.failure(2).code, "CacheKeyConflict");
    assert_eq!(run.report.published.unwrap().map, None);
}
