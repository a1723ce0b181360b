//! Answers without `metadata.managedFields`.
//!
//! The operator does not use them, and a writer of an object can put times into them that k8s-openapi cannot decode
//! (`9999-12-31T23:59:59Z`). With such a time the answer to a repair or to a status write would be an error, although the write succeeded.

use http::{
    HeaderValue, Request, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use kube::{Client, client::Body};
use serde_json::Value;
use tower::{BoxError, service_fn};

const FIELD: &str = "managedFields";

/// `client` without managed fields in its answers. It buffers each answer, so it is not for watches.
#[must_use]
pub fn left_out(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let send = service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let (mut parts, body) = client.send(request).await?.into_parts();
            let body = body.collect_bytes().await?;
            let body = if is_json(parts.headers.get(CONTENT_TYPE)) {
                without(&body).map_or(body, Into::into)
            } else {
                body
            };
            parts.headers.remove(CONTENT_LENGTH);
            Ok::<_, BoxError>(Response::from_parts(parts, Body::from(body.to_vec())))
        }
    });
    Client::new(send, namespace)
}

/// An answer without a content type is JSON as well: kube requests nothing else.
fn is_json(content_type: Option<&HeaderValue>) -> bool {
    content_type.is_none_or(|type_| type_.as_bytes().starts_with(b"application/json"))
}

/// `body` without managed fields; none, if it has none.
fn without(body: &[u8]) -> Option<Vec<u8>> {
    if !body.windows(FIELD.len()).any(|bytes| bytes == FIELD.as_bytes()) {
        return None;
    }
    let mut object: Value = serde_json::from_slice(body).ok()?;
    object.get_mut("metadata")?.as_object_mut()?.remove(FIELD)?;
    serde_json::to_vec(&object).ok()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use k8s_openapi::api::batch::v1::CronJob;
    use kube::Api;
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_else_is_changed_and_an_answer_without_them_is_left_as_it_is() {
        assert_eq!(without(br#"{"metadata":{"name":"x"},"a": 1}"#), None);
        assert_eq!(without(b"managedFields, but no object"), None);
        assert_eq!(without(br#"{"spec":{"managedFields":[]},"metadata":{}}"#), None);
        let answer = without(br#"{"spec":{"managedFields":[1]},"metadata":{"managedFields":[2],"name":"x"}}"#).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            answer,
            json!({ "spec": { "managedFields": [1] }, "metadata": { "name": "x" } })
        );
    }

    #[tokio::test]
    async fn i8_a_cron_job_whose_managed_fields_have_a_moment_that_no_type_holds_can_be_read() {
        let answer = json!({
            "metadata": { "name": "x", "managedFields": [{ "manager": "m", "time": "9999-12-31T23:59:59Z" }] },
        });
        let served = service_fn(move |_: Request<Body>| {
            let answer = answer.to_string();
            async move { Ok::<_, Infallible>(Response::new(Body::from(answer.into_bytes()))) }
        });
        let client = Client::new(served, "radar");
        let strict: Api<CronJob> = Api::default_namespaced(client.clone());
        strict.get("x").await.unwrap_err();
        let api: Api<CronJob> = Api::default_namespaced(left_out(client));
        assert_eq!(api.get("x").await.unwrap().metadata.name.as_deref(), Some("x"));
    }
}
