//! refresh-mapa-cache and calcular-estatisticas.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use chrono::{DateTime, SecondsFormat, Utc};
use mapa_refresh_crds::{
    policy::Plausibility,
    report::{Success, SuccessKind},
};
use mapa_refresh_job_runner::{
    cache::{Cache, Document, Lifetimes, Request, Target},
    domain::{
        area::Area, geojson::FeatureCollection, map_document::MapDocument, outage::Intake, row::Row, time::Stamp,
    },
};
use redis::Commands;
use serde_json::{Value, json};

use crate::world::{World, generation};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";
const STATISTICS: &str = "calcular-estatisticas";

fn refreshed() -> World {
    let world = World::new();
    world.outage(1, 90, "");
    world.outage(2, 10, ", status_codigo = 'P'");
    world.succeed(VIEW);
    world
}

#[test]
fn lesson_02_whoever_reads_the_cache_sees_map_and_statistics_which_carry_the_views_stamp_and_agree() {
    let world = refreshed();
    let (map, statistics) = (world.succeed(MAP), world.succeed(STATISTICS));
    assert_eq!(
        (map.kind, map.records, generation(&map)),
        (SuccessKind::Published, 2, world.stamp())
    );
    assert_eq!(generation(&statistics), world.stamp());
    let (map, statistics) = (
        world.document("mapa:interrupcoes").unwrap(),
        world.document("mapa:estatisticas").unwrap(),
    );
    assert_eq!(map["generation"].as_i64(), Some(world.stamp()));
    assert_eq!(
        (&map["total"], &statistics["total_interrupcoes"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(map["interrupcoes"][0]["duracaoMinutos"], 90);
    assert_eq!(
        world.document("{mapa:interrupcoes}:geojson").unwrap()["features"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(world.document("{mapa:estatisticas}:last_good"), Some(statistics));

    let mut cache = world.cache();
    let ttl = |key: &str, cache: &mut redis::Connection| cache.ttl::<_, i64>(key).unwrap();
    assert!((6 * 3_600 - 60..=6 * 3_600).contains(&ttl("mapa:interrupcoes", &mut cache)));
    assert!((1_740..=1_800).contains(&ttl("mapa:estatisticas", &mut cache)));
    assert!(ttl("{mapa:estatisticas}:last_good", &mut cache) > 23 * 3_600);
    assert!(
        ttl("{mapa:interrupcoes}:meta", &mut cache) > ttl("mapa:interrupcoes", &mut cache),
        "meta outlives its document"
    );
    let owner: String = cache.hget("{mapa:interrupcoes}:meta", "owner").unwrap();
    assert_eq!(owner, "radar/roraima");
}

#[test]
fn an_area_that_the_operator_defines_names_municipalities_and_bounds_coordinates() {
    const ACRE: &str = r#"{"latitude":{"min":-11.15,"max":-7.11},"longitude":{"min":-74,"max":-66.62},"municipalities":{"1200401":"Rio Branco"}}"#;
    let world = World::new();
    let in_rio_branco = ", codigo_ibge = '1200401', latitude = -9.97, longitude = -67.81";
    world.outage(1, 90, in_rio_branco);
    world.outage(2, 60, "");
    world.succeed(VIEW);
    let published = world
        .runner(MAP)
        .env("MAPA_AREA", "AC")
        .env("MAPA_AREA_DEFINITION", ACRE);
    published.run().success();
    let map = world.document("mapa:interrupcoes").unwrap();
    let of = |id: i64| {
        let outages = map["interrupcoes"].as_array().unwrap();
        let outage = outages.iter().find(|outage| outage["id"] == id).unwrap();
        [&outage["nomeMunicipio"], &outage["coordenadas"]].map(Value::clone)
    };
    assert_eq!(
        of(1),
        [json!("Rio Branco"), json!({ "latitude": -9.97, "longitude": -67.81 })]
    );
    assert_eq!(of(2), [Value::Null, Value::Null], "of Roraima, which is not this area");

    let unreadable = world
        .runner(MAP)
        .env("MAPA_AREA", "AC")
        .env("MAPA_AREA_DEFINITION", "{}");
    let error = unreadable.run().failure(2);
    assert!(
        error
            .message
            .contains("MAPA_AREA: the definition of area \"AC\" is wrong"),
        "{error:?}"
    );
}

#[test]
fn the_scripts_calendar_is_the_calendar() {
    let world = World::new();
    let script = include_str!("../../src/publish.lua");
    let (functions, _) = script.split_once("-- Runs a command.").unwrap();
    let script = format!("{functions} return rfc3339(tonumber(ARGV[1]))");
    let mut cache = world.cache();
    // Every 31 hours and some microseconds, from 1970 to 2255: each day of a month, leap years, 2000 and 2100 among them.
    for micros in (0..1_i64 << 53)
        .step_by(111_600_000_001)
        .chain([951_782_399_999_999, 4_107_542_400_000_000])
    {
        let written: String = redis::cmd("EVAL")
            .arg(&script)
            .arg(0)
            .arg(micros)
            .query(&mut cache)
            .unwrap();
        let expected = DateTime::from_timestamp_micros(micros)
            .unwrap()
            .to_rfc3339_opts(SecondsFormat::Micros, true);
        assert_eq!(written, expected);
    }
}

#[test]
fn listeners_hear_of_a_publication() {
    let world = refreshed();
    let mut listener = world.cache();
    let mut listener = listener.as_pubsub();
    listener.subscribe("mapa:events").unwrap();
    world.succeed(MAP);
    let message: String = listener.get_message().unwrap().get_payload().unwrap();
    let message: Value = serde_json::from_str(&message).unwrap();
    assert_eq!(
        (&message["task"], message["generation"].as_i64(), &message["records"]),
        (&json!(MAP), Some(world.stamp()), &json!(2))
    );
    let map = world.document("mapa:interrupcoes").unwrap();
    assert_eq!(
        (&message["dataAsOf"], &message["publishedAt"]),
        (&map["dataAsOf"], &map["publishedAt"])
    );
}

#[test]
fn lesson_10_an_equal_generation_renews_the_document_and_not_its_date() {
    let world = refreshed();
    let first = world.succeed(MAP);
    let before = world.document("mapa:interrupcoes").unwrap();
    let mut cache = world.cache();
    cache.expire::<_, ()>("mapa:interrupcoes", 5).unwrap();
    let run = world.runner(MAP).run();
    assert_eq!(run.report.publications.len(), 2);
    let second = run.success();
    let after = world.document("mapa:interrupcoes").unwrap();
    assert_eq!(
        (second.kind, generation(&second)),
        (SuccessKind::Published, generation(&first))
    );
    assert!(second.age_seconds > first.age_seconds);
    assert_eq!(
        (&before["dataAsOf"], &before["interrupcoes"]),
        (&after["dataAsOf"], &after["interrupcoes"])
    );
    assert!(before["publishedAt"].as_str() < after["publishedAt"].as_str());
    assert!(cache.ttl::<_, i64>("mapa:interrupcoes").unwrap() > 3_600);
}

#[test]
fn i14_an_older_generation_never_replaces_a_newer_one() {
    let world = refreshed();
    world.succeed(MAP);
    let mut cache = world.cache();
    let newer = world.stamp() + 2_500_000;
    world.set_generation("mapa:interrupcoes", newer);
    let before = world.document("mapa:interrupcoes");
    let run = world.runner(MAP).run();
    let fenced = run.success();
    assert_eq!(
        (fenced.kind, generation(&fenced)),
        (SuccessKind::Fenced, newer),
        "with the winner's date"
    );
    assert!(fenced.age_seconds >= 0.0);
    assert_eq!(world.document("mapa:interrupcoes"), before);

    cache.set::<_, _, ()>("mapa:interrupcoes", "something else").unwrap();
    let overwritten = world.runner(MAP).run().failure(1);
    cache.del::<_, ()>("mapa:interrupcoes").unwrap();
    let deleted = world.runner(MAP).run().failure(1);
    assert_eq!(
        [overwritten.code, deleted.code],
        ["PublishedDataMissing"; 2],
        "meta remembers: no claim that something is published, and nothing older"
    );
}

#[test]
fn another_owners_living_document_is_left_alone_and_a_dead_one_is_taken_over() {
    let world = refreshed();
    world.succeed(MAP);
    let other = world.runner(MAP).env("MAPA_POLICY_NAME", "boa-vista").run();
    let error = other.failure(2);
    assert_eq!(
        (error.code.as_str(), other.report.attempts.len()),
        ("CacheKeyConflict", 1)
    );
    assert!(
        error.message.contains("radar/roraima") && error.message.contains("keyPrefix"),
        "{error:?}"
    );
    let mut cache = world.cache();
    let owner =
        |cache: &mut redis::Connection| cache.hget::<_, _, String>("{mapa:interrupcoes}:meta", "owner").unwrap();
    assert_eq!(owner(&mut cache), "radar/roraima");

    let old = world.stamp() - 61 * 60_000_000;
    world.set_generation("mapa:interrupcoes", old);
    let run = world.runner(MAP).env("MAPA_POLICY_NAME", "boa-vista").run();
    assert!(run.stderr.contains("radar/roraima"), "said: {}", run.stderr);
    assert_eq!(
        run.report.publications.len(),
        1,
        "another owner's publications are no evidence"
    );
    assert_eq!(run.success().kind, SuccessKind::Published);
    assert_eq!(owner(&mut cache), "radar/boa-vista");
}

#[test]
fn a_key_that_something_else_uses_is_named_before_anything_is_written() {
    let world = refreshed();
    world.cache().set::<_, _, ()>("{mapa:interrupcoes}:log", "x").unwrap();
    let error = world.runner(MAP).run().failure(2);
    assert_eq!(error.code, "WRONGTYPE");
    assert_eq!(world.document("mapa:interrupcoes"), None);
}

#[test]
fn lesson_03_i13_f34_readers_never_meet_a_hole_nor_two_generations_at_once_though_runs_are_killed() {
    let world = refreshed();
    world.succeed(MAP);
    let ended = AtomicBool::new(false);
    let keys = ["mapa:interrupcoes", "{mapa:interrupcoes}:geojson"];
    let reads = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut cache, mut reads, mut last) = (world.cache(), 0_u64, 0);
            while !ended.load(Ordering::Relaxed) {
                let found: Vec<Option<String>> = cache.mget(&keys).unwrap();
                let generations: Vec<i64> = found
                    .into_iter()
                    .map(|text| {
                        serde_json::from_str::<Value>(&text.expect("a hole")).unwrap()["generation"]
                            .as_i64()
                            .unwrap()
                    })
                    .collect();
                assert_eq!(generations[0], generations[1], "two generations at once");
                assert!(generations[0] >= last, "an older generation came back");
                (last, reads) = (generations[0], reads + 1);
            }
            reads
        });
        // A thousand by the library, and among them runs that are killed at any moment of their way: so long it takes.
        // Whatever fails here ends the reader too, which the scope waits for.
        let _ended = EndsWhenDropped(&ended);
        // The shortest of a few: one that met a busy machine would make the rest be met after their end.
        let ways = (0..5).map(|_| {
            let run = world.runner(MAP).run();
            let took = run.took;
            run.success();
            took
        });
        let way = ways.min().unwrap_or_default();
        let mut killed = 0;
        let mut publisher = Publisher::of(&world);
        for publication in 0..1_000_u64 {
            publisher.publish();
            if publication % 25 == 24 {
                world.succeed(VIEW);
                let running = world.runner(MAP).start();
                // Runs take unlike times: a little less than the whole way, so that most are met on theirs.
                thread::sleep(way.mul_f64(0.9 * fastrand::f64()));
                killed += usize::from(running.kill());
            }
        }
        assert!(killed >= 10, "of 40 runs only {killed} were killed before their end");
        ended.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(reads > 1_000, "{reads}");
    let mut cache = world.cache();
    let left: Vec<String> = cache.keys("*:staging:*").unwrap();
    for key in left {
        assert!(
            cache.ttl::<_, i64>(&key).unwrap() > 0,
            "what a killed run left would stay: {key}"
        );
    }
}

struct EndsWhenDropped<'a>(&'a AtomicBool);

impl Drop for EndsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Publishes maps of forty outages, each generation newer than the one before.
struct Publisher {
    runtime: tokio::runtime::Runtime,
    cache: Cache,
}

impl Publisher {
    fn of(world: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let target = Target::from_secret(&world.path("cache"), None).unwrap();
        let cache = runtime
            .block_on(target.connect("mapa", std::time::Duration::from_secs(10)))
            .unwrap();
        Self { runtime, cache }
    }

    fn publish(&mut self) {
        let stamp = Stamp::from_micros(Utc::now().timestamp_micros()).unwrap();
        let mut intake = Intake::new(stamp, chrono_tz::America::Boa_Vista, Arc::new(Area::roraima()));
        let data_inicio = (Utc::now() - chrono::Duration::hours(5)).to_rfc3339();
        for id in 0..40 {
            intake.add(&Row {
                id: Some(id.to_string().into()),
                data_inicio: Some(data_inicio.as_str().into()),
                ucs_afetadas: Some("3".into()),
                ..Row::default()
            });
        }
        let outages = intake.finish();
        let request = Request {
            document: Document::Map,
            owner: "radar/roraima",
            stamp,
            records: outages.active().len(),
            lifetimes: Lifetimes::of(Document::Map, 10),
            plausibility: Plausibility::default(),
            doubt: None,
            run: "a",
        };
        let map = Arc::new(outages);
        let geojson = Arc::clone(&map);
        let published = self.cache.publish(
            &request,
            Box::new(move |out| serde_json::to_writer(out, &MapDocument::new("radar/roraima", &map))),
            Box::new(move |out| serde_json::to_writer(out, &FeatureCollection::new("radar/roraima", &geojson))),
        );
        assert!(self.runtime.block_on(published).unwrap().published);
    }
}

#[test]
fn lesson_04_the_map_waits_for_the_views_refresh_of_its_slot() {
    let world = refreshed();
    world.sql("UPDATE radar.mapa_refresh_stamp SET refreshed_at = now() - interval '10 min'");
    let waiting = world
        .runner(MAP)
        .job(MAP, 0)
        .env("MAPA_VIEW_SLOT_LEAD_MINUTES", "1")
        .start();
    world.wait_for_look_at_stamp();
    let refreshed = world.succeed(VIEW);
    let map = waiting.finish().success();
    assert_eq!(
        (generation(&map), map.built_from_stale_view),
        (generation(&refreshed), false)
    );
}

#[test]
fn lesson_04_after_half_its_time_the_map_is_built_from_what_there_is_with_its_true_date() {
    let world = refreshed();
    world.sql("UPDATE radar.mapa_refresh_stamp SET refreshed_at = now() - interval '10 min'");
    let stale = |runner: crate::world::Runner| -> Success {
        runner
            .env("MAPA_VIEW_SLOT_LEAD_MINUTES", "1")
            .env("MAPA_RUN_BUDGET_SECONDS", "4")
            .run()
            .success()
    };
    let map = stale(world.runner(MAP).job(MAP, 0));
    assert_eq!((map.built_from_stale_view, generation(&map)), (true, world.stamp()));
    assert!((600.0..660.0).contains(&map.age_seconds), "{}", map.age_seconds);
    assert!(
        !stale(world.runner(MAP).env("MAPA_JOB_NAME", "by-hand")).built_from_stale_view,
        "a run by hand has no slot"
    );
}

#[test]
fn lesson_09_zero_outages_is_a_dated_document_and_a_view_never_refreshed_is_none() {
    let world = World::new();
    let never = world.runner(MAP).run().failure(1);
    assert_eq!(never.code, "55000", "{never:?}");
    assert!(never.message.contains("run refresh-mv-portal"), "{never:?}");
    assert_eq!(world.document("mapa:interrupcoes"), None);
    let refreshed = world.succeed(VIEW);
    assert_eq!((world.succeed(MAP).records, world.succeed(STATISTICS).records), (0, 0));
    let map = world.document("mapa:interrupcoes").unwrap();
    assert_eq!(
        (&map["total"], map["generation"].as_i64()),
        (&json!(0), Some(generation(&refreshed)))
    );
    assert_eq!(world.document("mapa:estatisticas").unwrap()["total_interrupcoes"], 0);
}

#[test]
fn lesson_08_ugly_rows_are_counted_exactly_and_spoil_nothing() {
    let world = World::new();
    (1..=5).for_each(|id| world.outage(id, 60 * id, ""));
    for (id, others) in [
        (10, ", previsao_restabelecimento = data_inicio - interval '1 min'"),
        (11, ", latitude = NULL"),
        (12, ", longitude = 12.5"),
        (13, ", codigo_ibge = '9999999'"),
        (14, ", codigo_ibge = NULL, tipo = NULL"),
        (15, ", status_codigo = 'Q', latitude = 0"),
        (16, ", data_inicio = localtimestamp - interval '4 h' + interval '3 min'"),
        (17, ", equipes_designadas = NULL, causa = E'\\x1b[31m</script>'"),
        (18, ", previsao_restabelecimento = '9999-12-31', bairro = 'CENTRO'"),
        (19, ", bairro = U&'Jo\\FFFDo', causa = U&'Queda de \\FFFDrvore'"),
        (20, ", ucs_afetadas = NULL"),
        (21, ", ucs_afetadas = 'NaN'"),
        (22, ", ucs_afetadas = -4"),
        (23, ", equipes_designadas = -1"),
        (24, ", data_inicio = NULL"),
        (25, ", data_inicio = 'infinity'"),
        (26, ", data_inicio = localtimestamp - interval '4 h' + interval '1 h'"),
        (27, ", ucs_afetadas = 1e30"),
        (28, ", data_inicio = '0225-11-29 08:00'"),
        (29, ", data_inicio = localtimestamp - interval '366 days'"),
        (30, ", status_codigo = 'C'"),
        (31, ", status_codigo = 'Concluída'"),
        (32, ", status_codigo = 'cancelada'"),
        (
            9_007_199_254_740_993,
            ", tipo = 'Não Programada', status_codigo = 'execução', bairro = U&'Centro\\200B'",
        ),
    ] {
        world.outage(id, 30, others);
    }
    world.sql(
        "INSERT INTO radar.interrupcao (id, data_inicio, ucs_afetadas) VALUES (NULL, now(), 1), (1, localtimestamp, 1)",
    );
    world.succeed(VIEW);
    let map = world.succeed(MAP);
    let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
    assert_eq!(map.records, 16);
    assert_eq!(
        map.repaired,
        counts(&[
            ("COORDINATES_MISSING", 1),
            ("COORDINATES_OUTSIDE_AREA", 1),
            ("FORECAST_BEFORE_START", 1),
            ("FORECAST_TOO_FAR", 1),
            ("MISSING_CREWS", 1),
            ("START_AHEAD", 1),
            ("UNKNOWN_MUNICIPALITY", 2),
            ("UNKNOWN_STATUS", 1),
            ("UNKNOWN_TYPE", 1),
            ("UNREADABLE_TEXT", 1),
        ])
    );
    assert_eq!(
        map.quarantined,
        counts(&[
            ("DUPLICATE_ID", 1),
            ("FUTURE_START", 1),
            ("INVALID_START", 1),
            ("INVALID_UCS", 2),
            ("MISSING_ID", 1),
            ("MISSING_START", 1),
            ("MISSING_UCS", 1),
            ("NEGATIVE_CREWS", 1),
            ("NEGATIVE_UCS", 1),
            ("START_TOO_OLD", 2),
        ])
    );
    let published = world.document("mapa:interrupcoes").unwrap();
    let hostile = published["interrupcoes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["id"] == 17)
        .unwrap();
    assert_eq!(hostile["causa"], "\u{1b}[31m</script>");
    let large = published["interrupcoes"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&large["id"], &large["status"], &large["bairro"]),
        (&json!("9007199254740993"), &json!("EM_EXECUCAO"), &json!("Centro"))
    );
    assert_eq!(world.succeed(STATISTICS).quarantined, map.quarantined);
    let statistics = world.document("mapa:estatisticas").unwrap();
    let bairros = statistics["bairros"].as_array().unwrap().iter();
    let of_boa_vista = bairros.filter(|bairro| bairro["codigo_ibge"] == "1400100");
    let names: Vec<_> = of_boa_vista.map(|bairro| bairro["bairro"].as_str().unwrap()).collect();
    assert_eq!(names, ["Centro", "Jo\u{fffd}o"]);
    // No outage of these is older than five hours and a half, and each has 10 UCs.
    assert!(
        statistics["chi_total"].as_f64().unwrap() < 16.0 * 10.0 * 5.5,
        "{statistics}"
    );
}

#[test]
fn lesson_08_columns_of_other_types_and_spellings_are_read() {
    let world = World::new();
    world.sql(
        "DROP MATERIALIZED VIEW radar.mv_portal_publico;
         ALTER TABLE radar.interrupcao ALTER codigo_ibge TYPE numeric(9,2) USING codigo_ibge::numeric, ALTER data_inicio TYPE text,
             ALTER latitude TYPE text, ALTER id TYPE float8, ALTER ucs_afetadas TYPE real, ALTER numero_ocorrencia TYPE text;
         CREATE MATERIALIZED VIEW radar.mv_portal_publico AS SELECT * FROM radar.interrupcao WITH NO DATA;
         CREATE UNIQUE INDEX mv_portal_publico_unico ON radar.mv_portal_publico (linha);
         ALTER MATERIALIZED VIEW radar.mv_portal_publico OWNER TO mapa_refresh",
    );
    world.sql(
        "INSERT INTO radar.interrupcao (id, codigo_ibge, data_inicio, latitude, longitude, tipo, status_codigo, ucs_afetadas, numero_ocorrencia)
         SELECT 1e6 + n, 1400100, to_char(now() at time zone 'America/Boa_Vista' - interval '2 h', form), '2,8235', -60.67, 'programada', 'E', 12, '20260001.00'
           FROM unnest(ARRAY['YYYY-MM-DD HH24:MI', 'YYYY-MM-DD\"T\"HH24:MI:SS\"-0400\"', 'YYYY/MM/DD HH24:MI']) WITH ORDINALITY AS forms (form, n)",
    );
    world.succeed(VIEW);
    let map = world.succeed(MAP);
    let missing_crews = [("MISSING_BAIRRO".to_owned(), 3), ("MISSING_CREWS".to_owned(), 3)].into();
    assert_eq!((map.records, &map.repaired), (3, &missing_crews), "{map:?}");
    let published = world.document("mapa:interrupcoes").unwrap();
    for (item, id) in published["interrupcoes"].as_array().unwrap().iter().zip(1_000_001..) {
        assert_eq!(item["id"], id);
        assert_eq!(
            (&item["codigoIbge"], &item["nomeMunicipio"]),
            (&json!("1400100"), &json!("Boa Vista"))
        );
        assert_eq!(
            (&item["ucsAfetadas"], &item["numeroOcorrencia"]),
            (&json!(12), &json!("20260001"))
        );
        assert_eq!(item["coordenadas"]["latitude"], 2.8235);
        assert!(
            (119..=122).contains(&item["duracaoMinutos"].as_i64().unwrap()),
            "{item}"
        );
    }
}

#[test]
fn renamed_columns_are_read_and_missing_ones_are_named() {
    let world = refreshed();
    world.sql("ALTER MATERIALIZED VIEW radar.mv_portal_publico RENAME COLUMN data_inicio TO dt_inicio; ALTER MATERIALIZED VIEW radar.mv_portal_publico RENAME COLUMN bairro TO nm_bairro");
    let error = world
        .runner(MAP)
        .env("MAPA_DATABASE_COLUMNS", "data_inicio=DT_INICIO")
        .run()
        .failure(2);
    assert_eq!(error.code, "42703");
    assert!(
        error.message.contains("has no column bairro") && error.message.contains("spec.database.columns"),
        "{error:?}"
    );
    let done = world
        .runner(MAP)
        .env("MAPA_DATABASE_COLUMNS", "data_inicio=DT_INICIO,bairro=nm_bairro")
        .run()
        .success();
    assert_eq!(done.records, 2);
}

#[test]
fn the_cache_user_of_the_readme_has_what_every_task_needs() {
    let world = refreshed();
    let url = format!("redis://127.0.0.1:{}", world.redis.port());
    world.use_the_readmes_cache_user(&url);
    for task in [MAP, STATISTICS, MAP, "health-check"] {
        world.succeed(task);
    }
    let mut listener = world.cache();
    let mut listener = listener.as_pubsub();
    listener.subscribe("mapa:events").unwrap();
    world.succeed(MAP);
    assert!(listener.get_message().is_ok(), "the channel, too");
    let other = world.runner(MAP).env("MAPA_CACHE_KEY_PREFIX", "outro").run();
    assert_eq!(other.failure(2).code, "NOPERM", "and no other prefix");
}
