//! What stands between a write and what is stored: webhooks that change CronJobs, objects that were there before, deletions that are held.

use mapa_refresh_crds::policy::TaskName;
use mapa_refresh_tests::fake_api::{World, policy, resource};
use serde_json::{Value, json};

use crate::span::{minutes, seconds};

const VIEW: TaskName = TaskName::RefreshMvPortal;

/// Writes of CronJobs by the operator in `span`.
async fn cron_job_writes(world: &mut World, span: std::time::Duration) -> u64 {
    let before = world.server().writes_of(resource::CRON_JOBS);
    world.run_for(span).await;
    world.server().writes_of(resource::CRON_JOBS) - before
}

fn ready(world: &World) -> (Value, Value, Value) {
    let condition = world.condition("roraima", "Ready");
    (
        condition["status"].clone(),
        condition["reason"].clone(),
        condition["lastTransitionTime"].clone(),
    )
}

#[tokio::test(start_paused = true)]
async fn i6_what_admission_adds_and_decides_nothing_is_told_once_and_costs_no_writes() {
    let mut world = World::new(520);
    world.server().admit_by(Some(|key, cron_job| {
        if key.resource == resource::CRON_JOBS {
            let pod = &mut cron_job["spec"]["jobTemplate"]["spec"]["template"];
            pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "500m".into();
            pod["metadata"]["labels"]["example.org/team"] = "grid".into();
        }
    }));
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(25)).await;
    assert!(
        world.is("roraima", "Ready", "True", "Reconciled"),
        "{}",
        world.policy("roraima")
    );
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    let message = world.condition("roraima", "Ready")["message"].clone();
    let message = message.as_str().unwrap();
    assert!(message.contains("containers[0].resources.limits.cpu"), "{message}");
    assert_eq!(cron_job_writes(&mut world, minutes(60)).await, 0);
    // A hand's change is undone all the same.
    let key = world.cron_job_key("roraima", VIEW);
    world.edit(&key, |cron_job| cron_job["spec"]["suspend"] = true.into());
    world.run_for(seconds(5)).await;
    assert_eq!(world.get(&key)["spec"]["suspend"], false);
    // Another operator finds it out by one write of each.
    world.start_operator();
    assert_eq!(cron_job_writes(&mut world, minutes(60)).await, 3);
    assert!(world.is("roraima", "Ready", "True", "Reconciled"));
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn promise_9_what_admission_changes_and_decides_is_one_steady_word_and_ends_by_itself() {
    let mut world = World::new(521);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(12)).await;
    world.server().admit_by(Some(|key, cron_job| {
        if key.resource == resource::CRON_JOBS {
            cron_job["spec"]["jobTemplate"]["spec"]["backoffLimit"] = 6.into();
        }
    }));
    let key = world.policy_key("roraima");
    world.edit(&key, |policy| policy["spec"]["cache"]["keyPrefix"] = "outro".into());
    world
        .run_until("it is told", seconds(10), |world| {
            world.is("roraima", "Ready", "False", "CronJobContested")
        })
        .await;
    let told = ready(&world);
    let message = world.condition("roraima", "Ready")["message"].clone();
    let message = message.as_str().unwrap();
    for words in [
        "spec.jobTemplate.spec.backoffLimit: wrote 0, came back 6",
        "mutatingwebhookconfigurations",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    let writes = cron_job_writes(&mut world, minutes(60)).await;
    assert!(writes <= 3 * 16, "{writes} writes in an hour");
    assert_eq!(ready(&world), told, "steady");
    world.server().admit_by(None);
    world
        .run_until("the CronJobs are as the policy asks", minutes(6), |world| {
            world.is("roraima", "Ready", "True", "Reconciled")
        })
        .await;
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn i6_the_policys_own_changes_are_no_contest_however_many() {
    let mut world = World::new(522);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(12)).await;
    let key = world.policy_key("roraima");
    for prefix in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        world.edit(&key, |policy| policy["spec"]["cache"]["keyPrefix"] = prefix.into());
        world.run_for(seconds(5)).await;
        let env = world.get(&world.cron_job_key("roraima", VIEW)).to_string();
        assert!(env.contains(&format!("\"value\":\"{prefix}\"")), "{prefix}");
        assert!(world.is("roraima", "Ready", "True", "Reconciled"), "{prefix}");
    }
}

