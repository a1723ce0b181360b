//! `kubectl mapa doctor`: what can be checked from here, each complaint with its remedy. One file for each subject.

pub mod access;
pub mod check;
pub mod clock;
pub mod definition;
pub mod installed;
pub mod jobs;
pub mod operator;
pub mod operator_access;
pub mod pods;
pub mod policies;
pub mod secrets;

use k8s_openapi::jiff::Timestamp;

use super::{
    NOT_WELL, WELL,
    arguments::DoctorArguments,
    cluster::Cluster,
    error::PluginError,
    policies::{Listed, Which},
    terminal::print,
};
use check::{Check, Report};

/// What is looked at.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The namespace whose policies are looked at; absent: all.
    pub namespace: Option<&'a str>,
}

/// Prints every check.
///
/// # Errors
/// The cluster does not answer at all: then there is nothing to check.
pub async fn run(cluster: &Cluster, asked: &DoctorArguments) -> Result<u8, PluginError> {
    let scope = Scope {
        cluster,
        namespace: (!asked.all_namespaces).then_some(cluster.namespace.as_str()),
    };
    let mut checks = vec![clock::of_api_server(cluster).await?];
    checks.extend(definition::check(cluster).await);
    checks.extend(access::check(scope).await);
    let place = asked.operator_namespace.as_deref();
    let installed = installed::find(&cluster.client, place).await;
    checks.extend(operator::check(&cluster.client, place, &installed).await);
    let installed = installed.unwrap_or_default();
    checks.extend(operator_access::check(&cluster.client, &installed).await);
    checks.extend(pods::of_operators(&cluster.client, &installed).await);
    match read(scope).await {
        Ok(listed) => {
            checks.extend(policies::check(&listed, scope.namespace, Timestamp::now()));
            checks.push(clock::of_runs(&listed));
            checks.extend(secrets::check(cluster, &listed).await);
        }
        Err(error) => checks.push(unread(&error)),
    }
    checks.push(jobs::of_runs(scope).await);
    checks.push(pods::of_runs(scope).await);
    let report = Report::new(checks);
    print(&asked.output.render(&report, Report::table))?;
    Ok(if report.healthy { WELL } else { NOT_WELL })
}

async fn read(scope: Scope<'_>) -> Result<Vec<Listed>, PluginError> {
    let mut listed = Vec::new();
    let which = Which {
        namespace: scope.namespace,
        selector: None,
    };
    scope.cluster.each_policy(which, |policy| listed.push(policy)).await?;
    Ok(listed)
}

/// Without the policies half of the checks have no subject: that is told as a failure.
fn unread(error: &PluginError) -> Check {
    let text = error.to_string();
    let (finding, remedy) = text.split_once('\n').unwrap_or((&text, "see above"));
    Check::failed("policies", finding, remedy.trim())
}
