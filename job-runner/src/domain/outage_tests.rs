//! Tests of the way from rows to outages.

use std::{borrow::Cow, sync::Arc};

use chrono::Duration;
use proptest::prelude::*;

use super::{
    area::Area,
    faixa::Faixa,
    outage::{Intake, Outage, Outages},
    row::Row,
    status::{Status, Tipo},
    time::Stamp,
};

/// 2026-11-23T15:00:00-04:00 in Boa Vista.
pub(super) fn stamp() -> Stamp {
    Stamp::from_micros(1_795_460_400_000_000).unwrap()
}

pub(super) fn intake() -> Intake {
    Intake::new(stamp(), chrono_tz::America::Boa_Vista, Arc::new(Area::roraima()))
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
    let mut intake = intake();
    for row in rows {
        intake.add(&row);
    }
    intake.finish()
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
    let cases: [(&str, Spoil); 33] = [
        ("FORECAST_BEFORE_START", |r| {
            r.previsao_restabelecimento = cell("2026-11-23 12:54:59")
        }),
        ("FORECAST_UNREADABLE", |r| {
            r.previsao_restabelecimento = cell("infinity")
        }),
        ("FORECAST_TOO_FAR", |r| {
            r.previsao_restabelecimento = cell("9999-12-31 23:59:59")
        }),
        ("FORECAST_TOO_FAR", |r| {
            r.previsao_restabelecimento = cell("2027-11-23 15:00:01")
        }),
        ("", |r| r.previsao_restabelecimento = cell("2027-11-23 15:00:00")),
        ("FORECAST_BEFORE_START", |r| {
            r.previsao_restabelecimento = cell("0001-01-01 00:00:00")
        }),
        ("UNREADABLE_TEXT", |r| r.bairro = cell("Ca\u{FFFD}ari")),
        ("UNREADABLE_TEXT", |r| {
            r.causa = cell("Queda de \u{FFFD}rvore");
            r.numero_ocorrencia = cell("\u{FFFD}1");
        }),
        ("UNKNOWN_MUNICIPALITY", |r| r.codigo_ibge = cell("Boa Vista")),
        ("UNKNOWN_TYPE", |r| r.tipo = cell("")),
        ("COORDINATES_MISSING", |r| r.latitude = cell("2.823,5")),
        ("", |r| {
            r.latitude = cell("2,8235");
            r.longitude = cell("-60,6758");
        }),
        ("MISSING_BAIRRO", |r| r.bairro = cell("\u{200B}\t")),
        ("MISSING_CREWS", |r| r.equipes_designadas = cell("\u{FEFF}")),
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
    let cases: [(&str, Spoil); 31] = [
        ("MISSING_ID", |r| r.id = None),
        ("MISSING_ID", |r| r.id = cell(" ")),
        ("INVALID_ID", |r| r.id = cell("1.5")),
        ("INVALID_ID", |r| r.id = cell("99999999999999999999")),
        ("MISSING_START", |r| r.data_inicio = None),
        ("INVALID_START", |r| r.data_inicio = cell("-infinity")),
        ("INVALID_START", |r| r.data_inicio = cell("0044-03-15 00:00:00 BC")),
        ("FUTURE_START", |r| r.data_inicio = cell("2026-11-23 15:05:01")),
        ("INVALID_ID", |r| r.id = cell("OC-1")),
        ("INVALID_START", |r| r.data_inicio = cell("29/11/2026 08:00")),
        ("INVALID_START", |r| r.data_inicio = cell("infinity")),
        ("START_TOO_OLD", |r| r.data_inicio = cell("1900-01-01 00:00:00")),
        ("START_TOO_OLD", |r| r.data_inicio = cell("0001-01-01 00:00:00")),
        ("START_TOO_OLD", |r| r.data_inicio = cell("0225-11-23 12:55:00")),
        ("START_TOO_OLD", |r| r.data_inicio = cell("0000-01-01 00:00:00")),
        ("START_TOO_OLD", |r| r.data_inicio = cell("1970-01-01 00:00:00+00")),
        ("START_TOO_OLD", |r| r.data_inicio = cell("2025-11-23 12:55:00")),
        ("START_TOO_OLD", |r| r.data_inicio = cell("2025-11-23 14:59:59")),
        ("FUTURE_START", |r| r.data_inicio = cell("9999-12-31 23:59:59")),
        ("INVALID_UCS", |r| r.ucs_afetadas = cell("10000001")),
        ("INVALID_UCS", |r| r.ucs_afetadas = cell("1,234")),
        ("INVALID_CREWS", |r| r.equipes_designadas = cell("10001")),
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
fn an_outage_of_a_year_is_one_and_no_older() {
    let (outage, repairs) = one(|r| r.data_inicio = cell("2025-11-23 15:00:00")).unwrap();
    assert_eq!((outage.duracao_minutos, repairs), (365 * 24 * 60, Vec::new()));
    let (outage, _) = one(|r| {
        r.ucs_afetadas = cell("10000000");
        r.equipes_designadas = cell("10000");
    })
    .unwrap();
    assert_eq!((outage.ucs_afetadas, outage.equipes_designadas), (10_000_000, 10_000));
}

#[test]
fn a_row_that_is_left_out_is_in_no_sum() {
    let outages = read([
        good("1"),
        Row {
            data_inicio: cell("0001-01-01 00:00:00"),
            ..good("2")
        },
    ]);
    assert_eq!(outages.active().iter().map(Outage::uc_minutes).sum::<u128>(), 12 * 125);
    assert_eq!(outages.quarantined(), [("START_TOO_OLD".to_owned(), 1)].into());
}

#[test]
fn a_municipality_is_known_however_its_column_writes_the_code() {
    for code in [
        "1400100",
        "1400100.00",
        "1.4001e+06",
        "1.4001E+006",
        " 1400100 ",
        "\u{FEFF}1400100",
        "１４００１００",
        "140010",
        "140010.0",
    ] {
        let (outage, repairs) = one(|r| r.codigo_ibge = cell(code)).unwrap();
        assert_eq!(
            (outage.codigo_ibge.as_deref(), outage.nome_municipio.as_deref()),
            (Some("1400100"), Some("Boa Vista")),
            "{code:?}"
        );
        assert!(repairs.is_empty(), "{code:?}: {repairs:?}");
    }
    let (unknown, _) = one(|r| r.codigo_ibge = cell("1302603.00")).unwrap();
    assert_eq!(unknown.codigo_ibge.as_deref(), Some("1302603"), "of another state");
}

#[test]
fn numbers_are_read_from_text_with_characters_that_nobody_sees() {
    let (outage, repairs) = one(|r| {
        r.id = cell("\u{FEFF}1.0");
        r.ucs_afetadas = cell("12\u{A0}");
        r.equipes_designadas = cell("\u{200B}2");
        r.data_inicio = cell("\u{200E}2026-11-23\u{A0}12:55");
        r.status_codigo = cell("Em Execução");
        r.tipo = cell("programada");
    })
    .unwrap();
    let (expected, _) = one(|_| {}).unwrap();
    assert_eq!(outage, expected);
    assert!(repairs.is_empty(), "{repairs:?}");
}

#[test]
fn a_word_in_any_spelling_ends_an_outage_or_plans_it() {
    for over in ["CONCLUÍDA", "Concluida", "cancelada", "c", "Cancelado"] {
        let outages = read([Row {
            status_codigo: cell(over),
            ..good("1")
        }]);
        assert_eq!((outages.inactive(), outages.active().len()), (1, 0), "{over}");
    }
    let (outage, repairs) = one(|r| r.tipo = cell("Programada")).unwrap();
    assert_eq!((outage.tipo, repairs), (Tipo::Programada, Vec::new()));
}

fn of_bairro<'a>(id: &'a str, bairro: &'a str) -> Row<'a> {
    Row {
        bairro: cell(bairro),
        ..good(id)
    }
}

#[test]
fn a_neighbourhood_has_one_spelling_that_most_of_its_rows_have() {
    let spellings = |rows: &[Row<'_>]| -> Vec<String> {
        let outages = read(rows.iter().cloned());
        outages.active().iter().map(|outage| outage.bairro.clone()).collect()
    };
    let rows = [
        of_bairro("1", "CAÇARI"),
        of_bairro("2", "Cac\u{327}ari"),
        of_bairro("3", "Caçari\u{200B}"),
        of_bairro("4", "cacari"),
        of_bairro("5", " Caçari  "),
    ];
    assert_eq!(spellings(&rows), ["Caçari"; 5]);
    let backwards: Vec<_> = rows.iter().rev().cloned().collect();
    assert_eq!(spellings(&backwards), ["Caçari"; 5], "whatever their order");
    assert_eq!(
        spellings(&[of_bairro("1", "SAO VICENTE"), of_bairro("2", "São Vicente")]),
        ["São Vicente"; 2],
        "of two that are equally frequent the one with accents"
    );
    assert_eq!(
        spellings(&[
            of_bairro("1", "NÃO INFORMADO"),
            of_bairro("2", "nao informado"),
            of_bairro("3", "")
        ]),
        ["Nao informado"; 3]
    );
    let elsewhere = Row {
        codigo_ibge: cell("1400027"),
        ..of_bairro("3", "CENTRO")
    };
    assert_eq!(
        spellings(&[of_bairro("1", "Centro"), of_bairro("2", "Centro II"), elsewhere]),
        ["Centro", "Centro II", "CENTRO"],
        "other names, and those of other municipalities, keep theirs"
    );
}

fn spoilt(id: &str) -> Row<'_> {
    Row {
        data_inicio: cell("29/11/2026 08:00"),
        ..good(id)
    }
}

#[test]
fn announced_work_is_left_out_and_is_no_bad_row() {
    let tomorrow = |id: &'static str, tipo: &'static str| Row {
        data_inicio: Some("2099-01-01 08:00:00".into()),
        tipo: Some(tipo.into()),
        ..good(id)
    };
    let announced = read(vec![tomorrow("1", "Programada"), tomorrow("2", "PROGRAMADA")]);
    assert_eq!(announced.demand_publishable(0), Ok(()), "there is no outage now");
    assert_eq!(announced.quarantined()["FUTURE_START"], 2);
    let message = read(vec![tomorrow("1", "PROGRAMADA"), tomorrow("2", "NAO_PROGRAMADA")])
        .demand_publishable(100)
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("1 of the view's 1 row of active outages"),
        "{message}"
    );
}

#[test]
fn lesson_09_a_view_of_which_too_many_rows_are_quarantined_is_not_published() {
    let over = || Row {
        status_codigo: cell("C"),
        ..good("9")
    };
    for (rows, max_percent, expected) in [
        (vec![], 50, None),
        (vec![over()], 0, None),
        (vec![good("1"), spoilt("2")], 50, None),
        (vec![good("1"), good("1")], 50, None),
        (
            vec![good("1"), spoilt("2"), spoilt("3")],
            66,
            Some("2 of the view's 3 rows"),
        ),
        (vec![good("1"), spoilt("2"), spoilt("3")], 67, None),
        (vec![good("1"), spoilt("2")], 0, Some("1 of the view's 2 rows")),
        (vec![spoilt("1")], 100, Some("1 of the view's 1 row of")),
        (vec![over(), over(), spoilt("1")], 100, Some("1 of the view's 1 row of")),
        (vec![good("1"), spoilt("2"), spoilt("3"), spoilt("4")], 100, None),
    ] {
        let count = rows.len();
        let judged = read(rows).demand_publishable(max_percent);
        match (judged, expected) {
            (Ok(()), None) => {}
            (Err(why), Some(expected)) => assert!(why.to_string().starts_with(expected), "{why}"),
            other => panic!("{count} rows, {max_percent} %: {other:?}"),
        }
    }
    let mut rows = vec![spoilt("1"), spoilt("2")];
    rows.push(Row {
        ucs_afetadas: None,
        ..good("3")
    });
    let message = read(rows.clone()).demand_publishable(50).unwrap_err().to_string();
    assert!(message.contains("(INVALID_START 2, MISSING_UCS 1)"), "{message}");
    assert!(
        !message.contains("maxQuarantinedPercent"),
        "no setting publishes nothing: {message}"
    );
    rows.push(good("4"));
    let message = read(rows).demand_publishable(50).unwrap_err().to_string();
    assert!(
        message.contains("spec.plausibility.maxQuarantinedPercent (50)"),
        "{message}"
    );
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
        let mut intake = Intake::new(stamp, chrono_tz::America::Boa_Vista, Arc::new(Area::roraima()));
        intake.add(&good("1"));
        intake.finish().active()[0].duracao_minutos
    };
    assert_eq!(
        (minutes(0), minutes(10)),
        (125, 135),
        "only a newer stamp makes an outage longer"
    );
}

