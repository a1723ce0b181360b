//! Bringing a document to the cache in pieces, under a key that nobody reads, so that neither side holds it twice.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    io,
};

use redis::{aio::ConnectionLike, cmd};
use tokio::{sync::mpsc, task::JoinHandle};

use super::error::{CacheError, Doing};

/// Bytes of a piece. The cache copies what it has with every piece: few pieces beat small ones.
const PIECE: usize = 4 << 20;

/// How long a piece waits for the next one, or for its publication; what a killed run leaves behind is gone after that.
const LIFETIME_SECONDS: u64 = 300;

/// What the cache is being asked to do, for the errors.
const DOING: &str = "bringing the document to the cache";

/// Writes a document as JSON. The writer has a type, and no `dyn`: JSON is written a few bytes at a time.
pub type Document = Box<dyn FnOnce(&mut Pieces) -> serde_json::Result<()> + Send>;

/// A document under its staging key.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) key: String,
    /// In bytes. The publication compares it: a piece may have expired or been evicted.
    pub(super) length: usize,
}

/// A name that no other run has, for the staging keys of one publication.
pub(super) fn token() -> String {
    // Each state is seeded by the system's randomness.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Writes `document` under `key`. The encoding runs beside the sending, at most one piece ahead.
pub(super) async fn stage(
    connection: &mut impl ConnectionLike,
    key: String,
    document: Document,
) -> Result<Staged, CacheError> {
    let (mut pieces, encoding) = encode(document);
    let mut length = 0;
    while let Some(piece) = pieces.recv().await {
        // SET for the first: a key of that name can't be continued by accident.
        let is_first = length == 0;
        let mut command = cmd(if is_first { "SET" } else { "APPEND" });
        command.arg(&key).arg(&piece);
        if is_first {
            command.arg("EX").arg(LIFETIME_SECONDS);
        }
        length += piece.len();
        drop(piece);
        command.exec_async(connection).await.doing(DOING)?;
        if !is_first {
            let mut renewed = cmd("EXPIRE");
            renewed.arg(&key).arg(LIFETIME_SECONDS);
            renewed.exec_async(connection).await.doing(DOING)?;
        }
    }
    match encoding.await {
        Ok(Ok(())) => Ok(Staged { key, length }),
        Ok(Err(error)) => Err(CacheError::unwritable(&error)),
        Err(error) => Err(CacheError::unwritable(&error)),
    }
}

fn encode(document: Document) -> (mpsc::Receiver<Vec<u8>>, JoinHandle<serde_json::Result<()>>) {
    let (pieces, received) = mpsc::channel(1);
    let encoding = tokio::task::spawn_blocking(move || {
        let mut writer = Pieces {
            piece: Vec::new(),
            pieces,
        };
        document(&mut writer)?;
        io::Write::flush(&mut writer).map_err(serde_json::Error::io)
    });
    (received, encoding)
}

/// A writer that cuts what it gets into pieces and hands each over.
#[derive(Debug)]
pub struct Pieces {
    piece: Vec<u8>,
    pieces: mpsc::Sender<Vec<u8>>,
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let next = Vec::with_capacity(self.piece.len());
        let piece = std::mem::replace(&mut self.piece, next);
        // Nobody receives any more: the attempt has ended.
        self.pieces
            .blocking_send(piece)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
