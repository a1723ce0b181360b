//! The area of a run: built in, or defined by the operator's configuration.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use mapa_refresh_crds::area::{self, Area as Definition};

/// A bounding box and the municipalities in it.
#[derive(Debug, PartialEq)]
pub struct Area {
    definition: Definition,
    /// By IBGE code; shared, because each outage of a municipality carries its name.
    names: BTreeMap<String, Arc<str>>,
}

/// An area that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AreaError {
    /// Neither built in nor defined.
    #[error(
        "area {0:?} is not known: {rr} is built in, and another needs its definition, which the operator sets from `areas` of its configuration",
        rr = area::RR
    )]
    Unknown(String),
    /// Defined by what is no definition.
    #[error("the definition of area {name:?} is wrong: {problem}")]
    Malformed {
        /// The area.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

impl Area {
    /// The area called `name`, as `definition` (JSON) says, or else the one that is built in.
    ///
    /// # Errors
    /// When there is none of that name, or the definition is none.
    pub fn new(name: &str, definition: Option<&str>) -> Result<Self, AreaError> {
        let definition = match definition {
            Some(json) => serde_json::from_str(json).map_err(|error| AreaError::Malformed {
                name: name.to_owned(),
                problem: error.to_string(),
            })?,
            None if name == area::RR => Definition::roraima(),
            None => return Err(AreaError::Unknown(name.to_owned())),
        };
        Ok(Self::of(definition))
    }

    fn of(definition: Definition) -> Self {
        let municipalities = definition.municipalities.iter();
        Self {
            names: municipalities
                .map(|(code, name)| (code.to_owned(), Arc::from(name)))
                .collect(),
            definition,
        }
    }

    /// Roraima.
    #[must_use]
    pub fn roraima() -> Self {
        Self::of(Definition::roraima())
    }

    /// Whether a point lies in the box, its edges included.
    #[must_use]
    pub fn contains(&self, latitude: f64, longitude: f64) -> bool {
        self.definition.contains(latitude, longitude)
    }

    /// Code and name of the municipality with this IBGE code: of 7 digits, or of 6 where the check digit at the end is left out.
    #[must_use]
    pub fn municipio(&self, codigo_ibge: &str) -> Option<(&str, Arc<str>)> {
        let (code, name) = match codigo_ibge.len() {
            6 => {
                let from = self
                    .names
                    .range::<str, _>((Bound::Included(codigo_ibge), Bound::Unbounded));
                let mut that_begin_so = from.take_while(|(code, _)| code.starts_with(codigo_ibge));
                let first = that_begin_so.next()?;
                // Two codes of an area's definition that differ in the check digit alone: one of them is wrong.
                that_begin_so.next().is_none().then_some(first)
            }
            _ => self.names.get_key_value(codigo_ibge),
        }?;
        Some((code.as_str(), Arc::clone(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_municipality_is_known_by_its_code() {
        let roraima = Area::roraima();
        let known = |code: &str| {
            roraima
                .municipio(code)
                .map(|(code, name)| (code.to_owned(), name.to_string()))
        };
        let boa_vista = Some(("1400100".to_owned(), "Boa Vista".to_owned()));
        assert_eq!(known("1400100"), boa_vista);
        assert_eq!(known("140010"), boa_vista, "without its check digit");
        for code in ["1302603", "14001", "130260", "", "14001000"] {
            assert_eq!(known(code), None, "{code:?}");
        }
    }

    #[test]
    fn a_definition_wins_and_without_one_only_roraima_is_known() {
        assert_eq!(Area::new("RR", None).unwrap(), Area::roraima());
        let error = Area::new("AM", None).unwrap_err().to_string();
        assert!(error.contains("\"AM\"") && error.contains("`areas`"), "{error}");

        let amazonas = r#"{"latitude":{"min":-9.9,"max":2.3},"longitude":{"min":-73.9,"max":-56},"municipalities":{"1302603":"Manaus"}}"#;
        let area = Area::new("AM", Some(amazonas)).unwrap();
        assert!(area.municipio("1302603").is_some_and(|(_, name)| &*name == "Manaus"));
        assert!(area.contains(-3.1, -60.0) && !area.contains(5.0, -60.0));

        let error = Area::new("AM", Some("{}")).unwrap_err().to_string();
        assert!(error.contains("\"AM\" is wrong: missing field `latitude`"), "{error}");
    }
}
