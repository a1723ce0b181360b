//! The map as GeoJSON (RFC 7946), `{<prefix>:interrupcoes}:geojson`, for map clients.
//!
//! Positions are [longitude, latitude]. An outage without a place has a null geometry, which the RFC allows, so that no client
//! counts fewer outages than there are.

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::domain::{
    document::Head,
    id::OutageId,
    map_document::{FIELDS, fields},
    outage::{Outage, Outages},
};

/// A FeatureCollection of one generation; what is not GeoJSON's own stands beside as foreign members (RFC 7946, 6.1).
#[derive(Debug, Serialize)]
pub struct FeatureCollection<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    total: usize,
    #[serde(rename = "type")]
    kind: &'static str,
    features: Features<'a>,
}

impl<'a> FeatureCollection<'a> {
    /// The collection of what was read for the policy `owner`.
    #[must_use]
    pub fn new(owner: &'a str, outages: &'a Outages) -> Self {
        Self {
            head: Head::new(owner, outages.stamp()),
            total: outages.active().len(),
            kind: "FeatureCollection",
            features: Features(outages.active()),
        }
    }
}

#[derive(Debug)]
struct Features<'a>(&'a [Outage]);

impl Serialize for Features<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|outage| Feature {
            kind: "Feature",
            id: outage.id,
            geometry: outage.coordenadas.map(|(latitude, longitude)| Point {
                kind: "Point",
                coordinates: [longitude, latitude],
            }),
            properties: Properties(outage),
        }))
    }
}

#[derive(Serialize)]
struct Feature<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: OutageId,
    geometry: Option<Point>,
    properties: Properties<'a>,
}

#[derive(Serialize)]
struct Point {
    #[serde(rename = "type")]
    kind: &'static str,
    coordinates: [f64; 2],
}

struct Properties<'a>(&'a Outage);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut properties = serializer.serialize_struct("Properties", FIELDS + 2)?;
        fields(self.0, &mut properties)?;
        properties.serialize_field("corFaixa", self.0.faixa().colour())?;
        properties.serialize_field("corStatus", self.0.status.colour())?;
        properties.end()
    }
}
