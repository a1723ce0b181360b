use mapa_refresh_crds::{
    report::{FaultClass, Published},
    rows::{Quarantine, Repair, RowCounts},
    status::{ConditionType, LastError, MAX_MONTHS, MAX_OBSERVED_RUNS, MonthTally, Tally},
};
use proptest::prelude::*;

use super::*;
use crate::{
    desired::{
        desired,
        tests::{plan_of, policy},
    },
    fingerprint::PodFingerprint,
    records::{JobEnd, JobRecord, PodEnd, PodRecord},
    settings::RunnerSettings,
};
use mapa_refresh_crds::report::{self, Attempt, Publications, RunError, RunReport, RunResult, Success, SuccessKind};

mod history;
mod model;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

struct World {
    policy: MapaRefreshPolicy,
    plan: Plan,
    desired: Vec<DesiredCronJob>,
    status: MapaRefreshPolicyStatus,
    runs: Vec<Run>,
}

impl World {
    fn new() -> Self {
        let policy = policy(serde_json::json!({}));
        let plan = plan_of(&policy);
        let runner = RunnerSettings {
            image: Some("runner:1".into()),
            ..RunnerSettings::default()
        };
        let desired = desired(&policy, &plan, &runner);
        let mut world = Self {
            policy,
            plan,
            desired,
            status: MapaRefreshPolicyStatus::default(),
            runs: Vec::new(),
        };
        world.fold(0);
        world
    }

    fn folded(&self, second: i64) -> Folded {
        self.folded_at(at(second))
    }

    fn folded_at(&self, now: Timestamp) -> Folded {
        fold(Facts {
            policy: &self.policy,
            previous: &self.status,
            plan: Ok(&self.plan),
            desired: &self.desired,
            applied: &Applied::default(),
            runs: &self.runs,
            other_jobs: &[],
            attempted: &[],
            now,
        })
    }

    fn fold(&mut self, second: i64) -> Option<Timestamp> {
        let folded = self.folded(second);
        self.status = folded.status;
        folded.look_again
    }

    fn template(&self, task: TaskName) -> PodFingerprint {
        self.desired
            .iter()
            .find(|cron_job| cron_job.task.name == task)
            .and_then(|cron_job| cron_job.evidence.clone())
            .unwrap()
    }

    fn run(&mut self, task: TaskName, number: u32, ended: i64, attempts: usize, result: RunResult) {
        let pod_uid = format!("aaaaaaaa-0000-0000-0000-{number:012}");
        let report = RunReport {
            version: report::VERSION,
            policy_uid: self.policy.metadata.uid.clone().unwrap(),
            task,
            target: self.policy.spec.target(),
            pod_uid: pod_uid.clone(),
            started_at: at(ended - 2).into(),
            finished_at: at(ended).into(),
            duration_ms: 1_500,
            attempts: vec![
                Attempt {
                    duration_ms: 1,
                    class: None,
                    code: None
                };
                attempts
            ],
            result: result.clone(),
            refused_rows: None,
            published: None,
            publications: Publications::default(),
        };
        let uid = Uid::parse(&format!("{number:08x}-0000-0000-0000-000000000000"));
        self.runs.push(Run {
            task,
            job: JobRecord {
                uid,
                name: format!("job-{number:04}").into(),
                owner: None,
                created: at(ended - 5),
                slot: Some(at(ended - 5)),
                halt: None,
                seen: at(ended - 5),
                started: at(ended - 5),
                deadline_seconds: 590,
                ended: Some(JobEnd {
                    complete: matches!(result, RunResult::Succeeded(_)),
                    at: at(ended),
                    reason: "".into(),
                    message: "".into(),
                }),
                settled_at: Some(at(ended)),
                deleted: false,
            },
            pods: vec![PodRecord {
                uid: Uid::parse(&pod_uid),
                uid_text: pod_uid.into(),
                owner: Some(uid),
                evidence: self.template(task),
                trouble: None,
                ended: Some(PodEnd {
                    finished_at: at(ended),
                    first_seen: at(ended),
                    exit_code: 0,
                    report: Ok(Box::new(report)),
                }),
            }],
        });
    }

    fn succeed(&mut self, task: TaskName, number: u32, ended: i64) {
        self.run(task, number, ended, 1, success(task, ended));
    }

    fn succeed_all(&mut self, number: u32, ended: i64) {
        for (offset, task) in (0..).zip(TaskName::DEFAULT) {
            self.succeed(task, number + offset, ended);
        }
    }

