//! The time, as a parameter.

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// Largest clock skew that is tolerated, and reported. Skews of minutes are met in practice; a larger one is no skew but a wrong time.
pub const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(600);

/// `moment` by another clock, or `now` if it lies further ahead than [`CLOCKS_APART`].
#[must_use]
pub fn not_ahead(moment: Timestamp, now: Timestamp) -> Timestamp {
    if moment.duration_since(now) > CLOCKS_APART {
        now
    } else {
        moment
    }
}

/// Where the time comes from. A copy reads the same source.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The system's wall clock.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(Timestamp::now)
    }

    /// Any other source.
    #[must_use]
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// Time since the machine was started, which nobody sets and which goes on while the machine sleeps or the process is stopped. A copy
/// reads the same source.
#[derive(Clone)]
pub struct BootClock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl BootClock {
    /// The kernel's `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(|| {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            // The kernel gives neither part as negative.
            let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
            seconds + Duration::from_nanos(time.tv_nsec.unsigned_abs())
        })
    }

    /// Any other source.
    #[must_use]
    pub fn from_fn(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for BootClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BootClock").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_since_boot_is_the_kernels() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
        let now = BootClock::system().now().as_secs_f64();
        assert!((now - uptime).abs() < 5.0, "{now} and {uptime}");
    }
}
