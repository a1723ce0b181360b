//! What real pods make of what is missing.

use mapa_refresh_tests::images;

use crate::world::{Tenant, Test, World, task};

pub const TESTS: &[Test] = &[
    (
        "misfits::a_missing_secret_is_named_by_the_runner_and_told_in_ready",
        missing_secret,
    ),
    ("misfits::a_secret_without_a_key_is_named_with_the_key", missing_key),
    (
        "misfits::f18_an_image_that_cannot_be_pulled_is_told_while_the_pod_waits",
        missing_image,
    ),
    ("misfits::f32_a_wrong_password_is_tried_once_and_told", wrong_password),
    ("misfits::a_run_by_hand_is_counted_and_needs_no_slot", by_hand),
];

fn run_by_hand(tenant: &Tenant, task: &str) {
    tenant.wait_for_condition("Ready", "True", "Reconciled", 30);
    tenant.run(&["create", "job", "--from", &format!("cronjob/roraima-{task}"), "by-hand"]);
}

/// Applies a policy whose slots are far apart, so that only the run by hand counts.
fn apply(tenant: &mut Tenant) {
    tenant.example.interval_minutes = 30;
    tenant.apply(&tenant.example.manifest("  rescue: false\n"));
}

fn missing_secret(world: &World) {
    let mut tenant = world.tenant("no-secret", images::JOB_RUNNER);
    apply(&mut tenant);
    run_by_hand(&tenant, "refresh-mv-portal");
    let ready = tenant.wait_for_condition("Ready", "False", "SecretIncomplete", 60);
    assert!(ready["message"].as_str().unwrap().contains("url"), "{ready}");
}

fn missing_key(world: &World) {
    let mut tenant = world.tenant("no-key", images::JOB_RUNNER);
    tenant.apply(&tenant.example.secret("radar-database", &[("username", "x")]));
    tenant.apply(&tenant.example.secret("radar-cache", &[("url", "redis://10.244.0.1:1")]));
    apply(&mut tenant);
    run_by_hand(&tenant, "refresh-mapa-cache");
    let ready = tenant.wait_for_condition("Ready", "False", "SecretIncomplete", 60);
    assert!(ready["message"].as_str().unwrap().contains("url"), "{ready}");
}

fn missing_image(world: &World) {
    let mut tenant = world.tenant("no-image", "localhost/there-is-none:1");
    apply(&mut tenant);
    run_by_hand(&tenant, "refresh-mv-portal");
    let ready = tenant.wait_for_condition("Ready", "False", "ImagePullBackOff", 60);
    assert!(ready["message"].as_str().unwrap().contains("there-is-none"), "{ready}");
}

fn wrong_password(world: &World) {
    let mut tenant = world.tenant("wrong-password", images::JOB_RUNNER);
    let database = world.database();
    let cache = world.cache();
    tenant.apply_secrets(&database, &cache);
    let secret = [
        ("url", database.url("10.244.0.1")),
        ("username", "mapa_runner".into()),
        ("password", "canary-wrong-5512".into()),
    ];
    let secret: Vec<(&str, &str)> = secret.iter().map(|(key, value)| (*key, value.as_str())).collect();
    tenant.apply(&tenant.example.secret("radar-database", &secret));
    apply(&mut tenant);
    run_by_hand(&tenant, "refresh-mv-portal");
    let ready = tenant.wait_for_condition("Ready", "False", "CredentialsRejected", 60);
    assert!(!ready["message"].as_str().unwrap().contains("canary"), "{ready}");
    assert_eq!(
        task(&tenant.policy(), "refresh-mv-portal")["attempts"],
        1,
        "tried once and never again in a run"
    );
}

fn by_hand(world: &World) {
    let mut tenant = world.tenant("by-hand", images::JOB_RUNNER);
    let database = world.database();
    let cache = world.cache();
    tenant.apply_secrets(&database, &cache);
    apply(&mut tenant);
    tenant.wait_for_condition("Ready", "True", "Reconciled", 30);
    for name in ["refresh-mv-portal", "refresh-mapa-cache", "calcular-estatisticas"] {
        tenant.run(&[
            "create",
            "job",
            "--from",
            &format!("cronjob/roraima-{name}"),
            &format!("by-hand-{name}"),
        ]);
        tenant.wait(&format!("the run of {name}"), 60, |policy| {
            task(policy, name)["lastSuccessTime"].is_string().then_some(())
        });
    }
    tenant.wait_for_condition("Compliant", "True", "Fresh", 10);
}
