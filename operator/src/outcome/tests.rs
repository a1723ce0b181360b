use mapa_refresh_crds::report::{self, Attempt, Publications, RunError};

use super::*;
use crate::{
    fingerprint::Uid,
    records::{JobRecord, REPORT_MALFORMED},
};

const POLICY: &str = "6f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a10";
const POD: &str = "1f6f0d5e-8d0b-4c4c-9b0e-6a2f0a0f5a11";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn template() -> fingerprint::PodFingerprint {
    pod_of(serde_json::json!({ "containers": [{ "name": "job-runner", "image": "a" }] }))
}

fn pod_of(spec: serde_json::Value) -> fingerprint::PodFingerprint {
    fingerprint::PodFingerprint::of(&serde_json::from_value(spec).unwrap())
}

fn report(result: RunResult) -> RunReport {
    RunReport {
        version: report::VERSION,
        policy_uid: POLICY.into(),
        task: TaskName::RefreshMapaCache,
        target: "t".into(),
        pod_uid: POD.into(),
        started_at: MicroTime(at(0)),
        finished_at: MicroTime(at(2)),
        duration_ms: 1_200,
        attempts: vec![
            Attempt {
                duration_ms: 1_200,
                class: None,
                code: None
            };
            2
        ],
        result,
        refused_rows: None,
        published: None,
        publications: Publications::default(),
    }
}

fn published() -> RunReport {
    report(RunResult::Succeeded(Success {
        kind: SuccessKind::Published,
        data_as_of: MicroTime(at(-60)),
        age_seconds: 60.0,
        elapsed_seconds: 1.0,
        records: 312,
        repaired: Default::default(),
        quarantined: Default::default(),
        built_from_stale_view: false,
    }))
}

fn none(code: &'static str) -> NoReport {
    NoReport {
        code,
        message: "why".into(),
    }
}

fn pod(report: Result<RunReport, NoReport>) -> PodRecord {
    PodRecord {
        uid: Uid::parse(POD),
        uid_text: POD.into(),
        owner: Some(Uid::parse("job")),
        evidence: template(),
        trouble: None,
        ended: Some(PodEnd {
            finished_at: at(1),
            first_seen: at(2),
            exit_code: 0,
            report: report.map(Box::new),
        }),
    }
}

fn run(ended: Option<(bool, &str)>, pods: Vec<PodRecord>) -> Run {
    let ended = ended.map(|(complete, reason)| JobEnd {
        complete,
        at: at(2),
        reason: reason.into(),
        message: "why".into(),
    });
    Run {
        task: TaskName::RefreshMapaCache,
        job: JobRecord {
            uid: Uid::parse("job"),
            name: "roraima-refresh-mapa-cache-30000000".into(),
            owner: Some(Uid::parse("cron-job")),
            created: at(0),
            slot: Some(at(0)),
            halt: None,
            seen: at(0),
            started: at(0),
            deadline_seconds: 540,
            settled_at: ended.is_some().then(|| at(2)),
            ended,
            deleted: false,
        },
        pods,
    }
}

fn progress_of(run: &Run, second: i64) -> Progress {
    let template = template();
    let templates = [template.whole.unwrap().to_string()];
    progress(
        run,
        Trust {
            policy_uid: POLICY,
            template: Some(&template),
            templates: &templates,
        },
        at(second),
    )
}

fn outcome(run: &Run) -> Outcome {
    match progress_of(run, 100) {
        Progress::Ended(outcome) => *outcome,
        other => panic!("not ended: {other:?}"),
    }
}

fn code(run: &Run) -> String {
    outcome(run).result.unwrap_err().code
}

#[test]
fn a_complete_job_with_a_verified_report_is_a_success_and_proves_the_age_of_its_data() {
    let outcome = outcome(&run(Some((true, "")), vec![pod(Ok(published()))]));
    assert_eq!(
        (outcome.result, outcome.attempts, outcome.duration_seconds),
        (Ok(312), 2, Some(2))
    );
    assert_eq!(
        outcome.evidence.unwrap(),
        Evidence {
            data_as_of: at(-60),
            published_at: at(1),
            target: "t".into()
        }
    );
    assert_eq!(
        outcome.log.unwrap(),
        PublicationLog {
            publications: Publications::default(),
            seen: at(2),
            target: "t".into()
        }
    );
    assert_eq!(outcome.ended_at, at(2));
}

