//! Tells calls on worker pods from everything else, and answers them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::labels;
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::pod_name::PodName;
use http::request::Parts;
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::forward::Forwarder;
use super::responses::{Refusal, json_response, success};
use super::worker_watch::{self, WatchRequest};
use crate::bearer_token::BearerToken;
use crate::driver::{Call, ResourceManagerEnded, ResourceManagerHandle};
use crate::worker_request::parse_worker_request;

/// The largest pod that is read; real API servers refuse more than this, too.
const LARGEST_POD: usize = 3 * 1024 * 1024;
/// How long a call waits for what only the real API server can tell. Below the request time-out of
/// the JobManager's client (10 s), which tries again after the refusal that follows.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// What every request needs.
pub(super) struct Context {
    pub(super) token: BearerToken,
    pub(super) workers: ResourceManagerHandle,
    pub(super) forwarder: Option<Forwarder>,
    pub(super) cluster_id: ClusterId,
    pub(super) namespace: Namespace,
    pub(super) node_name_label: String,
    pub(super) shutdown: CancellationToken,
}

/// A call that is answered from memory.
#[derive(Debug, PartialEq, Eq)]
enum WorkerCall {
    List,
    Watch(WatchRequest),
    Create,
    Get(PodName),
    Delete(PodName),
    GetDeployment,
}

/// Answers one request.
pub(super) async fn answer(State(context): State<Arc<Context>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !context.token.authorizes(&parts.headers) {
        warn!(method = %parts.method, path = parts.uri.path(), "refused a request without the token");
        return Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized").to_response();
    }
    debug!(method = %parts.method, uri = %parts.uri, "the JobManager asks");
    match worker_call(&parts, &context.cluster_id, &context.namespace) {
        Ok(Some(WorkerCall::Create)) => create(&context, parts, body).await,
        Ok(Some(WorkerCall::Watch(watch))) => worker_watch::serve(&context, watch, parts).await,
        Ok(Some(call)) => match simple_answer(&context, call).await {
            Ok(response) => response,
            Err(ResourceManagerEnded) => Refusal::unavailable(ResourceManagerEnded.to_string()).to_response(),
        },
        Ok(None) => forward(&context, parts, body).await,
        Err(refusal) => refusal.to_response(),
    }
}

async fn forward(context: &Context, parts: Parts, body: Body) -> Response {
    let Some(forwarder) = &context.forwarder else {
        let (method, path) = (&parts.method, parts.uri.path());
        let message = format!("no API server to forward {method} {path} to");
        return Refusal::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message).to_response();
    };
    forwarder.forward(parts, body).await
}

async fn simple_answer(context: &Context, call: WorkerCall) -> Result<Response, ResourceManagerEnded> {
    let workers = &context.workers;
    Ok(match call {
        WorkerCall::List => {
            let list = timeout(LONGEST_WAIT, workers.ask(|reply| Call::List { reply })).await;
            patient(list, "the existing pods are not known yet")?
        }
        WorkerCall::GetDeployment => {
            let deployment = timeout(LONGEST_WAIT, workers.ask(|reply| Call::Deployment { reply })).await;
            patient(deployment, "the Deployment is not known yet")?
        }
        WorkerCall::Get(name) => {
            let not_found = Refusal::not_found(name.as_str());
            match workers.ask(|reply| Call::Get { name, reply }).await? {
                Some(pod) => json_response(StatusCode::OK, pod),
                None => not_found.to_response(),
            }
        }
        WorkerCall::Delete(name) => {
            let not_found = Refusal::not_found(name.as_str());
            if workers.release_worker(name).await? {
                success()
            } else {
                not_found.to_response()
            }
        }
        WorkerCall::Create | WorkerCall::Watch(_) => unreachable!("answered before"),
    })
}

fn patient<E>(
    answer: Result<Result<Bytes, ResourceManagerEnded>, E>,
    what_lacks: &str,
) -> Result<Response, ResourceManagerEnded> {
    match answer {
        Ok(found) => Ok(json_response(StatusCode::OK, found?)),
        Err(_) => Ok(Refusal::unavailable(what_lacks).to_response()),
    }
}

/// A posted pod is a worker request if it is a TaskManager's; any other goes to the real API server.
async fn create(context: &Context, parts: Parts, body: Body) -> Response {
    let Ok(posted) = to_bytes(body, LARGEST_POD).await else {
        let message = format!("the pod is larger than {LARGEST_POD} bytes, or was cut off");
        return Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message).to_response();
    };
    let pod: Pod = match serde_json::from_slice(&posted) {
        Ok(pod) => pod,
        Err(error) => {
            let message = format!("the pod cannot be read: {error}");
            return Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", message).to_response();
        }
    };
    let expected = labels::task_manager(&context.cluster_id);
    let given = pod.metadata.labels.as_ref();
    if !expected
        .iter()
        .all(|(key, value)| given.and_then(|given| given.get(key)) == Some(value))
    {
        return forward(context, parts, Body::from(posted)).await;
    }
    let request = match parse_worker_request(&pod, &context.node_name_label) {
        Ok(request) => Arc::new(request),
        Err(error) => {
            warn!(
                error = &error as &dyn std::error::Error,
                "the JobManager posted a pod that is no worker request"
            );
            let message = crate::driver::chain(&error);
            return Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).to_response();
        }
    };
    let taken = Refusal::already_exists(request.name.as_str());
    match context.workers.post(request, Some(posted)).await {
        Ok(Ok(stored)) => json_response(StatusCode::CREATED, stored),
        Ok(Err(_)) => taken.to_response(),
        Err(ended) => Refusal::unavailable(ended.to_string()).to_response(),
    }
}

