//! Policies, and parts of them, that the operator does not understand.

use mapa_refresh_crds::policy::TaskName;
use mapa_refresh_tests::fake_api::{World, policy, resource};
use serde_json::{Value, json};

use crate::span::{minutes, seconds};

/// The API server takes it for a moment, and no type of ours holds it.
const BEYOND: &str = "9999-12-31T23:59:59Z";

const TOLD: [(&str, &str, &str); 5] = [
    ("Ready", "False", "Undecodable"),
    ("Compliant", "Unknown", "Undecodable"),
    ("Suspended", "Unknown", "Undecodable"),
    ("AtRisk", "True", "NotCarriedOut"),
    ("Feasible", "False", "NotCarriedOut"),
];

fn spoil(world: &mut World, policy: &str) {
    let key = world.policy_key(policy);
    world.edit(&key, |policy| {
        policy["spec"]["suspend"] = true.into();
        policy["spec"]["suspendReason"] = "obra".into();
        policy["spec"]["suspendUntil"] = BEYOND.into();
    });
}

fn mend(world: &mut World, policy: &str) {
    let key = world.policy_key(policy);
    world.edit(&key, |policy| {
        policy["spec"]["suspend"] = false.into();
        for field in ["suspendReason", "suspendUntil"] {
            policy["spec"].as_object_mut().unwrap().remove(field);
        }
    });
}

fn is_told(world: &World, policy: &str) -> bool {
    let object = world.policy(policy);
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
        && TOLD
            .iter()
            .all(|(type_, status, reason)| world.is(policy, type_, status, reason))
}

