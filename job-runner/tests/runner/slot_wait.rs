//! What a run does while it waits for the view's refresh of its slot.

use redis::Commands;

use crate::{
    servers::wait_until,
    world::{World, generation},
};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";
const STATISTICS: &str = "calcular-estatisticas";

/// A view of two outages, stamped so many minutes ago.
fn viewed(minutes_ago: u32) -> World {
    let world = World::new();
    world.outage(1, 90, "");
    world.outage(2, 70, "");
    world.succeed(VIEW);
    stamped(&world, minutes_ago);
    world
}

fn stamped(world: &World, minutes_ago: u32) {
    world.sql(&format!(
        "UPDATE radar.mapa_refresh_stamp SET refreshed_at = now() - interval '{minutes_ago} min'"
    ));
}

fn published(world: &World, key: &str) -> Option<i64> {
    world.document(key)?["generation"].as_i64()
}

#[test]
fn promise_4_a_view_that_missed_its_slot_is_public_at_once_and_its_slots_own_follows() {
    for (task, key) in [(MAP, "mapa:interrupcoes"), (STATISTICS, "mapa:estatisticas")] {
        let world = viewed(20);
        let first = world.succeed(task);
        stamped(&world, 5);
        let late = world.stamp();
        assert!(late > generation(&first));
        let waiting = world
            .runner(task)
            .job(task, 0)
            .env("MAPA_VIEW_SLOT_LEAD_MINUTES", "1")
            .start();
        wait_until("what the view held is public", || published(&world, key) == Some(late));
        let refreshed = world.succeed(VIEW);
        let run = waiting.finish();
        let reported: Vec<i64> = run.report.publications.iter().map(|entry| entry.data_as_of).collect();
        let seconds = |micros: i64| micros / 1_000_000;
        assert_eq!(
            reported,
            [generation(&refreshed), late, generation(&first)].map(seconds),
            "the report lists each publication"
        );
        let success = run.success();
        assert_eq!(
            (generation(&success), success.built_from_stale_view),
            (generation(&refreshed), false)
        );
        assert_eq!(published(&world, key), Some(generation(&refreshed)));
    }
}

#[test]
fn what_was_published_early_is_the_runs_result_when_the_wait_ends_and_is_not_published_twice() {
    let world = viewed(5);
    let run = world
        .runner(STATISTICS)
        .job(STATISTICS, 0)
        .env("MAPA_VIEW_SLOT_LEAD_MINUTES", "1")
        .env("MAPA_RUN_BUDGET_SECONDS", "6")
        .run();
    let success = run.success();
    assert_eq!(
        (success.built_from_stale_view, generation(&success)),
        (true, world.stamp())
    );
    let log: Vec<String> = world.cache().lrange("{mapa:estatisticas}:log", 0, -1).unwrap();
    assert_eq!(log.len(), 1, "{log:?}");
}

#[test]
fn content_that_is_refused_before_the_slots_refresh_is_mended_by_that_refresh() {
    let world = viewed(45);
    let waiting = world
        .runner(MAP)
        .job(MAP, 0)
        .env("MAPA_VIEW_SLOT_LEAD_MINUTES", "1")
        .start();
    wait_until("the publication of an old view was refused", || {
        let pending: Option<String> = world.cache().hget("{mapa:interrupcoes}:meta", "pendingReason").unwrap();
        pending.as_deref() == Some("ViewTooOld")
    });
    assert_eq!(published(&world, "mapa:interrupcoes"), None);
    let refreshed = world.succeed(VIEW);
    let success = waiting.finish().success();
    assert_eq!(
        (generation(&success), success.built_from_stale_view),
        (generation(&refreshed), false)
    );
}

#[test]
fn a_fault_of_the_cache_while_waiting_ends_the_attempt_at_once() {
    let world = viewed(5);
    world.secret("cache", &[("url", "redis://127.0.0.1:1")]);
    let run = world
        .runner(MAP)
        .job(MAP, 0)
        .env("MAPA_VIEW_SLOT_LEAD_MINUTES", "1")
        .run();
    assert_eq!(run.failure(1).code, "CacheUnreachable");
    assert!(
        run.took.as_secs() < 60,
        "it did not wait for the view first: {:?}",
        run.took
    );
}
