//! Why a part of the test world could not be brought up.

use std::{fmt::Display, path::Path};

/// A step that failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {cause}")]
pub struct Error {
    step: String,
    cause: String,
}

/// The result of a step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// `step` failed because of `cause`.
    #[must_use]
    pub fn new(step: impl Into<String>, cause: impl Display) -> Self {
        Self {
            step: step.into(),
            cause: cause.to_string(),
        }
    }
}

/// Says which step an error belongs to.
pub trait Step<T> {
    /// Names the step.
    ///
    /// # Errors
    /// The same as before, with its step.
    fn step(self, step: impl Into<String>) -> Result<T>;

    /// Names the step and the file it was about.
    ///
    /// # Errors
    /// The same as before, with its step.
    fn step_at(self, step: &str, path: &Path) -> Result<T>
    where
        Self: Sized,
    {
        self.step(format!("{step} {}", path.display()))
    }
}

impl<T, E: Display> Step<T> for std::result::Result<T, E> {
    fn step(self, step: impl Into<String>) -> Result<T> {
        self.map_err(|cause| Error::new(step, cause))
    }
}
