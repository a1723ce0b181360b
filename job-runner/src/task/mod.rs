//! The tasks: what one attempt of each does.

mod health_check;
mod publish_map;
mod publish_statistics;
mod published;
mod refresh_view;
pub mod slot;
mod slot_wait;
mod view;

use std::{cell::RefCell, collections::BTreeMap, future::ready};

use chrono::{DateTime, Utc};
use mapa_refresh_crds::{
    policy::{DatabaseKind, TaskName},
    report::{Publication, Published, SuccessKind, code},
    rows::RowCounts,
};
use secrecy::SecretString;
use tokio::time::Instant;

use crate::{
    cache,
    database::{Database, DatabaseError, Interrupt, Reading, oracle, postgres},
    domain::time::Stamp,
    fault::Fault,
    secret::SecretError,
    settings::Settings,
    stop::Stop,
};

/// What a run works with.
#[derive(Debug)]
pub struct Context {
    /// What it was told.
    pub settings: Settings,
    /// The wall clock: slots are moments on it.
    pub now: fn() -> DateTime<Utc>,
    /// By how much that clock is known to be behind the one that fires the slots.
    pub clock_lag: chrono::Duration,
    /// When the run stops waiting for the view.
    pub wait_ends: Instant,
    /// What the report carries besides the result, whatever that is.
    pub notes: RefCell<Notes>,
    /// Passwords met so far: no message may hold one.
    pub passwords: RefCell<Vec<SecretString>>,
}

impl Context {
    /// Whether the view was refreshed at or after `slot`. A stamp from the future says nothing but that the database's clock was
    /// set back.
    fn is_met(&self, slot: slot::Slot, reading: &Reading) -> bool {
        reading.age_seconds >= 0.0 && slot.is_met_by(reading.age_seconds, (self.now)() + self.clock_lag)
    }
}

/// What the report carries besides the result.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// The rows for which the run refused to publish.
    pub refused_rows: Option<RowCounts>,
    /// What the health-check found published.
    pub published: Option<Published>,
    /// Recent publications of the task's document, newest first.
    pub publications: Vec<Publication>,
    /// What this attempt has published before the view's refresh of its slot.
    pub early: Option<Done>,
}

/// Evidence of a successful attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// What happened.
    pub kind: SuccessKind,
    /// When the data was true in the database.
    pub stamp: Stamp,
    /// How old it was by the database's clock, in seconds.
    pub age_seconds: f64,
    /// When that was read.
    pub read_at: Instant,
    /// Rows.
    pub records: u64,
    /// Rows repaired, by what.
    pub repaired: BTreeMap<String, u64>,
    /// Rows left out, by why.
    pub quarantined: BTreeMap<String, u64>,
    /// Whether the view's refresh of this slot was not awaited to its end.
    pub built_from_stale_view: bool,
}

impl Done {
    /// Evidence about the view itself.
    #[must_use]
    pub fn with_view(kind: SuccessKind, reading: Reading, records: u64) -> Self {
        Self {
            kind,
            stamp: reading.stamp,
            age_seconds: reading.age_seconds,
            read_at: reading.at,
            records,
            repaired: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            built_from_stale_view: false,
        }
    }
}

/// One attempt of the run's task.
///
/// # Errors
/// Why it failed; nothing that was published before is lost then.
pub async fn attempt(context: &Context, stop: &Stop) -> Result<Done, Fault> {
    let result = match context.settings.task {
        TaskName::HealthCheck => health_check::attempt(context, stop).await,
        TaskName::RefreshMvPortal | TaskName::RefreshMapaCache | TaskName::CalcularEstatisticas => {
            in_session(context, stop).await
        }
    };
    result.map_err(|fault| fault.without(&context.passwords.borrow()))
}

/// Opens a session and does the task's work in it. Each attempt has its own: the last one may have failed for the state of its
/// session.
async fn in_session(context: &Context, stop: &Stop) -> Result<Done, Fault> {
    let settings = &context.settings.database;
    match settings.kind {
        DatabaseKind::Postgresql => {
            let target = postgres::Target::from_secret(&settings.secret_dir, settings.ca_bundle.as_deref())
                .map_err(incomplete)?;
            let connecting = target.connect(&settings.view, &settings.columns, stop.remaining());
            let database = connected(context, stop, &target.place(), target.passwords(), connecting).await?;
            work_and_close(context, stop, database).await
        }
        DatabaseKind::Oracle => {
            let target = oracle::Target::from_secret(&settings.secret_dir, settings.wallet_dir.as_deref())
                .map_err(incomplete)?;
            in_oracle(context, stop, &target).await
        }
    }
}

