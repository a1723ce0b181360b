//! One of several operators, of which one reconciles at a time; or the only one.

use std::{pin::pin, sync::Arc, time::Duration};

use kube::Client;
use tokio::sync::watch;
use tracing::warn;

use crate::{
    clock::{BootClock, Clock},
    controller,
    election::{Election, Standing},
    fence::Fence,
    settings::Settings,
    vitals::Vitals,
};

/// Longest that what is under way may take to end when this replica leads no more: as long as one write may (I12).
const END_OF_TERM: Duration = Duration::from_secs(5);
/// The same when the process ends, so that the rest of its 3 s is left for handing the lease over.
const END_OF_PROCESS: Duration = Duration::from_secs(2);
/// Longest that handing over may take.
const HAND_OVER: Duration = Duration::from_millis(800);

/// Reconciles while this replica leads, until `shutdown` becomes true; then hands the lease over.
///
/// A term begins with empty caches, as a start does: a follower costs the API server one look at the lease a second and nothing else,
/// and there is one way to begin, which every restart proves.
pub async fn run(
    client: Client,
    settings: &Settings,
    clock: Clock,
    boot: BootClock,
    vitals: Arc<Vitals>,
    shutdown: watch::Receiver<bool>,
) {
    let Some(election) = &settings.election else {
        vitals.standing.send_replace(Standing::Leader);
        vitals.metrics.set_leader(true);
        return controller::run(client, settings, clock, Fence::open(), vitals, shutdown).await;
    };
    let standing = vitals.standing.clone();
    let mut election = Election::new(client.clone(), election, clock.clone(), boot, standing);
    let fence = election.fence();
    tokio::select! {
        () = election.take_part() => {}
        () = terms(client, settings, clock, fence, vitals, shutdown) => {}
    }
    if tokio::time::timeout(HAND_OVER, election.hand_over()).await.is_err() {
        warn!("the lease could not be handed over in time: it runs out by itself");
    }
}

/// Reconciles in every term of this replica.
async fn terms(
    client: Client,
    settings: &Settings,
    clock: Clock,
    fence: Fence,
    vitals: Arc<Vitals>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut standing = vitals.standing.subscribe();
    loop {
        vitals.metrics.set_leader(false);
        tokio::select! {
            () = ended(&mut shutdown) => return,
            elected = standing.wait_for(|standing| *standing == Standing::Leader) => if elected.is_err() { return },
        }
        vitals.metrics.set_leader(true);
        let (stop, stopped) = watch::channel(false);
        let mut term = pin!(controller::run(
            client.clone(),
            settings,
            clock.clone(),
            fence.clone(),
            Arc::clone(&vitals),
            stopped
        ));
        let is_over = tokio::select! {
            () = &mut term => true,
            () = ended(&mut shutdown) => true,
            _ = standing.wait_for(|standing| *standing != Standing::Leader) => false,
        };
        stop.send_replace(true);
        let limit = if is_over { END_OF_PROCESS } else { END_OF_TERM };
        if tokio::time::timeout(limit, term).await.is_err() {
            warn!("what was under way did not finish in time and will be repeated");
        }
        if is_over {
            return;
        }
    }
}

/// Until `shutdown` is true, or nobody is left to say so.
async fn ended(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