fn version(world: &World, policy: &str) -> String {
    world.policy(policy)["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// How often an Event for `reason` was published about `policy`.
fn events(world: &World, policy: &str, reason: &str) -> u64 {
    let events = world.all(resource::EVENTS);
    let about = events
        .iter()
        .filter(|event| event["reason"] == reason && event["regarding"]["name"] == policy);
    about.map(|event| event["series"]["count"].as_u64().unwrap_or(1)).sum()
}

/// What of a status is proved and not claimed.
fn facts(policy: &Value) -> Value {
    let mut status = policy["status"].clone();
    for field in [
        "conditions",
        "observedGeneration",
        "compliantUntil",
        "nextScheduleTime",
        "worstCaseDataAgeSeconds",
    ] {
        status.as_object_mut().unwrap().remove(field);
    }
    status
}

async fn two_policies(mut world: World) -> World {
    world.apply(policy("roraima", json!({})));
    world.apply(policy("acre", json!({})));
    world.run_for(minutes(25)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh") && world.is("acre", "Compliant", "True", "Fresh"));
    world
}

#[tokio::test(start_paused = true)]
async fn i8_a_policy_that_is_no_longer_understood_says_so_once_and_others_go_on() {
    let mut world = two_policies(World::new(41)).await;
    let before = world.policy("roraima");
    spoil(&mut world, "roraima");
    world
        .run_until("it says so", seconds(2), |world| is_told(world, "roraima"))
        .await;
    let told = world.policy("roraima");
    assert_eq!(facts(&told), facts(&before), "what was proved stays");
    for claim in ["compliantUntil", "nextScheduleTime", "worstCaseDataAgeSeconds"] {
        assert!(
            !before["status"][claim].is_null() && told["status"][claim].is_null(),
            "{claim}"
        );
    }
    let message = world.condition("roraima", "Ready")["message"].clone();
    assert!(message.as_str().unwrap().contains("spec.suspendUntil: "), "{message}");

    let runs = world.task("acre", TaskName::RefreshMapaCache)["totalRuns"]
        .as_u64()
        .unwrap();
    world.run_for(minutes(120)).await;
    assert_eq!(
        version(&world, "roraima"),
        told["metadata"]["resourceVersion"],
        "written once"
    );
    assert_eq!(events(&world, "roraima", "Undecodable"), 1);
    assert!(world.is("acre", "Compliant", "True", "Fresh"));
    assert!(
        world.task("acre", TaskName::RefreshMapaCache)["totalRuns"]
            .as_u64()
            .unwrap()
            >= runs + 11
    );

    // Nothing but the spec is corrected, and all of two hours is known: no run is uncounted, and no second was in breach.
    mend(&mut world, "roraima");
    world.converges_within(seconds(5)).await;
    world.run_for(minutes(12)).await;
    world.converges_within(seconds(5)).await;
    assert!(world.is("roraima", "Ready", "True", "Reconciled") && world.is("roraima", "Compliant", "True", "Fresh"));
    let (account, earlier) = (
        &world.policy("roraima")["status"]["compliance"],
        &before["status"]["compliance"],
    );
    for field in [
        "since",
        "breaches",
        "secondsInBreach",
        "secondsUnproven",
        "secondsSuspended",
    ] {
        assert_eq!(account[field], earlier[field], "{field}: {account}");
    }
    assert_eq!(events(&world, "roraima", "Undecodable"), 1);
}

#[tokio::test(start_paused = true)]
async fn i8_an_operator_that_starts_leaves_what_is_told_of_a_policy_that_is_not_understood() {
    let mut world = two_policies(World::new(42)).await;
    spoil(&mut world, "roraima");
    world
        .run_until("it says so", seconds(2), |world| is_told(world, "roraima"))
        .await;
    // Its Event follows.
    world.run_for(seconds(1)).await;
    let told = version(&world, "roraima");
    world.start_operator();
    world.run_for(minutes(5)).await;
    assert_eq!(version(&world, "roraima"), told);
    assert_eq!(events(&world, "roraima", "Undecodable"), 1);

    // Spoilt while no operator runs.
    world.kill_operator();
    spoil(&mut world, "acre");
    world.run_for(minutes(1)).await;
    world.start_operator();
    world
        .run_until("it says so too", seconds(5), |world| is_told(world, "acre"))
        .await;
    world.run_for(seconds(1)).await;
    assert_eq!(
        (events(&world, "acre", "Undecodable"), version(&world, "roraima")),
        (1, told)
    );

    for name in ["roraima", "acre"] {
        mend(&mut world, name);
    }
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn i8_two_operators_tell_of_a_policy_that_is_not_understood_once() {
    // Without a lease: each of them believes that it works alone.
    let mut world = two_policies(World::with_rivals(43, 2)).await;
    spoil(&mut world, "roraima");
    world.run_for(seconds(30)).await;
    assert!(is_told(&world, "roraima"));
    let told = version(&world, "roraima");
    world.run_for(minutes(30)).await;
    assert_eq!(version(&world, "roraima"), told);
    assert_eq!(
        events(&world, "roraima", "Undecodable"),
        1,
        "who loses the race has nothing to tell"
    );

    // With one: the second leads, and finds it told.
    let mut world = World::without_operator(44);
    let one = world.replica("one");
    let mut world = two_policies(world).await;
    let two = world.replica("two");
    spoil(&mut world, "roraima");
    world
        .run_until("it says so", seconds(2), |world| is_told(world, "roraima"))
        .await;
    world.run_for(seconds(1)).await;
    let told = version(&world, "roraima");
    one.kill();
    world.run_until("the other leads", seconds(20), |_| two.leads()).await;
    world.run_for(minutes(5)).await;
    assert_eq!(
        (version(&world, "roraima"), events(&world, "roraima", "Undecodable")),
        (told, 1)
    );
    mend(&mut world, "roraima");
    world.converges_within(seconds(10)).await;
    two.terminate().await;
}

#[tokio::test(start_paused = true)]
async fn i8_a_policy_that_never_was_understood_says_so_and_is_carried_out_once_it_is_corrected() {
    let mut world = World::new(45);
    let mut poison = policy("poison", json!({}));
    poison["spec"]["intervalMinutes"] = "ten".into();
    world.create(&world.policy_key("poison"), poison);
    world
        .run_until("it says so", seconds(2), |world| is_told(world, "poison"))
        .await;
    assert_eq!(world.all(resource::CRON_JOBS), Vec::<Value>::new());
    // Another value that is not understood is another generation, and no other news.
    let key = world.policy_key("poison");
    world.edit(&key, |policy| policy["spec"]["intervalMinutes"] = 1.5.into());
    world
        .run_until("it says so again", seconds(2), |world| is_told(world, "poison"))
        .await;
    assert_eq!(events(&world, "poison", "Undecodable"), 1);
    // An overwritten condition is corrected.
    world.edit(&key, |policy| {
        policy["status"] = json!({ "conditions": [{
            "type": "Compliant", "status": "True", "reason": "Fresh", "message": "m", "lastTransitionTime": "2026-03-02T10:00:00Z",
        }] });
    });
    world
        .run_until("it says so again", seconds(2), |world| is_told(world, "poison"))
        .await;
    world.edit(&key, |policy| policy["spec"]["intervalMinutes"] = 10.into());
    world.converges_within(seconds(5)).await;
    world.run_for(minutes(12)).await;
    assert!(world.is("poison", "Compliant", "True", "Fresh"));
}

#[tokio::test(start_paused = true)]
async fn i8_a_status_that_is_not_understood_is_lost_in_part_and_the_policy_goes_on() {
    type Spoil = fn(&mut Value);
    let cases: [(&str, Spoil); 6] = [
        ("a moment", |status| {
            status["conditions"][1]["lastTransitionTime"] = "10000-01-01T00:00:00Z".into()
        }),
        ("a count", |status| status["tasks"][1]["attempts"] = "three".into()),
        ("the account", |status| status["compliance"]["breaches"] = "none".into()),
        ("a list", |status| status["recentStartSeconds"] = json!({ "0": 4 })),
        ("a field that comes back by itself", |status| {
            status["retries"] = Value::from("0")
        }),
        ("everything", |status| *status = "x".into()),
    ];
    for (nth, (what, spoil)) in (46..).zip(cases) {
        let mut world = two_policies(World::new(nth)).await;
        let before = world.policy("roraima");
        world.edit(&world.policy_key("roraima"), |policy| spoil(&mut policy["status"]));
        world
            .run_until(what, seconds(2), |world| events(world, "roraima", "StatusLost") == 1)
            .await;
        let after = world.policy("roraima");
        if what == "everything" {
            world
                .run_until("a rescue publishes anew", minutes(5), |world| {
                    world.is("roraima", "Compliant", "True", "Fresh")
                })
                .await;
        } else {
            assert!(world.is("roraima", "Compliant", "True", "Fresh"), "{what}");
            assert_eq!(after["status"]["dataAsOf"], before["status"]["dataAsOf"], "{what}");
            world.converges_within(seconds(5)).await;
        }
        let account = &after["status"]["compliance"]["since"];
        let begins_anew = ["the account", "everything"].contains(&what);
        assert_eq!(
            *account != before["status"]["compliance"]["since"],
            begins_anew,
            "{what}: {account}"
        );
        world.run_for(minutes(25)).await;
        assert!(world.is("roraima", "Ready", "True", "Reconciled") && world.is("acre", "Compliant", "True", "Fresh"));
        assert_eq!(events(&world, "roraima", "StatusLost"), 1, "{what}");
        // A status with which nothing was wrong is no Event.
        assert_eq!(events(&world, "acre", "StatusLost"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn i8_managed_fields_with_a_moment_that_no_type_holds_concern_nobody() {
    let odd = || json!([{ "manager": "m", "operation": "Update", "apiVersion": "v1", "time": BEYOND }]);
    let mut world = two_policies(World::new(52)).await;
    let cron_job = world.cron_job_key("roraima", TaskName::RefreshMapaCache);
    for key in [world.policy_key("roraima"), cron_job.clone()] {
        world.edit(&key, |object| object["metadata"]["managedFields"] = odd());
    }
    // What has them is put back all the same, by an operator that lists everything anew too.
    for _ in 0..2 {
        world.edit(&cron_job, |cron_job| cron_job["spec"]["suspend"] = true.into());
        world.run_for(seconds(2)).await;
        world.converges_within(seconds(5)).await;
        world.run_for(minutes(22)).await;
        assert!(world.is("roraima", "Compliant", "True", "Fresh") && world.is("acre", "Compliant", "True", "Fresh"));
        world.start_operator();
    }
    world.run_for(minutes(12)).await;
    world.converges_within(seconds(10)).await;
}
