use super::*;

const NOW: &str = "2026-11-23T10:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn pod(status: serde_json::Value) -> PodRecord {
    let pod = serde_json::json!({
        "metadata": { "uid": "1f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a11" },
        "spec": { "containers": [] },
        "status": status,
    });
    PodRecord::read(&serde_json::from_value(pod).unwrap(), now()).unwrap()
}

fn code(status: serde_json::Value) -> String {
    pod(status)
        .trouble
        .map_or_else(String::new, |trouble| trouble.code.into())
}

fn waiting(reason: &str) -> serde_json::Value {
    serde_json::json!({ "containerStatuses": [{
        "name": "job-runner", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": reason, "message": "why" } },
    }] })
}

fn ended(exit_code: i32, reason: &str, message: &str) -> serde_json::Value {
    serde_json::json!({ "containerStatuses": [{
        "name": "job-runner", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": exit_code, "reason": reason, "message": message, "finishedAt": NOW } },
    }] })
}

#[test]
fn f18_each_state_of_a_pod_that_a_person_can_act_on_has_its_own_code() {
    assert_eq!(
        code(serde_json::json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" })),
        "Evicted"
    );
    assert_eq!(code(serde_json::json!({ "reason": "NodeLost" })), "NodeLost");
    assert_eq!(code(ended(137, "OOMKilled", "")), "OOMKilled");
    for reason in ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"] {
        assert_eq!(code(waiting(reason)), "ImagePullBackOff");
    }
    assert_eq!(
        code(waiting("CreateContainerConfigError")),
        "CreateContainerConfigError"
    );
    assert_eq!(code(waiting("ContainerCreating")), "");
    let condition = |type_: &str, status: &str, reason: &str| serde_json::json!({ "conditions": [{ "type": type_, "status": status, "reason": reason }] });
    assert_eq!(
        code(condition("DisruptionTarget", "True", "DeletionByTaintManager")),
        "NodeLost"
    );
    assert_eq!(
        code(condition("DisruptionTarget", "True", "PreemptionByScheduler")),
        "Preempted"
    );
    assert_eq!(
        code(condition("PodScheduled", "False", "Unschedulable")),
        "Unschedulable"
    );
    assert_eq!(code(condition("PodScheduled", "True", "")), "");
}

#[test]
fn f19_a_termination_message_that_is_no_report_is_kept_as_its_reason() {
    for message in [
        "",
        "not json",
        "exec /job-runner: exec format error",
        "{\"version\":1}",
        &"[".repeat(4_000),
        &"x".repeat(5_000),
        "\u{fffd}\u{0}\u{1b}[31m",
    ] {
        for exit_code in [0, 1, 255] {
            let end = pod(ended(exit_code, "Completed", message)).ended.unwrap();
            assert_eq!(end.exit_code, exit_code);
            let reason = end.report.unwrap_err().message;
            assert!(
                !reason.is_empty() && reason.len() <= MAX_MESSAGE && !reason.chars().any(char::is_control),
                "{reason:?}"
            );
        }
    }
}

#[test]
fn f19_kubernetes_own_reason_comes_first_and_a_foreign_architecture_is_named() {
    let lost = "The container could not be located when the pod was terminated";
    assert_eq!(
        code(ended(137, "ContainerStatusUnknown", lost)),
        "ContainerStatusUnknown"
    );
    assert_eq!(code(ended(128, "StartError", "exec: no such file")), "StartError");
    assert_eq!(
        code(
            serde_json::json!({ "phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough resource" })
        ),
        "OutOfcpu"
    );
    assert_eq!(code(waiting("SomethingNew")), "SomethingNew");
    assert_eq!(code(waiting("PodInitializing")), "");
    let no_report = |exit_code, message| {
        pod(ended(exit_code, "Error", message))
            .ended
            .unwrap()
            .report
            .unwrap_err()
    };
    let foreign = no_report(255, "exec /job-runner: exec format error\n");
    assert_eq!(foreign.code, EXEC_FORMAT_ERROR);
    assert!(foreign.message.contains("kubernetes.io/arch"), "{foreign:?}");
    let panicked = no_report(101, "{\"level\":\"INFO\"}\nthread 'main' panicked at src/main.rs:1\n");
    assert_eq!(panicked.code, REPORT_MISSING);
    assert!(panicked.message.contains("thread 'main' panicked"), "{panicked:?}");
    assert_eq!(no_report(2, "{\"version\":9}").code, REPORT_MALFORMED);
}

