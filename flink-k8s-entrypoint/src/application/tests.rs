//! The end of a job, with a Kubernetes that is a mock and a Flink that is a few answers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use axum::Router;
use axum::routing::{any, get};
use flink_k8s_core::configuration::Origin;
use flink_k8s_core::kube_client::{AnnotateError, DeleteError, MockKubeClient, ReadError};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::*;

const JOB_ID: &str = "8099c1d8e3a2b4f50617283940a1b2c3";

/// The calls that changed something, and what they wrote.
type Calls = Arc<Mutex<Vec<String>>>;

fn kube(calls: &Calls) -> MockKubeClient {
    let mut kube = MockKubeClient::new();
    let written = Arc::clone(calls);
    kube.expect_annotate_deployment()
        .returning(move |_, uid, annotations| {
            written.lock().unwrap().push(format!("{uid} {annotations:?}"));
            Ok(())
        });
    let deleted = Arc::clone(calls);
    kube.expect_delete_deployment().returning(move |_, uid| {
        deleted.lock().unwrap().push(format!("delete {uid}"));
        Ok(())
    });
    kube.expect_find_deployment()
        .returning(|_| Ok(Some(deployment(BTreeMap::new()))));
    kube
}

fn life_cycle(kube: MockKubeClient, on_finish: OnFinish) -> LifeCycle {
    LifeCycle {
        kube: Arc::new(kube),
        cluster_id: "orders".parse().unwrap(),
        job_id: JOB_ID.parse().unwrap(),
        on_finish,
        results: None,
        unwritten: Arc::default(),
    }
}

fn outcome(ended: i64) -> ApplicationOutcome {
    ApplicationOutcome::new(JOB_ID.parse().unwrap(), "FINISHED", ended)
}

fn deployment(annotations: BTreeMap<String, String>) -> Deployment {
    let mut deployment = Deployment::default();
    deployment.metadata.uid = Some("u1".to_owned());
    deployment.metadata.annotations = Some(annotations);
    deployment
}

/// A Flink whose job failed.
async fn flink() -> RestClient {
    flink_with_end(1_700_000_000_000).await
}

/// A Flink whose job failed, and which says that it ended then.
async fn flink_with_end(end_time: i64) -> RestClient {
    flink_k8s_client::install_crypto_provider();
    let job = format!("/v1/jobs/{JOB_ID}");
    let result = json!({
        "status": {"id": "COMPLETED"},
        "job-execution-result": {
            "id": JOB_ID,
            "application-status": "FAILED",
            "net-runtime": 1,
            "failure-cause": {
                "class": "java.lang.RuntimeException",
                "stack-trace": "java.lang.RuntimeException: outer\n\tat a.B\nCaused by: java.io.IOException: no such file\n\tat c.D",
            },
        },
    });
    let details = json!({
        "jid": JOB_ID, "name": "orders", "state": "FAILED",
        "start-time": 1, "end-time": end_time, "duration": 1,
    });
    let looks = Arc::new(Mutex::new(0));
    let threads = get(move || async move {
        let mut looks = looks.lock().unwrap();
        *looks += 1;
        let method = if *looks < 3 {
            "X.runApplicationEntryPoint(X.java:1)"
        } else {
            "X.idle(X.java:2)"
        };
        json!({"threadInfos": [{"threadName": "t", "stringifiedThreadInfo": format!("\"t\"\n\tat {method}\n")}]}).to_string()
    });
    let answer = |body: serde_json::Value| get(move || async move { body.to_string() });
    let router = Router::new()
        .route(&format!("{job}/status"), answer(json!({"status": "FAILED"})))
        .route("/v1/jobmanager/thread-dump", threads)
        .route(&job, answer(details))
        .route(&format!("{job}/execution-result"), answer(result))
        .fallback(any(|| async { axum::http::StatusCode::NOT_FOUND }));
    served(router).await
}

/// A client of these answers.
async fn served(router: Router) -> RestClient {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    RestClient::new(format!("http://{address}/").parse().unwrap()).unwrap()
}

#[tokio::test]
async fn how_the_job_ended_is_written_down_with_the_reason() {
    let calls = Calls::default();
    let life_cycle = life_cycle(kube(&calls), OnFinish::Keep);
    life_cycle.finish(Uid::new("u1"), flink().await).await;
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), 1, "a cluster that is kept is not deleted: {calls:?}");
    for part in [
        "u1 ",
        r#""flink-k8s/job-state": "FAILED""#,
        r#""flink-k8s/job-ended": "1700000000000""#,
        r#""flink-k8s/job-failure": "java.io.IOException: no such file""#,
    ] {
        assert!(calls[0].contains(part), "{part} is not in {}", calls[0]);
    }
}

