use super::*;
use crate::{
    desired::tests::{plan_of, policy},
    status::blank_task,
};

fn judged(spec: serde_json::Value, seen: &[(TaskName, i32)]) -> (Feasibility, Verdict) {
    let plan = plan_of(&policy(spec));
    let tasks: Vec<TaskStatus> = seen
        .iter()
        .map(|(name, run)| TaskStatus {
            recent_run_seconds: vec![*run; 5],
            ..blank_task(*name)
        })
        .collect();
    let starts: &[i32] = if seen.is_empty() { &[] } else { &[5; 5] };
    let feasibility = feasibility(&plan, &tasks, starts);
    let verdict = verdict(&plan, &feasibility);
    (feasibility, verdict)
}

/// Runs as they go on an ordinary day.
const ORDINARY: [(TaskName, i32); 3] = [
    (TaskName::RefreshMvPortal, 2),
    (TaskName::RefreshMapaCache, 1),
    (TaskName::CalcularEstatisticas, 1),
];

#[test]
fn promise_4_ten_minutes_hold_the_limit_and_the_sum_is_told() {
    let (feasibility, verdict) = judged(
        serde_json::json!({ "tasks": [
            { "name": "refresh-mv-portal", "maxRetries": 1, "retryDelaySeconds": 30, "attemptTimeoutSeconds": 60 },
            { "name": "refresh-mapa-cache", "maxRetries": 1, "retryDelaySeconds": 30, "attemptTimeoutSeconds": 60 },
            { "name": "calcular-estatisticas", "maxRetries": 1, "retryDelaySeconds": 30, "attemptTimeoutSeconds": 60 },
        ] }),
        &ORDINARY,
    );
    // The view fails for 2 s, waits 30 and succeeds in 2: before the map's slot, a minute after its own. The map takes 1 + 30 + 1.
    assert_eq!(
        feasibility.worst,
        WorstCase {
            gap: 600,
            stale_gap: 0,
            start: 5,
            retries: 31,
            run: 61,
            downstream: 0,
            usual: 666
        }
    );
    assert_eq!(feasibility.survives, 1);
    // 29 minutes are three slots an hour, so that the largest gap is 20.
    assert_eq!(feasibility.largest_interval, Some(29));
    assert!(verdict.holds, "{verdict:?}");
    assert_eq!(
        verdict.message,
        "600 s gap + 5 s start + 31 s retries + 61 s run = 697 s of 1800 s; survives 1 failed run in a row; largest interval that fits: 29"
    );
}

#[test]
fn lesson_06_a_period_equal_to_the_limit_is_accepted_and_told_that_it_has_no_margin() {
    let (feasibility, verdict) = judged(serde_json::json!({ "intervalMinutes": 30 }), &ORDINARY);
    assert!(
        !verdict.holds && verdict.reason == "IntervalExceedsLimit",
        "{verdict:?}"
    );
    assert_eq!(feasibility.survives, 0);
    assert!(
        verdict.message.contains("survives 0 failed runs in a row"),
        "{}",
        verdict.message
    );
}

#[test]
fn retries_that_do_not_fit_into_a_run_are_named() {
    let (feasibility, verdict) = judged(serde_json::json!({}), &[]);
    assert_eq!(
        feasibility.cut_retries,
        [(TaskName::RefreshMvPortal, 1, 3)],
        "570 s: one retry after 300 s and a delay of 120 s; of the map's three each takes 180 s"
    );
    assert!(
        verdict.message.contains("of 3 retries of refresh-mv-portal 1 fit"),
        "{}",
        verdict.message
    );
}

#[test]
fn a_view_whose_retries_outlast_the_patience_of_the_map_costs_one_gap_more() {
    let (feasibility, verdict) = judged(serde_json::json!({}), &ORDINARY);
    assert_eq!(feasibility.worst.stale_gap, 600);
    assert!(verdict.holds, "and yet ten minutes hold the limit: {verdict:?}");
    let (patient, _) = judged(
        serde_json::json!({ "tasks": [{ "name": "refresh-mv-portal", "maxRetries": 0 }, { "name": "refresh-mapa-cache", "maxRetries": 0 }] }),
        &ORDINARY,
    );
    assert_eq!(patient.worst.stale_gap, 0);
}

#[test]
fn a_view_that_outlasts_the_wait_without_retries_costs_a_gap_of_the_usual_age_too() {
    let view = |seconds: i32| {
        judged(
            serde_json::json!({ "intervalMinutes": 5 }),
            &[
                (TaskName::RefreshMvPortal, seconds),
                (TaskName::RefreshMapaCache, 1),
                (TaskName::CalcularEstatisticas, 1),
            ],
        )
        .0
        .worst
    };
    // The map waits until 195 s after the view's slot: a lead of 60, half of a budget of 270. A start takes 5 s, a look at the view 1 s.
    let (in_time, late) = (view(189), view(190));
    assert_eq!(in_time.usual, 300 + 5 + 190 + 1);
    assert_eq!(late.usual, 300 + 300 + 5 + 60 + 1);
    assert_eq!((late.gap, late.stale_gap), (300, 300));
}

#[test]
fn a_map_of_which_two_do_not_fit_into_a_run_costs_a_gap() {
    let map = |seconds: i32| {
        judged(
            serde_json::json!({ "intervalMinutes": 5, "tasks": [
                { "name": "refresh-mv-portal", "maxRetries": 0 },
                { "name": "refresh-mapa-cache", "maxRetries": 0, "attemptTimeoutSeconds": 200 },
            ] }),
            &[(TaskName::RefreshMvPortal, 2), (TaskName::RefreshMapaCache, seconds)],
        )
        .0
        .worst
        .stale_gap
    };
    assert_eq!((map(134), map(135)), (0, 300), "a budget of 270 s");
}

#[test]
fn what_is_built_without_a_view_of_ours_waits_for_nothing() {
    let (feasibility, _) = judged(
        serde_json::json!({ "tasks": [{ "name": "refresh-mapa-cache", "maxRetries": 1, "retryDelaySeconds": 60 }] }),
        &[(TaskName::RefreshMapaCache, 4)],
    );
    let WorstCase {
        stale_gap,
        retries,
        run,
        ..
    } = feasibility.worst;
    assert_eq!((stale_gap, retries, run), (0, 64, 4));
}

#[test]
fn caches_after_ours_are_part_of_the_sum_and_of_the_same_limit() {
    let (plain, _) = judged(serde_json::json!({}), &ORDINARY);
    let (behind, verdict) = judged(serde_json::json!({ "downstreamCacheSeconds": 120 }), &ORDINARY);
    assert_eq!(behind.worst.total(), plain.worst.total() + 120);
    assert_eq!((behind.limit, plain.limit), (1_800, 1_800));
    assert!(verdict.message.contains("120 s downstream"), "{}", verdict.message);
}

#[test]
fn the_largest_interval_that_fits_is_the_largest() {
    for interval in 1..=30 {
        let (feasibility, verdict) = judged(serde_json::json!({ "intervalMinutes": interval }), &ORDINARY);
        let fits = feasibility.worst.total() <= feasibility.limit;
        assert_eq!(fits, verdict.holds);
        if fits {
            assert!(
                feasibility.largest_interval.is_some_and(|largest| largest >= interval),
                "{interval}"
            );
        }
        if let Some(largest) = feasibility.largest_interval {
            let (at_largest, _) = judged(serde_json::json!({ "intervalMinutes": largest }), &ORDINARY);
            assert!(at_largest.worst.total() <= at_largest.limit, "{interval} {largest}");
        }
    }
}
