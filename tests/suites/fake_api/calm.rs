//! Nothing goes wrong.

use mapa_refresh_crds::policy::TaskName;
use mapa_refresh_tests::fake_api::{World, policy, resource};
use serde_json::json;

use crate::span::{hours, minutes, seconds};

#[tokio::test(start_paused = true)]
async fn promise_1_a_policy_becomes_three_cron_jobs_in_exactly_four_writes() {
    let mut world = World::new(1);
    // Runs beside the schedule are no part of it.
    world.apply(policy("roraima", json!({ "rescue": false })));
    world.converges_within(seconds(2)).await;
    world.run_for(seconds(30)).await;
    assert_eq!(world.all(resource::CRON_JOBS).len(), 3);
    assert_eq!(world.server().writes(), 4);
}

#[tokio::test(start_paused = true)]
async fn i4_i6_a_day_of_healthy_runs_is_compliant_and_every_run_is_counted_once() {
    let mut world = World::new(2);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(12)).await;
    assert!(
        world.is("roraima", "Compliant", "True", "Fresh"),
        "{}",
        world.policy("roraima")
    );
    world.run_for(hours(24)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    world.converges_within(seconds(10)).await;
    let runs = world.task("roraima", TaskName::RefreshMapaCache)["totalRuns"]
        .as_u64()
        .unwrap();
    assert!((144..=147).contains(&runs), "{runs}");
}

#[tokio::test(start_paused = true)]
async fn i3_a_suspended_policy_at_rest_is_never_written() {
    let mut world = World::new(3);
    world.apply(policy(
        "roraima",
        json!({ "suspend": true, "suspendReason": "maintenance" }),
    ));
    world.converges_within(seconds(2)).await;
    world.run_for(seconds(30)).await;
    let writes = world.server().writes();
    world.run_for(hours(24)).await;
    assert_eq!(world.server().writes(), writes);
}
