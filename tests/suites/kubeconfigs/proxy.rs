//! Proxies of the test's own: HTTP with CONNECT and whole URLs, within TLS or not, and SOCKS 5. All of them lead to one server, whatever
//! they are asked for, so that names are asked for that nobody resolves.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Https,
    Socks5,
    /// No proxy: a server within TLS, whose requests go on in plain text.
    Front,
}

/// A running proxy; it ends when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Clone)]
struct Rules {
    protocol: Protocol,
    credentials: Option<(String, String)>,
    to: SocketAddr,
    tls: Option<TlsAcceptor>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// A proxy to `to`, which asks for `credentials`; its certificate is `proxy.crt` in `folder`.
    pub fn start(protocol: Protocol, to: SocketAddr, credentials: Option<(&str, &str)>, folder: &Path) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let rules = Rules {
            protocol,
            credentials: credentials.map(|(user, password)| (user.to_owned(), password.to_owned())),
            to,
            tls: matches!(protocol, Protocol::Https | Protocol::Front).then(|| acceptor(folder)),
            asked: Arc::clone(&asked),
        };
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let serve = async {
                    while let Ok((connection, _)) = listener.accept().await {
                        tokio::spawn(serve(connection, rules.clone()));
                    }
                };
                tokio::select! {
                    () = serve => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            address,
            asked,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// What it was asked for since the last time that somebody looked, each once and in order.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        asked.sort();
        asked.dedup();
        asked
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn acceptor(folder: &Path) -> TlsAcceptor {
    let certificates = CertificateDer::pem_file_iter(folder.join("proxy.crt"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("proxy.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(connection: TcpStream, rules: Rules) -> io::Result<()> {
    match (rules.protocol, rules.tls.clone()) {
        (Protocol::Socks5, _) => socks(connection, &rules).await,
        (Protocol::Front, Some(tls)) => {
            let mut connection = tls.accept(connection).await?;
            let mut server = TcpStream::connect(rules.to).await?;
            copy_bidirectional(&mut connection, &mut server).await.map(|_| ())
        }
        (_, Some(tls)) => http(tls.accept(connection).await?, &rules).await,
        (_, None) => http(connection, &rules).await,
    }
}

impl Rules {
    fn note(&self, asked: String) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }
}

async fn http(mut connection: impl AsyncRead + AsyncWrite + Unpin, rules: &Rules) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let given = text.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization")
            .then(|| value.to_owned())
    });
    let wanted = rules.credentials.as_ref().map(|(user, password)| {
        use base64::{Engine, prelude::BASE64_STANDARD};
        format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
    });
    if wanted.is_some() && given != wanted {
        return connection
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
    }
    let mut server = TcpStream::connect(rules.to).await?;
    if method == "CONNECT" {
        rules.note(format!("CONNECT {target}"));
        connection
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await?;
    } else {
        // The whole URL goes on as it is: a server has to understand it.
        let place = target.split('/').take(3).collect::<Vec<_>>().join("/");
        rules.note(format!("{method} {place}"));
        server.write_all(&head).await?;
    }
    copy_bidirectional(&mut connection, &mut server).await.map(|_| ())
}

async fn socks(mut connection: TcpStream, rules: &Rules) -> io::Result<()> {
    let (_version, methods) = (connection.read_u8().await?, connection.read_u8().await?);
    let mut offered = vec![0; methods.into()];
    connection.read_exact(&mut offered).await?;
    let method = if rules.credentials.is_some() { 2 } else { 0 };
    if !offered.contains(&method) {
        return connection.write_all(&[5, 0xff]).await;
    }
    connection.write_all(&[5, method]).await?;
    if let Some((user, password)) = &rules.credentials {
        let _version = connection.read_u8().await?;
        let given = (string(&mut connection).await?, string(&mut connection).await?);
        let refused = u8::from(given != (user.clone(), password.clone()));
        connection.write_all(&[1, refused]).await?;
        if refused != 0 {
            return Ok(());
        }
    }
    let mut request = [0; 3];
    connection.read_exact(&mut request).await?;
    let host = match connection.read_u8().await? {
        1 => {
            let mut address = [0; 4];
            connection.read_exact(&mut address).await?;
            std::net::Ipv4Addr::from(address).to_string()
        }
        3 => string(&mut connection).await?,
        _ => {
            let mut address = [0; 16];
            connection.read_exact(&mut address).await?;
            format!("[{}]", std::net::Ipv6Addr::from(address))
        }
    };
    let port = connection.read_u16().await?;
    rules.note(format!("SOCKS {host}:{port}"));
    let mut server = TcpStream::connect(rules.to).await?;
    connection.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut connection, &mut server).await.map(|_| ())
}

async fn string(connection: &mut TcpStream) -> io::Result<String> {
    let mut bytes = vec![0; connection.read_u8().await?.into()];
    connection.read_exact(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
