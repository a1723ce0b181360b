//! Spans of virtual time.

use std::time::Duration;

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

pub fn hours(hours: u64) -> Duration {
    minutes(60 * hours)
}
