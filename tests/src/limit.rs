//! Limits of time on real machines, which other tests keep busy meanwhile: each is measured and said. That it is kept to the millisecond is
//! proved in virtual time, and measured by the benches.

use k8s_openapi::jiff::SignedDuration;

use crate::progress;

/// What a machine may add that is busy with everything else. It has to be less than what a broken promise adds: a lease that is not handed
/// over is taken 10 to 15 s after SIGTERM instead of 2, for it lasts 15 s and is renewed every 5.
const NOISE: SignedDuration = SignedDuration::from_secs(4);

/// Says how long `what` took.
///
/// # Panics
/// It took longer than `limit`, beyond what a busy machine explains.
#[track_caller]
pub fn keeps(what: &str, took: SignedDuration, limit: SignedDuration) {
    progress::say(&format!(
        "{what}: {:.2} s, limit {} s",
        took.as_secs_f64(),
        limit.as_secs()
    ));
    assert!(took <= limit + NOISE, "{what} took {took:?} instead of {limit:?}");
}
