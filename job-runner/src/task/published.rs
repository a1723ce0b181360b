//! Publishing a document, and what came of it as evidence.

use std::sync::Arc;

use mapa_refresh_crds::{
    report::{SuccessKind, code},
    rows::RowCounts,
};

use super::{Context, Done, connect_cache, demand_past, owner, view::Content};
use crate::{
    cache::{Document, Encoding, Lifetimes, Outcome, Request},
    domain::{outage::Outages, time::Stamp},
    fault::Fault,
    stop::Stop,
};

/// How a document and its sibling are written.
pub(super) type Encodings = fn(&Arc<str>, &Arc<Outages>) -> [Encoding; 2];

/// Publishes what was built from `content`.
pub(super) async fn publish(
    context: &Context,
    stop: &Stop,
    which: Document,
    content: &Content,
    encodings: Encodings,
) -> Result<Done, Fault> {
    demand_publishable(context, content)?;
    stop.begins("publishing to the cache");
    let mut cache = connect_cache(context).await?;
    let settings = &context.settings;
    // A run without a Job is one of its own each time.
    let run = settings
        .job
        .clone()
        .unwrap_or_else(|| format!("process {} of {}", std::process::id(), (context.now)()));
    let is_too_old = content.reading.age_seconds > settings.max_data_age.as_secs_f64();
    let request = Request {
        document: which,
        owner: owner(context)?,
        stamp: content.reading.stamp,
        records: content.outages.active().len(),
        lifetimes: Lifetimes::of(which, settings.interval_minutes),
        plausibility: settings.plausibility,
        doubt: is_too_old.then_some(code::VIEW_TOO_OLD),
        run: &run,
    };
    let [document, sibling] = encodings(&owner(context)?.into(), &content.outages);
    let outcome = cache.publish(&request, document, sibling).await?;
    context.notes.borrow_mut().publications.clone_from(&outcome.log);
    if let Some(owner) = &outcome.taken_over_from {
        tracing::warn!(
            "took {} over from policy {owner}, whose data was more than 60 min old",
            cache.key(which)
        );
    }
    if !outcome.heads_are_read {
        tracing::warn!(
            "the cache's user may not run GETRANGE: if the cache evicts {{{}}}:meta, nothing can be published; grant it +getrange",
            cache.key(which)
        );
    }
    evidence(&cache.key(which), content, &outcome)
}

/// That the rows that are left can stand for the view; else the report counts them all the same.
fn demand_publishable(context: &Context, content: &Content) -> Result<(), Fault> {
    let outages = &content.outages;
    let max_percent = context.settings.plausibility.max_quarantined_percent.unsigned_abs();
    let judged = outages.demand_publishable(max_percent);
    context.notes.borrow_mut().refused_rows = judged.is_err().then(|| RowCounts {
        repaired: outages.repaired(),
        quarantined: outages.quarantined(),
    });
    judged.map_err(|too_many| Fault::permanent(code::ROWS_QUARANTINED, too_many))
}

fn evidence(which: &str, content: &Content, outcome: &Outcome) -> Result<Done, Fault> {
    let Content {
        outages,
        reading,
        is_of_slot,
    } = content;
    let kind = if outcome.published {
        SuccessKind::Published
    } else {
        SuccessKind::Fenced
    };
    let age_seconds = age_of(outcome.stamp, content);
    demand_past(which, age_seconds)?;
    tracing::info!(kind = ?kind, data_as_of = %outcome.stamp.to_utc(), records = outages.active().len(), "published");
    Ok(Done {
        kind,
        stamp: outcome.stamp,
        age_seconds,
        read_at: reading.at,
        records: outages.active().len() as u64,
        repaired: outages.repaired(),
        quarantined: outages.quarantined(),
        built_from_stale_view: !is_of_slot,
    })
}

/// Age of what is published by the database's clock, by which its stamp was set, too.
fn age_of(published: Stamp, content: &Content) -> f64 {
    content.reading.age_seconds - published.seconds_since(content.reading.stamp)
}