#[tokio::test(start_paused = true)]
async fn i2_a_cron_job_of_ours_that_nobody_controls_is_adopted() {
    let mut world = World::new(523);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(12)).await;
    let cron_job = world.cron_job_key("roraima", VIEW);
    let stored = world.get(&cron_job);
    world.kill_operator();
    world.delete(&world.policy_key("roraima"));
    world.run_for(minutes(2)).await;
    // As a backup brings it back: without owners, with what it had.
    world.create(
        &cron_job,
        json!({
            "metadata": { "labels": stored["metadata"]["labels"], "annotations": { "velero.io/restored": "yes" } },
            "spec": { "schedule": "0 0 1 1 *", "jobTemplate": stored["spec"]["jobTemplate"] },
        }),
    );
    let uid = world.get(&cron_job)["metadata"]["uid"].clone();
    // Its old Jobs are not runs of the new policy.
    let old = resource::Key::new(resource::JOBS, "radar", "roraima-refresh-mv-portal-old");
    let owner =
        json!([{ "apiVersion": "batch/v1", "kind": "CronJob", "name": cron_job.name, "uid": uid, "controller": true }]);
    world.create(
        &old,
        json!({
            "metadata": {
                "labels": stored["metadata"]["labels"], "ownerReferences": owner, "annotations": { "fake.mapa.radar.dev/by-hand": "" },
            },
            "spec": stored["spec"]["jobTemplate"]["spec"],
        }),
    );
    let ended = json!([{ "type": "Failed", "status": "True", "lastTransitionTime": "2026-03-02T10:00:00Z" }]);
    world.edit(&old, |job| job["status"]["conditions"] = ended);
    world.run_for(seconds(5)).await;
    world.apply(policy("roraima", json!({})));
    world.start_operator();
    world.run_for(seconds(5)).await;
    // Its own first one has not ended yet.
    assert_eq!(world.task("roraima", VIEW)["totalRuns"], 0);
    world.run_for(seconds(5)).await;
    let adopted = world.get(&cron_job);
    assert_eq!(adopted["metadata"]["uid"], uid);
    assert_eq!(
        adopted["metadata"]["ownerReferences"][0]["uid"],
        world.policy("roraima")["metadata"]["uid"]
    );
    assert_eq!(adopted["spec"]["schedule"], stored["spec"]["schedule"]);
    assert_eq!(adopted["metadata"]["annotations"]["velero.io/restored"], "yes");
    world.run_for(minutes(12)).await;
    assert!(
        world.is("roraima", "Ready", "True", "Reconciled"),
        "{}",
        world.policy("roraima")
    );
    assert!(world.is("roraima", "Compliant", "True", "Fresh"));
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn i10_a_policy_whose_deletion_is_held_says_so_and_nothing_is_made_for_it() {
    let mut world = World::new(524);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(12)).await;
    let key = world.policy_key("roraima");
    world.edit(&key, |policy| {
        policy["metadata"]["finalizers"] = json!(["example.org/archive"])
    });
    world.delete(&key);
    world
        .run_until("it says so", seconds(10), |world| {
            world.is("roraima", "Ready", "False", "BeingDeleted")
        })
        .await;
    let message = world.condition("roraima", "Ready")["message"].clone();
    assert!(message.as_str().unwrap().contains("example.org/archive"), "{message}");
    let doomed = world.cron_job_key("roraima", VIEW);
    world.delete(&doomed);
    world.run_for(minutes(21)).await;
    assert!(world.get(&doomed).is_null(), "nothing is made for it");
    // What still runs is judged all the same.
    assert!(
        world.task("roraima", TaskName::RefreshMapaCache)["totalRuns"]
            .as_u64()
            .unwrap()
            >= 3
    );
    world.edit(&key, |policy| policy["metadata"]["finalizers"] = json!([]));
    world.run_for(minutes(2)).await;
    assert!(world.get(&key).is_null() && world.all(resource::CRON_JOBS).is_empty());
}

#[tokio::test(start_paused = true)]
async fn f22_a_cron_job_that_says_to_have_run_in_the_future_is_named_with_its_remedy() {
    let mut world = World::new(525);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(12)).await;
    let key = world.cron_job_key("roraima", VIEW);
    world.edit(&key, |cron_job| {
        cron_job["status"]["lastScheduleTime"] = "2200-01-01T00:00:00Z".into()
    });
    world
        .run_until("it is named", seconds(10), |world| {
            world.is("roraima", "Ready", "False", "CronJobNeverFires")
        })
        .await;
    assert!(world.is("roraima", "AtRisk", "True", "NotCarriedOut"));
    let message = world.condition("roraima", "AtRisk")["message"].clone();
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("kubectl delete cronjob roraima-refresh-mv-portal"),
        "{message}"
    );
    world.delete(&key);
    world
        .run_until("it is made anew", minutes(1), |world| {
            world.is("roraima", "Ready", "True", "Reconciled")
        })
        .await;
    world.run_for(minutes(12)).await;
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn f31_times_that_a_forged_job_tells_do_not_reach_the_status() {
    let mut world = World::new(526);
    world.apply(policy("roraima", json!({})));
    world.run_for(minutes(12)).await;
    let cron_job = world.get(&world.cron_job_key("roraima", VIEW));
    for (nth, moment) in ["2200-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "0001-01-01T00:00:00Z"]
        .into_iter()
        .enumerate()
    {
        let key = mapa_refresh_tests::fake_api::resource::Key::new(resource::JOBS, "radar", &format!("forged-{nth}"));
        world.create(
            &key,
            json!({
                "metadata": {
                    "labels": cron_job["metadata"]["labels"],
                    "annotations": { "batch.kubernetes.io/cronjob-scheduled-timestamp": moment, "fake.mapa.radar.dev/by-hand": "" },
                    "ownerReferences": [{
                        "apiVersion": "batch/v1", "kind": "CronJob", "name": cron_job["metadata"]["name"],
                        "uid": cron_job["metadata"]["uid"], "controller": true,
                    }],
                },
                "spec": cron_job["spec"]["jobTemplate"]["spec"],
            }),
        );
        world.edit(&key, |job| {
            job["status"] = json!({
                "startTime": moment, "completionTime": moment,
                "conditions": [{ "type": "Complete", "status": "True", "lastTransitionTime": moment }],
            });
        });
    }
    world.run_for(minutes(1)).await;
    let task = world.task("roraima", VIEW);
    for field in ["lastScheduleTime", "lastSuccessTime", "lastFailureTime", "countedUntil"] {
        if let Some(moment) = task[field].as_str() {
            let moment: k8s_openapi::jiff::Timestamp = moment.parse().unwrap();
            assert!(moment <= world.now(), "{field}: {moment}");
        }
    }
    // A slot that is missed after it is told.
    world.kubernetes.go_down();
    world
        .run_until("the missed slot is told", minutes(13), |world| {
            world.is("roraima", "AtRisk", "True", "ScheduleMissed")
        })
        .await;
    world.controllers_come_up();
    world.run_for(minutes(21)).await;
    world.converges_within(seconds(10)).await;
}
