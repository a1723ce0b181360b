//! Histories in which anything may happen, from a seed that is printed when one fails.

use mapa_refresh_crds::{policy::TaskName, report::FaultClass};
use mapa_refresh_tests::fake_api::{World, failure::Failure, faults::Effect, policy, resource, runs::Outcome};
use serde_json::json;

use crate::span::{minutes, seconds};

/// Histories; `FAKE_API_HISTORIES` asks for more, `FAKE_API_SEED` for another first seed.
const HISTORIES: u64 = 25;

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
        match random.u32(0..16) {
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
            _ => {
                let outcomes = [
                    Outcome::Hangs,
                    Outcome::NoPod,
                    Outcome::Evicted,
                    Outcome::OutOfMemory,
                    Outcome::ImagePullBackOff,
                    Outcome::NodeLost,
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
        }
    }
    world.clear_faults();
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
