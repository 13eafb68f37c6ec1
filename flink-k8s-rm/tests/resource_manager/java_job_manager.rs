//! An unmodified native JobManager at our endpoint, in front of a fake cluster.
//!
//! Needs `java` on the PATH (or `JAVA_HOME`) and a Flink distribution in `FLINK_HOME`:
//! `cargo test -p flink-k8s-rm --test resource_manager java -- --ignored --nocapture`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_rm::driver::{ResourceManager, ResourceManagerHandle, ResourceManagerOptions};
use flink_k8s_rm::endpoint::Endpoint;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::json;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::embedded_cluster::World;
use crate::fake_cluster::{CLUSTER_ID, FakeCluster, Fault, OWNER_UID, eventually, factory, reasons};

const OPENED: [&str; 11] = [
    "java.lang",
    "java.net",
    "java.io",
    "java.nio",
    "sun.nio.ch",
    "java.lang.reflect",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
];

/// No job is needed: Flink keeps four slots at hand, two on each worker.
const SETTINGS: [&str; 13] = [
    "kubernetes.cluster-id=nat1",
    "kubernetes.container.image.ref=flink",
    "jobmanager.rpc.address=localhost",
    "jobmanager.rpc.port=0",
    "jobmanager.memory.process.size=1g",
    "rest.address=localhost",
    "rest.bind-port=0",
    "blob.server.port=0",
    "taskmanager.memory.process.size=1g",
    "taskmanager.numberOfTaskSlots=2",
    "slotmanager.number-of-slots.min=4",
    "resourcemanager.taskmanager-registration.timeout=8s",
    "taskmanager.rpc.port=6122",
];

/// Starts the JobManager with these settings besides; its log goes to `jobmanager.log` in the directory.
fn start_job_manager(directory: &Path, kubeconfig: &str, settings: &[String]) -> Child {
    let flink_home = std::env::var_os("FLINK_HOME").expect("FLINK_HOME names a Flink distribution");
    let log4j = "rootLogger.level=INFO\nrootLogger.appenderRef.out.ref=Out\nappender.out.name=Out\n\
        appender.out.type=CONSOLE\nappender.out.layout.type=PatternLayout\n\
        appender.out.layout.pattern=%d %p %c{1} %m%n\n";
    std::fs::write(directory.join("kubeconfig"), kubeconfig).unwrap();
    std::fs::write(directory.join("config.yaml"), "parallelism: {default: 1}\n").unwrap();
    std::fs::write(directory.join("log4j-console.properties"), log4j).unwrap();
    let java =
        std::env::var_os("JAVA_HOME").map_or("java".into(), |home| PathBuf::from(home).join("bin/java"));
    let log = std::fs::File::create(directory.join("jobmanager.log")).unwrap();
    let mut command = Command::new(java);
    command
        .args(OPENED.map(|package| format!("--add-opens=java.base/{package}=ALL-UNNAMED")))
        .arg("-Xmx512m")
        .arg(format!(
            "-Dlog4j.configurationFile=file:{}/log4j-console.properties",
            directory.display()
        ))
        .arg("-cp")
        .arg(format!("{}/lib/*", flink_home.display()))
        .arg("org.apache.flink.kubernetes.entrypoint.KubernetesSessionClusterEntrypoint")
        .args(SETTINGS.iter().flat_map(|setting| ["-D", setting]))
        .args(settings.iter().flat_map(|setting| ["-D", setting]))
        .env("_POD_IP_ADDRESS", "127.0.0.1")
        .env("FLINK_CONF_DIR", directory)
        .env("KUBECONFIG", directory.join("kubeconfig"))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.spawn().unwrap()
}

