//! Tests of the way from rows to outages.

use std::{borrow::Cow, sync::Arc};

use chrono::Duration;
use proptest::prelude::*;

use super::{
    area::Area,
    faixa::Faixa,
    outage::{Outage, Outages},
    row::Row,
    status::{Status, Tipo},
    time::Stamp,
};

/// 2026-11-23T15:00:00-04:00 in Boa Vista.
pub(super) fn stamp() -> Stamp {
    Stamp::from_micros(1_795_460_400_000_000).unwrap()
}

pub(super) fn outages() -> Outages {
    Outages::new(stamp(), chrono_tz::America::Boa_Vista, Arc::new(Area::roraima()))
}

fn cell(text: &str) -> Option<Cow<'_, str>> {
    Some(text.into())
}

/// A row with nothing wrong, that began 125 minutes before the stamp.
pub(super) fn good(id: &str) -> Row<'_> {
    Row {
        id: cell(id),
        numero_ocorrencia: cell("2026-001"),
        codigo_ibge: cell("1400100"),
        bairro: cell("Caçari"),
        latitude: cell("2.8235"),
        longitude: cell("-60.6758"),
        data_inicio: cell("2026-11-23 12:55:00"),
        tipo: cell("PROGRAMADA"),
        status_codigo: cell("E"),
        ucs_afetadas: cell("12"),
        equipes_designadas: cell("2"),
        causa: cell("Vento"),
        previsao_restabelecimento: cell("2026-11-23 16:00:00"),
    }
}

fn read<'a>(rows: impl IntoIterator<Item = Row<'a>>) -> Outages {
    let mut outages = outages();
    for row in rows {
        outages.add(&row);
    }
    outages
}

