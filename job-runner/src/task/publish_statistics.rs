//! calcular-estatisticas: builds the aggregated figures from the view, and publishes them.

use std::sync::Arc;

use super::{Context, Done, slot_wait};
use crate::{
    cache::{Document, Encoding, Pieces},
    database::Database,
    domain::{outage::Outages, statistics::Statistics},
    fault::Fault,
    stop::Stop,
};

/// Computes, then replaces; `last_good` is a copy that lives longer.
pub(super) async fn publish(context: &Context, stop: &Stop, database: &mut impl Database) -> Result<Done, Fault> {
    slot_wait::publish(context, stop, database, Document::Statistics, encodings).await
}

fn encodings(owner: &Arc<str>, outages: &Arc<Outages>) -> [Encoding; 2] {
    [(); 2].map(|()| -> Encoding {
        let (owner, outages) = (Arc::clone(owner), Arc::clone(outages));
        Box::new(move |out: &mut Pieces| serde_json::to_writer(out, &Statistics::new(&owner, &outages)))
    })
}
