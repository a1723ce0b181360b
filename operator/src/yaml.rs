//! Pure: YAML as kubectl reads it, which is what reaches the API server.
//!
//! kubectl turns YAML into JSON by sigs.k8s.io/yaml, whose scalars are those of YAML 1.1: `on` is true, `no` is false, `017` is 15 and
//! `1_000` is 1000. A reader of YAML 1.2 takes the first two for text and the others for other numbers, and says of a file what the cluster
//! would not. The words and numbers here are those of `resolve` in go.yaml.in/yaml/v2; a test compares them with the real kubectl.
//!
//! Source: <https://github.com/yaml/go-yaml/blob/v2.4.3/resolve.go>, <https://github.com/kubernetes-sigs/yaml/blob/v1.6.0/yaml.go>

use std::collections::BTreeMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Tag};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Number, Value};

/// Deepest nesting that is read: no object of Kubernetes comes near, and each level costs stack.
const DEEPEST: usize = 128;

/// Most values that aliases may stand for: a few lines of aliases to aliases stand for more than memory holds.
const MOST_BY_ALIASES: usize = 100_000;

/// The first number beyond 63 bits.
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// The tags of YAML itself.
const CORE: &str = "tag:yaml.org,2002:";

/// Why a document is none, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct YamlError {
    /// From 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl YamlError {
    fn at(line: usize, what: impl Into<String>) -> Self {
        Self {
            line: line.max(1),
            what: what.into(),
        }
    }
}

impl From<serde_yaml::Error> for YamlError {
    fn from(error: serde_yaml::Error) -> Self {
        let line = error.location().map_or(1, |place| place.line());
        let text = error.to_string();
        // The place is told in front.
        let what = text.split_once(" at line ").map_or(&*text, |(what, _)| what);
        Self::at(line, what)
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        Self::at(error.marker().line(), error.info())
    }
}

/// Every document of `text`, an empty one as null; a stream of JSON objects as well. Ends with the first that is none.
pub fn documents(text: &str) -> impl Iterator<Item = Result<Value, YamlError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match json(text) {
        Some(documents) => Documents::Json(documents.into_iter()),
        None => Documents::Yaml(Box::new(Reader::new(text))),
    }
}

/// The first document of `text`; null if there is none. kubectl ignores what comes behind it in a kubeconfig.
///
/// # Errors
/// It is no YAML.
pub fn first(text: &str) -> Result<Value, YamlError> {
    documents(text).next().unwrap_or(Ok(Value::Null))
}

/// What begins with a brace may be JSON, objects one behind the other, which YAML would refuse.
fn json(text: &str) -> Option<Vec<Value>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .ok()
}

enum Documents<'a> {
    Json(std::vec::IntoIter<Value>),
    Yaml(Box<Reader<'a>>),
}

impl Iterator for Documents<'_> {
    type Item = Result<Value, YamlError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Json(documents) => documents.next().map(Ok),
            Self::Yaml(reader) => reader.next_document().transpose(),
        }
    }
}

/// A node that is complete, as far as a mapping has to tell it from others.
#[derive(Clone, Debug)]
struct Node {
    value: Value,
    /// A plain scalar `<<`, which as a key merges.
    merges: bool,
    /// How many values it is made of.
    size: usize,
}

/// A list or mapping that is not complete.
enum Open {
    List(Vec<Value>),
    Mapping {
        fields: Map<String, Value>,
        key: Option<Key>,
    },
}

enum Key {
    Named(String),
    Merge,
}

