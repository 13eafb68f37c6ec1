use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wiremock::matchers::{header_exists, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::rest_client::serialized_graph;

const JOB: &str = "8099c1d8e3a2b4f50617283940a1b2c3";
const JOBS: &str = "/v1/jobs";

fn job_id() -> JobId {
    JOB.parse().unwrap()
}

/// What Flink's client makes of a job: the important part of it.
fn submission() -> Vec<u8> {
    let id = u128::from_str_radix(JOB, 16).unwrap().to_be_bytes();
    serialized_graph(id, 100_000)
}

/// A listener, and the JVM that is to submit its jobs there.
struct Jvm {
    listener: SubmissionListener,
    http: Client,
}

impl Jvm {
    async fn of(cluster: &str) -> Self {
        let rest = RestClient::new(cluster.parse().unwrap()).unwrap();
        Self {
            listener: SubmissionListener::bind(rest).await.unwrap(),
            http: Client::builder().no_proxy().build().unwrap(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.listener.port())
    }

    fn with_token(&self, request: RequestBuilder) -> RequestBuilder {
        let headers = self.listener.client_headers();
        let (name, value) = headers.split_once(':').unwrap();
        request.header(name, value)
    }

    async fn submit(&self) -> (StatusCode, Value) {
        let request = self.http.post(self.url(JOBS)).body(submission());
        let answer = self.with_token(request).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    fn submitted(&self) -> Vec<JobId> {
        self.listener.submitted().borrow().clone()
    }
}

fn duplicate() -> ResponseTemplate {
    let message =
        "org.apache.flink.runtime.client.DuplicateJobSubmissionException: Job has already been submitted.";
    ResponseTemplate::new(500).set_body_json(json!({"errors": [message]}))
}

async fn serve(server: &MockServer, verb: &str, at: &str, answer: ResponseTemplate) {
    let mock = Mock::given(method(verb)).and(path(at)).respond_with(answer);
    mock.mount(server).await;
}

/// A cluster that reads the first submission to its end and then hangs up, as it does when its connection breaks; to
/// all later requests it says this.
async fn hangs_up_once(then: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let is_whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request);
                let has_head = text.contains("\r\n\r\n");
                has_head && (!text.to_lowercase().contains("chunked") || text.ends_with("\r\n0\r\n\r\n"))
            };
            while !is_whole(&request) {
                connection.read_buf(&mut request).await.unwrap();
            }
            if counted.fetch_add(1, Ordering::SeqCst) > 0 {
                connection.write_all(then.as_bytes()).await.unwrap();
            }
        }
    });
    (format!("http://{address}"), requests)
}

