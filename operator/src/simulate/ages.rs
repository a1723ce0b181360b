//! How long the public saw data of which age, by the second.

/// Ages beyond this are counted as this old: a week.
const OLDEST: i64 = 7 * 86_400;
/// A day and a month of the simulated time, in seconds.
const DAY: i64 = 86_400;
const MONTH: i64 = 30 * DAY;

/// The ages of the data over time, and the stretches in which the limit was exceeded.
#[derive(Clone, Debug)]
pub(super) struct Ages {
    limit: i64,
    /// What caches after ours add, at worst.
    downstream: i64,
    begun: i64,
    ended: i64,
    /// Since when what is public now is public, and when it was true.
    since: i64,
    data_as_of: Option<i64>,
    /// At index `a`: by how many more seconds the data was `a` seconds old than `a - 1`.
    steps: Vec<i64>,
    pub(super) breaches: u64,
    in_breach_until: i64,
    days: Windows,
    months: Windows,
}

/// Windows of a length, of which those in which something happened are counted. What happens comes in the order of time.
#[derive(Clone, Copy, Debug)]
struct Windows {
    length: i64,
    hit: i64,
    last: i64,
}

impl Windows {
    fn new(length: i64) -> Self {
        Self {
            length,
            hit: 0,
            last: -1,
        }
    }

    /// Something happens from `from` to just before `to`, in seconds since the beginning.
    fn mark(&mut self, from: i64, to: i64) {
        let first = (from / self.length).max(self.last + 1);
        let last = (to - 1) / self.length;
        if last >= first {
            self.hit += last - first + 1;
            self.last = last;
        }
    }
}

impl Ages {
    pub(super) fn new(limit: i64, downstream: u32) -> Self {
        Self {
            limit,
            downstream: i64::from(downstream),
            begun: 0,
            ended: 0,
            since: 0,
            data_as_of: None,
            steps: Vec::new(),
            breaches: 0,
            in_breach_until: i64::MIN,
            days: Windows::new(DAY),
            months: Windows::new(MONTH),
        }
    }

    pub(super) fn begin(&mut self, second: i64) {
        self.begun = second;
        self.since = second;
    }

    /// Before the beginning the oldest of what is public came to be true at `data_as_of`.
    pub(super) fn publish_before_begin(&mut self, data_as_of: i64) {
        self.data_as_of = Some(data_as_of);
    }

    /// From `second` on, the oldest of what is public was true at `data_as_of`.
    pub(super) fn publish(&mut self, second: i64, data_as_of: i64) {
        self.until(second);
        self.since = second;
        self.data_as_of = Some(data_as_of);
    }

    pub(super) fn end(&mut self, second: i64) {
        self.until(second);
        self.since = second;
        self.ended = second;
    }

    fn until(&mut self, second: i64) {
        let Some(data_as_of) = self.data_as_of.filter(|_| second > self.since) else {
            return;
        };
        let age = |at: i64| usize::try_from((at - data_as_of).clamp(0, OLDEST)).unwrap_or(0);
        // One second at each age from the first to before the last; beyond the oldest they gather there.
        let (first, last) = (age(self.since), age(second));
        if self.steps.len() < last + 2 {
            self.steps.resize(last + 2, 0);
        }
        self.step(first, 1);
        self.step(last, -1);
        let beyond = (second - self.since) - i64::try_from(last - first).unwrap_or(0);
        if beyond > 0 {
            self.step(last, beyond);
            self.step(last + 1, -beyond);
        }
        let deadline = data_as_of.saturating_add(self.limit).max(self.since);
        if second > deadline {
            self.breaches += u64::from(self.in_breach_until != deadline);
            self.in_breach_until = second;
            self.days.mark(deadline - self.begun, second - self.begun);
            self.months.mark(deadline - self.begun, second - self.begun);
        }
    }

    fn step(&mut self, age: usize, by: i64) {
        if let Some(step) = self.steps.get_mut(age) {
            *step += by;
        }
    }

    /// Seconds that were simulated.
    pub(super) fn seconds(&self) -> i64 {
        self.ended - self.begun
    }

