//! The connection to the API server: straight, or through a proxy.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{
    Connected, Connection, HttpConnector,
    proxy::{SocksV5, Tunnel},
};
use tower::{BoxError, Service};

use super::proxy::{Protocol, Proxy};

/// Makes connections.
#[derive(Clone)]
pub struct Route {
    proxy: Option<Proxy>,
    straight: HttpConnector,
    /// To a proxy that is spoken to within TLS.
    secure: Option<HttpsConnector<HttpConnector>>,
}

impl Route {
    /// Straight, or through `proxy`, which is reached by `secure` if it is spoken to within TLS.
    #[must_use]
    pub fn new(proxy: Option<Proxy>, secure: Option<HttpsConnector<HttpConnector>>) -> Self {
        Self {
            proxy,
            straight: straight(),
            secure,
        }
    }
}

/// Connects to an address.
#[must_use]
pub fn straight() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector
}

/// Why there is no connection through a proxy.
#[derive(Debug, thiserror::Error)]
#[error("through the proxy {proxy}: {reason}")]
pub struct ProxyError {
    proxy: String,
    // As text, so that the innermost cause names the proxy, too.
    reason: String,
}

/// The whole chain of causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

impl Service<Uri> for Route {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Stream, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.straight.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Some(proxy) = self.proxy.clone() else {
            let connecting = self.straight.call(to);
            return Box::pin(async move { Ok(Stream::new(connecting.await?)) });
        };
        let through = through(proxy.clone(), self.straight.clone(), self.secure.clone(), to);
        Box::pin(async move {
            through.await.map_err(|error| {
                let error = ProxyError {
                    proxy: proxy.to_string(),
                    reason: chain(&*error),
                };
                error.into()
            })
        })
    }
}

async fn through(
    proxy: Proxy,
    mut straight: HttpConnector,
    secure: Option<HttpsConnector<HttpConnector>>,
    to: Uri,
) -> Result<Stream, BoxError> {
    let is_secure = to.scheme() == Some(&Scheme::HTTPS);
    let to = with_port(to)?;
    let authorization = proxy.authorization();
    match (proxy.protocol, secure) {
        (Protocol::Socks5, _) => {
            let mut socks = SocksV5::new(proxy.uri, straight);
            if let Some((user, password)) = proxy.credentials {
                socks = socks.with_auth(user, password);
            }
            Ok(Stream::new(socks.call(to).await?))
        }
        // A plain-text request goes to the proxy with its whole URL, as for any web page.
        (Protocol::Https, Some(mut secure)) if !is_secure => Ok(Stream::to_proxy(secure.call(proxy.uri).await?)),
        (_, None) if !is_secure => Ok(Stream::to_proxy(straight.call(proxy.uri).await?)),
        (Protocol::Https, Some(secure)) => {
            let mut tunnel = Tunnel::new(proxy.uri, secure);
            if let Some(authorization) = authorization {
                tunnel = tunnel.with_auth(authorization);
            }
            Ok(Stream::new(tunnel.call(to).await?))
        }
        _ => {
            let mut tunnel = Tunnel::new(proxy.uri, straight);
            if let Some(authorization) = authorization {
                tunnel = tunnel.with_auth(authorization);
            }
            Ok(Stream::new(tunnel.call(to).await?))
        }
    }
}

/// A proxy's protocol knows no schemes that a port could follow from.
fn with_port(to: Uri) -> Result<Uri, BoxError> {
    if to.port().is_some() {
        return Ok(to);
    }
    let port = if to.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
    let authority = format!("{}:{port}", to.host().unwrap_or_default());
    let mut parts = to.into_parts();
    parts.authority = Some(authority.parse()?);
    Ok(Uri::from_parts(parts)?)
}

/// Bytes in both directions.
trait Bytes: Read + Write + Connection + Send + Unpin {}

impl<T: Read + Write + Connection + Send + Unpin> Bytes for T {}

/// A connection, whatever it is made of.
pub struct Stream {
    bytes: Box<dyn Bytes>,
    ends_at_proxy: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("ends_at_proxy", &self.ends_at_proxy)
            .finish_non_exhaustive()
    }
}

impl Stream {
    fn new(bytes: impl Bytes + 'static) -> Self {
        Self {
            bytes: Box::new(bytes),
            ends_at_proxy: false,
        }
    }

    fn to_proxy(bytes: impl Bytes + 'static) -> Self {
        Self {
            bytes: Box::new(bytes),
            ends_at_proxy: true,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = self.bytes.connected();
        if self.ends_at_proxy {
            connected.proxy(true)
        } else {
            connected
        }
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.bytes).poll_read(context, into)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.bytes).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.bytes).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.bytes).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.bytes.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.bytes).poll_write_vectored(context, from)
    }
}
