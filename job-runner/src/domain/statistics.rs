//! The statistics, `<prefix>:estatisticas`: totals over the active outages, as the rule requires them.
//!
//! The names in snake case are a contract older than this program. Figures are summed in integers: they do not depend on the
//! order of the rows, and agree with the map's document of the same generation.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::domain::{
    document::Head,
    faixa::Faixa,
    outage::{Outage, Outages, chi},
    status::{Status, Tipo},
};

/// Key under which outages without an IBGE code are counted.
pub const MUNICIPIO_UNKNOWN: &str = "NAO_INFORMADO";

/// The statistics of one generation.
#[derive(Debug, Serialize)]
pub struct Statistics<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    total_interrupcoes: u64,
    total_ucs_afetadas: u64,
    chi_total: f64,
    equipes_em_campo: u64,
    por_faixa: BTreeMap<Faixa, u64>,
    por_municipio: BTreeMap<&'a str, u64>,
    municipios: Vec<Municipio<'a>>,
    bairros: Vec<Bairro<'a>>,
    tipos: BTreeMap<Tipo, Figures>,
    status: BTreeMap<Status, Figures>,
    faixas: BTreeMap<Faixa, Figures>,
}

/// Figures of some outages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// How many outages.
    pub interrupcoes: u64,
    /// Consumer units without supply.
    pub ucs_afetadas: u64,
    /// UCs × minutes; published as CHI.
    #[serde(rename = "chi", serialize_with = "as_chi")]
    pub uc_minutes: u128,
    /// Crews assigned.
    pub equipes: u64,
}

#[derive(Debug, Serialize)]
struct Municipio<'a> {
    codigo_ibge: Option<&'a str>,
    nome: Option<&'a str>,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Debug, Serialize)]
struct Bairro<'a> {
    codigo_ibge: Option<&'a str>,
    municipio: Option<&'a str>,
    bairro: &'a str,
    #[serde(flatten)]
    figures: Figures,
    ucs_por_faixa: BTreeMap<Faixa, u64>,
}

impl<'a> Statistics<'a> {
    /// The statistics of what was read for the policy `owner`.
    #[must_use]
    pub fn new(owner: &'a str, outages: &'a Outages) -> Self {
        let mut total = Figures::default();
        let mut faixas = zeros(Faixa::ALL);
        let mut tipos = zeros(Tipo::ALL);
        let mut status = zeros(Status::ACTIVE);
        let mut municipios = BTreeMap::<_, Municipio<'a>>::new();
        let mut bairros = BTreeMap::<_, Bairro<'a>>::new();
        for outage in outages.active() {
            let codigo_ibge = outage.codigo_ibge.as_deref();
            let municipio = municipios.entry(codigo_ibge).or_insert_with(|| Municipio {
                codigo_ibge,
                nome: outage.nome_municipio.as_deref(),
                figures: Figures::default(),
            });
            let bairro = bairros
                .entry((codigo_ibge, outage.bairro.as_str()))
                .or_insert_with(|| Bairro {
                    codigo_ibge,
                    municipio: outage.nome_municipio.as_deref(),
                    bairro: &outage.bairro,
                    figures: Figures::default(),
                    ucs_por_faixa: Faixa::ALL.into_iter().map(|faixa| (faixa, 0)).collect(),
                });
            *bairro.ucs_por_faixa.entry(outage.faixa()).or_default() += u64::from(outage.ucs_afetadas);
            for figures in [
                &mut total,
                &mut municipio.figures,
                &mut bairro.figures,
                faixas.entry(outage.faixa()).or_default(),
                tipos.entry(outage.tipo).or_default(),
                status.entry(outage.status).or_default(),
            ] {
                figures.add(outage);
            }
        }
        Self {
            head: Head::new(owner, outages.stamp()),
            total_interrupcoes: total.interrupcoes,
            total_ucs_afetadas: total.ucs_afetadas,
            chi_total: chi(total.uc_minutes),
            equipes_em_campo: total.equipes,
            por_faixa: faixas
                .iter()
                .map(|(faixa, figures)| (*faixa, figures.interrupcoes))
                .collect(),
            por_municipio: por_municipio(municipios.values()),
            municipios: municipios.into_values().collect(),
            bairros: bairros.into_values().collect(),
            tipos,
            status,
            faixas,
        }
    }
}

impl Figures {
    fn add(&mut self, outage: &Outage) {
        self.interrupcoes += 1;
        self.ucs_afetadas += u64::from(outage.ucs_afetadas);
        self.uc_minutes += outage.uc_minutes();
        self.equipes += u64::from(outage.equipes_designadas);
    }
}

/// Outages by code. A hostile code that spells the key of the unknown ones is counted with them.
fn por_municipio<'m, 'a: 'm>(municipios: impl Iterator<Item = &'m Municipio<'a>>) -> BTreeMap<&'a str, u64> {
    let mut counts = BTreeMap::new();
    for municipio in municipios {
        *counts
            .entry(municipio.codigo_ibge.unwrap_or(MUNICIPIO_UNKNOWN))
            .or_default() += municipio.figures.interrupcoes;
    }
    counts
}

/// Every word with no outage yet: a reader finds each key in each document.
fn zeros<T: Ord, const N: usize>(words: [T; N]) -> BTreeMap<T, Figures> {
    words.into_iter().map(|word| (word, Figures::default())).collect()
}

fn as_chi<S: Serializer>(uc_minutes: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(chi(*uc_minutes))
}