    fn condition(&self, type_: ConditionType) -> (&str, &str) {
        let condition = self
            .status
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_.as_str())
            .unwrap();
        (&condition.status, &condition.reason)
    }

    fn task(&self, name: TaskName) -> &TaskStatus {
        self.status.tasks.iter().find(|task| task.name == name).unwrap()
    }
}

fn success(task: TaskName, ended: i64) -> RunResult {
    RunResult::Succeeded(Success {
        kind: match task {
            TaskName::RefreshMvPortal => SuccessKind::Refreshed,
            TaskName::HealthCheck => SuccessKind::Healthy,
            _ => SuccessKind::Published,
        },
        data_as_of: at(ended - 10).into(),
        age_seconds: 9.0,
        elapsed_seconds: 1.0,
        records: 312,
        repaired: Default::default(),
        quarantined: Default::default(),
        built_from_stale_view: false,
    })
}

fn failure() -> RunResult {
    RunResult::Failed(RunError {
        class: FaultClass::Transient,
        code: "57P03".into(),
        message: "the database is starting up".into(),
    })
}

const MAP: TaskName = TaskName::RefreshMapaCache;

#[test]
fn a_new_policy_is_ready_and_has_published_nothing() {
    let world = World::new();
    assert_eq!(world.condition(ConditionType::Ready), ("True", "Reconciled"));
    assert_eq!(world.condition(ConditionType::Compliant), ("False", "NeverPublished"));
    assert_eq!(world.condition(ConditionType::Suspended), ("False", "NotSuspended"));
    assert_eq!(world.status.tasks.len(), 3);
    assert!(world.status.next_schedule_time.is_some() && world.status.observed_generation == Some(1));
}

#[test]
fn i3_folding_the_same_facts_again_changes_nothing_until_the_next_moment_that_matters() {
    let mut world = World::new();
    world.succeed_all(1, 100);
    world.fold(101);
    let mut later = at(101);
    for _ in 0..10 {
        let folded = world.folded_at(later);
        assert_eq!(folded.status, world.status, "at {later}");
        let wake = folded.look_again.unwrap();
        let before = wake - std::time::Duration::from_millis(1);
        assert_eq!(
            world.folded_at(before.max(later)).status,
            world.status,
            "just before {wake}"
        );
        world.status = world.folded_at(wake).status;
        later = wake;
    }
}

#[test]
fn three_successes_make_the_policy_compliant_until_the_limit_and_a_timer_flips_it() {
    let mut world = World::new();
    world.succeed_all(1, 100);
    let wake = world.fold(101).unwrap();
    assert_eq!(world.condition(ConditionType::Compliant), ("True", "Fresh"));
    assert_eq!(world.status.data_as_of.as_ref().unwrap().0, at(90));
    assert_eq!(world.status.compliant_until.as_ref().unwrap().0, at(1_890));
    assert_eq!(world.status.last_success_time.as_ref().unwrap().0, at(100));
    assert!(wake < at(1_891));
    let wake = world.folded(1_890).look_again.unwrap();
    assert!(wake > at(1_890) && wake < at(1_891), "{wake}");
    world.fold(1_890);
    assert_eq!(world.condition(ConditionType::Compliant), ("True", "Fresh"));
    world.fold(1_891);
    assert_eq!(world.condition(ConditionType::Compliant), ("False", "DataTooOld"));
}

#[test]
fn the_last_success_is_absent_until_every_data_task_has_one() {
    let mut world = World::new();
    world.succeed(MAP, 1, 100);
    world.fold(101);
    assert_eq!(world.status.last_success_time, None);
    assert_eq!(world.condition(ConditionType::Compliant), ("False", "NeverPublished"));
}

#[test]
fn promise_6_retries_and_failures_are_counted_and_a_success_ends_the_row() {
    let mut world = World::new();
    world.run(MAP, 1, 100, 4, failure());
    world.run(MAP, 2, 700, 3, failure());
    world.fold(701);
    let task = world.task(MAP);
    assert_eq!(
        (
            task.attempts,
            task.retries,
            task.total_retries,
            task.consecutive_failures,
            task.total_runs
        ),
        (3, 2, 5, 2, 2)
    );
    assert_eq!(task.last_error.as_ref().unwrap().code, "57P03");
    assert_eq!((world.status.retries, world.status.consecutive_failures), (2, 2));
    world.succeed(MAP, 3, 1_300);
    world.fold(1_301);
    let task = world.task(MAP);
    assert_eq!(
        (
            task.retries,
            task.total_retries,
            task.consecutive_failures,
            task.total_runs
        ),
        (0, 5, 0, 3)
    );
    assert_eq!(task.last_error, None);
}

