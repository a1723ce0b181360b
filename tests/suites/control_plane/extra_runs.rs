//! Runs beside the schedule: one chain for a deadline, one for a request, whoever is killed and however many operators there are.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mapa_refresh_tests::wait::Look;
use serde_json::{Value, json};

use crate::{
    pods::{self, TASKS},
    world::{ON_SCHEDULE_ALONE, Tenant, Test, World, condition},
};

pub const TESTS: &[Test] = &[
    (
        "extra_runs::promise_5_a_new_policy_starts_one_chain_the_view_first_and_then_what_is_built_from_it",
        creation,
    ),
    (
        "extra_runs::a_chain_ends_with_a_failed_view_and_no_other_begins_for_the_same_deadline",
        failed_view,
    ),
    (
        "extra_runs::f01_an_operator_killed_after_each_of_its_writes_never_makes_two_jobs_for_one_deadline",
        killed,
    ),
    (
        "extra_runs::f24_two_operators_at_once_never_make_two_jobs_for_one_deadline_or_request",
        twins,
    ),
    (
        "extra_runs::promise_7_each_requested_at_starts_exactly_one_chain_and_is_echoed",
        requests,
    ),
    (
        "extra_runs::promise_7_a_suspended_job_is_named_and_blocks_no_later_request",
        queued,
    ),
    (
        "extra_runs::a_suspension_ends_at_its_moment_and_a_rescue_follows",
        suspended_until,
    ),
    (
        "extra_runs::f15_a_foreign_job_of_the_rescues_name_is_left_alone_and_named_until_it_goes",
        squatted,
    ),
    (
        "extra_runs::f26_a_job_that_a_quota_refuses_is_named_and_started_when_there_is_room",
        refused,
    ),
];

const VIEW: &str = "refresh-mv-portal";

/// Jobs of `policy` beside the schedule whose names end in `<kind><id>`, as (task, kind and id).
fn extra_jobs(tenant: &Tenant, policy: &str, kind: char) -> BTreeSet<(String, String)> {
    tenant
        .names("jobs")
        .iter()
        .filter_map(|job| {
            let rest = job.strip_prefix(policy)?.strip_prefix('-')?;
            let (task, id) = rest.rsplit_once('-')?;
            id.starts_with(kind).then(|| (task.to_owned(), id.to_owned()))
        })
        .collect()
}

/// Waits until `policy` has `count` such Jobs, all of one chain, and returns its id.
fn wait_for_chain(tenant: &Tenant, policy: &str, kind: char, count: usize) -> String {
    let jobs = tenant.wait_within(&format!("{count} Jobs of {policy}"), Duration::from_secs(30), || {
        let jobs = extra_jobs(tenant, policy, kind);
        Look::when(jobs.len() >= count, jobs)
    });
    assert_eq!(jobs.len(), count, "{jobs:?}");
    let ids: BTreeSet<&String> = jobs.iter().map(|(_, id)| id).collect();
    assert_eq!(ids.len(), 1, "two chains: {jobs:?}");
    jobs.iter().next().unwrap().1.clone()
}

/// Waits until `status.<which>` of `policy` has ended, and returns it.
fn wait_for_end(tenant: &Tenant, policy: &str, which: &str) -> Value {
    tenant.wait("the end of the chain", || {
        let chain = tenant.policy(policy)["status"][which].clone();
        Look::when(chain["finishedAt"].is_string(), chain)
    })
}

/// Ends the whole chain `id` well.
fn succeed_all(tenant: &Tenant, policy: &str, id: &str, kind: char) {
    pods::succeed(tenant, VIEW, &format!("{policy}-{VIEW}-{id}"));
    wait_for_chain(tenant, policy, kind, TASKS.len());
    for (task, _) in &TASKS[1..] {
        pods::succeed(tenant, task, &format!("{policy}-{task}-{id}"));
    }
}

