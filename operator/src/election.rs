//! One replica's part in the election: asks for the lease, renews it, and tells how it stands.
//!
//! Written for this operator because a ready-made manager tells only that the lease was lost: before every write it has to be known
//! until when it is held, by a clock that goes on while the process is stopped.

use std::{future::Future, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams};
use mapa_refresh_crds::labels::FIELD_MANAGER;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    clock::{BootClock, Clock},
    fence::Fence,
    lease::{Candidacy, LOOK_EVERY, Step},
    settings::Election as ElectionSettings,
};

/// Longest that one request for the lease may take: two tries fit between a renewal that is due and the end of the lease.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// How this replica stands in the election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It leads, or is the only one: it reconciles.
    Leader,
    /// It sees the lease, which another holds.
    Follower {
        /// Who holds it.
        holder: String,
    },
    /// It neither holds nor sees the lease.
    Unknown {
        /// Why, in one line.
        why: String,
    },
}

/// One replica in the election.
pub struct Election {
    api: Api<Lease>,
    candidacy: Candidacy,
    clock: Clock,
    boot: BootClock,
    fence: Fence,
    standing: watch::Sender<Standing>,
    complaint: String,
}

/// What came of a request.
enum Answer {
    Lease(Box<Lease>),
    Absent,
    Outrun,
    Failed(String),
}

impl Election {
    /// Takes part by `client` as `settings` say. How it stands is told to `standing`; the fence is open while the lease is held.
    #[must_use]
    pub fn new(
        client: Client,
        settings: &ElectionSettings,
        clock: Clock,
        boot: BootClock,
        standing: watch::Sender<Standing>,
    ) -> Self {
        let namespace = settings.lease_namespace.as_deref();
        let namespace = namespace.unwrap_or(client.default_namespace()).to_owned();
        let identity = format!("{}_{:08x}", settings.replica_name, fastrand::u32(..));
        info!(
            lease = settings.lease_name,
            namespace, identity, "standing for election"
        );
        Self {
            api: Api::namespaced(client, &namespace),
            candidacy: Candidacy::new(&settings.lease_name, &identity),
            clock,
            fence: Fence::closed(boot.clone()),
            boot,
            standing,
            complaint: String::new(),
        }
    }

    /// What is to be asked before every write.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Takes part for ever.
    pub async fn take_part(&mut self) {
        loop {
            self.notice_the_end();
            let now = self.boot.now();
            match self.candidacy.next(now, self.clock.now()) {
                // The timer does not count while the machine sleeps: it is never trusted for long.
                Step::Wait(until) => tokio::time::sleep(until.saturating_sub(now).min(LOOK_EVERY)).await,
                step => self.carry_out(step).await,
            }
        }
    }

    /// Gives the lease up, if it is ours: nothing is written from now on, and the next may begin.
    pub async fn hand_over(&mut self) {
        self.fence.hold(None);
        // A renewal of our own whose answer was not waited for, or was lost, may have made another version.
        for _ in 0..2 {
            let Some(lease) = self.candidacy.released(self.clock.now()) else {
                return;
            };
            match self.replace(&lease).await {
                Answer::Lease(_) => {
                    info!("handed the lease over");
                    return;
                }
                Answer::Outrun => self.look().await,
                Answer::Absent => return,
                Answer::Failed(why) => {
                    warn!(why, "could not hand the lease over: it runs out by itself");
                    return;
                }
            }
        }
    }

    async fn look(&mut self) {
        if let Answer::Lease(lease) = self.read().await {
            self.candidacy.saw(*lease, self.boot.now());
        }
    }

