//! Pure: whether to write a CronJob that differs from the policy, to accept the difference, or to wait before the next try.
//!
//! An answer that differs from the write was changed by admission, which would change the next write alike. Differences that affect neither
//! schedule nor evidence are accepted; any other is reported, and retried after growing waits. A later difference comes from another writer:
//! it is repaired, and the third within a minute starts a contest. Changes of the policy itself count as neither.

use std::collections::VecDeque;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use mapa_refresh_crds::labels;

use crate::{
    drift::Difference,
    fingerprint::{Fingerprint, Uid},
    records::CronJobRecord,
};

/// Repairs of one CronJob that are made within [`WINDOW`] before that is a contest.
const MAX_REPAIRS: usize = 3;
/// Window in which repairs are counted, and time for which a contested CronJob must stay unchanged before the contest is over.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// First wait of a contest; each next one doubles.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(30);
/// Longest wait of a contest. No event announces that a webhook was removed.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(300);

/// Fingerprint of the spec, and whether our labels are right.
type State = (Option<Fingerprint>, bool);

/// Next step for a CronJob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// No difference.
    AsWanted,
    /// Only accepted differences; the fields.
    Borne(String),
    /// Write the CronJob.
    Write,
    /// Admission or another writer changes it, so it is not written now; the message names what is known.
    Contested(String),
}

/// Recent writes of one CronJob.
#[derive(Clone, Debug)]
pub struct Contest {
    uid: Uid,
    /// Wanted fingerprint at the last write.
    wanted: Option<Fingerprint>,
    /// State in the API server's answer.
    answer: State,
    /// Result of admission at the last write.
    admission: Admission,
    written_at: Timestamp,
    repairs: VecDeque<Timestamp>,
    /// Writes since the contest began.
    tries: u32,
    next_try: Timestamp,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Admission {
    LeftAlone,
    Borne(String),
    Changed,
}

/// Decides on the CronJob `name`, which is stored as `found` and whose spec is to have the fingerprint `wanted`.
///
/// `contest` holds the recent writes of this CronJob, and is cleared once they no longer matter.
#[must_use]
pub fn judge(
    contest: &mut Option<Contest>,
    name: &str,
    wanted: Option<Fingerprint>,
    found: &CronJobRecord,
    now: Timestamp,
) -> Judgement {
    let state = state_of(found);
    let is_as_wanted = wanted.is_some() && state == (wanted, true);
    let Some(known) = contest
        .as_mut()
        .filter(|known| known.uid == found.uid && known.wanted == wanted)
    else {
        return if is_as_wanted {
            Judgement::AsWanted
        } else {
            Judgement::Write
        };
    };
    if is_as_wanted {
        if now.duration_since(known.written_at) >= WINDOW {
            *contest = None;
        } else if known.tries > 0 {
            return Judgement::Contested(known.message.clone());
        }
        return Judgement::AsWanted;
    }
    if state == known.answer {
        if let Admission::Borne(what) = &known.admission {
            return Judgement::Borne(what.clone());
        }
    } else if known.tries == 0 {
        known.repairs.retain(|time| now.duration_since(*time) < WINDOW);
        if known.repairs.len() < MAX_REPAIRS {
            return Judgement::Write;
        }
        known.tries = 1;
        known.next_try = after(now, wait(1));
        known.message = format!(
            "it was changed back {MAX_REPAIRS} times within a minute: look for a controller, or a second installation, that changes it with \
             `kubectl get cronjob {name} --show-managed-fields -o yaml`"
        );
    }
    if now < known.next_try {
        Judgement::Contested(known.message.clone())
    } else {
        Judgement::Write
    }
}

/// Kind of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The CronJob was created.
    Created,
    /// The CronJob differed, and was replaced.
    Repaired,
}

