//! From a row to an outage: repaired and counted, or quarantined and counted, never lost silently and never the end of the run.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;

use mapa_refresh_crds::rows::{Quarantine, Repair};

use crate::domain::{
    area::Area,
    faixa::Faixa,
    id::OutageId,
    names,
    row::{self, Row},
    status::{Status, Tipo},
    text,
    time::{self, Fold, Resolution, Stamp},
};

/// A start may lie this far ahead of the stamp: the clocks of crews and database differ. Further ahead it is no outage yet.
const START_TOLERANCE: Duration = Duration::minutes(5);

/// No supply is interrupted for a year: a start that old, or a forecast that far ahead, is a mistake in the date. A start of which the
/// year was mistyped by one is older. One such row would be most of `chi_total`.
const LONGEST: Duration = Duration::days(365);

/// More consumer units than any distributor of the country has: a number above is a mistake, and would be most of the total.
const MAX_UCS: u32 = 10_000_000;

/// More crews than any distributor sends to one outage.
const MAX_CREWS: u32 = 10_000;

/// What the view says where no bairro is known.
pub(super) const BAIRRO_UNKNOWN: &str = "Nao informado";

/// An active outage, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    /// Number of the outage.
    pub id: OutageId,
    /// Number of the occurrence, as the public knows it.
    pub numero_ocorrencia: Option<String>,
    /// IBGE code, 7 digits when it is one of the area's; else as the view has it.
    pub codigo_ibge: Option<String>,
    /// Name of the municipality; `None` when the code is unknown.
    pub nome_municipio: Option<Arc<str>>,
    /// Neighbourhood, in one spelling for each, `Nao informado` when unknown.
    pub bairro: String,
    /// Latitude and longitude in degrees; `None` when null or outside the area.
    pub coordenadas: Option<(f64, f64)>,
    /// Planned or not.
    pub tipo: Tipo,
    /// Start.
    pub data_inicio: DateTime<Tz>,
    /// Expected restoration, never before the start.
    pub previsao_restabelecimento: Option<DateTime<Tz>>,
    /// Cause: free text, data and nothing else.
    pub causa: Option<String>,
    /// Status, one of the active ones.
    pub status: Status,
    /// Whole minutes from the start to the stamp.
    pub duracao_minutos: u64,
    /// Consumer units without supply.
    pub ucs_afetadas: u32,
    /// Crews assigned.
    pub equipes_designadas: u32,
}

impl Outage {
    /// Range of the duration.
    #[must_use]
    pub fn faixa(&self) -> Faixa {
        Faixa::of_minutes(self.duracao_minutos)
    }

    /// UCs × minutes, exact; sixty of them are one CHI.
    #[must_use]
    pub fn uc_minutes(&self) -> u128 {
        u128::from(self.ucs_afetadas) * u128::from(self.duracao_minutos)
    }

    /// CHI, consumidor-hora interrompido: UCs × minutes / 60, not rounded.
    #[must_use]
    pub fn chi(&self) -> f64 {
        chi(self.uc_minutes())
    }
}

/// CHI of so many UC-minutes. Totals are summed in UC-minutes, so that they do not depend on the order of the rows.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "a double holds 15 digits, and CHI is a double in the contract"
)]
pub fn chi(uc_minutes: u128) -> f64 {
    uc_minutes as f64 / 60.0
}

/// What a reading of the view gave. Every row is exactly one of active, inactive, quarantined.
#[derive(Debug)]
pub struct Outages {
    stamp: Stamp,
    active: Vec<Outage>,
    inactive: u64,
    announced: u64,
    repaired: BTreeMap<Repair, u64>,
    quarantined: BTreeMap<Quarantine, u64>,
}

/// A reading of the view that goes on: it takes the rows in, one by one.
#[derive(Debug)]
pub struct Intake {
    zone: Tz,
    area: Arc<Area>,
    ids: HashSet<OutageId>,
    outages: Outages,
}

impl Intake {
    /// No row yet, of a view with this stamp. Local times are read in `zone`; durations end at the stamp, so that equal
    /// generations have equal content.
    #[must_use]
    pub fn new(stamp: Stamp, zone: Tz, area: Arc<Area>) -> Self {
        Self {
            zone,
            area,
            ids: HashSet::new(),
            outages: Outages {
                stamp,
                active: Vec::new(),
                inactive: 0,
                announced: 0,
                repaired: BTreeMap::new(),
                quarantined: BTreeMap::new(),
            },
        }
    }

