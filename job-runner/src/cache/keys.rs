//! The keys of each document, and how long they live.

use std::time::Duration;

use mapa_refresh_crds::policy::TaskName;

/// A published document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// `<prefix>:interrupcoes`, with its GeoJSON beside it.
    Map,
    /// `<prefix>:estatisticas`, with the last good one beside it.
    Statistics,
}

impl Document {
    /// The task that publishes it.
    #[must_use]
    pub fn task(self) -> TaskName {
        match self {
            Self::Map => TaskName::RefreshMapaCache,
            Self::Statistics => TaskName::CalcularEstatisticas,
        }
    }
}

/// How long a document's keys live after a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// The document.
    pub document: Duration,
    /// Its sibling: GeoJSON, or the statistics' `last_good`.
    pub sibling: Duration,
    /// Owner, generation and log: longer than the document, so that an older generation never follows a newer one.
    pub meta: Duration,
}

impl Lifetimes {
    /// The lifetimes of `document` where it is published every `interval_minutes`.
    ///
    /// The map lives for 6 h and at least 12 intervals: an old map that says how old it is serves better than none. The
    /// statistics live for the 1800 s of their contract; where that is less than two intervals and five minutes, for those, so
    /// that a run that is late or fails once leaves no hole. Their `last_good` lives for 24 h.
    #[must_use]
    pub fn of(document: Document, interval_minutes: u32) -> Self {
        let minutes = |minutes: u32| Duration::from_secs(60 * u64::from(minutes));
        let meta = minutes(7 * 24 * 60);
        match document {
            Document::Map => {
                let map = minutes(12 * interval_minutes).max(minutes(6 * 60));
                Self {
                    document: map,
                    sibling: map,
                    meta,
                }
            }
            Document::Statistics => Self {
                document: minutes(2 * interval_minutes + 5).max(minutes(30)),
                sibling: minutes(24 * 60),
                meta,
            },
        }
    }
}

/// The keys of one document. Those in braces share its slot in a Redis Cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) document: String,
    pub(super) sibling: String,
    pub(super) meta: String,
    pub(super) log: String,
}

/// Names of document, sibling, meta and log outside of their places.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Staging {
    /// Where the new ones wait for their publication.
    pub(super) new: [String; 4],
    /// Where the old ones are, within the step that replaces them.
    pub(super) old: [String; 4],
}

impl Keys {
    pub(super) fn new(prefix: &str, document: Document) -> Self {
        let (name, sibling) = match document {
            Document::Map => ("interrupcoes", "geojson"),
            Document::Statistics => ("estatisticas", "last_good"),
        };
        let document = format!("{prefix}:{name}");
        let beside = |what: &str| format!("{{{document}}}:{what}");
        Self {
            sibling: beside(sibling),
            meta: beside("meta"),
            log: beside("log"),
            document,
        }
    }

    /// The names that only one publication uses.
    pub(super) fn staging(&self, token: &str) -> Staging {
        let name = |when: &str, what: &str| format!("{{{}}}:staging:{token}:{when}:{what}", self.document);
        let all = |when: &str| ["document", "sibling", "meta", "log"].map(|what| name(when, what));
        Staging {
            new: all("new"),
            old: all("old"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_of_the_contract() {
        let keys = Keys::new("mapa", Document::Map);
        assert_eq!(
            [keys.document, keys.sibling, keys.meta, keys.log],
            [
                "mapa:interrupcoes",
                "{mapa:interrupcoes}:geojson",
                "{mapa:interrupcoes}:meta",
                "{mapa:interrupcoes}:log"
            ]
        );
        assert_eq!(
            Keys::new("a:b", Document::Statistics).sibling,
            "{a:b:estatisticas}:last_good"
        );
    }

    #[test]
    fn lesson_07_no_document_expires_before_a_late_run() {
        for interval in 1..=30 {
            let two_intervals = Duration::from_secs(120 * u64::from(interval));
            for document in [Document::Map, Document::Statistics] {
                let lifetimes = Lifetimes::of(document, interval);
                assert!(lifetimes.document > two_intervals, "{document:?} at {interval}");
                assert!(lifetimes.sibling >= lifetimes.document && lifetimes.meta > lifetimes.sibling);
            }
        }
        assert_eq!(
            Lifetimes::of(Document::Statistics, 10).document.as_secs(),
            1_800,
            "the contract's"
        );
        assert_eq!(Lifetimes::of(Document::Map, 10).document.as_secs(), 6 * 3_600);
    }
}
