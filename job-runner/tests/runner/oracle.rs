//! Oracle: the genuine crate and the genuine ODPI-C in the runner's process, over the OCI stub, which is not Oracle.

use std::{fs, net::IpAddr, sync::Arc, time::Duration};

use chrono::{NaiveDate, NaiveDateTime};
use mapa_refresh_crds::report::{FaultClass, SuccessKind};
use oci_stub::{
    protocol::Ora,
    server::Server,
    value::{Column, Kind, Value},
    world::{Effect, Fault, Logon, Point, View, World as OracleWorld},
};
use redis::Commands;

use crate::world::{DATABASE_PASSWORD, Runner, Site, generation};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";
const STATISTICS: &str = "calcular-estatisticas";
const USER: &str = "mapa_refresh";

/// A run may take so much longer than its limits.
const GRACE: Duration = Duration::from_secs(5);

/// A world whose database is the OCI stub.
struct Oracle {
    site: Site,
    server: Server,
}

impl Oracle {
    fn new() -> Self {
        let mut database = OracleWorld::new("RADAR", USER, DATABASE_PASSWORD);
        database.refreshers.push(USER.to_ascii_uppercase());
        database.views.insert(("RADAR".into(), "MV_PORTAL_PUBLICO".into()), View::materialized(columns(), Vec::new()));
        let server = Server::start(IpAddr::from([127, 0, 0, 1]), database).unwrap();
        let site = Site::new();
        fs::create_dir(site.path("client")).unwrap();
        oci_stub::install(&site.path("client")).unwrap();
        let oracle = Self { site, server };
        oracle.secret(&[]);
        oracle
    }

    fn url(&self) -> String {
        format!("oracle://{}/RADAR", self.server.address())
    }

    /// The database's Secret, with `keys` instead of its own.
    fn secret(&self, keys: &[(&str, &str)]) {
        let url = self.url();
        let mut all = vec![("url", url.as_str()), ("username", USER), ("password", DATABASE_PASSWORD)];
        for (key, value) in keys {
            all.retain(|(own, _)| own != key);
            if !value.is_empty() {
                all.push((key, value));
            }
        }
        self.site.secret("database", &all);
    }

    fn runner(&self, task: &str) -> Runner {
        let client = self.site.path("client");
        self.site.runner(task).env("MAPA_DATABASE_KIND", "oracle").env("LD_LIBRARY_PATH", &client.display().to_string())
    }

    /// Rows that the view's query would yield now.
    fn source(&self, rows: Vec<Vec<Value>>) {
        self.server.world(|world| world.view("RADAR", "MV_PORTAL_PUBLICO").source = Arc::new(rows));
    }

    fn fault(&self, fault: Fault) {
        self.server.world(|world| world.faults.push(fault));
    }

    fn local_time(&self) -> NaiveDateTime {
        self.server.world(|world| world.sysdate())
    }
}

fn columns() -> Vec<Column> {
    [
        ("id", Kind::Number),
        ("numero_ocorrencia", Kind::Varchar2(50)),
        ("codigo_ibge", Kind::Varchar2(7)),
        ("bairro", Kind::Varchar2(200)),
        ("latitude", Kind::Number),
        ("longitude", Kind::Number),
        ("data_inicio", Kind::Date),
        ("tipo", Kind::Varchar2(20)),
        ("status_codigo", Kind::Char(10)),
        ("ucs_afetadas", Kind::Decimal(10, 0)),
        ("equipes_designadas", Kind::Number),
        ("causa", Kind::Varchar2(500)),
        ("previsao_restabelecimento", Kind::Date),
        ("ultima_atualizacao", Kind::Date),
    ]
    .map(|(name, kind)| Column::new(name, kind))
    .to_vec()
}

fn outage(id: i64, start: NaiveDateTime) -> Vec<Value> {
    vec![
        Value::int(id),
        Value::text(&format!("OC-{id}")),
        Value::text("1400100"),
        Value::text("São Vicente"),
        Value::Number("2.8235".into()),
        Value::Number("-60.6758".into()),
        Value::Local(start),
        Value::text("NAO_PROGRAMADA"),
        Value::text("E         "),
        Value::int(10),
        Value::int(1),
        Value::Null,
        Value::Null,
        Value::Local(start),
    ]
}

#[test]
fn a_refresh_fills_the_view_and_what_it_holds_is_published() {
    let oracle = Oracle::new();
    let start = oracle.local_time() - chrono::Duration::minutes(90);
    oracle.source(vec![outage(1, start), outage(2, start)]);
    let refreshed = oracle.runner(VIEW).run().success();
    assert_eq!((refreshed.kind, refreshed.records), (SuccessKind::Refreshed, 2));
    assert!((0.0..5.0).contains(&refreshed.age_seconds), "{refreshed:?}");
    let published = oracle.runner(MAP).run().success();
    assert_eq!((published.kind, published.records), (SuccessKind::Published, 2));
    assert_eq!(generation(&published), generation(&refreshed));
    let map = oracle.site.document("mapa:interrupcoes").unwrap();
    let item = &map["interrupcoes"][0];
    assert_eq!(item["bairro"], "São Vicente");
    assert_eq!(item["coordenadas"]["longitude"], -60.6758);
    assert_eq!(item["status"], "EM_EXECUCAO");
    assert_eq!(item["duracaoMinutos"], 90);
    assert_eq!(item["dataInicio"].as_str().unwrap(), format!("{}-04:00", start.format("%Y-%m-%dT%H:%M:%S")));
    oracle.runner(STATISTICS).run().success();
    assert_eq!(oracle.site.document("mapa:estatisticas").unwrap()["total_ucs_afetadas"], 20);
    assert_eq!(oracle.runner("health-check").run().success().kind, SuccessKind::Healthy);
}
