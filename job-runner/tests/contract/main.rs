//! One contract, every backend: what a run may expect of [`Database`], whatever its kind.
//!
//! Each case runs over PostgreSQL with a real materialized view, over the genuine crate `oracle` with the OCI stub (which is not Oracle) under it, over a
//! model in memory, which shows that a case asks for nothing but the contract, and over a real Oracle when `ORACLE_TEST_DSN`, `ORACLE_TEST_USER` and
//! `ORACLE_TEST_PASSWORD` say where one is. Without them those cases are reported as ignored, by their names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: clippy knows only functions marked #[test]"
)]

mod backend;
mod cases;
mod memory;
#[cfg(feature = "oracle")]
mod oracle;
mod postgres;
#[path = "../runner/servers.rs"]
#[expect(dead_code, reason = "the runner's tests use more of it")]
mod servers;

use libtest_mimic::Arguments;

fn main() {
    let mut trials = Vec::new();
    trials.extend(cases::over::<memory::Memory>("memory", true));
    trials.extend(cases::over::<postgres::PostgreSql>("postgresql", true));
    #[cfg(feature = "oracle")]
    {
        // A process has one client of Oracle: the stub's, or Oracle's own.
        let has_oracle = oracle::real::Real::is_given();
        if !has_oracle {
            oracle::load_stub();
        }
        trials.extend(cases::over::<oracle::Stub>("oci_stub_not_oracle", !has_oracle));
        trials.extend(cases::over::<oracle::real::Real>("oracle_test_dsn", has_oracle));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