/// Waits until a policy that was applied just now is dealt with: what came before it was looked at, too.
fn wait_for_marker(tenant: &Tenant, name: &str) {
    tenant.apply(name, ON_SCHEDULE_ALONE);
    tenant.wait_for_condition(name, "Ready", "True", "Reconciled");
}

/// Names of the Jobs that the operator created.
fn created_jobs(tenant: &Tenant) -> Vec<String> {
    tenant
        .requests_since(0)
        .filter(|request| request.verb == "create" && request.resource == "jobs" && request.code == 201)
        .map(|request| request.name)
        .collect()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

fn creation(world: &World) {
    let tenant = world.tenant("rescue-creation");
    tenant.apply("roraima", "");
    let id = wait_for_chain(&tenant, "roraima", 'r', 1);
    let status = tenant.wait("the chain in the status", || {
        let status = tenant.policy("roraima")["status"].clone();
        Look::when(status["rescue"]["running"] == json!([VIEW]), status)
    });
    assert_eq!(
        status["rescue"]["waiting"],
        json!(["refresh-mapa-cache", "calcular-estatisticas"])
    );
    assert_eq!(
        id,
        format!("r{}", time(&status["targetSince"]).as_second() / 60),
        "named after the deadline: its beginning"
    );

    // It is a run like those of the schedule: below the CronJob, by its template.
    let job = tenant.json(&["get", "job", &format!("roraima-{VIEW}-{id}")]);
    let cron_job = tenant.json(&["get", "cronjob", &format!("roraima-{VIEW}")]);
    let owner = &job["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["uid"], &owner["controller"]),
        (&cron_job["metadata"]["uid"], &json!(true))
    );
    assert_eq!(
        job["spec"]["template"]["spec"],
        cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    );
    assert_eq!(
        job["spec"]["activeDeadlineSeconds"],
        cron_job["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"]
    );

    wait_for_marker(&tenant, "acre");
    wait_for_chain(&tenant, "roraima", 'r', 1);
    succeed_all(&tenant, "roraima", &id, 'r');
    tenant.wait_for_condition("roraima", "Compliant", "True", "Fresh");
    let rescue = wait_for_end(&tenant, "roraima", "rescue");
    assert_eq!(
        (&rescue["failed"], &rescue["waiting"], &rescue["running"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    wait_for_marker(&tenant, "amapa");
    assert_eq!(created_jobs(&tenant).len(), 3, "{:?}", created_jobs(&tenant));
    assert!(extra_jobs(&tenant, "acre", 'r').is_empty(), "spec.rescue: false");
}

fn failed_view(world: &World) {
    let tenant = world.tenant("rescue-failed");
    tenant.apply("roraima", "");
    let id = wait_for_chain(&tenant, "roraima", 'r', 1);
    pods::fail(&tenant, &format!("roraima-{VIEW}-{id}"));
    let rescue = wait_for_end(&tenant, "roraima", "rescue");
    assert_eq!((&rescue["id"], &rescue["failed"]), (&json!(id), &json!(true)));
    wait_for_marker(&tenant, "acre");
    assert_eq!(created_jobs(&tenant), [format!("roraima-{VIEW}-{id}")]);
}

fn killed(world: &World) {
    let mut tenant = world.tenant("rescue-killed");
    // Three CronJobs, the status, the Job, the status with the chain: killed after none of them, after one, …
    for writes in 0..=6 {
        let policy = format!("p{writes}");
        let before = tenant.audit_position();
        tenant.apply(&policy, "");
        tenant.kill_operator_after(before, writes);
        tenant.start_operator();
        let id = wait_for_chain(&tenant, &policy, 'r', 1);

        // Two Jobs, the status: the same.
        let before = tenant.audit_position();
        pods::succeed(&tenant, VIEW, &format!("{policy}-{VIEW}-{id}"));
        tenant.kill_operator_after(before, writes % 4);
        tenant.start_operator();
        assert_eq!(wait_for_chain(&tenant, &policy, 'r', 3), id);
        for (task, _) in &TASKS[1..] {
            pods::succeed(&tenant, task, &format!("{policy}-{task}-{id}"));
        }
        wait_for_end(&tenant, &policy, "rescue");
    }
    tenant.kill_operator();
    tenant.start_operator();
    wait_for_marker(&tenant, "acre");
    for writes in 0..=6 {
        wait_for_chain(&tenant, &format!("p{writes}"), 'r', 3);
    }
    // What is counted are the Jobs that exist: of a request whose client is killed before the answer the audit log says no 201.
    // Each policy's three were waited for; the schedule may have started others meanwhile.
    let jobs = tenant.names("jobs");
    let created = created_jobs(&tenant);
    let once: BTreeSet<&String> = created.iter().collect();
    assert_eq!(
        once.len(),
        created.len(),
        "created twice, so deleted in between: {created:?}"
    );
    assert!(created.iter().all(|job| jobs.contains(job)), "{created:?} but {jobs:?}");
}

fn twins(world: &World) {
    const POLICIES: [&str; 5] = ["acre", "amapa", "para", "rondonia", "roraima"];
    let tenant = world.tenant("rescue-twins");
    let _second = tenant.another_operator();
    let manifests: String = POLICIES
        .iter()
        .map(|policy| format!("---\n{}", tenant.example(policy).manifest("")))
        .collect();
    tenant.kubectl.apply(&manifests).unwrap();
    for policy in POLICIES {
        let id = wait_for_chain(&tenant, policy, 'r', 1);
        succeed_all(&tenant, policy, &id, 'r');
    }
    for policy in POLICIES {
        wait_for_end(&tenant, policy, "rescue");
    }
    tenant.run(&["annotate", "mapa-refresh", "--all", "mapa.radar.dev/requestedAt=agora"]);
    for policy in POLICIES {
        let id = wait_for_chain(&tenant, policy, 'q', 1);
        succeed_all(&tenant, policy, &id, 'q');
    }
    for policy in POLICIES {
        wait_for_end(&tenant, policy, "request");
        wait_for_chain(&tenant, policy, 'r', 3);
        wait_for_chain(&tenant, policy, 'q', 3);
        let counted = tenant.policy(policy)["status"]["tasks"].clone();
        let runs: Vec<i64> = counted
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|task| task["totalRuns"].as_i64())
            .collect();
        assert_eq!(runs, [2, 2, 2], "I6: each counted once");
    }
    let created = created_jobs(&tenant);
    assert_eq!(created.len(), POLICIES.len() * 6, "{created:?}");
}

fn ask(tenant: &Tenant, token: &str) {
    let annotation = format!("mapa.radar.dev/requestedAt={token}");
    tenant.run(&["annotate", "mapa-refresh", "roraima", "--overwrite", &annotation]);
}

/// Waits until the request `token` has its first Job; returns the chain's id.
fn wait_for_echo(tenant: &Tenant, token: &str) -> String {
    let status = tenant.wait("the echo of the request", || {
        let status = tenant.policy("roraima")["status"].clone();
        Look::when(
            status["lastHandledRequest"] == token && status["request"]["running"] == json!([VIEW]),
            status,
        )
    });
    status["request"]["id"].as_str().unwrap().to_owned()
}

/// A queue, such as Kueue, that suspends what is created and admits nothing.
fn queued(world: &World) {
    let tenant = world.tenant("queued");
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    ask(&tenant, "um");
    let id = wait_for_echo(&tenant, "um");
    let job = format!("roraima-{VIEW}-{id}");
    tenant.run(&[
        "patch",
        "job",
        &job,
        "--type=merge",
        "-p",
        r#"{"spec":{"suspend":true}}"#,
    ]);
    let told = tenant.wait_within("the suspended Job to be named", Duration::from_secs(45), || {
        let risk = condition(&tenant.policy("roraima"), "AtRisk");
        Look::when(risk["reason"] == "PodCannotStart", risk)
    });
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("JobSuspended") && message.contains(&format!("kubectl patch job {job}")),
        "{message}"
    );
    let over = wait_for_end(&tenant, "roraima", "request");
    assert_eq!(over["failed"], true, "{over}");

    ask(&tenant, "dois");
    let second = wait_for_echo(&tenant, "dois");
    for (task, _) in TASKS {
        let job = format!("roraima-{task}-{second}");
        tenant.wait("its turn", || {
            Look::when(tenant.names("jobs").contains(&job), tenant.names("jobs"))
        });
        pods::succeed(&tenant, task, &job);
    }
    let over = wait_for_end(&tenant, "roraima", "request");
    assert!(over["failed"].is_null(), "{over}");
    // What stays of the first is no risk any more.
    tenant.wait("the risk to be over", || {
        let risk = condition(&tenant.policy("roraima"), "AtRisk");
        Look::when(risk["reason"] != "PodCannotStart", risk)
    });
}

fn requests(world: &World) {
    let mut tenant = world.tenant("requests");
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    let ids = |tenant: &Tenant| -> BTreeSet<String> {
        extra_jobs(tenant, "roraima", 'q')
            .into_iter()
            .map(|(_, id)| id)
            .collect()
    };

    ask(&tenant, "manha-1");
    let first = wait_for_echo(&tenant, "manha-1");
    succeed_all(&tenant, "roraima", &first, 'q');
    wait_for_end(&tenant, "roraima", "request");
    tenant.wait_for_condition("roraima", "Compliant", "True", "Fresh");

    // The same once more, by another change of the policy and after a restart: nothing.
    ask(&tenant, "manha-1");
    tenant.run(&["label", "mapa-refresh", "roraima", "team=redes"]);
    tenant.kill_operator();
    tenant.start_operator();
    wait_for_marker(&tenant, "acre");
    assert_eq!(created_jobs(&tenant).len(), 3);

    // Another one: another chain. A third waits until the second is done.
    ask(&tenant, "manha-2");
    let second = wait_for_echo(&tenant, "manha-2");
    assert_ne!(first, second);
    ask(&tenant, "tarde-3");
    wait_for_marker(&tenant, "amapa");
    assert_eq!(tenant.policy("roraima")["status"]["lastHandledRequest"], "manha-2");
    assert_eq!(ids(&tenant), BTreeSet::from([first.clone(), second.clone()]));
    pods::fail(&tenant, &format!("roraima-{VIEW}-{second}"));
    let third = wait_for_echo(&tenant, "tarde-3");
    assert_eq!(ids(&tenant), BTreeSet::from([first, second, third.clone()]));
    pods::fail(&tenant, &format!("roraima-{VIEW}-{third}"));
    wait_for_end(&tenant, "roraima", "request");

    // What somebody else writes there is text, however long.
    let long = "x".repeat(300);
    ask(&tenant, &long);
    let echo = tenant.wait("the echo of a long request", || {
        let status = tenant.policy("roraima")["status"].clone();
        Look::when(
            status["lastHandledRequest"] != "tarde-3",
            status["lastHandledRequest"].clone(),
        )
    });
    assert!(
        echo.as_str()
            .is_some_and(|echo| echo.starts_with("sha256:") && echo.len() < 100),
        "{echo}"
    );
    wait_for_marker(&tenant, "para");
    // Three of the first, and a view of each other.
    assert_eq!(created_jobs(&tenant).len(), 6, "{:?}", created_jobs(&tenant));
    assert!(extra_jobs(&tenant, "roraima", 'r').is_empty(), "spec.rescue: false");
}

fn suspended_until(world: &World) {
    let tenant = world.tenant("suspended-until");
    let until = Timestamp::now() + SignedDuration::from_secs(8);
    tenant.apply(
        "roraima",
        &format!("  suspend: true\n  suspendReason: troca do banco\n  suspendUntil: {until:.0}\n"),
    );
    let message = tenant.wait_for_condition("roraima", "Suspended", "True", "SuspendedBySpec");
    assert!(message.contains("troca do banco"), "{message}");
    tenant.wait_for_condition("roraima", "AtRisk", "True", "SuspendedByPolicy");
    assert_eq!(tenant.names("jobs"), Vec::<String>::new());
    tenant.wait_for_condition("roraima", "Suspended", "False", "NotSuspended");
    let id = wait_for_chain(&tenant, "roraima", 'r', 1);
    let status = tenant.policy("roraima");
    let resumed = time(&condition(&status, "Suspended")["lastTransitionTime"]);
    let until: Timestamp = format!("{until:.0}").parse().unwrap();
    assert!(
        resumed >= until && resumed <= until + SignedDuration::from_secs(1),
        "suspended until {until}, resumed at {resumed}"
    );
    assert_eq!(
        id,
        format!("r{}", resumed.as_second() / 60),
        "named after the moment at which it resumed"
    );
    let schedules = tenant.json(&["get", "cronjobs"]);
    for cron_job in schedules["items"].as_array().unwrap() {
        assert_eq!(cron_job["spec"]["suspend"], false);
    }
}

fn squatted(world: &World) {
    let tenant = world.tenant("squatted-rescue");
    let minute = Timestamp::now().as_second() / 60;
    // One of these minutes will be that of the policy's beginning.
    let names: Vec<String> = (minute..=minute + 1)
        .map(|minute| format!("roraima-{VIEW}-r{minute}"))
        .collect();
    let theirs = |name: &str| tenant.json(&["get", "job", name]);
    for name in &names {
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
            "spec": { "suspend": true, "template": { "spec": {
                "restartPolicy": "Never", "containers": [{ "name": "theirs", "image": "theirs" }],
            } } },
        });
        tenant
            .kubectl
            .with_input(&["-n", &tenant.namespace, "create", "-f", "-"], &job.to_string())
            .unwrap();
        tenant.wait("the Job controller to have seen it", || {
            let job = theirs(name);
            Look::when(job["status"]["conditions"][0]["type"] == "Suspended", job)
        });
    }
    let before: Vec<Value> = names.iter().map(|name| theirs(name)).collect();
    tenant.apply("roraima", "");
    let message = tenant.wait_for_condition("roraima", "Ready", "False", "JobConflict");
    assert!(
        names.iter().any(|name| message.contains(name.as_str())) && message.contains("left alone"),
        "{message}"
    );
    tenant.apply("acre", "");
    wait_for_chain(&tenant, "acre", 'r', 1);
    let after: Vec<Value> = names.iter().map(|name| theirs(name)).collect();
    assert_eq!(before, after, "I2: foreign objects unchanged");

    for name in &names {
        tenant.run(&["delete", "job", name]);
    }
    let id = wait_for_chain(&tenant, "roraima", 'r', 1);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    let ours = theirs(&format!("roraima-{VIEW}-{id}"));
    assert_eq!(
        ours["metadata"]["ownerReferences"][0]["name"],
        format!("roraima-{VIEW}")
    );
}

fn refused(world: &World) {
    let tenant = world.tenant("refused-rescue");
    tenant.run(&["create", "quota", "none", "--hard=count/jobs.batch=0"]);
    tenant.wait("the quota", || {
        let quota = tenant.json(&["get", "quota", "none"]);
        Look::when(quota["status"]["hard"]["count/jobs.batch"] == "0", quota)
    });
    tenant.apply("roraima", "");
    let message = tenant.wait_for_condition("roraima", "Ready", "False", "JobRejected");
    assert!(message.contains("quota"), "{message}");
    tenant.run(&["delete", "quota", "none"]);
    wait_for_chain(&tenant, "roraima", 'r', 1);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
}
