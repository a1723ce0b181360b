//! Reports of true runs that say what they should not, and runs whose policy changes under them.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mapa_refresh_crds::{policy::TaskName, report::FaultClass};
use mapa_refresh_tests::fake_api::{World, policy, runs::Outcome};
use serde_json::{Value, json};

use crate::span::{minutes, seconds};

const MAP: TaskName = TaskName::RefreshMapaCache;

/// A policy that was compliant, whose map is told of only by reports that `change` has changed, until its data must be too old: then it
/// is not compliant, whatever they said. Returns the map as it was, and as it is after the first such report.
async fn told_by(seed: u64, change: fn(&mut Value)) -> (Value, Value) {
    let mut world = World::new(seed);
    world.apply(policy("roraima", json!({ "rescue": false })));
    world.run_for(minutes(25)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    let before = world.task("roraima", MAP);
    let runs = before["totalRuns"].as_u64().unwrap();
    // Nothing is published any more: what is told of is what was published before.
    world.kubernetes.script.always(
        TaskName::RefreshMvPortal,
        Outcome::Fails(FaultClass::Transient, "57P03", "starting up"),
    );
    world.kubernetes.script.always(MAP, Outcome::Tells(change));
    world
        .run_until("the run is counted", minutes(12), |world| {
            world.task("roraima", MAP)["totalRuns"] == runs + 1
        })
        .await;
    let after = world.task("roraima", MAP);
    world.run_for(minutes(40)).await;
    let compliant = world.condition("roraima", "Compliant");
    assert_eq!(compliant["status"], "False", "{compliant}");
    assert!(compliant["message"].as_str().unwrap().len() > 20, "{compliant}");
    (before, after)
}

fn moved(moment: &Value, by: SignedDuration) -> Value {
    let moment: Timestamp = moment.as_str().unwrap().parse().unwrap();
    json!(moment.checked_add(by).unwrap().to_string())
}

#[tokio::test(start_paused = true)]
async fn f16_a_report_without_a_data_as_of_is_no_evidence() {
    let (before, after) = told_by(61, |report| {
        report["result"]["succeeded"]
            .as_object_mut()
            .unwrap()
            .remove("dataAsOf")
            .unwrap();
    })
    .await;
    assert_eq!(after["dataAsOf"], before["dataAsOf"]);
    assert_eq!(after["lastError"]["code"], "ReportMalformed");
}

#[tokio::test(start_paused = true)]
async fn f16_a_report_from_the_future_is_no_evidence() {
    let (before, after) = told_by(62, |report| {
        let data_as_of = &mut report["result"]["succeeded"]["dataAsOf"];
        *data_as_of = moved(data_as_of, SignedDuration::from_hours(2));
    })
    .await;
    assert_eq!(after["dataAsOf"], before["dataAsOf"]);
    assert_eq!(after["lastError"]["code"], "ReportFromFuture");
}

#[tokio::test(start_paused = true)]
async fn i14_a_report_of_an_older_generation_takes_nothing_back_and_makes_nothing_newer() {
    let (before, after) = told_by(63, |report| {
        let success = &mut report["result"]["succeeded"];
        success["kind"] = "Fenced".into();
        success["dataAsOf"] = moved(&success["dataAsOf"], SignedDuration::from_hours(-1));
    })
    .await;
    assert_eq!(after["dataAsOf"], before["dataAsOf"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_edited_while_a_run_is_active_judges_it_by_the_spec_it_ran_with() {
    let mut world = World::new(64);
    world.apply(policy("roraima", json!({ "rescue": false })));
    world.run_for(minutes(25)).await;
    world.kubernetes.script.duration = seconds(90);
    let before = world.task("roraima", MAP);
    let runs = before["totalRuns"].as_u64().unwrap();
    world
        .run_until("a run of the map", minutes(12), |world| {
            world
                .server()
                .store
                .of(mapa_refresh_tests::fake_api::resource::PODS)
                .any(|(key, pod)| key.name.contains(MAP.as_str()) && pod["status"]["phase"] == "Running")
        })
        .await;
    world.edit(&world.policy_key("roraima"), |policy| {
        policy["spec"]["tasks"] = json!([
            { "name": "refresh-mv-portal", "maxRetries": 1 },
            { "name": "refresh-mapa-cache", "maxRetries": 1, "attemptTimeoutSeconds": 200 },
            { "name": "calcular-estatisticas", "maxRetries": 1 },
        ]);
    });
    world
        .run_until("the run is counted", minutes(3), |world| {
            world.task("roraima", MAP)["totalRuns"] == runs + 1
        })
        .await;
    let after = world.task("roraima", MAP);
    assert!(after["lastError"].is_null(), "{after}");
    assert!(after["dataAsOf"].as_str() > before["dataAsOf"].as_str(), "{after}");
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
}
