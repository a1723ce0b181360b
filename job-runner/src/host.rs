//! The part of a url that all stores share: `[user[:password]@]host[:port][,host[:port]…][/path][?query]`.
//!
//! A password whose special characters are not escaped shifts the parts: its rest stands where a host, a port or a path belongs. Hence nothing is
//! taken for a host that is not spelled like one, a second `@` is refused wherever it stands, and no [`Problem`] quotes the url.

use std::{fmt, net::Ipv6Addr};

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

/// Longest list of hosts in a message, in bytes: the remedy after it must survive the cut of the status.
const MAX_PLACE: usize = 80;

/// A host and its port, spelled like ones: they may appear in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// DNS name or IP address; an IPv6 address without its brackets.
    pub host: String,
    /// Port; the store's own where the url names none.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// The hosts for a message, the first of a long list only.
#[must_use]
pub fn place(hosts: &[HostPort]) -> String {
    let mut text = String::new();
    for (index, host) in hosts.iter().enumerate() {
        let host = host.to_string();
        if index > 0 && text.len() + host.len() > MAX_PLACE {
            return format!("{text} and {} more", hosts.len() - index);
        }
        if index > 0 {
            text.push(',');
        }
        text.push_str(&host);
    }
    text
}

/// User and password of a url.
#[derive(Clone, Debug, Default)]
pub struct Userinfo {
    /// User, decoded; empty when there is none.
    pub user: String,
    /// Password, decoded; absent without a colon, and when it is empty.
    pub password: Option<SecretString>,
    /// The password as the url spells it, escapes and all: for redaction.
    pub written_password: Option<SecretString>,
}

/// What follows the scheme of a url, taken apart.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// User and password.
    pub userinfo: Userinfo,
    /// At least one host.
    pub hosts: Vec<HostPort>,
    /// What stands between the hosts and the query, without the first slash; as it is written.
    pub path: Option<&'a str>,
    /// What follows the `?`; as it is written.
    pub query: Option<&'a str>,
}

/// Why a url can't be used. Its text never quotes the url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A line break, say.
    #[error("holds control characters or line breaks")]
    ControlCharacter,
    /// Part of the password, most likely.
    #[error(
        "has more than one @: in user and password write %40 for @, %2F for /, %3F for ?, %23 for #, %25 for %, %3A for :; or use the keys username and \
         password"
    )]
    SecondAt,
    /// Part of the password, most likely.
    #[error(
        "has an @ behind its host: in user and password write %40 for @, %2F for /, %3F for ?, %23 for #, %25 for %, %3A for :; or use the keys username \
         and password"
    )]
    LateAt,
    /// A percent sign that begins no escape.
    #[error(
        "has a % that begins no escape: write %25 for a % of user or password, or use the keys username and password"
    )]
    Escape,
    /// Nothing where a host belongs.
    #[error("names no host")]
    NoHost,
    /// Text where a host belongs.
    #[error(
        "has a malformed host (letters, digits, dots and hyphens); if that is part of a password, write %40 for @, %2F for /, %3F for ?, %23 for #, %2C \
         for a comma, or use the keys username and password"
    )]
    Host,
    /// Text where a port belongs.
    #[error(
        "has a malformed port (1 to 65535); if that is part of a password, write %40 for @, %2F for /, %3F for ?, %23 for #, %3A for :, or use the keys \
         username and password"
    )]
    Port,
    /// An IPv6 address whose colons can't be told from the port's.
    #[error("has an IPv6 address without brackets: write [::1]:5432 for port 5432 of ::1")]
    BareIpv6,
}

/// Takes apart what follows the scheme of a url. `port` is for hosts that name none.
///
/// # Errors
/// When it is malformed, or an `@` stands where a password that is not escaped would leave it.
pub fn parts(rest: &str, port: u16) -> Result<Parts<'_>, Problem> {
    if rest.chars().any(char::is_control) {
        return Err(Problem::ControlCharacter);
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if tail.contains('@') {
        return Err(Problem::LateAt);
    }
    let (userinfo, hosts) = match authority.split_once('@') {
        Some((_, hosts)) if hosts.contains('@') => return Err(Problem::SecondAt),
        Some((userinfo, hosts)) => (self::userinfo(userinfo)?, hosts),
        None => (Userinfo::default(), authority),
    };
    let (path, query) = match tail.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (tail, None),
    };
    Ok(Parts {
        userinfo,
        hosts: hosts
            .split(',')
            .map(|host| host_port(host, port))
            .collect::<Result<_, _>>()?,
        path: path.strip_prefix('/'),
        query,
    })
}

fn userinfo(text: &str) -> Result<Userinfo, Problem> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(password).filter(|password| !password.is_empty())),
        None => (text, None),
    };
    Ok(Userinfo {
        user: decoded(user)?,
        password: password.map(decoded).transpose()?.map(Into::into),
        written_password: password.map(|password| password.to_owned().into()),
    })
}

/// `text` with its escapes replaced.
///
/// # Errors
/// When a `%` begins no escape, or the escapes make no UTF-8.
pub fn decoded(text: &str) -> Result<String, Problem> {
    let is_escape = |rest: &str| {
        rest.get(..2)
            .is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    if !text.split('%').skip(1).all(is_escape) {
        return Err(Problem::Escape);
    }
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Problem::Escape)?
        .into_owned();
    if decoded.chars().any(char::is_control) {
        return Err(Problem::ControlCharacter);
    }
    Ok(decoded)
}

