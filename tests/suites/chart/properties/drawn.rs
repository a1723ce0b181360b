//! Values that are drawn from the schema: of each place something that the schema may take, and at the edges of it.

use std::collections::HashMap;

use proptest::{
    strategy::{Strategy, ValueTree},
    string::{RegexGeneratorStrategy, string_regex},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Map, Number, Value, json};

/// What YAML, Go, a shell or Kubernetes takes for something else than a text.
const ODD: [&str; 92] = [
    "",
    " ",
    "y",
    "Y",
    "n",
    "no",
    "No",
    "on",
    "off",
    "yes",
    "true",
    "True",
    "false",
    "null",
    "Null",
    "~",
    "0",
    "1",
    "-1",
    "007",
    "1e3",
    "1E3",
    "0x1f",
    "0o17",
    "0b1",
    "1_000",
    "1:30",
    "12:30:45",
    ".5",
    "5.",
    ".inf",
    "-.inf",
    ".nan",
    "+1",
    "943161054",
    "9223372036854775808",
    "2001-01-01",
    "2001-01-01T00:00:00Z",
    "=",
    "<<",
    "!",
    "!!str x",
    "&a",
    "*a",
    "|",
    ">",
    "-",
    "- a",
    "?",
    "? a",
    "a: b",
    "a:",
    ":a",
    "a #b",
    "#",
    "'",
    "\"",
    "''",
    "{",
    "}",
    "[]",
    "{}",
    "{a: b}",
    "%",
    "@",
    "`",
    "\t",
    "a\tb",
    "\n",
    "a\nb",
    " a",
    "a ",
    "\n a\n  b\n\n",
    "a\r\nb",
    "\r",
    "\u{7f}",
    "\u{80}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffe}",
    "é",
    "🌩️ 𝔛",
    "\\",
    "a\\n",
    "$(RUST_LOG)",
    "{{ .Values }}",
    "a,b=c",
    "---",
    "...",
    "\u{1b}[31m",
];

/// Draws values; alike for the same seed.
pub struct Draw<'a> {
    schema: &'a Value,
    places: Vec<(Vec<String>, &'a Value)>,
    rng: fastrand::Rng,
    runner: TestRunner,
    patterns: HashMap<&'a str, RegexGeneratorStrategy<String>>,
    /// The odd ones that a pattern takes.
    odd: HashMap<&'a str, Vec<&'static str>>,
    /// Whether something else than what the schema asks for is drawn now and then.
    is_odd: bool,
}

