//! Runs beside the schedule whose Jobs never end or cannot be created: promise 5 and promise 7 rest on no Job's end.

use mapa_refresh_crds::policy::TaskName;
use mapa_refresh_tests::fake_api::{
    World, policy,
    resource::{self, Key},
    runs::Outcome,
    world::NAMESPACE,
};
use serde_json::{Value, json};

use crate::span::{minutes, seconds};

const VIEW: TaskName = TaskName::RefreshMvPortal;

/// A policy whose slots are too far apart, so that nearly every deadline needs a rescue.
async fn rescued(seed: u64) -> World {
    let mut world = World::new(seed);
    world.apply(policy(
        "roraima",
        json!({ "intervalMinutes": 30, "maxDataAgeMinutes": 30 }),
    ));
    world.run_for(minutes(35)).await;
    world
}

fn is_beside_the_schedule(job: &Value) -> bool {
    job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"].is_null()
}

fn rescues(world: &World) -> usize {
    let created = world.server().jobs_beside_the_schedule();
    let mut chains: Vec<_> = created.iter().filter_map(|job| job.rsplit('-').next()).collect();
    chains.sort_unstable();
    chains.dedup();
    chains.into_iter().filter(|id| id.starts_with('r')).count()
}

/// What keeps one rescue's Job of the view from ending, for good.
type Hold = fn(&mut World);

fn suspend_what_is_created(world: &mut World) {
    world.server().admit_by(Some(|key, job| {
        if key.resource == resource::JOBS && is_beside_the_schedule(job) {
            job["spec"]["suspend"] = true.into();
        }
    }));
}

fn lose_the_kubelet(world: &mut World) {
    world.kubernetes.script.always(VIEW, Outcome::KubeletLost);
}

fn hold_what_is_deleted(world: &mut World) {
    world.kubernetes.script.always(VIEW, Outcome::Hangs);
    world.server().admit_by(Some(|key, job| {
        if key.resource == resource::JOBS && is_beside_the_schedule(job) {
            job["metadata"]["finalizers"] = json!(["example.org/hold"]);
        }
    }));
}

async fn next_rescue_begins(world: &mut World) {
    let before = rescues(world);
    world
        .run_until("another rescue begins", minutes(40), |world| rescues(world) > before)
        .await;
}

#[tokio::test(start_paused = true)]
async fn promise_5_a_rescue_whose_job_never_ends_blocks_no_later_one() {
    let holds: [(&str, Hold); 3] = [
        ("suspended", suspend_what_is_created),
        ("kubelet lost", lose_the_kubelet),
        ("held by a finalizer", hold_what_is_deleted),
    ];
    for (seed, (what, hold)) in (500..).zip(holds) {
        let mut world = rescued(seed).await;
        next_rescue_begins(&mut world).await;
        world.run_for(minutes(3)).await;
        // The next one, while the schedule has nothing to do.
        let before = rescues(&world);
        hold(&mut world);
        world
            .run_until("the rescue begins", minutes(40), |world| rescues(world) > before)
            .await;
        world.run_for(seconds(3)).await;
        if what == "held by a finalizer" {
            let doomed: Vec<Key> = keys_beside_the_schedule(&world);
            for key in doomed {
                world.delete(&key);
            }
        }
        world.server().admit_by(None);
        world.kubernetes.script.clear();
        // The fault is over; what it left stays.
        world.run_for(minutes(31)).await;
        assert!(!keys_beside_the_schedule(&world).is_empty(), "{what}: nothing is stuck");
        for _ in 0..3 {
            next_rescue_begins(&mut world).await;
        }
        world.run_for(minutes(2)).await;
        assert!(
            world.is("roraima", "Compliant", "True", "Fresh"),
            "{what}: {}",
            world.policy("roraima")
        );
        let risk = world.condition("roraima", "AtRisk");
        assert_ne!(risk["reason"], "RunHung", "{what}: {risk}");
        assert_ne!(risk["reason"], "PodCannotStart", "{what}: {risk}");
        world.converges_within(seconds(10)).await;
    }
}

