//! Random histories of runs that are told of late, repeatedly, in any order or never, of clocks that are set, and of restarts.

use std::collections::BTreeSet;

use super::{model::facts, *};

/// Jobs of a task that Kubernetes keeps: three that succeeded, three that failed.
const KEPT: usize = 6;
/// Longest that published data may be old, in seconds.
const LIMIT: i64 = 1_800;

#[derive(Clone, Debug)]
enum Happening {
    /// A run of this task ends: it succeeds with data that was so many seconds old, or fails.
    Ends(usize, Option<i64>),
    /// The watch tells of one of the runs that are not known yet.
    Told(prop::sample::Index),
    /// One of the Jobs is deleted, perhaps before anybody was told of it.
    Deleted(prop::sample::Index),
    /// The operator folds and writes, once or twice.
    Written(bool),
    /// The operator's clock is set forwards or back, in seconds.
    ClockSet(i64),
    /// The operator dies and lists what there is.
    Restarted,
}

fn happening() -> impl Strategy<Value = (i64, Happening)> {
    let what = prop_oneof![
        6 => (0_usize..3, prop::option::weighted(0.8, 0_i64..600)).prop_map(|(task, age)| Happening::Ends(task, age)),
        6 => any::<prop::sample::Index>().prop_map(Happening::Told),
        2 => any::<prop::sample::Index>().prop_map(Happening::Deleted),
        6 => any::<bool>().prop_map(Happening::Written),
        1 => (-300_i64..300).prop_map(Happening::ClockSet),
        1 => Just(Happening::Restarted),
    ];
    (1_i64..400, what)
}

/// A run as it is in truth, and what the operator was told of it.
struct Truth {
    run: Run,
    ended: i64,
    data_as_of: Option<i64>,
    deleted: bool,
    told: bool,
    /// Whether a status that was written counts it.
    written: bool,
    /// By how much the operator may believe its data younger than it is. A clock that is behind shows when a run is told of as it ends, and
    /// hides as much as that is late; and nothing tells that the clock was set back since.
    unnoticed: i64,
}

struct History {
    /// What the operator has: its status, and the runs in its cache.
    world: World,
    runs: Vec<Truth>,
    /// Those in the operator's cache, by their place in `runs`.
    cached: BTreeSet<usize>,
    now: i64,
    offset: i64,
}

impl History {
    fn new() -> Self {
        Self {
            world: World::new(),
            runs: Vec::new(),
            cached: BTreeSet::new(),
            now: 0,
            offset: 0,
        }
    }

    fn happens(&mut self, what: Happening) -> Result<(), TestCaseError> {
        match what {
            Happening::Ends(task, age) => self.ends(TaskName::DEFAULT[task], age),
            Happening::Told(which) => {
                let news: Vec<usize> = (0..self.runs.len())
                    .filter(|run| !self.runs[*run].told && !self.runs[*run].deleted)
                    .collect();
                if !news.is_empty() {
                    self.tell(*which.get(&news));
                }
            }
            Happening::Deleted(which) => {
                if !self.runs.is_empty() {
                    self.delete(which.index(self.runs.len()));
                }
            }
            Happening::Written(twice) => {
                self.write()?;
                if twice {
                    let before = self.world.status.clone();
                    self.write()?;
                    prop_assert_eq!(
                        &before.tasks,
                        &self.world.status.tasks,
                        "a repeated fold changes nothing"
                    );
                }
            }
            Happening::ClockSet(by) => {
                self.offset += by;
                for run in &mut self.runs {
                    run.unnoticed += (-by).max(0);
                }
            }
            Happening::Restarted => {
                for run in std::mem::take(&mut self.cached) {
                    // What it knew of and had not written yet is lost, unless it is still there.
                    self.runs[run].told = self.runs[run].written;
                }
                for run in 0..self.runs.len() {
                    if !self.runs[run].deleted {
                        self.tell(run);
                    }
                }
            }
        }
        Ok(())
    }

    fn ends(&mut self, task: TaskName, age: Option<i64>) {
        let number = u32::try_from(self.runs.len()).unwrap() + 1;
        let mut result = age.map_or_else(failure, |_| success(task, self.now));
        // Nothing older replaces what is published.
        let newest = self
            .runs
            .iter()
            .filter(|run| run.run.task == task)
            .filter_map(|run| run.data_as_of)
            .max();
        let data_as_of = age.map(|age| (self.now - 10 - age).max(newest.unwrap_or(i64::MIN)));
        if let (RunResult::Succeeded(success), Some(data_as_of)) = (&mut result, data_as_of) {
            success.data_as_of = at(data_as_of).into();
            success.age_seconds = f64::from(i32::try_from(self.now - data_as_of).unwrap()) - success.elapsed_seconds;
        }
        self.world.run(task, number, self.now, 2, result);
        self.runs.push(Truth {
            run: self.world.runs.pop().unwrap(),
            ended: self.now,
            data_as_of,
            deleted: false,
            told: false,
            written: false,
            unnoticed: 0,
        });
        let existing: Vec<usize> = (0..self.runs.len())
            .filter(|run| self.runs[*run].run.task == task && !self.runs[*run].deleted)
            .collect();
        if existing.len() > KEPT {
            self.delete(existing[0]);
        }
    }

