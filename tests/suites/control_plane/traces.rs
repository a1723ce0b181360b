//! Traces of reconciles, as a collector gets them.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use mapa_refresh_tests::{
    operator::Operator,
    wait::{self, Look},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, status::StatusCode as SpanStatus},
};
use prost::Message;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    permissions,
    world::{Test, World},
};

pub const TESTS: &[Test] = &[
    (
        "traces::a_reconcile_is_a_trace_with_its_requests_and_the_last_ones_are_sent_at_the_end",
        sent,
    ),
    (
        "traces::a_collector_that_refuses_or_is_away_is_named_once_and_costs_nothing_else",
        refused,
    ),
    ("traces::a_reconcile_that_failed_is_a_trace_with_its_error", failed),
    (
        "traces::a_collector_over_tls_is_trusted_by_the_authorities_that_are_named_and_by_no_others",
        over_tls,
    ),
];

/// A span, and of which service.
#[derive(Clone)]
struct Sent {
    service: Vec<KeyValue>,
    span: Span,
}

impl Sent {
    fn is(&self, name: &str) -> bool {
        self.span.name == name
    }

    fn has(&self, key: &str, wanted: &str) -> bool {
        text(&self.span.attributes, key).as_deref() == Some(wanted)
    }

    /// Whether it is a request to the API server with this method.
    fn is_request(&self, method: &str) -> bool {
        self.has("http.method", method)
    }
}

/// A collector of traces, on a port of its own, until it is dropped.
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Sent>>>,
    /// What the requests had as their header `x-key`.
    keys: Arc<Mutex<Vec<String>>>,
    refuses: Arc<AtomicBool>,
    scheme: &'static str,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Collector {
    fn start() -> Self {
        Self::behind(None)
    }

    /// One that `tls` is spoken with, if it is given.
    fn behind(tls: Option<TlsAcceptor>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (end, ended) = tokio::sync::oneshot::channel();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            spans: Arc::default(),
            keys: Arc::default(),
            refuses: Arc::default(),
            scheme: if tls.is_some() { "https" } else { "http" },
            _end: end,
        };
        let (spans, keys) = (Arc::clone(&collector.spans), Arc::clone(&collector.keys));
        let refuses = Arc::clone(&collector.refuses);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, tls, spans, keys, refuses) => {}
                    _ = ended => {}
                }
            });
        });
        collector
    }

    /// `operator`, sending traces here.
    fn told_by(&self, operator: Operator) -> Operator {
        operator.with_argument(&format!("--otlp-endpoint={}://{}", self.scheme, self.address))
    }

    fn spans(&self) -> Vec<Sent> {
        self.spans.lock().unwrap().clone()
    }

    fn wait(&self, what: &str, is_it: impl Fn(&Sent) -> bool) -> Sent {
        // A batch leaves every five seconds.
        wait::until(what, Duration::from_secs(30), || {
            let spans = self.spans();
            match spans.iter().find(|sent| is_it(sent)) {
                Some(sent) => Look::Met(sent.clone()),
                None => Look::Saw(format!(
                    "{:?}",
                    spans.iter().map(|sent| &sent.span.name).collect::<Vec<_>>()
                )),
            }
        })
        .unwrap()
    }
}

async fn serve(
    listener: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
    spans: Arc<Mutex<Vec<Sent>>>,
    keys: Arc<Mutex<Vec<String>>>,
    refuses: Arc<AtomicBool>,
) {
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        let answer = service_fn(|request: Request<Incoming>| {
            let (spans, keys, refuses) = (Arc::clone(&spans), Arc::clone(&keys), Arc::clone(&refuses));
            async move {
                let mut response = Response::new(Empty::<Bytes>::new());
                let (head, body) = request.into_parts();
                if refuses.load(Ordering::Relaxed) {
                    *response.status_mut() = StatusCode::UNAUTHORIZED;
                } else if head.uri.path() == "/v1/traces" {
                    let key = head.headers.get("x-key").map(|key| key.to_str().unwrap().to_owned());
                    keys.lock().unwrap().extend(key);
                    let body = body.collect().await.unwrap().to_bytes();
                    spans
                        .lock()
                        .unwrap()
                        .extend(read(ExportTraceServiceRequest::decode(body).unwrap()));
                } else {
                    *response.status_mut() = StatusCode::NOT_FOUND;
                }
                Ok::<_, Infallible>(response)
            }
        });
        // One at a time is enough: the operator sends a batch after the other.
        let http = http1::Builder::new();
        match &tls {
            Some(tls) => {
                if let Ok(connection) = tls.accept(connection).await {
                    let _ = http.serve_connection(TokioIo::new(connection), answer).await;
                }
            }
            None => {
                let _ = http.serve_connection(TokioIo::new(connection), answer).await;
            }
        }
    }
}

