//! calcular-estatisticas: builds the aggregated figures from the view, and publishes them.

use super::{Context, Done, published, view};
use crate::{cache::Document, database::Database, domain::statistics::Statistics, fault::Fault, stop::Stop};

/// Computes, then replaces; `last_good` is a copy that lives longer.
pub(super) async fn publish(context: &Context, stop: &Stop, database: &mut impl Database) -> Result<Done, Fault> {
    let content = view::read(context, stop, database).await?;
    let statistics = Statistics::new(&content.outages);
    published::publish(
        context,
        Document::Statistics,
        &content,
        &statistics,
        None::<&Statistics<'_>>,
    )
    .await
}
