//! The mapa-refresh operator.
//!
//! One reconcile reads as the pipeline in [`reconcile`]: observe → validate → desired → apply → fold → status. Only [`observe`] reads
//! the caches, only [`apply`] writes; everything between is pure and gets the time as a parameter.

pub mod account;
pub mod admission;
pub mod answer_timeout;
pub mod apply;
pub mod backoff;
pub mod clock;
pub mod collector;
pub mod compliance;
pub mod conditions;
pub mod config_file;
pub mod controller;
pub mod definition;
pub mod desired;
pub mod election;
pub mod error;
pub mod explain;
pub mod extra_runs;
pub mod feasibility;
pub mod fence;
pub mod fingerprint;
pub mod forecast;
pub mod health;
pub mod index;
pub mod lease;
pub mod listen;
pub mod metrics;
pub mod observe;
pub mod otlp;
pub mod outcome;
pub mod pace;
pub mod permissions;
pub mod plugin;
pub mod policy_file;
pub mod quantity;
pub mod reconcile;
pub mod records;
pub mod replica;
pub mod risk;
pub mod run;
pub mod runner_pod;
pub mod schedule;
pub mod self_test;
pub mod server;
pub mod settings;
pub mod simulate;
pub mod status;
pub mod telemetry;
pub mod text_table;
pub mod transitions;
pub mod undecodable;
pub mod validate;
pub mod vitals;
