//! What a run makes of rows that are not as they should be: the words under which the report, the status and the metrics count
//! them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal: $what:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $what] $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word under which it is counted.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words! {
    /// What was mended in a row that is published.
    Repair {
        ForecastBeforeStart = "FORECAST_BEFORE_START": "The forecast precedes the start: null.",
        ForecastTooFar = "FORECAST_TOO_FAR": "The forecast lies more than 365 days ahead of the stamp: null.",
        ForecastUnreadable = "FORECAST_UNREADABLE": "The forecast is no moment (`infinity`): null.",
        CoordinatesMissing = "COORDINATES_MISSING": "A coordinate is null or no number: both null.",
        CoordinatesOutsideArea = "COORDINATES_OUTSIDE_AREA": "The point lies outside the area's box: null.",
        UnknownMunicipality = "UNKNOWN_MUNICIPALITY": "The IBGE code is null or none of the area's: kept, the name is null.",
        UnknownType = "UNKNOWN_TYPE": "The type is null or unknown: NAO_PROGRAMADA.",
        UnknownStatus = "UNKNOWN_STATUS": "The status is null or unknown: EM_PREPARACAO.",
        StartAhead = "START_AHEAD": "The start lies up to five minutes ahead: a duration of 0.",
        MissingCrews = "MISSING_CREWS": "The number of crews is null: 0.",
        MissingBairro = "MISSING_BAIRRO": "The bairro is null or blank: `Nao informado`.",
        UnreadableText = "UNREADABLE_TEXT": "A text has characters that the database could not convert: published with U+FFFD in their place.",
        AmbiguousLocalTime = "AMBIGUOUS_LOCAL_TIME": "The clocks went back over a local time: the start is the first of both, the forecast the second.",
        NonexistentLocalTime = "NONEXISTENT_LOCAL_TIME": "The clocks skipped a local time: read with the offset before.",
    }
}

words! {
    /// Why a row is left out.
    Quarantine {
        MissingId = "MISSING_ID": "The id is null.",
        InvalidId = "INVALID_ID": "The id is no integer of 64 bits.",
        MissingStart = "MISSING_START": "The start is null.",
        InvalidStart = "INVALID_START": "The start is no moment.",
        FutureStart = "FUTURE_START": "The start lies more than five minutes ahead of the stamp.",
        StartTooOld = "START_TOO_OLD": "The start lies more than 365 days before the stamp.",
        MissingUcs = "MISSING_UCS": "The number of UCs is null.",
        InvalidUcs = "INVALID_UCS": "The number of UCs is no integer up to 10,000,000.",
        NegativeUcs = "NEGATIVE_UCS": "The number of UCs is negative.",
        InvalidCrews = "INVALID_CREWS": "The number of crews is no integer up to 10,000.",
        NegativeCrews = "NEGATIVE_CREWS": "The number of crews is negative.",
        DuplicateId = "DUPLICATE_ID": "An earlier row has the id.",
    }
}

/// The word under which everything is counted that this version has no word for.
pub const OTHER: &str = "OTHER";

/// Rows of a run that are not as they should be, by why.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RowCounts {
    /// Rows repaired, by what was repaired; one row may have several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub repaired: BTreeMap<String, u64>,
    /// Rows left out, by why; each row once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantined: BTreeMap<String, u64>,
}

/// The word of [`Repair`] that `word` is, else [`OTHER`].
#[must_use]
pub fn repair_word(word: &str) -> &'static str {
    known(Repair::ALL.iter().map(|repair| repair.as_str()), word)
}

/// The word of [`Quarantine`] that `word` is, else [`OTHER`].
#[must_use]
pub fn quarantine_word(word: &str) -> &'static str {
    known(Quarantine::ALL.iter().map(|why| why.as_str()), word)
}

fn known(mut words: impl Iterator<Item = &'static str>, word: &str) -> &'static str {
    words.find(|known| *known == word).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_every_word_in_the_table_of_the_views_columns() {
        let readme = include_str!("../../README.md");
        let table = readme.split("### The view").nth(1).unwrap();
        let table = table.split("###").next().unwrap();
        let repairs = Repair::ALL.iter().map(|repair| repair.as_str());
        for word in repairs.chain(Quarantine::ALL.iter().map(|why| why.as_str())) {
            assert!(table.contains(&format!("`{word}`")), "{word}");
        }
    }

    #[test]
    fn the_schema_has_room_for_every_word_and_for_the_others() {
        assert!(Repair::ALL.len() < crate::status::MAX_ROW_REASONS);
        assert!(Quarantine::ALL.len() < crate::status::MAX_ROW_REASONS);
    }

    #[test]
    fn a_word_of_another_version_is_counted_and_makes_no_new_one() {
        assert_eq!(repair_word("START_AHEAD"), "START_AHEAD");
        assert_eq!(quarantine_word("START_AHEAD"), OTHER);
        assert_eq!(quarantine_word("EVIL\"\n"), OTHER);
    }
}
