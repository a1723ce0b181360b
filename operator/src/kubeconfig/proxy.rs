//! Pure: by which proxy the API server is reached, in the rules of Go's `httpproxy`, which are kubectl's.
//!
//! hyper-util's matcher follows curl: it knows no ports in `NO_PROXY`, takes `.example` and `example` for the same, and sends what goes to
//! this very machine through the proxy.
//!
//! Source: <https://pkg.go.dev/golang.org/x/net/http/httpproxy>

use std::{fmt, net::IpAddr};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri, uri::Scheme};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use super::Environment;

/// How one talks to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP in plain text.
    Http,
    /// HTTP within TLS.
    Https,
    /// SOCKS 5; the proxy resolves names.
    Socks5,
}

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// How one talks to it.
    pub protocol: Protocol,
    /// Where it is: scheme, host and port.
    pub uri: Uri,
    /// User and password.
    pub credentials: Option<(String, String)>,
}

impl fmt::Display for Proxy {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uri.to_string().trim_end_matches('/'))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Proxy {
    /// The `proxy-url` of a cluster.
    ///
    /// # Errors
    /// It is no URL of a proxy.
    pub fn of_cluster(url: &str) -> Result<Self, String> {
        Self::parse(url, false)
    }

    /// The proxy that the environment names for `server`, if one is to be used.
    #[must_use]
    pub fn of_environment(environment: &Environment, server: &Uri) -> Option<Self> {
        let either = |upper: &str, lower: &str| environment.text(upper).or_else(|| environment.text(lower));
        let named = if server.scheme() == Some(&Scheme::HTTPS) {
            either("HTTPS_PROXY", "https_proxy")?
        } else if environment.text("REQUEST_METHOD").is_none() {
            either("HTTP_PROXY", "http_proxy")?
        } else {
            // In a CGI script the caller can set it: https://httpoxy.org
            return None;
        };
        let no_proxy = either("NO_PROXY", "no_proxy").unwrap_or_default();
        // kubectl uses no proxy where the variable is malformed.
        Self::parse(&named, true).ok().filter(|_| is_proxied(&no_proxy, server))
    }

    fn parse(text: &str, of_environment: bool) -> Result<Self, String> {
        let url = if of_environment && !text.contains("://") {
            format!("http://{text}")
        } else {
            text.to_owned()
        };
        let none = || "must be http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT".to_owned();
        let url: Uri = url.parse().map_err(|_| none())?;
        let (protocol, scheme, port) = match url.scheme_str() {
            Some("http") => (Protocol::Http, "http", 80),
            Some("https") => (Protocol::Https, "https", 443),
            Some("socks5") => (Protocol::Socks5, "socks5", 1080),
            // kubectl takes it of the environment alone.
            Some("socks5h") if of_environment => (Protocol::Socks5, "socks5", 1080),
            _ => return Err(none()),
        };
        let host = url.host().filter(|host| !host.is_empty()).ok_or_else(none)?;
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(format!("{host}:{}", url.port_u16().unwrap_or(port)))
            .path_and_query("/")
            .build()
            .map_err(|_| none())?;
        let user_and_password = url
            .authority()
            .and_then(|authority| authority.as_str().rsplit_once('@'));
        Ok(Self {
            protocol,
            uri,
            credentials: user_and_password.map(|(both, _)| {
                let (user, password) = both.split_once(':').unwrap_or((both, ""));
                let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
                (decoded(user), decoded(password))
            }),
        })
    }

    /// The `Proxy-Authorization` header of a plain-text request.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = self.credentials.as_ref()?;
        let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let mut header = HeaderValue::try_from(format!("Basic {both}")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// Whether `server` is reached by the proxy of the environment.
fn is_proxied(no_proxy: &str, server: &Uri) -> bool {
    let Some(host) = server.host() else { return false };
    let host = host.trim_matches(['[', ']']).to_lowercase();
    let port = server.port_u16().unwrap_or(if server.scheme() == Some(&Scheme::HTTPS) {
        443
    } else {
        80
    });
    let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return false;
    }
    !no_proxy
        .split(',')
        .map(|entry| entry.trim().to_lowercase())
        .any(|entry| is_exempt(&entry, &host, address, port))
}

/// Whether the entry of `NO_PROXY` means the host.
fn is_exempt(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return address.is_some_and(|address| network.contains(&address));
    }
    let (name, of_port) = split_port(entry);
    if of_port.is_some_and(|of_port| !of_port.is_empty() && of_port != port.to_string()) {
        return false;
    }
    if let Ok(exempt) = name.parse::<IpAddr>() {
        return address == Some(exempt.to_canonical());
    }
    // A name is none of an address's.
    if address.is_some() {
        return false;
    }
    let name = name
        .strip_prefix('*')
        .filter(|rest| rest.starts_with('.'))
        .unwrap_or(name);
    match name.strip_prefix('.') {
        // What begins with a dot means what is below it, and not itself.
        Some(domain) => is_below(host, domain),
        None => !name.is_empty() && (host == name || is_below(host, name)),
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// An entry's host and port.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    if let Some((host, port)) = entry.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        return (host, Some(port));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(variables: &[(&str, &str)], server: &str) -> Option<String> {
        let environment = Environment::of(variables.iter().copied());
        Proxy::of_environment(&environment, &server.parse().unwrap()).map(|proxy| proxy.to_string())
    }

