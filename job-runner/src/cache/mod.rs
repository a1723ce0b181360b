//! The cache in which the documents are published: Redis 6 and later.

mod connect;
mod error;
mod keys;
mod login;
mod staging;
mod stream;
mod url;

use mapa_refresh_crds::{
    policy::Plausibility,
    report::{FaultClass, Publication, code},
};
use redis::{Cmd, cmd};

use self::{
    connect::Connection,
    error::{Doing, NOPERM},
    keys::{Keys, Staging},
};
pub use self::{
    connect::Target,
    error::CacheError,
    keys::{Document, Lifetimes},
    staging::{Document as Encoding, Pieces},
};
use crate::domain::{
    document::{HEAD_BYTES, Identity, PUBLISHED_AT_OFFSET},
    time::Stamp,
};

/// Publications that the log keeps: as many as a report can carry.
const LOG_ENTRIES: usize = 400;

/// What the cache is asked for by [`Cache::find`], for the errors.
const LOOKING: &str = "looking at what is published";

/// The script that publishes.
const PUBLISH: &str = include_str!("../publish.lua");

/// A connection.
pub struct Cache {
    connection: Connection,
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
    /// Whether the documents' heads could be read. Without them only `meta` says whose the documents are.
    pub heads_are_read: bool,
}

/// What the script answers: outcome, µs at which it ran, generation, owner or doubt, log, whether heads could be read.
type Answer = (String, i64, i64, String, Vec<String>, bool);

/// What is published of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether the document itself is there, and is one of this program.
    pub exists: bool,
    /// Its generation.
    pub stamp: Option<Stamp>,
    /// The policy that published last.
    pub owner: Option<String>,
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
        let staging = keys.staging(&staging::token());
        let [first, second, ..] = &staging.new;
        let staged = async {
            let connection = &mut self.connection;
            let document = staging::stage(connection, first, document).await?;
            let sibling = staging::stage(connection, second, sibling).await?;
            let command = self.publication(request, &keys, &staging, [document, sibling]);
            command.query_async(&mut self.connection).await.doing("publishing")
        };
        let answer: Result<Answer, CacheError> = staged.await;
        if answer.is_err() {
            // They would expire; a cache that is full needs the room now. It may as well be gone.
            let _ = cmd("UNLINK").arg(&staging.new).exec_async(&mut self.connection).await;
        }
        let (outcome, now, generation, owner, log, heads_are_read) = answer?;
        let stamp = Stamp::from_micros(generation).unwrap_or(request.stamp);
        match outcome.as_str() {
            "published" | "fenced" => Ok(Outcome {
                published: outcome == "published",
                stamp,
                taken_over_from: (outcome == "published" && !owner.is_empty()).then_some(owner),
                log: log.iter().filter_map(|entry| publication(entry)).collect(),
                heads_are_read,
            }),
            "missing" => Err(self.expired(request.document)),
            "doubted" => Err(self.doubted(request, &owner)),
            "evicted" => Err(self.evicted(request.document)),
            _ => Err(self.conflict(request, &owner, now.saturating_sub(generation))),
        }
    }

    /// What is published of `document`: its own head says what readers see. `meta` says the rest, and all where the user may not
    /// read heads.
    ///
    /// # Errors
    /// Any error of the cache.
    pub async fn find(&mut self, document: Document) -> Result<Found, CacheError> {
        let keys = Keys::new(&self.prefix, document);
        let mut command = cmd("EXISTS");
        command.arg(&keys.document);
        let exists: bool = command.query_async(&mut self.connection).await.doing(LOOKING)?;
        let mut command = cmd("HMGET");
        command.arg(&keys.meta).arg("generation").arg("owner");
        let remembered = command.query_async(&mut self.connection).await.doing(LOOKING)?;
        let (generation, owner): (Option<i64>, Option<String>) = remembered;
        let remembered = Found {
            exists,
            stamp: generation.and_then(Stamp::from_micros),
            owner,
        };
        if !exists {
            return Ok(remembered);
        }
        let head = match self.head(&keys.document).await {
            Ok(head) => head,
            Err(error) if error.code == NOPERM && remembered.owner.is_some() => return Ok(remembered),
            Err(error) if error.code == "WRONGTYPE" => None,
            Err(error) => return Err(error),
        };
        let stamp = head.as_ref().and_then(|head| Stamp::from_micros(head.generation));
        let is_newer = stamp > remembered.stamp;
        Ok(Found {
            exists: stamp.is_some(),
            stamp,
            owner: match head.and_then(|head| head.owner) {
                Some(owner) if is_newer => Some(owner),
                other => remembered.owner.or(other),
            },
        })
    }

    async fn head(&mut self, key: &str) -> Result<Option<Identity>, CacheError> {
        let mut command = cmd("GETRANGE");
        command.arg(key).arg(0).arg(HEAD_BYTES - 1);
        let beginning: Vec<u8> = command.query_async(&mut self.connection).await.doing(LOOKING)?;
        Ok(Identity::read(&beginning))
    }

    /// Name of the key that holds `document`.
    #[must_use]
    pub fn key(&self, document: Document) -> String {
        Keys::new(&self.prefix, document).document
    }

    /// The script with its arguments.
    fn publication(&self, request: &Request<'_>, keys: &Keys, staging: &Staging, lengths: [usize; 2]) -> Cmd {
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
            .arg(12)
            .arg(&keys.document)
            .arg(&keys.sibling)
            .arg(&keys.meta)
            .arg(&keys.log)
            .arg(&staging.new)
            .arg(&staging.old);
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
            .arg(&lengths)
            .arg(plausibility.max_drop_percent)
            .arg(plausibility.max_drop_outages)
            .arg(doubt.unwrap_or_default())
            .arg(run)
            .arg(HEAD_BYTES);
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
