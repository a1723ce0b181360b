use super::*;
use crate::policy_file::{
    parse,
    tests::{EXAMPLE, NOW},
};

fn simulated(text: &str, arguments: &[&str]) -> Answer {
    let arguments = [&["simulate", "policy.yaml", "--runs", "2000"], arguments].concat();
    let settings = SimulateSettings::try_parse_from(arguments).unwrap();
    answer(
        parse(text, "policy.yaml", "default", NOW.parse().unwrap()).unwrap(),
        &settings,
    )
}

fn as_value(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&answer.stdout).unwrap()
}

#[test]
fn what_is_simulated_is_told_as_a_table_and_as_json_and_holds() {
    let table = simulated(EXAMPLE, &[]);
    assert_eq!(table.exit_code, HOLDS, "{}", table.stderr);
    let json = as_value(&simulated(EXAMPLE, &["--output", "json"]));
    let policy = &json["policies"][0];
    assert_eq!(
        (&policy["runs"], &policy["breaches"]),
        (&2_000.into(), &0.into()),
        "{json}"
    );
    let worst = policy["dataAgeSeconds"]["worst"].as_i64().unwrap();
    assert!(table.stdout.contains(&format!("({worst} s)")), "{}", table.stdout);
}

#[test]
fn lesson_06_a_policy_that_breaches_at_every_slot_does_not_hold() {
    let text = EXAMPLE.replace("intervalMinutes: 10", "intervalMinutes: 30") + "  rescue: false\n";
    let answer = simulated(&text, &["--failure-rate", "0", "--output", "json"]);
    assert_eq!(answer.exit_code, DOES_NOT_HOLD, "{}", answer.stderr);
    let policy = &as_value(&answer)["policies"][0];
    assert_eq!(policy["breaches"], 2_000);
    assert!(
        policy["largestIntervalBelowOneBreachAYear"].as_u64().unwrap() < 30,
        "{policy}"
    );
}

#[test]
fn lesson_06_a_breach_that_never_ends_is_no_interval_that_holds() {
    // The map is built of a view that is too old by then, so that one breach follows the first publication and never ends.
    let text = EXAMPLE.replace("intervalMinutes: 10", "intervalMinutes: 29")
        + "  rescue: false\n  tasks:\n  - { name: refresh-mv-portal, attemptTimeoutSeconds: 900 }\n  \
           - { name: refresh-mapa-cache, attemptTimeoutSeconds: 900 }\n";
    let luck = ["--failure-rate", "0", "--duration", "p50=700s,p99=701s"];
    let answer = simulated(&text, &[&luck[..], &["--output", "json"]].concat());
    let policy = &as_value(&answer)["policies"][0];
    let share = policy["secondsInBreach"].as_f64().unwrap() / policy["simulatedSeconds"].as_f64().unwrap();
    assert!(share > 0.99 && policy["breaches"] == 1, "{policy}");
    assert_eq!(answer.exit_code, DOES_NOT_HOLD, "{policy}");
    assert!(
        policy["largestIntervalBelowOneBreachAYear"].as_u64().unwrap_or(0) < 29,
        "{policy}"
    );
}

#[test]
fn a_policy_that_can_never_publish_is_refused_with_the_remedy_and_others_are_simulated() {
    let hopeless = simulated(EXAMPLE, &["--failure-rate", "1"]);
    assert_eq!((hopeless.stdout.as_str(), hopeless.exit_code), ("", BAD_INPUT));
    assert!(hopeless.stderr.contains("--failure-rate"), "{}", hopeless.stderr);

    // Attempts of 50 s do not fit into a run of one minute, but into one of ten.
    let two = format!(
        "{EXAMPLE}---\n{}",
        EXAMPLE
            .replace("intervalMinutes: 10", "intervalMinutes: 1")
            .replace("name: roraima", "name: acre")
    );
    let answer = simulated(&two, &["--duration", "p50=50s,p99=51s", "--output", "json"]);
    assert_eq!(answer.exit_code, BAD_INPUT);
    let json = as_value(&answer);
    assert_eq!(
        (
            json["policies"].as_array().unwrap().len(),
            json["refused"].as_array().unwrap().len()
        ),
        (1, 1),
        "{json}"
    );
}

#[test]
fn an_interval_at_which_nothing_is_ever_published_is_told_as_such() {
    // With a limit of two minutes every interval breaches at every slot, but the last, whose runs are too short for such attempts.
    let text = EXAMPLE.to_owned() + "  rescue: false\n  maxDataAgeMinutes: 2\n";
    let luck = ["--failure-rate", "0", "--duration", "p50=50s,p99=51s"];
    let policy = as_value(&simulated(&text, &[&luck[..], &["--output", "json"]].concat()))["policies"][0].take();
    let last = policy["searched"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (last["intervalMinutes"].as_u64(), last["everPublished"].as_bool()),
        (Some(1), Some(false)),
        "{policy}"
    );
    assert!(policy["largestIntervalBelowOneBreachAYear"].is_null(), "{policy}");
    assert!(simulated(&text, &luck).stdout.contains("1 min never publishes"));
}
