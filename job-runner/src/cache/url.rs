//! The url of a cache: one server, Sentinels and their primary's name, or nodes of a Redis Cluster.

use crate::host::{self, Parts};

/// Port of a server where the url names none.
const PORT: u16 = 6_379;

/// Port of a Sentinel where the url names none.
const SENTINEL_PORT: u16 = 26_379;

/// What the hosts of a url are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// One server.
    Single,
    /// The primary of this name, as the Sentinels know it.
    Sentinel(String),
    /// A cluster, of which the hosts are some.
    Cluster,
}

/// A url, taken apart.
pub(super) struct Url<'a> {
    pub(super) topology: Topology,
    pub(super) is_tls: bool,
    pub(super) parts: Parts<'a>,
    /// Number of the database; 0 where the url names none.
    pub(super) database: i64,
}

/// Why a url can't be used. Its text never quotes the url.
pub(super) enum Problem {
    /// It has not the form of one.
    Form(&'static str),
    /// Its hosts, or user and password.
    Host(host::Problem),
}

impl<'a> Url<'a> {
    pub(super) fn parse(url: &'a str) -> Result<Self, Problem> {
        let (scheme, rest) = url.split_once("://").ok_or(Problem::Form("has no scheme"))?;
        let port = match scheme {
            "redis" | "rediss" | "redis+cluster" | "rediss+cluster" => PORT,
            "redis+sentinel" | "rediss+sentinel" => SENTINEL_PORT,
            _ => {
                return Err(Problem::Form(
                    "does not begin with redis://, rediss://, redis+sentinel:// or redis+cluster://",
                ));
            }
        };
        let parts = host::parts(rest, port).map_err(Problem::Host)?;
        // The version of the protocol is ours to choose.
        let is_known = |parameter: &str| parameter.is_empty() || parameter.starts_with("protocol=");
        if !parts.query.unwrap_or_default().split('&').all(is_known) {
            return Err(Problem::Form(
                "has parameters after a ?, which are not known here; a ? of a password is written %3F",
            ));
        }
        let path = parts.path.unwrap_or_default();
        let (topology, database) = if scheme.ends_with("+sentinel") {
            let (primary, database) = path.split_once('/').unwrap_or((path, ""));
            if primary.is_empty() {
                return Err(Problem::Form("names no primary"));
            }
            if !host::is_name(primary) {
                return Err(Problem::Form(
                    "has a malformed name of a primary (letters, digits, dots and hyphens)",
                ));
            }
            (Topology::Sentinel(primary.to_owned()), database)
        } else if scheme.ends_with("+cluster") {
            (Topology::Cluster, path)
        } else {
            (Topology::Single, path)
        };
        let database = match database {
            "" => 0,
            number => number
                .parse::<u32>()
                .map_err(|_| Problem::Form("names a database that is no number"))?
                .into(),
        };
        if topology == Topology::Cluster && database != 0 {
            return Err(Problem::Form("names a database, and a Redis Cluster has only one"));
        }
        if topology == Topology::Single && parts.hosts.len() > 1 {
            return Err(Problem::Form(
                "names several hosts, and does not say whether they are Sentinels or nodes of a cluster",
            ));
        }
        Ok(Self {
            topology,
            is_tls: scheme.starts_with("rediss"),
            parts,
            database,
        })
    }
}
