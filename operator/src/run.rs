//! `run`: connects to the cluster, reconciles, stops on SIGTERM.

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

use crate::{
    answer_timeout,
    clock::{BootClock, Clock},
    definition::{self, Definition},
    kubeconfig::{self, Asked, ConnectionError, Environment, Timeouts},
    listen::Listen,
    platform, replica, server,
    settings::Settings,
    vitals::Vitals,
};

/// SIGTERM to exit, at most.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// Longest silence within an answer. kube ends a watch by itself after 295 s.
const READ_TIMEOUT: Duration = Duration::from_secs(305);

/// What it calls itself in every request.
pub const AGENT: &str = concat!("mapa-refresh-operator/", env!("CARGO_PKG_VERSION"));

/// Why the operator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No runtime.
    #[error("could not start the runtime: {0}")]
    Runtime(#[source] std::io::Error),
    /// No cluster.
    #[error("could not find the cluster (KUBECONFIG, ~/.kube/config, or the pod's service account): {0}")]
    Connection(#[from] ConnectionError),
    /// No place for metrics and probes.
    #[error("could not listen on {place} (--listen) for metrics and probes: {source}")]
    Listen {
        /// Where.
        place: Listen,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No signal handler.
    #[error("could not listen for SIGTERM: {0}")]
    Signal(#[source] std::io::Error),
}

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting. Once it runs, it waits for whatever is missing.
pub fn until_terminated(settings: &Settings) -> Result<(), StartError> {
    // One thread: the work is waiting, and every further thread costs memory.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signal)?;
        let connection = kubeconfig::find(&Asked::default(), &Environment::of_process())?;
        let version = env!("CARGO_PKG_VERSION");
        match &connection.proxy {
            Some(proxy) => info!(server = %connection.server, %proxy, version, "starting"),
            None => info!(server = %connection.server, version, "starting"),
        }
        let vitals = Arc::new(Vitals::new(Clock::system()));
        let listener = server::bind(settings.listen)
            .await
            .map_err(|source| StartError::Listen {
                place: settings.listen,
                source,
            })?;
        tokio::spawn(server::serve(listener, Arc::clone(&vitals)));
        // Of an answer that has begun, the rest: a list that stops in the middle. Longer than a watch may be silent. Nothing is repeated by the
        // client: our own repeats are bounded (I7), and a repeat knows what it repeats.
        let timeouts = Timeouts {
            read: Some(READ_TIMEOUT),
            ..Timeouts::default()
        };
        // The audit log can then tell its requests from an administrator's with the same account.
        let client = connection
            .client(AGENT, timeouts)?
            .with_layer(&vitals.metrics.count_requests())
            .build();
        let mut definition = watch_definition(&client, &vitals);

        let (stop, stopped) = watch::channel(false);
        let replica = async {
            // Nobody is left to look only when the process ends.
            let _ = definition
                .wait_for(|seen| matches!(seen, Some(definition) if definition.unmet().is_empty()))
                .await;
            let mut settings = settings.clone();
            settings.runner.user_ids = platform::user_ids(&client, settings.runner.user_ids).await;
            replica::run(client, &settings, Clock::system(), BootClock::system(), vitals, stopped).await;
        };
        tokio::pin!(replica);
        tokio::select! {
            () = &mut replica => return Ok(()),
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("SIGINT: stopping"),
        }
        stop.send_replace(true);
        if tokio::time::timeout(STOP_WITHIN, replica).await.is_err() {
            warn!("what was under way did not finish in time and will be repeated by the next start");
        }
        Ok(())
    })
}

/// What is seen of the policies' definition, from now on; nothing until the first look. It is told to `vitals` as well.
fn watch_definition(client: &Client, vitals: &Vitals) -> watch::Receiver<Option<Definition>> {
    let (seen, definition) = watch::channel(None);
    let told = definition.clone();
    vitals.health.require("definition", move || {
        told.borrow().as_ref().map(Definition::unmet).unwrap_or_default()
    });
    tokio::spawn(definition::look(answer_timeout::limited(client.clone()), seen));
    definition
}
