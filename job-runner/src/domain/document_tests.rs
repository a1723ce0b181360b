//! Tests of the documents: each for itself, and that those of one generation agree.

use std::{borrow::Cow, str::FromStr};

use proptest::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    document::{HEAD_BYTES, Identity, PUBLISHED_AT, PUBLISHED_AT_OFFSET},
    faixa::Faixa,
    geojson::FeatureCollection,
    map_document::MapDocument,
    outage::Outages,
    outage_tests::{any_row, good, intake},
    row::Row,
    statistics::Statistics,
};

const OWNER: &str = "radar/roraima";

/// The document as readers see it, once the cache has dated it.
fn published(document: &impl Serialize) -> String {
    let mut text = serde_json::to_string(document).unwrap();
    let date = PUBLISHED_AT_OFFSET..PUBLISHED_AT_OFFSET + PUBLISHED_AT.len();
    text.replace_range(date, "2026-11-23T19:00:01.000000Z");
    text
}

fn parsed(document: &impl Serialize) -> Value {
    serde_json::from_str(&published(document)).unwrap()
}

fn with(rows: &[Row<'_>]) -> Outages {
    let mut intake = intake();
    rows.iter().for_each(|row| intake.add(row));
    intake.finish()
}

#[test]
fn the_map_has_every_item_of_the_contract() {
    let map = parsed(&MapDocument::new(OWNER, &with(&[good("42")])));
    let expected = json!({
        "publishedAt": "2026-11-23T19:00:01.000000Z",
        "schemaVersion": 1,
        "owner": OWNER,
        "generation": 1_795_460_400_000_000_u64,
        "dataAsOf": "2026-11-23T19:00:00.000000Z",
        "total": 1,
        "interrupcoes": [{
            "id": 42, "numeroOcorrencia": "2026-001", "codigoIbge": "1400100", "nomeMunicipio": "Boa Vista", "bairro": "Caçari",
            "coordenadas": { "latitude": 2.8235, "longitude": -60.6758 }, "tipo": "PROGRAMADA",
            "dataInicio": "2026-11-23T12:55:00-04:00", "previsaoRestabelecimento": "2026-11-23T16:00:00-04:00", "causa": "Vento",
            "causaConhecida": true, "status": "EM_EXECUCAO", "faixaDuracao": "DE_1_A_3H", "duracaoMinutos": 125, "duracao": "02:05",
            "chi": 25.0, "ucsAfetadas": 12, "equipesDesignadas": 2,
        }],
    });
    assert_eq!(map, expected);
}

#[test]
fn the_statistics_have_the_contracts_keys_and_the_richer_set() {
    let centro = Row {
        bairro: Some("Centro".into()),
        status_codigo: Some("P".into()),
        ..good("43")
    };
    let statistics = parsed(&Statistics::new(OWNER, &with(&[good("42"), centro])));
    assert_eq!(statistics["total_interrupcoes"], 2);
    assert_eq!(statistics["total_ucs_afetadas"], 24);
    assert_eq!(statistics["chi_total"], 50.0);
    assert_eq!(statistics["equipes_em_campo"], 4);
    assert_eq!(statistics["por_municipio"], json!({ "1400100": 2 }));
    let faixas: Vec<_> = statistics["por_faixa"].as_object().unwrap().keys().cloned().collect();
    let mut all: Vec<_> = Faixa::ALL.iter().map(|faixa| faixa.as_str()).collect();
    all.sort_unstable();
    assert_eq!(faixas, all, "all seven, also without outages");
    assert_eq!(
        statistics["municipios"][0],
        json!({ "codigo_ibge": "1400100", "nome": "Boa Vista", "interrupcoes": 2, "ucs_afetadas": 24, "chi": 50.0, "equipes": 4 })
    );
    assert_eq!(statistics["bairros"][0]["bairro"], "Caçari");
    assert_eq!(statistics["bairros"][0]["ucs_por_faixa"]["DE_1_A_3H"], 12);
    assert_eq!(statistics["tipos"]["NAO_PROGRAMADA"]["interrupcoes"], 0);
    assert_eq!(statistics["status"]["EM_PREPARACAO"]["interrupcoes"], 1);
    assert_eq!(statistics["faixas"]["DE_1_A_3H"]["chi"], 50.0);
}

type Check = fn(&Value) -> bool;

/// The keys that readers of `<prefix>:estatisticas` have relied upon since before this program, each with what it has to hold. The document and its
/// sibling `last_good` are written by this one type.
const CONTRACT: [(&str, Check); 7] = [
    ("dataAsOf", |value| {
        value
            .as_str()
            .is_some_and(|text| chrono::DateTime::parse_from_rfc3339(text).is_ok())
    }),
    ("total_interrupcoes", Value::is_u64),
    ("total_ucs_afetadas", Value::is_u64),
    ("chi_total", Value::is_f64),
    ("equipes_em_campo", Value::is_u64),
    ("por_faixa", |value| {
        Faixa::ALL.iter().all(|faixa| value[faixa.as_str()].is_u64()) && has_length(value, 7)
    }),
    ("por_municipio", |value| {
        value
            .as_object()
            .is_some_and(|counts| counts.values().all(Value::is_u64))
    }),
];

fn has_length(value: &Value, length: usize) -> bool {
    value.as_object().is_some_and(|object| object.len() == length)
}

#[test]
fn the_seven_keys_of_the_contract_are_there_with_their_types_with_outages_and_without() {
    for rows in [vec![good("42"), good("43")], vec![good("42")], Vec::new()] {
        let statistics = parsed(&Statistics::new(OWNER, &with(&rows)));
        for (key, is_right) in CONTRACT {
            assert!(
                is_right(&statistics[key]),
                "{key} of {} outages: {statistics}",
                rows.len()
            );
        }
    }
}

#[test]
fn geojson_is_valid_and_has_longitude_first() {
    let nowhere = Row {
        latitude: None,
        ..good("43")
    };
    let text = published(&FeatureCollection::new(OWNER, &with(&[good("42"), nowhere])));
    let geojson::GeoJson::FeatureCollection(collection) = geojson::GeoJson::from_str(&text).unwrap() else {
        panic!("no FeatureCollection")
    };
    let place = collection.features[0].geometry.as_ref().unwrap();
    assert_eq!(
        serde_json::to_value(place).unwrap(),
        json!({ "type": "Point", "coordinates": [-60.6758, 2.8235] })
    );
    assert!(collection.features[1].geometry.is_none(), "counted, but nowhere");
    assert_eq!(collection.features[0].property("corFaixa"), Some(&json!("#8BC34A")));
}

#[test]
fn an_id_beyond_the_numbers_of_javascript_is_a_string_in_every_document() {
    let outages = with(&[
        good("9007199254740991"),
        good("9007199254740992"),
        good("9007199254740993"),
    ]);
    let expected = [
        json!(9_007_199_254_740_991_i64),
        json!("9007199254740992"),
        json!("9007199254740993"),
    ];
    let map = parsed(&MapDocument::new(OWNER, &outages));
    let ids = map["interrupcoes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].clone());
    assert_eq!(ids.collect::<Vec<_>>(), expected);
    let collection = parsed(&FeatureCollection::new(OWNER, &outages));
    for feature in collection["features"].as_array().unwrap() {
        assert_eq!(feature["id"], feature["properties"]["id"]);
    }
    let ids = collection["features"]
        .as_array()
        .unwrap()
        .iter()
        .map(|feature| feature["id"].clone());
    assert_eq!(ids.collect::<Vec<_>>(), expected);
}

#[test]
fn a_neighbourhood_is_counted_once_and_called_alike_in_both_documents() {
    let of = |id: &'static str, bairro: &'static str| Row {
        bairro: Some(bairro.into()),
        ..good(id)
    };
    let outages = with(&[
        of("1", "Caçari"),
        of("2", "CAÇARI"),
        of("3", "Cac\u{327}ari"),
        of("4", "Caçari\u{200B}"),
    ]);
    let (map, statistics) = (
        parsed(&MapDocument::new(OWNER, &outages)),
        parsed(&Statistics::new(OWNER, &outages)),
    );
    assert_eq!(statistics["bairros"].as_array().unwrap().len(), 1, "{statistics}");
    assert_eq!(
        (
            &statistics["bairros"][0]["bairro"],
            &statistics["bairros"][0]["interrupcoes"]
        ),
        (&json!("Caçari"), &json!(4))
    );
    for item in map["interrupcoes"].as_array().unwrap() {
        assert_eq!(item["bairro"], "Caçari");
    }
}

#[test]
fn lesson_09_no_outage_is_a_dated_document() {
    let none = with(&[]);
    let map = parsed(&MapDocument::new(OWNER, &none));
    assert_eq!(
        (&map["total"], &map["dataAsOf"]),
        (&json!(0), &json!("2026-11-23T19:00:00.000000Z"))
    );
    assert_eq!(map["interrupcoes"], json!([]));
    let statistics = parsed(&Statistics::new(OWNER, &none));
    assert_eq!(
        (&statistics["total_interrupcoes"], &statistics["chi_total"]),
        (&json!(0), &json!(0.0))
    );
    assert_eq!(statistics["por_municipio"], json!({}));
}

#[test]
fn the_beginning_of_each_document_says_whose_it_is_and_how_new_whatever_its_rows_say() {
    // The longest names that Kubernetes allows.
    let owner = format!("{}/{}", "n".repeat(63), "p".repeat(253));
    let hostile = || Some(Cow::from("\"owner\":\"x/y\",\"generation\":9,\"dataAsOf\":\""));
    let row = Row {
        bairro: hostile(),
        causa: hostile(),
        ..good("1")
    };
    for outages in [with(&[]), with(&[row])] {
        let documents = [
            published(&MapDocument::new(&owner, &outages)),
            published(&FeatureCollection::new(&owner, &outages)),
            published(&Statistics::new(&owner, &outages)),
        ];
        for document in documents {
            let beginning = &document.as_bytes()[..HEAD_BYTES.min(document.len())];
            let expected = Identity {
                generation: outages.stamp().micros(),
                owner: Some(owner.clone()),
            };
            assert_eq!(Identity::read(beginning), Some(expected), "{document}");
            let head = document.split(['[', '{']).nth(1).unwrap();
            assert!(head.len() < HEAD_BYTES - 256, "{head}");
            // What the cache's script looks for.
            let (_, behind) = head.split_once("\"dataAsOf\":\"").unwrap();
            let total = behind.split(',').nth(1).unwrap();
            assert!(total.starts_with("\"total") && head.contains(&format!("\"owner\":\"{owner}\",\"generation\":")));
        }
    }
}

#[test]
fn what_is_none_of_our_documents_has_no_identity() {
    for text in [
        "",
        "{",
        "{}",
        "x",
        "[]",
        "{\"generation\":1}",
        "{\"publishedAt\":\"",
        "{\"publishedAt\":\"2026\",\"generation\":\"1\",\"x\":[]}",
        "{\"publishedAt\":\"2026\",\"x\":{\"generation\":1}}",
        "{\"publishedAt\":\"2026\",\"generation\":99999999999999999999,\"x\":[]}",
        "{\"publishedAt\":\"\u{fffd},,,,{[",
    ] {
        assert_eq!(Identity::read(text.as_bytes()), None, "{text}");
    }
    let earlier = b"{\"publishedAt\":\"2026\",\"schemaVersion\":1,\"generation\":7,\"dataAsOf\":\"2026\",\"total\":0,\"interrupcoes\":[]}";
    let identity = Identity {
        generation: 7,
        owner: None,
    };
    assert_eq!(Identity::read(earlier), Some(identity));
}

#[test]
fn lesson_10_equal_generations_have_equal_content() {
    let once = published(&MapDocument::new(OWNER, &with(&[good("1"), good("2")])));
    let again = published(&MapDocument::new(OWNER, &with(&[good("1"), good("2")])));
    assert_eq!(once, again);
}

#[test]
fn hostile_text_stays_data() {
    for hostile in [
        "</script><script>alert(1)</script>",
        "\u{1b}[31mvermelho\u{7}",
        "\"}],\"total\":0,\"x\":[{\"",
        "𝕊 😀 \u{202E}esrever",
        "'; DROP TABLE interrupcao; --",
        &"ç".repeat(500),
    ] {
        let row = Row {
            causa: Some(Cow::from(hostile)),
            bairro: Some(Cow::from(hostile)),
            ..good("1")
        };
        let outages = with(&[row]);
        let map = parsed(&MapDocument::new(OWNER, &outages));
        assert_eq!(
            (&map["total"], &map["interrupcoes"][0]["causa"]),
            (&json!(1), &json!(hostile))
        );
        let bairro = parsed(&Statistics::new(OWNER, &outages))["bairros"][0]["bairro"].clone();
        assert_eq!(map["interrupcoes"][0]["bairro"], bairro);
        assert_eq!(bairro, crate::domain::text::name(hostile).as_ref());
        assert!(
            !published(&MapDocument::new(OWNER, &outages)).contains('\u{1b}'),
            "escaped on the wire"
        );
    }
}

proptest! {
    #[test]
    fn the_documents_of_one_generation_agree(rows in prop::collection::vec(any_row(), 0..60)) {
        let outages = with(&rows);
        let (map, statistics) = (parsed(&MapDocument::new(OWNER, &outages)), parsed(&Statistics::new(OWNER, &outages)));
        let geojson = published(&FeatureCollection::new(OWNER, &outages));
        let items = map["interrupcoes"].as_array().unwrap();
        let sum = |field: &str| items.iter().map(|item| item[field].as_u64().unwrap()).sum::<u64>();

        prop_assert_eq!(map["total"].as_u64(), Some(items.len() as u64));
        prop_assert_eq!(&statistics["total_interrupcoes"], &map["total"]);
        prop_assert_eq!(statistics["total_ucs_afetadas"].as_u64().unwrap(), sum("ucsAfetadas"));
        prop_assert_eq!(statistics["equipes_em_campo"].as_u64().unwrap(), sum("equipesDesignadas"));
        let chi: f64 = items.iter().map(|item| item["chi"].as_f64().unwrap()).sum();
        prop_assert!((statistics["chi_total"].as_f64().unwrap() - chi).abs() <= chi * 1e-9);

        for (by, key) in [("por_faixa", None), ("por_municipio", None), ("faixas", Some("interrupcoes")), ("tipos", Some("interrupcoes")), ("status", Some("interrupcoes"))] {
            let counts = statistics[by].as_object().unwrap().values();
            let total: u64 = counts.map(|value| key.map_or(value, |key| &value[key]).as_u64().unwrap()).sum();
            prop_assert_eq!(total, items.len() as u64, "{}", by);
        }
        for by in ["municipios", "bairros"] {
            let total: u64 = statistics[by].as_array().unwrap().iter().map(|figures| figures["ucs_afetadas"].as_u64().unwrap()).sum();
            prop_assert_eq!(total, sum("ucsAfetadas"), "{}", by);
        }
        for bairro in statistics["bairros"].as_array().unwrap() {
            let by_range: u64 = bairro["ucs_por_faixa"].as_object().unwrap().values().map(|ucs| ucs.as_u64().unwrap()).sum();
            prop_assert_eq!(Some(by_range), bairro["ucs_afetadas"].as_u64());
        }
        let geojson::GeoJson::FeatureCollection(collection) = geojson::GeoJson::from_str(&geojson).unwrap() else { panic!() };
        prop_assert_eq!(collection.features.len(), items.len());
        let name = |of: &Value, code: &str| (of[code].as_str().map(str::to_owned), of["bairro"].as_str().map(str::to_owned));
        let on_the_map: std::collections::BTreeSet<_> = items.iter().map(|item| name(item, "codigoIbge")).collect();
        let counted: std::collections::BTreeSet<_> =
            statistics["bairros"].as_array().unwrap().iter().map(|bairro| name(bairro, "codigo_ibge")).collect();
        prop_assert_eq!(on_the_map, counted);
    }
}
