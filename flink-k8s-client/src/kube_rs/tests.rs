mod permissions;
mod watch;

use std::error::Error;
use std::time::Duration;

use flink_k8s_core::kube_client::{
    AccompanyingObject, ContainerRun, CreateObjectError, KubeClient, ObjectReference, Uid,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::KubeRsClient;

/// What the API server does with one request.
enum Answer {
    Json(u16, Value),
    /// A body that is not JSON, with a `Retry-After` header.
    Text(u16, &'static str, u32),
    /// The connection breaks.
    Broken,
    /// Nothing, ever.
    Silence,
}

/// A client whose API server expects exactly these requests, given as `METHOD path?query`, in this order.
/// The handle returns the bodies of the requests.
fn api_server(script: Vec<(&'static str, Answer)>) -> (KubeRsClient, JoinHandle<Vec<Value>>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let server = tokio::spawn(async move {
        let mut bodies = Vec::new();
        let mut unanswered = Vec::new();
        for (expected, answer) in script {
            let (request, respond) = handle.next_request().await.unwrap();
            let found = format!("{} {}", request.method(), request.uri());
            assert_eq!(found.trim_end_matches('?'), expected);
            let body = request.into_body().collect().await.unwrap().to_bytes();
            bodies.push(serde_json::from_slice(&body).unwrap_or(Value::Null));
            match answer {
                Answer::Json(code, json) => {
                    let body = Body::from(serde_json::to_vec(&json).unwrap());
                    respond.send_response(Response::builder().status(code).body(body).unwrap());
                }
                Answer::Text(code, text, seconds) => {
                    let answer = Response::builder().status(code).header("Retry-After", seconds);
                    respond.send_response(answer.body(Body::from(text.as_bytes().to_vec())).unwrap());
                }
                Answer::Broken => {
                    respond.send_error(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
                }
                Answer::Silence => unanswered.push(respond),
            }
        }
        if !unanswered.is_empty() {
            std::future::pending::<()>().await;
        }
        bodies
    });
    (
        KubeRsClient::new(Client::new(service, "default"), "team-a".parse().unwrap()),
        server,
    )
}

fn refusal(code: u16, reason: &str, message: &str) -> Answer {
    Answer::Json(
        code,
        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}),
    )
}

fn worker(owner: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
        "name": "orders-taskmanager-1-1",
        "uid": uid,
        "labels": {"app": "orders", "component": "taskmanager"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders", "uid": owner}],
    }})
}

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

fn chain(error: &dyn Error) -> String {
    let cause = error
        .source()
        .map(|cause| format!(": {}", chain(cause)))
        .unwrap_or_default();
    format!("{error}{cause}")
}

const PODS: &str = "/api/v1/namespaces/team-a/pods";

async fn creation_failure(answer: Answer) -> CreateObjectError {
    let (kube, _) = api_server(vec![("POST /api/v1/namespaces/team-a/pods", answer)]);
    kube.create_task_manager_pod(&pod(worker("owner", "")))
        .await
        .unwrap_err()
}

