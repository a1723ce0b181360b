//! Status and type of an outage, from the codes in the view to the words that are published.

use serde::{Serialize, Serializer};

use super::text::code_word;

/// Status of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// `P`: a crew is being prepared. Also what a null or unknown code means.
    EmPreparacao,
    /// `D`: the crew is on its way.
    Deslocamento,
    /// `E`: the crew is at work.
    EmExecucao,
    /// `C`: supply is restored.
    Concluida,
    /// `CANCELADA`: there was no outage after all.
    Cancelada,
}

impl Status {
    /// The statuses that an active outage may have, in the order of the work.
    pub const ACTIVE: [Self; 3] = [Self::EmPreparacao, Self::Deslocamento, Self::EmExecucao];

    /// The status of a code in the view, however it is spelled; `None` when the code is unknown.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        match code_word(code).as_str() {
            "p" | "preparacao" | "empreparacao" => Some(Self::EmPreparacao),
            "d" | "deslocamento" | "emdeslocamento" => Some(Self::Deslocamento),
            "e" | "execucao" | "emexecucao" => Some(Self::EmExecucao),
            "c" | "concluida" | "concluido" => Some(Self::Concluida),
            "cancelada" | "cancelado" => Some(Self::Cancelada),
            _ => None,
        }
    }

    /// Whether the outage goes on: only such outages are published and counted.
    #[must_use]
    pub fn is_active(self) -> bool {
        match self {
            Self::EmPreparacao | Self::Deslocamento | Self::EmExecucao => true,
            Self::Concluida | Self::Cancelada => false,
        }
    }

    /// The word as it is published.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EmPreparacao => "EM_PREPARACAO",
            Self::Deslocamento => "DESLOCAMENTO",
            Self::EmExecucao => "EM_EXECUCAO",
            Self::Concluida => "CONCLUIDA",
            Self::Cancelada => "CANCELADA",
        }
    }

    /// Colour on the map, as in CSS.
    #[must_use]
    pub fn colour(self) -> &'static str {
        match self {
            Self::EmPreparacao => "#2196F3",
            Self::Deslocamento => "#FFC107",
            Self::EmExecucao => "#FF9800",
            Self::Concluida | Self::Cancelada => "#4CAF50",
        }
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Whether an outage was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tipo {
    /// Announced work on the grid.
    Programada,
    /// Anything else. Also what a null or unknown word means.
    NaoProgramada,
}

impl Tipo {
    /// Both types.
    pub const ALL: [Self; 2] = [Self::Programada, Self::NaoProgramada];

    /// The type of a word in the view, however it is spelled; `None` when it is unknown.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        match code_word(word).as_str() {
            "programada" | "programado" => Some(Self::Programada),
            "naoprogramada" | "naoprogramado" => Some(Self::NaoProgramada),
            _ => None,
        }
    }

    /// The word as it is published.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Programada => "PROGRAMADA",
            Self::NaoProgramada => "NAO_PROGRAMADA",
        }
    }
}

impl Serialize for Tipo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_fixed_width_column_are_read_and_unknown_ones_are_not_guessed() {
        assert_eq!(Status::of_code("E         "), Some(Status::EmExecucao));
        assert_eq!(Status::of_code("X"), None);
        assert_eq!(Status::of_code(""), None);
        assert_eq!(Tipo::of_word("PROGRAMADA "), Some(Tipo::Programada));
        assert_eq!(Tipo::of_word("EMERGENCIAL"), None);
        assert_eq!(Tipo::of_word("REPROGRAMADA"), None);
    }

    #[test]
    fn words_are_read_in_every_spelling() {
        for (written, expected) in [
            ("CONCLUÍDA", Status::Concluida),
            ("Concluida", Status::Concluida),
            ("conclui\u{301}do", Status::Concluida),
            ("cancelada", Status::Cancelada),
            ("\u{FEFF}Cancelado\u{A0}", Status::Cancelada),
            ("Em Execução", Status::EmExecucao),
            ("EM_EXECUCAO", Status::EmExecucao),
            ("em-preparação", Status::EmPreparacao),
            ("Deslocamento", Status::Deslocamento),
            ("Em deslocamento", Status::Deslocamento),
            ("p", Status::EmPreparacao),
            ("ｃ", Status::Concluida),
        ] {
            assert_eq!(Status::of_code(written), Some(expected), "{written:?}");
        }
        for (written, expected) in [
            ("Programada", Tipo::Programada),
            ("programado", Tipo::Programada),
            ("Não Programada", Tipo::NaoProgramada),
            ("NÃO-PROGRAMADA", Tipo::NaoProgramada),
            ("nao programada", Tipo::NaoProgramada),
            ("Na\u{303}o_Programada", Tipo::NaoProgramada),
        ] {
            assert_eq!(Tipo::of_word(written), Some(expected), "{written:?}");
        }
        for status in Status::ACTIVE {
            assert_eq!(
                Status::of_code(status.as_str()),
                Some(status),
                "what is published is understood"
            );
        }
    }

    #[test]
    fn a_restored_or_cancelled_outage_is_not_active() {
        assert!(Status::ACTIVE.into_iter().all(Status::is_active));
        assert!(!Status::Concluida.is_active() && !Status::Cancelada.is_active());
    }
}
