//! Secrets are planted wherever users have them, and looked for in everything that is written.

use std::collections::BTreeSet;
use std::process::Command;

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use nix::sys::signal::Signal;

use super::resource_manager::{Manager, eventually, job_manager};
use super::{Bench, Ended, ended};

/// Part of every secret here, and of nothing else.
const PLANTED: &str = "planted";
const SETTINGS: [&str; 10] = [
    "-Ds3.secret-key=planted-01",
    "-Duser.artifacts.http-headers=Authorization:planted-02,X-Team:planted-03",
    "-Dsecurity.ssl.internal.keystore-password=planted-04",
    "-Dsecurity.ssl.rest.truststore-password=planted-05",
    "-Dfs.azure.account.key.orders.blob.core.windows.net=planted-06",
    "-Dmetrics.reporter.dd.apikey=planted-07",
    "-Dsecurity.kerberos.jaas.config=planted-08",
    "-Dcontainerized.master.env.DB_PASSWORD=planted-09",
    "-Dcontainerized.taskmanager.env.API_TOKEN=planted-10",
    "-Dflink-k8s.flink-version=2.1",
];
const FILE: &str = "jobmanager.memory.process.size: 1600m\ntaskmanager.memory.process.size: 1728m\n\
                    fs.s3a.secret.key: planted-11\nrest.client.oauth:\n  client-token: planted-12\n";
const HEADERS: &str = "Authorization: Bearer planted-13\nplanted-14 is no header";
const CORE_SITE: &str = "<configuration>\n<property><name>fs.s3a.secret.key</name><value>planted-15</value></property>\n\
                         </configuration>";

struct Scene {
    bench: Bench,
}

