//! What the operators of all tests asked of their API servers, compared with what the chart permits: nothing is missing, nothing unused.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use mapa_refresh_operator::{permissions::NEEDED, run::AGENT};
use mapa_refresh_tests::{progress, wait::Look};
use serde_json::{Value, json};

use crate::world::{ON_SCHEDULE_ALONE, Test, World, condition, is_of_an_operator};

pub const TESTS: &[Test] = &[
    (
        "permissions::a_call_without_a_rule_and_a_rule_without_a_call_are_both_told",
        differences,
    ),
    (
        "permissions::of_each_golden_chart_none_is_of_secrets_or_exec_or_a_wildcard_or_of_more_permissions",
        none_is_dangerous,
    ),
    (
        "permissions::what_the_operator_and_the_doctor_ask_about_is_what_the_chart_gives",
        known,
    ),
    (
        "permissions::without_the_finalizers_the_owner_cannot_be_set_and_with_the_rules_of_the_chart_it_works",
        owner,
    ),
];

/// Manifests of the chart that are compared; each is of a set of values.
const GOLDEN: [&str; 5] = ["defaults", "one-namespace", "high-availability", "everything", "oracle"];
/// Nobody calls it: admission asks for it when an owner is set. The test of the owner proves that it is needed.
const FINALIZERS: (&str, &str, &str) = ("mapa.radar.dev", "maparefreshpolicies/finalizers", "update");
/// Every account may (the cluster's roles `system:discovery` and `system:basic-user`): the chart gives no rules for it. Looking at the published
/// schema and at which API groups there are, and asking what one may.
const EVERYBODY: [(&str, &str, &str); 3] = [
    ("", "/apis", "get"),
    ("", "/openapi/v3/apis/mapa.radar.dev/v1", "get"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
];
/// The group of what an operator asks for only where there are several.
const ELECTION: &str = "coordination.k8s.io";

/// One thing that may be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    group: String,
    /// With its subresource; the path of what is no resource.
    resource: String,
    verb: String,
}

impl Call {
    fn new((group, resource, verb): (&str, &str, &str)) -> Self {
        Self {
            group: group.to_owned(),
            resource: resource.to_owned(),
            verb: verb.to_owned(),
        }
    }

    fn read(event: &Value) -> Self {
        let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        let resource = match (object["resource"].as_str(), object["subresource"].as_str()) {
            (Some(resource), Some(subresource)) => format!("{resource}/{subresource}"),
            (Some(resource), None) => resource.to_owned(),
            (None, _) => text(&event["requestURI"]),
        };
        Self {
            group: text(&object["apiGroup"]),
            resource,
            verb: text(&event["verb"]),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)
    }
}

/// What operators asked for.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<BTreeSet<Call>>>);

impl Calls {
    /// Adds the operators' requests of the audit log `log`.
    pub fn record(&self, log: &[u8]) {
        let events = log
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
            .filter(is_of_an_operator);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(events.map(|event| Call::read(&event)));
    }
}

/// Whether each call is permitted by each golden chart, and, when the suite `is_whole`, each permission is used by a call. Says what is not.
pub fn check(calls: &Calls, is_whole: bool) -> Result<(), String> {
    let mut calls = calls.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    calls.insert(Call::new(FINALIZERS));
    let mut faults = Vec::new();
    for call in EVERYBODY.map(Call::new) {
        if !calls.remove(&call) && is_whole {
            faults.push(format!("no operator of any test asked for `{call}`"));
        }
    }
    let mut seen = 0;
    for set in GOLDEN {
        let permitted = permissions(&manifests(set)?);
        seen = seen.max(permitted.len());
        let elects = permitted.iter().any(|call| call.group == ELECTION);
        let needed = |call: &&Call| elects || call.group != ELECTION;
        let missing = calls.iter().filter(needed).filter(|call| !permitted.contains(*call));
        faults.extend(missing.map(|call| format!("{set}: the operator asks for `{call}`, and no rule permits it")));
        let unused = permitted.iter().filter(|call| is_whole && !calls.contains(*call));
        faults.extend(
            unused.map(|call| format!("{set}: `{call}` is permitted, and no operator of any test asked for it")),
        );
    }
    if !faults.is_empty() {
        return Err(format!(
            "permissions of the chart and calls of the operators differ:\n  {}",
            faults.join("\n  ")
        ));
    }
    let unused = if is_whole {
        format!("each of the {seen} permissions is used")
    } else {
        "whether each permission is used is told by the whole suite alone".to_owned()
    };
    progress::say(&format!(
        "permissions: {} kinds of calls, each is permitted by each of {} golden charts; {unused}",
        calls.len(),
        GOLDEN.len()
    ));
    Ok(())
}

/// The documents of the golden chart `set`.
fn manifests(set: &str) -> Result<Vec<Value>, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("suites/chart/golden")
        .join(format!("{set}.yaml"));
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.split("\n---\n")
        .map(|document| serde_yaml::from_str(document).map_err(|error| format!("{}: {error}", path.display())))
        .filter(|document| !matches!(document, Ok(Value::Null)))
        .collect()
}

/// The rules that are bound to the account of the Deployment.
fn rules(manifests: &[Value]) -> Vec<&Value> {
    let of_kind = |kind: &'static str| manifests.iter().filter(move |object| object["kind"] == kind);
    let deployment = of_kind("Deployment").next().unwrap();
    let account = &deployment["spec"]["template"]["spec"]["serviceAccountName"];
    assert!(account.is_string(), "{deployment}");
    let bindings = of_kind("RoleBinding").chain(of_kind("ClusterRoleBinding"));
    let bound = bindings.filter(|binding| {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.into_iter().any(|subject| &subject["name"] == account)
    });
    bound
        .flat_map(|binding| {
            let role = &binding["roleRef"];
            manifests
                .iter()
                .filter(move |object| object["kind"] == role["kind"] && object["metadata"]["name"] == role["name"])
        })
        .flat_map(|role| role["rules"].as_array().into_iter().flatten())
        .collect()
}

