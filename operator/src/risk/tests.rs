use mapa_refresh_crds::{policy::TaskName, status::LastError};

use super::*;
use crate::{
    conditions::whole_seconds,
    desired::tests::{plan_of, policy},
    feasibility::feasibility,
    forecast::ActiveRun,
    status::blank_task,
    validate::Plan,
};

const VIEW: TaskName = TaskName::RefreshMvPortal;
const DOCUMENTS: [TaskName; 2] = [TaskName::RefreshMapaCache, TaskName::CalcularEstatisticas];

/// A policy whose last slots went well, at the minute before its next.
struct Scene {
    plan: Plan,
    tasks: Vec<TaskStatus>,
    active: Vec<ActiveRun>,
    now: Timestamp,
    missed: Option<(TaskName, Timestamp)>,
    trouble: Option<Trouble>,
    blocked: Option<Problem>,
}

impl Scene {
    fn new(spec: serde_json::Value) -> Self {
        let plan = plan_of(&policy(spec));
        let slot = plan
            .task(VIEW)
            .unwrap()
            .schedule
            .next_after("2026-11-23T09:59:59Z".parse().unwrap());
        let now = slot - std::time::Duration::from_secs(60);
        let tasks = plan
            .tasks
            .iter()
            .map(|task| TaskStatus {
                recent_run_seconds: vec![2; 3],
                data_as_of: Some(whole_seconds(now - std::time::Duration::from_secs(500))),
                last_success_time: Some(whole_seconds(now - std::time::Duration::from_secs(490))),
                ..blank_task(task.name)
            })
            .collect();
        Self {
            plan,
            tasks,
            active: Vec::new(),
            now,
            missed: None,
            trouble: None,
            blocked: None,
        }
    }

    fn fail(&mut self, task: usize, times: i32, class: FaultClass, code: &str) {
        self.tasks[task].consecutive_failures = times;
        self.tasks[task].last_error = Some(LastError {
            class,
            code: code.into(),
            message: "why".into(),
        });
    }

    fn verdict(&self) -> Verdict {
        let feasibility = feasibility(&self.plan, &self.tasks, &[3; 3]);
        let outlook = Outlook {
            forecast: Forecast {
                plan: &self.plan,
                tasks: &self.tasks,
                recent_start_seconds: &[3; 3],
                active: &self.active,
                slots: &[],
                slot_grace: std::time::Duration::from_secs(60),
                now: self.now,
            },
            documents: &DOCUMENTS,
            feasibility: &feasibility,
            missed: self.missed,
        };
        let until = crate::compliance::data_as_of(&self.tasks).map(|moment| after(moment, 1_800));
        verdict(outlook, until, self.blocked.as_ref(), self.trouble.as_ref(), None)
    }

    fn reason(&self) -> &'static str {
        let verdict = self.verdict();
        assert_eq!(verdict.holds, verdict.reason != "OnSchedule", "{verdict:?}");
        verdict.reason
    }
}

#[test]
fn promise_5_a_policy_that_runs_on_time_is_not_at_risk() {
    assert_eq!(Scene::new(serde_json::json!({})).reason(), "OnSchedule");
}

#[test]
fn promise_5_each_risk_has_its_reason_and_says_what_to_do() {
    let mut scene = Scene::new(serde_json::json!({}));
    scene.fail(1, 1, FaultClass::Transient, "57P03");
    assert_eq!(
        scene.reason(),
        "ConsecutiveFailures",
        "one failure more and the limit is exceeded"
    );
    scene.fail(0, 1, FaultClass::Permanent, "SecretIncomplete");
    assert_eq!(scene.reason(), "RunnerMisconfigured");
    scene.missed = Some((VIEW, scene.now));
    assert_eq!(scene.reason(), "ScheduleMissed");
    assert!(scene.verdict().message.contains("kube-controller-manager"));
    scene.active.push(ActiveRun {
        task: VIEW,
        created: scene.now - std::time::Duration::from_secs(400),
        job: "roraima-refresh-mv-portal-30000000".into(),
    });
    assert_eq!(scene.reason(), "RunHung");
    assert!(
        scene
            .verdict()
            .message
            .contains("kubectl logs job/roraima-refresh-mv-portal-30000000")
    );
    scene.trouble = Some(Trouble {
        code: "PodNotCreated".into(),
        message: "quota".into(),
    });
    assert_eq!(scene.reason(), "PodCannotStart");
    for task in &mut scene.plan.tasks {
        task.suspended = true;
    }
    scene.plan.suspended = true;
    assert_eq!(scene.reason(), "SuspendedByPolicy");
}

#[test]
fn lesson_06_with_a_period_equal_to_the_limit_every_next_run_is_too_late() {
    let mut scene = Scene::new(serde_json::json!({ "intervalMinutes": 30, "rescue": false }));
    for task in &mut scene.tasks {
        task.data_as_of = Some(whole_seconds(scene.now - std::time::Duration::from_secs(1_739)));
    }
    assert_eq!(scene.reason(), "NextRunTooLate");
    assert!(scene.verdict().message.contains("spec.rescue"));
}

#[test]
fn a_breach_and_a_beginning_are_at_risk_until_the_next_publication() {
    let mut scene = Scene::new(serde_json::json!({}));
    for task in &mut scene.tasks {
        task.data_as_of = Some(whole_seconds(scene.now - std::time::Duration::from_secs(1_801)));
    }
    assert_eq!(scene.reason(), "LimitExceeded");
    for task in &mut scene.tasks {
        task.data_as_of = None;
    }
    assert_eq!(scene.reason(), "LimitExceeded");
}

#[test]
fn f22_clocks_that_are_apart_are_told() {
    let mut scene = Scene::new(serde_json::json!({}));
    scene.tasks[0].clock_skew_seconds = Some(300);
    assert_eq!(scene.reason(), "ClockSkew");
    assert!(scene.verdict().message.contains("300 s apart"));
}