    fn tell(&mut self, run: usize) {
        let seen = at(self.now + self.offset);
        let truth = &mut self.runs[run];
        if !truth.written {
            truth.told = true;
            truth.unnoticed = (-self.offset).clamp(0, self.now - truth.ended);
            for pod in &mut truth.run.pods {
                pod.ended.as_mut().unwrap().first_seen = seen;
            }
        }
        self.cached.insert(run);
    }

    fn delete(&mut self, run: usize) {
        self.runs[run].deleted = true;
        // Of a deletion the operator is told by the last state; what it counted by then it forgets at the next write.
        self.runs[run].run.job.deleted = true;
    }

    fn write(&mut self) -> Result<(), TestCaseError> {
        let before = self.world.status.clone();
        self.world.runs = self.cached.iter().map(|run| self.runs[*run].run.clone()).collect();
        self.world.fold(self.now + self.offset);
        for run in &self.cached {
            self.runs[*run].written = true;
        }
        self.check(&before)?;
        self.cached.retain(|run| !self.runs[*run].deleted);
        Ok(())
    }

    fn check(&self, before: &MapaRefreshPolicyStatus) -> Result<(), TestCaseError> {
        let status = &self.world.status;
        let size = serde_json::to_string(status).unwrap().len();
        prop_assert!(size <= MAX_STATUS, "I9: {size} bytes");
        for task in &status.tasks {
            let told = self.runs.iter().filter(|run| run.told && run.run.task == task.name);
            prop_assert_eq!(
                task.total_runs,
                i64::try_from(told.count()).unwrap(),
                "I6: {}",
                task.name
            );
            let Some(known) = before.tasks.iter().find(|known| known.name == task.name) else {
                continue;
            };
            let moment = |time: &Option<Time>| time.as_ref().map(|time| time.0);
            prop_assert!(
                moment(&task.data_as_of) >= moment(&known.data_as_of),
                "I5: {}",
                task.name
            );
            prop_assert!(
                moment(&task.last_success_time) >= moment(&known.last_success_time),
                "I5: {}",
                task.name
            );
        }
        let until = status.compliant_until.as_ref().map(|until| until.0);
        let says = self.world.condition(ConditionType::Compliant).0 == "True";
        if says && until.is_some_and(|until| at(self.now + self.offset) <= until) {
            for document in &TaskName::DEFAULT[1..] {
                let youngest = self
                    .runs
                    .iter()
                    .filter(|run| run.told && run.run.task == *document)
                    .filter_map(|run| Some(self.now - run.data_as_of? - run.unnoticed))
                    .min();
                prop_assert!(
                    youngest.is_some_and(|age| age <= LIMIT + 1),
                    "I4: {} is {:?} s old",
                    document,
                    youngest
                );
            }
        }
        Ok(())
    }

    /// The operator learns of everything that there still is, from the oldest or from the newest, and writes after each or once.
    fn learns_everything(&mut self, newest_first: bool, each: bool) -> Result<(), TestCaseError> {
        let mut news: Vec<usize> = (0..self.runs.len())
            .filter(|run| !self.runs[*run].told && !self.runs[*run].deleted)
            .collect();
        if newest_first {
            news.reverse();
        }
        for run in news {
            self.tell(run);
            if each {
                self.write()?;
            }
        }
        self.write()
    }

    /// What somebody would say who is told of the same runs in their order, and writes for the first time.
    fn told_at_once(&self) -> MapaRefreshPolicyStatus {
        let mut world = World::new();
        world.runs = self
            .runs
            .iter()
            .filter(|run| run.told)
            .map(|run| run.run.clone())
            .collect();
        world.fold(self.now + self.offset);
        world.status
    }
}

/// What is the same in whatever order it was told. How many failures there are in a row, and what is expected from that and from the last
/// runs, is what the operator knew in turn: a success that is told of after later failures was not between them.
fn in_any_order(status: &MapaRefreshPolicyStatus) -> serde_json::Value {
    let mut status = status.clone();
    status
        .conditions
        .retain(|condition| !["AtRisk", "Feasible"].contains(&condition.type_.as_str()));
    for task in &mut status.tasks {
        task.consecutive_failures = i32::from(task.consecutive_failures > 0);
    }
    facts(&status)
}

proptest! {
    #[test]
    fn i4_i5_i6_i9_hold_and_the_order_of_what_is_told_does_not_matter(
        history in prop::collection::vec(happening(), 1..60),
        newest_first in any::<bool>(),
        each in any::<bool>(),
    ) {
        let mut world = History::new();
        for (step, what) in history {
            world.now += step;
            world.happens(what)?;
        }
        world.now += 1;
        world.learns_everything(newest_first, each)?;
        prop_assert_eq!(in_any_order(&world.world.status), in_any_order(&world.told_at_once()));
    }
}
