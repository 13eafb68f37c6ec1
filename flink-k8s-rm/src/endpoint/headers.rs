//! Which headers pass between the JobManager and the real API server.

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, ORIGIN,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers about one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// Headers that are about the endpoint: its address, its token, its answer to `Expect`.
const FOR_THE_ENDPOINT: [HeaderName; 5] = [AUTHORIZATION, COOKIE, EXPECT, HOST, ORIGIN];

/// What the real API server sees of a request's headers; our credentials are added later. The length is
/// told by whoever sends the body.
pub(super) fn of_request(headers: &HeaderMap) -> HeaderMap {
    let mut forwarded = without_hop_by_hop(headers);
    for name in FOR_THE_ENDPOINT.into_iter().chain([CONTENT_LENGTH]) {
        forwarded.remove(name);
    }
    forwarded
}

/// What the real API server sees of a request for a WebSocket: a plain request whose answer is not
/// compressed, because frames are cut out of its text.
pub(super) fn of_web_socket_request(headers: &HeaderMap) -> HeaderMap {
    let mut forwarded = of_request(headers);
    let of_web_sockets: Vec<HeaderName> = forwarded
        .keys()
        .filter(|name| name.as_str().starts_with("sec-websocket-"))
        .cloned()
        .collect();
    for name in of_web_sockets {
        forwarded.remove(name);
    }
    forwarded.remove(ACCEPT_ENCODING);
    forwarded
}

/// What the JobManager sees of an answer's headers.
pub(super) fn of_answer(headers: &HeaderMap) -> HeaderMap {
    let mut forwarded = without_hop_by_hop(headers);
    forwarded.remove(SET_COOKIE);
    forwarded
}

fn without_hop_by_hop(headers: &HeaderMap) -> HeaderMap {
    let named = named_by_connection(headers);
    headers
        .iter()
        .filter(|(name, _)| !HOP_BY_HOP.contains(name) && !named.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// `Connection: close, x-trace` makes `x-trace` concern this connection only.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let texts = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value: &HeaderValue| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn headers_of_one_connection_and_the_endpoints_token_stay_here() {
        let given = headers(&[
            ("authorization", "Bearer of-the-endpoint"),
            ("connection", "Keep-Alive, X-Trace"),
            ("keep-alive", "timeout=5"),
            ("x-trace", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("host", "127.0.0.1:1"),
            ("content-type", "application/merge-patch+json; charset=utf-8"),
            ("accept-encoding", "gzip"),
            ("user-agent", "flink"),
        ]);
        assert_eq!(
            names(&of_request(&given)),
            ["accept-encoding", "content-type", "user-agent"]
        );
    }

    #[test]
    fn a_request_for_a_web_socket_becomes_a_plain_one_for_plain_text() {
        let given = headers(&[
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-key", "x"),
            ("accept-encoding", "gzip"),
            ("user-agent", "flink"),
        ]);
        assert_eq!(names(&of_web_socket_request(&given)), ["user-agent"]);
    }

    #[test]
    fn an_answer_keeps_what_the_client_acts_on() {
        let given = headers(&[
            ("retry-after", "1"),
            ("content-type", "application/json"),
            ("content-length", "2"),
            ("connection", "close"),
            ("set-cookie", "a=b"),
            ("warning", "299 - \"unknown field\""),
        ]);
        assert_eq!(
            names(&of_answer(&given)),
            ["content-length", "content-type", "retry-after", "warning"]
        );
    }
}
