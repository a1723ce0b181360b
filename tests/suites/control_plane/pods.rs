//! The part of a kubelet: no pod runs here, the tests end them themselves, so that every word can be chosen.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mapa_refresh_tests::wait::Look;
use serde_json::{Value, json};

use crate::world::Tenant;

/// The data tasks, and what their runs report.
pub const TASKS: [(&str, &str); 3] = [
    ("refresh-mv-portal", "refreshed"),
    ("refresh-mapa-cache", "published"),
    ("calcular-estatisticas", "published"),
];

/// Starts a run of `task` by hand and returns its pod.
pub fn start(tenant: &Tenant, task: &str, job: &str) -> Value {
    tenant.run(&["create", "job", "--from", &format!("cronjob/roraima-{task}"), job]);
    pod_of(tenant, job)
}

/// The pod of a Job, once there is one.
pub fn pod_of(tenant: &Tenant, job: &str) -> Value {
    tenant.wait("the Job's pod", || {
        let pods = tenant.json(&["get", "pods", "-l", &format!("batch.kubernetes.io/job-name={job}")]);
        match pods["items"].get(0) {
            Some(pod) => Look::Met(pod.clone()),
            None => Look::Saw("no pod".to_owned()),
        }
    })
}

pub fn now() -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn env(pod: &Value, name: &str) -> Value {
    let variables = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    variables
        .iter()
        .find(|variable| variable["name"] == name)
        .map(|variable| variable["value"].clone())
        .unwrap_or_default()
}

/// What the runner in `pod` would report.
pub fn report(pod: &Value, result: &Value) -> Value {
    json!({
        "version": 1,
        "policyUid": env(pod, "MAPA_POLICY_UID"),
        "task": pod["metadata"]["labels"]["mapa.radar.dev/task"],
        "target": env(pod, "MAPA_TARGET"),
        "podUid": pod["metadata"]["uid"],
        "startedAt": now(),
        "finishedAt": now(),
        "durationMs": 1500,
        "attempts": [{ "durationMs": 700, "class": "Transient", "code": "57P03" }, { "durationMs": 800 }],
        "result": result,
    })
}

pub fn success(kind: &str) -> Value {
    let kind = format!("{}{}", kind[..1].to_uppercase(), &kind[1..]);
    let mut success =
        json!({ "kind": kind, "dataAsOf": now(), "ageSeconds": 1.0, "elapsedSeconds": 0.5, "records": 305 });
    if kind == "Published" {
        success["quarantined"] = json!({ "FUTURE_START": 2, "INVALID_ID": 5 });
        success["repaired"] = json!({ "MISSING_CREWS": 6 });
    }
    json!({ "succeeded": success })
}

/// What a run of `kind` reports whose data was true `age` seconds ago.
pub fn success_of_age(kind: &str, age: i64) -> Value {
    let mut result = success(kind);
    let moment = Timestamp::now() - SignedDuration::from_secs(age);
    result["succeeded"]["dataAsOf"] = format!("{moment:.0}").into();
    result["succeeded"]["ageSeconds"] = age.into();
    result
}

/// Ends the pod of `job`, which runs `task`, with a success.
pub fn succeed(tenant: &Tenant, task: &str, job: &str) {
    let pod = pod_of(tenant, job);
    let (_, kind) = TASKS.into_iter().find(|(name, _)| *name == task).unwrap();
    end(tenant, &pod, 0, &report(&pod, &success(kind)).to_string());
}

/// Ends the pod of `job` with a transient fault.
pub fn fail(tenant: &Tenant, job: &str) {
    let pod = pod_of(tenant, job);
    let error = json!({ "failed": { "class": "Transient", "code": "57P03", "message": "the database starts" } });
    end(tenant, &pod, 1, &report(&pod, &error).to_string());
}

/// Ends `pod` as a kubelet would, with `message` as its termination message.
pub fn end(tenant: &Tenant, pod: &Value, exit_code: i32, message: &str) {
    let status = json!({ "status": {
        "phase": if exit_code == 0 { "Succeeded" } else { "Failed" },
        "containerStatuses": [{
            "name": "job-runner", "image": "runner:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": exit_code, "finishedAt": now(), "message": message } },
        }],
    } });
    patch_pod(tenant, pod, &status);
}

pub fn patch_pod(tenant: &Tenant, pod: &Value, status: &Value) {
    let name = pod["metadata"]["name"].as_str().unwrap();
    tenant.run(&[
        "patch",
        "pod",
        name,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ]);
}

pub fn run_all(tenant: &Tenant, suffix: &str) {
    for (task, kind) in TASKS {
        let pod = start(tenant, task, &format!("{task}-{suffix}"));
        end(tenant, &pod, 0, &report(&pod, &success(kind)).to_string());
    }
}

pub fn task<'a>(policy: &'a Value, name: &str) -> &'a Value {
    policy["status"]["tasks"]
        .as_array()
        .and_then(|tasks| tasks.iter().find(|task| task["name"] == name))
        .unwrap_or(&Value::Null)
}
