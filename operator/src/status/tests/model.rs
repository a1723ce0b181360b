//! Every interleaving of a small world: one policy with two tasks, three runs (the map's succeed or fail) that start, end and are deleted at any time, a
//! watch that tells of each late, repeatedly or never, and one crash of the operator.

use std::hash::Hash;

use stateright::{Checker, Model, Property};

use super::*;

/// View, map, map.
const RUNS: [TaskName; 3] = [TaskName::RefreshMvPortal, MAP, MAP];
/// Moments at which something may happen, in seconds: the last is past the limit of every publication before it.
const MOMENTS: [i64; 2] = [0, 3_000];

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Waiting,
    Active,
    Ended { at: i64, succeeded: bool },
}

/// A run, and whether its Job is gone from the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    stage: Stage,
    gone: bool,
}

/// The world, and what the operator knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Scene {
    moment: usize,
    truth: [Known; 3],
    /// What the operator's caches hold of each run.
    cache: [Option<Known>; 3],
    alive: bool,
    crashed: bool,
    /// The status as it was written, as JSON.
    status: String,
    /// Runs that a written status has counted.
    counted: [bool; 3],
    /// Whether `dataAsOf` or `lastSuccessTime` ever went back.
    went_back: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Tick,
    Start(usize),
    End(usize, bool),
    Collect(usize),
    /// The watch tells the operator of a run.
    Tell(usize),
    /// The operator folds and writes.
    Write,
    /// The same, and it dies before it knows that the write succeeded.
    WriteAndCrash,
    Crash,
    Restart,
}

struct SmallWorld {
    policy: MapaRefreshPolicy,
    plan: Plan,
    desired: Vec<DesiredCronJob>,
}

impl SmallWorld {
    fn new() -> Self {
        let tasks = [TaskName::RefreshMvPortal, MAP].map(|name| serde_json::json!({ "name": name }));
        let policy = policy(serde_json::json!({ "tasks": tasks, "rescue": false }));
        let plan = plan_of(&policy);
        let desired = desired(&policy, &plan, &RunnerSettings::default());
        Self { policy, plan, desired }
    }

    /// The runs as the operator's caches hold them.
    fn runs(&self, cache: &[Option<Known>; 3]) -> Vec<Run> {
        let mut world = World {
            policy: self.policy.clone(),
            plan: self.plan.clone(),
            desired: self.desired.clone(),
            status: MapaRefreshPolicyStatus::default(),
            runs: Vec::new(),
        };
        for (index, known) in cache.iter().enumerate() {
            let Some(Known { stage, gone }) = known else { continue };
            let number = u32::try_from(index).unwrap() + 1;
            match stage {
                Stage::Waiting => continue,
                Stage::Active => {
                    world.run(RUNS[index], number, 0, 1, failure());
                    let run = world.runs.last_mut().unwrap();
                    run.job.ended = None;
                    run.job.settled_at = None;
                    run.pods[0].ended = None;
                }
                Stage::Ended { at, succeeded } => {
                    let result = if *succeeded {
                        success(RUNS[index], *at)
                    } else {
                        failure()
                    };
                    world.run(RUNS[index], number, *at, 2, result);
                }
            }
            world.runs.last_mut().unwrap().job.deleted = *gone;
        }
        world.runs
    }

    fn fold(
        &self,
        previous: &MapaRefreshPolicyStatus,
        cache: &[Option<Known>; 3],
        now: i64,
    ) -> MapaRefreshPolicyStatus {
        fold(Facts {
            policy: &self.policy,
            previous,
            plan: Ok(&self.plan),
            desired: &self.desired,
            applied: &Applied::default(),
            attempted: &[],
            runs: &self.runs(cache),
            other_jobs: &[],
            now: at(now),
        })
        .status
    }

