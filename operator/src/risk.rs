//! Pure: `AtRisk`, whether the limit will be exceeded unless something changes, as ordered checks of which the first that applies gives
//! reason and remedy.

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::{
    report::{FaultClass, code},
    status::{AtRiskReason, ConditionType, ExtraRuns, TaskStatus},
};

use crate::{
    applied::Problem,
    conditions::Verdict,
    forecast::{Forecast, Outlook, after},
    outcome::UNTRUSTED_POD,
    records::{EXEC_FORMAT_ERROR, Trouble},
};

/// Failed runs in a row that are a risk however many more would be survived.
const MANY_FAILURES: u32 = 3;

/// `AtRisk` of a policy with `outlook`, whose data is young enough until `compliant_until` (`None` before the first publication); `blocked` is what
/// keeps a CronJob from being there, `trouble` what keeps a pod from starting, `rescue` the last runs that were started to keep a deadline.
#[must_use]
pub fn verdict(
    outlook: Outlook<'_>,
    compliant_until: Option<Timestamp>,
    blocked: Option<&Problem>,
    trouble: Option<&Trouble>,
    rescue: Option<&ExtraRuns>,
) -> Verdict {
    let (reason, message) = first_that_applies(outlook, compliant_until, blocked, trouble).unwrap_or((
        AtRiskReason::OnSchedule,
        "the next run, at the duration that was observed, ends within the limit".to_owned(),
    ));
    let rescue = rescue
        .filter(|rescue| rescue.finished_at.is_none() && reason != AtRiskReason::OnSchedule)
        .map_or_else(String::new, |rescue| {
            format!("; a rescue runs since {} (Jobs …-{})", rescue.started_at.0, rescue.id)
        });
    Verdict {
        type_: ConditionType::AtRisk,
        holds: reason != AtRiskReason::OnSchedule,
        reason: reason.as_str(),
        message: message + &rescue,
    }
}

/// `AtRisk` of a policy that cannot be carried out: its CronJobs stay as they were, and nobody knows what they do.
#[must_use]
pub fn not_carried_out() -> Verdict {
    Verdict {
        type_: ConditionType::AtRisk,
        holds: true,
        reason: AtRiskReason::NotCarriedOut.as_str(),
        message: "the policy cannot be carried out as written: see Ready".to_owned(),
    }
}

fn first_that_applies(
    outlook: Outlook<'_>,
    compliant_until: Option<Timestamp>,
    blocked: Option<&Problem>,
    trouble: Option<&Trouble>,
) -> Option<(AtRiskReason, String)> {
    let Outlook {
        forecast,
        documents,
        feasibility,
        missed,
    } = outlook;
    let Forecast { plan, tasks, now, .. } = forecast;
    let until = compliant_until.map_or_else(
        || "nothing is published yet".to_owned(),
        |until| format!("what is published is within the limit until {until}"),
    );
    if plan.suspended {
        return Some((
            AtRiskReason::SuspendedByPolicy,
            format!("{until}, and the policy is suspended: set spec.suspend to false in time"),
        ));
    }
    if let Some(Problem { task, refusal }) = blocked {
        return Some((
            AtRiskReason::NotCarriedOut,
            format!(
                "{until}; {task} does not run as the policy asks until somebody acts: {}",
                refusal.message
            ),
        ));
    }
    if let Some(trouble) = trouble {
        return Some((
            AtRiskReason::PodCannotStart,
            format!("{until}; a pod cannot start: {}: {}", trouble.code, trouble.message),
        ));
    }
    // The first that was: it is named until it ends, whichever join it.
    if let Some(run) = forecast.hung().min_by_key(|run| forecast.overdue_at(run)) {
        return Some((
            AtRiskReason::RunHung,
            format!(
                "{until}; Job {} has run since {}, longer than one attempt of {} may take: look at `kubectl logs job/{}`",
                run.job, run.created, run.task, run.job
            ),
        ));
    }
    if let Some((task, slot)) = missed {
        return Some((
            AtRiskReason::ScheduleMissed,
            format!(
                "{until}; {task} had a slot at {slot} and {} s later no Job: look whether kube-controller-manager runs, whether another Job has \
                 the name <cronjob>-{}, and at the quota of the namespace",
                forecast.slot_grace.as_secs(),
                slot.as_second().div_euclid(60)
            ),
        ));
    }
    if let Some(task) = tasks.iter().find(|task| needs_a_person(task)) {
        return Some((
            AtRiskReason::RunnerMisconfigured,
            format!(
                "{until}; {} cannot succeed until somebody acts{}",
                task.name,
                error_of(task)
            ),
        ));
    }
    let bearable = feasibility.survives.clamp(1, MANY_FAILURES);
    let failing = tasks
        .iter()
        .find(|task| task.name.is_data_task() && u32::try_from(task.consecutive_failures).unwrap_or(0) >= bearable);
    if let Some(task) = failing {
        return Some((
            AtRiskReason::ConsecutiveFailures,
            format!(
                "{until}; {} failed {} times in a row{}",
                task.name,
                task.consecutive_failures,
                error_of(task)
            ),
        ));
    }
    if compliant_until.is_none_or(|until| now > until) {
        return Some((
            AtRiskReason::LimitExceeded,
            format!("{until}; the next runs will mend it"),
        ));
    }
    let late = documents.iter().find_map(|document| {
        let next = forecast.next_publication(*document);
        let data_as_of = tasks.iter().find(|task| task.name == *document)?.data_as_of.as_ref()?.0;
        let its_end = after(
            data_as_of,
            u32::try_from(plan.max_data_age.as_secs()).unwrap_or(u32::MAX),
        );
        next.is_none_or(|next| next > its_end).then_some((*document, its_end))
    });
    // The moment of the next run moves with the time: it is not told, or every look would be a change.
    if let Some((document, its_end)) = late {
        return Some((
            AtRiskReason::NextRunTooLate,
            format!(
                "{document} is within the limit until {its_end}, and the next run is expected to end later: shorten intervalMinutes{}",
                if plan.rescue {
                    "; a run between two slots will renew it"
                } else {
                    " or allow spec.rescue"
                }
            ),
        ));
    }
    tasks.iter().find(|task| task.clock_skew_seconds.is_some()).map(|task| {
        (
            AtRiskReason::ClockSkew,
            format!(
                "the clocks of database, node and operator are {} s apart (seen by {}): synchronise them by NTP; the oldest of what they say counts",
                task.clock_skew_seconds.unwrap_or_default(),
                task.name
            ),
        )
    })
}

/// The last run failed for something that does not pass by itself.
fn needs_a_person(task: &TaskStatus) -> bool {
    let doubts = [code::IMPLAUSIBLE_RESULT, code::VIEW_TOO_OLD];
    // Every pod will be of the same kind.
    let certain = [UNTRUSTED_POD, EXEC_FORMAT_ERROR];
    task.last_error.as_ref().is_some_and(|error| {
        let code = error.code.as_str();
        certain.contains(&code) || (error.class != FaultClass::Transient && !doubts.contains(&code))
    })
}

fn error_of(task: &TaskStatus) -> String {
    task.last_error
        .as_ref()
        .map_or_else(String::new, |error| format!(": {}: {}", error.code, error.message))
}

#[cfg(test)]
mod tests;
