//! What every published document has in common, and how it is written.
//!
//! A document is written without its first brace: the cache's script puts `{"publishedAt":"…",` in front, by the cache's own
//! clock, in the same step that publishes it.

use std::io::{self, Write};

use serde::Serialize;

/// Version of the published documents; it changes when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// Writes the JSON of `document`, an object, without its first brace.
///
/// # Errors
/// Those of `writer`.
pub fn write_after_brace(document: &impl Serialize, writer: impl Write) -> io::Result<()> {
    serde_json::to_writer(AfterBrace { writer, begun: false }, document).map_err(io::Error::from)
}

/// Drops the first byte.
struct AfterBrace<W> {
    writer: W,
    begun: bool,
}

impl<W: Write> Write for AfterBrace<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match bytes.split_first() {
            Some((_, rest)) if !self.begun => {
                self.begun = true;
                self.writer.write_all(rest)
            }
            _ => self.writer.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
