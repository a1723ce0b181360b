use super::*;
use crate::{
    conditions::whole_seconds,
    desired::tests::{plan_of, policy},
    status::blank_task,
};

const VIEW: TaskName = TaskName::RefreshMvPortal;
const MAP: TaskName = TaskName::RefreshMapaCache;

/// The view's first slot at or after 10:00, in seconds from it.
struct Scene {
    plan: Plan,
    tasks: Vec<TaskStatus>,
    active: Vec<ActiveRun>,
    slots: Vec<(TaskName, Timestamp)>,
    slot: Timestamp,
}

impl Scene {
    /// The slot of ten minutes ago went well; runs take 2 s and start after 3.
    fn new() -> Self {
        let plan = plan_of(&policy(serde_json::json!({})));
        let slot = plan
            .task(VIEW)
            .unwrap()
            .schedule
            .next_after("2026-11-23T09:59:59Z".parse().unwrap());
        let tasks = plan
            .tasks
            .iter()
            .map(|task| TaskStatus {
                recent_run_seconds: vec![2; 3],
                schedule_since: Some(whole_seconds(slot - Duration::from_secs(3_600))),
                data_as_of: Some(whole_seconds(slot - Duration::from_secs(595))),
                last_schedule_time: Some(whole_seconds(
                    slot - Duration::from_secs(if task.name == VIEW { 600 } else { 540 }),
                )),
                ..blank_task(task.name)
            })
            .collect();
        Self {
            plan,
            tasks,
            active: Vec::new(),
            slots: Vec::new(),
            slot,
        }
    }

    fn at(&self, second: i64) -> Timestamp {
        self.slot + k8s_openapi::jiff::SignedDuration::from_secs(second)
    }

    fn forecast(&self, second: i64) -> Forecast<'_> {
        Forecast {
            plan: &self.plan,
            tasks: &self.tasks,
            recent_start_seconds: &[3; 3],
            active: &self.active,
            slots: &self.slots,
            slot_grace: Duration::from_secs(60),
            now: self.at(second),
        }
    }

    fn next(&self, second: i64) -> Option<i64> {
        let next = self.forecast(second).next_publication(MAP)?;
        Some(next.as_second() - self.slot.as_second())
    }

    fn runs(&mut self, task: TaskName, created: i64) {
        let created = self.at(created);
        self.active.push(ActiveRun {
            task,
            created,
            job: "job".into(),
        });
        self.slots.push((task, created));
    }
}

#[test]
fn the_map_is_published_after_its_slot_and_after_the_view() {
    let scene = Scene::new();
    assert_eq!(scene.next(-100), Some(60 + 3 + 2));
}

#[test]
fn a_slot_whose_job_is_still_to_come_is_not_given_up_for_the_next() {
    let scene = Scene::new();
    assert_eq!(scene.next(1), Some(65));
    assert_eq!(scene.next(30), Some(65));
    // A minute later it is missed; the next one comes ten minutes after it.
    assert_eq!(scene.forecast(61).missed_slot(VIEW), Some(scene.slot));
    assert_eq!(scene.forecast(59).missed_slot(VIEW), None);
}

#[test]
fn a_view_that_runs_late_makes_the_map_wait_for_it() {
    let mut scene = Scene::new();
    scene.tasks[0].recent_run_seconds = vec![200; 3];
    assert_eq!(scene.next(-100), Some(203 + 2));
    scene.runs(VIEW, 0);
    assert_eq!(scene.next(10), Some(205));
    // Longer than the map waits, which is half of its budget: its next slot takes it.
    scene.plan.tasks[0].attempt_timeout_seconds = 500;
    scene.tasks[0].recent_run_seconds = vec![400; 3];
    assert_eq!(scene.next(10), Some(660 + 5));
}

#[test]
fn f17_a_run_that_is_longer_than_one_attempt_may_be_is_hung_and_not_counted_on() {
    let mut scene = Scene::new();
    scene.runs(VIEW, 0);
    assert_eq!(scene.forecast(303).hung().count(), 0);
    assert_eq!(scene.forecast(304).hung().count(), 1);
    // The view's next slot, and the map's after it.
    assert_eq!(scene.next(304), Some(660 + 5));
}

#[test]
fn a_view_that_is_newer_already_needs_no_other() {
    let mut scene = Scene::new();
    scene.tasks[0].data_as_of = Some(whole_seconds(scene.at(1)));
    scene.tasks[0].last_schedule_time = Some(whole_seconds(scene.at(0)));
    assert_eq!(scene.next(2), Some(65));
}

#[test]
fn slots_before_the_schedule_began_were_none() {
    let mut scene = Scene::new();
    for task in &mut scene.tasks {
        task.schedule_since = Some(whole_seconds(scene.slot));
    }
    assert_eq!(scene.forecast(300).missed_slot(VIEW), None);
    assert_eq!(
        scene.forecast(662).missed_slot(VIEW).map(|slot| slot == scene.at(600)),
        Some(true)
    );
}

#[test]
fn what_is_suspended_is_never_published() {
    let mut scene = Scene::new();
    for task in &mut scene.plan.tasks {
        task.suspended = true;
    }
    assert_eq!(scene.next(0), None);
    assert_eq!(scene.forecast(300).missed_slot(VIEW), None);
}
