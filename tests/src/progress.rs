//! Progress of long work, on the process's real stderr, which test runners do not capture.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::interrupt;

/// The line of the whole, which stays below all others on a terminal; empty while there is none.
static BOTTOM: Mutex<Option<String>> = Mutex::new(None);

fn bottom() -> MutexGuard<'static, Option<String>> {
    BOTTOM.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says one line.
pub fn say(line: &str) {
    write(&format!("    {line}\n"), &bottom());
}

/// Writes `text` above the line of the whole.
fn write(text: &str, bottom: &Option<String>) {
    let mut stderr = std::io::stderr();
    let written = match bottom {
        // The line is cut at the edge of the terminal: broken in two it could not be overwritten.
        Some(line) if stderr.is_terminal() => format!("\r\x1b[K{text}\x1b[?7l    {line}\x1b[?7h"),
        _ => text.to_owned(),
    };
    // Nobody to tell is no reason to fail.
    let _ = stderr.write_all(written.as_bytes()).and_then(|()| stderr.flush());
}

/// Runs `work`, saying what it is, and every 20 s that it still is; below the line of a whole only how long it took.
pub fn during<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let is_part = bottom().is_some();
    if !is_part {
        say(&format!("{what} …"));
    }
    let label = what.to_owned();
    let ticker = (!is_part).then(|| {
        Ticker::start(Duration::from_secs(20), move || {
            say(&format!("{label} … {} s", started.elapsed().as_secs()));
        })
    });
    let result = work();
    drop(ticker);
    // A step that was broken off is not reported as done.
    if interrupt::check(what).is_ok() {
        say(&format!("{what}: {:.1} s", started.elapsed().as_secs_f64()));
    }
    result
}

/// Calls something again and again until it is dropped.
struct Ticker(Option<(Sender<()>, JoinHandle<()>)>);

impl Ticker {
    fn start(every: Duration, mut tick: impl FnMut() + Send + 'static) -> Self {
        let (done, is_done) = channel::<()>();
        let thread = std::thread::spawn(move || {
            while is_done.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                tick();
            }
        });
        Self(Some((done, thread)))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.0.take() {
            drop(done);
            let _ = thread.join();
        }
    }
}

/// A part of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What is done, in a word or two.
    pub name: &'static str,
    /// How long it takes; empty where that is not worth a word.
    pub takes: &'static str,
}

/// Long work of several parts, with one progress line: which parts are done, running and next. On a terminal
/// the line is overwritten; in a log it is written when it changes, and every minute.
pub struct Whole {
    parts: Arc<Mutex<Vec<(Part, State)>>>,
    ticker: Option<Ticker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    Runs,
    Done,
}

impl Whole {
    /// Work of these parts, of which none has begun.
    #[must_use]
    pub fn new(parts: &[Part]) -> Self {
        let parts: Arc<Mutex<Vec<_>>> = Arc::new(Mutex::new(parts.iter().map(|part| (*part, State::Waits)).collect()));
        let started = Instant::now();
        let watched = Arc::clone(&parts);
        let mut last = (Vec::new(), started);
        *bottom() = Some(String::new());
        let ticker = Ticker::start(Duration::from_secs(1), move || {
            // What is ended is no progress.
            if interrupt::check("report progress").is_err() {
                return;
            }
            let parts = watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let line = line(&parts, started.elapsed());
            let mut bottom = bottom();
            *bottom = Some(line.clone());
            let is_terminal = std::io::stderr().is_terminal();
            // A log gets a line for each change of the parts, and one a minute while nothing changes.
            if is_terminal || last.0 != parts || last.1.elapsed() >= Duration::from_secs(60) {
                last = (parts, Instant::now());
                let text = if is_terminal {
                    String::new()
                } else {
                    format!("    {line}\n")
                };
                write(&text, &bottom);
            }
        });
        Self {
            parts,
            ticker: Some(ticker),
        }
    }

    /// Runs `work` as `part`.
    ///
    /// # Errors
    /// Those of `work`; the part is not done then.
    pub fn part<T, E>(&self, part: Part, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.set(part, State::Runs);
        let result = work();
        self.set(part, if result.is_ok() { State::Done } else { State::Waits });
        result
    }

    fn set(&self, part: Part, state: State) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, its_state) in parts.iter_mut().filter(|(known, _)| *known == part) {
            *its_state = state;
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        // It would write the line again.
        self.ticker = None;
        let mut bottom = bottom();
        if bottom.take().is_some_and(|line| !line.is_empty()) && std::io::stderr().is_terminal() {
            write("\r\x1b[K", &None);
        }
    }
}

/// How far the whole is.
fn line(parts: &[(Part, State)], elapsed: Duration) -> String {
    let of = |state: State| {
        let names: Vec<String> = parts
            .iter()
            .filter(|(_, its_state)| *its_state == state)
            .map(|(part, _)| match part.takes {
                "" => part.name.to_owned(),
                takes => format!("{} ({takes})", part.name),
            })
            .collect();
        names.join(", ")
    };
    let done = parts.iter().filter(|(_, state)| *state == State::Done).count();
    let (minutes, seconds) = (elapsed.as_secs() / 60, elapsed.as_secs() % 60);
    let mut line = format!("[{done} of {} done, {minutes}:{seconds:02}]", parts.len());
    for (title, names) in [("now", of(State::Runs)), ("next", of(State::Waits))] {
        if !names.is_empty() {
            line.push_str(&format!(" {title}: {names};"));
        }
    }
    line.trim_end_matches(';').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Part, State, line};

    #[test]
    fn one_line_says_what_is_done_what_runs_and_what_comes_next() {
        let part = |name, takes| Part { name, takes };
        let parts = [
            (part("packages", ""), State::Done),
            (part("Kubernetes", "4 to 10 min"), State::Runs),
            (part("downloads", ""), State::Runs),
            (part("images", "4 min"), State::Waits),
            (part("cluster", ""), State::Waits),
        ];
        assert_eq!(
            line(&parts, Duration::from_secs(95)),
            "[1 of 5 done, 1:35] now: Kubernetes (4 to 10 min), downloads; next: images (4 min), cluster"
        );
        let done = parts.map(|(part, _)| (part, State::Done));
        assert_eq!(line(&done, Duration::from_secs(601)), "[5 of 5 done, 10:01]");
    }
}
