//! What got past admission: an older CRD, a restored backup. A cluster of its own, whose CRD checks nothing.

use mapa_refresh_tests::wait::Look;
use serde_json::Value;

use crate::world::{Test, World, crd};

pub const TESTS: &[Test] = &[(
    "past_admission::i8_i11_an_undecodable_policy_is_named_in_an_event_and_a_forbidden_interval_is_run_at_30",
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
    let tenant = world.tenant("lax");
    let manifest = |name: &str, interval: &str| {
        tenant
            .example(name)
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
}
