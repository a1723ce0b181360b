//! Normalised text: one spelling for each word, without invisible characters.

use std::borrow::Cow;

use unicase::UniCase;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark, is_nfc};

/// What stands where the database could not convert a character.
pub const UNREADABLE: char = char::REPLACEMENT_CHARACTER;

/// A code word without case, accents, blanks, hyphens and underscores: no two code words differ in these alone.
#[must_use]
pub fn code_word(text: &str) -> String {
    folded(text)
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '-' | '_'))
        .collect()
}

/// A name as it is published: composed (NFC), with single blanks, without invisible characters. Empty when nothing is
/// left.
#[must_use]
pub fn name(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    let is_plain = |c: char| !c.is_control() && !is_invisible(c) && (c == ' ' || !c.is_whitespace());
    if is_nfc(text) && text.chars().all(is_plain) && !text.contains("  ") {
        return Cow::Borrowed(text);
    }
    let visible: String = text
        .chars()
        .filter(|c| !is_invisible(*c))
        .map(|c| if c.is_control() { ' ' } else { c })
        .nfc()
        .collect();
    Cow::Owned(visible.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What two spellings of one name have in common: everything but case and accents. `name` is one of [`name()`].
#[must_use]
pub fn name_key(name: &str) -> String {
    folded(name)
}

/// A number, a code or a moment, in the characters that such things are made of: a full-width digit is a digit. `None` when
/// nothing is left.
#[must_use]
pub fn symbol(text: &str) -> Option<Cow<'_, str>> {
    let is_around = |c: char| c.is_whitespace() || c.is_control() || is_invisible(c);
    let text = text.trim_matches(is_around);
    if text.is_empty() {
        return None;
    }
    if text.is_ascii() {
        return Some(Cow::Borrowed(text));
    }
    Some(Cow::Owned(text.chars().filter(|c| !is_invisible(*c)).nfkc().collect()))
}

fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let bare: String = text
        .nfkd()
        .filter(|c| !is_combining_mark(*c) && !is_invisible(*c))
        .collect();
    UniCase::unicode(bare).to_folded_case()
}

/// Characters without a shape: zero-width blanks and joiners, marks of direction, soft hyphens, byte order marks.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{AD}'
            | '\u{34F}'
            | '\u{61C}'
            | '\u{180E}'
            | '\u{200B}'..='\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{FEFF}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_word_is_one_however_it_is_spelled() {
        for spelled in [
            "NAO_PROGRAMADA",
            "Não Programada",
            "Na\u{303}o programada",
            "nao-programada",
            "NÃO  PROGRAMADA ",
            "\u{FEFF}não\u{A0}programada",
            "ＮＡＯ＿ＰＲＯＧＲＡＭＡＤＡ",
        ] {
            assert_eq!(code_word(spelled), "naoprogramada", "{spelled:?}");
        }
        assert_ne!(code_word("programada"), code_word("nao programada"));
    }

    #[test]
    fn a_name_keeps_its_spelling_and_loses_what_nobody_sees() {
        for (written, expected) in [
            ("Caçari", "Caçari"),
            ("Cac\u{327}ari", "Caçari"),
            ("  São\u{A0} Vicente\u{200B}\t", "São Vicente"),
            ("\u{FEFF}Centro", "Centro"),
            ("Asa\r\nBranca", "Asa Branca"),
            ("\u{202E}Centro\u{202C}", "Centro"),
            ("\u{200B} \u{AD}", ""),
            ("13 de Setembro", "13 de Setembro"),
            ("Pau-d'Arco", "Pau-d'Arco"),
        ] {
            assert_eq!(name(written), expected, "{written:?}");
        }
    }

    #[test]
    fn spellings_of_one_name_have_one_key_and_other_names_another() {
        for spelled in ["Caçari", "CAÇARI", "Cacari", "cac\u{327}ari"] {
            assert_eq!(name_key(&name(spelled)), "cacari", "{spelled:?}");
        }
        assert_ne!(name_key("Caçari"), name_key("Caçari II"));
        assert_ne!(name_key("Pau-d'Arco"), name_key("Pau d'Arco"));
    }

    #[test]
    fn a_symbol_is_made_of_plain_characters() {
        assert_eq!(symbol("\u{FEFF}12\u{A0}").as_deref(), Some("12"));
        assert_eq!(symbol("１２").as_deref(), Some("12"));
        assert_eq!(symbol("\0"), None);
        assert_eq!(symbol(" \u{200B}"), None);
    }

    proptest! {
        #[test]
        fn cleaning_a_clean_name_changes_nothing_and_its_key_knows_no_case(text in "\\PC{0,40}|[\\x00-\\x20\u{200B}\u{301}ãA]{0,20}") {
            let once = name(&text).into_owned();
            prop_assert_eq!(name(&once), once.as_str());
            prop_assert_eq!(name_key(&once), name_key(&once.to_ascii_uppercase()));
            let _ = symbol(&text);
        }
    }
}
