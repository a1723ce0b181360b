//! The map's document, `<prefix>:interrupcoes`: every active outage with the items that the rule requires.

use chrono::{DateTime, SecondsFormat};
use chrono_tz::Tz;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::domain::{
    document::Head,
    outage::{Outage, Outages},
    time::hours_and_minutes,
};

/// The map's document of one generation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MapDocument<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    total: usize,
    interrupcoes: Items<'a>,
}

impl<'a> MapDocument<'a> {
    /// The document of what was read for the policy `owner`.
    #[must_use]
    pub fn new(owner: &'a str, outages: &'a Outages) -> Self {
        Self {
            head: Head::new(owner, outages.stamp()),
            total: outages.active().len(),
            interrupcoes: Items(outages.active()),
        }
    }
}

/// Number of fields that [`fields`] writes.
pub(super) const FIELDS: usize = 17;

/// Writes an outage's fields but its place, which the map's document and GeoJSON write differently.
pub(super) fn fields<S: SerializeStruct>(outage: &Outage, item: &mut S) -> Result<(), S::Error> {
    item.serialize_field("id", &outage.id)?;
    item.serialize_field("numeroOcorrencia", &outage.numero_ocorrencia)?;
    item.serialize_field("codigoIbge", &outage.codigo_ibge)?;
    item.serialize_field("nomeMunicipio", &outage.nome_municipio.as_deref())?;
    item.serialize_field("bairro", &outage.bairro)?;
    item.serialize_field("tipo", &outage.tipo)?;
    item.serialize_field("dataInicio", &moment(outage.data_inicio))?;
    item.serialize_field(
        "previsaoRestabelecimento",
        &outage.previsao_restabelecimento.map(moment),
    )?;
    item.serialize_field("causa", &outage.causa)?;
    item.serialize_field("causaConhecida", &outage.causa.is_some())?;
    item.serialize_field("status", &outage.status)?;
    item.serialize_field("faixaDuracao", &outage.faixa())?;
    item.serialize_field("duracaoMinutos", &outage.duracao_minutos)?;
    item.serialize_field("duracao", &hours_and_minutes(outage.duracao_minutos))?;
    item.serialize_field("chi", &outage.chi())?;
    item.serialize_field("ucsAfetadas", &outage.ucs_afetadas)?;
    item.serialize_field("equipesDesignadas", &outage.equipes_designadas)
}

/// RFC 3339 with offset, in whole seconds, as a DATE column has them.
fn moment(at: DateTime<Tz>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, false)
}

#[derive(Debug)]
struct Items<'a>(&'a [Outage]);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Item))
    }
}

struct Item<'a>(&'a Outage);

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut item = serializer.serialize_struct("Item", FIELDS + 1)?;
        fields(self.0, &mut item)?;
        let coordenadas = self
            .0
            .coordenadas
            .map(|(latitude, longitude)| Coordenadas { latitude, longitude });
        item.serialize_field("coordenadas", &coordenadas)?;
        item.end()
    }
}

#[derive(Serialize)]
struct Coordenadas {
    latitude: f64,
    longitude: f64,
}
