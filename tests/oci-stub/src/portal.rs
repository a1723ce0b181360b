//! A distributor's view, as the first user's `RADAR.MV_PORTAL_PUBLICO` is.

use chrono::NaiveDateTime;

use crate::{
    value::{Column, Kind, Value},
    world::{View, World},
};

/// Owner and name of the view.
pub const VIEW: (&str, &str) = ("RADAR", "MV_PORTAL_PUBLICO");

/// A database with the service `RADAR` and the view, never refreshed, over an empty source; `user` may refresh it.
#[must_use]
pub fn database(user: &str, password: &str) -> World {
    let mut world = World::new("RADAR", user, password);
    world.refreshers.push(user.to_ascii_uppercase());
    let (owner, name) = VIEW;
    let view = View::materialized(columns(), Vec::new());
    world.views.insert((owner.to_owned(), name.to_owned()), view);
    world
}

/// Its columns.
#[must_use]
pub fn columns() -> Vec<Column> {
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

/// An outage of ten consumer units in Boa Vista that began at `start`, local time.
#[must_use]
pub fn outage(id: i64, start: NaiveDateTime) -> Vec<Value> {
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
