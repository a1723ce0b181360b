//! `kubectl mapa status`: the policies with the age of their data, now.

use std::{collections::BTreeMap, convert::identity, pin::pin, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::Serialize;

use super::{
    NOT_WELL, WELL,
    arguments::StatusArguments,
    brief::{Brief, BriefFacts, Word},
    cluster::Cluster,
    error::PluginError,
    output::Format,
    policies::{Listed, Which},
    rows::Told,
    standing::{Facts, Standing},
    terminal::{Mood, clear, draw, duration, is_terminal, print, remark, shortened},
};
use crate::{reconcile::Guarded, text_table::painted};

/// Longest explanation in a table that is not wide, in bytes.
const SHORT: usize = 90;

/// One policy of so many may be read whole beside the rows of all. Of more, the list of all costs less: a request of its own costs many times
/// what an object of a list does.
const EXCEPTIONAL: usize = 20;

/// How many of those are read at the same time.
const AT_A_TIME: usize = 8;

/// Between two drawings on a terminal: ages are told in seconds.
const REDRAW: Duration = Duration::from_secs(1);

/// The answer, as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    at: String,
    policies: Vec<Standing<'a>>,
}

/// Prints the policies, once or until Ctrl-C.
///
/// # Errors
/// The cluster does not answer, or a named policy does not exist.
pub async fn run(cluster: &Cluster, asked: &StatusArguments) -> Result<u8, PluginError> {
    if asked.watch {
        return watch(cluster, asked).await;
    }
    if asked.output == Format::Table && asked.names.is_empty() {
        let facts = read_briefly(cluster, asked).await?;
        let now = Timestamp::now();
        let policies: Vec<Brief<'_>> = facts.iter().map(|facts| facts.at(now)).collect();
        let text = narrow(&policies, asked.all_namespaces);
        return answer(cluster, asked, &text, policies.iter().map(|policy| policy.compliant));
    }
    let facts = read(cluster, asked, identity).await?;
    let now = Timestamp::now();
    answer(
        cluster,
        asked,
        &drawn(facts.iter(), asked, now),
        words(facts.iter(), now),
    )
}

/// Prints `text`, which is about policies that are `compliant` or not.
fn answer(
    cluster: &Cluster,
    asked: &StatusArguments,
    text: &str,
    compliant: impl ExactSizeIterator<Item = Word>,
) -> Result<u8, PluginError> {
    if compliant.len() == 0 {
        remark(&none(cluster, asked));
    }
    print(text)?;
    Ok(exit_code(compliant))
}

/// As objects; `keep` makes of each what is kept.
async fn read<T>(cluster: &Cluster, asked: &StatusArguments, keep: impl Fn(Facts) -> T) -> Result<Vec<T>, PluginError> {
    let now = Timestamp::now();
    let mut kept = Vec::new();
    if asked.names.is_empty() {
        cluster
            .each_policy(which(cluster, asked), |listed| kept.push(keep(Facts::of(&listed, now))))
            .await?;
    }
    for name in &asked.names {
        kept.push(keep(Facts::of(&Listed::of(cluster.object(name).await?), now)));
    }
    Ok(kept)
}

/// By the API server's own rows; what they have no room for is read whole, as long as it is the exception.
async fn read_briefly(cluster: &Cluster, asked: &StatusArguments) -> Result<Vec<BriefFacts>, PluginError> {
    let rows = cluster.rows(which(cluster, asked)).await?;
    let is_exception = |rows: &Vec<Told>| {
        let in_part = rows.iter().filter(|row| matches!(row, Told::InPart(..))).count();
        in_part <= rows.len() / EXCEPTIONAL
    };
    if let Some(rows) = rows.filter(is_exception)
        && let Ok(facts) = complete(cluster, rows).await
    {
        return Ok(facts);
    }
    // Who may list the policies may perhaps not get one; and what else went wrong is told by the list, or is over.
    read(cluster, asked, |facts| facts.brief).await
}