    fn write(&self, scene: &mut Scene) {
        let previous = scene.status();
        let status = self.fold(&previous, &scene.cache, MOMENTS[scene.moment] + 10);
        let back = |before: &Option<Time>, after: &Option<Time>| {
            before.as_ref().map(|time| time.0) > after.as_ref().map(|time| time.0)
        };
        scene.went_back |= back(&previous.data_as_of, &status.data_as_of)
            || back(&previous.last_success_time, &status.last_success_time);
        scene.status = serde_json::to_string(&essence(status)).unwrap();
        for (counted, known) in scene.counted.iter_mut().zip(&mut scene.cache) {
            if matches!(
                known,
                Some(Known {
                    stage: Stage::Ended { .. },
                    ..
                })
            ) {
                *counted = true;
                // What is counted and gone is forgotten.
                *known = known.filter(|known| !known.gone);
            }
        }
    }
}

impl Scene {
    fn status(&self) -> MapaRefreshPolicyStatus {
        serde_json::from_str(&self.status).unwrap()
    }

    fn now(&self) -> i64 {
        MOMENTS[self.moment] + 10
    }

    /// Nothing more can happen, and the operator knows of everything that it can still know.
    fn is_at_rest(&self) -> bool {
        self.alive
            && self.moment + 1 == MOMENTS.len()
            && self
                .truth
                .iter()
                .all(|known| matches!(known.stage, Stage::Ended { .. }))
            && self.counted.iter().all(|counted| *counted)
    }
}

impl Model for SmallWorld {
    type State = Scene;
    type Action = Step;

    fn init_states(&self) -> Vec<Scene> {
        let waiting = Known {
            stage: Stage::Waiting,
            gone: false,
        };
        let mut scene = Scene {
            moment: 0,
            truth: [waiting; 3],
            cache: [None; 3],
            alive: true,
            crashed: false,
            status: "{}".into(),
            counted: [false; 3],
            went_back: false,
        };
        self.write(&mut scene);
        vec![scene]
    }

    fn actions(&self, scene: &Scene, steps: &mut Vec<Step>) {
        if scene.moment + 1 < MOMENTS.len() {
            steps.push(Step::Tick);
        }
        for (index, known) in scene.truth.iter().enumerate() {
            match known.stage {
                // The second run of a task comes after the first, as Kubernetes replaces one by the other.
                Stage::Waiting if index < 2 || matches!(scene.truth[1].stage, Stage::Ended { .. }) => {
                    steps.push(Step::Start(index));
                }
                Stage::Waiting => {}
                Stage::Active if index == 0 => steps.push(Step::End(index, true)),
                Stage::Active => steps.extend([Step::End(index, true), Step::End(index, false)]),
                Stage::Ended { .. } if !known.gone => steps.push(Step::Collect(index)),
                Stage::Ended { .. } => {}
            }
            // A Job that is gone is told of once, by its last state; what was counted and gone is retired.
            let is_news = scene.cache[index] != Some(*known) && !(known.gone && scene.counted[index]);
            let can_be_told = !known.gone || !scene.crashed || scene.cache[index].is_some();
            if scene.alive && known.stage != Stage::Waiting && is_news && can_be_told {
                steps.push(Step::Tell(index));
            }
        }
        if scene.alive {
            steps.push(Step::Write);
            if !scene.crashed {
                steps.extend([Step::Crash, Step::WriteAndCrash]);
            }
        } else {
            steps.push(Step::Restart);
        }
    }

