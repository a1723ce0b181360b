//! refresh-mapa-cache: builds the map's document and its GeoJSON from the view, and publishes both.

use super::{Context, Done, published, view};
use crate::{
    cache::Document,
    database::Database,
    domain::{geojson::FeatureCollection, map_document::MapDocument},
    fault::Fault,
    stop::Stop,
};

/// Computes, then replaces: readers see the old document until the new one is there.
pub(super) async fn publish(context: &Context, stop: &Stop, database: &mut impl Database) -> Result<Done, Fault> {
    let content = view::read(context, stop, database).await?;
    let map = MapDocument::new(&content.outages);
    let geojson = FeatureCollection::new(&content.outages);
    published::publish(context, Document::Map, &content, &map, Some(&geojson)).await
}
