//! Whatever the schema of the values takes, the API server takes, as it was written; and whatever is refused, is refused with its name.
//!
//! Sets of values are drawn from the schema (`drawn`), as the dependencies of one parent chart, so that one `helm` renders many. helm is the
//! judge of what the schema takes; of what it renders kubectl (which reads YAML as helm does), the types of Kubernetes, the operator and a
//! real API server are (`judged`). `CHART_SETS` and `CHART_SEED` try more sets, or others.

mod drawn;
mod judged;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::{
    schema,
    umbrella::{Umbrella, documents},
    world::{Test, World},
};
use drawn::Draw;
use judged::Judge;

pub const TESTS: &[Test] = &[(
    "properties::what_the_schema_takes_the_api_server_takes_as_it_was_written_and_every_refusal_names_its_value",
    holds,
)];

/// Sets of values that helm renders at once.
const AT_ONCE: usize = 125;
/// Release and namespace of each time: what YAML takes for something else.
const NAMES: [(&str, &str); 8] = [
    ("y", "943161054"),
    ("null", "1e3"),
    ("0x1f", "no"),
    ("1.5", "null"),
    ("943161054", "y"),
    ("true", "0"),
    ("no", "0x1f"),
    ("mapa-refresh-operator", "mapa-system"),
];

/// A set of values, and the places of it that were drawn: names from the root.
struct Set {
    values: Value,
    places: Vec<Vec<String>>,
}

/// What has been found.
#[derive(Default)]
struct Found {
    taken: usize,
    refused: usize,
    /// Places that were drawn in sets that are taken.
    places: BTreeSet<String>,
    complaints: Vec<String>,
}

fn variable(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |given| given.parse().unwrap())
}

fn holds(world: &World) {
    let (count, seed) = (variable("CHART_SETS", 1_000), variable("CHART_SEED", 0));
    let count = usize::try_from(count).unwrap();
    let umbrella = Umbrella::new((0..AT_ONCE).map(|index| format!("alias: m{index}, condition: m{index}.enabled")));
    let schema = schema::read();
    let mut draw = Draw::new(&schema, seed);
    let judge = Judge::new(world.cluster(), &NAMES.map(|(_, namespace)| namespace));
    let mut found = Found::default();
    for names in NAMES.iter().cycle().take(count.div_ceil(AT_ONCE)) {
        let drawn = std::iter::repeat_with(|| draw.set()).take(AT_ONCE);
        let mut sets: Vec<Option<Set>> = drawn.map(|(values, places)| Some(Set { values, places })).collect();
        let text = render(&umbrella, *names, &mut sets, &mut found);
        judge_rendered(&judge, names.1, &sets, &text, &mut found);
    }
    let Found {
        taken,
        refused,
        places,
        complaints,
    } = found;
    assert!(
        complaints.is_empty(),
        "CHART_SEED={seed}: {} complaints, of them:\n{}",
        complaints.len(),
        complaints[..complaints.len().min(5)].join("\n\n")
    );
    // A draw that is refused or taken always would prove nothing.
    assert!(
        taken > count / 3 && refused > count / 10,
        "{taken} taken, {refused} refused"
    );
    let is_missing = |place: &String| count >= 1_000 && !places.contains(place);
    let missing: Vec<String> = draw.leaves().map(|place| place.join(".")).filter(is_missing).collect();
    assert_eq!(missing, Vec::<String>::new(), "never drawn in a set that is taken");
}

/// Renders the sets that are taken; of each other one looks at what is said of it, and takes it away.
fn render(
    umbrella: &Umbrella,
    (release, namespace): (&str, &str),
    sets: &mut [Option<Set>],
    found: &mut Found,
) -> String {
    let mut further: &[&str] = &[];
    loop {
        let given = sets.iter().enumerate().map(|(index, set)| {
            let off = || json!({ "enabled": false });
            (
                format!("m{index}"),
                set.as_ref().map_or_else(off, |set| set.values.clone()),
            )
        });
        let given = Value::Object(given.collect());
        let said = match umbrella.render(release, namespace, &given, further) {
            Ok(text) => return text,
            Err(error) => error.to_string(),
        };
        let refusals = refusals(&said).unwrap_or_else(|| panic!("no value is named: {said}\n{given}"));
        for (index, lines) in refusals {
            let set = sets[index].take().unwrap_or_else(|| panic!("m{index} is off: {said}"));
            found.refused += 1;
            for line in lines.iter().filter(|line| !line.names_one_of(&set.places)) {
                let complaint = format!("{} names none of {:?}\n{}", line.text, set.places, set.values);
                found.complaints.push(complaint);
            }
        }
        // What the schema takes now, it takes again; to ask it is a third of the time.
        further = &["--skip-schema-validation"];
    }
}

