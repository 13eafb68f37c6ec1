use flink_k8s_core::kube_client::{ContainerRun, MockKubeClient, ReadError};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::certificates::{ClusterCertificates, StoredCertificate};
use crate::rest_client::{ClusterOverview, JobSummary};
use crate::workers_report::{DepartureReport, WorkerReport, WorkerState, WorkersReport};

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn nothing() -> ClusterFacts {
    ClusterFacts::new("orders".parse().unwrap(), "team-a".parse().unwrap())
}

fn deployment(status: &Value) -> Deployment {
    from(
        json!({"metadata": {"name": "orders"}, "spec": {"replicas": 1, "selector": {}, "template": {}}, "status": status}),
    )
}

fn pod(name: &str, status: &Value) -> Pod {
    from(json!({"metadata": {"name": name, "uid": name}, "status": status}))
}

fn container(state: &Value, restarts: i32) -> Value {
    json!({"phase": "Running", "containerStatuses": [{
        "name": "flink-main-container", "image": "flink:9", "imageID": "", "ready": false,
        "restartCount": restarts, "state": state["state"], "lastState": state["lastState"],
    }]})
}

fn ready() -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{
        "name": "flink-main-container", "image": "flink", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {}},
    }]})
}

/// A cluster whose JobManager's pod has this status.
fn with_job_manager(status: &Value) -> ClusterFacts {
    let mut facts = nothing();
    facts.deployment = Some(deployment(&json!({})));
    facts.job_managers = vec![pod("orders-7d9f8-x2x4z", status)];
    facts
}

/// A cluster that is well but for what a test adds.
fn well() -> ClusterFacts {
    with_job_manager(&ready())
}

fn event(kind: &str, name: &str, reason: &str, message: &str) -> Event {
    from(json!({
        "metadata": {"name": "e"}, "type": "Warning", "reason": reason, "message": message,
        "involvedObject": {"kind": kind, "name": name}, "lastTimestamp": "2026-11-22T17:00:00Z",
    }))
}

fn unscheduled(message: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
    }]})
}

fn crashed(restarts: i32) -> Value {
    container(
        &json!({
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
        }),
        restarts,
    )
}

#[test]
fn the_job_manager_of_a_resource_manager_of_its_own_is_not_missed() {
    let mut facts = nothing();
    facts.deployment = Some(deployment(&json!({})));
    assert!(!job_manager::findings(&facts).is_empty());
    let labels = [("component".to_owned(), "resource-manager".to_owned())].into();
    facts.deployment.as_mut().unwrap().metadata.labels = Some(labels);
    assert_eq!(job_manager::findings(&facts), []);
}

/// What the diagnosis says first: how much it matters, its kind, and its text.
fn cause(facts: &ClusterFacts) -> String {
    let diagnosis = diagnose(facts);
    let cause = diagnosis.cause().expect("a cause");
    format!("{:?} {:?}: {cause}", cause.severity, cause.problem)
}

