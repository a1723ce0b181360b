//! What goes wrong with runs, nodes, controllers and clocks.

use mapa_refresh_crds::{policy::TaskName, report::FaultClass};
use mapa_refresh_tests::fake_api::{World, policy, resource, runs::Outcome};
use serde_json::json;

use crate::span::{hours, minutes, seconds};

const VIEW: TaskName = TaskName::RefreshMvPortal;
const MAP: TaskName = TaskName::RefreshMapaCache;

async fn running(seed: u64) -> World {
    let mut world = World::new(seed);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(25)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    world
}

/// Plays `outcome` on the next run of the map; returns the code of the error that the status then shows.
async fn code_of(seed: u64, outcome: Outcome) -> String {
    let mut world = running(seed).await;
    let runs = world.task("roraima", MAP)["totalRuns"].as_u64().unwrap();
    world.kubernetes.script.next(MAP, [outcome]);
    world
        .run_until("the run is counted", minutes(25), |world| {
            world.task("roraima", MAP)["totalRuns"] == runs + 1
        })
        .await;
    let code = world.task("roraima", MAP)["lastError"]["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    world.run_for(minutes(25)).await;
    world.converges_within(seconds(10)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    assert!(
        world.task("roraima", MAP)["lastError"].is_null(),
        "a success clears the error"
    );
    code
}

#[tokio::test(start_paused = true)]
async fn f17_a_hung_run_ends_at_its_deadline_and_the_next_one_runs() {
    assert_eq!(code_of(17, Outcome::Hangs).await, "DeadlineExceeded");
}

#[tokio::test(start_paused = true)]
async fn f17_runs_that_hang_for_ever_end_in_a_breach_that_is_told_in_its_moment() {
    let mut world = running(171).await;
    world.kubernetes.script.always(MAP, Outcome::Hangs);
    world
        .run_until("a breach", minutes(35), |world| {
            world.is("roraima", "Compliant", "False", "DataTooOld")
        })
        .await;
    let until = world.policy("roraima")["status"]["compliantUntil"]
        .as_str()
        .unwrap()
        .to_owned();
    let until: k8s_openapi::jiff::Timestamp = until.parse().unwrap();
    let late = world.now().duration_since(until);
    assert!(late <= k8s_openapi::jiff::SignedDuration::from_secs(1), "{late:?}");
    world.kubernetes.script.clear();
    world
        .run_until("compliant again", minutes(25), |world| {
            world.is("roraima", "Compliant", "True", "Fresh")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn f18_what_happens_to_pods_is_named() {
    assert_eq!(code_of(181, Outcome::OutOfMemory).await, "OOMKilled");
    assert_eq!(code_of(182, Outcome::ImagePullBackOff).await, "ImagePullBackOff");
    assert_eq!(
        code_of(183, Outcome::Fails(FaultClass::Transient, "57P03", "starting up")).await,
        "57P03"
    );
}

#[tokio::test(start_paused = true)]
async fn f18_a_pod_that_is_evicted_or_lost_with_its_node_is_replaced_and_the_run_succeeds() {
    assert_eq!(code_of(184, Outcome::Evicted).await, "");
    assert_eq!(code_of(185, Outcome::NodeLost).await, "");
}

#[tokio::test(start_paused = true)]
async fn f18_a_kubelet_that_never_comes_back_costs_one_run() {
    let mut world = running(187).await;
    let runs = world.task("roraima", MAP)["totalRuns"].as_u64().unwrap();
    world.kubernetes.script.next(MAP, [Outcome::KubeletLost]);
    world
        .run_until("the run is said to hang", minutes(22), |world| {
            world.is("roraima", "AtRisk", "True", "RunHung")
        })
        .await;
    world
        .run_until("the next run publishes", minutes(22), |world| {
            world.task("roraima", MAP)["totalRuns"].as_u64().unwrap() >= runs + 2
                && world.is("roraima", "AtRisk", "False", "OnSchedule")
        })
        .await;
    world.converges_within(seconds(10)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    let pods = world.all(resource::PODS);
    assert!(
        pods.iter().any(|pod| !pod["metadata"]["deletionTimestamp"].is_null()),
        "the pod is still there"
    );
}

#[tokio::test(start_paused = true)]
async fn f18_a_pod_that_never_comes_is_told_after_thirty_seconds() {
    let mut world = running(186).await;
    world.kubernetes.script.next(MAP, [Outcome::NoPod]);
    world
        .run_until("told", minutes(12), |world| {
            world.is("roraima", "Ready", "False", "PodNotCreated")
        })
        .await;
    world.run_for(minutes(21)).await;
    world.converges_within(seconds(10)).await;
    assert!(world.is("roraima", "Ready", "True", "Reconciled"));
}

#[tokio::test(start_paused = true)]
async fn f19_garbage_in_the_termination_message_is_no_evidence() {
    let deep = "[".repeat(4_000);
    let hostile = "{\"version\":1,\"policyUid\":\"\u{1b}[31m\u{202e}";
    for (seed, message, code) in [
        (191, String::new(), "ReportMissing"),
        (192, deep, "ReportMalformed"),
        (193, hostile.to_owned(), "ReportMalformed"),
        (194, "\u{fffd}\u{fffd}\0".to_owned(), "ReportMalformed"),
        (195, "{\"version\":2}".to_owned(), "ReportMalformed"),
    ] {
        assert_eq!(code_of(seed, Outcome::Says(message)).await, code);
    }
}

#[tokio::test(start_paused = true)]
async fn f20_a_job_that_is_gone_in_the_moment_of_its_end_is_counted_with_its_result() {
    let mut world = running(20).await;
    let before = world.task("roraima", MAP);
    world.kubernetes.script.next(MAP, [Outcome::Vanishes]);
    let runs = before["totalRuns"].as_u64().unwrap();
    world
        .run_until("counted", minutes(12), |world| {
            world.task("roraima", MAP)["totalRuns"] == runs + 1
        })
        .await;
    let after = world.task("roraima", MAP);
    assert!(after["lastError"].is_null(), "{after}");
    assert!(after["dataAsOf"].as_str() > before["dataAsOf"].as_str());
}

#[tokio::test(start_paused = true)]
async fn f20_jobs_that_came_and_went_while_the_operator_was_down_take_nothing_away() {
    let mut world = running(201).await;
    let before = world.task("roraima", MAP);
    world.kill_operator();
    world.run_for(hours(2)).await;
    world.start_operator();
    world.converges_within(seconds(10)).await;
    let after = world.task("roraima", MAP);
    assert!(after["totalRuns"].as_u64() > before["totalRuns"].as_u64());
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
}

#[tokio::test(start_paused = true)]
async fn f21_a_controller_manager_that_is_down_for_45_minutes_is_a_breach_and_then_none() {
    let mut world = running(21).await;
    world.kubernetes.go_down();
    world.run_for(minutes(45)).await;
    assert!(
        world.is("roraima", "Compliant", "False", "DataTooOld"),
        "{}",
        world.policy("roraima")
    );
    world.controllers_come_up();
    world
        .run_until("compliant again", minutes(13), |world| {
            world.is("roraima", "Compliant", "True", "Fresh")
        })
        .await;
    world.converges_within(seconds(10)).await;
}

/// The view's slot had its run, the map's has none; when the view misses one as well, the first stays the one that is named.
#[tokio::test(start_paused = true)]
async fn f21_i3_the_first_slot_that_was_missed_is_told_once() {
    let mut world = running(21).await;
    let runs = world.task("roraima", VIEW)["totalRuns"].clone();
    world
        .run_until("the view's next run", minutes(11), |world| {
            world.task("roraima", VIEW)["totalRuns"] != runs
        })
        .await;
    world.kubernetes.go_down();
    world
        .run_until("a missed slot", minutes(3), |world| {
            world.is("roraima", "AtRisk", "True", "ScheduleMissed")
        })
        .await;
    let told = world.condition("roraima", "AtRisk");
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("refresh-mapa-cache had a slot"),
        "{told}"
    );
    world.run_for(seconds(10)).await;
    let writes = world.server().writes();
    world.run_for(minutes(12)).await;
    assert_eq!(world.condition("roraima", "AtRisk"), told);
    assert_eq!(world.server().writes(), writes);
    world.controllers_come_up();
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn f22_clocks_five_minutes_apart_never_make_data_look_younger() {
    for (operator, node) in [(300, 0), (-300, 0), (0, 300), (0, -300), (300, -300), (-300, 300)] {
        let mut world = World::without_operator(22);
        world.operator_clock().set(operator);
        world.kubernetes.node_clock.set(node);
        world.start_operator();
        world.apply(policy("roraima", json!({})));
        world.run_for(minutes(25)).await;
        world.converges_within(seconds(10)).await;
        assert!(
            world.is("roraima", "Compliant", "True", "Fresh"),
            "operator {operator}, node {node}"
        );
        for task in [VIEW, MAP, TaskName::CalcularEstatisticas] {
            world.kubernetes.script.always(task, Outcome::Hangs);
        }
        world.run_for(minutes(40)).await;
        assert!(
            world.is("roraima", "Compliant", "False", "DataTooOld"),
            "operator {operator}, node {node}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_somebody_creates_from_a_cron_job_runs_and_counts() {
    let mut world = running(23).await;
    let cron_job = world.get(&world.cron_job_key("roraima", MAP));
    let runs = world.task("roraima", MAP)["totalRuns"].as_u64().unwrap();
    let template = &cron_job["spec"]["jobTemplate"];
    let key = resource::Key::new(resource::JOBS, "radar", &format!("roraima-{MAP}-r29540000"));
    let owner = json!([{
        "apiVersion": "batch/v1", "kind": "CronJob", "name": cron_job["metadata"]["name"],
        "uid": cron_job["metadata"]["uid"], "controller": true,
    }]);
    let job = json!({ "metadata": { "labels": template["metadata"]["labels"], "ownerReferences": owner }, "spec": template["spec"] });
    world.create(&key, job);
    world.run_for(seconds(15)).await;
    world.converges_within(seconds(10)).await;
    assert_eq!(world.task("roraima", MAP)["totalRuns"], runs + 1);
}
