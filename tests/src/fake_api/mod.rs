//! A Kubernetes in memory, with virtual time, for faults that a real one does not play on demand.
//!
//! [`World`] is the way in: a deterministic API server ([`server`]: objects, versions, watches, 410, 409, pages), in front of it the
//! faults ([`faults`]), behind it a model of CronJob controller, Job controller, garbage collector and kubelet ([`kubernetes`]) whose
//! runs follow a script ([`runs`]), and before it the real operator, `mapa_refresh_operator::replica::run`. After every request and
//! every step the invariants ([`invariants`]) are judged by what is true ([`truth`]), not by what anybody says.
//!
//! tokio's time has to be paused (`#[tokio::test(start_paused = true)]`): a day then takes about a second. What is left to chance
//! follows from the seed, except the order in which the operator walks its hash maps.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it lives in tests alone, and a test fails by panicking"
)]

pub mod failure;
pub mod faults;
pub mod http;
pub mod invariants;
pub mod kubernetes;
mod replica;
pub mod resource;
pub mod runs;
pub mod schedule;
pub mod selector;
pub mod server;
pub mod store;
pub mod time;
pub mod truth;
mod watch;
pub mod world;

pub use replica::Replica;
pub use world::{World, policy};
