//! Names of the view and of its columns: checked by pattern, folded as an unquoted identifier is, and quoted.

use std::fmt;

use mapa_refresh_crds::policy::Columns;

use crate::domain::row::Row;

/// A view's name: `[SCHEMA.]NAME`, as the policy writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewName {
    schema: Option<Identifier>,
    name: Identifier,
}

/// The names of the view's columns, in the order of [`Row`]'s fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnNames(Vec<Identifier>);

/// An identifier that is safe in any statement once quoted: a letter, then letters, digits, `_`, `$` and `#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier(String);

/// A name that can't be one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// Not an identifier.
    #[error("{0:?} is no identifier: a letter, then up to 127 letters, digits, '_', '$' or '#'")]
    NoIdentifier(String),
    /// Not `default=name`.
    #[error("{0:?} should be default=name, separated by commas")]
    NoPair(String),
    /// No column of that default name.
    #[error("{0:?} is no column of the view's contract")]
    UnknownColumn(String),
}

impl Identifier {
    /// Checks `text`.
    ///
    /// # Errors
    /// When it is anything but an identifier.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
        let goes_on = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_$#".contains(&b));
        if begins && goes_on && text.len() <= 128 {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::NoIdentifier(text.chars().take(80).collect()))
        }
    }

    /// Quoted for PostgreSQL, in lower case: what the name would be without quotes. It can hold no quote itself.
    #[must_use]
    pub fn in_postgres(&self) -> String {
        format!("\"{}\"", self.folded())
    }

    /// In upper case, unquoted: what Oracle makes of a name without quotes.
    #[must_use]
    pub fn in_upper_case(&self) -> String {
        self.0.to_ascii_uppercase()
    }

    /// In lower case, unquoted.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl ViewName {
    /// Checks `text`.
    ///
    /// # Errors
    /// When schema or name is no identifier.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(Identifier::parse(schema)?), name),
            None => (None, text),
        };
        Ok(Self {
            schema,
            name: Identifier::parse(name)?,
        })
    }

    /// Quoted for PostgreSQL.
    #[must_use]
    pub fn in_postgres(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", schema.in_postgres(), self.name.in_postgres()),
            None => self.name.in_postgres(),
        }
    }

    /// The schema, when the name says one.
    #[must_use]
    pub fn schema(&self) -> Option<&Identifier> {
        self.schema.as_ref()
    }

    /// The name without its schema.
    #[must_use]
    pub fn name(&self) -> &Identifier {
        &self.name
    }
}

impl fmt::Display for ViewName {
    /// As the policy writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", schema.0)?;
        }
        f.write_str(&self.name.0)
    }
}

impl ColumnNames {
    /// Reads `default=name,default=name`; columns that are not named keep their default.
    ///
    /// # Errors
    /// When a pair, a default name or an identifier is wrong.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let pairs = text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
            .map(|pair| match pair.split_once('=') {
                Some((default, name)) => Ok((default.trim(), name.trim())),
                None => Err(NameError::NoPair(pair.chars().take(80).collect())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let columns = Columns::from_names(pairs)
            .map_err(|unknown| NameError::UnknownColumn(unknown.chars().take(80).collect()))?;
        let names: Vec<_> = columns
            .names()
            .into_iter()
            .map(|(_, name)| Identifier::parse(name))
            .collect::<Result<_, _>>()?;
        debug_assert_eq!(names.len(), Row::COLUMNS);
        Ok(Self(names))
    }

    /// The names, in the order of [`Row`]'s fields.
    pub fn iter(&self) -> impl Iterator<Item = &Identifier> {
        self.0.iter()
    }

    /// The column that identifies an outage.
    #[must_use]
    pub fn id(&self) -> Option<&Identifier> {
        self.0.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oracles_upper_case_finds_postgresqls_lower_case() {
        let view = ViewName::parse("RADAR.MV_PORTAL_PUBLICO").unwrap();
        assert_eq!(view.in_postgres(), "\"radar\".\"mv_portal_publico\"");
        assert_eq!(view.to_string(), "RADAR.MV_PORTAL_PUBLICO");
        assert_eq!(ViewName::parse("mv").unwrap().in_postgres(), "\"mv\"");
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in [
            "",
            ".",
            "a.b.c",
            "a\".b",
            "a;drop table x",
            "1a",
            "a b",
            "a.",
            ".b",
            "ação",
            "a\u{0}",
        ] {
            assert!(ViewName::parse(name).is_err(), "{name:?}");
        }
        assert!(ViewName::parse(&"x".repeat(129)).is_err());
    }

    #[test]
    fn columns_are_renamed_one_by_one() {
        let columns = ColumnNames::parse("data_inicio = DT_INICIO, id=NUM").unwrap();
        let names: Vec<_> = columns.iter().map(Identifier::folded).collect();
        assert_eq!(names.len(), Row::COLUMNS);
        assert_eq!(
            (names[0].as_str(), names[1].as_str(), names[6].as_str()),
            ("num", "numero_ocorrencia", "dt_inicio")
        );
        assert!(matches!(ColumnNames::parse("x=y"), Err(NameError::UnknownColumn(_))));
        assert!(matches!(ColumnNames::parse("id"), Err(NameError::NoPair(_))));
        assert!(matches!(ColumnNames::parse("id=a\"b"), Err(NameError::NoIdentifier(_))));
    }
}
