//! `kubectl mapa explain`: the sum of Feasible of a policy as it is in the cluster, by the code of `mapa-refresh-operator explain`.

use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::MapaRefreshPolicyStatus;
use serde_json::Value;

use super::{
    NOT_WELL, WELL, arguments::ExplainArguments, cluster::Cluster, error::PluginError, output::Format, terminal::print,
};
use crate::{conditions::whole_seconds, explain::Explained, policy_file::judge};

/// Prints what the policy will do and whether it can hold its limit.
///
/// # Errors
/// The policy does not exist or is not valid, or the cluster does not answer.
pub async fn run(cluster: &Cluster, asked: &ExplainArguments) -> Result<u8, PluginError> {
    let object = cluster.object(&asked.policy).await?;
    let at = whole_seconds(asked.at.unwrap_or_else(Timestamp::now)).0;
    let (text, holds) = explained(object, &cluster.namespace, at, asked.output)?;
    print(&text)?;
    Ok(if holds { WELL } else { NOT_WELL })
}

/// The answer, and whether the policy is feasible.
fn explained(mut object: Value, namespace: &str, at: Timestamp, format: Format) -> Result<(String, bool), PluginError> {
    // A status of another version is no reason to be silent about the spec.
    let status: Option<MapaRefreshPolicyStatus> = object
        .get_mut("status")
        .map(Value::take)
        .and_then(|status| serde_json::from_value(status).ok());
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let document = judge(object, namespace, at);
    let planned = document.policy.map_err(|problems| PluginError::Invalid {
        policy: document.name.clone(),
        problems: problems.iter().map(ToString::to_string).collect(),
    })?;
    let explained = Explained::of(&document.name, &planned, status.as_ref(), at);
    Ok((format.render(&explained, ToString::to_string), explained.holds()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(interval: i32, status: Value) -> Value {
        json!({
            "apiVersion": "mapa.radar.dev/v1",
            "kind": "MapaRefreshPolicy",
            "metadata": { "namespace": "radar", "name": "roraima", "uid": "u", "resourceVersion": "1", "generation": 1 },
            "spec": {
                "intervalMinutes": interval,
                "database": { "kind": "postgresql", "secretRef": { "name": "d" } },
                "cache": { "secretRef": { "name": "c" } },
            },
            "status": status,
        })
    }

    fn run(object: Value) -> Result<(Value, bool), PluginError> {
        let (text, holds) = explained(object, "radar", "2026-11-23T10:00:00Z".parse().unwrap(), Format::Json)?;
        Ok((serde_json::from_str(&text).unwrap(), holds))
    }

    #[test]
    fn the_paces_that_were_seen_decide_the_sum() {
        let task = |seconds: i32| {
            json!({
                "name": "refresh-mv-portal", "cronJobName": "x", "schedule": "0 * * * *", "maxRetries": 3, "retryDelaySeconds": 120,
                "attemptTimeoutSeconds": 300, "recentRunSeconds": [seconds, seconds, seconds],
            })
        };
        let seen = |seconds| json!({ "recentStartSeconds": [4, 5, 6], "tasks": [task(seconds)] });
        let (slow, _) = run(policy(10, seen(200))).unwrap();
        let (quick, _) = run(policy(10, seen(2))).unwrap();
        assert_eq!(quick["paces"][0]["runSeconds"], 2);
        assert_eq!(quick["paces"][0]["startSeconds"], 6);
        assert_eq!(quick["paces"][0]["observedRuns"], 3);
        let run = |answer: &Value| answer["feasible"]["runSeconds"].as_u64().unwrap();
        assert!(run(&slow) > run(&quick), "{slow} {quick}");
    }

    #[test]
    fn a_policy_that_cannot_hold_its_limit_is_told_and_an_invalid_one_is_refused_with_its_field() {
        assert!(!run(policy(30, json!({}))).unwrap().1);
        let refusal = run(policy(45, json!({}))).unwrap_err().to_string();
        assert!(
            refusal.contains("intervalMinutes") && refusal.contains("REN 1.137"),
            "{refusal}"
        );
    }
}