/// Looks at what was rendered of each set that is taken.
fn judge_rendered(judge: &Judge<'_>, namespace: &str, sets: &[Option<Set>], text: &str, found: &mut Found) {
    let mut distinct: Vec<String> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut rendered: Vec<Vec<usize>> = vec![Vec::new(); sets.len()];
    for (of, document) in documents(&format!("\n{text}")) {
        let index: usize = of[1..].parse().unwrap();
        // The chart's name in this label is all that differs otherwise.
        let document = document.replace(&format!("helm.sh/chart: \"{of}-"), "helm.sh/chart: \"m-");
        let place = *known.entry(document.clone()).or_insert_with(|| {
            distinct.push(document);
            distinct.len() - 1
        });
        rendered[index].push(place);
    }
    let verdicts = judge.of(namespace, &distinct);
    for (set, rendered) in sets.iter().zip(&rendered) {
        let Some(Set { values, places }) = set else {
            assert!(rendered.is_empty());
            continue;
        };
        assert!(rendered.len() > 3, "{values}");
        found.taken += 1;
        found.places.extend(places.iter().map(|place| place.join(".")));
        let objects: Vec<&Value> = rendered.iter().map(|place| &verdicts[*place].object).collect();
        let mut wrong = judged::otherwise_than_written(values, &objects);
        for place in rendered {
            let said = verdicts[*place].complaints.iter();
            wrong.extend(said.map(|said| format!("{said}\n{}", distinct[*place])));
        }
        if !wrong.is_empty() {
            found.complaints.push(format!("{values}\n{}", wrong.join("\n")));
        }
    }
}

/// A line of a refusal, and what it is about.
#[derive(Debug)]
struct Refusal {
    text: String,
    /// Names from the root.
    about: Vec<String>,
}

impl Refusal {
    /// A refusal of the schema: `- at '/a/b': missing property 'c'`.
    fn of_schema(line: &str) -> Self {
        let (place, why) = line
            .strip_prefix("- at '")
            .and_then(|rest| rest.split_once("': "))
            .unwrap();
        let names = place
            .split('/')
            .skip(1)
            .map(|name| name.replace("~1", "/").replace("~0", "~"));
        let mut about: Vec<String> = names.collect();
        if let Some((_, named)) = why.split_once("propert").and_then(|(_, rest)| rest.split_once('\'')) {
            about.extend(named.split_once('\'').map(|(name, _)| name.to_owned()));
        }
        Self {
            text: line.to_owned(),
            about,
        }
    }

    /// A refusal of the chart's checks: `- a.b: c is refused: …`.
    fn of_chart(line: &str) -> Self {
        let (value, _) = line.strip_prefix("- ").and_then(|rest| rest.split_once(": ")).unwrap();
        let about = value.split('.').map(str::to_owned).collect();
        Self {
            text: line.to_owned(),
            about,
        }
    }

    fn names_one_of(&self, places: &[Vec<String>]) -> bool {
        // Two values that do not go together: the other of them is named. (What is asked for is drawn to be below its limit.)
        let together = [
            ("leaderElection", "replicas"),
            ("resources", "resources"),
            ("runner", "runner"),
            ("serviceAccount", "serviceAccount"),
            ("metrics", "metrics"),
        ];
        let is_named = |place: &Vec<String>| self.about.starts_with(place) || place.starts_with(&self.about);
        let is_other = |place: &Vec<String>| {
            let of = |name: &Vec<String>| name.first().cloned().unwrap_or_default();
            together
                .iter()
                .any(|(one, other)| of(place) == *one && of(&self.about) == *other)
        };
        !self.about.is_empty() && places.iter().any(|place| is_named(place) || is_other(place))
    }
}

/// The lines of a refusal by the dependency that they are about; none where helm fails otherwise.
fn refusals(said: &str) -> Option<BTreeMap<usize, Vec<Refusal>>> {
    let mut found: BTreeMap<usize, Vec<Refusal>> = BTreeMap::new();
    if let Some((_, complaints)) = said.split_once("of the schema(s) in the following chart(s):\n") {
        let mut of = None;
        for line in complaints.lines() {
            if let Some(index) = line.strip_prefix('m').and_then(|rest| rest.strip_suffix(':')) {
                of = Some(index.parse().ok()?);
                found.insert(of?, Vec::new());
            } else if line.starts_with("- at ") && !line.ends_with("'allOf' failed") {
                found.get_mut(&of?)?.push(Refusal::of_schema(line));
            } else if line.starts_with("  - at ") {
                // Several that go together with others do not: what each is, is below.
                found.get_mut(&of?)?.push(Refusal::of_schema(line.trim_start()));
            }
        }
    } else {
        let (_, rest) = said.split_once("execution error at (parent/charts/m")?;
        let (index, rest) = rest.split_once('/')?;
        let (_, complaints) = rest.split_once("the values do not go together:\n")?;
        let lines = complaints.lines().filter(|line| line.starts_with("- "));
        found.insert(index.parse().ok()?, lines.map(Refusal::of_chart).collect());
    }
    found.values().all(|lines| !lines.is_empty()).then_some(found)
}
