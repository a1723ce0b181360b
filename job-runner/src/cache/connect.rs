//! From a Secret to a connection: one server, the primary that Sentinels name, or a Redis Cluster.

use std::{fmt, path::Path, time::Duration};

use mapa_refresh_crds::report::{FaultClass, code};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisFuture, TlsCertificates, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cmd,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::{
    Cache,
    error::{CacheError, Doing},
};
use crate::{
    secret::{Scheme, Secret, SecretError, Store},
    tls,
};

/// What the url should look like.
const SCHEME: Scheme = "redis://host:6379, redis+sentinel://host:26379,host:26379/PRIMARY or redis+cluster://host:6379,host:6379 \
                        (rediss instead of redis for TLS)";

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take. A hundred megabytes take a second.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Ports where the url names none.
const SENTINEL_PORT: u16 = 26_379;

/// Where to connect, and how.
#[derive(Debug)]
pub struct Target {
    topology: Topology,
    nodes: Vec<ConnectionAddr>,
    certificates: Option<TlsCertificates>,
    username: Option<String>,
    password: Option<SecretString>,
    database: i64,
    sentinel_username: Option<String>,
    sentinel_password: Option<SecretString>,
    passwords: Vec<SecretString>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Topology {
    /// One server.
    Single,
    /// The primary of this name, as the Sentinels know it.
    Sentinel(String),
    /// A cluster, of which the nodes are some.
    Cluster,
}

/// A connection to the server that takes writes for our keys.
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(Box<ClusterConnection>),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl Target {
    /// Reads the Secret mounted at `dir`.
    ///
    /// # Errors
    /// When the Secret, or a key of it, is missing or malformed.
    pub fn from_secret(dir: &Path, ca_bundle: Option<&Path>) -> Result<Self, SecretError> {
        Self::new(Secret::read(Store::Cache, dir, SCHEME)?, dir, ca_bundle)
    }

    /// The same, of a Secret that was read from `dir`.
    ///
    /// # Errors
    /// When a key of it is missing or malformed.
    pub fn new(secret: Secret, dir: &Path, ca_bundle: Option<&Path>) -> Result<Self, SecretError> {
        let wrong = |key: &str, problem: &dyn fmt::Display| SecretError::new(Store::Cache, dir, key, problem, SCHEME);
        let url = Url::parse(secret.url.expose_secret()).map_err(|problem| wrong("url", &problem))?;
        // The library's own words could quote the url.
        let infos = url
            .nodes
            .iter()
            .map(|node| node.as_str().into_connection_info())
            .collect::<Result<Vec<ConnectionInfo>, _>>()
            .map_err(|_| wrong("url", &"is malformed"))?;
        let given = infos
            .first()
            .map(|info| info.redis_settings().clone())
            .unwrap_or_default();
        let is_tcp =
            |info: &ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { .. } | ConnectionAddr::Tcp(..));
        if infos.is_empty() || !infos.iter().all(is_tcp) {
            return Err(wrong("url", &"names no host"));
        }
        let mut passwords: Vec<SecretString> = given
            .password()
            .map(|password| SecretString::from(password.to_owned()))
            .into_iter()
            .collect();
        passwords.extend(secret.password.clone());
        let certificates = if url.is_tls {
            tls::install_provider();
            let root_cert = match (secret.ca, ca_bundle) {
                (Some(pem), _) => {
                    tls::authorities(&pem).map_err(|error| wrong("ca.crt", &error))?;
                    Some(pem)
                }
                (None, Some(bundle)) => Some(tls::bundle(Store::Cache, bundle)?.pem),
                (None, None) => None,
            };
            Some(TlsCertificates {
                client_tls: None,
                root_cert,
            })
        } else {
            None
        };
        if url.topology == Topology::Cluster && given.db() != 0 {
            return Err(wrong("url", &"names a database, and a Redis Cluster has only one"));
        }
        let password = passwords
            .last()
            .cloned()
            .filter(|password| !password.expose_secret().is_empty());
        passwords.extend(secret.sentinel_password.clone());
        Ok(Self {
            nodes: infos.into_iter().map(|info| info.addr().clone()).collect(),
            database: url.database.unwrap_or_else(|| given.db()),
            topology: url.topology,
            certificates,
            username: secret
                .username
                .or_else(|| given.username().map(str::to_owned))
                .filter(|name| !name.is_empty()),
            password,
            sentinel_username: secret.sentinel_username,
            sentinel_password: secret.sentinel_password,
            passwords,
        })
    }