#[test]
fn a_changed_target_clears_the_evidence_and_runs_for_the_old_one_give_none() {
    let mut world = World::new();
    world.succeed_all(1, 100);
    world.fold(101);
    world.policy.spec.cache.key_prefix = "outro".into();
    world.policy.metadata.generation = Some(2);
    world.fold(102);
    assert_eq!(
        (world.status.data_as_of.clone(), world.status.last_success_time.clone()),
        (None, None)
    );
    assert_eq!(world.condition(ConditionType::Compliant), ("False", "NeverPublished"));
}

#[test]
fn a_health_check_that_finds_the_document_missing_takes_compliance_away() {
    let mut world = World::new();
    world.policy =
        policy(serde_json::json!({ "tasks": TaskName::ALL.map(|name| serde_json::json!({ "name": name })) }));
    world.plan = plan_of(&world.policy);
    world.desired = desired(&world.policy, &world.plan, &RunnerSettings::default());
    world.fold(0);
    world.succeed_all(1, 100);
    world.fold(101);
    assert_eq!(world.condition(ConditionType::Compliant), ("True", "Fresh"));

    world.run(TaskName::HealthCheck, 9, 200, 1, failure());
    let found = Published {
        map: None,
        statistics: Some(at(90).into()),
    };
    world.runs.last_mut().unwrap().pods[0]
        .ended
        .as_mut()
        .unwrap()
        .report
        .as_mut()
        .unwrap()
        .published = Some(found);
    world.fold(201);
    assert_eq!(
        world.condition(ConditionType::Compliant),
        ("False", "PublishedDataLost")
    );
    world.succeed(MAP, 10, 300);
    world.fold(301);
    assert_eq!(world.condition(ConditionType::Compliant), ("True", "Fresh"));
}

#[test]
fn credentials_rejected_twice_are_told_and_a_changed_spec_gives_another_chance() {
    let mut world = World::new();
    let rejected = || {
        RunResult::Failed(RunError {
            class: FaultClass::Permanent,
            code: code::CREDENTIALS_REJECTED.into(),
            message: "the database refuses the user".into(),
        })
    };
    let view = TaskName::RefreshMvPortal;
    world.run(view, 1, 100, 1, rejected());
    world.fold(101);
    assert_eq!(world.condition(ConditionType::Ready), ("False", "CredentialsRejected"));
    assert_eq!(credentials(&world.policy, &world.status), Credentials::Usable);
    world.run(view, 2, 700, 1, rejected());
    world.fold(701);
    assert_eq!(credentials(&world.policy, &world.status), Credentials::Rejected);
    world.policy.metadata.generation = Some(2);
    assert_eq!(credentials(&world.policy, &world.status), Credentials::Usable);
    world.fold(702);
    assert_eq!(credentials(&world.policy, &world.status), Credentials::Usable);
    world.succeed(view, 3, 1_300);
    world.fold(1_301);
    assert_eq!(world.condition(ConditionType::Ready), ("True", "Reconciled"));
}

#[test]
fn more_runs_than_are_remembered_by_name_are_still_counted_once() {
    let mut world = World::new();
    for number in 0..40 {
        world.succeed(MAP, number + 1, i64::from(number) * 60);
    }
    for second in [3_000, 3_001] {
        world.fold(second);
        assert_eq!(world.task(MAP).total_runs, 40);
        assert_eq!(world.task(MAP).counted_runs.len(), MAX_COUNTED_RUNS);
    }
}

#[test]
fn i6_a_job_that_is_gone_is_not_counted_again_by_whoever_still_sees_it() {
    let mut world = World::new();
    let newest = |world: &World| world.task(MAP).counted_runs.clone();
    for number in 1..=4 {
        world.succeed(MAP, number, i64::from(number) * 600);
    }
    world.fold(3_000);
    let (seen, known) = (world.runs.clone(), newest(&world));
    // The oldest goes, as the history limit asks, and a watch that is behind still shows it.
    world.runs.remove(0);
    world.fold(3_001);
    assert_eq!(newest(&world), known, "nothing is written because a Job went");
    world.runs = seen;
    world.fold(3_002);
    assert_eq!(world.task(MAP).total_runs, 4);
}