#[test]
fn times_that_others_write_are_bounded_where_they_enter() {
    let job = |slot: &str, ended: &str| {
        let job = serde_json::json!({
            "metadata": {
                "uid": "1", "creationTimestamp": "2026-11-23T09:58:00Z",
                "annotations": { labels::SCHEDULED_TIMESTAMP: slot },
            },
            "spec": { "activeDeadlineSeconds": 9_000_000_000_000_i64, "template": {} },
            "status": {
                "startTime": ended,
                "conditions": [{ "type": "Complete", "status": "True", "lastTransitionTime": ended }],
            },
        });
        JobRecord::read(&serde_json::from_value(job).unwrap(), now()).unwrap()
    };
    let honest = job("2026-11-23T09:58:00Z", "2026-11-23T09:59:00Z");
    assert_eq!(honest.slot, Some("2026-11-23T09:58:00Z".parse().unwrap()));
    assert_eq!(
        honest.ended.as_ref().unwrap().at,
        "2026-11-23T09:59:00Z".parse().unwrap()
    );
    assert_eq!(honest.expected_until(), "2026-11-23T10:31:00Z".parse().unwrap());
    for moment in ["2200-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
        let forged = job(moment, moment);
        assert_eq!(forged.slot, None, "{moment}");
        let at = forged.ended.as_ref().unwrap().at;
        assert!(forged.created <= at && at <= now(), "{moment}: {at}");
        assert!(forged.expected_until() <= "2026-11-23T10:31:00Z".parse().unwrap());
    }
    let ended = pod(serde_json::json!({ "containerStatuses": [{
        "name": "job-runner", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 0, "finishedAt": "2200-01-01T00:00:00Z" } },
    }] }));
    assert_eq!(
        ended.ended.unwrap().finished_at,
        "2026-11-24T10:00:00Z".parse().unwrap()
    );
}

#[test]
fn f31_an_owner_counts_only_as_the_controller_and_of_the_right_kind() {
    let owner = |group: &str, kind: &str, controller: bool| {
        let owner = OwnerReference {
            api_version: format!("{group}/v1"),
            kind: kind.into(),
            name: "x".into(),
            uid: "6f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a10".into(),
            controller: Some(controller),
            block_owner_deletion: None,
        };
        controller_uid(Some(&vec![owner]), "batch", "CronJob")
    };
    assert!(owner("batch", "CronJob", true).is_some());
    assert!(owner("batch", "CronJob", false).is_none());
    assert!(owner("batch", "Job", true).is_none());
    assert!(owner("evil", "CronJob", true).is_none());
}

#[test]
fn a_cron_jobs_task_is_told_by_its_name_and_flipped_labels_are_noticed() {
    let cron_job = |name: &str, policy: &str, task: &str| {
        let cron_job = serde_json::json!({ "metadata": {
            "name": name, "uid": "1", "resourceVersion": "7",
            "labels": { labels::MANAGED_BY: labels::FIELD_MANAGER, labels::POLICY: policy, labels::TASK: task },
        } });
        CronJobRecord::read(&serde_json::from_value(cron_job).unwrap()).unwrap()
    };
    let good = cron_job("roraima-health-check", "roraima", "health-check");
    assert!(good.labels_intact && good.task == Some(TaskName::HealthCheck));
    let flipped = cron_job("roraima-health-check", "acre", "health-check");
    assert!(!flipped.labels_intact && flipped.task == Some(TaskName::HealthCheck));
    assert!(!cron_job("roraima-health-check", "roraima", "refresh-mv-portal").labels_intact);
    assert_eq!(cron_job("other", "roraima", "health-check").task, None);
}
