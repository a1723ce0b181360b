//! The real operator on a Kubernetes in memory whose time is virtual, and every fault that can be played there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod admission;
mod caches;
mod calm;
mod extra_runs;
mod objects;
mod random;
mod replicas;
mod reports;
mod runs;
mod span;
mod stuck;
mod transport;
mod undecodable;
