//! From the hosts of a url to the first address that answers. Each address has its share of the time: one that is silent, such as an IPv6 address
//! without a route, does not use up the time of those after it.

use std::{borrow::Cow, fmt::Write, io, net::SocketAddr, time::Duration};

use mapa_refresh_crds::report::FaultClass;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

use crate::{host::HostPort, tls::Explanation};

/// After so long without traffic a connection sends probes: balancers and firewalls drop what is silent for some minutes.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between two probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Probes without an answer that end a connection.
pub const KEEPALIVE_RETRIES: u32 = 3;

/// Most addresses in a message.
const MAX_NAMED: usize = 3;

/// Longest text for one of several addresses in a message, in bytes: the remedy after them must survive the cut of the status.
const MAX_REASON: usize = 60;

/// Longest text of what happened and its remedy, in bytes; the place of the store and the frame of the message have the rest of the status' 320.
const MAX_SENTENCE: usize = 220;

/// The settings of keepalive, for libraries that open sockets themselves.
#[must_use]
pub fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES)
}

/// Opens a connection to `address` that probes a silent peer.
///
/// # Errors
/// Any error of the network.
pub async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
    Ok(stream)
}

/// Why a host or an address could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Whether trying again may help.
    pub class: FaultClass,
    /// Code of the report; absent for a host that can't be reached.
    pub code: Option<Cow<'static, str>>,
    /// What happened.
    pub what: String,
    /// What to do about it; empty when `what` names it.
    pub remedy: Cow<'static, str>,
    /// Whether no other address should be tried: a password that is refused everywhere locks its account.
    pub is_final: bool,
}

impl Reason {
    /// A host that can't be reached now.
    #[must_use]
    pub fn unreachable(what: impl Into<String>) -> Self {
        Self {
            class: FaultClass::Transient,
            code: None,
            what: what.into(),
            remedy: "is it up, and do firewalls and NetworkPolicies let the pod reach it?".into(),
            is_final: false,
        }
    }

    fn silent(limit: Duration) -> Self {
        Self::unreachable(format!("no answer within {:.0} s", limit.as_secs_f64().max(1.0)))
    }

    fn unresolved(error: &io::Error) -> Self {
        let error = error.to_string();
        let error = error
            .strip_prefix("failed to lookup address information: ")
            .unwrap_or(&error);
        Self {
            remedy: "check the url's host, and the DNS of the cluster".into(),
            ..Self::unreachable(format!("its name is not resolved ({error})"))
        }
    }

    /// The same with what happened cut, where it is a server's words and so long that the remedy after it would not survive the cut of the status.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        let room = MAX_SENTENCE.saturating_sub(self.remedy.len()).max(MAX_REASON);
        if self.what.len() > room {
            self.what.truncate(self.what.floor_char_boundary(room));
            self.what.push('…');
        }
        self
    }

    /// What happened and what to do about it.
    #[must_use]
    pub fn sentence(&self) -> String {
        if self.remedy.is_empty() {
            self.what.clone()
        } else {
            format!("{}; {}", self.what, self.remedy)
        }
    }
}

impl From<Explanation> for Reason {
    fn from(Explanation { what, remedy, may_pass }: Explanation) -> Self {
        Self {
            class: if may_pass {
                FaultClass::Transient
            } else {
                FaultClass::Permanent
            },
            remedy: remedy.into(),
            ..Self::unreachable(what)
        }
    }
}

/// One address of a host.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    /// The host that it belongs to: its name counts for TLS.
    pub host: &'a HostPort,
    /// Where to connect.
    pub socket: SocketAddr,
    /// When its share of the time ends.
    pub ends: Instant,
}

/// Every host and address that was tried, and why it could not be used; never empty.
#[derive(Debug)]
pub struct Unreached(Vec<(String, Reason)>);