impl<'a> Draw<'a> {
    /// Draws what `schema`, that of the chart's values, takes.
    pub fn new(schema: &'a Value, seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut draw = Self {
            schema,
            places: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
            runner: TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)),
            patterns: HashMap::new(),
            odd: HashMap::new(),
            is_odd: false,
        };
        draw.collect(&[], schema);
        draw
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.rng.u32(0..many) == 0
    }

    fn one_of<'b, T>(&mut self, all: &'b [T]) -> &'b T {
        &all[self.rng.usize(0..all.len())]
    }

    /// A set of values, and the places of it that were drawn: names from the root.
    pub fn set(&mut self) -> (Value, Vec<Vec<String>>) {
        let mut set = self.switches();
        let mut places: Vec<Vec<String>> = Vec::new();
        // Half of the sets are meant to be taken as they are.
        let is_odd = self.rng.bool();
        for _ in 0..self.rng.usize(1..=5) {
            self.is_odd = is_odd && self.rng.bool();
            let (place, schema) = self.places[self.rng.usize(0..self.places.len())].clone();
            let touches = |other: &Vec<String>| other.starts_with(&place) || place.starts_with(other);
            if places.iter().any(touches) {
                continue;
            }
            let value = self.value(schema, 0);
            let names = place.iter().rev();
            let value = names.fold(value, |below, name| json!({ name.as_str(): below }));
            merge(&mut set, value);
            places.push(place);
        }
        fit(&mut set);
        (set, places)
    }

    /// What is on, so that every template is rendered, and names that most sets have in common: what is equal is judged once.
    fn switches(&mut self) -> Value {
        let mut set = json!({ "crds": { "install": self.one_in(40) } });
        if !self.one_in(10) {
            set["fullnameOverride"] = json!("mapa");
            set["nameOverride"] = json!("mapa");
        }
        for (section, switch) in [
            ("networkPolicy", None),
            ("metrics", Some("serviceMonitor")),
            ("metrics", Some("podMonitor")),
            ("metrics", Some("prometheusRule")),
            ("metrics", Some("dashboard")),
        ] {
            let is_on = json!({ "enabled": self.one_in(3) });
            match switch {
                Some(switch) => merge(&mut set, json!({ section: { switch: is_on } })),
                None => merge(&mut set, json!({ section: is_on })),
            }
        }
        set
    }

    /// Everything that has a name in the schema, and its schema.
    fn collect(&mut self, place: &[String], schema: &'a Value) {
        let schema = self.resolved(schema);
        if !place.is_empty() {
            self.places.push((place.to_owned(), schema));
        }
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            // What helm puts there, or reads for itself, is a test of its own.
            if !place.is_empty() || !["global", "enabled"].contains(&name.as_str()) {
                self.collect(&[place, std::slice::from_ref(name)].concat(), below);
            }
        }
    }

    /// Every place that may be drawn and has no names below it.
    pub fn leaves(&self) -> impl Iterator<Item = &[String]> {
        let leaves = self.places.iter().filter(|(_, schema)| schema["properties"].is_null());
        leaves.map(|(place, _)| place.as_slice())
    }

    fn resolved(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.schema.pointer(&reference[1..]).unwrap(),
            None => schema,
        }
    }

    fn value(&mut self, schema: &'a Value, depth: u32) -> Value {
        let schema = self.resolved(schema);
        if self.is_odd && self.one_in(8) {
            let others = [
                json!(null),
                json!(true),
                json!(0),
                json!(-1.5),
                json!("x"),
                json!([]),
                json!({}),
                json!([{}]),
            ];
            return self.one_of(&others).clone();
        }
        if let Some(all) = schema["enum"].as_array() {
            return self.one_of(all).clone();
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.clone(),
            one => vec![one.clone()],
        };
        match self.one_of(&types).as_str().unwrap() {
            "object" => self.object(schema, depth),
            "array" => {
                let (least, most) = (number(schema, "minItems", 0), number(schema, "maxItems", 3));
                let items = &schema["items"];
                Value::Array(
                    (0..self.rng.u64(least..=most))
                        .map(|_| self.value(items, depth + 1))
                        .collect(),
                )
            }
            "string" => Value::String(self.text(schema)),
            "integer" => self.integer(schema),
            "number" => self.decimal(schema),
            "boolean" => Value::Bool(self.rng.bool()),
            other => panic!("{other} is no type"),
        }
    }

    fn object(&mut self, schema: &'a Value, depth: u32) -> Value {
        let mut object = Map::new();
        let required: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if let Some(properties) = schema["properties"].as_object() {
            let most = number(schema, "maxProperties", u64::MAX);
            let mut names: Vec<&String> = properties.keys().collect();
            self.rng.shuffle(&mut names);
            for name in names {
                let is_needed = required.contains(&name.as_str()) && !(self.is_odd && self.one_in(8));
                if (object.len() as u64) < most && (is_needed || self.one_in(2 + depth)) {
                    object.insert(name.clone(), self.value(&properties[name], depth + 1));
                }
            }
        }
        for (pattern, schema) in schema["patternProperties"].as_object().into_iter().flatten() {
            if schema.is_object() {
                for _ in 0..self.rng.usize(0..3) {
                    let key = self.of_pattern(pattern);
                    object.insert(key, self.value(schema, depth + 1));
                }
            }
        }
        if self.is_odd && self.one_in(6) {
            let key = self.one_of(&ODD).to_string();
            object.insert(key, json!("x"));
        }
        Value::Object(object)
    }

    fn text(&mut self, schema: &'a Value) -> String {
        let is_within = |text: &String| {
            let length = text.chars().count() as u64;
            (number(schema, "minLength", 0)..=number(schema, "maxLength", u64::MAX)).contains(&length)
        };
        match schema["pattern"].as_str() {
            _ if self.is_odd && self.one_in(3) => self.one_of(&ODD).to_string(),
            Some(pattern) if !pattern.starts_with("^[^\\x00-") => {
                // Of the odd ones those that the pattern takes are wanted most of all.
                if let Some(odd) = self.odd_of(pattern).filter(|_| self.rng.bool()) {
                    return odd.to_owned();
                }
                let mut drawn = || Some(self.of_pattern(pattern)).filter(is_within);
                (0..20).find_map(|_| drawn()).unwrap_or_default()
            }
            // Any text: of the odd ones those that the API server takes in YAML.
            Some(pattern) => {
                let odd = self.odd_of(pattern).map(str::to_owned);
                odd.filter(is_within).unwrap_or_else(|| "x".to_owned())
            }
            None => self.one_of(&ODD).to_string(),
        }
    }

    /// Some text of `pattern`.
    fn of_pattern(&mut self, pattern: &'a str) -> String {
        // A draw knows no place: without the anchors it is the whole text.
        let body = pattern.trim_start_matches('^').trim_end_matches('$').to_owned();
        let strategy = self.patterns.entry(pattern);
        let strategy =
            strategy.or_insert_with(|| string_regex(&body).unwrap_or_else(|error| panic!("{body}: {error}")));
        strategy.new_tree(&mut self.runner).unwrap().current()
    }

    /// One of the odd ones that `pattern` takes; of all where only Go reads it.
    fn odd_of(&mut self, pattern: &'a str) -> Option<&'static str> {
        let odd = self.odd.entry(pattern).or_insert_with(|| {
            let pattern = regex_lite::Regex::new(pattern).ok();
            let is_of_it = |text: &&str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(text));
            ODD.into_iter().filter(is_of_it).collect()
        });
        (!odd.is_empty()).then(|| odd[self.rng.usize(0..odd.len())])
    }

    fn integer(&mut self, schema: &Value) -> Value {
        let least = schema["minimum"].as_i64().unwrap_or(i64::from(i32::MIN));
        let most = schema["maximum"].as_i64().unwrap_or(i64::from(i32::MAX));
        if self.is_odd && self.one_in(2) {
            return self
                .one_of(&[json!(least - 1), json!(most + 1), json!(0.5), json!("1")])
                .clone();
        }
        let within = self.rng.i64(least..=most);
        let drawn = *self.one_of(&[least, most, within]);
        // As a file may have it, and as YAML writes a large one.
        if self.one_in(4) {
            json!(drawn as f64)
        } else {
            json!(drawn)
        }
    }

    fn decimal(&mut self, schema: &Value) -> Value {
        let (least, most) = (
            schema["minimum"].as_f64().unwrap_or(-1e9),
            schema["maximum"].as_f64().unwrap_or(1e9),
        );
        if self.is_odd && self.one_in(2) {
            return self
                .one_of(&[json!(least - 1.0), json!(most + 1.0), json!("1")])
                .clone();
        }
        let thousandths = (self.rng.f64() * (most - least).min(1e6) * 1000.0).floor() / 1000.0;
        let within = least + thousandths;
        Number::from_f64(*self.one_of(&[least, most, within])).map_or(json!(0), Value::Number)
    }
}

