//! Carries out the calls on which high availability rests, more than once if need be.
//!
//! The JobManager's client gives up a call after 10 s and then tries again by itself, with pauses that double
//! up to a minute; while it does, its leader election stands still. So a call is repeated here, at short
//! intervals, for somewhat less than that time. A renewal is never repeated past the time at which the
//! JobManager has to have given up its leadership (`leadership`): after it, each try is made once. And a call
//! of the election that fails while the JobManager does not lead is refused with a status that its client
//! does not repeat, so that the election goes on, and notices that its deadline has passed.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::response::Response;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::api_server::NoAnswer;
use super::budget::Lane;
use super::forward::{Forwarder, request, unreachable_server};
use super::headers;
use super::repetition::{Effect, Repetition, Subject, effect_of, has_taken_effect, repetition};
use super::responses::Refusal;

/// How long a call is held at most; below the request time-out of the JobManager's client (10 s).
const LONGEST_HOLD: Duration = Duration::from_secs(9);
/// How long the first attempt may take. A connection that died without a word is found out by then, and
/// what is left of the hold is enough for an API server that is merely slow.
const FIRST_ATTEMPT: Duration = Duration::from_secs(3);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The largest object and its answer; real API servers refuse more than this.
const LARGEST_BODY: usize = 3 * 1024 * 1024;

/// An answer that was read to its end.
type Answer = http::Response<Bytes>;

/// How an attempt failed.
enum Failure {
    Refused(Answer),
    NoAnswer(NoAnswer),
    TooSlow,
}

/// A call that may be made more than once.
struct Call<'a> {
    forwarder: &'a Forwarder,
    parts: Parts,
    body: Bytes,
    written: Value,
    repetition: Repetition,
    is_of_election: bool,
}

/// Makes the call until it succeeds, it must not be repeated, or its time is over.
pub(super) async fn call(
    forwarder: &Forwarder,
    parts: Parts,
    body: Body,
    subject: &Subject,
) -> Result<Response, Refusal> {
    let asked_at = Instant::now();
    let is_of_election = match subject {
        Subject::Named(name) => *name == forwarder.election_config_map,
        Subject::Collection => false,
    };
    let _open = is_of_election.then(|| forwarder.leadership.call());
    let lane = if is_of_election {
        Lane::Election
    } else {
        Lane::Calls
    };
    let _permit = forwarder.budget.admit(lane).await?;
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        let message = format!("the request body is larger than {LARGEST_BODY} bytes, or was cut off");
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            message,
        ));
    };
    let written: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_of_election = is_of_election
        || (parts.method == Method::POST && written["metadata"]["name"] == *forwarder.election_config_map);
    let call = Call {
        forwarder,
        repetition: repetition(&parts, &written),
        parts,
        body,
        written,
        is_of_election,
    };
    let ended = call.make(asked_at).await;
    if let Ok(answer) = &ended
        && call.is_of_election
        && answer.status().is_success()
    {
        match call.parts.method {
            Method::GET => forwarder
                .leadership
                .read(&serde_json::from_slice(answer.body()).unwrap_or_default()),
            Method::DELETE => forwarder.leadership.removed(),
            _ => forwarder.leadership.wrote(&call.written, asked_at),
        }
    }
    call.told(ended)
}

