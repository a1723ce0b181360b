//! `kubectl mapa`: the plugin for kubectl. One file for each sub-command; what it says is worked out apart from what it asks the
//! cluster.

pub mod arguments;
pub mod brief;
pub mod cluster;
pub mod completion;
pub mod doctor;
pub mod error;
pub mod explain;
pub mod nearest;
pub mod output;
pub mod policies;
pub mod rows;
pub mod runs;
pub mod standing;
pub mod status;
pub mod terminal;
pub mod trigger;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use cluster::Cluster;
use error::PluginError;

/// Exit code: everything that was asked is well.
pub const WELL: u8 = 0;
/// Exit code: something is not, or is not known.
pub const NOT_WELL: u8 = 1;
/// Exit code: the question was wrong, or the cluster does not answer it.
pub const NO_ANSWER: u8 = 2;
/// Exit code of `trigger --wait`: neither published nor failed in time.
pub const TIMED_OUT: u8 = 3;

/// Carries out what the command line asks for.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let code = match &arguments.command {
        Command::Completion(asked) => completion::print_script(asked),
        Command::Complete(asked) => completion::candidates(asked),
        command => on_cluster(arguments, command),
    };
    ExitCode::from(code.unwrap_or_else(|error| {
        terminal::complain(&error);
        NO_ANSWER
    }))
}

fn on_cluster(arguments: &Arguments, command: &Command) -> Result<u8, PluginError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(PluginError::Runtime)?;
    runtime.block_on(async {
        let cluster = Cluster::connect(&arguments.cluster)?;
        match command {
            Command::Status(asked) => status::run(&cluster, asked).await,
            Command::Runs(asked) => runs::run(&cluster, asked).await,
            Command::Trigger(asked) => trigger::run(&cluster, asked).await,
            Command::Explain(asked) => explain::run(&cluster, asked).await,
            Command::Doctor(asked) => doctor::run(&cluster, asked).await,
            // They need no cluster.
            Command::Completion(_) | Command::Complete(_) => Ok(WELL),
        }
    })
}