/// The same, one by one.
fn permissions(manifests: &[Value]) -> BTreeSet<Call> {
    let words = |value: &Value| -> Vec<String> {
        let list = value.as_array().cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut permissions = BTreeSet::new();
    for rule in rules(manifests) {
        assert_eq!(rule["nonResourceURLs"], Value::Null, "{rule}");
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                let calls = words(&rule["verbs"]);
                permissions.extend(calls.iter().map(|verb| Call::new((&group, &resource, verb))));
            }
        }
    }
    permissions
}

fn differences(_: &World) {
    let request = |agent: &str, resource: &str| {
        json!({ "userAgent": agent, "verb": "list", "objectRef": { "resource": resource, "apiVersion": "v1" } })
            .to_string()
    };
    let calls = Calls::default();
    let log = [request(AGENT, "pods"), request("kubectl/1.35", "secrets")].join("\n");
    calls.record(log.as_bytes());
    assert_eq!(check(&calls, false), Ok(()));
    let unused = check(&calls, true).unwrap_err();
    assert!(
        unused.contains("`watch pods` is permitted") && !unused.contains("`list pods`"),
        "{unused}"
    );

    calls.record(request(AGENT, "secrets").as_bytes());
    let missing = check(&calls, false).unwrap_err();
    assert!(missing.contains("the operator asks for `list secrets`"), "{missing}");
}

fn none_is_dangerous(_: &World) {
    for set in GOLDEN {
        let permissions = permissions(&manifests(set).unwrap());
        assert!(permissions.len() > 10, "{set}: {permissions:?}");
        for call in &permissions {
            let Call { group, resource, verb } = call;
            assert!(
                ![group, resource, verb].iter().any(|part| part.contains('*')),
                "{set}: {call}"
            );
            assert!(!resource.starts_with("secrets"), "{set}: {call}");
            assert!(!resource.starts_with("pods/"), "{set}: {call}");
            assert_ne!(group, "rbac.authorization.k8s.io", "{set}: {call}");
            assert!(
                !["escalate", "bind", "impersonate", "deletecollection"].contains(&verb.as_str()),
                "{set}: {call}"
            );
        }
    }
}

/// The rules of the golden chart without an election, as a Role of `namespace` that its service account `operator` has.
pub fn of_the_chart(namespace: &str) -> String {
    of_the_chart_where(namespace, |_| true)
}

/// The same without those on `resource`.
pub fn without(namespace: &str, resource: &str) -> String {
    of_the_chart_where(namespace, |rule| rule["resources"] != json!([resource]))
}

fn of_the_chart_where(namespace: &str, keep: impl Fn(&Value) -> bool) -> String {
    let manifests = manifests("defaults").unwrap();
    let all = rules(&manifests);
    let kept: Vec<&Value> = all.iter().copied().filter(|rule| keep(rule)).collect();
    role(namespace, &kept)
}

/// What fills the caches, and nothing else.
pub fn to_read(namespace: &str) -> String {
    let read = [
        ("mapa.radar.dev", "maparefreshpolicies"),
        ("batch", "cronjobs"),
        ("batch", "jobs"),
        ("", "pods"),
    ];
    let rules = read
        .map(|(group, resource)| json!({ "apiGroups": [group], "resources": [resource], "verbs": ["list", "watch"] }));
    role(namespace, &rules.iter().collect::<Vec<_>>())
}

fn known(_: &World) {
    let asked: BTreeSet<Call> = NEEDED
        .iter()
        .map(|permission| Call {
            group: permission.group.to_owned(),
            resource: match permission.subresource {
                Some(subresource) => format!("{}/{subresource}", permission.resource),
                None => permission.resource.to_owned(),
            },
            verb: permission.verb.to_owned(),
        })
        .collect();
    for set in GOLDEN {
        let mut given = permissions(&manifests(set).unwrap());
        given.retain(|call| call.group != ELECTION);
        assert_eq!(asked, given, "{set}");
    }
}

/// A Role of `rules` in `namespace`, bound to its service account `operator`.
fn role(namespace: &str, rules: &[&Value]) -> String {
    let metadata = json!({ "name": "operator", "namespace": namespace });
    let group = "rbac.authorization.k8s.io";
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata, "rules": rules },
        { "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
          "roleRef": { "apiGroup": group, "kind": "Role", "name": "operator" },
          "subjects": [{ "kind": "ServiceAccount", "name": "operator", "namespace": namespace }] },
    ]})
    .to_string()
}

fn owner(world: &World) {
    let tenant = world.tenant_as_service_account("rbac-owner", "operator", |operator| operator);
    tenant.kubectl.apply(&without("rbac-owner", FINALIZERS.1)).unwrap();
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    let message = tenant.wait_for_condition("roraima", "Ready", "False", "CronJobRejected");
    assert!(message.contains("blockOwnerDeletion"), "{message}");
    assert!(tenant.names("cronjobs").is_empty());

    tenant.kubectl.apply(&of_the_chart("rbac-owner")).unwrap();
    // A change makes it try again at once.
    tenant.apply("roraima", "  rescue: false\n  tasks: [{ name: refresh-mv-portal }]\n");
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    tenant.wait("the CronJob", || {
        let cron_jobs = tenant.names("cronjobs");
        Look::when(cron_jobs.len() == 1, cron_jobs.join(" "))
    });
    let policy = tenant.policy("roraima");
    assert_eq!(
        condition(&policy, "Ready")["observedGeneration"],
        policy["metadata"]["generation"]
    );
}