struct Frame {
    open: Open,
    anchor: usize,
    size: usize,
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    /// The first document that libyaml does not take, of which kubectl's parser is a translation, and why. It is stricter about tabs.
    ungrammatical: Option<(usize, YamlError)>,
    position: usize,
    failed: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let mut options = Options::default();
        options.emit_comments = false;
        let mut grammar = serde_yaml::Deserializer::from_str(text)
            .map(IgnoredAny::deserialize)
            .enumerate();
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            ungrammatical: grammar.find_map(|(position, document)| Some((position, document.err()?.into()))),
            position: 0,
            failed: false,
        }
    }

    fn next_document(&mut self) -> Result<Option<Value>, YamlError> {
        if self.failed {
            return Ok(None);
        }
        let document = match self.ungrammatical.take_if(|(position, _)| *position == self.position) {
            Some((_, error)) => Err(error),
            None => self.read(),
        };
        self.position += 1;
        self.failed = document.is_err();
        document
    }

    fn read(&mut self) -> Result<Option<Value>, YamlError> {
        let mut document = Document::default();
        while let Some(next) = self.parser.next_event() {
            let (event, span) = next?;
            let line = span.start.line();
            match event {
                Event::StreamEnd => return Ok(None),
                Event::DocumentEnd => return Ok(Some(document.root.unwrap_or_default())),
                Event::Scalar(text, style, anchor, tag) => {
                    let is_plain = style == ScalarStyle::Plain && tag.is_none();
                    let node = Node {
                        value: scalar(&text, style, tag.as_deref(), line)?,
                        merges: is_plain && text == "<<",
                        size: 1,
                    };
                    document.complete(node, anchor, line)?;
                }
                Event::SequenceStart(_, anchor, _) => document.open(Open::List(Vec::new()), anchor, line)?,
                Event::MappingStart(_, anchor, _) => document.open(
                    Open::Mapping {
                        fields: Map::new(),
                        key: None,
                    },
                    anchor,
                    line,
                )?,
                Event::SequenceEnd | Event::MappingEnd => document.close(line)?,
                Event::Alias(anchor) => document.repeat(anchor, line)?,
                _ => {}
            }
        }
        Ok(None)
    }
}

/// A document as far as it is read.
#[derive(Default)]
struct Document {
    root: Option<Value>,
    stack: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    by_aliases: usize,
}

impl Document {
    fn open(&mut self, open: Open, anchor: usize, line: usize) -> Result<(), YamlError> {
        if self.stack.len() == DEEPEST {
            return Err(YamlError::at(line, format!("is nested more than {DEEPEST} deep")));
        }
        self.stack.push(Frame { open, anchor, size: 1 });
        Ok(())
    }

    fn close(&mut self, line: usize) -> Result<(), YamlError> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let value = match frame.open {
            Open::List(items) => Value::Array(items),
            Open::Mapping { fields, .. } => Value::Object(fields),
        };
        let node = Node {
            value,
            merges: false,
            size: frame.size,
        };
        self.complete(node, frame.anchor, line)
    }

    fn repeat(&mut self, anchor: usize, line: usize) -> Result<(), YamlError> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(YamlError::at(line, "an alias stands within what it repeats"));
        };
        self.by_aliases = self.by_aliases.saturating_add(node.size);
        if self.by_aliases > MOST_BY_ALIASES {
            return Err(YamlError::at(line, "the aliases stand for too much: write it out"));
        }
        let node = Node {
            merges: false,
            ..node.clone()
        };
        self.complete(node, 0, line)
    }

    fn complete(&mut self, node: Node, anchor: usize, line: usize) -> Result<(), YamlError> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node.value);
            return Ok(());
        };
        frame.size += node.size;
        match &mut frame.open {
            Open::List(items) => items.push(node.value),
            Open::Mapping { fields, key } => match key.take() {
                None if node.merges => *key = Some(Key::Merge),
                None => *key = Some(Key::Named(name_of_field(&node.value, line)?)),
                Some(Key::Named(name)) => {
                    fields.insert(name, node.value);
                }
                Some(Key::Merge) => merge(fields, node.value, line)?,
            },
        }
        Ok(())
    }
}