impl Call<'_> {
    async fn make(&self, asked_at: Instant) -> Result<Answer, Failure> {
        let until = self.until(asked_at);
        let (mut pause, mut effect, mut attempts) = (SHORTEST_PAUSE, Effect::None, 0_u32);
        loop {
            attempts += 1;
            let limit = if attempts == 1 {
                // Also when there is no time for a second one.
                Instant::now() + FIRST_ATTEMPT
            } else {
                until
            };
            let failure = match self.attempt(limit).await {
                Ok(answer) if answer.status() == StatusCode::CONFLICT && effect == Effect::Unknown => {
                    return Ok(self.settled(answer, until).await);
                }
                Ok(answer) => match effect_of(answer.status()) {
                    None => return Ok(answer),
                    Some(_) => Failure::Refused(answer),
                },
                Err(failure) => failure,
            };
            let seen = failure.effect();
            if seen == Effect::Unknown {
                effect = Effect::Unknown;
            }
            let wait = failure
                .retry_after()
                .unwrap_or(Duration::ZERO)
                .max(jittered(pause));
            if !self.repetition.is_allowed_after(seen) || Instant::now() + wait >= until {
                return Err(failure);
            }
            let path = self.parts.uri.path();
            debug!(
                path,
                attempts,
                reason = failure.text(),
                "repeating a call of the JobManager"
            );
            sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Until when the call is repeated.
    fn until(&self, asked_at: Instant) -> Instant {
        let longest = asked_at + LONGEST_HOLD;
        if !self.is_of_election {
            return longest;
        }
        match self.forwarder.leadership.deadline() {
            // Not in the future when the leadership has lapsed: then the election decides what comes next.
            Some(deadline) => deadline.min(longest),
            None => longest.min(asked_at + self.forwarder.leadership.retry_period()),
        }
    }

    async fn attempt(&self, limit: Instant) -> Result<Answer, Failure> {
        let answer = self.attempt_once(limit).await?;
        // Nothing is done without authorization, so this repeats nothing.
        if answer.status() == StatusCode::UNAUTHORIZED && self.forwarder.renew_credentials() {
            return self.attempt_once(limit).await;
        }
        Ok(answer)
    }

    async fn attempt_once(&self, limit: Instant) -> Result<Answer, Failure> {
        let headers = headers::of_request(&self.parts.headers);
        let request = request(&self.parts, headers, Body::from(self.body.clone()));
        self.exchange(request, limit).await
    }

    async fn exchange(&self, request: http::Request<Body>, limit: Instant) -> Result<Answer, Failure> {
        let exchange = async {
            let answer = self.forwarder.api_server.send(request).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, LARGEST_BODY);
            let body = body.collect().await.map_err(NoAnswer::Lost)?;
            Ok(Answer::from_parts(head, body.to_bytes()))
        };
        match timeout_at(limit, exchange).await {
            Ok(answered) => answered.map_err(Failure::NoAnswer),
            Err(_) => Err(Failure::TooSlow),
        }
    }

    /// What a conflict means after an attempt of unknown effect: success, if that attempt is what the
    /// object holds now.
    async fn settled(&self, conflict: Answer, until: Instant) -> Answer {
        let mut read = request(
            &self.parts,
            headers::of_request(&self.parts.headers),
            Body::empty(),
        );
        *read.method_mut() = Method::GET;
        *read.uri_mut() = http::Uri::try_from(self.parts.uri.path()).unwrap_or_default();
        // The object is compared as text that we can read.
        read.headers_mut().remove(http::header::ACCEPT_ENCODING);
        match self.exchange(read, until).await {
            Ok(found) if found.status() == StatusCode::OK => {
                let stored: Value = serde_json::from_slice(found.body()).unwrap_or_default();
                let is_ours = has_taken_effect(&self.parts.method, &self.written, &stored);
                let path = self.parts.uri.path();
                debug!(path, is_ours, "a conflict after a lost answer is settled");
                if is_ours { found } else { conflict }
            }
            _ => conflict,
        }
    }

    /// What the JobManager is told.
    fn told(&self, ended: Result<Answer, Failure>) -> Result<Response, Refusal> {
        let failure = match ended {
            Ok(answer) => return Ok(passed_on(answer)),
            Err(failure) => failure,
        };
        let what = format!("{} {}", self.parts.method, self.parts.uri.path());
        let leads = || {
            let deadline = self.forwarder.leadership.deadline();
            deadline.is_some_and(|deadline| Instant::now() < deadline)
        };
        if self.is_of_election && !leads() {
            let reason = failure.text();
            // 5xx and 429 would be repeated by the client while its election waits.
            let message = format!("{what}: {reason}");
            return Err(Refusal::new(
                StatusCode::FAILED_DEPENDENCY,
                "ServiceUnavailable",
                message,
            ));
        }
        match failure {
            Failure::Refused(answer) => Ok(passed_on(answer)),
            Failure::NoAnswer(failure) => Err(unreachable_server(&what, &failure)),
            Failure::TooSlow => Err(Refusal::unavailable(format!("{what}: {}", failure.text()))),
        }
    }
}

impl Failure {
    fn effect(&self) -> Effect {
        match self {
            Self::Refused(answer) => effect_of(answer.status()).unwrap_or(Effect::Unknown),
            Self::NoAnswer(NoAnswer::NotSent(_)) => Effect::None,
            Self::NoAnswer(NoAnswer::Lost(_)) | Self::TooSlow => Effect::Unknown,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        let Self::Refused(answer) = self else { return None };
        let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
        text.trim().parse().ok().map(Duration::from_secs)
    }

    fn text(&self) -> String {
        match self {
            Self::Refused(answer) => format!("the API server answered {}", answer.status()),
            Self::NoAnswer(failure) => crate::driver::chain(failure),
            Self::TooSlow => "the API server did not answer in time".to_owned(),
        }
    }
}

fn passed_on(answer: Answer) -> Response {
    let (mut head, body) = answer.into_parts();
    head.headers = headers::of_answer(&head.headers);
    Response::from_parts(head, Body::from(body))
}

/// Somewhere between half of the pause and all of it, so that JobManagers do not come back in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}
