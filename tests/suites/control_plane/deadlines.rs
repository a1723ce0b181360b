//! What is said about the limit, and when: the sum beforehand, the risk before a breach, the breach at its moment; each once.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mapa_refresh_tests::{images, limit, process::Process, wait::Look};
use serde_json::{Value, json};

use crate::{
    pods::{TASKS, end, report, run_all, start, success, success_of_age},
    world::{Tenant, Test, World, condition, crd},
};

pub const TESTS: &[Test] = &[
    (
        "deadlines::promise_3_a_breach_is_told_within_a_second_of_its_moment_by_one_write_and_events_on_transitions_only",
        breach,
    ),
    (
        "deadlines::promise_4_feasible_prints_the_sum_and_the_interval_that_it_names_fits",
        feasible,
    ),
    (
        "deadlines::f21_a_silent_controller_manager_is_a_risk_before_the_breach",
        silent,
    ),
    (
        "deadlines::f15_a_foreign_job_that_squats_a_slots_name_is_a_risk_and_left_alone",
        squatted_slot,
    ),
];

/// Every status that the policy had, in the order of the watch; the last ones may still be on their way.
fn statuses(watch: &Process) -> Vec<Value> {
    let mut statuses: Vec<Value> = serde_json::Deserializer::from_str(&watch.log())
        .into_iter::<Value>()
        .map_while(Result::ok)
        .map(|event| event["object"]["status"].clone())
        .filter(Value::is_object)
        .collect();
    statuses.dedup();
    statuses
}

fn conditions(status: &Value) -> Vec<(&str, &str, &str)> {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions
        .iter()
        .map(|condition| {
            let word = |key: &str| condition[key].as_str().unwrap_or_default();
            (word("type"), word("status"), word("reason"))
        })
        .collect()
}

fn is_bad((type_, status, _): (&str, &str, &str)) -> bool {
    (status == "True") == matches!(type_, "AtRisk" | "Suspended")
}

/// The reasons that deserve an Event: of conditions that turned, and of bad ones whose reason changed. That nothing was published yet is
/// no news at the beginning.
fn news(statuses: &[Value]) -> Vec<String> {
    let mut news = Vec::new();
    let nothing = Value::Null;
    for (before, after) in std::iter::once(&nothing).chain(statuses).zip(statuses) {
        for now in conditions(after) {
            let is_news = match conditions(before).into_iter().find(|old| old.0 == now.0) {
                Some(old) => old.1 != now.1 || (old.2 != now.2 && is_bad(now)),
                None => is_bad(now) && !matches!(now.0, "Compliant" | "AtRisk"),
            };
            if is_news {
                news.push(now.2.to_owned());
            }
        }
    }
    news.sort();
    news
}

/// The reasons of the Events about the policy, as often as each was told.
fn events(tenant: &Tenant) -> Vec<String> {
    let events = tenant.json(&["get", "events", "--field-selector", "involvedObject.name=roraima"]);
    let mut reasons: Vec<String> = events["items"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|event| {
            let times = event["series"]["count"].as_u64().unwrap_or(1);
            let reason = event["reason"].as_str().unwrap_or_default().to_owned();
            (0..times).map(move |_| reason.clone())
        })
        .collect();
    reasons.sort();
    reasons
}