impl Unreached {
    /// The reason that counts: the one that ended the search, or else one that may pass, or else the first.
    #[must_use]
    pub fn into_reason(self) -> Reason {
        let Self(tried) = self;
        let decisive = tried
            .iter()
            .find(|(_, reason)| reason.is_final)
            .or_else(|| tried.iter().find(|(_, reason)| reason.class == FaultClass::Transient))
            .or_else(|| tried.first());
        let Some((_, reason)) = decisive else {
            return Reason::unreachable("the url names no host");
        };
        if tried.len() == 1 {
            return reason.clone();
        }
        let mut what = String::new();
        for (at, reason) in tried.iter().take(MAX_NAMED) {
            let separator = if what.is_empty() { "" } else { ", " };
            // Writing into a String does not fail.
            let _ = write!(what, "{separator}{at}: {}", short(&reason.what));
        }
        if let Some(more @ 1..) = tried.len().checked_sub(MAX_NAMED) {
            let _ = write!(what, ", and {more} more");
        }
        Reason { what, ..reason.clone() }
    }
}

fn short(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_REASON {
        return text.into();
    }
    let cut = text.floor_char_boundary(MAX_REASON);
    format!("{}…", text.get(..cut).unwrap_or_default()).into()
}

/// Connects to the first address of `hosts`, in their order, to which `connect` succeeds. All of that takes `limit` at most; while others are left,
/// each address has an equal share of what is left of `shared`, the time that the attempt leaves for connecting.
///
/// # Errors
/// What became of each address.
pub async fn first<T>(
    hosts: &[HostPort],
    limit: Duration,
    shared: Duration,
    connect: impl AsyncFnMut(Address<'_>) -> Result<T, Reason>,
) -> Result<T, Unreached> {
    first_of(hosts, limit, shared, connect, async |host: &HostPort| {
        lookup_host((host.host.as_str(), host.port))
            .await
            .map(Iterator::collect)
    })
    .await
}

async fn first_of<T>(
    hosts: &[HostPort],
    limit: Duration,
    shared: Duration,
    mut connect: impl AsyncFnMut(Address<'_>) -> Result<T, Reason>,
    resolve: impl AsyncFn(&HostPort) -> io::Result<Vec<SocketAddr>>,
) -> Result<T, Unreached> {
    let mut tried = Vec::new();
    let ends = Instant::now() + limit;
    let mut of_hosts = Shares::new(ends, limit.min(shared), hosts.len());
    for host in hosts {
        let host_ends = of_hosts.next();
        let is_last_host = of_hosts.left == 0;
        let began = Instant::now();
        let addresses = match timeout_at(host_ends, resolve(host)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                tried.push((host.to_string(), Reason::unresolved(&error)));
                continue;
            }
            Err(_) => {
                tried.push((host.to_string(), Reason::silent(began.elapsed())));
                continue;
            }
        };
        let shared_ends = if is_last_host { of_hosts.shared_ends } else { host_ends };
        let rest = shared_ends.saturating_duration_since(Instant::now());
        let mut of_addresses = Shares::new(host_ends, rest, addresses.len());
        for socket in addresses {
            let (began, ends) = (Instant::now(), of_addresses.next());
            let reason = match timeout_at(ends, connect(Address { host, socket, ends })).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(reason)) => reason,
                Err(_) => Reason::silent(began.elapsed()),
            };
            let is_final = reason.is_final;
            tried.push((named(host, socket), reason));
            if is_final {
                return Err(Unreached(tried));
            }
        }
    }
    Err(Unreached(tried))
}

fn named(host: &HostPort, socket: SocketAddr) -> String {
    if socket.ip().to_string() == host.host {
        host.to_string()
    } else {
        format!("{} at {}", host.host, socket)
    }
}

/// Divides the time that is left among those that are left; the last has all that is left.
struct Shares {
    ends: Instant,
    shared_ends: Instant,
    left: usize,
}

impl Shares {
    fn new(ends: Instant, shared: Duration, left: usize) -> Self {
        let shared_ends = ends.min(Instant::now() + shared);
        Self {
            ends,
            shared_ends,
            left,
        }
    }

    fn next(&mut self) -> Instant {
        let share = u32::try_from(self.left.max(1)).unwrap_or(u32::MAX);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return self.ends;
        }
        let now = Instant::now();
        now + self.shared_ends.saturating_duration_since(now) / share
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn host(name: &str) -> HostPort {
        HostPort {
            host: name.into(),
            port: 5432,
        }
    }

