//! A result that can hardly be true is not published before a second run finds it, too (lesson 9).

use mapa_refresh_crds::report::{RunError, Success, SuccessKind};
use redis::Commands;
use serde_json::json;

use crate::world::World;

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";
const STATISTICS: &str = "calcular-estatisticas";

/// A world whose published map has so many outages.
fn published(outages: u32) -> World {
    let world = World::new();
    fill(&world, outages);
    world.succeed(VIEW);
    world.succeed(MAP);
    world.succeed(STATISTICS);
    world
}

/// Replaces what the view is built from.
fn fill(world: &World, outages: u32) {
    world.sql(&format!(
        "DELETE FROM radar.interrupcao; \
         INSERT INTO radar.interrupcao (id, codigo_ibge, latitude, longitude, tipo, status_codigo, ucs_afetadas, equipes_designadas, data_inicio) \
         SELECT n, '1400100', 2.82, -60.67, 'NAO_PROGRAMADA', 'E', 10, 1, localtimestamp - interval '5 h' FROM generate_series(1, {outages}) n"
    ));
}

fn refused(world: &World, task: &str, job: &str) -> RunError {
    let run = world
        .runner(task)
        .env("MAPA_JOB_NAME", job)
        .env("MAPA_MAX_RETRIES", "3")
        .run();
    let error = run.failure(2);
    assert_eq!(run.report.attempts.len(), 1, "a retry is no second look: {run:?}");
    error
}

fn accepted(world: &World, task: &str, job: &str) -> Success {
    world.runner(task).env("MAPA_JOB_NAME", job).run().success()
}

#[test]
fn lesson_09_a_collapse_is_refused_until_a_later_job_finds_it_too() {
    let world = published(30);
    let documents = || documents(&world);
    let before = documents();
    fill(&world, 0);
    world.succeed(VIEW);
    for (task, key) in [(MAP, "mapa:interrupcoes"), (STATISTICS, "mapa:estatisticas")] {
        let error = refused(&world, task, "a");
        assert_eq!(error.code, "ImplausibleResult", "{error:?}");
        assert!(
            error.message.contains("30 outages are published and the view has 0") && error.message.contains(key),
            "{error:?}"
        );
        assert_eq!(
            refused(&world, task, "a").code,
            "ImplausibleResult",
            "the same Job again: a pod that was replaced"
        );
    }
    assert_eq!(documents(), before, "the old documents stay, and their siblings");
    let waiting: Vec<String> = world.cache().keys("*:staging:*").unwrap();
    assert_eq!(waiting, Vec::<String>::new(), "and nothing is left behind");

    world.succeed(VIEW);
    for task in [MAP, STATISTICS] {
        let confirmed = accepted(&world, task, "b");
        assert_eq!((confirmed.kind, confirmed.records), (SuccessKind::Published, 0));
    }
    let [map, geojson, statistics, last_good] = documents();
    assert_eq!(
        (&map["total"], &geojson["features"], &statistics["total_interrupcoes"]),
        (&json!(0), &json!([]), &json!(0)),
        "zero outages, confirmed, is a normal, dated document"
    );
    for document in [&map, &geojson, &statistics, &last_good] {
        assert_eq!(document["generation"].as_i64(), Some(world.stamp()));
    }
    assert_eq!(last_good, statistics, "the contract's keys are in both");
    assert_eq!(accepted(&world, MAP, "c").kind, SuccessKind::Published);
}

#[test]
fn lesson_09_a_plausible_run_in_between_withdraws_the_doubt() {
    let world = published(30);
    fill(&world, 0);
    world.succeed(VIEW);
    refused(&world, MAP, "a");
    fill(&world, 29);
    world.succeed(VIEW);
    accepted(&world, MAP, "b");
    fill(&world, 0);
    world.succeed(VIEW);
    assert_eq!(
        refused(&world, MAP, "c").code,
        "ImplausibleResult",
        "not the second in a row"
    );
}

#[test]
fn lesson_09_both_limits_have_to_be_exceeded_and_both_can_be_set() {
    for (before, after, limits, is_published) in [
        (20, 0, None, true),
        (21, 0, None, false),
        (300, 30, None, true),
        (300, 29, None, false),
        (300, 29, Some(("95", "20")), true),
        (300, 0, Some(("100", "0")), true),
        (300, 29, Some(("90", "271")), true),
        (3, 1, Some(("50", "1")), false),
        (1, 300, None, true),
    ] {
        let world = published(before);
        fill(&world, after);
        world.succeed(VIEW);
        let mut runner = world.runner(MAP);
        if let Some((percent, outages)) = limits {
            runner = runner
                .env("MAPA_MAX_DROP_PERCENT", percent)
                .env("MAPA_MAX_DROP_OUTAGES", outages);
        }
        let run = runner.run();
        if is_published {
            run.success();
        } else {
            run.failure(2);
        }
        let total = world.document("mapa:interrupcoes").unwrap()["total"].as_u64().unwrap();
        assert_eq!(
            total,
            u64::from(if is_published { after } else { before }),
            "{before} to {after}, {limits:?}"
        );
    }
}