fn counted_runs(status: &Value) -> i64 {
    let tasks = status["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    tasks.iter().filter_map(|task| task["totalRuns"].as_i64()).sum()
}

fn breach(world: &World) {
    let mut tenant = world.tenant("breach");
    let watch = tenant.watch();
    tenant.apply("roraima", "  rescue: false\n  maxDataAgeMinutes: 1\n");
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    let pods: Vec<(&str, Value)> = TASKS
        .iter()
        .map(|(task, kind)| (*kind, start(&tenant, task, &format!("{task}-1"))))
        .collect();
    for (kind, pod) in &pods {
        end(&tenant, pod, 0, &report(pod, &success_of_age(kind, 25)).to_string());
    }
    tenant.wait_for_condition("roraima", "Compliant", "True", "Fresh");

    // Nothing of this is news.
    tenant.run(&["label", "mapa-refresh", "roraima", "team=redes"]);
    tenant.kill_operator();
    tenant.start_operator();
    tenant.run(&["label", "mapa-refresh", "roraima", "team-"]);

    let until: Timestamp = tenant.policy("roraima")["status"]["compliantUntil"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    tenant.wait_within("the breach", Duration::from_secs(45), || {
        let compliant = condition(&tenant.policy("roraima"), "Compliant");
        Look::when(compliant["reason"] == "DataTooOld", compliant)
    });
    let told = tenant
        .requests_since(0)
        .filter(|request| request.verb == "update" && request.resource == "maparefreshpolicies/status")
        .map(|request| request.at)
        .find(|at| *at > until)
        .unwrap();
    let late = told.duration_since(until);
    assert!(
        late >= SignedDuration::ZERO,
        "compliant until {until}, told {late:?} later"
    );
    limit::keeps(
        "from the moment of a breach to its status",
        late,
        SignedDuration::from_secs(1),
    );

    run_all(&tenant, "2");
    tenant.wait_for_condition("roraima", "Compliant", "True", "Fresh");
    let last = tenant.policy("roraima")["status"].clone();
    let statuses = tenant.wait("the watch to have seen everything", || {
        let statuses = statuses(&watch);
        Look::when(statuses.last() == Some(&last), statuses)
    });
    let mut transitions = 0;
    for pair in statuses.windows(2) {
        let runs = counted_runs(&pair[1]) - counted_runs(&pair[0]);
        let (before, after) = (conditions(&pair[0]), conditions(&pair[1]));
        let turned = after.iter().filter(|condition| !before.contains(condition)).count();
        assert!(runs > 0 || turned > 0, "a write for nothing:\n{}\n{}", pair[0], pair[1]);
        transitions += usize::from(runs == 0);
    }
    let writes = tenant
        .requests_since(0)
        .filter(|request| request.resource == "maparefreshpolicies/status" && request.code == 200)
        .count();
    assert_eq!(counted_runs(&last), 6);
    assert!(
        writes <= 1 + 6 + transitions,
        "{writes} status writes for a beginning, 6 runs and {transitions} transitions"
    );
    tenant.wait("an Event for each transition and no other", || {
        let (told, news) = (events(&tenant), news(&statuses));
        Look::when(told == news, format!("{told:?} instead of {news:?}")).map(drop)
    });
}

/// The terms, their sum and the limit in the message of Feasible.
fn sum(message: &str) -> (Vec<i64>, i64, i64) {
    let number = |text: &str| -> i64 { text.split(' ').next().unwrap().parse().unwrap() };
    let (terms, rest) = message.split_once(" = ").unwrap();
    let (_, limit) = rest.split_once(" of ").unwrap();
    (terms.split(" + ").map(number).collect(), number(rest), number(limit))
}

fn feasible(world: &World) {
    let tenant = world.tenant("feasible");
    let judged = |interval: u32, extra: &str| -> (String, String, i64) {
        let mut example = tenant.example("roraima");
        example.interval_minutes = interval;
        tenant
            .kubectl
            .apply(&example.manifest(&format!("  rescue: false\n{extra}")))
            .unwrap();
        tenant.wait("Feasible", || {
            let policy = tenant.policy("roraima");
            let feasible = condition(&policy, "Feasible");
            if feasible["observedGeneration"] == policy["metadata"]["generation"] {
                let word = |key: &str| feasible[key].as_str().unwrap().to_owned();
                let worst = policy["status"]["worstCaseDataAgeSeconds"].as_i64().unwrap();
                Look::Met((format!("{} {}", word("status"), word("reason")), word("message"), worst))
            } else {
                Look::Saw(feasible.to_string())
            }
        })
    };

    // Lawful, and told that it has no margin.
    let (verdict, message, worst) = judged(30, "");
    assert_eq!(verdict, "False IntervalExceedsLimit", "{message}");
    let (terms, total, limit) = sum(&message);
    assert_eq!(
        (terms.iter().sum::<i64>(), total, limit),
        (worst, worst, 1_800),
        "{message}"
    );
    assert!(message.contains("survives 0 failed runs in a row"), "{message}");
    let (_, largest) = message.rsplit_once("largest interval that fits: ").unwrap();
    let largest: u32 = largest.split(';').next().unwrap().parse().unwrap();

    let (verdict, message, worst) = judged(largest, "");
    assert_eq!(verdict, "True WithinLimit", "{message}");
    assert!(worst <= 1_800 && sum(&message).1 == worst, "{message}");
    assert!(message.contains("the interval is the largest that fits"), "{message}");
    let (verdict, message, worst) = judged(largest + 1, "");
    assert_eq!(verdict, "False RetriesExceedLimit", "{message}");
    assert!(worst > 1_800, "{message}");

    // What other caches add is part of the sum.
    let (_, message, with) = judged(10, "  downstreamCacheSeconds: 240\n");
    let (_, shown, without) = judged(10, "");
    let readme = std::fs::read_to_string(images::repository().join("README.md")).unwrap();
    assert!(
        readme.contains(&format!("\n{shown}\n")),
        "the README's example says otherwise: {shown}"
    );
    assert!(
        message.contains("240 s downstream caches") && sum(&message).2 == 1_800 && with == without + 240,
        "{message}"
    );
}

/// A policy of the view alone that runs every minute; it has run once and is compliant for half an hour.
fn every_minute(tenant: &Tenant) {
    let mut example = tenant.example("roraima");
    example.interval_minutes = 1;
    let extra = "  rescue: false\n  tasks: [{ name: refresh-mv-portal }]\n";
    tenant.kubectl.apply(&example.manifest(extra)).unwrap();
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    let pod = start(tenant, "refresh-mv-portal", "by-hand");
    end(tenant, &pod, 0, &report(&pod, &success("refreshed")).to_string());
    tenant.wait_for_condition("roraima", "Compliant", "True", "Fresh");
}

fn wait_for_missed_slot(tenant: &Tenant) -> String {
    tenant.wait_within("a missed slot", Duration::from_secs(150), || {
        let policy = tenant.policy("roraima");
        let risk = condition(&policy, "AtRisk");
        if risk["status"] == "True" && risk["reason"] == "ScheduleMissed" {
            assert_eq!(condition(&policy, "Compliant")["status"], "True", "before the breach");
            Look::Met(risk["message"].as_str().unwrap().to_owned())
        } else {
            Look::Saw(risk.to_string())
        }
    })
}

fn silent(world: &World) {
    let world = world.beside(&crd());
    let tenant = world.tenant("silent");
    every_minute(&tenant);
    world.stop_controller_manager();
    let message = wait_for_missed_slot(&tenant);
    assert!(message.contains("kube-controller-manager"), "{message}");
    world.start_controller_manager();
    tenant.wait_within("the schedule to go on", Duration::from_secs(60), || {
        let risk = condition(&tenant.policy("roraima"), "AtRisk");
        Look::when(risk["reason"] != "ScheduleMissed", risk)
    });
}

fn squatted_slot(world: &World) {
    let tenant = world.tenant("squatted-slot");
    let minute = Timestamp::now().as_second() / 60;
    let names: Vec<String> = (minute + 1..=minute + 4)
        .map(|minute| format!("roraima-refresh-mv-portal-{minute}"))
        .collect();
    for name in &names {
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
            "spec": { "suspend": true, "template": { "spec": {
                "restartPolicy": "Never", "containers": [{ "name": "theirs", "image": "theirs" }],
            } } },
        });
        tenant
            .kubectl
            .with_input(&["-n", &tenant.namespace, "create", "-f", "-"], &job.to_string())
            .unwrap();
    }
    let theirs = || -> Vec<Value> {
        names
            .iter()
            .map(|name| {
                let job = tenant.json(&["get", "job", name]);
                // The Job controller writes its status; everything else is theirs.
                json!([
                    job["metadata"]["uid"],
                    job["metadata"]["ownerReferences"],
                    job["metadata"]["labels"],
                    job["spec"]
                ])
            })
            .collect()
    };
    let before = theirs();
    every_minute(&tenant);
    let message = wait_for_missed_slot(&tenant);
    let (_, slot) = message.split_once("<cronjob>-").unwrap();
    let slot: i64 = slot.split(',').next().unwrap().parse().unwrap();
    assert!(
        names.contains(&format!("roraima-refresh-mv-portal-{slot}")),
        "{message}"
    );
    assert_eq!(theirs(), before, "I2: foreign objects unchanged");
    tenant.run(&["delete", "mapa-refresh", "roraima"]);
}