#[test]
fn f22_no_skewed_clock_makes_data_look_younger() {
    let skewed_by = |skew: i64| {
        let mut skewed = published();
        if let RunResult::Succeeded(success) = &mut skewed.result {
            success.data_as_of = MicroTime(at(-60 + skew));
        }
        outcome(&run(Some((true, "")), vec![pod(Ok(skewed))]))
    };
    for (skew, told) in [
        (-300, Some(300)),
        (-62, Some(62)),
        (0, None),
        (59, None),
        (70, Some(70)),
    ] {
        let outcome = skewed_by(skew);
        let data_as_of = outcome.evidence.unwrap().data_as_of;
        assert!(data_as_of <= at(-59), "skew {skew}: {data_as_of}");
        let near = |told: i64| outcome.clock_skew_seconds.is_some_and(|seen| (seen - told).abs() <= 1);
        assert!(
            told.map_or(outcome.clock_skew_seconds.is_none(), near),
            "skew {skew}: {:?}",
            outcome.clock_skew_seconds
        );
    }
    // Data of a moment that is still to come proves nothing.
    for skew in [700, 86_400] {
        let outcome = skewed_by(skew);
        assert_eq!(
            (outcome.evidence, outcome.result.unwrap_err().code),
            (None, "ReportFromFuture".to_owned())
        );
    }
    let mut ahead = pod(Ok(published()));
    ahead.ended.as_mut().unwrap().finished_at = at(10_000);
    assert_eq!(
        outcome(&run(Some((true, "")), vec![ahead]))
            .evidence
            .unwrap()
            .data_as_of,
        at(-60)
    );
}

