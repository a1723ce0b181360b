use proptest::prelude::*;

use super::*;
use crate::{
    desired::tests::{plan_of, policy},
    policy_file::tests::planned,
    simulate::{ages::Ages, said::worst_case},
};
use mapa_refresh_crds::status::ComplianceAccount;

fn odds(failure_rate: f64, duration: &str, start: &str, outage: Option<&str>) -> Odds {
    Odds {
        failure_rate: failure_rate.to_string().parse().unwrap(),
        duration: duration.parse().unwrap(),
        start: start.parse().unwrap(),
        outage: outage.map(|outage| outage.parse().unwrap()),
    }
}

struct Seen {
    ages: Ages,
    account: ComplianceAccount,
    rescues: u64,
    failed_runs: u64,
    promised: i64,
}

/// `None` when not everything was ever published.
fn tried(planned: &Planned, odds: &Odds, seed: u64, limits: Limits) -> Option<Seen> {
    let mut world = World::new(planned, &planned.plan, odds, seed);
    world.run(limits);
    let now = world.now();
    let (rescues, failed_runs) = (world.operator.rescues, world.operator.failed_runs);
    let promised = i64::from(worst_case(&planned.plan, world.longest));
    let (ages, account) = world.into_operator().closed(now);
    Some(Seen {
        ages,
        account: account?,
        rescues,
        failed_runs,
        promised,
    })
}

fn world_of(planned: &Planned, odds: &Odds, seed: u64, slots: u64) -> Seen {
    tried(planned, odds, seed, Limits::slots(slots)).unwrap()
}

/// A policy and the odds that it meets, drawn from `seed`. Nothing runs beside the schedule: the sum speaks of no more than that.
fn drawn(seed: u64) -> (Planned, Odds) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let names: &[&str] = match rng.u32(0..10) {
        0 => &["refresh-mv-portal"],
        1 => &["refresh-mapa-cache", "calcular-estatisticas"],
        2 => &["refresh-mv-portal", "calcular-estatisticas"],
        3 => &["refresh-mv-portal", "refresh-mapa-cache", "health-check"],
        _ => &["refresh-mv-portal", "refresh-mapa-cache", "calcular-estatisticas"],
    };
    let retries = rng.u32(0..=4);
    let tasks: Vec<_> = names
        .iter()
        .map(|name| {
            serde_json::json!({
                "name": name,
                "maxRetries": retries,
                "retryDelaySeconds": rng.u32(0..=200),
                "attemptTimeoutSeconds": rng.u32(5..=300),
            })
        })
        .collect();
    let interval = if rng.bool() { rng.u32(1..=5) } else { rng.u32(1..=30) };
    let policy = policy(serde_json::json!({ "intervalMinutes": interval, "rescue": false, "tasks": tasks }));
    let planned = Planned {
        plan: plan_of(&policy),
        policy,
        defaulted: Vec::new(),
    };
    let (p50, start) = (rng.u32(1..=120), rng.u32(1..=20));
    let odds = odds(
        0.5 * rng.f64().powi(3),
        &format!("p50={p50}s,p99={}s", p50 * rng.u32(1..=4)),
        &format!("p50={start}s,p99={}s", start * rng.u32(1..=3)),
        None,
    );
    (planned, odds)
}

/// Worst age and promised age of `count` worlds from `first` on in which every run succeeded within its retries; by their seeds.
fn worlds_without_failed_runs(first: u64, count: u64) -> Vec<(u64, i64, i64)> {
    (first..)
        .filter_map(|seed| {
            let (planned, odds) = drawn(seed);
            let until_one_fails = Limits {
                failed_runs: 1,
                ..Limits::slots(60)
            };
            let seen = tried(&planned, &odds, seed, until_one_fails).filter(|seen| seen.failed_runs == 0)?;
            Some((seed, seen.account.total.worst_data_age_seconds, seen.promised))
        })
        .take(usize::try_from(count).unwrap())
        .collect()
}

