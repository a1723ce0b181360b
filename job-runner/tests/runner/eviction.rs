//! A cache that evicts `meta`, a document or both: whose the documents are, and how new, is known all the same.

use mapa_refresh_crds::report::SuccessKind;
use redis::Commands;

use crate::{
    servers::wait_until,
    world::{World, generation},
};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";
const STATISTICS: &str = "calcular-estatisticas";

/// Task, document, sibling.
const PUBLISHERS: [(&str, &str, &str); 2] = [
    (MAP, "mapa:interrupcoes", "{mapa:interrupcoes}:geojson"),
    (STATISTICS, "mapa:estatisticas", "{mapa:estatisticas}:last_good"),
];

fn published() -> World {
    let world = World::new();
    (1..=30).for_each(|id| world.outage(id, 90, ""));
    for task in [VIEW, MAP, STATISTICS] {
        world.succeed(task);
    }
    world
}

fn meta(document: &str) -> String {
    format!("{{{document}}}:meta")
}

#[test]
fn without_meta_another_policy_does_not_take_over_living_documents() {
    let world = published();
    let mut cache = world.cache();
    for (task, document, sibling) in PUBLISHERS {
        let refused = || {
            let before = world.document(document);
            let run = world.runner(task).env("MAPA_POLICY_NAME", "boa-vista").run();
            let error = run.failure(2);
            assert_eq!(error.code, "CacheKeyConflict");
            assert!(error.message.contains("belongs to policy radar/roraima"), "{error:?}");
            assert_eq!(world.document(document), before);
        };
        cache.del::<_, ()>(meta(document)).unwrap();
        refused();
        let check = world.runner("health-check").env("MAPA_POLICY_NAME", "boa-vista").run();
        assert_eq!(check.failure(2).code, "CacheKeyConflict");
        cache.del::<_, ()>(document).unwrap();
        refused();
        assert_eq!(world.succeed(task).kind, SuccessKind::Published, "its owner goes on");
        cache.del::<_, ()>(&[&meta(document), sibling]).unwrap();
        refused();
        world.succeed(task);
        cache.del::<_, ()>(&[&meta(document), sibling, document]).unwrap();
        let taken = world.runner(task).env("MAPA_POLICY_NAME", "boa-vista").run();
        assert_eq!(
            taken.report.publications.len(),
            1,
            "the log that is left is of an unknown owner"
        );
        taken.success();
        world.set_generation(document, world.stamp() - 61 * 60_000_000);
        cache.del::<_, ()>(meta(document)).unwrap();
        let run = world.runner(task).run();
        assert!(run.stderr.contains("from policy radar/boa-vista"), "{}", run.stderr);
        run.success();
    }
}

#[test]
fn i14_without_meta_an_older_generation_replaces_no_newer_one() {
    let world = published();
    let mut cache = world.cache();
    let newer = world.stamp() + 2_500_000;
    for (task, document, sibling) in PUBLISHERS {
        world.set_generation(document, newer);
        cache.del::<_, ()>(meta(document)).unwrap();
        let before = world.document(document);
        let fenced = world.succeed(task);
        assert_eq!((fenced.kind, generation(&fenced)), (SuccessKind::Fenced, newer));
        // What meta remembers is older than the documents: one that was restored.
        cache
            .hset_multiple::<_, _, _, ()>(meta(document), &[("generation", "7"), ("owner", "radar/roraima")])
            .unwrap();
        assert_eq!(world.succeed(task).kind, SuccessKind::Fenced);
        assert_eq!(world.document(document), before);

        cache.del::<_, ()>(&[&meta(document), document]).unwrap();
        let error = world.runner(task).run().failure(1);
        assert_eq!(error.code, "PublishedDataMissing", "the sibling remembers");
        assert!(world.document(sibling).is_some() && world.document(document).is_none());
    }
}

#[test]
fn lesson_09_without_meta_a_collapse_is_still_found_implausible() {
    let world = published();
    world.sql("DELETE FROM radar.interrupcao");
    world.succeed(VIEW);
    for (task, document, _) in PUBLISHERS {
        world.cache().del::<_, ()>(meta(document)).unwrap();
        let error = world.runner(task).env("MAPA_JOB_NAME", "a").run().failure(2);
        assert_eq!(error.code, "ImplausibleResult", "{error:?}");
        assert!(error.message.contains("30 outages are published"), "{error:?}");
        let confirmed = world.runner(task).env("MAPA_JOB_NAME", "b").run().success();
        assert_eq!((confirmed.kind, confirmed.records), (SuccessKind::Published, 0));
    }
}

#[test]
fn lesson_12_without_meta_the_health_check_judges_the_documents_themselves() {
    let world = published();
    let mut cache = world.cache();
    let lose_meta = |cache: &mut redis::Connection| {
        for (_, document, _) in PUBLISHERS {
            cache.del::<_, ()>(meta(document)).unwrap();
        }
    };
    lose_meta(&mut cache);
    let run = world.runner("health-check").run();
    let found = run.report.published.clone().unwrap();
    assert_eq!(found.map.unwrap().0.as_microsecond(), world.stamp());
    assert_eq!(found.statistics.unwrap().0.as_microsecond(), world.stamp());
    run.success();

    world.set_generation("mapa:estatisticas", world.stamp() - 31 * 60_000_000);
    lose_meta(&mut cache);
    let error = world.runner("health-check").run().failure(1);
    assert_eq!(error.code, "PublishedDataTooOld", "{error:?}");
    world.succeed(STATISTICS);

    // meta says that all is well, and readers see something else.
    cache.set::<_, _, ()>("mapa:interrupcoes", "{}").unwrap();
    let error = world.runner("health-check").run().failure(1);
    assert_eq!(error.code, "PublishedDataMissing", "{error:?}");
    cache.del::<_, ()>("mapa:interrupcoes").unwrap();
    cache.lpush::<_, _, ()>("mapa:interrupcoes", "x").unwrap();
    let error = world.runner("health-check").run().failure(1);
    assert_eq!(error.code, "PublishedDataMissing", "{error:?}");
    world.succeed(MAP);
    world.succeed("health-check");
}