    /// Every password that came with the Secret: none may appear in a message.
    #[must_use]
    pub fn passwords(&self) -> &[SecretString] {
        &self.passwords
    }

    /// Connects, and logs in when the Secret has a password. Keys begin with `prefix`.
    ///
    /// # Errors
    /// When the server can't be reached within five seconds, or refuses.
    pub async fn connect(&self, prefix: &str) -> Result<Cache, CacheError> {
        let doing = format!("connecting to {}", self.place());
        let connecting = async {
            match &self.topology {
                Topology::Cluster => self.cluster(&doing).await,
                Topology::Single => self.log_in(self.client(&doing)?, &doing).await,
                Topology::Sentinel(primary) => {
                    let client = self.primary(primary, &doing).await?;
                    self.log_in(client, &doing).await
                }
            }
        };
        // One limit around all: of several Sentinels or nodes each may be silent.
        let connection = timeout(2 * CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| {
            Err(CacheError {
                class: FaultClass::Transient,
                code: code::CACHE_UNREACHABLE.into(),
                message: format!("{doing}: no answer within {} s", 2 * CONNECT_TIMEOUT.as_secs()),
            })
        })?;
        Ok(Cache {
            connection,
            prefix: prefix.to_owned(),
        })
    }

    fn client(&self, doing: &str) -> Result<Client, CacheError> {
        let node = self
            .nodes
            .first()
            .cloned()
            .unwrap_or(ConnectionAddr::Tcp(String::new(), 0));
        // We log in ourselves: the library's error would not say why the server refused.
        let info = node.into_connection_info().doing(doing)?;
        let info = info.set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name());
        match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        }
        .doing(doing)
    }

    /// The primary that the Sentinels name now.
    async fn primary(&self, name: &str, doing: &str) -> Result<Client, CacheError> {
        let mut builder =
            SentinelClientBuilder::new(self.nodes.clone(), name, SentinelServerType::Master).doing(doing)?;
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(certificates.clone())
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone());
        }
        // The library asks the server itself whether it is the primary, and has to log in for that.
        if let Some(password) = &self.password {
            builder = builder.set_client_to_redis_password(password.expose_secret());
            if let Some(username) = &self.username {
                builder = builder.set_client_to_redis_username(username);
            }
        }
        if let Some(password) = &self.sentinel_password {
            builder = builder.set_client_to_sentinel_password(password.expose_secret());
            if let Some(username) = &self.sentinel_username {
                builder = builder.set_client_to_sentinel_username(username);
            }
        }
        let mut sentinels = builder.build().doing(doing)?;
        sentinels
            .async_get_client()
            .await
            .doing(&format!("{doing}, Sentinels, for the primary {name:?}"))
            .map_err(|mut error| {
                if error.code == code::CREDENTIALS_REJECTED {
                    error.message += "; Sentinels that ask for a password have keys of their own there: sentinel-username, sentinel-password";
                }
                error
            })
    }

    async fn log_in(&self, client: Client, doing: &str) -> Result<Connection, CacheError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .doing(doing)?;
        if let Some(password) = &self.password {
            let mut auth = cmd("AUTH");
            if let Some(username) = &self.username {
                auth.arg(username);
            }
            auth.arg(password.expose_secret());
            auth.exec_async(&mut connection).await.doing("logging in")?;
        } else {
            // A server that asks for a password says so clearly to a small command only.
            cmd("PING").exec_async(&mut connection).await.doing(doing)?;
        }
        if self.database != 0 {
            cmd("SELECT")
                .arg(self.database)
                .exec_async(&mut connection)
                .await
                .doing("choosing the database")?;
        }
        Ok(Connection::Single(connection))
    }

    async fn cluster(&self, doing: &str) -> Result<Connection, CacheError> {
        let mut builder = ClusterClientBuilder::new(self.nodes.clone())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            // The run tries again as the policy says.
            .retries(2);
        if let Some(password) = &self.password {
            builder = builder.password(password.expose_secret());
            if let Some(username) = &self.username {
                builder = builder.username(username);
            }
        }
        if let Some(certificates) = &self.certificates {
            builder = builder.tls(TlsMode::Secure).certs(certificates.clone());
        }
        let connection = builder
            .build()
            .doing(doing)?
            .get_async_connection()
            .await
            .doing(doing)?;
        Ok(Connection::Cluster(Box::new(connection)))
    }

    fn place(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(ToString::to_string).collect();
        nodes.join(",")
    }
}

