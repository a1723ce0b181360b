//! The `MapaRefreshPolicy` resource and the contract between the job-runner and the operator.
//!
//! Types only: this crate has no HTTP client and does no I/O, so that tools which only read or write policies can use it
//! without a Kubernetes client.
//!
//! - [`policy`]: what an admin writes (`spec`), with its bounds, CEL rules and printer columns.
//! - [`status`]: what the operator writes (`status`), with condition types and reasons as enums.
//! - [`report`]: the [`RunReport`](report::RunReport), by which a run tells the operator what it did.
//! - [`rows`]: the words under which bad rows are counted.
//! - [`area`]: bounding box and municipalities, built in or from the operator's configuration.
//! - [`runner_env`]: the environment by which the operator configures a run.
//! - [`labels`]: label and annotation keys, names and their limits.
//! - [`secret_keys`]: names of the keys of the Secrets that a policy names.

pub mod area;
pub mod labels;
pub mod policy;
pub mod report;
pub mod rows;
pub mod runner_env;
pub mod secret_keys;
pub mod status;

pub use policy::{MapaRefreshPolicy, MapaRefreshPolicySpec};
pub use report::RunReport;
pub use status::MapaRefreshPolicyStatus;
