//! Watches, caches, wiring, shutdown.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use backon::ExponentialBuilder;
use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::{CronJob, Job},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    runtime::{
        Config, Controller, WatchStreamExt, controller, predicates,
        reflector::{self, ObjectRef},
        utils::ResetTimerBackoff,
        watcher::{self, Event, ExponentialBackoff, watcher},
    },
};
use mapa_refresh_crds::labels::{FIELD_MANAGER, MANAGED_BY};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{
    answer_timeout,
    apply::Writer,
    backoff::Backoff,
    clock::Clock,
    fence::Fence,
    guard::{Guard, Watchable},
    health::{Scope, caches::Caches, permissions::Permissions, work::Work},
    index::{Index, Indexed, Kind},
    metrics::labels::Watched,
    reconcile::{Context, Guarded, object_ref, on_error},
    records::PolicyKey,
    settings::Settings,
    undecodable::Undecodable,
    vitals::{Vitals, measured},
};

/// Objects per page of a list: bounds the memory of a restart.
const PAGE: u32 = 500;
/// Longest wait before a watch that failed is tried again; jitter may double it. kube's own goes up to a minute, and everything has to be
/// right 10 s after a fault clears (I7).
const LONGEST_WATCH_BACKOFF: Duration = Duration::from_secs(3);

/// Reconciles until `shutdown` becomes true; what is under way is finished first. Writes only while `fence` is open.
///
/// Each watched namespace has its own caches and queue, so that a namespace whose permissions are gone does not hold up the others.
pub async fn run(
    client: Client,
    settings: &Settings,
    clock: Clock,
    fence: Fence,
    vitals: Arc<Vitals>,
    shutdown: watch::Receiver<bool>,
) {
    let client = answer_timeout::limited(client);
    info!(
        namespaces = if settings.watch_namespaces.is_empty() {
            "all".to_owned()
        } else {
            settings.watch_namespaces.join(",")
        },
        runner_image = settings.runner.image,
        runner_image_oracle = settings.runner.image_oracle,
        "watching policies"
    );
    let scopes: Vec<Option<&str>> = match settings.watch_namespaces.as_slice() {
        [] => vec![None],
        namespaces => namespaces.iter().map(|namespace| Some(namespace.as_str())).collect(),
    };
    future::join_all(scopes.into_iter().map(|scope| {
        run_scope(
            client.clone(),
            scope,
            settings,
            clock.clone(),
            fence.clone(),
            Arc::clone(&vitals),
            shutdown.clone(),
        )
    }))
    .await;
    info!("stopped");
}

async fn run_scope(
    client: Client,
    namespace: Option<&str>,
    settings: &Settings,
    clock: Clock,
    fence: Fence,
    vitals: Arc<Vitals>,
    mut shutdown: watch::Receiver<bool>,
) {
    let (synced, is_synced) = watch::channel(false);
    let watched = Arc::new(Scope {
        work: Arc::new(vitals.metrics.work()),
        caches: Arc::new(Caches::of(namespace)),
        permissions: Arc::new(Permissions::of(namespace)),
    });
    vitals.health.watch_over(&watched);
    let work = Arc::clone(&watched.work);
    let context = Arc::new(Context {
        index: Arc::new(Index::default()),
        synced: is_synced,
        writer: Writer::new(client.clone(), fence, Arc::clone(&watched.permissions)),
        undecodable: Undecodable::default(),
        runner: settings.runner.clone(),
        clock,
        backoff: Backoff::default(),
        written: Mutex::new(HashMap::new()),
        vitals: Arc::clone(&vitals),
        work: Arc::clone(&work),
    });
    let feed = Feed {
        client: client.clone(),
        namespace: namespace.map(str::to_owned),
        context: Arc::clone(&context),
        synced: Arc::new(Synced {
            pending: Mutex::new(HashSet::from([Kind::CronJob, Kind::Job, Kind::Pod])),
            done: synced,
            caches: Arc::clone(&watched.caches),
        }),
    };

    let (reader, writer) = reflector::store();
    // Told of as long as this scope is watched.
    let told = Arc::new(reader.clone());
    vitals.metrics.tell_policies_of(&told);
    let touched = |context: &Arc<Context>| {
        let work = Arc::clone(&context.work);
        move |key: Option<PolicyKey>| key.into_iter().for_each(|key| work.touched(key, Instant::now()))
    };
    let (policy_touched, child_touched) = (touched(&context), touched(&context));
    let policies = feed
        .policies()
        .reflect(writer)
        .touched_objects()
        .predicate_filter(predicates::resource_version, Default::default())
        // The controller must not see an interruption, which has been told and waited for already: it would make all watches wait, and when
        // it comes right behind an object, nothing wakes the controller any more (`SplitCase` of kube-runtime: the stream of objects passes
        // the error over to the stream of errors, which was asked before). An operator that started so did nothing until it was killed.
        .filter(|policy| future::ready(policy.is_ok()))
        .inspect_ok(move |policy| policy_touched(PolicyKey::of_policy(policy.meta())));
    let children = stream::select_all([
        feed.records::<CronJob>().boxed(),
        feed.records::<Job>().boxed(),
        feed.records::<Pod>().boxed(),
    ])
    .inspect(move |reference: &ObjectRef<Guarded>| {
        child_touched(policy_key(reference.namespace.as_deref(), &reference.name))
    });
    let reconciling = Controller::for_stream(policies, reader)
        .with_config(Config::default().concurrency(settings.concurrency))
        .reconcile_on(children)
        .graceful_shutdown_on(async move {
            let _ = shutdown.wait_for(|stop| *stop).await;
        })
        .run(measured, on_error, context)
        .for_each(|outcome| {
            // The reconciler's own errors are logged by `on_error`; what remains is an object that went away meanwhile.
            if let Err(error) = outcome {
                debug!(%error, "nothing reconciled");
                if let controller::Error::ObjectNotFound(gone) = error {
                    let key = policy_key(gone.namespace.as_deref(), &gone.name);
                    key.into_iter().for_each(|key| work.dropped(&key));
                }
            }
            future::ready(())
        });
    tokio::select! {
        () = reconciling => {}
        never = watched.permissions.keep(&client) => match never {},
    }
}