/// Jobs beside the schedule that have not ended.
fn keys_beside_the_schedule(world: &World) -> Vec<Key> {
    world
        .all(resource::JOBS)
        .into_iter()
        .filter(is_beside_the_schedule)
        .filter(|job| {
            let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
            !conditions
                .clone()
                .any(|it| it["type"] == "Complete" || it["type"] == "Failed")
        })
        .filter_map(|job| Some(Key::new(resource::JOBS, NAMESPACE, job["metadata"]["name"].as_str()?)))
        .collect()
}

fn ask(world: &mut World, token: &str) {
    world.edit(&world.policy_key("roraima"), |policy| {
        policy["metadata"]["annotations"]["mapa.radar.dev/requestedAt"] = token.into();
    });
}

async fn request_ends(world: &mut World, token: &str) -> Value {
    ask(world, token);
    world
        .run_until("the request comes to its end", minutes(15), |world| {
            let status = &world.policy("roraima")["status"];
            status["lastHandledRequest"] == token && status["request"]["finishedAt"].is_string()
        })
        .await;
    world.policy("roraima")["status"]["request"].clone()
}

#[tokio::test(start_paused = true)]
async fn promise_7_a_suspended_job_is_named_with_its_remedy_and_blocks_no_later_request() {
    let mut world = World::new(510);
    world.apply(policy("roraima", json!({ "rescue": false })));
    world.run_for(minutes(12)).await;
    suspend_what_is_created(&mut world);
    ask(&mut world, "one");
    world
        .run_until("the suspended Job is named", minutes(2), |world| {
            world.is("roraima", "AtRisk", "True", "PodCannotStart")
        })
        .await;
    let risk = world.condition("roraima", "AtRisk");
    let message = risk["message"].as_str().unwrap();
    assert!(
        message.contains("JobSuspended") && message.contains("kubectl patch job"),
        "{message}"
    );
    world.server().admit_by(None);
    assert_eq!(request_ends(&mut world, "one").await["failed"], true);
    assert!(request_ends(&mut world, "two").await["failed"].is_null());
    // The queue admits it at last: it runs, and is counted like any other.
    let late = keys_beside_the_schedule(&world);
    assert_eq!(late.len(), 1);
    let runs = world.task("roraima", VIEW)["totalRuns"].as_u64().unwrap();
    world.edit(&late[0], |job| job["spec"]["suspend"] = false.into());
    world
        .run_until("it is counted", minutes(3), |world| {
            world.task("roraima", VIEW)["totalRuns"].as_u64().unwrap() > runs
        })
        .await;
    world.converges_within(seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn promise_7_the_same_words_asked_for_again_start_new_runs() {
    let mut world = World::new(511);
    world.apply(policy("roraima", json!({ "rescue": false })));
    world.run_for(minutes(12)).await;
    let mut ids = Vec::new();
    for token in ["manha", "tarde", "manha", "tarde"] {
        let request = request_ends(&mut world, token).await;
        assert!(request["failed"].is_null(), "{request}");
        ids.push(request["id"].as_str().unwrap().to_owned());
        world.run_for(minutes(1)).await;
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{ids:?}");
    assert_eq!(world.server().jobs_beside_the_schedule().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn promise_7_a_job_that_cannot_be_created_ends_its_request_and_blocks_no_later_one() {
    let mut world = World::new(512);
    world.apply(policy("roraima", json!({ "rescue": false })));
    world.run_for(minutes(12)).await;
    // Somebody else's CronJob has the name of ours.
    let place = world.cron_job_key("roraima", TaskName::CalcularEstatisticas);
    world.delete(&place);
    world.create(
        &place,
        json!({ "metadata": {}, "spec": { "schedule": "0 0 1 1 *", "suspend": true } }),
    );
    world
        .run_until("it is told", minutes(1), |world| {
            world.is("roraima", "Ready", "False", "CronJobConflict")
        })
        .await;
    let risk = world.condition("roraima", "AtRisk");
    assert_eq!(risk["reason"], "NotCarriedOut", "{risk}");
    let message = risk["message"].as_str().unwrap();
    assert!(
        message.contains("belongs to somebody else") && !message.contains("the next runs will mend it"),
        "{message}"
    );
    assert_eq!(request_ends(&mut world, "one").await["failed"], true);
    world.delete(&place);
    world.run_for(seconds(30)).await;
    assert!(request_ends(&mut world, "two").await["failed"].is_null());
    assert!(world.is("roraima", "Ready", "True", "Reconciled"));
}
