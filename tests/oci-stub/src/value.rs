//! Values and types of columns, as they travel from the server half to the client half.

use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// VARCHAR2(n CHAR).
    Varchar2(u16),
    /// CHAR(n): padded with blanks.
    Char(u16),
    /// NUMBER without precision.
    Number,
    /// NUMBER(precision, scale).
    Decimal(u8, i8),
    /// DATE: seconds, no zone.
    Date,
    /// TIMESTAMP(6): no zone.
    Timestamp,
    /// TIMESTAMP(6) WITH TIME ZONE.
    TimestampTz,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// NULL.
    Null,
    /// Bytes in the database's character set, which need not be UTF-8 in a badly migrated one.
    Text(Vec<u8>),
    /// A number in decimal: `-12.5`.
    Number(String),
    /// A DATE or TIMESTAMP.
    Local(NaiveDateTime),
    /// A TIMESTAMP WITH TIME ZONE: local time and minutes east of UTC.
    Zoned(NaiveDateTime, i16),
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    /// A whole number.
    #[must_use]
    pub fn int(number: i64) -> Self {
        Self::Number(number.to_string())
    }

    /// The number as a float; `None` for anything else.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, in upper case.
    pub name: String,
    /// Its type.
    pub kind: Kind,
}

impl Column {
    /// A column.
    #[must_use]
    pub fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_ascii_uppercase(),
            kind,
        }
    }
}
