//! Areas: where a distributor's outages can lie, and its municipalities.
//!
//! A policy names one (`spec.area`). RR (Roraima) is built in; others stand in the operator's configuration, which hands them to the job-runner
//! as JSON. What does not hold together cannot be made: every check is made while reading.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Unexpected, Visitor},
};

/// Name of the area that is built in.
pub const RR: &str = "RR";

/// Most municipalities of an area. Minas Gerais, which has the most of a Brazilian state, has 853.
pub const MOST_MUNICIPALITIES: usize = 1_000;

/// Most bytes of a municipality's name. With as many as there may be, an area stays below the 128 KiB that Linux takes as one variable.
pub const LONGEST_NAME: usize = 100;

/// A bounding box and the municipalities in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// Southernmost and northernmost latitude, within -90 to 90 degrees.
    pub latitude: Degrees<90>,
    /// Westernmost and easternmost longitude, within -180 to 180 degrees. No box crosses the antimeridian.
    pub longitude: Degrees<180>,
    /// IBGE code and name of each municipality, ordered by code.
    pub municipalities: Municipalities,
}

impl Area {
    /// Roraima. Source: IBGE's table of municipalities; some of the utility's own papers swap Boa Vista and Alto Alegre.
    #[must_use]
    pub fn roraima() -> Self {
        Self {
            latitude: Degrees {
                min: -1.583_333,
                max: 5.316_667,
            },
            longitude: Degrees {
                min: -64.833_333,
                max: -58.85,
            },
            municipalities: Municipalities(
                [
                    ("1400027", "Amajari"),
                    ("1400050", "Alto Alegre"),
                    ("1400100", "Boa Vista"),
                    ("1400159", "Bonfim"),
                    ("1400175", "Cantá"),
                    ("1400209", "Caracaraí"),
                    ("1400233", "Caroebe"),
                    ("1400282", "Iracema"),
                    ("1400308", "Mucajaí"),
                    ("1400407", "Normandia"),
                    ("1400456", "Pacaraima"),
                    ("1400472", "Rorainópolis"),
                    ("1400506", "São João da Baliza"),
                    ("1400605", "São Luiz"),
                    ("1400704", "Uiramutã"),
                ]
                .into_iter()
                .map(|(code, name)| (code.to_owned(), name.to_owned()))
                .collect(),
            ),
        }
    }

    /// Whether a point lies in the box, its edges included.
    #[must_use]
    pub fn contains(&self, latitude: f64, longitude: f64) -> bool {
        (self.latitude.min..=self.latitude.max).contains(&latitude)
            && (self.longitude.min..=self.longitude.max).contains(&longitude)
    }
}

/// A range of degrees, both ends included, within -`LIMIT` to `LIMIT`, the lower one first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Degrees<const LIMIT: i32> {
    min: f64,
    max: f64,
}

impl<'de, const LIMIT: i32> Deserialize<'de> for Degrees<LIMIT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ends<const LIMIT: i32>;

        impl<'de, const LIMIT: i32> Visitor<'de> for Ends<LIMIT> {
            type Value = Degrees<LIMIT>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "min and max, in degrees within -{LIMIT} to {LIMIT}, min below max")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut min, mut max) = (None, None);
                while let Some(field) = map.next_key::<String>()? {
                    match field.as_str() {
                        "min" => min = Some(map.next_value::<f64>()?),
                        "max" => max = Some(map.next_value::<f64>()?),
                        _ => return Err(A::Error::unknown_field(&field, &["min", "max"])),
                    }
                }
                let min = min.ok_or_else(|| A::Error::missing_field("min"))?;
                let max = max.ok_or_else(|| A::Error::missing_field("max"))?;
                let limit = f64::from(LIMIT);
                // Written so that a NaN fails.
                if min >= -limit && min < max && max <= limit {
                    Ok(Degrees { min, max })
                } else {
                    Err(A::Error::custom(format_args!(
                        "invalid value: {min} to {max}, expected {}",
                        &self as &dyn serde::de::Expected
                    )))
                }
            }
        }

        deserializer.deserialize_map(Ends)
    }
}

/// IBGE code (7 digits) and name of each municipality; one at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Municipalities(BTreeMap<String, String>);

impl Municipalities {
    /// Code and name of each, ordered by code.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(code, name)| (code.as_str(), name.as_str()))
    }
}

