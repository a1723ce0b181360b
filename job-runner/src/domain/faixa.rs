//! Faixas de duração: the ranges into which outages fall by how long they last.

use serde::{Serialize, Serializer};

/// Range of an outage's duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Faixa {
    /// 0 to 59 minutes.
    Ate1h,
    /// 60 to 179 minutes.
    De1a3h,
    /// 180 to 359 minutes.
    De3a6h,
    /// 360 to 719 minutes.
    De6a12h,
    /// 720 to 1439 minutes.
    De12a24h,
    /// 1440 to 2879 minutes.
    De24a48h,
    /// 2880 minutes and more.
    Mais48h,
}

impl Faixa {
    /// Every range, shortest first.
    pub const ALL: [Self; 7] = [
        Self::Ate1h,
        Self::De1a3h,
        Self::De3a6h,
        Self::De6a12h,
        Self::De12a24h,
        Self::De24a48h,
        Self::Mais48h,
    ];

    /// The range of an outage that has lasted for `minutes` whole minutes.
    #[must_use]
    pub fn of_minutes(minutes: u64) -> Self {
        match minutes {
            0..=59 => Self::Ate1h,
            60..=179 => Self::De1a3h,
            180..=359 => Self::De3a6h,
            360..=719 => Self::De6a12h,
            720..=1439 => Self::De12a24h,
            1440..=2879 => Self::De24a48h,
            2880.. => Self::Mais48h,
        }
    }

    /// The code as it is published.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ate1h => "ATE_1H",
            Self::De1a3h => "DE_1_A_3H",
            Self::De3a6h => "DE_3_A_6H",
            Self::De6a12h => "DE_6_A_12H",
            Self::De12a24h => "DE_12_A_24H",
            Self::De24a48h => "DE_24_A_48H",
            Self::Mais48h => "MAIS_48H",
        }
    }

    /// Colour on the map, as in CSS.
    #[must_use]
    pub fn colour(self) -> &'static str {
        match self {
            Self::Ate1h => "#4CAF50",
            Self::De1a3h => "#8BC34A",
            Self::De3a6h => "#FFEB3B",
            Self::De6a12h => "#FF9800",
            Self::De12a24h => "#FF5722",
            Self::De24a48h => "#F44336",
            Self::Mais48h => "#B71C1C",
        }
    }
}

impl Serialize for Faixa {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_every_range() {
        let edges = [
            0,
            59,
            60,
            179,
            180,
            359,
            360,
            719,
            720,
            1439,
            1440,
            2879,
            2880,
            u64::MAX,
        ];
        let names: Vec<_> = edges
            .iter()
            .map(|minutes| Faixa::of_minutes(*minutes).as_str())
            .collect();
        assert_eq!(
            names,
            [
                "ATE_1H",
                "ATE_1H",
                "DE_1_A_3H",
                "DE_1_A_3H",
                "DE_3_A_6H",
                "DE_3_A_6H",
                "DE_6_A_12H",
                "DE_6_A_12H",
                "DE_12_A_24H",
                "DE_12_A_24H",
                "DE_24_A_48H",
                "DE_24_A_48H",
                "MAIS_48H",
                "MAIS_48H"
            ]
        );
    }
}
