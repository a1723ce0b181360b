use mapa_refresh_crds::{policy::TaskName, report::FaultClass, status::LastError, status::MAX_STATUS};
use serde_json::json;

use super::*;
use crate::status::blank_task;

fn now() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

fn later() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

fn invalid() -> Invalid {
    Invalid {
        error: "spec.suspendUntil: converting to timestamp failed".to_owned(),
        metadata: ObjectMeta {
            generation: Some(4),
            ..ObjectMeta::default()
        },
        status: json!(null),
    }
}

fn compliant() -> MapaRefreshPolicyStatus {
    let condition = |type_: &str, status: &str| {
        json!({
            "type": type_, "status": status, "reason": "Before", "message": "m", "observedGeneration": 3,
            "lastTransitionTime": "2026-11-01T00:00:00Z",
        })
    };
    serde_json::from_value(json!({
        "observedGeneration": 3,
        "conditions": [
            condition("SomebodyElses", "True"), condition("Ready", "True"), condition("Compliant", "True"),
            condition("Suspended", "False"), condition("AtRisk", "False"), condition("Feasible", "True"),
        ],
        "dataAsOf": "2026-11-23T09:50:00Z",
        "compliantUntil": "2026-11-23T10:20:00Z",
        "lastSuccessTime": "2026-11-23T09:51:00Z",
        "nextScheduleTime": "2026-11-23T10:01:00Z",
        "worstCaseDataAgeSeconds": 1590,
        "consecutiveFailures": 1,
        "retries": 2,
        "recentStartSeconds": [4],
        "lastHandledRequest": "r",
        "target": "0123456789abcdef",
        "targetSince": "2026-11-01T00:00:00Z",
        "compliance": {
            "since": "2026-11-01T00:00:00Z", "accountedUntil": "2026-11-23T09:51:00Z", "breaches": 3,
            "settled": { "until": "2026-11-23T09:51:00Z" },
        },
        "tasks": [{
            "name": "refresh-mapa-cache", "cronJobName": "c", "schedule": "1 * * * *", "maxRetries": 3, "retryDelaySeconds": 60,
            "attemptTimeoutSeconds": 120, "totalRuns": 99, "countedRuns": ["a"], "publications": [1, 2],
        }],
    }))
    .unwrap()
}

fn words(status: &MapaRefreshPolicyStatus) -> Vec<(&str, &str, &str)> {
    let conditions = status.conditions.iter();
    conditions
        .map(|condition| {
            (
                condition.type_.as_str(),
                condition.status.as_str(),
                condition.reason.as_str(),
            )
        })
        .collect()
}

#[test]
fn nothing_is_claimed_of_a_policy_that_is_not_understood_and_everything_that_was_proved_stays() {
    let before = compliant();
    let after = settled(&invalid(), &before, now());
    assert_eq!(
        words(&after),
        [
            ("SomebodyElses", "True", "Before"),
            ("Ready", "False", "Undecodable"),
            ("Compliant", "Unknown", "Undecodable"),
            ("Suspended", "Unknown", "Undecodable"),
            ("AtRisk", "True", "NotCarriedOut"),
            ("Feasible", "False", "NotCarriedOut"),
        ]
    );
    assert!(
        after.conditions[1..]
            .iter()
            .all(|condition| condition.observed_generation == Some(4) && condition.last_transition_time.0 == now())
    );
    let ready = &after.conditions[1].message;
    assert!(
        ready.contains("cannot decode")
            && ready.contains("spec.suspendUntil: converting")
            && ready.contains("kubectl explain"),
        "{ready}"
    );
    assert_eq!(after.observed_generation, Some(4));
    let expected = MapaRefreshPolicyStatus {
        conditions: after.conditions.clone(),
        observed_generation: Some(4),
        compliant_until: None,
        worst_case_data_age_seconds: None,
        next_schedule_time: None,
        ..before
    };
    assert_eq!(after, expected);
}

#[test]
fn a_status_that_says_so_already_is_left_as_it_is_until_the_object_changes() {
    for before in [compliant(), MapaRefreshPolicyStatus::default()] {
        let told = settled(&invalid(), &before, now());
        assert_eq!(settled(&invalid(), &told, later()), told);
        // As it comes back from the API server.
        let read = serde_json::from_value(serde_json::to_value(&told).unwrap()).unwrap();
        assert_eq!(settled(&invalid(), &read, later()), told);

        let mut changed = invalid();
        changed.metadata.generation = Some(5);
        changed.error = "spec.area: invalid type".to_owned();
        let again = settled(&changed, &told, later());
        assert_ne!(again, told);
        assert_eq!(words(&again), words(&told));
        assert!(
            again
                .conditions
                .iter()
                .zip(&told.conditions)
                .all(|(new, old)| new.last_transition_time == old.last_transition_time),
            "nothing flipped"
        );
        assert!(transitions::events(&told.conditions, &again.conditions).is_empty());
    }
}

#[test]
fn how_long_a_policy_was_suspended_until_then_is_not_forgotten() {
    let mut before = compliant();
    before.conditions[3].status = "True".to_owned();
    before.compliance.as_mut().unwrap().seconds_suspended = 100;
    let told = settled(&invalid(), &before, now());
    let account = told.compliance.as_ref().unwrap();
    assert_eq!(account.seconds_suspended, 100 + 9 * 60);
    assert_eq!(settled(&invalid(), &told, later()), told, "and counted once");
}

#[test]
fn promise_9_one_event_tells_that_a_policy_is_not_understood() {
    for before in [compliant(), MapaRefreshPolicyStatus::default()] {
        let told = settled(&invalid(), &before, now());
        let events = transitions::events(&before.conditions, &told.conditions);
        let named: Vec<_> = events
            .iter()
            .map(|event| (event.reason.as_str(), event.action.as_str()))
            .collect();
        assert_eq!(named, [("Undecodable", "ReadyFalse")]);
        assert!(events[0].type_ == EventType::Warning);
    }
}

#[test]
fn i9_a_full_status_keeps_its_size_and_is_written_once() {
    for bytes in [100, 200, 320] {
        let mut before = compliant();
        let tasks = TaskName::ALL.map(|name| {
            let mut task = blank_task(name);
            let words = |from: i64| {
                (from..from + 16)
                    .map(|number| (format!("REASON_THAT_IS_LONG_{number}"), number))
                    .collect()
            };
            task.quarantined = words(0);
            task.repaired = words(100);
            task.counted_runs = vec!["01234567".to_owned(); 8];
            task.last_error = Some(LastError {
                class: FaultClass::Transient,
                code: "X".repeat(64),
                message: "m".repeat(bytes),
            });
            task
        });
        before.tasks = tasks.into();
        let mut long = invalid();
        long.error = format!("spec.timeZone: {}", "\"\u{1b}é".repeat(300));
        let told = settled(&long, &before, now());
        let size = serde_json::to_vec(&told).unwrap().len();
        assert!(size <= MAX_STATUS, "{size}");
        assert_eq!(settled(&long, &told, later()), told, "{bytes}");
        assert!(
            told.conditions
                .iter()
                .all(|condition| !condition.message.chars().any(char::is_control))
        );
    }
}

#[test]
fn hostile_words_of_the_decoder_leave_room_for_the_remedy() {
    let mut long = invalid();
    long.error = format!("spec.area: {}", "\"\u{202e}\n".repeat(5_000));
    let told = settled(&long, &MapaRefreshPolicyStatus::default(), now());
    assert!(
        told.conditions[0].message.ends_with("to one version"),
        "{}",
        told.conditions[0].message
    );
}
