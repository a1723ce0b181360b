//! Time and memory of a program that runs to its end.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use nix::sys::time::TimeValLike;

/// The first argument by which this program measures another one's peak memory.
pub const MEASURE: &str = "--measure-peak-memory-of";

/// What a program took.
pub struct Measured {
    /// From its start to its exit.
    pub wall: Duration,
    /// Of all its threads, in the kernel too: unlike the time on the wall, it hardly depends on what else the machine does.
    pub cpu: Duration,
    /// Peak of its resident memory.
    pub peak_mb: f64,
}

impl Measured {
    /// In milliseconds.
    pub fn wall_ms(&self) -> f64 {
        self.wall.as_secs_f64() * 1e3
    }

    /// In milliseconds.
    pub fn cpu_ms(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3
    }
}

/// The fastest of ten: what the program costs, without what the machine did meanwhile.
pub fn best(mut run: impl FnMut() -> Measured) -> Measured {
    (0..10).map(|_| run()).min_by_key(|measured| measured.wall).unwrap()
}

/// The same of something that is no program of its own.
pub fn best_time(mut run: impl FnMut()) -> Duration {
    let timed = |run: &mut dyn FnMut()| {
        let started = Instant::now();
        run();
        started.elapsed()
    };
    (0..10).map(|_| timed(&mut run)).min().unwrap()
}

/// Runs the program that `build` names and gives its arguments to; its exit code is to be one of `codes`.
pub fn measured(build: impl FnOnce(&mut Command), codes: &[i32]) -> Measured {
    let mut command = Command::new(std::env::current_exe().unwrap());
    build(command.arg(MEASURE));
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(
        status.code().is_some_and(|code| codes.contains(&code)),
        "{command:?}: {status}: {said}"
    );
    let numbers: Vec<u64> = said
        .lines()
        .last()
        .unwrap()
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "megabytes, to be read by people")]
    Measured {
        wall: Duration::from_micros(numbers[0]),
        cpu: Duration::from_micros(numbers[1]),
        peak_mb: numbers[2] as f64 / 1024.0,
    }
}

/// Runs a program as our only child, so that the peak of all children is its own; tells its time on the
/// wall and of the processors in microseconds and its memory in kilobytes as the last line.
pub fn measure(command: &[String]) {
    let started = Instant::now();
    let status = Command::new(&command[0]).args(&command[1..]).status().unwrap();
    let wall = started.elapsed();
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    let cpu = [usage.user_time(), usage.system_time()].map(|time| time.num_microseconds());
    eprintln!("{} {} {}", wall.as_micros(), cpu[0] + cpu[1], usage.max_rss());
    std::process::exit(status.code().unwrap_or(1));
}
