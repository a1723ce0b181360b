//! What the operator believes. No kubelet runs here: the tests end the pods themselves, so that every word can be chosen.

use std::time::Duration;

use mapa_refresh_tests::wait::Look;
use serde_json::{Value, json};

use crate::{
    plugin::mapa,
    pods::{end, patch_pod, report, run_all, start, success, task},
    world::{ON_SCHEDULE_ALONE, Tenant, Test, World, condition},
};

pub const TESTS: &[Test] = &[
    (
        "evidence::three_reported_runs_make_the_policy_compliant_and_the_columns_say_so",
        compliant,
    ),
    (
        "evidence::f01_i6_an_operator_killed_in_between_loses_nothing_and_counts_nothing_twice",
        killed,
    ),
    (
        "evidence::f16_a_forged_job_and_pod_never_make_a_policy_compliant",
        forged,
    ),
    ("evidence::f19_a_garbled_report_is_a_failed_run_with_a_reason", garbled),
    (
        "evidence::a_missing_secret_is_told_in_ready_and_forgotten_after_a_success",
        secret_incomplete,
    ),
    (
        "evidence::f18_a_pod_that_cannot_pull_its_image_is_told_while_it_waits",
        image_pull,
    ),
    ("evidence::a_job_without_a_pod_is_told_after_30_seconds", no_pod),
    (
        "evidence::f20_a_job_that_goes_with_its_pod_right_after_its_end_is_still_counted",
        gone,
    ),
];

fn tenant(world: &World, namespace: &str) -> Tenant {
    let tenant = world.tenant(namespace);
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    tenant
}

fn wait_for_runs(tenant: &Tenant, name: &str, runs: i64) -> Value {
    tenant.wait_within(
        &format!("{runs} counted runs of {name}"),
        Duration::from_secs(60),
        || {
            let policy = tenant.policy("roraima");
            Look::when(task(&policy, name)["totalRuns"] == runs, policy["status"].clone())
        },
    )
}

fn compliant(world: &World) {
    let tenant = tenant(world, "compliant");
    run_all(&tenant, "1");
    tenant.wait_for_condition("roraima", "Compliant", "True", "Fresh");
    let status = tenant.policy("roraima")["status"].clone();
    assert_eq!(
        (&status["retries"], &status["consecutiveFailures"]),
        (&json!(3), &json!(0))
    );
    assert!(
        status["dataAsOf"].is_string() && status["lastSuccessTime"].is_string() && status["compliantUntil"].is_string()
    );
    let columns = tenant.run(&["get", "mapa-refresh", "roraima", "--no-headers"]);
    let columns: Vec<&str> = columns.split_whitespace().collect();
    assert_eq!(
        (columns[1], columns[2], columns[5], columns[6]),
        ("30", "True", "3", "Fresh"),
        "{columns:?}"
    );
    let writes: Vec<String> = tenant.operator_writes();
    let status_writes = writes.iter().filter(|write| write.contains("/status")).count();
    assert!(status_writes <= 4, "at most one status write per run: {writes:?}");
}

fn killed(world: &World) {
    let mut tenant = tenant(world, "killed");
    run_all(&tenant, "1");
    tenant.wait_for_condition("roraima", "Compliant", "True", "Fresh");
    let before = tenant.policy("roraima")["status"].clone();
    tenant.kill_operator();
    let pod = start(&tenant, "refresh-mapa-cache", "while-away");
    end(&tenant, &pod, 0, &report(&pod, &success("published")).to_string());
    tenant.wait("the Job to complete", || {
        let job = tenant.json(&["get", "job", "while-away"]);
        Look::when(job["status"]["succeeded"] == 1, job["status"].clone())
    });
    tenant.start_operator();
    let after = wait_for_runs(&tenant, "refresh-mapa-cache", 2);
    assert!(after["dataAsOf"].as_str() >= before["dataAsOf"].as_str());
    assert_eq!(task(&tenant.policy("roraima"), "refresh-mv-portal")["totalRuns"], 1);
}

fn forged(world: &World) {
    let tenant = tenant(world, "forged");
    let real = tenant.json(&["get", "cronjob", "roraima-refresh-mapa-cache"]);
    let template = &real["spec"]["jobTemplate"]["spec"]["template"];
    let forge = |name: &str, owner: Value, image: &str| {
        let mut template = template.clone();
        template["spec"]["containers"][0]["image"] = image.into();
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": name, "labels": template["metadata"]["labels"], "ownerReferences": [owner] },
            "spec": { "template": template, "backoffLimit": 0 },
        });
        tenant
            .kubectl
            .with_input(&["-n", &tenant.namespace, "create", "-f", "-"], &job.to_string())
            .unwrap();
        let pod = tenant.wait("the forged Job's pod", || {
            let pods = tenant.json(&["get", "pods", "-l", &format!("batch.kubernetes.io/job-name={name}")]);
            pods["items"]
                .get(0)
                .map_or_else(|| Look::Saw("no pod".into()), |pod| Look::Met(pod.clone()))
        });
        end(&tenant, &pod, 0, &report(&pod, &success("published")).to_string());
    };
    let owner = |name: &str, uid: &Value| json!({ "apiVersion": "batch/v1", "kind": "CronJob", "name": name, "uid": uid, "controller": true });
    // All our labels, the right image, and somebody else's CronJob behind it: nobody counts it. (A right name with a wrong UID does not
    // live long enough for a pod: garbage collection takes it away.)
    tenant.run(&[
        "create",
        "cronjob",
        "theirs",
        "--image=runner:1",
        "--schedule=0 0 1 1 *",
    ]);
    forge(
        "wrong-owner",
        owner("theirs", &tenant.json(&["get", "cronjob", "theirs"])["metadata"]["uid"]),
        "runner:1",
    );
    // The right UID, but another image: counted as a failed run that proves nothing.
    forge(
        "right-uid",
        owner("roraima-refresh-mapa-cache", &real["metadata"]["uid"]),
        "evil:1",
    );
    let status = wait_for_runs(&tenant, "refresh-mapa-cache", 1);
    assert_eq!(status["tasks"][1]["lastError"]["code"], "UntrustedPod");

    // A pod of ours whose message speaks for another task.
    let pod = start(&tenant, "calcular-estatisticas", "foreign-report");
    let mut foreign = report(&pod, &success("published"));
    foreign["task"] = "refresh-mapa-cache".into();
    end(&tenant, &pod, 0, &foreign.to_string());
    let status = wait_for_runs(&tenant, "calcular-estatisticas", 1);
    assert_eq!(status["tasks"][2]["lastError"]["code"], "ReportForeign");
    assert_eq!(status["dataAsOf"], Value::Null);
    assert_eq!(condition(&tenant.policy("roraima"), "Compliant")["status"], "False");
}