/// Records a write: its spec had the fingerprint `wanted`, and the API server answered with `answer`, which differs in `differences`.
pub fn wrote(
    contest: &mut Option<Contest>,
    written: Written,
    wanted: Option<Fingerprint>,
    answer: &CronJobRecord,
    differences: &[Difference],
    now: Timestamp,
) {
    let before = contest.take().filter(|known| known.uid == answer.uid);
    // A changed policy needs a write as well: that is no repair.
    let is_own_change = before.as_ref().is_some_and(|known| known.wanted != wanted);
    let is_repair = written == Written::Repaired && !is_own_change;
    let mut known = before.filter(|_| !is_own_change).unwrap_or_else(|| Contest {
        uid: answer.uid,
        wanted,
        answer: (None, false),
        admission: Admission::LeftAlone,
        written_at: now,
        repairs: VecDeque::new(),
        tries: 0,
        next_try: now,
        message: String::new(),
    });
    let was_changed_by_admission = known.admission == Admission::Changed;
    known.answer = state_of(answer);
    known.written_at = now;
    if is_repair {
        known.repairs.push_back(now);
        known.repairs.drain(..known.repairs.len().saturating_sub(MAX_REPAIRS));
    }
    known.admission = match differences.iter().find(|it| !it.is_borne) {
        Some(difference) => {
            known.message = format!(
                "admission changes it on every write ({}: {}): look at `kubectl get mutatingwebhookconfigurations,mutatingadmissionpolicies` for \
                 what changes CronJobs, and except those with the label {}={}",
                difference.path,
                difference.values,
                labels::MANAGED_BY,
                labels::FIELD_MANAGER
            );
            Admission::Changed
        }
        None if differences.is_empty() => Admission::LeftAlone,
        None => Admission::Borne(told(differences)),
    };
    match known.admission {
        // An answer without changes proves at once that admission no longer interferes.
        Admission::LeftAlone | Admission::Borne(_) if was_changed_by_admission => known.tries = 0,
        Admission::LeftAlone | Admission::Borne(_) if known.tries == 0 => {}
        Admission::LeftAlone | Admission::Borne(_) | Admission::Changed => {
            known.tries = known.tries.saturating_add(1);
            known.next_try = after(now, wait(known.tries));
        }
    }
    *contest = Some(known);
}

fn told(differences: &[Difference]) -> String {
    let mut paths: Vec<&str> = differences.iter().map(|it| it.path.as_str()).collect();
    let more = paths.len().saturating_sub(3);
    paths.truncate(3);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    format!("{}{more}", paths.join(", "))
}

fn state_of(record: &CronJobRecord) -> State {
    (record.fingerprint, record.labels_intact)
}

fn wait(tries: u32) -> SignedDuration {
    let doubled = 1_i32.checked_shl(tries.saturating_sub(1)).filter(|factor| *factor > 0);
    doubled
        .and_then(|factor| FIRST_WAIT.checked_mul(factor))
        .map_or(LONGEST_WAIT, |wait| wait.min(LONGEST_WAIT))
}

