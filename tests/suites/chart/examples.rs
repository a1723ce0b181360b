//! The files below `examples/`: what they promise, on the operator's own command line and on a real API server.

use std::{path::PathBuf, process::Command};

use mapa_refresh_tests::{cargo, images, policy::Example};

use crate::world::{Cluster, Test, World};

pub const TESTS: &[Test] = &[
    (
        "examples::each_policy_is_valid_and_feasible_by_the_operators_own_word",
        explained,
    ),
    ("examples::the_api_server_takes_each_file_as_it_is", applied),
    (
        "examples::the_admission_policy_lets_in_its_group_namespaces_and_cache_and_nothing_else",
        limited,
    ),
];

fn folder() -> PathBuf {
    images::repository().join("examples")
}

/// Every file of policies, and how many are in it.
const FILES: [(&str, usize); 5] = [
    ("one-utility.yaml", 1),
    ("three-utilities.yaml", 3),
    ("oracle-wallet.yaml", 1),
    ("postgresql.yaml", 1),
    ("redis-tls.yaml", 1),
];

fn explained(_: &World) {
    let operator = cargo::binary("mapa-refresh-operator", "mapa-refresh-operator").unwrap();
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    found.sort();
    let mut known = FILES.map(|(name, _)| name);
    known.sort_unstable();
    assert_eq!(found, known);
    for (file, count) in FILES {
        let output = Command::new(&operator)
            .arg("explain")
            .arg(folder().join(file))
            .args(["--output", "json"])
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{file}: {complaints}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["policies"].as_array().unwrap().len(), count, "{file}");
    }
}

fn applied(_: &World) {
    // A cluster of its own: the files make their namespaces.
    let cluster = Cluster::with_crd();
    for (file, count) in FILES {
        let path = folder().join(file).display().to_string();
        let made = cluster
            .kubectl()
            .run(["apply", "--server-side", "--validate=strict", "-f", &path, "-o", "name"])
            .unwrap();
        let policies = made.lines().filter(|line| line.starts_with("maparefreshpolicy"));
        assert_eq!(policies.count(), count, "{file}: {made}");
    }
}

fn limited(_: &World) {
    // A cluster of its own: nobody else could write policies.
    let cluster = Cluster::with_crd();
    let kubectl = cluster.kubectl();
    for namespace in ["radar", "elsewhere"] {
        kubectl.namespace(namespace).unwrap();
    }
    let label = "mapa.radar.dev/policies=allowed";
    kubectl.run(["label", "namespace", "radar", label]).unwrap();
    // RBAC lets both do everything: what is refused is refused by the example.
    for user in ["anna", "bruno"] {
        let user_flag = format!("--user={user}");
        let arguments = [
            "create",
            "clusterrolebinding",
            user,
            "--clusterrole=cluster-admin",
            &user_flag,
        ];
        kubectl.run(arguments).unwrap();
    }
    let file = folder().join("admission/limit-policies.yaml").display().to_string();
    kubectl.run(["apply", "--server-side", "-f", &file]).unwrap();

    let apply = |user: &[&str], manifest: &str| {
        let fixed = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        let said = kubectl.with_input(&[&fixed[..], user].concat(), manifest);
        said.map_or_else(|error| error.to_string(), |_| "allowed".to_owned())
    };
    let anna: &[&str] = &["--as=anna", "--as-group=mapa-admins", "--as-group=system:authenticated"];
    let bruno: &[&str] = &["--as=bruno", "--as-group=others", "--as-group=system:authenticated"];
    let policy = |namespace: &str| Example::every_minute(namespace, "roraima").manifest("");
    let group = "only members of the group mapa-admins may write a MapaRefreshPolicy";
    // It holds a moment after it was applied. What it lets in before, it must not keep: the same spec again is no write of one.
    let dry = [bruno, &["--dry-run=server"]].concat();
    cluster.wait_until(
        "the admission policy to hold",
        30,
        || apply(&dry, &policy("radar")).contains(group).to_string(),
        "true",
    );
    assert_eq!(apply(anna, &policy("radar")), "allowed");
    let said = apply(anna, &policy("elsewhere"));
    assert!(
        said.contains("the namespace elsewhere has no label mapa.radar.dev/policies=allowed"),
        "{said}"
    );
    let said = apply(anna, &policy("radar").replace("radar-cache", "my-cache"));
    assert!(
        said.contains("spec.cache.secretRef.name must be radar-cache, not my-cache"),
        "{said}"
    );
    let said = apply(
        bruno,
        &policy("radar").replace("intervalMinutes: 1", "intervalMinutes: 2"),
    );
    assert!(said.contains(group), "{said}");
    // Whoever may annotate asks for a run: that writes no spec.
    let ask = [
        "-n",
        "radar",
        "annotate",
        "mapa-refresh",
        "roraima",
        "mapa.radar.dev/requestedAt=now",
    ];
    kubectl.run([&ask[..], bruno].concat()).unwrap();

    let secret =
        |namespace: &str, name: &str, url: &str| Example::every_minute(namespace, "x").secret(name, &[("url", url)]);
    let refused =
        "the key url of the Secret radar-cache must be redis://redis.radar.example:6379, or the same with rediss";
    // The second of the two may hold a moment later than the first.
    cluster.wait_until(
        "the admission policy of Secrets to hold",
        30,
        || {
            apply(anna, &secret("radar", "radar-cache", "redis://other.example"))
                .contains(refused)
                .to_string()
        },
        "true",
    );
    for url in [
        "redis://redis.radar.example.evil.example:6379",
        "redis://redis.radar.example:6379@evil.example",
        "rediss+sentinel://redis.radar.example:6379,evil.example:6379/x",
    ] {
        let said = apply(anna, &secret("radar", "radar-cache", url));
        assert!(said.contains(refused) && !said.contains("evil"), "{url}: {said}");
    }
    for url in ["rediss://redis.radar.example:6379", "redis://redis.radar.example:6379"] {
        assert_eq!(apply(anna, &secret("radar", "radar-cache", url)), "allowed", "{url}");
    }
    assert_eq!(
        apply(anna, &secret("radar", "another", "redis://other.example")),
        "allowed"
    );
    assert_eq!(
        apply(anna, &secret("elsewhere", "radar-cache", "redis://other.example")),
        "allowed"
    );
}
