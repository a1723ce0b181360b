//! Waiting for a condition with a deadline; never for a while.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use crate::{Error, Result, interrupt};

const PAUSE: Duration = Duration::from_millis(50);

/// What a look at the world found.
#[derive(Debug)]
pub enum Look<T> {
    /// What was waited for.
    Met(T),
    /// Not yet; this is what was seen.
    Saw(String),
    /// It can never be met any more; this is why.
    Never(String),
}

impl<T> Look<T> {
    /// `Met` if `met`, else what was seen.
    pub fn when(met: bool, value: T) -> Self
    where
        T: Debug,
    {
        if met {
            Self::Met(value)
        } else {
            Self::Saw(format!("{value:?}"))
        }
    }

    /// The same look with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Look<U> {
        match self {
            Self::Met(value) => Look::Met(change(value)),
            Self::Saw(saw) => Look::Saw(saw),
            Self::Never(why) => Look::Never(why),
        }
    }
}

/// Looks until it is met.
///
/// # Errors
/// After `deadline`, with what was seen last; at once when it can never be met, or when [somebody asked for the end](interrupt).
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Look<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        let saw = match look() {
            Look::Met(value) => return Ok(value),
            Look::Never(why) => return Err(Error::new(format!("waited for {what}"), why)),
            Look::Saw(saw) => saw,
        };
        interrupt::check(&format!("waited for {what}"))?;
        if started.elapsed() > deadline {
            return Err(Error::new(
                format!("waited {} s for {what}", deadline.as_secs()),
                format!("last seen: {saw}"),
            ));
        }
        std::thread::sleep(PAUSE);
    }
}