#[tokio::test]
async fn each_refusal_of_a_creation_has_its_own_error_and_words() {
    let exceeded = "pods \"orders-taskmanager-1-1\" is forbidden: exceeded quota: small, requested: pods=1";
    let quota = creation_failure(refusal(403, "Forbidden", exceeded)).await;
    assert!(matches!(quota, CreateObjectError::QuotaExhausted { .. }) && quota.is_transient());
    insta::assert_snapshot!(chain(&quota), @r#"the quota of the namespace leaves no room for Pod team-a/orders-taskmanager-1-1: pods "orders-taskmanager-1-1" is forbidden: exceeded quota: small, requested: pods=1"#);

    let forbidden = creation_failure(refusal(
        403,
        "Forbidden",
        "User \"me\" cannot create resource \"pods\"",
    ))
    .await;
    assert!(matches!(forbidden, CreateObjectError::Forbidden { .. }) && !forbidden.is_transient());
    insta::assert_snapshot!(chain(&forbidden), @r#"not allowed to create Pod team-a/orders-taskmanager-1-1: User "me" cannot create resource "pods""#);

    let invalid = creation_failure(refusal(422, "Invalid", "spec.containers: Required value")).await;
    assert!(matches!(invalid, CreateObjectError::Invalid { .. }) && !invalid.is_transient());
    insta::assert_snapshot!(chain(&invalid), @"the API server refuses Pod team-a/orders-taskmanager-1-1 as invalid: spec.containers: Required value");

    let missing = creation_failure(refusal(404, "NotFound", "namespaces \"team-a\" not found")).await;
    assert!(matches!(missing, CreateObjectError::Api { transient: false, .. }));
    insta::assert_snapshot!(chain(&missing), @r#"cannot create Pod team-a/orders-taskmanager-1-1: the API server answered 404 NotFound: namespaces "team-a" not found"#);

    let unknown = creation_failure(Answer::Text(404, "404 page not found\n", 0)).await;
    assert!(matches!(unknown, CreateObjectError::UnknownKind { .. }) && !unknown.is_transient());
    insta::assert_snapshot!(chain(&unknown), @"cannot create Pod team-a/orders-taskmanager-1-1: this Kubernetes has no Pod of v1");

    let unauthorized = creation_failure(refusal(401, "Unauthorized", "Unauthorized")).await;
    assert!(!unauthorized.is_transient());
    insta::assert_snapshot!(chain(&unauthorized), @"cannot create Pod team-a/orders-taskmanager-1-1: the API server answered 401 Unauthorized: Unauthorized");
}

#[tokio::test]
async fn a_namespace_that_has_no_service_account_yet_is_worth_a_retry() {
    let message = "pods \"x\" is forbidden: error looking up service account team-a/default: serviceaccount \"default\" not found";
    assert!(
        creation_failure(refusal(403, "Forbidden", message))
            .await
            .is_transient()
    );
    let own = message.replace("\"default\"", "\"flink\"");
    assert!(
        !creation_failure(refusal(403, "Forbidden", &own))
            .await
            .is_transient()
    );
}

#[tokio::test]
async fn a_conflict_in_the_quotas_bookkeeping_is_not_an_existing_object() {
    let message = "Operation cannot be fulfilled on resourcequotas \"small\": the object has been modified";
    let conflict = creation_failure(refusal(409, "Conflict", message)).await;
    assert!(
        matches!(conflict, CreateObjectError::Api { transient: true, .. }),
        "{conflict:?}"
    );
}

#[tokio::test]
async fn an_overloaded_api_server_says_how_long_to_wait() {
    let overloaded =
        creation_failure(Answer::Text(429, "Too many requests, please try again later.", 3)).await;
    let CreateObjectError::Api {
        transient: true,
        retry_after_seconds: Some(3),
        ..
    } = overloaded
    else {
        panic!("{overloaded:?}")
    };
    insta::assert_snapshot!(chain(&overloaded), @"cannot create Pod team-a/orders-taskmanager-1-1: the API server answered 429 Too Many Requests: Too many requests, please try again later.");
    let failed = creation_failure(refusal(500, "InternalError", "failed calling webhook \"policy\"")).await;
    assert!(failed.is_transient());
    insta::assert_snapshot!(chain(&failed), @r#"cannot create Pod team-a/orders-taskmanager-1-1: the API server answered 500 InternalError: failed calling webhook "policy""#);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_and_a_broken_connection_says_so() {
    let silent = creation_failure(Answer::Silence).await;
    assert!(silent.is_transient());
    insta::assert_snapshot!(chain(&silent), @"cannot create Pod team-a/orders-taskmanager-1-1: the API server did not answer within 30 seconds");
    let broken = creation_failure(Answer::Broken).await;
    assert!(broken.is_transient());
    insta::assert_snapshot!(chain(&broken), @"cannot create Pod team-a/orders-taskmanager-1-1: cannot reach the API server: connection reset");
}

#[tokio::test]
async fn a_pod_whose_creation_was_answered_into_the_void_counts_as_created() {
    let (kube, server) = api_server(vec![
        (
            "POST /api/v1/namespaces/team-a/pods",
            refusal(409, "AlreadyExists", "already exists"),
        ),
        (
            "GET /api/v1/namespaces/team-a/pods/orders-taskmanager-1-1",
            Answer::Json(200, worker("owner", "u1")),
        ),
    ]);
    let created = kube
        .create_task_manager_pod(&pod(worker("owner", "")))
        .await
        .unwrap();
    assert_eq!(created.metadata.uid.as_deref(), Some("u1"));
    server.await.unwrap();
}

#[tokio::test]
async fn a_pod_of_another_owner_is_in_the_way_and_is_named() {
    let (kube, _) = api_server(vec![
        (
            "POST /api/v1/namespaces/team-a/pods",
            refusal(409, "AlreadyExists", "already exists"),
        ),
        (
            "GET /api/v1/namespaces/team-a/pods/orders-taskmanager-1-1",
            Answer::Json(200, worker("stranger", "u1")),
        ),
    ]);
    let error = kube
        .create_task_manager_pod(&pod(worker("owner", "")))
        .await
        .unwrap_err();
    insta::assert_snapshot!(chain(&error), @"Pod team-a/orders-taskmanager-1-1 already exists");
}

#[tokio::test]
async fn a_pod_that_went_away_between_the_two_calls_is_created_after_all() {
    let (kube, server) = api_server(vec![
        (
            "POST /api/v1/namespaces/team-a/pods",
            refusal(409, "AlreadyExists", "already exists"),
        ),
        (
            "GET /api/v1/namespaces/team-a/pods/orders-taskmanager-1-1",
            refusal(404, "NotFound", "not found"),
        ),
        (
            "POST /api/v1/namespaces/team-a/pods",
            Answer::Json(201, worker("owner", "u2")),
        ),
    ]);
    let created = kube
        .create_task_manager_pod(&pod(worker("owner", "")))
        .await
        .unwrap();
    assert_eq!(created.metadata.uid.as_deref(), Some("u2"));
    server.await.unwrap();
}

#[tokio::test]
async fn an_accompanying_object_counts_as_created_only_with_the_same_owner() {
    let config_map = |owner: &str| {
        json!({"metadata": {
            "name": "flink-config-orders",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders", "uid": owner}],
        }})
    };
    let wanted: ConfigMap = serde_json::from_value(config_map("ours")).unwrap();
    let wanted = AccompanyingObject::ConfigMap(Box::new(wanted));
    let script = |owner| {
        vec![
            (
                "POST /api/v1/namespaces/team-a/configmaps",
                refusal(409, "AlreadyExists", "already exists"),
            ),
            (
                "GET /api/v1/namespaces/team-a/configmaps/flink-config-orders",
                Answer::Json(200, config_map(owner)),
            ),
        ]
    };
    let (kube, _) = api_server(script("ours"));
    kube.create_accompanying_object(&wanted).await.unwrap();
    let (kube, _) = api_server(script("theirs"));
    let error = kube.create_accompanying_object(&wanted).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"ConfigMap team-a/flink-config-orders already exists");
}

#[tokio::test]
async fn a_deletion_names_the_uid_and_leaves_a_successor_alone() {
    let delete = "DELETE /api/v1/namespaces/team-a/pods/orders-taskmanager-1-1";
    let get = "GET /api/v1/namespaces/team-a/pods/orders-taskmanager-1-1";
    let name = "orders-taskmanager-1-1".parse().unwrap();
    let conflict = || refusal(409, "Conflict", "the UID in the precondition (u1) does not match");
    let uid = Uid::new("u1");

    let (kube, server) = api_server(vec![(
        delete,
        Answer::Json(200, json!({"kind": "Status", "status": "Success"})),
    )]);
    kube.delete_pod(&name, &uid).await.unwrap();
    assert_eq!(server.await.unwrap(), [json!({"preconditions": {"uid": "u1"}})]);

    let (kube, server) = api_server(vec![(
        delete,
        Answer::Json(200, json!({"kind": "Status", "status": "Success"})),
    )]);
    kube.delete_pod_now(&name, &uid).await.unwrap();
    let at_once = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "u1"}});
    assert_eq!(server.await.unwrap(), [at_once]);

    let (kube, _) = api_server(vec![(delete, refusal(404, "NotFound", "not found"))]);
    kube.delete_pod(&name, &uid).await.unwrap();
    let (kube, _) = api_server(vec![
        (delete, conflict()),
        (get, Answer::Json(200, worker("owner", "u2"))),
    ]);
    kube.delete_pod(&name, &uid).await.unwrap();
    let (kube, _) = api_server(vec![
        (delete, conflict()),
        (get, refusal(404, "NotFound", "not found")),
    ]);
    kube.delete_pod(&name, &uid).await.unwrap();

    let (kube, _) = api_server(vec![
        (delete, conflict()),
        (get, Answer::Json(200, worker("owner", "u1"))),
    ]);
    let error = kube.delete_pod(&name, &uid).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cannot delete Pod team-a/orders-taskmanager-1-1: the API server answered 409 Conflict: the UID in the precondition (u1) does not match");
    let (kube, _) = api_server(vec![(
        delete,
        refusal(403, "Forbidden", "User \"me\" cannot delete"),
    )]);
    let error = kube.delete_pod(&name, &uid).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @r#"not allowed to delete Pod team-a/orders-taskmanager-1-1: User "me" cannot delete"#);
}