async fn complete(cluster: &Cluster, rows: Vec<Told>) -> Result<Vec<BriefFacts>, PluginError> {
    let now = Timestamp::now();
    let complete = rows.into_iter().map(|row| async {
        match row {
            Told::Whole(facts) => Ok(Some(facts)),
            Told::InPart(namespace, name) => {
                let listed = cluster.listed(&namespace, &name).await?;
                Ok(listed.map(|listed| Facts::of(&listed, now).brief))
            }
        }
    });
    stream::iter(complete)
        .buffered(AT_A_TIME)
        .try_filter_map(async |facts| Ok(facts))
        .try_collect()
        .await
}

fn which<'a>(cluster: &'a Cluster, asked: &'a StatusArguments) -> Which<'a> {
    Which {
        namespace: (!asked.all_namespaces).then_some(cluster.namespace.as_str()),
        selector: asked.selector.as_deref(),
    }
}

fn none(cluster: &Cluster, asked: &StatusArguments) -> String {
    let of = asked
        .selector
        .as_ref()
        .map_or_else(String::new, |selector| format!(" with {selector}"));
    if asked.all_namespaces {
        format!("no policies{of}")
    } else {
        format!(
            "no policies{of} in namespace {}; -A lists those of all",
            cluster.namespace
        )
    }
}

/// [`WELL`] only if there is a policy and all are compliant.
fn exit_code(compliant: impl ExactSizeIterator<Item = Word>) -> u8 {
    let any = compliant.len() > 0;
    if { compliant }.all(|compliant| compliant == Word::True) && any {
        WELL
    } else {
        NOT_WELL
    }
}

fn words<'a>(facts: impl ExactSizeIterator<Item = &'a Facts>, now: Timestamp) -> impl ExactSizeIterator<Item = Word> {
    facts.map(move |facts| facts.brief.at(now).compliant)
}

fn drawn<'a>(facts: impl Iterator<Item = &'a Facts>, asked: &StatusArguments, now: Timestamp) -> String {
    if asked.output == Format::Table {
        let policies: Vec<Brief<'_>> = facts.map(|facts| facts.brief.at(now)).collect();
        return narrow(&policies, asked.all_namespaces);
    }
    let answer = Answer {
        at: now.to_string(),
        policies: facts.map(|facts| facts.at(now)).collect(),
    };
    asked
        .output
        .render(&answer, |answer| wide(&answer.policies, asked.all_namespaces))
}

/// A column of every table: its heading, and its cell of a policy.
type Column = (&'static str, fn(&Brief<'_>) -> String);
/// One of the wide table alone.
type WideColumn = (&'static str, fn(&Standing<'_>) -> String);

const NAMESPACE: Column = ("NAMESPACE", |policy| policy.namespace.to_owned());
const NARROW: [Column; 6] = [
    ("NAME", |policy| policy.name.to_owned()),
    (COMPLIANT, |policy| policy.compliant.to_string()),
    ("DATA-AGE", |policy| seconds(policy.data_age_seconds)),
    ("LIMIT", |policy| {
        seconds(Some(policy.limit_seconds).filter(|limit| *limit > 0))
    }),
    ("WORST-AGE", |policy| seconds(policy.worst_data_age_seconds)),
    ("NEXT-RUN", |policy| {
        if policy.suspended {
            "suspended".to_owned()
        } else {
            seconds(policy.next_run_in_seconds)
        }
    }),
];
const WIDE: [WideColumn; 7] = [
    ("WORST-CASE", |policy| seconds(policy.worst_case_data_age_seconds)),
    ("READY", |policy| word(policy.brief.ready.map(|ready| ready.status))),
    ("AT-RISK", |policy| word(policy.brief.at_risk.map(|risk| risk.status))),
    ("FEASIBLE", |policy| {
        word(policy.feasible.map(|feasible| feasible.status))
    }),
    ("FAILURES", |policy| policy.consecutive_failures.to_string()),
    ("BREACHES", |policy| {
        policy
            .breaches
            .map_or_else(|| "-".to_owned(), |count| count.to_string())
    }),
    ("COMPLIANT-UNTIL", |policy| {
        policy.brief.compliant_until.clone().unwrap_or_else(|| "-".to_owned())
    }),
];
const COMPLIANT: &str = "COMPLIANT";

fn seconds(seconds: Option<i64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), duration)
}

fn word(word: Option<Word>) -> String {
    word.map_or_else(|| "-".to_owned(), |word| word.to_string())
}