/// Runs the test's story; if it takes too long, prints the end of the JobManager's log.
async fn told_in_time(story: impl Future<Output = ()>, directory: &Path, handle: &ResourceManagerHandle) {
    tokio::select! {
        () = story => {}
        () = tokio::time::sleep(Duration::from_secs(120)) => {
            let log = std::fs::read_to_string(directory.join("jobmanager.log")).unwrap_or_default();
            let messages: Vec<&str> = log.lines().filter(|line| !line.starts_with("\tat ")).collect();
            for line in &messages[messages.len().saturating_sub(60)..] {
                println!("{line}");
            }
            panic!("too slow; workers: {:?}", reasons(handle).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and a Flink distribution in FLINK_HOME"]
async fn an_unmodified_job_manager_gets_loses_and_replaces_its_workers() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = FakeCluster::default();
    let endpoint = Endpoint::bind().await.unwrap();
    let kubeconfig = endpoint.kubeconfig(&"default".parse().unwrap(), "flink-k8s");
    let options = ResourceManagerOptions::new(CLUSTER_ID.parse().unwrap(), "default".parse().unwrap());
    let manager =
        ResourceManager::new(options, Arc::new(cluster.clone()), None, factory()).with_endpoint(endpoint);
    let (handle, shutdown) = (manager.handle(), CancellationToken::new());
    let running = tokio::spawn(manager.run(shutdown.clone()));
    cluster.add_pod("nat1-taskmanager-3-1", OWNER_UID);
    cluster.run_pod("nat1-taskmanager-3-1");

    let settings = ["kubernetes.namespace=default".to_owned()];
    let mut job_manager = start_job_manager(directory.path(), &kubeconfig, &settings);
    let story = async {
        eventually("the first requests", async || cluster.created().len() >= 3).await;
        let created = cluster.created();
        assert!(
            created[1..]
                .iter()
                .all(|name| name.starts_with("nat1-taskmanager-4-")),
            "{created:?}"
        );
        cluster.run_pod(&created[1]);
        cluster.kill_pod(&created[1], 137);
        eventually("a replacement", async || cluster.created().len() >= 4).await;
        assert!(!cluster.pods().contains(&created[1]));

        // No TaskManager registers, so the JobManager gives the workers up; and meanwhile nothing works.
        cluster.set_outage(Some(Fault::Fails));
        cluster.run_pod(&created[2]);
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert!(
            job_manager.try_wait().unwrap().is_none(),
            "the JobManager survives the outage"
        );
        cluster.set_outage(None);
        eventually("the release", async || !cluster.pods().contains(&created[2])).await;
    };
    told_in_time(story, directory.path(), &handle).await;
    job_manager.kill().await.unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and a Flink distribution in FLINK_HOME"]
async fn a_job_manager_that_is_elected_through_the_endpoint_survives_an_outage_of_the_api_server() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::start().await;
    let manager = world.resource_manager().await;
    let settings = [
        format!("kubernetes.namespace={}", world.namespace),
        "high-availability.type=kubernetes".to_owned(),
        format!(
            "high-availability.storageDir=file://{}",
            directory.path().display()
        ),
        "high-availability.jobmanager.port=0".to_owned(),
    ];
    let mut job_manager = start_job_manager(directory.path(), &manager.kubeconfig, &settings);
    let config_maps: Api<ConfigMap> = Api::namespaced(world.cluster.client(), world.namespace.as_str());
    let version = async || {
        let config_map = config_maps.get_opt("nat1-cluster-config-map").await.ok()??;
        let leads = |data: &std::collections::BTreeMap<String, String>| {
            data.contains_key("org.apache.flink.k8s.leader.resourcemanager")
        };
        config_map
            .metadata
            .resource_version
            .filter(|_| config_map.data.as_ref().is_some_and(leads))
    };
    let story = async {
        eventually("leadership", async || version().await.is_some()).await;
        eventually("workers", async || world.real_pods().await.len() == 2).await;
        let failing = json!({"rules": [{"action": {"status": 500}, "forSeconds": 6}]});
        world.cluster.set_faults(&failing).await;
        eventually("the outage is over", async || version().await.is_some()).await;
        let before = version().await;
        eventually("the leadership is renewed", async || version().await != before).await;
        assert!(
            job_manager.try_wait().unwrap().is_none(),
            "the JobManager survives the outage"
        );
    };
    told_in_time(story, directory.path(), &manager.handle).await;
    job_manager.kill().await.unwrap();
    manager.stop().await;
    world.cluster.shutdown().await;
}
