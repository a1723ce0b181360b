//! What a case does to a backend besides using it.

use std::time::Duration;

use mapa_refresh_job_runner::database::{
    Database, DatabaseError,
    name::{ColumnNames, ViewName},
};

/// A database of its own with the view `RADAR.MV_PORTAL_PUBLICO`, never refreshed, over an empty source.
pub trait Backend {
    type Session: Database;

    fn new() -> Self;

    /// A session for `view`, with `columns` renamed.
    async fn connect_to(&self, view: &str, columns: &str) -> Result<Self::Session, DatabaseError>;

    /// The view's name.
    fn view(&self) -> String {
        "RADAR.MV_PORTAL_PUBLICO".to_owned()
    }

    /// A session for the view.
    async fn connect(&self) -> Self::Session {
        self.connect_to(&self.view(), "").await.unwrap()
    }

    /// What the view's query will yield: outages with these ids and causes.
    fn source(&self, outages: &[(i64, Option<&str>)]);

    /// How long a refresh takes from now on.
    fn refresh_takes(&self, time: Duration);

    /// Refreshes the view from outside, at once. Its stamp is a second younger at least.
    fn refresh_from_outside(&self);

    /// Makes the view's stamp so much older; false where that can't be done.
    fn age_stamp(&self, seconds: i64) -> bool;

    /// Whether a session is refreshing the view now.
    fn is_refreshing(&self) -> bool;

    /// Lets a second pass, where stamps are whole seconds.
    fn let_stamps_differ(&self);
}

/// The names a session is opened with.
pub fn names(view: &str, columns: &str) -> (ViewName, ColumnNames) {
    (ViewName::parse(view).unwrap(), ColumnNames::parse(columns).unwrap())
}