#[test]
fn a_refused_policy_keeps_its_evidence_and_ages() {
    let mut world = World::new();
    world.succeed_all(1, 100);
    world.fold(101);
    let refusal = Refusal {
        reason: mapa_refresh_crds::status::ReadyReason::UnknownTimeZone,
        message: "no such zone".into(),
    };
    let folded = fold(Facts {
        policy: &world.policy,
        previous: &world.status,
        plan: Err(&refusal),
        desired: &[],
        applied: &Applied::default(),
        attempted: &[],
        runs: &world.runs,
        other_jobs: &[],
        now: at(200),
    });
    world.status = folded.status;
    assert_eq!(world.condition(ConditionType::Ready), ("False", "UnknownTimeZone"));
    assert_eq!(world.condition(ConditionType::Compliant), ("True", "Fresh"));
    assert_eq!(folded.look_again, Some(at(1_890) + std::time::Duration::from_millis(1)));
}

/// The longest text that `clean` lets through, all of it escaped in JSON.
fn filled(max: usize) -> String {
    let mut text = "\"".repeat(max);
    report::clean(&mut text, max);
    text
}

#[test]
fn what_a_failed_run_published_before_it_failed_is_in_the_account_and_proves_no_age() {
    let mut world = World::new();
    world.succeed_all(1, 100);
    world.fold(101);
    let moments = |world: &World| -> Vec<i64> {
        let publications = world.task(MAP).publications.iter();
        publications.map(|publication| publication.published_at).collect()
    };
    let (data_as_of, before) = (world.task(MAP).data_as_of.clone(), moments(&world));
    let early = Publication {
        published_at: at(400).as_second(),
        data_as_of: at(390).as_second(),
    };
    let failed = RunResult::Failed(RunError {
        class: FaultClass::Transient,
        code: "08006".into(),
        message: "the connection broke".into(),
    });
    world.run(MAP, 9, 700, 1, failed);
    if let Some(Ok(report)) = world
        .runs
        .last_mut()
        .and_then(|run| run.pods[0].ended.as_mut())
        .map(|end| end.report.as_mut())
    {
        report.publications = Publications::new([early]);
    }
    world.fold(701);
    assert_eq!(world.task(MAP).data_as_of, data_as_of);
    assert_eq!(
        moments(&world)[0],
        early.published_at,
        "{before:?} {:?}",
        moments(&world)
    );
}

#[test]
fn i9_the_largest_status_stays_below_8_kib() {
    let mut world = World::new();
    world.policy =
        policy(serde_json::json!({ "tasks": TaskName::ALL.map(|name| serde_json::json!({ "name": name })) }));
    world.policy.metadata.name = Some("x".repeat(30));
    world.plan = plan_of(&world.policy);
    world.desired = desired(&world.policy, &world.plan, &RunnerSettings::default());
    world.fold(0);
    for task in &mut world.status.tasks {
        task.schedule =
            "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29 * * * *".into();
        task.total_retries = i64::from(u32::MAX);
        task.total_runs = i64::from(u32::MAX);
        for time in [
            &mut task.last_schedule_time,
            &mut task.last_success_time,
            &mut task.last_failure_time,
            &mut task.data_as_of,
        ] {
            *time = Some(whole_seconds(at(0)));
        }
        task.counted_until = Some(whole_seconds(at(0)));
        task.counted_runs = vec!["01234567".into(); MAX_COUNTED_RUNS];
        task.accepted_templates = vec!["x".repeat(32); MAX_ACCEPTED_TEMPLATES];
        task.last_error = Some(LastError {
            class: FaultClass::MissingClient,
            code: "x".repeat(64),
            message: filled(mapa_refresh_crds::status::MAX_ERROR_MESSAGE),
        });
        task.recent_run_seconds = vec![1_500; MAX_OBSERVED_RUNS];
        task.schedule_since = Some(whole_seconds(at(0)));
        task.clock_skew_seconds = Some(i64::from(u32::MAX));
        if task.name.publishes() {
            let moments = (0..6).map(|n| Publication {
                published_at: at(-n * 86_400).as_second(),
                data_as_of: at(-n * 86_400 - 99).as_second(),
            });
            task.publications = Publications::new(moments);
            let most = |words: Vec<&str>| words.into_iter().map(|word| (word.to_owned(), MAX_ROWS)).collect();
            let quarantined = Quarantine::ALL.iter().map(|why| why.as_str());
            task.quarantined = most(quarantined.chain([rows::OTHER]).collect());
            let repaired = Repair::ALL.iter().map(|repair| repair.as_str());
            task.repaired = most(repaired.chain([rows::OTHER]).collect());
        }
    }
    let extra = |id: &str| ExtraRuns {
        id: id.into(),
        started_at: whole_seconds(at(0)),
        waiting: TaskName::ALL.into(),
        running: Vec::new(),
        finished_at: Some(whole_seconds(at(0))),
        advanced_at: None,
        failed: true,
    };
    world.status.request = Some(extra("q01234567"));
    world.status.rescue = Some(extra("r30000000"));
    world.status.last_handled_request = Some("x".repeat(100));
    world.status.recent_start_seconds = vec![300; MAX_OBSERVED_RUNS];
    let full = Tally {
        breaches: 99_999,
        seconds_in_breach: 400_000_000,
        seconds_unproven: 400_000_000,
        worst_data_age_seconds: 400_000_000,
    };
    let month = Tally {
        breaches: 9_999,
        seconds_in_breach: 2_678_400,
        seconds_unproven: 2_678_400,
        worst_data_age_seconds: 2_678_400,
    };
    let account = world.status.compliance.as_mut().unwrap();
    account.total = full;
    account.seconds_suspended = 400_000_000;
    account.settled.total = full;
    account.settled.month = month;
    account.settled.in_breach = true;
    account.months = vec![
        MonthTally {
            month: "2026-11".into(),
            tally: month
        };
        MAX_MONTHS
    ];
    for condition in &mut world.status.conditions {
        condition.message = filled(crate::conditions::MAX_MESSAGE);
    }
    shorten(&mut world.status);
    let json = serde_json::to_value(&world.status).unwrap();
    for (field, value) in json.as_object().unwrap() {
        println!("{field}: {} bytes", value.to_string().len());
    }
    let size = json.to_string().len();
    assert!(size <= 8_192, "{size} bytes");
}

