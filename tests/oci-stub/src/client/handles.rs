//! What the pointers that ODPI-C holds point to.

use std::{ffi::c_void, sync::Arc, time::Duration};

use chrono::NaiveDateTime;

use super::link::Link;
use crate::{
    protocol::Ora,
    value::{Column, Kind},
};

/// A handle or descriptor, behind a pointer that ODPI-C holds.
pub(super) enum Handle {
    Environment,
    Error(Ora),
    Service(Service),
    Server(Option<Arc<Link>>),
    Session(Session),
    Statement(Box<Statement>),
    /// A column of a statement; the statement outlives it.
    Parameter(*const Described),
    /// A bind, a define, a key of a thread: nothing of it is asked.
    Other,
}

#[derive(Default)]
pub(super) struct Service {
    pub(super) server: *mut c_void,
    pub(super) session: *mut c_void,
    pub(super) call_timeout_ms: u32,
    pub(super) statement_cache: u32,
    pub(super) break_fault: Option<Ora>,
}

impl Service {
    /// Limit of a call to the server, if there is one.
    pub(super) fn timeout(&self) -> Option<Duration> {
        (self.call_timeout_ms > 0).then(|| Duration::from_millis(u64::from(self.call_timeout_ms)))
    }
}

#[derive(Default)]
pub(super) struct Session {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

pub(super) struct Statement {
    pub(super) service: *mut c_void,
    pub(super) sql: String,
    pub(super) kind: u16,
    pub(super) bind_names: Vec<String>,
    pub(super) binds: Vec<Option<Buffer>>,
    pub(super) columns: Vec<Described>,
    pub(super) defines: Vec<Option<Buffer>>,
    pub(super) cursor: Option<u32>,
    pub(super) fetched: u32,
}

/// A column, with its name where ODPI-C may keep a pointer to it.
pub(super) struct Described {
    pub(super) column: Column,
}

impl Described {
    /// `SQLT_…`, bytes, characters, precision, scale.
    pub(super) fn shape(&self) -> (u16, u16, u16, i16, i8) {
        match self.column.kind {
            Kind::Varchar2(n) => (SQLT_CHR, n.saturating_mul(4), n, 0, 0),
            Kind::Char(n) => (SQLT_AFC, n.saturating_mul(4), n, 0, 0),
            Kind::Number => (SQLT_NUM, 22, 0, 0, -127),
            Kind::Decimal(precision, scale) => (SQLT_NUM, 22, 0, i16::from(precision), scale),
            Kind::Date => (SQLT_DAT, 7, 0, 0, 0),
            Kind::Timestamp => (SQLT_TIMESTAMP, 11, 0, 0, 6),
            Kind::TimestampTz => (SQLT_TIMESTAMP_TZ, 13, 0, 0, 6),
        }
    }
}

/// Where values are to be put, or found: an array of elements of `size` bytes each.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    pub(super) value: *mut c_void,
    pub(super) size: usize,
    pub(super) kind: u16,
    pub(super) indicator: *mut i16,
    pub(super) length: *mut u32,
    pub(super) code: *mut u16,
}

/// A TIMESTAMP descriptor.
#[derive(Clone, Copy, Default)]
pub(super) struct Moment {
    pub(super) local: NaiveDateTime,
    pub(super) east_minutes: i16,
}

pub(super) const SQLT_CHR: u16 = 1;
pub(super) const SQLT_NUM: u16 = 2;
pub(super) const SQLT_INT: u16 = 3;
pub(super) const SQLT_VNU: u16 = 6;
pub(super) const SQLT_DAT: u16 = 12;
pub(super) const SQLT_AFC: u16 = 96;
pub(super) const SQLT_ODT: u16 = 156;
pub(super) const SQLT_TIMESTAMP: u16 = 187;
pub(super) const SQLT_TIMESTAMP_TZ: u16 = 188;
