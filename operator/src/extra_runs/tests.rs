use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::{fingerprint::Uid, forecast::ActiveRun, records::JobRecord};

const VIEW: TaskName = TaskName::RefreshMvPortal;
const MAP: TaskName = TaskName::RefreshMapaCache;
const STATISTICS: TaskName = TaskName::CalcularEstatisticas;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn cron_job(task: TaskName) -> String {
    format!("roraima-{task}")
}

fn job(task: TaskName, id: &str) -> Run {
    Run {
        task,
        job: JobRecord {
            uid: Uid::parse(&format!("{task}-{id}")),
            name: format!("roraima-{task}-{id}").into(),
            owner: None,
            created: at(0),
            slot: None,
            halt: None,
            seen: at(0),
            started: at(0),
            deadline_seconds: 540,
            ended: None,
            settled_at: None,
            deleted: false,
        },
        pods: Vec::new(),
    }
}

/// Extra runs with the Jobs that exist.
struct Scene {
    extra: ExtraRuns,
    jobs: Vec<Run>,
}

impl Scene {
    fn new(tasks: &[TaskName]) -> Self {
        Self {
            extra: extra_runs("r30000000".into(), tasks.to_vec(), at(0)),
            jobs: Vec::new(),
        }
    }

    /// Which tasks are to be created; `ended` ended just now.
    fn advance(&mut self, ended: &[(TaskName, bool)]) -> Vec<TaskName> {
        self.advance_at(9, ended, &[])
    }

    /// The same at `second`; Jobs of `attempted` could not be created.
    fn advance_at(&mut self, second: i64, ended: &[(TaskName, bool)], attempted: &[TaskName]) -> Vec<TaskName> {
        let attempted: Vec<WantedJob> = attempted
            .iter()
            .map(|task| WantedJob {
                task: *task,
                id: "r30000000".into(),
            })
            .collect();
        let names: Vec<String> = ended
            .iter()
            .map(|(task, _)| format!("roraima-{task}-r30000000"))
            .collect();
        let counted: Vec<Counted<'_>> = ended
            .iter()
            .zip(&names)
            .map(|((task, succeeded), job)| Counted {
                task: *task,
                job,
                succeeded: *succeeded,
            })
            .collect();
        let active: Vec<ActiveRun> = self
            .jobs
            .iter()
            .filter(|run| !ended.iter().any(|(task, _)| *task == run.task))
            .map(|run| ActiveRun {
                task: run.task,
                created: run.job.created,
                job: run.job.name.clone(),
            })
            .collect();
        let wanted = advance(
            &mut self.extra,
            cron_job,
            &self.jobs,
            &active,
            &counted,
            &attempted,
            at(second),
        );
        wanted.into_iter().map(|job| job.task).collect()
    }

    fn create(&mut self, task: TaskName) {
        self.jobs.push(job(task, "r30000000"));
    }
}

#[test]
fn promise_5_first_the_view_then_what_is_built_from_it_and_each_once() {
    let mut scene = Scene::new(&[VIEW, MAP, STATISTICS]);
    assert_eq!(scene.advance(&[]), [VIEW]);
    // Asked again before the Job is seen, the answer is the same Job: the API server lets only one be created.
    assert_eq!(scene.advance(&[]), [VIEW]);
    scene.create(VIEW);
    assert_eq!(scene.advance(&[]), []);
    assert_eq!(scene.advance(&[(VIEW, true)]), [MAP, STATISTICS]);
    scene.create(MAP);
    scene.create(STATISTICS);
    assert_eq!(scene.advance(&[(MAP, true)]), []);
    assert_eq!(scene.extra.finished_at, None);
    assert_eq!(scene.advance(&[(STATISTICS, true)]), []);
    assert!(scene.extra.finished_at.is_some() && !scene.extra.failed);
    scene.jobs.clear();
    assert_eq!(scene.advance(&[]), [], "what is finished is never begun again");
}

#[test]
fn what_comes_after_a_failure_is_not_started_and_what_runs_is_waited_for() {
    let mut scene = Scene::new(&[VIEW, MAP, STATISTICS]);
    scene.create(VIEW);
    assert_eq!(scene.advance(&[(VIEW, false)]), []);
    assert!(scene.extra.finished_at.is_some() && scene.extra.failed);

    let mut scene = Scene::new(&[MAP, STATISTICS]);
    scene.create(MAP);
    scene.create(STATISTICS);
    assert_eq!(scene.advance(&[(MAP, false)]), []);
    assert_eq!(scene.extra.finished_at, None);
    scene.advance(&[(STATISTICS, true)]);
    assert!(scene.extra.finished_at.is_some() && scene.extra.failed);
}

#[test]
fn f20_a_job_that_was_deleted_while_nobody_looked_is_a_failure_and_is_not_created_again() {
    let mut scene = Scene::new(&[VIEW, MAP]);
    scene.create(VIEW);
    scene.advance(&[]);
    scene.jobs.clear();
    assert_eq!(scene.advance(&[]), []);
    assert!(scene.extra.failed);
}

