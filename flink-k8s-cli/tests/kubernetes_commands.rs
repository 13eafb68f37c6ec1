//! Commands against a Kubernetes API server: what they print, what they store, and how they end.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what cannot be unwrapped here fails the test, and a skipped test says so"
)]

#[path = "kubernetes_commands/attaching.rs"]
mod attaching;
#[path = "kubernetes_commands/conversation.rs"]
mod conversation;
#[path = "kubernetes_commands/deploying.rs"]
mod deploying;
#[path = "kubernetes_commands/exposure.rs"]
mod exposure;
#[path = "kubernetes_commands/interruptions.rs"]
mod interruptions;
#[path = "kubernetes_commands/logs.rs"]
mod logs;
#[path = "kubernetes_commands/removal.rs"]
mod removal;
#[path = "kubernetes_commands/resource_manager.rs"]
mod resource_manager;
#[path = "kubernetes_commands/secrets.rs"]
mod secrets;
#[path = "kubernetes_commands/tls.rs"]
mod tls;
#[path = "kubernetes_commands/watching.rs"]
mod watching;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use flink_k8s_local::test_cluster::TestCluster;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, ListParams};

/// What a session cluster `orders` consists of, by name.
const OBJECTS: [&str; 4] = ["flink-config-orders", "orders", "orders", "orders-rest"];

/// What the API server knows our commands by, and none of its own controllers.
const OURS: &str = "flink-k8s/";

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
        ended(self.on_orders(program, arguments)).await
    }

    /// `program` with these arguments about cluster `orders` of the test's namespace.
    fn on_orders(&self, program: &str, arguments: &[&str]) -> Command {
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
        command
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
