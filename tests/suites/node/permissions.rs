//! Whether the roles of the chart were enough for the operators that ran with them: what the API server's own authorizer said of every call,
//! in the audit log of all tests. Names of objects and namespaces count, which a comparison of rules with kinds of calls does not see.

use std::collections::{BTreeMap, BTreeSet};

use mapa_refresh_operator::run::AGENT;
use mapa_refresh_tests::progress;
use serde_json::{Value, json};

use crate::world::{Test, World};

pub const TESTS: &[Test] = &[(
    "permissions::a_call_that_was_refused_is_told_with_its_object_and_one_of_somebody_else_is_not",
    refused_calls_are_told,
)];

/// Complains of calls that were refused and, when the suite `is_whole`, of a suite in which no operator had the chart's account.
pub fn check(events: &[Value], is_whole: bool) -> Result<(), String> {
    let until = bound_until(events);
    let is_bound = |event: &&Value| {
        let until = until.get(namespace(event));
        until.is_none_or(|until| event["requestReceivedTimestamp"].as_str() < Some(until))
    };
    let calls: Vec<&Value> = events
        .iter()
        .filter(|event| is_of_the_charts_account(event))
        .filter(is_bound)
        .collect();
    let refused: BTreeSet<String> = calls
        .iter()
        .filter(|event| is_refused(event))
        .map(|event| told(event))
        .collect();
    if !refused.is_empty() {
        let refused: Vec<String> = refused.into_iter().collect();
        return Err(format!(
            "the chart's roles do not permit what its operators asked for:\n  {}",
            refused.join("\n  ")
        ));
    }
    if calls.is_empty() && is_whole {
        return Err("no operator with the chart's account asked for anything".to_owned());
    }
    progress::say(&format!(
        "permissions: {} calls of operators with the chart's account, none was refused",
        calls.len()
    ));
    Ok(())
}

/// Of each namespace in which a release was uninstalled, when its account began to lose its roles: its pods end after that.
fn bound_until(events: &[Value]) -> BTreeMap<&str, &str> {
    let mut until = BTreeMap::new();
    let lost = events
        .iter()
        .filter(|event| event["verb"] == "delete" && event["objectRef"]["resource"] == "rolebindings");
    for event in lost {
        if let (Some(place), Some(moment)) = (
            event["objectRef"]["namespace"].as_str(),
            event["requestReceivedTimestamp"].as_str(),
        ) {
            let first = until.entry(place).or_insert(moment);
            *first = moment.min(*first);
        }
    }
    until
}

fn is_of_the_charts_account(event: &Value) -> bool {
    event["userAgent"] == AGENT && !namespace(event).is_empty()
}

/// The namespace of the account that asked; empty, if it was no service account.
fn namespace(event: &Value) -> &str {
    let user = event["user"]["username"].as_str().unwrap_or_default();
    let account = user.strip_prefix("system:serviceaccount:").unwrap_or_default();
    account.split(':').next().unwrap_or_default()
}

fn is_refused(event: &Value) -> bool {
    event["annotations"]["authorization.k8s.io/decision"] == "forbid"
}

fn told(event: &Value) -> String {
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    let [verb, resource, namespace, name, user] = [
        &event["verb"],
        &object["resource"],
        &object["namespace"],
        &object["name"],
        &event["user"]["username"],
    ]
    .map(text);
    format!("{verb} {resource} {namespace}/{name}, as {user}")
}

fn refused_calls_are_told(_: &World) {
    let call = |user: &str, name: &str, decision: &str| {
        json!({
            "userAgent": AGENT, "verb": "get", "user": { "username": user }, "requestReceivedTimestamp": "2026-11-23T10:00:00.000001Z",
            "objectRef": { "resource": "leases", "namespace": "radar", "name": name },
            "annotations": { "authorization.k8s.io/decision": decision },
        })
    };
    let operator = "system:serviceaccount:radar:operator";
    let mut events = vec![call(operator, "ours", "allow"), call("admin", "theirs", "forbid")];
    assert_eq!(check(&events, true), Ok(()));
    assert!(check(&events[1..], true).is_err(), "nobody asked");
    events.push(call(operator, "theirs", "forbid"));
    let told = check(&events, false).unwrap_err();
    assert!(
        told.ends_with("\n  get leases radar/theirs, as system:serviceaccount:radar:operator"),
        "{told}"
    );

    // Uninstalled before, the account had no roles any more; uninstalled after, it had.
    for (deleted, is_told) in [("09:59:59.000000", false), ("10:00:01.000000", true)] {
        let uninstalled = json!({
            "verb": "delete", "objectRef": { "resource": "rolebindings", "namespace": "radar" },
            "requestReceivedTimestamp": format!("2026-11-23T{deleted}Z"),
        });
        let events = [events.clone(), vec![uninstalled]].concat();
        assert_eq!(check(&events, false).is_err(), is_told, "{deleted}");
    }
}
