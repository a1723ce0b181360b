//! Why a reconcile could not be finished, and what follows from it.

use std::time::Duration;

/// A reconcile that could not be finished. What the policy itself gets wrong is no error: it becomes a condition.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server or the way to it failed.
    #[error("could not {action}: {source}")]
    Api {
        /// What was tried.
        action: &'static str,
        /// State in the API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("could not {action}: no answer within {} s", limit.as_secs())]
    Timeout {
        /// What was tried.
        action: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// Somebody else wrote in between; what we know is out of date.
    #[error("could not {action}: it was changed in between")]
    Outdated {
        /// What was tried.
        action: &'static str,
    },
    /// This replica does not hold the lease, or holds it no more.
    #[error("did not {action}: another replica may lead by now")]
    NotLeading {
        /// What was to be done.
        action: &'static str,
    },
    /// An object without namespace, name or UID, which the API server never sends.
    #[error("the policy has no {0}")]
    Incomplete(&'static str),
}

/// What kind of fault it is; it decides how to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing to do until the object changes.
    Invalid,
    /// The next event of the watch will bring what is missing; try again soon anyway.
    Waiting,
    /// It may pass by itself: try again, each time later.
    Transient,
}

impl Class {
    /// A word for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Waiting => "waiting",
            Self::Transient => "transient",
        }
    }
}

impl Error {
    /// Every error by its class and the word for it.
    pub const KINDS: [(Class, &'static str); 5] = [
        (Class::Transient, "api"),
        (Class::Transient, "timeout"),
        (Class::Waiting, "outdated"),
        (Class::Waiting, "not-leading"),
        (Class::Invalid, "incomplete"),
    ];

    /// What kind of fault it is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Incomplete(_) => Class::Invalid,
            Self::Outdated { .. } | Self::NotLeading { .. } => Class::Waiting,
            Self::Api { .. } | Self::Timeout { .. } => Class::Transient,
        }
    }

    /// A word for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Api { .. } => "api",
            Self::Timeout { .. } => "timeout",
            Self::Outdated { .. } => "outdated",
            Self::NotLeading { .. } => "not-leading",
            Self::Incomplete(_) => "incomplete",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_among_the_kinds_that_metrics_begin_with() {
        let action = "do something";
        let api = kube::Error::LinesCodecMaxLineLengthExceeded;
        let errors = [
            Error::Api {
                action,
                source: Box::new(api),
            },
            Error::Timeout {
                action,
                limit: Duration::ZERO,
            },
            Error::Outdated { action },
            Error::NotLeading { action },
            Error::Incomplete("uid"),
        ];
        let kinds = errors.map(|error| (error.class(), error.label()));
        assert_eq!(kinds, Error::KINDS);
    }
}
