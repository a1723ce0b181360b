//! The numbers of the README, as a table, with a limit or a peer beside each: `cargo bench -p mapa-refresh-tests`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::cast_precision_loss,
    reason = "a bench fails by panicking; its numbers are small"
)]

use std::{
    collections::HashMap,
    net::IpAddr,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use mapa_refresh_crds::MapaRefreshPolicy;
use mapa_refresh_tests::{
    cargo,
    control_plane::ControlPlane,
    images,
    kubectl::Kubectl,
    operator::Operator,
    policy::Example,
    postgres::{self, Postgres},
    process::Process,
    progress,
    redis::{self, Redis},
    seed,
    wait::{self, Look},
};
use nix::sys::time::TimeValLike;
use oci_stub::{portal, server::Server};
use serde_json::{Value, json};

/// Runs of which the latency is measured.
const RUNS: usize = 40;
/// Measures, and writes rows.
type Part = fn(&mut Table);

/// What is measured; each by its name alone, too: `cargo bench -p mapa-refresh-tests -- oracle`.
const PARTS: [(&str, Part); 4] = [
    ("postgresql", runner_on_postgresql),
    ("oracle", runner_on_oracle),
    ("operator", operator),
    ("breaches", breaches),
];
/// Rows of the views: 50,000 and 100,000 show that time and memory grow with the rows and no faster.
const VIEWS: [usize; 4] = [341, 10_000, 50_000, 100_000];
/// The first argument by which this program measures another one's peak memory.
const MEASURE: &str = "--measure-peak-memory-of";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == MEASURE) {
        measure(&arguments[1..]);
        return;
    }
    // Cargo adds options of its own; words choose among the parts.
    let chosen: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let known = PARTS.map(|(name, _)| name);
    if let Some(unknown) = chosen.iter().find(|word| !known.contains(&word.as_str())) {
        eprintln!("there is no part {unknown:?}: there are {}", known.join(", "));
        std::process::exit(2);
    }
    let mut table = Table::default();
    for (name, part) in PARTS {
        if chosen.is_empty() || chosen.iter().any(|word| *word == name) {
            part(&mut table);
        }
    }
    table.print();
}

#[derive(Default)]
struct Table(Vec<[String; 3]>);

impl Table {
    fn row(&mut self, what: &str, measured: String, beside: &str) {
        progress::say(&format!("{what}: {measured}"));
        self.0.push([what.to_owned(), measured, beside.to_owned()]);
    }

    fn print(&self) {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        println!("\n| what | measured | limit or peer |\n|---|---|---|");
        for [what, measured, beside] in &self.0 {
            println!("| {what} | {measured} | {beside} |");
        }
        let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown processor", |name| name.trim_start_matches([' ', '\t', ':']));
        println!("\n{cores} cores, {model}");
    }
}

fn quantile(sorted: &[Duration], of: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index within the slice"
    )]
    let index = ((sorted.len() - 1) as f64 * of).ceil() as usize;
    sorted[index]
}

fn p50_p99(mut latencies: Vec<Duration>) -> String {
    latencies.sort();
    let ms = |of| quantile(&latencies, of).as_secs_f64() * 1e3;
    format!(
        "p50 {:.0} ms, p99 {:.0} ms (n = {})",
        ms(0.5),
        ms(0.99),
        latencies.len()
    )
}

// The job-runner