#[tokio::test]
async fn a_job_whose_end_flink_does_not_know_yet_ended_just_now() {
    let calls = Calls::default();
    let life_cycle = life_cycle(kube(&calls), OnFinish::Keep);
    let before = milliseconds_now();
    life_cycle.finish(Uid::new("u1"), flink_with_end(-1).await).await;
    let calls = calls.lock().unwrap();
    let (_, rest) = calls[0].split_once(r#""flink-k8s/job-ended": ""#).unwrap();
    let ended: i64 = rest.split('"').next().unwrap().parse().unwrap();
    assert!((before..=milliseconds_now()).contains(&ended), "{ended}");
}

#[tokio::test]
async fn a_job_that_flink_does_not_run_again_ended_as_its_results_say() {
    flink_k8s_client::install_crypto_provider();
    let directory = tempfile::tempdir().unwrap();
    let result = r#"{"result":{"application-status":"CANCELED"},"version":1}"#;
    std::fs::write(directory.path().join(format!("{JOB_ID}.json")), result).unwrap();
    for (path, expected) in [
        (format!("file://{}", directory.path().display()), "CANCELED"),
        ("s3://bucket/results".to_owned(), "UNKNOWN"),
    ] {
        let threads = get(|| async { json!({"threadInfos": []}).to_string() });
        let router = Router::new()
            .route("/v1/jobmanager/thread-dump", threads)
            .fallback(any(|| async {
                (
                    axum::http::StatusCode::NOT_FOUND,
                    json!({"errors": ["no such job"]}).to_string(),
                )
            }));
        let rest = served(router).await;
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in [
            ("high-availability.type", "kubernetes"),
            ("job-result-store.delete-on-commit", "false"),
            ("job-result-store.storage-path", &path),
        ] {
            configuration.set(key, value, Origin::CommandLine);
        }
        let calls = Calls::default();
        let life_cycle = life_cycle(kube(&calls), OnFinish::Keep);
        let life_cycle = life_cycle.with_results(
            JobResults::read(&configuration)
                .unwrap()
                .map(|results| results.with_patience(Duration::from_millis(1))),
        );
        life_cycle.finish(Uid::new("u1"), rest).await;
        let calls = calls.lock().unwrap();
        let state = format!("\"flink-k8s/job-state\": \"{expected}\"");
        assert!(calls.len() == 1 && calls[0].contains(&state), "{calls:?}");
    }
}

#[tokio::test]
async fn a_program_that_fails_after_its_job_failed_and_is_not_run_again() {
    for (code, expected) in [(1, 1), (0, 0)] {
        let calls = Calls::default();
        let life_cycle = life_cycle(kube(&calls), OnFinish::Delete);
        life_cycle.java_ended(&Uid::new("u1"), code).await;
        assert!(calls.lock().unwrap().is_empty(), "its job had not ended");
        life_cycle.job_ended(outcome(7));
        life_cycle.java_ended(&Uid::new("u1"), code).await;
        let calls = calls.lock().unwrap();
        assert_eq!(calls.len(), expected, "{calls:?}");
        for call in calls.iter() {
            assert!(
                call.contains("\"FAILED\"") && call.contains("after the job was FINISHED"),
                "{call}"
            );
        }
    }
}

#[tokio::test]
async fn a_job_whose_pod_is_told_to_stop_before_its_end_is_written_down_ended_as_it_did() {
    let calls = Calls::default();
    let life_cycle = life_cycle(kube(&calls), OnFinish::Keep);
    life_cycle.job_ended(outcome(7));
    life_cycle.java_ended(&Uid::new("u1"), 143).await;
    let calls = calls.lock().unwrap();
    assert!(
        calls.len() == 1 && calls[0].contains(r#""flink-k8s/job-state": "FINISHED""#),
        "{calls:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cluster_goes_when_its_time_is_over_also_after_a_restart() {
    for on_finish in [OnFinish::Delete, OnFinish::KeepFor(Duration::from_secs(3600))] {
        for ended in [1_700_000_000_000, milliseconds_now()] {
            let calls = Calls::default();
            let life_cycle = life_cycle(kube(&calls), on_finish);
            let began = tokio::time::Instant::now();
            life_cycle.conclude(&Uid::new("u1"), &outcome(ended), None).await;
            assert_eq!(*calls.lock().unwrap(), ["delete u1"]);
            let waited = began.elapsed();
            let expected = match on_finish {
                _ if ended == 1_700_000_000_000 => Duration::ZERO,
                OnFinish::KeepFor(duration) => duration,
                _ => RESULT_KEPT_FOR,
            };
            // The wall clock goes on while the paused one stands still.
            assert!(
                waited <= expected && waited + Duration::from_secs(5) > expected,
                "{on_finish}: {waited:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failures_that_pass_are_waited_out_and_others_end_the_attempt() {
    let calls = Calls::default();
    let object = || flink_k8s_core::kube_client::ObjectReference {
        kind: flink_k8s_core::kube_client::ObjectKind::Deployment,
        namespace: "default".parse().unwrap(),
        name: "orders".to_owned(),
    };
    let mut kube = MockKubeClient::new();
    let mut attempts = 0;
    let deleted = Arc::clone(&calls);
    kube.expect_delete_deployment().returning(move |_, _| {
        attempts += 1;
        deleted.lock().unwrap().push(format!("attempt {attempts}"));
        if attempts < 3 {
            return Err(DeleteError::Api {
                object: object(),
                transient: true,
                source: "away".into(),
            });
        }
        Ok(())
    });
    kube.expect_find_deployment().returning(|_| Ok(None));
    kube.expect_annotate_deployment()
        .times(1)
        .returning(move |_, _, _| {
            Err(AnnotateError::Forbidden {
                object: object(),
                message: "cannot patch".to_owned(),
            })
        });
    let life_cycle = life_cycle(kube, OnFinish::Delete);
    life_cycle.write_down(&Uid::new("u1"), &outcome(1)).await;
    life_cycle.conclude(&Uid::new("u1"), &outcome(1), None).await;
    assert_eq!(*calls.lock().unwrap(), ["attempt 1", "attempt 2", "attempt 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_being_upgraded_is_left_to_whoever_upgrades_it_unless_that_was_abandoned() {
    for (by, expected) in [("8f3a", vec![]), ("", vec!["delete u1"])] {
        let calls = Calls::default();
        let deleted = Arc::clone(&calls);
        let mut kube = MockKubeClient::new();
        kube.expect_find_deployment().returning(move |_| {
            let mark = (upgrade::BEING_UPGRADED_ANNOTATION.to_owned(), by.to_owned());
            Ok(Some(deployment(BTreeMap::from([mark]))))
        });
        kube.expect_delete_deployment().returning(move |_, uid| {
            deleted.lock().unwrap().push(format!("delete {uid}"));
            Ok(())
        });
        let life_cycle = life_cycle(kube, OnFinish::Delete);
        life_cycle.conclude(&Uid::new("u1"), &outcome(1), None).await;
        assert_eq!(*calls.lock().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ended_is_not_run_again() {
    let found = async |annotations: Option<BTreeMap<String, String>>, is_chosen_here: bool| {
        let mut kube = MockKubeClient::new();
        let mut is_away = true;
        kube.expect_find_deployment().returning(move |_| {
            if std::mem::take(&mut is_away) {
                return Err(ReadError::Api {
                    what: "Deployment orders".to_owned(),
                    namespace: "default".parse().unwrap(),
                    transient: true,
                    source: "away".into(),
                });
            }
            Ok(annotations.clone().map(deployment))
        });
        match life_cycle(kube, OnFinish::Keep).found(is_chosen_here).await {
            Found::Running(_) => "running",
            Found::Ended(..) => "ended",
            Found::Gone => "gone",
        }
    };
    let of_another_job = ApplicationOutcome::new(JobId::from_bytes([7; 16]), "FINISHED", 1).annotations();
    assert_eq!(found(None, false).await, "gone");
    assert_eq!(found(Some(BTreeMap::new()), false).await, "running");
    assert_eq!(found(Some(outcome(1).annotations()), false).await, "ended");
    assert_eq!(found(Some(of_another_job.clone()), false).await, "running");
    assert_eq!(found(Some(of_another_job), true).await, "ended");
}

#[test]
fn what_the_configuration_lacks_is_added() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("usrlib")).unwrap();
    std::fs::write(home.path().join("usrlib/job.jar"), "").unwrap();
    let installation = FlinkInstallation {
        home: home.path().to_owned(),
        configuration_directory: "/opt/flink/conf".into(),
        log_directory: None,
        library_jars: Vec::new(),
        java: "java".into(),
        java_major_version: 17,
        hostname: "pod-1".to_owned(),
        user: String::new(),
        environment: BTreeMap::new(),
    };
    let keys = |entries: &[(&str, &str)]| {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in entries {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        let settings = missing_settings(&configuration, &installation).unwrap();
        settings.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    let stays = ("execution.shutdown-on-application-finish", "false");
    let depth = "cluster.thread-dump.stacktrace-max-depth";
    assert_eq!(keys(&[stays]), ["$internal.pipeline.job-id", depth]);
    assert_eq!(keys(&[stays, (depth, "9")]), ["$internal.pipeline.job-id"]);
    assert_eq!(keys(&[]), [""; 0], "Flink ends the cluster");
    let old = ("flink-k8s.flink-version", "1.20");
    assert_eq!(keys(&[old]), ["pipeline.jars"]);
    assert_eq!(keys(&[old, ("pipeline.jars", "local:///a.jar")]), [""; 0]);
    let python = (
        "$internal.application.main",
        "org.apache.flink.client.python.PythonDriver",
    );
    assert_eq!(keys(&[old, python]), [""; 0]);
}
