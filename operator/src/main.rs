//! The operator's binary.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use mapa_refresh_operator::{
    clock::Clock,
    explain::{Answer, explain},
    run,
    self_test::self_test,
    settings::{Arguments, Command, RunArguments},
    simulate::simulate,
    telemetry,
};

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => reconcile(arguments),
        Command::Explain(settings) => say(&explain(&settings, Clock::system().now())),
        Command::Simulate(settings) => say(&simulate(&settings, Clock::system().now())),
        Command::SelfTest(settings) => say(&self_test(&settings)),
    }
}

fn reconcile(arguments: RunArguments) -> ExitCode {
    let settings = match arguments.settings() {
        Ok(settings) => settings,
        // The file says in which format to log: until it is read there is no log.
        Err(error) => {
            eprintln!("mapa-refresh-operator: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Dropped last: what a reconcile did at the end is traced too.
    let _traces = match telemetry::start(&settings) {
        Ok(traces) => traces,
        Err(error) => {
            eprintln!("mapa-refresh-operator: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(collector) = &settings.collector {
        tracing::info!(%collector, "sending traces");
    }
    match run::until_terminated(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot run");
            ExitCode::FAILURE
        }
    }
}

fn say(answer: &Answer) -> ExitCode {
    // Whoever reads may have read enough (`| head`): that is no fault of the answer.
    let _ = io::stdout().lock().write_all(answer.stdout.as_bytes());
    let _ = io::stderr().lock().write_all(answer.stderr.as_bytes());
    ExitCode::from(answer.exit_code)
}