    async fn carry_out(&mut self, step: Step) {
        let sent = self.boot.now();
        let (answer, is_ours) = match &step {
            Step::Wait(_) => return,
            Step::Read => (self.read().await, false),
            Step::Create(lease) => (self.create(lease).await, true),
            Step::Replace(lease) => (self.replace(lease).await, true),
        };
        let now = self.boot.now();
        match answer {
            Answer::Lease(lease) if is_ours => self.candidacy.took(*lease, sent, now),
            Answer::Lease(lease) => self.candidacy.saw(*lease, now),
            Answer::Absent => self.candidacy.is_absent(now),
            Answer::Outrun => self.candidacy.was_outrun(now),
            Answer::Failed(why) => {
                self.candidacy.failed(now);
                self.failed(why);
                return;
            }
        }
        self.complaint.clear();
        self.tell();
    }

    /// Tells how it stands after the lease was seen or written.
    fn tell(&mut self) {
        let held = self.candidacy.held(self.boot.now());
        self.fence.hold(held);
        let standing = match (held, self.candidacy.other_holder()) {
            (Some(_), _) => Standing::Leader,
            (None, Some(holder)) => Standing::Follower {
                holder: holder.to_owned(),
            },
            // Nobody's, for the moment that it takes to take it.
            (None, None) => return,
        };
        self.stand(standing);
    }

    fn failed(&mut self, why: String) {
        if self.complaint != why {
            warn!(why, "cannot reach the lease, will try again");
            self.complaint.clone_from(&why);
        }
        if self.candidacy.held(self.boot.now()).is_none() {
            self.stand(Standing::Unknown { why });
        }
    }

    /// The lease may have run out while nothing was heard, or while this process was stopped.
    fn notice_the_end(&mut self) {
        let leads = *self.standing.borrow() == Standing::Leader;
        if leads && self.candidacy.held(self.boot.now()).is_none() {
            self.fence.hold(None);
            self.stand(Standing::Unknown {
                why: "the lease ran out before it was renewed".to_owned(),
            });
        }
    }

    fn stand(&self, standing: Standing) {
        let changed = self.standing.send_if_modified(|before| {
            let changed = *before != standing;
            before.clone_from(&standing);
            changed
        });
        if changed {
            match standing {
                Standing::Leader => info!("leads"),
                Standing::Follower { holder } => info!(holder, "follows"),
                Standing::Unknown { why } => warn!(why, "neither leads nor follows"),
            }
        }
    }

    async fn read(&self) -> Answer {
        let request = self.api.get(self.candidacy.name());
        match in_time(request).await {
            Some(Err(kube::Error::Api(status))) if status.is_not_found() => Answer::Absent,
            answer => Answer::of(answer, "read the lease"),
        }
    }

    async fn create(&self, lease: &Lease) -> Answer {
        let parameters = parameters();
        match in_time(self.api.create(&parameters, lease)).await {
            Some(Err(kube::Error::Api(status))) if status.is_already_exists() => Answer::Outrun,
            answer => Answer::of(answer, "create the lease"),
        }
    }

    async fn replace(&self, lease: &Lease) -> Answer {
        let parameters = parameters();
        let request = self.api.replace(self.candidacy.name(), &parameters, lease);
        match in_time(request).await {
            Some(Err(kube::Error::Api(status))) if status.is_conflict() => Answer::Outrun,
            Some(Err(kube::Error::Api(status))) if status.is_not_found() => Answer::Absent,
            answer => Answer::of(answer, "write the lease"),
        }
    }
}

impl Answer {
    fn of(answer: Option<kube::Result<Lease>>, action: &str) -> Self {
        match answer {
            Some(Ok(lease)) => Self::Lease(Box::new(lease)),
            Some(Err(error)) => Self::Failed(format!("could not {action}: {error}")),
            None => Self::Failed(format!(
                "could not {action}: no answer within {} s",
                REQUEST_TIMEOUT.as_secs()
            )),
        }
    }
}

fn parameters() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

async fn in_time(request: impl Future<Output = kube::Result<Lease>>) -> Option<kube::Result<Lease>> {
    tokio::time::timeout(REQUEST_TIMEOUT, request).await.ok()
}
