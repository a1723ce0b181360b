//! Names of the view and of its columns: checked by pattern, and looked up in the database's catalogue.
//!
//! A policy names them without quotes, and the database may have made them with: [`choose`] finds them whatever their case.

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

/// An identifier that is safe in any statement once quoted: a letter, then letters, digits, `_`, `$` and `#`; or that, with `-` as
/// well, in quotes, which keep the case of its letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    name: String,
    is_quoted: bool,
}

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
        let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let name = unquoted.unwrap_or(text);
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
        let others: &[u8] = if unquoted.is_some() { b"_$#-" } else { b"_$#" };
        let goes_on = name.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b));
        if begins && goes_on && name.len() <= 128 {
            Ok(Self {
                name: name.to_owned(),
                is_quoted: unquoted.is_some(),
            })
        } else {
            Err(NameError::NoIdentifier(text.chars().take(80).collect()))
        }
    }

    /// As it is written, without its quotes.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.name
    }

    /// Whether it is written in quotes.
    #[must_use]
    pub fn is_quoted(&self) -> bool {
        self.is_quoted
    }

    /// What Oracle makes of it: upper case, unless it is quoted.
    #[must_use]
    pub fn in_upper_case(&self) -> String {
        if self.is_quoted {
            self.name.clone()
        } else {
            self.name.to_ascii_uppercase()
        }
    }

    /// What PostgreSQL makes of it: lower case, unless it is quoted.
    #[must_use]
    pub fn folded(&self) -> String {
        if self.is_quoted {
            self.name.clone()
        } else {
            self.name.to_ascii_lowercase()
        }
    }
}

impl fmt::Display for Identifier {
    /// As it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.is_quoted { "\"" } else { "" };
        write!(f, "{quote}{}{quote}", self.name)
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
            write!(f, "{schema}.")?;
        }
        write!(f, "{}", self.name)
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

/// Which of `candidates`, all of them the wanted name but for the case of its letters, is meant: the one that `is` as it is
/// written, else as the database folds names without quotes, else the only one.
///
/// # Errors
/// When several are left, and none of them is the one: all of them.
pub fn choose<T>(
    candidates: &[T],
    is_written: impl Fn(&T) -> bool,
    is_folded: impl Fn(&T) -> bool,
) -> Result<Option<&T>, &[T]> {
    let written = candidates.iter().find(|candidate| is_written(candidate));
    match (
        written.or_else(|| candidates.iter().find(|candidate| is_folded(candidate))),
        candidates,
    ) {
        (Some(found), _) | (None, [found]) => Ok(Some(found)),
        (None, []) => Ok(None),
        (None, several) => Err(several),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_it_is_written_then_folded_then_in_any_case_if_it_is_the_only_one() {
        let lookup = |written: &str, candidates: &[&'static str]| {
            let name = Identifier::parse(written).unwrap();
            let folded = name.folded();
            choose(
                candidates,
                |candidate| *candidate == name.written(),
                |candidate| *candidate == folded,
            )
            .map(|found| found.copied())
            .map_err(<[&str]>::to_vec)
        };
        assert_eq!(lookup("MV", &["Mv", "mv", "MV"]), Ok(Some("MV")));
        assert_eq!(lookup("mV", &["Mv", "mv", "MV"]), Ok(Some("mv")));
        assert_eq!(lookup("mv", &["Mv"]), Ok(Some("Mv")));
        assert_eq!(lookup("mv", &[]), Ok(None));
        assert_eq!(lookup("mv", &["Mv", "MV"]), Err(vec!["Mv", "MV"]));
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
            "\"a",
            "\"",
            "\"\"",
            "\"a\"b\"",
            "\"a.b\"",
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