#[tokio::test]
async fn whoever_has_no_token_is_refused_and_the_cluster_hears_nothing_of_it() {
    let server = MockServer::start().await;
    let jvm = Jvm::of(&server.uri()).await;
    for wrong in [None, Some(""), Some("0"), Some(&"0".repeat(64))] {
        let mut request = jvm.http.get(jvm.url("/v1/config"));
        if let Some(wrong) = wrong {
            request = request.header(TOKEN_HEADER, wrong);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{wrong:?}");
    }
    let elsewhere = jvm.with_token(jvm.http.get(jvm.url("/taskmanagers")));
    assert_eq!(elsewhere.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(server.received_requests().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_submission_goes_on_as_it_is_and_its_job_is_known_here() {
    let server = MockServer::start().await;
    let accepted = json!({"jobUrl": format!("/jobs/{JOB}")});
    serve(
        &server,
        "POST",
        JOBS,
        ResponseTemplate::new(202).set_body_json(&accepted),
    )
    .await;
    let jvm = Jvm::of(&server.uri()).await;
    let request = jvm.http.post(jvm.url(JOBS)).body(submission());
    let request = request.header("content-type", "multipart/form-data; boundary=x");
    let answer = jvm.with_token(request).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(answer.json::<Value>().await.unwrap(), accepted);
    assert_eq!(jvm.submitted(), [job_id()]);

    let received = &server.received_requests().await.unwrap()[0];
    assert_eq!(received.body, submission());
    assert_eq!(
        received.headers["content-type"],
        "multipart/form-data; boundary=x"
    );
    assert!(
        received.headers.get(TOKEN_HEADER).is_none(),
        "the token is between the JVM and us"
    );
}

#[tokio::test]
async fn other_requests_reach_the_cluster_and_so_do_its_answers() {
    let server = MockServer::start().await;
    let state = ResponseTemplate::new(404).set_body_json(json!({"errors": ["no such job"]}));
    serve(&server, "GET", "/v1/jobs/x/status", state).await;
    Mock::given(method("PATCH"))
        .and(path("/v1/jobs/x"))
        .and(wiremock::matchers::query_param("mode", "cancel"))
        .and(wiremock::matchers::body_string("{}"))
        .and(header_exists("content-type"))
        .respond_with(ResponseTemplate::new(202).set_body_json(json!({})))
        .mount(&server)
        .await;
    let jvm = Jvm::of(&server.uri()).await;
    let asked = jvm
        .with_token(jvm.http.get(jvm.url("/v1/jobs/x/status")))
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), StatusCode::NOT_FOUND);
    assert_eq!(asked.text().await.unwrap(), r#"{"errors":["no such job"]}"#);
    let cancelled = jvm.http.patch(jvm.url("/v1/jobs/x?mode=cancel"));
    let cancelled = cancelled.header("content-type", "application/json").body("{}");
    let answer = jvm.with_token(cancelled).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_refusal_is_passed_on_and_a_job_that_others_submitted_is_none_of_ours() {
    let server = MockServer::start().await;
    serve(&server, "POST", JOBS, duplicate()).await;
    let jvm = Jvm::of(&server.uri()).await;
    for _ in 0..2 {
        let (status, answer) = jvm.submit().await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(
            answer.to_string().contains("DuplicateJobSubmissionException"),
            "{answer}"
        );
    }
    assert_eq!(jvm.submitted(), []);
}

#[tokio::test]
async fn a_gateway_that_lets_nobody_in_is_explained_in_a_form_that_flink_understands() {
    let server = MockServer::start().await;
    let page = ResponseTemplate::new(401).set_body_string("<html>log in</html>");
    serve(&server, "POST", JOBS, page).await;
    let jvm = Jvm::of(&server.uri()).await;
    let (status, answer) = jvm.submit().await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        answer["errors"][0]
            .as_str()
            .unwrap()
            .contains("wants credentials"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_the_cluster_took_before_the_connection_broke_is_no_duplicate_when_it_is_repeated() {
    let refusal = "HTTP/1.1 500 x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 81\r\n\r\n\
                   {\"errors\":[\"org.apache.flink.runtime.client.DuplicateJobSubmissionException: x\"]}";
    let (cluster, requests) = hangs_up_once(refusal).await;
    let jvm = Jvm::of(&cluster).await;
    // As unavailable, so that Flink's client repeats it.
    let (status, answer) = jvm.submit().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    assert_eq!(jvm.submitted(), []);
    let (status, answer) = jvm.submit().await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    assert_eq!(answer, json!({"jobUrl": format!("/jobs/{JOB}")}));
    assert_eq!(jvm.submitted(), [job_id()]);
    // The second is the question whether the cluster has the job.
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_job_that_runs_although_its_submission_was_not_answered_is_not_sent_again() {
    let (cluster, requests) = hangs_up_once(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 20\r\n\r\n\
         {\"status\":\"RUNNING\"}",
    )
    .await;
    let jvm = Jvm::of(&cluster).await;
    let (status, _) = jvm.submit().await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(jvm.submitted(), [job_id()]);
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_tried_again_also_where_flink_says_so_in_another_way() {
    let server = MockServer::start().await;
    let fenced = json!({"errors": ["org.apache.flink.runtime.rpc.exceptions.FencingTokenException: x"]});
    serve(
        &server,
        "POST",
        JOBS,
        ResponseTemplate::new(500).set_body_json(fenced),
    )
    .await;
    let missing = ResponseTemplate::new(404).set_body_json(json!({"errors": ["Job not found"]}));
    serve(&server, "GET", &format!("/v1/jobs/{JOB}/status"), missing).await;
    let jvm = Jvm::of(&server.uri()).await;
    let (status, answer) = jvm.submit().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.to_string().contains("FencingTokenException"), "{answer}");
}

#[tokio::test]
async fn the_port_closes_with_the_listener() {
    let server = MockServer::start().await;
    let jvm = Jvm::of(&server.uri()).await;
    let (url, http) = (jvm.url("/v1/config"), jvm.http.clone());
    drop(jvm);
    let closed = async {
        while http.get(&url).send().await.is_ok() {
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    time::timeout(Duration::from_secs(60), closed).await.unwrap();
}