fn garbled(world: &World) {
    let tenant = tenant(world, "garbled");
    let long = "x".repeat(4_000);
    let deep = "[".repeat(4_000);
    let messages = [
        ("", "ReportMissing"),
        ("not json", "ReportMalformed"),
        ("{\"version\":7}", "ReportMalformed"),
        (&long, "ReportMalformed"),
        (&deep, "ReportMalformed"),
    ];
    for (number, (message, code)) in (1..).zip(messages) {
        let pod = start(&tenant, "refresh-mapa-cache", &format!("garbled-{number}"));
        end(&tenant, &pod, 0, message);
        let status = wait_for_runs(&tenant, "refresh-mapa-cache", number);
        assert_eq!(status["tasks"][1]["lastError"]["code"], code, "{message:.20}");
        assert_eq!(status["consecutiveFailures"], number);
    }
    assert_eq!(
        condition(&tenant.policy("roraima"), "Compliant")["reason"],
        "EvidenceMissing"
    );
}

fn secret_incomplete(world: &World) {
    let tenant = tenant(world, "secret");
    let pod = start(&tenant, "refresh-mv-portal", "no-secret");
    let error = json!({ "failed": { "class": "Permanent", "code": "SecretIncomplete", "message": "Secret radar-database has no key url" } });
    end(&tenant, &pod, 2, &report(&pod, &error).to_string());
    let message = tenant.wait_for_condition("roraima", "Ready", "False", "SecretIncomplete");
    assert!(message.contains("has no key url"), "{message}");
    run_all(&tenant, "2");
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
}

fn image_pull(world: &World) {
    let tenant = tenant(world, "image-pull");
    let pod = start(&tenant, "refresh-mv-portal", "no-image");
    let waiting = json!({ "status": { "phase": "Pending", "containerStatuses": [{
        "name": "job-runner", "image": "runner:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": "ImagePullBackOff", "message": "pull access denied for runner" } },
    }] } });
    patch_pod(&tenant, &pod, &waiting);
    let message = tenant.wait_for_condition("roraima", "Ready", "False", "ImagePullBackOff");
    assert!(message.contains("pull access denied"), "{message}");
    // The deadline takes the pod away with the Job's end.
    tenant.run(&[
        "patch",
        "job",
        "no-image",
        "--type=merge",
        "-p",
        r#"{"spec":{"activeDeadlineSeconds":1}}"#,
    ]);
    let status = wait_for_runs(&tenant, "refresh-mv-portal", 1);
    assert_eq!(status["tasks"][0]["lastError"]["code"], "ImagePullBackOff");
}

fn no_pod(world: &World) {
    let tenant = tenant(world, "no-pod");
    tenant.run(&["create", "quota", "none", "--hard=pods=0"]);
    tenant.wait("the quota", || {
        let quota = tenant.json(&["get", "quota", "none"]);
        Look::when(quota["status"]["hard"]["pods"] == "0", quota)
    });
    tenant.run(&["create", "job", "--from", "cronjob/roraima-refresh-mv-portal", "no-pod"]);
    let message = tenant.wait_within("PodNotCreated", Duration::from_secs(45), || {
        let ready = condition(&tenant.policy("roraima"), "Ready");
        if ready["reason"] == "PodNotCreated" {
            Look::Met(ready["message"].to_string())
        } else {
            Look::Saw(ready.to_string())
        }
    });
    let doctor = mapa(world, &tenant, &["doctor"]);
    assert!(doctor.stdout.contains("exceeded quota: none"), "{doctor:?}");
    // A slot of its own may have come meanwhile, and its Job has none either.
    assert!(
        message.contains("quota") && message.contains("kubectl describe job "),
        "{message}"
    );
}

fn gone(world: &World) {
    let tenant = tenant(world, "gone");
    let pod = start(&tenant, "refresh-mapa-cache", "gone");
    end(&tenant, &pod, 0, &report(&pod, &success("published")).to_string());
    tenant.run(&["delete", "job", "gone", "--cascade=background"]);
    let status = wait_for_runs(&tenant, "refresh-mapa-cache", 1);
    assert!(status["tasks"][1]["dataAsOf"].is_string(), "{status}");
}
