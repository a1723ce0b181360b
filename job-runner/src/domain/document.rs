//! What every published document has in common.

use serde::{Serialize, Serializer};

/// Version of the published documents; it changes when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// Where a document says when it was published, in bytes from its beginning. The cache's script overwrites these
/// [`PUBLISHED_AT`]`.len()` bytes, by the cache's own clock, in the same step that publishes it.
pub const PUBLISHED_AT_OFFSET: usize = "{\"publishedAt\":\"".len();

/// What stands there until then.
pub const PUBLISHED_AT: &str = "0000-00-00T00:00:00.000000Z";

/// The first field of every document.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishedAt;

impl Serialize for PublishedAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(PUBLISHED_AT)
    }
}
