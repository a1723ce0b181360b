//! A million cases each of what comes from outside: rows, urls, and what goes into a report. None may panic, and each result is checked.
//!
//! Cases are put together at random from pieces that mean something and pieces that don't. `MILLION_SEED` repeats a run, `MILLION_CASES` sets its length.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests: clippy knows only functions marked #[test]"
)]

use std::{borrow::Cow, env, path::Path, str::FromStr, sync::Arc};

use chrono_tz::America::Boa_Vista;
use fastrand::Rng;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use mapa_refresh_crds::{
    RunReport,
    policy::TaskName,
    report::{Attempt, FaultClass, MAX_BYTES, Publication, Publications, RunError, RunResult, VERSION},
};
use mapa_refresh_job_runner::{
    cache,
    database::{oracle, postgres},
    domain::{
        area::Area, geojson::FeatureCollection, map_document::MapDocument, outage::Intake, row::Row,
        statistics::Statistics, time::Stamp,
    },
    secret::{Secret, SecretError},
};
use serde::Serialize;
use serde_json::Value;

const OWNER: &str = "radar/roraima";

/// Rows of one view: the documents of each view are checked.
const VIEW: usize = 50;

fn cases() -> usize {
    env::var("MILLION_CASES").map_or(1_000_000, |text| text.parse().unwrap())
}

/// Random, and said when a test fails, so that it can be repeated.
fn rng() -> Rng {
    let seed = env::var("MILLION_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    println!("MILLION_SEED={seed}");
    Rng::with_seed(seed)
}

/// One of `pieces`, or noise.
fn piece(rng: &mut Rng, pieces: &[&str]) -> String {
    match rng.u8(..) {
        0..20 => (0..rng.usize(..12)).map(|_| rng.char(..)).collect(),
        20..30 => (0..rng.usize(..12)).map(|_| char::from(rng.u8(..128))).collect(),
        _ => (*rng.choice(pieces).unwrap()).to_owned(),
    }
}

fn cell(rng: &mut Rng, pieces: &[&str]) -> Option<Cow<'static, str>> {
    (rng.u8(..) > 12).then(|| Cow::from(piece(rng, pieces)))
}

fn row(rng: &mut Rng) -> Row<'static> {
    const NUMBERS: &[&str] = &[
        "0",
        "1",
        "12",
        "12.00",
        "-1",
        "1e3",
        "1e400",
        "NaN",
        "9223372036854775807",
        "0.5",
        "-0",
        "99999999999999999999",
    ];
    const DATES: &[&str] = &[
        "2026-11-23 12:00:00",
        "2026-11-23 15:04:59",
        "2026-11-23 15:10:00",
        "2026-11-20 00:00:00",
        "0000-00-00 00:00:00",
        "infinity",
        "2026-11-23",
        "2026-11-23T12:00:00-04:00",
        "2026-11-23 12:00:00.123456+00",
        "9999-12-31 23:59:59",
        "1582-10-10 00:00:00",
        "0225-11-23 12:00:00",
        "2026-11-23T12:00-0400",
        "29/11/2026 08:00",
        "2026-11-23 24:00:00",
    ];
    const TEXTS: &[&str] = &[
        "Centro",
        "Nao informado",
        "São Vicente",
        "SA\u{303}O  VICENTE\u{200B}",
        "Queda de \u{fffd}rvore",
        "<script>",
        "\u{1b}[31m",
        "😀\u{202e}",
        "\"\\",
        "\u{0}",
        "",
        "   ",
    ];
    const LATITUDES: &[&str] = &["2.8", "0.0", "-1.583333", "5.316667", "91", "-60.6", "NaN", "1e-320"];
    let mut number = |pieces| cell(rng, pieces);
    let (latitude, longitude) = (number(LATITUDES), number(&["-60.6", "-64.833333", "0", "181", "-60,6"]));
    let (ucs_afetadas, equipes_designadas) = (number(NUMBERS), number(NUMBERS));
    let id = if rng.u8(..) < 20 {
        cell(rng, NUMBERS)
    } else {
        Some(rng.u16(..).to_string().into())
    };
    Row {
        id,
        numero_ocorrencia: cell(rng, TEXTS),
        codigo_ibge: cell(
            rng,
            &[
                "1400100",
                "1400100.00",
                "1.4001e+06",
                "1400050",
                "1300000",
                "140010",
                "",
                "１４００１００",
            ],
        ),
        bairro: cell(rng, TEXTS),
        latitude,
        longitude,
        data_inicio: cell(rng, DATES),
        tipo: cell(
            rng,
            &["PROGRAMADA", "NAO_PROGRAMADA", "programada", "Não Programada", "X"],
        ),
        status_codigo: cell(rng, &["P", "D", "E", "C", "X", "e ", "CONCLUÍDA", "Em execução"]),
        ucs_afetadas,
        equipes_designadas,
        causa: cell(rng, TEXTS),
        previsao_restabelecimento: cell(rng, DATES),
    }
}

fn parsed(document: &impl Serialize) -> Value {
    serde_json::from_str(&serde_json::to_string(document).unwrap()).unwrap()
}

