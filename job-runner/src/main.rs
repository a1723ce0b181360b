//! `job-runner`: see `job-runner --help`.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use chrono::Utc;
use clap::Parser;
use mapa_refresh_crds::policy::{DatabaseKind, TaskName};
use mapa_refresh_job_runner::{
    args::{Args, Command, RunArgs, SchemaArgs, SettingArgs},
    database::{
        name::{ColumnNames, Identifier, ViewName},
        schema,
    },
    exit, report, run,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Run(RunArgs { task, settings }) => run_task(task, &settings),
        Command::HealthCheck(settings) => run_task(TaskName::HealthCheck, &settings),
        Command::Schema(schema) => print_schema(&schema),
        Command::End { code } => ExitCode::from(code),
    }
}

fn run_task(task: TaskName, args: &SettingArgs) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_max_level(args.log_level.unwrap_or(tracing::Level::INFO))
        .with_target(false)
        .init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("no runtime: {error}");
            return ExitCode::from(exit::TRANSIENT);
        }
    };
    let finished = runtime.block_on(async {
        let terminate = CancellationToken::new();
        cancel_on_signals(&terminate);
        run(task, args, terminate, Utc::now).await
    });
    report::write(&finished, &args.termination_message_path);
    log_end(&finished.result);
    exit::end_soon(exit::code(&finished.result));
    // A lookup of a name may hang in its thread: it must not keep the process.
    runtime.shutdown_background();
    exit::exit_code(&finished.result)
}

/// SIGTERM comes from Kubernetes, SIGINT from a person.
fn cancel_on_signals(terminate: &CancellationToken) {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        match signal(kind) {
            Ok(mut signals) => {
                let terminate = terminate.clone();
                tokio::spawn(async move {
                    signals.recv().await;
                    terminate.cancel();
                });
            }
            Err(error) => tracing::warn!("signals are not handled: {error}"),
        }
    }
}

fn log_end(result: &mapa_refresh_crds::report::RunResult) {
    use mapa_refresh_crds::report::RunResult::{Failed, Succeeded};
    match result {
        Succeeded(success) => tracing::info!(kind = ?success.kind, records = success.records, "done"),
        Failed(error) => tracing::error!(class = ?error.class, code = %error.code, "{}", error.message),
    }
}

fn print_schema(args: &SchemaArgs) -> ExitCode {
    match ddl(args) {
        Ok(ddl) => match io::stdout().write_all(ddl.as_bytes()) {
            Ok(()) => ExitCode::from(exit::DONE),
            Err(_) => ExitCode::from(exit::TRANSIENT),
        },
        Err(error) => {
            eprintln!("job-runner: {error}");
            ExitCode::from(exit::PERMANENT)
        }
    }
}

fn ddl(args: &SchemaArgs) -> Result<String, Box<dyn std::error::Error>> {
    let kind = match args.kind.as_str() {
        "postgresql" => DatabaseKind::Postgresql,
        "oracle" => DatabaseKind::Oracle,
        other => return Err(format!("--kind is {other:?}: it should be postgresql or oracle").into()),
    };
    let view = ViewName::parse(&args.view)?;
    let columns = ColumnNames::parse(&args.columns)?;
    let role = Identifier::parse(&args.role)?;
    Ok(schema::ddl(kind, &view, &columns, &role))
}