/// What becomes of a good row that `spoil` has changed: the outage and its repairs, or why it is left out.
fn one(spoil: impl FnOnce(&mut Row<'_>)) -> Result<(Outage, Vec<String>), String> {
    let mut row = good("1");
    spoil(&mut row);
    let outages = read([row]);
    match outages.active() {
        [outage] => Ok((outage.clone(), outages.repaired().into_keys().collect())),
        _ => Err(outages.quarantined().into_keys().next().unwrap_or_default()),
    }
}

#[test]
fn a_good_row_is_read_as_it_is_written() {
    let (outage, repairs) = one(|_| {}).unwrap();
    assert!(repairs.is_empty(), "{repairs:?}");
    assert_eq!(outage.data_inicio.to_rfc3339(), "2026-11-23T12:55:00-04:00");
    assert_eq!(
        (outage.duracao_minutos, outage.faixa(), outage.chi()),
        (125, Faixa::De1a3h, 25.0)
    );
    assert_eq!(
        (outage.nome_municipio.as_deref(), outage.coordenadas),
        (Some("Boa Vista"), Some((2.8235, -60.6758)))
    );
    assert_eq!((outage.status, outage.tipo), (Status::EmExecucao, Tipo::Programada));
}

#[test]
fn lesson_08_a_bad_detail_is_repaired_and_counted_and_hides_no_outage() {
    type Spoil = fn(&mut Row<'_>);
    let cases: [(&str, Spoil); 21] = [
        ("FORECAST_BEFORE_START", |r| {
            r.previsao_restabelecimento = cell("2026-11-23 12:54:59")
        }),
        ("FORECAST_UNREADABLE", |r| {
            r.previsao_restabelecimento = cell("infinity")
        }),
        ("COORDINATES_MISSING", |r| r.latitude = None),
        ("COORDINATES_MISSING", |r| r.longitude = None),
        ("COORDINATES_MISSING", |r| r.latitude = cell("NaN")),
        ("COORDINATES_OUTSIDE_AREA", |r| r.longitude = cell("0")),
        ("COORDINATES_OUTSIDE_AREA", |r| r.latitude = cell("1e300")),
        ("UNKNOWN_MUNICIPALITY", |r| r.codigo_ibge = None),
        ("UNKNOWN_MUNICIPALITY", |r| r.codigo_ibge = cell("1302603")),
        ("UNKNOWN_TYPE", |r| r.tipo = None),
        ("UNKNOWN_TYPE", |r| r.tipo = cell("EMERGENCIAL")),
        ("UNKNOWN_STATUS", |r| r.status_codigo = None),
        ("UNKNOWN_STATUS", |r| r.status_codigo = cell("Z")),
        ("START_AHEAD", |r| r.data_inicio = cell("2026-11-23 15:04:30")),
        ("START_AHEAD", |r| r.data_inicio = cell("2026-11-23 15:05:00")),
        ("MISSING_CREWS", |r| r.equipes_designadas = None),
        ("MISSING_BAIRRO", |r| r.bairro = None),
        ("MISSING_BAIRRO", |r| r.bairro = cell("   ")),
        ("", |r| r.causa = None),
        ("", |r| r.numero_ocorrencia = None),
        ("", |r| r.previsao_restabelecimento = None),
    ];
    for (expected, spoil) in cases {
        let (_, repairs) = one(spoil).unwrap();
        let expected: Vec<_> = Some(expected).into_iter().filter(|reason| !reason.is_empty()).collect();
        assert_eq!(repairs, expected);
    }
}

#[test]
fn repairs_put_in_what_the_domain_says() {
    let (outage, _) = one(|r| {
        *r = Row {
            id: cell("1"),
            data_inicio: cell("2026-11-23 15:03:00"),
            ucs_afetadas: cell("0"),
            ..Row::default()
        };
    })
    .unwrap();
    assert_eq!(
        (outage.tipo, outage.status),
        (Tipo::NaoProgramada, Status::EmPreparacao)
    );
    assert_eq!(
        (
            outage.bairro.as_str(),
            outage.nome_municipio.as_deref(),
            outage.coordenadas
        ),
        ("Nao informado", None, None)
    );
    assert_eq!(
        (outage.duracao_minutos, outage.equipes_designadas, outage.causa),
        (0, 0, None)
    );
    let (unknown, _) = one(|r| r.codigo_ibge = cell("1302603")).unwrap();
    assert_eq!(
        (unknown.codigo_ibge.as_deref(), unknown.nome_municipio.as_deref()),
        (Some("1302603"), None),
        "kept, unnamed"
    );
}

#[test]
fn lesson_08_a_row_that_cannot_be_an_outage_is_quarantined_and_counted() {
    type Spoil = fn(&mut Row<'_>);
    let cases: [(&str, Spoil); 17] = [
        ("MISSING_ID", |r| r.id = None),
        ("MISSING_ID", |r| r.id = cell(" ")),
        ("INVALID_ID", |r| r.id = cell("1.5")),
        ("INVALID_ID", |r| r.id = cell("99999999999999999999")),
        ("MISSING_START", |r| r.data_inicio = None),
        ("INVALID_START", |r| r.data_inicio = cell("-infinity")),
        ("INVALID_START", |r| r.data_inicio = cell("0044-03-15 00:00:00 BC")),
        ("FUTURE_START", |r| r.data_inicio = cell("2026-11-23 15:05:01")),
        ("MISSING_UCS", |r| r.ucs_afetadas = None),
        ("INVALID_UCS", |r| r.ucs_afetadas = cell("NaN")),
        ("INVALID_UCS", |r| r.ucs_afetadas = cell("4294967296")),
        ("INVALID_UCS", |r| r.ucs_afetadas = cell("0.5")),
        ("NEGATIVE_UCS", |r| r.ucs_afetadas = cell("-1")),
        ("NEGATIVE_UCS", |r| r.ucs_afetadas = cell("-1.00")),
        ("INVALID_CREWS", |r| r.equipes_designadas = cell("1e40")),
        ("NEGATIVE_CREWS", |r| r.equipes_designadas = cell("-2")),
        ("INVALID_CREWS", |r| r.equipes_designadas = cell("duas")),
    ];
    for (expected, spoil) in cases {
        assert_eq!(one(spoil).unwrap_err(), expected);
    }
}

#[test]
fn of_two_rows_with_one_id_the_first_is_kept() {
    let outages = read([
        good("7"),
        Row {
            bairro: cell("Centro"),
            ..good("7.0")
        },
    ]);
    assert_eq!(outages.active().len(), 1);
    assert_eq!(outages.active()[0].bairro, "Caçari");
    assert_eq!(outages.quarantined(), [("DUPLICATE_ID".to_owned(), 1)].into());
    let spoilt_first = read([
        Row {
            ucs_afetadas: None,
            ..good("7")
        },
        good("7"),
    ]);
    assert_eq!(
        spoilt_first.active().len(),
        1,
        "a row left out does not take its id with it"
    );
}

#[test]
fn restored_and_cancelled_outages_are_neither_published_nor_judged() {
    let outages = read([
        Row {
            status_codigo: cell("C"),
            ..good("1")
        },
        Row {
            status_codigo: cell("CANCELADA"),
            ..good("2")
        },
        Row {
            status_codigo: cell("C"),
            ucs_afetadas: None,
            ..good("3")
        },
        good("1"),
    ]);
    assert_eq!((outages.inactive(), outages.active().len()), (3, 1));
    assert!(outages.quarantined().is_empty());
}

#[test]
fn zero_is_a_latitude_and_the_box_has_edges() {
    assert_eq!(
        one(|r| r.latitude = cell("0.0")).unwrap().0.coordenadas,
        Some((0.0, -60.6758))
    );
    assert!(one(|r| r.latitude = cell("5.316667")).unwrap().1.is_empty());
    assert_eq!(
        one(|r| r.latitude = cell("5.316668")).unwrap().1,
        ["COORDINATES_OUTSIDE_AREA"]
    );
}

#[test]
fn lesson_10_durations_end_at_the_stamp_whenever_they_are_computed() {
    let minutes = |later: i64| {
        let stamp = Stamp::from_micros(stamp().micros() + later * 60_000_000).unwrap();
        let mut outages = Outages::new(stamp, chrono_tz::America::Boa_Vista, Arc::new(Area::roraima()));
        outages.add(&good("1"));
        outages.active()[0].duracao_minutos
    };
    assert_eq!(
        (minutes(0), minutes(10)),
        (125, 135),
        "only a newer stamp makes an outage longer"
    );
}

#[test]
fn a_utc_machine_reads_local_times_in_the_policys_zone() {
    let mut utc = Outages::new(stamp(), chrono_tz::UTC, Arc::new(Area::roraima()));
    utc.add(&good("1"));
    assert_eq!(utc.active()[0].duracao_minutos, 125 + 4 * 60);
}

/// Any row: mostly plausible cells, some hostile.
pub(super) fn any_row() -> impl Strategy<Value = Row<'static>> {
    let cell = |pattern: &'static str| {
        prop_oneof![8 => proptest::string::string_regex(pattern).unwrap().prop_map(|text| Some(Cow::from(text))), 1 => Just(None),
                    1 => "\\PC{0,40}|[\\x00-\\x1f\u{1F600}\u{202E}<>&\"\\\\]{0,40}|NaN|-?Infinity|1e999".prop_map(|text| Some(Cow::from(text)))]
    };
    let start = (-4_000_i64..10).prop_map(|minutes| {
        let at = stamp().to_utc() - Duration::hours(4) + Duration::minutes(minutes);
        Some(Cow::from(at.format("%Y-%m-%d %H:%M:%S").to_string()))
    });
    let start = prop_oneof![9 => start, 1 => cell("[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9:.]{0,12})?")];
    let first = (
        cell("[0-9]{1,2}"),
        cell("[0-9-]{1,12}"),
        cell("14001(00|59|75)"),
        cell("[A-C]"),
        cell("[0-5]\\.[0-9]"),
        cell("-6[0-4]\\.[0-9]"),
        start,
    );
    let second = (
        cell("(NAO_)?PROGRAMADA"),
        cell("[PDECX]"),
        cell("-?[0-9]{1,5}(\\.00)?"),
        cell("[0-9]"),
        cell("[ -~]{0,60}"),
        cell("2026-11-2[0-9] 1[0-9]:00:00"),
    );
    (first, second).prop_map(|(first, second)| {
        let (id, numero_ocorrencia, codigo_ibge, bairro, latitude, longitude, data_inicio) = first;
        let (tipo, status_codigo, ucs_afetadas, equipes_designadas, causa, previsao_restabelecimento) = second;
        Row {
            id,
            numero_ocorrencia,
            codigo_ibge,
            bairro,
            latitude,
            longitude,
            data_inicio,
            tipo,
            status_codigo,
            ucs_afetadas,
            equipes_designadas,
            causa,
            previsao_restabelecimento,
        }
    })
}

proptest! {
    #[test]
    fn lesson_08_every_row_is_exactly_published_inactive_or_quarantined(rows in prop::collection::vec(any_row(), 0..60)) {
        let count = rows.len() as u64;
        let outages = read(rows);
        let quarantined: u64 = outages.quarantined().values().sum();
        prop_assert_eq!(outages.active().len() as u64 + outages.inactive() + quarantined, count);
        prop_assert!(outages.repaired().values().all(|repaired| *repaired <= outages.active().len() as u64));
        prop_assert!(outages.active().iter().all(|outage| outage.status.is_active()));
        prop_assert!(outages.active().iter().all(|o| o.previsao_restabelecimento.is_none_or(|forecast| forecast >= o.data_inicio)));
    }
}
