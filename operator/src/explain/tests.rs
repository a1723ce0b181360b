use super::*;
use crate::policy_file::{
    parse,
    tests::{EXAMPLE, NOW},
};

fn explained(text: &str, output: OutputFormat) -> Answer {
    let at: Timestamp = NOW.parse().unwrap();
    answer(parse(text, "policy.yaml", "default", at).unwrap(), output, at)
}

#[test]
fn a_policy_is_explained_as_its_golden_text_says() {
    let text = EXAMPLE.replace("intervalMinutes: 10", "intervalMinutes: 20");
    let answer = explained(&text, OutputFormat::Table);
    assert_eq!(answer.stdout, include_str!("golden.txt"), "{}", answer.stdout);
    assert_eq!((answer.stderr.as_str(), answer.exit_code), ("", DOES_NOT_HOLD));
}

#[test]
fn promise_2_the_hour_holds_every_slot_once_in_order_and_no_gap_exceeds_the_interval() {
    for interval in 1..=30 {
        let planned = crate::policy_file::tests::planned(interval, "");
        for second in [0, 1, 59, 360, 3_599] {
            let at: Timestamp = NOW.parse().unwrap();
            let at = after(at, second);
            let all = slots(&planned, at);
            for task in planned.plan.tasks.iter() {
                let moments: Vec<Timestamp> = all
                    .iter()
                    .filter(|slot| slot.task == task.name)
                    .map(|slot| slot.utc.parse().unwrap())
                    .collect();
                assert_eq!(moments.len(), task.schedule.minutes().count(), "interval {interval}");
                let gaps = moments.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs());
                assert!(gaps.into_iter().all(|gap| gap > 0 && gap <= i64::from(interval) * 60));
                assert!(moments.iter().all(|slot| *slot >= at && *slot < after(at, AN_HOUR)));
            }
        }
    }
}

#[test]
fn slots_are_told_in_the_policys_own_zone_too() {
    let kathmandu = EXAMPLE.to_owned() + "  timeZone: Asia/Kathmandu\n";
    let json: serde_json::Value = serde_json::from_str(&explained(&kathmandu, OutputFormat::Json).stdout).unwrap();
    let slot = &json["policies"][0]["slots"][0];
    assert_eq!(
        (slot["utc"].as_str(), slot["local"].as_str()),
        (Some("2026-11-23T10:06:00Z"), Some("2026-11-23T15:51:00+05:45"))
    );
}

#[test]
fn what_is_not_valid_is_told_beside_what_is() {
    let text = format!(
        "{EXAMPLE}---\n{}",
        EXAMPLE.replace("intervalMinutes: 10", "intervalMinutes: 31")
    );
    let answer = explained(&text, OutputFormat::Json);
    let json: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(json["policies"].as_array().unwrap().len(), 1);
    assert_eq!(json["refused"][0]["problems"][0]["field"], "spec.intervalMinutes");
    assert!(
        answer
            .stderr
            .starts_with("error: radar/roraima: spec.intervalMinutes: "),
        "{}",
        answer.stderr
    );
    assert_eq!(answer.exit_code, BAD_INPUT);
}

#[test]
fn a_suspended_policy_has_no_slots_and_says_so() {
    let answer = explained(
        &(EXAMPLE.to_owned() + "  suspend: true\n  suspendReason: obra\n"),
        OutputFormat::Table,
    );
    assert!(answer.stdout.contains("Suspended: no slot fires"), "{}", answer.stdout);
}
