//! Label selectors, as far as controllers use them: equality, inequality and existence.

use serde_json::Value;

use super::failure::Failure;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Is(String, String),
    IsNot(String, String),
    Exists(String),
}

/// What the labels of an object have to be; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

impl Selector {
    /// Reads `a=b,c!=d,e`.
    ///
    /// # Errors
    /// Set-based terms, which this server does not serve.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let terms = text.split(',').filter(|term| !term.is_empty()).map(|term| {
            if term.contains([' ', '(']) {
                return Err(Failure::bad_request(format!("selector {term:?} is not served here")));
            }
            Ok(match (term.split_once("!="), term.split_once('=')) {
                (Some((key, value)), _) => Term::IsNot(key.to_owned(), value.to_owned()),
                (None, Some((key, value))) => Term::Is(key.to_owned(), value.trim_start_matches('=').to_owned()),
                (None, None) => Term::Exists(term.to_owned()),
            })
        });
        terms.collect::<Result<_, _>>().map(Self)
    }

    /// Whether `object` is selected.
    #[must_use]
    pub fn selects(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str();
        self.0.iter().all(|term| match term {
            Term::Is(key, value) => label(key) == Some(value),
            Term::IsNot(key, value) => label(key) != Some(value),
            Term::Exists(key) => label(key).is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equality_inequality_and_existence_are_understood_and_sets_are_refused() {
        let object = json!({ "metadata": { "labels": { "a": "b" } } });
        for (text, selected) in [
            ("", true),
            ("a=b", true),
            ("a==b", true),
            ("a=c", false),
            ("a!=c,a", true),
            ("z", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().selects(&object), selected, "{text}");
        }
        assert!(Selector::parse("a in (b)").is_err());
    }
}