fn counts<T>(pairs: &[(&str, T)]) -> BTreeMap<String, T>
where
    T: Copy,
{
    pairs.iter().map(|(word, rows)| ((*word).to_owned(), *rows)).collect()
}

/// A success that left rows out and mended some.
fn success_with_rows(task: TaskName, ended: i64, quarantined: &[(&str, u64)], repaired: &[(&str, u64)]) -> RunResult {
    let mut result = success(task, ended);
    if let RunResult::Succeeded(success) = &mut result {
        success.quarantined = counts(quarantined);
        success.repaired = counts(repaired);
    }
    result
}

#[test]
fn lesson_08_rows_that_are_left_out_or_mended_are_in_the_status_by_reason() {
    let mut world = World::new();
    let quarantined = [("INVALID_ID", 3), ("EVIL\n", 1), ("FROM_ANOTHER_VERSION", u64::MAX)];
    world.run(
        MAP,
        1,
        100,
        1,
        success_with_rows(MAP, 100, &quarantined, &[("START_AHEAD", 2)]),
    );
    world.fold(101);
    let expected = counts(&[("INVALID_ID", 3), ("OTHER", 9_999_999_999)]);
    assert_eq!(world.task(MAP).quarantined, expected);
    assert_eq!(world.task(MAP).repaired, counts(&[("START_AHEAD", 2)]));

    world.run(MAP, 2, 200, 1, failure());
    world.fold(201);
    assert_eq!(
        world.task(MAP).quarantined,
        expected,
        "a run that read nothing says nothing of rows"
    );
    world.run(MAP, 3, 300, 1, success(MAP, 300));
    world.fold(301);
    assert_eq!(
        (&world.task(MAP).quarantined, &world.task(MAP).repaired),
        (&BTreeMap::new(), &BTreeMap::new())
    );

    // A task that does not publish does not read rows.
    let view = TaskName::RefreshMvPortal;
    world.run(view, 4, 400, 1, success_with_rows(view, 400, &[("INVALID_ID", 3)], &[]));
    world.fold(401);
    assert_eq!(world.task(view).quarantined, BTreeMap::new());
}

