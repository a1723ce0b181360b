//! `kubectl mapa doctor`: what it finds wrong with an installation, each with its remedy, until it is mended.

use std::{path::Path, time::Duration};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mapa_refresh_tests::wait::{self, Look};
use serde_json::{Value, json};

use crate::{
    permissions,
    plugin::{mapa, mapa_as, published},
    pods::{self, TASKS},
    world::{Test, World},
};

pub const TESTS: &[Test] = &[
    (
        "plugin_doctor_names_what_is_broken_with_its_remedy_and_passes_once_it_is_mended",
        doctor,
    ),
    (
        "plugin_doctor_knows_the_operators_lease_and_permissions_from_its_deployment",
        installed,
    ),
];

/// The first check whose subject begins with `subject`.
fn check(report: &Value, subject: &str) -> Value {
    let checks = report["checks"].as_array().unwrap();
    let found = checks
        .iter()
        .find(|check| check["subject"].as_str().unwrap().starts_with(subject));
    found
        .cloned()
        .unwrap_or_else(|| panic!("no check of {subject}: {report:#}"))
}

fn doctor(world: &World) {
    let tenant = world.tenant("plugin-doctor");
    let namespace = tenant.namespace.clone();
    let example = tenant.example("roraima");
    tenant
        .kubectl
        .apply(&example.secret("radar-database", &[("username", "u"), ("password", "hush-hush")]))
        .unwrap();
    published(&tenant);
    let ask = |kubeconfig: &Path| {
        mapa_as(
            kubeconfig,
            &[
                "doctor",
                "-n",
                &namespace,
                "--operator-namespace",
                &namespace,
                "-o",
                "json",
            ],
        )
    };

    // A person who may read policies and nothing else of the cluster.
    let pki = world.plane().pki();
    pki.issue("plugin-reader", "plugin-reader", "readers", &[]).unwrap();
    let reader = pki.kubeconfig("plugin-reader", &world.plane().server()).unwrap();
    tenant.run(&[
        "create",
        "role",
        "reader",
        "--verb=get,list,watch",
        "--resource=maparefreshpolicies.mapa.radar.dev",
    ]);
    tenant.run(&[
        "create",
        "rolebinding",
        "reader",
        "--role=reader",
        "--user=plugin-reader",
    ]);
    let report = wait::until("the role to hold", Duration::from_secs(60), || {
        let said = ask(&reader);
        let report = said.json();
        let policies = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .any(|check| check["subject"] == "policies");
        Look::when(
            said.code == 1 && policies && check(&report, "policies")["verdict"] == "Passed",
            report,
        )
    })
    .unwrap();
    assert_eq!(check(&report, "CRD")["verdict"], "Unseen", "{report:#}");
    assert_eq!(check(&report, "Secret")["verdict"], "Unseen");
    assert_eq!(check(&report, "operator")["verdict"], "Unseen");
    let permissions = check(&report, "your permissions");
    assert!(
        permissions["finding"]
            .as_str()
            .unwrap()
            .contains("list pods (runs and doctor)"),
        "{permissions}"
    );

    // The admin sees the rest.
    let said = ask(world.plane().kubeconfig());
    let report = said.json();
    assert_eq!(said.code, 1, "{report:#}");
    for (subject, verdict, finding) in [
        ("clock here", "Passed", "within 60 s"),
        ("CRD", "Passed", "serves v1"),
        ("CRD schema", "Passed", "that of version"),
        ("your permissions", "Passed", "everything"),
        ("operator", "Failed", "there is no Lease"),
        ("policies", "Passed", "1 of 1"),
        ("images and pods", "Passed", "none of 3 pods"),
    ] {
        let check = check(&report, subject);
        assert_eq!(check["verdict"], verdict, "{check}");
        assert!(check["finding"].as_str().unwrap().contains(finding), "{check}");
        assert_eq!(check["remedy"].is_string(), verdict == "Failed", "{check}");
    }
    let database = check(&report, &format!("Secret {namespace}/radar-database"));
    assert_eq!(
        (&database["verdict"], &database["finding"]),
        (&json!("Failed"), &json!("has no key url"))
    );
    assert!(
        database["remedy"].as_str().unwrap().contains("stringData"),
        "{database}"
    );
    assert_eq!(
        check(&report, &format!("Secret {namespace}/radar-cache"))["finding"],
        "does not exist"
    );
    let secret = ["hush-hush", "aHVzaC1odXNo"];
    assert!(
        secret.iter().all(|secret| !said.stdout.contains(secret)),
        "no value is printed"
    );

    // An image that cannot be pulled.
    let pod = pods::start(&tenant, TASKS[0].0, "unpullable");
    let waiting = json!({ "status": { "phase": "Pending", "containerStatuses": [{
        "name": "job-runner", "image": "runner:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } },
    }] } });
    pods::patch_pod(&tenant, &pod, &waiting);
    let report = ask(world.plane().kubeconfig()).json();
    let pods = check(&report, "images and pods");
    assert!(
        pods["finding"]
            .as_str()
            .unwrap()
            .starts_with("ImagePullBackOff: 1 of 4 pods"),
        "{pods}"
    );

    // Everything mended.
    pods::succeed(&tenant, TASKS[0].0, "unpullable");
    tenant
        .kubectl
        .apply(&example.secrets("postgres://database/radar", "redis://cache"))
        .unwrap();
    let now = format!("{:.6}", Timestamp::now());
    let lease = format!(
        "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {{name: mapa-refresh-operator, namespace: {namespace}}}\n\
         spec: {{holderIdentity: pod-a, leaseDurationSeconds: 3600, renewTime: \"{now}\"}}\n"
    );
    tenant.kubectl.apply(&lease).unwrap();
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    let said = ask(world.plane().kubeconfig());
    assert_eq!(said.code, 0, "{:#}", said.json());
    assert_eq!(said.json()["healthy"], true);
    let table = mapa(world, &tenant, &["doctor", "--operator-namespace", &namespace]);
    assert!(
        table.stdout.lines().count() > 8 && table.stdout.lines().all(|line| line.starts_with("ok")),
        "{table:?}"
    );
}

