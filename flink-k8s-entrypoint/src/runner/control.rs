//! The HTTP side of a runner: who may give orders, and in which form.

use std::fmt;
use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use flink_k8s_rm::bearer_token::BearerToken;
use flink_k8s_rm::runner_client::{Assignment, FreezeDecision, FreezeId, JavaState, Refusal, RunnerState};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::java_process::JavaProcess;

/// What an order comes to.
pub(super) type Answer = Result<RunnerState, Problem>;

/// Something that the resource manager wants, and where the answer goes.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) kind: OrderKind,
    reply: oneshot::Sender<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OrderKind {
    State,
    Freeze,
    Thaw(FreezeId),
    Release(FreezeId),
    Assign(Assignment),
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It does not fit what the JVM does.
    Conflict(String),
    /// It cannot be understood.
    Invalid(String),
    /// The system did not do it.
    Failed(String),
}

impl Order {
    /// Answers the order; whoever gave it may be gone.
    pub(super) fn answer(self, answer: Answer) {
        let _ = self.reply.send(answer);
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(message) | Self::Invalid(message) | Self::Failed(message) => {
                formatter.write_str(message)
            }
        }
    }
}

/// The state of a spare that waits.
pub(super) fn unassigned() -> RunnerState {
    RunnerState {
        java: JavaState::NotStarted,
        pid: None,
        freeze: None,
        thaws_in_millis: None,
        assignment: None,
    }
}

/// The state of a spare that has just become a TaskManager.
pub(super) fn running(java: &JavaProcess, assignment: &Assignment) -> RunnerState {
    RunnerState {
        java: JavaState::Running,
        pid: u32::try_from(java.pid().as_raw()).ok(),
        assignment: Some(assignment.id.clone()),
        ..unassigned()
    }
}

/// Takes orders until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    token: BearerToken,
    orders: mpsc::Sender<Order>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let desk = Arc::new(Desk { token, orders });
    let router = Router::new()
        .route("/state", get(state))
        .route("/freeze", post(freeze))
        .route("/thaw", post(thaw))
        .route("/release", post(release))
        .route("/assign", post(assign))
        .with_state(desk);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// Where orders come in.
struct Desk {
    token: BearerToken,
    orders: mpsc::Sender<Order>,
}

type Shared = State<Arc<Desk>>;

async fn state(State(desk): Shared, headers: HeaderMap) -> Response {
    desk.take(&headers, Ok(OrderKind::State)).await
}

async fn freeze(State(desk): Shared, headers: HeaderMap) -> Response {
    desk.take(&headers, Ok(OrderKind::Freeze)).await
}

async fn thaw(State(desk): Shared, headers: HeaderMap, body: String) -> Response {
    let order = parsed(&body).map(|decision: FreezeDecision| OrderKind::Thaw(decision.freeze));
    desk.take(&headers, order).await
}

async fn release(State(desk): Shared, headers: HeaderMap, body: String) -> Response {
    let order = parsed(&body).map(|decision: FreezeDecision| OrderKind::Release(decision.freeze));
    desk.take(&headers, order).await
}

async fn assign(State(desk): Shared, headers: HeaderMap, body: String) -> Response {
    desk.take(&headers, parsed(&body).map(OrderKind::Assign)).await
}

fn parsed<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, Problem> {
    serde_json::from_str(body).map_err(|error| Problem::Invalid(format!("the order is malformed: {error}")))
}

impl Desk {
    /// Checks the token before anything else, then waits for what comes of the order.
    async fn take(&self, headers: &HeaderMap, kind: Result<OrderKind, Problem>) -> Response {
        if !self.token.authorizes(headers) {
            return refusal(
                StatusCode::UNAUTHORIZED,
                "the token is missing or wrong".to_owned(),
            );
        }
        let answer = match kind {
            Ok(kind) => self.carried_out(kind).await,
            Err(problem) => Err(problem),
        };
        match answer {
            Ok(state) => Json(state).into_response(),
            Err(Problem::Conflict(message)) => refusal(StatusCode::CONFLICT, message),
            Err(Problem::Invalid(message)) => refusal(StatusCode::UNPROCESSABLE_ENTITY, message),
            Err(Problem::Failed(message)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }

    async fn carried_out(&self, kind: OrderKind) -> Answer {
        let ended = || Problem::Conflict("the JVM has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        let order = Order { kind, reply };
        self.orders.send(order).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

fn refusal(status: StatusCode, error: String) -> Response {
    (status, Json(Refusal { error })).into_response()
}
