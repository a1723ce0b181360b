//! What people and other programs do to the objects.

use mapa_refresh_crds::policy::TaskName;
use mapa_refresh_tests::fake_api::{World, kubernetes::BY_HAND, policy, resource, resource::Key};
use serde_json::{Value, json};

use crate::span::{minutes, seconds};

const MAP: TaskName = TaskName::RefreshMapaCache;

async fn running(seed: u64) -> World {
    let mut world = World::new(seed);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(25)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    world
}

#[tokio::test(start_paused = true)]
async fn f11_a_policy_that_is_deleted_and_created_again_starts_anew() {
    for (seed, pause) in [(11, 0), (12, 1), (13, 30)] {
        let mut world = running(seed).await;
        let old = world.policy("roraima")["metadata"]["uid"].clone();
        world.delete(&world.policy_key("roraima"));
        world.run_for(seconds(pause)).await;
        world.apply(policy("roraima", json!({ "rescue": false })));
        world.run_for(seconds(5)).await;
        world.converges_within(seconds(10)).await;
        assert_ne!(world.policy("roraima")["metadata"]["uid"], old);
        world.run_for(minutes(12)).await;
        world.converges_within(seconds(10)).await;
        assert!(world.is("roraima", "Compliant", "True", "Fresh"));
        assert!(world.task("roraima", MAP)["totalRuns"].as_u64().unwrap() <= 2);
    }
}

