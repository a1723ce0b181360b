//! The API server's front: from an HTTP request to an answer, with whatever goes wrong between.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    failure::Failure,
    faults::Effect,
    resource::{self, Key, Resource},
    selector::Selector,
    server::Server,
    store::{Author, Part, Preconditions},
    watch,
};

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// One object.
    Get,
    /// Many objects.
    List,
    /// Changes as they happen.
    Watch,
    /// A new object.
    Create,
    /// Another object, or status, in the place of one.
    Replace,
    /// A change to an object.
    Patch,
    /// An object's end.
    Delete,
}

/// One request, understood.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it wants.
    pub verb: Verb,
    /// Of which kind.
    pub resource: Resource,
    /// In which namespace; `None` for all.
    pub namespace: Option<String>,
    /// Of which object; for a new one, by its body.
    pub name: Option<String>,
    /// Whether it is about the status alone.
    pub status: bool,
    /// Whether only metadata is asked for.
    pub metadata_only: bool,
    /// The parameters.
    pub query: BTreeMap<String, String>,
    /// What came with it.
    pub body: Value,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.verb, self.resource.plural)?;
        if self.status {
            f.write_str("/status")?;
        }
        if let Some(name) = &self.name {
            write!(f, " {}/{name}", self.namespace.as_deref().unwrap_or("*"))?;
        }
        for parameter in ["resourceVersion", "continue"] {
            if let Some(value) = self.query.get(parameter) {
                write!(f, " {parameter}={value}")?;
            }
        }
        if self.verb == Verb::Replace {
            write!(
                f,
                " at {}",
                self.body["metadata"]["resourceVersion"].as_str().unwrap_or("-")
            )?;
        }
        Ok(())
    }
}

impl Call {
    /// Whether it changes something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self.verb, Verb::Create | Verb::Replace | Verb::Patch | Verb::Delete)
    }

    /// Whether it is a write of a policy's status.
    #[must_use]
    pub fn is_status_write(&self) -> bool {
        self.is_write() && self.status && self.resource == resource::POLICIES
    }

    /// The place that it is about.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(
            self.resource,
            self.namespace.as_deref().unwrap_or_default(),
            self.name.as_deref().unwrap_or_default(),
        )
    }

    fn read(parts: &http::request::Parts, body: &[u8]) -> Result<Self, Failure> {
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let (group, version, rest) = match path.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => {
                return Err(Failure::new(
                    404,
                    "NotFound",
                    format!("no such path: {}", parts.uri.path()),
                ));
            }
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some((*name).to_owned()), None),
            [plural, name, subresource] => (*plural, Some((*name).to_owned()), Some(*subresource)),
            _ => {
                return Err(Failure::new(
                    404,
                    "NotFound",
                    format!("no such path: {}", parts.uri.path()),
                ));
            }
        };
        let resource = resource::ALL
            .into_iter()
            .find(|resource| (resource.group, resource.version, resource.plural) == (group, version, plural))
            .ok_or_else(|| Failure::forbidden(format!("{group}/{version} {plural} is not served to the operator")))?;
        let query: BTreeMap<String, String> = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
        let verb = match (&parts.method, &name) {
            (&Method::GET, None) if query.get("watch").is_some_and(|watch| watch == "true") => Verb::Watch,
            (&Method::GET, None) => Verb::List,
            (&Method::GET, Some(_)) => Verb::Get,
            (&Method::POST, None) => Verb::Create,
            (&Method::PUT, Some(_)) => Verb::Replace,
            (&Method::PATCH, Some(_)) => Verb::Patch,
            (&Method::DELETE, Some(_)) => Verb::Delete,
            (method, _) => {
                return Err(Failure::new(
                    405,
                    "MethodNotAllowed",
                    format!("{method} is not served here"),
                ));
            }
        };
        let status = match subresource {
            None => false,
            Some("status") if resource.has_status => true,
            Some(other) => return Err(Failure::new(404, "NotFound", format!("{plural} have no {other}"))),
        };
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(body).map_err(|error| Failure::bad_request(format!("body: {error}")))?
        };
        let name = name.or_else(|| match verb {
            Verb::Create => body["metadata"]["name"].as_str().map(str::to_owned),
            _ => None,
        });
        let accepted = parts
            .headers
            .get(http::header::ACCEPT)
            .and_then(|accept| accept.to_str().ok());
        Ok(Self {
            verb,
            resource,
            namespace,
            name,
            status,
            metadata_only: accepted.is_some_and(|accept| accept.contains("as=PartialObjectMetadata")),
            query,
            body,
        })
    }
}

/// The API server, shared by whoever talks to it.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Server>>);

impl Shared {
    /// Shares `server`.
    #[must_use]
    pub fn new(server: Server) -> Self {
        Self(Arc::new(Mutex::new(server)))
    }