    /// `a` has an IPv6 address and an IPv4 address, `n` no address; any other name has one.
    async fn resolve(host: &HostPort) -> io::Result<Vec<SocketAddr>> {
        match host.host.as_str() {
            "a" => Ok(vec![
                "[2001:db8::1]:5432".parse().unwrap(),
                "10.0.0.1:5432".parse().unwrap(),
            ]),
            "n" => Err(io::Error::other(
                "failed to lookup address information: Name or service not known",
            )),
            "s" => pending().await,
            _ => Ok(vec!["10.0.0.9:5432".parse().unwrap()]),
        }
    }

    async fn search(names: &[&str], shared: Duration, answering: &str) -> Result<(SocketAddr, Duration), Reason> {
        let began = Instant::now();
        let hosts: Vec<HostPort> = names.iter().map(|name| host(name)).collect();
        let connect = async |address: Address<'_>| {
            if address.socket.to_string() != answering {
                pending::<()>().await;
            }
            Ok(address.socket)
        };
        let found = first_of(&hosts, LIMIT, shared, connect, resolve).await;
        found
            .map(|socket| (socket, began.elapsed()))
            .map_err(Unreached::into_reason)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_first_address_leaves_time_for_the_next() {
        let (socket, took) = search(&["a"], LIMIT, "10.0.0.1:5432").await.unwrap();
        assert_eq!((socket.to_string().as_str(), took.as_secs()), ("10.0.0.1:5432", 5));
        let (_, took) = search(&["b", "c", "a"], LIMIT, "10.0.0.1:5432").await.unwrap();
        assert!(took < Duration::from_secs(9), "{took:?}");
        let (_, took) = search(&["s", "n", "a"], LIMIT, "10.0.0.1:5432").await.unwrap();
        assert!(
            took < Duration::from_secs(8),
            "a name whose resolution hangs is no better: {took:?}"
        );
        let (_, took) = search(&["a"], Duration::from_secs(4), "10.0.0.1:5432").await.unwrap();
        assert_eq!(took.as_secs(), 2, "an attempt of 4 s has time for both");
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_is_named_with_what_became_of_it() {
        let began = Instant::now();
        let reason = search(&["n", "a"], LIMIT, "").await.unwrap_err();
        assert_eq!(
            reason.what,
            "n:5432: its name is not resolved (Name or service not known), a at [2001:db8::1]:5432: no answer within 5 s, a at \
             10.0.0.1:5432: no answer within 5 s"
        );
        assert!(reason.sentence().len() < 260, "{}", reason.sentence().len());
        assert_eq!(began.elapsed().as_secs(), 10);
        let one = search(&["b"], LIMIT, "").await.unwrap_err();
        assert_eq!(one.what, "no answer within 10 s");
        let many = search(&["a", "a", "a"], LIMIT, "").await.unwrap_err();
        assert!(
            many.what.ends_with(", and 3 more") && many.sentence().len() < 260,
            "{many:?}"
        );
    }

    #[test]
    fn a_servers_long_words_leave_room_for_the_remedy() {
        let reason = Reason::unreachable("é".repeat(500)).fitted();
        let sentence = reason.sentence();
        assert!(
            sentence.len() < 230 && sentence.ends_with(reason.remedy.as_ref()),
            "{sentence}"
        );
        assert_eq!(Reason::unreachable("short").fitted().what, "short");
    }

    #[tokio::test(start_paused = true)]
    async fn refused_credentials_end_the_search_and_what_may_pass_outweighs_what_does_not() {
        let lasting = |is_final| Reason {
            class: FaultClass::Permanent,
            is_final,
            ..Reason::unreachable("refused")
        };
        let mut calls = 0;
        let refuse = async |_: Address<'_>| {
            calls += 1;
            Err::<(), _>(lasting(true))
        };
        let unreached = first_of(&[host("a"), host("b")], LIMIT, LIMIT, refuse, resolve).await;
        assert_eq!(
            (unreached.unwrap_err().into_reason().what.as_str(), calls),
            ("refused", 1)
        );

        let differ = async |address: Address<'_>| {
            Err::<(), _>(if address.socket.is_ipv6() {
                lasting(false)
            } else {
                Reason::unreachable("connection refused")
            })
        };
        let unreached = first_of(&[host("a")], LIMIT, LIMIT, differ, resolve).await;
        assert_eq!(unreached.unwrap_err().into_reason().class, FaultClass::Transient);
    }

    #[tokio::test]
    async fn connections_probe_a_silent_peer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = tcp(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
    }
}
