//! `kubectl mapa`: the real binary against the real API server, and once through the real kubectl.

use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mapa_refresh_tests::{
    cargo,
    policy::Example,
    process::Process,
    wait::{Look, until},
};
use serde_json::{Value, json};

use crate::{
    pods::{self, TASKS},
    world::{ON_SCHEDULE_ALONE, Tenant, Test, World},
};

pub const TESTS: &[Test] = &[
    (
        "plugin_status_tells_the_age_and_its_exit_code_says_whether_all_are_compliant",
        status,
    ),
    (
        "plugin_status_says_by_the_api_servers_rows_what_it_says_by_the_objects",
        rows,
    ),
    (
        "plugin_status_takes_compliant_true_past_its_proof_for_unknown",
        silent_operator,
    ),
    ("plugin_status_watch_prints_again_when_a_policy_changes", watch),
    ("plugin_runs_tells_attempts_errors_and_durations_of_each_run", runs),
    ("plugin_trigger_waits_until_published_or_failed", trigger),
    (
        "plugin_trigger_says_that_nobody_took_the_request",
        trigger_without_operator,
    ),
    ("plugin_explain_sums_what_the_operator_sums", explain),
    ("plugin_says_what_is_missing_before_anything_works", nothing_works),
    ("plugin_is_found_and_completed_by_kubectl", through_kubectl),
];

fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| cargo::binary("mapa-refresh-operator", "kubectl-mapa").unwrap())
}

pub fn command(kubeconfig: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null());
    command
}

/// What the plugin said, and its exit code.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    stderr: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub fn mapa_as(kubeconfig: &Path, arguments: &[&str]) -> Said {
    let said = Said::of(&command(kubeconfig, arguments).output().unwrap());
    assert!(
        !said.stdout.contains('\u{1b}'),
        "no colours where there is no terminal: {said:?}"
    );
    said
}

/// The plugin in the tenant's namespace, as the admin.
pub fn mapa(world: &World, tenant: &Tenant, arguments: &[&str]) -> Said {
    let all: Vec<&str> = arguments.iter().copied().chain(["-n", &tenant.namespace]).collect();
    mapa_as(world.plane().kubeconfig(), &all)
}