fn after(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &str = "a";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn fingerprint(of: &str) -> Option<Fingerprint> {
        let spec = serde_json::json!({ "schedule": of, "jobTemplate": {} });
        Fingerprint::of_cron_job(&serde_json::from_value(spec).unwrap())
    }

    fn record(spec: &str) -> CronJobRecord {
        CronJobRecord {
            uid: Uid::parse("c"),
            uid_text: "c".into(),
            owner: None,
            is_orphan: false,
            task: None,
            fingerprint: fingerprint(spec),
            labels_intact: true,
            resource_version: "1".into(),
            deleting: false,
            last_schedule: None,
        }
    }

    /// A CronJob that is judged and written as the operator would.
    struct Scene {
        contest: Option<Contest>,
        wanted: &'static str,
        stored: CronJobRecord,
        writes: Vec<i64>,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                contest: None,
                wanted: WANTED,
                stored: record("nothing"),
                writes: Vec::new(),
            }
        }

        /// Looks at `second`; a write comes back as `answer` of what is wanted, which differs in these.
        fn look(&mut self, second: i64, answer: &str, differences: &[Difference]) -> Judgement {
            let judge = |scene: &mut Self| {
                judge(
                    &mut scene.contest,
                    "x",
                    fingerprint(scene.wanted),
                    &scene.stored,
                    at(second),
                )
            };
            let judgement = judge(self);
            if judgement != Judgement::Write {
                return judgement;
            }
            self.writes.push(second);
            self.stored = record(answer);
            wrote(
                &mut self.contest,
                Written::Repaired,
                fingerprint(self.wanted),
                &self.stored,
                differences,
                at(second),
            );
            judge(self)
        }
    }

    fn difference(path: &str, is_borne: bool) -> Difference {
        Difference {
            path: path.into(),
            values: "wrote 1, came back 2".into(),
            is_borne,
        }
    }

    fn is_contested(judgement: &Judgement) -> bool {
        matches!(judgement, Judgement::Contested(_))
    }

    #[test]
    fn what_admission_adds_and_decides_nothing_is_written_once_and_borne() {
        let mut scene = Scene::new();
        for second in 0..600 {
            let judgement = scene.look(second, "with resources", &[difference("resources", true)]);
            assert_eq!(judgement, Judgement::Borne("resources".into()), "{second}");
        }
        assert_eq!(scene.writes, [0]);
        // The policy changes: one more write.
        scene.wanted = "b";
        scene.look(600, "b with resources", &[difference("resources", true)]);
        assert_eq!(scene.writes, [0, 600]);
        // A change after admission is repaired.
        scene.stored = record("by hand");
        scene.look(601, "b with resources", &[difference("resources", true)]);
        assert_eq!(scene.writes, [0, 600, 601]);
    }

    #[test]
    fn what_admission_changes_and_decides_is_told_steadily_and_written_after_growing_waits() {
        let mut scene = Scene::new();
        let mut told = std::collections::BTreeSet::new();
        for second in 0..3_600 {
            match scene.look(second, "suspended", &[difference("spec.suspend", false)]) {
                Judgement::Contested(message) => told.insert(message),
                other => panic!("{second}: {other:?}"),
            };
        }
        assert_eq!(told.len(), 1, "{told:?}");
        let message = told.pop_first().unwrap();
        assert!(
            message.contains("spec.suspend: wrote 1, came back 2") && !message.contains("managed-fields"),
            "{message}"
        );
        assert_eq!(scene.writes[..5], [0, 30, 90, 210, 450], "{:?}", scene.writes);
        assert!(scene.writes.len() < 18, "{:?}", scene.writes);
        // The webhook goes: the next write comes back as it was written, and that is believed at once.
        let next = scene.writes.last().unwrap() + 300;
        assert_eq!(scene.look(next, WANTED, &[]), Judgement::AsWanted);
    }

    #[test]
    fn a_contest_is_told_steadily_until_the_cron_job_has_stayed_for_a_minute() {
        let mut scene = Scene::new();
        let mut steady = 0;
        for second in 0..1_200 {
            let judgement = scene.look(second, WANTED, &[]);
            if steady > 0 {
                assert!(is_contested(&judgement), "{second}: {judgement:?}");
            }
            steady += i32::from(is_contested(&judgement));
            // The other one is a second behind.
            scene.stored = record("theirs");
        }
        assert_eq!(scene.writes[..3], [0, 1, 2], "{:?}", scene.writes);
        assert!(scene.writes.len() < 12, "{:?}", scene.writes);
        // It gives in.
        let last = scene.writes.last().unwrap() + 301;
        assert!(is_contested(&scene.look(last, WANTED, &[])));
        assert!(is_contested(&scene.look(last + 59, WANTED, &[])));
        assert_eq!(scene.look(last + 60, WANTED, &[]), Judgement::AsWanted);
    }

    #[test]
    fn the_policys_own_changes_are_no_repairs() {
        let mut scene = Scene::new();
        for (second, wanted) in ["a", "b", "c", "d", "e", "f", "a", "b"].into_iter().enumerate() {
            scene.wanted = wanted;
            let second = i64::try_from(second).unwrap();
            assert_eq!(scene.look(second, wanted, &[]), Judgement::AsWanted, "{wanted}");
        }
        assert_eq!(scene.writes.len(), 8);
    }
}
