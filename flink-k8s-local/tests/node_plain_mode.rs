//! Pods as ordinary processes, for machines that refuse sandboxes.

#![expect(clippy::unwrap_used, reason = "these are the tests' helpers")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use flink_k8s_local::local_cluster::{
    DownReport, ImageMapping, LocalCluster, LocalClusterOptions, Mode, RequestedMode,
};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "no {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn up(directory: &Path, images: Vec<ImageMapping>) -> (LocalCluster, Client) {
    let options = LocalClusterOptions::new(directory.to_owned())
        .with_images(images)
        .with_mode(RequestedMode::Plain)
        .with_reexec_program(PathBuf::from(env!("CARGO_BIN_EXE_flink-k8s-local")));
    let cluster = LocalCluster::up(options).await.unwrap();
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    let client = Client::try_from(config).unwrap();
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::default_namespaced(client.clone());
    until("default service account", || async {
        accounts.get_opt("default").await.unwrap()
    })
    .await;
    (cluster, client)
}

fn is_running(words: &[&str]) -> bool {
    let command_line = words.join("\0") + "\0";
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command == command_line.as_bytes()
    })
}

#[tokio::test]
async fn paths_of_the_image_and_of_volumes_are_named_where_they_really_are() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("README"), "flink\n").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let images = vec![ImageMapping::flink(home.path(), None, "/usr/lib/jvm/none")];
    let (cluster, client) = up(directory.path(), images).await;
    assert!(matches!(cluster.mode(), Mode::Plain { reason } if reason == "it was asked for"));
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let config_map = json!({"metadata": {"name": "conf"}, "data": {"config.yaml": "a: 1\n"}});
    config_maps
        .create(
            &PostParams::default(),
            &serde_json::from_value(config_map).unwrap(),
        )
        .await
        .unwrap();
    let script = "cat /opt/flink/conf/config.yaml $FLINK_HOME/README; grep -c token $KUBECONFIG; \
                  case $JDK_JAVA_OPTIONS in -Djdk.net.hosts.file=*/hosts\\ -Djava.io.tmpdir=$TMPDIR) echo hosts;; esac";
    let pod = json!({
        "metadata": {"name": "plain"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "main", "image": "flink:2.1", "command": ["/bin/sh", "-c", script],
                "volumeMounts": [{"name": "conf", "mountPath": "/opt/flink/conf"}],
            }],
            "volumes": [{"name": "conf", "configMap": {"name": "conf"}}],
        },
    });
    let pods: Api<Pod> = Api::default_namespaced(client);
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    let phase = until("end of the pod", || async {
        let phase = pods.get("plain").await.unwrap().status?.phase?;
        (phase == "Succeeded" || phase == "Failed").then_some(phase)
    })
    .await;
    let log = pods.logs("plain", &LogParams::default()).await.unwrap();
    assert_eq!(
        (phase.as_str(), log.as_str()),
        ("Succeeded", "a: 1\nflink\n1\nhosts\n")
    );
    assert_eq!(
        LocalCluster::down(directory.path()).await.unwrap(),
        DownReport::Stopped
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_killed_cluster_takes_its_containers_with_it_and_down_takes_what_they_started() {
    const SHELL: [&str; 3] = ["/bin/sh", "-c", "echo plain; sleep 4712"];
    const CHILD: [&str; 2] = ["sleep", "4712"];
    let directory = tempfile::tempdir().unwrap();
    let (cluster, client) = up(directory.path(), vec![ImageMapping::host("sh")]).await;
    let pod = json!({
        "metadata": {"name": "sleeper"},
        "spec": {"containers": [{"name": "main", "image": "sh", "command": SHELL}]},
    });
    let pods: Api<Pod> = Api::default_namespaced(client);
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    until("process", || async { is_running(&CHILD).then_some(()) }).await;
    let pid = nix::unistd::Pid::from_raw(cluster.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("end of the process", || async {
        (!is_running(&SHELL)).then_some(())
    })
    .await;
    assert_eq!(
        LocalCluster::down(directory.path()).await.unwrap(),
        DownReport::NotRunning
    );
    until("end of what the container started", || async {
        (!is_running(&CHILD)).then_some(())
    })
    .await;
}
