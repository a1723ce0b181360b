//! A watch: changes from a version on, as lines of JSON, with bookmarks, a timeout and every way in which a watch can fail.

use std::time::Duration;

use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::{sync::watch::Receiver, time::Instant};

use super::{
    failure::Failure,
    http::{Session, Shared, shown},
    resource::Resource,
    selector::Selector,
    server::Server,
    store::watch_event,
};

/// Time between two bookmarks of a watch on which nothing happens.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// What a watch is about, and how far it is.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Its number; later ones have larger numbers.
    pub number: u64,
    /// The kind.
    pub resource: Resource,
    /// The namespace; `None` for all.
    pub namespace: Option<String>,
    /// The labels.
    pub selector: Selector,
    /// Whether only metadata is told.
    pub metadata_only: bool,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// The version up to which everything was told.
    pub cursor: u64,
    /// When the server ends it.
    pub deadline: Instant,
}

enum Next {
    Line { text: String, last: bool },
    WaitUntil(Instant),
    Wait,
    Dead,
}

/// The lines of `watch`.
pub(super) fn events(
    shared: Shared,
    session: Session,
    changed: Receiver<u64>,
    watch: Watch,
) -> impl Stream<Item = String> + Send + use<> {
    let bookmark = Instant::now() + BOOKMARK_EVERY;
    stream::unfold(Some((watch, changed, bookmark)), move |state| {
        let (shared, session) = (shared.clone(), session.clone());
        async move {
            let (mut watch, mut changed, mut bookmark) = state?;
            loop {
                changed.borrow_and_update();
                let next = if session.is_dead() {
                    Next::Dead
                } else {
                    next(&mut shared.lock(), &mut watch)
                };
                let until = match next {
                    Next::Line { text, last } => {
                        bookmark = Instant::now() + BOOKMARK_EVERY;
                        return Some((text, (!last).then_some((watch, changed, bookmark))));
                    }
                    Next::Dead => return futures::future::pending().await,
                    Next::WaitUntil(moment) => moment,
                    Next::Wait => watch.deadline,
                };
                let until = until.min(watch.deadline).min(bookmark);
                let _ = tokio::time::timeout_at(until, changed.changed()).await;
                let now = Instant::now();
                let is_silent = || shared.lock().faults.watches().silent_below > watch.number;
                if now >= watch.deadline && !is_silent() {
                    return None;
                }
                if now >= watch.deadline {
                    return futures::future::pending().await;
                }
                if now >= bookmark {
                    bookmark = now + BOOKMARK_EVERY;
                    if watch.bookmarks && !is_silent() {
                        let line = bookmark_line(&watch);
                        return Some((line, Some((watch, changed, bookmark))));
                    }
                }
            }
        }
    })
}

fn next(server: &mut Server, watch: &mut Watch) -> Next {
    let now = server.time.now();
    let faults = server.faults.watches();
    if faults.silent_below > watch.number {
        return Next::Dead;
    }
    if faults.expired_below > watch.number || watch.cursor < server.store.compacted() {
        return Next::Line {
            text: line("ERROR", &Failure::expired().status()),
            last: true,
        };
    }
    let limit = faults.frozen_at.unwrap_or(u64::MAX);
    for change in server.store.changes_after(watch.cursor) {
        if change.version > limit {
            break;
        }
        let concerns = change.key.resource == watch.resource
            && watch
                .namespace
                .as_deref()
                .is_none_or(|namespace| change.key.namespace == namespace);
        let Some((type_, object)) = concerns.then(|| watch_event(change, &watch.selector)).flatten() else {
            watch.cursor = change.version;
            continue;
        };
        let due = change.at.saturating_add(faults.delay).unwrap_or(change.at);
        if due > now {
            return Next::WaitUntil(server.time.instant_of(due));
        }
        watch.cursor = change.version;
        if let Some(left) = faults.swallow.get_mut(&watch.resource).filter(|left| **left > 0) {
            *left -= 1;
            continue;
        }
        let mut text = line(type_, &shown(&object, watch.metadata_only));
        if faults.repeated {
            // A repeated ADDED is what a client sees that reconnects from an older version.
            text = text.repeat(2);
        }
        return Next::Line { text, last: false };
    }
    Next::Wait
}

fn line(type_: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": type_, "object": object }))
}

fn bookmark_line(watch: &Watch) -> String {
    line(
        "BOOKMARK",
        &json!({
            "apiVersion": watch.resource.api_version(),
            "kind": watch.resource.kind,
            "metadata": { "resourceVersion": watch.cursor.to_string() },
        }),
    )
}