#[test]
fn promise_5_a_job_that_cannot_be_created_ends_the_chain_after_a_minute_of_trying() {
    let mut scene = Scene::new(&[VIEW, MAP]);
    assert_eq!(scene.advance_at(0, &[], &[]), [VIEW]);
    assert_eq!(scene.advance_at(59, &[], &[VIEW]), [VIEW]);
    // The operator was down for an hour: it tries once more before it gives up.
    assert_eq!(scene.advance_at(3_600, &[], &[]), [VIEW]);
    assert_eq!(scene.advance_at(3_600, &[], &[VIEW]), []);
    assert!(scene.extra.finished_at.is_some() && scene.extra.failed);

    let mut scene = Scene::new(&[MAP, STATISTICS]);
    scene.advance_at(0, &[], &[]);
    scene.create(MAP);
    // The map runs: nothing is in a hurry.
    assert_eq!(scene.advance_at(100, &[], &[STATISTICS]), [STATISTICS]);
    assert_eq!(scene.advance_at(300, &[(MAP, true)], &[STATISTICS]), [STATISTICS]);
    assert_eq!(scene.advance_at(359, &[(MAP, true)], &[STATISTICS]), [STATISTICS]);
    assert_eq!(scene.advance_at(360, &[(MAP, true)], &[STATISTICS]), []);
    assert!(scene.extra.failed);
}

#[test]
fn promise_7_the_same_words_asked_for_again_are_another_request() {
    let plan = crate::desired::tests::plan_of(&crate::desired::tests::policy(serde_json::json!({})));
    let mut ids = std::collections::BTreeSet::new();
    let mut before: Option<ExtraRuns> = None;
    for (nth, token) in ["a", "b", "a", "b", "a", "a"].into_iter().enumerate() {
        let asked = request(token, before.as_ref(), &plan, at(i64::try_from(nth).unwrap() * 60));
        // Another operator, or this one after a crash, means the same.
        assert_eq!(request(token, before.as_ref(), &plan, at(9_999)).id, asked.id);
        assert!(ids.insert(asked.id.clone()), "{token} for the second time: {ids:?}");
        before = Some(asked);
    }
}

#[test]
fn f01_a_crash_between_two_jobs_of_one_stage_leaves_the_other_to_be_created() {
    let mut scene = Scene::new(&[MAP, STATISTICS]);
    assert_eq!(scene.advance(&[]), [MAP, STATISTICS]);
    scene.create(MAP);
    assert_eq!(scene.advance(&[]), [STATISTICS]);
    // Even when the first has ended meanwhile.
    assert_eq!(scene.advance(&[(MAP, true)]), [STATISTICS]);
}

#[test]
fn a_rescue_whose_deadline_moved_has_nothing_left_to_keep() {
    let mut rescue = extra_runs(rescue_id(at(0)), vec![VIEW], at(0));
    assert!(!is_pointless(&rescue, Some(at(0))));
    assert!(is_pointless(&rescue, Some(at(600))));
    rescue.waiting.clear();
    rescue.running.push(VIEW);
    assert!(!is_pointless(&rescue, Some(at(600))), "what runs is waited for");
}

#[test]
fn hostile_and_long_requests_are_kept_as_their_hash() {
    assert_eq!(token_as_kept("2026-11-25T10:00:00Z"), "2026-11-25T10:00:00Z");
    for token in ["\u{1b}[31m".to_owned(), "x".repeat(100_000)] {
        let kept = token_as_kept(&token);
        assert!(kept.starts_with("sha256:") && kept.len() < 100, "{kept}");
    }
    assert_ne!(token_as_kept(&"x".repeat(101)), token_as_kept(&"x".repeat(102)));
}

#[test]
fn the_names_of_the_jobs_are_short_enough_for_the_longest_cron_job() {
    let longest = "x".repeat(mapa_refresh_crds::labels::MAX_CRON_JOB_NAME);
    let plan = crate::desired::tests::plan_of(&crate::desired::tests::policy(serde_json::json!({})));
    for id in [request("token", None, &plan, at(0)).id, rescue_id(at(0))] {
        assert!(format!("{longest}-{id}").len() <= 63, "{id}");
    }
}

#[test]
fn a_beginning_is_a_deadline_that_was_missed() {
    let mut status = MapaRefreshPolicyStatus::default();
    assert_eq!(written_deadline(&status), None);
    status.target_since = Some(whole_seconds(at(0)));
    let suspended = |holds, now| crate::conditions::Verdict {
        type_: ConditionType::Suspended,
        holds,
        reason: if now == 0 { "NotSuspended" } else { "SuspendedBySpec" },
        message: String::new(),
    };
    crate::conditions::set(&mut status.conditions, [suspended(false, 0)], None, at(0));
    assert_eq!(written_deadline(&status), Some(at(0)));
    status.compliant_until = Some(whole_seconds(at(1_800)));
    assert_eq!(written_deadline(&status), Some(at(1_800)));
    crate::conditions::set(&mut status.conditions, [suspended(true, 1)], None, at(2_000));
    assert_eq!(written_deadline(&status), None, "nothing is due while it is suspended");
    crate::conditions::set(&mut status.conditions, [suspended(false, 0)], None, at(9_000));
    assert_eq!(
        written_deadline(&status),
        Some(at(0) + SignedDuration::from_secs(9_000))
    );
}