/// Every document with its siblings.
fn documents(world: &World) -> [serde_json::Value; 4] {
    [
        "mapa:interrupcoes",
        "{mapa:interrupcoes}:geojson",
        "mapa:estatisticas",
        "{mapa:estatisticas}:last_good",
    ]
    .map(|key| world.document(key).unwrap())
}

#[test]
fn lesson_09_a_view_of_which_every_row_is_quarantined_is_never_published_as_no_outages() {
    let world = published(300);
    let before = documents(&world);
    world.sql(
        "DROP MATERIALIZED VIEW radar.mv_portal_publico;
         ALTER TABLE radar.interrupcao ALTER id TYPE text USING 'OC-' || id;
         CREATE MATERIALIZED VIEW radar.mv_portal_publico AS SELECT * FROM radar.interrupcao WITH NO DATA;
         CREATE UNIQUE INDEX mv_portal_publico_unico ON radar.mv_portal_publico (linha);
         ALTER MATERIALIZED VIEW radar.mv_portal_publico OWNER TO mapa_refresh",
    );
    world.succeed(VIEW);
    let all = std::collections::BTreeMap::from([("INVALID_ID".to_owned(), 300)]);
    for task in [MAP, STATISTICS] {
        // A later Job confirms a collapse, and no setting allows this.
        for (job, percent) in [("a", "50"), ("b", "50"), ("c", "100")] {
            let run = world
                .runner(task)
                .env("MAPA_JOB_NAME", job)
                .env("MAPA_MAX_RETRIES", "3")
                .env("MAPA_MAX_QUARANTINED_PERCENT", percent)
                .run();
            let error = run.failure(2);
            assert_eq!(error.code, "RowsQuarantined", "{error:?}");
            assert!(
                error.message.contains("300 of the view's 300 rows") && error.message.contains("INVALID_ID 300"),
                "{error:?}"
            );
            assert_eq!(run.report.attempts.len(), 1, "permanent: {run:?}");
            assert_eq!(run.report.refused_rows.as_ref().unwrap().quarantined, all);
            assert!(run.stderr.contains("rows of the view are left out"), "{}", run.stderr);
        }
    }
    assert_eq!(documents(&world), before, "the old documents stay, and their siblings");
    let waiting: Vec<String> = world.cache().keys("*:staging:*").unwrap();
    assert_eq!(waiting, Vec::<String>::new());
}

#[test]
fn lesson_09_the_share_of_quarantined_rows_has_a_bound_that_can_be_set() {
    let world = published(10);
    let spoil = |rows: u32| {
        world.sql(&format!(
            "UPDATE radar.interrupcao SET ucs_afetadas = CASE WHEN linha <= (SELECT min(linha) + {rows} - 1 FROM radar.interrupcao) THEN -1 ELSE 10 END"
        ));
        world.succeed(VIEW);
    };
    let total = || world.document("mapa:interrupcoes").unwrap()["total"].as_u64().unwrap();
    for (rows, percent, expected) in [
        (5, None, Some(5)),
        (6, None, None),
        (6, Some("60"), Some(4)),
        (1, Some("0"), None),
        (9, Some("100"), Some(1)),
        (10, Some("100"), None),
        (0, Some("0"), Some(10)),
    ] {
        spoil(rows);
        let before = total();
        let mut runner = world.runner(MAP).env("MAPA_MAX_DROP_PERCENT", "100");
        if let Some(percent) = percent {
            runner = runner.env("MAPA_MAX_QUARANTINED_PERCENT", percent);
        }
        let run = runner.run();
        match expected {
            Some(published) => {
                assert_eq!(run.success().records, published, "{rows} of 10, {percent:?}");
                assert_eq!(total(), published);
            }
            None => {
                assert_eq!(run.failure(2).code, "RowsQuarantined", "{rows} of 10, {percent:?}");
                assert_eq!(total(), before);
            }
        }
    }
}

#[test]
fn lesson_09_a_view_older_than_allowed_is_not_published_silently() {
    let world = published(3);
    let too_old = |task: &str, job: &str| {
        world
            .runner(task)
            .env("MAPA_JOB_NAME", job)
            .env("MAPA_MAX_DATA_AGE_MINUTES", "1")
            .run()
    };
    world.sql("UPDATE radar.mapa_refresh_stamp SET refreshed_at = now() - interval '61 s'");
    // What is published has to be older still: else the run is fenced, and nothing is to be judged.
    let older = world.stamp() - 1_000_000;
    for (task, key) in [(MAP, "mapa:interrupcoes"), (STATISTICS, "mapa:estatisticas")] {
        world.set_generation(key, older);
        let before = world.document(key);
        let error = too_old(task, "a").failure(2);
        assert_eq!(error.code, "ViewTooOld", "{error:?}");
        assert!(error.message.contains("refresh-mv-portal"), "{error:?}");
        assert_eq!(world.document(key), before);
        let confirmed = too_old(task, "b").success();
        assert!(confirmed.age_seconds > 60.0, "with its true date");
    }
}
