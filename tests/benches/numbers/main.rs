//! The numbers of the README, as a table, with a limit or a peer beside each: `cargo bench -p mapa-refresh-tests`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::cast_precision_loss,
    reason = "a bench fails by panicking; its numbers are small"
)]

mod breaches;
mod child;
mod operator;
mod plane;
mod plugin;
mod policies;
mod runner;
mod table;

use self::table::Table;

/// Measures, and writes rows.
type Part = fn(&mut Table);

/// What is measured; each by its name alone, too: `cargo bench -p mapa-refresh-tests -- oracle`.
const PARTS: [(&str, Part); 5] = [
    ("postgresql", runner::on_postgresql),
    ("oracle", runner::on_oracle),
    ("operator", operator::operator),
    ("breaches", breaches::breaches),
    ("plugin", plugin::plugin),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == child::MEASURE) {
        child::measure(&arguments[1..]);
        return;
    }
    // Cargo adds options of its own; words choose among the parts.
    let chosen: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let known = PARTS.map(|(name, _)| name);
    if let Some(unknown) = chosen.iter().find(|word| !known.contains(&word.as_str())) {
        eprintln!("there is no part {unknown:?}: there are {}", known.join(", "));
        std::process::exit(2);
    }
    let mut table = Table::default();
    for (name, part) in PARTS {
        if chosen.is_empty() || chosen.iter().any(|word| *word == name) {
            part(&mut table);
        }
    }
    table.print();
}
