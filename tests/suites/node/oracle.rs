//! Oracle, end to end: policy → CronJob → pod → genuine ODPI-C → OCI stub (not Oracle) → Redis → status.

use std::{net::IpAddr, sync::Arc};

use mapa_refresh_tests::{images, redis};
use oci_stub::{
    portal,
    server::Server,
    world::{Effect, Fault, Point, World as Database},
};

use crate::world::{Test, World, task};

pub const TESTS: &[Test] = &[(
    "oracle::a_policy_for_oracle_becomes_compliant_and_names_oracles_errors",
    life,
)];

const PASSWORD: &str = "c4n4ry-oracle-7e21";

const SPEC: &str = "  tasks:
  - { name: refresh-mv-portal, maxRetries: 1, retryDelaySeconds: 2, attemptTimeoutSeconds: 5 }
  - { name: refresh-mapa-cache, maxRetries: 1, retryDelaySeconds: 2, attemptTimeoutSeconds: 5 }
  - { name: calcular-estatisticas, maxRetries: 1, retryDelaySeconds: 2, attemptTimeoutSeconds: 5 }
";

fn life(world: &World) {
    let tenant = world.tenant("oracle", images::JOB_RUNNER);
    let server = Server::start(IpAddr::from([0, 0, 0, 0]), database()).unwrap();
    let cache = world.cache();
    let url = format!("oracle://{}:{}/RADAR", tenant.host(), server.address().port());
    tenant.apply(&tenant.example.secret(
        "radar-database",
        &[("url", &url), ("username", "radar"), ("password", PASSWORD)],
    ));
    tenant.apply(&tenant.example.secret(
        "radar-cache",
        &[("url", &cache.url(tenant.host())), ("password", redis::PASSWORD)],
    ));
    tenant.apply(
        &tenant
            .example
            .manifest(SPEC)
            .replace("kind: postgresql", "kind: oracle"),
    );

    tenant.wait_for_condition("Compliant", "True", "Fresh", 150);
    let map = cache.command(&["GET", "mapa:interrupcoes"]).unwrap();
    assert!(map.contains("\"total\":3") && map.contains("São Vicente"), "{map}");
    let policy = tenant.policy();
    assert_eq!(task(&policy, "refresh-mv-portal")["records"], 3);
    let stamp = server.world(|world| world.view("RADAR", "MV_PORTAL_PUBLICO").last_refresh);
    assert!(stamp.is_some(), "the view was refreshed through DBMS_MVIEW");

    server.world(|world| {
        world
            .faults
            .push(Fault::new(Point::Execute, Effect::Disconnect).in_sql("DBMS_MVIEW"))
    });
    tenant.wait("the error by its number, after its retry", 150, |policy| {
        let view = task(policy, "refresh-mv-portal");
        (view["lastError"]["code"] == "ORA-03113" && view["lastError"]["class"] == "Transient" && view["retries"] == 1)
            .then_some(())
    });
    server.world(|world| world.faults.clear());
    tenant.wait("the failures to be over", 120, |policy| {
        (policy["status"]["consecutiveFailures"] == 0).then_some(())
    });
    let everything = [
        tenant.log(),
        tenant.run(&["get", "mapa-refresh,cronjobs,jobs,pods,events", "-o", "yaml"]),
    ]
    .concat();
    assert!(!everything.contains(PASSWORD), "a password is readable");
    tenant.run(&["delete", "mapa-refresh", "roraima"]);
}

/// Three outages, half an hour old.
fn database() -> Database {
    let mut database = portal::database("radar", PASSWORD);
    let start = database.sysdate() - chrono::Duration::minutes(30);
    let (owner, name) = portal::VIEW;
    database.view(owner, name).source = Arc::new((1..=3).map(|id| portal::outage(id, start)).collect());
    database
}