#[test]
fn f16_a_forged_report_proves_nothing() {
    type Forgery = (&'static str, fn(&mut PodRecord));
    let forgeries: [Forgery; 6] = [
        (UNTRUSTED_POD, |p| p.evidence.whole = None),
        (UNTRUSTED_POD, |p| {
            p.evidence = pod_of(serde_json::json!({ "containers": [{ "name": "job-runner", "image": "evil" }] }));
        }),
        (REPORT_FOREIGN, |p| p.uid_text = "other".into()),
        (REPORT_FOREIGN, |p| change(p, |r| r.policy_uid = "other".into())),
        (REPORT_FOREIGN, |p| change(p, |r| r.task = TaskName::RefreshMvPortal)),
        (REPORT_FOREIGN, |p| {
            change(p, |r| {
                if let RunResult::Succeeded(s) = &mut r.result {
                    s.kind = SuccessKind::Healthy
                }
            })
        }),
    ];
    fn change(pod: &mut PodRecord, change: fn(&mut RunReport)) {
        change(pod.ended.as_mut().unwrap().report.as_mut().unwrap());
    }
    for (expected, forge) in forgeries {
        let mut forged = pod(Ok(published()));
        forge(&mut forged);
        let outcome = outcome(&run(Some((true, "")), vec![forged]));
        assert_eq!(outcome.result.unwrap_err().code, expected);
        assert_eq!(outcome.evidence, None);
    }
}

#[test]
fn f19_a_missing_or_garbled_report_is_a_failed_run_with_a_reason() {
    for reason in [REPORT_MISSING, REPORT_MALFORMED] {
        assert_eq!(code(&run(Some((true, "")), vec![pod(Err(none(reason)))])), reason);
    }
    assert_eq!(code(&run(Some((true, "")), vec![])), REPORT_MISSING);
}

#[test]
fn f18_without_a_report_the_pods_or_jobs_own_state_is_named() {
    for trouble in [
        "Evicted",
        "OOMKilled",
        "NodeLost",
        "ImagePullBackOff",
        "Preempted",
        "Unschedulable",
    ] {
        let mut lost = pod(Err(none(REPORT_MISSING)));
        lost.trouble = Some(Trouble {
            code: trouble.into(),
            message: "why".into(),
        });
        assert_eq!(
            code(&run(Some((false, "DeadlineExceeded")), vec![lost.clone()])),
            trouble
        );
        lost.ended = None;
        assert_eq!(code(&run(Some((false, "DeadlineExceeded")), vec![lost])), trouble);
    }
    assert_eq!(
        code(&run(Some((false, "DeadlineExceeded")), vec![])),
        "DeadlineExceeded"
    );
    assert_eq!(
        code(&run(Some((false, "BackoffLimitExceeded")), vec![])),
        "BackoffLimitExceeded"
    );
}

#[test]
fn f17_a_run_that_reported_before_its_deadline_is_told_by_its_report() {
    let error = RunError {
        class: FaultClass::Transient,
        code: "Terminated".into(),
        message: "SIGTERM".into(),
    };
    let mut ended = pod(Ok(report(RunResult::Failed(error))));
    ended.ended.as_mut().unwrap().exit_code = 1;
    assert_eq!(code(&run(Some((false, "DeadlineExceeded")), vec![ended])), "Terminated");
}

#[test]
fn a_failed_job_whose_runner_published_proves_the_data_and_is_no_success() {
    let outcome = outcome(&run(Some((false, "DeadlineExceeded")), vec![pod(Ok(published()))]));
    assert_eq!(outcome.result.unwrap_err().code, "DeadlineExceeded");
    assert!(outcome.evidence.is_some());
}

#[test]
fn a_job_that_ended_waits_a_little_for_its_pods_word_and_not_for_ever() {
    let silent = run(Some((true, "")), vec![]);
    assert_eq!(progress_of(&silent, 3), Progress::AwaitingEvidence { until: at(7) });
    assert!(matches!(progress_of(&silent, 7), Progress::Ended(_)));
    let mut deleted = run(None, vec![]);
    deleted.job.deleted = true;
    deleted.job.settled_at = Some(at(2));
    assert_eq!(progress_of(&deleted, 3), Progress::AwaitingEvidence { until: at(17) });
    deleted.job.halt = Some(Halt {
        why: Halted::Suspended,
        since: at(0),
    });
    assert!(matches!(progress_of(&deleted, 3), Progress::Ended(_)), "it has no pod");
    deleted.job.halt = None;
    assert_eq!(code(&deleted), "JobDeleted");
}

#[test]
fn a_job_without_a_pod_for_30_seconds_is_trouble_that_names_the_remedy() {
    let waiting = run(None, vec![]);
    assert_eq!(
        progress_of(&waiting, 29),
        Progress::Active {
            trouble: None,
            look_again: Some(at(30))
        }
    );
    let Progress::Active {
        trouble: Some(trouble), ..
    } = progress_of(&waiting, 30)
    else {
        panic!("no trouble")
    };
    assert_eq!(&*trouble.code, "PodNotCreated");
    assert!(
        trouble
            .message
            .contains("kubectl describe job roraima-refresh-mapa-cache-30000000")
    );
}

#[test]
fn promise_5_no_job_is_waited_for_longer_than_its_deadline_whatever_keeps_it_from_ending() {
    let trouble_of = |run: &Run, second| match progress_of(run, second) {
        Progress::GivenUp { trouble } => trouble,
        other => panic!("not given up: {other:?}"),
    };
    // Neither its pod nor its controller tells anything.
    let silent = run(None, vec![pod(Ok(published()))]);
    let mut silent = Run {
        pods: vec![PodRecord {
            ended: None,
            ..silent.pods[0].clone()
        }],
        ..silent
    };
    assert_eq!(
        progress_of(&silent, 599),
        Progress::Active {
            trouble: None,
            look_again: Some(at(600))
        }
    );
    assert_eq!(trouble_of(&silent, 600), None);
    for (why, grace) in [(Halted::Failing, 15), (Halted::Deleting, 15), (Halted::Suspended, 30)] {
        silent.job.halt = Some(Halt { why, since: at(100) });
        assert_eq!(
            progress_of(&silent, 100 + grace - 1),
            Progress::Active {
                trouble: None,
                look_again: Some(at(100 + grace))
            },
            "{why:?}"
        );
        let trouble = trouble_of(&silent, 100 + grace);
        assert_eq!(trouble.is_some(), why == Halted::Suspended, "{why:?}");
        if let Some(trouble) = trouble {
            assert_eq!(&*trouble.code, JOB_SUSPENDED);
            assert!(trouble.message.contains("kubectl patch job"), "{trouble:?}");
        }
    }
}

#[test]
fn f16_what_differs_from_the_template_is_named() {
    let message = |spec| {
        let mut other = pod(Ok(published()));
        other.evidence = pod_of(spec);
        let error = outcome(&run(Some((true, "")), vec![other])).result.unwrap_err();
        assert_eq!(error.code, UNTRUSTED_POD);
        error.message
    };
    let sidecar = serde_json::json!({
        "containers": [{ "name": "job-runner", "image": "a" }, { "name": "istio-proxy" }],
        "initContainers": [{ "name": "istio-init" }],
    });
    let said = message(sidecar);
    assert!(
        said.contains("containers istio-proxy; initContainers istio-init"),
        "{said}"
    );
    let variable = serde_json::json!({
        "containers": [{ "name": "job-runner", "image": "a", "env": [{ "name": "HTTP_PROXY", "value": "http://u:secret@p" }] }],
    });
    let said = message(variable);
    assert!(
        said.contains("spec.containers[0].env, added: env HTTP_PROXY") && !said.contains("secret"),
        "{said}"
    );
    let account = serde_json::json!({
        "containers": [{ "name": "job-runner", "image": "b" }], "serviceAccountName": "admin",
    });
    let said = message(account);
    assert!(
        said.contains("(spec.containers[0].image, spec.serviceAccountName)"),
        "{said}"
    );
}
