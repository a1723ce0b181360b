//! A row as the database gives it: text, nothing checked yet.

use std::borrow::Cow;

use super::text;

/// The view's columns, in this order in every query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row<'a> {
    /// Number of the outage.
    pub id: Cell<'a>,
    /// Number of the occurrence.
    pub numero_ocorrencia: Cell<'a>,
    /// IBGE code of the municipality.
    pub codigo_ibge: Cell<'a>,
    /// Neighbourhood.
    pub bairro: Cell<'a>,
    /// Degrees.
    pub latitude: Cell<'a>,
    /// Degrees.
    pub longitude: Cell<'a>,
    /// Start, local time.
    pub data_inicio: Cell<'a>,
    /// PROGRAMADA or NAO_PROGRAMADA.
    pub tipo: Cell<'a>,
    /// P, D, E or C.
    pub status_codigo: Cell<'a>,
    /// Consumer units.
    pub ucs_afetadas: Cell<'a>,
    /// Crews.
    pub equipes_designadas: Cell<'a>,
    /// Free text: hostile.
    pub causa: Cell<'a>,
    /// Expected restoration, local time.
    pub previsao_restabelecimento: Cell<'a>,
}

/// One value: text as the database writes it, or null.
pub type Cell<'a> = Option<Cow<'a, str>>;

impl<'a> Row<'a> {
    /// Number of columns.
    pub const COLUMNS: usize = 13;

    /// A row whose column number `n` (from 0, in the order of [`Row`]'s fields) is `cell(n)`.
    ///
    /// # Errors
    /// The first error of `cell`.
    pub fn from_cells<E>(mut cell: impl FnMut(usize) -> Result<Cell<'a>, E>) -> Result<Self, E> {
        Ok(Self {
            id: cell(0)?,
            numero_ocorrencia: cell(1)?,
            codigo_ibge: cell(2)?,
            bairro: cell(3)?,
            latitude: cell(4)?,
            longitude: cell(5)?,
            data_inicio: cell(6)?,
            tipo: cell(7)?,
            status_codigo: cell(8)?,
            ucs_afetadas: cell(9)?,
            equipes_designadas: cell(10)?,
            causa: cell(11)?,
            previsao_restabelecimento: cell(12)?,
        })
    }
}

/// What is written in a text cell; `None` for null and blanks.
#[must_use]
pub fn text<'r>(cell: &'r Cell<'_>) -> Option<&'r str> {
    cell.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// A number, code or moment in a cell, in plain characters; `None` for null and blanks.
#[must_use]
pub fn symbol<'r>(cell: &'r Cell<'_>) -> Option<Cow<'r, str>> {
    cell.as_deref().and_then(text::symbol)
}

/// A code that is a whole number, without what its column adds to it: `1400100.00` and `1.4001e+06` are `1400100`. Any other code
/// as it is.
#[must_use]
pub fn whole(code: &str) -> Cow<'_, str> {
    match integer(code) {
        Some(number) if number >= 0 => Cow::Owned(number.to_string()),
        _ => Cow::Borrowed(code),
    }
}

/// A text that people quote, without what a numeric column adds to a whole number. Less than four digits before the point may be
/// thousands, and `12E3` a code: such texts stay as they are.
#[must_use]
pub fn written_number(text: &str) -> String {
    let has_fraction = text
        .split_once('.')
        .is_some_and(|(whole, fraction)| whole.len() >= 4 && fraction.bytes().all(|digit| digit == b'0'));
    let has_exponent = text.contains("e+") || text.contains("E+");
    if has_fraction || has_exponent {
        whole(text).into_owned()
    } else {
        text.to_owned()
    }
}

/// A coordinate, with a point or, where there is no point, with one comma.
#[must_use]
pub fn degrees(text: &str) -> Option<f64> {
    match text.split_once(',') {
        Some((whole, fraction)) if !text.contains('.') && !fraction.contains(',') => {
            real(&format!("{whole}.{fraction}"))
        }
        Some(_) => None,
        None => real(text),
    }
}

/// A whole number, however its column writes it: `12`, `12.00`, `1.2e1`. `None` for fractions, NaN, infinities and what does
/// not fit.
#[must_use]
pub fn integer(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    if let Some((whole, fraction)) = text.split_once('.')
        && !fraction.is_empty()
        && fraction.bytes().all(|digit| digit == b'0')
    {
        return whole.parse().ok();
    }
    let number = real(text)?;
    // Beyond 2^53 a double no longer holds each integer: the number would not be the one that was written.
    (number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0).then(|| format!("{number:.0}").parse().ok())?
}

/// A finite number. `None` for NaN, infinities and what is no number.
#[must_use]
pub fn real(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_every_kind_of_column() {
        for (text, expected) in [
            ("12", Some(12)),
            ("12.00", Some(12)),
            (" 12 ", Some(12)),
            ("-3", Some(-3)),
            ("1.2e1", Some(12)),
            ("1e+06", Some(1_000_000)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1e400", None),
            ("NaN", None),
            ("Infinity", None),
            ("12.5", None),
            ("12.", Some(12)),
            ("", None),
            ("doze", None),
        ] {
            assert_eq!(integer(text), expected, "{text:?}");
        }
        assert_eq!(real("-60.6758"), Some(-60.6758));
        assert_eq!(real("NaN"), None);
    }

    #[test]
    fn a_code_is_read_from_every_kind_of_column() {
        for (text, expected) in [
            ("1400100", "1400100"),
            ("1400100.00", "1400100"),
            ("1.4001e+06", "1400100"),
            ("1.4001E+006", "1400100"),
            ("01400100", "1400100"),
            ("1400100.5", "1400100.5"),
            ("-1", "-1"),
            ("RR-01", "RR-01"),
        ] {
            assert_eq!(whole(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_number_that_people_quote_loses_only_what_a_column_added() {
        for (text, expected) in [
            ("20260001.00", "20260001"),
            ("2.026e+07", "20260000"),
            ("2026-001", "2026-001"),
            ("0042", "0042"),
            ("1.000", "1.000"),
            ("2026.10", "2026.10"),
            ("12E3", "12E3"),
        ] {
            assert_eq!(written_number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_coordinate_may_have_a_decimal_comma() {
        for (text, expected) in [
            ("2.8235", Some(2.8235)),
            ("2,8235", Some(2.8235)),
            ("-60,6758", Some(-60.6758)),
            ("2.823,5", None),
            ("2,823,5", None),
            (",", None),
            ("NaN,0", None),
        ] {
            assert_eq!(degrees(text), expected, "{text:?}");
        }
    }
}
