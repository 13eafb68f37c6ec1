//! One request of Flink's own client, and the answer that it gets.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flink_k8s_core::job_id::JobId;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use reqwest::{Body, Method};
use serde_json::json;
use tokio::sync::watch;
use tokio::time;
use url::Url;

use super::TOKEN_HEADER;
use crate::rest_client::{
    JobIdSearch, RUN_TIMEOUT, RestClient, RestError, SubmitAnswer, is_duplicate, stalled,
};

/// The request that submits a job.
const SUBMISSION: &str = "/v1/jobs";
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");

/// Hands requests to the cluster, and remembers which jobs it was asked to run.
pub(super) struct Forwarder {
    rest: RestClient,
    token: Arc<str>,
    submitted: watch::Sender<Vec<JobId>>,
    /// Jobs whose submission began and was not refused: the cluster may have them.
    attempted: Arc<Mutex<BTreeSet<JobId>>>,
}

impl Forwarder {
    pub(super) fn new(rest: RestClient, token: Arc<str>, submitted: watch::Sender<Vec<JobId>>) -> Self {
        Self {
            rest,
            token,
            submitted,
            attempted: Arc::default(),
        }
    }

    /// Answers whatever is asked.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if !self.is_known(request.headers()) {
            return says(StatusCode::FORBIDDEN, "this port is for another program");
        }
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        let Some(url) = self.rest.foreign_url(path) else {
            return says(
                StatusCode::NOT_FOUND,
                "there is nothing but Flink's API below /v1/",
            );
        };
        if request.method() == Method::POST && request.uri().path() == SUBMISSION {
            self.submit(url, request).await
        } else {
            self.pass_on(url, request).await
        }
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(TOKEN_HEADER).map_or(&[][..], HeaderValue::as_bytes);
        let wanted = self.token.as_bytes();
        // Takes as long for every wrong token.
        let differences = given.iter().zip(wanted).fold(0, |all, (a, b)| all | (a ^ b));
        given.len() == wanted.len() && differences == 0
    }

    async fn pass_on(&self, url: Url, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let headers = of_content(&head.headers);
        let exchange = self.rest.pass_on(head.method, url, headers, Body::wrap(body));
        match time::timeout(RUN_TIMEOUT, exchange).await {
            Ok(Ok(answer)) => {
                let (status, headers) = (answer.status(), of_content(answer.headers()));
                let mut passed_on = Response::new(answer.into());
                *passed_on.status_mut() = status;
                *passed_on.headers_mut() = headers;
                passed_on
            }
            Ok(Err(error)) => unavailable(&error),
            Err(elapsed) => unavailable(&elapsed),
        }
    }

    async fn submit(&self, url: Url, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let attempt = Arc::new(Attempt::default());
        let moved = Arc::new(AtomicU64::new(0));
        let body = self.watched(body, &attempt, &moved);
        let exchange = async {
            let headers = of_content(&head.headers);
            let answer = self
                .rest
                .pass_on(Method::POST, url.clone(), headers, body)
                .await?;
            let (status, headers) = (answer.status(), of_content(answer.headers()));
            let broken = |source| RestError::from_transport(&Method::POST, &url, source);
            Ok((status, headers, answer.bytes().await.map_err(broken)?))
        };
        let outcome = tokio::select! {
            outcome = exchange => Some(outcome),
            () = stalled(&moved, u64::MAX, RUN_TIMEOUT) => None,
        };
        match outcome {
            Some(Ok((status, headers, content))) if status.is_success() => {
                let accepted = serde_json::from_slice::<SubmitAnswer>(&content);
                if let Ok(job_id) = accepted.and_then(|answer| answer.job_id()) {
                    self.report(job_id);
                }
                with_content(status, headers, content)
            }
            Some(Ok((status, headers, content))) => {
                let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
                let content_type = content_type.unwrap_or("no content type").to_owned();
                let refusal = RestError::from_refusal(&Method::POST, &url, status, content_type, &content);
                match attempt.job_id() {
                    Some(job_id) if attempt.is_repeated() && is_duplicate(&refusal) => self.accepted(job_id),
                    job_id if refusal.is_transient() => self.doubtful(job_id, &refusal).await,
                    job_id => {
                        self.forget(job_id.filter(|_| !attempt.is_repeated()));
                        match refusal {
                            RestError::Refused { .. } => with_content(status, headers, content),
                            // Flink's client understands nothing but Flink's errors.
                            other => says(status, &chain(&other)),
                        }
                    }
                }
            }
            Some(Err(error)) => self.doubtful(attempt.job_id(), &error).await,
            None => says(
                StatusCode::SERVICE_UNAVAILABLE,
                "the submission stalled on its way to the cluster",
            ),
        }
    }

    /// The body, whose id of a job is noticed as it goes by.
    fn watched(&self, body: Incoming, attempt: &Arc<Attempt>, moved: &Arc<AtomicU64>) -> Body {
        let (noticing, ending) = (Arc::clone(attempt), Arc::clone(moved));
        let (attempted, moved) = (Arc::clone(&self.attempted), Arc::clone(moved));
        let pieces = body.into_data_stream().inspect_ok(move |piece: &Bytes| {
            moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
            noticing.notice(piece, &attempted);
        });
        let end = stream::once(async move {
            // From now on it is the answer that is waited for: the length was not known before.
            ending.store(u64::MAX, Ordering::Relaxed);
            None
        });
        Body::wrap_stream(pieces.map(Some).chain(end).filter_map(std::future::ready))
    }

    /// What is said after a submission of unknown outcome. Flink's client repeats what is answered as unavailable.
    async fn doubtful(&self, job_id: Option<JobId>, error: &RestError) -> Response<Body> {
        if let (Some(job_id), RestError::Connect { .. }) = (job_id, error) {
            tracing::debug!(%job_id, "nothing was sent");
        } else if let Some(job_id) = job_id
            && self.rest.job_state(&job_id).await.is_ok()
        {
            return self.accepted(job_id);
        }
        unavailable(error)
    }

    /// What Flink says when it takes a job.
    fn accepted(&self, job_id: JobId) -> Response<Body> {
        self.report(job_id);
        let content = json!({"jobUrl": format!("/jobs/{job_id}")}).to_string();
        with_content(StatusCode::ACCEPTED, json_headers(), content.into())
    }

    fn report(&self, job_id: JobId) {
        self.submitted.send_if_modified(|jobs| {
            let is_new = !jobs.contains(&job_id);
            if is_new {
                jobs.push(job_id);
            }
            is_new
        });
    }

    /// The cluster does not have this job.
    fn forget(&self, job_id: Option<JobId>) {
        if let Some(job_id) = job_id {
            lock(&self.attempted).remove(&job_id);
        }
    }
}

