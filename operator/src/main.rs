//! The operator's binary.

use std::process::ExitCode;

use clap::Parser;
use mapa_refresh_operator::{
    run,
    settings::{Arguments, Command},
    telemetry,
};

fn main() -> ExitCode {
    let Command::Run(arguments) = Arguments::parse().command;
    let settings = match arguments.settings() {
        Ok(settings) => settings,
        // The file says in which format to log: until it is read there is no log.
        Err(error) => {
            eprintln!("mapa-refresh-operator: {error}");
            return ExitCode::FAILURE;
        }
    };
    telemetry::start(settings.log_format);
    match run::until_terminated(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot run");
            ExitCode::FAILURE
        }
    }
}