    /// Seconds at each age, from 0.
    fn histogram(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.steps
            .iter()
            .scan(0, |seconds, step| {
                *seconds += step;
                Some(*seconds)
            })
            .zip(self.downstream..)
            .map(|(seconds, age)| (age, seconds))
    }

    /// The age, in seconds, that the data had or was younger than for `share` (0 to 1) of the time, as the public saw it at worst.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "seconds of some thousand years are below 2^52"
    )]
    pub(super) fn quantile(&self, share: f64) -> i64 {
        let rank = (self.seconds() as f64 * share).ceil() as i64;
        let mut seen = 0;
        self.histogram()
            .find(|(_, seconds)| {
                seen += seconds;
                seen >= rank
            })
            // Within a second the age grows to the next.
            .map_or(0, |(age, _)| age + 1)
    }

    /// Share of the time in which the data was from `from` to just before `to` seconds old.
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of some thousand years are below 2^52"
    )]
    pub(super) fn share(&self, from: i64, to: i64) -> f64 {
        let seconds: i64 = self
            .histogram()
            .filter(|(age, _)| (from..to).contains(age))
            .map(|(_, seconds)| seconds)
            .sum();
        seconds as f64 / self.seconds().max(1) as f64
    }

    /// Days in which the limit was exceeded.
    pub(super) fn breach_days(&self) -> u64 {
        self.days.hit.unsigned_abs()
    }

    /// Breaches, or days with one, whichever is more: many a day count each, and one that does not end counts every day.
    pub(super) fn breaches_or_days(&self) -> u64 {
        self.breaches.max(self.breach_days())
    }

    /// Days in which the limit was exceeded, and whole or begun days that were simulated.
    pub(super) fn days(&self) -> (i64, i64) {
        (self.days.hit, whole_windows(self.seconds(), DAY))
    }

    /// The same by months of 30 days.
    pub(super) fn months(&self) -> (i64, i64) {
        (self.months.hit, whole_windows(self.seconds(), MONTH))
    }
}

fn whole_windows(seconds: i64, length: i64) -> i64 {
    (seconds + length - 1).div_euclid(length).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_weighted_by_time() {
        let mut ages = Ages::new(1_000, 0);
        ages.begin(100);
        ages.publish(100, 90);
        ages.publish(200, 190);
        ages.end(300);
        // Twice from 10 to 110 seconds.
        assert_eq!(ages.seconds(), 200);
        assert_eq!(
            (ages.quantile(0.5), ages.quantile(0.99), ages.quantile(1.0)),
            (60, 109, 110)
        );
        assert!((ages.share(10, 60) - 0.5).abs() < 1e-9);
        assert_eq!((ages.breaches, ages.days(), ages.months()), (0, (0, 1), (0, 1)));
    }

    #[test]
    fn a_breach_that_goes_on_after_a_publication_of_old_data_is_one() {
        let mut ages = Ages::new(100, 7);
        ages.begin(0);
        ages.publish(0, 0);
        ages.publish(150, 20);
        ages.publish(200, 190);
        ages.publish(400, 390);
        ages.end(450);
        // From 100 to 200, and from 290 to 400.
        assert_eq!(ages.breaches, 2);
        assert_eq!(ages.quantile(1.0), 217);
    }

    #[test]
    fn a_long_breach_touches_each_of_its_days() {
        let mut ages = Ages::new(100, 0);
        ages.begin(0);
        ages.publish(0, 0);
        ages.publish(2 * DAY + 1, 2 * DAY);
        ages.publish(2 * DAY + 50, 2 * DAY + 49);
        ages.end(2 * DAY + 60);
        assert_eq!((ages.days(), ages.months(), ages.breaches), ((3, 3), (1, 1), 1));
        let mut weeks = Ages::new(100, 0);
        weeks.begin(0);
        weeks.publish(0, 0);
        weeks.end(20 * DAY);
        assert_eq!(weeks.quantile(1.0), OLDEST + 1);
        assert!((weeks.share(0, OLDEST + 1) - 1.0).abs() < 1e-9);
    }
}
