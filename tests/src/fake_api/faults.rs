//! What goes wrong between the operator and the API server, and when.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{failure::Failure, http::Call, resource::Resource};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The connection breaks before the server hears of it.
    Lost,
    /// It is carried out, and the connection breaks before the answer (F2).
    AnswerLost,
    /// The server refuses it.
    Refused(Failure),
    /// Nobody ever answers, and nothing is done.
    Silent,
    /// It is carried out, and nobody ever answers.
    SilentAfter,
    /// It is carried out this much later.
    Slow(Duration),
    /// The operator dies before the server hears of it (F1).
    CrashBefore,
    /// It is carried out, and the operator dies before the answer (F1).
    CrashAfter,
}

type Matcher = Box<dyn FnMut(&Call) -> bool + Send>;

struct Rule {
    when: Matcher,
    effect: Effect,
    left: Option<u32>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} × {:?}", self.effect, self.left)
    }
}

/// Random faults.
#[derive(Debug)]
struct Chaos {
    per_mille: u32,
    random: fastrand::Rng,
}

/// The faults that are in force.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Vec<Rule>,
    chaos: Option<Chaos>,
    watches: WatchFaults,
}

/// What goes wrong with watches and lists.
#[derive(Clone, Debug, Default)]
pub struct WatchFaults {
    /// Watches with a smaller number are half open: nothing comes, and nobody says so (F6).
    pub silent_below: u64,
    /// Watches with a smaller number end with 410 (F7).
    pub expired_below: u64,
    /// Events come this much later (F8, F10).
    pub delay: Duration,
    /// Every event comes twice (F8).
    pub repeated: bool,
    /// Events that are swallowed, by kind (F8).
    pub swallow: BTreeMap<Resource, u32>,
    /// The version at which this API server stands still: reads are served as of then (F9).
    pub frozen_at: Option<u64>,
}

impl Faults {
    /// From now on `effect` meets the next `times` requests for which `when` is true. Earlier rules come first.
    pub fn next(&mut self, times: u32, when: impl FnMut(&Call) -> bool + Send + 'static, effect: Effect) {
        self.rules.push(Rule {
            when: Box::new(when),
            effect,
            left: Some(times),
        });
    }

    /// From now on, until [`Self::clear`], `effect` meets every request for which `when` is true.
    pub fn always(&mut self, when: impl FnMut(&Call) -> bool + Send + 'static, effect: Effect) {
        self.rules.push(Rule {
            when: Box::new(when),
            effect,
            left: None,
        });
    }

    /// From now on, until [`Self::clear`], so many of a thousand requests meet a random fault that follows from `seed`.
    pub fn chaos(&mut self, seed: u64, per_mille: u32) {
        self.chaos = Some(Chaos {
            per_mille,
            random: fastrand::Rng::with_seed(seed),
        });
    }

    /// The faults of watches and lists.
    pub fn watches(&mut self) -> &mut WatchFaults {
        &mut self.watches
    }

    pub(super) fn frozen_at(&self) -> Option<u64> {
        self.watches.frozen_at
    }

    /// Nothing goes wrong any more. Half-open watches stay so: nobody can mend them.
    pub fn clear(&mut self) {
        self.rules.clear();
        self.chaos = None;
        self.watches = WatchFaults {
            silent_below: self.watches.silent_below,
            expired_below: self.watches.expired_below,
            ..WatchFaults::default()
        };
    }

    /// Whether a request may still go wrong.
    #[must_use]
    pub fn are_clear(&self) -> bool {
        let WatchFaults {
            silent_below: _,
            expired_below: _,
            delay,
            repeated,
            swallow,
            frozen_at,
        } = &self.watches;
        self.rules.is_empty()
            && self.chaos.is_none()
            && delay.is_zero()
            && !repeated
            && swallow.values().all(|left| *left == 0)
            && frozen_at.is_none()
    }

    /// What becomes of `call`.
    pub(super) fn meet(&mut self, call: &Call) -> Option<Effect> {
        if let Some(position) = self.rules.iter_mut().position(|rule| (rule.when)(call)) {
            let rule = &mut self.rules[position];
            let effect = rule.effect.clone();
            if let Some(left) = &mut rule.left {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.rules.remove(position);
                }
            }
            return Some(effect);
        }
        let chaos = self.chaos.as_mut()?;
        if chaos.random.u32(0..1_000) >= chaos.per_mille {
            return None;
        }
        let random = &mut chaos.random;
        Some(match random.u32(0..11) {
            0 => Effect::Lost,
            1 | 2 => Effect::AnswerLost,
            3 => Effect::Refused(Failure::server([500, 503, 504][random.usize(0..3)])),
            4 => Effect::Refused(Failure::too_many_requests(random.u32(0..3))),
            5 if call.is_write() && call.name.is_some() => Effect::Refused(Failure::conflict(&call.key())),
            5 | 6 => Effect::Slow(Duration::from_millis(random.u64(0..4_000))),
            7 => Effect::Silent,
            8 => Effect::SilentAfter,
            9 => Effect::CrashBefore,
            _ => Effect::CrashAfter,
        })
    }
}
