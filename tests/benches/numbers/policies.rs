//! Thousands of policies in the namespace `bench`.

use std::time::{Duration, Instant};

use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use mapa_refresh_crds::MapaRefreshPolicy;
use mapa_refresh_tests::policy::Example;

/// Writers at the same time: as many as the API server keeps busy.
const WRITERS: usize = 8;

/// Makes `count` policies, and waits until an operator has looked at each.
pub async fn create(client: &Client, count: usize) {
    in_parallel(client, count, |policies, number| async move {
        let example = Example {
            interval_minutes: 30,
            ..Example::every_minute("bench", &name_of(number))
        };
        let policy = serde_yaml::from_str(&example.manifest("  rescue: false\n")).unwrap();
        policies.create(&PostParams::default(), &policy).await.unwrap();
    })
    .await;
    let policies: Api<MapaRefreshPolicy> = Api::namespaced(client.clone(), "bench");
    until(&policies, "a status of every policy", |policy| {
        let observed = policy.status.as_ref().and_then(|status| status.observed_generation);
        observed == policy.metadata.generation
    })
    .await;
}

pub fn name_of(number: usize) -> String {
    format!("policy-{number}")
}

/// Does `work` for each of `count` policies, some at a time.
pub async fn in_parallel<W, F>(client: &Client, count: usize, work: W)
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
pub async fn until(policies: &Api<MapaRefreshPolicy>, what: &str, is_so: impl Fn(&MapaRefreshPolicy) -> bool) {
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
