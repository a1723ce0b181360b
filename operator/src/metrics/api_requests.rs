//! Counts the requests to the API server, as a layer of the client.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use kube::client::Body;
use prometheus_client::metrics::{counter::Counter, family::Family};
use tower::{Layer, Service};

use super::labels::{Code, RequestLabels, Verb};

/// Requests by verb and code.
pub type Requests = Family<RequestLabels, Counter>;

/// The layer.
#[derive(Clone, Debug)]
pub struct CountRequests(pub(super) Requests);

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            requests: self.0.clone(),
        }
    }
}

/// A client whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut answer = Answer {
            requests: self.requests.clone(),
            verb: Verb::of(request.method(), request.uri()),
            code: Code::NoAnswer,
        };
        let response = self.inner.call(request);
        Box::pin(async move {
            // As a whole, or only its code would be moved in here.
            let answer = &mut answer;
            let response = response.await?;
            answer.code = Code::Status(response.status().as_u16());
            Ok(response)
        })
    }
}

/// Counts when it is dropped: also a request that was given up.
struct Answer {
    requests: Requests,
    verb: Verb,
    code: Code,
}

impl Drop for Answer {
    fn drop(&mut self) {
        let labels = RequestLabels {
            verb: self.verb,
            code: self.code,
        };
        self.requests.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::ServiceExt;

    use super::*;

    fn request(path: &str) -> Request<Body> {
        Request::get(path).body(Body::empty()).unwrap()
    }

    fn counted(requests: &Requests, verb: Verb, code: Code) -> u64 {
        requests
            .get(&RequestLabels { verb, code })
            .map_or(0, |counter| counter.get())
    }

    #[tokio::test]
    async fn an_answer_is_counted_by_its_code_and_one_that_is_not_waited_for_too() {
        let requests = Requests::default();
        let layer = CountRequests(requests.clone());
        let answers = tower::service_fn(|_: Request<Body>| async {
            Ok::<_, Infallible>(Response::builder().status(409).body(()).unwrap())
        });
        layer.layer(answers).oneshot(request("/api/v1/pods")).await.unwrap();
        assert_eq!(counted(&requests, Verb::List, Code::Status(409)), 1);

        let silent = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<()>, Infallible>>());
        let given_up = layer.layer(silent).oneshot(request("/api/v1/namespaces/a/pods/b"));
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(1), given_up)
                .await
                .is_err()
        );
        assert_eq!(counted(&requests, Verb::Get, Code::NoAnswer), 1);

        let broken = tower::service_fn(|_: Request<Body>| async { Err::<Response<()>, _>("connection refused") });
        assert!(layer.layer(broken).oneshot(request("/api/v1/pods")).await.is_err());
        assert_eq!(counted(&requests, Verb::List, Code::NoAnswer), 1);
    }
}
