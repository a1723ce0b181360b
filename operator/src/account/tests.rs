use mapa_refresh_crds::policy::TaskName;
use proptest::prelude::*;

use super::*;
use crate::status::blank_task;

const LIMIT: i64 = 1_800;
/// 2026-11-30T12:00:00Z.
const START: i64 = 1_796_040_000;

fn rules() -> Rules {
    Rules {
        limit_seconds: LIMIT,
        zone: chrono_tz::America::Boa_Vista,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn publication(published_at: i64, data_as_of: i64) -> Publication {
    Publication {
        published_at: START + published_at,
        data_as_of: START + data_as_of,
    }
}

/// A world with a map and statistics, and what is proved of them.
struct Ledger {
    account: ComplianceAccount,
    documents: [TaskStatus; 2],
}

impl Ledger {
    fn new() -> Self {
        Self {
            account: opened(at(0)),
            documents: [TaskName::RefreshMapaCache, TaskName::CalcularEstatisticas].map(blank_task),
        }
    }

    /// A report of a publication, whose log reaches back over `log`, oldest first.
    fn report(&mut self, document: usize, log: &[(i64, i64)]) {
        let entries: Vec<Publication> = log.iter().rev().map(|(p, d)| publication(*p, *d)).collect();
        let newest = entries[0];
        publish(
            &mut self.documents[document].publications,
            newest,
            &Publications::new(entries),
            START,
            newest.published_at,
            LIMIT,
        );
    }

    fn publish_both(&mut self, published_at: i64, data_as_of: i64) {
        for document in 0..2 {
            let last = self.documents[document].publications.iter().next();
            let last = last.map(|last| (last.published_at - START, last.data_as_of - START));
            let log: Vec<(i64, i64)> = last.into_iter().chain([(published_at, data_as_of)]).collect();
            self.report(document, &log);
        }
    }

    fn until(&mut self, second: i64) -> Tally {
        self.bring(second, Settle::Proved)
    }

    fn bring(&mut self, second: i64, settle: Settle) -> Tally {
        let mut documents: Vec<&mut TaskStatus> = self.documents.iter_mut().collect();
        bring_forward(&mut self.account, &mut documents, rules(), settle, at(second));
        self.account.total
    }
}

#[test]
fn promise_3_a_breach_lasts_from_the_limit_to_the_next_publication() {
    let mut ledger = Ledger::new();
    ledger.publish_both(10, 0);
    assert_eq!(ledger.until(1_800).seconds_in_breach, 0);
    assert_eq!(
        ledger.until(1_900),
        Tally {
            breaches: 1,
            seconds_in_breach: 100,
            seconds_unproven: 10,
            worst_data_age_seconds: 1_900
        }
    );
    ledger.publish_both(2_000, 1_995);
    let tally = ledger.until(2_500);
    assert_eq!(
        (tally.breaches, tally.seconds_in_breach, tally.worst_data_age_seconds),
        (1, 200, 2_000)
    );
}

#[test]
fn what_was_lost_while_the_operator_was_away_is_taken_from_the_next_report() {
    let mut ledger = Ledger::new();
    ledger.publish_both(10, 0);
    // As far as anybody knew, the limit was exceeded for hours.
    assert_eq!(ledger.until(9_000).seconds_in_breach, 7_200);
    for document in 0..2 {
        let log: Vec<(i64, i64)> = (0..16).map(|n| (10 + n * 600, n * 600)).collect();
        ledger.report(document, &log);
    }
    let tally = ledger.until(9_020);
    assert_eq!(
        (tally.breaches, tally.seconds_in_breach, tally.seconds_unproven),
        (0, 0, 10)
    );
    assert_eq!(tally.worst_data_age_seconds, 610);
}

#[test]
fn a_log_that_does_not_reach_back_leaves_unproven_time_and_no_breach() {
    let mut ledger = Ledger::new();
    ledger.publish_both(10, 0);
    ledger.until(20);
    for document in 0..2 {
        ledger.report(document, &[(7_000, 6_990), (7_600, 7_590)]);
    }
    // Public until its own deadline at least; from then to the oldest entry nobody knows.
    let tally = ledger.until(7_700);
    assert_eq!(tally.seconds_unproven, 10 + (7_000 - 1_800));
    assert_eq!((tally.breaches, tally.seconds_in_breach), (0, 0));
}

#[test]
fn a_document_that_is_lost_is_a_breach_until_it_is_published_again() {
    let mut ledger = Ledger::new();
    ledger.publish_both(10, 0);
    found(&mut ledger.documents[0].publications, START + 100, None);
    assert_eq!(ledger.until(150).seconds_in_breach, 50);
    ledger.report(0, &[(10, 0), (160, 155)]);
    let tally = ledger.until(200);
    assert_eq!((tally.breaches, tally.seconds_in_breach), (1, 60));
}

#[test]
fn a_clock_that_was_set_forward_and_back_leaves_no_trace() {
    let mut ledger = Ledger::new();
    ledger.publish_both(10, 0);
    assert_eq!(ledger.until(100_000).breaches, 1);
    let tally = ledger.until(600);
    assert_eq!((tally.breaches, tally.seconds_in_breach), (0, 0));
}

#[test]
fn a_breach_over_the_end_of_a_month_is_one_breach_and_its_time_is_divided() {
    let mut ledger = Ledger::new();
    // The month of Boa Vista ends at 04:00Z, 16 h after the beginning.
    let midnight = 16 * 3_600;
    ledger.publish_both(10, 0);
    ledger.publish_both(midnight - 3_600, midnight - 3_600);
    ledger.publish_both(midnight + 600, midnight + 590);
    ledger.until(midnight + 700);
    let months = &ledger.account.months;
    assert_eq!(
        months.iter().map(|month| month.month.as_str()).collect::<Vec<_>>(),
        ["2026-12", "2026-11"]
    );
    assert_eq!((months[0].tally.breaches, months[0].tally.seconds_in_breach), (0, 600));
    // Before it another breach: from 30 min after the first publication.
    assert_eq!(months[1].tally.breaches, 2);
    let total = ledger.account.total;
    assert_eq!(
        total.seconds_in_breach,
        months.iter().map(|month| month.tally.seconds_in_breach).sum::<i64>()
    );
}

#[test]
fn thirteen_months_are_kept_and_the_sums_go_on() {
    let mut ledger = Ledger::new();
    let day = 86_400;
    for number in 0..800 {
        ledger.publish_both(number * day + 10, number * day);
        ledger.until(number * day + 11);
    }
    assert_eq!(ledger.account.months.len(), MAX_MONTHS);
    assert_eq!(ledger.account.months[0].month, "2029-02");
    assert_eq!(ledger.account.total.breaches, 799);
}

#[test]
fn what_is_settled_by_force_is_kept_when_the_documents_are_forgotten() {
    let mut ledger = Ledger::new();
    ledger.publish_both(10, 0);
    let before = ledger.bring(3_000, Settle::Everything);
    for document in &mut ledger.documents {
        document.publications = Publications::default();
    }
    let after = ledger.until(3_100);
    assert_eq!(after.seconds_in_breach, before.seconds_in_breach);
    assert_eq!(after.seconds_unproven, before.seconds_unproven + 100);
}

/// Second by second, with nothing in common with the code: how the public stood.
fn by_the_second(documents: &[Vec<(i64, i64)>; 2], end: i64) -> Tally {
    let mut tally = Tally::default();
    let mut before = "";
    for second in 0..end {
        let mut state = "compliant";
        for document in documents {
            let last = document.iter().rfind(|(published_at, _)| *published_at <= second);
            let its = match last {
                None => "unproven",
                Some((_, data_as_of)) if second - data_as_of >= LIMIT => "breach",
                Some(_) => "compliant",
            };
            if its == "breach" || (its == "unproven" && state == "compliant") {
                state = its;
            }
        }
        match state {
            "breach" => {
                tally.seconds_in_breach += 1;
                tally.breaches += i64::from(before != "breach");
            }
            "unproven" => tally.seconds_unproven += 1,
            _ => {}
        }
        before = state;
    }
    tally
}

#[test]
fn of_two_publications_within_one_second_the_newer_counts_and_neither_becomes_younger_when_told_again() {
    let mut ledger = Ledger::new();
    ledger.report(0, &[(600, 0)]);
    ledger.report(0, &[(600, 0), (600, 590)]);
    let known: Vec<Publication> = ledger.documents[0].publications.iter().collect();
    assert_eq!(known, [publication(600, 590), publication(600, 0)]);
    // A log has the stamp of the database, and what is known is the oldest of several clocks.
    ledger.report(0, &[(600, 300), (600, 599), (1_200, 1_190)]);
    let known: Vec<Publication> = ledger.documents[0].publications.iter().collect();
    assert_eq!(
        known,
        [publication(1_200, 1_190), publication(600, 590), publication(600, 0)]
    );
}

proptest! {
    /// Whenever and however often it is brought forward, and whichever reports are lost, the account is that of somebody who watched every
    /// second.
    #[test]
    fn the_account_is_that_of_a_witness_of_every_second(
        steps in prop::collection::vec((0_usize..2, prop_oneof![1 => Just(0_i64), 9 => 1_i64..4_000], 0_i64..300, any::<bool>(), any::<bool>()), 1..25)
    ) {
        let mut ledger = Ledger::new();
        let mut truth: [Vec<(i64, i64)>; 2] = [Vec::new(), Vec::new()];
        let mut now = 0;
        // Publications of one document since the other was heard of: more than are kept are settled without it.
        let mut alone = [0_usize; 2];
        for (document, step, age, is_seen, look) in steps {
            now += step;
            let not_older = truth[document].last().map_or(0, |(_, data_as_of)| *data_as_of);
            truth[document].push((now, (now - age).max(not_older)));
            if is_seen {
                ledger.report(document, &truth[document]);
            }
            alone[document] += 1;
            if is_seen {
                alone[1 - document] = 0;
            }
            prop_assume!(alone.iter().all(|count| *count < MAX_OPEN_PUBLICATIONS - 1));
            if look {
                ledger.until(now + step / 2);
            }
        }
        // The last report of each document tells of all before it.
        for (document, published) in truth.iter().enumerate() {
            if !published.is_empty() {
                ledger.report(document, published);
            }
        }
        let end = now + 2_000;
        let account = ledger.until(end);
        let witness = by_the_second(&truth, end);
        prop_assert_eq!(account.seconds_in_breach, witness.seconds_in_breach);
        prop_assert_eq!(account.seconds_unproven, witness.seconds_unproven);
        prop_assert_eq!(account.breaches, witness.breaches);
        for document in &ledger.documents {
            prop_assert!(document.publications.len() <= MAX_OPEN_PUBLICATIONS);
        }
    }
}
