//! The end that somebody asks for by Ctrl-C, SIGTERM or SIGHUP: programs that run are ended, no other is started, and what was made is removed.
//!
//! Only a program that [listens](listen) can be interrupted; tests end as their runner wants.

use std::{
    cell::Cell,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{Error, Result, error::Step, progress};

/// How long a program has to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(2);

static STATE: Mutex<State> = Mutex::new(State {
    end: None,
    running: Vec::new(),
});
static CHANGED: Condvar = Condvar::new();

thread_local! {
    static IS_SHIELDED: Cell<bool> = const { Cell::new(false) };
}

struct State {
    end: Option<End>,
    /// Process groups of the programs that run.
    running: Vec<Pid>,
}

/// Why everything ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Asked(Signal),
    /// Work beside it has failed.
    Failed,
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends everything at the first SIGINT, SIGTERM or SIGHUP, and kills at the second what has not ended. A SIGHUP that is ignored (nohup)
/// stays ignored.
///
/// # Errors
/// The system refuses.
pub fn listen() -> Result<()> {
    const STEP: &str = "listen for signals";
    let runtime = runtime::Builder::new_current_thread().enable_io().build().step(STEP)?;
    let _context = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).step(STEP)?;
    let mut terminate = signal(SignalKind::terminate()).step(STEP)?;
    let mut hangup = if is_ignored(Signal::SIGHUP) {
        None
    } else {
        Some(signal(SignalKind::hangup()).step(STEP)?)
    };
    drop(_context);
    std::thread::spawn(move || {
        loop {
            let signal = runtime.block_on(async {
                let hung_up = async {
                    match &mut hangup {
                        Some(hangup) => hangup.recv().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = interrupt.recv() => Signal::SIGINT,
                    _ = terminate.recv() => Signal::SIGTERM,
                    _ = hung_up => Signal::SIGHUP,
                }
            });
            if state().end.is_none() {
                progress::say(&format!("{}: ending everything that was started", signal.as_str()));
                end(End::Asked(signal));
            } else {
                progress::say(&format!("{}: the end is under way already", signal.as_str()));
                end_programs(Signal::SIGKILL);
            }
        }
    });
    Ok(())
}

/// Whether this process was started with `signal` ignored.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1)
}

fn end(why: End) {
    state().end.get_or_insert(why);
    CHANGED.notify_all();
    end_programs(Signal::SIGTERM);
    std::thread::spawn(|| {
        let some_run = |state: &mut State| !state.running.is_empty();
        drop(CHANGED.wait_timeout_while(state(), GRACE, some_run));
        end_programs(Signal::SIGKILL);
    });
}

fn end_programs(signal: Signal) {
    // The lock is held: a program that is waited for meanwhile keeps its number until it is taken from the list.
    for group in &state().running {
        let _ = killpg(*group, signal);
    }
}

/// The signal by which somebody asked for the end.
#[must_use]
pub fn signalled() -> Option<Signal> {
    match state().end {
        Some(End::Asked(signal)) => Some(signal),
        Some(End::Failed) | None => None,
    }
}

/// Waits until somebody asks for the end.
pub fn wait() {
    let waiting = CHANGED.wait_while(state(), |state| state.end.is_none());
    drop(waiting.unwrap_or_else(PoisonError::into_inner));
}

/// Fails when the end was asked for, unless this is [cleaning up](shielded).
///
/// # Errors
/// It was.
pub fn check(step: &str) -> Result<()> {
    if IS_SHIELDED.get() {
        return Ok(());
    }
    match state().end {
        None => Ok(()),
        Some(End::Asked(signal)) => Err(Error::new(step, format!("ended by {}", signal.as_str()))),
        Some(End::Failed) => Err(Error::new(step, "given up, because another step failed")),
    }
}

/// Runs `work`, which cleans up: its programs are started and run to their end although the end was asked for.
pub fn shielded<T>(work: impl FnOnce() -> T) -> T {
    let before = IS_SHIELDED.replace(true);
    let result = work();
    IS_SHIELDED.set(before);
    result
}

/// A program that ends when the end is asked for.
#[derive(Debug)]
pub(crate) struct Ending(Option<Pid>);

impl Ending {
    /// The program that leads the process group `id`.
    pub(crate) fn of(id: u32) -> Self {
        let group = i32::try_from(id).ok().filter(|_| !IS_SHIELDED.get()).map(Pid::from_raw);
        if let Some(group) = group {
            let mut state = state();
            state.running.push(group);
            if state.end.is_some() {
                let _ = killpg(group, Signal::SIGKILL);
            }
        }
        Self(group)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            state().running.retain(|running| *running != group);
            CHANGED.notify_all();
        }
    }
}

/// Runs both at the same time. When one fails the programs of the other end, and the whole program has nothing left to do but to clean up.
///
/// # Errors
/// What failed first.
pub fn side_by_side<A: Send, B: Send>(
    one: impl FnOnce() -> Result<A> + Send,
    other: impl FnOnce() -> Result<B> + Send,
) -> Result<(A, B)> {
    let first_failure = Mutex::new(None);
    let fail = |error: Error| {
        // What fails after that was ended by us.
        first_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        if state().end.is_none() {
            end(End::Failed);
        }
    };
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| one().map_err(fail));
        let other = other().map_err(fail);
        (one.join(), other)
    });
    let one = one.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        _ => Err(first_failure
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .unwrap_or_else(|| Error::new("work side by side", "failed"))),
    }
}