/// The watches of one scope.
#[derive(Clone)]
struct Feed {
    client: Client,
    namespace: Option<String>,
    context: Arc<Context>,
    synced: Arc<Synced>,
}

/// Which caches have not been filled yet.
struct Synced {
    pending: Mutex<HashSet<Kind>>,
    done: watch::Sender<bool>,
    caches: Arc<Caches>,
}

impl Synced {
    fn filled(&self, kind: Kind, work: &Work) {
        self.caches.filled(resource_of(kind));
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.remove(&kind);
        if pending.is_empty() {
            work.open(Instant::now());
            self.done.send_replace(true);
        }
    }
}

impl Feed {
    fn api<K>(&self) -> Api<Guard<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// Tells logs, metrics and probes of each interruption of a watch.
    fn interruptions<T>(&self, resource: Watched) -> impl FnMut(&watcher::Result<T>) + use<T> {
        let vitals = Arc::clone(&self.context.vitals);
        let caches = Arc::clone(&self.synced.caches);
        move |event| {
            if let Err(error) = event {
                warn!(resource = resource.as_str(), %error, "the watch was interrupted and starts again; look at the operator's RBAC if it stays so");
                vitals.metrics.watch_restarts(resource);
                caches.interrupted(resource, error, Instant::now());
            }
        }
    }

    /// The policies, pruned; tells the caches which exist.
    fn policies(&self) -> impl Stream<Item = watcher::Result<Event<Guarded>>> + use<> {
        let context = Arc::clone(&self.context);
        let caches = Arc::clone(&self.synced.caches);
        let mut listed = HashSet::new();
        watcher(self.api(), watcher::Config::default().page_size(PAGE))
            .inspect(self.interruptions(Watched::Policies))
            .backoff(watch_backoff())
            .inspect(move |event| match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(policy) | Event::Apply(policy)) => {
                    if let Some(key) = PolicyKey::of_policy(policy.meta()) {
                        context.index.policy_lives(key.clone());
                        listed.insert(key);
                    }
                    context.log_undecodable_policy(policy);
                }
                Ok(Event::InitDone) => {
                    context.index.policies_are(&listed);
                    caches.filled(Watched::Policies);
                }
                Ok(Event::Delete(policy)) => {
                    if let Some(key) = PolicyKey::of_policy(policy.meta()) {
                        listed.remove(&key);
                        context.forget(&key);
                    }
                }
                Err(_) => {}
            })
    }

    /// Keeps records of the objects that carry our label, and names the policies to look at again.
    fn records<K>(&self) -> impl Stream<Item = ObjectRef<Guarded>> + Send + use<K>
    where
        K: Indexed
            + Watchable
            + Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Send
            + 'static,
    {
        let context = Arc::clone(&self.context);
        let synced = Arc::clone(&self.synced);
        let ours = watcher::Config::default()
            .labels(&format!("{MANAGED_BY}={FIELD_MANAGER}"))
            .page_size(PAGE);
        watcher(self.api::<K>(), ours)
            .inspect(self.interruptions(resource_of(K::KIND)))
            .backoff(watch_backoff())
            .map(move |event| {
                let Ok(event) = event else { return Vec::new() };
                let filled = matches!(event, Event::InitDone);
                let Some(event) = decoded(event, &context) else {
                    return Vec::new();
                };
                let touched = context.index.handle(&event, context.clock.now());
                if filled {
                    synced.filled(K::KIND, &context.work);
                }
                touched
            })
            .flat_map(|touched| stream::iter(touched).map(|key| object_ref(&key)))
    }
}

