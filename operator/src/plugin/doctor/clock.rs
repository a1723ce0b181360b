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
    use super::super::check::Verdict;
    use super::*;

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
