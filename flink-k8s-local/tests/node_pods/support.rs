//! A cluster of one test, and waiting for what its pods do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flink_k8s_local::local_cluster::{
    DownReport, ImageMapping, LocalCluster, LocalClusterOptions, RequestedMode,
};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A cluster of one test. Dropped without [`TestCluster::down`] it is killed.
pub(crate) struct TestCluster {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) cluster: LocalCluster,
    pub(crate) client: Client,
}

impl TestCluster {
    /// `None` where this machine refuses a sandbox; the test is then skipped.
    pub(crate) async fn up() -> Option<Self> {
        Self::up_with(vec![ImageMapping::host("sh")]).await
    }

    pub(crate) async fn up_with(images: Vec<ImageMapping>) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = options(directory.path(), images);
        let cluster = match LocalCluster::up(options).await {
            Ok(cluster) => cluster,
            Err(error @ flink_k8s_local::local_cluster::UpError::SandboxRefused { .. }) => {
                println!("skipped: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let client = client(cluster.kubeconfig()).await;
        let cluster = Self {
            directory,
            cluster,
            client,
        };
        cluster
            .until("the default service account", || async {
                let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
                    Api::default_namespaced(cluster.client.clone());
                accounts.get_opt("default").await.unwrap()
            })
            .await;
        Some(cluster)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) async fn create(&self, pod: Value) -> Pod {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap()
    }

    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        mut look: impl FnMut() -> F,
    ) -> T {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "no {what}\n{}",
                self.describe().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a pod's status is as wanted.
    pub(crate) async fn until_pod(
        &self,
        name: &str,
        what: &str,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let pods = self.pods();
        self.until(&format!("pod {name} {what}"), || async {
            let pod = serde_json::to_value(pods.get_opt(name).await.unwrap()?).unwrap();
            is_wanted(&pod["status"]).then_some(pod["status"].clone())
        })
        .await
    }

    pub(crate) async fn until_phase(&self, name: &str, phase: &str) -> Value {
        self.until_pod(name, phase, |status| status["phase"] == phase)
            .await
    }

    pub(crate) async fn until_ready(&self, name: &str) -> Value {
        self.until_pod(name, "ready", |status| {
            status["containerStatuses"][0]["ready"] == true
        })
        .await
    }

    pub(crate) async fn log(&self, name: &str) -> String {
        self.pods().logs(name, &LogParams::default()).await.unwrap()
    }

    pub(crate) async fn log_of(&self, name: &str, container: &str) -> String {
        let parameters = LogParams {
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        self.pods().logs(name, &parameters).await.unwrap()
    }

    pub(crate) async fn until_log(&self, name: &str, text: &str) -> String {
        let pods = self.pods();
        self.until(&format!("{text:?} in the log of {name}"), || async {
            let log = pods.logs(name, &LogParams::default()).await.ok()?;
            log.contains(text).then_some(log)
        })
        .await
    }

    /// Everything that helps to understand a failure.
    pub(crate) async fn describe(&self) -> String {
        let pods = self
            .pods()
            .list(&ListParams::default())
            .await
            .map(|list| list.items);
        let events: Api<Event> = Api::all(self.client.clone());
        let events = events
            .list(&ListParams::default())
            .await
            .map(|list| list.items)
            .unwrap_or_default();
        let events: Vec<_> = events
            .iter()
            .map(|e| format!("{:?} {:?}", e.reason, e.message))
            .collect();
        let log = std::fs::read_to_string(self.directory.path().join("cluster.log")).unwrap_or_default();
        format!(
            "{}\n{}\n{log}",
            serde_json::to_string_pretty(&pods.unwrap_or_default()).unwrap(),
            events.join("\n")
        )
    }

    pub(crate) async fn down(self) {
        let pid = self.cluster.pid();
        let report = LocalCluster::down(self.directory.path()).await.unwrap();
        assert_eq!(report, DownReport::Stopped);
        assert_nothing_left(self.directory.path(), pid);
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.cluster.pid().cast_signed());
        if Path::new(&format!("/proc/{pid}/stat")).exists() && std::thread::panicking() {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

pub(crate) fn options(directory: &Path, images: Vec<ImageMapping>) -> LocalClusterOptions {
    LocalClusterOptions::new(directory.to_owned())
        .with_images(images)
        .with_mode(RequestedMode::Sandbox)
        .with_reexec_program(PathBuf::from(env!("CARGO_BIN_EXE_flink-k8s-local")))
}

pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// No process, no mount and no file of the cluster is there any more.
pub(crate) fn assert_nothing_left(directory: &Path, supervisor: u32) {
    assert!(
        !Path::new(&format!("/proc/{supervisor}/exe")).exists(),
        "the supervisor is still there"
    );
    let text = directory.to_string_lossy().into_owned();
    for process in processes() {
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        assert!(!command.contains(&text), "{}: {command}", process.display());
        let mounts = std::fs::read_to_string(process.join("mounts")).unwrap_or_default();
        // Containers of other clusters show the host's /tmp, so the directory itself may be one of their mounts.
        assert!(
            !mounts.contains(&format!("{text}/")),
            "{} has a mount of the cluster: {command}",
            process.display()
        );
    }
    let left: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

pub(crate) fn processes() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.file_name().unwrap().to_string_lossy().parse::<u32>().is_ok())
        .collect()
}

/// A pod that runs a shell script and is not restarted.
pub(crate) fn script(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": "sh", "command": ["/bin/sh", "-c", script]}],
        },
    })
}

pub(crate) fn with(mut pod: Value, changes: &Value) -> Value {
    json_patch::merge(&mut pod, changes);
    pod
}

/// A process by a part of its command line, unless it is one of ours.
pub(crate) fn find_process(part: &str) -> Option<nix::unistd::Pid> {
    processes().into_iter().find_map(|process| {
        let command = String::from_utf8(std::fs::read(process.join("cmdline")).ok()?).ok()?;
        let is_it = command.starts_with("/bin/sh\0-c\0") && command.contains(part);
        let pid = process.file_name()?.to_str()?.parse().ok()?;
        is_it.then(|| nix::unistd::Pid::from_raw(pid))
    })
}
