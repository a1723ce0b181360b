//! The operator's binary.

use std::process::ExitCode;

use clap::Parser;
use mapa_refresh_operator::{
    run,
    settings::{Arguments, Command},
    telemetry,
};

fn main() -> ExitCode {
    let Command::Run(settings) = Arguments::parse().command;
    telemetry::start(settings.log_format);
    match run::until_terminated(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot run");
            ExitCode::FAILURE
        }
    }
}
