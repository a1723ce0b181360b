//! The account of breaches against somebody who only looks at the cache: the controller-manager ends, then the database and the operator.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_tests::{
    images,
    redis::Redis,
    wait::{self, Look},
};
use serde_json::Value;

use crate::world::{Tenant, Test, World, condition};

/// They stop what every other test needs.
pub const TESTS: &[Test] = &[(
    "compliance::f21_f32_f01_the_account_of_two_outages_agrees_with_an_observer_of_the_cache",
    outages,
)];

const LIMIT_SECONDS: f64 = 120.0;
const SPEC: &str = "  maxDataAgeMinutes: 2
  tasks:
  - { name: refresh-mv-portal, maxRetries: 1, retryDelaySeconds: 2, attemptTimeoutSeconds: 5 }
  - { name: refresh-mapa-cache, maxRetries: 1, retryDelaySeconds: 2, attemptTimeoutSeconds: 5 }
  - { name: calcular-estatisticas, maxRetries: 1, retryDelaySeconds: 2, attemptTimeoutSeconds: 5 }
";

/// What the account may differ by from the observer for each breach, in seconds. Times in a status are whole seconds, cut off: that makes the data up
/// to 1 s older. The pod's end, which dates publication and age where it is the oldest clock, is whole seconds, too: 1 s more.
/// The observer looks every quarter of a second.
const TOLERANCE: f64 = 3.0;

/// What the public sees: `dataAsOf` of the older document, as it was at a moment; `None` while one is missing.
type Sample = (f64, Option<f64>);

/// Looks at the published documents all the time, and knows nothing of the operator.
struct Observer {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    fn start(cache: &Arc<Redis>) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (cache, samples, stop) = (Arc::clone(cache), Arc::clone(&samples), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let seen = (now(), oldest(&cache));
                    samples.lock().unwrap().push(seen);
                    std::thread::sleep(Duration::from_millis(250));
                }
            }
        });
        Self {
            samples,
            stop,
            thread: Some(thread),
        }
    }

    fn age(&self) -> f64 {
        let samples = self.samples.lock().unwrap();
        let (at, data_as_of) = samples.last().unwrap();
        at - data_as_of.unwrap()
    }

    /// What it saw between two moments.
    fn account(&self, since: f64, until: f64) -> Account {
        let samples = self.samples.lock().unwrap();
        let mut account = Account::default();
        let mut in_breach = false;
        for pair in samples.windows(2) {
            let (from, to) = (pair[0].0.max(since), pair[1].0.min(until));
            if from >= to {
                continue;
            }
            let Some(data_as_of) = pair[0].1 else {
                assert!(account.worst_age == 0.0, "a document that was published is missing");
                account.unproven += to - from;
                continue;
            };
            account.worst_age = account.worst_age.max(to - data_as_of);
            let breach = (to - from.max(data_as_of + LIMIT_SECONDS)).max(0.0);
            account.in_breach += breach;
            account.breaches += i64::from(breach > 0.0 && !in_breach);
            in_breach = breach > 0.0;
        }
        account
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Default)]
struct Account {
    breaches: i64,
    in_breach: f64,
    unproven: f64,
    worst_age: f64,
}

fn now() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

fn seconds(time: &Value) -> f64 {
    let time: Timestamp = time.as_str().unwrap().parse().unwrap();
    time.as_duration().as_secs_f64()
}

fn oldest(cache: &Redis) -> Option<f64> {
    let documents = cache
        .command(&["MGET", "mapa:interrupcoes", "mapa:estatisticas"])
        .unwrap();
    let moments: Vec<f64> = documents
        .lines()
        .filter_map(|document| serde_json::from_str::<Value>(document).ok())
        .map(|document| seconds(&document["dataAsOf"]))
        .collect();
    (moments.len() == 2).then(|| moments[0].min(moments[1]))
}

