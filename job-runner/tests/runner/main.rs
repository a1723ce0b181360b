//! The job-runner as a process, against a real PostgreSQL and a real Redis that the tests start themselves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: clippy knows only functions marked #[test]"
)]

mod cache_limits;
mod cache_permissions;
mod connections;
mod encodings;
mod errors;
mod eviction;
mod faults;
mod grants;
mod health_check;
mod names;
#[cfg(feature = "oracle")]
mod oracle;
mod plausibility;
mod publish;
mod refresh;
mod secrets;
mod servers;
mod slot_wait;
mod stamps;
mod tls;
mod topology;
mod world;
