//! refresh-mapa-cache: builds the map's document and its GeoJSON from the view, and publishes both.

use std::sync::Arc;

use super::{Context, Done, slot_wait};
use crate::{
    cache::{Document, Encoding, Pieces},
    database::Database,
    domain::{geojson::FeatureCollection, map_document::MapDocument, outage::Outages},
    fault::Fault,
    stop::Stop,
};

/// Computes, then replaces: readers see the old document until the new one is there.
pub(super) async fn publish(context: &Context, stop: &Stop, database: &mut impl Database) -> Result<Done, Fault> {
    slot_wait::publish(context, stop, database, Document::Map, encodings).await
}

fn encodings(owner: &Arc<str>, outages: &Arc<Outages>) -> [Encoding; 2] {
    let [of_map, of_geojson] = [(); 2].map(|()| (Arc::clone(owner), Arc::clone(outages)));
    [
        Box::new(move |out: &mut Pieces| serde_json::to_writer(out, &MapDocument::new(&of_map.0, &of_map.1))),
        Box::new(move |out: &mut Pieces| {
            serde_json::to_writer(out, &FeatureCollection::new(&of_geojson.0, &of_geojson.1))
        }),
    ]
}