fn runner_on_postgresql(table: &mut Table) {
    let binary = cargo::binary("mapa-refresh-job-runner", "job-runner").unwrap();
    let database = Postgres::start().unwrap();
    seed::load(&database).unwrap();
    let cache = Redis::start().unwrap();
    let secrets = tempfile::tempdir().unwrap();
    write_secret(
        &secrets.path().join("database"),
        &[
            ("url", &database.url("127.0.0.1")),
            ("username", postgres::RUNNER_ROLE),
            ("password", postgres::RUNNER_PASSWORD),
        ],
    );
    write_secret(
        &secrets.path().join("cache"),
        &[("url", &cache.url("127.0.0.1")), ("password", redis::PASSWORD)],
    );
    let run = |task: &str| run_task(&binary, task, secrets.path(), "postgresql");
    run("refresh-mv-portal");

    let refresh = best(|| run("refresh-mv-portal"));
    let peer = best_time(|| {
        drop(
            database
                .sql("REFRESH MATERIALIZED VIEW CONCURRENTLY radar.mv_portal_publico")
                .unwrap(),
        )
    });
    table.row(
        "refresh-mv-portal, 341 rows, start to exit",
        format!("{:.0} ms", refresh.wall_ms()),
        &format!("psql, the same statement: {:.0} ms", peer.as_secs_f64() * 1e3),
    );

    for rows in VIEWS {
        grow(&database, rows);
        run("refresh-mv-portal");
        let map = best(|| run("refresh-mapa-cache"));
        let peer = best_time(|| {
            drop(
                database
                    .sql("\\copy (SELECT * FROM radar.mv_portal_publico) TO '/dev/null'")
                    .unwrap(),
            )
        });
        table.row(
            &format!("refresh-mapa-cache, {rows} rows, start to exit"),
            format!(
                "{:.0} ms (CPU {:.0} ms), peak {:.0} MB",
                map.wall_ms(),
                map.cpu_ms(),
                map.peak_mb
            ),
            &format!(
                "psql, reading the same rows: {:.0} ms; 100 ms and 64 MB at 10,000, 1 s and 256 MB at 100,000",
                peer.as_secs_f64() * 1e3
            ),
        );
    }
}

/// Through the genuine driver, over the OCI stub, which is not Oracle: what the runner costs beyond the database's own time, which the stub counts.
fn runner_on_oracle(table: &mut Table) {
    let binary = cargo::binary("mapa-refresh-job-runner", "job-runner").unwrap();
    let server = Server::start(IpAddr::from([127, 0, 0, 1]), portal::database("radar", "bench")).unwrap();
    let cache = Redis::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("oracle://radar:bench@{}/RADAR", server.address());
    write_secret(&folder.path().join("database"), &[("url", &url)]);
    write_secret(
        &folder.path().join("cache"),
        &[("url", &cache.url("127.0.0.1")), ("password", redis::PASSWORD)],
    );
    std::fs::create_dir(folder.path().join("client")).unwrap();
    oci_stub::install(&folder.path().join("client")).unwrap();
    let run = |task: &str| run_task(&binary, task, folder.path(), "oracle");
    let (owner, name) = portal::VIEW;
    for rows in VIEWS {
        server.world(|world| {
            let start = world.sysdate() - chrono::Duration::minutes(90);
            world.view(owner, name).source = Arc::new((1..).take(rows).map(|id| portal::outage(id, start)).collect());
            // Stamps are whole seconds: let this refresh be a later one.
            world.clock_ahead += chrono::Duration::seconds(2);
        });
        run("refresh-mv-portal");
        let (map, own) = (0..10)
            .map(|_| {
                let before = server.world(|world| world.busy);
                let map = run("refresh-mapa-cache");
                (map, server.world(|world| world.busy) - before)
            })
            .min_by_key(|(map, own)| map.wall.saturating_sub(*own))
            .unwrap();
        table.row(
            &format!("refresh-mapa-cache, {rows} rows, Oracle's driver over the OCI stub, start to exit"),
            format!(
                "{:.0} ms, of which the stub {:.0} ms (CPU {:.0} ms), peak {:.0} MB",
                map.wall_ms(),
                own.as_secs_f64() * 1e3,
                map.cpu_ms(),
                map.peak_mb
            ),
            "beyond the database: 100 ms and 64 MB at 10,000, 1 s and 256 MB at 100,000",
        );
    }
}

fn write_secret(folder: &Path, keys: &[(&str, &str)]) {
    std::fs::create_dir_all(folder).unwrap();
    for (key, value) in keys {
        std::fs::write(folder.join(key), value).unwrap();
    }
}

