//! Where traces are sent, as it is written in settings.

use std::{fmt, str::FromStr};

use http::{Uri, uri::PathAndQuery};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

const EXPECTED: &str = "http://HOST:PORT or https://HOST:PORT of a collector that takes OTLP over HTTP, such as http://otel-collector.observability:4318";
/// Of traces, below the collector's address (OTLP specification, OTLP/HTTP Request).
const TRACES: &str = "/v1/traces";

/// A collector of traces, by its base address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector(Uri);

impl Collector {
    /// Where it takes traces.
    #[must_use]
    pub fn traces(&self) -> String {
        format!("{}{TRACES}", self.to_string().trim_end_matches('/'))
    }
}

/// It is no address of a collector.
#[derive(Debug, thiserror::Error)]
#[error("write {EXPECTED}")]
pub struct NoCollector;

impl FromStr for Collector {
    type Err = NoCollector;

    fn from_str(text: &str) -> Result<Self, NoCollector> {
        let address: Uri = text.parse().map_err(|_| NoCollector)?;
        let is_web = matches!(address.scheme_str(), Some("http" | "https"));
        let has_host = address.host().is_some_and(|host| !host.is_empty());
        // A password in an address would stand in logs: the collector's credentials are headers.
        let names_a_user = address
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'));
        let asks = address.path_and_query().and_then(PathAndQuery::query).is_some();
        if is_web && has_host && !names_a_user && !asks {
            Ok(Self(address))
        } else {
            Err(NoCollector)
        }
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Collector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Collector;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            // Errors are raised within a visitor: there the parser knows the place and adds it.
            fn visit_str<E: Error>(self, text: &str) -> Result<Collector, E> {
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
    fn traces_have_their_path_below_the_address() {
        let traces = |text: &str| text.parse::<Collector>().unwrap().traces();
        assert_eq!(traces("http://collector:4318"), "http://collector:4318/v1/traces");
        assert_eq!(traces("http://collector:4318/"), "http://collector:4318/v1/traces");
        assert_eq!(traces("https://[::1]/otlp/"), "https://[::1]/otlp/v1/traces");
    }

    #[test]
    fn what_is_no_address_of_a_collector_is_refused() {
        for text in [
            "",
            "collector",
            "collector:4318",
            "grpc://collector:4317",
            "http://",
            "/v1/traces",
            "http://user:secret@collector",
            "http://collector?token=secret",
        ] {
            assert!(text.parse::<Collector>().is_err(), "{text}");
        }
    }
}