#[test]
fn lesson_09_rows_for_which_a_run_refused_to_publish_are_in_the_status() {
    let mut world = World::new();
    world.run(MAP, 1, 100, 1, success_with_rows(MAP, 100, &[("MISSING_ID", 1)], &[]));
    let refused = RunResult::Failed(RunError {
        class: FaultClass::Permanent,
        code: code::ROWS_QUARANTINED.to_owned(),
        message: "300 of the view's 300 rows of active outages cannot be published".to_owned(),
    });
    world.run(MAP, 2, 200, 1, refused);
    let report = world.runs[1].pods[0].ended.as_mut().unwrap().report.as_mut().unwrap();
    report.refused_rows = Some(RowCounts {
        quarantined: counts(&[("INVALID_ID", 300)]),
        repaired: BTreeMap::new(),
    });
    world.fold(201);
    assert_eq!(world.task(MAP).quarantined, counts(&[("INVALID_ID", 300)]));
    assert_eq!(world.task(MAP).records, Some(312), "what is published stays");
    assert_eq!(world.condition(ConditionType::Ready), ("False", "RunnerMisconfigured"));
}

#[test]
fn lesson_09_a_result_in_doubt_is_a_failed_run_and_no_wrong_setting() {
    for (code, ready) in [
        ("ImplausibleResult", "True"),
        ("ViewTooOld", "True"),
        ("42P01", "False"),
    ] {
        let mut world = World::new();
        let permanent = RunResult::Failed(RunError {
            class: FaultClass::Permanent,
            code: code.to_owned(),
            message: "why".to_owned(),
        });
        world.run(MAP, 1, 100, 1, permanent);
        world.fold(101);
        assert_eq!(world.task(MAP).consecutive_failures, 1);
        assert_eq!(world.condition(ConditionType::Ready).0, ready, "{code}");
    }
}

/// What a world does beside the schedule.
impl World {
    fn wanted(&self, second: i64) -> Vec<String> {
        let folded = self.folded(second);
        folded
            .jobs
            .into_iter()
            .map(|job| format!("{}-{}", job.task, job.id))
            .collect()
    }

    /// The Job that was asked for exists, and runs.
    fn start(&mut self, task: TaskName, id: &str, number: u32, second: i64) {
        self.run(task, number, second, 1, success(task, second));
        let run = self.runs.last_mut().unwrap();
        run.job.name = format!("roraima-{task}-{id}").into();
        run.job.created = at(second);
        run.job.slot = None;
        run.job.ended = None;
        run.job.settled_at = None;
        run.pods.clear();
    }

    fn end(&mut self, number: u32, second: i64) {
        let uid = Uid::parse(&format!("{number:08x}-0000-0000-0000-000000000000"));
        let position = self.runs.iter().position(|run| run.job.uid == uid).unwrap();
        let (task, name) = (self.runs[position].task, self.runs[position].job.name.clone());
        self.runs.remove(position);
        self.run(task, number, second, 1, success(task, second));
        let run = self.runs.last_mut().unwrap();
        run.job.name = name;
        run.job.slot = None;
    }

    fn annotate(&mut self, token: &str) {
        let annotations = self.policy.metadata.annotations.get_or_insert_default();
        annotations.insert(REQUESTED_AT.to_owned(), token.to_owned());
    }
}

#[test]
fn promise_5_a_beginning_starts_one_rescue_chain_once_it_stands_in_the_status() {
    let mut world = World::new();
    // The world's first status was written by `new`.
    let id = format!("r{}", at(0).as_second() / 60);
    assert_eq!(world.wanted(1), [format!("refresh-mv-portal-{id}")]);
    assert_eq!(world.wanted(2), world.wanted(1), "two operators mean the same Job");
    world.start(TaskName::RefreshMvPortal, &id, 1, 2);
    world.fold(3);
    assert!(world.wanted(4).is_empty());
    world.end(1, 10);
    assert_eq!(
        world.wanted(11),
        [
            format!("refresh-mapa-cache-{id}"),
            format!("calcular-estatisticas-{id}")
        ]
    );
    world.start(MAP, &id, 2, 11);
    world.start(TaskName::CalcularEstatisticas, &id, 3, 11);
    world.fold(11);
    world.end(2, 14);
    world.end(3, 15);
    world.fold(16);
    assert_eq!(world.condition(ConditionType::Compliant), ("True", "Fresh"));
    let rescue = world.status.rescue.as_ref().unwrap();
    assert!(rescue.finished_at.is_some() && !rescue.failed);
    assert!(world.wanted(17).is_empty());
}

#[test]
fn a_status_that_was_never_written_starts_nothing() {
    let mut world = World::new();
    world.status = MapaRefreshPolicyStatus::default();
    assert!(world.wanted(1).is_empty());
}

