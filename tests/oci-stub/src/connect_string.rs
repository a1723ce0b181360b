//! Connect strings: easy connect, a full description, or an alias of `tnsnames.ora`.

use std::{
    fs, io,
    net::{TcpStream, ToSocketAddrs},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::protocol::Ora;

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) service: String,
    timeout: Duration,
    /// TCPS: the stub speaks no TLS, but wants a wallet to be where it is told.
    wallet: Option<Option<PathBuf>>,
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, Ora> {
        let text = text.trim();
        if text.starts_with('(') {
            return Self::description(text);
        }
        if text.contains('/') {
            return Self::easy(text);
        }
        let unresolved = || Ora::new(12154, "TNS:could not resolve the connect identifier specified");
        let folder = std::env::var_os("TNS_ADMIN")
            .map(PathBuf::from)
            .ok_or_else(unresolved)?;
        let names = fs::read_to_string(folder.join("tnsnames.ora")).map_err(|_| unresolved())?;
        let entry = names.lines().find_map(|line| {
            let (alias, description) = line.split_once('=')?;
            alias
                .trim()
                .eq_ignore_ascii_case(text)
                .then(|| description.trim().to_owned())
        });
        Self::description(&entry.ok_or_else(unresolved)?)
    }

    /// `[tcp:|tcps:][//]host[:port][,host[:port]]/service[?name=value&…]`
    fn easy(text: &str) -> Result<Self, Ora> {
        let unresolved = || Ora::new(12154, "TNS:could not resolve the connect identifier specified");
        let (text, parameters) = text.split_once('?').unwrap_or((text, ""));
        let (tls, rest) = match text.split_once(':') {
            Some(("tcps", rest)) => (true, rest),
            Some(("tcp", rest)) => (false, rest),
            _ => (false, text),
        };
        let (hosts, service) = rest.trim_start_matches('/').split_once('/').ok_or_else(unresolved)?;
        let hosts = hosts
            .split(',')
            .map(|host| match host.rsplit_once(':') {
                Some((host, port)) => port
                    .parse()
                    .map(|port| (host.to_owned(), port))
                    .map_err(|_| unresolved()),
                None => Ok((host.to_owned(), if tls { 2484 } else { 1521 })),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let parameter = |name: &str| {
            parameters
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let seconds = parameter("connect_timeout")
            .map_or(Ok(60), str::parse)
            .map_err(|_| unresolved())?;
        let wallet = parameter("wallet_location").map(|folder| PathBuf::from(folder.trim_matches('"')));
        Ok(Self {
            hosts,
            service: service.to_owned(),
            timeout: Duration::from_secs(seconds),
            wallet: tls.then_some(wallet),
        })
    }

    /// `(DESCRIPTION=…(HOST=…)(PORT=…)…(SERVICE_NAME=…))`
    fn description(text: &str) -> Result<Self, Ora> {
        let squeezed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let upper = squeezed.to_ascii_uppercase();
        let value = |name: &str| {
            let at = upper.find(&format!("({name}="))? + name.len() + 2;
            squeezed.get(at..).and_then(|rest| rest.split(')').next())
        };
        let malformed = || Ora::new(12533, "TNS:illegal ADDRESS parameters");
        let host = value("HOST").ok_or_else(malformed)?;
        let port = value("PORT").ok_or_else(malformed)?.parse().map_err(|_| malformed())?;
        let service = value("SERVICE_NAME").ok_or_else(malformed)?;
        let tls = value("PROTOCOL").is_some_and(|protocol| protocol.eq_ignore_ascii_case("TCPS"));
        let timeout = value("CONNECT_TIMEOUT")
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(60);
        Ok(Self {
            hosts: vec![(host.to_owned(), port)],
            service: service.to_owned(),
            timeout: Duration::from_secs(timeout),
            wallet: tls.then(|| {
                value("MY_WALLET_DIRECTORY")
                    .or_else(|| value("WALLET_LOCATION"))
                    .map(PathBuf::from)
            }),
        })
    }

    /// Connects to the first host that answers.
    pub(crate) fn connect(&self) -> Result<TcpStream, Ora> {
        if let Some(wallet) = &self.wallet {
            let holds = |name: &str| {
                wallet
                    .as_deref()
                    .is_some_and(|folder: &Path| folder.join(name).exists())
            };
            if !(holds("cwallet.sso") || holds("ewallet.pem")) {
                return Err(Ora::new(28759, "failure to open file"));
            }
        }
        let mut last = Ora::new(12154, "TNS:could not resolve the connect identifier specified");
        for (host, port) in &self.hosts {
            match self.try_host(host, *port) {
                Ok(stream) => return Ok(stream),
                Err(ora) => last = ora,
            }
        }
        Err(last)
    }

    fn try_host(&self, host: &str, port: u16) -> Result<TcpStream, Ora> {
        let unknown = || Ora::new(12545, "Connect failed because target host or object does not exist");
        let address = (host, port)
            .to_socket_addrs()
            .map_err(|_| unknown())?
            .next()
            .ok_or_else(unknown)?;
        let stream = TcpStream::connect_timeout(&address, self.timeout).map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => Ora::new(12541, "TNS:no listener"),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Ora::new(12170, "TNS:Connect timeout occurred"),
            _ => Ora::new(12543, "TNS:destination host unreachable"),
        })?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// How long attaching may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn easy_connect_and_descriptions_name_the_same_place() {
        let easy = Target::parse("//db:1522/RADAR?connect_timeout=7").unwrap_or_else(|ora| panic!("{ora:?}"));
        let full = Target::parse("(DESCRIPTION=(CONNECT_TIMEOUT=7)(ADDRESS=(PROTOCOL=TCP)(HOST=db)(PORT=1522))(CONNECT_DATA=(SERVICE_NAME=RADAR)))")
            .unwrap_or_else(|ora| panic!("{ora:?}"));
        assert_eq!(easy, full);
        assert_eq!(
            Target::parse("a,b:1/S").map(|target| target.hosts),
            Ok(vec![("a".to_owned(), 1521), ("b".to_owned(), 1)])
        );
        assert_eq!(
            Target::parse("tcps://h/S").map(|target| target.hosts),
            Ok(vec![("h".to_owned(), 2484)])
        );
    }
}
