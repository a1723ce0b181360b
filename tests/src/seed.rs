//! The data set: a distributor like Roraima's, with the rows that broke the system replaced.

use crate::{
    Result,
    postgres::{Postgres, RUNNER_PASSWORD, RUNNER_ROLE},
};

const ROWS: &str = include_str!("seed/roraima.sql");

/// What the runner must make of the data set.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Rows in the view.
    pub rows: u64,
    /// Active and published.
    pub active: u64,
    /// Left out because concluded.
    pub concluded: u64,
    /// Quarantined.
    pub quarantined: u64,
    /// Active rows in which something was repaired.
    pub repaired: u64,
}

/// The counts of the data set.
pub const EXPECTED: Expected = Expected {
    rows: 322 + 12 + 7,
    active: 293 + 12,
    concluded: 29,
    quarantined: 7,
    repaired: 7,
};

/// Loads the data set and gives the view to the runner's role. The statements are those that `job-runner schema` prints, but for the index: ids repeat here.
///
/// # Errors
/// PostgreSQL refuses a statement; with its words.
pub fn load(database: &Postgres) -> Result<()> {
    database.sql(ROWS)?;
    database.sql(&format!(
        "CREATE ROLE {RUNNER_ROLE} LOGIN PASSWORD '{RUNNER_PASSWORD}';
         GRANT USAGE, CREATE ON SCHEMA radar TO {RUNNER_ROLE};
         GRANT SELECT ON ALL TABLES IN SCHEMA radar TO {RUNNER_ROLE};
         GRANT EXECUTE ON FUNCTION radar.agora() TO {RUNNER_ROLE};
         ALTER MATERIALIZED VIEW radar.mv_portal_publico OWNER TO {RUNNER_ROLE};
         CREATE TABLE radar.mapa_refresh_stamp (view_name text PRIMARY KEY, refreshed_at timestamptz NOT NULL);
         GRANT SELECT, INSERT, UPDATE ON radar.mapa_refresh_stamp TO {RUNNER_ROLE};"
    ))?;
    Ok(())
}
