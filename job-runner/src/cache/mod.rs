//! The cache in which the documents are published: Redis 6 and later.

mod error;
mod keys;
mod staging;

use std::{path::Path, time::Duration};

use mapa_refresh_crds::{
    policy::Plausibility,
    report::{FaultClass, Publication, code},
};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates, aio::MultiplexedConnection, cmd,
};
use secrecy::{ExposeSecret, SecretString};

pub use self::{
    error::CacheError,
    keys::{Document, Lifetimes},
    staging::Document as Encoding,
};
use self::{error::Doing, keys::Keys, staging::Staged};
use crate::{
    domain::{document::PUBLISHED_AT_OFFSET, time::Stamp},
    secret::{Scheme, Secret, SecretError, Store},
    tls,
};

/// What the url should look like.
const SCHEME: Scheme = "redis://host:6379 (rediss:// for TLS)";

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take. A hundred megabytes take a second.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Publications that the log keeps: as many as a report can carry.
const LOG_ENTRIES: usize = 400;

/// The script that publishes.
const PUBLISH: &str = include_str!("../publish.lua");

/// Where to connect, and how.
#[derive(Debug)]
pub struct Target {
    client: Client,
    place: String,
    username: Option<String>,
    password: Option<SecretString>,
    database: i64,
    passwords: Vec<SecretString>,
}

/// A connection.
pub struct Cache {
    connection: MultiplexedConnection,
    prefix: String,
}

/// What is to be published.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Which document.
    pub document: Document,
    /// Namespace and name of the policy.
    pub owner: &'a str,
    /// Generation: the view's stamp.
    pub stamp: Stamp,
    /// Outages in it.
    pub records: usize,
    /// How long the keys live.
    pub lifetimes: Lifetimes,
    /// What is too large a change to be published at once.
    pub plausibility: Plausibility,
    /// Why the run itself doubts what it found, as a code.
    pub doubt: Option<&'static str>,
    /// Name of the run: another one has to find the same before what is doubted is published.
    pub run: &'a str,
}

/// What came of a request to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the documents are now the published ones; false when a newer generation was there.
    pub published: bool,
    /// The generation that is published now.
    pub stamp: Stamp,
    /// The owner whose outdated documents were replaced.
    pub taken_over_from: Option<String>,
    /// Recent publications, newest first.
    pub log: Vec<Publication>,
}

/// What is published of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether the document itself is there.
    pub exists: bool,
    /// Its generation.
    pub stamp: Option<Stamp>,
    /// Who published it.
    pub owner: Option<String>,
}

