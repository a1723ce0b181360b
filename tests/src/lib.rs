//! A real Kubernetes, PostgreSQL and Redis for tests and for the demo, on a machine with Rust, Go and Debian's packages.
//!
//! Two shapes: a [`ControlPlane`](control_plane::ControlPlane) (etcd, API server, controller-manager; no root needed) and a
//! [`Node`](node::Node) beside it (scheduler, containerd, kubelet, kube-proxy; root), on which pods really run. Everything lives below
//! one temporary folder and ends with the value that started it.
//!
//! And one that is not real: [`fake_api`], an API server in memory whose time is virtual, for faults that no real one plays on demand.

pub mod assets;
pub mod cargo;
pub mod cargo_tool;
pub mod chart_readme;
pub mod control_plane;
pub mod crates;
pub mod dashboard;
pub mod error;
pub mod fake_api;
pub mod helm;
pub mod images;
pub mod interrupt;
pub mod kubectl;
pub mod limit;
pub mod metrics_table;
pub mod node;
pub mod oci_archive;
pub mod operator;
pub mod packages;
pub mod pki;
pub mod policy;
pub mod postgres;
pub mod process;
pub mod progress;
#[cfg(test)]
mod proofs;
pub mod redis;
pub mod sbom;
pub mod scratch;
pub mod seed;
pub mod sources;
pub mod vitals;
pub mod wait;

pub use error::{Error, Result};
