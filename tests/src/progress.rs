//! Progress of long work, on the process's real stderr, which test runners do not capture.

use std::{
    io::Write,
    time::{Duration, Instant},
};

/// Says one line.
pub fn say(line: &str) {
    // Nobody to tell is no reason to fail.
    let _ = writeln!(std::io::stderr(), "    {line}");
}

/// Runs `work`, saying what it is, and every 20 s that it still is.
pub fn during<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    say(&format!("{what} …"));
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let label = what.to_owned();
    let ticker = std::thread::spawn(move || {
        while is_done.recv_timeout(Duration::from_secs(20)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            say(&format!("{label} … {} s", started.elapsed().as_secs()));
        }
    });
    let result = work();
    drop(done);
    let _ = ticker.join();
    say(&format!("{what}: {:.1} s", started.elapsed().as_secs_f64()));
    result
}
