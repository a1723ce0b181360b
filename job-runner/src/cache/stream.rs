//! A socket to a Redis that keeps what the library does not pass on: why TLS ended, and whether a server without TLS is asked for it.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use mapa_refresh_crds::report::FaultClass;
use rustls::{ClientConfig, InvalidMessage, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{
    dial::{self, Address, Reason},
    secret::Store,
    tls,
};

/// First byte of TLS' alerts and handshakes; no answer of Redis begins so.
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];

/// How long the question may take whether a server speaks TLS, or answers without it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How to speak TLS.
pub(super) struct Tls {
    connector: TlsConnector,
    /// Whether there is a client certificate to show.
    pub(super) has_certificate: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("has_certificate", &self.has_certificate)
            .finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn new(config: ClientConfig, has_certificate: bool) -> Self {
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            has_certificate,
        }
    }
}

/// What can be read and written.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for S {}

/// Connects to `address`, over TLS if `tls` is there.
pub(super) async fn open(address: Address<'_>, tls: Option<&Tls>) -> io::Result<(Watched, Seen)> {
    let stream = dial::tcp(address.socket).await?;
    let transport: Box<dyn Transport> = match tls {
        Some(tls) => {
            let name = ServerName::try_from(address.host.host.clone()).map_err(io::Error::other)?;
            // A server without TLS waits for the end of what it takes for a command: half of the time is left to ask it without.
            let limit = address.ends.saturating_duration_since(Instant::now()) / 2;
            let shaken = timeout(limit, tls.connector.connect(name, stream)).await;
            let unanswered = || io::Error::new(io::ErrorKind::TimedOut, "the greeting of TLS was not answered");
            Box::new(shaken.map_err(|_| unanswered())??)
        }
        None => Box::new(stream),
    };
    let seen = Seen::default();
    let watched = Watched {
        transport,
        is_tls: tls.is_some(),
        seen: seen.clone(),
    };
    Ok((watched, seen))
}

/// Whether the server at `address` speaks TLS: one that does ends a connection without it, and most do not say why. Nothing but a greeting is sent.
pub(super) async fn speaks_tls(address: Address<'_>) -> bool {
    let Ok(config) = tls::client(tls::public_authorities().roots, None) else {
        return false;
    };
    match timeout(PROBE_TIMEOUT, open(address, Some(&Tls::new(config, false)))).await {
        Ok(Ok(_)) => true,
        // Its certificate is judged here, or it asks for one: both are words of TLS.
        Ok(Err(error)) => matches!(
            tls::in_chain(&error),
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))
        ),
        Err(_) => false,
    }
}

/// Whether the server at `address` answers without TLS. Nothing but a PING is sent.
pub(super) async fn answers_in_plain_text(address: Address<'_>) -> bool {
    let answered = async {
        let mut stream = dial::tcp(address.socket).await?;
        stream.write_all(b"PING\r\n").await?;
        stream.read_u8().await
    };
    matches!(timeout(PROBE_TIMEOUT, answered).await, Ok(Ok(b'+' | b'-')))
}

/// The reason of a connection over TLS to a server without it.
pub(super) fn no_tls_there() -> Reason {
    of_tls(
        &rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
        false,
    )
}

/// The reason of a plain connection to a server that speaks TLS.
pub(super) fn no_tls_asked() -> Reason {
    Reason {
        class: FaultClass::Permanent,
        remedy: "write rediss instead of redis in the url".into(),
        ..Reason::unreachable("the server speaks TLS on that port")
    }
}

/// Why `error` ended a connection before the login. `has_certificate` says whether there is a client certificate.
pub(super) fn reason(error: &io::Error, has_certificate: bool) -> Reason {
    tls::in_chain(error).map_or_else(
        || Reason::unreachable(error.to_string()),
        |error| of_tls(error, has_certificate),
    )
}

fn of_tls(error: &rustls::Error, has_certificate: bool) -> Reason {
    tls::explain(error, Store::Cache, has_certificate).into()
}

/// What a connection met.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Option<Met>>>);

#[derive(Clone, Debug)]
enum Met {
    /// The server, or the client, ended TLS. In TLS 1.3 a server refuses a client's certificate after the handshake.
    Tls(rustls::Error),
    /// Bytes of TLS, where none was asked for.
    TlsInPlainText,
}

impl Seen {
    fn put(&self, met: Met) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get_or_insert(met);
    }

    /// The reason that it gives for a failure; `None` when nothing was met.
    pub(super) fn reason(&self, has_certificate: bool) -> Option<Reason> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().map(|met| match met {
            Met::Tls(error) => of_tls(error, has_certificate),
            Met::TlsInPlainText => no_tls_asked(),
        })
    }
}

/// A connection that records what it meets.
pub(super) struct Watched {
    transport: Box<dyn Transport>,
    is_tls: bool,
    seen: Seen,
}

impl Watched {
    fn note(&self, error: &io::Error) {
        if let Some(error) = tls::in_chain(error) {
            self.seen.put(Met::Tls(error.clone()));
        }
    }

    /// A server that refuses closes the connection, and what is written then fails before its alert is read.
    fn note_alert(&mut self, context: &mut Context<'_>) {
        let mut space = [0; 64];
        let mut buffer = ReadBuf::new(&mut space);
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.transport).poll_read(context, &mut buffer) {
            self.note(&error);
        }
    }

    fn written<T>(&mut self, context: &mut Context<'_>, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            self.note(error);
            self.note_alert(context);
        })
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.transport).poll_read(context, buffer));
        if let Err(error) = &read {
            self.note(error);
        }
        if !self.is_tls
            && buffer
                .filled()
                .get(before)
                .is_some_and(|first| TLS_RECORDS.contains(first))
        {
            self.seen.put(Met::TlsInPlainText);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.transport).poll_write(context, bytes));
        Poll::Ready(self.written(context, written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.transport).poll_flush(context));
        Poll::Ready(self.written(context, flushed))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}
