//! What a pod that runs may not do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Where the kubelet puts a token.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Asserts that each pod of kubectl's `list` has what Pod Security `restricted` asks for, a root that is read-only, and a token if, and only
/// if, it `has_token`.
pub fn assert_restricted(list: &str, has_token: bool) {
    let list: Value = serde_json::from_str(list).unwrap();
    let pods = list["items"].as_array().unwrap();
    assert!(!pods.is_empty(), "no pod");
    for pod in pods {
        let spec = &pod["spec"];
        let of_pod = &spec["securityContext"];
        assert_eq!(of_pod["runAsNonRoot"], true, "{spec}");
        assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault", "{spec}");
        for container in spec["containers"].as_array().unwrap() {
            let own = &container["securityContext"];
            assert_eq!(own["readOnlyRootFilesystem"], true, "{container}");
            assert_eq!(own["allowPrivilegeEscalation"], false, "{container}");
            assert_eq!(own["capabilities"], json!({ "drop": ["ALL"] }), "{container}");
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            let token = mounts.into_iter().any(|mount| mount["mountPath"] == TOKEN);
            assert_eq!(token, has_token, "{container}");
        }
    }
}

/// Who process `id` is for the kernel, user and group: really, effectively, and as whom it could become again. None when it has ended.
pub fn identities(id: u32) -> Option<BTreeSet<String>> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let lines = ["Uid:", "Gid:"].map(|kind| status.lines().find_map(|line| line.strip_prefix(kind)));
    let words = lines.into_iter().flatten().flat_map(str::split_whitespace);
    Some(words.map(str::to_owned).collect())
}

/// The only identity that a process of ours has: nobody whom the node knows.
pub fn nobody() -> BTreeSet<String> {
    BTreeSet::from(["65532".to_owned()])
}

/// The process called `name` of the first container of `pod`, which only the node knows: its cgroup has the container's name. None while
/// it does not run.
pub fn process_of(pod: &Value, name: &str) -> Option<u32> {
    let container = pod["status"]["containerStatuses"][0]["containerID"].as_str()?;
    let container = container.trim_start_matches("containerd://");
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|id| {
            let of = |file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
            of("cgroup").contains(container) && of("comm").trim_end() == name
        })
}