/// A number that the environment may set: more worlds than the suite has, or others.
fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |given| given.parse().unwrap())
}

#[test]
fn promise_4_no_data_is_ever_older_than_feasible_says_while_every_run_succeeds_within_its_retries() {
    let (count, first) = (number("FEASIBLE_WORLDS", 10_000), number("FEASIBLE_SEED", 0));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let worlds: Vec<(u64, i64, i64)> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                let share = count / threads + u64::from(part < count % threads);
                // Far apart: no part reaches the seeds of another.
                scope.spawn(move || worlds_without_failed_runs(first + part * 1_000_000_000, share))
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert_eq!(worlds.len() as u64, count);
    let older: Vec<_> = worlds.iter().filter(|(_, worst, promised)| worst > promised).collect();
    assert!(
        older.is_empty(),
        "{} of {count} worlds, the first by seed, age and promise: {:?}",
        older.len(),
        older.first()
    );
    let near = worlds
        .iter()
        .filter(|(_, worst, promised)| worst * 10 >= promised * 8)
        .count() as u64;
    println!("{count} worlds, none older than promised; {near} reach 80 % of it");
    assert!(
        near * 10 >= count,
        "the sum is needlessly large: {near} of {count} worlds reach 80 % of it"
    );
}

#[test]
fn promise_4_a_view_that_outlasts_its_own_maps_wait_is_public_a_slot_later() {
    let task = |name: &str| format!("  - {{ name: {name}, maxRetries: 0, attemptTimeoutSeconds: 16 }}\n");
    let names = ["refresh-mv-portal", "refresh-mapa-cache", "calcular-estatisticas"];
    let planned = planned(
        1,
        &("  rescue: false\n  tasks:\n".to_owned() + &names.map(task).concat()),
    );
    let seen = world_of(&planned, &odds(0.0, "p50=15s,p99=15s", "p50=1s,p99=1s", None), 1, 200);
    assert_eq!(seen.failed_runs, 0);
    // Two gaps, a start and a run. The map of the next slot does not wait out the view of its own first.
    assert_eq!(seen.promised, 60 + 60 + 1 + 15);
    assert!(
        (130..=136).contains(&seen.account.total.worst_data_age_seconds),
        "{:?}",
        seen.account.total
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_global_rejects: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_account_of_the_engine_and_the_ages_that_the_world_saw_are_the_same(
        interval in 1_u32..=30, rescue: bool, rate in 0.0_f64..1.0, p50 in 1_u32..200, outage: bool, seed: u64,
    ) {
        let planned = planned(interval, &format!("  rescue: {rescue}\n  maxDataAgeMinutes: 20\n"));
        let outage = outage.then_some("50m/5h");
        let odds = odds(rate.min(0.9), &format!("p50={p50}s,p99={}s", p50 * 9), "p50=2s,p99=40s", outage);
        let Some(Seen { ages, account, .. }) = tried(&planned, &odds, seed, Limits::slots(200)) else {
            return Err(TestCaseError::reject("nothing was published"));
        };
        prop_assert_eq!(account.total.breaches.unsigned_abs(), ages.breaches);
        prop_assert_eq!(account.total.worst_data_age_seconds, ages.quantile(1.0));
        prop_assert_eq!(account.total.seconds_unproven, 0);
        let over = ages.share(1_200, i64::MAX) * ages.seconds() as f64;
        prop_assert!((over - account.total.seconds_in_breach as f64).abs() < 0.5, "{} {:?}", over, account.total);
        let (days, of) = ages.days();
        prop_assert!(days <= of && (days == 0) == (ages.breaches == 0));
    }
}

#[test]
fn promise_4_ten_minutes_without_failures_never_breach_nor_need_a_rescue() {
    let planned = planned(10, "");
    let seen = world_of(
        &planned,
        &odds(0.0, "p50=3s,p99=10s", "p50=2s,p99=10s", None),
        1,
        20_000,
    );
    assert_eq!((seen.account.total.breaches, seen.rescues, seen.failed_runs), (0, 0, 0));
    // A gap, the map's lead of a minute, a start and a run.
    assert!((660..720).contains(&seen.account.total.worst_data_age_seconds));
}

#[test]
fn lesson_06_a_period_equal_to_the_limit_breaches_at_every_slot_unless_rescues_are_allowed() {
    let luck = odds(0.0, "p50=3s,p99=10s", "p50=2s,p99=10s", None);
    let without = world_of(&planned(30, "  rescue: false\n"), &luck, 1, 1_000);
    assert_eq!((without.account.total.breaches, without.rescues), (1_000, 0));
    let with = world_of(&planned(30, ""), &luck, 1, 1_000);
    assert_eq!(with.account.total.breaches, 0);
    // One for each slot: what was rescued lasts until the next.
    assert!((995..=1_005).contains(&with.rescues), "{}", with.rescues);
}

#[test]
fn f32_an_outage_longer_than_the_limit_is_a_breach_and_its_age_is_what_it_lasted() {
    let seen = world_of(
        &planned(10, ""),
        &odds(0.0, "p50=3s,p99=3s", "p50=2s,p99=2s", Some("2h/30d")),
        3,
        20_000,
    );
    assert!(
        (2..=9).contains(&seen.account.total.breaches),
        "{:?}",
        seen.account.total
    );
    assert!(
        seen.account.total.worst_data_age_seconds > 7_200,
        "{:?}",
        seen.account.total
    );
}

#[test]
fn promise_5_a_rescue_renews_what_a_failed_run_left_to_age() {
    let luck = odds(0.3, "p50=3s,p99=10s", "p50=2s,p99=10s", None);
    let retries =
        "  tasks:\n  - { name: refresh-mv-portal, maxRetries: 0 }\n  - { name: refresh-mapa-cache, maxRetries: 0 }\n";
    let seconds = |rescue: &str| {
        let planned = planned(15, &format!("{rescue}{retries}"));
        world_of(&planned, &luck, 5, 5_000).account.total.seconds_in_breach
    };
    let (with, without) = (seconds(""), seconds("  rescue: false\n"));
    assert!(with * 2 < without, "{with} s with rescues, {without} s without");
}

#[test]
fn the_same_seed_gives_the_same_world_and_another_gives_another() {
    let luck = odds(0.2, "p50=3s,p99=40s", "p50=2s,p99=10s", Some("1h/1d"));
    let tally = |seed| world_of(&planned(10, ""), &luck, seed, 2_000).account.total;
    assert_eq!(tally(1), tally(1));
    assert_ne!(tally(1), tally(2));
}

#[test]
fn a_world_in_which_nothing_is_ever_published_ends() {
    let hopeless = odds(0.0, "p50=500s,p99=600s", "p50=2s,p99=2s", None);
    assert!(tried(&planned(1, ""), &hopeless, 1, Limits::slots(100)).is_none());
}

#[test]
fn every_list_of_tasks_and_every_interval_can_be_simulated() {
    let luck = odds(0.2, "p50=3s,p99=400s", "p50=2s,p99=100s", Some("1h/1d"));
    for interval in 1..=30 {
        for names in [
            &["refresh-mv-portal"][..],
            &["refresh-mapa-cache", "health-check"],
            &[
                "refresh-mv-portal",
                "refresh-mapa-cache",
                "calcular-estatisticas",
                "health-check",
            ],
        ] {
            let tasks: String = names.iter().map(|name| format!("  - name: {name}\n")).collect();
            let seen = world_of(&planned(interval, &format!("  tasks:\n{tasks}")), &luck, 1, 300);
            assert!(
                seen.ages.seconds() > i64::from(interval) * 60 * 100,
                "{interval} {names:?}"
            );
        }
    }
}
