//! In which format an answer is printed.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// Format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For people with wide terminals.
    Wide,
    /// For programs.
    Json,
    /// For programs, and people who read YAML.
    Yaml,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Wide => "wide",
            Self::Json => "json",
            Self::Yaml => "yaml",
        })
    }
}

impl Format {
    /// `answer` as a program reads it; for people, what `table` makes of it.
    pub fn render<T: Serialize>(self, answer: &T, table: impl FnOnce(&T) -> String) -> String {
        // Numbers, texts and lists of them: there is nothing that either could not hold.
        match self {
            Self::Table | Self::Wide => table(answer),
            Self::Json => {
                serde_json::to_string_pretty(answer).map_or_else(|error| error.to_string(), |json| json + "\n")
            }
            Self::Yaml => serde_yaml::to_string(answer).unwrap_or_else(|error| error.to_string()),
        }
    }
}
