//! The database's own encoding: how text is read that the server would refuse to convert.
//!
//! A client that asks for UTF-8 gets an error, and no row any more, for one byte that the database's encoding does not define
//! (C3 81 in WIN1252) or that is no UTF-8 (any in SQL_ASCII). Such a value is read here instead, with U+FFFD in that place.

use std::borrow::Cow;

/// How text of a database is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it comes: the server converts it, or has nothing to convert.
    Converted,
    /// As the bytes that the database keeps, to be decoded here.
    Raw(Decoder),
}

/// Decodes what a database keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// What the database declares as no encoding: mostly UTF-8.
    Utf8,
    /// ISO 8859-1: each byte is the character of its number.
    Latin1,
    /// Another part of ISO 8859, in which the bytes 80 to 9F are control characters.
    Iso(&'static encoding_rs::Encoding),
    /// A code page, in which a byte from 80 to 9F that has no character is undefined.
    CodePage(&'static encoding_rs::Encoding),
    /// KOI8-U as of RFC 2319; browsers read two bytes of it otherwise.
    Koi8U,
    /// Several bytes for a character.
    MultiByte(&'static encoding_rs::Encoding),
}

impl Encoding {
    /// The encoding that PostgreSQL calls `name`. What is not known here (EUC_TW, EUC_JIS_2004, MULE_INTERNAL)
    /// is left to the server.
    #[must_use]
    pub fn named(name: &str) -> Self {
        use encoding_rs as rs;
        let decoder = match name {
            "SQL_ASCII" => Decoder::Utf8,
            "LATIN1" => Decoder::Latin1,
            "LATIN2" => Decoder::Iso(rs::ISO_8859_2),
            "LATIN3" => Decoder::Iso(rs::ISO_8859_3),
            "LATIN4" => Decoder::Iso(rs::ISO_8859_4),
            "LATIN5" => Decoder::Iso(rs::WINDOWS_1254),
            "LATIN6" => Decoder::Iso(rs::ISO_8859_10),
            "LATIN7" => Decoder::Iso(rs::ISO_8859_13),
            "LATIN8" => Decoder::Iso(rs::ISO_8859_14),
            "LATIN9" => Decoder::Iso(rs::ISO_8859_15),
            "LATIN10" => Decoder::Iso(rs::ISO_8859_16),
            "ISO_8859_5" => Decoder::Iso(rs::ISO_8859_5),
            "ISO_8859_6" => Decoder::Iso(rs::ISO_8859_6),
            "ISO_8859_7" => Decoder::Iso(rs::ISO_8859_7),
            "ISO_8859_8" => Decoder::Iso(rs::ISO_8859_8),
            "KOI8R" => Decoder::CodePage(rs::KOI8_R),
            "KOI8U" => Decoder::Koi8U,
            "WIN866" => Decoder::CodePage(rs::IBM866),
            "WIN874" => Decoder::CodePage(rs::WINDOWS_874),
            "WIN1250" => Decoder::CodePage(rs::WINDOWS_1250),
            "WIN1251" => Decoder::CodePage(rs::WINDOWS_1251),
            "WIN1252" => Decoder::CodePage(rs::WINDOWS_1252),
            "WIN1253" => Decoder::CodePage(rs::WINDOWS_1253),
            "WIN1254" => Decoder::CodePage(rs::WINDOWS_1254),
            "WIN1255" => Decoder::CodePage(rs::WINDOWS_1255),
            "WIN1256" => Decoder::CodePage(rs::WINDOWS_1256),
            "WIN1257" => Decoder::CodePage(rs::WINDOWS_1257),
            "WIN1258" => Decoder::CodePage(rs::WINDOWS_1258),
            "EUC_JP" => Decoder::MultiByte(rs::EUC_JP),
            "EUC_CN" => Decoder::MultiByte(rs::GBK),
            "EUC_KR" => Decoder::MultiByte(rs::EUC_KR),
            _ => return Self::Converted,
        };
        Self::Raw(decoder)
    }

    /// The text of `bytes`, as the server sends them: lossy, where there is no such character.
    #[must_use]
    pub fn decode<'a>(self, bytes: &'a [u8]) -> Cow<'a, str> {
        match self {
            Self::Converted => String::from_utf8_lossy(bytes),
            Self::Raw(decoder) => decoder.decode(bytes),
        }
    }
}

impl Decoder {
    fn decode(self, bytes: &[u8]) -> Cow<'_, str> {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes),
            Self::Latin1 => encoding_rs::mem::decode_latin1(bytes),
            Self::Iso(encoding) => by_byte(bytes, |byte| match byte {
                0x80..=0x9f => char::from(byte),
                _ => character(encoding, byte),
            }),
            Self::CodePage(encoding) => by_byte(bytes, |byte| match character(encoding, byte) {
                // Browsers read an undefined byte as a control character, PostgreSQL as none.
                '\u{80}'..='\u{9f}' => char::REPLACEMENT_CHARACTER,
                character => character,
            }),
            Self::Koi8U => by_byte(bytes, |byte| match byte {
                0xae => '\u{255d}',
                0xbe => '\u{256c}',
                _ => character(encoding_rs::KOI8_U, byte),
            }),
            Self::MultiByte(encoding) => encoding.decode_without_bom_handling(bytes).0,
        }
    }
}

fn by_byte(bytes: &[u8], decode: impl Fn(u8) -> char) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.is_ascii() => Cow::Borrowed(text),
        _ => bytes
            .iter()
            .map(|byte| {
                if byte.is_ascii() {
                    char::from(*byte)
                } else {
                    decode(*byte)
                }
            })
            .collect::<String>()
            .into(),
    }
}

/// The character of one byte that is not ASCII.
fn character(encoding: &'static encoding_rs::Encoding, byte: u8) -> char {
    let (text, _) = encoding.decode_without_bom_handling(std::slice::from_ref(&byte));
    text.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_without_a_character_costs_that_character_alone() {
        let decode = |name: &str, bytes: &'static [u8]| Encoding::named(name).decode(bytes);
        assert_eq!(decode("WIN1252", b"S\xe3o Jos\xe9 \x80"), "São José €");
        assert_eq!(decode("WIN1252", b"\xc3\x81rvore"), "Ã\u{fffd}rvore");
        assert_eq!(decode("SQL_ASCII", "Árvore".as_bytes()), "Árvore");
        assert_eq!(decode("SQL_ASCII", b"\xc1rvore"), "\u{fffd}rvore");
        assert_eq!(decode("LATIN1", b"\xc3\x81"), "Ã\u{81}");
        assert_eq!(decode("LATIN9", b"\xa4"), "€");
        assert_eq!(decode("UTF8", b"\xc1x"), "\u{fffd}x");
        assert_eq!(decode("EUC_JP", b"\xc6\xfc\xcb\xdc"), "日本");
        assert!(matches!(decode("WIN1252", b"Centro"), Cow::Borrowed(_)));
    }
}
