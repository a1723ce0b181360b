//! A session: one connection, one request after the other; a break reaches it between the two.

use std::{
    collections::HashMap,
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    block::{self, Block},
    protocol::{Ora, Request, Response, receive, send},
    select::{self, Snapshot},
    server::Shared,
    value::Value,
    world::{Effect, Logon, Point, Rows},
};

/// Serves a connection until it ends.
pub(crate) fn serve(stream: TcpStream, shared: &Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok(mut reader) = stream.try_clone() else { return };
    let (tell, inbox) = channel();
    // Requests are read beside the work, so that a break is seen, and an end of the connection, too.
    thread::spawn(move || {
        while let Ok(request) = receive::<Request>(&mut reader) {
            if tell.send(request).is_err() {
                return;
            }
        }
    });
    let id = shared.next_session.fetch_add(1, Ordering::SeqCst);
    let mut session = Session {
        id,
        shared: Arc::clone(shared),
        inbox,
        user: None,
        snapshot: None,
        cursors: HashMap::new(),
        next_cursor: 1,
    };
    session.work(&stream);
    let _ = stream.shutdown(Shutdown::Both);
}

pub(crate) struct Session {
    id: u64,
    shared: Arc<Shared>,
    inbox: Receiver<Request>,
    user: Option<String>,
    /// What a read-only transaction sees.
    snapshot: Option<Snapshot>,
    cursors: HashMap<u32, Cursor>,
    next_cursor: u32,
}

struct Cursor {
    sql: String,
    rows: Rows,
    at: usize,
}

/// Why a request has no ordinary answer.
pub(crate) enum End {
    /// An error.
    Ora(Ora),
    /// The connection is gone, or has to go.
    Gone,
}

impl From<Ora> for End {
    fn from(ora: Ora) -> Self {
        Self::Ora(ora)
    }
}

impl Session {
    fn work(&mut self, mut stream: &TcpStream) {
        while let Ok(request) = self.inbox.recv() {
            let began = Instant::now();
            let answer = match self.answer(request) {
                Ok(None) => continue,
                Ok(Some(answer)) => answer,
                Err(End::Ora(ora)) => Response::Failed(ora),
                Err(End::Gone) => break,
            };
            let sent = send(&mut stream, &answer);
            self.shared.world().busy += began.elapsed();
            if sent.is_err() {
                break;
            }
        }
        self.log_off();
    }

    fn answer(&mut self, request: Request) -> Result<Option<Response>, End> {
        Ok(Some(match request {
            // It came too late: what it was to stop has ended.
            Request::Break => return Ok(None),
            Request::Attach { service } => self.attach(&service)?,
            Request::Begin { user, password } => self.begin(user, password)?,
            Request::Execute { sql, binds } => self.execute(sql, binds)?,
            Request::Fetch { cursor, rows } => self.fetch(cursor, rows as usize)?,
            Request::Close { cursor } => {
                self.cursors.remove(&cursor);
                Response::Done
            }
            Request::Commit => self.end_transaction(Point::Commit)?,
            Request::Rollback => self.end_transaction(Point::Rollback)?,
            Request::Ping => {
                self.suffer(Point::Ping, "", 0)?;
                Response::Done
            }
            Request::End => {
                self.log_off();
                Response::Done
            }
        }))
    }

    fn attach(&mut self, service: &str) -> Result<Response, End> {
        self.suffer(Point::Attach, "", 0)?;
        if self.shared.world().service.eq_ignore_ascii_case(service) {
            Ok(Response::Done)
        } else {
            Err(Ora::new(
                12514,
                "TNS:listener does not currently know of service requested in connect descriptor",
            )
            .into())
        }
    }

    fn begin(&mut self, user: Option<String>, password: Option<String>) -> Result<Response, End> {
        let user = user.unwrap_or_else(|| "WALLET".to_owned()).to_ascii_uppercase();
        let right = {
            let mut world = self.shared.world();
            let right = world
                .users
                .get(&user)
                .is_some_and(|expected| Some(expected.as_str()) == password.as_deref());
            world.logons.push(Logon {
                user: user.clone(),
                accepted: right,
            });
            right
        };
        self.shared.notify();
        self.suffer(Point::Begin, "", 0)?;
        if !right {
            return Err(Ora::new(1017, "invalid username/password; logon denied").into());
        }
        self.user = Some(user);
        let mut world = self.shared.world();
        world.sessions.push(self.id);
        let break_fault = world.faults.iter().find_map(|fault| match (fault.at, &fault.effect) {
            (Point::Break, Effect::Error(ora)) => Some(ora.clone()),
            _ => None,
        });
        Ok(Response::Begun {
            break_fault,
            warning: world.logon_warning.clone(),
            hangs_at_exit: world.clients_hang_at_exit,
        })
    }

