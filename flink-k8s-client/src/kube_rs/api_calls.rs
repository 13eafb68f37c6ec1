//! How many calls were made to the API server, and how they ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Method, Request, Response, Uri};
use kube::client::Body;
use tower::{Layer, Service};

/// The resources that are told apart; a JobManager may ask for others, which share one name.
const RESOURCES: [&str; 10] = [
    "pods",
    "deployments",
    "configmaps",
    "services",
    "secrets",
    "events",
    "leases",
    "nodes",
    "replicasets",
    "namespaces",
];
const OTHER: &str = "other";

/// Counts calls to the API server, whoever makes them through the client that it belongs to. Clones share
/// their counts.
///
/// ```no_run
/// # use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let kube = KubeRsClient::connect(&ConnectOptions::new("team-a".parse()?)).await?;
/// for (call, count) in kube.api_calls().counts() {
///     println!("{} {} {}: {count}", call.verb, call.resource, call.status);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ApiCalls(Arc<Mutex<BTreeMap<ApiCall, u64>>>);

/// A kind of call and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ApiCall {
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// The plural of the resource, such as `pods`; `other` for those that Flink's clusters do not need.
    pub resource: &'static str,
    /// The HTTP status; 0 if there was no answer.
    pub status: u16,
}

impl ApiCalls {
    /// How often each kind of call was made. A watch counts when its answer begins.
    pub fn counts(&self) -> Vec<(ApiCall, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(call, count)| (*call, *count)).collect()
    }

    fn count(&self, call: ApiCall) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(call).or_default() += 1;
    }
}

/// The verb as the API server's rules for access call it, and the resource.
fn verb_and_resource(method: &Method, uri: &Uri) -> (&'static str, &'static str) {
    let segments: Vec<&str> = uri
        .path()
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    // /api/v1/... and /apis/<group>/<version>/...
    let in_group = match segments.first() {
        Some(&"api") => segments.get(2..),
        Some(&"apis") => segments.get(3..),
        _ => None,
    };
    let in_namespace = match in_group.unwrap_or_default() {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    let (resource, is_named) = match in_namespace {
        [] => (OTHER, false),
        [resource, name @ ..] => {
            let known = RESOURCES.into_iter().find(|known| known == resource);
            (known.unwrap_or(OTHER), !name.is_empty())
        }
    };
    let is_watch = uri.query().is_some_and(|query| {
        query
            .split('&')
            .any(|part| part == "watch=true" || part == "watch=1")
    });
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ if is_watch => "watch",
        _ if is_named => "get",
        _ => "list",
    };
    (verb, resource)
}

/// Puts the counting around a client's service.
pub(super) struct CountLayer(pub(super) ApiCalls);

impl<S> Layer<S> for CountLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            calls: self.0.clone(),
        }
    }
}

/// A service whose calls are counted.
pub(super) struct Counted<S> {
    inner: S,
    calls: ApiCalls,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, resource) = verb_and_resource(request.method(), request.uri());
        let answer = self.inner.call(request);
        let calls = self.calls.clone();
        Box::pin(async move {
            let mut unanswered = Unanswered {
                calls,
                verb,
                resource,
                is_answered: false,
            };
            let answer = answer.await;
            unanswered.is_answered = true;
            unanswered.calls.count(ApiCall {
                verb,
                resource,
                status: answer.as_ref().map_or(0, |answer| answer.status().as_u16()),
            });
            answer
        })
    }
}

/// A call that its caller gives up counts as one without an answer.
struct Unanswered {
    calls: ApiCalls,
    verb: &'static str,
    resource: &'static str,
    is_answered: bool,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.is_answered {
            self.calls.count(ApiCall {
                verb: self.verb,
                resource: self.resource,
                status: 0,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn kind(method: &Method, uri: &str) -> String {
        let (verb, resource) = verb_and_resource(method, &uri.parse().unwrap());
        format!("{verb} {resource}")
    }

    #[test]
    fn the_verb_is_that_of_the_access_rules() {
        let pods = "/api/v1/namespaces/team-a/pods";
        assert_eq!(kind(&Method::GET, pods), "list pods");
        assert_eq!(
            kind(&Method::GET, &format!("{pods}?limit=5&watch=true")),
            "watch pods"
        );
        assert_eq!(kind(&Method::GET, &format!("{pods}/orders-1")), "get pods");
        assert_eq!(kind(&Method::POST, pods), "create pods");
        assert_eq!(kind(&Method::DELETE, &format!("{pods}/orders-1")), "delete pods");
        assert_eq!(kind(&Method::GET, "/api/v1/namespaces/team-a"), "get namespaces");
        let lease = "/apis/coordination.k8s.io/v1/namespaces/team-a/leases/orders";
        assert_eq!(kind(&Method::PUT, lease), "update leases");
        assert_eq!(kind(&Method::GET, "/apis/example.com/v1/things"), "list other");
        assert_eq!(kind(&Method::GET, "/version"), "list other");
    }

    #[tokio::test]
    async fn calls_are_counted_by_their_answers_and_those_given_up_as_unanswered() {
        let calls = ApiCalls::default();
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let mut counted = CountLayer(calls.clone()).layer(service);
        let request = || {
            Request::post("/api/v1/namespaces/team-a/pods")
                .body(Body::empty())
                .unwrap()
        };
        std::future::poll_fn(|context| counted.poll_ready(context))
            .await
            .unwrap();
        let answered = counted.call(request());
        let (_, respond) = server.next_request().await.unwrap();
        let created = Response::builder().status(StatusCode::CREATED);
        respond.send_response(created.body(Body::empty()).unwrap());
        answered.await.unwrap();
        std::future::poll_fn(|context| counted.poll_ready(context))
            .await
            .unwrap();
        let mut given_up = counted.call(request());
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(given_up);
        let counts: Vec<(u16, u64)> = calls
            .counts()
            .into_iter()
            .map(|(call, count)| (call.status, count))
            .collect();
        assert_eq!(counts, [(0, 1), (201, 1)]);
    }
}
