//! The CustomResourceDefinition: whether it is there, served, and the one that this binary was built with.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, CustomResourceExt};
use mapa_refresh_crds::MapaRefreshPolicy;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::check::Check;
use crate::plugin::cluster::Cluster;

const SUBJECT: &str = "CRD";
const SCHEMA: &str = "CRD schema";
const NAME: &str = "maparefreshpolicies.mapa.radar.dev";
const APPLY: &str = "`helm upgrade` brings it, or `kubectl apply --server-side -f crds/maparefreshpolicies.yaml`";

/// Looks at the definition.
pub async fn check(cluster: &Cluster) -> Vec<Check> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    match api.get_opt(NAME).await {
        Ok(found) => judge(found.as_ref()),
        Err(error) => vec![Check::unanswered(SUBJECT, &error)],
    }
}

fn judge(found: Option<&CustomResourceDefinition>) -> Vec<Check> {
    let Some(found) = found else {
        return vec![Check::failed(
            SUBJECT,
            format!("{NAME} is not installed: there can be no policy"),
            APPLY,
        )];
    };
    let conditions = found
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let established = conditions
        .iter()
        .any(|condition| condition.type_ == "Established" && condition.status == "True");
    let served = found
        .spec
        .versions
        .iter()
        .any(|version| version.name == "v1" && version.served);
    let mut checks = vec![if established && served {
        Check::passed(SUBJECT, format!("{NAME} is established and serves v1"))
    } else {
        let complaint = conditions
            .iter()
            .find(|condition| condition.status == "False")
            .and_then(|condition| condition.message.clone())
            .unwrap_or_else(|| "v1 is not served".to_owned());
        Check::failed(
            SUBJECT,
            format!("{NAME} is not established: {complaint}"),
            "look at `kubectl describe crd maparefreshpolicies.mapa.radar.dev` for names that another definition has taken",
        )
    }];
    let (theirs, ours) = (hash(found), hash(&MapaRefreshPolicy::crd()));
    checks.push(if theirs == ours {
        Check::passed(
            SCHEMA,
            format!("{theirs}, that of version {}", env!("CARGO_PKG_VERSION")),
        )
    } else {
        Check::failed(
            SCHEMA,
            format!(
                "{theirs}, not {ours} of version {}: it is of another version, and fields of a policy or status may be dropped",
                env!("CARGO_PKG_VERSION")
            ),
            format!("bring definition, operator and this plugin to one version: {APPLY}"),
        )
    });
    checks
}

/// The first 48 bits of a hash of the schema of v1, in the form in which the API server keeps it.
fn hash(definition: &CustomResourceDefinition) -> String {
    let schema = definition
        .spec
        .versions
        .iter()
        .find(|version| version.name == "v1")
        .and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref())
        .and_then(|schema| serde_json::to_value(schema).ok())
        .map(sorted)
        .unwrap_or_default();
    Sha256::digest(schema.to_string().as_bytes())
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The same value, whatever the order in which its fields were given.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> =
                fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn a_definition_that_is_missing_not_established_or_of_another_version_fails() {
        assert_eq!(judge(None)[0].verdict, Verdict::Failed);
        let mut definition = MapaRefreshPolicy::crd();
        definition.status = serde_json::from_value(serde_json::json!({
            "conditions": [{ "type": "Established", "status": "True" }],
        }))
        .ok();
        let verdicts = |definition: &CustomResourceDefinition| {
            judge(Some(definition))
                .iter()
                .map(|check| check.verdict)
                .collect::<Vec<_>>()
        };
        assert_eq!(verdicts(&definition), [Verdict::Passed, Verdict::Passed]);
        let mut older = definition.clone();
        let schema = older.spec.versions[0]
            .schema
            .as_mut()
            .unwrap()
            .open_api_v3_schema
            .as_mut()
            .unwrap();
        schema.properties.as_mut().unwrap().remove("status");
        assert_eq!(verdicts(&older), [Verdict::Passed, Verdict::Failed]);
        definition.status = None;
        assert_eq!(verdicts(&definition), [Verdict::Failed, Verdict::Passed]);
    }
}