/// What a key is called in JSON.
fn name_of_field(key: &Value, line: usize) -> Result<String, YamlError> {
    match key {
        Value::String(name) => Ok(name.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(key.to_string()),
        Value::Null => Err(YamlError::at(line, "null is no name of a field: put it in quotes")),
        Value::Array(_) | Value::Object(_) => Err(YamlError::at(line, "a list or mapping is no name of a field")),
    }
}

/// `<<`: what comes later in the mapping wins over what comes before, as kubectl has it.
fn merge(fields: &mut Map<String, Value>, merged: Value, line: usize) -> Result<(), YamlError> {
    match merged {
        Value::Object(more) => fields.extend(more),
        Value::Array(all) => {
            for one in all.into_iter().rev() {
                let Value::Object(more) = one else {
                    return Err(YamlError::at(line, "<< merges mappings only"));
                };
                fields.extend(more);
            }
        }
        _ => return Err(YamlError::at(line, "<< merges mappings only")),
    }
    Ok(())
}

/// What a scalar is.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Value, YamlError> {
    let Some(tag) = tag else {
        return match style {
            ScalarStyle::Plain => plain(text).map_err(|what| YamlError::at(line, what)),
            _ => Ok(text.into()),
        };
    };
    let refused = || YamlError::at(line, format!("{text:?} is not of the type that its tag says"));
    let value = || plain(text).map_err(|what| YamlError::at(line, what));
    match tag.suffix_in_namespace(CORE).as_deref() {
        Some("null") => Some(value()?).filter(Value::is_null),
        Some("bool") => Some(value()?).filter(Value::is_boolean),
        Some("int") => Some(value()?).filter(|value| value.is_i64() || value.is_u64()),
        Some("float") => Some(value()?).filter(Value::is_number),
        Some("binary") => {
            return Err(YamlError::at(
                line,
                "!!binary is not for Kubernetes: write the base64 as text",
            ));
        }
        // Text, and what kubectl knows no type of.
        _ => return Ok(text.into()),
    }
    .ok_or_else(refused)
}

/// What a scalar without quotes is.
///
/// # Errors
/// It is a number that JSON does not have.
fn plain(text: &str) -> Result<Value, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => {
            return Err(format!("{text} is a number that JSON does not have: put it in quotes"));
        }
        _ => number(text).map_or_else(|| text.into(), Value::Number),
    })
}

/// The number that `text` is, if it is one.
fn number(text: &str) -> Option<Number> {
    match text.bytes().next()? {
        b'.' => float(text),
        b'0'..=b'9' | b'+' | b'-' => {
            let digits = text.replace('_', "");
            integer(&digits).or_else(|| float(&digits))
        }
        _ => None,
    }
}

/// As Go's `strconv.ParseInt` with base 0: the prefix says the base, a leading zero that it is 8.
fn integer(text: &str) -> Option<Number> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let (base, digits) = match prefix.as_deref() {
        Some("0x") => (16, digits.get(2..)?),
        Some("0o") => (8, digits.get(2..)?),
        Some("0b") => (2, digits.get(2..)?),
        Some(_) if digits.starts_with('0') => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    // Rust's parser takes a sign of its own.
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let size = u64::from_str_radix(digits, base).ok()?;
    if is_negative {
        return Some(0_i64.checked_sub_unsigned(size)?.into());
    }
    match i64::try_from(size) {
        Ok(whole) => Some(whole.into()),
        // For the API server it is a float; beyond 63 bits Go takes no sign.
        #[expect(clippy::cast_precision_loss, reason = "as the API server does")]
        Err(_) => (!text.starts_with('+'))
            .then(|| Number::from_f64(size as f64))
            .flatten(),
    }
}

