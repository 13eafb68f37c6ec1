//! The calls by which JobManagers elect their leader, through an API server that fails now and then.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use flink_k8s_rm::endpoint::LeaderElectionTimes;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::endpoint::JobManager;
use crate::forwarding::{CONFIG_MAP, api_server, json_answer, nobody};

const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";
const OF_A_JOB: &str = "/api/v1/namespaces/default/configmaps/nat1-0123-config-map";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// What the API server does with the next request.
#[derive(Clone, Copy, Debug)]
enum Next {
    Answers(u16),
    AsksToWait,
    /// It does what it was asked, and the answer is cut off.
    LosesTheAnswer,
    /// It does what it was asked, another writes after that, and the answer is cut off.
    IsOvertaken,
}

/// An API server that keeps one ConfigMap and fails as scripted.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    object: Value,
    script: Vec<Next>,
    always: Option<u16>,
    asked: Vec<(String, Instant)>,
}

impl Store {
    fn new(script: &[Next]) -> Self {
        let store = Self::default();
        let mut state = store.0.lock().unwrap();
        state.version = 7;
        state.object = json!({"metadata": {"name": "nat1-cluster-config-map", "resourceVersion": "7"}});
        state.script = script.iter().rev().copied().collect();
        drop(state);
        store
    }

    /// Every request from now on gets this status.
    fn fail(&self, status: Option<u16>) {
        self.0.lock().unwrap().always = status;
    }

    /// The methods of the requests so far.
    fn asked(&self) -> String {
        let state = self.0.lock().unwrap();
        let methods: Vec<&str> = state.asked.iter().map(|(method, _)| method.as_str()).collect();
        methods.join(" ")
    }

    fn last_asked(&self) -> Instant {
        self.0.lock().unwrap().asked.last().unwrap().1
    }

    async fn job_manager(&self, times: LeaderElectionTimes) -> JobManager {
        let store = self.clone();
        let forward = api_server(move |request| store.clone().answer(request)).await;
        JobManager::start_with(Some(forward), times).await
    }

    async fn answer(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut state = self.0.lock().unwrap();
        state.asked.push((parts.method.to_string(), Instant::now()));
        let next = state.always.map(Next::Answers).or_else(|| state.script.pop());
        match next {
            None => {
                let (status, object) = state.carry_out(&parts.method, &body);
                json_answer(status, &object)
            }
            Some(Next::Answers(status)) => json_answer(StatusCode::from_u16(status).unwrap(), &json!({})),
            Some(Next::AsksToWait) => {
                let mut answer = json_answer(StatusCode::TOO_MANY_REQUESTS, &json!({}));
                answer
                    .headers_mut()
                    .insert(header::RETRY_AFTER, "1".parse().unwrap());
                answer
            }
            Some(Next::LosesTheAnswer) => {
                state.carry_out(&parts.method, &body);
                cut_off()
            }
            Some(Next::IsOvertaken) => {
                state.carry_out(&parts.method, &body);
                state.version += 1;
                state.object["data"] = json!({"written-by": "another"});
                cut_off()
            }
        }
    }
}

impl State {
    fn carry_out(&mut self, method: &Method, body: &Value) -> (StatusCode, Value) {
        if *method != Method::GET {
            let expected = body["metadata"]["resourceVersion"].as_str();
            if expected.is_some_and(|version| version != self.version.to_string()) {
                return (StatusCode::CONFLICT, json!({"reason": "Conflict"}));
            }
            self.version += 1;
            self.object = body.clone();
        }
        self.object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        (StatusCode::OK, self.object.clone())
    }
}

fn cut_off() -> Response {
    let pieces = stream::iter([Ok(Bytes::from_static(b"{\"kind\":")), Err("cut off")]);
    Response::new(Body::from_stream(
        pieces.chain(stream::pending::<Result<_, &str>>()),
    ))
}

fn record(renewed: &str) -> String {
    json!({"holderIdentity": "me", "leaseDuration": 15.0, "renewTime": renewed}).to_string()
}

fn renewal(version: &str, renewed: &str) -> String {
    let metadata = json!({"name": "nat1-cluster-config-map", "resourceVersion": version,
        "annotations": {LEADER: record(renewed)}});
    json!({"metadata": metadata}).to_string()
}

async fn patch(job_manager: &JobManager, body: String) -> reqwest::Response {
    let request = job_manager
        .http
        .patch(format!("http://{}{CONFIG_MAP}", job_manager.address))
        .bearer_auth(&job_manager.token)
        .header("content-type", "application/merge-patch+json; charset=utf-8");
    request.body(body).send().await.unwrap()
}

/// Times of an election that a test can wait for.
fn short() -> LeaderElectionTimes {
    LeaderElectionTimes {
        lease_duration: Duration::from_secs(2),
        renew_deadline: Duration::from_secs(2),
        retry_period: Duration::from_millis(600),
    }
}