fn read(request: ExportTraceServiceRequest) -> Vec<Sent> {
    let of_each_service = request.resource_spans.into_iter().flat_map(|of_it| {
        let service = of_it.resource.map(|resource| resource.attributes).unwrap_or_default();
        let spans = of_it.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans
            .map(|span| Sent {
                service: service.clone(),
                span,
            })
            .collect::<Vec<_>>()
    });
    of_each_service.collect()
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

fn sent(world: &World) {
    let collector = Collector::start();
    let mut tenant = world.tenant_where("traced", |operator| {
        collector
            .told_by(operator)
            .with_environment("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
            .with_environment("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    });
    tenant.apply("roraima", "");
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    let first = collector.wait("a reconcile", |sent| sent.is("reconcile"));
    assert!(first.has("namespace", "traced") && first.has("policy", "roraima"));
    assert_eq!(
        text(&first.service, "service.name").as_deref(),
        Some("mapa-refresh-operator")
    );
    assert_eq!(
        text(&first.service, "service.version").as_deref(),
        Some(env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(
        text(&first.service, "deployment.environment.name").as_deref(),
        Some("test")
    );
    assert_eq!(
        collector.keys.lock().unwrap().first().map(String::as_str),
        Some("secret")
    );
    assert!(!tenant.log().contains("secret"), "{}", tenant.log());
    let status = collector.wait("the write of a status", |sent| {
        sent.is_request("PUT") && text(&sent.span.attributes, "http.url").is_some_and(|url| url.contains("/status"))
    });
    assert!(status.has("http.status_code", "200"));
    let above = collector.wait("the reconcile that wrote it", |sent| {
        sent.span.span_id == status.span.parent_span_id
    });
    assert!(above.is("reconcile") && above.span.trace_id == status.span.trace_id);
    let said = above.span.events.iter().any(|event| event.name == "condition changed");
    assert!(
        said,
        "what is logged in a reconcile is in its span: {:?}",
        above.span.events
    );

    // A batch would leave in five seconds: the process ends before.
    tenant.run(&["annotate", "mapa-refresh", "roraima", "at-the-end=yes"]);
    let version = tenant.policy("roraima")["metadata"]["resourceVersion"].clone();
    tenant.wait("the last reconcile", || {
        let (_, metrics) = tenant.ask("/metrics").unwrap_or_default();
        let reconciles = mapa_refresh_tests::vitals::value(&metrics, "mapa_refresh_reconcile_duration_seconds_count");
        Look::when(reconciles.unwrap_or_default() >= 2.0, reconciles).map(drop)
    });
    assert!(!tenant.log().contains("traces are lost"), "{}", tenant.log());
    assert!(tenant.stop_operator(), "it ends by itself");
    collector.wait("the last reconcile's trace", |sent| {
        sent.is("reconcile") && sent.has("resource_version", version.as_str().unwrap())
    });
    // Watches belong to no reconcile, and last.
    let spans = collector.spans();
    let watches = spans
        .iter()
        .filter(|sent| text(&sent.span.attributes, "http.url").is_some_and(|url| url.contains("watch=true")));
    assert_eq!(watches.count(), 0);
    assert!(
        spans
            .iter()
            .all(|sent| sent.is("reconcile") || !sent.span.parent_span_id.is_empty())
    );
}

fn refused(world: &World) {
    let collector = Collector::start();
    collector.refuses.store(true, Ordering::Relaxed);
    let tenant = world.tenant_where("refused", |operator| collector.told_by(operator));
    tenant.apply("roraima", "");
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    let log = |words: &str| {
        tenant.wait_within(words, Duration::from_secs(30), || {
            Look::when(tenant.log().contains(words), "not yet").map(drop)
        });
    };
    log("traces are lost");
    assert!(tenant.log().contains("OTEL_EXPORTER_OTLP_HEADERS"), "{}", tenant.log());
    collector.refuses.store(false, Ordering::Relaxed);
    tenant.run(&["annotate", "mapa-refresh", "roraima", "again=yes"]);
    log("takes traces again");
    collector.wait("a reconcile", |sent| sent.is("reconcile"));
    drop(collector);
    tenant.apply("acre", "");
    tenant.wait_for_condition("acre", "Ready", "True", "Reconciled");
    tenant.wait_within("the loss to be told", Duration::from_secs(30), || {
        let told = tenant.log().matches("traces are lost").count();
        Look::when(told == 2, told).map(drop)
    });
    assert_eq!(tenant.ask("/readyz").unwrap().0, 200);
}

fn failed(world: &World) {
    let collector = Collector::start();
    let tenant = world.tenant_as_service_account("failing", "operator", |operator| collector.told_by(operator));
    // It may look, and write nothing.
    tenant.kubectl.apply(&permissions::to_read("failing")).unwrap();
    tenant.apply("roraima", "");
    let failed = collector.wait("a reconcile that failed", |sent| {
        sent.span
            .status
            .as_ref()
            .is_some_and(|status| status.code == SpanStatus::Error as i32)
            && sent.is("reconcile")
    });
    let error = text(&failed.span.attributes, "error").unwrap_or_default();
    assert!(error.contains("forbidden"), "{error}");
    collector.wait("its request", |sent| {
        sent.span.parent_span_id == failed.span.span_id && sent.has("http.status_code", "403")
    });
}

fn over_tls(world: &World) {
    let pki = world.plane().pki();
    pki.issue("collector", "collector", "tests", &["127.0.0.1"]).unwrap();
    let certificate = CertificateDer::from_pem_file(pki.path("collector.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(pki.path("collector.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let collector = Collector::behind(Some(TlsAcceptor::from(Arc::new(config))));

    let stranger = world.tenant_where("distrusting", |operator| collector.told_by(operator));
    stranger.apply("acre", "");
    stranger.wait_within("the loss to be told", Duration::from_secs(30), || {
        let log = stranger.log();
        Look::when(log.contains("traces are lost") && log.contains("UnknownIssuer"), log).map(drop)
    });
    assert!(collector.spans().is_empty(), "nothing was told to a stranger");

    let authority = pki.path("ca.crt").display().to_string();
    let tenant = world.tenant_where("trusting", |operator| {
        collector
            .told_by(operator)
            .with_environment("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority)
    });
    tenant.apply("roraima", "");
    let told = collector.wait("a reconcile", |sent| sent.is("reconcile"));
    assert!(told.has("namespace", "trusting"), "{:?}", told.span.attributes);
    assert!(!tenant.log().contains("traces are lost"), "{}", tenant.log());
}
