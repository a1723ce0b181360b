//! Objects that cannot be decoded: skipped, counted, logged, and named in an Event on themselves. Others go on.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use kube::{
    Resource,
    core::DeserializeGuard,
    runtime::events::{Event, EventType},
};
use mapa_refresh_crds::report::clean;
use tracing::{error, warn};

use crate::{fingerprint::Uid, reconcile::Context};

const MAX_NOTE: usize = 512;
/// Most objects that are remembered as reported: a flood of them costs log lines, not memory.
const MAX_REMEMBERED: usize = 10_000;

/// Which states of which objects were reported already.
#[derive(Debug, Default)]
pub struct Undecodable {
    reported: Mutex<HashSet<(Uid, Box<str>)>>,
}

impl Undecodable {
    /// How many were met.
    #[must_use]
    pub fn count(&self) -> usize {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn is_new(&self, uid: &str, version: &str) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.len() < MAX_REMEMBERED && reported.insert((Uid::parse(uid), version.into()))
    }
}

impl Context {
    /// Reports `object` if it could not be decoded, once per state.
    pub fn report_undecodable<K: Resource<DynamicType = ()>>(self: &Arc<Self>, object: &DeserializeGuard<K>) {
        let Err(invalid) = &object.0 else { return };
        let meta = &invalid.metadata;
        let uid = meta.uid.as_deref().unwrap_or_default();
        if !self
            .undecodable
            .is_new(uid, meta.resource_version.as_deref().unwrap_or_default())
        {
            return;
        }
        let mut reason = invalid.error.clone();
        clean(&mut reason, MAX_NOTE);
        error!(
            kind = %K::kind(&()),
            namespace = meta.namespace.as_deref().unwrap_or_default(),
            name = meta.name.as_deref().unwrap_or_default(),
            error = reason,
            count = self.undecodable.count(),
            "an object cannot be decoded and is skipped; compare the installed CRD with this operator's version"
        );
        let event = Event {
            type_: EventType::Warning,
            reason: "Undecodable".to_owned(),
            note: Some(format!("the operator cannot decode this object and skips it: {reason}")),
            action: "Decode".to_owned(),
            secondary: None,
        };
        let reference = object.object_ref(&());
        let context = Arc::clone(self);
        if tokio::runtime::Handle::try_current().is_err() {
            warn!("no runtime to publish the Event");
            return;
        }
        tokio::spawn(async move { context.writer.events(&reference, &[event]).await });
    }
}
