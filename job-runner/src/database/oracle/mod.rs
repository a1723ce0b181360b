//! Oracle, through the crate `oracle`: ODPI-C and Oracle's own client, which is loaded when the first session is opened.
//!
//! Oracle keeps the time of a view's last refresh itself (`ALL_MVIEWS.LAST_REFRESH_DATE`), in whole seconds of its host's local
//! time. That time, and the host's clock with its offset, are read by one statement: their difference is the age, by the database's own
//! clock alone, up to a second more than the truth, never less. In a zone with daylight saving that holds from the first refresh after a change of the clocks.
//!
//! The driver blocks: each question is answered in a thread for blocking work, one at a time. One that has to end early is left to that thread
//! and broken off (`OCIBreak`); the session is of no use afterwards.

#[cfg(feature = "oracle")]
mod connect;
#[cfg(feature = "oracle")]
mod error;
#[cfg(feature = "oracle")]
mod session;
#[cfg(feature = "oracle")]
mod sql;
mod target;

#[cfg(feature = "oracle")]
pub use self::session::{Oracle, OracleInterrupt};
pub use self::target::Target;