impl Target {
    /// Reads the Secret mounted at `dir`.
    ///
    /// # Errors
    /// When the Secret, or a key of it, is missing or malformed.
    pub fn from_secret(dir: &Path) -> Result<Self, SecretError> {
        let secret = Secret::read(Store::Cache, dir, SCHEME)?;
        let wrong =
            |key: &str, problem: &dyn std::fmt::Display| SecretError::new(Store::Cache, dir, key, problem, SCHEME);
        let url = secret.url.expose_secret();
        if !(url.starts_with("redis://") || url.starts_with("rediss://")) || url.contains('#') {
            return Err(wrong(
                "url",
                &"does not begin with redis:// or rediss://, or has a fragment",
            ));
        }
        // The library's own words could quote the url.
        let info: ConnectionInfo = url.into_connection_info().map_err(|_| wrong("url", &"is malformed"))?;
        let given = info.redis_settings().clone();
        let (place, is_tls) = match info.addr() {
            ConnectionAddr::TcpTls { host, port, .. } => (format!("{host}:{port}"), true),
            ConnectionAddr::Tcp(host, port) => (format!("{host}:{port}"), false),
            _ => return Err(wrong("url", &"names no host")),
        };
        let mut passwords: Vec<SecretString> = given
            .password()
            .map(|password| SecretString::from(password.to_owned()))
            .into_iter()
            .collect();
        passwords.extend(secret.password.clone());
        // We log in ourselves: the library's error would not say why the server refused.
        let info = info.set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name());
        let client = if is_tls {
            tls::install_provider();
            let root_cert = match secret.ca {
                Some(pem) => {
                    tls::authorities(&pem).map_err(|error| wrong("ca.crt", &error))?;
                    Some(pem)
                }
                None => None,
            };
            Client::build_with_tls(
                info,
                TlsCertificates {
                    client_tls: None,
                    root_cert,
                },
            )
        } else {
            Client::open(info)
        };
        Ok(Self {
            client: client.map_err(|_| wrong("url", &"can't be used"))?,
            place,
            username: secret
                .username
                .or_else(|| given.username().map(str::to_owned))
                .filter(|name| !name.is_empty()),
            password: passwords
                .last()
                .cloned()
                .filter(|password| !password.expose_secret().is_empty()),
            database: given.db(),
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
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let doing = format!("connecting to {}", self.place);
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .doing(&doing)?;
        if let Some(password) = &self.password {
            let mut auth = cmd("AUTH");
            if let Some(username) = &self.username {
                auth.arg(username);
            }
            auth.arg(password.expose_secret());
            auth.exec_async(&mut connection).await.doing("logging in")?;
        } else {
            // A server that asks for a password says so clearly to a small command only.
            cmd("PING").exec_async(&mut connection).await.doing(&doing)?;
        }
        if self.database != 0 {
            cmd("SELECT")
                .arg(self.database)
                .exec_async(&mut connection)
                .await
                .doing("choosing the database")?;
        }
        Ok(Cache {
            connection,
            prefix: prefix.to_owned(),
        })
    }
}

impl Cache {
    /// Publishes `document` and, beside it, `sibling`, unless a newer generation or another owner's living document is there.
    ///
    /// # Errors
    /// Any error of the cache; what was published before is then still there. Another owner's document is one.
    pub async fn publish(
        &mut self,
        request: &Request<'_>,
        document: Encoding,
        sibling: Encoding,
    ) -> Result<Outcome, CacheError> {
        let keys = Keys::new(&self.prefix, request.document);
        let [first, second] = keys.staging(&staging::token());
        let staged = async {
            let connection = &mut self.connection;
            let document = staging::stage(connection, first.clone(), document).await?;
            let sibling = staging::stage(connection, second.clone(), sibling).await?;
            let command = self.publication(request, &keys, &document, &sibling);
            command.query_async(&mut self.connection).await.doing("publishing")
        };
        let answer: Result<(String, i64, i64, String, Vec<String>), CacheError> = staged.await;
        if answer.is_err() {
            // They would expire; a cache that is full needs the room now. It may as well be gone.
            let _ = cmd("UNLINK")
                .arg(&[first, second])
                .exec_async(&mut self.connection)
                .await;
        }
        let (outcome, now, generation, owner, log) = answer?;
        let stamp = Stamp::from_micros(generation).unwrap_or(request.stamp);
        match outcome.as_str() {
            "published" | "fenced" => Ok(Outcome {
                published: outcome == "published",
                stamp,
                taken_over_from: (outcome == "published" && !owner.is_empty()).then_some(owner),
                log: log.iter().filter_map(|entry| publication(entry)).collect(),
            }),
            "missing" => Err(self.expired(request.document)),
            "doubted" => Err(self.doubted(request, &owner)),
            "evicted" => Err(self.evicted(request.document)),
            _ => Err(self.conflict(request, &owner, now.saturating_sub(generation))),
        }
    }

    /// What is published of `document`.
    ///
    /// # Errors
    /// Any error of the cache.
    pub async fn find(&mut self, document: Document) -> Result<Found, CacheError> {
        let keys = Keys::new(&self.prefix, document);
        let mut pipe = redis::pipe();
        pipe.exists(&keys.document)
            .cmd("HMGET")
            .arg(&keys.meta)
            .arg("generation")
            .arg("owner");
        let (exists, (generation, owner)): (bool, (Option<i64>, Option<String>)) = pipe
            .query_async(&mut self.connection)
            .await
            .doing("looking at what is published")?;
        Ok(Found {
            exists,
            stamp: generation.and_then(Stamp::from_micros),
            owner,
        })
    }

