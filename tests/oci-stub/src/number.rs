//! Oracle's NUMBER: a base-100 exponent and mantissa, behind a length byte (`SQLT_VNU`).

/// Bytes of a `SQLT_VNU` buffer.
pub const SIZE: usize = 22;

/// Writes a decimal (`-12.5`) as NUMBER. Digits beyond what fits are cut.
#[must_use]
pub fn encode(decimal: &str) -> [u8; SIZE] {
    let negative = decimal.starts_with('-');
    let digits = decimal.trim_start_matches(['-', '+']);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut whole = whole.trim_start_matches('0').to_owned();
    let mut fraction = fraction.trim_end_matches('0').to_owned();
    if whole.len() % 2 == 1 {
        whole.insert(0, '0');
    }
    if fraction.len() % 2 == 1 {
        fraction.push('0');
    }
    let pair = |two: &[u8]| (two[0] - b'0') * 10 + (two[1] - b'0');
    let mut exponent = i16::try_from(whole.len() / 2).unwrap_or(0);
    let mut mantissa: Vec<u8> = whole
        .as_bytes()
        .chunks(2)
        .chain(fraction.as_bytes().chunks(2))
        .map(pair)
        .collect();
    let leading = mantissa.iter().take_while(|pair| **pair == 0).count();
    mantissa.drain(..leading);
    exponent -= i16::try_from(leading).unwrap_or(0);
    while mantissa.last() == Some(&0) {
        mantissa.pop();
    }
    mantissa.truncate(20);
    let mut bytes = [0; SIZE];
    if mantissa.is_empty() {
        (bytes[0], bytes[1]) = (1, 0x80);
        return bytes;
    }
    bytes[1] = u8::try_from(if negative {
        62 - (exponent - 1)
    } else {
        193 + exponent - 1
    })
    .unwrap_or(0x80);
    for (at, pair) in mantissa.iter().enumerate() {
        bytes[2 + at] = if negative { 101 - pair } else { pair + 1 };
    }
    let mut length = 1 + mantissa.len();
    if negative && mantissa.len() < 20 {
        bytes[2 + mantissa.len()] = 102;
        length += 1;
    }
    bytes[0] = u8::try_from(length).unwrap_or(0);
    bytes
}

/// Reads a NUMBER as a decimal.
#[must_use]
pub fn decode(bytes: &[u8; SIZE]) -> String {
    let length = usize::from(bytes[0]).min(SIZE - 1);
    if length <= 1 {
        return "0".to_owned();
    }
    let negative = bytes[1] < 0x80;
    let exponent = if negative {
        62 - i32::from(bytes[1])
    } else {
        i32::from(bytes[1]) - 193
    } + 1;
    let pairs: Vec<u8> = bytes[2..=length]
        .iter()
        .filter(|byte| !(negative && **byte == 102))
        .map(|byte| if negative { 101 - byte } else { byte - 1 })
        .collect();
    let at = |index: i32| {
        usize::try_from(index)
            .ok()
            .and_then(|index| pairs.get(index))
            .copied()
            .unwrap_or(0)
    };
    let whole: String = (0..exponent).map(|index| format!("{:02}", at(index))).collect();
    let last = i32::try_from(pairs.len()).unwrap_or(0);
    let fraction: String = (exponent..last).map(|index| format!("{:02}", at(index))).collect();
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let sign = if negative { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_wire_format() {
        for number in [
            "0",
            "1",
            "-1",
            "10",
            "99",
            "100",
            "1234567.89",
            "-60.6758",
            "2.81",
            "0.05",
            "0.005",
            "-0.0001",
            "999999999999999999",
            "1200000",
        ] {
            assert_eq!(decode(&encode(number)), number, "{number}");
        }
        // As documented: 123 is C2 02 18, -123 is 3D 64 4E 66.
        assert_eq!(encode("123")[..4], [3, 0xC2, 2, 24]);
        assert_eq!(encode("-123")[..5], [4, 0x3D, 100, 78, 102]);
    }
}
