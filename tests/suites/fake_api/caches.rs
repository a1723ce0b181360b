//! What goes wrong with lists and watches.

use mapa_refresh_crds::{labels, policy::TaskName};
use mapa_refresh_tests::fake_api::{World, failure::Failure, faults::Effect, http::Verb, policy, resource};
use serde_json::json;

use crate::span::{minutes, seconds};

async fn running(seed: u64) -> World {
    let mut world = World::new(seed);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(25)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    world
}

#[tokio::test(start_paused = true)]
async fn f07_watches_that_expired_are_listed_anew_and_nothing_is_lost() {
    let mut world = running(7).await;
    world.with_faults(|faults| faults.watches().delay = minutes(10));
    // Nothing of this reaches the watches before they expire.
    world.delete(&world.cron_job_key("roraima", TaskName::RefreshMapaCache));
    world.run_for(minutes(6)).await;
    world.clear_faults();
    world.server().expire_watches();
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn f07_compaction_during_a_paged_list_starts_the_list_again() {
    let mut world = World::without_operator(77);
    for number in 0..505 {
        world.apply(policy(
            &format!("p{number}"),
            json!({ "suspend": true, "suspendReason": "x" }),
        ));
    }
    world.fault(
        3,
        |call| call.verb == Verb::List && call.query.contains_key("continue"),
        Effect::Refused(Failure::expired()),
    );
    world.start_operator();
    world.run_for(seconds(60)).await;
    world.converges_within(seconds(10)).await;
    assert!(world.server().faults.are_clear(), "a page was refused three times");
    assert_eq!(world.all(resource::CRON_JOBS).len(), 1_515);
    assert_eq!(world.server().writes(), 4 * 505);
}

#[tokio::test(start_paused = true)]
async fn f08_events_that_come_twice_change_nothing() {
    let mut world = World::new(8);
    world.with_faults(|faults| faults.watches().repeated = true);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(33)).await;
    world.clear_faults();
    world.converges_within(seconds(10)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
}

#[tokio::test(start_paused = true)]
async fn f08_events_that_come_late_are_late_but_right() {
    let mut world = World::new(88);
    world.with_faults(|faults| faults.watches().delay = seconds(20));
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(33)).await;
    world.clear_faults();
    world.converges_within(seconds(10)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
}

#[tokio::test(start_paused = true)]
async fn f08_events_that_are_lost_are_made_up_for_by_the_next_list() {
    for resource in [resource::POLICIES, resource::CRON_JOBS, resource::JOBS, resource::PODS] {
        let mut world = running(888).await;
        world.with_faults(|faults| {
            faults.watches().swallow.insert(resource, 5);
        });
        world.edit(&world.policy_key("roraima"), |policy| {
            policy["spec"]["intervalMinutes"] = 5.into()
        });
        world.delete(&world.cron_job_key("roraima", TaskName::RefreshMapaCache));
        world.run_for(minutes(6)).await;
        world.clear_faults();
        world.server().expire_watches();
        world.converges_within(seconds(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f09_a_restart_onto_an_api_server_that_is_behind_takes_nothing_back() {
    let mut world = running(9).await;
    world.server().freeze();
    world.run_for(minutes(12)).await;
    world.start_operator();
    world.run_for(minutes(2)).await;
    world.clear_faults();
    world.converges_within(seconds(10)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
}

#[tokio::test(start_paused = true)]
async fn f31_labels_that_are_flipped_are_put_back() {
    for label in [labels::POLICY, labels::TASK, labels::MANAGED_BY] {
        let mut world = running(31).await;
        world.apply(policy("acre", json!({})));
        world.converges_within(seconds(5)).await;
        let key = world.cron_job_key("roraima", TaskName::RefreshMapaCache);
        let before = world.get(&key);
        world.edit(&key, |cron_job| cron_job["metadata"]["labels"][label] = "acre".into());
        world.run_for(seconds(10)).await;
        world.converges_within(seconds(10)).await;
        assert_eq!(
            world.get(&key)["metadata"]["labels"],
            before["metadata"]["labels"],
            "{label}"
        );
        assert_eq!(world.get(&key)["metadata"]["uid"], before["metadata"]["uid"]);
    }
}

#[tokio::test(start_paused = true)]
async fn f31_an_owner_that_is_flipped_makes_the_cron_job_foreign_and_it_is_said() {
    let mut world = running(311).await;
    world.apply(policy("acre", json!({})));
    world.converges_within(seconds(5)).await;
    let key = world.cron_job_key("roraima", TaskName::RefreshMapaCache);
    let acre = world.policy("acre")["metadata"]["uid"].clone();
    let own = world.get(&key)["metadata"]["ownerReferences"].clone();
    world.edit(&key, |cron_job| {
        cron_job["metadata"]["ownerReferences"][0]["uid"] = acre;
        cron_job["metadata"]["ownerReferences"][0]["name"] = "acre".into();
    });
    world
        .run_until("a conflict", seconds(10), |world| {
            world.is("roraima", "Ready", "False", "CronJobConflict")
        })
        .await;
    world.edit(&key, |cron_job| cron_job["metadata"]["ownerReferences"] = own);
    world.converges_within(seconds(10)).await;
    world
        .run_until("ready again", seconds(10), |world| {
            world.is("roraima", "Ready", "True", "Reconciled")
        })
        .await;
}