#[test]
fn a_million_rows_are_each_published_inactive_or_quarantined_and_their_documents_are_valid_and_agree() {
    let mut rng = rng();
    let stamp = Stamp::from_micros(1_795_460_400_000_000).unwrap();
    let area = Arc::new(Area::roraima());
    let mut published = 0;
    for _ in 0..cases() / VIEW {
        let mut intake = Intake::new(stamp, Boa_Vista, Arc::clone(&area));
        (0..VIEW).for_each(|_| intake.add(&row(&mut rng)));
        let outages = intake.finish();
        let quarantined: u64 = outages.quarantined().values().sum();
        let active = outages.active().len() as u64;
        assert_eq!(active + outages.inactive() + quarantined, VIEW as u64);
        published += active;
        let (map, statistics) = (
            parsed(&MapDocument::new(OWNER, &outages)),
            parsed(&Statistics::new(OWNER, &outages)),
        );
        assert_eq!(map["total"], active);
        assert_eq!(statistics["total_interrupcoes"], active);
        let text = serde_json::to_string(&FeatureCollection::new(OWNER, &outages)).unwrap();
        let geojson::GeoJson::FeatureCollection(collection) = geojson::GeoJson::from_str(&text).unwrap() else {
            panic!()
        };
        assert_eq!(collection.features.len() as u64, active);
    }
    // A generator of nothing but rubbish would prove little.
    assert!(published > cases() as u64 / 20, "{published} published");
}

fn url(rng: &mut Rng) -> String {
    const PIECES: &[&str] = &[
        "oracle://",
        "oracle+tcps://",
        "postgres://",
        "postgresql://",
        "redis://",
        "rediss://",
        "redis+sentinel://",
        "redis+cluster://",
        "tcps://",
        "//",
        "(DESCRIPTION=",
        "user",
        ":",
        ":c4n4ry-password",
        "@",
        "host",
        "db.example",
        "[::1]",
        "127.0.0.1",
        ":1521",
        ":65536",
        ",",
        "/",
        "/RADAR",
        "?",
        "&",
        "sslmode=disable",
        "connect_timeout=3",
        "wallet_location=/x",
        "%40",
        "%",
        "%zz",
        "#",
        "=",
        " ",
        "\n",
    ];
    let mut url = String::new();
    for _ in 0..rng.usize(..9) {
        url.push_str(&piece(rng, PIECES));
    }
    url
}

#[test]
fn a_million_urls_are_understood_or_refused_without_their_passwords() {
    let mut rng = rng();
    let dir = Path::new("/nao/existe");
    let mut understood = 0;
    for _ in 0..cases() {
        let url = url(&mut rng);
        let secret = || Secret {
            url: url.clone().into(),
            // Half of the Secrets have a user of their own.
            username: url.len().is_multiple_of(2).then(|| "user".to_owned()),
            password: Some("c4n4ry-password".to_owned().into()),
            ca: None,
            client: None,
            sentinel_username: None,
            sentinel_password: None,
        };
        let results: [Result<(), SecretError>; 3] = [
            oracle::Target::new(&secret(), dir, None).map(drop),
            postgres::Target::new(secret(), dir, None).map(drop),
            cache::Target::new(secret(), dir, None).map(drop),
        ];
        for result in results {
            match result {
                Ok(()) => understood += 1,
                Err(error) => assert!(!error.to_string().contains("c4n4ry"), "{url:?}: {error}"),
            }
        }
    }
    assert!(understood > cases() / 100, "{understood} understood");
}

#[test]
fn a_million_reports_are_valid_json_in_one_line_within_the_limit() {
    let mut rng = rng();
    for _ in 0..cases() {
        let length = rng.usize(..60);
        let message: String = (0..length)
            .map(|_| {
                piece(
                    &mut rng,
                    &["database: ", "ORA-03113: ", "\"", "\\", "\n", "😀", "ã", "\u{7f}"],
                )
            })
            .collect();
        let attempts = (0..rng.usize(..12)).map(|_| Attempt {
            duration_ms: rng.u64(..),
            class: Some(FaultClass::Transient),
            code: Some("ORA-03113".to_owned()),
        });
        let report = RunReport {
            version: VERSION,
            policy_uid: "6f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a10".into(),
            task: TaskName::RefreshMapaCache,
            target: "0123456789abcdef".into(),
            pod_uid: "1f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a11".into(),
            started_at: MicroTime(Timestamp::UNIX_EPOCH),
            finished_at: MicroTime(Timestamp::UNIX_EPOCH),
            duration_ms: 12,
            attempts: attempts.collect(),
            result: RunResult::Failed(RunError {
                class: FaultClass::Transient,
                code: "ORA-03113".into(),
                message,
            }),
            refused_rows: None,
            published: None,
            publications: Publications::new((0..length as i64).map(|at| Publication {
                published_at: -600 * at,
                data_as_of: -601 * at,
            })),
        };
        let line = report.encode(MAX_BYTES).unwrap();
        assert!(line.len() <= MAX_BYTES && !line.contains('\n'), "{line}");
        assert!(RunReport::decode(&line).is_ok(), "{line}");
    }
}