#[tokio::test]
async fn a_deployment_is_deleted_in_the_background_with_everything_it_owns() {
    let (kube, server) = api_server(vec![(
        "DELETE /apis/apps/v1/namespaces/team-a/deployments/orders",
        Answer::Json(200, json!({"kind": "Status", "status": "Success"})),
    )]);
    kube.delete_deployment(&"orders".parse().unwrap(), &Uid::new("u1"))
        .await
        .unwrap();
    let expected = json!({"propagationPolicy": "Background", "preconditions": {"uid": "u1"}});
    assert_eq!(server.await.unwrap(), [expected]);
}

#[tokio::test]
async fn reading_says_what_was_to_be_read_and_where() {
    let get = "GET /apis/apps/v1/namespaces/team-a/deployments/orders";
    let cluster_id = "orders".parse().unwrap();
    let (kube, _) = api_server(vec![(get, refusal(404, "NotFound", "not found"))]);
    assert_eq!(kube.find_deployment(&cluster_id).await.unwrap(), None);
    let (kube, _) = api_server(vec![(get, refusal(403, "Forbidden", "User \"me\" cannot get"))]);
    insta::assert_snapshot!(chain(&kube.find_deployment(&cluster_id).await.unwrap_err()), @r#"not allowed to read Deployment orders in namespace team-a: User "me" cannot get"#);
    let (kube, _) = api_server(vec![(get, Answer::Broken)]);
    let error = kube.find_deployment(&cluster_id).await.unwrap_err();
    assert!(error.is_transient());
    insta::assert_snapshot!(chain(&error), @"cannot read Deployment orders in namespace team-a: cannot reach the API server: connection reset");
    let (kube, _) = api_server(vec![(get, Answer::Json(200, json!([1, 2])))]);
    let error = kube.find_deployment(&cluster_id).await.unwrap_err();
    assert!(!error.is_transient());
    assert!(chain(&error).starts_with(
        "cannot read Deployment orders in namespace team-a: the API server's answer is not understood: "
    ));
}

#[tokio::test]
async fn the_log_is_that_of_the_main_container_and_the_run_that_is_asked_for() {
    let (kube, server) = api_server(vec![(
        "GET /api/v1/namespaces/team-a/pods/orders-1/log?&container=flink-main-container&previous=true&tailLines=20",
        Answer::Text(200, "one\ntwo\n", 0),
    )]);
    let log = kube
        .read_pod_log(&"orders-1".parse().unwrap(), ContainerRun::Previous, 20)
        .await
        .unwrap();
    assert_eq!(log, "one\ntwo\n");
    server.await.unwrap();
}

/// Answers every request at once, by its path: for calls whose order is not fixed.
fn api_server_by_path(answer: impl Fn(&str) -> Answer + Send + 'static) -> KubeRsClient {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    tokio::spawn(async move {
        while let Some((request, respond)) = handle.next_request().await {
            let Answer::Json(code, json) = answer(request.uri().path()) else {
                panic!("only JSON here")
            };
            let body = Body::from(serde_json::to_vec(&json).unwrap());
            respond.send_response(Response::builder().status(code).body(body).unwrap());
        }
    });
    KubeRsClient::new(Client::new(service, "default"), "team-a".parse().unwrap())
}

