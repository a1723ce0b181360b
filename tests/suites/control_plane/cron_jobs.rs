//! The operator's CronJobs: one per task, owned, repaired, and nobody else's touched.

use std::{collections::BTreeSet, time::Duration};

use mapa_refresh_tests::{policy::Example, wait::Look};

use serde_json::Value;

use crate::world::{ON_SCHEDULE_ALONE, Request, Tenant, Test, World, condition, crd};

pub const TESTS: &[Test] = &[
    (
        "cron_jobs::promise_1_one_cron_job_per_task_in_exactly_four_writes_and_then_silence",
        creation,
    ),
    ("cron_jobs::f12_a_deleted_cron_job_comes_back", deleted),
    (
        "cron_jobs::f13_what_was_edited_or_added_by_hand_goes_and_foreign_labels_stay",
        edited,
    ),
    (
        "cron_jobs::f14_promise_8_a_foreign_cron_job_is_left_alone_and_named_until_it_goes",
        foreign,
    ),
    ("cron_jobs::f31_a_flipped_label_is_put_back", flipped_label),
    (
        "cron_jobs::what_is_changed_back_again_and_again_is_contested",
        contested,
    ),
    (
        "cron_jobs::what_admission_adds_and_decides_nothing_is_written_once_told_and_borne",
        borne,
    ),
    (
        "cron_jobs::what_admission_changes_and_decides_is_named_and_told_steadily",
        admission_decides,
    ),
    (
        "cron_jobs::a_cron_job_that_was_scheduled_in_the_future_is_named_with_its_remedy",
        never_fires,
    ),
    ("cron_jobs::a_policy_whose_deletion_a_finalizer_holds_says_so", held),
    (
        "cron_jobs::tasks_that_the_policy_has_no_more_lose_their_cron_jobs",
        fewer_tasks,
    ),
    ("cron_jobs::suspending_stops_the_schedule_and_deletes_nothing", suspend),
    (
        "cron_jobs::an_unknown_time_zone_concerns_its_own_policy_only",
        unknown_time_zone,
    ),
    (
        "cron_jobs::a_restart_on_a_converged_cluster_writes_nothing_and_sigterm_ends_within_3_seconds",
        restart,
    ),
    ("cron_jobs::i10_deleting_a_policy_leaves_nothing", delete_policy),
    (
        "cron_jobs::where_security_context_constraints_are_served_the_platform_chooses_the_ids_of_runs",
        openshift,
    ),
    (
        "cron_jobs::f26_a_namespace_that_is_being_deleted_is_named_costs_no_loop_and_leaves_the_others_alone",
        terminating,
    ),
    (
        "cron_jobs::f11_a_policy_recreated_under_its_name_adopts_the_cron_jobs_that_were_left",
        recreated,
    ),
];

const THREE: [&str; 3] = [
    "roraima-calcular-estatisticas",
    "roraima-refresh-mapa-cache",
    "roraima-refresh-mv-portal",
];

fn wait_for_three(tenant: &Tenant) {
    tenant.wait("three CronJobs", || {
        let names = tenant.names("cronjobs");
        Look::when(names == THREE, names).map(drop)
    });
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
}

fn converged(world: &World, namespace: &str) -> Tenant {
    let tenant = world.tenant(namespace);
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    wait_for_three(&tenant);
    tenant
}

/// As long as it takes to say that nothing happens at rest.
fn watch_for_silence(tenant: &Tenant, before: &[String]) {
    let seconds = Duration::from_secs(5);
    let until = std::time::Instant::now() + seconds;
    tenant.wait_within("5 s of silence", seconds * 2, || {
        assert_eq!(tenant.operator_requests(), before, "requests at rest");
        if std::time::Instant::now() >= until {
            Look::Met(())
        } else {
            Look::Saw("still silent".to_owned())
        }
    });
}

