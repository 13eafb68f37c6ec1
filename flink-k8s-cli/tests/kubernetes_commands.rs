//! Commands against a Kubernetes API server: what they print, what they store, and how they end.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what cannot be unwrapped here fails the test, and a skipped test says so"
)]

#[path = "kubernetes_commands/removal.rs"]
mod removal;
#[path = "kubernetes_commands/resource_manager.rs"]
mod resource_manager;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use flink_k8s_local::test_cluster::TestCluster;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

const APPLICATION: [&str; 5] = [
    "-Dflink-k8s.resource-manager=flink",
    "local:///opt/flink/usrlib/job.jar",
    "--in",
    "a b",
    "--out=c",
];

/// A Kubernetes without nodes, and the programs of a user of it.
struct Bench {
    cluster: TestCluster,
    configuration: tempfile::TempDir,
}

/// How a program ended.
struct Ended {
    code: Option<i32>,
    printed: String,
    said: String,
}

impl Bench {
    async fn start() -> Self {
        let configuration = tempfile::tempdir().unwrap();
        let sizes = "jobmanager.memory.process.size: 1600m\ntaskmanager.memory.process.size: 1728m\n";
        std::fs::write(configuration.path().join("config.yaml"), sizes).unwrap();
        Self {
            cluster: TestCluster::start().await,
            configuration,
        }
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.configuration.path())
            .env("FLINK_CONF_DIR", self.configuration.path())
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .stdin(Stdio::null());
        command
    }

    /// Runs `program` with these arguments on cluster `orders` of the test's namespace.
    async fn run(&self, program: &str, arguments: &[&str]) -> Ended {
        let mut command = self.program(program);
        // Options may stand anywhere but among the arguments of a job, which come last.
        let (words, rest) = arguments.split_at(
            arguments
                .iter()
                .position(|word| word.starts_with('-'))
                .unwrap_or(arguments.len()),
        );
        command.args(words).arg("-Dkubernetes.cluster-id=orders");
        command.arg(format!("-Dkubernetes.namespace={}", self.cluster.namespace()));
        command.args(rest);
        ended(command).await
    }

    async fn flink_k8s(&self, arguments: &[&str]) -> Ended {
        self.run(env!("CARGO_BIN_EXE_flink-k8s"), arguments).await
    }

    /// Lets `kubectl` do this with a manifest.
    async fn kubectl(&self, verb: &str, manifest: &str) -> Ended {
        let file = self.configuration.path().join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        let mut command = self.program(kubectl().unwrap().to_str().unwrap());
        command.args([verb, "-f"]).arg(file);
        ended(command).await
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client(), self.cluster.namespace())
    }

    /// The names of all objects of the kinds that a cluster consists of.
    async fn stored(&self) -> Vec<String> {
        let all = ListParams::default();
        let deployments = self.api::<Deployment>().list(&all).await.unwrap();
        let services = self.api::<Service>().list(&all).await.unwrap();
        let config_maps = self.api::<ConfigMap>().list(&all).await.unwrap();
        let names = deployments.items.into_iter().map(|object| object.metadata.name);
        let names = names.chain(services.items.into_iter().map(|object| object.metadata.name));
        let names = names.chain(config_maps.items.into_iter().map(|object| object.metadata.name));
        let mut names: Vec<String> = names.flatten().collect();
        // Every namespace has this one.
        names.retain(|name| name != "kube-root-ca.crt");
        names.sort();
        names
    }

    async fn start_session(&self) {
        let started = self.flink_k8s(&["session", "start", "--no-wait"]).await;
        assert_eq!(started.code, Some(0), "{}", started.said);
    }
}

/// Runs a program on a thread of its own, because the API server answers on the test's.
async fn ended(mut command: Command) -> Ended {
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let Output {
        status,
        stdout,
        stderr,
    } = run.await.unwrap();
    Ended {
        code: status.code(),
        printed: String::from_utf8(stdout).unwrap(),
        said: String::from_utf8(stderr).unwrap(),
    }
}

/// Where kubectl is, or a line that says why a test is skipped.
fn kubectl() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join("kubectl"))
        .find(|program| program.is_file());
    if found.is_none() {
        println!("skipped: kubectl is not on the PATH");
    }
    found
}

const OBJECTS: [&str; 4] = ["flink-config-orders", "orders", "orders", "orders-rest"];

