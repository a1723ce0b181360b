//! Names that somebody may have meant.

/// Most names that are suggested.
const SUGGESTED: usize = 3;

/// How alike two names have to be, 0 to 1, for one to be meant by the other.
const ALIKE: f64 = 0.7;

/// Those of `names` that are most like `wanted`, the likest first.
pub fn nearest(wanted: &str, names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut alike: Vec<(f64, String)> = names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wanted, &name), name))
        .filter(|(likeness, _)| *likeness > ALIKE)
        .collect();
    alike.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.cmp(other)));
    alike.into_iter().take(SUGGESTED).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_name_and_nonsense_finds_none() {
        let names = || ["roraima", "amazonas", "roraima-teste", "acre"].map(str::to_owned);
        assert_eq!(nearest("rorama", names()), ["roraima", "roraima-teste"]);
        assert_eq!(nearest("zzz", names()), Vec::<String>::new());
    }
}
