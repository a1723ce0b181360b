//! Areas: where a distributor's outages can lie, and its municipalities.

/// A bounding box and the municipalities in it.
#[derive(Debug, PartialEq)]
pub struct Area {
    /// Name, as the policy's `spec.area` says it.
    pub name: &'static str,
    /// Southernmost and northernmost latitude, in degrees.
    pub latitude: (f64, f64),
    /// Westernmost and easternmost longitude, in degrees.
    pub longitude: (f64, f64),
    /// IBGE code and name of each municipality, ordered by code.
    pub municipios: &'static [(&'static str, &'static str)],
}

/// An area that this runner doesn't know.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("area {0:?} is not known to this job-runner: spec.area must be RR, the only one built in")]
pub struct UnknownArea(pub String);

impl Area {
    /// The area called `name`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn by_name(name: &str) -> Result<&'static Self, UnknownArea> {
        if name == RR.name {
            Ok(&RR)
        } else {
            Err(UnknownArea(name.to_owned()))
        }
    }

    /// Whether a point lies in the box, its edges included.
    #[must_use]
    pub fn contains(&self, latitude: f64, longitude: f64) -> bool {
        (self.latitude.0..=self.latitude.1).contains(&latitude)
            && (self.longitude.0..=self.longitude.1).contains(&longitude)
    }

    /// Name of the municipality with this IBGE code.
    #[must_use]
    pub fn municipio(&self, codigo_ibge: &str) -> Option<&'static str> {
        let found = self
            .municipios
            .binary_search_by(|(code, _)| (*code).cmp(codigo_ibge))
            .ok()?;
        self.municipios.get(found).map(|(_, name)| *name)
    }
}

/// Roraima. Source: IBGE's table of municipalities; some of the utility's own papers swap Boa Vista and Alto Alegre.
static RR: Area = Area {
    name: "RR",
    latitude: (-1.583_333, 5.316_667),
    longitude: (-64.833_333, -58.85),
    municipios: &[
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
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roraima_has_its_15_municipalities_in_order() {
        assert_eq!(RR.municipios.len(), 15);
        assert!(RR.municipios.is_sorted_by(|a, b| a.0 < b.0));
        assert!(
            RR.municipios
                .iter()
                .all(|(code, _)| code.len() == 7 && code.starts_with("14"))
        );
        assert_eq!(RR.municipio("1400100"), Some("Boa Vista"));
        assert_eq!(RR.municipio("1302603"), None, "Manaus");
    }

    #[test]
    fn the_equator_lies_in_roraima_and_nan_lies_nowhere() {
        assert!(RR.contains(0.0, -60.0));
        assert!(!RR.contains(0.0, 0.0));
        assert!(!RR.contains(f64::NAN, -60.0));
    }

    #[test]
    fn an_unknown_area_names_the_remedy() {
        assert!(
            Area::by_name("AM")
                .unwrap_err()
                .to_string()
                .contains("spec.area must be RR")
        );
    }
}
