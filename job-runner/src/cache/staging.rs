//! Bringing a document to the cache in pieces, under a key that nobody reads, so that neither side holds it twice.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    io,
    time::{Duration, Instant},
};

use redis::{Cmd, aio::ConnectionLike, cmd};
use tokio::{sync::mpsc, task::JoinHandle};

use super::error::{CacheError, Doing, Quoting};

/// Largest piece, in bytes. Providers and proxies limit a request to 1 MB and more, and Redis (`proto-max-bulk-len`) to 1 MiB and
/// more. Larger pieces are not faster.
pub(super) const PIECE: usize = 512 << 10;

/// How long a piece waits for the next one, or for its publication; what a killed run leaves behind is gone after that.
const LIFETIME: Duration = Duration::from_secs(300);

/// Age at which the lifetime is renewed. No attempt sends two pieces further apart than the rest of it.
const RENEWED_AFTER: Duration = Duration::from_secs(60);

/// What the cache is being asked to do, for the errors.
const DOING: &str = "bringing the document to the cache in pieces of 512 KiB";

/// Writes a document as JSON. The writer has a type, and no `dyn`: JSON is written a few bytes at a time.
pub type Document = Box<dyn FnOnce(&mut Pieces) -> serde_json::Result<()> + Send>;

/// A name that no other run has, for the staging keys of one publication.
pub(super) fn token() -> String {
    // Each state is seeded by the system's randomness.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Writes `document` under `key`, and returns its length in bytes. The publication compares it: a piece may have expired or been
/// evicted. The encoding runs beside the sending, at most one piece ahead.
pub(super) async fn stage(
    connection: &mut impl ConnectionLike,
    key: &str,
    document: Document,
) -> Result<usize, CacheError> {
    let (mut pieces, encoding) = encode(document);
    let mut length = 0;
    let mut renewed_at = Instant::now();
    while let Some(piece) = pieces.recv().await {
        // SET for the first: a key of that name can't be continued by accident.
        let is_first = length == 0;
        let mut command = cmd(if is_first { "SET" } else { "APPEND" });
        command.arg(key).arg(&piece);
        if is_first {
            command.arg("EX").arg(LIFETIME.as_secs());
        }
        length += piece.len();
        drop(piece);
        send(&command, connection).await?;
        if renewed_at.elapsed() > RENEWED_AFTER {
            let mut renewal = cmd("EXPIRE");
            renewal.arg(key).arg(LIFETIME.as_secs());
            send(&renewal, connection).await?;
            renewed_at = Instant::now();
        }
    }
    match encoding.await {
        Ok(Ok(())) => Ok(length),
        Ok(Err(error)) => Err(CacheError::unwritable(&error)),
        Err(error) => Err(CacheError::unwritable(&error)),
    }
}

/// The piece is a document's content: the server's words about it may repeat it.
async fn send(command: &Cmd, connection: &mut impl ConnectionLike) -> Result<(), CacheError> {
    command.exec_async(connection).await.doing_with(Quoting::Code, DOING)
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

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let room = PIECE.saturating_sub(self.piece.len()).min(bytes.len());
            let (fits, rest) = bytes.split_at(room);
            self.piece.extend_from_slice(fits);
            if rest.is_empty() {
                return Ok(());
            }
            self.flush()?;
            bytes = rest;
        }
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn no_piece_is_larger_than_a_provider_takes_however_it_is_written() {
        let texts = [
            vec![b'a'; 3],
            vec![b'b'; 5 * PIECE / 2],
            vec![b'c'; PIECE],
            Vec::new(),
            vec![b'd'; 1],
        ];
        let whole = texts.concat();
        let (mut pieces, encoding) = encode(Box::new(move |out| {
            texts
                .iter()
                .try_for_each(|text| out.write_all(text))
                .map_err(serde_json::Error::io)
        }));
        let mut received = Vec::new();
        while let Some(piece) = pieces.recv().await {
            assert!((1..=PIECE).contains(&piece.len()), "{}", piece.len());
            received.push(piece);
        }
        encoding.await.unwrap().unwrap();
        assert_eq!(
            received.len(),
            whole.len().div_ceil(PIECE),
            "and none is smaller than it need be"
        );
        assert!(received.concat() == whole);
    }
}