#[tokio::test]
async fn the_objects_of_a_cluster_are_found_by_label_and_by_name_without_rights_on_secrets() {
    let kube = api_server_by_path(|path| {
        let list = |names: &[&str]| {
            let items: Vec<Value> = names
                .iter()
                .map(|name| json!({"metadata": {"name": name}}))
                .collect();
            Answer::Json(200, json!({"metadata": {"resourceVersion": "5"}, "items": items}))
        };
        match path {
            "/apis/apps/v1/namespaces/team-a/deployments" | PODS => list(&["orders"]),
            "/apis/apps/v1/namespaces/team-a/replicasets" => refusal(403, "Forbidden", "no"),
            "/api/v1/namespaces/team-a/services" => list(&[]),
            "/api/v1/namespaces/team-a/configmaps" => {
                list(&["flink-config-orders", "orders-cluster-config-map"])
            }
            // Not labelled, but it has a name that the cluster needs.
            "/api/v1/namespaces/team-a/services/orders-rest" => {
                Answer::Json(200, json!({"metadata": {"name": "orders-rest"}}))
            }
            secret if secret.contains("/secrets/") => refusal(403, "Forbidden", "no"),
            _ => refusal(404, "NotFound", "not found"),
        }
    });
    let objects = kube
        .list_cluster_objects(&"orders".parse().unwrap())
        .await
        .unwrap();
    let objects: Vec<String> = objects.iter().map(ObjectReference::to_string).collect();
    insta::assert_debug_snapshot!(objects, @r#"
[
    "Deployment team-a/orders",
    "Pod team-a/orders",
    "Service team-a/orders-rest",
    "ConfigMap team-a/flink-config-orders",
    "ConfigMap team-a/orders-cluster-config-map",
]
"#);
}

#[tokio::test]
async fn objects_that_must_be_readable_are_named_when_they_are_not() {
    let kube = api_server_by_path(|path| match path {
        "/api/v1/namespaces/team-a/services" => refusal(403, "Forbidden", "User \"me\" cannot list services"),
        path if path.ends_with('s') => Answer::Json(200, json!({"metadata": {}, "items": []})),
        _ => refusal(404, "NotFound", "not found"),
    });
    let error = kube
        .list_cluster_objects(&"orders".parse().unwrap())
        .await
        .unwrap_err();
    insta::assert_snapshot!(chain(&error), @r#"not allowed to read Services in namespace team-a: User "me" cannot list services"#);
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_files_of_a_cluster_are_read_back_from_its_config_maps() {
    let kube = api_server_by_path(|path| {
        let data = |data: Value| Answer::Json(200, json!({"metadata": {"name": "x"}, "data": data}));
        match path.rsplit('/').next().unwrap() {
            "flink-config-orders" => {
                data(json!({"config.yaml": "rest:\n  port: 9090\n", "log4j-console.properties": ""}))
            }
            "pod-template-orders" => data(json!({"taskmanager-pod-template.yaml": "spec: {}\n"})),
            "flink-config-broken" => data(json!({"config.yaml": "a: ["})),
            _ => refusal(404, "NotFound", "not found"),
        }
    });
    let files = kube
        .shipped_files(&"orders".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(files.configuration.setting("rest.port").unwrap().text, "9090");
    assert_eq!(
        files.configuration_files,
        ["config.yaml", "log4j-console.properties"]
    );
    assert_eq!(files.task_manager_pod_template.as_deref(), Some("spec: {}\n"));
    assert!(files.hadoop_files.is_empty());
    assert_eq!(kube.shipped_files(&"none".parse().unwrap()).await.unwrap(), None);
    let error = kube.shipped_files(&"broken".parse().unwrap()).await.unwrap_err();
    assert!(
        chain(&error).starts_with("cannot understand config.yaml in ConfigMap flink-config-broken: "),
        "{error}"
    );
}