/// A url, taken apart as far as the library does not know its form.
struct Url {
    topology: Topology,
    is_tls: bool,
    /// One url per node, as the library reads them.
    nodes: Vec<String>,
    /// Number of the database, where it is not part of the nodes' urls.
    database: Option<i64>,
}

impl Url {
    fn parse(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").ok_or("has no scheme")?;
        if url.contains('#') {
            return Err("has a fragment");
        }
        let is_tls = scheme.starts_with("rediss");
        let plain = if is_tls { "rediss" } else { "redis" };
        let one = |topology, database, nodes| {
            Ok(Self {
                topology,
                is_tls,
                nodes,
                database,
            })
        };
        match scheme {
            "redis" | "rediss" => one(Topology::Single, None, vec![url.to_owned()]),
            "redis+sentinel" | "rediss+sentinel" => {
                let (authority, path) = rest.split_once('/').ok_or("names no primary")?;
                let (primary, database) = path.split_once('/').map_or((path, None), |(name, db)| (name, Some(db)));
                if primary.is_empty() {
                    return Err("names no primary");
                }
                let database = match database.filter(|database| !database.is_empty()) {
                    Some(database) => database.parse().map_err(|_| "names a database that is no number")?,
                    None => 0,
                };
                let nodes = nodes(plain, authority, Some(SENTINEL_PORT));
                one(Topology::Sentinel(primary.to_owned()), Some(database), nodes)
            }
            "redis+cluster" | "rediss+cluster" => {
                let nodes = nodes(plain, rest, None);
                one(Topology::Cluster, None, nodes)
            }
            _ => Err("does not begin with redis://, rediss://, redis+sentinel:// or redis+cluster://"),
        }
    }
}

/// Each host of `authority` with its user and password. `port` is for hosts that name none.
fn nodes(scheme: &str, authority: &str, port: Option<u16>) -> Vec<String> {
    let (user, hosts) = authority
        .rsplit_once('@')
        .map_or(("", authority), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    let has_port = |host: &str| {
        host.rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    };
    hosts
        .split(',')
        .map(|host| match port.filter(|_| !has_port(host)) {
            Some(port) => format!("{scheme}://{user}{at}{host}:{port}"),
            None => format!("{scheme}://{user}{at}{host}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn target(url: &str) -> Result<Target, SecretError> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("url"), url).unwrap();
        Target::from_secret(dir.path(), None)
    }

    #[test]
    fn each_form_of_url_says_where_to_look() {
        let read = |url: &str| {
            let target = target(url).unwrap();
            let password = target
                .password
                .as_ref()
                .map(|password| password.expose_secret().to_owned());
            (
                target.place(),
                target.topology.clone(),
                target.database,
                password,
                target.certificates.is_some(),
            )
        };
        let password = || Some("p:w".to_owned());
        assert_eq!(
            read("redis://:p%3Aw@h:1/3"),
            ("h:1".into(), Topology::Single, 3, password(), false)
        );
        assert_eq!(
            read("rediss+sentinel://u:p%3Aw@a,b:7/mapa/2"),
            (
                "a:26379,b:7".into(),
                Topology::Sentinel("mapa".into()),
                2,
                password(),
                true
            )
        );
        assert_eq!(
            read("redis+cluster://a:1,b"),
            ("a:1,b:6379".into(), Topology::Cluster, 0, None, false)
        );
    }

    #[test]
    fn a_url_that_says_too_little_is_refused_with_what_it_should_be() {
        for (url, problem) in [
            ("host:6379", "has no scheme"),
            ("http://h", "does not begin with redis://"),
            ("redis+sentinel://a:26379", "names no primary"),
            ("redis+sentinel://a:26379/", "names no primary"),
            ("redis+sentinel://a/m/x", "no number"),
            ("redis+cluster://a/2", "names a database"),
            ("redis+cluster://", "is malformed"),
        ] {
            let error = target(url).unwrap_err().to_string();
            assert!(
                error.contains(problem) && error.contains("redis+cluster://host"),
                "{url}: {error}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn no_url_panics_or_is_quoted_with_its_password(scheme in "rediss?(\\+(sentinel|cluster))?", rest in "[ -~]{0,40}|[a-z0-9:@/?&=%\\[\\],.]{0,40}") {
            if let Err(error) = target(&format!("{scheme}://u:c4n4ry@{rest}")) {
                prop_assert!(!error.to_string().contains("c4n4ry"), "{}", error);
            }
        }
    }
}