#[test]
fn documents_of_an_earlier_version_name_no_owner_and_are_replaced_by_newer_ones() {
    let world = published();
    let mut cache = world.cache();
    for (task, document, sibling) in PUBLISHERS {
        for key in [document, sibling] {
            let text: String = cache.get(key).unwrap();
            let without = text.replacen("\"owner\":\"radar/roraima\",", "", 1);
            assert_ne!(without, text);
            cache.set::<_, _, ()>(key, without).unwrap();
        }
        let other = world.runner(task).env("MAPA_POLICY_NAME", "boa-vista").run();
        assert_eq!(other.failure(2).code, "CacheKeyConflict", "meta has the owner");
        world.succeed("health-check");
        cache.del::<_, ()>(meta(document)).unwrap();
        assert_eq!(world.succeed(task).kind, SuccessKind::Published);
        assert_eq!(world.document(document).unwrap()["owner"], "radar/roraima");
    }
}

#[test]
fn the_readmes_command_frees_the_keys_of_a_deleted_policy_without_a_hole() {
    let world = published();
    let readme = include_str!("../../../README.md");
    let command = "HDEL '{mapa:interrupcoes}:meta' generation";
    assert!(readme.contains(&format!("redis-cli {command}")));
    let mut words = command.split(' ').map(|word| word.trim_matches('\''));
    let mut free = redis::cmd(words.next().unwrap());
    free.arg(words.collect::<Vec<_>>()).exec(&mut world.cache()).unwrap();
    assert!(world.document("mapa:interrupcoes").is_some());
    let run = world.runner(MAP).env("MAPA_POLICY_NAME", "boa-vista").run();
    assert_eq!(run.report.publications.len(), 1, "its own");
    assert_eq!(run.success().kind, SuccessKind::Published);
    assert_eq!(world.document("mapa:interrupcoes").unwrap()["owner"], "radar/boa-vista");
}

/// Writes keys of 10 kB, which live as long as `options` say, until `ended`.
fn fill(cache: &mut redis::Connection, options: &[&str], mut ended: impl FnMut(&mut redis::Connection) -> bool) {
    let value = "x".repeat(10_000);
    for n in 0..20_000 {
        let mut set = redis::cmd("SET");
        set.arg(format!("other:{n}"))
            .arg(&value)
            .arg(options)
            .exec(cache)
            .unwrap();
        if ended(cache) {
            return;
        }
    }
    panic!("200 MB changed nothing");
}

fn limit_memory(cache: &mut redis::Connection, policy: &str) {
    let info: String = redis::cmd("INFO").arg("memory").query(cache).unwrap();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let limit = used.trim().parse::<u64>().unwrap() + 4_000_000;
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("maxmemory-policy").arg(policy);
    set.arg("maxmemory-samples").arg(64).arg("maxmemory").arg(limit);
    set.exec(cache).unwrap();
}

#[test]
fn in_a_cache_that_evicts_by_use_meta_goes_before_documents_that_are_read_and_nothing_is_taken_over() {
    let world = published();
    let mut cache = world.cache();
    limit_memory(&mut cache, "allkeys-lru");
    let meta = meta("mapa:interrupcoes");
    wait_until("meta is two seconds idle", || {
        let idle: u64 = redis::cmd("OBJECT")
            .arg("IDLETIME")
            .arg(&meta)
            .query(&mut cache)
            .unwrap();
        idle >= 2
    });
    fill(&mut cache, &[], |cache| {
        for (_, document, sibling) in PUBLISHERS {
            let read: [Option<String>; 2] = cache.mget(&[document, sibling]).unwrap();
            assert!(read.iter().all(Option::is_some), "readers keep the documents");
        }
        !cache.exists::<_, bool>(&meta).unwrap()
    });
    let other = world.runner(MAP).env("MAPA_POLICY_NAME", "boa-vista").run();
    assert_eq!(other.failure(2).code, "CacheKeyConflict");
}

#[test]
fn a_cache_that_evicts_by_lifetime_takes_what_is_published_last() {
    let world = published();
    let mut cache = world.cache();
    limit_memory(&mut cache, "volatile-ttl");
    let mut evicted = 0;
    fill(&mut cache, &["EX", "120"], |cache| {
        evicted += 1;
        evicted % 100 == 0 && !cache.exists::<_, bool>("other:0").unwrap()
    });
    for task in [MAP, STATISTICS, "health-check"] {
        world.succeed(task);
    }
    let log: usize = cache.llen("{mapa:interrupcoes}:log").unwrap();
    assert_eq!(log, 2, "nothing was forgotten");
}
