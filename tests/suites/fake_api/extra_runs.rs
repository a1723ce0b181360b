//! Runs beside the schedule, whatever goes wrong and however many operators there are. That there is never a second Job for one deadline
//! or one request is checked at every step of every history.

use std::collections::BTreeSet;

use mapa_refresh_crds::policy::TaskName;
use mapa_refresh_tests::fake_api::{World, faults::Effect, http::Call, policy, resource};
use serde_json::json;

use crate::span::{minutes, seconds};

const EFFECTS: [Effect; 5] = [
    Effect::CrashBefore,
    Effect::CrashAfter,
    Effect::AnswerLost,
    Effect::SilentAfter,
    Effect::Lost,
];

/// The Jobs that were created beside the schedule of roraima, by what they are for: deadlines (`r`) or requests (`q`).
fn chains(world: &World, kind: char) -> BTreeSet<String> {
    let created = world.server().jobs_beside_the_schedule();
    created
        .iter()
        .filter_map(|job| job.rsplit('-').next())
        .filter(|id| id.starts_with(kind))
        .map(str::to_owned)
        .collect()
}

fn ask(world: &mut World, token: &str) {
    world.edit(&world.policy_key("roraima"), |policy| {
        policy["metadata"]["annotations"]["mapa.radar.dev/requestedAt"] = token.into();
    });
}

/// Every write from a request to its end meets `effect`, one world for each.
async fn request_under(effect: &Effect, rivals: usize) {
    for nth in 1..=6 {
        let mut world = World::with_rivals(700 + nth, rivals);
        world.apply(policy("roraima", json!({ "rescue": false })));
        world.run_for(minutes(12)).await;
        let mut seen = 0;
        world.fault(
            1,
            move |call: &Call| {
                let is_counted = call.is_write() && call.resource != resource::EVENTS;
                seen += u64::from(is_counted);
                is_counted && seen == nth
            },
            effect.clone(),
        );
        ask(&mut world, "agora");
        world
            .run_until("the request is carried out", minutes(6), |world| {
                world.policy("roraima")["status"]["request"]["finishedAt"].is_string()
            })
            .await;
        let status = world.policy("roraima")["status"].take();
        assert_eq!(status["lastHandledRequest"], "agora");
        assert!(
            status["request"]["failed"].is_null(),
            "{effect:?} at write {nth}: {status}"
        );
        world.run_for(minutes(11)).await;
        world.converges_within(seconds(10)).await;
        assert_eq!(chains(&world, 'q').len(), 1, "{effect:?} at write {nth}");
        assert_eq!(
            world.server().jobs_beside_the_schedule().len(),
            3,
            "{effect:?} at write {nth}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn promise_7_f01_f02_a_request_is_one_chain_whatever_becomes_of_each_write() {
    for effect in EFFECTS {
        request_under(&effect, 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn promise_7_f24_a_request_is_one_chain_with_two_operators_whatever_becomes_of_each_write() {
    for effect in EFFECTS {
        request_under(&effect, 2).await;
    }
}

/// A policy whose slots are too far apart, so that nearly every deadline needs a rescue, and somebody who asks for runs as well.
async fn rescues_under_chaos(seed: u64, rivals: usize) -> BTreeSet<String> {
    let mut world = World::with_rivals(seed, rivals);
    world.apply(policy(
        "roraima",
        json!({ "intervalMinutes": 30, "maxDataAgeMinutes": 30 }),
    ));
    world.run_for(minutes(35)).await;
    world.with_faults(|faults| faults.chaos(seed, 150));
    for token in ["1", "2", "3"] {
        world.run_for(minutes(50)).await;
        ask(&mut world, token);
    }
    world.run_for(minutes(20)).await;
    world.clear_faults();
    world.run_for(seconds(30)).await;
    world.converges_within(seconds(10)).await;
    world.run_for(minutes(35)).await;
    world.converges_within(seconds(10)).await;
    assert!(
        world.is("roraima", "Compliant", "True", "Fresh"),
        "seed {seed}: {}",
        world.policy("roraima")
    );
    assert_eq!(
        world.policy("roraima")["status"]["lastHandledRequest"],
        "3",
        "seed {seed}"
    );
    assert_eq!(chains(&world, 'q').len(), 3, "seed {seed}");
    assert!(world.crashes() > 0, "seed {seed}: no chaos");
    chains(&world, 'r')
}

#[tokio::test(start_paused = true)]
async fn promise_5_rescues_under_chaos_are_one_for_each_deadline() {
    for seed in 800..806 {
        let rescues = rescues_under_chaos(seed, 1).await;
        assert!(rescues.len() > 3, "seed {seed}: {rescues:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn promise_5_f24_rescues_of_two_operators_under_chaos_are_one_for_each_deadline() {
    for seed in 900..906 {
        let rescues = rescues_under_chaos(seed, 2).await;
        assert!(rescues.len() > 3, "seed {seed}: {rescues:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn promise_5_a_run_that_can_still_make_it_is_waited_for_by_two_operators() {
    let mut world = World::with_rivals(71, 2);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(25)).await;
    let before = chains(&world, 'r');
    // Runs that take long, and yet publish in time.
    world.kubernetes.script.duration = seconds(100);
    world.run_for(minutes(90)).await;
    world.converges_within(seconds(10)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    assert_eq!(
        chains(&world, 'r'),
        before,
        "{}",
        world.task("roraima", TaskName::RefreshMapaCache)
    );
}
