//! Exit codes, a contract with whoever looks at a pod's state: 0, 1 or 2.

use std::process::ExitCode;

use mapa_refresh_crds::report::{FaultClass, RunResult};

/// The run did what it is for; also when a newer run had done it already.
pub const DONE: u8 = 0;
/// A transient fault outlasted the retries, the documents are too old, or the run was terminated.
pub const TRANSIENT: u8 = 1;
/// A permanent fault or a wrong configuration: somebody has to change something.
pub const PERMANENT: u8 = 2;

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
