//! A cache's user that lacks a permission: nothing that is published changes, and the message names what to grant.

use std::collections::BTreeMap;

use mapa_refresh_crds::report::{FaultClass, RunError};
use redis::Commands;

use crate::world::World;

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";
const STATISTICS: &str = "calcular-estatisticas";

/// Task and document.
const PUBLISHERS: [(&str, &str); 2] = [(MAP, "mapa:interrupcoes"), (STATISTICS, "mapa:estatisticas")];

/// A world whose map is of more than one piece, and whose cache has the user of the README.
fn refreshed() -> World {
    let world = World::new();
    world.sql(
        "INSERT INTO radar.interrupcao (id, codigo_ibge, latitude, longitude, tipo, status_codigo, ucs_afetadas, equipes_designadas, data_inicio, causa) \
         SELECT n, '1400100', 2.82, -60.67, 'NAO_PROGRAMADA', 'E', 10, 1, localtimestamp - interval '5 h', repeat('x', 400) FROM generate_series(1, 1000) n",
    );
    world.succeed(VIEW);
    world.use_the_readmes_cache_user(&format!("redis://127.0.0.1:{}", world.redis.port()));
    world
}

fn acl(world: &World, words: &[&str]) {
    let mut acl = redis::cmd("ACL");
    acl.arg("SETUSER").arg("mapa-refresh").arg(words);
    acl.exec(&mut world.cache()).unwrap();
}

/// The commands that the README grants.
fn granted() -> Vec<&'static str> {
    let readme = include_str!("../../../README.md");
    let line = readme
        .lines()
        .find(|line| line.starts_with("ACL SETUSER mapa-refresh "));
    line.unwrap()
        .split_whitespace()
        .filter_map(|word| word.strip_prefix('+'))
        .collect()
}

/// Every key but the staged ones, each as Redis writes it to disk, with the moment at which it expires, in milliseconds.
fn everything(world: &World) -> BTreeMap<String, (Vec<u8>, i64)> {
    let mut cache = world.cache();
    let keys: Vec<String> = cache.keys("*").unwrap();
    let mut left = BTreeMap::new();
    for key in keys {
        let expires = redis::cmd("PEXPIRETIME").arg(&key).query(&mut cache).unwrap();
        if key.contains(":staging:") {
            assert!(expires > 0, "what is left would stay: {key}");
        } else {
            let content = redis::cmd("DUMP").arg(&key).query(&mut cache).unwrap();
            left.insert(key, (content, expires));
        }
    }
    left
}

fn refused(world: &World, task: &str) -> RunError {
    let before = everything(world);
    let run = world.runner(task).env("MAPA_MAX_RETRIES", "3").run();
    let error = run.failure(2);
    assert_eq!(
        (error.class, error.code.as_str(), run.report.attempts.len()),
        (FaultClass::Permanent, "NOPERM", 1),
        "{error:?}"
    );
    assert!(everything(world) == before, "{task} changed something: {error:?}");
    error
}

/// Takes away each command alone, and gives it back.
fn each_command_alone_is_missed(is_published: bool) {
    let world = refreshed();
    for (task, document) in PUBLISHERS {
        if is_published {
            world.succeed(task);
        }
        for command in granted() {
            acl(&world, &[&format!("-{command}")]);
            let is_spare = match command {
                // Where there is no password, for another database, for listeners, by the health-check.
                "ping" | "select" | "publish" | "exists" => true,
                "getrange" => true,
                // The statistics are one piece.
                "append" => task == STATISTICS,
                _ => false,
            };
            if is_spare {
                world.succeed(task);
            } else {
                let error = refused(&world, task);
                let remedy = format!("may not run {}: grant +{command};", command.to_uppercase());
                assert!(error.message.contains(&remedy), "{error:?}");
            }
            acl(&world, &[&format!("+{command}")]);
            if !is_spare && is_published {
                let before = world.document(document).unwrap();
                world.succeed(task);
                let after = world.document(document).unwrap();
                assert!(
                    before["publishedAt"].as_str() < after["publishedAt"].as_str(),
                    "without {command} no more"
                );
            }
            if !is_published {
                redis::cmd("FLUSHALL").exec(&mut world.cache()).unwrap();
            }
        }
    }
}

#[test]
fn f33_without_any_one_command_what_is_published_stays_as_it_is_and_the_command_is_named() {
    each_command_alone_is_missed(true);
}

#[test]
fn f33_without_any_one_command_nothing_half_is_published_first() {
    each_command_alone_is_missed(false);
}

