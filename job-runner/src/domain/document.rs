//! What every published document has in common.

use serde::{Deserialize, Serialize, Serializer};

use crate::domain::time::Stamp;

/// Version of the published documents; it changes when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// Where a document says when it was published, in bytes from its beginning. The cache's script overwrites these
/// [`PUBLISHED_AT`]`.len()` bytes, by the cache's own clock, in the same step that publishes it.
pub const PUBLISHED_AT_OFFSET: usize = "{\"publishedAt\":\"".len();

/// What stands there until then.
pub const PUBLISHED_AT: &str = "0000-00-00T00:00:00.000000Z";

/// So many bytes of a document hold its head and the number of outages, with the longest owner that Kubernetes allows.
pub const HEAD_BYTES: usize = 1024;

/// The first fields of every document. The cache's script reads owner and generation there when it has lost its own record of
/// them; the number of outages follows, under each document's own name that begins with `total`.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Head<'a> {
    published_at: PublishedAt,
    schema_version: u32,
    owner: &'a str,
    generation: i64,
    data_as_of: Stamp,
}

impl<'a> Head<'a> {
    /// The head of a document of the policy `owner`, `namespace/name`, built from the view's content of `stamp`.
    #[must_use]
    pub fn new(owner: &'a str, stamp: Stamp) -> Self {
        Self {
            published_at: PublishedAt,
            schema_version: SCHEMA_VERSION,
            owner,
            generation: stamp.micros(),
            data_as_of: stamp,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct PublishedAt;

impl Serialize for PublishedAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(PUBLISHED_AT)
    }
}

/// What a published document says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// The view's stamp that it was built from, as a generation.
    pub generation: i64,
    /// Namespace and name of the policy; a document of an earlier version names none.
    pub owner: Option<String>,
}

impl Identity {
    /// Reads the first [`HEAD_BYTES`] of a document. `None` when they are not those of one of ours.
    #[must_use]
    pub fn read(beginning: &[u8]) -> Option<Self> {
        let inside = beginning
            .strip_prefix(b"{")
            .filter(|inside| inside.starts_with(b"\"publishedAt\":\""))?;
        // No list and no object begins within a head. What a row says can't be taken for one.
        let fields = inside.split(|byte| matches!(byte, b'[' | b'{')).next()?;
        let end = fields.iter().rposition(|byte| *byte == b',')?;
        let head = [b"{", fields.get(..end)?, b"}"].concat();
        serde_json::from_slice(&head).ok()
    }
}