impl<'de> Deserialize<'de> for Municipalities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByCode;

        impl<'de> Visitor<'de> for ByCode {
            type Value = Municipalities;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "1 to {MOST_MUNICIPALITIES} municipalities, as `\"1400100\": Boa Vista`"
                )
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Municipalities, A::Error> {
                let mut by_code = BTreeMap::new();
                while let Some(Code(code)) = map.next_key()? {
                    let name: String = map.next_value()?;
                    if name.trim().is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
                        return Err(A::Error::custom(format_args!(
                            "the name of municipality {code} should be 1 to {LONGEST_NAME} bytes of text"
                        )));
                    }
                    if by_code.insert(code.clone(), name).is_some() {
                        return Err(A::Error::custom(format_args!("municipality {code} is there twice")));
                    }
                }
                match by_code.len() {
                    1..=MOST_MUNICIPALITIES => Ok(Municipalities(by_code)),
                    count => Err(A::Error::invalid_length(count, &self)),
                }
            }
        }

        deserializer.deserialize_map(ByCode)
    }
}

/// An IBGE code. YAML reads one without quotes as a number.
struct Code(String);

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;

        impl Visitor<'_> for Digits {
            type Value = Code;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IBGE code of 7 digits such as \"1400100\"")
            }

            fn visit_str<E: Error>(self, code: &str) -> Result<Code, E> {
                if code.len() == 7 && code.bytes().all(|digit| digit.is_ascii_digit()) {
                    Ok(Code(code.to_owned()))
                } else {
                    Err(E::invalid_value(Unexpected::Str(code), &self))
                }
            }

            fn visit_u64<E: Error>(self, code: u64) -> Result<Code, E> {
                self.visit_str(&code.to_string())
            }
        }

        deserializer.deserialize_any(Digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACRE: &str = "latitude: { min: -11.15, max: -7.11 }\nlongitude: { min: -74, max: -66.6 }\n\
                        municipalities:\n  1200401: Rio Branco\n  \"1200013\": Acrelândia\n";

    #[test]
    fn roraima_has_its_15_municipalities_and_reads_back_as_written() {
        let area = Area::roraima();
        let codes: Vec<_> = area.municipalities.iter().map(|(code, _)| code).collect();
        assert_eq!(codes.len(), 15);
        assert!(codes.iter().all(|code| code.len() == 7 && code.starts_with("14")));
        let json = serde_json::to_string(&area).unwrap();
        assert_eq!(serde_json::from_str::<Area>(&json).unwrap(), area);
    }

    #[test]
    fn the_equator_lies_in_roraima_and_nan_lies_nowhere() {
        let area = Area::roraima();
        assert!(area.contains(0.0, -60.0));
        assert!(!area.contains(0.0, 0.0));
        assert!(!area.contains(f64::NAN, -60.0));
    }

    #[test]
    fn codes_may_stand_without_quotes_and_come_out_ordered() {
        let area: Area = serde_yaml::from_str(ACRE).unwrap();
        let municipalities: Vec<_> = area.municipalities.iter().collect();
        assert_eq!(municipalities, [("1200013", "Acrelândia"), ("1200401", "Rio Branco")]);
        assert!(area.contains(-9.97, -67.81));
    }

    #[test]
    fn what_cannot_be_an_area_is_refused_with_what_is_wrong() {
        for (from, to, expected) in [
            ("min: -11.15", "min: -7", "-7 to -7.11"),
            ("min: -11.15", "min: -91", "within -90 to 90"),
            ("max: -66.6", "max: 181", "within -180 to 180"),
            ("max: -7.11", "max: .nan", "min below max"),
            ("min: -11.15, ", "", "missing field `min`"),
            ("min: -11.15", "south: -11.15", "unknown field `south`"),
            ("1200401:", "120040:", "an IBGE code of 7 digits"),
            ("1200401:", "120040x:", "an IBGE code of 7 digits"),
            ("1200401:", "1200013:", "1200013 is there twice"),
            ("Rio Branco", "\"\"", "the name of municipality 1200401"),
            ("Rio Branco", "\"a\\nb\"", "the name of municipality 1200401"),
            ("municipalities:", "cities:", "unknown field `cities`"),
        ] {
            let text = ACRE.replace(from, to);
            assert_ne!(text, ACRE);
            let error = serde_yaml::from_str::<Area>(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{from} → {to}: {error}");
        }
        let none = "latitude: { min: 0, max: 1 }\nlongitude: { min: 0, max: 1 }\nmunicipalities: {}\n";
        let error = serde_yaml::from_str::<Area>(none).unwrap_err().to_string();
        assert!(error.contains("1 to 1000 municipalities"), "{error}");
    }

    #[test]
    fn the_largest_area_fits_into_a_variable_of_the_environment() {
        let municipalities = (0..MOST_MUNICIPALITIES)
            .map(|number| (format!("{:07}", 3_100_000 + number), "é".repeat(LONGEST_NAME / 2)))
            .collect();
        let largest = Area {
            municipalities: Municipalities(municipalities),
            ..Area::roraima()
        };
        let json = serde_json::to_string(&largest).unwrap();
        assert!(json.len() < 128 * 1024, "{} bytes", json.len());
        assert_eq!(serde_json::from_str::<Area>(&json).unwrap(), largest);
    }
}