#[test]
fn rescue_false_and_rejected_credentials_start_nothing() {
    let mut world = World::new();
    world.plan.rescue = false;
    assert!(world.wanted(1).is_empty());
    let mut world = World::new();
    let rejected = RunResult::Failed(RunError {
        class: FaultClass::Permanent,
        code: code::CREDENTIALS_REJECTED.into(),
        message: "the database refuses the user".into(),
    });
    world.run(TaskName::RefreshMvPortal, 1, 100, 1, rejected);
    assert!(world.wanted(101).is_empty(), "it would lock the account");
}

#[test]
fn promise_5_a_rescue_runs_when_the_next_slot_is_too_late_and_never_twice_for_one_deadline() {
    let mut world = World::new();
    world.status.rescue = None;
    world.succeed_all(1, 100);
    world.fold(101);
    // Compliant until 1890. The schedule goes silent: nothing has a Job any more.
    let deadline = at(1_890).as_second() / 60;
    let start = (101..1_890).find(|second| !world.wanted(*second).is_empty()).unwrap();
    assert!((900..1_700).contains(&start), "{start}: with room for every retry");
    assert_eq!(world.wanted(start), [format!("refresh-mv-portal-r{deadline}")]);
    world.start(TaskName::RefreshMvPortal, &format!("r{deadline}"), 9, start);
    world.fold(start);
    // It ends badly; for this deadline there is no other.
    let position = world.runs.len() - 1;
    let name = world.runs.remove(position).job.name;
    world.run(TaskName::RefreshMvPortal, 9, start + 100, 1, failure());
    world.runs.last_mut().unwrap().job.name = name;
    world.fold(start + 101);
    assert!(world.status.rescue.as_ref().unwrap().failed);
    for second in (start + 102..4_000).step_by(7) {
        assert!(
            world.wanted(second).is_empty(),
            "at {second}: {:?}",
            world.wanted(second)
        );
    }
}

#[test]
fn promise_7_a_request_runs_every_task_once_and_is_echoed() {
    let mut world = World::new();
    world.succeed_all(1, 100);
    world.fold(101);
    world.annotate("2026-11-25T10:00:00Z");
    let wanted = world.wanted(102);
    assert_eq!(wanted.len(), 1);
    let id = wanted[0].strip_prefix("refresh-mv-portal-").unwrap().to_owned();
    assert!(id.starts_with('q'), "{id}");
    world.start(TaskName::RefreshMvPortal, &id, 11, 102);
    world.fold(102);
    assert_eq!(
        world.status.last_handled_request.as_deref(),
        Some("2026-11-25T10:00:00Z")
    );
    // Another request waits for this one.
    world.annotate("again");
    assert!(world.wanted(103).is_empty());
    world.end(11, 110);
    assert_eq!(world.wanted(111).len(), 2);
    world.start(MAP, &id, 12, 111);
    world.start(TaskName::CalcularEstatisticas, &id, 13, 111);
    world.fold(111);
    world.end(12, 115);
    world.end(13, 116);
    // The end of the first request is visible before the second begins.
    assert!(world.fold(117).is_some());
    assert!(
        world
            .status
            .request
            .as_ref()
            .is_some_and(|request| request.finished_at.is_some())
    );
    assert_eq!(
        world.status.last_handled_request.as_deref(),
        Some("2026-11-25T10:00:00Z")
    );
    world.fold(118);
    assert_eq!(world.status.last_handled_request.as_deref(), Some("again"));
    let wanted = world.wanted(118);
    assert!(wanted.len() == 1 && !wanted[0].ends_with(&id), "{wanted:?}");
    let total: i64 = world.status.tasks.iter().map(|task| task.total_runs).sum();
    assert_eq!(total, 6, "counted like any other");
}

#[test]
fn a_suspension_counts_is_named_and_its_end_is_a_deadline() {
    let mut world = World::new();
    world.succeed_all(1, 100);
    world.fold(101);
    let suspend = |world: &mut World, suspend: bool| {
        world.policy.spec.suspend = suspend;
        world.policy.spec.suspend_reason = Some("obra".into());
        world.policy.metadata.generation = world.policy.metadata.generation.map(|generation| generation + 1);
        world.plan = plan_of(&world.policy);
    };
    suspend(&mut world, true);
    world.fold(200);
    assert_eq!(world.condition(ConditionType::AtRisk), ("True", "SuspendedByPolicy"));
    world.fold(1_891);
    assert_eq!(
        world.condition(ConditionType::Compliant),
        ("False", "SuspendedByPolicy")
    );
    assert!(world.wanted(1_900).is_empty());
    suspend(&mut world, false);
    world.fold(5_000);
    let account = world.status.compliance.as_ref().unwrap();
    assert_eq!((account.seconds_suspended, account.total.breaches), (4_800, 1));
    assert_eq!(account.total.seconds_in_breach, 5_000 - 1_890);
    assert_eq!(
        world.wanted(5_001),
        [format!("refresh-mv-portal-r{}", at(5_000).as_second() / 60)]
    );
}

