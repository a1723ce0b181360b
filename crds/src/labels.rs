//! Label and annotation keys, the field manager, and the limits of names.

use crate::policy::TaskName;

/// API group of the resource.
pub const GROUP: &str = "mapa.radar.dev";

/// Field manager and event reporter of every write of the operator.
pub const FIELD_MANAGER: &str = "mapa-refresh-operator";

/// Label, with the value [`FIELD_MANAGER`], on every object that the operator creates; its watches select by it.
///
/// Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Label with the name of the policy. It maps an event to its policy; it is never a proof of ownership.
pub const POLICY: &str = "mapa.radar.dev/policy";

/// Label with the name of the task.
pub const TASK: &str = "mapa.radar.dev/task";

/// Label that the Job controller puts on each pod: the Job's name.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Annotation that the CronJob controller puts on each Job: the slot, RFC 3339.
pub const SCHEDULED_TIMESTAMP: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Annotation on a policy: any new value asks for one run of each of its tasks.
pub const REQUESTED_AT: &str = "mapa.radar.dev/requestedAt";

/// Annotation that `kubectl create job --from` puts on a Job, and the operator on those that it creates: not started by the schedule.
pub const INSTANTIATE: &str = "cronjob.kubernetes.io/instantiate";

/// Longest name of a policy, in bytes: a CronJob's name may have 52, and the longest task takes 22 with its hyphen.
pub const MAX_POLICY_NAME: usize = 30;

/// Longest name of a CronJob, in bytes: its Jobs append a hyphen and ten digits to a name of 63.
///
/// Source: <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/>
pub const MAX_CRON_JOB_NAME: usize = 52;

/// Name of the CronJob that runs `task` for the policy called `policy`.
#[must_use]
pub fn cron_job_name(policy: &str, task: TaskName) -> String {
    format!("{policy}-{task}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_policy_name_gives_a_valid_cron_job_name_for_every_task() {
        let longest = "x".repeat(MAX_POLICY_NAME);
        for task in TaskName::ALL {
            assert!(cron_job_name(&longest, task).len() <= MAX_CRON_JOB_NAME, "{task}");
        }
    }
}
