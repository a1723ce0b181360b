//! What got past admission: an older CRD, a restored backup. A cluster of its own, whose CRD checks nothing.

use mapa_refresh_tests::{policy::Example, wait::Look};
use serde_json::Value;

use crate::world::{Tenant, Test, World, crd};

pub const TESTS: &[Test] = &[(
    "past_admission::i8_i11_an_undecodable_policy_says_so_until_it_is_corrected_and_a_forbidden_interval_is_run_at_30",
    lax,
)];

fn lax(world: &World) {
    let mut lax: Value = serde_yaml::from_str(&crd()).unwrap();
    lax["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        serde_json::json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    // Without a schema its field cannot be selected by.
    lax["spec"]["versions"][0]
        .as_object_mut()
        .unwrap()
        .remove("selectableFields");
    let world = world.beside(&lax.to_string());
    let mut tenant = world.tenant("lax");
    let example = tenant.example("");
    let manifest = |name: &str, interval: &str| {
        let example = Example {
            name: name.to_owned(),
            ..example.clone()
        };
        example
            .manifest("")
            .replace("intervalMinutes: 30", &format!("intervalMinutes: {interval}"))
    };

    tenant.kubectl.apply(&manifest("broken", "dez")).unwrap();
    tenant.kubectl.apply(&manifest("above", "90")).unwrap();
    tenant.kubectl.apply(&manifest("roraima", "30")).unwrap();
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    let message = tenant.wait_for_condition("above", "Ready", "False", "IntervalAboveLegalLimit");
    assert!(message.contains("90") && message.contains("REN 1.137"), "{message}");
    let schedule = tenant.json(&["get", "cronjob", "above-refresh-mv-portal"])["spec"]["schedule"].clone();
    assert_eq!(
        schedule.as_str().unwrap().split_once(' ').unwrap().0.split(',').count(),
        2,
        "{schedule}"
    );

    let note = tenant.wait("an Event on the broken policy", || {
        let events = tenant.json(&[
            "get",
            "events",
            "--field-selector",
            "involvedObject.name=broken,reason=Undecodable",
        ]);
        match events["items"].get(0) {
            Some(event) => Look::Met(event["message"].as_str().unwrap_or_default().to_owned()),
            None => Look::Saw(tenant.log()),
        }
    });
    assert!(note.contains("cannot decode") && note.contains("dez"), "{note}");
    assert_eq!(tenant.names("cronjobs").len(), 6);
    is_told(&tenant, "broken", "spec.intervalMinutes");
    let offset = tenant
        .example("offset")
        .manifest("  suspendUntil: \"2027-01-01T00:00:00+99:99\"\n");
    tenant.kubectl.apply(&offset).unwrap();
    is_told(&tenant, "offset", "spec.suspendUntil");
    let typed = tenant.example("typed").manifest("  area: 5\n");
    tenant.kubectl.apply(&typed).unwrap();
    is_told(&tenant, "typed", "spec.area");

    // The current definition is installed. It does not correct what was stored before. The API server forgives an unchanged field that its
    // pattern refuses, so that the status can be written...
    let (mute, refused, corrected) = (
        manifest("mute", "onze"),
        manifest("refused", "doze"),
        ["broken", "offset", "typed", "mute"].map(|name| (name, manifest(name, "30"))),
    );
    tenant.stop_operator();
    tenant.kubectl.apply(&mute).unwrap();
    world.kubectl().apply(&crd()).unwrap();
    tenant.wait("the definition to be in force", || {
        let create = ["create", "--dry-run=server", "-f", "-"];
        let answer = tenant.kubectl.with_input(&create, &refused);
        Look::when(answer.is_err(), answer).map(drop)
    });
    let forgotten = r#"{"status":{"conditions":[],"observedGeneration":-1}}"#;
    for name in ["offset", "typed"] {
        let patch = [
            "patch",
            "mapa-refresh",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            forgotten,
        ];
        tenant.run(&patch);
    }
    let from = tenant.audit_position();
    tenant.start_operator();
    is_told(&tenant, "offset", "spec.suspendUntil");
    is_told(&tenant, "typed", "spec.area");
    // ...but a rule that errs it does not forgive: there the Event tells alone, and nobody tries again and again.
    let note = tenant.wait("an Event on the policy whose status is refused", || {
        let events = tenant.json(&[
            "get",
            "events",
            "--field-selector",
            "involvedObject.name=mute,reason=Undecodable",
        ]);
        match events["items"].get(0) {
            Some(event) => Look::Met(event["message"].as_str().unwrap_or_default().to_owned()),
            None => Look::Saw(tenant.log()),
        }
    });
    assert!(note.contains("onze"), "{note}");

    // Nor does any of it get in the way of correcting them.
    for (name, manifest) in corrected {
        // A server-side apply would have to read what is stored.
        tenant.kubectl.with_input(&["replace", "-f", "-"], &manifest).unwrap();
        tenant.wait_for_condition(name, "Ready", "True", "Reconciled");
        tenant.wait_for_condition(name, "Compliant", "False", "NeverPublished");
    }
    tenant.wait("their CronJobs", || {
        let cron_jobs = tenant.names("cronjobs");
        Look::when(cron_jobs.len() == 18, cron_jobs).map(drop)
    });
    let refused: Vec<String> = tenant
        .requests_since(from)
        .map(|request| request.to_string())
        .filter(|request| request.starts_with("update maparefreshpolicies/status mute 422"))
        .collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
}

/// Waits until the policy says that `field` of it is not understood, in conditions and columns.
fn is_told(tenant: &Tenant, name: &str, field: &str) {
    let message = tenant.wait_for_condition(name, "Ready", "False", "Undecodable");
    assert!(message.contains(&format!("{field}: ")), "{message}");
    let policy = tenant.policy(name);
    assert_eq!(policy["status"]["observedGeneration"], policy["metadata"]["generation"]);
    let table = tenant.run(&["get", "mapa-refresh", name, "-o", "wide"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(row.contains(&"Unknown") && row.contains(&"Undecodable"), "{table}");
}
