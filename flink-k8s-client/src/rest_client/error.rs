//! Why a request to Flink failed.

use std::io;

use flink_k8s_core::configuration::{common_options, rest_client_options};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::tls_problem::TlsProblem;

/// What begins and ends the stack trace that Flink puts into an error.
const SERVER_SIDE_BEGIN: &str = "<Exception on server side:";
const SERVER_SIDE_END: &str = "End of exception on server side>";
/// Signs of a JobManager that has no leader, or just lost it, in errors that are not a 503.
const LEADERLESS: [&str; 4] = [
    "LeaderRetrievalException",
    "FencingTokenException",
    "RpcConnectionException",
    "RecipientUnreachableException",
];
/// What a JobManager says of a job that it does not have.
const JOB_NOT_FOUND: &str = "FlinkJobNotFoundException";

/// Why a request to Flink's REST endpoint failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestError {
    /// The HTTP client could not be made.
    #[error("cannot set up an HTTP client")]
    Client {
        /// The failure below.
        source: reqwest::Error,
    },
    /// The token that goes with every request cannot be read any more; the request was not sent.
    #[error("cannot read the file of option {}", rest_client_options::BEARER_TOKEN_FILE.key)]
    Credentials {
        /// The failure below.
        source: io::Error,
    },
    /// The two sides do not trust each other, or one of them does not speak TLS.
    #[error("no TLS connection with Flink's REST endpoint {url}: {problem}")]
    Tls {
        /// The URL of the request.
        url: Box<Url>,
        /// What is wrong.
        problem: TlsProblem,
        /// The failure below.
        source: reqwest::Error,
    },
    /// The endpoint has other certificates than the Secret that the cluster names had when it was read.
    #[error(
        "the JobManager at {url} has other certificates than Secret {secret}, from which clients take them: one of the two was \
         replaced without the other"
    )]
    OtherCertificates {
        /// The URL of the request.
        url: Box<Url>,
        /// The Secret.
        secret: String,
        /// What is wrong.
        problem: TlsProblem,
        /// The failure below.
        source: reqwest::Error,
    },
    /// The endpoint sends plain requests away to its address with TLS.
    #[error(
        "{url} speaks TLS only: set {}=true, or give it as https://...", common_options::REST_SSL_ENABLED.key
    )]
    TlsRequired {
        /// The URL of the request.
        url: Box<Url>,
    },
    /// Whatever stands before the endpoint does not let us in: Flink itself never says that.
    #[error("{method} {url} is not allowed (HTTP {status}): {}", advice(*.status))]
    NotAllowed {
        /// The request's method.
        method: Method,
        /// The URL of the request.
        url: Box<Url>,
        /// 401 or 403.
        status: u16,
    },
    /// There is no connection to the endpoint; the request was not sent.
    #[error("cannot connect to Flink's REST endpoint {url}")]
    Connect {
        /// The URL of the request.
        url: Box<Url>,
        /// The failure below.
        source: reqwest::Error,
    },
    /// The answer did not come in time. The request may have had its effect.
    #[error("{method} {url} was not answered in time")]
    Timeout {
        /// The request's method.
        method: Method,
        /// The URL of the request.
        url: Box<Url>,
        /// The failure below.
        source: reqwest::Error,
    },
    /// The connection broke before the answer was complete. The request may have had its effect.
    #[error("the connection broke during {method} {url}")]
    Interrupted {
        /// The request's method.
        method: Method,
        /// The URL of the request.
        url: Box<Url>,
        /// The failure below.
        source: reqwest::Error,
    },
    /// Flink refused the request.
    #[error("{method} {url} was refused with HTTP {status}: {message}")]
    Refused {
        /// The request's method.
        method: Method,
        /// The URL of the request.
        url: Box<Url>,
        /// The HTTP status.
        status: u16,
        /// Flink's reason in one line, with the root cause where a stack trace names one.
        message: String,
        /// Everything that Flink said, stack traces included.
        errors: Vec<String>,
    },
    /// Something that is not Flink's REST API answered: a web page, a proxy, another service.
    #[error(
        "{url} answered HTTP {status} with {content_type} where Flink's JSON was expected; is this the REST endpoint of a Flink cluster?"
    )]
    NotFlink {
        /// The URL of the request.
        url: Box<Url>,
        /// The HTTP status.
        status: u16,
        /// What the answer says that it is.
        content_type: String,
    },
    /// The answer is JSON, but not the expected one.
    #[error("the answer of {url} is not understood")]
    Malformed {
        /// The URL of the request.
        url: Box<Url>,
        /// The failure below.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<String>,
}

