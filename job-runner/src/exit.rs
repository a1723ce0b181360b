//! Exit codes, a contract with whoever looks at a pod's state: 0, 1 or 2.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode, abort},
    thread,
    time::Duration,
};

use mapa_refresh_crds::report::{FaultClass, RunResult};

/// The run did what it is for; also when a newer run had done it already.
pub const DONE: u8 = 0;
/// A transient fault outlasted the retries, the documents are too old, or the run was terminated.
pub const TRANSIENT: u8 = 1;
/// A permanent fault or a wrong configuration: somebody has to change something.
pub const PERMANENT: u8 = 2;

/// Once everything is said, the exit handlers of libraries may take so long.
const HANDLERS: Duration = Duration::from_millis(500);

/// The hidden command with which the program ends at once; its argument is the exit code.
pub const END: &str = "end";

/// The exit code of a run that ended with `result`.
#[must_use]
pub fn code(result: &RunResult) -> u8 {
    match result {
        RunResult::Succeeded(_) => DONE,
        RunResult::Failed(error) => match error.class {
            FaultClass::Transient => TRANSIENT,
            FaultClass::Permanent | FaultClass::MissingClient => PERMANENT,
        },
    }
}

/// The same, as the process returns it.
#[must_use]
pub fn exit_code(result: &RunResult) -> ExitCode {
    ExitCode::from(code(result))
}

/// Sees to it that the process ends with `code` within a second, whatever hangs: Oracle's client has exit handlers of its own, and a connection
/// that does not answer must not keep the pod. To be called when the report is written.
pub fn end_soon(code: u8) {
    let watchdog = thread::Builder::new().spawn(move || {
        thread::sleep(HANDLERS);
        // The program takes its own place: that ends every thread, runs no handler, and keeps the exit code, which a signal would not.
        let failed = Command::new("/proc/self/exe").args([END, &code.to_string()]).exec();
        tracing::error!("the process can't end in good order: {failed}");
        abort();
    });
    if let Err(error) = watchdog {
        tracing::warn!("nothing will end the process should it hang: {error}");
    }
}

#[cfg(test)]
mod tests {
    use mapa_refresh_crds::report::RunError;

    use super::*;

    #[test]
    fn lesson_05_a_failure_never_exits_with_0() {
        for (class, expected) in [
            (FaultClass::Transient, 1),
            (FaultClass::Permanent, 2),
            (FaultClass::MissingClient, 2),
        ] {
            let failed = RunResult::Failed(RunError {
                class,
                code: "57P03".into(),
                message: "x".into(),
            });
            assert_eq!(code(&failed), expected);
        }
    }
}
