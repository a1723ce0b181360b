//! One spelling of a neighbourhood's name within its municipality: names that differ in case or accents alone are one.

use std::collections::{BTreeMap, HashMap};

use super::{
    outage::{BAIRRO_UNKNOWN, Outage},
    text::name_key,
};

/// Gives each neighbourhood the spelling that most of its rows have. The choice depends on the rows alone, not on their order, so
/// that equal generations have equal content.
pub(super) fn unify(outages: &mut [Outage]) {
    let replacements = replacements(outages);
    if replacements.is_empty() {
        return;
    }
    for outage in outages {
        let of_municipality = replacements.get(&outage.codigo_ibge);
        if let Some(spelling) = of_municipality.and_then(|spellings| spellings.get(&outage.bairro)) {
            outage.bairro.clone_from(spelling);
        }
    }
}

/// By municipality: spellings that lose, each with the one that wins.
fn replacements(outages: &[Outage]) -> HashMap<Option<String>, HashMap<String, String>> {
    let mut rows = HashMap::<(Option<&str>, &str), u64>::new();
    for outage in outages {
        *rows
            .entry((outage.codigo_ibge.as_deref(), outage.bairro.as_str()))
            .or_default() += 1;
    }
    let mut names = BTreeMap::<(Option<&str>, String), Vec<(&str, u64)>>::new();
    for ((municipality, spelling), count) in rows {
        names
            .entry((municipality, name_key(spelling)))
            .or_default()
            .push((spelling, count));
    }
    let unknown = name_key(BAIRRO_UNKNOWN);
    let mut replacements = HashMap::<Option<String>, HashMap<String, String>>::new();
    for ((municipality, key), spellings) in names {
        let winner = if key == unknown {
            Some(BAIRRO_UNKNOWN)
        } else {
            spellings
                .iter()
                .max_by_key(|(spelling, count)| (*count, carefulness(spelling)))
                .map(|(spelling, _)| *spelling)
        };
        let Some(winner) = winner else { continue };
        for (spelling, _) in spellings {
            if spelling != winner {
                replacements
                    .entry(municipality.map(str::to_owned))
                    .or_default()
                    .insert(spelling.to_owned(), winner.to_owned());
            }
        }
    }
    replacements
}

/// Of spellings that are equally frequent the one with accents and with both cases wins; the text itself settles the rest.
fn carefulness(spelling: &str) -> (usize, bool, &str) {
    let accents = spelling.chars().filter(|c| !c.is_ascii()).count();
    let has_both_cases = spelling.chars().any(char::is_uppercase) && spelling.chars().any(char::is_lowercase);
    (accents, has_both_cases, spelling)
}