impl RestError {
    /// Whether the same request may succeed later although nobody changes anything: the JobManager is
    /// starting, elects a leader, or is unreachable for the moment. Such a request may nevertheless have
    /// had its effect.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Client { .. }
            | Self::Credentials { .. }
            | Self::Tls { .. }
            | Self::OtherCertificates { .. }
            | Self::TlsRequired { .. }
            | Self::NotAllowed { .. }
            | Self::Malformed { .. } => false,
            Self::Connect { .. } | Self::Timeout { .. } | Self::Interrupted { .. } => true,
            Self::NotFlink { status, .. } => matches!(status, 502..=504),
            Self::Refused { status, errors, .. } => {
                let leaderless = |error: &String| LEADERLESS.iter().any(|mark| error.contains(mark));
                matches!(status, 429 | 502..=504) || (*status >= 500 && errors.iter().any(leaderless))
            }
        }
    }

    /// Whether Flink knows no such job. It says so with 404, and for a moment while a job is taken out of its books with 500.
    pub fn is_unknown_job(&self) -> bool {
        let is_said = |error: &String| error.contains(JOB_NOT_FOUND);
        self.status() == Some(404) || self.flink_errors().iter().any(is_said)
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. }
            | Self::NotFlink { status, .. }
            | Self::NotAllowed { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Everything that Flink said, stack traces included; empty when Flink said nothing.
    pub fn flink_errors(&self) -> &[String] {
        match self {
            Self::Refused { errors, .. } => errors,
            _ => &[],
        }
    }

    pub(crate) fn from_transport(method: &Method, url: &Url, source: reqwest::Error) -> Self {
        let (method, url) = (method.clone(), Box::new(url.clone()));
        // The URL is in our own text already.
        let source = source.without_url();
        if let Some(problem) = TlsProblem::find(&source) {
            Self::Tls { url, problem, source }
        } else if source.is_connect() {
            Self::Connect { url, source }
        } else if source.is_timeout() {
            Self::Timeout { method, url, source }
        } else if source.is_builder() {
            Self::Client { source }
        } else {
            Self::Interrupted { method, url, source }
        }
    }

    /// The same, told by whoever used the certificates of this Secret.
    pub(crate) fn with_certificates_of(self, secret: Option<&str>) -> Self {
        match (self, secret) {
            (
                Self::Tls {
                    url,
                    problem: problem @ (TlsProblem::NotTrusted | TlsProblem::CertificateRefused),
                    source,
                },
                Some(secret),
            ) => Self::OtherCertificates {
                url,
                secret: secret.to_owned(),
                problem,
                source,
            },
            (other, _) => other,
        }
    }

    pub(crate) fn from_refusal(
        method: &Method,
        url: &Url,
        status: StatusCode,
        content_type: String,
        body: &[u8],
    ) -> Self {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { errors }) => Self::Refused {
                method: method.clone(),
                url: Box::new(url.clone()),
                status: status.as_u16(),
                message: one_line(&errors),
                errors,
            },
            Err(_) if matches!(status.as_u16(), 401 | 403) => Self::NotAllowed {
                method: method.clone(),
                url: Box::new(url.clone()),
                status: status.as_u16(),
            },
            Err(_) => Self::NotFlink {
                url: Box::new(url.clone()),
                status: status.as_u16(),
                content_type,
            },
        }
    }
}

/// What to do about an answer that did not come from Flink.
fn advice(status: u16) -> String {
    let (token, password) = (
        rest_client_options::BEARER_TOKEN_FILE.key,
        rest_client_options::BASIC_AUTH_FILE.key,
    );
    if status == 401 {
        format!("it wants credentials, or others than ours; {token} or {password} name a file with them")
    } else {
        format!("these credentials may not do that; {token} or {password} name a file with others")
    }
}

/// The first line that says something, and the root cause of the stack trace below it.
fn one_line(errors: &[String]) -> String {
    let lines = errors.iter().flat_map(|error| error.lines()).map(str::trim);
    let lines = lines.map(|line| line.strip_prefix(SERVER_SIDE_BEGIN).unwrap_or(line).trim());
    let lines: Vec<&str> = lines
        .filter(|line| !line.is_empty() && *line != SERVER_SIDE_END)
        .collect();
    let says_something =
        |line: &&&str| !line.starts_with("Internal server error") && !line.starts_with("at ");
    let Some(first) = lines.iter().find(says_something).or(lines.first()) else {
        return "Flink gives no reason".to_owned();
    };
    let root = lines
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("Caused by: "));
    match root {
        Some(root) if !first.contains(root) => format!("{first} (root cause: {root})"),
        _ => (*first).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_the_first_line_that_says_something_with_the_root_cause() {
        let trace = "<Exception on server side:\norg.apache.flink.client.program.ProgramInvocationException: The main \
             method caused an error\n\tat a.b.C(C.java:1)\nCaused by: java.lang.RuntimeException: outer\n\tat d.E\n\
             Caused by: java.io.FileNotFoundException: /data/in.txt\n\t... 3 more\n\nEnd of exception on server side>";
        let errors = ["Internal server error.".to_owned(), trace.to_owned()];
        insta::assert_snapshot!(one_line(&errors), @"org.apache.flink.client.program.ProgramInvocationException: The main method caused an error (root cause: java.io.FileNotFoundException: /data/in.txt)");
        insta::assert_snapshot!(one_line(&["Unable to load requested file /v1/nothing.".to_owned()]), @"Unable to load requested file /v1/nothing.");
        insta::assert_snapshot!(one_line(&["Internal server error.".to_owned()]), @"Internal server error.");
        insta::assert_snapshot!(one_line(&[]), @"Flink gives no reason");
    }
}
