//! Traces of reconciles, sent to a collector by OTLP over HTTP.
//!
//! A reconcile is a trace, and each request that it makes to the API server a span of it. What the field's conventions have as environment
//! variables holds here too: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
//! `OTEL_TRACES_SAMPLER` and `OTEL_BSP_*`.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tracing::{Metadata, info, level_filters::LevelFilter, warn};
use tracing_subscriber::{
    Layer,
    filter::DynFilterFn,
    layer::Context,
    registry::{LookupSpan, Registry},
};

use crate::collector::Collector;

/// What the traces are from, unless `OTEL_SERVICE_NAME` says otherwise.
const SERVICE: &str = "mapa-refresh-operator";
/// What traces begin at, and the requests within them.
const OURS: &str = env!("CARGO_CRATE_NAME");
const REQUESTS: &str = "kube_client";
/// Files with the authorities that a collector's certificate is checked by, instead of the public ones; the first that is set holds
/// (OpenTelemetry Protocol Exporter, Certificate File).
const AUTHORITIES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
];
/// Longest that a collector may take for one batch.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest that the process waits at its end for the last batch.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A collector answers with a few bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// No runtime for their requests.
    #[error("could not start the sender of traces: {0}")]
    Runtime(#[source] std::io::Error),
    /// No TLS.
    #[error("could not set up TLS for traces: {0}")]
    Tls(#[source] rustls::Error),
    /// The file of authorities is none.
    #[error("could not read the collector's authorities (OTEL_EXPORTER_OTLP_CERTIFICATE) from {}: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An environment variable of OpenTelemetry is wrong.
    #[error("could not set up traces (look at the environment's OTEL_ variables): {0}")]
    Exporter(#[source] ExporterBuildError),
}

/// The sending of traces, until it is dropped.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

/// Traces to `collector`, and the layer of `tracing` that makes them. `instance` is which of several operators this is.
///
/// # Errors
/// The environment says what cannot be meant, or this machine has no room.
pub fn traces(
    collector: &Collector,
    instance: Option<&str>,
) -> Result<(Traces, impl Layer<Registry> + Send + Sync + use<>), OtlpError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Sender::to(collector)?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(collector.traces())
        .with_timeout(ANSWER_WITHIN)
        .build()
        .map_err(OtlpError::Exporter)?;
    let service = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    let instance = instance.map(|instance| KeyValue::new("service.instance.id", instance.to_owned()));
    let resource = Resource::builder()
        .with_service_name(service.unwrap_or_else(|| SERVICE.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(instance)
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SERVICE))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(DynFilterFn::new(is_traced).with_max_level_hint(LevelFilter::DEBUG));
    Ok((Traces(provider), layer))
}

/// Reconciles, what is said within them, and their requests. Watches, leases and probes belong to none.
fn is_traced<S>(metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let of = |name: &str| metadata.target().split("::").next() == Some(name);
    if metadata.is_span() && of(OURS) {
        return true;
    }
    let said = metadata.is_event() && of(OURS) && *metadata.level() <= LevelFilter::INFO;
    let asked = metadata.is_span() && of(REQUESTS);
    (said || asked) && context.lookup_current().is_some()
}

impl Drop for Traces {
    /// Sends what is left, within half a second.
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_WORDS) {
            warn!(%error, "the last traces were not sent");
        }
    }
}

/// Sends batches, from the exporter's own thread.
struct Sender {
    collector: Collector,
    // That thread belongs to no runtime: a client of its own waits there, and the operator's work is not held up by a slow collector.
    runtime: tokio::runtime::Runtime,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    is_refused: AtomicBool,
}

impl Sender {
    fn to(collector: &Collector) -> Result<Self, OtlpError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(OtlpError::Runtime)?;
        let connector = HttpsConnectorBuilder::new();
        let named = AUTHORITIES
            .iter()
            .find_map(|name| std::env::var_os(name).filter(|path| !path.is_empty()));
        let connector = match named {
            Some(path) => connector.with_tls_config(trusting(Path::new(&path))?),
            None => connector
                .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
                .map_err(OtlpError::Tls)?,
        };
        let connector = connector.https_or_http().enable_http1().build();
        // Between two batches nobody would see that a connection ended.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self {
            collector: collector.clone(),
            runtime,
            client,
            is_refused: AtomicBool::new(false),
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = async {
            let answer = self.client.request(request.map(Full::new)).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        tokio::time::timeout(ANSWER_WITHIN, answer)
            .await
            .unwrap_or_else(|elapsed| Err(elapsed.into()))
    }

    /// Says when traces begin to be lost, and when they are taken again; not of each batch.
    fn tell(&self, outcome: &Result<Response<Bytes>, HttpError>) {
        let refusal = match outcome {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(refusal(answer.status())),
            Err(error) => Some(chain(error.as_ref())),
        };
        let was_refused = self.is_refused.swap(refusal.is_some(), Ordering::Relaxed);
        match refusal {
            Some(reason) if !was_refused => {
                warn!(collector = %self.collector, reason, "traces are lost: the collector does not take them");
            }
            None if was_refused => info!(collector = %self.collector, "the collector takes traces again"),
            _ => {}
        }
    }
}

/// TLS with servers whose certificate is from one of the authorities in the PEM file at `path`.
fn trusting(path: &Path) -> Result<ClientConfig, OtlpError> {
    let wrong = |reason: String| OtlpError::Authorities {
        path: path.to_owned(),
        reason,
    };
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        authorities.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if authorities.is_empty() {
        return Err(wrong("it has no certificate in PEM".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(OtlpError::Tls)?;
    Ok(config.with_root_certificates(authorities).with_no_client_auth())
}

fn refusal(status: StatusCode) -> String {
    let remedy = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; its credentials are OTEL_EXPORTER_OTLP_HEADERS",
        StatusCode::NOT_FOUND => "; give the address above /v1/traces",
        _ => "",
    };
    format!("it answered {status}{remedy}")
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("collector", &self.collector)
            .finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let outcome = self.runtime.block_on(self.send(request));
        self.tell(&outcome);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_authorities_that_is_none_is_named_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (name, content, why) in [
            ("absent.pem", None, ""),
            ("empty.pem", Some("no certificate\n"), "no certificate in PEM"),
            ("broken.pem", Some(broken), "invalid"),
        ] {
            let path = folder.path().join(name);
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let said = trusting(&path).unwrap_err().to_string();
            assert!(
                said.contains("OTEL_EXPORTER_OTLP_CERTIFICATE") && said.contains(name) && said.contains(why),
                "{said}"
            );
        }
    }
}