#[test]
fn f33_without_any_one_key_what_is_published_stays_as_it_is_and_the_keys_are_named() {
    let world = refreshed();
    let all = ["~mapa:*", "~{mapa:*"];
    for is_published in [false, true] {
        for (task, document) in PUBLISHERS {
            if is_published {
                world.succeed(task);
            }
            let but_meta = format!("~{{{document}}}:[!m]*");
            for keys in [
                &["~mapa:*"][..],
                &["~{mapa:*"],
                &["~mapa:*", &but_meta],
                &["%R~mapa:*", "~{mapa:*"],
                &["%W~mapa:*", "~{mapa:*"],
                &["~mapa:*", "%R~{mapa:*"],
                // Two sets of permissions, of which none has all keys.
                &["~mapa:*", "(+@all ~{mapa:*)"],
            ] {
                acl(&world, &["resetkeys", "clearselectors"]);
                acl(&world, keys);
                let error = refused(&world, task);
                assert!(error.message.contains("grant ~PREFIX:* and ~{PREFIX:*"), "{error:?}");
            }
            acl(&world, &["resetkeys", "clearselectors"]);
            acl(&world, &all);
        }
    }
}

#[test]
fn f33_a_replacement_that_fails_half_way_is_taken_back() {
    let world = refreshed();
    for (task, document) in PUBLISHERS {
        let sibling = if task == MAP { "geojson" } else { "last_good" };
        let [sibling, meta] = [sibling, "meta"].map(|what| format!("{{{document}}}:{what}"));
        let in_order = [document, &sibling, &meta];
        for renamed in 1..=in_order.len() {
            let keys: Vec<String> = in_order[..renamed].iter().map(|key| format!("~{key}")).collect();
            let selector = format!("(+rename ~{{{document}}}:staging:* {})", keys.join(" "));
            for is_published in [false, true] {
                acl(&world, &["clearselectors", "+rename"]);
                redis::cmd("FLUSHALL").exec(&mut world.cache()).unwrap();
                if is_published {
                    world.succeed(task);
                }
                acl(&world, &["-rename", &selector]);
                refused(&world, task);
                let staged: Vec<String> = world.cache().keys("*:staging:*").unwrap();
                assert_eq!(staged, Vec::<String>::new());
            }
            acl(&world, &["clearselectors", "+rename"]);
        }
        world.succeed(task);
    }
}

#[test]
fn lesson_09_a_doubt_that_cannot_be_written_down_changes_nothing() {
    let world = refreshed();
    for (task, document) in PUBLISHERS {
        world.succeed(task);
        world.sql("UPDATE radar.mapa_refresh_stamp SET refreshed_at = now() - interval '61 s'");
        world.set_generation(document, world.stamp() - 1_000_000);
        let before = everything(&world);
        for command in ["hset", "expire", "unlink"] {
            acl(&world, &[&format!("-{command}")]);
            let run = world.runner(task).env("MAPA_MAX_DATA_AGE_MINUTES", "1").run();
            let error = run.failure(2);
            assert_eq!(error.code, "NOPERM", "{error:?}");
            assert!(error.message.contains(&format!("grant +{command};")), "{error:?}");
            assert!(everything(&world) == before, "without {command}");
            acl(&world, &[&format!("+{command}")]);
        }
        let run = world.runner(task).env("MAPA_MAX_DATA_AGE_MINUTES", "1").run();
        assert_eq!(run.failure(2).code, "ViewTooOld");
        world.succeed(VIEW);
    }
}

#[test]
fn a_health_check_without_permission_names_the_command() {
    let world = refreshed();
    for task in [MAP, STATISTICS] {
        world.succeed(task);
    }
    for command in ["exists", "hmget"] {
        acl(&world, &[&format!("-{command}")]);
        let error = refused(&world, "health-check");
        assert!(error.message.contains(&format!("grant +{command};")), "{error:?}");
        acl(&world, &[&format!("+{command}")]);
    }
    world.succeed("health-check");
}

#[test]
fn a_user_of_an_earlier_version_without_getrange_publishes_while_meta_is_there_and_is_warned() {
    let world = refreshed();
    for task in [MAP, STATISTICS] {
        world.succeed(task);
    }
    acl(&world, &["-getrange"]);
    let run = world.runner(MAP).run();
    assert!(run.stderr.contains("grant it +getrange"), "{}", run.stderr);
    run.success();
    world.succeed("health-check");

    // Evicted: whose the documents are can't be known, so that they are left alone.
    world.cache().del::<_, ()>("{mapa:interrupcoes}:meta").unwrap();
    for task in [MAP, "health-check"] {
        let error = refused(&world, task);
        assert!(error.message.contains("grant +getrange;"), "{error:?}");
    }
    acl(&world, &["+getrange"]);
    for task in [MAP, "health-check"] {
        world.succeed(task);
    }
}
