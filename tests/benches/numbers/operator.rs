//! How soon the operator answers to what happens, and its memory.

use std::time::Duration;

use mapa_refresh_tests::{
    control_plane::ControlPlane,
    kubectl::Kubectl,
    policy::Example,
    process,
    wait::{self, Look},
};
use serde_json::{Value, json};

use crate::{
    plane::{Request, plane, requests, start_operator},
    table::{Table, p50_p99},
};

/// Runs of which the latency is measured.
const RUNS: usize = 40;

/// Of ten policies.
pub fn operator(table: &mut Table) {
    let plane = plane();
    let kubectl = plane.kubectl();
    let operator = start_operator(&plane);
    for number in 0..10 {
        let example = Example {
            interval_minutes: 30,
            key_prefix: format!("p{number}"),
            ..Example::every_minute("bench", &format!("policy-{number}"))
        };
        kubectl.apply(&example.manifest("  rescue: false\n")).unwrap();
    }
    wait::until("thirty CronJobs", Duration::from_secs(60), || {
        let cron_jobs = kubectl.run(["-n", "bench", "get", "cronjobs", "-o", "name"]).unwrap();
        Look::when(cron_jobs.lines().count() == 30, cron_jobs.lines().count())
    })
    .unwrap();

    for number in 0..RUNS {
        one_run(&kubectl, number);
    }
    table.row(
        "Job complete → status written",
        p50_p99(completion_latencies(&plane)),
        "p99 at most 100 ms",
    );

    let mut deletions = Vec::new();
    for number in 0..RUNS {
        deletions.push(one_deletion(&kubectl, &plane, number));
    }
    table.row(
        "deleted CronJob → created again",
        p50_p99(deletions),
        "p50 8 ms, p99 15 ms; controller-runtime p50 11 ms",
    );

    let memory = process::proportional_memory(operator.id()).unwrap();
    table.row(
        "operator, ten policies, lease and metrics, PSS",
        format!("{memory:.1} MB"),
        "10 MB; controller-runtime idle 30 MB",
    );
}

fn one_run(kubectl: &Kubectl, number: usize) {
    let job = format!("run-{number}");
    let get = |arguments: &[&str]| -> Value {
        let json = kubectl
            .run(
                ["-n", "bench", "get", "-o", "json"]
                    .into_iter()
                    .chain(arguments.iter().copied()),
            )
            .unwrap();
        serde_json::from_str(&json).unwrap()
    };
    kubectl
        .run([
            "-n",
            "bench",
            "create",
            "job",
            "--from=cronjob/policy-0-refresh-mapa-cache",
            &job,
        ])
        .unwrap();
    let selector = format!("batch.kubernetes.io/job-name={job}");
    let pod = wait::until("a pod", Duration::from_secs(20), || {
        get(&["pods", "-l", &selector])["items"]
            .get(0)
            .map_or_else(|| Look::Saw("none".into()), |pod| Look::Met(pod.clone()))
    })
    .unwrap();
    let env = |name: &str| {
        let variables = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        variables
            .iter()
            .find(|variable| variable["name"] == name)
            .map(|variable| variable["value"].clone())
            .unwrap()
    };
    let moment = pod["metadata"]["creationTimestamp"].clone();
    let report = json!({
        "version": 1, "policyUid": env("MAPA_POLICY_UID"), "task": "refresh-mapa-cache", "target": env("MAPA_TARGET"),
        "podUid": pod["metadata"]["uid"], "startedAt": moment, "finishedAt": moment, "durationMs": 100, "attempts": [{ "durationMs": 100 }],
        "result": { "succeeded": { "kind": "Published", "dataAsOf": moment, "ageSeconds": 1.0, "elapsedSeconds": 0.1, "records": 305 } },
    });
    let status = json!({ "status": { "phase": "Succeeded", "containerStatuses": [{
        "name": "job-runner", "image": "runner:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 0, "finishedAt": moment, "message": report.to_string() } },
    }] } });
    let name = pod["metadata"]["name"].as_str().unwrap();
    kubectl
        .run([
            "-n",
            "bench",
            "patch",
            "pod",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status.to_string(),
        ])
        .unwrap();
    wait::until("the run to be counted", Duration::from_secs(20), || {
        let runs = get(&["mapa-refresh", "policy-0"])["status"]["tasks"][1]["totalRuns"].clone();
        Look::when(runs == number + 1, runs)
    })
    .unwrap();
}

/// From the controller-manager's last word on a Job to the operator's next word on the policy.
fn completion_latencies(plane: &ControlPlane) -> Vec<Duration> {
    let requests = requests(plane);
    // One that is left out would make the others' quantiles look better than they are.
    (0..RUNS)
        .map(|number| {
            completion_latency(&requests, number).unwrap_or_else(|| panic!("the audit log does not tell run {number}"))
        })
        .collect()
}

fn completion_latency(requests: &[Request], number: usize) -> Option<Duration> {
    let creation_of = |number: usize| {
        let name = format!("run-{number}");
        requests
            .iter()
            .position(|request| request.is("create", "jobs") && request.name == name)
    };
    let until = creation_of(number + 1).unwrap_or(requests.len());
    let window = requests.get(creation_of(number)?..until)?;
    let written = window
        .iter()
        .rfind(|request| request.is("update", "maparefreshpolicies/status"))?
        .answered;
    let name = format!("run-{number}");
    let complete = window
        .iter()
        .rfind(|request| request.is("update", "jobs/status") && request.name == name && request.answered < written)?
        .answered;
    u64::try_from(written - complete).ok().map(Duration::from_micros)
}

fn one_deletion(kubectl: &Kubectl, plane: &ControlPlane, number: usize) -> Duration {
    let name = format!("policy-{}-refresh-mv-portal", number % 9 + 1);
    let moments = |verb: &str| -> Vec<i64> {
        requests(plane)
            .into_iter()
            .filter(|request| request.is(verb, "cronjobs") && request.name == name)
            .map(|request| request.answered)
            .collect()
    };
    let created = moments("create").len();
    kubectl.run(["-n", "bench", "delete", "cronjob", &name]).unwrap();
    let again = wait::until("the CronJob to come back", Duration::from_secs(20), || {
        let creations = moments("create");
        if creations.len() > created {
            Look::Met(creations[creations.len() - 1])
        } else {
            Look::Saw(creations.len().to_string())
        }
    })
    .unwrap();
    let deleted = moments("delete").into_iter().filter(|at| *at <= again).max().unwrap();
    Duration::from_micros(u64::try_from(again - deleted).unwrap())
}