    fn execute(&mut self, sql: String, mut binds: Vec<Value>) -> Result<Response, End> {
        self.shared.world().statements.push(sql.clone());
        self.shared.notify();
        self.suffer(Point::Execute, &sql, 0)?;
        let user = self.user.clone().ok_or_else(|| Ora::new(1012, "not logged on"))?;
        let first = sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        match first.as_str() {
            "SELECT" => {
                let (columns, rows) = select::run(&sql, &binds, &user, &self.shared.world(), self.snapshot.as_ref())?;
                let cursor = self.next_cursor;
                self.next_cursor += 1;
                self.cursors.insert(cursor, Cursor { sql, rows, at: 0 });
                Ok(Response::Opened { cursor, columns })
            }
            "SET" if normalised(&sql) == "SET TRANSACTION READ ONLY" => {
                self.snapshot = Some(Snapshot::of(&self.shared.world()));
                Ok(Response::Ran { binds })
            }
            "BEGIN" => {
                let block = block::parse(&sql)?;
                self.run_block(&block, &user, &mut binds)?;
                Ok(Response::Ran { binds })
            }
            _ => Err(Ora::new(900, &format!("the OCI stub does not know this statement: {sql}")).into()),
        }
    }

    fn run_block(&mut self, block: &Block, user: &str, binds: &mut [Value]) -> Result<(), End> {
        match block {
            Block::Refresh { list, atomic, complete } => {
                let name = list.of(binds)?;
                self.refresh(user, &name, *atomic, *complete)
            }
            Block::Request { result, id } => {
                let id: i64 = id
                    .of(binds)?
                    .parse()
                    .map_err(|_| Ora::new(6502, "PL/SQL: numeric or value error"))?;
                self.demand_dbms_lock()?;
                let status = self.request_lock(id);
                result.set(binds, Value::int(status))?;
                Ok(())
            }
            Block::Call { owner, name } => self.call(user, owner, name),
            Block::Release { result, id } => {
                let id: i64 = id
                    .of(binds)?
                    .parse()
                    .map_err(|_| Ora::new(6502, "PL/SQL: numeric or value error"))?;
                self.demand_dbms_lock()?;
                let mut world = self.shared.world();
                // 4: not owned.
                let status = if world.locks.get(&id) == Some(&self.id) {
                    world.locks.remove(&id);
                    0
                } else {
                    4
                };
                drop(world);
                self.shared.notify();
                result.set(binds, Value::int(status))?;
                Ok(())
            }
        }
    }

    /// Runs a procedure with the rights of its owner.
    fn call(&mut self, user: &str, owner: &str, name: &str) -> Result<(), End> {
        let key = (owner.to_owned(), name.to_owned());
        let procedure = self.shared.world().procedures.get(&key).cloned();
        match procedure.filter(|procedure| user == owner || procedure.executors.iter().any(|other| other == user)) {
            Some(procedure) => self.refresh(owner, &procedure.list, true, true),
            None => Err(undeclared(&format!("{owner}.{name}")).into()),
        }
    }

    fn demand_dbms_lock(&self) -> Result<(), Ora> {
        if self.shared.world().dbms_lock_granted {
            return Ok(());
        }
        Err(undeclared("DBMS_LOCK"))
    }

    /// 0: granted. 1: held by another session. 4: held already.
    fn request_lock(&self, id: i64) -> i64 {
        let mut world = self.shared.world();
        let status = match world.locks.get(&id) {
            Some(holder) if *holder == self.id => 4,
            Some(_) => 1,
            None => {
                world.locks.insert(id, self.id);
                0
            }
        };
        drop(world);
        self.shared.notify();
        status
    }

    fn refresh(&mut self, user: &str, list: &str, atomic: bool, complete: bool) -> Result<(), End> {
        if !complete {
            return Err(Ora::new(12004, "REFRESH FAST cannot be used for the OCI stub's views").into());
        }
        let key = select::relation(list, user);
        // The refresh commits what was before it.
        self.snapshot = None;
        self.enqueue(&key, user)?;
        let began = self.shared.world().sysdate();
        let result = self.fill(&key, atomic);
        let mut world = self.shared.world();
        if let Some(view) = world.views.get_mut(&key) {
            view.refreshing = None;
            if result.is_ok() {
                view.rows = Arc::clone(&view.source);
                if !view.stamp_stands {
                    view.last_refresh = Some(began);
                }
            }
        }
        drop(world);
        self.shared.notify();
        result
    }