    /// Takes a row in.
    pub fn add(&mut self, row: &Row<'_>) {
        let status = row.status_codigo.as_deref().and_then(Status::of_code);
        if status.is_some_and(|status| !status.is_active()) {
            // Not published, so not judged: a restored outage's details concern nobody, and its id may return.
            self.outages.inactive += 1;
            return;
        }
        let mut repairs = Repairs::default();
        match self.outage(row, status, &mut repairs) {
            Ok(outage) => {
                self.ids.insert(outage.id);
                self.outages.active.push(outage);
                for repair in repairs.0 {
                    *self.outages.repaired.entry(repair).or_default() += 1;
                }
            }
            Err(why) => {
                let is_planned = row.tipo.as_deref().and_then(Tipo::of_word) == Some(Tipo::Programada);
                self.outages.announced += u64::from(why == Quarantine::FutureStart && is_planned);
                *self.outages.quarantined.entry(why).or_default() += 1;
            }
        }
    }

    /// Every row was taken in.
    #[must_use]
    pub fn finish(self) -> Outages {
        let mut outages = self.outages;
        names::unify(&mut outages.active);
        outages
    }
}

impl Outages {
    /// The stamp of the view.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The outages to publish, in the order of their rows.
    #[must_use]
    pub fn active(&self) -> &[Outage] {
        &self.active
    }

    /// Rows of outages that are over.
    #[must_use]
    pub fn inactive(&self) -> u64 {
        self.inactive
    }

    /// Of the rows left out for a start that lies ahead, those of planned work: they are announced, not wrong.
    pub(super) fn announced(&self) -> u64 {
        self.announced
    }

    /// Repairs by what was repaired; one row may have several.
    #[must_use]
    pub fn repaired(&self) -> BTreeMap<String, u64> {
        self.repaired
            .iter()
            .map(|(repair, count)| (repair.as_str().to_owned(), *count))
            .collect()
    }

    /// Rows left out, by why; each row once.
    #[must_use]
    pub fn quarantined(&self) -> BTreeMap<String, u64> {
        self.quarantined
            .iter()
            .map(|(why, count)| (why.as_str().to_owned(), *count))
            .collect()
    }

    /// Rows left out, by why; only reasons that occur.
    pub(super) fn quarantined_by(&self) -> impl Iterator<Item = (Quarantine, u64)> {
        self.quarantined.iter().map(|(why, count)| (*why, *count))
    }
}

impl Intake {
    fn outage(&self, row: &Row<'_>, status: Option<Status>, repairs: &mut Repairs) -> Result<Outage, Quarantine> {
        let id = row::symbol(&row.id).ok_or(Quarantine::MissingId)?;
        let id = OutageId(row::integer(&id).ok_or(Quarantine::InvalidId)?);
        if self.ids.contains(&id) {
            return Err(Quarantine::DuplicateId);
        }
        let data_inicio = self.start(row, repairs)?;
        let duracao_minutos = self.minutes_since(data_inicio, repairs)?;
        let ucs = row::symbol(&row.ucs_afetadas).ok_or(Quarantine::MissingUcs)?;
        let ucs_afetadas = count(&ucs, MAX_UCS, Quarantine::InvalidUcs, Quarantine::NegativeUcs)?;
        let equipes_designadas = match row::symbol(&row.equipes_designadas) {
            Some(crews) => count(&crews, MAX_CREWS, Quarantine::InvalidCrews, Quarantine::NegativeCrews)?,
            None => repairs.with(Repair::MissingCrews, 0),
        };
        let (codigo_ibge, nome_municipio) = self.municipality(row, repairs);
        if is_unreadable(row) {
            repairs.0.push(Repair::UnreadableText);
        }
        Ok(Outage {
            id,
            numero_ocorrencia: row::text(&row.numero_ocorrencia).map(row::written_number),
            codigo_ibge,
            nome_municipio,
            bairro: match row.bairro.as_deref().map(text::name).filter(|name| !name.is_empty()) {
                Some(bairro) => bairro.into_owned(),
                None => repairs.with(Repair::MissingBairro, BAIRRO_UNKNOWN.to_owned()),
            },
            coordenadas: self.coordinates(row, repairs),
            tipo: match row.tipo.as_deref().and_then(Tipo::of_word) {
                Some(tipo) => tipo,
                None => repairs.with(Repair::UnknownType, Tipo::NaoProgramada),
            },
            data_inicio,
            previsao_restabelecimento: self.forecast(row, data_inicio, repairs),
            causa: row::text(&row.causa).map(str::to_owned),
            status: status.unwrap_or_else(|| repairs.with(Repair::UnknownStatus, Status::EmPreparacao)),
            duracao_minutos,
            ucs_afetadas,
            equipes_designadas,
        })
    }

