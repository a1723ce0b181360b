//! The chart as a part of another: what helm itself puts among its values, and what an alias may be called.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    umbrella::{Umbrella, documents},
    world::{Test, World},
};

pub const TESTS: &[Test] = &[
    (
        "dependency::a_condition_renders_everything_or_nothing_and_wins_over_tags",
        condition,
    ),
    ("dependency::global_values_of_a_parent_change_nothing", global),
    (
        "dependency::an_alias_that_is_no_name_of_kubernetes_makes_such_names",
        alias,
    ),
    (
        "dependency::on_a_real_api_server_it_is_installed_by_its_condition_and_goes_with_it",
        installed,
    ),
];

/// Kind and name of what each dependency rendered.
fn rendered(umbrella: &Umbrella, values: &Value) -> BTreeMap<String, Vec<String>> {
    let text = umbrella.render("parent", "grid", values, &[]).unwrap();
    let mut rendered: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (of, text) in documents(&format!("\n{text}")) {
        let object: Value = serde_yaml::from_str(text).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        let line = format!("{} {name}", object["kind"].as_str().unwrap());
        rendered.entry(of.to_owned()).or_default().push(line);
    }
    rendered
}

fn condition(_: &World) {
    let name = "mapa-refresh-operator";
    let umbrella = Umbrella::new(["alias: mapa, condition: mapa.enabled, tags: [grid]"]);
    let without = rendered(&umbrella, &json!({}));
    let everything = without["mapa"].clone();
    for kind in [
        "CustomResourceDefinition maparefreshpolicies.mapa.radar.dev",
        "Deployment parent-mapa",
        "ClusterRole parent-mapa",
        "Pod parent-mapa-self-test",
    ] {
        assert!(everything.iter().any(|object| object == kind), "{kind}: {everything:?}");
    }
    for (values, is_there) in [
        (json!({ "mapa": { "enabled": true } }), true),
        (json!({ "mapa": { "enabled": false } }), false),
        (json!({ "tags": { "grid": false } }), false),
        (json!({ "tags": { "grid": true } }), true),
        (json!({ "tags": { "grid": false }, "mapa": { "enabled": true } }), true),
        (json!({ "tags": { "grid": true }, "mapa": { "enabled": false } }), false),
    ] {
        let found = rendered(&umbrella, &values);
        assert_eq!(found.get("mapa"), is_there.then_some(&everything), "{values}");
    }
    // Under its own name as well.
    let umbrella = Umbrella::new([format!("condition: {name}.enabled")]);
    let found = rendered(&umbrella, &json!({ name: { "enabled": true } }));
    assert_eq!(found[name].len(), everything.len());
    // What is no answer to a condition is refused with its name.
    let said = umbrella.render("parent", "grid", &json!({ name: { "enabled": "yes" } }), &[]);
    let said = said.unwrap_err().to_string();
    assert!(said.contains("- at '/enabled': got string, want boolean"), "{said}");
}

fn global(_: &World) {
    let umbrella = Umbrella::new(["alias: mapa"]);
    let global = json!({ "imageRegistry": "registry.example", "security": { "ids": [1, null, { "a": "b" }] } });
    let with = umbrella
        .render("parent", "grid", &json!({ "global": global }), &[])
        .unwrap();
    assert_eq!(with, umbrella.render("parent", "grid", &json!({}), &[]).unwrap());
}

fn alias(_: &World) {
    let aliases = ["mapaRoraima", "_mapa_2_", "9", "MAPA-ACRE"];
    let umbrella = Umbrella::new(aliases.map(|alias| format!("alias: {alias}")));
    let text = umbrella.render("parent", "grid", &json!({}), &[]).unwrap();
    let mut names = BTreeMap::new();
    for (of, text) in documents(&format!("\n{text}")) {
        let object: Value = serde_yaml::from_str(text).unwrap();
        let labels = &object["metadata"]["labels"];
        let of_chart = labels["helm.sh/chart"].as_str().unwrap();
        assert!(
            of_chart.starts_with(|first: char| first.is_ascii_alphanumeric()),
            "{of_chart}"
        );
        if object["kind"] == "Deployment" {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            names.insert(of.to_owned(), (name, labels["app.kubernetes.io/name"].clone()));
        }
    }
    for (alias, name, label) in [
        ("mapaRoraima", "parent-maparoraima", "mapaRoraima"),
        ("_mapa_2_", "parent-mapa-2", "mapa_2"),
        ("9", "parent-9", "9"),
        ("MAPA-ACRE", "parent-mapa-acre", "MAPA-ACRE"),
    ] {
        assert_eq!(names[alias], (name.to_owned(), json!(label)), "{alias}");
    }
}

fn installed(world: &World) {
    let cluster = world.cluster();
    let umbrella = Umbrella::new([
        "alias: mapaRoraima, condition: mapaRoraima.enabled",
        "alias: mapaAcre, condition: mapaAcre.enabled",
    ]);
    let parent = umbrella.path().display().to_string();
    let helm = |verb: &str, further: &[&str]| {
        let fixed = [verb, "parent", parent.as_str(), "--namespace=dependency"];
        cluster.helm.run(fixed.iter().chain(further)).unwrap();
    };
    let deployments = || cluster.ask(&["-n", "dependency", "get", "deployments", "-o", "name"]);
    let both = "--set=mapaRoraima.crds.install=false,mapaAcre.crds.install=false,mapaRoraima.enabled=true";
    helm("install", &["--create-namespace", both, "--set=mapaAcre.enabled=false"]);
    assert_eq!(deployments(), "deployment.apps/parent-maparoraima");
    helm("upgrade", &[both, "--set=mapaAcre.enabled=true"]);
    assert_eq!(
        deployments(),
        "deployment.apps/parent-mapaacre\ndeployment.apps/parent-maparoraima"
    );
    helm(
        "upgrade",
        &[both, "--set=mapaAcre.enabled=true,mapaRoraima.enabled=false"],
    );
    assert_eq!(deployments(), "deployment.apps/parent-mapaacre");
}
