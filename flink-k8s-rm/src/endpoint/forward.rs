//! Requests that are not about workers go to the real API server, with our credentials.
//!
//! Bodies are streams in both directions: whoever is slower sets the pace, and nothing is kept in memory.
//! Dropping a request, as the JobManager's client does when it has waited long enough, closes its
//! connection to the API server. The exceptions are the small calls on which high availability rests: they
//! are read whole so that they can be repeated, see `repeat`. Each request needs a permit of its lane.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::namespace::Namespace;
use futures::{StreamExt, stream};
use http::header::UPGRADE;
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::api_server::{ApiServer, NoAnswer};
use super::budget::{Budget, Lane, Permit};
use super::leadership::{Leadership, election_config_map};
use super::repetition::Subject;
use super::responses::Refusal;
use super::{forwarded_watch, headers, repeat};
use crate::driver::chain;
use crate::observability::Metrics;

/// How long the API server may take to begin its answer.
const ANSWER_BEGINS_WITHIN: Duration = Duration::from_secs(60);
/// How long it may then be silent in the middle of an answer.
const ANSWER_GOES_ON_WITHIN: Duration = Duration::from_secs(30);

/// What forwarding needs.
pub(super) struct Forwarder {
    pub(super) api_server: ApiServer,
    pub(super) budget: Budget,
    pub(super) leadership: Leadership,
    metrics: Metrics,
    pub(super) election_config_map: String,
    namespace: Namespace,
    shutdown: CancellationToken,
}

impl Forwarder {
    pub(super) fn new(
        api_server: ApiServer,
        leadership: Leadership,
        metrics: Metrics,
        cluster_id: &ClusterId,
        namespace: Namespace,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            api_server,
            budget: Budget::new(),
            leadership,
            metrics,
            election_config_map: election_config_map(cluster_id),
            namespace,
            shutdown,
        }
    }

    /// Asks the real API server and passes its answer on.
    pub(super) async fn forward(&self, parts: Parts, body: Body) -> Response {
        let is_watch = parts.uri.query().is_some_and(forwarded_watch::is_watch);
        let answer = if is_watch {
            forwarded_watch::serve(self, parts).await
        } else if parts.headers.contains_key(UPGRADE) {
            let message = "only watches are forwarded over WebSockets";
            Err(Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", message))
        } else if let Some(subject) = Subject::of(&parts, self.namespace.as_str()) {
            repeat::call(self, parts, body, &subject).await
        } else {
            self.stream(parts, body).await
        };
        // 0 stands for requests that the API server has not answered.
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        self.metrics.request_forwarded(status);
        answer.unwrap_or_else(|refusal| {
            warn!(
                reason = refusal.message,
                "could not forward a request of the JobManager"
            );
            refusal.to_response()
        })
    }

    async fn stream(&self, parts: Parts, body: Body) -> Result<Response, Refusal> {
        let permit = self.budget.admit(Lane::Calls).await?;
        let forwarded = headers::of_request(&parts.headers);
        let has_body = body.size_hint().exact() != Some(0);
        let mut answer = self.ask(request(&parts, forwarded.clone(), body)).await?;
        if answer.status() == StatusCode::UNAUTHORIZED && self.renew_credentials() && !has_body {
            answer = self.ask(request(&parts, forwarded, Body::empty())).await?;
        }
        Ok(self.passed_on(answer, permit, Until::Silent(ANSWER_GOES_ON_WITHIN)))
    }

    /// Sends a request and waits for the beginning of its answer.
    pub(super) async fn ask(&self, request: Request<Body>) -> Result<http::Response<Incoming>, Refusal> {
        let what = format!("{} {}", request.method(), request.uri().path());
        match timeout(ANSWER_BEGINS_WITHIN, self.api_server.send(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(unreachable_server(&what, &failure)),
            Err(_) => Err(Refusal::unavailable(format!(
                "{what}: the API server did not answer within {ANSWER_BEGINS_WITHIN:?}"
            ))),
        }
    }

    /// Ends watches when the endpoint ends.
    pub(super) fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Reads the credentials again and says whether that worked.
    pub(super) fn renew_credentials(&self) -> bool {
        match self.api_server.renew_credentials() {
            Ok(()) => true,
            Err(error) => {
                let error = chain(&error);
                warn!(
                    error,
                    "the API server refuses our credentials, which cannot be read again"
                );
                false
            }
        }
    }

    /// The answer with its body as a stream. The permit is held until the body ends.
    pub(super) fn passed_on(
        &self,
        answer: http::Response<Incoming>,
        permit: Permit,
        until: Until,
    ) -> Response {
        let (mut head, body) = answer.into_parts();
        head.headers = headers::of_answer(&head.headers);
        if matches!(until, Until::Time(_)) {
            head.headers.remove(http::header::CONTENT_LENGTH);
        }
        let state = (BodyDataStream::new(body), self.shutdown.clone(), permit);
        let pieces = stream::unfold(state, move |(mut body, shutdown, permit)| async move {
            let piece = tokio::select! {
                biased;
                () = shutdown.cancelled() => None,
                piece = next_piece(&mut body, until) => piece,
            };
            Some((piece?, (body, shutdown, permit)))
        });
        Response::from_parts(head, Body::from_stream(pieces))
    }
}

/// When the body of an answer ends although the API server has not ended it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// It is cut off, as a failure, when nothing comes for this long.
    Silent(Duration),
    /// It ends in good order at this time.
    Time(Instant),
}

async fn next_piece(body: &mut BodyDataStream<Incoming>, until: Until) -> Option<io::Result<Bytes>> {
    let piece = match until {
        Until::Silent(limit) => {
            let Ok(piece) = timeout(limit, body.next()).await else {
                warn!("the API server fell silent in the middle of an answer");
                return Some(Err(io::Error::from(io::ErrorKind::TimedOut)));
            };
            piece
        }
        Until::Time(end) => tokio::select! {
            () = sleep_until(end) => None,
            piece = body.next() => piece,
        },
    };
    piece.map(|piece| piece.map_err(io::Error::other))
}

/// The request as the API server gets it; address and credentials are added later.
pub(super) fn request(parts: &Parts, headers: HeaderMap, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = path_and_query(&parts.uri);
    *request.headers_mut() = headers;
    request
}

/// The refusal that tells the JobManager's client to try again.
pub(super) fn unreachable_server(what: &str, failure: &NoAnswer) -> Refusal {
    Refusal::unavailable(format!("{what}: {}", chain(failure)))
}

fn path_and_query(uri: &Uri) -> Uri {
    uri.path_and_query()
        .map_or_else(|| Uri::from_static("/"), |rest| Uri::from(rest.clone()))
}
