//! What the database holds, and what is wrong with it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, FixedOffset, NaiveDateTime, Offset, SubsecRound, Utc};

use crate::{
    protocol::Ora,
    value::{Column, Value},
};

/// Rows, in the order of the columns.
pub type Rows = Arc<Vec<Vec<Value>>>;

/// The whole database.
#[derive(Clone, Debug)]
pub struct World {
    /// Service that the listener knows.
    pub service: String,
    /// Passwords by user, both as they are compared: users in upper case.
    pub users: HashMap<String, String>,
    /// Attempts to log on, in their order.
    pub logons: Vec<Logon>,
    /// Materialized views and other relations, by owner and name.
    pub views: HashMap<(String, String), View>,
    /// Minutes by which the host's local time is east of UTC: SYSDATE has no zone.
    pub utc_offset_minutes: i32,
    /// By how much the host's clock is ahead of this process'.
    pub clock_ahead: chrono::Duration,
    /// Whether users may execute `DBMS_LOCK`.
    pub dbms_lock_granted: bool,
    /// Users beside the owner who may refresh a view.
    pub refreshers: Vec<String>,
    /// Procedures that refresh a view with the rights of their owner, by owner and name.
    pub procedures: HashMap<(String, String), Procedure>,
    /// `DBMS_LOCK` locks held, by id: the session that holds it.
    pub locks: HashMap<i64, u64>,
    /// What will go wrong, first match first.
    pub faults: Vec<Fault>,
    /// Statements executed, in their order.
    pub statements: Vec<String>,
    /// Open sessions.
    pub sessions: Vec<u64>,
    /// Time that sessions have spent on answers: what a database costs by itself.
    pub busy: Duration,
    /// A warning at each logon.
    pub logon_warning: Option<Ora>,
    /// Whether clients that have logged on hang when their process ends, in an exit handler of their own.
    pub clients_hang_at_exit: bool,
}

/// An attempt to log on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logon {
    /// The user, in upper case.
    pub user: String,
    /// Whether the password was right.
    pub accepted: bool,
}

/// A procedure of a view's owner that refreshes it, complete and atomic.
#[derive(Clone, Debug)]
pub struct Procedure {
    /// The view, as `DBMS_MVIEW` takes its name.
    pub list: String,
    /// Users, in upper case, who may execute it.
    pub executors: Vec<String>,
}

/// A materialized view, or another relation that can be read.
#[derive(Clone, Debug)]
pub struct View {
    /// Its columns.
    pub columns: Vec<Column>,
    /// What its query would yield now.
    pub source: Rows,
    /// What it holds.
    pub rows: Rows,
    /// When it was last refreshed, local time of the host; absent for what is no materialized view, too.
    pub last_refresh: Option<NaiveDateTime>,
    /// Whether it is a materialized view.
    pub is_materialized: bool,
    /// How long a refresh takes.
    pub refresh_takes: Duration,
    /// Why its query fails: the refresh fails with this, wrapped in ORA-12008.
    pub query_fails: Option<Ora>,
    /// The session that is refreshing it: it holds the JI enqueue.
    pub refreshing: Option<u64>,
    /// Whether its stamp stands still, as under a refresh that did nothing.
    pub stamp_stands: bool,
}

impl View {
    /// A materialized view that was never refreshed.
    #[must_use]
    pub fn materialized(columns: Vec<Column>, source: Vec<Vec<Value>>) -> Self {
        Self {
            columns,
            source: Arc::new(source),
            rows: Rows::default(),
            last_refresh: None,
            is_materialized: true,
            refresh_takes: Duration::ZERO,
            query_fails: None,
            refreshing: None,
            stamp_stands: false,
        }
    }
}

/// Where something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Attaching to the server.
    Attach,
    /// Logging on.
    Begin,
    /// Executing a statement.
    Execute,
    /// Fetching rows.
    Fetch,
    /// Committing.
    Commit,
    /// Rolling back.
    Rollback,
    /// Asking whether it is there.
    Ping,
    /// Stopping a statement.
    Break,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An error.
    Error(Ora),
    /// The server process dies: the connection ends.
    Disconnect,
    /// No answer, until the session is stopped; or not even then.
    Hang {
        /// Whether it can be stopped.
        heeds_break: bool,
    },
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub at: Point,
    /// What.
    pub effect: Effect,
    /// Only for statements that contain this.
    pub sql: String,
    /// Only once that many rows were fetched.
    pub after_rows: usize,
    /// How many times; none means always.
    pub times: Option<u32>,
}

impl Fault {
    /// `effect` at `at`, always.
    #[must_use]
    pub fn new(at: Point, effect: Effect) -> Self {
        Self {
            at,
            effect,
            sql: String::new(),
            after_rows: 0,
            times: None,
        }
    }

    /// An error at `at`, always.
    #[must_use]
    pub fn error(at: Point, code: i32) -> Self {
        Self::new(at, Effect::Error(Ora::new(code, "injected by the OCI stub")))
    }

    /// Only for statements that contain `sql`.
    #[must_use]
    pub fn in_sql(self, sql: &str) -> Self {
        Self {
            sql: sql.to_owned(),
            ..self
        }
    }

    /// Only so many times.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    /// Only once that many rows were fetched.
    #[must_use]
    pub fn after_rows(self, after_rows: usize) -> Self {
        Self { after_rows, ..self }
    }
}

impl World {
    /// A database with one user and nothing else; its host's clock shows the time of Boa Vista.
    #[must_use]
    pub fn new(service: &str, user: &str, password: &str) -> Self {
        Self {
            service: service.to_owned(),
            users: HashMap::from([(user.to_ascii_uppercase(), password.to_owned())]),
            logons: Vec::new(),
            views: HashMap::new(),
            utc_offset_minutes: -240,
            clock_ahead: chrono::Duration::zero(),
            dbms_lock_granted: true,
            refreshers: Vec::new(),
            procedures: HashMap::new(),
            locks: HashMap::new(),
            faults: Vec::new(),
            statements: Vec::new(),
            sessions: Vec::new(),
            busy: Duration::ZERO,
            logon_warning: None,
            clients_hang_at_exit: false,
        }
    }

    /// The view `owner.name`.
    ///
    /// # Panics
    /// When it is not there: the test is wrong.
    pub fn view(&mut self, owner: &str, name: &str) -> &mut View {
        self.views
            .get_mut(&(owner.to_ascii_uppercase(), name.to_ascii_uppercase()))
            .unwrap_or_else(|| panic!("the world has no view {owner}.{name}"))
    }

    /// SYSTIMESTAMP: the host's clock, to microseconds, with its offset.
    #[must_use]
    pub fn now(&self) -> DateTime<FixedOffset> {
        let offset = FixedOffset::east_opt(self.utc_offset_minutes * 60).unwrap_or(Utc.fix());
        (Utc::now() + self.clock_ahead).with_timezone(&offset).trunc_subsecs(6)
    }

    /// SYSDATE: local time of the host, whole seconds.
    #[must_use]
    pub fn sysdate(&self) -> NaiveDateTime {
        self.now().naive_local().trunc_subsecs(0)
    }

    /// What goes wrong at `at`, if anything; counted.
    pub(crate) fn strike(&mut self, at: Point, sql: &str, fetched: usize) -> Option<Effect> {
        let found = self.faults.iter().position(|fault| {
            fault.at == at && fault.times != Some(0) && fetched >= fault.after_rows && sql.contains(&fault.sql)
        })?;
        let fault = self.faults.get_mut(found)?;
        fault.times = fault.times.map(|times| times - 1);
        Some(fault.effect.clone())
    }
}
