//! Forwarded watches, as an HTTP stream or over a WebSocket.
//!
//! The JobManager's client tries each watch as a WebSocket first. The socket ends here: the API server is
//! asked for an HTTP stream, and each line of it becomes a text frame. So a watch needs nothing of the API
//! server, or of proxies before it, but HTTP. A watch whose API server vanished without a word would stay
//! open and silent for ever, and the client cannot notice, because it is we who answer its pings. Hence
//! each is asked for with an end, and ends here soon after; the client then resumes it where it was.

use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, TryStreamExt};
use http::header::UPGRADE;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{StatusCode, Uri};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;

use super::budget::{Lane, Permit};
use super::forward::{Forwarder, Until, request};
use super::headers;
use super::responses::Refusal;

/// The longest watch event; an object of the largest size as JSON in JSON.
const LONGEST_EVENT: usize = 8 * 1024 * 1024;
/// How long a watch lasts whose client asks for no end.
const LASTS: Duration = Duration::from_secs(300);
/// How long after its end the API server may take to end it.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take to accept one event.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(60);

/// Whether a query asks for a watch.
pub(super) fn is_watch(query: &str) -> bool {
    query
        .split('&')
        .any(|parameter| matches!(parameter, "watch=true" | "watch=1"))
}

/// Opens a watch at the real API server and passes it on.
pub(super) async fn serve(forwarder: &Forwarder, mut parts: Parts) -> Result<Response, Refusal> {
    let upgrade = if parts.headers.contains_key(UPGRADE) {
        match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => Some(upgrade),
            Err(refusal) => return Ok(refusal.into_response()),
        }
    } else {
        None
    };
    let permit = forwarder.budget.admit(Lane::Watches).await?;
    let (uri, lasts) = with_end(&parts.uri);
    parts.uri = uri;
    let until = Instant::now() + lasts + ENDS_WITHIN;
    let passed = match upgrade {
        Some(_) => headers::of_web_socket_request(&parts.headers),
        None => headers::of_request(&parts.headers),
    };
    let open = |headers| forwarder.ask(request(&parts, headers, Body::empty()));
    let mut answer = open(passed.clone()).await?;
    if answer.status() == StatusCode::UNAUTHORIZED && forwarder.renew_credentials() {
        answer = open(passed).await?;
    }
    Ok(match upgrade {
        Some(upgrade) if answer.status() == StatusCode::OK => {
            let watch = SocketWatch {
                lines: lines_of(answer.into_body()),
                until,
                shutdown: forwarder.shutdown(),
                _permit: permit,
            };
            upgrade.on_upgrade(|socket| watch.send_to(socket))
        }
        _ => forwarder.passed_on(answer, permit, Until::Time(until)),
    })
}

/// The same watch with an end, and when that is.
fn with_end(uri: &Uri) -> (Uri, Duration) {
    let (mut kept, mut lasts) = (Vec::new(), None);
    for parameter in uri.query().unwrap_or_default().split('&') {
        match parameter.strip_prefix("timeoutSeconds=") {
            Some(seconds) => lasts = seconds.parse().ok().filter(|seconds| *seconds > 0),
            None => kept.push(parameter),
        }
    }
    let lasts = lasts.map_or(LASTS, Duration::from_secs);
    let end = format!("timeoutSeconds={}", lasts.as_secs());
    kept.push(&end);
    let path_and_query = format!("{}?{}", uri.path(), kept.join("&"));
    let path_and_query: PathAndQuery = path_and_query
        .parse()
        .expect("a valid query with a number more is valid");
    (Uri::from(path_and_query), lasts)
}

fn lines_of(body: Incoming) -> impl Stream<Item = String> + Send + Unpin {
    let reader = StreamReader::new(BodyDataStream::new(body).map_err(std::io::Error::other));
    let lines = FramedRead::new(reader, LinesCodec::new_with_max_length(LONGEST_EVENT));
    // A line that cannot be read ends the watch; the JobManager's client opens another.
    Box::pin(
        lines
            .take_while(|line| std::future::ready(line.is_ok()))
            .filter_map(|line| async { line.ok() }),
    )
}

/// A watch that goes into a WebSocket, one line a text frame.
struct SocketWatch<L> {
    lines: L,
    until: Instant,
    shutdown: CancellationToken,
    _permit: Permit,
}

impl<L: Stream<Item = String> + Send + Unpin> SocketWatch<L> {
    /// Sends until either side has enough. The next line is read when the last one has been accepted.
    async fn send_to(mut self, mut socket: WebSocket) {
        loop {
            // All are cancel safe. Receiving also answers the client's pings.
            let line = tokio::select! {
                () = self.shutdown.cancelled() => None,
                () = sleep_until(self.until) => None,
                line = self.lines.next() => line,
                received = socket.recv() => match received {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => continue,
                },
            };
            let Some(line) = line else { break };
            if line.is_empty() {
                continue;
            }
            match timeout(ACCEPTED_WITHIN, socket.send(Message::Text(line.into()))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
        // If it fails the client has gone already, which is as good.
        let _ = timeout(ACCEPTED_WITHIN, socket.send(Message::Close(None))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_watch_has_an_end_and_one_that_was_asked_for_is_kept() {
        let ended = |query: &str| {
            let (uri, lasts) = with_end(&format!("/api/v1/pods?{query}").parse().unwrap());
            (uri.query().unwrap().to_owned(), lasts.as_secs())
        };
        assert_eq!(
            ended("watch=true"),
            ("watch=true&timeoutSeconds=300".to_owned(), 300)
        );
        assert_eq!(
            ended("timeoutSeconds=600&watch=true"),
            ("watch=true&timeoutSeconds=600".to_owned(), 600)
        );
        assert_eq!(ended("watch=1&timeoutSeconds=0").1, 300);
        assert!(is_watch("a=b&watch=true") && !is_watch("a=watch=true"));
    }
}