/// A number with a point or an exponent; one without a fraction is an integer for JSON.
fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_float = unsigned
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte))
        && unsigned
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = if is_float { text.parse().ok()? } else { return None };
    if !number.is_finite() {
        return None;
    }
    // Go prints what has no fraction without a point, and what is printed so is an integer for the API server if it fits.
    #[expect(clippy::float_cmp, reason = "whether it is whole is asked of the number itself")]
    let is_integer = number.trunc() == number && number.abs() < TWO_TO_63;
    if is_integer {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole, and fits")]
        return Some((number as i64).into());
    }
    Number::from_f64(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        first(text).map_err(|error| error.to_string())
    }

    #[test]
    fn words_and_numbers_without_quotes_are_those_of_yaml_1_1() {
        for (text, expected) in [
            ("on", json!(true)),
            ("NO", json!(false)),
            ("y", json!(true)),
            ("oN", json!("oN")),
            ("017", json!(15)),
            ("08", json!(8)),
            ("0o17", json!(15)),
            ("0b11", json!(3)),
            ("0x1F", json!(31)),
            ("-0x1f", json!(-31)),
            ("1_000", json!(1000)),
            ("12:30:00", json!("12:30:00")),
            ("2026-01-01", json!("2026-01-01")),
            (".5", json!(0.5)),
            ("1e3", json!(1000)),
            ("1e400", json!("1e400")),
            ("9223372036854775807", json!(i64::MAX)),
            ("9223372036854775808", json!(9.223_372_036_854_776e18)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("18446744073709551616", json!(1.8446744073709552e19)),
            ("+", json!("+")),
            ("-", json!([null])),
            ("=", json!("=")),
            ("~", json!(null)),
            ("", json!(null)),
            ("'on'", json!("on")),
            ("\"017\"", json!("017")),
            ("!!str on", json!("on")),
            ("!!int '5'", json!(5)),
            ("! on", json!("on")),
            ("|\n  on\n", json!("on\n")),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_json_does_not_have_is_refused_with_its_line() {
        for (text, expected) in [
            ("a: .inf", "line 1: .inf is a number that JSON does not have"),
            ("a: 1\n~: 2", "line 2: null is no name of a field"),
            ("a: 1\n[b]: 2", "line 2: a list or mapping is no name"),
            ("a: !!int x", "line 1: \"x\" is not of the type"),
            ("<<: 1", "line 1: << merges mappings only"),
            ("a: &a [*a]", "line 1: an alias stands within"),
            ("a: [\n", "line "),
            ("a: 1\n\t- b\n", "line 2: "),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn anchors_are_repeated_and_merged_in_the_order_of_kubectl() {
        let text = "base: &base {a: 1, b: 2}\nlist: [*base]\nx: {<<: *base, b: 3}\nw: {b: 3, <<: *base}\nz: {<<: [{a: 5}, *base]}";
        assert_eq!(
            read(text).unwrap(),
            json!({
                "base": { "a": 1, "b": 2 }, "list": [{ "a": 1, "b": 2 }],
                "x": { "a": 1, "b": 3 }, "w": { "a": 1, "b": 2 }, "z": { "a": 5, "b": 2 },
            })
        );
    }

    #[test]
    fn a_file_cannot_ask_for_more_than_it_is_worth() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let alias = format!("*a{}, ", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", alias.repeat(10)));
        }
        assert!(read(&text).unwrap_err().contains("aliases stand for too much"));
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&"- ".repeat(100_000)).is_err());
    }

    #[test]
    fn documents_come_one_by_one_from_yaml_and_from_json() {
        let all = |text| documents(text).collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(
            all("a: 1\n---\n---\nb: on\n"),
            [json!({ "a": 1 }), json!(null), json!({ "b": true })]
        );
        assert_eq!(all("{\"a\": 1}\n{\"b\": 2}"), [json!({ "a": 1 }), json!({ "b": 2 })]);
        assert_eq!(all("{a: on}"), [json!({ "a": true })]);
        assert_eq!(all(""), Vec::<Value>::new());
        assert_eq!(all("\u{feff}a: 1\r\n"), [json!({ "a": 1 })]);
        let broken: Vec<bool> = documents("a: 1\n---\nb: [").map(|document| document.is_ok()).collect();
        assert_eq!(broken, [true, false]);
    }

    proptest! {
        #[test]
        fn json_is_read_as_json_reads_it(text in "[a-z0-9 :.+-]{0,12}", number: i64, yes: bool) {
            let object = json!({ "text": text, "number": number, "yes": yes, "list": [text, number] });
            prop_assert_eq!(&first(&object.to_string()).unwrap(), &object);
            // The same by the reader of YAML, which JSON is a part of.
            let list = format!("[{object}]");
            prop_assert_eq!(first(&list).unwrap(), json!([object]));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,60}", more in "[-:{}\\[\\]&*!|>'\"#%@,? \n\ta0.]{0,60}") {
            let _ = documents(&text).count();
            let _ = documents(&more).count();
            let _ = documents(&format!("{more}\n{text}")).count();
        }
    }
}
