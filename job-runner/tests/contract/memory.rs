//! The contract in its plainest form: a model in memory.

use std::{cell::RefCell, rc::Rc, time::Duration};

use chrono::Utc;
use mapa_refresh_crds::report::FaultClass;
use mapa_refresh_job_runner::{
    database::{Database, DatabaseError, Interrupt, Reading, Refresh, RowSink, name::ColumnNames, name::Identifier},
    domain::{row::Row, time::Stamp},
};
use tokio::time::{Instant, sleep};

use crate::backend::{Backend, names};

type Rows = Rc<Vec<(i64, Option<String>)>>;

#[derive(Default)]
struct State {
    source: Rows,
    rows: Rows,
    stamp: Option<i64>,
    takes: Duration,
    refreshing: bool,
}

pub struct Memory(Rc<RefCell<State>>);

pub struct Session {
    state: Rc<RefCell<State>>,
    view: String,
    columns: ColumnNames,
}

pub struct Nothing;

impl Interrupt for Nothing {
    async fn interrupt(self) {
        // A refresh that is dropped has stopped.
    }
}

/// Held while a refresh goes on; whoever drops the refresh gives it back.
struct Refreshing(Rc<RefCell<State>>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.borrow_mut().refreshing = false;
    }
}

fn now() -> i64 {
    Utc::now().timestamp_micros()
}

fn failed(class: FaultClass, message: String) -> DatabaseError {
    DatabaseError {
        class,
        code: "memory".into(),
        message,
    }
}

impl Session {
    fn demand_view(&self) -> Result<(), DatabaseError> {
        if self.view.eq_ignore_ascii_case("RADAR.MV_PORTAL_PUBLICO") {
            return Ok(());
        }
        Err(failed(
            FaultClass::Permanent,
            format!("there is no {}; check spec.database.view", self.view),
        ))
    }
}

impl Database for Session {
    type Interrupt = Nothing;

    fn interrupt(&self) -> Nothing {
        Nothing
    }

    async fn reading(&mut self) -> Result<Option<Reading>, DatabaseError> {
        self.demand_view()?;
        let at = Instant::now();
        Ok(self.state.borrow().stamp.map(|stamp| Reading {
            stamp: Stamp::from_micros(stamp).unwrap(),
            age_seconds: (now() - stamp) as f64 / 1e6,
            at,
        }))
    }

    async fn refresh(&mut self, is_fresh: &dyn Fn(&Reading) -> bool) -> Result<Refresh, DatabaseError> {
        if let Some(reading) = self.reading().await?.filter(|reading| is_fresh(reading)) {
            return Ok(Refresh::AlreadyFresh(reading));
        }
        if std::mem::replace(&mut self.state.borrow_mut().refreshing, true) {
            return Ok(Refresh::Busy);
        }
        let refreshing = Refreshing(Rc::clone(&self.state));
        let (began, takes) = (now(), self.state.borrow().takes);
        sleep(takes).await;
        {
            let mut state = self.state.borrow_mut();
            state.rows = Rc::clone(&state.source);
            state.stamp = Some(began);
        }
        drop(refreshing);
        let reading = self.reading().await?;
        Ok(Refresh::Done(reading.unwrap()))
    }

    async fn count(&mut self) -> Result<u64, DatabaseError> {
        // As over a network: others get their turn.
        tokio::task::yield_now().await;
        Ok(self.state.borrow().rows.len() as u64)
    }

    async fn read(&mut self, sink: &mut dyn RowSink) -> Result<Reading, DatabaseError> {
        let known = ColumnNames::parse("").unwrap();
        let known: Vec<String> = known.iter().map(Identifier::folded).collect();
        let absent: Vec<_> = self
            .columns
            .iter()
            .map(Identifier::folded)
            .filter(|name| !known.contains(name))
            .collect();
        if !absent.is_empty() {
            return Err(failed(
                FaultClass::Permanent,
                format!("no column {}; name it in spec.database.columns", absent.join(", ")),
            ));
        }
        let Some(reading) = self.reading().await? else {
            return Err(failed(
                FaultClass::Transient,
                "never refreshed; run refresh-mv-portal first".into(),
            ));
        };
        let mut rows = self.state.borrow().rows.to_vec();
        rows.sort();
        sink.begin(&reading);
        for (id, causa) in rows {
            sink.row(&Row {
                id: Some(id.to_string().into()),
                causa: causa.map(Into::into),
                ..Row::default()
            });
        }
        Ok(reading)
    }

    async fn close(self) {}
}

impl Backend for Memory {
    type Session = Session;

    fn new() -> Self {
        Self(Rc::default())
    }

    async fn connect_to(&self, view: &str, columns: &str) -> Result<Session, DatabaseError> {
        let (_, columns) = names(view, columns);
        Ok(Session {
            state: Rc::clone(&self.0),
            view: view.to_owned(),
            columns,
        })
    }

    fn source(&self, outages: &[(i64, Option<&str>)]) {
        self.0.borrow_mut().source = Rc::new(
            outages
                .iter()
                .map(|(id, cause)| (*id, cause.map(str::to_owned)))
                .collect(),
        );
    }

    fn refresh_takes(&self, time: Duration) {
        self.0.borrow_mut().takes = time;
    }

    fn refresh_from_outside(&self) {
        let mut state = self.0.borrow_mut();
        state.rows = Rc::clone(&state.source);
        state.stamp = Some(now());
    }

    fn age_stamp(&self, seconds: i64) -> bool {
        let mut state = self.0.borrow_mut();
        state.stamp = state.stamp.map(|stamp| stamp - seconds * 1_000_000);
        true
    }

    fn is_refreshing(&self) -> bool {
        self.0.borrow().refreshing
    }

    fn let_stamps_differ(&self) {
        std::thread::sleep(Duration::from_millis(1));
    }
}