/// What the request asks of our workers; `None` if it is about something else.
fn worker_call(
    parts: &Parts,
    cluster_id: &ClusterId,
    namespace: &Namespace,
) -> Result<Option<WorkerCall>, Refusal> {
    let path = parts.uri.path().trim_end_matches('/');
    if parts.method == Method::GET
        && path
            == format!(
                "/apis/apps/v1/namespaces/{namespace}/deployments/{}",
                cluster_id.deployment_name()
            )
    {
        return Ok(Some(WorkerCall::GetDeployment));
    }
    let Some(rest) = path.strip_prefix(&format!("/api/v1/namespaces/{namespace}/pods")) else {
        return Ok(None);
    };
    if let Some(name) = rest.strip_prefix('/') {
        let name = worker_name(name, cluster_id);
        return Ok(match (&parts.method, name) {
            (&Method::GET, Some(name)) => Some(WorkerCall::Get(name)),
            (&Method::DELETE, Some(name)) => Some(WorkerCall::Delete(name)),
            _ => None,
        });
    }
    if !rest.is_empty() {
        return Ok(None);
    }
    let query = query_of(parts);
    match parts.method {
        Method::POST => Ok(Some(WorkerCall::Create)),
        Method::GET if selects_workers(&query, cluster_id) => {
            let is_watch = query
                .get("watch")
                .is_some_and(|value| value == "true" || value == "1");
            Ok(Some(if is_watch {
                WorkerCall::Watch(WatchRequest::parse(&query)?)
            } else {
                WorkerCall::List
            }))
        }
        _ => Ok(None),
    }
}

/// The name of a worker's pod, as the JobManager gives it: `<cluster-id>-taskmanager-<attempt>-<index>`.
fn worker_name(text: &str, cluster_id: &ClusterId) -> Option<PodName> {
    let numbers = text
        .strip_prefix(cluster_id.as_str())?
        .strip_prefix("-taskmanager-")?;
    let is_ours = numbers
        .split_once('-')
        .is_some_and(|(_, index)| !index.contains('-'));
    text.parse::<PodName>()
        .ok()
        .filter(|name| is_ours && name.task_manager_attempt().is_some())
}

fn selects_workers(query: &BTreeMap<String, String>, cluster_id: &ClusterId) -> bool {
    if query.contains_key("fieldSelector") {
        return false;
    }
    let selector = query.get("labelSelector").map(String::as_str).unwrap_or_default();
    let terms = selector.split(',').filter_map(|term| term.split_once('='));
    let terms: BTreeMap<String, String> = terms
        .map(|(key, value)| {
            (
                key.trim().to_owned(),
                value.trim_start_matches('=').trim().to_owned(),
            )
        })
        .collect();
    terms == labels::task_manager(cluster_id)
}

fn query_of(parts: &Parts) -> BTreeMap<String, String> {
    axum::extract::Query::try_from_uri(&parts.uri)
        .map(|query| query.0)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: Method, uri: &str) -> Option<WorkerCall> {
        let (parts, ()) = http::Request::builder()
            .method(method)
            .uri(uri)
            .body(())
            .unwrap()
            .into_parts();
        worker_call(&parts, &"nat1".parse().unwrap(), &"default".parse().unwrap()).unwrap()
    }

    const PODS: &str = "/api/v1/namespaces/default/pods";
    const SELECTOR: &str = "labelSelector=app%3Dnat1%2Ccomponent%3Dtaskmanager%2Ctype%3Dflink-native-kubernetes&resourceVersion=0";

    #[test]
    fn the_calls_of_a_native_job_manager_on_its_workers_are_recognized() {
        let worker: PodName = "nat1-taskmanager-1-2".parse().unwrap();
        assert_eq!(
            call(Method::GET, &format!("{PODS}?{SELECTOR}")),
            Some(WorkerCall::List)
        );
        let watch = call(
            Method::GET,
            &format!("{PODS}?allowWatchBookmarks=true&{SELECTOR}&watch=true"),
        );
        assert!(matches!(watch, Some(WorkerCall::Watch(_))), "{watch:?}");
        assert_eq!(call(Method::POST, PODS), Some(WorkerCall::Create));
        assert_eq!(
            call(Method::GET, &format!("{PODS}/{worker}")),
            Some(WorkerCall::Get(worker.clone()))
        );
        assert_eq!(
            call(Method::DELETE, &format!("{PODS}/{worker}")),
            Some(WorkerCall::Delete(worker))
        );
        let deployment = "/apis/apps/v1/namespaces/default/deployments/nat1";
        assert_eq!(call(Method::GET, deployment), Some(WorkerCall::GetDeployment));
    }

    #[test]
    fn everything_else_is_forwarded() {
        for (method, uri) in [
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/default/deployments/nat1".to_owned(),
            ),
            (
                Method::GET,
                "/apis/apps/v1/namespaces/default/deployments/other".to_owned(),
            ),
            (
                Method::GET,
                "/api/v1/namespaces/default/configmaps/nat1-cluster-config-map".to_owned(),
            ),
            (
                Method::GET,
                "/api/v1/namespaces/other/pods/nat1-taskmanager-1-2".to_owned(),
            ),
            (Method::GET, format!("{PODS}/nat1-5c9f7-abcde")),
            (Method::GET, format!("{PODS}/nat1-taskmanager-1-2/log")),
            (Method::GET, format!("{PODS}/nat1-taskmanager-1-taskmanager-1-2")),
            (
                Method::GET,
                format!("{PODS}?labelSelector=component%3Djobmanager"),
            ),
            (Method::GET, PODS.to_owned()),
            (Method::PATCH, format!("{PODS}/nat1-taskmanager-1-2")),
            (Method::GET, "/version".to_owned()),
        ] {
            assert_eq!(call(method, &uri), None, "{uri}");
        }
    }
}