#[test]
fn what_keeps_a_pod_from_existing_is_told_from_the_words_of_kubernetes() {
    let refused = |message: &str| {
        let mut facts = nothing();
        facts.deployment = Some(deployment(&json!({"conditions": [
            {"type": "Available", "status": "False"},
            {"type": "ReplicaFailure", "status": "True", "message": message},
        ]})));
        cause(&facts)
    };
    insta::assert_snapshot!(refused(r#"pods "orders-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3"#), @r#"
    Trouble QuotaExhausted: the quota of the namespace leaves no room for the JobManager's pod: pods "orders-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3
      what to do: raise the ResourceQuota, remove what uses it up, or let the cluster ask for less CPU and memory
    "#);
    insta::assert_snapshot!(refused(r#"pods "orders-" is forbidden: error looking up service account team-a/flink: serviceaccount "flink" not found"#), @r#"
    Stuck ServiceAccountMissing: the service account of the JobManager's pod does not exist: pods "orders-" is forbidden: error looking up service account team-a/flink: serviceaccount "flink" not found
      what to do: create the ServiceAccount with the rights of a JobManager, or name another one by kubernetes.service-account
    "#);
    assert!(refused("admission webhook \"policy\" denied the request: no latest tags").starts_with(
        "Stuck PodRefused: Kubernetes refuses to create the JobManager's pod: admission webhook \"policy\" denied"
    ));

    // Before the Deployment's condition is there, the Event of the ReplicaSet says it.
    let mut facts = nothing();
    facts.deployment = Some(deployment(&json!({})));
    assert_eq!(
        cause(&facts),
        "Starting PodMissing: Kubernetes has not created the JobManager's pod yet"
    );
    let message = r#"Error creating: pods "orders-7d9f8-" is forbidden: exceeded quota: small"#;
    facts.events = vec![event("ReplicaSet", "orders-7d9f8", "FailedCreate", message)];
    assert!(
        cause(&facts).starts_with("Trouble QuotaExhausted: "),
        "{}",
        cause(&facts)
    );

    assert!(cause(&nothing()).starts_with("Stuck NoCluster: the cluster has no Deployment"));
    let mut unreadable = nothing();
    unreadable.unreadable = Some("not allowed to read Deployment orders".to_owned());
    assert_eq!(
        cause(&unreadable),
        "Trouble KubernetesUnreadable: Kubernetes cannot be asked why: not allowed to read Deployment orders"
    );
}

#[test]
fn a_pod_without_a_node_comes_with_advice_for_each_obstacle() {
    let of = |message| cause(&with_job_manager(&unscheduled(message)));
    insta::assert_snapshot!(of("0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: batch}, 2 Insufficient memory."), @r"
    Trouble Unschedulable: no node can take pod orders-7d9f8-x2x4z: 0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: batch}, 2 Insufficient memory.
      what to do: let it ask for less memory (jobmanager.memory.process.size), or tolerate the taints (kubernetes.jobmanager.tolerations), or add nodes; where an autoscaler does, wait for it
    ");
    for (message, option) in [
        (
            "0/1 nodes are available: 1 Insufficient cpu.",
            "kubernetes.jobmanager.cpu",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            "kubernetes.jobmanager.node-selector",
        ),
        (
            "persistentvolumeclaim \"data\" not found",
            "PersistentVolumeClaims",
        ),
        (
            "pre-filter pod orders-taskmanager-1-1 cannot find enough sibling pods, current pods number: 1, minMember of \
             group: 4",
            "flink-k8s.taskmanager.gang-scheduling.min-member",
        ),
    ] {
        assert!(of(message).contains(option), "{}", of(message));
    }
}

#[test]
fn a_container_that_waits_says_for_what() {
    let waiting = |reason: &str, message: &str| {
        let state = json!({"state": {"waiting": {"reason": reason, "message": message}}});
        cause(&with_job_manager(&container(&state, 0)))
    };
    insta::assert_snapshot!(waiting("ImagePullBackOff", "Back-off pulling image \"flink:9\""), @r#"
    Stuck ImageUnavailable: the image "flink:9" of pod orders-7d9f8-x2x4z cannot be had: ImagePullBackOff: Back-off pulling image "flink:9"
      what to do: check the image's name and tag (kubernetes.container.image.ref), that it was pushed, and that nodes may pull it (kubernetes.container.image.pull-secrets)
    "#);
    insta::assert_snapshot!(waiting("CreateContainerConfigError", "secret \"s3\" not found"), @r#"
    Stuck ContainerNotCreated: container flink-main-container of pod orders-7d9f8-x2x4z waits: CreateContainerConfigError: secret "s3" not found
      what to do: make what it refers to (ConfigMap, Secret, key, volume, command) exist, or take the reference out of the pod template
    "#);
    insta::assert_snapshot!(waiting("ContainerCreating", ""), @"Starting Starting: pod orders-7d9f8-x2x4z is still starting");

    let init = json!({"phase": "Pending", "initContainerStatuses": [{
        "name": "fetch-jars", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"s3\" not found"}},
    }]});
    assert!(
        cause(&with_job_manager(&init)).contains("container fetch-jars of pod"),
        "an init container is looked at too"
    );

    let mut facts = with_job_manager(&json!({"phase": "Pending"}));
    let message = r#"MountVolume.SetUp failed for volume "hadoop" : configmap "hadoop-config" not found"#;
    facts.events = vec![event("Pod", "orders-7d9f8-x2x4z", "FailedMount", message)];
    assert!(
        cause(&facts).starts_with("Trouble VolumeNotMounted: pod orders-7d9f8-x2x4z cannot start its containers: MountVolume.SetUp failed"),
        "{}",
        cause(&facts)
    );
}

#[test]
fn a_container_that_ends_is_explained_by_its_exit_code_and_by_its_log() {
    let mut facts = with_job_manager(&crashed(3));
    insta::assert_snapshot!(cause(&facts), @"Stuck Crashed: container flink-main-container of pod orders-7d9f8-x2x4z ended with exit code 1 (the program could not start, or its configuration is refused), and was started again 3 times");
    let log = "2026-11-22 20:00:00,123 ERROR org.apache.flink.runtime.entrypoint.ClusterEntrypoint [] - Could not start cluster entrypoint KubernetesSessionClusterEntrypoint.
org.apache.flink.runtime.entrypoint.ClusterEntrypointException: Failed to initialize the cluster entrypoint KubernetesSessionClusterEntrypoint.
\tat org.apache.flink.runtime.entrypoint.ClusterEntrypoint.startCluster(ClusterEntrypoint.java:258)
Caused by: java.util.concurrent.CompletionException: java.io.IOException: no
\tat java.base/java.lang.Thread.run(Thread.java:840)
Caused by: java.io.IOException: Could not create FileSystem for highly available storage path (s3://bucket/ha/orders)
\tat org.apache.flink.runtime.blob.BlobUtils.createFileSystemBlobStore(BlobUtils.java:104)
\t... 2 more
Caused by: java.util.concurrent.CompletionException
\t... 9 more";
    facts.logs.insert(
        "orders-7d9f8-x2x4z".to_owned(),
        log.lines().map(str::to_owned).collect(),
    );
    let text = cause(&facts);
    let above_log: Vec<&str> = text
        .lines()
        .take_while(|line| !line.contains("last lines"))
        .collect();
    insta::assert_snapshot!(above_log.join("\n"), @r"
    Stuck StorageUnreachable: java.io.IOException: Could not create FileSystem for highly available storage path (s3://bucket/ha/orders): container flink-main-container of pod orders-7d9f8-x2x4z ended with exit code 1 (the program could not start, or its configuration is refused), and was started again 3 times
      thrown as org.apache.flink.runtime.entrypoint.ClusterEntrypointException: Failed to initialize the cluster entrypoint KubernetesSessionClusterEntrypoint.
    ");
    assert!(
        text.contains("what to do: check that the storage directory exists"),
        "{text}"
    );

    let killed = json!({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}});
    insta::assert_snapshot!(cause(&with_job_manager(&container(&killed, 0))), @r"
    Trouble OutOfMemory: container flink-main-container of pod orders-7d9f8-x2x4z ended with exit code 137 (OOMKilled: killed from outside, by the node or for its memory)
      what to do: raise jobmanager.memory.process.size, or leave more of it to what the JVM does not count (overhead, off-heap)
    ");
    let evicted =
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
    insta::assert_snapshot!(cause(&with_job_manager(&evicted)), @"Trouble PodFailed: pod orders-7d9f8-x2x4z failed: Evicted: The node was low on resource: memory.");
}

#[test]
fn a_program_says_itself_why_it_failed() {
    let root = |log: &str| {
        let lines: Vec<String> = log.lines().map(str::to_owned).collect();
        ProgramFailure::find(&lines).map(|failure| failure.root)
    };
    for (log, expected) in [
        (
            "Unrecognized VM option 'Nonsense'\nError: Could not create the Java Virtual Machine.",
            "Unrecognized VM option 'Nonsense'",
        ),
        (
            "Exception in thread \"main\" java.lang.NoSuchMethodError: 'void a.B.c()'\n\tat d.E.f(E.java:1)",
            "java.lang.NoSuchMethodError: 'void a.B.c()'",
        ),
        (
            "a.b.CException: two\nlines\n\tat d.E.f(E.java:1)\nINFO goes on",
            "a.b.CException: two",
        ),
        // The beginning of the trace is further up than the log was read.
        (
            "\tat d.E.f(E.java:1)\nCaused by: g.HException: deep\n\t... 3 more",
            "g.HException: deep",
        ),
        (
            "ERROR the JobManager cannot run: the option x has no value",
            "the JobManager cannot run: the option x has no value",
        ),
    ] {
        assert_eq!(root(log).as_deref(), Some(expected), "{log}");
    }
    assert_eq!(
        root("INFO java.lang.String: fine\nINFO no.SuchException: in a sentence"),
        None
    );
}

#[test]
fn a_jobmanager_that_is_about_to_miss_its_jar_again_is_not_just_starting() {
    let again = json!({"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}});
    let mut facts = with_job_manager(&container(&again, 1));
    assert!(cause(&facts).starts_with("Starting "), "{}", cause(&facts));
    let log = "\
INFO GlobalConfiguration [] - Loading configuration property: pipeline.jars, ['https://files/job.jar']
ERROR ClusterEntrypoint [] - Could not create application program.
java.lang.RuntimeException: java.io.FileNotFoundException: https://files/job.jar
\tat org.apache.flink.util.function.FunctionUtils.lambda$uncheckedFunction$2(FunctionUtils.java:95)
Caused by: java.io.FileNotFoundException: https://files/job.jar
\tat org.apache.flink.client.program.artifact.HttpArtifactFetcher.fetch(HttpArtifactFetcher.java:57)";
    let lines = log.lines().map(str::to_owned).collect();
    facts.logs.insert("orders-7d9f8-x2x4z".to_owned(), lines);
    insta::assert_snapshot!(cause(&facts), @r"
    Stuck ArtifactUnavailable: the JobManager cannot get https://files/job.jar: there is no such file: container flink-main-container of pod orders-7d9f8-x2x4z ended with exit code 1 (the program could not start, or its configuration is refused), and was started again once
      java.io.FileNotFoundException: https://files/job.jar
      thrown as java.lang.RuntimeException: java.io.FileNotFoundException: https://files/job.jar
      the last lines of its log:
        INFO GlobalConfiguration [] - Loading configuration property: pipeline.jars, ['https://files/job.jar']
        ERROR ClusterEntrypoint [] - Could not create application program.
        java.lang.RuntimeException: java.io.FileNotFoundException: https://files/job.jar
        Caused by: java.io.FileNotFoundException: https://files/job.jar
      what to do: check the address; some servers also say so to those who may not see the file, to whom user.artifacts.http-headers says who asks
    ");
}

#[test]
fn a_jobmanager_that_is_ready_and_does_not_answer_is_told_from_one_without_a_leader() {
    let mut facts = well();
    assert_eq!(diagnose(&facts).health(), ClusterHealth::Healthy);
    assert_eq!(diagnose(&facts).to_string(), "nothing is wrong");
    facts.rest = RestFacts::Silent {
        message: "connection refused".to_owned(),
    };
    insta::assert_snapshot!(cause(&facts), @r"
    Trouble RestSilent: pod orders-7d9f8-x2x4z runs, but its REST endpoint does not answer
      connection refused
    ");
    facts.rest = RestFacts::OtherCertificates {
        secret: "orders-tls".to_owned(),
        message: "its certificate is not trusted".to_owned(),
    };
    insta::assert_snapshot!(cause(&facts), @r"
    Stuck CertificatesDiffer: pod orders-7d9f8-x2x4z has other certificates than Secret orders-tls, so that neither commands nor new pods can talk to it
      its certificate is not trusted
      what to do: the Secret was replaced, or deleted and made anew, while the JobManager ran: `flink-k8s tls rotate orders` gives all processes new ones, with --lose-jobs where there is no high availability; if the Secret is not drawn by flink-k8s, start all pods of the cluster anew
    ");
    facts.rest = RestFacts::NoLeader {
        message: "Service temporarily unavailable due to an ongoing leader election.".to_owned(),
    };
    assert!(cause(&facts).starts_with(
        "Trouble NoLeader: pod orders-7d9f8-x2x4z answers, and no JobManager leads yet\n  Service temporarily"
    ));
    facts.job_managers = vec![pod(
        "orders-7d9f8-x2x4z",
        &container(&json!({"state": {"running": {}}}), 0),
    )];
    assert!(
        cause(&facts).starts_with("Trouble NoLeader"),
        "no leader, no readiness"
    );
    facts.rest = RestFacts::NotAsked;
    let (pod, failed) = ("orders-7d9f8-x2x4z", "Startup probe failed: connection refused");
    facts.events = vec![event("Pod", pod, "Unhealthy", failed)];
    assert_eq!(diagnose(&facts).health(), ClusterHealth::Starting);
    assert!(cause(&facts).contains(failed), "{}", cause(&facts));
}

#[test]
fn a_standby_that_fails_and_a_restart_that_worked_are_notices() {
    let mut facts = well();
    facts.job_managers.push(pod("orders-7d9f8-other", &crashed(5)));
    let diagnosis = diagnose(&facts);
    assert_eq!(diagnosis.health(), ClusterHealth::Healthy);
    assert_eq!(diagnosis.further()[0].severity, Severity::Notice);

    let mut restarted = ready();
    restarted["containerStatuses"][0]["lastState"] =
        json!({"terminated": {"exitCode": 239, "reason": "Error"}});
    restarted["containerStatuses"][0]["restartCount"] = json!(1);
    let diagnosis = diagnose(&with_job_manager(&restarted));
    assert_eq!(diagnosis.health(), ClusterHealth::Healthy);
    insta::assert_snapshot!(diagnosis, @r"
    nothing is wrong
    also: pod orders-7d9f8-x2x4z runs again; before, container flink-main-container of pod orders-7d9f8-x2x4z ended with exit code 239 (a thread of Flink's failed, which it takes for fatal), and was started again once
    ");
}

fn waiting_job(facts: &mut ClusterFacts) {
    let overview: ClusterOverview = from(json!({
        "taskmanagers": 0, "slots-total": 0, "slots-available": 0, "jobs-running": 1, "jobs-finished": 0,
        "jobs-cancelled": 0, "jobs-failed": 0, "flink-version": "2.1.0",
    }));
    let job: JobSummary = from(json!({
        "jid": "00000000000000000000000000000001", "name": "WordCount", "state": "RUNNING", "start-time": 0,
        "end-time": -1, "duration": 1, "tasks": {"total": 3, "scheduled": 3},
    }));
    facts.rest = RestFacts::Answered {
        overview,
        jobs: vec![job],
    };
}

fn task_manager(index: u32, status: &Value) -> Pod {
    pod(&format!("orders-taskmanager-1-{index}"), status)
}

#[test]
fn the_cause_of_a_waiting_job_is_what_keeps_the_taskmanagers() {
    let mut facts = well();
    waiting_job(&mut facts);
    insta::assert_snapshot!(diagnose(&facts), @"job WordCount (00000000000000000000000000000001) waits for slots: all 0 are taken, and no TaskManager is on its way");

    let message = "0/1 nodes are available: 1 Insufficient memory.";
    facts.task_managers = (1..=6)
        .map(|index| task_manager(index, &unscheduled(message)))
        .collect();
    insta::assert_snapshot!(diagnose(&facts), @r"
    no node can take pod orders-taskmanager-1-1: 0/1 nodes are available: 1 Insufficient memory.
      the same holds for 5 other TaskManagers: orders-taskmanager-1-2, orders-taskmanager-1-3, orders-taskmanager-1-4, ...
      what to do: let it ask for less memory (taskmanager.memory.process.size), or add nodes; where an autoscaler does, wait for it
    also: job WordCount (00000000000000000000000000000001) waits for slots: 6 TaskManagers are on their way
    ");

    facts.task_managers = vec![task_manager(1, &json!({"phase": "Pending"}))];
    assert_eq!(diagnose(&facts).health(), ClusterHealth::Starting);
    facts.task_managers = vec![task_manager(1, &ready()), task_manager(2, &ready())];
    facts.rest = RestFacts::NotAsked;
    assert_eq!(diagnose(&facts).health(), ClusterHealth::Healthy);
}

fn report(workers: Vec<WorkerReport>) -> WorkersReport {
    let now = "2026-11-22T17:00:00Z".parse().unwrap();
    let mut report = WorkersReport::new("orders".to_owned(), "team-a".to_owned(), now);
    report.workers = workers;
    report
}

fn worker(state: WorkerState, cause: Option<&str>, why: &str) -> WorkerReport {
    let mut worker = WorkerReport::new("orders-taskmanager-1-1".to_owned(), state);
    worker.cause = cause.map(str::to_owned);
    worker.why = why.to_owned();
    worker
}

#[test]
fn workers_that_have_no_pod_are_explained_by_the_resource_manager() {
    let of = |state, cause_name, why| {
        let mut facts = well();
        facts.workers = Some(report(vec![worker(state, cause_name, why)]));
        cause(&facts)
    };
    let quota = "creating its pod failed: pods is forbidden: exceeded quota: small";
    assert!(
        of(WorkerState::BackingOff, Some("quota-exhausted"), quota).starts_with(
            "Trouble QuotaExhausted: the quota of the namespace leaves no room for TaskManagers: creating"
        )
    );
    assert_eq!(
        of(WorkerState::Waiting, None, "there are 5 pods, as many as allowed"),
        "Starting WorkersDelayed: a TaskManager is wanted and not created yet: there are 5 pods, as many as allowed"
    );
    let mut held_back = well();
    held_back.workers = Some(report(vec![worker(WorkerState::HeldBack, None, "held back")]));
    assert_eq!(diagnose(&held_back).health(), ClusterHealth::Healthy);
}

#[test]
fn taskmanagers_that_are_gone_say_why_with_the_lines_that_were_kept() {
    let mut facts = well();
    let mut workers = report(Vec::new());
    for index in 1..=2 {
        let at = "2026-11-22T16:59:00Z".parse().unwrap();
        let name = format!("orders-taskmanager-1-{index}");
        let mut departure = DepartureReport::new(name, at, "the container exited with code 1".to_owned());
        departure.cause = Some("crashed".to_owned());
        departure.log = vec!["Unrecognized VM option 'Nonsense'".to_owned()];
        workers.departures.push(departure);
    }
    facts.workers = Some(workers);
    insta::assert_snapshot!(cause(&facts), @r"
    Trouble Crashed: Unrecognized VM option 'Nonsense': TaskManager orders-taskmanager-1-2 failed, the last of 2 that failed within 10 minutes: the container exited with code 1
      the last lines of its log:
        Unrecognized VM option 'Nonsense'
    ");
    // While another one runs, nobody is in trouble.
    if let Some(report) = &mut facts.workers {
        report.workers.push(worker(WorkerState::Running, None, "running"));
    }
    assert_eq!(diagnose(&facts).health(), ClusterHealth::Healthy);
}

#[test]
fn an_event_is_about_a_cluster_by_its_objects_name() {
    let is_ours = |kind: &str, name: &str| {
        is_about(
            &"orders".parse().unwrap(),
            &from(json!({"kind": kind, "name": name})),
        )
    };
    for (kind, name) in [
        ("Deployment", "orders"),
        ("ReplicaSet", "orders-7d9f8"),
        ("Pod", "orders-7d9f8-x2x4z"),
        ("Pod", "orders-taskmanager-1-12"),
        ("Service", "orders-rest"),
    ] {
        assert!(is_ours(kind, name), "{kind} {name}");
    }
    for (kind, name) in [
        ("Deployment", "orders-eu"),
        ("ReplicaSet", "orders-eu-7d9f8"),
        ("Pod", "orders-eu-7d9f8-x2x4z"),
        ("Pod", "orders-eu-taskmanager-1-1"),
        ("Pod", "ordersx-7d9f8-x2x4z"),
    ] {
        assert!(!is_ours(kind, name), "{kind} {name}");
    }
}

#[test]
fn a_diagnosis_is_json_for_programs() {
    let facts = with_job_manager(&unscheduled("no nodes"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&diagnose(&facts)).unwrap(), @r#"
    {
      "cluster-id": "orders",
      "namespace": "team-a",
      "findings": [
        {
          "severity": "trouble",
          "problem": "unschedulable",
          "object": "pod orders-7d9f8-x2x4z",
          "reason": "no node can take pod orders-7d9f8-x2x4z: no nodes",
          "evidence": [],
          "log": [],
          "advice": "add nodes; where an autoscaler does, wait for it"
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn a_kubernetes_that_cannot_be_asked_is_said_to_be_so() {
    let mut kube = MockKubeClient::new();
    kube.expect_namespace().returning(|| "team-a".parse().unwrap());
    kube.expect_find_deployment().returning(|_| Ok(None));
    kube.expect_list_task_manager_pods().returning(|_| Ok(Vec::new()));
    kube.expect_list_events().returning(|| Ok(Vec::new()));
    kube.expect_list_job_manager_pods().returning(|_| {
        Err(ReadError::Forbidden {
            what: "the JobManager pods".to_owned(),
            namespace: "team-a".parse().unwrap(),
            message: "User \"me\" cannot list".to_owned(),
        })
    });
    let facts = look(&kube, &"orders".parse().unwrap(), LookAt::kubernetes()).await;
    insta::assert_snapshot!(diagnose(&facts), @r#"Kubernetes cannot be asked why: not allowed to read the JobManager pods in namespace team-a: User "me" cannot list"#);
}

#[tokio::test]
async fn the_newest_pod_that_is_not_going_is_explained_and_its_previous_run_read_when_there_is_no_other() {
    let mut kube = MockKubeClient::new();
    kube.expect_namespace().returning(|| "team-a".parse().unwrap());
    kube.expect_find_deployment()
        .returning(|_| Ok(Some(deployment(&json!({})))));
    kube.expect_list_task_manager_pods().returning(|_| Ok(Vec::new()));
    kube.expect_list_events().returning(|| {
        let ours = event(
            "Pod",
            "orders-new-a",
            "BackOff",
            "Back-off restarting failed container",
        );
        Ok(vec![
            event("Pod", "other-new-a", "BackOff", "of another cluster"),
            ours,
        ])
    });
    kube.expect_list_job_manager_pods().returning(|_| {
        let pod = |name: &str, created: &str, deleted: Option<&str>| {
            let metadata = json!({"name": name, "creationTimestamp": created, "deletionTimestamp": deleted});
            from(json!({"metadata": metadata, "status": crashed(1)}))
        };
        Ok(vec![
            pod("orders-old-a", "2026-01-01T00:00:00Z", None),
            pod("orders-new-a", "2026-01-02T00:00:00Z", None),
            pod(
                "orders-going-a",
                "2026-01-03T00:00:00Z",
                Some("2026-01-03T00:00:01Z"),
            ),
        ])
    });
    kube.expect_read_pod_log().returning(|pod, run, _| {
        assert_eq!(pod.as_str(), "orders-new-a");
        Ok(if run == ContainerRun::Previous {
            "one\ntwo of https://files/job.jar?signature=planted\n".to_owned()
        } else {
            String::new()
        })
    });
    let facts = look(&kube, &"orders".parse().unwrap(), LookAt::kubernetes()).await;
    assert_eq!(facts.events.len(), 1);
    insta::assert_snapshot!(diagnose(&facts).cause().unwrap(), @r"
    container flink-main-container of pod orders-new-a ended with exit code 1 (the program could not start, or its configuration is refused), and was started again once
      the last lines of its log:
        one
        two of https://files/job.jar?******
    ");
}

#[test]
fn certificates_are_spoken_of_before_they_end_and_are_a_cause_afterwards() {
    let mut facts = well();
    let certificates = ClusterCertificates {
        secret: "orders-tls".to_owned(),
        is_drawn: true,
        certificates: vec![StoredCertificate {
            store: "rest.p12",
            subject: "CN=flink REST".to_owned(),
            not_after: "2036-11-22T00:00:00Z".parse().unwrap(),
        }],
    };
    let mut at = |now: &str| {
        facts.certificates = Some((certificates.clone(), now.parse().unwrap()));
        diagnose(&facts)
    };
    assert_eq!(at("2036-10-01T00:00:00Z").findings, []);
    let soon = at("2036-11-21T00:00:00Z");
    assert_eq!(soon.health(), ClusterHealth::Healthy);
    insta::assert_snapshot!(soon, @r"
    nothing is wrong
    also: the certificate CN=flink REST in rest.p12 of Secret orders-tls expires soon: it is valid until 2036-11-22T00:00:00Z
      what to do: `flink-k8s tls rotate orders` gives the cluster new ones
    ");
    let over = at("2036-11-22T00:00:00Z");
    assert_eq!(over.health(), ClusterHealth::Troubled);
    assert!(
        over.cause()
            .unwrap()
            .reason
            .ends_with(" has expired: it was valid until 2036-11-22T00:00:00Z"),
        "{over}"
    );
}
