//! Reading the view's rows.

use std::{sync::Arc, time::Duration};

use super::{Context, demand_past};
use crate::{
    database::{Database, Reading, RowSink},
    domain::{
        outage::{Intake, Outages},
        row::Row,
    },
    fault::Fault,
    settings::Settings,
};

/// Between two looks at the stamp: one small query on an open connection.
pub(super) const POLL: Duration = Duration::from_millis(500);

/// What was read of the view.
pub(super) struct Content {
    /// Shared with what encodes the documents, beside their sending.
    pub(super) outages: Arc<Outages>,
    pub(super) reading: Reading,
    /// Whether the view was refreshed for the slot of this run, if it has one.
    pub(super) is_of_slot: bool,
}

/// Reads the rows.
pub(super) async fn read(context: &Context, database: &mut impl Database) -> Result<Content, Fault> {
    let mut collector = Collector {
        settings: &context.settings,
        intake: None,
    };
    let reading = database.read(&mut collector).await?;
    demand_past("the view", reading.age_seconds)?;
    let outages = collector
        .intake
        .unwrap_or_else(|| context.settings.no_outages(&reading))
        .finish();
    let content = Content {
        outages: Arc::new(outages),
        is_of_slot: context
            .settings
            .view_slot
            .is_none_or(|slot| context.is_met(slot, &reading)),
        reading,
    };
    log(&content);
    Ok(content)
}

fn log(content: &Content) {
    let Content {
        outages,
        reading,
        is_of_slot,
    } = content;
    tracing::info!(
        data_as_of = %reading.stamp.to_utc(),
        age_s = reading.age_seconds,
        active = outages.active().len(),
        inactive = outages.inactive(),
        repaired = ?outages.repaired(),
        quarantined = ?outages.quarantined(),
        of_slot = is_of_slot,
        "read the view"
    );
    let quarantined = outages.quarantined();
    if !quarantined.is_empty() {
        tracing::warn!(
            rows = quarantined.values().sum::<u64>(),
            reasons = ?quarantined,
            "rows of the view are left out: correct them where the view is built"
        );
    }
}

struct Collector<'a> {
    settings: &'a Settings,
    intake: Option<Intake>,
}

impl RowSink for Collector<'_> {
    fn begin(&mut self, reading: &Reading) {
        self.intake = Some(self.settings.no_outages(reading));
    }

    fn row(&mut self, row: &Row<'_>) {
        if let Some(intake) = &mut self.intake {
            intake.add(row);
        }
    }
}
