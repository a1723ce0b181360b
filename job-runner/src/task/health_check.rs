//! health-check: whether database, view and cache answer, and whether what the public sees is young enough.
//!
//! Old data is not looked at again within the run: a retry in a minute would find it older.

use std::{future::ready, time::Duration};

use mapa_refresh_crds::{
    policy::TaskName,
    report::{FaultClass, Published, SuccessKind, code},
};

use super::{Context, Done, connect_cache, demand_past, in_session, owner};
use crate::{
    cache::{Document, Found},
    database::{Database, Reading},
    domain::time::Stamp,
    fault::Fault,
    stop::Stop,
};

/// Looks at both stores, also when the first has a fault: what is published is worth knowing then, too.
pub(super) async fn attempt(context: &Context, stop: &Stop) -> Result<Done, Fault> {
    // Side by side, so that each tells of its own step when the time ends.
    let at_cache = stop.clone();
    at_cache.begins("looking at the documents in the cache");
    let documents = at_cache.bound(look_at_documents(context), ready(()));
    let (view, documents) = tokio::join!(in_session(context, stop), documents);
    let (view, documents) = (view?, documents?);
    judge(context, view, &documents)
}

/// Evidence about the view, by reading its stamp and counting its rows.
pub(super) async fn view(context: &Context, database: &mut impl Database) -> Result<Done, Fault> {
    let Some(reading) = database.reading().await? else {
        let message = format!(
            "no refresh of {} was ever recorded; run refresh-mv-portal",
            context.settings.database.view
        );
        return Err(Fault::transient(code::VIEW_TOO_OLD, message).without_retry());
    };
    let records = database.count().await?;
    Ok(Done::with_view(SuccessKind::Healthy, reading, records))
}

/// What is published of one document.
struct Seen {
    /// The task that publishes it.
    task: TaskName,
    key: String,
    found: Found,
}

async fn look_at_documents(context: &Context) -> Result<[Seen; 2], Fault> {
    let mut cache = connect_cache(context).await?;
    let mut look = async |task, document| -> Result<Seen, Fault> {
        Ok(Seen {
            task,
            key: cache.key(document),
            found: cache.find(document).await?,
        })
    };
    let documents = [
        look(TaskName::RefreshMapaCache, Document::Map).await?,
        look(TaskName::CalcularEstatisticas, Document::Statistics).await?,
    ];
    let owner = owner(context)?;
    let [map, statistics] = &documents;
    context.notes.borrow_mut().published = Some(Published {
        map: stamp_of(map, owner).map(Stamp::to_micro_time),
        statistics: stamp_of(statistics, owner).map(Stamp::to_micro_time),
    });
    Ok(documents)
}

/// The stamp of a document that is there and ours.
fn stamp_of(document: &Seen, owner: &str) -> Option<Stamp> {
    let Found {
        exists,
        stamp,
        owner: found,
    } = &document.found;
    stamp.filter(|_| *exists && found.as_deref() == Some(owner))
}

fn judge(context: &Context, view: Done, documents: &[Seen]) -> Result<Done, Fault> {
    let limit = context.settings.max_data_age;
    let owner = owner(context)?;
    demand_past("the view", view.age_seconds)?;
    if view.age_seconds > limit.as_secs_f64() {
        let what = format!("the view {}", context.settings.database.view);
        return Err(too_old(code::VIEW_TOO_OLD, &what, view.age_seconds, limit));
    }
    for document in documents {
        let Seen { task, key, found } = document;
        if !context.settings.publishers.contains(task) {
            continue;
        }
        if let Some(other) = found.owner.as_deref().filter(|other| *other != owner) {
            let message = format!(
                "{key} belongs to policy {other}, not to {owner}; give one of them another spec.cache.keyPrefix"
            );
            return Err(Fault::permanent(code::CACHE_KEY_CONFLICT, message));
        }
        let Some(stamp) = stamp_of(document, owner) else {
            let message = format!(
                "{key} is not there: nothing was published yet, or it expired, was deleted, evicted or overwritten"
            );
            return Err(finding(code::PUBLISHED_DATA_MISSING, message));
        };
        let reading = Reading {
            stamp: view.stamp,
            age_seconds: view.age_seconds,
            at: view.read_at,
        };
        let age = age_of(stamp, &reading);
        demand_past(key, age)?;
        if age > limit.as_secs_f64() {
            return Err(too_old(code::PUBLISHED_DATA_TOO_OLD, key, age, limit));
        }
    }
    Ok(view)
}

/// Age by the database's clock, which set both stamps: no other clock has to agree with it.
fn age_of(published: Stamp, view: &Reading) -> f64 {
    view.age_seconds + view.at.elapsed().as_secs_f64() - published.seconds_since(view.stamp)
}

fn too_old(code: &'static str, what: &str, age_seconds: f64, limit: Duration) -> Fault {
    let minutes = limit.as_secs() / 60;
    finding(
        code,
        format!(
            "{what} is {:.0} min old, more than maxDataAgeMinutes ({minutes})",
            age_seconds / 60.0
        ),
    )
}

/// What was found is true: looking again within this run doesn't help, although the next refresh will.
fn finding(code: &'static str, message: String) -> Fault {
    Fault::new(FaultClass::Transient, code, message).without_retry()
}