#[tokio::test]
async fn reads_and_versioned_writes_outlive_failures_that_pass() {
    let failures = [Next::Answers(503), Next::AsksToWait, Next::Answers(500)];
    let store = Store::new(&failures);
    let job_manager = store.job_manager(LeaderElectionTimes::default()).await;
    let began = Instant::now();
    assert_eq!(
        job_manager.send(Method::GET, CONFIG_MAP, None).await.status(),
        StatusCode::OK
    );
    assert_eq!(store.asked(), "GET GET GET GET");
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "Retry-After was not heeded"
    );

    let store = Store::new(&failures);
    let job_manager = store.job_manager(LeaderElectionTimes::default()).await;
    let answer = patch(&job_manager, renewal("7", "first")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let stored: Value = answer.json().await.unwrap();
    assert_eq!(stored["metadata"]["resourceVersion"], "8", "it was written once");
    assert_eq!(store.asked(), "PATCH PATCH PATCH PATCH");
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_succeeds_once() {
    let store = Store::new(&[Next::LosesTheAnswer]);
    let job_manager = store.job_manager(LeaderElectionTimes::default()).await;
    let answer = patch(&job_manager, renewal("7", "first")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let stored: Value = answer.json().await.unwrap();
    assert_eq!(stored["metadata"]["resourceVersion"], "8");
    assert_eq!(stored["metadata"]["annotations"][LEADER], record("first"));
    assert_eq!(store.asked(), "PATCH PATCH GET");
    assert_eq!(
        patch(&job_manager, renewal("8", "second")).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_lost_answer_is_a_conflict_when_another_wrote_meanwhile() {
    let store = Store::new(&[Next::IsOvertaken]);
    let job_manager = store.job_manager(LeaderElectionTimes::default()).await;
    let body = json!({"metadata": {"resourceVersion": "7"}, "data": {"written-by": "me"}});
    let answer = job_manager
        .send(Method::PUT, CONFIG_MAP, Some(body.to_string()))
        .await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert_eq!(answer.json::<Value>().await.unwrap()["reason"], "Conflict");
    assert_eq!(store.asked(), "PUT PUT GET");
}

#[tokio::test]
async fn an_ordinary_conflict_is_passed_on_at_once() {
    let store = Store::new(&[]);
    let job_manager = store.job_manager(LeaderElectionTimes::default()).await;
    assert_eq!(
        patch(&job_manager, renewal("6", "first")).await.status(),
        StatusCode::CONFLICT
    );
    assert_eq!(store.asked(), "PATCH");
}

#[tokio::test]
async fn what_could_undo_the_work_of_others_is_not_repeated_in_doubt() {
    for (method, path, body) in [
        (
            Method::POST,
            COLLECTION,
            json!({"metadata": {"name": "nat1-0123-config-map"}}),
        ),
        (
            Method::PUT,
            OF_A_JOB,
            json!({"metadata": {"name": "nat1-0123-config-map"}}),
        ),
        (Method::DELETE, OF_A_JOB, json!({"kind": "DeleteOptions"})),
    ] {
        let store = Store::new(&[Next::Answers(503)]);
        let job_manager = store.job_manager(LeaderElectionTimes::default()).await;
        let answer = job_manager
            .send(method.clone(), path, Some(body.to_string()))
            .await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(store.asked(), method.as_str());

        let store = Store::new(&[Next::AsksToWait]);
        let job_manager = store.job_manager(LeaderElectionTimes::default()).await;
        let answer = job_manager
            .send(method.clone(), path, Some(body.to_string()))
            .await;
        assert_eq!(answer.status(), StatusCode::OK, "429 is not a doubt");
        assert_eq!(store.asked(), format!("{method} {method}"));
    }
}

#[tokio::test]
async fn a_renewal_is_repeated_until_the_leader_has_to_give_up_and_not_longer() {
    let store = Store::new(&[]);
    let job_manager = store.job_manager(short()).await;
    let led_from = Instant::now();
    assert_eq!(
        patch(&job_manager, renewal("7", "first")).await.status(),
        StatusCode::OK
    );
    let renewed = Instant::now();
    store.fail(Some(503));
    let answer = patch(&job_manager, renewal("8", "second")).await;
    // Its client does not repeat this, so the election notices that its deadline has passed.
    let status = answer.status();
    assert!(
        status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::FAILED_DEPENDENCY,
        "{status}"
    );
    assert!(
        store.asked().len() > "PATCH PATCH PATCH PATCH".len(),
        "{}",
        store.asked()
    );
    assert!(
        store.last_asked() <= renewed + short().renew_deadline,
        "repeated for {:?}",
        store.last_asked() - led_from
    );

    tokio::time::sleep_until(renewed + short().renew_deadline).await;
    let before = store.asked();
    let answer = patch(&job_manager, renewal("8", "third")).await;
    assert_eq!(answer.status(), StatusCode::FAILED_DEPENDENCY);
    assert_eq!(
        answer.json::<Value>().await.unwrap()["message"],
        format!("PATCH {CONFIG_MAP}: the API server answered 503 Service Unavailable")
    );
    assert_eq!(store.asked(), format!("{before} PATCH"), "once, and no more");

    store.fail(None);
    assert_eq!(
        patch(&job_manager, renewal("8", "fourth")).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_candidate_is_answered_within_its_retry_period_and_a_jobs_data_waits_longer() {
    let job_manager = JobManager::start_with(Some(nobody().await), short()).await;
    let began = Instant::now();
    let answer = job_manager.send(Method::GET, CONFIG_MAP, None).await;
    assert_eq!(answer.status(), StatusCode::FAILED_DEPENDENCY);
    let took = began.elapsed();
    assert!(took < short().retry_period * 3, "{took:?}");

    let store = Store::new(&[]);
    store.fail(Some(503));
    let job_manager = store.job_manager(short()).await;
    let began = Instant::now();
    let answer = job_manager.send(Method::GET, OF_A_JOB, None).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let took = began.elapsed();
    assert!(
        took > short().renew_deadline * 2 && took < Duration::from_secs(10),
        "{took:?}"
    );
}

#[tokio::test]
async fn an_object_that_is_too_large_is_refused_as_by_an_api_server() {
    async fn unused(_: Request) -> Response {
        Response::new(Body::from_stream(stream::empty::<Result<Bytes, Infallible>>()))
    }
    let job_manager = JobManager::start(Some(api_server(unused).await)).await;
    let body = "x".repeat(4 << 20);
    let answer = job_manager.send(Method::PUT, CONFIG_MAP, Some(body)).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
