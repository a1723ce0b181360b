//! kube's client on a [`Connection`]: its layers for URL and impersonation, around what proves who asks and the way there.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, PROXY_AUTHORIZATION, USER_AGENT},
    uri::Scheme,
};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::{client::legacy, rt::TokioExecutor};
use kube::{
    Config,
    client::{
        Body, ClientBuilder, ConfigExt,
        middleware::{BaseUri, ExtraHeaders},
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    pki_types::{CertificateDer, ServerName},
};
use tower::{BoxError, Layer, Service};
use tracing::{Instrument, Span, debug_span, error, field::Empty};

use super::{
    Connection, ConnectionError,
    connection::Trust,
    login::{Held, Identity, Login, Source, certified},
    pinned::Pinned,
    proxy::{Protocol, Proxy},
    route::{self, Route},
};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// The way to the API server, TLS and proxy included.
    pub connect: Duration,
    /// Longest silence within an answer; no limit without one.
    pub read: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            read: None,
        }
    }
}

/// Longest silence while a request is sent, as kube has it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(295);

type Connector = TimeoutConnector<HttpsConnector<Route>>;
type Http = legacy::Client<Connector, Body>;

/// What sends requests.
pub type Stack = BaseUri<ExtraHeaders<Transport>>;

impl Connection {
    /// A client's builder, whose requests name `agent`.
    ///
    /// # Errors
    /// A certificate is of no use.
    pub fn client(self, agent: &'static str, timeouts: Timeouts) -> Result<ClientBuilder<Stack>, ConnectionError> {
        let mut config = Config::new(self.server.clone());
        config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
        config.auth_info = self.impersonation.clone();
        let headers = config.extra_headers_layer().map_err(no_client)?;

        let identity = Arc::<Identity>::default();
        let tls = self.tls(config.clone(), &identity)?;
        if let Some(pem) = &self.identity {
            let shown = certified(&pem.certificates, &pem.key, tls.crypto_provider())
                .map_err(|error| ConnectionError::Invalid(vec![format!("user: {error}")]))?;
            identity.show(Some(shown));
        }
        let server_name = self.server_name()?;
        let to_proxy = self
            .speaks_tls_with_its_proxy()
            .then(|| secure(route::straight(), &tls, server_name.as_ref()));
        let route = Route::new(self.proxy.clone(), to_proxy);
        let mut connector = TimeoutConnector::new(secure(route, &tls, server_name.as_ref()));
        connector.set_connect_timeout(Some(timeouts.connect));
        connector.set_read_timeout(timeouts.read);
        connector.set_write_timeout(Some(WRITE_TIMEOUT));
        connector.set_reset_reader_on_write(true);

        let asks_proxy = self.server.scheme() == Some(&Scheme::HTTP);
        let transport = Transport {
            proxy_authorization: self
                .proxy
                .as_ref()
                .filter(|proxy| asks_proxy && proxy.protocol != Protocol::Socks5)
                .and_then(Proxy::authorization),
            login: Arc::new(Login::new(self.source, identity, Arc::clone(tls.crypto_provider()))),
            http: Arc::new(Mutex::new((0, http(connector.clone())))),
            connector,
        };
        let stack = config.base_uri_layer().layer(headers.layer(transport));
        Ok(ClientBuilder::new(stack, self.namespace))
    }

    fn speaks_tls_with_its_proxy(&self) -> bool {
        self.proxy
            .as_ref()
            .is_some_and(|proxy| proxy.protocol == Protocol::Https)
    }

