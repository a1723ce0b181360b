//! Pure: the result of applying a policy's CronJobs and Jobs, as the status needs it.

use mapa_refresh_crds::policy::TaskName;

use crate::validate::Refusal;

/// Differences between the cluster and the policy that the writer could not remove.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Objects that cannot be created or repaired until somebody acts.
    pub problems: Vec<Problem>,
    /// Changes by admission that the operator accepts, each as a field and its CronJob.
    pub borne: Vec<String>,
}

/// An object of one task that cannot be created or repaired until somebody acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The task.
    pub task: TaskName,
    /// Reason of `Ready=False`, with the remedy.
    pub refusal: Refusal,
}
