//! A policy's life: compliant, a database that fails, a breach at its moment, an operator killed in between, recovery.

use mapa_refresh_tests::{images, postgres, redis, seed};
use serde_json::Value;

use crate::{
    restricted::{assert_restricted, identities, nobody, process_of},
    world::{Test, World, condition, task},
};

pub const TESTS: &[Test] = &[(
    "end_to_end::f01_f32_a_policy_becomes_compliant_breaks_at_its_moment_and_recovers",
    life,
)];

const SPEC: &str = "  maxDataAgeMinutes: 2
  tasks:
  - { name: refresh-mv-portal, maxRetries: 2, retryDelaySeconds: 3, attemptTimeoutSeconds: 5 }
  - { name: refresh-mapa-cache, maxRetries: 2, retryDelaySeconds: 3, attemptTimeoutSeconds: 5 }
  - { name: calcular-estatisticas, maxRetries: 2, retryDelaySeconds: 3, attemptTimeoutSeconds: 5 }
";

fn life(world: &World) {
    let mut tenant = world.tenant("life", images::JOB_RUNNER);
    let mut database = world.database();
    let cache = world.cache();
    tenant.apply_secrets(&database, &cache);
    tenant.apply(&tenant.example.manifest(SPEC));

    // A real CronJob fires, and the documents are there.
    tenant.wait_for_condition("Compliant", "True", "Fresh", 120);
    assert_restricted(&tenant.run(&["get", "pods", "-o", "json"]), false);
    let document = |key: &str| -> Value { serde_json::from_str(&cache.command(&["GET", key]).unwrap()).unwrap() };
    let map = document("mapa:interrupcoes");
    assert_eq!(map["total"], seed::EXPECTED.active);
    assert_eq!(
        map["interrupcoes"].as_array().unwrap().len() as u64,
        seed::EXPECTED.active
    );
    let statistics = document("mapa:estatisticas");
    assert_eq!(statistics["total_interrupcoes"], seed::EXPECTED.active);
    let by_range: u64 = statistics["por_faixa"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(by_range, seed::EXPECTED.active);
    assert_eq!(document("{mapa:interrupcoes}:geojson")["type"], "FeatureCollection");
    let policy = tenant.policy();
    assert_eq!(task(&policy, "refresh-mv-portal")["records"], seed::EXPECTED.rows);
    assert_eq!(task(&policy, "refresh-mapa-cache")["records"], seed::EXPECTED.active);
    let quarantined = task(&policy, "refresh-mapa-cache")["quarantined"].clone();
    let reasons = quarantined.as_object().unwrap().values();
    assert_eq!(
        reasons.filter_map(Value::as_u64).sum::<u64>(),
        seed::EXPECTED.quarantined,
        "{quarantined}"
    );
    let row = tenant.run(&["get", "mapa-refresh", "roraima", "--no-headers"]);
    let columns: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((columns[1], columns[2], columns[6]), ("1", "True", "Fresh"), "{row}");

    // The operator is away while the database fails.
    let runs = task(&policy, "refresh-mv-portal")["totalRuns"].as_i64().unwrap();
    tenant.kill_operator();
    database.stop();
    tenant.start_operator();
    // A run that waits for its next attempt is there for long enough to look at its process: what its pod says is what was asked for, this is
    // what it got.
    let runner = tenant.wait("a run in progress", 90, |_| {
        let pods: Value = serde_json::from_str(&tenant.run(&["get", "pods", "-o", "json"])).unwrap();
        let running = pods["items"].as_array()?.iter();
        running
            .filter(|pod| pod["status"]["phase"] == "Running")
            .find_map(|pod| identities(process_of(pod, "job-runner")?))
    });
    assert_eq!(runner, nobody());
    // On a node that stands still for an attempt's 5 s a run may fail by that limit instead; a later one, a minute on, names the database.
    let port = database.port().to_string();
    let error = tenant.wait(
        "a failed run with its retries, which names the database",
        210,
        |policy| {
            let view = task(policy, "refresh-mv-portal");
            let error = &view["lastError"];
            (view["consecutiveFailures"].as_i64() >= Some(1)
                && view["retries"] == 2
                && view["totalRuns"].as_i64() > Some(runs)
                && error["message"].as_str().is_some_and(|message| message.contains(&port)))
            .then(|| error.clone())
        },
    );
    assert_eq!(error["class"], "Transient", "{error}");

    // The breach comes at its moment, by a timer.
    let breach = tenant.wait_for_condition("Compliant", "False", "DataTooOld", 150);
    let policy = tenant.policy();
    let until = policy["status"]["compliantUntil"].as_str().unwrap();
    let since = breach["lastTransitionTime"].as_str().unwrap();
    assert!(
        since >= until && seconds_between(until, since) <= 2,
        "was compliant until {until}, said so at {since}"
    );
    assert!(
        breach["message"].as_str().unwrap().contains("refresh-mv-portal failed"),
        "{breach}"
    );
    assert!(
        cache.command(&["EXISTS", "mapa:interrupcoes"]).unwrap() == "1",
        "a failed run loses nothing that was published"
    );

    // Recovery, while the operator is away once more.
    database.resume().unwrap();
    tenant.kill_operator();
    tenant.start_operator();
    tenant.wait_for_condition("Compliant", "True", "Fresh", 150);
    tenant.wait("the failures to be over", 90, |policy| {
        (policy["status"]["consecutiveFailures"] == 0).then_some(())
    });
    assert_eq!(condition(&tenant.policy(), "Ready")["status"], "True");

    // No password anywhere that people look.
    let everything = [
        tenant.log(),
        tenant.run(&["get", "mapa-refresh,cronjobs,jobs,pods,events", "-o", "yaml"]),
        tenant.run(&[
            "logs",
            "-l",
            "app.kubernetes.io/managed-by=mapa-refresh-operator",
            "--tail=-1",
            "--ignore-errors",
        ]),
    ]
    .concat();
    for canary in [postgres::RUNNER_PASSWORD, redis::PASSWORD] {
        assert!(!everything.contains(canary), "a password is readable");
    }

    tenant.run(&["delete", "mapa-refresh", "roraima"]);
}

/// Between two times of one day as Kubernetes writes them.
fn seconds_between(from: &str, to: &str) -> i64 {
    let seconds = |time: &str| -> i64 {
        let time = time.split_once('T').unwrap().1.trim_end_matches('Z');
        time.split(':')
            .fold(0, |total, part| total * 60 + part.parse::<i64>().unwrap())
    };
    (seconds(to) - seconds(from)).rem_euclid(86_400)
}
