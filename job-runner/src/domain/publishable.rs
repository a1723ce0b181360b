//! Whether the rows that are left represent the view: with too many left out, a document would understate the outages.

use std::fmt;

use mapa_refresh_crds::rows::Quarantine;

use super::outage::Outages;

/// Reasons that the message names, the most frequent first.
const NAMED: usize = 3;

/// Too many rows of active outages are quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooManyQuarantined {
    quarantined: u64,
    judged: u64,
    /// By count, the largest first.
    reasons: Vec<(Quarantine, u64)>,
    max_percent: u32,
}

impl Outages {
    /// That at most `max_percent` of the rows of active outages are quarantined, and not all of them: the document of a view
    /// without an active outage states that there is none, which is true only of a view without one. Announced work, which has not begun, is
    /// no such row.
    ///
    /// # Errors
    /// How many are quarantined, and why.
    pub fn demand_publishable(&self, max_percent: u32) -> Result<(), TooManyQuarantined> {
        let mut reasons: Vec<(Quarantine, u64)> = self
            .quarantined_by()
            .map(|(why, count)| match why {
                Quarantine::FutureStart => (why, count.saturating_sub(self.announced())),
                _ => (why, count),
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        let quarantined: u64 = reasons.iter().map(|(_, count)| count).sum();
        let published = self.active().len() as u64;
        let judged = published + quarantined;
        let is_above = u128::from(quarantined) * 100 > u128::from(judged) * u128::from(max_percent);
        let is_none_left = published == 0 && quarantined > 0;
        if !is_above && !is_none_left {
            return Ok(());
        }
        reasons.sort_by_key(|(why, count)| (std::cmp::Reverse(*count), *why));
        Err(TooManyQuarantined {
            quarantined,
            judged,
            reasons,
            max_percent,
        })
    }
}

impl fmt::Display for TooManyQuarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            quarantined,
            judged,
            reasons,
            max_percent,
        } = self;
        let rows = if *judged == 1 { "row" } else { "rows" };
        write!(
            f,
            "{quarantined} of the view's {judged} {rows} of active outages cannot be published ("
        )?;
        for (number, (why, count)) in reasons.iter().take(NAMED).enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{} {count}", why.as_str())?;
        }
        if reasons.len() > NAMED {
            write!(f, ", {} more", reasons.len() - NAMED)?;
        }
        f.write_str("): correct these columns of the view, or spec.database.columns")?;
        if quarantined < judged {
            write!(f, ", or raise spec.plausibility.maxQuarantinedPercent ({max_percent})")?;
        }
        f.write_str("; what is published stays")
    }
}

impl std::error::Error for TooManyQuarantined {}

#[cfg(test)]
mod tests {
    use mapa_refresh_crds::status::MAX_ERROR_MESSAGE;

    use super::*;

    #[test]
    fn the_longest_message_fits_into_a_status_with_its_remedy() {
        let longest = TooManyQuarantined {
            quarantined: 9_999_999_998,
            judged: 9_999_999_999,
            reasons: Quarantine::ALL.iter().map(|why| (*why, 9_999_999_999)).collect(),
            max_percent: 100,
        };
        let message = longest.to_string();
        assert!(message.len() <= MAX_ERROR_MESSAGE, "{} bytes: {message}", message.len());
        assert!(message.contains("maxQuarantinedPercent (100)"), "{message}");
    }
}
