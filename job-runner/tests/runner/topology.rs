//! A cache behind Sentinels, and a cache that is a Redis Cluster: served as one server is.

use mapa_refresh_crds::report::SuccessKind;
use redis::Commands;

use crate::{
    servers::{Redis, Silent, free_port, wait_until},
    tls::{Authority, Kind, cache_is_verified, certificates, demanding_redis_arguments, redis_arguments},
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
    let mut connection = None;
    // One that has just begun to listen may still end a connection.
    wait_until("a connection to the server", || {
        connection = try_connect(server).ok();
        connection.is_some()
    });
    connection.unwrap()
}

/// A Sentinel that promotes a server ends the connections of its clients.
fn try_connect(server: &Redis) -> redis::RedisResult<redis::Connection> {
    let mut connection = server.try_connect()?;
    redis::cmd("AUTH").arg(CACHE_PASSWORD).exec(&mut connection)?;
    Ok(connection)
}

#[test]
fn f33_sentinels_lead_to_the_primary_before_and_after_a_failover() {
    let world = refreshed();
    let password = ["--requirepass", CACHE_PASSWORD, "--masterauth", CACHE_PASSWORD];
    let primary = world.redis.port().to_string();
    let replica = Redis::start(&[&password[..], &["--replicaof", "127.0.0.1", &primary]].concat());
    let sentinel = Redis::sentinel("mapa", world.redis.port(), CACHE_PASSWORD, "");
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
        let role =
            try_connect(&replica).and_then(|mut replica| redis::cmd("ROLE").query::<Vec<redis::Value>>(&mut replica));
        role.is_ok_and(|role| role.first() == Some(&redis::Value::BulkString(b"master".to_vec())))
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

/// Three nodes, each with the port that the others and the clients use, which share all slots. `tls` makes that a TLS port, by these arguments.
fn cluster(tls: impl Fn(u16) -> Vec<String>) -> [(Redis, u16); 3] {
    let nodes = [(); 3].map(|()| {
        let (tls_port, bus) = (free_port(), free_port().to_string());
        let tls = tls(tls_port);
        let mut arguments = vec!["--requirepass", CACHE_PASSWORD, "--masterauth", CACHE_PASSWORD];
        arguments.extend([
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-port",
            &bus,
        ]);
        if !tls.is_empty() {
            arguments.extend(["--tls-cluster", "yes"]);
        }
        arguments.extend(tls.iter().map(String::as_str));
        let node = Redis::start(&arguments);
        let port = if tls.is_empty() { node.port() } else { tls_port };
        (node, port, bus)
    });
    let slots = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];
    for ((node, ..), (first, last)) in nodes.iter().zip(slots) {
        let mut connection = connect(node);
        let mut ask = |arguments: &[&str]| redis::cmd("CLUSTER").arg(arguments).exec(&mut connection).unwrap();
        ask(&["ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        let (_, port, bus) = &nodes[0];
        ask(&["MEET", "127.0.0.1", &port.to_string(), bus]);
    }
    wait_until("every node knows every slot", || {
        nodes.iter().all(|(node, ..)| {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut connect(node)).unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
    });
    nodes.map(|(node, port, _)| (node, port))
}

#[test]
fn sentinels_and_their_primary_are_verified_against_the_secrets_authority() {
    let world = refreshed();
    let dir = tempfile::tempdir().unwrap();
    let ca = certificates(dir.path(), &["localhost", "127.0.0.1"]);
    let (primary_port, sentinel_port) = (free_port(), free_port());
    let tls = redis_arguments(dir.path(), primary_port);
    let arguments = ["--requirepass", CACHE_PASSWORD]
        .into_iter()
        .chain(tls.iter().map(String::as_str));
    let primary = Redis::start(&arguments.collect::<Vec<_>>());
    let settings: Vec<String> = redis_arguments(dir.path(), sentinel_port)
        .chunks(2)
        .map(|pair| format!("{} {}", pair[0].trim_start_matches('-'), pair[1]))
        .collect();
    // The Sentinel itself speaks TLS to the primary, and so names its TLS port.
    let settings = format!("{}\ntls-replication yes", settings.join("\n"));
    let _sentinel = Redis::sentinel("mapa", primary_port, CACHE_PASSWORD, &settings);
    let url = format!("rediss+sentinel://localhost:{sentinel_port}/mapa");
    cache_is_verified(&world, &url, &ca);
    assert!(connect(&primary).exists::<_, bool>("mapa:interrupcoes").unwrap());
}

#[test]
fn every_node_of_a_cluster_is_verified_against_the_secrets_authority() {
    let world = refreshed();
    let dir = tempfile::tempdir().unwrap();
    let ca = certificates(dir.path(), &["localhost", "127.0.0.1"]);
    let nodes = cluster(|port| redis_arguments(dir.path(), port));
    let url = format!("rediss+cluster://localhost:{},localhost:{}", nodes[0].1, nodes[1].1);
    cache_is_verified(&world, &url, &ca);
}

#[test]
fn a_silent_first_sentinel_or_node_leaves_time_for_the_second() {
    let world = refreshed();
    let silent = Silent::start();
    let sentinel = Redis::sentinel("mapa", world.redis.port(), CACHE_PASSWORD, "");
    let sentinels = format!(
        "redis+sentinel://127.0.0.1:{},127.0.0.1:{}/mapa",
        silent.port(),
        sentinel.port()
    );
    let nodes = cluster(|_| Vec::new());
    let cluster = format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", silent.port(), nodes[1].1);
    for url in [sentinels, cluster] {
        world.secret("cache", &[("url", &url), ("password", CACHE_PASSWORD)]);
        let run = world.runner(MAP).env("MAPA_ATTEMPT_TIMEOUT_SECONDS", "8").run();
        assert_eq!((run.code(), run.report.attempts.len()), (0, 1), "{run:?}");
    }

    // The primary that the Sentinel names does not answer: it is the one that is named.
    let lost = Redis::sentinel("lost", silent.port(), CACHE_PASSWORD, "");
    let url = format!("redis+sentinel://127.0.0.1:{}/lost", lost.port());
    world.secret("cache", &[("url", &url), ("password", CACHE_PASSWORD)]);
    let error = world.runner(MAP).run().failure(1);
    let said = format!("its primary 127.0.0.1:{}: no answer", silent.port());
    assert!(error.message.contains(&said), "{error:?}");

    // A server that is no Sentinel.
    let url = format!("redis+sentinel://127.0.0.1:{}/mapa", world.redis.port());
    let keys = [
        ("url", url.as_str()),
        ("password", CACHE_PASSWORD),
        ("sentinel-password", CACHE_PASSWORD),
    ];
    world.secret("cache", &keys);
    let error = world.runner(MAP).run().failure(2);
    assert!(error.message.contains("is it a Sentinel?"), "{error:?}");
}

#[test]
fn sentinels_and_nodes_that_ask_for_client_certificates_get_one() {
    let world = refreshed();
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(dir.path(), &["localhost", "127.0.0.1"], &Kind::Server);
    let (certificate, key) = authority.issue(&[], &Kind::Client("mapa"));
    let (primary_port, sentinel_port) = (free_port(), free_port());
    let tls = demanding_redis_arguments(dir.path(), primary_port);
    let mut arguments = vec!["--requirepass", CACHE_PASSWORD];
    arguments.extend(tls.iter().map(String::as_str));
    let _primary = Redis::start(&arguments);
    let settings: Vec<String> = demanding_redis_arguments(dir.path(), sentinel_port)
        .chunks(2)
        .map(|pair| format!("{} {}", pair[0].trim_start_matches('-'), pair[1]))
        .collect();
    let settings = format!("{}\ntls-replication yes", settings.join("\n"));
    let _sentinel = Redis::sentinel("mapa", primary_port, CACHE_PASSWORD, &settings);
    let nodes = cluster(|port| demanding_redis_arguments(dir.path(), port));
    for url in [
        format!("rediss+sentinel://localhost:{sentinel_port}/mapa"),
        format!("rediss+cluster://localhost:{}", nodes[0].1),
    ] {
        let keys = [
            ("url", url.as_str()),
            ("password", CACHE_PASSWORD),
            ("ca.crt", &authority.pem),
        ];
        let client = [("tls.crt", certificate.as_str()), ("tls.key", &key)];
        world.secret("cache", &[&keys[..], &client].concat());
        world.succeed(MAP);
        world.secret("cache", &keys);
        let run = world
            .runner(MAP)
            .env("MAPA_MAX_RETRIES", "3")
            .env("MAPA_RETRY_DELAY_SECONDS", "0")
            .run();
        let error = run.failure(2);
        assert_eq!(run.report.attempts.len(), 1, "{error:?}");
        assert!(error.message.contains("add the keys tls.crt and tls.key"), "{error:?}");
    }
}

#[test]
fn sentinels_that_ask_for_a_password_get_their_own() {
    let world = refreshed();
    let password = "c4n4ry-sentinel-77aa";
    for (settings, username) in [
        (format!("requirepass {password}"), None),
        (
            format!("user watcher on >{password} +@all ~* &*\nuser default off"),
            Some("watcher"),
        ),
    ] {
        let sentinel = Redis::sentinel("mapa", world.redis.port(), CACHE_PASSWORD, &settings);
        let url = format!("redis+sentinel://127.0.0.1:{}/mapa", sentinel.port());
        let mut keys = vec![("url", url.as_str()), ("password", CACHE_PASSWORD)];
        keys.extend(username.map(|name| ("sentinel-username", name)));
        let run = |password: Option<&str>| {
            let all = keys
                .iter()
                .copied()
                .chain(password.map(|password| ("sentinel-password", password)));
            world.secret("cache", &all.collect::<Vec<_>>());
            world.runner(MAP).env("MAPA_MAX_RETRIES", "3").run()
        };
        assert_eq!(run(Some(password)).success().kind, SuccessKind::Published);
        for wrong in [None, Some("c4n4ry-wrong")] {
            let refused = run(wrong);
            let error = refused.failure(2);
            assert_eq!(
                (error.code.as_str(), refused.report.attempts.len()),
                ("CredentialsRejected", 1),
                "{error:?}"
            );
            assert!(error.message.contains("sentinel-password"), "{error:?}");
        }
    }
}

#[test]
fn the_cache_user_of_the_readme_serves_behind_sentinels_once_it_may_ask_for_the_role() {
    let world = refreshed();
    let sentinel = Redis::sentinel("mapa", world.redis.port(), CACHE_PASSWORD, "");
    world.use_the_readmes_cache_user(&format!("redis+sentinel://127.0.0.1:{}/mapa", sentinel.port()));
    let error = world.runner(MAP).run().failure(2);
    assert_eq!(error.code, "NOPERM", "{error:?}");
    assert!(error.message.contains("grant +role;"), "{error:?}");

    redis::cmd("ACL")
        .arg(&["SETUSER", "mapa-refresh", "+role"])
        .exec(&mut world.cache())
        .unwrap();
    for task in [MAP, STATISTICS, MAP, "health-check"] {
        world.succeed(task);
    }
}

#[test]
fn the_cache_user_of_the_readme_serves_a_redis_cluster_once_it_may_ask_for_the_slots() {
    let world = refreshed();
    let nodes = cluster(|_| Vec::new());
    for (node, _) in &nodes {
        world.make_the_readmes_cache_user(&mut connect(node));
        let mut acl = redis::cmd("ACL");
        acl.arg(&["SETUSER", "mapa-refresh", "+cluster"])
            .exec(&mut connect(node))
            .unwrap();
    }
    world.use_the_readmes_cache_user(&format!("redis+cluster://127.0.0.1:{}", nodes[0].1));
    for task in [MAP, STATISTICS, MAP, STATISTICS, "health-check"] {
        world.succeed(task);
    }

    let before = published(&nodes);
    for (node, _) in &nodes {
        let mut acl = redis::cmd("ACL");
        acl.arg(&["SETUSER", "mapa-refresh", "-rename"])
            .exec(&mut connect(node))
            .unwrap();
    }
    for task in [MAP, STATISTICS] {
        let error = world.runner(task).run().failure(2);
        assert_eq!(error.code, "NOPERM", "{error:?}");
        assert!(error.message.contains("grant +rename;"), "{error:?}");
    }
    assert_eq!(published(&nodes), before);
}

/// Every key of a cluster with its content, as Redis writes it to disk.
fn published(nodes: &[(Redis, u16)]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for (node, _) in nodes {
        let mut node = connect(node);
        for key in node.keys::<_, Vec<String>>("*").unwrap() {
            let content = redis::cmd("DUMP").arg(&key).query(&mut node).unwrap();
            all.push((key, content));
        }
    }
    all.sort();
    all
}

#[test]
fn a_redis_cluster_keeps_the_keys_of_a_task_in_one_slot() {
    let world = refreshed();
    let nodes = cluster(|_| Vec::new());
    let url = format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", free_port(), nodes[1].1);
    world.secret("cache", &[("url", &url), ("password", CACHE_PASSWORD)]);
    for task in [MAP, STATISTICS, MAP] {
        assert_eq!(world.succeed(task).kind, SuccessKind::Published);
    }
    world.succeed("health-check");
    let mut keys: Vec<String> = Vec::new();
    for (node, _) in &nodes {
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
    let single = format!("redis://127.0.0.1:{}", nodes[0].1);
    world.secret("cache", &[("url", &single), ("password", CACHE_PASSWORD)]);
    let moved = [MAP, STATISTICS].map(|task| world.runner(task).run());
    assert!(
        moved
            .iter()
            .any(|run| !run.status.success() && run.stderr.contains("redis+cluster://")),
        "{moved:?}"
    );
}