fn started(world: &World, tenant: &Tenant, arguments: &[&str]) -> std::process::Child {
    let all: Vec<&str> = arguments.iter().copied().chain(["-n", &tenant.namespace]).collect();
    command(world.plane().kubeconfig(), &all)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub fn published(tenant: &Tenant) {
    // With an interval of the limit's length the next slot may be too late already, which depends on the minute in which the test begins.
    let example = Example {
        interval_minutes: 20,
        ..tenant.example("roraima")
    };
    tenant.kubectl.apply(&example.manifest(ON_SCHEDULE_ALONE)).unwrap();
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    pods::run_all(tenant, "1");
    tenant.wait_for_condition("roraima", "Compliant", "True", "Fresh");
}

fn status(world: &World) {
    let tenant = world.tenant("plugin-status");
    published(&tenant);
    let said = mapa(world, &tenant, &["status", "-o", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let policy = said.json()["policies"][0].clone();
    assert_eq!(
        (&policy["name"], &policy["compliant"]),
        (&json!("roraima"), &json!("True"))
    );
    assert!(
        (0..60).contains(&policy["dataAgeSeconds"].as_i64().unwrap()),
        "{policy}"
    );
    assert_eq!(policy["limitSeconds"], 1_800);
    assert!(
        (0..=1_800).contains(&policy["nextRunInSeconds"].as_i64().unwrap()),
        "{policy}"
    );

    tenant.apply("acre", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("acre", "Compliant", "False", "NeverPublished");
    let said = mapa(world, &tenant, &["status"]);
    assert_eq!(said.code, 1, "{said:?}");
    let row = |name: &str| {
        said.stdout
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert!(row("acre").contains("False") && row("acre").contains("NeverPublished: nothing was published yet"));
    assert!(
        row("roraima").contains("True") && row("roraima").contains("30m"),
        "{said:?}"
    );
    assert_eq!(mapa(world, &tenant, &["status", "roraima"]).code, 0);
    let wide = mapa(world, &tenant, &["status", "-o", "wide"]);
    assert!(wide.stdout.contains("COMPLIANT-UNTIL"), "{wide:?}");
    let yaml = mapa(world, &tenant, &["status", "roraima", "-o", "yaml"]);
    assert!(
        yaml.stdout.contains("compliant: 'True'") || yaml.stdout.contains("compliant: \"True\""),
        "{yaml:?}"
    );

    let said = mapa(world, &tenant, &["status", "rorama"]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("did you mean roraima?"), "{said:?}");
    let said = mapa(world, &tenant, &["status", "-l", "utility=none"]);
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (1, ""),
        "nothing is not well: {said:?}"
    );
    assert_eq!(mapa(world, &tenant, &["status", "roraima", "-A"]).code, 2);
}

/// A list is read by rows; policies that are named, and one that is suspended, as objects.
fn rows(world: &World) {
    let tenant = world.tenant("plugin-rows");
    published(&tenant);
    let new: Vec<String> = (0..20).map(|number| format!("acre-{number:02}")).collect();
    for name in &new {
        tenant.apply(name, ON_SCHEDULE_ALONE);
    }
    tenant.apply(
        "suspended",
        &format!("{ON_SCHEDULE_ALONE}  suspend: true\n  suspendReason: works\n"),
    );
    for name in &new {
        tenant.wait_for_condition(name, "Compliant", "False", "NeverPublished");
    }
    tenant.wait_for_condition("suspended", "Suspended", "True", "SuspendedBySpec");
    let mut names: Vec<&str> = new.iter().map(String::as_str).collect();
    names.extend(["roraima", "suspended"]);
    // Both tell ages in seconds, and one asks later.
    until("rows and objects to say the same", Duration::from_secs(60), || {
        let by_rows = mapa(world, &tenant, &["status"]);
        let all: Vec<&str> = ["status"].into_iter().chain(names.iter().copied()).collect();
        let by_objects = mapa(world, &tenant, &all);
        if by_rows.stdout == by_objects.stdout && by_rows.code == by_objects.code {
            Look::Met(())
        } else {
            Look::Saw(format!("{}\n{}", by_rows.stdout, by_objects.stdout))
        }
    })
    .unwrap();
    let everywhere = mapa_as(world.plane().kubeconfig(), &["status", "-A"]).stdout;
    let ours = everywhere
        .lines()
        .filter(|line| line.starts_with(&format!("{} ", tenant.namespace)));
    assert_eq!(ours.count(), names.len(), "{everywhere}");

    let events = world.plane().audit_events().unwrap();
    let asked: Vec<&str> = events
        .iter()
        .filter(|event| event["objectRef"]["namespace"] == tenant.namespace.as_str())
        .filter(|event| {
            event["userAgent"]
                .as_str()
                .is_some_and(|agent| agent.starts_with("kubectl-mapa/"))
        })
        .filter_map(|event| event["requestURI"].as_str())
        .collect();
    let lists: Vec<&&str> = asked.iter().filter(|uri| uri.contains("limit=")).collect();
    assert!(
        !lists.is_empty() && lists.iter().all(|uri| uri.contains("includeObject=None")),
        "{lists:?}"
    );
    let whole = |name: &str| asked.iter().filter(|uri| uri.ends_with(&format!("/{name}"))).count();
    assert!(whole("suspended") > whole("acre-00"), "{asked:?}");
}

fn silent_operator(world: &World) {
    let mut tenant = world.tenant("plugin-silent");
    published(&tenant);
    tenant.kill_operator();
    assert_eq!(mapa(world, &tenant, &["status"]).code, 0);
    let past = (Timestamp::now() - SignedDuration::from_secs(5)).to_string();
    let patch = json!({ "status": { "compliantUntil": past } }).to_string();
    tenant.run(&[
        "patch",
        "mapa-refresh",
        "roraima",
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ]);
    let said = mapa(world, &tenant, &["status", "-o", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let policy = &said.json()["policies"][0];
    assert_eq!(
        (&policy["compliant"], &policy["reason"]),
        (&json!("Unknown"), &json!("OperatorSilent"))
    );
}

fn watch(world: &World) {
    let tenant = world.tenant("plugin-watch");
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("roraima", "Compliant", "False", "NeverPublished");
    let command = command(
        world.plane().kubeconfig(),
        &["status", "--watch", "-n", &tenant.namespace],
    );
    let mut process = Process::start("plugin-watch", &command, world.plane().folder()).unwrap();
    let said = |process: &Process, what: &str| {
        tenant.wait(&format!("the watch to say {what}"), || {
            let log = process.log();
            let last = log
                .lines()
                .rfind(|line| line.starts_with("roraima"))
                .unwrap_or_default();
            Look::when(last.contains(what), log.clone())
        });
    };
    said(&process, "NeverPublished");
    pods::run_all(&tenant, "1");
    said(&process, "True");
    process.signal(nix::sys::signal::Signal::SIGINT);
    process.wait(Duration::from_secs(10));
    let end = process.check().unwrap_err().to_string();
    assert!(end.contains("exit status: 0"), "the last state is its exit code: {end}");
    let said = mapa(world, &tenant, &["status", "--watch", "-o", "json"]);
    assert_eq!(said.code, 2, "{said:?}");
}

pub fn kubeconfig_of(server: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": server } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    })
    .to_string()
}

fn runs(world: &World) {
    let tenant = world.tenant("plugin-runs");
    published(&tenant);
    let said = mapa(world, &tenant, &["runs", "roraima", "-o", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let answer = said.json();
    let runs = answer["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3, "{answer}");
    assert_eq!(
        (&runs[0]["task"], &runs[0]["result"]),
        (&json!("refresh-mv-portal"), &json!("Succeeded"))
    );
    assert_eq!(
        (&runs[0]["attempts"], &runs[0]["durationSeconds"], &runs[0]["records"]),
        (&json!(2), &json!(2), &json!(305))
    );
    assert_eq!(runs[0]["reportedAttempts"][0]["code"], "57P03");
    let (quarantined, repaired) = (
        json!({ "FUTURE_START": 2, "INVALID_ID": 5 }),
        json!({ "MISSING_CREWS": 6 }),
    );
    let task = &answer["tasks"][1];
    assert_eq!(
        (&task["quarantined"], &task["repaired"]),
        (&quarantined, &repaired),
        "{answer}"
    );
    assert_eq!(
        runs[1]["rows"],
        json!({ "quarantined": quarantined, "repaired": repaired }),
        "{answer}"
    );
    let said = mapa(world, &tenant, &["runs", "roraima", "-o", "wide"]);
    assert!(
        said.stdout.contains("7 (FUTURE_START 2, INVALID_ID 5)"),
        "{}",
        said.stdout
    );

    pods::start(&tenant, TASKS[0].0, "broken");
    let said = mapa(world, &tenant, &["runs", "roraima", "-o", "json"]);
    let run = said.json()["runs"][0].clone();
    assert_eq!((&run["job"], &run["result"]), (&json!("broken"), &json!("Running")));
    pods::fail(&tenant, "broken");
    tenant.wait("the failure to be counted", || {
        let failures = pods::task(&tenant.policy("roraima"), TASKS[0].0)["consecutiveFailures"].clone();
        Look::when(failures == 1, failures)
    });
    let said = mapa(world, &tenant, &["runs", "roraima", "--last", "1"]);
    assert_eq!(said.code, 1, "{said:?}");
    let row = said.stdout.lines().find(|line| line.starts_with("broken")).unwrap();
    assert!(
        row.contains("Failed") && row.contains("57P03: the database starts"),
        "{row}"
    );
    assert!(
        !said.stdout.contains("refresh-mv-portal-1 "),
        "the newest alone: {}",
        said.stdout
    );
    assert_eq!(mapa(world, &tenant, &["runs", "nobody"]).code, 2);
}

/// Ends each Job of the request as soon as it has a pod, the view's with a failure if `failing`.
fn carry_out(tenant: &Tenant, before: &Value, failing: bool) {
    let id = tenant.wait("the request to be taken", || {
        let id = tenant.policy("roraima")["status"]["request"]["id"].clone();
        Look::when(id.is_string() && id != *before, id)
    });
    for (task, _) in TASKS {
        let job = format!("roraima-{task}-{}", id.as_str().unwrap());
        if failing {
            return pods::fail(tenant, &job);
        }
        pods::succeed(tenant, task, &job);
    }
}

fn trigger(world: &World) {
    let tenant = world.tenant("plugin-trigger");
    published(&tenant);
    for (failing, code, word) in [
        (false, 0, "published: the data is"),
        (true, 1, "57P03: the database starts"),
    ] {
        let before = tenant.policy("roraima")["status"]["request"]["id"].clone();
        let child = started(world, &tenant, &["trigger", "roraima", "--wait", "--timeout", "60s"]);
        carry_out(&tenant, &before, failing);
        let said = Said::of(&child.wait_with_output().unwrap());
        assert_eq!(said.code, code, "{said:?}");
        assert!(format!("{}{}", said.stdout, said.stderr).contains(word), "{said:?}");
        assert!(
            said.stderr
                .contains("running: refresh-mv-portal; then: refresh-mapa-cache"),
            "{said:?}"
        );
    }
}

fn trigger_without_operator(world: &World) {
    let mut tenant = world.tenant("plugin-untaken");
    published(&tenant);
    tenant.kill_operator();
    let said = mapa(world, &tenant, &["trigger", "roraima"]);
    assert_eq!(said.code, 0, "{said:?}");
    let asked = || tenant.policy("roraima")["metadata"]["annotations"]["mapa.radar.dev/requestedAt"].clone();
    assert!(said.stdout.contains(asked().as_str().unwrap()), "{said:?}");
    let answer = mapa(world, &tenant, &["trigger", "roraima", "-o", "json"]).json();
    assert_eq!((&answer["state"], &answer["request"]), (&json!("Requested"), &asked()));
    let said = mapa(world, &tenant, &["trigger", "roraima", "--wait", "--timeout", "1s"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.stderr.contains("has not taken the request") && said.stderr.contains("doctor"),
        "{said:?}"
    );
    assert_eq!(mapa(world, &tenant, &["trigger", "nobody"]).code, 2);
}

fn explain(world: &World) {
    let tenant = world.tenant("plugin-explain");
    published(&tenant);
    for suffix in ["2", "3"] {
        pods::run_all(&tenant, suffix);
    }
    tenant.wait("three runs of each task", || {
        let policy = tenant.policy("roraima");
        let runs: Vec<Value> = TASKS
            .iter()
            .map(|(task, _)| pods::task(&policy, task)["totalRuns"].clone())
            .collect();
        Look::when(runs.iter().all(|runs| runs == 3), runs)
    });
    let feasible = crate::world::condition(&tenant.policy("roraima"), "Feasible");
    let said = mapa(world, &tenant, &["explain", "roraima", "-o", "json"]);
    let answer = said.json();
    assert_eq!(
        answer["feasible"]["message"], feasible["message"],
        "the operator's sum is the plugin's"
    );
    assert_eq!(answer["feasible"]["reason"], feasible["reason"]);
    assert_eq!(answer["paces"][0]["observedRuns"], 3, "{answer}");
    assert_eq!(said.code, if feasible["status"] == "True" { 0 } else { 1 });
    let said = mapa(world, &tenant, &["explain", "roraima"]);
    assert!(
        said.stdout.contains("Paces: the 95th percentile") && said.stdout.contains("worst age, of 1800 s"),
        "{said:?}"
    );
}

fn nothing_works(world: &World) {
    let folder = world.plane().folder();
    let said = mapa_as(&folder.join("none"), &["status"]);
    assert_eq!(said.code, 2);
    assert!(
        said.stderr.contains("no cluster") && said.stderr.contains("--kubeconfig"),
        "{said:?}"
    );
    let said = mapa_as(world.plane().kubeconfig(), &["status", "--context", "nowhere"]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("get-contexts"), "{said:?}");

    let closed = folder.join("closed.kubeconfig");
    std::fs::write(&closed, kubeconfig_of("http://127.0.0.1:1")).unwrap();
    for sub_command in [
        &["status"][..],
        &["runs", "x"],
        &["trigger", "x"],
        &["explain", "x"],
        &["doctor"],
    ] {
        let said = mapa_as(&closed, sub_command);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(
            said.stderr.contains("does not answer") && said.stderr.contains("cluster-info"),
            "{said:?}"
        );
    }

    let pki = world.plane().pki();
    pki.issue("plugin-nobody", "plugin-nobody", "nobodies", &[]).unwrap();
    let nobody = pki.kubeconfig("plugin-nobody", &world.plane().server()).unwrap();
    let said = mapa_as(&nobody, &["status", "-A"]);
    assert_eq!(said.code, 2);
    assert!(
        said.stderr.contains("not allowed") && said.stderr.contains("cluster roles view"),
        "{said:?}"
    );
}

fn through_kubectl(world: &World) {
    let tenant = world.tenant("plugin-kubectl");
    published(&tenant);
    let bin = world.plane().folder().join("plugin-bin");
    std::fs::create_dir_all(&bin).unwrap();
    let kubectl = |arguments: &[&str]| {
        let folders = [
            bin.as_path(),
            binary().parent().unwrap(),
            Path::new("/usr/bin"),
            Path::new("/bin"),
        ];
        let path = std::env::join_paths(folders.map(Path::as_os_str).map(OsStr::to_owned)).unwrap();
        let output = Command::new(world.plane().assets().path("kubectl"))
            .args(arguments)
            .env("KUBECONFIG", world.plane().kubeconfig())
            .env("PATH", path)
            .output()
            .unwrap();
        Said::of(&output)
    };
    let namespace = tenant.namespace.as_str();
    let said = kubectl(&["mapa", "status", "-n", namespace, "-o", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.json()["policies"][0]["name"], "roraima");
    assert_eq!(kubectl(&["mapa", "status", "nobody", "-n", namespace]).code, 2);

    let script = kubectl(&["mapa", "completion", "--kubectl"]).stdout;
    let completer = bin.join("kubectl_complete-mapa");
    std::fs::write(&completer, script).unwrap();
    std::fs::set_permissions(&completer, std::fs::Permissions::from_mode(0o755)).unwrap();
    let said = kubectl(&["__complete", "mapa", "st"]);
    assert!(said.stdout.lines().any(|line| line.starts_with("status")), "{said:?}");
    let said = kubectl(&["__complete", "mapa", "runs", "-n", namespace, "ro"]);
    assert!(said.stdout.lines().any(|line| line == "roraima"), "{said:?}");
}
