//! One of several operators: with a lease, and with a process that can be stopped and go on.

use std::{future::Future, pin::pin};

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_operator::election::Standing;
use tokio::{sync::watch, task::JoinHandle};

use super::http::Session;

/// An operator that stands for election.
pub struct Replica {
    pub(super) session: Session,
    pub(super) task: JoinHandle<()>,
    pub(super) shutdown: watch::Sender<bool>,
    pub(super) stopped: watch::Sender<bool>,
    pub(super) standing: watch::Receiver<Standing>,
}

impl Replica {
    /// SIGSTOP: it does nothing, and does not know it. What it has sent already is carried out.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.stopped.send_replace(false);
    }

    /// SIGTERM: waits until it has ended.
    pub async fn terminate(self) {
        self.shutdown.send_replace(true);
        self.task.await.expect("I8: the operator panicked");
        self.session.kill();
    }

    /// SIGKILL.
    pub fn kill(self) {
        self.session.kill();
        self.task.abort();
    }

    /// Whether it believes that it leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        *self.standing.borrow() == Standing::Leader
    }

    /// How it stands, as it believes.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// What it wrote beside the lease, and when.
    #[must_use]
    pub fn writes(&self) -> Vec<(Timestamp, String)> {
        self.session.writes()
    }
}

/// `process`, which does nothing while `stopped` is true.
pub(super) async fn stoppable(process: impl Future<Output = ()>, mut stopped: watch::Receiver<bool>) {
    let mut process = pin!(process);
    loop {
        tokio::select! {
            // Being stopped comes before everything that it would do.
            biased;
            told = stopped.wait_for(|stopped| *stopped) => if told.is_err() { return },
            () = &mut process => return,
        }
        if stopped.wait_for(|stopped| !*stopped).await.is_err() {
            return;
        }
    }
}