/// Takes the object out of its guard; what cannot be decoded is reported and skipped.
fn decoded<K: Watchable>(event: Event<Guard<K>>, context: &Arc<Context>) -> Option<Event<K>> {
    let open = |guard: Guard<K>| {
        context.report_undecodable(&guard);
        guard.object.ok()
    };
    Some(match event {
        Event::Apply(guard) => Event::Apply(open(guard)?),
        // Gone is gone, whatever it looked like: a record of it would live for ever, and a CronJob of ours never come back.
        Event::Delete(guard) => Event::Delete(guard.object.or_else(|invalid| bare(&invalid.metadata)).ok()?),
        Event::InitApply(guard) => Event::InitApply(open(guard)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// An object of which only the metadata is known.
fn bare<K: Resource<DynamicType = ()> + DeserializeOwned>(metadata: &ObjectMeta) -> Result<K, serde_json::Error> {
    serde_json::from_value(serde_json::json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
    }))
}

fn watch_backoff() -> ResetTimerBackoff<ExponentialBackoff> {
    let growing = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(400))
        .with_max_delay(LONGEST_WATCH_BACKOFF)
        .with_jitter()
        .without_max_times();
    // A watch that fails to start does so without an event between: the wait grows until it holds for a while.
    ResetTimerBackoff::new(growing.into(), Duration::from_secs(30))
}

/// The word for `kind` in metrics and probes.
fn resource_of(kind: Kind) -> Watched {
    match kind {
        Kind::CronJob => Watched::CronJobs,
        Kind::Job => Watched::Jobs,
        Kind::Pod => Watched::Pods,
    }
}

fn policy_key(namespace: Option<&str>, name: &str) -> Option<PolicyKey> {
    Some(PolicyKey {
        namespace: namespace?.into(),
        name: name.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::mpsc};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// A context whose client answers every request with an empty object, and says of each what it wrote.
    fn context() -> (Arc<Context>, mpsc::Receiver<Value>) {
        let (sent, written) = mpsc::channel();
        let answer = tower::service_fn(move |request: Request<Body>| {
            let sent = sent.clone();
            async move {
                let body = request.into_body().collect_bytes().await.unwrap_or_default();
                let _ = sent.send(serde_json::from_slice(&body).unwrap_or_default());
                Ok::<_, Infallible>(Response::new(Body::from(body.to_vec())))
            }
        });
        let client = Client::new(answer, "default");
        let vitals = Arc::new(Vitals::new(Clock::system()));
        let context = Context {
            index: Arc::new(Index::default()),
            synced: watch::channel(true).1,
            writer: Writer::new(client, Fence::open(), Arc::new(Permissions::of(None))),
            undecodable: Undecodable::default(),
            runner: crate::settings::RunnerSettings::default(),
            clock: Clock::system(),
            backoff: Backoff::default(),
            written: Mutex::new(HashMap::new()),
            work: Arc::new(vitals.metrics.work()),
            vitals,
        };
        (Arc::new(context), written)
    }

    fn delivered<K: Watchable>(kind: &str, uid: &str, version: &str, spec: Value) -> Guard<K> {
        serde_json::from_value(json!({
            "apiVersion": if kind == "Pod" { "v1" } else { "batch/v1" },
            "kind": kind,
            "metadata": { "name": "x", "namespace": "radar", "uid": uid, "resourceVersion": version },
            "spec": spec,
        }))
        .unwrap()
    }

    async fn is_skipped_and_named<K>(kind: &str)
    where
        K: Watchable + std::fmt::Debug,
    {
        let (context, written) = context();
        let garbled = || delivered::<K>(kind, "a", "1", json!("no object"));
        for event in [Event::InitApply(garbled()), Event::Apply(garbled())] {
            assert!(decoded(event, &context).is_none(), "skipped");
        }
        assert_eq!(
            context.undecodable.count(),
            1,
            "one state of one object is counted once"
        );
        let other = decoded(
            Event::Apply(delivered::<K>(
                kind,
                "b",
                "1",
                json!({ "containers": [] , "template": {}}),
            )),
            &context,
        );
        assert!(matches!(other, Some(Event::Apply(_))), "others go on: {other:?}");
        let event = tokio::time::timeout(std::time::Duration::from_secs(10), async {
            loop {
                match written.try_recv() {
                    Ok(event) => return event,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await
        .unwrap();
        assert_eq!(
            (&event["reason"], &event["regarding"]["name"]),
            (&json!("Undecodable"), &json!("x"))
        );
        assert_eq!(event["regarding"]["kind"], kind);

        let Some(Event::Delete(gone)) = decoded(Event::Delete(garbled()), &context) else {
            panic!("the end of an object needs no more than its name");
        };
        assert_eq!(gone.meta().uid.as_deref(), Some("a"));
    }

    #[tokio::test]
    async fn i8_an_undecodable_job_is_skipped_counted_and_named_and_others_go_on() {
        is_skipped_and_named::<Job>("Job").await;
    }

    #[tokio::test]
    async fn i8_an_undecodable_pod_is_skipped_counted_and_named_and_others_go_on() {
        is_skipped_and_named::<Pod>("Pod").await;
    }

    #[tokio::test]
    async fn i8_an_undecodable_cron_job_that_goes_is_forgotten() {
        is_skipped_and_named::<CronJob>("CronJob").await;
    }
}
