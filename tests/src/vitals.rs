//! What an operator's process answers on /metrics, /livez and /readyz.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{Error, Result, error::Step};

/// Where an operator with this log serves; it says so when it starts, and the last start counts.
#[must_use]
pub fn address(log: &str) -> Option<SocketAddr> {
    let line = log.lines().rev().find(|line| line.contains("serving /metrics"))?;
    let (_, rest) = line.split_once("address=")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Asks for `path`: the HTTP status and the body.
///
/// # Errors
/// Nobody answers within a few seconds, or it is no HTTP.
pub fn ask(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    const STEP: &str = "ask the operator";
    const LIMIT: Duration = Duration::from_secs(5);
    let mut connection = TcpStream::connect_timeout(&address, LIMIT).step(STEP)?;
    connection.set_read_timeout(Some(LIMIT)).step(STEP)?;
    // HTTP/1.0: the body comes as it is and ends with the connection.
    write!(connection, "GET {path} HTTP/1.0\r\nHost: operator\r\n\r\n").step(STEP)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).step(STEP)?;
    let wrong = || Error::new(STEP, format!("no HTTP: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or_else(wrong)?, body.to_owned()))
}

/// The value of one series of an exposition, by its whole name with labels.
#[must_use]
pub fn value(exposition: &str, series: &str) -> Option<f64> {
    let line = exposition.lines().find(|line| {
        let rest = line.strip_prefix(series);
        rest.is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_last_start_is_read_from_the_log() {
        let line = |port: u16| format!("2026 INFO serving /metrics, /livez and /readyz address=127.0.0.1:{port}\n");
        let log = format!("{}x\n{}y\n", line(1), line(2));
        assert_eq!(address(&log), Some("127.0.0.1:2".parse().unwrap()));
        assert_eq!(address("nothing"), None);
    }

    #[test]
    fn a_series_is_found_by_its_whole_name() {
        let text = "a_b{x=\"1\"} 2\na_b{x=\"11\"} 3\na 4.5\n";
        assert_eq!(value(text, "a_b{x=\"1\"}"), Some(2.0));
        assert_eq!(value(text, "a"), Some(4.5));
        assert_eq!(value(text, "a_b"), None);
    }
}