#[tokio::test(start_paused = true)]
async fn i10_a_policy_that_is_deleted_leaves_nothing() {
    let mut world = running(14).await;
    world.delete(&world.policy_key("roraima"));
    world.run_for(seconds(60)).await;
    for resource in [resource::POLICIES, resource::CRON_JOBS, resource::JOBS, resource::PODS] {
        assert_eq!(world.all(resource), Vec::<Value>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn f12_a_cron_job_that_is_deleted_comes_back_and_its_runs_stay_counted() {
    let mut world = running(15).await;
    let runs = world.task("roraima", MAP)["totalRuns"].as_u64().unwrap();
    world.delete(&world.cron_job_key("roraima", MAP));
    let took = world.converges_within(seconds(2)).await;
    assert!(took < seconds(1), "{took:?}");
    world.run_for(minutes(1)).await;
    assert_eq!(world.task("roraima", MAP)["totalRuns"], runs);
    assert!(
        world.is("roraima", "Compliant", "True", "Fresh"),
        "what was proved stays proved"
    );
}

#[tokio::test(start_paused = true)]
async fn f13_edits_by_hand_are_put_back() {
    type Edit = fn(&mut Value);
    let edits: [Edit; 6] = [
        |spec| spec["schedule"] = "0 0 * * *".into(),
        |spec| spec["suspend"] = true.into(),
        |spec| spec["timeZone"] = "America/Boa_Vista".into(),
        |spec| spec["jobTemplate"]["spec"]["template"]["spec"]["hostNetwork"] = true.into(),
        |spec| spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"] = "evil".into(),
        |spec| {
            let containers = &mut spec["jobTemplate"]["spec"]["template"]["spec"]["containers"];
            containers
                .as_array_mut()
                .unwrap()
                .push(json!({ "name": "evil", "image": "evil" }));
        },
    ];
    let mut world = running(16).await;
    for edit in edits {
        let key = world.cron_job_key("roraima", MAP);
        let before = world.get(&key);
        world.edit(&key, |cron_job| edit(&mut cron_job["spec"]));
        world.run_for(seconds(1)).await;
        world.converges_within(seconds(2)).await;
        assert_eq!(world.get(&key)["spec"], before["spec"]);
        world.run_for(minutes(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f13_foreign_labels_and_annotations_stay() {
    let mut world = running(17).await;
    let key = world.cron_job_key("roraima", MAP);
    world.edit(&key, |cron_job| {
        cron_job["metadata"]["labels"]["team"] = "radar".into();
        cron_job["metadata"]["annotations"] = json!({ "note": "x" });
        cron_job["spec"]["suspend"] = true.into();
    });
    world.run_for(seconds(1)).await;
    world.converges_within(seconds(2)).await;
    let metadata = world.get(&key)["metadata"].clone();
    assert_eq!(
        (&metadata["labels"]["team"], &metadata["annotations"]["note"]),
        (&json!("radar"), &json!("x"))
    );
}

fn foreign_cron_job(annotations: Value) -> Value {
    json!({
        "metadata": { "annotations": annotations },
        "spec": { "schedule": "7 * * * *", "suspend": true, "jobTemplate": { "spec": { "template": { "spec": { "containers": [] } } } } },
    })
}

#[tokio::test(start_paused = true)]
async fn f14_a_foreign_cron_job_of_our_name_is_left_alone_and_the_others_are_made() {
    let mut world = World::new(18);
    let key = world.cron_job_key("roraima", MAP);
    world.create(&key, foreign_cron_job(json!({})));
    let before = world.get(&key);
    world.apply(policy("roraima", json!({})));
    world
        .run_until("a conflict", seconds(5), |world| {
            world.is("roraima", "Ready", "False", "CronJobConflict")
        })
        .await;
    world.run_for(minutes(5)).await;
    assert_eq!(world.get(&key), before);
    assert_eq!(world.all(resource::CRON_JOBS).len(), 3);
    world.delete(&key);
    world.converges_within(seconds(10)).await;
    world
        .run_until("ready", seconds(10), |world| {
            world.is("roraima", "Ready", "True", "Reconciled")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn f15_a_foreign_job_on_the_next_runs_name_proves_nothing_and_is_left_alone() {
    let mut world = running(19).await;
    // Where the next slot of the map will be: ten minutes after its last.
    let last = world.task("roraima", MAP)["lastScheduleTime"]
        .as_str()
        .unwrap()
        .to_owned();
    let last: k8s_openapi::jiff::Timestamp = last.parse().unwrap();
    let key = Key::new(
        resource::JOBS,
        "radar",
        &format!("roraima-{MAP}-{}", last.as_second() / 60 + 10),
    );
    let squatter = json!({
        "metadata": { "annotations": { BY_HAND: "" }, "labels": { "app.kubernetes.io/managed-by": "mapa-refresh-operator", "mapa.radar.dev/policy": "roraima" } },
        "spec": {},
        "status": { "conditions": [{ "type": "Complete", "status": "True", "lastTransitionTime": world.now().to_string() }] },
    });
    world.create(&key, squatter);
    let before = world.get(&key);
    world.run_for(minutes(25)).await;
    world.converges_within(seconds(10)).await;
    assert_eq!(world.get(&key), before);
}

/// A Job and its pod as a forger makes them; the pod's message claims a publication of now.
fn forge(world: &mut World, owner: &Value, image: &str, pod_like: &Value) {
    let now = world.now();
    let job = Key::new(resource::JOBS, "radar", &format!("roraima-{MAP}-forged-{image}"));
    let labels = pod_like["metadata"]["labels"].clone();
    world.create(
        &job,
        json!({
            "metadata": { "annotations": { BY_HAND: "" }, "labels": labels, "ownerReferences": [owner] },
            "spec": {},
            "status": {
                "completionTime": now.to_string(),
                "conditions": [{ "type": "Complete", "status": "True", "lastTransitionTime": now.to_string() }],
            },
        }),
    );
    let job_uid = world.get(&job)["metadata"]["uid"].clone();
    let pod = Key::new(resource::PODS, "radar", &format!("{}-pod", job.name));
    let mut spec = pod_like["spec"].clone();
    spec["containers"][0]["image"] = image.into();
    world.create(
        &pod,
        json!({
            "metadata": {
                "labels": labels,
                "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "Job", "name": job.name, "uid": job_uid, "controller": true }],
            },
            "spec": spec,
        }),
    );
    let mut truth = mapa_refresh_tests::fake_api::truth::Truth::default();
    let orders = mapa_refresh_tests::fake_api::runs::Orders::of(&world.get(&pod));
    let report = orders.carry_out(&mut truth, now, now, &Default::default());
    let state = json!({ "terminated": { "exitCode": 0, "finishedAt": now.to_string(), "message": report.encode(4096).unwrap() } });
    world.edit(&pod, |pod| {
        pod["status"] = mapa_refresh_tests::fake_api::kubernetes::pod_status("Succeeded", &state)
    });
}

#[tokio::test(start_paused = true)]
async fn f16_forged_jobs_prove_nothing() {
    let mut world = running(20).await;
    let map_pod = world
        .all(resource::PODS)
        .into_iter()
        .find(|pod| pod["metadata"]["name"].as_str().unwrap().contains(MAP.as_str()))
        .unwrap();
    let cron_job = world.get(&world.cron_job_key("roraima", MAP));
    // From now on nothing is really published.
    for task in TaskName::DEFAULT {
        world.kubernetes.script.always(
            task,
            mapa_refresh_tests::fake_api::runs::Outcome::Fails(
                mapa_refresh_crds::report::FaultClass::Transient,
                "57P03",
                "the database starts",
            ),
        );
    }
    world.run_for(minutes(14)).await;
    let before = world.task("roraima", MAP);
    let owner = |uid: &str| json!({ "apiVersion": "batch/v1", "kind": "CronJob", "name": cron_job["metadata"]["name"], "uid": uid, "controller": true });
    // The right name with a wrong UID, and a pod that is a perfect copy.
    forge(
        &mut world,
        &owner("00000000-0000-4000-a000-000000000000"),
        "runner:1",
        &map_pod,
    );
    // The right UID, and a pod with another image.
    forge(
        &mut world,
        &owner(cron_job["metadata"]["uid"].as_str().unwrap()),
        "evil",
        &map_pod,
    );
    world.run_for(seconds(20)).await;
    let after = world.task("roraima", MAP);
    assert_eq!(after["dataAsOf"], before["dataAsOf"]);
    assert_eq!(after["lastSuccessTime"], before["lastSuccessTime"]);
    assert_eq!(after["lastError"]["code"], "UntrustedPod");
    world.run_for(minutes(20)).await;
    assert!(
        world.is("roraima", "Compliant", "False", "DataTooOld"),
        "{}",
        world.policy("roraima")
    );
}

#[tokio::test(start_paused = true)]
async fn f25_fields_of_a_newer_crd_are_kept_in_the_spec_and_cause_no_writes() {
    let mut world = World::new(25);
    let mut newer = policy("roraima", json!({ "fromTheFuture": { "a": [1, 2] } }));
    newer["metadata"]["annotations"] = json!({ "mapa.radar.dev/requestedAt": "2026-03-02T10:00:00Z" });
    world.apply(newer);
    world.converges_within(seconds(5)).await;
    world.edit(&world.policy_key("roraima"), |policy| {
        policy["status"]["fromTheFuture"] = 7.into()
    });
    world.run_for(minutes(25)).await;
    world.converges_within(seconds(10)).await;
    assert_eq!(world.policy("roraima")["spec"]["fromTheFuture"]["a"], json!([1, 2]));
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
}

#[tokio::test(start_paused = true)]
async fn i8_a_policy_that_cannot_be_decoded_concerns_itself_alone() {
    let mut world = World::new(26);
    world.create(
        &world.policy_key("poison"),
        json!({ "spec": { "intervalMinutes": "ten", "tasks": [] } }),
    );
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(12)).await;
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    let events = world.all(resource::EVENTS);
    assert!(
        events
            .iter()
            .any(|event| event["reason"] == "Undecodable" && event["regarding"]["name"] == "poison"),
        "{events:?}"
    );
    assert_eq!(world.all(resource::CRON_JOBS).len(), 3);
}