fn host_port(text: &str, default_port: u16) -> Result<HostPort, Problem> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(Problem::Host)?;
        let address: Ipv6Addr = address.parse().map_err(|_| Problem::Host)?;
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return Err(Problem::Host),
            port => port,
        };
        (address.to_string(), port)
    } else {
        if text.matches(':').count() > 1 {
            let is_like_ipv6 = |character: u8| character.is_ascii_hexdigit() || character == b':' || character == b'.';
            return Err(if text.bytes().all(is_like_ipv6) {
                Problem::BareIpv6
            } else {
                Problem::Host
            });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if host.is_empty() {
            return Err(Problem::NoHost);
        }
        if !is_name(host) {
            return Err(Problem::Host);
        }
        (host.to_owned(), port)
    };
    let port = match port {
        Some(port) => Some(port)
            .filter(|port| port.bytes().all(|digit| digit.is_ascii_digit()))
            .and_then(|port| port.parse().ok())
            .filter(|port| *port > 0)
            .ok_or(Problem::Port)?,
        None => default_port,
    };
    Ok(HostPort { host, port })
}

/// Whether `host` is spelled like a DNS name or an IPv4 address. An underscore is in no host name, but in names of containers.
#[must_use]
pub fn is_name(host: &str) -> bool {
    let is_allowed = |character: u8| character.is_ascii_alphanumeric() || b".-_".contains(&character);
    (1..=253).contains(&host.len()) && host.bytes().all(is_allowed)
}

/// Every piece of four characters of a password that a test looks for, but for those that are digits and escapes, which other texts hold, too.
#[cfg(test)]
pub(crate) fn pieces(canary: &str) -> impl Iterator<Item = &str> {
    let has_letters = |piece: &&str| piece.bytes().filter(u8::is_ascii_uppercase).count() >= 3;
    (0..canary.len().saturating_sub(3))
        .filter_map(|at| canary.get(at..at + 4))
        .filter(has_letters)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn hosts(rest: &str) -> Result<Vec<String>, Problem> {
        parts(rest, 5432).map(|parts| parts.hosts.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn hosts_are_names_and_addresses_with_their_ports() {
        for (rest, expected) in [
            ("db", &["db:5432"][..]),
            ("db-1.radar_x.svc:1/d", &["db-1.radar_x.svc:1"]),
            ("u:p@10.0.0.1:65535?x=y", &["10.0.0.1:65535"]),
            ("u@[::1],[2001:DB8::2]:1/d", &["[::1]:5432", "[2001:db8::2]:1"]),
        ] {
            assert_eq!(hosts(rest).as_deref().unwrap(), expected, "{rest}");
        }
    }

    #[test]
    fn what_is_not_spelled_like_a_host_is_refused() {
        for (rest, expected) in [
            ("", Problem::NoHost),
            ("/d", Problem::NoHost),
            ("u:p@/d", Problem::NoHost),
            (":5432", Problem::NoHost),
            ("a,,b", Problem::NoHost),
            ("::1:5432/d", Problem::BareIpv6),
            ("fe80::1/d", Problem::BareIpv6),
            ("[::1/d", Problem::Host),
            ("[::1]5432", Problem::Host),
            ("[::1%eth0]:1", Problem::Host),
            ("[db]:1", Problem::Host),
            ("u:p:w/d", Problem::Host),
            ("h%41", Problem::Host),
            ("h#x", Problem::Host),
            ("h x", Problem::Host),
            ("são", Problem::Host),
            ("h:", Problem::Port),
            ("h:0", Problem::Port),
            ("h:+1", Problem::Port),
            ("h:65536", Problem::Port),
            ("h:p4ss/d", Problem::Port),
            ("u:a@b@h/d", Problem::SecondAt),
            ("u@tenant:p@h/d", Problem::SecondAt),
            ("u:1234/x@h/d", Problem::LateAt),
            ("u:1234?x@h/d", Problem::LateAt),
            ("u:a@b/c@h/d", Problem::LateAt),
            ("u:50%@h/d", Problem::Escape),
            ("u:%zz@h/d", Problem::Escape),
            ("u%:p@h/d", Problem::Escape),
            ("u:%ff@h/d", Problem::Escape),
            ("u:%0A@h/d", Problem::ControlCharacter),
            ("u:a\nb@h/d", Problem::ControlCharacter),
        ] {
            assert_eq!(hosts(rest), Err(expected), "{rest}");
        }
    }

    #[test]
    fn user_and_password_are_decoded_and_an_empty_password_is_none() {
        let read = |rest| {
            let userinfo = parts(rest, 1).unwrap().userinfo;
            let exposed = |password: Option<SecretString>| password.map(|password| password.expose_secret().to_owned());
            (
                userinfo.user.clone(),
                exposed(userinfo.password),
                exposed(userinfo.written_password),
            )
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            read("u%40t:p%3Aw:#,x@h"),
            ("u@t".into(), some("p:w:#,x"), some("p%3Aw:#,x"))
        );
        assert_eq!(read("u:@h"), ("u".into(), None, None));
        assert_eq!(read(":p@h"), (String::new(), some("p"), some("p")));
        assert_eq!(read("h"), (String::new(), None, None));
    }

    #[test]
    fn a_long_list_of_hosts_is_cut_in_messages() {
        let one = |host: String| HostPort { host, port: 6379 };
        let many: Vec<HostPort> = (0..9).map(|n| one(format!("redis-{n}.cache.svc"))).collect();
        assert_eq!(place(&many[..2]), "redis-0.cache.svc:6379,redis-1.cache.svc:6379");
        assert!(place(&many).ends_with(" and 6 more"), "{}", place(&many));
    }
}