fn installed(world: &World) {
    let namespace = "plugin-installed";
    let kubectl = world.kubectl();
    kubectl.namespace(namespace).unwrap();
    // As the chart makes it for a release of another name, which watches one namespace.
    let labels = json!({ "app.kubernetes.io/part-of": "mapa-refresh", "app.kubernetes.io/component": "operator" });
    let config = format!(
        "leaderElection: {{ leaseName: another, leaseNamespace: {namespace} }}\nwatchNamespaces: [{namespace}]\n"
    );
    let lease = |renewed: Timestamp| {
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "another", "namespace": namespace },
            "spec": { "holderIdentity": "pod-b", "leaseDurationSeconds": 3600, "renewTime": format!("{renewed:.6}") } })
    };
    let now = Timestamp::now();
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "operator", "namespace": namespace } },
        { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "another", "namespace": namespace }, "data": { "config.yaml": config } },
        lease(now - SignedDuration::from_hours(2)),
        { "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "another", "namespace": namespace, "labels": labels },
          "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": {
              "serviceAccountName": "operator",
              "containers": [{ "name": "operator", "image": "operator:1" }],
              "volumes": [{ "name": "config", "configMap": { "name": "another" } }] } } } },
    ]});
    kubectl.apply(&objects.to_string()).unwrap();
    let ask = || {
        mapa_as(
            world.plane().kubeconfig(),
            &[
                "doctor",
                "-n",
                namespace,
                "--operator-namespace",
                namespace,
                "-o",
                "json",
            ],
        )
        .json()
    };
    let report = ask();
    let operator = check(&report, "operator");
    assert_eq!(operator["verdict"], "Failed");
    assert!(
        operator["finding"]
            .as_str()
            .unwrap()
            .starts_with(&format!("nobody leads in {namespace}/another: pod-b")),
        "{operator}"
    );
    let permissions = check(&report, "operator's permissions");
    assert_eq!(permissions["verdict"], "Failed");
    let missing = format!("{namespace}/operator may not list pods in {namespace}, watch pods in {namespace}");
    assert!(
        permissions["finding"].as_str().unwrap().starts_with(&missing),
        "{permissions}"
    );

    let pods = check(&report, "operator's image and pods");
    assert_eq!(
        pods["finding"],
        format!("{namespace}/another: its Deployment has no pod"),
        "{pods}"
    );

    // No kubelet runs here: what one would say.
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "another-1", "namespace": namespace, "labels": labels },
        "spec": { "serviceAccountName": "operator", "containers": [{ "name": "operator", "image": "operator:1" }] } });
    kubectl.apply(&pod.to_string()).unwrap();
    let waiting = json!({ "status": { "phase": "Pending", "containerStatuses": [{
        "name": "operator", "image": "operator:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": "ErrImagePull", "message": "no such image" } },
    }] } });
    let patch = [
        "-n",
        namespace,
        "patch",
        "pod",
        "another-1",
        "--subresource=status",
        "--patch",
    ];
    kubectl
        .run(patch.into_iter().chain([waiting.to_string().as_str()]))
        .unwrap();
    let pods = check(&ask(), "operator's image and pods");
    assert_eq!(
        pods["finding"],
        format!("{namespace}/another: ImagePullBackOff: 1 of 1 pods, {namespace}/another-1: no such image"),
        "{pods}"
    );
    let run = json!({ "status": { "containerStatuses": [{
        "name": "operator", "image": "operator:1", "imageID": "", "ready": true, "restartCount": 0,
        "state": { "running": {} },
    }] } });
    kubectl
        .run(patch.into_iter().chain([run.to_string().as_str()]))
        .unwrap();

    kubectl.apply(&permissions::of_the_chart(namespace)).unwrap();
    kubectl.apply(&lease(now).to_string()).unwrap();
    wait::until("role and Lease to be seen", Duration::from_secs(30), || {
        let report = ask();
        let passed = |subject: &str| check(&report, subject)["verdict"] == "Passed";
        Look::when(
            ["operator", "operator's permissions", "operator's image and pods"]
                .into_iter()
                .all(passed),
            report.to_string(),
        )
        .map(drop)
    })
    .unwrap();
}
