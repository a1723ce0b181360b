//! Pure: Kubernetes' quantities in the canonical spelling, which the API server leaves alone.
//!
//! It rewrites `1024Mi` to `1Gi` and `0.5` to `500m`. Whoever writes another spelling finds it changed at every look, and would
//! change it back for ever.
//! Rules: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Why a text is no quantity that a pod can ask for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form that Kubernetes reads.
    #[error("{0:?} is no quantity: write a number, perhaps with a suffix such as m, k, M, G, Ki, Mi or Gi")]
    Malformed(String),
    /// Below zero, above 2^63 - 1, or finer than anything that Kubernetes tells apart.
    #[error("{0:?} is out of range: a quantity is at least 0 and below 2^63, with at most 12 decimal places")]
    OutOfRange(String),
}

/// Thousandths are the finest that is stored.
const MILLI: i128 = 1_000;
/// A suffix, and the thousandths in one of it.
const DECIMAL: [(&str, i128); 8] = [
    ("E", MILLI * 1_000_000_000_000_000_000),
    ("P", MILLI * 1_000_000_000_000_000),
    ("T", MILLI * 1_000_000_000_000),
    ("G", MILLI * 1_000_000_000),
    ("M", MILLI * 1_000_000),
    ("k", MILLI * 1_000),
    ("", MILLI),
    ("m", 1),
];
const BINARY: [(&str, i128); 6] = [
    ("Ei", MILLI << 60),
    ("Pi", MILLI << 50),
    ("Ti", MILLI << 40),
    ("Gi", MILLI << 30),
    ("Mi", MILLI << 20),
    ("Ki", MILLI << 10),
];
/// Finer than what is stored: rounded up to it.
const FINER: [(&str, i128); 2] = [("u", 1_000), ("n", 1_000_000)];

/// `text` in a spelling that the API server stores as it is.
///
/// # Errors
/// It is no quantity, or none that a pod can ask for.
pub fn canonical(text: &str) -> Result<Quantity, QuantityError> {
    let malformed = || QuantityError::Malformed(text.to_owned());
    let out_of_range = || QuantityError::OutOfRange(text.to_owned());
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let (is_negative, unsigned) = match unsigned.strip_prefix('-') {
        Some(rest) if rest.len() + 1 == text.len() => (true, rest),
        _ => (false, unsigned),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(malformed());
    }
    let unit = Unit::parse(suffix).ok_or_else(malformed)?;
    if fraction.len() > 12 {
        return Err(out_of_range());
    }
    let digits: i128 = format!("{whole}{fraction}").parse().map_err(|_| out_of_range())?;
    if is_negative && digits != 0 {
        return Err(out_of_range());
    }
    let numerator = digits.checked_mul(unit.multiplier).ok_or_else(out_of_range)?;
    let denominator = u32::try_from(fraction.len())
        .ok()
        .and_then(|places| 10_i128.checked_pow(places))
        .and_then(|places| places.checked_mul(unit.divisor))
        .ok_or_else(out_of_range)?;
    let millis = numerator / denominator + i128::from(numerator % denominator != 0);
    if millis / MILLI > i128::from(i64::MAX) {
        return Err(out_of_range());
    }
    Ok(Quantity(unit.form.write(millis)))
}

/// What a suffix means: a value in thousandths is `number * multiplier / divisor`.
struct Unit {
    form: Form,
    multiplier: i128,
    divisor: i128,
}

/// The family of suffixes, which a quantity keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Binary,
    Decimal,
    Exponent,
}

impl Unit {
    fn parse(suffix: &str) -> Option<Self> {
        let find = |table: &[(&str, i128)]| table.iter().find(|(name, _)| *name == suffix).map(|(_, unit)| *unit);
        if let Some(multiplier) = find(&DECIMAL) {
            return Some(Self {
                form: Form::Decimal,
                multiplier,
                divisor: 1,
            });
        }
        if let Some(multiplier) = find(&BINARY) {
            return Some(Self {
                form: Form::Binary,
                multiplier,
                divisor: 1,
            });
        }
        if let Some(divisor) = find(&FINER) {
            return Some(Self {
                form: Form::Decimal,
                multiplier: 1,
                divisor,
            });
        }
        let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        let power = 10_i128.checked_pow(exponent.unsigned_abs().min(30))?;
        Some(Self {
            form: Form::Exponent,
            multiplier: if exponent < 0 { MILLI } else { MILLI.checked_mul(power)? },
            divisor: if exponent < 0 { power } else { 1 },
        })
    }
}

impl Form {
    /// With the largest suffix that needs no fraction. Below 1024, and with a fraction, binary suffixes have no spelling.
    fn write(self, millis: i128) -> String {
        let table: &[(&str, i128)] = match self {
            Self::Binary if millis >= 1_024 * MILLI && millis % MILLI == 0 => &BINARY,
            _ => &DECIMAL,
        };
        let fits = table.iter().find(|(_, unit)| millis != 0 && millis % unit == 0);
        let (suffix, unit) = fits.copied().unwrap_or(("", MILLI));
        let number = millis / unit;
        if self != Self::Exponent {
            return format!("{number}{suffix}");
        }
        match DECIMAL.iter().rev().position(|(name, _)| *name == suffix) {
            Some(0) => format!("{number}e-3"),
            Some(1) | None => number.to_string(),
            Some(thousands) => format!("{number}e{}", (thousands - 1) * 3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every spelling on the right came back unchanged from a Kubernetes 1.35 API server, in a CronJob.
    #[test]
    fn a_quantity_is_spelled_so_that_the_api_server_leaves_it_alone() {
        for (given, stored) in SPELLINGS {
            assert_eq!(
                canonical(given).as_ref().map(|quantity| quantity.0.as_str()),
                Ok(stored),
                "{given}"
            );
        }
    }

    const SPELLINGS: [(&str, &str); 22] = [
        ("1", "1"),
        ("+1", "1"),
        ("0", "0"),
        ("0Mi", "0"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("1.", "1"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("100n", "1m"),
        ("2500u", "3m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1536Ki", "1536Ki"),
        ("2048", "2048"),
        ("1000Ki", "1000Ki"),
        ("0.5Ki", "512"),
        ("1.0005Ki", "1024512m"),
        ("1000k", "1M"),
        ("12e6", "12e6"),
        ("1e4", "10e3"),
        ("1E3", "1e3"),
    ];

    #[test]
    fn what_is_no_quantity_is_refused_with_its_text() {
        for text in ["", "abc", "1.2.3", "1 Gi", "1gi", "Mi", "1e", "--1", "-+1", "1ee3", "½"] {
            assert_eq!(canonical(text), Err(QuantityError::Malformed(text.into())), "{text:?}");
        }
        for text in ["-1", "9223372036854775808", "10000E", "1e40"] {
            assert_eq!(canonical(text), Err(QuantityError::OutOfRange(text.into())), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn writing_it_again_changes_nothing_and_nothing_panics(text in "[+-]?[0-9]{0,20}\\.?[0-9]{0,14}([numkMGTPE]|[KMGTPE]i|[eE]-?[0-9]{1,3}|)") {
            if let Ok(once) = canonical(&text) {
                proptest::prop_assert_eq!(canonical(&once.0), Ok(once));
            }
        }
    }
}
