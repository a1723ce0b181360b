//! `/metrics`, `/livez` and `/readyz`.
//!
//! Whoever connects gets a few seconds: a client that sends or reads slowly costs one of a bounded number of connections, for a bounded time.

use std::{
    fmt, io,
    net::Ipv4Addr,
    net::Ipv6Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tracing::{debug, info, warn};

use crate::{listen::Listen, metrics::exposition::Exposition, vitals::Vitals};

/// Connections at a time. A probe and a few scrapers need one each.
const CONNECTIONS: usize = 32;
/// How long a client may take to say what it wants.
const TO_ASK: Duration = Duration::from_secs(5);
/// How long a connection may take in all.
const IN_ALL: Duration = Duration::from_secs(15);
/// How long is waited when the process has no room for a connection.
const NO_ROOM: Duration = Duration::from_millis(200);

type Body = UnsyncBoxBody<Bytes, fmt::Error>;

/// Opens the place to listen, and says in the log where it is; `None` when nothing is to be served.
///
/// # Errors
/// The place is taken, or not this machine's.
pub async fn bind(listen: Listen) -> io::Result<Option<TcpListener>> {
    let listener = match listen {
        Listen::Off => return Ok(None),
        Listen::Address(address) => TcpListener::bind(address).await?,
        // A socket of IPv6 takes IPv4 as well; a machine without IPv6 has none.
        Listen::EveryAddress(port) => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?
            }
            bound => bound?,
        },
    };
    info!(address = %listener.local_addr()?, "serving /metrics, /livez and /readyz");
    Ok(Some(listener))
}

/// Serves for ever; without a listener nothing.
pub async fn serve(listener: Option<TcpListener>, vitals: Arc<Vitals>) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((connection, _)) => {
                let vitals = Arc::clone(&vitals);
                tokio::spawn(async move {
                    answer(connection, vitals).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "could not accept a connection for metrics and probes");
                tokio::time::sleep(NO_ROOM).await;
            }
        }
    }
}

async fn answer(connection: TcpStream, vitals: Arc<Vitals>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &vitals);
        async move { response }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TO_ASK)
        .keep_alive(false)
        .serve_connection(TokioIo::new(connection), service);
    match tokio::time::timeout(IN_ALL, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a client of metrics and probes went away"),
        Err(_) => debug!("a client of metrics and probes was too slow"),
    }
}

fn respond(request: &Request<Incoming>, vitals: &Arc<Vitals>) -> http::Result<Response<Body>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET".to_owned());
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get_all(header::ACCEPT);
            let exposition = Exposition::accepted(accept.iter().filter_map(|accept| accept.to_str().ok()));
            Response::builder()
                .header(header::CONTENT_TYPE, exposition.content_type())
                .header(header::VARY, header::ACCEPT.as_str())
                .body(metrics(exposition, Arc::clone(vitals)))
        }
        "/livez" => verdict(&vitals.health.not_alive(Instant::now())),
        "/readyz" => verdict(&vitals.health.not_ready(Instant::now())),
        _ => text(StatusCode::NOT_FOUND, "/metrics, /livez and /readyz".to_owned()),
    }
}

/// Each piece is made when the client has taken the one before.
fn metrics(exposition: Exposition, vitals: Arc<Vitals>) -> Body {
    let parts = stream::iter((0..).map_while(move |number| vitals.metrics.part(number)));
    let frames = parts.map(move |part| part.map(|text| Frame::data(Bytes::from(exposition.of(text)))));
    StreamBody::new(frames).boxed_unsync()
}

fn verdict(unmet: &[String]) -> http::Result<Response<Body>> {
    if unmet.is_empty() {
        text(StatusCode::OK, "ok".to_owned())
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, unmet.join("\n"))
    }
}

fn text(status: StatusCode, mut text: String) -> http::Result<Response<Body>> {
    text.push('\n');
    let body = Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(body)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{
        clock::Clock,
        election::Standing,
        health::{Scope, caches::Caches, permissions::Permissions},
    };

    async fn served(vitals: &Arc<Vitals>) -> std::net::SocketAddr {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.as_ref().unwrap().local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::clone(vitals)));
        address
    }

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }

    #[tokio::test]
    async fn each_path_answers_and_what_is_unmet_is_named_until_it_is_met() {
        let vitals = Arc::new(Vitals::new(Clock::system()));
        let address = served(&vitals).await;
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("lease: the lease was not looked at yet\n"), "{answer}");
        let holder = "another".to_owned();
        vitals.standing.send_replace(Standing::Follower { holder });
        let answer = get(address, "/readyz").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"),
            "{answer}"
        );
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200 "));

        for exposition in [Exposition::OpenMetrics, Exposition::Text] {
            let accept = exposition.content_type();
            let request = format!("GET /metrics HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n");
            let answer = ask(address, &request).await;
            assert!(
                answer.contains(accept) && answer.contains("mapa_refresh_build_info{"),
                "{answer}"
            );
            assert_eq!(
                answer.contains("# EOF"),
                exposition == Exposition::OpenMetrics,
                "{answer}"
            );
        }
        let answer = get(address, "/metrics").await;
        assert!(answer.contains(Exposition::Text.content_type()), "{answer}");
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));
        assert!(
            ask(
                address,
                "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
            )
            .await
            .starts_with("HTTP/1.1 405 ")
        );
    }

    #[tokio::test]
    async fn a_standstill_makes_it_dead() {
        let vitals = Arc::new(Vitals::new(Clock::system()));
        let address = served(&vitals).await;
        let scope = Arc::new(Scope {
            work: Arc::new(vitals.metrics.work()),
            caches: Arc::new(Caches::of(None)),
            permissions: Arc::new(Permissions::of(None)),
        });
        vitals.health.watch_over(&scope);
        let work = &scope.work;
        let long_ago = Instant::now().checked_sub(crate::health::work::STANDSTILL * 2).unwrap();
        work.open(long_ago);
        let key = crate::records::PolicyKey {
            namespace: "radar".into(),
            name: "roraima".into(),
        };
        let running = work.begun(&key, long_ago);
        let answer = get(address, "/livez").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(
            answer.contains("reconcile loop: the reconcile of radar/roraima"),
            "{answer}"
        );
        drop(running);
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn clients_that_say_nothing_hold_up_the_others_for_a_few_seconds_only() {
        let vitals = Arc::new(Vitals::new(Clock::system()));
        let address = served(&vitals).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS * 2 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = tokio::time::timeout(IN_ALL * 2, get(address, "/livez")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(silent);
    }
}