#[test]
fn compliant_is_false_for_the_reason_that_tells_most() {
    let too_old = |change: fn(&mut World)| {
        let mut world = World::new();
        world.succeed_all(1, 100);
        change(&mut world);
        world.fold(101);
        world.fold(2_000);
        let (status, reason) = world.condition(ConditionType::Compliant);
        assert_eq!(status, "False");
        reason.to_owned()
    };
    assert_eq!(too_old(|_| ()), "DataTooOld");
    assert_eq!(
        too_old(|world| {
            world.run(MAP, 9, 1_500, 1, success(MAP, 1_500));
            world.runs.last_mut().unwrap().pods[0].evidence.whole = None;
        }),
        "EvidenceMissing"
    );
    assert_eq!(
        too_old(|world| {
            // Published again and again, from a view that nobody refreshes.
            for (number, task) in [(8, MAP), (9, TaskName::CalcularEstatisticas)] {
                let RunResult::Succeeded(mut stale) = success(task, 1_500) else {
                    unreachable!()
                };
                stale.data_as_of = at(95).into();
                stale.age_seconds = 1_405.0;
                stale.built_from_stale_view = true;
                world.run(task, number, 1_500, 1, RunResult::Succeeded(stale));
            }
        }),
        "SourceStale"
    );
    assert_eq!(
        too_old(|world| {
            let RunResult::Succeeded(mut early) = success(MAP, 1_500) else {
                unreachable!()
            };
            early.data_as_of = at(9_000).into();
            world.run(MAP, 9, 1_500, 1, RunResult::Succeeded(early));
        }),
        "ClockSkew"
    );
}

#[test]
fn f16_a_report_from_the_future_is_never_green() {
    let mut world = World::new();
    for (number, task) in (1..).zip(TaskName::DEFAULT) {
        let RunResult::Succeeded(mut early) = success(task, 100) else {
            unreachable!()
        };
        early.data_as_of = at(9_000).into();
        world.run(task, number, 100, 1, RunResult::Succeeded(early));
    }
    world.fold(101);
    assert_eq!(world.condition(ConditionType::Compliant), ("False", "ClockSkew"));
    assert_eq!(world.task(MAP).last_error.as_ref().unwrap().code, "ReportFromFuture");
}

proptest! {
    /// I4, I5 and I6 over random histories, with repeated folds, lost Jobs and restarts (the status is all that is kept).
    #[test]
    fn i4_i5_i6_hold_over_any_history(
        history in prop::collection::vec((0_usize..3, 1_i64..900, any::<bool>(), any::<bool>(), any::<bool>()), 1..40)
    ) {
        let mut world = World::new();
        let mut now = 0;
        let mut published = [None::<i64>; 3];
        for (number, (task_index, step, succeeds, fold_now, forget)) in (1..).zip(history) {
            now += step;
            let task = TaskName::DEFAULT[task_index];
            if succeeds {
                world.succeed(task, number, now);
                published[task_index] = Some(now - 10);
            } else {
                world.run(task, number, now, 2, failure());
            }
            if fold_now {
                let before = world.status.clone();
                world.fold(now + 1);
                world.fold(now + 1);
                prop_assert!(world.status.data_as_of.as_ref().map(|t| t.0) >= before.data_as_of.as_ref().map(|t| t.0));
                prop_assert!(world.status.last_success_time.as_ref().map(|t| t.0) >= before.last_success_time.as_ref().map(|t| t.0));
                let counted: i64 = world.status.tasks.iter().map(|task| task.total_runs).sum();
                prop_assert_eq!(counted, i64::from(number));
                let oldest_public = published[1].min(published[2]);
                let young = oldest_public.is_some_and(|moment| now + 1 - moment <= 1_800);
                prop_assert_eq!(world.condition(ConditionType::Compliant).0 == "True", young);
                if forget {
                    world.runs.clear();
                }
            }
        }
    }
}
