//! A cache behind Sentinels, and a cache that is a Redis Cluster: served as one server is.

use mapa_refresh_crds::report::SuccessKind;
use redis::Commands;

use crate::{
    servers::{Redis, free_port, wait_until},
    world::{CACHE_PASSWORD, World},
};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";
const STATISTICS: &str = "calcular-estatisticas";

fn refreshed() -> World {
    let world = World::new();
    world.outage(1, 90, "");
    world.succeed(VIEW);
    world
}

fn connect(server: &Redis) -> redis::Connection {
    let mut connection = server.connect();
    redis::cmd("AUTH").arg(CACHE_PASSWORD).exec(&mut connection).unwrap();
    connection
}

#[test]
fn f33_sentinels_lead_to_the_primary_before_and_after_a_failover() {
    let world = refreshed();
    let password = ["--requirepass", CACHE_PASSWORD, "--masterauth", CACHE_PASSWORD];
    let primary = world.redis.port().to_string();
    let replica = Redis::start(&[&password[..], &["--replicaof", "127.0.0.1", &primary]].concat());
    let sentinel = Redis::sentinel("mapa", world.redis.port(), CACHE_PASSWORD);
    // The first of the two is not there: the second is asked.
    let url = format!(
        "redis+sentinel://127.0.0.1:{},127.0.0.1:{}/mapa",
        free_port(),
        sentinel.port()
    );
    world.secret("cache", &[("url", &url), ("password", CACHE_PASSWORD)]);
    let before = world.succeed(MAP);
    assert_eq!(before.kind, SuccessKind::Published);
    assert!(world.document("mapa:interrupcoes").is_some(), "on the primary");

    wait_until("the Sentinel knows the replica", || {
        let replicas: Vec<redis::Value> = redis::cmd("SENTINEL")
            .arg("REPLICAS")
            .arg("mapa")
            .query(&mut sentinel.connect())
            .unwrap();
        replicas.len() == 1
    });
    wait_until("the replica has the map", || {
        connect(&replica).exists("mapa:interrupcoes").unwrap()
    });
    world.redis.stall(true);
    let mut run = None;
    wait_until("the replica is promoted", || {
        let role: Vec<redis::Value> = redis::cmd("ROLE").query(&mut connect(&replica)).unwrap();
        role.first() == Some(&redis::Value::BulkString(b"master".to_vec()))
    });
    wait_until("a run publishes there", || {
        run = Some(world.runner(MAP).run());
        run.as_ref().is_some_and(|run| run.status.success())
    });
    let publications: usize = connect(&replica).llen("{mapa:interrupcoes}:log").unwrap();
    assert_eq!(
        publications, 2,
        "what was published before the failover is remembered: {run:?}"
    );
    world.redis.stall(false);

    world.secret("cache", &[("url", &url), ("password", "c4n4ry-wrong")]);
    let error = world
        .runner(MAP)
        .env("MAPA_MAX_RETRIES", "3")
        .env("MAPA_RETRY_DELAY_SECONDS", "0")
        .run()
        .failure(2);
    assert_eq!(error.code, "CredentialsRejected", "{error:?}");
    world.secret(
        "cache",
        &[("url", &url.replace("/mapa", "/outro")), ("password", CACHE_PASSWORD)],
    );
    let error = world.runner(MAP).run().failure(1);
    assert!(error.message.contains("outro"), "{error:?}");
}

#[test]
fn a_redis_cluster_keeps_the_keys_of_a_task_in_one_slot() {
    let world = refreshed();
    let nodes = [(); 3].map(|()| {
        Redis::start(&[
            "--requirepass",
            CACHE_PASSWORD,
            "--masterauth",
            CACHE_PASSWORD,
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
        ])
    });
    for (node, slots) in nodes.iter().zip([(0, 5_460), (5_461, 10_922), (10_923, 16_383)]) {
        let mut connection = connect(node);
        redis::cmd("CLUSTER")
            .arg("ADDSLOTSRANGE")
            .arg(slots.0)
            .arg(slots.1)
            .exec(&mut connection)
            .unwrap();
        redis::cmd("CLUSTER")
            .arg("MEET")
            .arg("127.0.0.1")
            .arg(nodes[0].port())
            .exec(&mut connection)
            .unwrap();
    }
    wait_until("every node knows every slot", || {
        nodes.iter().all(|node| {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut connect(node)).unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
    });
    let url = format!(
        "redis+cluster://127.0.0.1:{},127.0.0.1:{}",
        free_port(),
        nodes[1].port()
    );
    world.secret("cache", &[("url", &url), ("password", CACHE_PASSWORD)]);
    for task in [MAP, STATISTICS, MAP] {
        assert_eq!(world.succeed(task).kind, SuccessKind::Published);
    }
    world.succeed("health-check");
    let mut keys: Vec<String> = Vec::new();
    for node in &nodes {
        keys.extend(connect(node).keys::<_, Vec<String>>("*").unwrap());
    }
    keys.sort();
    assert_eq!(
        keys,
        [
            "mapa:estatisticas",
            "mapa:interrupcoes",
            "{mapa:estatisticas}:last_good",
            "{mapa:estatisticas}:log",
            "{mapa:estatisticas}:meta",
            "{mapa:interrupcoes}:geojson",
            "{mapa:interrupcoes}:log",
            "{mapa:interrupcoes}:meta",
        ]
    );

    world.secret("cache", &[("url", &url), ("password", "c4n4ry-wrong")]);
    let run = world
        .runner(MAP)
        .env("MAPA_MAX_RETRIES", "3")
        .env("MAPA_RETRY_DELAY_SECONDS", "0")
        .run();
    assert_eq!(run.failure(2).code, "CredentialsRejected", "{run:?}");
    // A single url leads to a node that may not have the slot: the answer says what to write.
    let single = format!("redis://127.0.0.1:{}", nodes[0].port());
    world.secret("cache", &[("url", &single), ("password", CACHE_PASSWORD)]);
    let moved = [MAP, STATISTICS].map(|task| world.runner(task).run());
    assert!(
        moved
            .iter()
            .any(|run| !run.status.success() && run.stderr.contains("redis+cluster://")),
        "{moved:?}"
    );
}