    /// Waits for the JI enqueue, as a second refresh does.
    fn enqueue(&mut self, key: &(String, String), user: &str) -> Result<(), End> {
        loop {
            {
                let mut world = self.shared.world();
                let may = key.0 == user || world.refreshers.iter().any(|other| other == user);
                let name = format!("\"{}\".\"{}\"", key.0, key.1);
                let Some(view) = world.views.get_mut(key).filter(|view| view.is_materialized) else {
                    return Err(stacked(&Ora::new(23401, &format!("materialized view {name} does not exist"))).into());
                };
                if !may {
                    return Err(stacked(&Ora::new(1031, "insufficient privileges")).into());
                }
                if view.refreshing.is_none() {
                    view.refreshing = Some(self.id);
                    break;
                }
            }
            self.pause(Duration::from_millis(10))?;
        }
        self.shared.notify();
        Ok(())
    }

    fn fill(&mut self, key: &(String, String), atomic: bool) -> Result<(), End> {
        let (takes, fails) = {
            let mut world = self.shared.world();
            let Some(view) = world.views.get_mut(key) else {
                return Ok(());
            };
            if !atomic {
                // Truncated first: readers see an empty view meanwhile.
                view.rows = Rows::default();
            }
            (view.refresh_takes, view.query_fails.clone())
        };
        self.pause(takes)?;
        match fails {
            Some(ora) => Err(Ora {
                code: 12008,
                message: format!("ORA-12008: error in materialized view or zonemap refresh path\n{}\nORA-06512: at \"SYS.DBMS_SNAPSHOT_KKXRCA\", line 3020", ora.message),
            }
            .into()),
            None => Ok(()),
        }
    }

    fn fetch(&mut self, cursor: u32, rows: usize) -> Result<Response, End> {
        let Some((sql, at)) = self.cursors.get(&cursor).map(|cursor| (cursor.sql.clone(), cursor.at)) else {
            return Err(Ora::new(1001, "invalid cursor").into());
        };
        self.suffer(Point::Fetch, &sql, at)?;
        let cursor = self.cursors.get_mut(&cursor).ok_or(End::Gone)?;
        let batch: Vec<_> = cursor.rows.iter().skip(cursor.at).take(rows).cloned().collect();
        cursor.at += batch.len();
        Ok(Response::Rows { rows: batch })
    }

    fn end_transaction(&mut self, point: Point) -> Result<Response, End> {
        self.suffer(point, "", 0)?;
        self.snapshot = None;
        Ok(Response::Done)
    }

    /// Lets happen what is to go wrong here.
    fn suffer(&mut self, at: Point, sql: &str, fetched: usize) -> Result<(), End> {
        let effect = self.shared.world().strike(at, sql, fetched);
        match effect {
            None => Ok(()),
            Some(Effect::Error(ora)) => Err(End::Ora(ora)),
            Some(Effect::Disconnect) => Err(End::Gone),
            Some(Effect::Hang { heeds_break: true }) => self.pause(Duration::MAX),
            Some(Effect::Hang { heeds_break: false }) => loop {
                match self.inbox.recv() {
                    Ok(_) => {}
                    Err(_) => return Err(End::Gone),
                }
            },
        }
    }

    /// Lets time pass, unless the session is stopped or its client goes.
    fn pause(&mut self, time: Duration) -> Result<(), End> {
        let ends = Instant::now().checked_add(time);
        loop {
            let left = ends.map_or(Duration::from_secs(3_600), |ends| {
                ends.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return Ok(());
            }
            match self.inbox.recv_timeout(left) {
                Ok(Request::Break) => return Err(Ora::new(1013, "user requested cancel of current operation").into()),
                Ok(_) => {
                    return Err(Ora::new(3127, "no new operations allowed until the active operation ends").into());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(End::Gone),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn log_off(&mut self) {
        let mut world = self.shared.world();
        world.sessions.retain(|id| *id != self.id);
        world.locks.retain(|_, holder| *holder != self.id);
        for view in world.views.values_mut() {
            view.refreshing = view.refreshing.filter(|id| *id != self.id);
        }
        drop(world);
        self.user = None;
        self.shared.notify();
    }
}

/// What is not there, or not for this user.
fn undeclared(identifier: &str) -> Ora {
    Ora {
        code: 6550,
        message: format!(
            "ORA-06550: line 1, column 14:\nPLS-00201: identifier '{identifier}' must be declared\nORA-06550: line 1, column 7:\nPL/SQL: Statement ignored"
        ),
    }
}

/// As DBMS_MVIEW raises it.
fn stacked(ora: &Ora) -> Ora {
    Ora {
        code: ora.code,
        message: format!(
            "{}\nORA-06512: at \"SYS.DBMS_SNAPSHOT_KKXRCA\", line 3012\nORA-06512: at line 1",
            ora.message
        ),
    }
}

/// In upper case, with single blanks.
pub(crate) fn normalised(sql: &str) -> String {
    sql.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_ascii_uppercase()
}
