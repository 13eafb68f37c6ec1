//! Requests that are not about workers go to the real API server, with our credentials.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, TryStreamExt};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, ORIGIN, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::requests::Context;
use super::responses::Refusal;
use crate::driver::chain;

/// The largest body that is forwarded; real API servers refuse more than this.
const LARGEST_BODY: usize = 3 * 1024 * 1024;
/// The longest watch event; an object of the largest size as JSON in JSON.
const LONGEST_EVENT: usize = 8 * 1024 * 1024;
/// How long the API server may take to begin its answer. Watches then stay open for as long as they like.
const ANSWER_BEGINS_WITHIN: Duration = Duration::from_secs(60);

/// Headers that concern one connection only, or that only one of the two servers may see.
const NOT_FORWARDED: [HeaderName; 7] = [
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    ORIGIN,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Asks the real API server and passes its answer on, as a stream.
pub(super) async fn forward(context: &Context, mut parts: Parts, body: Body) -> Response {
    let Some(client) = &context.forward else {
        let message = format!(
            "no API server to forward {} {} to",
            parts.method,
            parts.uri.path()
        );
        return Refusal::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message).to_response();
    };
    let upgrade = if parts.headers.contains_key(UPGRADE) {
        if !parts
            .uri
            .query()
            .is_some_and(|query| query.contains("watch=true"))
        {
            let message = "only watches are forwarded over WebSockets";
            return Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", message).to_response();
        }
        match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => Some(upgrade),
            Err(refusal) => return refusal.into_response(),
        }
    } else {
        None
    };
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        let message = format!("the request body is larger than {LARGEST_BODY} bytes, or was cut off");
        return Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message).to_response();
    };
    let mut request = Request::new(kube::client::Body::from(body));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = path_and_query(&parts.uri);
    *request.headers_mut() = forwarded_headers(&parts.headers);
    if upgrade.is_some() {
        request.headers_mut().remove(ACCEPT_ENCODING); // Frames are cut out of the plain text.
    }
    let answer = timeout(ANSWER_BEGINS_WITHIN, client.send(request)).await;
    let status = match &answer {
        Ok(Ok(answer)) => answer.status().as_u16(),
        Ok(Err(_)) | Err(_) => 0,
    };
    context.workers.metrics().request_forwarded(status);
    let answer = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return unreachable_server(&parts, &chain(&error)),
        Err(_) => return unreachable_server(&parts, &format!("no answer within {ANSWER_BEGINS_WITHIN:?}")),
    };
    match upgrade {
        Some(upgrade) if answer.status() == StatusCode::OK => {
            let lines = lines_of(answer.into_body());
            let shutdown = context.shutdown.clone();
            upgrade.on_upgrade(|socket| send_lines(socket, lines, shutdown))
        }
        _ => {
            let (mut head, body) = answer.into_parts();
            head.headers.remove(CONNECTION);
            head.headers.remove(TRANSFER_ENCODING);
            let shutdown = context.shutdown.clone().cancelled_owned();
            let data = body.into_data_stream().take_until(shutdown);
            let is_watch = parts
                .uri
                .query()
                .is_some_and(|query| query.contains("watch=true"));
            if is_watch {
                head.headers.remove(CONTENT_LENGTH);
            }
            Response::from_parts(head, Body::from_stream(data))
        }
    }
}

fn unreachable_server(parts: &Parts, reason: &str) -> Response {
    warn!(method = %parts.method, path = parts.uri.path(), reason, "could not forward a request of the JobManager");
    Refusal::unavailable(format!("the API server cannot be reached: {reason}")).to_response()
}

/// The client adds scheme and host of the real API server.
fn path_and_query(uri: &Uri) -> Uri {
    uri.path_and_query()
        .map_or_else(|| Uri::from_static("/"), |rest| Uri::from(rest.clone()))
}

fn forwarded_headers(headers: &HeaderMap) -> HeaderMap {
    let is_forwarded =
        |name: &HeaderName| !NOT_FORWARDED.contains(name) && !name.as_str().starts_with("sec-websocket-");
    headers
        .iter()
        .filter(|(name, _)| is_forwarded(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn lines_of(body: kube::client::Body) -> impl Stream<Item = String> + Send + Unpin {
    let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let lines = FramedRead::new(reader, LinesCodec::new_with_max_length(LONGEST_EVENT));
    // A line that cannot be read ends the watch; the JobManager's client opens another.
    Box::pin(
        lines
            .take_while(|line| std::future::ready(line.is_ok()))
            .filter_map(|line| async { line.ok() }),
    )
}

/// One line of the real watch per text frame, until either side has enough.
async fn send_lines(
    mut socket: WebSocket,
    mut lines: impl Stream<Item = String> + Send + Unpin,
    shutdown: CancellationToken,
) {
    loop {
        // All are cancel safe. Receiving also answers the client's pings.
        let line = tokio::select! {
            () = shutdown.cancelled() => None,
            line = lines.next() => line,
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        let Some(line) = line else { break };
        if line.is_empty() {
            continue;
        }
        if socket.send(Message::Text(line.into())).await.is_err() {
            return;
        }
    }
    // If it fails the client has gone already, which is as good.
    let _ = socket.send(Message::Close(None)).await;
}
