//! Requests that nobody answers.
//!
//! kube gives a watch up that has been silent for too long, and each write of ours has its own limit. What would wait for ever is a list, or
//! the beginning of a watch, whose answer never comes: behind a load balancer that lost the connection, say.

use std::time::Duration;

use kube::Client;
use tower::{service_fn, timeout::Timeout};

/// Longest wait for the beginning of an answer. A page of a list is ready long before.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// `client`, whose requests fail when no answer begins within 15 s. How long an answer then lasts is not limited: watches go on.
#[must_use]
pub fn limited(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let send = service_fn(move |request| {
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(Timeout::new(send, ANSWER_WITHIN), namespace)
}
