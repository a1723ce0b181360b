//! calcular-estatisticas: builds the aggregated figures from the view, and publishes them.

use std::sync::Arc;

use super::{Context, Done, published, view};
use crate::{
    cache::{Document, Encoding},
    database::Database,
    domain::{outage::Outages, statistics::Statistics},
    fault::Fault,
    stop::Stop,
};

/// Computes, then replaces; `last_good` is a copy that lives longer.
pub(super) async fn publish(context: &Context, stop: &Stop, database: &mut impl Database) -> Result<Done, Fault> {
    let content = view::read(context, stop, database).await?;
    let [document, last_good] = [(); 2].map(|()| encoding(&content.outages));
    published::publish(context, stop, Document::Statistics, &content, document, last_good).await
}

fn encoding(outages: &Arc<Outages>) -> Encoding {
    let outages = Arc::clone(outages);
    Box::new(move |out| serde_json::to_writer(out, &Statistics::new(&outages)))
}
