//! Several operators with one lease.

use mapa_refresh_crds::policy::TaskName;
use mapa_refresh_operator::election::Standing;
use mapa_refresh_tests::fake_api::{World, policy, resource};
use serde_json::json;

use crate::span::{minutes, seconds};

const VIEW: TaskName = TaskName::RefreshMvPortal;

#[tokio::test(start_paused = true)]
async fn f24_i12_of_two_operators_the_one_stopped_past_its_lease_writes_nothing_when_it_goes_on() {
    for seed in 0..20 {
        let mut world = World::without_operator(seed);
        world.apply(policy("roraima", json!({ "intervalMinutes": 5 })));
        let one = world.replica("one");
        world.run_for(minutes(6)).await;
        let two = world.replica("two");
        // Stopped at any moment between two renewals, and of a run.
        world.run_for(seconds(10 + seed)).await;
        assert!(one.leads() && !one.writes().is_empty());
        assert!(
            matches!(two.standing(), Standing::Follower { holder } if holder.starts_with("one_")),
            "{:?}",
            two.standing()
        );
        assert_eq!(two.writes(), [], "a follower writes nothing");

        one.stop();
        world.delete(&world.cron_job_key("roraima", VIEW));
        world
            .run_until("the other leads and works", seconds(20), |_| {
                two.leads() && !two.writes().is_empty()
            })
            .await;
        world.run_for(seconds(7 * seed)).await;
        assert!(one.leads(), "it has not noticed anything");
        let before = one.writes();
        // Both see it, and the stopped one has not heard of the other yet.
        world.delete(&world.cron_job_key("roraima", VIEW));
        one.go_on();
        world.run_for(minutes(6)).await;
        assert_eq!(one.writes(), before, "I12, seed {seed}");
        assert!(matches!(one.standing(), Standing::Follower { holder } if holder.starts_with("two_")));
        world.converges_within(seconds(10)).await;

        // It is a candidate again, and begins with what is true now.
        two.kill();
        world.delete(&world.cron_job_key("roraima", VIEW));
        world
            .run_until("the first leads and works again", seconds(20), |_| {
                one.leads() && one.writes().len() > before.len()
            })
            .await;
        world.converges_within(seconds(10)).await;
        one.terminate().await;
    }
}

#[tokio::test(start_paused = true)]
async fn i12_an_api_server_that_only_the_leader_cannot_reach_leaves_one_writer() {
    let mut world = World::without_operator(5);
    world.apply(policy("roraima", json!({ "intervalMinutes": 5 })));
    let one = world.replica("one");
    world.run_for(minutes(6)).await;
    let lease = || resource::Key::new(resource::LEASES, "mapa-system", "mapa-refresh-operator");
    // Every renewal of the leader fails from now on; everything else that it asks for is answered.
    world.fault(
        u32::MAX,
        |call| {
            call.resource == resource::LEASES
                && call.is_write()
                && call.body["spec"]["holderIdentity"]
                    .as_str()
                    .is_some_and(|holder| holder.starts_with("one_"))
        },
        mapa_refresh_tests::fake_api::faults::Effect::Lost,
    );
    let two = world.replica("two");
    world.run_until("the other leads", seconds(25), |_| two.leads()).await;
    assert!(!one.leads());
    let before = one.writes();
    world.delete(&world.cron_job_key("roraima", VIEW));
    world.run_for(minutes(6)).await;
    assert_eq!(one.writes(), before);
    assert!(
        world.get(&lease())["spec"]["holderIdentity"]
            .as_str()
            .is_some_and(|holder| holder.starts_with("two_"))
    );
    world.clear_faults();
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn sigterm_hands_the_lease_over_within_two_seconds() {
    let mut world = World::without_operator(6);
    world.apply(policy("roraima", json!({ "intervalMinutes": 5 })));
    let (one, two) = (world.replica("one"), world.replica("two"));
    world
        .run_until("one leads", seconds(2), |_| one.leads() || two.leads())
        .await;
    world.run_for(minutes(6)).await;
    let (leader, follower) = if one.leads() { (one, two) } else { (two, one) };
    let told = world.now();
    leader.terminate().await;
    world
        .run_until("the other leads", seconds(2), |_| follower.leads())
        .await;
    assert!(world.now().duration_since(told).as_secs_f64() <= 2.0);
    world.converges_within(seconds(10)).await;
}
