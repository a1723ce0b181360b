//! The mapa-refresh operator.
//!
//! One reconcile reads as the pipeline in [`reconcile`]: observe → validate → desired → apply → fold → status. Only [`observe`] reads
//! the caches, only [`apply`] writes; everything between is pure and gets the time as a parameter.

pub mod apply;
pub mod backoff;
pub mod clock;
pub mod compliance;
pub mod conditions;
pub mod config_file;
pub mod controller;
pub mod desired;
pub mod error;
pub mod fingerprint;
pub mod index;
pub mod observe;
pub mod outcome;
pub mod quantity;
pub mod reconcile;
pub mod records;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod status;
pub mod telemetry;
pub mod transitions;
pub mod undecodable;
pub mod validate;
