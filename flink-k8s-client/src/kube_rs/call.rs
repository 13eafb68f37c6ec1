//! One bounded call to the API server, and why it failed.

use std::error::Error;
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use serde::de::DeserializeOwned;
use tokio::time;

/// How long a single read or write may take, from sending it to the last byte of the answer.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a list may take.
pub(crate) const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of an answer that is not a `Status` is quoted.
const QUOTED_CHARACTERS: usize = 300;

/// Why a call to the API server failed; the `source` of the port's errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The API server answered with an error.
    #[error("the API server answered {code} {reason}: {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// The reason in the `Status`, such as `AlreadyExists`; else the usual words for the HTTP status.
        reason: String,
        /// The API server's words.
        message: String,
        /// How long it asks to wait before the next attempt.
        retry_after_seconds: Option<u32>,
    },
    /// There was no complete answer in time. The call may have had its effect.
    #[error("the API server did not answer within {} seconds", .limit.as_secs())]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// The API server could not be reached, or the connection broke. The call may have had its effect.
    #[error("cannot reach the API server")]
    Connection {
        /// The failure below.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The API server's certificate is not trusted, or it does not accept ours.
    #[error("cannot establish a TLS connection with the API server")]
    Tls {
        /// The failure below.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The credentials of the kubeconfig could not be obtained.
    #[error("cannot authenticate with the API server")]
    Authentication {
        /// The failure below.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The request could not be put together, for instance because a name is empty.
    #[error("cannot build the request")]
    Request {
        /// The failure below.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The answer is not what the API promises.
    #[error("the API server's answer is not understood")]
    Malformed {
        /// The failure below.
        source: serde_json::Error,
    },
}

impl CallError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            // A 409 Conflict on create comes from the quota's own bookkeeping and asks to try again.
            Self::Refused { code, reason, .. } => {
                matches!(code, 408 | 429 | 500..=504) || (*code == 409 && reason == "Conflict")
            }
            Self::Timeout { .. } | Self::Connection { .. } => true,
            Self::Tls { .. }
            | Self::Authentication { .. }
            | Self::Request { .. }
            | Self::Malformed { .. } => false,
        }
    }

    /// The HTTP status, if there was an answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// How long the API server asks to wait before the next attempt.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::Refused {
                retry_after_seconds, ..
            } => *retry_after_seconds,
            _ => None,
        }
    }

    /// The same as a duration.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.retry_after_seconds()?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// Whether the API server has forgotten the version that was asked for.
    pub(super) fn is_expired(&self) -> bool {
        self.code() == Some(410) || self.has_reason("Expired")
    }

    pub(super) fn has_reason(&self, expected: &str) -> bool {
        matches!(self, Self::Refused { reason, .. } if reason == expected)
    }

    pub(crate) fn from_kube(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from_status(*status),
            kube::Error::Auth(source) => Self::Authentication {
                source: Box::new(source),
            },
            kube::Error::Service(source) => Self::from_transport(source),
            other => Self::from_transport(Box::new(other)),
        }
    }

    fn from_transport(source: Box<dyn Error + Send + Sync>) -> Self {
        if has_tls_failure(source.as_ref()) {
            Self::Tls { source }
        } else {
            Self::Connection { source }
        }
    }

    /// The error in the body of a refusal.
    pub(super) fn from_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = headers.get(http::header::RETRY_AFTER);
        let header = header
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.trim().parse().ok());
        match serde_json::from_slice::<Status>(body) {
            Ok(answer) if !answer.message.is_empty() || !answer.reason.is_empty() => {
                let refusal = Self::from_status(answer);
                match refusal {
                    Self::Refused {
                        code: _,
                        reason,
                        message,
                        retry_after_seconds,
                    } => Self::Refused {
                        code: status.as_u16(),
                        reason,
                        message,
                        retry_after_seconds: retry_after_seconds.or(header),
                    },
                    other => other,
                }
            }
            _ => Self::Refused {
                code: status.as_u16(),
                reason: status.canonical_reason().unwrap_or("without a reason").to_owned(),
                message: quote(body),
                retry_after_seconds: header,
            },
        }
    }

    /// The error in a `Status`, which a watch also delivers as an event.
    pub(super) fn from_status(status: Status) -> Self {
        let retry_after = status.details.as_ref().map(|details| details.retry_after_seconds);
        let known = StatusCode::from_u16(status.code)
            .ok()
            .and_then(|code| code.canonical_reason());
        let reason = if status.reason.is_empty() {
            known.unwrap_or_default().to_owned()
        } else {
            status.reason
        };
        Self::Refused {
            code: status.code,
            reason,
            message: status.message,
            retry_after_seconds: retry_after.filter(|seconds| *seconds > 0),
        }
    }
}