fn number(schema: &Value, name: &str, otherwise: u64) -> u64 {
    schema[name].as_u64().unwrap_or(otherwise)
}

/// Puts `value` into `set`, map by map.
fn merge(set: &mut Value, value: Value) {
    match (set, value) {
        (Value::Object(set), Value::Object(value)) => {
            for (name, value) in value {
                merge(set.entry(name).or_insert_with(|| json!({})), value);
            }
        }
        (set, value) => *set = value,
    }
}

/// What has to go together, and would be refused otherwise with words that other tests read: `areas` whose edges are in their order, requests
/// below their limits, exceptions within their network, and names of variables that are there once.
fn fit(set: &mut Value) {
    let areas = set.get_mut("areas").and_then(Value::as_object_mut);
    for area in areas.into_iter().flat_map(Map::values_mut) {
        for edge in ["latitude", "longitude"] {
            let end = |name: &str| area[edge][name].as_f64();
            if end("min").zip(end("max")).is_some_and(|(min, max)| min >= max) {
                area[edge] = json!({ "min": -1, "max": 1.5 });
            }
        }
    }
    for owner in ["", "/runner"] {
        let resources = set.pointer_mut(&format!("{owner}/resources"));
        let Some(resources) = resources.and_then(Value::as_object_mut) else {
            continue;
        };
        for section in ["requests", "limits"] {
            resources.entry(section).or_insert_with(|| json!({}));
        }
        if !resources["requests"].is_object() || !resources["limits"].is_object() {
            continue;
        }
        for name in ["cpu", "memory", "ephemeral-storage"] {
            let drawn = |section: &str| resources[section].get(name).cloned();
            match (drawn("requests"), drawn("limits")) {
                (Some(_), Some(limit)) => resources["requests"][name] = limit,
                (Some(asked), None) => resources["limits"][name] = asked,
                // What is asked for by default may be more.
                (None, Some(_)) => resources["requests"][name] = Value::Null,
                (None, None) => {}
            }
        }
    }
    let peers = set
        .pointer_mut("/networkPolicy/scrapeFrom")
        .and_then(Value::as_array_mut);
    for block in peers.into_iter().flatten().filter_map(|peer| peer.get_mut("ipBlock")) {
        let Some(except) = block.get_mut("except").and_then(Value::as_array_mut) else {
            continue;
        };
        let is_of_4 = |network: &Value| network.as_str().is_none_or(|network| !network.contains(':'));
        let first_is_of_4 = except.first().is_none_or(is_of_4);
        let is_all = |network: &Value| network.as_str().is_some_and(|network| network.ends_with("/0"));
        except.retain(|network| is_of_4(network) == first_is_of_4 && !is_all(network));
        if block["cidr"].is_string() {
            block["cidr"] = json!(if first_is_of_4 { "0.0.0.0/0" } else { "::/0" });
        }
    }
    let variables = set.get_mut("extraEnv").and_then(Value::as_array_mut);
    for (index, variable) in variables.into_iter().flatten().enumerate() {
        if let Some(name) = variable["name"].as_str() {
            let named = format!("{name}_{index}");
            variable["name"] = json!(named);
        }
    }
}
