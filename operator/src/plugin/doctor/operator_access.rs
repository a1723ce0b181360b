//! What each operator's account may do, as the API server itself says it: what the caller may is another question.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};

use super::{check::Check, installed::Installed};
use crate::permissions::{NEEDED, Permission};

const SUBJECT: &str = "operator's permissions";

/// Requests at the same time.
const CONCURRENCY: usize = 6;

/// Asks the API server about each permission of each of `installed`, where it watches policies.
pub async fn check(client: &Client, installed: &[Installed]) -> Vec<Check> {
    let mut checks = Vec::new();
    for operator in installed {
        checks.push(match denied(client, operator).await {
            Ok(denied) => judge(operator, &denied),
            Err(error) => Check::unanswered(SUBJECT, &error),
        });
    }
    checks
}

/// What it may not do, and where; nowhere named: in all namespaces.
type Denied<'a> = (Permission, Option<&'a str>);

async fn denied<'a>(client: &Client, operator: &'a Installed) -> kube::Result<Vec<Denied<'a>>> {
    let watched = operator.settings.iter().flat_map(|settings| &settings.watch_namespaces);
    let mut places: Vec<Option<&str>> = watched.map(|namespace| Some(namespace.as_str())).collect();
    if places.is_empty() {
        places.push(None);
    }
    let asked = places
        .iter()
        .flat_map(|place| NEEDED.into_iter().map(move |permission| (permission, *place)));
    let answers = stream::iter(asked.map(|(permission, place)| async move {
        let may = allowed(client, operator, permission, place).await;
        may.map(|may| (!may).then_some((permission, place)))
    }));
    let denied: Vec<Option<Denied<'_>>> = answers.buffered(CONCURRENCY).try_collect().await?;
    Ok(denied.into_iter().flatten().collect())
}

async fn allowed(
    client: &Client,
    operator: &Installed,
    permission: Permission,
    place: Option<&str>,
) -> kube::Result<bool> {
    let Installed { namespace, account, .. } = operator;
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{account}")),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(permission.attributes(place)),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn judge(operator: &Installed, denied: &[Denied<'_>]) -> Check {
    let account = format!("{}/{}", operator.namespace, operator.account);
    if denied.is_empty() {
        return Check::passed(SUBJECT, format!("{account} may do everything that it has to"));
    }
    let missing: Vec<String> = denied
        .iter()
        .map(|(permission, place)| match place {
            Some(place) => format!("{permission} in {place}"),
            None => permission.to_string(),
        })
        .collect();
    Check::failed(
        SUBJECT,
        format!("{account} may not {}", missing.join(", ")),
        "upgrade the release, whose roles give it (rbac.create), or give it to that ServiceAccount by roles of your own",
    )
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_account_and_its_place() {
        let operator = Installed {
            namespace: "mapa-system".to_owned(),
            name: "o".to_owned(),
            ready: 1,
            selector: "app=o".to_owned(),
            account: "robot".to_owned(),
            settings: None,
            lease: None,
        };
        assert_eq!(judge(&operator, &[]).verdict, Verdict::Passed);
        let check = judge(&operator, &[(NEEDED[5], Some("radar")), (NEEDED[17], None)]);
        assert_eq!(check.verdict, Verdict::Failed);
        assert_eq!(
            check.finding,
            "mapa-system/robot may not create cronjobs in radar, update maparefreshpolicies/status"
        );
    }
}