#[test]
fn a_utc_machine_reads_local_times_in_the_policys_zone() {
    let mut utc = Intake::new(stamp(), chrono_tz::UTC, Arc::new(Area::roraima()));
    utc.add(&good("1"));
    assert_eq!(utc.finish().active()[0].duracao_minutos, 125 + 4 * 60);
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
        cell("[A-C]|[cC][eE]ntro|[Ss](ã|a\u{303}|A|a)o  ?Vicente\u{200B}?"),
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
        prop_assert!(outages.active().iter().all(|outage| outage.duracao_minutos <= 365 * 24 * 60));
        let names: std::collections::BTreeSet<_> = outages.active().iter().map(|o| (&o.codigo_ibge, &o.bairro)).collect();
        let keys: std::collections::BTreeSet<_> =
            names.iter().map(|(code, bairro)| (code, super::text::name_key(bairro))).collect();
        prop_assert_eq!(names.len(), keys.len(), "each name in one spelling");
        let quarantined = quarantined - outages.announced();
        let is_lost = outages.active().is_empty() && quarantined > 0;
        let is_above = quarantined * 2 > outages.active().len() as u64 + quarantined;
        prop_assert_eq!(outages.demand_publishable(50).is_err(), is_lost || is_above);
        prop_assert!(outages.active().iter().all(|o| o.previsao_restabelecimento.is_none_or(|forecast| forecast >= o.data_inicio)));
    }
}