/// Sends a request and decodes the answer, all within `limit`.
pub(super) async fn call<T: DeserializeOwned>(
    client: &Client,
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    limit: Duration,
) -> Result<T, CallError> {
    let body = call_for_bytes(client, request, limit).await?;
    serde_json::from_slice(&body).map_err(|source| CallError::Malformed { source })
}

/// Sends a request and returns the body of the answer, all within `limit`.
pub(super) async fn call_for_bytes(
    client: &Client,
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    limit: Duration,
) -> Result<bytes::Bytes, CallError> {
    let exchange = async {
        let answer = send(client, request).await?;
        let body = answer.into_body().collect().await.map_err(CallError::from_kube)?;
        Ok(body.to_bytes())
    };
    time::timeout(limit, exchange)
        .await
        .unwrap_or(Err(CallError::Timeout { limit }))
}

/// Sends a request and returns a successful answer, whose body is still to be read. Not bounded in time.
pub(super) async fn send(
    client: &Client,
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Response<Body>, CallError> {
    let request = request.map_err(|source| CallError::Request {
        source: Box::new(source),
    })?;
    let answer = client
        .send(request.map(Body::from))
        .await
        .map_err(CallError::from_kube)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let headers = answer.headers().clone();
    let body = answer.into_body().collect().await.map_err(CallError::from_kube)?;
    Err(CallError::from_answer(status, &headers, &body.to_bytes()))
}

fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    match text.char_indices().nth(QUOTED_CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None if text.is_empty() => "(no explanation)".to_owned(),
        None => text.to_owned(),
    }
}

fn has_tls_failure(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(current) = next {
        // The source of an `io::Error` is the source of what it wraps, not the wrapped error itself.
        let wrapped = current
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        if current.is::<rustls::Error>()
            || wrapped.is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>)
        {
            return true;
        }
        next = current.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_text_refusal_keeps_its_words_and_the_retry_after_header() {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::RETRY_AFTER, "7".parse().unwrap());
        let body = b"Too many requests, please try again later.\n";
        let error = CallError::from_answer(StatusCode::TOO_MANY_REQUESTS, &headers, body);
        assert_eq!(error.retry_after_seconds(), Some(7));
        assert!(error.is_transient());
        insta::assert_snapshot!(
            error,
            @"the API server answered 429 Too Many Requests: Too many requests, please try again later."
        );
    }

    #[test]
    fn a_long_page_is_quoted_in_part() {
        let page = "<html>".repeat(100);
        let error = CallError::from_answer(StatusCode::BAD_GATEWAY, &HeaderMap::new(), page.as_bytes());
        assert!(
            error.to_string().len() < 400 && error.to_string().ends_with("..."),
            "{error}"
        );
        let empty = CallError::from_answer(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"");
        insta::assert_snapshot!(empty, @"the API server answered 502 Bad Gateway: (no explanation)");
    }

    #[test]
    fn an_untrusted_certificate_is_not_worth_a_retry() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = CallError::from_transport(Box::new(std::io::Error::other(tls)));
        assert!(matches!(error, CallError::Tls { .. }) && !error.is_transient());
        insta::assert_snapshot!(error, @"cannot establish a TLS connection with the API server");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(CallError::from_transport(Box::new(refused)).is_transient());
    }
}
