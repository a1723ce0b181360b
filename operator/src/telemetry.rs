//! Logs on stderr, and traces where a collector is named.

use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    otlp::{self, OtlpError, Traces},
    settings::{LogFormat, Settings},
};

/// Starts logging, and traces until what is returned is dropped. The level of the logs follows `RUST_LOG`, default `info`.
///
/// # Errors
/// Traces were asked for and cannot be sent; logging has not begun.
pub fn start(settings: &Settings) -> Result<Option<Traces>, OtlpError> {
    let instance = settings
        .election
        .as_ref()
        .map(|election| election.replica_name.as_str());
    let traces = settings
        .collector
        .as_ref()
        .map(|collector| otlp::traces(collector, instance))
        .transpose()?;
    let (traces, spans) = traces.unzip();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let output = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let output = match settings.log_format {
        LogFormat::Text => output
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .boxed(),
        LogFormat::Json => output.json().boxed(),
    };
    let registry = tracing_subscriber::registry()
        .with(spans)
        .with(output.with_filter(filter));
    // A second start in one process (tests) keeps the first.
    let _ = registry.try_init();
    Ok(traces)
}
