//! What goes wrong between the operator and the API server.

use mapa_refresh_crds::policy::TaskName;
use mapa_refresh_tests::fake_api::{
    World,
    failure::Failure,
    faults::Effect,
    http::{Call, Verb},
    policy, resource,
};
use serde_json::json;

use crate::span::{minutes, seconds};

fn writes(call: &Call) -> bool {
    call.is_write() && call.resource != resource::EVENTS
}

/// A world in which the first three slots went well.
async fn running(seed: u64) -> World {
    let mut world = World::new(seed);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(25)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    world
}

/// Plays `effect` on every single write of a policy's beginning and first runs, one world for each.
async fn on_each_write(effect: Effect, crashes: u32) {
    for nth in 0..7 {
        let mut world = World::new(100 + nth);
        let mut seen = 0;
        world.fault(
            1,
            move |call| {
                seen += u64::from(writes(call));
                writes(call) && seen == nth + 1
            },
            effect.clone(),
        );
        world.apply(policy("roraima", json!({})));
        if nth < 4 {
            world.run_for(seconds(3)).await;
            world.converges_within(seconds(10)).await;
        }
        world.run_for(minutes(24)).await;
        world.converges_within(seconds(10)).await;
        assert_eq!(world.crashes(), crashes, "write {nth}");
        assert!(world.server().faults.are_clear(), "write {nth} never came");
        assert!(world.is("roraima", "Compliant", "True", "Fresh"), "write {nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn f01_the_operator_dies_before_each_write() {
    on_each_write(Effect::CrashBefore, 1).await;
}

#[tokio::test(start_paused = true)]
async fn f01_the_operator_dies_after_each_write() {
    on_each_write(Effect::CrashAfter, 1).await;
}

#[tokio::test(start_paused = true)]
async fn f02_the_answer_to_each_write_is_lost() {
    on_each_write(Effect::AnswerLost, 0).await;
}

#[tokio::test(start_paused = true)]
async fn f02_the_answer_to_each_write_never_comes() {
    on_each_write(Effect::SilentAfter, 0).await;
}

#[tokio::test(start_paused = true)]
async fn f02_the_request_of_each_write_is_lost() {
    on_each_write(Effect::Lost, 0).await;
}

#[tokio::test(start_paused = true)]
async fn f03_twenty_conflicts_in_a_row_are_overcome() {
    let mut world = running(3).await;
    let left = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(20));
    let counted = std::sync::Arc::clone(&left);
    world.fault(
        20,
        move |call| {
            let hit = call.is_status_write();
            if hit {
                counted.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
            hit
        },
        Effect::Refused(Failure::new(409, "Conflict", "the object has been modified")),
    );
    world
        .run_until("20 conflicts", minutes(15), |_| {
            left.load(std::sync::atomic::Ordering::Relaxed) == 0
        })
        .await;
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn f04_too_many_requests_are_repeated_when_the_server_says_so() {
    let mut world = World::new(4);
    world.fault(6, writes, Effect::Refused(Failure::too_many_requests(3)));
    world.apply(policy("roraima", json!({})));
    world
        .run_until("6 refusals", minutes(2), |world| world.server().faults.are_clear())
        .await;
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn f05_a_server_that_fails_for_minutes_is_outlived_and_everything_is_right_within_ten_seconds() {
    for code in [500, 503, 504] {
        let mut world = running(5).await;
        world.with_faults(|faults| faults.always(|_| true, Effect::Refused(Failure::server(code))));
        // Whatever was open is cut, too, as when a server restarts.
        world.server().expire_watches();
        world.run_for(minutes(7)).await;
        world.edit(&world.policy_key("roraima"), |policy| {
            policy["spec"]["intervalMinutes"] = 5.into()
        });
        world.clear_faults();
        let took = world.converges_within(seconds(10)).await;
        assert!(took <= seconds(10), "{took:?}");
        world.run_for(minutes(12)).await;
        assert!(world.is("roraima", "Compliant", "True", "Fresh"), "{code}");
    }
}

/// How far a start has come when the first watch breaks depends on the latency, which every start draws anew.
#[tokio::test(start_paused = true)]
async fn i07_an_operator_whose_first_watch_breaks_while_its_caches_are_filled_is_not_stuck() {
    let mut world = running(56).await;
    for start in 0..400 {
        world.kill_operator();
        world.edit(&world.policy_key("roraima"), |policy| {
            policy["spec"]["intervalMinutes"] = (5 + start % 2).into();
        });
        world.fault(
            1,
            |call| call.verb == Verb::Watch && call.resource == resource::POLICIES,
            Effect::AnswerLost,
        );
        world.start_operator();
        world.converges_within(seconds(10)).await;
        assert!(world.server().faults.are_clear(), "start {start}: nothing broke");
    }
}

#[tokio::test(start_paused = true)]
async fn f05_nothing_answers_for_minutes() {
    let mut world = running(55).await;
    world.with_faults(|faults| faults.always(|_| true, Effect::Lost));
    world.server().expire_watches();
    world.run_for(minutes(5)).await;
    world.edit(&world.policy_key("roraima"), |policy| {
        policy["spec"]["intervalMinutes"] = 5.into()
    });
    world.clear_faults();
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn f05_lists_and_watches_whose_answer_never_begins_are_given_up() {
    for verb in [Verb::List, Verb::Watch] {
        for resource in [resource::POLICIES, resource::CRON_JOBS, resource::JOBS, resource::PODS] {
            let mut world = World::without_operator(56);
            world.fault(
                1,
                move |call| call.verb == verb && call.resource == resource,
                Effect::Silent,
            );
            world.start_operator();
            world.run_for(seconds(5)).await;
            assert!(world.server().faults.are_clear(), "{verb:?} {resource:?} never came");
            world.apply(policy("roraima", json!({})));
            world.converges_within(seconds(25)).await;
            world.run_for(minutes(12)).await;
            assert!(
                world.is("roraima", "Compliant", "True", "Fresh"),
                "{verb:?} {resource:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f06_half_open_watches_are_given_up_after_five_minutes() {
    let mut world = running(6).await;
    world.server().silence_watches();
    world.run_for(seconds(10)).await;
    world.edit(&world.policy_key("roraima"), |policy| {
        policy["spec"]["intervalMinutes"] = 5.into()
    });
    world.delete(&world.cron_job_key("roraima", TaskName::RefreshMapaCache));
    world.run_for(seconds(300)).await;
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn f10_its_own_writes_reach_the_watch_late_and_are_not_written_twice() {
    let mut world = World::new(10);
    world.run_for(seconds(1)).await;
    world.with_faults(|faults| faults.watches().delay = seconds(4));
    world.apply(policy("roraima", json!({ "rescue": false })));
    world.run_for(seconds(30)).await;
    world.clear_faults();
    world.converges_within(seconds(10)).await;
    assert_eq!(world.server().writes(), 4);
    let creations = world.all(resource::CRON_JOBS);
    assert!(creations.iter().all(|cron_job| cron_job["metadata"]["generation"] == 1));
}

/// An API server whose etcd has no room left answers every read and refuses every write, also those of the controllers.
#[tokio::test(start_paused = true)]
async fn f29_what_happened_while_etcd_was_full_is_told_within_ten_seconds_of_room() {
    let mut world = running(29).await;
    let full = || {
        Effect::Refused(Failure::new(
            500,
            "InternalError",
            "etcdserver: mvcc: database space exceeded",
        ))
    };
    world.with_faults(|faults| faults.always(Call::is_write, full()));
    world.kubernetes.go_down();
    world.run_for(minutes(45)).await;
    assert_eq!(
        world.condition("roraima", "Compliant")["status"],
        "True",
        "nothing can be written: `compliantUntil` alone tells that it is over"
    );
    world.clear_faults();
    world
        .run_until("the breach is told", seconds(10), |world| {
            world.condition("roraima", "Compliant")["status"] == "False"
        })
        .await;
    world.controllers_come_up();
    world.converges_within(seconds(10)).await;
    world.run_for(minutes(12)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
}

#[tokio::test(start_paused = true)]
async fn f29_a_slow_etcd_costs_time_and_no_second_write() {
    let mut world = World::new(291);
    // A little less than a write is waited for.
    world.with_faults(|faults| faults.always(Call::is_write, Effect::Slow(seconds(4))));
    world.apply(policy("roraima", json!({ "rescue": false })));
    world.run_for(minutes(2)).await;
    world.clear_faults();
    world.converges_within(seconds(10)).await;
    assert_eq!(world.server().writes(), 4);
}

#[tokio::test(start_paused = true)]
async fn f27_a_role_that_is_taken_away_and_given_back() {
    let mut world = running(27).await;
    let forbidden = || Effect::Refused(Failure::forbidden("RBAC"));
    world.with_faults(|faults| {
        faults.always(
            |call| call.resource != resource::POLICIES || call.verb != Verb::Watch,
            forbidden(),
        )
    });
    world.server().expire_watches();
    world.run_for(minutes(4)).await;
    world.clear_faults();
    world.converges_within(seconds(10)).await;
}
