//! refresh-mapa-cache: builds the map's document and its GeoJSON from the view, and publishes both.

use std::sync::Arc;

use super::{Context, Done, published, view};
use crate::{
    cache::{Document, Pieces},
    database::Database,
    domain::{geojson::FeatureCollection, map_document::MapDocument},
    fault::Fault,
    stop::Stop,
};

/// Computes, then replaces: readers see the old document until the new one is there.
pub(super) async fn publish(context: &Context, stop: &Stop, database: &mut impl Database) -> Result<Done, Fault> {
    let content = view::read(context, stop, database).await?;
    let (map, geojson) = (Arc::clone(&content.outages), Arc::clone(&content.outages));
    let map = move |out: &mut Pieces| serde_json::to_writer(out, &MapDocument::new(&map));
    let geojson = move |out: &mut Pieces| serde_json::to_writer(out, &FeatureCollection::new(&geojson));
    published::publish(context, stop, Document::Map, &content, Box::new(map), Box::new(geojson)).await
}
