//! Histories in which anything may happen, from a seed that is printed when one fails.

use mapa_refresh_crds::{policy::TaskName, report::FaultClass};
use mapa_refresh_tests::fake_api::{World, failure::Failure, faults::Effect, policy, resource, runs::Outcome};
use serde_json::json;

use crate::span::{minutes, seconds};

/// Histories; `FAKE_API_HISTORIES` asks for more, `FAKE_API_SEED` for another first seed.
const HISTORIES: u64 = 25;

/// I1, I2, I3, I4, I5, I6, I8, I9, I10 and I11 are judged after every request, I7 at the end: by the world, which fails the history.
#[tokio::test(start_paused = true)]
async fn any_history_of_faults_keeps_the_invariants_and_ends_well() {
    let number = |name: &str, default| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let first = number("FAKE_API_SEED", 1_000);
    for seed in first..first + number("FAKE_API_HISTORIES", HISTORIES) {
        history(seed).await;
    }
}

async fn history(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::with_rivals(seed, random.usize(1..3));
    world.restart_after = seconds(random.u64(0..40));
    world.apply(policy("roraima", json!({})));
    world.apply(policy("acre", json!({ "intervalMinutes": 30 })));
    for _ in 0..random.usize(3..8) {
        let tasks = TaskName::DEFAULT;
        let task = tasks[random.usize(0..tasks.len())];
        match random.u32(0..19) {
            0 | 1 => {
                let (chaos, per_mille) = (random.u64(..), random.u32(10..250));
                world.with_faults(|faults| faults.chaos(chaos, per_mille));
            }
            2 => {
                let code = [500, 503, 504, 429][random.usize(0..4)];
                world
                    .with_faults(|faults| faults.always(|_| true, Effect::Refused(Failure::new(code, "Down", "down"))));
            }
            3 => world.server().silence_watches(),
            4 => world.server().expire_watches(),
            5 => world.with_faults(|faults| faults.watches().delay = seconds(random.u64(1..30))),
            6 => world.with_faults(|faults| faults.watches().repeated = true),
            7 => world.server().freeze(),
            8 => world.start_operator(),
            9 => world.kill_operator(),
            10 => {
                let key = world.cron_job_key("roraima", task);
                if !world.get(&key).is_null() {
                    world.delete(&key);
                }
            }
            11 => {
                let key = world.cron_job_key("acre", task);
                if !world.get(&key).is_null() {
                    world.edit(&key, |cron_job| cron_job["spec"]["suspend"] = true.into());
                }
            }
            12 => {
                world.delete(&world.policy_key("acre"));
                world.run_for(seconds(random.u64(0..20))).await;
                world.apply(policy("acre", json!({ "intervalMinutes": 20 })));
            }
            13 => {
                let interval = random.i64(3..31);
                world.edit(&world.policy_key("roraima"), |policy| {
                    policy["spec"]["intervalMinutes"] = interval.into()
                });
            }
            14 => world.kubernetes.go_down(),
            // A queue that admits nothing for a while.
            15 => world.server().admit_by(Some(|key, job| {
                if key.resource == resource::JOBS {
                    job["spec"]["suspend"] = true.into();
                }
            })),
            // Jobs with a foreign finalizer.
            16 => world.server().admit_by(Some(|key, job| {
                if key.resource == resource::JOBS {
                    job["metadata"]["finalizers"] = json!(["example.org/hold"]);
                }
            })),
            17 => world.server().admit_by(Some(|key, cron_job| {
                if key.resource == resource::CRON_JOBS {
                    let container = &mut cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
                    container["resources"]["limits"]["cpu"] = "1".into();
                }
            })),
            _ => {
                let outcomes = [
                    Outcome::Hangs,
                    Outcome::NoPod,
                    Outcome::Evicted,
                    Outcome::OutOfMemory,
                    Outcome::ImagePullBackOff,
                    Outcome::NodeLost,
                    Outcome::KubeletLost,
                    Outcome::Vanishes,
                    Outcome::Says("x".to_owned()),
                    Outcome::Fails(FaultClass::Transient, "57P03", "starting up"),
                ];
                let outcome = outcomes[random.usize(0..outcomes.len())].clone();
                world.kubernetes.script.next(task, [outcome]);
            }
        }
        world.run_for(seconds(random.u64(5..900))).await;
        if random.bool() {
            world.clear_faults();
            world.server().admit_by(None);
        }
    }
    world.clear_faults();
    world.server().admit_by(None);
    world.kubernetes.script.clear();
    world.controllers_come_up();
    world.start_operator();
    world.run_for(seconds(30)).await;
    world.converges_within(seconds(10)).await;
    world.run_for(minutes(45)).await;
    world.converges_within(seconds(40)).await;
    for name in ["roraima", "acre"] {
        assert!(
            world.is(name, "Ready", "True", "Reconciled"),
            "seed {seed}: {}",
            world.policy(name)
        );
        let compliant = world.condition(name, "Compliant");
        assert!(
            name == "acre" || compliant["status"] == "True",
            "seed {seed}: {compliant}"
        );
    }
    assert_eq!(world.all(resource::CRON_JOBS).len(), 6, "seed {seed}");
}

/// Half a day in which nothing is ever wholly well: a request in fifty meets a fault, each operator may die by it, and every hour
/// somebody changes, deletes and asks for something.
#[tokio::test(start_paused = true)]
async fn f30_twelve_hours_of_eight_policies_two_operators_and_steady_faults_end_well() {
    let mut world = World::with_rivals(30, 2);
    let names: Vec<String> = (0..8).map(|number| format!("utility-{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        world.apply(policy(name, json!({ "intervalMinutes": 6 + 2 * number })));
    }
    world.run_for(minutes(35)).await;
    world.with_faults(|faults| faults.chaos(30, 20));
    for (hour, task) in TaskName::DEFAULT.into_iter().cycle().take(12).enumerate() {
        let name = |offset: usize| names[(hour + offset) % names.len()].as_str();
        let doomed = world.cron_job_key(name(0), task);
        if !world.get(&doomed).is_null() {
            world.delete(&doomed);
        }
        world.edit(&world.policy_key(name(1)), |policy| {
            policy["spec"]["intervalMinutes"] = (5 + hour).into();
        });
        world.edit(&world.policy_key(name(2)), |policy| {
            policy["metadata"]["annotations"]["mapa.radar.dev/requestedAt"] = hour.to_string().into();
        });
        world
            .kubernetes
            .script
            .next(task, [Outcome::Hangs, Outcome::OutOfMemory]);
        world.run_for(minutes(60)).await;
    }
    assert!(world.crashes() > 0, "no faults");
    world.clear_faults();
    world.kubernetes.script.clear();
    world.run_for(seconds(30)).await;
    world.converges_within(seconds(10)).await;
    world.run_for(minutes(35)).await;
    world.converges_within(seconds(40)).await;
    for name in &names {
        for (type_, reason) in [("Ready", "Reconciled"), ("Compliant", "Fresh")] {
            assert!(world.is(name, type_, "True", reason), "{}", world.policy(name));
        }
    }
}
