//! What the two halves say to each other over TCP: length-prefixed messages.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::value::{Column, Value};

/// What the client asks. Everything but a break is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Attach to a service.
    Attach {
        /// Its name.
        service: String,
    },
    /// Log on.
    Begin {
        /// Name; none for one that the wallet keeps.
        user: Option<String>,
        /// Password.
        password: Option<String>,
    },
    /// Execute a statement.
    Execute {
        /// Its text.
        sql: String,
        /// Values bound, by position.
        binds: Vec<Value>,
    },
    /// Fetch rows of a cursor.
    Fetch {
        /// The cursor.
        cursor: u32,
        /// How many at most.
        rows: u32,
    },
    /// Forget a cursor.
    Close {
        /// The cursor.
        cursor: u32,
    },
    /// Commit.
    Commit,
    /// Roll back.
    Rollback,
    /// Are you there?
    Ping,
    /// Log off.
    End,
    /// Stop what this session is doing. Not answered.
    Break,
}

/// What the server answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    /// Done.
    Done,
    /// Logged on.
    Begun {
        /// What a break will fail with.
        break_fault: Option<Ora>,
        /// A warning, such as ORA-28002.
        warning: Option<Ora>,
        /// Whether the client is to hang when its process ends.
        hangs_at_exit: bool,
    },
    /// A query is open.
    Opened {
        /// Its cursor.
        cursor: u32,
        /// Its columns.
        columns: Vec<Column>,
    },
    /// Rows.
    Rows {
        /// The rows.
        rows: Vec<Vec<Value>>,
    },
    /// A block has run.
    Ran {
        /// Values of its binds afterwards.
        binds: Vec<Value>,
    },
    /// It failed.
    Failed(Ora),
}

/// An error of the server: `ORA-` and the code, and its text as Oracle would print it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ora {
    /// The number.
    pub code: i32,
    /// The whole message; several lines for a wrapped error.
    pub message: String,
}

impl Ora {
    /// `ORA-code: text`.
    #[must_use]
    pub fn new(code: i32, text: &str) -> Self {
        Self {
            code,
            message: format!("ORA-{code:05}: {text}"),
        }
    }
}

/// Sends a message.
///
/// # Errors
/// The connection's.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

/// Waits for a message.
///
/// # Errors
/// The connection's; its end is one.
pub fn receive<M: DeserializeOwned>(from: &mut impl Read) -> io::Result<M> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    // A neighbour that speaks another protocol must not make us allocate what it says.
    if length > 256 << 20 {
        return Err(io::Error::other("no message of the OCI stub"));
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}
