//! Publishing from the view's refresh of a run's slot, without holding back anything newer meanwhile.
//!
//! A run waits for that refresh at most half of its budget. What the view holds before it is published at once where it is newer than
//! what is public: a view that outlasted the wait of its own slot's runs is public as soon as the next ones start. Why `Feasible` rests
//! on that: docs/concepts/feasible.md.

use mapa_refresh_crds::report::code;
use tokio::time::{Instant, sleep};

use super::{
    Context, Done, connect_cache, owner, published,
    published::Encodings,
    slot::Slot,
    view::{self, POLL},
};
use crate::{
    cache::Document,
    database::{Database, Reading},
    domain::time::Stamp,
    fault::Fault,
    stop::Stop,
};

/// Publishes `which` from the view's refresh of the run's slot, or from what the view holds when the wait ends.
pub(super) async fn publish(
    context: &Context,
    stop: &Stop,
    database: &mut impl Database,
    which: Document,
    encodings: Encodings,
) -> Result<Done, Fault> {
    let mut wait = Wait {
        context,
        stop,
        which,
        encodings,
        public: None,
        refused: None,
    };
    let awaited = match context.settings.view_slot {
        Some(slot) => wait.until_met(database, slot).await?,
        None => Awaited::Met,
    };
    let newest = match awaited {
        Awaited::Met => None,
        Awaited::InVain(newest) => newest,
    };
    let has_all = |early: &Done| newest.is_some_and(|newest| newest <= early.stamp);
    if let Some(early) = context.notes.borrow_mut().early.take_if(|early| has_all(early)) {
        return Ok(early);
    }
    stop.restart_attempt();
    stop.begins(format!("reading the view {}", context.settings.database.view));
    let content = view::read(context, database).await?;
    published::publish(context, stop, which, &content, encodings).await
}

/// What became of the wait.
enum Awaited {
    /// The view was refreshed for the slot.
    Met,
    /// It was not in time; the stamp that it has, if any.
    InVain(Option<Stamp>),
}

struct Wait<'a> {
    context: &'a Context,
    stop: &'a Stop,
    which: Document,
    encodings: Encodings,
    /// The stamp that is public, once it was looked up; of a document that is not there, none is.
    public: Option<Option<Stamp>>,
    /// The stamp of a view whose content was refused.
    refused: Option<Stamp>,
}

impl Wait<'_> {
    /// Waits for the view's refresh of `slot`, and publishes what is newer than what is public meanwhile.
    async fn until_met(&mut self, database: &mut impl Database, slot: Slot) -> Result<Awaited, Fault> {
        let began = Instant::now();
        loop {
            let reading = database.reading().await?;
            if reading.is_some_and(|reading| self.context.is_met(slot, &reading)) {
                return Ok(Awaited::Met);
            }
            if Instant::now() + POLL >= self.context.wait_ends {
                tracing::warn!(
                    slot = %slot.to_utc(),
                    waited_s = began.elapsed().as_secs(),
                    "the view was not refreshed for this slot in time: building from what it holds"
                );
                return Ok(Awaited::InVain(reading.map(|reading| reading.stamp)));
            }
            match reading {
                Some(reading) if self.holds_back(&reading).await? => self.publish_early(database, &reading).await?,
                _ => sleep(POLL).await,
            }
            self.stop.restart_attempt();
        }
    }

    /// Whether the view is newer than what is public, and was not refused.
    async fn holds_back(&mut self, reading: &Reading) -> Result<bool, Fault> {
        if self.refused == Some(reading.stamp) {
            return Ok(false);
        }
        let public = match self.public {
            Some(public) => public,
            None => {
                let found = connect_cache(self.context).await?.find(self.which).await?;
                let is_ours = found.exists && found.owner.as_deref() == Some(owner(self.context)?);
                *self.public.insert(found.stamp.filter(|_| is_ours))
            }
        };
        Ok(public.is_none_or(|public| reading.stamp > public))
    }

    /// Publishes what the view holds. Content that is refused may be mended by the refresh that the run waits for.
    async fn publish_early(&mut self, database: &mut impl Database, reading: &Reading) -> Result<(), Fault> {
        tracing::info!(
            data_as_of = %reading.stamp.to_utc(),
            "the view is newer than what is public, though not of this slot: publishing it, then waiting on"
        );
        self.stop.restart_attempt();
        let published = async {
            let content = view::read(self.context, database).await?;
            published::publish(self.context, self.stop, self.which, &content, self.encodings).await
        };
        match published.await {
            Ok(done) => {
                self.stop.begins(format!(
                    "waiting for the refresh of the view {}",
                    self.context.settings.database.view
                ));
                self.public = Some(Some(done.stamp));
                self.context.notes.borrow_mut().early = Some(done);
                Ok(())
            }
            Err(fault) if is_of_the_content(&fault) => {
                tracing::warn!(code = %fault.code, "not published before the refresh of this slot: {fault}");
                self.refused = Some(reading.stamp);
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }
}

/// Whether a refresh of the view may mend it.
fn is_of_the_content(fault: &Fault) -> bool {
    [
        code::VIEW_TOO_OLD,
        code::IMPLAUSIBLE_RESULT,
        code::ROWS_QUARANTINED,
        code::CLOCK_SET_BACK,
    ]
    .contains(&fault.code.as_ref())
}