fn why(policy: &Brief<'_>, longest: Option<usize>) -> String {
    match (policy.why_not(), longest) {
        (Some((reason, "")), _) => reason.into_owned(),
        (Some((reason, message)), None) => format!("{reason}: {message}"),
        (Some((reason, message)), Some(longest)) => format!("{reason}: {}", shortened(message, longest)),
        (None, _) => String::new(),
    }
}

fn columns(all_namespaces: bool) -> impl Iterator<Item = Column> + Clone {
    all_namespaces.then_some(NAMESPACE).into_iter().chain(NARROW)
}

fn narrow(policies: &[Brief<'_>], all_namespaces: bool) -> String {
    let columns = columns(all_namespaces);
    let heading = columns.clone().map(|(heading, _)| heading).collect();
    let rows = policies.iter().map(|policy| {
        let mut cells: Vec<String> = columns.clone().map(|(_, cell)| cell(policy)).collect();
        cells.push(why(policy, Some(SHORT)));
        (cells, policy.compliant)
    });
    table(heading, rows)
}

fn wide(policies: &[Standing<'_>], all_namespaces: bool) -> String {
    let columns = columns(all_namespaces);
    let headings = columns.clone().map(|(heading, _)| heading);
    let heading = headings.chain(WIDE.map(|(heading, _)| heading)).collect();
    let rows = policies.iter().map(|policy| {
        let briefly = columns.clone().map(|(_, cell)| cell(&policy.brief));
        let mut cells: Vec<String> = briefly.chain(WIDE.map(|(_, cell)| cell(policy))).collect();
        cells.push(why(&policy.brief, None));
        (cells, policy.brief.compliant)
    });
    table(heading, rows)
}

/// The rows below `heading` and the column of what there is to say against each policy, COMPLIANT in its colour.
fn table(mut heading: Vec<&str>, rows: impl Iterator<Item = (Vec<String>, Word)>) -> String {
    heading.push("WHY-NOT");
    let compliant = heading.iter().position(|heading| *heading == COMPLIANT);
    let (rows, words): (Vec<Vec<String>>, Vec<Word>) = rows.unzip();
    if rows.is_empty() {
        return String::new();
    }
    let heading = heading.into_iter().map(str::to_owned).collect();
    let lines: Vec<Vec<String>> = [heading].into_iter().chain(rows).collect();
    painted(0, &lines, |line, column, cell| {
        let word = line.checked_sub(1).and_then(|row| words.get(row));
        match word {
            Some(word) if Some(column) == compliant => word.mood().paint(cell),
            _ => Mood::Plain.paint(cell),
        }
    })
}

/// Goes on until Ctrl-C: the list, then what changes of it.
async fn watch(cluster: &Cluster, asked: &StatusArguments) -> Result<u8, PluginError> {
    if matches!(asked.output, Format::Json | Format::Yaml) {
        return Err(PluginError::Usage(
            "--watch draws tables: use -o table or wide, or `kubectl get mapa-refresh --watch -o json`",
        ));
    }
    // What keeps a list from being read is told now; a watch would try again for ever.
    let first = read(cluster, asked, identity).await?;
    let mut shown: BTreeMap<(String, String), Facts> = first.into_iter().map(|facts| (facts.key(), facts)).collect();
    let api: Api<Guarded> = match which(cluster, asked).namespace {
        Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
        None => Api::all(cluster.client.clone()),
    };
    let mut config = watcher::Config::default().page_size(500);
    if let Some(selector) = &asked.selector {
        config = config.labels(selector);
    }
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut listed = BTreeMap::new();
    let terminal = is_terminal();
    let mut tick = tokio::time::interval(REDRAW);
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let wanted = |policy: &Guarded| asked.names.is_empty() || asked.names.contains(&policy.name_any());
    if terminal {
        clear()?;
    } else {
        print(&drawn(shown.values(), asked, Timestamp::now()))?;
    }
    let mut settled = false;
    loop {
        let now = Timestamp::now();
        tokio::select! {
            _ = &mut interrupted => return Ok(exit_code(words(shown.values(), now))),
            _ = tick.tick(), if terminal => {
                let heading = format!("{}  Ctrl-C ends\n\n", crate::conditions::whole_seconds(now).0);
                let body = if shown.is_empty() { none(cluster, asked) } else { drawn(shown.values(), asked, now) };
                draw(&format!("{heading}{body}"))?;
            }
            event = events.next() => {
                let changed = match event {
                    Some(Ok(Event::Init)) => { listed.clear(); false }
                    Some(Ok(Event::InitApply(policy))) => {
                        if wanted(&policy) {
                            let facts = facts_of(policy, now);
                            listed.insert(facts.key(), facts);
                        }
                        false
                    }
                    Some(Ok(Event::InitDone)) => {
                        shown = std::mem::take(&mut listed);
                        // The first list says what was printed already.
                        std::mem::replace(&mut settled, true)
                    }
                    Some(Ok(Event::Apply(policy))) if wanted(&policy) => {
                        let facts = facts_of(policy, now);
                        shown.insert(facts.key(), facts);
                        true
                    }
                    Some(Ok(Event::Delete(policy))) => shown.remove(&(policy.namespace().unwrap_or_default(), policy.name_any())).is_some(),
                    Some(Ok(Event::Apply(_))) => false,
                    Some(Err(error)) => {
                        if !terminal {
                            remark(&format!("the watch was interrupted and starts again: {}", shortened(&error.to_string(), SHORT)));
                        }
                        false
                    }
                    None => return Ok(exit_code(words(shown.values(), now))),
                };
                if changed && !terminal {
                    print(&format!("\n{}", drawn(shown.values(), asked, now)))?;
                }
            }
        }
    }
}

fn facts_of(policy: Guarded, now: Timestamp) -> Facts {
    let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
    let listed = match policy.object {
        Ok(policy) => Listed::Policy(Box::new(policy)),
        Err(invalid) => Listed::Undecodable {
            namespace,
            name,
            reason: invalid.error,
        },
    };
    Facts::of(&listed, now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(name: &str, status: &str) -> Facts {
        let now = "2026-11-23T10:01:00Z".parse().unwrap();
        Facts::of(
            &Listed::of(json!({
                "metadata": { "namespace": "radar", "name": name },
                "spec": {
                    "intervalMinutes": 10,
                    "database": { "kind": "postgresql", "secretRef": { "name": "d" } },
                    "cache": { "secretRef": { "name": "c" } },
                },
                "status": {
                    "dataAsOf": "2026-11-23T10:00:00Z",
                    "compliantUntil": "2026-11-23T10:30:00Z",
                    "conditions": [{ "type": "Compliant", "status": status, "reason": "Because", "message": "so", "lastTransitionTime": "2026-11-23T10:00:00Z" }],
                },
            })),
            now,
        )
    }

    #[test]
    fn the_exit_code_is_0_only_when_there_is_a_policy_and_every_one_is_compliant() {
        let now = "2026-11-23T10:01:00Z".parse().unwrap();
        let code = |all: &[Facts], now| exit_code(words(all.iter(), now));
        assert_eq!(code(&[facts("a", "True"), facts("b", "True")], now), WELL);
        assert_eq!(code(&[facts("a", "True"), facts("b", "False")], now), NOT_WELL);
        assert_eq!(code(&[facts("a", "Unknown")], now), NOT_WELL);
        assert_eq!(code(&[], now), NOT_WELL);
        assert_eq!(
            code(&[facts("a", "True")], "2026-11-23T10:31:00Z".parse().unwrap()),
            NOT_WELL
        );
    }

    #[test]
    fn a_row_tells_the_age_now_and_why_not() {
        let now = "2026-11-23T10:12:34Z".parse().unwrap();
        let facts = [facts("roraima", "True"), facts("acre", "False")];
        let policies = facts.each_ref().map(|facts| facts.brief.at(now));
        let text = anstream::adapter::strip_str(&narrow(&policies, true)).to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..3], ["NAMESPACE", "NAME", "COMPLIANT"]);
        assert_eq!(lines[1][..5], ["radar", "roraima", "True", "12m34s", "30m"]);
        assert_eq!(lines[2].last(), Some(&"so"));
        assert!(text.contains("Because: so"), "{text}");
    }
}
