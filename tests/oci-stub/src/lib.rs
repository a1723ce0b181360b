//! **OCI stub, not Oracle.** It stands in for Oracle's client library and for the server behind it, where neither can be had.
//!
//! - The `cdylib`, under the name `libclntsh.so` ([`install`]), exports the part of the Oracle Call Interface that the genuine
//!   ODPI-C and the genuine crate `oracle` need for one session: [`client`].
//! - It speaks over TCP to a [`server::Server`], which lives in the test's own process and keeps a [`world::World`]: users, materialized
//!   views whose stamps advance, `DBMS_LOCK`, a clock, and faults to inject. A session that dies there loses its locks, a connection
//!   that breaks gives ORA-03113, a host that is silent is silent: as far as the runner can tell, a database.
//!
//! It knows the statements that the runner sends, parses their SELECTs with a parser of Oracle's dialect, and answers anything that it
//! does not know with an error: what passes here need not pass on Oracle, what fails here fails there too. That is all it proves.

#![warn(unreachable_pub)]

pub mod client;
mod connect_string;
pub mod number;
pub mod portal;
pub mod protocol;
mod select;
pub mod server;
pub mod value;
pub mod world;

mod block;
mod install;
mod session;
mod tokens;

pub use install::{InstallError, install, library};