/// Waits until the policy is at risk while it is still compliant, and for the rescue of its deadline; returns the reason of the risk.
fn wait_for_risk_and_rescue(tenant: &Tenant) -> String {
    let reason = tenant.wait("a risk before the breach", 130, |policy| {
        let risk = condition(policy, "AtRisk");
        assert_eq!(
            condition(policy, "Compliant")["status"],
            "True",
            "the breach came before the risk: {policy}"
        );
        (risk["status"] == "True").then(|| risk["reason"].as_str().unwrap().to_owned())
    });
    tenant.wait("the rescue of this deadline", 130, |policy| {
        let until = policy["status"]["compliantUntil"].as_str()?.parse::<Timestamp>().ok()?;
        let id = format!("r{}", until.as_second() / 60);
        (policy["status"]["rescue"]["id"] == id.as_str()).then_some(())
    });
    reason
}

fn rescue_jobs(tenant: &Tenant) -> usize {
    let jobs = tenant.run(&["get", "jobs", "-o", "name"]);
    jobs.lines()
        .filter(|job| job.rsplit('-').next().is_some_and(|id| id.starts_with('r')))
        .count()
}

fn outages(world: &World) {
    let mut tenant = world.tenant("outages", images::JOB_RUNNER);
    let mut database = world.database();
    let cache = Arc::new(world.cache());
    let observer = Observer::start(&cache);
    tenant.apply_secrets(&database, &cache);
    tenant.apply(&tenant.example.manifest(SPEC));

    // Nobody waits for the first slot.
    tenant.wait_for_condition("Compliant", "True", "Fresh", 120);
    assert!(rescue_jobs(&tenant) >= 1, "{}", tenant.run(&["get", "jobs"]));
    tenant.wait_for_condition("AtRisk", "False", "OnSchedule", 90);

    // No slot fires, and no Job gets a pod.
    world.stop_controller_manager();
    let reason = wait_for_risk_and_rescue(&tenant);
    // The last is of a run that was under way just then: nobody writes down that it ended.
    assert!(
        ["ScheduleMissed", "NextRunTooLate", "PodCannotStart", "RunHung"].contains(&reason.as_str()),
        "{reason}"
    );
    tenant.wait_for_condition("Compliant", "False", "DataTooOld", 150);
    world.start_controller_manager();
    tenant.wait_for_condition("Compliant", "True", "Fresh", 120);
    tenant.wait_for_condition("AtRisk", "False", "OnSchedule", 90);

    // The database goes, and the operator before the breach; it comes back in the middle of it.
    database.stop();
    let before = rescue_jobs(&tenant);
    wait_for_risk_and_rescue(&tenant);
    tenant.kill_operator();
    assert!(rescue_jobs(&tenant) > before, "{}", tenant.run(&["get", "jobs"]));
    wait::until("a breach that nobody watches", Duration::from_secs(150), || {
        let age = observer.age();
        Look::when(age > LIMIT_SECONDS + 10.0, age)
    })
    .unwrap();
    tenant.start_operator();
    tenant.wait_for_condition("Compliant", "False", "DataTooOld", 15);
    database.resume().unwrap();
    tenant.wait_for_condition("Compliant", "True", "Fresh", 120);

    let told = tenant.policy()["status"]["compliance"].clone();
    let saw = observer.account(seconds(&told["since"]), seconds(&told["accountedUntil"]));
    eprintln!("told: {told}\nsaw: {saw:?}");
    let number = |key: &str| told[key].as_f64().unwrap_or_default();
    assert_eq!(
        (saw.breaches, told["breaches"].as_i64()),
        (2, Some(2)),
        "{told}\n{saw:?}"
    );
    for (key, seen, tolerance) in [
        ("secondsInBreach", saw.in_breach, 2.0 * TOLERANCE),
        ("worstDataAgeSeconds", saw.worst_age, TOLERANCE),
        // Before the first publication, and never after it.
        ("secondsUnproven", saw.unproven, TOLERANCE),
    ] {
        assert!(
            (number(key) - seen).abs() <= tolerance,
            "{key}: told {}, saw {seen:.2}\n{told}",
            number(key)
        );
    }
    tenant.run(&["delete", "mapa-refresh", "roraima"]);
}