fn grow(database: &Postgres, rows: usize) {
    database
        .sql(&format!(
            "INSERT INTO radar.ocorrencia (id, numero_ocorrencia, codigo_ibge, bairro, latitude, longitude, data_inicio, tipo, status_codigo,
                                           ucs_afetadas, equipes_designadas, causa)
             SELECT 900000 + i, 'B' || i, '1400100', 'Centro', 2.8, -60.6, radar.agora() - make_interval(mins => (i % 4000)::int), 'NAO_PROGRAMADA', 'E',
                    i % 500, 1, 'Queda de árvore sobre a rede'
               FROM generate_series(1, greatest(0, {rows} - (SELECT count(*) FROM radar.ocorrencia))) AS i"
        ))
        .unwrap();
}

struct Measured {
    wall: Duration,
    /// Of all its threads, in the kernel too: unlike the time on the wall, it hardly depends on what else the machine does.
    cpu: Duration,
    peak_mb: f64,
}

impl Measured {
    fn wall_ms(&self) -> f64 {
        self.wall.as_secs_f64() * 1e3
    }

    fn cpu_ms(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3
    }
}

/// The fastest of ten: what the program costs, without what the machine did meanwhile.
fn best(mut run: impl FnMut() -> Measured) -> Measured {
    (0..10).map(|_| run()).min_by_key(|measured| measured.wall).unwrap()
}

fn best_time(mut run: impl FnMut()) -> Duration {
    let timed = |run: &mut dyn FnMut()| {
        let started = Instant::now();
        run();
        started.elapsed()
    };
    (0..10).map(|_| timed(&mut run)).min().unwrap()
}

fn run_task(binary: &Path, task: &str, secrets: &Path, kind: &str) -> Measured {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(MEASURE).arg(binary).args(["run", task]);
    command
        .arg("--database-secret-dir")
        .arg(secrets.join("database"))
        .arg("--cache-secret-dir")
        .arg(secrets.join("cache"));
    let settings = [
        ("POLICY_NAMESPACE", "radar"),
        ("POLICY_NAME", "bench"),
        ("POLICY_UID", "0"),
        ("TARGET", "0"),
        ("POD_UID", "0"),
        ("JOB_NAME", "by-hand"),
        ("DATABASE_KIND", kind),
        ("DATABASE_VIEW", "RADAR.MV_PORTAL_PUBLICO"),
        ("CACHE_KEY_PREFIX", "bench"),
        ("TIME_ZONE", "America/Boa_Vista"),
        ("AREA", "RR"),
        ("INTERVAL_MINUTES", "10"),
        ("MAX_DATA_AGE_MINUTES", "30"),
        ("MAX_RETRIES", "0"),
        ("RETRY_DELAY_SECONDS", "0"),
        ("ATTEMPT_TIMEOUT_SECONDS", "60"),
        ("RUN_BUDGET_SECONDS", "570"),
    ];
    // Where the OCI stub is, if this is about Oracle.
    command.env("LD_LIBRARY_PATH", secrets.join("client"));
    command.envs(settings.map(|(name, value)| (format!("MAPA_{name}"), value)));
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{task}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let last = String::from_utf8_lossy(&output.stderr)
        .lines()
        .last()
        .unwrap()
        .to_owned();
    let numbers: Vec<u64> = last.split(' ').map(|number| number.parse().unwrap()).collect();
    #[expect(clippy::cast_precision_loss, reason = "megabytes, to be read by people")]
    Measured {
        wall: Duration::from_micros(numbers[0]),
        cpu: Duration::from_micros(numbers[1]),
        peak_mb: numbers[2] as f64 / 1024.0,
    }
}

/// Runs a program as our only child, so that the peak of all children is its own; tells its time on the
/// wall and of the processors in microseconds and its memory in kilobytes as the last line.
fn measure(command: &[String]) {
    let started = Instant::now();
    let status = Command::new(&command[0]).args(&command[1..]).status().unwrap();
    let wall = started.elapsed();
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    let cpu = [usage.user_time(), usage.system_time()].map(|time| time.num_microseconds());
    eprintln!("{} {} {}", wall.as_micros(), cpu[0] + cpu[1], usage.max_rss());
    std::process::exit(status.code().unwrap_or(1));
}

// The operator