    /// The server itself.
    pub fn lock(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One life of the operator, as the API server sees it: what a dead one has sent is not carried out.
#[derive(Clone, Debug, Default)]
pub struct Session {
    dead: Arc<AtomicBool>,
    died: Arc<Notify>,
    writes: Arc<Mutex<Vec<(Timestamp, String)>>>,
}

impl Session {
    /// It dies now.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.died.notify_one();
    }

    /// Waits until it is dead.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    /// What it wrote beside leases and Events, and when.
    #[must_use]
    pub fn writes(&self) -> Vec<(Timestamp, String)> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, at: Timestamp, call: &Call) {
        if call.is_write() && !matches!(call.resource, resource::LEASES | resource::EVENTS) {
            let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
            writes.push((at, call.to_string()));
        }
    }

    /// Whether it is dead.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

/// The connection broke.
#[derive(Debug, thiserror::Error)]
#[error("connection reset by peer")]
struct ConnectionReset;

/// The body of an answer: whole, or a watch's lines as they come.
pub type ResponseBody = UnsyncBoxBody<Bytes, Infallible>;

/// A body that is known already.
pub(super) fn whole(text: String) -> ResponseBody {
    Full::new(Bytes::from(text)).boxed_unsync()
}

type Answer = Result<Response<ResponseBody>, Box<dyn std::error::Error + Send + Sync>>;

/// The transport on which a client of `session` talks to `server`.
pub fn transport(
    server: &Shared,
    session: &Session,
) -> impl tower::Service<
    Request<Body>,
    Response = Response<ResponseBody>,
    Error = Box<dyn std::error::Error + Send + Sync>,
    Future: Send,
> + Clone
+ Send
+ use<> {
    let (server, session) = (server.clone(), session.clone());
    tower::service_fn(move |request| serve(server.clone(), session.clone(), request))
}

/// A client without the operator's own settings, for tests.
#[must_use]
pub fn client(server: &Shared, session: &Session) -> Client {
    Client::new(transport(server, session), "default")
}

async fn serve(server: Shared, session: Session, request: Request<Body>) -> Answer {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await?;
    let (there, back) = server.lock().latency();
    tokio::time::sleep(there).await;
    if session.is_dead() {
        return future::pending().await;
    }
    let call = match Call::read(&parts, &body) {
        Ok(call) => call,
        Err(failure) => {
            server
                .lock()
                .trace(format!("{} {} → {}", parts.method, parts.uri, failure.code));
            return Ok(failure.response());
        }
    };
    let effect = server.lock().faults.meet(&call);
    match effect {
        None => {}
        Some(Effect::Lost) => {
            server.lock().trace(format!("{call} → lost"));
            return Err(ConnectionReset.into());
        }
        Some(Effect::Silent) => {
            server.lock().trace(format!("{call} → silence"));
            return future::pending().await;
        }
        Some(Effect::CrashBefore) => {
            server.lock().trace(format!("{call} → crash before"));
            session.kill();
            return future::pending().await;
        }
        Some(Effect::Refused(failure)) => {
            server
                .lock()
                .trace(format!("{call} → {} {} (fault)", failure.code, failure.reason));
            tokio::time::sleep(back).await;
            return Ok(failure.response());
        }
        Some(Effect::Slow(wait)) => {
            tokio::time::sleep(wait).await;
            if session.is_dead() {
                return future::pending().await;
            }
        }
        Some(Effect::AnswerLost) => {
            let _ = answer(&server, &session, &call, "answer lost");
            tokio::time::sleep(back).await;
            return Err(ConnectionReset.into());
        }
        Some(Effect::SilentAfter) => {
            let _ = answer(&server, &session, &call, "silence after");
            return future::pending().await;
        }
        Some(Effect::CrashAfter) => {
            let _ = answer(&server, &session, &call, "crash after");
            session.kill();
            return future::pending().await;
        }
    }
    let response = answer(&server, &session, &call, "");
    tokio::time::sleep(back).await;
    Ok(response.unwrap_or_else(|failure| failure.response()))
}

/// Carries `call` out; the invariants are looked at before anybody hears of it.
fn answer(shared: &Shared, session: &Session, call: &Call, note: &str) -> Result<Response<ResponseBody>, Failure> {
    let mut server = shared.lock();
    let outcome = if call.verb == Verb::Watch {
        let changed = server.store.subscribe();
        server.open_watch(call).map(|watch| {
            let frames = watch::events(shared.clone(), session.clone(), changed, watch)
                .map(|line| Ok::<_, Infallible>(Frame::data(Bytes::from(line))));
            Response::new(StreamBody::new(frames).boxed_unsync())
        })
    } else {
        carry_out(&mut server, call).map(|(created, value)| {
            let mut response = Response::new(whole(value.to_string()));
            if created {
                *response.status_mut() = http::StatusCode::CREATED;
            }
            response
        })
    };
    let code = match &outcome {
        Ok(response) => response.status().as_u16().to_string(),
        Err(failure) => format!("{} {}", failure.code, failure.reason),
    };
    if outcome.is_ok() {
        session.note(server.time.now(), call);
    }
    let version = server.store.version();
    server.trace(format!("{call} → {code} {note} @{version}"));
    server.settle();
    outcome
}

fn carry_out(server: &mut Server, call: &Call) -> Result<(bool, Value), Failure> {
    let at = server.time.now();
    let key = call.key();
    let operator = Author::Operator;
    if call.is_write() {
        server.asked_to_write(call.resource);
    }
    let done = |object: Arc<Value>| (false, shown(&object, call.metadata_only));
    match call.verb {
        Verb::Watch => Err(Failure::bad_request("a watch is no single answer")),
        Verb::Get => {
            let object = match server.frozen_snapshot(call.resource)? {
                Some(snapshot) => snapshot.get(&key).cloned(),
                None => server.store.get(&key),
            };
            object.map(done).ok_or_else(|| Failure::not_found(&key))
        }
        Verb::List => list(server, call).map(|list| (false, list)),
        Verb::Create => {
            if call.name.is_none() {
                return Err(Failure::bad_request("metadata.name is required"));
            }
            server.admit(call)?;
            let object = server.store.create(operator, at, &key, call.body.clone())?;
            Ok((true, shown(&object, call.metadata_only)))
        }
        Verb::Replace => {
            server.admit(call)?;
            let part = if call.status { Part::Status } else { Part::Main };
            if call.body["metadata"]["resourceVersion"].is_null() && call.resource == resource::POLICIES {
                return Err(Failure::new(
                    422,
                    "Invalid",
                    "metadata.resourceVersion: must be specified for an update",
                ));
            }
            let before = server.store.version();
            let object = server.store.replace(operator, at, &key, part, call.body.clone())?;
            // A webhook may undo what a write would change.
            if server.store.version() == before && server.store.webhook.is_none() {
                server.idle_write(call);
            }
            Ok(done(object))
        }
        Verb::Patch => {
            let current = server.store.get(&key).ok_or_else(|| Failure::not_found(&key))?;
            let mut object = Value::clone(&current);
            merge(&mut object, &call.body);
            let part = if call.status { Part::Status } else { Part::Main };
            server.store.replace(operator, at, &key, part, object).map(done)
        }
        Verb::Delete => {
            let preconditions = Preconditions {
                uid: call.body["preconditions"]["uid"].as_str().map(str::to_owned),
                resource_version: call.body["preconditions"]["resourceVersion"]
                    .as_str()
                    .map(str::to_owned),
            };
            server.store.delete(operator, at, &key, &preconditions)?;
            Ok((
                false,
                json!({ "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success" }),
            ))
        }
    }
}

/// A page of a list. All pages show one version, however much changes meanwhile.
fn list(server: &Server, call: &Call) -> Result<Value, Failure> {
    let selector = Selector::parse(call.query.get("labelSelector").map_or("", String::as_str))?;
    let (version, after) = match call.query.get("continue") {
        Some(token) => {
            let (version, after) = token
                .split_once('|')
                .and_then(|(version, after)| Some((version.parse::<u64>().ok()?, after)))
                .ok_or_else(|| Failure::bad_request("continue token"))?;
            (version, Some(after.to_owned()))
        }
        None => (server.visible_version(), None),
    };
    let objects = server
        .store
        .snapshot(call.resource, version)
        .ok_or_else(Failure::expired)?;
    let place = |key: &Key| format!("{}/{}", key.namespace, key.name);
    let mut selected = objects
        .iter()
        .filter(|(key, _)| {
            call.namespace
                .as_deref()
                .is_none_or(|namespace| key.namespace == namespace)
        })
        .filter(|(key, _)| after.as_deref().is_none_or(|after| place(key).as_str() > after))
        .filter(|(_, object)| selector.selects(object))
        .peekable();
    let limit = call
        .query
        .get("limit")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(usize::MAX);
    let page: Vec<(&Key, &Arc<Value>)> = selected.by_ref().take(limit).collect();
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if let (Some(_), Some((last, _))) = (selected.peek(), page.last()) {
        metadata["continue"] = format!("{version}|{}", place(last)).into();
    }
    let items: Vec<Value> = page
        .iter()
        .map(|(_, object)| shown(object, call.metadata_only))
        .collect();
    let (api_version, kind) = if call.metadata_only {
        ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned())
    } else {
        (call.resource.api_version(), format!("{}List", call.resource.kind))
    };
    Ok(json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items }))
}

/// The object, or what of it is metadata.
pub(super) fn shown(object: &Value, metadata_only: bool) -> Value {
    if metadata_only {
        json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"] })
    } else {
        object.clone()
    }
}

/// JSON merge patch (RFC 7386).
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            if let Some(target) = target.as_object_mut() {
                target.remove(name);
            }
        } else {
            merge(&mut target[name], value);
        }
    }
}

/// Time on the way to the server and back.
pub(super) type Latency = (Duration, Duration);
