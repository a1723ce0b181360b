//! What people and other programs do to the objects.

use mapa_refresh_crds::{policy::TaskName, report::FaultClass};
use mapa_refresh_tests::fake_api::{
    World,
    kubernetes::{BY_HAND, pod_status},
    policy, resource,
    resource::Key,
    runs::{Orders, Outcome},
    truth::Truth,
};
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

/// A Job called `name` in `namespace` and its pod, as a forger makes them: the pod is like `pod_like`, and its message claims a publication
/// of now.
fn forge(world: &mut World, (namespace, name): (&str, &str), owner: &Value, image: &str, pod_like: &Value) {
    let now = world.now();
    let job = Key::new(resource::JOBS, namespace, name);
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
    let pod = Key::new(resource::PODS, namespace, &format!("{}-pod", job.name));
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
    let orders = Orders::of(&world.get(&pod));
    let report = orders.carry_out(&mut Truth::default(), now, now, &Default::default());
    let state = json!({ "terminated": { "exitCode": 0, "finishedAt": now.to_string(), "message": report.encode(4096).unwrap() } });
    world.edit(&pod, |pod| pod["status"] = pod_status("Succeeded", &state));
}

/// A pod of the map's last run for `policy`.
fn pod_of(world: &World, policy: &str) -> Value {
    world
        .all(resource::PODS)
        .into_iter()
        .find(|pod| {
            pod["metadata"]["name"]
                .as_str()
                .unwrap()
                .starts_with(&format!("{policy}-{MAP}"))
        })
        .unwrap()
}

/// The owner reference of a Job of the map's CronJob of `policy`, with this UID or its own.
fn owner_of(world: &World, policy: &str, uid: Option<&str>) -> Value {
    let metadata = world.get(&world.cron_job_key(policy, MAP))["metadata"].take();
    let uid = uid.map_or_else(|| metadata["uid"].clone(), Value::from);
    json!({ "apiVersion": "batch/v1", "kind": "CronJob", "name": metadata["name"], "uid": uid, "controller": true })
}

/// From now on nothing is really published.
fn nothing_is_published(world: &mut World) {
    for task in TaskName::DEFAULT {
        world.kubernetes.script.always(
            task,
            Outcome::Fails(FaultClass::Transient, "57P03", "the database starts"),
        );
    }
}

#[tokio::test(start_paused = true)]
async fn f16_forged_jobs_prove_nothing() {
    let mut world = running(20).await;
    let map_pod = pod_of(&world, "roraima");
    nothing_is_published(&mut world);
    world.run_for(minutes(14)).await;
    let before = world.task("roraima", MAP);
    // The right name with a wrong UID, and a pod that is a perfect copy.
    let owner = owner_of(&world, "roraima", Some("00000000-0000-4000-a000-000000000000"));
    let name = format!("roraima-{MAP}-forged");
    forge(&mut world, ("radar", &name), &owner, "runner:1", &map_pod);
    // The right UID, and a pod with another image.
    let owner = owner_of(&world, "roraima", None);
    forge(&mut world, ("radar", &format!("{name}-evil")), &owner, "evil", &map_pod);
    // All of it right, in another namespace.
    forge(&mut world, ("elsewhere", &name), &owner, "runner:1", &map_pod);
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
async fn f16_one_policys_runs_prove_nothing_for_another() {
    let mut world = running(161).await;
    world.apply(policy("acre", json!({})));
    world.run_for(minutes(12)).await;
    let (own, other) = (pod_of(&world, "roraima"), pod_of(&world, "acre"));
    let labelled = |pod: &Value, labels: &Value| {
        let mut pod = pod.clone();
        pod["metadata"]["labels"] = labels["metadata"]["labels"].clone();
        pod
    };
    nothing_is_published(&mut world);
    world.run_for(minutes(14)).await;
    let known = |world: &World| {
        let task = world.task("roraima", MAP);
        (task["dataAsOf"].clone(), task["lastSuccessTime"].clone())
    };
    let before = known(&world);
    // A Job of ours whose pod works for another policy.
    let owner = owner_of(&world, "roraima", None);
    let name = format!("roraima-{MAP}-of-acre");
    forge(
        &mut world,
        ("radar", &name),
        &owner,
        "runner:1",
        &labelled(&other, &own),
    );
    world.run_for(seconds(20)).await;
    assert_eq!(world.task("roraima", MAP)["lastError"]["code"], "UntrustedPod");
    // A Job of another policy whose pod looks like one of ours.
    let owner = owner_of(&world, "acre", None);
    let name = format!("acre-{MAP}-of-roraima");
    forge(
        &mut world,
        ("radar", &name),
        &owner,
        "runner:1",
        &labelled(&own, &other),
    );
    world.run_for(seconds(20)).await;
    assert_eq!(world.task("acre", MAP)["lastError"]["code"], "UntrustedPod");
    assert_eq!(known(&world), before);

    // A pod of the other policy as it should be, whose message speaks of ours.
    let orders = Orders::of(&own);
    let now = world.now();
    let report = orders.carry_out(&mut Truth::default(), now, now, &Default::default());
    world
        .kubernetes
        .script
        .next(MAP, [Outcome::Says(report.encode(4096).unwrap()), Outcome::Hangs]);
    let runs = ["roraima", "acre"].map(|policy| world.task(policy, MAP)["totalRuns"].as_u64().unwrap());
    world
        .run_until("a run of either is counted", minutes(12), |world| {
            ["roraima", "acre"]
                .iter()
                .zip(runs)
                .any(|(policy, before)| world.task(policy, MAP)["totalRuns"].as_u64().unwrap() > before)
        })
        .await;
    let codes = ["roraima", "acre"].map(|policy| world.task(policy, MAP)["lastError"]["code"].clone());
    assert!(codes.contains(&json!("ReportForeign")), "{codes:?}");
    assert_eq!(known(&world), before);
    world.run_for(minutes(20)).await;
    for policy in ["roraima", "acre"] {
        assert!(
            world.is(policy, "Compliant", "False", "DataTooOld"),
            "{}",
            world.policy(policy)
        );
    }
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
    assert!(world.is("poison", "Compliant", "Unknown", "Undecodable"));
    assert_eq!(world.all(resource::CRON_JOBS).len(), 3);
}