impl Scene {
    async fn set() -> Self {
        let bench = Bench::start().await;
        let directory = bench.configuration.path();
        std::fs::write(directory.join("config.yaml"), FILE).unwrap();
        std::fs::write(directory.join("core-site.xml"), CORE_SITE).unwrap();
        Self { bench }
    }

    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = self.bench.on_orders(program, words);
        command
            .env("FLINK_REST_CLIENT_HEADERS", HEADERS)
            .env("HADOOP_CONF_DIR", self.bench.configuration.path())
            .env("FLINK_K8S_LOG", "trace")
            .env("RUST_LOG", "trace");
        command
    }

    /// Fails unless the program ends with this code and writes no secret.
    async fn silent(&self, program: &str, words: &[&str], code: i32) -> Ended {
        let ended = ended(self.command(program, words)).await;
        for written in [&ended.printed, &ended.said] {
            let found = written.lines().find(|line| line.contains(PLANTED));
            assert_eq!(found, None, "{words:?}");
        }
        let Ended { printed, said, .. } = &ended;
        assert_eq!(ended.code, Some(code), "{words:?}: {printed}{said}");
        ended
    }

    async fn flink_k8s(&self, words: &[&str], code: i32) -> Ended {
        self.silent(env!("CARGO_BIN_EXE_flink-k8s"), words, code).await
    }

    /// As [`Scene::flink_k8s`], with all settings behind these words.
    async fn with_settings(&self, words: &[&str], code: i32) -> Ended {
        self.flink_k8s(&[words, &SETTINGS].concat(), code).await
    }

    async fn assert_events_are_clean(&self) {
        let events = self.bench.api::<Event>().list(&ListParams::default()).await;
        let events = serde_json::to_string(&events.unwrap().items).unwrap();
        assert!(!events.contains(PLANTED), "{events}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_shows_a_secret_whether_it_succeeds_or_fails() {
    let scene = Scene::set().await;
    let jar = "local:///opt/job.jar";
    let rendered = scene.with_settings(&["render", "session"], 0).await;
    for hidden in [
        "API_TOKEN",
        "DB_PASSWORD",
        "fs.s3a.secret.key",
        "user.artifacts.http-headers",
    ] {
        assert!(rendered.said.contains(hidden), "{}", rendered.said);
    }
    let words = [&["render", "application"], &SETTINGS[..], &[jar]].concat();
    scene.flink_k8s(&words, 0).await;
    scene.with_settings(&["render", "taskmanager"], 0).await;
    let shown = [&["render", "session", "--show-secrets"], &SETTINGS[..]].concat();
    let shown = ended(scene.command(env!("CARGO_BIN_EXE_flink-k8s"), &shown)).await;
    let found: BTreeSet<&str> = shown
        .printed
        .split(PLANTED)
        .skip(1)
        .map(|text| &text[..3])
        .collect();
    assert_eq!(found.len(), 13, "{found:?}");

    scene.with_settings(&["config", "list", "--set"], 0).await;
    scene
        .with_settings(&["config", "list", "--set", "--output", "json"], 0)
        .await;
    scene
        .with_settings(
            &["config", "explain", "security.ssl.internal.keystore-password"],
            0,
        )
        .await;
    scene
        .with_settings(
            &[
                "config",
                "explain",
                "user.artifacts.http-headers",
                "--output",
                "json",
            ],
            0,
        )
        .await;
    scene.with_settings(&["config", "check"], 0).await;
    scene.with_settings(&["memory"], 0).await;
    scene
        .with_settings(&["session", "start", "--dry-run", "server"], 0)
        .await;
    scene.with_settings(&["session", "start", "--no-wait"], 0).await;
    scene.with_settings(&["diff"], 0).await;
    // What runs and what is wanted differ in secrets.
    scene.flink_k8s(&["diff"], 1).await;
    scene.flink_k8s(&["diff", "--output", "json"], 1).await;
    scene.flink_k8s(&["session", "start", "--no-wait"], 1).await;
    scene
        .flink_k8s(&["session", "start", "--no-wait", "--replace"], 0)
        .await;
    scene.flink_k8s(&["status"], 0).await;
    scene.flink_k8s(&["status", "--output", "json"], 0).await;
    scene.flink_k8s(&["explain"], 1).await;
    scene.flink_k8s(&["session", "list", "--output", "json"], 0).await;
    scene.flink_k8s(&["preflight"], 0).await;
    scene
        .flink_k8s(&["list", "-Dflink-k8s.rest.url=http://127.0.0.1:1"], 3)
        .await;
    let program = env!("CARGO_BIN_EXE_kubernetes-session");
    let words = [&["-Dexecution.attached=false"], &SETTINGS[..]].concat();
    scene.silent(program, &words, 0).await;
    scene.assert_events_are_clean().await;
    scene.bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_without_showing_it() {
    let scene = Scene::set().await;
    let start = ["session", "start", "--dry-run", "client"];
    // The key says that the value is a secret, whatever the option is for.
    for malformed in [
        "-Dkubernetes.env.secretKeyRef=planted",
        "-Dkubernetes.secrets=planted",
        "-D=planted",
        "-Dflink-k8s.rest.auth.basic-auth-file=/planted",
        "-Dsecurity.ssl.rest.truststore-password=planted-1 planted-2",
    ] {
        let words = [&start[..], &[malformed]].concat();
        let ended = ended(scene.command(env!("CARGO_BIN_EXE_flink-k8s"), &words)).await;
        assert!(!ended.said.contains(PLANTED), "{malformed}: {}", ended.said);
    }
    for malformed in [
        "s3.secret-key: [planted\n",
        "s3.secret-key: \"planted\n",
        "s3:\n  secret-key: planted: planted\n",
        "s3.secret-key: planted\ns3.secret-key: planted\n",
        "s3.secret-key planted\n",
        "\ts3.secret-key: planted\n",
        "s3.secret-key: &planted planted\nb: *planted2\n",
    ] {
        let directory = scene.bench.configuration.path();
        std::fs::write(directory.join("config.yaml"), malformed).unwrap();
        let ended = ended(scene.command(env!("CARGO_BIN_EXE_flink-k8s"), &start)).await;
        assert!(!ended.said.contains(PLANTED), "{malformed}: {}", ended.said);
        std::fs::remove_file(directory.join("config.yaml")).unwrap();
        std::fs::write(directory.join("flink-conf.yaml"), malformed).unwrap();
        let ended = super::ended(scene.command(env!("CARGO_BIN_EXE_flink-k8s"), &start)).await;
        assert!(!ended.said.contains(PLANTED), "{malformed}: {}", ended.said);
    }
    scene.bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_manager_that_logs_everything_logs_no_secret() {
    let scene = Scene::set().await;
    let bench = &scene.bench;
    let server = job_manager().await;
    let render = [
        "render",
        "resource-manager",
        "--show-secrets",
        "--replicas",
        "0",
        "--rest-url",
    ];
    let address = server.uri();
    let render = [&render[..], &[address.as_str()], &SETTINGS].concat();
    let rendered = ended(scene.command(env!("CARGO_BIN_EXE_flink-k8s"), &render)).await;
    assert!(rendered.printed.contains(PLANTED), "{}", rendered.said);
    bench.store(&rendered.printed).await;
    let manage = [&["rm", "-Dflink-k8s.health.port=0"], &SETTINGS[..]].concat();
    let manage = scene.command(env!("CARGO_BIN_EXE_flink-k8s"), &manage);
    let manager = Manager::of(bench, "first", manage);
    eventually("it makes workers", async || {
        (!bench.workers().await.is_empty()).then_some(())
    })
    .await;
    let (code, said) = manager.stopped(Signal::SIGTERM).await;
    assert!(said.contains("TRACE"), "{said}");
    let found = said.lines().find(|line| line.contains(PLANTED));
    assert_eq!(found, None);
    assert_eq!(code, Some(0), "{said}");
    scene.assert_events_are_clean().await;
    scene.bench.cluster.shutdown().await;
}