    /// The cases of Go's own tests of `httpproxy`.
    #[test]
    fn no_proxy_means_what_it_means_for_go() {
        const NO_PROXY: &str = "foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, \
                                2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64";
        for (host, expected) in [
            ("localhost", false),
            ("127.0.0.1", false),
            ("127.0.0.2", false),
            ("[::1]", false),
            ("[::2]", true),
            ("192.168.1.1", false),
            ("192.168.1.2", true),
            ("192.168.1.3", false),
            ("192.168.1.4", true),
            ("10.0.0.2", false),
            ("[2001:db8::52:0:1]", false),
            ("[2001:db8::52:0:2]", true),
            ("[2001:db8::52:0:3]", false),
            ("[2002:db8:a::123]", false),
            ("[fe80::424b:c8be:1643:a1b6]", true),
            ("barbaz.net", true),
            ("www.barbaz.net", false),
            ("foobar.com", false),
            ("www.foobar.com", false),
            ("foofoobar.com", true),
            ("baz.com", true),
            ("localhost.net", true),
            ("local.localhost", true),
            ("barbarbaz.net", true),
            ("wildcard.io", true),
            ("nested.wildcard.io", false),
            ("awildcard.io", true),
        ] {
            let server: Uri = format!("http://{host}:80").parse().unwrap();
            assert_eq!(is_proxied(NO_PROXY, &server), expected, "{host}");
            assert!(!is_proxied("*", &server), "{host}");
        }
        for (no_proxy, server, expected) in [
            (":1", "http://example.com", true),
            (",,", "http://example.com", true),
            ("example.com", "http://example.com", false),
            (".example.com", "http://example.com", true),
            ("ample.com", "http://example.com", true),
            ("example.com", "http://foo.example.com", false),
            ("EXAMPLE.com:6443", "https://Example.com:6443", false),
            ("example.com:443", "https://example.com", false),
            ("example.com:80", "https://example.com", true),
            ("::ffff:10.0.0.1", "https://10.0.0.1", false),
        ] {
            assert_eq!(
                is_proxied(no_proxy, &server.parse().unwrap()),
                expected,
                "{no_proxy} {server}"
            );
        }
    }

    #[test]
    fn the_variables_are_those_of_go() {
        for (variables, server, expected) in [
            (
                &[("HTTP_PROXY", "127.0.0.1:8080")][..],
                "http://x.test",
                Some("http://127.0.0.1:8080"),
            ),
            (
                &[("HTTP_PROXY", "cache.test")],
                "http://x.test",
                Some("http://cache.test:80"),
            ),
            (&[("HTTP_PROXY", "cache.test")], "https://x.test", None),
            (
                &[("HTTPS_PROXY", "https://cache.test")],
                "https://x.test",
                Some("https://cache.test:443"),
            ),
            (
                &[("https_proxy", "socks5://cache.test")],
                "https://x.test",
                Some("socks5://cache.test:1080"),
            ),
            (
                &[("https_proxy", "socks5h://cache.test")],
                "https://x.test",
                Some("socks5://cache.test:1080"),
            ),
            (
                &[("HTTPS_PROXY", ""), ("https_proxy", "b")],
                "https://x.test",
                Some("http://b:80"),
            ),
            (
                &[("HTTPS_PROXY", "a"), ("https_proxy", "b")],
                "https://x.test",
                Some("http://a:80"),
            ),
            (&[("HTTPS_PROXY", "a"), ("no_proxy", "x.test")], "https://x.test", None),
            (&[("HTTPS_PROXY", "a")], "https://[::1]:6443", None),
            (&[("HTTP_PROXY", "a"), ("REQUEST_METHOD", "GET")], "http://x.test", None),
            (&[("HTTPS_PROXY", "no proxy")], "https://x.test", None),
            (&[("ALL_PROXY", "a")], "https://x.test", None),
        ] {
            assert_eq!(by(variables, server).as_deref(), expected, "{variables:?} {server}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let proxy = Proxy::of_cluster("http://radar:p%40ss%3A@[::1]:3128").unwrap();
        assert_eq!(proxy.credentials, Some(("radar".to_owned(), "p@ss:".to_owned())));
        assert_eq!(format!("{proxy} {proxy:?}"), "http://[::1]:3128 http://[::1]:3128");
        assert_eq!(proxy.authorization().unwrap(), "Basic cmFkYXI6cEBzczo=");
        for url in ["ftp://x", "socks5h://x", "x:3128", "http://", "http:///path", "://", ""] {
            assert!(Proxy::of_cluster(url).is_err(), "{url}");
        }
    }
}
