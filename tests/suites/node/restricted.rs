//! What a pod that runs may not do.

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
        // What the kubelet itself says of the process; it tells it since Kubernetes 1.33.
        for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            let uid = &status["user"]["linux"]["uid"];
            assert!(uid.is_null() || uid == 65532, "{status}");
        }
    }
}
