//! Cron schedules as the CronJob controller reads them, as far as minutes of the hour go. Written apart from the operator's own, which it checks.

/// The minutes of every hour at which a CronJob runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minutes([bool; 60]);

impl Minutes {
    /// Reads `m,m,… * * * *` or `* * * * *`; `None` for what restricts hours or days, or makes no sense.
    #[must_use]
    pub fn parse(schedule: &str) -> Option<Self> {
        let (minutes, rest) = schedule.split_once(' ')?;
        if rest != "* * * *" {
            return None;
        }
        let mut slots = [minutes == "*"; 60];
        if minutes != "*" {
            for minute in minutes.split(',') {
                *slots.get_mut(minute.parse::<usize>().ok()?)? = true;
            }
        }
        Some(Self(slots))
    }

    /// Whether it runs at `minute` since 1970.
    #[must_use]
    pub fn contains(&self, minute: i64) -> bool {
        let slot = usize::try_from(minute.rem_euclid(60)).unwrap_or_default();
        self.0.get(slot).copied().unwrap_or(false)
    }

    /// Longest time between two runs, in minutes.
    #[must_use]
    pub fn largest_gap(&self) -> usize {
        let twice = self
            .0
            .iter()
            .chain(&self.0)
            .enumerate()
            .filter(|(_, slot)| **slot)
            .map(|(minute, _)| minute);
        let starts: Vec<usize> = twice.collect();
        starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_over_the_turn_of_the_hour_counts() {
        let gap = |schedule| Minutes::parse(schedule).map(|minutes| minutes.largest_gap());
        assert_eq!(gap("* * * * *"), Some(1));
        assert_eq!(gap("5 * * * *"), Some(60));
        assert_eq!(gap("0,25,50 * * * *"), Some(25));
        assert_eq!(gap("0,10 * * * *"), Some(50));
        assert_eq!(gap("0 3 * * *"), None);
        assert_eq!(gap("61 * * * *"), None);
    }
}