    /// Code and name of the municipality.
    fn municipality(&self, row: &Row<'_>, repairs: &mut Repairs) -> (Option<String>, Option<Arc<str>>) {
        let written = row::symbol(&row.codigo_ibge).map(|code| row::whole(&code).into_owned());
        match written.as_deref().and_then(|code| self.area.municipio(code)) {
            Some((code, name)) => (Some(code.to_owned()), Some(name)),
            None => repairs.with(Repair::UnknownMunicipality, (written, None)),
        }
    }

    fn start(&self, row: &Row<'_>, repairs: &mut Repairs) -> Result<DateTime<Tz>, Quarantine> {
        let written = row::symbol(&row.data_inicio).ok_or(Quarantine::MissingStart)?;
        let written = time::parse(&written).ok_or(Quarantine::InvalidStart)?;
        let (start, resolution) = time::resolve(written, self.zone, Fold::Earlier);
        repairs.of_resolution(resolution);
        Ok(start)
    }

    fn minutes_since(&self, start: DateTime<Tz>, repairs: &mut Repairs) -> Result<u64, Quarantine> {
        let lasted: Duration = self.outages.stamp.to_utc() - start.with_timezone(&Utc);
        if lasted < -START_TOLERANCE {
            return Err(Quarantine::FutureStart);
        }
        if lasted > LONGEST {
            return Err(Quarantine::StartTooOld);
        }
        if lasted < Duration::zero() {
            return Ok(repairs.with(Repair::StartAhead, 0));
        }
        Ok(u64::try_from(lasted.num_minutes()).unwrap_or(0))
    }

    fn forecast(&self, row: &Row<'_>, start: DateTime<Tz>, repairs: &mut Repairs) -> Option<DateTime<Tz>> {
        let written = row::symbol(&row.previsao_restabelecimento)?;
        let Some(written) = time::parse(&written) else {
            return repairs.with(Repair::ForecastUnreadable, None);
        };
        let (forecast, resolution) = time::resolve(written, self.zone, Fold::Later);
        if forecast < start {
            return repairs.with(Repair::ForecastBeforeStart, None);
        }
        if forecast.with_timezone(&Utc) - self.outages.stamp.to_utc() > LONGEST {
            return repairs.with(Repair::ForecastTooFar, None);
        }
        repairs.of_resolution(resolution);
        Some(forecast)
    }

    fn coordinates(&self, row: &Row<'_>, repairs: &mut Repairs) -> Option<(f64, f64)> {
        let latitude = row::symbol(&row.latitude).and_then(|degrees| row::degrees(&degrees));
        let longitude = row::symbol(&row.longitude).and_then(|degrees| row::degrees(&degrees));
        match latitude.zip(longitude) {
            None => repairs.with(Repair::CoordinatesMissing, None),
            Some((latitude, longitude)) if !self.area.contains(latitude, longitude) => {
                repairs.with(Repair::CoordinatesOutsideArea, None)
            }
            point => point,
        }
    }
}

/// Repairs of one row; they count only when the row is kept.
#[derive(Default)]
struct Repairs(Vec<Repair>);

impl Repairs {
    fn with<T>(&mut self, repair: Repair, instead: T) -> T {
        self.0.push(repair);
        instead
    }

    fn of_resolution(&mut self, resolution: Resolution) {
        match resolution {
            Resolution::Plain => {}
            Resolution::Ambiguous => self.0.push(Repair::AmbiguousLocalTime),
            Resolution::Nonexistent => self.0.push(Repair::NonexistentLocalTime),
        }
    }
}

/// Whether the database could not convert a character of what is published as text.
fn is_unreadable(row: &Row<'_>) -> bool {
    [&row.numero_ocorrencia, &row.codigo_ibge, &row.bairro, &row.causa]
        .into_iter()
        .flatten()
        .any(|text| text.contains(text::UNREADABLE))
}

/// A number of things. Its limit lets sums over any view stay exact, in JSON too.
fn count(text: &str, max: u32, invalid: Quarantine, negative: Quarantine) -> Result<u32, Quarantine> {
    let number = row::integer(text).ok_or(invalid)?;
    if number < 0 {
        return Err(negative);
    }
    u32::try_from(number)
        .ok()
        .filter(|number| *number <= max)
        .ok_or(invalid)
}
