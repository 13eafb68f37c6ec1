//! `services/proxy` and `pods/proxy`: passes HTTP requests on to a pod.

use std::time::Duration;

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{Server, pod_address, request::Target, status::ApiError};

/// How long the pod may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Headers that are about one connection only.
const HOP_BY_HOP: &[HeaderName] = &[
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Sends the request to the pod and streams both bodies.
pub(crate) async fn forward(
    server: &Server,
    target: &Target,
    mut request: Request<Body>,
) -> Result<Response, ApiError> {
    let address = pod_address::of_proxy_target(server, target)?;
    let path = target.rest.as_deref().unwrap_or("/");
    let path_and_query = request
        .uri()
        .query()
        .map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let unreachable = |error: &dyn std::fmt::Display| {
        ApiError::unavailable(format!("error trying to reach service: {address}: {error}"))
    };
    let uri: Uri = path_and_query
        .parse()
        .map_err(|error| ApiError::bad_request(format!("invalid path: {error}")))?;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    remove_hop_by_hop(headers);
    // The credentials are for this server, not for what runs in the pod.
    headers.remove(header::AUTHORIZATION);
    let host = HeaderValue::from_str(&address.to_string()).map_err(ApiError::internal)?;
    headers.insert(header::HOST, host);
    *request.version_mut() = http::Version::HTTP_11;

    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(elapsed) => return Err(unreachable(&elapsed)),
    };
    stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(&error))?;
    let is_head = request.method() == Method::HEAD;
    let task = async {
        if let Err(error) = connection.await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "proxied connection ended"
            );
        }
    };
    server.tasks.spawn(task);
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(&error))?;
    let (mut parts, body) = response.into_parts();
    remove_hop_by_hop(&mut parts.headers);
    let body = if is_head { Body::empty() } else { Body::new(body) };
    Ok(Response::from_parts(parts, body))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}