fn creation(world: &World) {
    let tenant = world.tenant("creation");
    // An interval that is told no more than that it is Ready.
    let mut example = tenant.example("roraima");
    example.interval_minutes = 10;
    tenant.kubectl.apply(&example.manifest(ON_SCHEDULE_ALONE)).unwrap();
    wait_for_three(&tenant);
    let writes = tenant.wait("four writes in the audit log", || {
        let writes = tenant.operator_writes();
        Look::when(writes.len() >= 4, writes)
    });
    assert_eq!(
        writes,
        [
            "create cronjobs roraima-refresh-mv-portal 201",
            "create cronjobs roraima-refresh-mapa-cache 201",
            "create cronjobs roraima-calcular-estatisticas 201",
            "update maparefreshpolicies/status roraima 200",
        ]
    );
    watch_for_silence(&tenant, &tenant.operator_requests());

    for cron_job in tenant.json(&["get", "cronjobs"])["items"].as_array().unwrap() {
        let owner = &cron_job["metadata"]["ownerReferences"][0];
        assert_eq!(owner["uid"], tenant.policy("roraima")["metadata"]["uid"]);
        assert_eq!(owner["controller"], true);
        assert_eq!(cron_job["spec"]["timeZone"], "Etc/UTC");
        assert_eq!(cron_job["spec"]["concurrencyPolicy"], "Replace");
        let pod = &cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    }
}

fn deleted(world: &World) {
    let tenant = converged(world, "deleted");
    let uid = |tenant: &Tenant| tenant.json(&["get", "cronjob", THREE[0]])["metadata"]["uid"].clone();
    let before = uid(&tenant);
    tenant.run(&["delete", "cronjob", THREE[0]]);
    tenant.wait("the CronJob to come back", || {
        let now = uid(&tenant);
        Look::when(now.is_string() && now != before, now)
    });
}

fn edited(world: &World) {
    let tenant = converged(world, "edited");
    tenant.run(&["annotate", "cronjob", THREE[0], "team=redes"]);
    tenant.run(&["label", "cronjob", THREE[0], "team=redes"]);
    let patch = r#"[
        {"op": "replace", "path": "/spec/schedule", "value": "0 0 1 1 *"},
        {"op": "add", "path": "/spec/jobTemplate/spec/template/spec/hostNetwork", "value": true},
        {"op": "add", "path": "/spec/jobTemplate/spec/template/spec/containers/-", "value": {"name": "extra", "image": "extra"}},
        {"op": "add", "path": "/spec/jobTemplate/spec/template/spec/volumes/-", "value": {"name": "host", "hostPath": {"path": "/"}}}
    ]"#;
    let wanted = tenant.json(&["get", "cronjob", THREE[0]])["spec"].clone();
    tenant.run(&["patch", "cronjob", THREE[0], "--type=json", "-p", patch]);
    let repaired = tenant.wait("the CronJob to be put back", || {
        let cron_job = tenant.json(&["get", "cronjob", THREE[0]]);
        Look::when(cron_job["spec"] == wanted, cron_job)
    });
    assert_eq!(repaired["metadata"]["annotations"]["team"], "redes");
    assert_eq!(repaired["metadata"]["labels"]["team"], "redes");
}

fn foreign(world: &World) {
    let tenant = world.tenant("foreign");
    tenant.run(&["create", "cronjob", THREE[2], "--image=theirs", "--schedule=0 0 1 1 *"]);
    let theirs = tenant.json(&["get", "cronjob", THREE[2]]);
    tenant.apply("roraima", "");
    tenant.apply("acre", "");
    let message = tenant.wait_for_condition("roraima", "Ready", "False", "CronJobConflict");
    assert!(
        message.contains(THREE[2]) && message.contains("delete or rename it"),
        "{message}"
    );
    tenant.wait_for_condition("acre", "Ready", "True", "Reconciled");
    assert_eq!(
        tenant.json(&["get", "cronjob", THREE[2]]),
        theirs,
        "I2: foreign objects unchanged"
    );
    assert_eq!(tenant.names("cronjobs").len(), 6);

    tenant.run(&["delete", "cronjob", THREE[2]]);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    tenant.run(&["delete", "mapa-refresh", "acre"]);
}