#[cfg(feature = "oracle")]
async fn in_oracle(context: &Context, stop: &Stop, target: &oracle::Target) -> Result<Done, Fault> {
    let settings = &context.settings.database;
    let connecting = target.connect(&settings.view, &settings.columns, stop.remaining());
    let database = connected(context, stop, target.place(), target.passwords(), connecting).await?;
    work_and_close(context, stop, database).await
}

/// This runner has no Oracle driver; a wrong Secret was said first, for that is what the admin can mend.
#[cfg(not(feature = "oracle"))]
async fn in_oracle(_: &Context, _: &Stop, _: &oracle::Target) -> Result<Done, Fault> {
    Err(Fault::new(
        mapa_refresh_crds::report::FaultClass::MissingClient,
        code::INVALID_CONFIGURATION,
        "this job-runner was built without Oracle: --runner-image-oracle of the operator should name the image that is built from \
         job-runner/Dockerfile.oracle",
    ))
}

/// The session that `connecting` opens at `place`, within the attempt's limits.
async fn connected<D>(
    context: &Context,
    stop: &Stop,
    place: &str,
    passwords: &[SecretString],
    connecting: impl Future<Output = Result<D, DatabaseError>>,
) -> Result<D, Fault> {
    context.passwords.borrow_mut().extend_from_slice(passwords);
    stop.begins(format!("connecting to the database at {place}"));
    stop.bound(async { Ok(connecting.await?) }, ready(())).await
}

async fn work_and_close(context: &Context, stop: &Stop, mut database: impl Database) -> Result<Done, Fault> {
    let view = &context.settings.database.view;
    stop.begins(match context.settings.task {
        TaskName::RefreshMvPortal => format!("refreshing the view {view}"),
        _ => format!("reading the view {view}"),
    });
    let interrupt = database.interrupt();
    let done = stop
        .bound(work(context, stop, &mut database), interrupt.interrupt())
        .await?;
    database.close().await;
    Ok(done)
}

async fn work(context: &Context, stop: &Stop, database: &mut impl Database) -> Result<Done, Fault> {
    match context.settings.task {
        TaskName::RefreshMvPortal => refresh_view::refresh(context, database).await,
        TaskName::RefreshMapaCache => publish_map::publish(context, stop, database).await,
        TaskName::CalcularEstatisticas => publish_statistics::publish(context, stop, database).await,
        TaskName::HealthCheck => health_check::view(context, database).await,
    }
}

fn incomplete(error: SecretError) -> Fault {
    Fault::permanent(code::SECRET_INCOMPLETE, error)
}

/// Connects to the cache.
async fn connect_cache(context: &Context) -> Result<cache::Cache, Fault> {
    let settings = &context.settings.cache;
    let target = cache::Target::from_secret(&settings.secret_dir, settings.ca_bundle.as_deref()).map_err(incomplete)?;
    context.passwords.borrow_mut().extend_from_slice(target.passwords());
    let limit = context.settings.retry.attempt_timeout;
    Ok(target.connect(&settings.key_prefix, limit).await?)
}

/// That `what` does not lie in the future by the database's clock, `age_seconds` being its age: such data would look fresh for
/// as long as that clock was set back.
fn demand_past(what: &str, age_seconds: f64) -> Result<(), Fault> {
    /// Microseconds do not matter, and a database's clock may be slewed.
    const TOLERANCE_SECONDS: f64 = 60.0;
    if age_seconds >= -TOLERANCE_SECONDS {
        return Ok(());
    }
    let message = format!(
        "{what} is dated {:.0} s into the future by the database's clock, which must have been set back; the next refreshes mend \
         the view, and what is published once that moment has passed (or after HDEL of generation in its key that ends in :meta)",
        -age_seconds
    );
    Err(Fault::transient(code::CLOCK_SET_BACK, message).without_retry())
}

/// The owner of what is published.
fn owner(context: &Context) -> Result<&str, Fault> {
    // Judged with the settings; a task that publishes always has one.
    context
        .settings
        .owner
        .as_deref()
        .ok_or_else(|| Fault::permanent(code::INVALID_CONFIGURATION, "the policy has no name"))
}