/// A control plane with the CRD and the namespace `bench`.
fn plane() -> ControlPlane {
    let plane = ControlPlane::start().unwrap();
    let kubectl = plane.kubectl();
    kubectl
        .apply(&std::fs::read_to_string(images::repository().join("crds/maparefreshpolicies.yaml")).unwrap())
        .unwrap();
    kubectl
        .run([
            "wait",
            "--for=condition=Established",
            "crd/maparefreshpolicies.mapa.radar.dev",
            "--timeout=30s",
        ])
        .unwrap();
    kubectl.namespace("bench").unwrap();
    plane
}

fn start_operator(plane: &ControlPlane) -> Process {
    Operator::build(Some(plane.kubeconfig()), "runner:1", plane.folder())
        .unwrap()
        .start()
        .unwrap()
}

fn operator(table: &mut Table) {
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

    let memory = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", operator.id())).unwrap();
    let kilobytes: f64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    table.row(
        "operator, ten policies, PSS",
        format!("{:.1} MB", kilobytes / 1024.0),
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

/// (moment in microseconds, verb, resource with subresource, name) of every answered request, in the API server's own words.
fn requests(plane: &ControlPlane) -> Vec<(i64, String, String, String)> {
    let log = std::fs::read_to_string(plane.audit_log()).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["objectRef"]["namespace"] == "bench")
        .filter_map(|event| {
            let moment: k8s_openapi::jiff::Timestamp = event["stageTimestamp"].as_str()?.parse().ok()?;
            let object = &event["objectRef"];
            let subresource = object["subresource"]
                .as_str()
                .map(|sub| format!("/{sub}"))
                .unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            Some((
                moment.as_microsecond(),
                text(&event["verb"]),
                format!("{}{subresource}", text(&object["resource"])),
                text(&object["name"]),
            ))
        })
        .collect()
}

/// From the controller-manager's last word on a Job to the operator's next word on the policy.
fn completion_latencies(plane: &ControlPlane) -> Vec<Duration> {
    let requests = requests(plane);
    (0..RUNS)
        .filter_map(|number| {
            let name = format!("run-{number}");
            let next = format!("run-{}", number + 1);
            let start = requests
                .iter()
                .position(|(_, verb, resource, of)| verb == "create" && resource == "jobs" && *of == name);
            let from = start.unwrap_or_default();
            let until = requests
                .iter()
                .position(|(_, verb, resource, of)| verb == "create" && resource == "jobs" && *of == next)
                .unwrap_or(requests.len());
            let window = &requests[from..until];
            let written = window
                .iter()
                .rfind(|(_, verb, resource, _)| verb == "update" && resource == "maparefreshpolicies/status")?
                .0;
            let complete = window
                .iter()
                .rfind(|(at, verb, resource, of)| {
                    verb == "update" && resource == "jobs/status" && *of == name && *at < written
                })?
                .0;
            u64::try_from(written - complete).ok().map(Duration::from_micros)
        })
        .collect()
}

fn one_deletion(kubectl: &Kubectl, plane: &ControlPlane, number: usize) -> Duration {
    let name = format!("policy-{}-refresh-mv-portal", number % 9 + 1);
    let moments = |verb: &str| -> Vec<i64> {
        requests(plane)
            .into_iter()
            .filter(|(_, v, resource, of)| v == verb && resource == "cronjobs" && *of == name)
            .map(|(at, ..)| at)
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

// Breaches

/// Writers at the same time: as many as the API server keeps busy.
const WRITERS: usize = 8;
/// `maxDataAgeMinutes` of the policies, in seconds.
const LIMIT_SECONDS: i64 = 1_800;

fn breaches(table: &mut Table) {
    breaches_of(table, 1_000, Duration::from_secs(60));
    breaches_of(table, 10_000, Duration::from_secs(300));
}

/// `count` policies whose data becomes too old during `spread`, each at its own moment: how long after it the condition is written. What they
/// published is told by us, in the status; nothing runs.
fn breaches_of(table: &mut Table, count: usize, spread: Duration) {
    let plane = plane();
    plane.stop_controller_manager();
    let _operator = start_operator(&plane);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let moments = runtime.block_on(async {
        let client = plane.client().await.unwrap();
        let policies: Api<MapaRefreshPolicy> = Api::namespaced(client.clone(), "bench");
        in_parallel(&client, count, |policies, number| async move {
            let example = Example {
                interval_minutes: 30,
                ..Example::every_minute("bench", &name_of(number))
            };
            let policy = serde_yaml::from_str(&example.manifest("  rescue: false\n")).unwrap();
            policies.create(&PostParams::default(), &policy).await.unwrap();
        })
        .await;
        until(&policies, "a status of every policy", |policy| policy.status.is_some()).await;

        // Two writes for each policy until the first moment: ours, and the operator's, that it is compliant.
        let first = Timestamp::now() + SignedDuration::from_secs(20 + i64::try_from(count / 60).unwrap());
        let moments: Vec<Timestamp> = (0..count)
            .map(|number| first + spread.mul_f64(number as f64 / count as f64))
            .map(|moment| Timestamp::from_second(moment.as_second()).unwrap())
            .collect();
        let known = moments.clone();
        in_parallel(&client, count, move |policies, number| {
            let moment = known[number];
            async move { publish(&policies, number, moment).await }
        })
        .await;
        assert!(Timestamp::now() < first, "too slow: the first moment is over");
        progress::say(&format!("{count} policies will be too old from {first} on"));
        // A look at all of them would cost the API server more than what is measured.
        let last = moments.last().copied().unwrap_or(first) + SignedDuration::from_secs(15);
        let wait = last.duration_since(Timestamp::now());
        tokio::time::sleep(Duration::try_from(wait).unwrap_or_default()).await;
        until(&policies, "every policy to be too old", |policy| {
            let conditions = policy.status.as_ref().map(|status| status.conditions.as_slice());
            conditions.unwrap_or_default().iter().any(|condition| {
                condition.type_ == "Compliant" && condition.status == "False" && condition.reason == "DataTooOld"
            })
        })
        .await;
        moments
    });
    let mut writes: HashMap<String, Vec<i64>> = HashMap::new();
    for (at, verb, resource, name) in requests(&plane) {
        if verb == "update" && resource == "maparefreshpolicies/status" {
            writes.entry(name).or_default().push(at);
        }
    }
    let late = (0..count)
        .map(|number| {
            let moment = moments[number].as_microsecond();
            let told = writes[&name_of(number)].iter().find(|at| **at > moment).unwrap();
            Duration::from_micros(u64::try_from(told - moment).unwrap())
        })
        .collect();
    table.row(
        &format!(
            "breach seen after its moment, {count} policies within {} s",
            spread.as_secs()
        ),
        p50_p99(late),
        "p99 at most 1 s",
    );
}

fn name_of(number: usize) -> String {
    format!("policy-{number}")
}

/// Does `work` for each of `count` policies, some at a time.
async fn in_parallel<W, F>(client: &Client, count: usize, work: W)
where
    W: Fn(Api<MapaRefreshPolicy>, usize) -> F,
    F: Future<Output = ()>,
{
    let workers = (0..WRITERS).map(|worker| {
        let (client, work) = (client.clone(), &work);
        async move {
            for number in (worker..count).step_by(WRITERS) {
                work(Api::namespaced(client.clone(), "bench"), number).await;
            }
        }
    });
    futures::future::join_all(workers).await;
}

/// Waits until `is_so` for every policy.
async fn until(policies: &Api<MapaRefreshPolicy>, what: &str, is_so: impl Fn(&MapaRefreshPolicy) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(900);
    loop {
        let all = policies.list(&ListParams::default()).await.unwrap();
        let left = all.items.iter().filter(|policy| !is_so(policy)).count();
        if left == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "waited for {what}: {left} left");
        // Looking costs the API server more than what is measured: seldom.
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// Says in the status that map and statistics are within the limit until `moment`.
async fn publish(policies: &Api<MapaRefreshPolicy>, number: usize, moment: Timestamp) {
    let name = name_of(number);
    let mut tasks = policies.get(&name).await.unwrap().status.unwrap().tasks;
    for task in tasks.iter_mut().filter(|task| task.name.publishes()) {
        task.data_as_of = Some(Time(moment - SignedDuration::from_secs(LIMIT_SECONDS)));
    }
    let patch = Patch::Merge(json!({ "status": { "tasks": tasks } }));
    policies
        .patch_status(&name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}
