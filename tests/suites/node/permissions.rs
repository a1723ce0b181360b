//! Whether the roles of the chart were enough for the operators that ran with them: what the API server's own authorizer said of every call,
//! in the audit log of all tests. Names of objects and namespaces count, which a comparison of rules with kinds of calls does not see.

use std::collections::BTreeSet;

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
    let calls: Vec<&Value> = events.iter().filter(|event| is_of_the_charts_account(event)).collect();
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

fn is_of_the_charts_account(event: &Value) -> bool {
    let user = event["user"]["username"].as_str().unwrap_or_default();
    event["userAgent"] == AGENT && user.starts_with("system:serviceaccount:")
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
            "userAgent": AGENT, "verb": "get", "user": { "username": user },
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
}
