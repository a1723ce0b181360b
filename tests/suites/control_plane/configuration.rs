//! The operator's configuration file, as far as it reaches the API server.

use mapa_refresh_tests::wait::Look;

use crate::world::{Test, World};

pub const TESTS: &[Test] = &[(
    "configuration::f13_every_setting_is_stored_as_it_was_written_and_is_no_drift",
    no_drift,
)];

/// Every setting, and of each the spellings that the API server would not leave alone.
const EVERYTHING: &str = "
runner:
  imageOracle: oracle:1
  imagePullPolicy: Always
  imagePullSecrets: [{ name: registry }]
  serviceAccountName: runner
  priorityClassName: system-cluster-critical
  resources:
    requests: { cpu: 0.5, memory: 1024Mi, ephemeral-storage: '1e9' }
    limits: { cpu: 1000m, memory: 1.5Gi, ephemeral-storage: 2.5G, example.com/gpu: 1 }
  nodeSelector: { disk: ssd, empty: '' }
  tolerations:
  - { key: dedicated, value: mapa, effect: NoSchedule }
  - { key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5, value: '' }
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{ matchExpressions: [{ key: zone, operator: In, values: [a, b] }], matchFields: [] }]
      preferredDuringSchedulingIgnoredDuringExecution:
      - { weight: 5, preference: { matchExpressions: [{ key: disk, operator: Exists, values: [] }] } }
    podAffinity: {}
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution: []
      preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 1
        podAffinityTerm:
          topologyKey: zone
          namespaces: []
          namespaceSelector: {}
          labelSelector: { matchLabels: { tier: '' }, matchExpressions: [] }
";

fn no_drift(world: &World) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), EVERYTHING).unwrap();
    let mut tenant = world.tenant_with("configured", &[format!("--config={}", file.path().display())]);
    tenant.apply("roraima", "");
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");

    let cron_jobs = tenant.json(&["get", "cronjobs"]);
    let pod = &cron_jobs["items"][0]["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "runner:1", "the flag wins");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(
        container["resources"],
        serde_json::json!({
            "requests": { "cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1e9" },
            "limits": { "cpu": "1", "memory": "1536Mi", "ephemeral-storage": "2500M", "example.com/gpu": "1" },
        })
    );
    assert_eq!(pod["imagePullSecrets"][0]["name"], "registry");
    assert_eq!(pod["serviceAccountName"], "runner");
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    assert_eq!(pod["nodeSelector"], serde_json::json!({ "disk": "ssd", "empty": "" }));
    assert_eq!(pod["tolerations"].as_array().map(Vec::len), Some(3));
    assert_eq!(pod["affinity"]["podAffinity"], serde_json::json!({}));
    assert_eq!(
        pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]["namespaceSelector"],
        serde_json::json!({})
    );

    // A new operator compares everything that is there with what it would write.
    let before = tenant.operator_writes();
    assert!(tenant.stop_operator());
    tenant.start_operator();
    // A marker that can only be seen after everything before it was looked at.
    tenant.apply("acre", "");
    tenant.wait_for_condition("acre", "Ready", "True", "Reconciled");
    tenant.wait("the marker's status in the audit log", || {
        let writes = tenant.operator_writes();
        Look::when(writes.iter().any(|write| write.contains("status acre")), writes)
    });
    let touched: Vec<String> = tenant
        .operator_writes()
        .into_iter()
        .skip(before.len())
        .filter(|write| write.contains("roraima"))
        .collect();
    assert_eq!(touched, Vec::<String>::new());
    assert!(!tenant.log().contains("put the CronJob back"), "{}", tenant.log());
}