/// What is known of a submission while it goes by.
#[derive(Default)]
struct Attempt(Mutex<Noticed>);

#[derive(Default)]
struct Noticed {
    search: JobIdSearch,
    job_id: Option<JobId>,
    is_repeated: bool,
}

impl Attempt {
    fn notice(&self, piece: &[u8], attempted: &Mutex<BTreeSet<JobId>>) {
        let mut noticed = lock(&self.0);
        if noticed.search.is_over() {
            return;
        }
        if let Some(job_id) = noticed.search.feed(piece) {
            noticed.job_id = Some(job_id);
            noticed.is_repeated = !lock(attempted).insert(job_id);
        }
    }

    fn job_id(&self) -> Option<JobId> {
        lock(&self.0).job_id
    }

    /// Whether the same job was submitted before, with an outcome that its client did not hear of.
    fn is_repeated(&self) -> bool {
        lock(&self.0).is_repeated
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The headers that are about the content; all others are between two neighbours.
fn of_content(headers: &HeaderMap) -> HeaderMap {
    [CONTENT_TYPE, ACCEPT]
        .into_iter()
        .filter_map(|name| Some((name.clone(), headers.get(name)?.clone())))
        .collect()
}

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, JSON)])
}

fn with_content(status: StatusCode, headers: HeaderMap, content: Bytes) -> Response<Body> {
    let mut response = Response::new(content.into());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn unavailable(error: &dyn Error) -> Response<Body> {
    says(StatusCode::SERVICE_UNAVAILABLE, &chain(error))
}

/// An error as Flink writes its own.
fn says(status: StatusCode, error: &str) -> Response<Body> {
    with_content(
        status,
        json_headers(),
        json!({"errors": [error]}).to_string().into(),
    )
}

fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}
