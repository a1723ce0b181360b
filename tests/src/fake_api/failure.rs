//! What the API server answers when it refuses: `metav1.Status`.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    http::{ResponseBody, whole},
    resource::Key,
};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status.
    pub code: u16,
    /// `reason` of the Status.
    pub reason: &'static str,
    /// `message` of the Status.
    pub message: String,
    /// Kind and name of the object that it is about, for `details`.
    pub about: Option<(&'static str, String)>,
    /// Seconds of the header `Retry-After`.
    pub retry_after: Option<u32>,
}

impl Failure {
    /// A refusal with `code`, `reason` and `message`.
    #[must_use]
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            about: None,
            retry_after: None,
        }
    }

    fn about(code: u16, reason: &'static str, key: &Key, what: &str) -> Self {
        Self {
            about: Some((key.resource.plural, key.name.clone())),
            ..Self::new(code, reason, format!("{} {:?} {what}", key.resource.plural, key.name))
        }
    }

    /// There is no such object.
    #[must_use]
    pub fn not_found(key: &Key) -> Self {
        Self::about(404, "NotFound", key, "not found")
    }

    /// There is one of that name.
    #[must_use]
    pub fn already_exists(key: &Key) -> Self {
        Self::about(409, "AlreadyExists", key, "already exists")
    }

    /// The object changed since it was read, or is another.
    #[must_use]
    pub fn conflict(key: &Key) -> Self {
        Self::about(
            409,
            "Conflict",
            key,
            "cannot be changed: the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// The request cannot be understood.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The version that was asked for is compacted.
    #[must_use]
    pub fn expired() -> Self {
        Self::new(
            410,
            "Expired",
            "The resourceVersion for the provided list or watch is too old.",
        )
    }

    /// Too many requests; come back after `seconds`.
    #[must_use]
    pub fn too_many_requests(seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..Self::new(429, "TooManyRequests", "too many requests, please try again later")
        }
    }

    /// A server error: 500, 503 or 504.
    #[must_use]
    pub fn server(code: u16) -> Self {
        let reason = match code {
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "InternalError",
        };
        Self::new(code, reason, "etcdserver: request timed out")
    }

    /// May not be done: RBAC, quota, admission.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    /// As `metav1.Status`.
    #[must_use]
    pub fn status(&self) -> Value {
        let mut details = json!({});
        if let Some((kind, name)) = &self.about {
            details = json!({ "kind": kind, "name": name });
        }
        if let Some(seconds) = self.retry_after {
            details["retryAfterSeconds"] = seconds.into();
        }
        json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "code": self.code, "reason": self.reason, "message": self.message, "details": details,
        })
    }

    /// As an HTTP response.
    #[must_use]
    pub fn response(&self) -> Response<ResponseBody> {
        let mut response = Response::new(whole(self.status().to_string()));
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
