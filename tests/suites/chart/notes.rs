//! What helm says after an installation.

use std::process::Command;

use mapa_refresh_tests::{
    cargo,
    helm::{Helm, chart},
    process,
};

use crate::world::{Test, World, fixture};

pub const TESTS: &[Test] = &[
    ("notes::they_name_the_images_and_who_builds_them", images),
    ("notes::they_tell_what_a_release_lacks_and_where_it_looks", differences),
    ("notes::their_first_policy_can_be_followed_as_it_stands", first_policy),
];

/// The notes of a release with the values `set`, without a cluster.
fn notes(set: &str, further: &[&str]) -> String {
    let chart = chart().display().to_string();
    let values = fixture("values", set).display().to_string();
    let fixed = [
        "install",
        "mapa-refresh-operator",
        &chart,
        "--namespace=mapa-system",
        "--dry-run=client",
        "--values",
        &values,
    ];
    let said = Helm::new(None).unwrap().run(fixed.iter().chain(further)).unwrap();
    let (_, notes) = said.split_once("\nNOTES:\n").unwrap();
    let is_tidy = |line: &str| line == line.trim_end() && !line.contains("<no value>") && !line.contains("<nil>");
    assert!(notes.lines().all(is_tidy), "{notes}");
    assert!(!notes.contains("\n\n\n"), "{notes}");
    notes.to_owned()
}

fn images(_: &World) {
    let unpublished = "No image is published at ghcr.io/radar-dev";
    let without_oracle = "needs runner.imageOracle, unless you built runner.image from job-runner/Dockerfile.oracle.";
    let defaults = notes("defaults", &[]);
    for line in [
        "  operator  ghcr.io/radar-dev/mapa-refresh-operator:0.1.0",
        "  runs      ghcr.io/radar-dev/mapa-job-runner:0.1.0",
        "No image is published at ghcr.io/radar-dev: build them into a registry of yours, as the README says under Install, \
         and name it in image.repository and runner.image.repository.",
    ] {
        assert!(defaults.lines().any(|said| said == line), "{line}: {defaults}");
    }
    assert!(defaults.contains(without_oracle), "{defaults}");

    let half = notes("defaults", &["--set=image.repository=registry.example/operator"]);
    assert!(half.contains("and name it in runner.image.repository."), "{half}");

    let oracle = notes("oracle", &[]);
    let digest = format!("  runs      registry.example:5000/mapa-job-runner@sha256:{:064}\n", 0);
    assert!(oracle.contains(&digest), "{oracle}");

    let own = notes("everything", &[]);
    for line in [
        "  operator  registry.example/operator:1.2.3",
        "  runs      registry.example/runner:1.2.3",
        "  Oracle    registry.example/runner-oracle:1.2.3",
    ] {
        assert!(own.lines().any(|said| said == line), "{line}: {own}");
    }
    assert!(!own.contains(unpublished) && !own.contains(without_oracle), "{own}");
}

fn differences(_: &World) {
    let everywhere = notes("defaults", &[]);
    let deployment = "kubectl -n mapa-system rollout status deployment/mapa-refresh-operator\n";
    for words in [
        "reconciles the policies of every namespace.\n",
        "  kubectl create namespace radar\n",
        deployment,
    ] {
        assert!(everywhere.contains(words), "{words}: {everywhere}");
    }
    assert!(!everywhere.contains("crds."), "{everywhere}");

    let narrow = notes("one-namespace", &["--set=watchNamespaces={grid,radar}"]);
    for words in [
        "reconciles the policies of the namespaces grid, radar.\n",
        "metadata: { name: roraima, namespace: grid }\n",
        "is not part of this release (crds.install is false)",
    ] {
        assert!(narrow.contains(words), "{words}: {narrow}");
    }
    // Its Roles are there already, and so is the namespace.
    assert!(!narrow.contains("create namespace"), "{narrow}");

    let deleting = notes("everything", &[]);
    for words in [
        "crds.keep is false: uninstalling this release deletes every policy of the cluster.",
        "rollout status deployment/mapa-operator\n",
    ] {
        assert!(deleting.contains(words), "{words}: {deleting}");
    }
}

fn first_policy(world: &World) {
    let notes = notes("defaults", &[]);
    let (_, rest) = notes.split_once("\n\nkubectl apply -f - <<END\n").unwrap();
    let (policy, _) = rest.split_once("\nEND\n").unwrap();
    let kubectl = world.cluster().kubectl();
    kubectl.namespace("radar").unwrap();
    let validated = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ];
    let said = kubectl.with_input(&validated, policy).unwrap();
    assert!(said.contains("roraima serverside-applied"), "{said}");

    // What the image runs, without the image.
    let line = notes.lines().find(|line| line.contains("docker run")).unwrap();
    let (_, arguments) = line.split_once("mapa-job-runner:0.1.0 ").unwrap();
    let mut runner = Command::new(cargo::binary("mapa-refresh-job-runner", "job-runner").unwrap());
    let printed = process::output("print the schema", runner.args(arguments.split(' '))).unwrap();
    for words in ["radar.mv_portal_publico", "mapa_refresh_stamp", "OWNER TO"] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
}
