//! From a row to an outage: repaired and counted, or quarantined and counted, never lost silently and never the end of the run.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;

use crate::domain::{
    area::Area,
    faixa::Faixa,
    row::{self, Row},
    status::{Status, Tipo},
    time::{self, Fold, Resolution, Stamp},
};

/// A start may lie this far ahead of the stamp: the clocks of crews and database differ. Further ahead it is no outage yet.
const START_TOLERANCE: Duration = Duration::minutes(5);

/// What the view says where no bairro is known.
const BAIRRO_UNKNOWN: &str = "Nao informado";

/// An active outage, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    /// Number of the outage.
    pub id: i64,
    /// Number of the occurrence, as the public knows it.
    pub numero_ocorrencia: Option<String>,
    /// IBGE code as the view has it, known or not.
    pub codigo_ibge: Option<String>,
    /// Name of the municipality; `None` when the code is unknown.
    pub nome_municipio: Option<Arc<str>>,
    /// Neighbourhood, `Nao informado` when unknown.
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

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal: $what:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $what] $variant,)+
        }

        impl $name {
            /// The word under which the report counts it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

reasons! {
    /// What was mended in a row that is published.
    Repair {
        ForecastBeforeStart = "FORECAST_BEFORE_START": "The forecast precedes the start: null.",
        ForecastUnreadable = "FORECAST_UNREADABLE": "The forecast is no moment (`infinity`): null.",
        CoordinatesMissing = "COORDINATES_MISSING": "A coordinate is null or no number: both null.",
        CoordinatesOutsideArea = "COORDINATES_OUTSIDE_AREA": "The point lies outside the area's box: null.",
        UnknownMunicipality = "UNKNOWN_MUNICIPALITY": "The IBGE code is null or none of the area's: kept, the name is null.",
        UnknownType = "UNKNOWN_TYPE": "The type is null or unknown: NAO_PROGRAMADA.",
        UnknownStatus = "UNKNOWN_STATUS": "The status is null or unknown: EM_PREPARACAO.",
        StartAhead = "START_AHEAD": "The start lies up to five minutes ahead: a duration of 0.",
        MissingCrews = "MISSING_CREWS": "The number of crews is null: 0.",
        MissingBairro = "MISSING_BAIRRO": "The bairro is null or blank: `Nao informado`.",
        AmbiguousLocalTime = "AMBIGUOUS_LOCAL_TIME": "The clocks went back over a local time: the start is the first of both, the forecast the second.",
        NonexistentLocalTime = "NONEXISTENT_LOCAL_TIME": "The clocks skipped a local time: read with the offset before.",
    }
}

reasons! {
    /// Why a row is left out.
    Quarantine {
        MissingId = "MISSING_ID": "The id is null.",
        InvalidId = "INVALID_ID": "The id is no integer of 64 bits.",
        MissingStart = "MISSING_START": "The start is null.",
        InvalidStart = "INVALID_START": "The start is no moment.",
        FutureStart = "FUTURE_START": "The start lies more than five minutes ahead of the stamp.",
        MissingUcs = "MISSING_UCS": "The number of UCs is null.",
        InvalidUcs = "INVALID_UCS": "The number of UCs is no integer below 2^32.",
        NegativeUcs = "NEGATIVE_UCS": "The number of UCs is negative.",
        InvalidCrews = "INVALID_CREWS": "The number of crews is no integer below 2^32.",
        NegativeCrews = "NEGATIVE_CREWS": "The number of crews is negative.",
        DuplicateId = "DUPLICATE_ID": "An earlier row has the id.",
    }
}

/// What a reading of the view gave. Every row is exactly one of active, inactive, quarantined.
#[derive(Debug)]
pub struct Outages {
    stamp: Stamp,
    zone: Tz,
    area: Arc<Area>,
    active: Vec<Outage>,
    ids: HashSet<i64>,
    inactive: u64,
    repaired: BTreeMap<Repair, u64>,
    quarantined: BTreeMap<Quarantine, u64>,
}

impl Outages {
    /// No row yet, of a view with this stamp. Local times are read in `zone`; durations end at the stamp, so that equal
    /// generations have equal content.
    #[must_use]
    pub fn new(stamp: Stamp, zone: Tz, area: Arc<Area>) -> Self {
        Self {
            stamp,
            zone,
            area,
            active: Vec::new(),
            ids: HashSet::new(),
            inactive: 0,
            repaired: BTreeMap::new(),
            quarantined: BTreeMap::new(),
        }
    }

    /// Takes a row in.
    pub fn add(&mut self, row: &Row<'_>) {
        let status = row::text(&row.status_codigo).and_then(Status::of_code);
        if status.is_some_and(|status| !status.is_active()) {
            // Not published, so not judged: a restored outage's details concern nobody, and its id may return.
            self.inactive += 1;
            return;
        }
        let mut repairs = Repairs::default();
        match self.outage(row, status, &mut repairs) {
            Ok(outage) => {
                self.ids.insert(outage.id);
                self.active.push(outage);
                for repair in repairs.0 {
                    *self.repaired.entry(repair).or_default() += 1;
                }
            }
            Err(why) => *self.quarantined.entry(why).or_default() += 1,
        }
    }

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

    fn outage(&self, row: &Row<'_>, status: Option<Status>, repairs: &mut Repairs) -> Result<Outage, Quarantine> {
        let id = row::text(&row.id).ok_or(Quarantine::MissingId)?;
        let id = row::integer(id).ok_or(Quarantine::InvalidId)?;
        if self.ids.contains(&id) {
            return Err(Quarantine::DuplicateId);
        }
        let data_inicio = self.start(row, repairs)?;
        let duracao_minutos = self.minutes_since(data_inicio, repairs)?;
        let ucs = row::text(&row.ucs_afetadas).ok_or(Quarantine::MissingUcs)?;
        let ucs_afetadas = count(ucs, Quarantine::InvalidUcs, Quarantine::NegativeUcs)?;
        let equipes_designadas = match row::text(&row.equipes_designadas) {
            Some(crews) => count(crews, Quarantine::InvalidCrews, Quarantine::NegativeCrews)?,
            None => repairs.with(Repair::MissingCrews, 0),
        };
        let codigo_ibge = row::text(&row.codigo_ibge).map(str::to_owned);
        let nome_municipio = codigo_ibge.as_deref().and_then(|code| self.area.municipio(code));
        if nome_municipio.is_none() {
            repairs.0.push(Repair::UnknownMunicipality);
        }
        Ok(Outage {
            id,
            numero_ocorrencia: row::text(&row.numero_ocorrencia).map(str::to_owned),
            codigo_ibge,
            nome_municipio,
            bairro: match row::text(&row.bairro) {
                Some(bairro) => bairro.to_owned(),
                None => repairs.with(Repair::MissingBairro, BAIRRO_UNKNOWN.to_owned()),
            },
            coordenadas: self.coordinates(row, repairs),
            tipo: match row::text(&row.tipo).and_then(Tipo::of_word) {
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

    fn start(&self, row: &Row<'_>, repairs: &mut Repairs) -> Result<DateTime<Tz>, Quarantine> {
        let written = row::text(&row.data_inicio).ok_or(Quarantine::MissingStart)?;
        let written = time::parse(written).ok_or(Quarantine::InvalidStart)?;
        let (start, resolution) = time::resolve(written, self.zone, Fold::Earlier);
        repairs.of_resolution(resolution);
        Ok(start)
    }

    fn minutes_since(&self, start: DateTime<Tz>, repairs: &mut Repairs) -> Result<u64, Quarantine> {
        let lasted: Duration = self.stamp.to_utc() - start.with_timezone(&Utc);
        if lasted < -START_TOLERANCE {
            return Err(Quarantine::FutureStart);
        }
        if lasted < Duration::zero() {
            return Ok(repairs.with(Repair::StartAhead, 0));
        }
        Ok(u64::try_from(lasted.num_minutes()).unwrap_or(0))
    }

    fn forecast(&self, row: &Row<'_>, start: DateTime<Tz>, repairs: &mut Repairs) -> Option<DateTime<Tz>> {
        let written = row::text(&row.previsao_restabelecimento)?;
        let Some(written) = time::parse(written) else {
            return repairs.with(Repair::ForecastUnreadable, None);
        };
        let (forecast, resolution) = time::resolve(written, self.zone, Fold::Later);
        if forecast < start {
            return repairs.with(Repair::ForecastBeforeStart, None);
        }
        repairs.of_resolution(resolution);
        Some(forecast)
    }

    fn coordinates(&self, row: &Row<'_>, repairs: &mut Repairs) -> Option<(f64, f64)> {
        let latitude = row::text(&row.latitude).and_then(row::real);
        let longitude = row::text(&row.longitude).and_then(row::real);
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

/// A number of things. Its limit lets sums over any view stay exact, in JSON too.
fn count(text: &str, invalid: Quarantine, negative: Quarantine) -> Result<u32, Quarantine> {
    let number = row::integer(text).ok_or(invalid)?;
    if number < 0 {
        return Err(negative);
    }
    u32::try_from(number).map_err(|_| invalid)
}