fn flipped_label(world: &World) {
    let tenant = converged(world, "flipped");
    tenant.run(&[
        "label",
        "cronjob",
        THREE[1],
        "--overwrite",
        "mapa.radar.dev/policy=acre",
        "mapa.radar.dev/task-",
    ]);
    tenant.wait("the labels to be put back", || {
        let labels = tenant.json(&["get", "cronjob", THREE[1]])["metadata"]["labels"].clone();
        Look::when(
            labels["mapa.radar.dev/policy"] == "roraima" && labels["mapa.radar.dev/task"] == "refresh-mapa-cache",
            labels,
        )
    });
    tenant.run(&["label", "cronjob", THREE[1], "app.kubernetes.io/managed-by-"]);
    tenant.wait("the watch's own label to be put back", || {
        let labels = tenant.json(&["get", "cronjob", THREE[1]])["metadata"]["labels"].clone();
        Look::when(
            labels["app.kubernetes.io/managed-by"] == "mapa-refresh-operator",
            labels,
        )
    });
}

fn contested(world: &World) {
    let tenant = converged(world, "contested");
    let edit = |number: usize| {
        tenant.run(&[
            "patch",
            "cronjob",
            THREE[0],
            "--type=merge",
            "-p",
            &format!(r#"{{"spec":{{"startingDeadlineSeconds":{number}}}}}"#),
        ]);
    };
    for number in 0..3 {
        edit(100 + number);
        tenant.wait("the repair", || {
            let deadline = tenant.json(&["get", "cronjob", THREE[0]])["spec"]["startingDeadlineSeconds"].clone();
            Look::when(deadline == 1800, deadline)
        });
    }
    edit(200);
    let message = tenant.wait_for_condition("roraima", "Ready", "False", "CronJobContested");
    assert!(message.contains("--show-managed-fields"), "{message}");
}

/// A policy of the cluster's admission that makes of every CronJob in `namespace` what `apply` says (CEL, an apply configuration).
fn admission(namespace: &str, apply: &str) -> String {
    format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicy
metadata: {{ name: {namespace} }}
spec:
  matchConstraints:
    resourceRules:
    - {{ apiGroups: [batch], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [cronjobs] }}
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >
        {apply}
---
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicyBinding
metadata: {{ name: {namespace} }}
spec:
  policyName: {namespace}
  matchResources:
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {namespace} }} }}
"#
    )
}

/// Waits until admission is at work in the tenant's namespace: it takes a moment to learn of a policy.
fn wait_for_admission(world: &World, tenant: &Tenant, pointer: &str) {
    let probe = format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{ name: probe, namespace: {} }}\nspec: {{ schedule: '0 0 1 1 *', jobTemplate: {{ spec: \
         {{ template: {{ spec: {{ restartPolicy: Never, containers: [{{ name: job-runner, image: x }}] }} }} }} }} }}\n",
        tenant.namespace
    );
    tenant.wait("admission to be at work", || {
        let arguments = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
        let made = world.kubectl().with_input(&arguments, &probe).unwrap();
        let made: Value = serde_json::from_str(&made).unwrap();
        Look::when(made.pointer(pointer).is_some(), made)
    });
}

fn updates_since(tenant: &Tenant, from: u64) -> usize {
    tenant
        .requests_since(from)
        .filter(|request| request.resource == "cronjobs" && ["create", "update"].contains(&request.verb.as_str()))
        .count()
}

