//! Reading the view: first its refresh of this slot, then its rows.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Context, demand_past, slot::Slot};
use crate::{
    database::{Database, Reading, RowSink},
    domain::{outage::Outages, row::Row},
    fault::Fault,
    settings::Settings,
    stop::Stop,
};

/// Between two looks at the stamp: one small query on an open connection.
pub(super) const POLL: Duration = Duration::from_millis(500);

/// What was read of the view.
pub(super) struct Content {
    /// Shared with what encodes the documents, beside their sending.
    pub(super) outages: Arc<Outages>,
    pub(super) reading: Reading,
    pub(super) built_from_stale_view: bool,
}

/// Waits for the view's refresh of this run's slot, at most half of the run's budget, then reads the rows.
pub(super) async fn read(context: &Context, stop: &Stop, database: &mut impl Database) -> Result<Content, Fault> {
    let is_awaited = match context.settings.view_slot {
        Some(slot) => !wait_for(context, stop, database, slot).await?,
        None => false,
    };
    let mut collector = Collector {
        settings: &context.settings,
        outages: None,
    };
    let reading = database.read(&mut collector).await?;
    demand_past("the view", reading.age_seconds)?;
    let outages = collector
        .outages
        .unwrap_or_else(|| context.settings.no_outages(&reading));
    // The refresh may have ended between the last look and the reading.
    let is_met = context
        .settings
        .view_slot
        .is_none_or(|slot| context.is_met(slot, &reading));
    let content = Content {
        outages: Arc::new(outages),
        reading,
        built_from_stale_view: is_awaited && !is_met,
    };
    log(&content);
    Ok(content)
}

/// Whether the view's refresh of `slot` was seen before the waiting time ended.
async fn wait_for(context: &Context, stop: &Stop, database: &mut impl Database, slot: Slot) -> Result<bool, Fault> {
    let began = Instant::now();
    loop {
        if database
            .reading()
            .await?
            .is_some_and(|reading| context.is_met(slot, &reading))
        {
            return Ok(true);
        }
        if Instant::now() + POLL >= context.wait_ends {
            tracing::warn!(
                slot = %slot.to_utc(),
                waited_s = began.elapsed().as_secs(),
                "the view was not refreshed for this slot in time: building from what it holds"
            );
            return Ok(false);
        }
        sleep(POLL).await;
        stop.restart_attempt();
    }
}

fn log(content: &Content) {
    let Content {
        outages,
        reading,
        built_from_stale_view,
    } = content;
    tracing::info!(
        data_as_of = %reading.stamp.to_utc(),
        age_s = reading.age_seconds,
        active = outages.active().len(),
        inactive = outages.inactive(),
        repaired = ?outages.repaired(),
        quarantined = ?outages.quarantined(),
        stale = built_from_stale_view,
        "read the view"
    );
}

struct Collector<'a> {
    settings: &'a Settings,
    outages: Option<Outages>,
}

impl RowSink for Collector<'_> {
    fn begin(&mut self, reading: &Reading) {
        self.outages = Some(self.settings.no_outages(reading));
    }

    fn row(&mut self, row: &Row<'_>) {
        if let Some(outages) = &mut self.outages {
            outages.add(row);
        }
    }
}
