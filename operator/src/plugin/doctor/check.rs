//! One line of the doctor's report.

use serde::Serialize;

use crate::{
    plugin::terminal::{Mood, harmless},
    text_table::painted,
};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// It works, and somebody should know.
    Warning,
    /// It does not work.
    Failed,
    /// It cannot be seen from here.
    Unseen,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at.
    pub subject: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub finding: String,
    /// What to do about it; absent where there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn new(subject: &str, verdict: Verdict, finding: &str, remedy: Option<&str>) -> Self {
        Self {
            subject: harmless(subject),
            verdict,
            finding: harmless(finding),
            remedy: remedy.map(harmless),
        }
    }

    /// It is as it should be.
    #[must_use]
    pub fn passed(subject: &str, finding: impl AsRef<str>) -> Self {
        Self::new(subject, Verdict::Passed, finding.as_ref(), None)
    }

    /// It works, and somebody should know.
    #[must_use]
    pub fn warning(subject: &str, finding: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self::new(subject, Verdict::Warning, finding.as_ref(), Some(remedy.as_ref()))
    }

    /// It does not work.
    #[must_use]
    pub fn failed(subject: &str, finding: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self::new(subject, Verdict::Failed, finding.as_ref(), Some(remedy.as_ref()))
    }

    /// It cannot be seen from here.
    #[must_use]
    pub fn unseen(subject: &str, finding: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self::new(subject, Verdict::Unseen, finding.as_ref(), Some(remedy.as_ref()))
    }

    /// What it means that the cluster answered `error` to the question.
    #[must_use]
    pub fn unanswered(subject: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_forbidden() => Self::unseen(
                subject,
                "can't be seen from here: you may not read it",
                format!("ask somebody who may: {}", status.message),
            ),
            error => Self::failed(
                subject,
                format!("could not be looked at: {error}"),
                "try again; look at `kubectl cluster-info` if it stays so",
            ),
        }
    }
}

/// Everything that was checked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether no check failed.
    pub healthy: bool,
    /// The checks, in the order in which one thing builds on the other.
    pub checks: Vec<Check>,
}

impl Report {
    /// The report of `checks`.
    #[must_use]
    pub fn new(checks: Vec<Check>) -> Self {
        Self {
            healthy: checks.iter().all(|check| check.verdict != Verdict::Failed),
            checks,
        }
    }

    /// For people: a line for each check, below it what to do.
    #[must_use]
    pub fn table(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .checks
            .iter()
            .map(|check| {
                let word = match check.verdict {
                    Verdict::Passed => "ok",
                    Verdict::Warning => "warning",
                    Verdict::Failed => "FAILED",
                    Verdict::Unseen => "unseen",
                };
                vec![word.to_owned(), check.subject.clone(), check.finding.clone()]
            })
            .collect();
        let lines = painted(0, &rows, |line, column, cell| {
            let mood = match self.checks.get(line).map(|check| check.verdict).filter(|_| column == 0) {
                Some(Verdict::Passed) => Mood::Good,
                Some(Verdict::Failed) => Mood::Bad,
                Some(Verdict::Warning | Verdict::Unseen) => Mood::Doubtful,
                None => Mood::Plain,
            };
            mood.paint(cell)
        });
        let mut text = String::new();
        for (line, check) in lines.lines().zip(&self.checks) {
            text.push_str(line);
            text.push('\n');
            if let Some(remedy) = &check.remedy {
                text.push_str(&format!("         → {remedy}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complaint_has_its_remedy_below_and_what_cannot_be_seen_is_no_failure() {
        let unseen = Report::new(vec![Check::passed("a", "fine"), Check::unseen("b", "dark", "ask")]);
        assert!(unseen.healthy);
        let report = Report::new(vec![
            Check::passed("a", "fine"),
            Check::failed("b", "broken\u{1b}[2J", "mend it"),
        ]);
        assert!(!report.healthy);
        let text = anstream::adapter::strip_str(&report.table()).to_string();
        assert_eq!(text, "ok      a  fine\nFAILED  b  broken [2J\n         → mend it\n");
    }
}