fn borne(world: &World) {
    let tenant = world.tenant("borne");
    let adds = r#"Object{ spec: Object.spec{ jobTemplate: Object.spec.jobTemplate{ spec: Object.spec.jobTemplate.spec{ template:
        Object.spec.jobTemplate.spec.template{ metadata: Object.spec.jobTemplate.spec.template.metadata{ labels: {"team": "grid"} } } } } } }"#;
    world.kubectl().apply(&admission("borne", adds)).unwrap();
    wait_for_admission(world, &tenant, "/spec/jobTemplate/spec/template/metadata/labels/team");
    let from = tenant.audit_position();
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    wait_for_three(&tenant);
    let message = tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    assert!(
        message.contains("spec.jobTemplate.spec.template.metadata.labels.team"),
        "{message}"
    );
    let before = tenant.operator_requests();
    watch_for_silence(&tenant, &before);
    assert_eq!(updates_since(&tenant, from), 3);
    let doomed = format!("cronjob/{}", THREE[0]);
    tenant.run(&["patch", &doomed, "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    tenant.wait("a hand's change to be undone", || {
        let suspend = tenant.json(&["get", &doomed])["spec"]["suspend"].clone();
        Look::when(suspend == false, suspend)
    });
}

fn admission_decides(world: &World) {
    let tenant = world.tenant("decides");
    world
        .kubectl()
        .apply(&admission(
            "decides",
            "Object{ spec: Object.spec{ startingDeadlineSeconds: 77 } }",
        ))
        .unwrap();
    wait_for_admission(world, &tenant, "/spec/startingDeadlineSeconds");
    let from = tenant.audit_position();
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    let message = tenant.wait_for_condition("roraima", "Ready", "False", "CronJobContested");
    for words in [
        "spec.startingDeadlineSeconds: wrote 1800, came back 77",
        "mutatingadmissionpolicies",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    let before = tenant.operator_requests();
    watch_for_silence(&tenant, &before);
    assert_eq!(updates_since(&tenant, from), 3);
    let told = condition(&tenant.policy("roraima"), "Ready");
    world
        .kubectl()
        .run(["delete", "mutatingadmissionpolicybinding", "decides"])
        .unwrap();
    tenant.wait_within("the next try, after half a minute", Duration::from_secs(50), || {
        let ready = condition(&tenant.policy("roraima"), "Ready");
        assert!(ready["status"] == "True" || ready == told, "{ready}");
        Look::when(ready["status"] == "True", ready)
    });
}

fn never_fires(world: &World) {
    let tenant = converged(world, "never-fires");
    let status = r#"{"status":{"lastScheduleTime":"2200-01-01T00:00:00Z"}}"#;
    tenant.run(&[
        "patch",
        "cronjob",
        THREE[2],
        "--subresource=status",
        "--type=merge",
        "-p",
        status,
    ]);
    let message = tenant.wait_for_condition("roraima", "Ready", "False", "CronJobNeverFires");
    assert!(
        message.contains(&format!("kubectl delete cronjob {}", THREE[2])),
        "{message}"
    );
    tenant.run(&["delete", "cronjob", THREE[2]]);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
}

fn held(world: &World) {
    let tenant = converged(world, "held");
    let finalizers = |list: &str| format!(r#"{{"metadata":{{"finalizers":{list}}}}}"#);
    let patch = |list| {
        tenant.run(&[
            "patch",
            "mapa-refresh",
            "roraima",
            "--type=merge",
            "-p",
            &finalizers(list),
        ])
    };
    patch(r#"["example.org/archive"]"#);
    tenant.run(&["delete", "mapa-refresh", "roraima", "--wait=false"]);
    let message = tenant.wait_for_condition("roraima", "Ready", "False", "BeingDeleted");
    assert!(message.contains("example.org/archive"), "{message}");
    patch("[]");
    tenant.wait("nothing to be left", || {
        let left = (tenant.names("mapa-refresh"), tenant.names("cronjobs"));
        Look::when(left.0.is_empty() && left.1.is_empty(), left)
    });
}

fn fewer_tasks(world: &World) {
    let tenant = converged(world, "fewer");
    tenant.apply(
        "roraima",
        "  tasks: [{ name: health-check }, { name: refresh-mapa-cache }]\n",
    );
    tenant.wait("other CronJobs", || {
        let names = tenant.names("cronjobs");
        Look::when(names == ["roraima-health-check", "roraima-refresh-mapa-cache"], names)
    });
    tenant.wait("other tasks in the status", || {
        let status = tenant.policy("roraima")["status"].clone();
        let names: Vec<_> = status["tasks"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|task| task["name"].clone())
            .collect();
        Look::when(names == ["refresh-mapa-cache", "health-check"], names)
    });
}

fn suspend(world: &World) {
    let tenant = converged(world, "suspend");
    let suspended = |wanted: bool| {
        tenant.wait("the CronJobs' suspend", || {
            let cron_jobs = tenant.json(&["get", "cronjobs"]);
            let values: Vec<bool> = cron_jobs["items"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|c| c["spec"]["suspend"].as_bool())
                .collect();
            Look::when(values == [wanted; 3], values)
        });
    };
    tenant.apply("roraima", "  suspend: true\n  suspendReason: troca do banco\n");
    suspended(true);
    let message = tenant.wait_for_condition("roraima", "Suspended", "True", "SuspendedBySpec");
    assert!(message.contains("troca do banco"));
    tenant.apply("roraima", "  suspend: false\n");
    suspended(false);
    tenant.wait_for_condition("roraima", "Suspended", "False", "NotSuspended");
}

fn unknown_time_zone(world: &World) {
    let tenant = world.tenant("time-zone");
    tenant.apply("macondo", "  timeZone: America/Macondo\n");
    tenant.apply("roraima", "");
    let message = tenant.wait_for_condition("macondo", "Ready", "False", "UnknownTimeZone");
    assert!(message.contains("America/Macondo"), "{message}");
    wait_for_three(&tenant);
    let events = tenant.wait("an Event", || {
        let events = tenant.run(&[
            "get",
            "events",
            "--field-selector",
            "involvedObject.name=macondo",
            "-o",
            "jsonpath={.items[*].reason}",
        ]);
        Look::when(!events.is_empty(), events)
    });
    assert_eq!(events, "UnknownTimeZone");
}

fn restart(world: &World) {
    let mut tenant = converged(world, "restart");
    tenant.wait("the status in the audit log", || {
        let writes = tenant.operator_writes();
        Look::when(writes.len() >= 4, writes)
    });
    let before = tenant.operator_writes();
    let asked = std::time::Instant::now();
    assert!(tenant.stop_operator(), "SIGTERM must end with exit code 0");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());

    tenant.start_operator();
    let watches = |tenant: &Tenant| {
        tenant
            .operator_requests()
            .iter()
            .filter(|r| r.starts_with("list"))
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    tenant.wait("the new operator to list everything", || {
        let lists = watches(&tenant);
        Look::when(lists.len() >= 4, lists)
    });
    // A marker that can only be seen after everything before it was looked at.
    tenant.apply("acre", "");
    tenant.wait_for_condition("acre", "Ready", "True", "Reconciled");
    let touched: Vec<String> = tenant
        .operator_writes()
        .into_iter()
        .skip(before.len())
        .filter(|write| write.contains("roraima"))
        .collect();
    assert_eq!(touched, Vec::<String>::new());
}

fn delete_policy(world: &World) {
    let tenant = converged(world, "leaves-nothing");
    tenant.run(&["create", "job", "--from", &format!("cronjob/{}", THREE[0]), "by-hand"]);
    tenant.run(&["delete", "mapa-refresh", "roraima"]);
    tenant.wait_within("nothing to be left", Duration::from_secs(60), || {
        let left = tenant.run(&["get", "cronjobs,jobs,pods", "-o", "name"]);
        if left.is_empty() {
            Look::Met(())
        } else {
            Look::Saw(left)
        }
    });
}

fn recreated(world: &World) {
    let tenant = converged(world, "recreated");
    let uids = || -> Vec<Value> {
        let cron_jobs = tenant.json(&["get", "cronjobs"]);
        let items = cron_jobs["items"].as_array().unwrap();
        items
            .iter()
            .map(|cron_job| cron_job["metadata"]["uid"].clone())
            .collect()
    };
    let before = uids();
    tenant.run(&["delete", "mapa-refresh", "roraima", "--cascade=orphan"]);
    tenant.wait("nobody to control them", || {
        let owners = tenant.json(&["get", "cronjobs"])["items"][0]["metadata"]["ownerReferences"].clone();
        Look::when(owners.is_null(), owners)
    });
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    assert_eq!(uids(), before);
    let uid = tenant.policy("roraima")["metadata"]["uid"].clone();
    for cron_job in tenant.json(&["get", "cronjobs"])["items"].as_array().unwrap() {
        assert_eq!(cron_job["metadata"]["ownerReferences"][0]["uid"], uid);
    }
}

/// OpenShift is recognised by the group of its security context constraints.
fn openshift(world: &World) {
    let world = world.beside(&crd());
    let constraints = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: securitycontextconstraints.security.openshift.io
  annotations: { api-approved.kubernetes.io: unapproved }
spec:
  group: security.openshift.io
  names: { plural: securitycontextconstraints, kind: SecurityContextConstraints }
  scope: Cluster
  versions: [{ name: v1, served: true, storage: true, schema: { openAPIV3Schema: { type: object } } }]
";
    world.kubectl().apply(constraints).unwrap();
    world
        .kubectl()
        .established("securitycontextconstraints.security.openshift.io")
        .unwrap();
    let tenant = converged(&world, "openshift");
    let pod = tenant.json(&["get", "cronjob", THREE[0]])["spec"]["jobTemplate"]["spec"]["template"]["spec"].clone();
    let context = &pod["securityContext"];
    for id in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert!(context[id].is_null(), "{context}");
    }
    assert_eq!(context["runAsNonRoot"], true);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
}

/// The namespace's objects go when the controller-manager takes them; until then the API server refuses every new one.
fn terminating(world: &World) {
    let world = world.beside(&crd());
    let kubectl = world.kubectl();
    kubectl.namespace("neighbour").unwrap();
    let tenant = world.tenant_with("terminating", &["--watch-namespace=neighbour".to_owned()]);
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    wait_for_three(&tenant);
    world.stop_controller_manager();
    kubectl
        .run(["delete", "namespace", "terminating", "--wait=false"])
        .unwrap();
    let from = tenant.audit_position();
    tenant.run(&["delete", "cronjob", "roraima-refresh-mv-portal"]);
    let message = tenant.wait_for_condition("roraima", "Ready", "False", "CronJobRejected");
    assert!(message.contains("is being terminated"), "{message}");

    let neighbour = Example {
        interval_minutes: 30,
        ..Example::every_minute("neighbour", "acre")
    };
    kubectl.apply(&neighbour.manifest(ON_SCHEDULE_ALONE)).unwrap();
    tenant.wait("the neighbour to be dealt with", || {
        let said = kubectl
            .run(["-n", "neighbour", "get", "mapa-refresh", "acre", "-o", "json"])
            .unwrap();
        let ready = condition(&serde_json::from_str(&said).unwrap(), "Ready");
        Look::when(ready["status"] == "True", ready).map(drop)
    });
    assert_eq!(
        tenant.ask("/readyz").unwrap().0,
        200,
        "it is no permission that is missing"
    );

    let created: Vec<Request> = tenant
        .requests_since(from)
        .filter(|request| request.verb == "create" && request.resource == "cronjobs")
        .collect();
    assert!(created.iter().all(|request| request.code == 403), "{created:?}");
    // The first tries come within seconds of each other, then it waits longer.
    assert!((1..20).contains(&created.len()), "{created:?}");

    world.start_controller_manager();
    tenant.wait_within("the namespace to be gone", Duration::from_secs(90), || {
        match kubectl.run(["get", "namespace", "terminating", "-o", "name"]) {
            Err(error) if error.to_string().contains("NotFound") => Look::Met(()),
            seen => Look::Saw(format!("{seen:?}")),
        }
    });
    let made = tenant
        .requests_since(from)
        .filter(|request| request.verb == "create" && request.code == 201);
    assert_eq!(made.count(), 0);
}
