//! From a Secret to a connection: one server, the primary that Sentinels name, or a Redis Cluster.

use std::{fmt, io, path::Path, time::Duration};

use futures::FutureExt;
use mapa_refresh_crds::{
    report::{FaultClass, code},
    secret_keys as keys,
};
use redis::{
    AsyncConnectionConfig, ClientTlsConfig, Cmd, Pipeline, RedisConnectionInfo, RedisFuture, TlsCertificates, TlsMode,
    Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cmd,
    io::tcp::TcpSettings,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::{
    Cache,
    error::{CacheError, Doing},
    login,
    stream::{self, Tls},
    url::{Problem, Topology, Url},
};
use crate::{
    dial::{self, Address, Reason},
    host::{self, HostPort},
    secret::{BLANKS_AROUND, Scheme, Secret, SecretError, Store, has_blanks_around},
    tls::{self, Identity},
};

/// What the url should look like.
const SCHEME: Scheme = "redis://host:6379, redis+sentinel://host:26379,host:26379/PRIMARY or redis+cluster://host:6379,host:6379 \
                        (rediss instead of redis for TLS)";

/// How long a connection may take, whatever the number of servers that are tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one node of a cluster may take, once another has answered.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take. A hundred megabytes take a second.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// So much earlier than a Sentinel's share of the time ends the primary's, for the message to name the primary.
const MARGIN: Duration = Duration::from_millis(50);

/// Where to connect, and how.
#[derive(Debug)]
pub struct Target {
    topology: Topology,
    hosts: Vec<HostPort>,
    tls: Option<Tls>,
    certificates: Option<TlsCertificates>,
    login: Login,
    sentinel_login: Login,
    database: i64,
    passwords: Vec<SecretString>,
}

/// By what to log in; without a password not at all.
#[derive(Clone, Debug, Default)]
struct Login {
    username: Option<String>,
    password: Option<SecretString>,
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
    pub fn new(mut secret: Secret, dir: &Path, ca_bundle: Option<&Path>) -> Result<Self, SecretError> {
        let wrong = |key: &str, problem: &dyn fmt::Display| SecretError::new(Store::Cache, dir, key, problem, SCHEME);
        let complete = |problem: &dyn fmt::Display| SecretError::complete(Store::Cache, dir, keys::URL, problem);
        let Url {
            topology,
            is_tls,
            parts,
            database,
        } = Url::parse(secret.url.expose_secret()).map_err(|problem| match problem {
            Problem::Form(problem) => wrong(keys::URL, &problem),
            Problem::Host(problem @ host::Problem::NoHost) => wrong(keys::URL, &problem),
            Problem::Host(problem) => complete(&problem),
        })?;
        let identity = secret
            .client
            .take()
            .map(|pem| Identity::new(Store::Cache, dir, pem))
            .transpose()?;
        if !is_tls && identity.is_some() {
            return Err(complete(
                &"asks for no TLS, and a client certificate is shown over TLS only: write rediss instead of redis, or drop the keys tls.crt and tls.key",
            ));
        }
        if !is_tls && secret.ca.is_some() {
            tracing::warn!(
                "the url of the cache's Secret asks for no TLS (rediss instead of redis): its key ca.crt is ignored"
            );
        }
        let (tls, certificates) = if is_tls {
            let authorities = tls::authorities(Store::Cache, dir, &secret, ca_bundle)?;
            let client =
                tls::client(authorities.roots, identity.as_ref()).map_err(|error| wrong(keys::TLS_CERT, &error))?;
            let certificates = TlsCertificates {
                client_tls: identity
                    .as_ref()
                    .map(Identity::pem)
                    .map(|(client_cert, client_key)| ClientTlsConfig {
                        client_cert,
                        client_key,
                    }),
                root_cert: authorities.pem,
            };
            (Some(Tls::new(client, identity.is_some())), Some(certificates))
        } else {
            (None, None)
        };
        let userinfo = parts.userinfo;
        let login = Login {
            username: secret.username.or(Some(userinfo.user)).filter(|user| !user.is_empty()),
            password: secret.password.clone().or_else(|| userinfo.password.clone()),
        };
        let sentinel_login = Login {
            username: secret.sentinel_username,
            password: secret.sentinel_password.clone(),
        };
        let mut passwords: Vec<SecretString> = [
            userinfo.written_password,
            userinfo.password,
            secret.password,
            secret.sentinel_password,
        ]
        .into_iter()
        .flatten()
        .collect();
        passwords.extend(identity.iter().flat_map(Identity::secrets));
        Ok(Self {
            topology,
            hosts: parts.hosts,
            tls,
            certificates,
            login,
            sentinel_login,
            database,
            passwords,
        })
    }

    /// Every password that came with the Secret: none may appear in a message.
    #[must_use]
    pub fn passwords(&self) -> &[SecretString] {
        &self.passwords
    }

    /// Connects, and logs in when the Secret has a password, within an attempt of `limit`. Keys begin with `prefix`.
    ///
    /// # Errors
    /// When no server can be reached within ten seconds, or it refuses.
    pub async fn connect(&self, prefix: &str, limit: Duration) -> Result<Cache, CacheError> {
        let connection = match &self.topology {
            // On the heap, without their types: they are large, and nest deeper than the compiler follows.
            Topology::Single => self.single(limit).boxed_local().await,
            Topology::Sentinel(primary) => self.primary(primary, limit).boxed_local().await,
            Topology::Cluster => self.cluster(limit).boxed_local().await,
        }?;
        Ok(Cache {
            connection,
            prefix: prefix.to_owned(),
        })
    }

    async fn single(&self, limit: Duration) -> Result<Connection, CacheError> {
        let connected = dial::first(&self.hosts, CONNECT_TIMEOUT, limit, async |address| {
            self.server(address).await
        });
        match connected.await {
            Ok(connection) => Ok(Connection::Single(connection)),
            Err(unreached) => Err(self.error(unreached.into_reason(), "")),
        }
    }

    /// The primary that one of the Sentinels names now.
    async fn primary(&self, name: &str, limit: Duration) -> Result<Connection, CacheError> {
        let connected = dial::first(&self.hosts, CONNECT_TIMEOUT, limit, async |address| {
            self.primary_of(name, address).await
        });
        match connected.await {
            Ok(connection) => Ok(Connection::Single(connection)),
            Err(unreached) => Err(self.error(
                unreached.into_reason(),
                &format!(", Sentinels, for the primary {name:?}"),
            )),
        }
    }

    /// The primary that the Sentinel at `address` names. It is asked itself, for a Sentinel that was cut off names an old one.
    async fn primary_of(&self, name: &str, address: Address<'_>) -> Result<MultiplexedConnection, Reason> {
        let mut sentinel = self.open(address, &self.sentinel_login).await.map_err(of_sentinel)?;
        let named: Option<(String, u16)> = cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(name)
            .query_async(&mut sentinel)
            .await
            .map_err(|error| of_sentinel(login::reason(error)))?;
        let Some((host, port)) = named else {
            return Err(Reason {
                remedy: "check the name at the end of the url".into(),
                ..Reason::unreachable(format!("it knows no primary {name:?}"))
            });
        };
        let primary = [HostPort { host, port }];
        let left = address
            .ends
            .saturating_duration_since(Instant::now())
            .saturating_sub(MARGIN);
        let connected = dial::first(&primary, left, left, async |address| {
            let mut connection = self.server(address).await?;
            let role: Value = cmd("ROLE").query_async(&mut connection).await.map_err(login::reason)?;
            if is_primary(&role) {
                Ok(connection)
            } else {
                Err(Reason {
                    remedy: "a failover may be under way".into(),
                    ..Reason::unreachable("it is a replica")
                })
            }
        });
        connected.await.map_err(|unreached| {
            let reason = unreached.into_reason();
            Reason {
                what: format!("its primary {}: {}", host::place(&primary), reason.what),
                ..reason
            }
        })
    }

    /// Probes the seeds for one that answers, because the library's errors name fewer causes. That node leads to the others.
    async fn cluster(&self, limit: Duration) -> Result<Connection, CacheError> {
        let began = Instant::now();
        let answering = dial::first(&self.hosts, CONNECT_TIMEOUT, limit, async |address| {
            self.open(address, &self.login).await?;
            Ok(address.host.clone())
        });
        let node = answering
            .await
            .map_err(|unreached| self.error(unreached.into_reason(), ""))?;
        let doing = format!("connecting to the cluster by {node}");
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        let mut builder = ClusterClientBuilder::new([format!("{scheme}://{node}")])
            .connection_timeout(NODE_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .tcp_settings(
                TcpSettings::default()
                    .set_nodelay(true)
                    .set_keepalive(dial::keepalive()),
            )
            // The run tries again as the policy says.
            .retries(2);
        if let Some(password) = &self.login.password {
            builder = builder.password(password.expose_secret());
            if let Some(username) = &self.login.username {
                builder = builder.username(username);
            }
        }
        if let Some(certificates) = &self.certificates {
            builder = builder.tls(TlsMode::Secure).certs(certificates.clone());
        }
        let client = builder.build().doing(&doing)?;
        let left = (CONNECT_TIMEOUT + NODE_TIMEOUT).saturating_sub(began.elapsed());
        match tokio::time::timeout(left, client.get_async_connection()).await {
            Ok(connected) => Ok(Connection::Cluster(Box::new(connected.doing(&doing)?))),
            Err(_) => Err(CacheError {
                class: FaultClass::Transient,
                code: code::CACHE_UNREACHABLE.into(),
                message: format!(
                    "{doing}: no answer of other nodes within {} s; can the pod reach the addresses that CLUSTER SLOTS names?",
                    left.as_secs()
                ),
            }),
        }
    }

    /// A connection to the server at `address`, logged in, with the url's database chosen.
    async fn server(&self, address: Address<'_>) -> Result<MultiplexedConnection, Reason> {
        let mut connection = self.open(address, &self.login).await?;
        if self.database != 0 {
            cmd("SELECT")
                .arg(self.database)
                .exec_async(&mut connection)
                .await
                .map_err(|error| {
                    let reason = login::reason(error);
                    Reason {
                        what: format!("choosing the database: {}", reason.what),
                        ..reason
                    }
                })?;
        }
        Ok(connection)
    }

    /// A connection to the server at `address`, logged in.
    async fn open(&self, address: Address<'_>, login: &Login) -> Result<MultiplexedConnection, Reason> {
        let has_certificate = self.tls.as_ref().is_some_and(|tls| tls.has_certificate);
        let (stream, seen) = match stream::open(address, self.tls.as_ref()).await {
            Ok(opened) => opened,
            Err(error) => {
                let is_unanswered = error.kind() == io::ErrorKind::TimedOut && self.tls.is_some();
                return Err(if is_unanswered && stream::answers_in_plain_text(address).await {
                    stream::no_tls_there()
                } else {
                    stream::reason(&error, has_certificate)
                });
            }
        };
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let judged = |error| seen.reason(has_certificate).unwrap_or_else(|| login::reason(error));
        let (mut connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
            .await
            .map_err(judged)?;
        tokio::spawn(driver);
        // We log in ourselves: the library's error would not say why the server refused.
        let first = match &login.password {
            Some(password) => {
                let mut auth = cmd("AUTH");
                if let Some(username) = &login.username {
                    auth.arg(username);
                }
                auth.arg(password.expose_secret());
                auth
            }
            // A server that requires a password answers a small command with a clear error.
            None => cmd("PING"),
        };
        let Err(error) = first.exec_async(&mut connection).await else {
            return Ok(connection);
        };
        // A server that speaks TLS cuts a client off that does not.
        let is_cut_off = error.code().is_none() && self.tls.is_none();
        if is_cut_off && stream::speaks_tls(address).await {
            return Err(stream::no_tls_asked());
        }
        Err(judged(error))
    }

    fn error(&self, reason: Reason, whose: &str) -> CacheError {
        let mut message = format!("connecting to {}{whose}: {}", self.place(), reason.sentence());
        let code = reason.code.unwrap_or(code::CACHE_UNREACHABLE.into());
        let passwords = [&self.login.password, &self.sentinel_login.password];
        if code == code::CREDENTIALS_REJECTED && passwords.into_iter().flatten().any(has_blanks_around) {
            message = format!("{message}; {BLANKS_AROUND}");
        }
        CacheError {
            class: reason.class,
            code,
            message,
        }
    }

    fn place(&self) -> String {
        host::place(&self.hosts)
    }
}

/// The same reason, of a Sentinel: it has a password of its own, and knows commands of its own.
fn of_sentinel(reason: Reason) -> Reason {
    match reason.code.as_deref() {
        Some(code::CREDENTIALS_REJECTED) => Reason {
            remedy: "check sentinel-username and sentinel-password in the cache's Secret: Sentinels that ask for a password have those of their own".into(),
            ..reason
        },
        Some("ERR") => Reason {
            remedy: "is it a Sentinel? the url of a single server begins with redis://".into(),
            ..reason
        },
        _ => reason,
    }
}

/// Whether a server's answer to ROLE is that of a primary.
fn is_primary(role: &Value) -> bool {
    let first = match role {
        Value::Array(parts) => parts.first(),
        _ => None,
    };
    matches!(first, Some(Value::BulkString(name)) if name == b"master")
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
                .login
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
            read("redis+cluster://a:1,[::1]/?protocol=resp3"),
            ("a:1,[::1]:6379".into(), Topology::Cluster, 0, None, false)
        );
    }

    #[test]
    fn a_url_that_says_too_little_is_refused_with_what_it_should_be() {
        for (url, problem) in [
            ("host:6379", "has no scheme"),
            ("http://h", "does not begin with redis://"),
            ("redis+sentinel://a:26379", "names no primary"),
            ("redis+sentinel://a:26379/", "names no primary"),
            ("redis+sentinel://a/m m", "malformed name of a primary"),
            ("redis+sentinel://a/m/x", "no number"),
            ("redis://a/-1", "no number"),
            ("redis://a,b", "several hosts"),
            ("redis://a?x=y", "parameters after a ?"),
            ("redis+cluster://a/2", "names a database"),
            ("redis+cluster://", "names no host"),
        ] {
            let error = target(url).unwrap_err().to_string();
            assert!(
                error.contains(problem) && error.contains("redis+cluster://host"),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn a_host_that_is_none_is_refused_with_the_escape() {
        for scheme in ["redis", "rediss+sentinel", "redis+cluster"] {
            for (rest, expected) in [
                (":c4n4@ry@h/m", "more than one @"),
                (":c4n4/ry@h/m", "%2F for /"),
                (":c4n4?ry@h/m", "%3F for ?"),
                (":c4n4%ry@h/m", "%25"),
                ("::1:6379/m", "write [::1]"),
                ("a,h:c4n4/m", "malformed port"),
            ] {
                let error = target(&format!("{scheme}://{rest}")).unwrap_err().to_string();
                assert!(error.contains(expected) && !error.contains("c4n4"), "{rest}: {error}");
                assert!(error.len() <= 320 - "cache: ".len(), "{} bytes: {error}", error.len());
            }
        }
    }

    #[test]
    fn empty_keys_do_not_beat_the_credentials_of_the_url() {
        let dir = tempfile::tempdir().unwrap();
        for (key, value) in [("url", "redis://u:p@h"), ("username", "\n"), ("password", "")] {
            fs::write(dir.path().join(key), value).unwrap();
        }
        let login = Target::from_secret(dir.path(), None).unwrap().login;
        assert_eq!(login.username.as_deref(), Some("u"));
        assert_eq!(login.password.unwrap().expose_secret(), "p");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn no_url_panics_or_shows_a_piece_of_its_password(
            scheme in "rediss?(\\+(sentinel|cluster))?",
            canary in r"[A-Z0-9]{4}[-@/:#?%,\[\]&= .A-Z0-9]{0,12}",
            user in "[a-z]{0,3}",
            rest in r"h:5432/m|h,i:1/m/2|[-a-z0-9:@/?&=%\[\],.]{0,20}",
        ) {
            let text = match target(&format!("{scheme}://{user}:{canary}@{rest}")) {
                Ok(target) => format!("{} {:?}", target.place(), target.topology),
                Err(error) => error.to_string().replace(SCHEME, ""),
            };
            for piece in crate::host::pieces(&canary) {
                prop_assert!(!text.contains(piece), "{:?} of {:?} is in {}", piece, canary, text);
            }
        }
    }
}