#[tokio::test(flavor = "multi_thread")]
async fn right_after_a_deploy_there_is_no_difference_and_a_changed_option_is_shown() {
    let bench = Bench::start().await;
    bench.start_session().await;
    assert_eq!(bench.stored().await, OBJECTS);
    let same = bench.flink_k8s(&["diff"]).await;
    assert_eq!(same.code, Some(0), "{}{}", same.printed, same.said);
    assert_eq!((same.printed.as_str(), same.said.trim()), ("", "no difference"));

    let changed = [
        "diff",
        "-Dkubernetes.jobmanager.labels=team:a",
        "-Dparallelism.default=3",
        "-Ds3.secret-key=hunter2",
    ];
    let differs = bench.flink_k8s(&changed).await;
    assert_eq!(differs.code, Some(1), "{}", differs.said);
    let printed = &differs.printed;
    for expected in [
        "ConfigMap flink-config-orders\n",
        "  data.config.yaml: parallelism.default\n  + 3\n",
        "Deployment orders\n",
        "  spec.template.metadata.labels.team\n  + a\n",
        "  data.config.yaml: s3.secret-key\n  + ******\n",
    ] {
        assert!(printed.contains(expected), "{expected:?} is not in\n{printed}");
    }
    assert!(!printed.contains("hunter2"), "{printed}");

    let as_json = bench
        .flink_k8s(&["diff", "-Drest.port=9091", "--output", "json"])
        .await;
    assert_eq!(as_json.code, Some(1), "{}", as_json.said);
    let found: Value = serde_json::from_str(&as_json.printed).unwrap();
    let service = found
        .as_array()
        .unwrap()
        .iter()
        .find(|object| object["name"] == "orders-rest");
    let differences = &service.unwrap()["differences"];
    assert!(
        differences
            .as_array()
            .unwrap()
            .iter()
            .any(|difference| difference["running"] == "8081" && difference["wanted"] == "9091"),
        "{differences}"
    );
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_exist_differs_in_every_object() {
    let bench = Bench::start().await;
    let differs = bench.flink_k8s(&["diff"]).await;
    assert_eq!(differs.code, Some(1), "{}", differs.said);
    let mut lines: Vec<&str> = differs.printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "ConfigMap flink-config-orders does not exist",
            "Deployment orders does not exist",
            "Service orders does not exist",
            "Service orders-rest does not exist",
        ]
    );
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_render_prints_kubectl_applies_and_diff_finds_unchanged() {
    if kubectl().is_none() {
        return;
    }
    let bench = Bench::start().await;
    let rendered = bench.flink_k8s(&["render", "session"]).await;
    assert_eq!(rendered.code, Some(0), "{}", rendered.said);
    let applied = bench.kubectl("apply", &rendered.printed).await;
    assert_eq!(applied.code, Some(0), "{}", applied.said);
    assert_eq!(
        applied.printed.matches(" created\n").count(),
        4,
        "{}",
        applied.printed
    );
    assert_eq!(bench.stored().await, OBJECTS);
    let same = bench.flink_k8s(&["diff"]).await;
    assert_eq!(same.code, Some(0), "{}{}", same.printed, same.said);
    let again = bench.kubectl("apply", &rendered.printed).await;
    assert_eq!(
        again.printed.matches(" unchanged\n").count(),
        4,
        "{}",
        again.printed
    );

    let worker = bench.flink_k8s(&["render", "taskmanager"]).await;
    let applied = bench.kubectl("apply", &worker.printed).await;
    assert_eq!(applied.code, Some(0), "{}", applied.said);
    let pods = bench.api::<Pod>().list(&ListParams::default()).await.unwrap();
    assert!(
        pods.iter()
            .any(|pod| pod.metadata.name.as_deref() == Some("orders-taskmanager-1-1"))
    );

    let removed = bench.kubectl("delete", &rendered.printed).await;
    assert_eq!(removed.code, Some(0), "{}", removed.said);
    assert_eq!(bench.stored().await, Vec::<String>::new());
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_cluster_is_compared_when_its_job_is_repeated() {
    if kubectl().is_none() {
        return;
    }
    let bench = Bench::start().await;
    let rendered = bench
        .flink_k8s(&[&["render", "application"][..], &APPLICATION].concat())
        .await;
    assert_eq!(rendered.code, Some(0), "{}", rendered.said);
    let applied = bench.kubectl("apply", &rendered.printed).await;
    assert_eq!(applied.code, Some(0), "{}", applied.said);

    let target = ["diff", "-t", "kubernetes-application"];
    let same = bench.flink_k8s(&[&target[..], &APPLICATION].concat()).await;
    assert_eq!(same.code, Some(0), "{}{}", same.printed, same.said);
    // Flink's own option says it as well.
    let target = ["diff", "-Dexecution.target=kubernetes-application"];
    let same = bench.flink_k8s(&[&target[..], &APPLICATION].concat()).await;
    assert_eq!(same.code, Some(0), "{}{}", same.printed, same.said);

    let other = [&["diff", "-t", "kubernetes-application"][..], &APPLICATION[..4]].concat();
    let differs = bench.flink_k8s(&other).await;
    assert_eq!(differs.code, Some(1), "{}", differs.said);
    assert!(
        differs.printed.contains("--out=c") || differs.printed.contains("program-args"),
        "{}",
        differs.printed
    );
    let refused = bench
        .flink_k8s(&["diff", "-Dflink-k8s.resource-manager=flink", "local:///job.jar"])
        .await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.said.starts_with(
            "error: a session cluster has no job of its own; for an application cluster give -t"
        ),
        "{}",
        refused.said
    );
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_cluster_that_differs_is_refused_and_replaced_when_told_to() {
    let bench = Bench::start().await;
    let start = async |more: &[&str]| {
        let words = ["application", "start", "--detached"];
        bench.flink_k8s(&[&words, more, &APPLICATION].concat()).await
    };
    let uid = async || {
        let deployment = bench.api::<Deployment>().get("orders").await.unwrap();
        deployment.metadata.uid.unwrap()
    };
    assert_eq!(start(&[]).await.code, Some(0));
    let first = uid().await;
    let same = start(&["--replace"]).await;
    assert_eq!(same.code, Some(0), "{}", same.said);
    assert!(
        same.said.contains("as specified; nothing is changed"),
        "{}",
        same.said
    );

    let changed = "-Dkubernetes.jobmanager.labels=team:a";
    let refused = start(&[changed]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    assert!(
        refused
            .said
            .contains("--replace removes the cluster that runs and makes it anew"),
        "{}",
        refused.said
    );
    assert_eq!(uid().await, first);

    let replaced = start(&[changed, "--replace"]).await;
    assert_eq!(replaced.code, Some(0), "{}", replaced.said);
    for expected in [
        "is removed and made anew, because these objects differ:\n",
        "  Deployment orders\n",
        "cluster orders created in namespace ",
    ] {
        assert!(
            replaced.said.contains(expected),
            "{expected:?} is not in\n{}",
            replaced.said
        );
    }
    assert_ne!(uid().await, first);
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_on_the_server_stores_nothing_and_shows_what_the_server_refuses() {
    let bench = Bench::start().await;
    let session = env!("CARGO_BIN_EXE_kubernetes-session");
    let commands: [(&str, &[&str]); 2] = [
        (env!("CARGO_BIN_EXE_flink-k8s"), &["session", "start"]),
        (session, &[]),
    ];
    for (program, words) in commands {
        for asked in ["server", "client"] {
            let tried = bench.run(program, &[words, &["--dry-run", asked]].concat()).await;
            assert_eq!(tried.code, Some(0), "{program}: {}", tried.said);
            let line = format!("Deployment orders would be created ({asked} dry run)");
            assert!(
                tried.printed.lines().any(|printed| printed == line),
                "{}",
                tried.printed
            );
            assert_eq!(tried.printed.lines().count(), 4, "{}", tried.printed);
            assert_eq!(bench.stored().await, Vec::<String>::new(), "{program} {asked}");
        }
        let invalid = [
            words,
            &[
                "--dry-run",
                "server",
                "-Dkubernetes.jobmanager.labels=team:not valid",
            ],
        ];
        let refused = bench.run(program, &invalid.concat()).await;
        assert_eq!(refused.code, Some(1), "{}", refused.said);
        let expected = format!(
            "error: the API server refuses Deployment {}/orders as invalid: ",
            bench.cluster.namespace()
        );
        assert!(
            refused.said.starts_with(&expected) && refused.said.contains("\"not valid\": a valid label"),
            "{}",
            refused.said
        );
        assert_eq!(bench.stored().await, Vec::<String>::new());
    }
    bench.start_session().await;
    let taken = bench
        .flink_k8s(&["session", "start", "--dry-run", "server"])
        .await;
    assert_eq!(taken.code, Some(1));
    assert!(taken.said.contains("already exists"), "{}", taken.said);
    let found = bench.run(session, &["--dry-run", "server"]).await;
    assert_eq!(found.code, Some(0), "{}", found.said);
    assert!(
        found.said.contains("cluster orders runs already") && found.said.contains("nothing is changed"),
        "{}",
        found.said
    );
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_refused_with_what_to_do() {
    let bench = Bench::start().await;
    let foreign = json!({
        "metadata": {"name": "orders"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "main", "image": "main"}]},
            },
        },
    });
    let foreign: Deployment = serde_json::from_value(foreign).unwrap();
    let created = bench.api().create(&PostParams::default(), &foreign).await;
    created.unwrap();
    let refused = bench.flink_k8s(&["session", "start", "--no-wait"]).await;
    assert_eq!(refused.code, Some(1));
    let namespace = bench.cluster.namespace();
    let expected = format!(
        "error: cannot deploy cluster orders: Deployment {namespace}/orders already exists, and was not touched\n  \
         hint: choose another -Dkubernetes.cluster-id, or remove that object first; it is not known to be a part of a cluster\n"
    );
    assert_eq!(refused.said, expected);
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_fails_half_way_says_what_was_refused_and_leaves_nothing() {
    let bench = Bench::start().await;
    if bench.cluster.is_embedded() {
        let rule = json!({"verbs": ["create"], "resource": "services", "action": {"status": 403}});
        bench.cluster.set_faults(&json!({"rules": [rule]})).await;
        let refused = bench.flink_k8s(&["session", "start", "--no-wait"]).await;
        assert_eq!(refused.code, Some(1), "{}", refused.said);
        let namespace = bench.cluster.namespace();
        for expected in [
            "error: cannot deploy cluster orders, and removed what had been created of it\n".to_owned(),
            format!("  because: not allowed to create Service {namespace}/orders"),
            "  hint: ask whoever runs this Kubernetes for a Role that allows it\n".to_owned(),
        ] {
            assert!(
                refused.said.contains(&expected),
                "{expected:?} is not in\n{}",
                refused.said
            );
        }
        bench.cluster.set_faults(&json!({"rules": []})).await;
        let mut left = bench.stored().await;
        while !left.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            left = bench.stored().await;
        }
    }
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_manager_that_never_answers_is_named_with_the_reason_and_a_wait_ends() {
    let bench = Bench::start().await;
    if bench.cluster.is_embedded() {
        let waited = bench.flink_k8s(&["session", "start", "--timeout", "500ms"]).await;
        assert_eq!(waited.code, Some(1), "{}", waited.said);
        assert!(
            waited
                .said
                .contains("error: the JobManager of cluster orders is not ready after "),
            "{}",
            waited.said
        );
        assert!(waited.said.contains("  because: "), "{}", waited.said);
    }
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_is_named_and_is_a_failure_outside() {
    let bench = Bench::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let away = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: c, user: u}}\n\
         clusters:\n- name: c\n  cluster: {{server: \"https://{address}\"}}\nusers:\n- name: u\n  user: {{token: t}}\n"
    );
    let kubeconfig = bench.configuration.path().join("away");
    std::fs::write(&kubeconfig, away).unwrap();
    let option = format!("-Dkubernetes.config.file={}", kubeconfig.display());
    for words in [&["session", "start", "--no-wait"][..], &["list"], &["diff"]] {
        let failed = bench.flink_k8s(&[words, &[option.as_str()]].concat()).await;
        assert_eq!(failed.code, Some(3), "{words:?}: {}", failed.said);
        assert!(
            failed.said.contains("  because: cannot reach the API server\n")
                && failed.said.contains("Connection refused")
                && failed.said.contains("  hint: is that Kubernetes running?"),
            "{words:?}: {}",
            failed.said
        );
    }
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_gone_is_told_from_one_that_does_not_answer() {
    let bench = Bench::start().await;
    let gone = bench.flink_k8s(&["list"]).await;
    assert_eq!(gone.code, Some(1));
    let namespace = bench.cluster.namespace();
    assert_eq!(
        gone.said,
        format!(
            "error: there is no cluster orders in namespace {namespace}\n  hint: `flink-k8s session list` shows the \
             clusters of a namespace; -Dkubernetes.namespace chooses another\n"
        )
    );
    bench.start_session().await;
    let deaf = bench.flink_k8s(&["list"]).await;
    assert_ne!(deaf.code, Some(0));
    assert!(
        deaf.said.starts_with("error: cluster orders cannot be reached: ") && deaf.said.contains("is ready"),
        "{}",
        deaf.said
    );
    bench
        .api::<Deployment>()
        .delete("orders", &DeleteParams::default())
        .await
        .unwrap();
    bench.cluster.shutdown().await;
}

/// Asks until the answer has this in it; what a cluster lacks shows a moment after it was created.
async fn explained(bench: &Bench, expected: &str) -> Ended {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let ended = bench.flink_k8s(&["explain"]).await;
        if ended.printed.contains(expected) {
            return ended;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{expected:?} is not in {:?} {}{}",
            ended.code,
            ended.printed,
            ended.said
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_a_node_is_explained_and_shown_on_one_screen() {
    let bench = Bench::start().await;
    let missing = bench.flink_k8s(&["explain"]).await;
    assert_eq!(missing.code, Some(1), "{}", missing.said);
    assert!(
        missing.said.contains("hint: `flink-k8s session list`"),
        "{}",
        missing.said
    );

    bench.start_session().await;
    let ended = explained(&bench, "no node can take pod orders-").await;
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    let beginning = format!(
        "cluster orders in namespace {} is in trouble: ",
        bench.cluster.namespace()
    );
    assert!(ended.printed.starts_with(&beginning), "{}", ended.printed);
    assert!(ended.printed.contains("\n  what to do: "), "{}", ended.printed);

    let as_json = bench.flink_k8s(&["explain", "--output", "json"]).await;
    let found: Value = serde_json::from_str(&as_json.printed).unwrap();
    assert_eq!((as_json.code, &found["health"]), (Some(1), &json!("troubled")));
    assert_eq!(found["findings"][0]["problem"], "unschedulable");

    let status = bench.flink_k8s(&["status"]).await;
    assert_eq!(status.code, Some(0), "{}", status.said);
    for expected in [
        "session cluster, created ",
        "\nin trouble: no node can take pod orders-",
        "\nJOBMANAGER ",
        "\nTaskManagers: none\n",
        "FailedScheduling",
    ] {
        assert!(
            status.printed.contains(expected),
            "{expected:?} is not in\n{}",
            status.printed
        );
    }
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_kubernetes_refuses_is_explained_by_its_reason() {
    let bench = Bench::start().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let account = "-Dkubernetes.jobmanager.service-account=nobody";
    let started = bench.flink_k8s(&["session", "start", "--no-wait", account]).await;
    assert_eq!(started.code, Some(0), "{}", started.said);
    let ended = explained(
        &bench,
        "the service account of the JobManager's pod does not exist: ",
    )
    .await;
    assert!(
        ended.printed.contains("serviceaccount \"nobody\" not found"),
        "{}",
        ended.printed
    );
    assert!(
        ended.printed.contains("what to do: create the ServiceAccount"),
        "{}",
        ended.printed
    );
    let stopped = bench.flink_k8s(&["session", "stop"]).await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.said);

    let words = "pods \"orders-1\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3";
    let rule = json!({"verbs": ["create"], "resource": "pods", "action": {"status": 403}, "message": words});
    bench.cluster.set_faults(&json!({"rules": [rule]})).await;
    bench.start_session().await;
    let ended = explained(
        &bench,
        "the quota of the namespace leaves no room for the JobManager's pod: ",
    )
    .await;
    assert!(
        ended.printed.contains("exceeded quota: small"),
        "{}",
        ended.printed
    );
    bench.cluster.set_faults(&json!({"rules": []})).await;
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_and_their_jobs_are_listed_across_namespaces() {
    let bench = Bench::start().await;
    bench.start_session().await;
    let listed = bench.flink_k8s(&["session", "list", "-A"]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.said);
    assert!(listed.printed.starts_with("NAMESPACE "), "{}", listed.printed);
    let row = listed
        .printed
        .lines()
        .find(|line| line.contains(bench.cluster.namespace()));
    assert!(
        row.is_some_and(|row| row.contains("orders")),
        "{}",
        listed.printed
    );

    let mut command = bench.program(env!("CARGO_BIN_EXE_flink-k8s"));
    command
        .arg("list")
        .arg(format!("-Dkubernetes.namespace={}", bench.cluster.namespace()));
    let jobs = ended(command).await;
    assert_eq!(
        jobs.code,
        Some(3),
        "a cluster whose jobs are not known is no success: {}",
        jobs.said
    );
    let warning = format!(
        "warning: the jobs of cluster orders in namespace {} are not known",
        bench.cluster.namespace()
    );
    assert!(jobs.said.contains(&warning), "{}", jobs.said);
    bench.cluster.shutdown().await;
}

/// A TaskManager's pod that runs, as its node would tell, and where it writes its log.
async fn running_task_manager(bench: &Bench, name: &str, log: &str) -> PathBuf {
    let labels = json!({"app": "orders", "component": "taskmanager", "type": "flink-native-kubernetes"});
    let container = json!({"name": "flink-main-container", "image": "flink:2.1"});
    let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": [container]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let pod = bench
        .api::<Pod>()
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
    let directory = bench
        .cluster
        .kubeconfig()
        .parent()
        .unwrap()
        .join("logs")
        .join(format!(
            "{}_{name}_{}/flink-main-container",
            bench.cluster.namespace(),
            pod.metadata.uid.unwrap()
        ));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("0.log"), log).unwrap();
    set_container(
        bench,
        name,
        "Running",
        &json!({"running": {"startedAt": "2026-11-22T17:00:00Z"}}),
    )
    .await;
    directory.join("0.log")
}

async fn set_container(bench: &Bench, name: &str, phase: &str, state: &Value) {
    let container = json!({
        "name": "flink-main-container", "image": "flink:2.1", "imageID": "", "ready": true, "restartCount": 0, "state": state,
    });
    let status = json!({"status": {"phase": phase, "containerStatuses": [container]}});
    bench
        .api::<Pod>()
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
}

/// Reads on until a line is the wanted one.
async fn until_line(lines: &mut (impl AsyncBufRead + Unpin), wanted: &str) {
    let mut all = String::new();
    let read = async {
        loop {
            let start = all.len();
            if lines.read_line(&mut all).await.unwrap() == 0 || all[start..].trim_end() == wanted {
                return all[start..].trim_end() == wanted;
            }
        }
    };
    let found = tokio::time::timeout(std::time::Duration::from_secs(60), read).await;
    assert_eq!(found, Ok(true), "{wanted:?} is not in\n{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_shown_in_part_and_followed_as_taskmanagers_come_and_go() {
    let bench = Bench::start().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    bench.start_session().await;
    let log = running_task_manager(&bench, "orders-taskmanager-1-1", "one\ntwo\n").await;

    let one = bench
        .flink_k8s(&["logs", "--taskmanager", "orders-taskmanager-1-1", "--tail", "1"])
        .await;
    assert_eq!(
        (one.code, one.printed.as_str()),
        (Some(0), "taskmanager-1-1 | two\n"),
        "{}",
        one.said
    );
    let none = bench
        .flink_k8s(&["logs", "--taskmanager=orders-taskmanager-9-9"])
        .await;
    assert_eq!(none.code, Some(1), "{}", none.said);
    assert!(
        none.said
            .contains("error: cluster orders has no TaskManager orders-taskmanager-9-9 with a log"),
        "{}",
        none.said
    );
    let previous = bench
        .flink_k8s(&["logs", "--taskmanager=orders-taskmanager-1-1", "--previous"])
        .await;
    assert!(
        previous
            .said
            .contains("--- the log of orders-taskmanager-1-1 cannot be read: previous terminated container"),
        "{}",
        previous.said
    );

    let mut command = bench.program(env!("CARGO_BIN_EXE_flink-k8s"));
    command.args(["logs", "orders", "--follow"]);
    command.arg(format!("-Dkubernetes.namespace={}", bench.cluster.namespace()));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut follower = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(follower.stdout.take().unwrap());
    let mut said = BufReader::new(follower.stderr.take().unwrap());
    until_line(&mut printed, "taskmanager-1-1 | two").await;
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(b"three\n").unwrap();
    until_line(&mut printed, "taskmanager-1-1 | three").await;

    running_task_manager(&bench, "orders-taskmanager-1-2", "hello\n").await;
    until_line(&mut said, "--- orders-taskmanager-1-2 begins").await;
    until_line(&mut printed, "taskmanager-1-2 | hello").await;
    let ended = json!({"running": null, "terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    set_container(&bench, "orders-taskmanager-1-1", "Failed", &ended).await;
    until_line(
        &mut said,
        "--- orders-taskmanager-1-1 ended: exit code 137 (OOMKilled)",
    )
    .await;

    let pid = nix::unistd::Pid::from_raw(follower.id().unwrap().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let status = tokio::time::timeout(std::time::Duration::from_secs(60), follower.wait()).await;
    assert_eq!(status.unwrap().unwrap().code(), Some(130));
    bench.cluster.shutdown().await;
}
