//! Clocks: the API server's against this machine's, and those that the runs met.

use http::Request;
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;

use super::check::Check;
use crate::plugin::{cluster::Cluster, error::PluginError, policies::Listed, terminal::duration};

const SUBJECT: &str = "clock here";
const OF_RUNS: &str = "clocks of runs";

/// Seconds by which clocks may be apart: as the operator judges them.
const TOLERATED_SECONDS: i64 = 60;

/// Asks the API server for its version, and looks at the `Date` of its answer: the first question of all.
///
/// # Errors
/// It does not answer.
pub async fn of_api_server(cluster: &Cluster) -> Result<Check, PluginError> {
    const ACTION: &str = "reach the cluster";
    let request = Request::get("/version")
        .body(Body::empty())
        .map_err(|error| PluginError::Api {
            action: ACTION.to_owned(),
            reason: error.to_string(),
        })?;
    let answer = cluster
        .client
        .send(request)
        .await
        .map_err(|error| PluginError::of(ACTION, error))?;
    let date = answer
        .headers()
        .get(http::header::DATE)
        .and_then(|date| date.to_str().ok());
    Ok(judge(date, Timestamp::now()))
}

fn judge(date: Option<&str>, now: Timestamp) -> Check {
    let server = date.and_then(|date| k8s_openapi::jiff::fmt::rfc2822::parse(date).ok());
    let Some(server) = server else {
        return Check::unseen(
            SUBJECT,
            "the API server's answer has no Date",
            "compare the clocks by hand, or use NTP on both",
        );
    };
    let apart = now.as_second() - server.timestamp().as_second();
    if apart.abs() > TOLERATED_SECONDS {
        let which = if apart > 0 { "ahead of" } else { "behind" };
        Check::failed(
            SUBJECT,
            format!(
                "{} {which} the API server's: ages that are told here are wrong by as much",
                duration(apart.abs())
            ),
            "synchronise this machine, or the API server's, by NTP",
        )
    } else {
        Check::passed(SUBJECT, format!("within {TOLERATED_SECONDS} s of the API server's"))
    }
}

/// What the statuses of `listed` say of the clocks of database, node and operator.
#[must_use]
pub fn of_runs(listed: &[Listed]) -> Check {
    let mut skewed: Vec<(i64, String)> = listed
        .iter()
        .filter_map(|listed| match listed {
            Listed::Policy(policy) => {
                let tasks = &policy.status.as_ref()?.tasks;
                let skew = tasks.iter().filter_map(|task| task.clock_skew_seconds).max()?;
                Some((skew, super::policies::name(policy)))
            }
            Listed::Undecodable { .. } => None,
        })
        .collect();
    skewed.sort_by(|a, b| b.cmp(a));
    match skewed.first() {
        None => Check::passed(
            OF_RUNS,
            format!("no run met clocks that are more than {TOLERATED_SECONDS} s apart"),
        ),
        Some((most, policy)) => Check::failed(
            OF_RUNS,
            format!(
                "the clocks of database, node and operator are up to {} apart ({policy}; {} policies in all)",
                duration(*most),
                skewed.len()
            ),
            "synchronise them by NTP: the oldest of what they say counts as the data's age",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn of_the_clocks_that_runs_met_the_worst_is_told_with_its_policy() {
        let policy = |name: &str, skews: &[Option<i64>]| {
            let task = |(number, skew): (usize, &Option<i64>)| {
                let name = ["refresh-mv-portal", "refresh-mapa-cache"][number];
                json!({ "name": name, "cronJobName": "c", "schedule": "* * * * *", "maxRetries": 1,
                    "retryDelaySeconds": 1, "attemptTimeoutSeconds": 1, "clockSkewSeconds": skew })
            };
            let tasks: Vec<serde_json::Value> = skews.iter().enumerate().map(task).collect();
            Listed::of(json!({
                "metadata": { "name": name, "namespace": "radar" },
                "spec": { "intervalMinutes": 10, "database": { "kind": "postgresql", "secretRef": { "name": "d" } }, "cache": { "secretRef": { "name": "c" } } },
                "status": { "tasks": tasks },
            }))
        };
        let well = [policy("acre", &[None, None]), Listed::of(json!({}))];
        assert_eq!(of_runs(&well).verdict, Verdict::Passed);
        let skewed = of_runs(&[
            policy("acre", &[None, Some(61)]),
            policy("roraima", &[Some(90), Some(125)]),
            policy("para", &[None]),
        ]);
        assert_eq!(skewed.verdict, Verdict::Failed);
        assert!(
            skewed
                .finding
                .ends_with("up to 2m5s apart (radar/roraima; 2 policies in all)"),
            "{}",
            skewed.finding
        );
    }

    #[test]
    fn a_clock_more_than_a_minute_off_fails_either_way() {
        let verdict = |date, now: &str| judge(date, now.parse().unwrap()).verdict;
        let date = Some("Mon, 23 Nov 2026 10:00:00 GMT");
        assert_eq!(verdict(date, "2026-11-23T10:01:00Z"), Verdict::Passed);
        assert_eq!(verdict(date, "2026-11-23T10:01:01Z"), Verdict::Failed);
        assert_eq!(verdict(date, "2026-11-23T09:58:59Z"), Verdict::Failed);
        assert_eq!(verdict(None, "2026-11-23T10:00:00Z"), Verdict::Unseen);
        assert_eq!(verdict(Some("yesterday"), "2026-11-23T10:00:00Z"), Verdict::Unseen);
    }
}
