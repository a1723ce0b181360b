//! refresh-mv-portal: refreshes the materialized view, once per slot, whoever else tries.

use mapa_refresh_crds::report::SuccessKind;
use tokio::time::sleep;

use super::{Context, Done, view::POLL};
use crate::{
    database::{Database, Reading, Refresh},
    fault::Fault,
};

/// Refreshes the view, or waits for another session that does.
pub(super) async fn refresh(context: &Context, database: &mut impl Database) -> Result<Done, Fault> {
    let slot = context.settings.slot;
    let for_this_slot = |reading: &Reading| slot.is_some_and(|slot| context.is_met(slot, reading));
    let mut before_other = None;
    loop {
        let by_other =
            |reading: &Reading| before_other.is_some_and(|before: Option<Reading>| is_newer(reading, before.as_ref()));
        match database
            .refresh(&|reading| for_this_slot(reading) || by_other(reading))
            .await?
        {
            Refresh::Done(reading) => return done(SuccessKind::Refreshed, reading, database).await,
            Refresh::AlreadyFresh(reading) => return done(SuccessKind::AlreadyFresh, reading, database).await,
            Refresh::Busy => {
                // Its stamp becomes visible with its commit. Should it fail, the lock is free and its work ours.
                if before_other.is_none() {
                    tracing::info!("another session is refreshing the view: waiting for it");
                    before_other = Some(database.reading().await?);
                }
                sleep(POLL).await;
            }
        }
    }
}

fn is_newer(reading: &Reading, before: Option<&Reading>) -> bool {
    before.is_none_or(|before| reading.stamp > before.stamp)
}

async fn done(kind: SuccessKind, reading: Reading, database: &mut impl Database) -> Result<Done, Fault> {
    let records = database.count().await?;
    tracing::info!(kind = ?kind, data_as_of = %reading.stamp.to_utc(), records, "the view is fresh");
    Ok(Done::with_view(kind, reading, records))
}