    /// What a server, and a proxy that is spoken to within TLS, is checked by, and what is shown to it: the same for both, as for kubectl.
    fn tls(&self, mut config: Config, identity: &Arc<Identity>) -> Result<ClientConfig, ConnectionError> {
        let ders = |all: &[CertificateDer<'_>]| Some(all.iter().map(|one| one.to_vec()).collect());
        match &self.trust {
            // No certificate is checked, and this machine may have no authorities.
            Trust::System if self.server.scheme() == Some(&Scheme::HTTP) && !self.speaks_tls_with_its_proxy() => {
                config.root_cert = Some(Vec::new());
            }
            Trust::System => {}
            Trust::Authorities(all) => config.root_cert = ders(all),
            Trust::File(path, all) => {
                config.root_cert = ders(all);
                config.root_cert_file = Some(path.clone());
            }
            Trust::Nothing => {
                config.root_cert = Some(Vec::new());
                config.accept_invalid_certs = true;
            }
        }
        let mut tls = config.rustls_client_config().map_err(no_client)?;
        if let Trust::Authorities(all) = &self.trust {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(all.iter().cloned());
            let signed = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(tls.crypto_provider()))
                .build()
                .map_err(|error| ConnectionError::Invalid(vec![format!("cluster: {error}")]))?;
            let authorities = all.clone();
            tls.dangerous()
                .set_certificate_verifier(Arc::new(Pinned { authorities, signed }));
        }
        tls.client_auth_cert_resolver = Arc::clone(identity) as _;
        if matches!(self.source, Source::Plugin(_)) {
            // A session that is taken up again is of whom it was begun by, and the plugin's certificate changes.
            tls.resumption = Resumption::disabled();
        }
        Ok(tls)
    }

    fn server_name(&self) -> Result<Option<ServerName<'static>>, ConnectionError> {
        let parsed = self.server_name.clone().map(ServerName::try_from).transpose();
        parsed.map_err(|error| ConnectionError::Invalid(vec![format!("cluster: tls-server-name: {error}")]))
    }
}

fn no_client(error: kube::Error) -> ConnectionError {
    ConnectionError::Client(Box::new(error))
}

fn secure<C>(connector: C, tls: &ClientConfig, server_name: Option<&ServerName<'static>>) -> HttpsConnector<C> {
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(tls.clone())
        .https_or_http();
    match server_name {
        Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone())),
        None => builder,
    }
    .enable_http1()
    .wrap_connector(connector)
}

fn http(connector: Connector) -> Http {
    legacy::Builder::new(TokioExecutor::new()).build(connector)
}

/// Sends requests with credentials.
#[derive(Clone)]
pub struct Transport {
    login: Arc<Login>,
    proxy_authorization: Option<HeaderValue>,
    connector: Connector,
    /// The connections, and which certificate they were made with.
    http: Arc<Mutex<(u64, Http)>>,
}

impl Transport {
    async fn send(self, mut request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        let proof = self.login.current().await?;
        let headers = request.headers_mut();
        if let Some(authorization) = &proof.authorization {
            headers.entry(AUTHORIZATION).or_insert_with(|| authorization.clone());
        }
        if let Some(authorization) = &self.proxy_authorization {
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let response = self.connections(&proof).request(request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.login.was_refused(&proof).await;
        }
        Ok(response)
    }

    /// The connections that show the proof's certificate: those made with another are of somebody else.
    fn connections(&self, proof: &Held) -> Http {
        let mut http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        if http.0 != proof.generation {
            *http = (proof.generation, self::http(self.connector.clone()));
        }
        http.1.clone()
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Incoming>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let span = span(&request);
        let told = span.clone();
        let sent = self.clone().send(request);
        let answer = async move {
            let answer = sent.await;
            tell(&told, &answer);
            answer
        };
        Box::pin(answer.instrument(span))
    }
}

/// The span of a request, as kube's own stack has it: traces take it up by its target.
fn span(request: &Request<Body>) -> Span {
    debug_span!(
        target: "kube_client",
        "HTTP",
        http.method = %request.method(),
        http.url = %request.uri(),
        http.status_code = Empty,
        otel.name = request.extensions().get::<&'static str>().unwrap_or(&"HTTP"),
        otel.kind = "client",
        otel.status_code = Empty,
    )
}

fn tell(span: &Span, answer: &Result<Response<Incoming>, BoxError>) {
    let is_error = match answer {
        Ok(response) => {
            span.record("http.status_code", response.status().as_u16());
            if response.status().is_server_error() {
                error!(target: "kube_client", "failed with status {}", response.status());
            }
            response.status().is_client_error() || response.status().is_server_error()
        }
        Err(failure) => {
            error!(target: "kube_client", "failed with error {failure}");
            true
        }
    };
    if is_error {
        span.record("otel.status_code", "ERROR");
    }
}
