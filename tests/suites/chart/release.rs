//! The life of a release on a real API server.

use mapa_refresh_tests::{helm::image_arguments, policy::Example};

use crate::world::{Cluster, Test, World, fixture};

pub const TESTS: &[Test] = &[(
    "release::it_is_installed_upgraded_rolled_back_and_uninstalled_and_policies_stay",
    life,
)];

const NAMESPACE: &str = "mapa-system";
const CRD: &str = "crd/maparefreshpolicies.mapa.radar.dev";

fn life(_: &World) {
    // A cluster of its own: the CustomResourceDefinition belongs to the release.
    let cluster = Cluster::start();
    cluster.release("install", NAMESPACE, &["--create-namespace"]).unwrap();
    cluster.wait_for_crd();
    let example = Example::every_minute("radar", "roraima");
    cluster.kubectl().namespace("radar").unwrap();
    cluster.kubectl().apply(&example.manifest("")).unwrap();
    let uid = || {
        cluster.ask(&[
            "-n",
            "radar",
            "get",
            "mapa-refresh",
            "roraima",
            "-o",
            "jsonpath={.metadata.uid}",
        ])
    };
    let before = uid();
    let of_deployment = |path: &str| {
        let path = format!("jsonpath={path}");
        cluster.ask(&[
            "-n",
            NAMESPACE,
            "get",
            "deployment",
            "mapa-refresh-operator",
            "-o",
            &path,
        ])
    };
    let checksum = || of_deployment("{.spec.template.metadata.annotations.checksum/config}");
    let image = || of_deployment("{.spec.template.spec.containers[0].image}");
    let (first_checksum, first_image) = (checksum(), image());
    assert_eq!(first_image, "ghcr.io/radar-dev/mapa-refresh-operator:0.1.0");

    // Every template and every field, accepted by the API server; names stay, so that it is the same release.
    let everything = fixture("values", "everything").display().to_string();
    let same_names = "--set=nameOverride=,fullnameOverride=,crds.keep=true";
    cluster
        .release("upgrade", NAMESPACE, &["--values", &everything, same_names])
        .unwrap();
    assert_eq!(image(), "registry.example/operator:1.2.3");
    assert_ne!(checksum(), first_checksum, "another configuration is another pod");
    assert_eq!(of_deployment("{.metadata.annotations.i}"), "j");
    assert!(
        cluster
            .ask(&["-n", NAMESPACE, "get", "networkpolicy", "-o", "name"])
            .contains("mapa-refresh-operator")
    );
    assert_eq!(uid(), before, "a live policy stays");

    assert_operator_reads_the_configuration(&cluster);

    cluster
        .helm
        .run(["rollback", "mapa-refresh-operator", "1", "--namespace", NAMESPACE])
        .unwrap();
    assert_eq!((checksum(), image()), (first_checksum, first_image));
    assert_eq!(
        cluster.ask(&["-n", NAMESPACE, "get", "networkpolicy", "-o", "name"]),
        ""
    );
    assert_eq!(uid(), before, "a live policy stays");

    cluster
        .helm
        .run(["uninstall", "mapa-refresh-operator", "--namespace", NAMESPACE])
        .unwrap();
    assert_eq!(
        uid(),
        before,
        "what the release leaves: the definition and the policies"
    );
    assert!(cluster.ask(&["get", CRD, "-o", "name"]).contains("maparefreshpolicies"));
    for kind in [
        "deployment",
        "service",
        "role",
        "rolebinding",
        "configmap",
        "serviceaccount",
    ] {
        let left = cluster.ask(&[
            "-n",
            NAMESPACE,
            "get",
            kind,
            "-o",
            "name",
            "-l",
            "app.kubernetes.io/managed-by=Helm",
        ]);
        assert_eq!(left, "", "{kind}");
    }
    for kind in ["clusterrole", "clusterrolebinding"] {
        let left = cluster.ask(&["get", kind, "-o", "name", "-l", "app.kubernetes.io/managed-by=Helm"]);
        assert_eq!(left, "", "{kind}");
    }

    // The next release takes over what the last one left.
    let images = image_arguments("a/operator:2", "a/runner:2");
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    cluster.release("install", NAMESPACE, &images).unwrap();
    assert_eq!(image(), "a/operator:2");
    assert_eq!(uid(), before);
}

/// The operator refuses what it does not know: everything that the chart can write, it reads.
fn assert_operator_reads_the_configuration(cluster: &Cluster) {
    let file = cluster.plane.folder().join("everything.yaml");
    let text = cluster.ask(&[
        "-n",
        NAMESPACE,
        "get",
        "configmap",
        "mapa-refresh-operator",
        "-o",
        r"jsonpath={.data.config\.yaml}",
    ]);
    assert!(text.contains("system-cluster-critical"), "{text}");
    std::fs::write(&file, text).unwrap();
    let mut operator = std::process::Command::new(&cluster.operator);
    operator
        .args(["run", "--config"])
        .arg(&file)
        .env("KUBECONFIG", "/nonexistent");
    let output = operator.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Without a cluster it goes no further than that.
    assert!(
        !output.status.success() && said.contains("could not find the cluster"),
        "{said}"
    );
}