    fn next_state(&self, scene: &Scene, step: Step) -> Option<Scene> {
        let mut next = scene.clone();
        match step {
            Step::Tick => next.moment += 1,
            Step::Start(index) => next.truth[index].stage = Stage::Active,
            Step::End(index, succeeded) => {
                next.truth[index].stage = Stage::Ended {
                    at: MOMENTS[scene.moment] + i64::try_from(index).unwrap(),
                    succeeded,
                };
            }
            Step::Collect(index) => next.truth[index].gone = true,
            Step::Tell(index) => next.cache[index] = Some(scene.truth[index]),
            Step::Write => self.write(&mut next),
            Step::WriteAndCrash | Step::Crash => {
                if step == Step::WriteAndCrash {
                    self.write(&mut next);
                }
                next.cache = [None; 3];
                next.alive = false;
                next.crashed = true;
            }
            Step::Restart => {
                next.alive = true;
                next.cache = scene
                    .truth
                    .map(|known| (!known.gone && known.stage != Stage::Waiting).then_some(known));
            }
        }
        (next != *scene).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "I4: compliant only by a publication that is young enough",
                |_: &Self, scene: &Scene| {
                    let status = scene.status();
                    let says = status
                        .conditions
                        .iter()
                        .any(|condition| condition.type_ == "Compliant" && condition.status == "True");
                    let still = status
                        .compliant_until
                        .as_ref()
                        .is_some_and(|until| at(scene.now()) <= until.0);
                    let newest = (1..3)
                        .filter_map(|index| match scene.truth[index].stage {
                            Stage::Ended { at, succeeded: true } => Some(at - 10),
                            _ => None,
                        })
                        .max();
                    !(says && still) || newest.is_some_and(|data_as_of| scene.now() - data_as_of <= 1_800)
                },
            ),
            Property::always(
                "I5: dataAsOf and lastSuccessTime never go back",
                |_: &Self, scene: &Scene| !scene.went_back,
            ),
            Property::always("I6: each run is counted once", |_: &Self, scene: &Scene| {
                let status = scene.status();
                [TaskName::RefreshMvPortal, MAP].into_iter().all(|task| {
                    let counted = (0..3)
                        .filter(|index| RUNS[*index] == task && scene.counted[*index])
                        .count();
                    status
                        .tasks
                        .iter()
                        .find(|status| status.name == task)
                        .is_none_or(|status| status.total_runs == i64::try_from(counted).unwrap())
                })
            }),
            Property::always(
                "whatever the order, the status is the same",
                |model: &Self, scene: &Scene| {
                    !scene.is_at_rest() || {
                        // Somebody who learns of everything at once, in order, and writes for the first time.
                        let everything = scene.truth.map(|known| Some(Known { gone: false, ..known }));
                        let first = model.fold(&MapaRefreshPolicyStatus::default(), &[None; 3], 10);
                        let at_once = model.fold(&first, &everything, scene.now());
                        let now = model.fold(&scene.status(), &scene.cache, scene.now());
                        facts(&now) == facts(&at_once)
                    }
                },
            ),
            Property::sometimes("a run is counted after the crash", |_: &Self, scene: &Scene| {
                scene.crashed && scene.alive && scene.counted == [true; 3]
            }),
            Property::sometimes("a run is lost to the crash", |_: &Self, scene: &Scene| {
                scene.crashed && scene.alive && scene.truth[2].gone && !scene.counted[2]
            }),
        ]
    }
}

/// A status without what decides nothing about evidence and counts, so that worlds that differ in nothing else are one.
fn essence(mut status: MapaRefreshPolicyStatus) -> MapaRefreshPolicyStatus {
    for condition in &mut status.conditions {
        condition.message.clear();
        condition.last_transition_time = whole_seconds(at(0));
    }
    status.compliance = None;
    status.next_schedule_time = None;
    status.recent_start_seconds.clear();
    for task in &mut status.tasks {
        task.recent_run_seconds.clear();
    }
    status
}

/// What a status says about the runs, without what depends on when it was written.
pub(super) fn facts(status: &MapaRefreshPolicyStatus) -> serde_json::Value {
    let tasks: Vec<_> = status
        .tasks
        .iter()
        .map(|task| {
            (
                (&task.last_success_time, &task.last_failure_time, &task.data_as_of),
                (
                    task.total_runs,
                    task.total_retries,
                    task.attempts,
                    task.consecutive_failures,
                ),
                (&task.last_error, task.records),
            )
        })
        .collect();
    let conditions: Vec<_> = status
        .conditions
        .iter()
        .map(|condition| (&condition.type_, &condition.status, &condition.reason))
        .collect();
    serde_json::json!([
        tasks,
        conditions,
        status.data_as_of,
        status.compliant_until,
        status.last_success_time
    ])
}

#[test]
fn i4_i5_i6_hold_in_every_interleaving_of_a_small_world_with_a_crash() {
    let checker = SmallWorld::new().checker().threads(2).spawn_bfs().join();
    println!(
        "{} states, {} of them distinct",
        checker.state_count(),
        checker.unique_state_count()
    );
    checker.assert_properties();
    assert!(checker.unique_state_count() > 5_000, "{}", checker.unique_state_count());
}
