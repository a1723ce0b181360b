//! How soon after its moment a breach stands in the status, when thousands of policies are watched.

use std::{collections::HashMap, time::Duration};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use mapa_refresh_crds::MapaRefreshPolicy;
use mapa_refresh_tests::{process::proportional_memory, progress};
use serde_json::json;

use crate::{
    plane::{Request, plane, requests, start_operator},
    policies::{create, in_parallel, name_of, until},
    table::{Table, p50_p99},
};

/// `maxDataAgeMinutes` of the policies, in seconds.
const LIMIT_SECONDS: i64 = 1_800;

/// Of 1,000 policies and of 10,000 (F28), and of as many as the chart's memory limit has room for.
pub fn breaches(table: &mut Table) {
    breaches_of(table, 1_000, Duration::from_secs(60));
    breaches_of(table, 4_000, Duration::from_secs(120));
    breaches_of(table, 10_000, Duration::from_secs(300));
}

/// `count` policies whose data becomes too old during `spread`, each at its own moment: how long after it the condition is written. What they
/// published is told by us, in the status; nothing runs.
fn breaches_of(table: &mut Table, count: usize, spread: Duration) {
    let plane = plane();
    plane.stop_controller_manager();
    let operator = start_operator(&plane);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let moments = runtime.block_on(async {
        let client = plane.client().await.unwrap();
        let policies: Api<MapaRefreshPolicy> = Api::namespaced(client.clone(), "bench");
        create(&client, count).await;

        // Two writes for each policy until the first moment: ours, and the operator's, that it is compliant.
        let first = Timestamp::now() + SignedDuration::from_secs(20 + i64::try_from(count / 20).unwrap());
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
    let told = told(&requests(&plane), &moments);
    by_the_minute(&told);
    let share = |part: fn(&Told) -> i64| p50_p99(told.iter().map(part).map(microseconds).collect());
    table.row(
        &format!(
            "breach seen after its moment, {count} policies within {} s",
            spread.as_secs()
        ),
        share(Told::late),
        &format!("p99 at most 1 s; the API server's own part: {}", share(Told::answering)),
    );
    // The chart's limit, in its values.yaml.
    let memory = proportional_memory(operator.id()).unwrap();
    table.row(
        &format!("operator with {count} policies, memory (PSS)"),
        format!("{memory:.0} MB"),
        "the chart's limit: 128 MB",
    );
}

/// The status write that tells of one policy's breach; all in microseconds since the epoch.
struct Told {
    moment: i64,
    came: i64,
    answered: i64,
}

impl Told {
    /// From the breach to the answer.
    fn late(&self) -> i64 {
        self.answered - self.moment
    }

    /// From the breach until the API server had the request: the operator's part.
    fn asking(&self) -> i64 {
        (self.came - self.moment).max(0)
    }

    /// What the API server and etcd took to answer.
    fn answering(&self) -> i64 {
        self.answered - self.came
    }
}

/// Of each policy the first write that was answered after its moment, in the order of the moments.
fn told(requests: &[Request], moments: &[Timestamp]) -> Vec<Told> {
    let mut writes: HashMap<&str, Vec<&Request>> = HashMap::new();
    for request in requests {
        if request.is("update", "maparefreshpolicies/status") {
            writes.entry(&request.name).or_default().push(request);
        }
    }
    let told = moments.iter().enumerate().map(|(number, moment)| {
        let moment = moment.as_microsecond();
        let of_it = &writes[name_of(number).as_str()];
        let write = of_it.iter().find(|write| write.answered > moment).unwrap();
        Told {
            moment,
            came: write.came,
            answered: write.answered,
        }
    });
    told.collect()
}

/// Says for each minute of breaches whose the delay was. One slow minute has another cause than a slow hour.
fn by_the_minute(told: &[Told]) {
    let first = told.first().map_or(0, |told| told.moment);
    for minute in told.chunk_by(|a, b| (a.moment - first) / 60_000_000 == (b.moment - first) / 60_000_000) {
        let share = |part: fn(&Told) -> i64| p50_p99(minute.iter().map(part).map(microseconds).collect());
        let begins = minute.first().map_or(0, |told| told.moment - first) / 60_000_000;
        progress::say(&format!(
            "minute {begins}, {} breaches: told {}; the request came {}; answered {}",
            minute.len(),
            share(Told::late),
            share(Told::asking),
            share(Told::answering)
        ));
    }
}

fn microseconds(number: i64) -> Duration {
    Duration::from_micros(u64::try_from(number).unwrap())
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