    /// Name of the key that holds `document`.
    #[must_use]
    pub fn key(&self, document: Document) -> String {
        Keys::new(&self.prefix, document).document
    }

    /// The script with its arguments.
    fn publication(&self, request: &Request<'_>, keys: &Keys, document: &Staged, sibling: &Staged) -> Cmd {
        let Request {
            document: which,
            owner,
            stamp,
            records,
            lifetimes,
            plausibility,
            doubt,
            run,
        } = *request;
        let mut command = cmd("EVAL");
        command
            .arg(PUBLISH)
            .arg(6)
            .arg(&keys.document)
            .arg(&keys.sibling)
            .arg(&keys.meta)
            .arg(&keys.log)
            .arg(&document.key)
            .arg(&sibling.key);
        command.arg(stamp.micros()).arg(owner).arg(records);
        command
            .arg(lifetimes.document.as_secs())
            .arg(lifetimes.sibling.as_secs())
            .arg(lifetimes.meta.as_secs());
        command
            .arg(LOG_ENTRIES)
            .arg(format!("{}:events", self.prefix))
            .arg(which.task().as_str())
            .arg(PUBLISHED_AT_OFFSET)
            .arg(document.length)
            .arg(sibling.length)
            .arg(plausibility.max_drop_percent)
            .arg(plausibility.max_drop_outages)
            .arg(doubt.unwrap_or_default())
            .arg(run);
        command
    }

    fn conflict(&self, request: &Request<'_>, owner: &str, age_micros: i64) -> CacheError {
        let minutes = age_micros.max(0) / 60_000_000;
        CacheError {
            class: FaultClass::Permanent,
            code: code::CACHE_KEY_CONFLICT.into(),
            message: format!(
                "{} belongs to policy {owner}, whose data is {minutes} min old; give {} another spec.cache.keyPrefix, or delete \
                 {owner}: its keys are taken over 60 min after its last data",
                self.key(request.document),
                request.owner,
            ),
        }
    }

    /// `doubt` is the script's: a code and the number of outages published before.
    fn doubted(&self, request: &Request<'_>, doubt: &str) -> CacheError {
        let (reason, before) = doubt.split_once(' ').unwrap_or((doubt, "?"));
        let key = self.key(request.document);
        let (code, why) = if reason == code::VIEW_TOO_OLD {
            (
                code::VIEW_TOO_OLD,
                "the view is older than maxDataAgeMinutes: refresh-mv-portal has not refreshed it".to_owned(),
            )
        } else {
            let (percent, outages) = (
                request.plausibility.max_drop_percent,
                request.plausibility.max_drop_outages,
            );
            let now = request.records;
            (
                code::IMPLAUSIBLE_RESULT,
                format!(
                    "{before} outages are published and the view has {now}, a drop by more than {percent} % and {outages} \
                     (spec.plausibility): check what the view is built from"
                ),
            )
        };
        CacheError {
            class: FaultClass::Permanent,
            code: code.into(),
            message: format!("{why}; {key} stays as it was, and is replaced if the next run finds the same"),
        }
    }

    fn evicted(&self, document: Document) -> CacheError {
        CacheError {
            class: FaultClass::Transient,
            code: "OOM".into(),
            message: format!(
                "{} was evicted on its way into the cache: raise its maxmemory; what was published stays",
                self.key(document)
            ),
        }
    }

    fn expired(&self, document: Document) -> CacheError {
        CacheError {
            class: FaultClass::Transient,
            code: code::PUBLISHED_DATA_MISSING.into(),
            message: format!(
                "{} has gone, and a newer generation than the view's was published there: the next refresh of the view mends it",
                self.key(document)
            ),
        }
    }
}

/// An entry of the log: seconds of publication, seconds of the data, generation.
fn publication(entry: &str) -> Option<Publication> {
    let mut numbers = entry.split(' ').map(str::parse);
    let (published_at, data_as_of) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Publication {
        published_at,
        data_as_of,
    })
}
