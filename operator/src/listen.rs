//! Where metrics and probes are served, as it is written in settings.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

const EXPECTED: &str = ":PORT (such as :8080), ADDRESS:PORT (such as 127.0.0.1:8080 or [::1]:8080), or off";

/// Where metrics and probes are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// On every address of the machine, by this port; 0: one that is free.
    EveryAddress(u16),
    /// On one address.
    Address(SocketAddr),
}

impl Default for Listen {
    fn default() -> Self {
        Self::EveryAddress(8080)
    }
}

/// It is no place to listen.
#[derive(Debug, thiserror::Error)]
#[error("write {EXPECTED}")]
pub struct NoPlace;

impl FromStr for Listen {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        if text == "off" {
            return Ok(Self::Off);
        }
        match text.strip_prefix(':') {
            Some(port) => port.parse().map(Self::EveryAddress).map_err(|_| NoPlace),
            None => text.parse().map(Self::Address).map_err(|_| NoPlace),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::EveryAddress(port) => write!(f, ":{port}"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            // Errors are raised within a visitor: there the parser knows the place and adds it.
            fn visit_str<E: Error>(self, text: &str) -> Result<Listen, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for text in ["off", ":0", ":8080", "127.0.0.1:8080", "[::1]:65535"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for text in ["", "8080", ":", ":65536", "localhost:8080", "::1", "on"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
