//! The table of `tests/README.md`: each number that tests cite, and the test that proves it. Read from the sources, so that neither can
//! change without the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::images;

/// Where there are tests.
const FOLDERS: [&str; 4] = ["crds", "operator", "job-runner", "tests"];
/// How far each list goes.
const LISTS: [(&str, u32); 4] = [("promise ", 9), ("I", 14), ("F", 34), ("lesson ", 12)];

/// A number as the table has it: `I4`, `F14`, `promise 9`, `lesson 3`; none for what no list has.
fn number(list: &str, digits: &str) -> Option<String> {
    let number: u32 = digits.parse().ok().filter(|_| digits.len() <= 2)?;
    LISTS
        .iter()
        .find(|(known, _)| known.trim_end() == list)
        .map(|(known, _)| format!("{known}{number}"))
}

/// A number that is one word: `I4` or `F14`.
fn of_word(word: &str) -> Option<String> {
    let (list, digits) = word.split_at_checked(1)?;
    number(list, digits)
}

/// What the name of a test begins with: `f01_i6_…`, `promise_9_…`.
fn cited_by_name(name: &str) -> BTreeSet<String> {
    let mut cited = BTreeSet::new();
    let mut words = name.split('_');
    while let Some(word) = words.next() {
        let number = match word {
            "promise" | "lesson" => words.next().and_then(|digits| number(word, digits)),
            word => of_word(&word.to_uppercase()),
        };
        match number {
            Some(number) => cited.insert(number),
            None => break,
        };
    }
    cited
}

/// What a comment speaks of: `(I4)`, `lesson 9`, `Promises 5 and 7`.
fn cited_by_comment(comment: &str) -> BTreeSet<String> {
    let words = comment
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut list = None;
    let mut cited = BTreeSet::new();
    for word in words {
        let lower = word.to_lowercase();
        match (lower.trim_end_matches('s'), list) {
            ("promise", _) => list = Some("promise"),
            ("lesson", _) => list = Some("lesson"),
            ("and", Some(_)) => {}
            (digits, Some(of)) if digits.starts_with(|letter: char| letter.is_ascii_digit()) => {
                cited.extend(number(of, digits));
            }
            _ => {
                list = None;
                cited.extend(of_word(word));
            }
        }
    }
    cited
}

/// What one source has.
#[derive(Debug, Default)]
struct Source {
    /// Each function, and each name in a list of tests, with the numbers of its name and of the comment on it.
    named: BTreeMap<String, BTreeSet<String>>,
    /// Everything that it cites.
    cited: BTreeSet<String>,
}

impl Source {
    fn read(text: &str) -> Self {
        let mut source = Self::default();
        let mut comment = String::new();
        for line in text.lines().map(str::trim) {
            if let Some((_, words)) = line.split_once("//") {
                source.cited.extend(cited_by_comment(words));
            }
            if let Some(words) = line.strip_prefix("///") {
                comment.push_str(words);
                comment.push('\n');
            } else if let Some(name) = function(line) {
                source.add(name, cited_by_comment(&comment));
                comment.clear();
            } else if !line.starts_with("#[") {
                comment.clear();
                let quoted = line.split('"').skip(1).step_by(2).map(last_segment);
                for name in quoted.filter(|name| name.contains('_')) {
                    source.add(name, BTreeSet::new());
                }
            }
        }
        source
    }

    fn add(&mut self, name: &str, mut cited: BTreeSet<String>) {
        cited.extend(cited_by_name(name));
        self.cited.extend(cited.iter().cloned());
        self.named.entry(name.to_owned()).or_default().extend(cited);
    }
}

/// The name of the function that begins on `line`.
fn function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let is_declaration = before
        .split_whitespace()
        .all(|word| word == "async" || word.starts_with("pub"));
    let end = after.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'))?;
    is_declaration.then(|| &after[..end])
}

/// Tests that have no attribute are named with their file: `cron_jobs::f12_…`.
fn last_segment(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

/// Every source by its path in the repository.
fn sources() -> BTreeMap<String, Source> {
    let root = images::repository();
    let mut left: Vec<_> = FOLDERS.map(|folder| root.join(folder)).into();
    let mut sources = BTreeMap::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
            sources.insert(name, Source::read(&fs::read_to_string(&path).unwrap()));
        }
    }
    sources
}

/// The rows of the tables: a number, and the name and the file of the test that proves it.
fn rows(text: &str) -> Vec<(String, String, String)> {
    let cells = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        let [number, _, proof] = cells[..] else { return None };
        let quoted: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        let [test, file] = quoted[..] else { return None };
        Some((number.to_owned(), test.to_owned(), file.to_owned()))
    });
    cells.collect()
}

#[test]
fn the_table_of_proofs_has_every_number_with_a_test_of_it_and_tests_cite_no_other() {
    let sources = sources();
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let rows = rows(&table);
    for (number, test, file) in &rows {
        let source = sources
            .get(file)
            .unwrap_or_else(|| panic!("{number}: there is no {file}"));
        let cited = source.named.get(test);
        let cited = cited.unwrap_or_else(|| panic!("{number}: there is no {test} in {file}"));
        assert!(
            cited.contains(number),
            "{test} in {file} does not say that it proves {number}"
        );
    }
    let told: Vec<&String> = rows.iter().map(|(number, ..)| number).collect();
    let all: Vec<String> = LISTS
        .iter()
        .flat_map(|(list, last)| (1..=*last).map(move |number| format!("{list}{number}")))
        .collect();
    assert_eq!(told, all.iter().collect::<Vec<_>>(), "each number once, in order");
    for (file, source) in &sources {
        let unknown: Vec<_> = source.cited.iter().filter(|number| !told.contains(number)).collect();
        assert!(
            unknown.is_empty(),
            "{file} cites what tests/README.md does not tell: {unknown:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: &[&str]) -> BTreeSet<String> {
        numbers.iter().map(|number| (*number).to_owned()).collect()
    }

    #[test]
    fn a_name_cites_what_it_begins_with() {
        assert_eq!(cited_by_name("f01_i6_an_operator"), set(&["F1", "I6"]));
        assert_eq!(cited_by_name("f14_promise_8_a_thing"), set(&["F14", "promise 8"]));
        assert_eq!(cited_by_name("lesson_03_i13_readers"), set(&["I13", "lesson 3"]));
        assert_eq!(cited_by_name("a_policy_of_f14_is_none"), set(&[]));
        assert_eq!(cited_by_name("promise"), set(&[]));
    }

    #[test]
    fn a_comment_cites_what_it_speaks_of() {
        assert_eq!(
            cited_by_comment("I4, I5: not more than (F8, F10)."),
            set(&["F10", "F8", "I4", "I5"])
        );
        assert_eq!(
            cited_by_comment("Promises 5 and 7: a Job"),
            set(&["promise 5", "promise 7"])
        );
        assert_eq!(cited_by_comment("true (lesson 9)."), set(&["lesson 9"]));
        assert_eq!(cited_by_comment("I promise that 5 of IF8 and f64 are none"), set(&[]));
    }

    #[test]
    fn a_test_is_known_by_its_function_or_by_its_name_in_a_list() {
        let source = Source::read(
            "/// Holds I4.\n#[tokio::test(start_paused = true)]\nasync fn any_history() {\n}\n(\"a::i7_b\", x),\nlet f = 1; // F3\n",
        );
        assert_eq!(source.named["any_history"], set(&["I4"]));
        assert_eq!(source.named["i7_b"], set(&["I7"]));
        assert_eq!(source.cited, set(&["F3", "I4", "I7"]));
    }
}
