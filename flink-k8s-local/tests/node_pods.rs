//! Pods on a real local cluster in a sandbox: shells of this machine stand for images.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "these are the tests' helpers"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use flink_k8s_local::local_cluster::{
    DownReport, ImageMapping, LocalCluster, LocalClusterOptions, Mode, RequestedMode, Status,
};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Service};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A cluster of one test. Dropped without [`TestCluster::down`] it is killed.
struct TestCluster {
    directory: tempfile::TempDir,
    cluster: LocalCluster,
    client: Client,
}

impl TestCluster {
    /// `None` where this machine refuses a sandbox; the test is then skipped.
    async fn up() -> Option<Self> {
        Self::up_with(vec![ImageMapping::host("sh")]).await
    }

    async fn up_with(images: Vec<ImageMapping>) -> Option<Self> {
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

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    async fn create(&self, pod: Value) -> Pod {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap()
    }

    async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, mut look: impl FnMut() -> F) -> T {
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
    async fn until_pod(&self, name: &str, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let pods = self.pods();
        self.until(&format!("pod {name} {what}"), || async {
            let pod = serde_json::to_value(pods.get_opt(name).await.unwrap()?).unwrap();
            is_wanted(&pod["status"]).then_some(pod["status"].clone())
        })
        .await
    }

    async fn until_phase(&self, name: &str, phase: &str) -> Value {
        self.until_pod(name, phase, |status| status["phase"] == phase)
            .await
    }

    async fn until_ready(&self, name: &str) -> Value {
        self.until_pod(name, "ready", |status| {
            status["containerStatuses"][0]["ready"] == true
        })
        .await
    }

    async fn log(&self, name: &str) -> String {
        self.pods().logs(name, &LogParams::default()).await.unwrap()
    }

    async fn log_of(&self, name: &str, container: &str) -> String {
        let parameters = LogParams {
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        self.pods().logs(name, &parameters).await.unwrap()
    }

    async fn until_log(&self, name: &str, text: &str) -> String {
        let pods = self.pods();
        self.until(&format!("{text:?} in the log of {name}"), || async {
            let log = pods.logs(name, &LogParams::default()).await.ok()?;
            log.contains(text).then_some(log)
        })
        .await
    }

    /// Everything that helps to understand a failure.
    async fn describe(&self) -> String {
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

    async fn down(self) {
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

fn options(directory: &Path, images: Vec<ImageMapping>) -> LocalClusterOptions {
    LocalClusterOptions::new(directory.to_owned())
        .with_images(images)
        .with_mode(RequestedMode::Sandbox)
        .with_reexec_program(PathBuf::from(env!("CARGO_BIN_EXE_flink-k8s-local")))
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// No process, no mount and no file of the cluster is there any more.
fn assert_nothing_left(directory: &Path, supervisor: u32) {
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

fn processes() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.file_name().unwrap().to_string_lossy().parse::<u32>().is_ok())
        .collect()
}

/// A pod that runs a shell script and is not restarted.
fn script(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": "sh", "command": ["/bin/sh", "-c", script]}],
        },
    })
}

fn with(mut pod: Value, changes: &Value) -> Value {
    json_patch::merge(&mut pod, changes);
    pod
}

#[tokio::test]
async fn a_pod_runs_writes_its_log_and_ends_with_its_exit_code() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    assert_eq!(cluster.cluster.mode(), &Mode::Sandbox);
    cluster
        .create(script("good", "echo hello from $HOSTNAME; hostname; exit 0"))
        .await;
    cluster.create(script("bad", "exit 7")).await;
    cluster
        .create(script(
            "killed",
            "kill -TERM $$; exec sh -c 'trap - TERM; kill -9 0'",
        ))
        .await;
    cluster.until_phase("good", "Succeeded").await;
    assert_eq!(cluster.log("good").await, "hello from good\ngood\n");
    let status = cluster.until_phase("bad", "Failed").await;
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["exitCode"], 7);
    assert_eq!(terminated["reason"], "Error");
    let status = cluster
        .until_pod("good", "finished", |s| s["conditions"].is_array())
        .await;
    let scheduled = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .any(|c| c["type"] == "PodScheduled");
    assert!(scheduled, "{status:#}");
    cluster.down().await;
}

#[tokio::test]
async fn a_killed_container_is_restarted_in_place() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let pod = script(
        "worker",
        "echo run; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done",
    );
    let pod = cluster
        .create(with(pod, &json!({"spec": {"restartPolicy": "Always"}})))
        .await;
    let before = cluster.until_ready("worker").await;
    // The container's first process, seen from here: the shell with the script in its command line.
    let pid = cluster
        .until("the container's process", || async {
            find_process("echo run; trap")
        })
        .await;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let after = cluster
        .until_pod("worker", "restarted", |status| {
            let container = &status["containerStatuses"][0];
            container["restartCount"] == 1 && container["ready"] == true
        })
        .await;
    let container = &after["containerStatuses"][0];
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(container["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(after["podIP"], before["podIP"]);
    assert_eq!(
        cluster.pods().get("worker").await.unwrap().metadata.uid,
        pod.metadata.uid
    );
    let previous = LogParams {
        previous: true,
        ..LogParams::default()
    };
    assert_eq!(cluster.pods().logs("worker", &previous).await.unwrap(), "run\n");
    cluster.down().await;
}

/// A process by a part of its command line, unless it is one of ours.
fn find_process(part: &str) -> Option<nix::unistd::Pid> {
    processes().into_iter().find_map(|process| {
        let command = String::from_utf8(std::fs::read(process.join("cmdline")).ok()?).ok()?;
        let is_it = command.starts_with("/bin/sh\0-c\0") && command.contains(part);
        let pid = process.file_name()?.to_str()?.parse().ok()?;
        is_it.then(|| nix::unistd::Pid::from_raw(pid))
    })
}

#[tokio::test]
async fn environment_and_volumes_are_as_the_pod_asks() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let pod = script(
        "full",
        "cat /opt/nowhere/conf/config.yaml /flink-data/one; echo $GREETING $FROM_MAP $POD_IP $PREFIX_a; \
         cat /etc/podinfo/labels; echo; cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; \
         head -c 20 /var/run/secrets/kubernetes.io/serviceaccount/token | wc -c; \
         head -1 /var/run/secrets/kubernetes.io/serviceaccount/ca.crt; \
         echo x > /scratch/file && cat /scratch/file; \
         (echo y > /opt/nowhere/conf/config.yaml) 2>/dev/null || echo read-only; \
         echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT; pwd; \
         while [ \"$(cat /opt/nowhere/conf/config.yaml)\" = 'a: 1' ]; do sleep 0.1; done; \
         cat /opt/nowhere/conf/config.yaml",
    );
    let command = pod["spec"]["containers"][0]["command"].clone();
    let pod = with(
        pod,
        &json!({"spec": {
            "containers": [{
                "name": "main", "image": "sh", "workingDir": "/scratch/deep", "command": command,
                "env": [
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "GREETING", "value": "hello-$(NAME)"},
                    {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "one"}}},
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "envFrom": [{"prefix": "PREFIX_", "configMapRef": {"name": "variables"}}],
                "volumeMounts": [
                    {"name": "conf", "mountPath": "/opt/nowhere/conf"},
                    {"name": "conf-one", "mountPath": "/flink-data/one", "subPath": "one"},
                    {"name": "scratch", "mountPath": "/scratch"},
                    {"name": "info", "mountPath": "/etc/podinfo"},
                ],
            }],
            "volumes": [
                {"name": "conf", "configMap": {"name": "conf", "items": [{"key": "config.yaml", "path": "config.yaml"}]}},
                {"name": "conf-one", "configMap": {"name": "conf"}},
                {"name": "scratch", "emptyDir": {}},
                {"name": "info", "downwardAPI": {"items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            ],
        }}),
    );
    cluster.create(pod).await;
    // The pod comes before its ConfigMap, as in Flink's own deployments.
    let events: Api<Event> = Api::default_namespaced(cluster.client.clone());
    cluster
        .until("a FailedMount event", || async {
            let events = events.list(&ListParams::default()).await.unwrap();
            events
                .items
                .into_iter()
                .find(|event| event.reason.as_deref() == Some("FailedMount"))
        })
        .await;
    let waiting = cluster
        .until_pod("full", "seen", |status| status["containerStatuses"].is_array())
        .await;
    assert_eq!(
        waiting["containerStatuses"][0]["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    let config_maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    for config_map in [
        json!({"metadata": {"name": "variables"}, "data": {"a": "A"}}),
        json!({"metadata": {"name": "conf"}, "data": {"config.yaml": "a: 1\n", "one": "1\n"}}),
    ] {
        let config_map = serde_json::from_value(config_map).unwrap();
        config_maps
            .create(&PostParams::default(), &config_map)
            .await
            .unwrap();
    }
    cluster.until_log("full", "/scratch/deep").await;
    let change = Patch::Merge(json!({"data": {"config.yaml": "a: 2\n"}}));
    config_maps
        .patch("conf", &PatchParams::default(), &change)
        .await
        .unwrap();
    let status = cluster.until_phase("full", "Succeeded").await;
    let address = status["podIP"].as_str().unwrap();
    let expected = format!(
        "a: 1\n1\nhello-full 1 {address} A\napp=\"full\"\ndefault\n20\n-----BEGIN CERTIFICATE-----\nx\n\
         read-only\n10.244.0.1:6443\n/scratch/deep\na: 2\n"
    );
    assert_eq!(cluster.log("full").await, expected);
    assert!(
        !Path::new("/opt/nowhere").exists() && !Path::new("/flink-data").exists(),
        "the host was changed"
    );
    cluster.down().await;
}

#[tokio::test]
async fn pods_have_networks_of_their_own_and_services_find_them() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let server = "import http.server, socket\n\
        class H(http.server.BaseHTTPRequestHandler):\n\
        \x20   def do_GET(self):\n\
        \x20       body = socket.gethostname().encode()\n\
        \x20       self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()\n\
        \x20       self.wfile.write(body)\n\
        http.server.HTTPServer(('0.0.0.0', 8081), H).serve_forever()\n";
    let services: Api<Service> = Api::default_namespaced(cluster.client.clone());
    for (name, cluster_ip) in [("headless", Some("None")), ("rest", None)] {
        let mut spec =
            json!({"selector": {"app": "one"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]});
        if let Some(cluster_ip) = cluster_ip {
            spec["clusterIP"] = json!(cluster_ip);
        }
        let service = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        services.create(&PostParams::default(), &service).await.unwrap();
    }
    for name in ["one", "two"] {
        let pod = with(
            script(name, ""),
            &json!({"spec": {"containers": [{
                "name": "main", "image": "sh", "command": ["python3", "-c", server],
                "ports": [{"name": "web", "containerPort": 8081}],
                "readinessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1},
            }]}}),
        );
        cluster.create(pod).await;
    }
    cluster.until_ready("one").await;
    cluster.until_ready("two").await;
    let get = "import urllib.request as u; \
        print(u.urlopen('http://headless.default:8081/').read().decode(), \
        u.urlopen('http://rest.default.svc.cluster.local/').read().decode(), \
        u.urlopen('http://rest/').read().decode())";
    // The hosts file of a pod that is there already follows changes; a new pod starts with it.
    cluster
        .create(script(
            "client",
            &format!("until python3 -c \"{get}\" 2>/dev/null; do sleep 0.2; done"),
        ))
        .await;
    cluster.until_phase("client", "Succeeded").await;
    assert_eq!(cluster.log("client").await, "one one one\n");
    cluster.down().await;
}

#[tokio::test]
async fn deletion_gives_containers_their_grace_and_then_kills_them() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    cluster
        .create(script(
            "polite",
            "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done",
        ))
        .await;
    let stubborn = script(
        "stubborn",
        "trap 'echo no' TERM; echo up; while :; do sleep 0.1; done",
    );
    cluster
        .create(with(
            stubborn,
            &json!({"spec": {"terminationGracePeriodSeconds": 1}}),
        ))
        .await;
    for name in ["polite", "stubborn"] {
        cluster.until_log(name, "up").await;
        let begin = std::time::Instant::now();
        cluster
            .pods()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        let pods = cluster.pods();
        cluster
            .until("end of the pod", || async {
                pods.get_opt(name).await.unwrap().is_none().then_some(())
            })
            .await;
        if name == "stubborn" {
            assert!(
                begin.elapsed() >= Duration::from_secs(1),
                "killed before its grace was over"
            );
        }
    }
    cluster.down().await;
}

#[tokio::test]
async fn init_containers_run_in_order_before_the_others() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let step = |name: &str, script: &str| {
        json!({"name": name, "image": "sh", "command": ["/bin/sh", "-c", script],
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]})
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "steps"},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "shared", "emptyDir": {}}],
            "initContainers": [
                step("first", "sleep 0.2; echo first > /shared/order"),
                with(step("sidecar", "echo sidecar >> /shared/order; sleep 1000"), &json!({"restartPolicy": "Always"})),
                step("second", "echo second >> /shared/order"),
            ],
            "containers": [step("main", "cat /shared/order")],
        },
    });
    cluster.create(pod).await;
    cluster.until_phase("steps", "Succeeded").await;
    let log = cluster.log_of("steps", "main").await;
    assert!(log.starts_with("first\n") && log.contains("second\n"), "{log}");
    let broken = with(
        script("broken", "echo never"),
        &json!({"spec": {"initContainers": [step("init", "exit 4")], "volumes": [{"name": "shared", "emptyDir": {}}]}}),
    );
    cluster.create(broken).await;
    let status = cluster.until_phase("broken", "Failed").await;
    assert_eq!(
        status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"],
        4
    );
    cluster.down().await;
}

#[tokio::test]
async fn a_container_has_a_temporary_directory_of_its_own_that_shows_the_hosts_files() {
    let shared = tempfile::tempdir_in("/tmp").unwrap();
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let (path, name) = (
        shared.path().display(),
        shared.path().file_name().unwrap().display().to_string(),
    );
    let own = format!("/tmp/own-{name}");
    cluster
        .create(script(
            "writer",
            &format!("echo out > {path}/out; echo own > {own}; cat {own}; ls -ld /tmp"),
        ))
        .await;
    cluster.until_phase("writer", "Succeeded").await;
    let log = cluster.log("writer").await;
    assert!(log.starts_with("own\ndrwxrwxrwt"), "{log}");
    assert_eq!(
        std::fs::read_to_string(shared.path().join("out")).unwrap(),
        "out\n"
    );
    assert!(!Path::new(&own).exists());
    cluster.down().await;
}

#[tokio::test]
async fn an_image_is_a_directory_that_the_container_may_change_and_the_host_keeps() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("log")).unwrap();
    std::fs::write(home.path().join("README"), "flink\n").unwrap();
    let images = vec![
        ImageMapping::host("sh"),
        ImageMapping::flink(home.path(), None, "/usr/lib/jvm/none"),
    ];
    let Some(cluster) = TestCluster::up_with(images).await else {
        return;
    };
    let pod = with(
        script("flink", ""),
        &json!({"spec": {"containers": [{
            "name": "main", "image": "apache/flink:2.1.0",
            "command": ["/docker-entrypoint.sh"],
            "args": ["sh", "-c", "cat $FLINK_HOME/README; echo hi > /opt/flink/log/x; rm /opt/flink/README; ls /opt/flink"],
        }]}}),
    );
    cluster.create(pod).await;
    cluster.until_phase("flink", "Succeeded").await;
    let log = cluster.log("flink").await;
    assert!(
        log.starts_with("flink\n") && log.contains("log\n") && !log.contains("README"),
        "{log}"
    );
    assert!(home.path().join("README").exists() && !home.path().join("log/x").exists());

    cluster
        .create(with(
            script("unknown", ""),
            &json!({"spec": {"containers": [{"name": "main", "image": "postgres:17"}]}}),
        ))
        .await;
    let status = cluster
        .until_pod("unknown", "refused", |s| {
            s["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImagePull"
        })
        .await;
    let message = status["containerStatuses"][0]["state"]["waiting"]["message"]
        .as_str()
        .unwrap();
    assert!(
        message.contains("postgres:17") && message.contains("apache/flink:*"),
        "{message}"
    );
    let status = {
        let missing = &json!({"spec": {"containers": [{"name": "main", "image": "sh", "command": ["/no/such/program"]}]}});
        cluster.create(with(script("missing", ""), missing)).await;
        cluster.until_phase("missing", "Failed").await
    };
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["reason"], "StartError");
    assert!(
        terminated["message"]
            .as_str()
            .unwrap()
            .contains("/no/such/program"),
        "{terminated}"
    );
    cluster.down().await;
}

#[tokio::test]
async fn a_cluster_that_runs_is_found_again_and_a_dead_one_is_cleared_away() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let again = LocalCluster::up(options(cluster.directory.path(), Vec::new()))
        .await
        .unwrap();
    assert_eq!(
        (again.pid(), again.endpoint()),
        (cluster.cluster.pid(), cluster.cluster.endpoint())
    );
    cluster.create(script("sleeper", "echo; sleep 4711")).await;
    cluster.until_ready("sleeper").await;
    let status = LocalCluster::status(cluster.directory.path()).await.unwrap();
    assert!(matches!(status, Status::Running(found) if found.pid() == again.pid()));

    // Whatever kills the outermost process, nothing inside survives it.
    let pid = nix::unistd::Pid::from_raw(again.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    cluster
        .until("end of the killed cluster", || async {
            find_process("sleep 4711").is_none().then_some(())?;
            let status = LocalCluster::status(cluster.directory.path()).await.unwrap();
            matches!(status, Status::Stale).then_some(())
        })
        .await;
    let fresh = LocalCluster::up(options(cluster.directory.path(), Vec::new()))
        .await
        .unwrap();
    assert_ne!(fresh.pid(), again.pid());
    assert_eq!(
        LocalCluster::down(cluster.directory.path()).await.unwrap(),
        DownReport::Stopped
    );
    assert_nothing_left(cluster.directory.path(), fresh.pid());
    assert_eq!(
        LocalCluster::down(cluster.directory.path()).await.unwrap(),
        DownReport::NotRunning
    );
}

#[tokio::test]
async fn probes_decide_about_readiness_and_restarts() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let pod = with(
        script(
            "probed",
            "trap 'exit 0' TERM; touch /state/alive; sleep 0.5; touch /state/ready; while :; do sleep 0.1; done",
        ),
        &json!({"spec": {"restartPolicy": "Always", "volumes": [{"name": "state", "emptyDir": {}}]}}),
    );
    let mut pod = pod;
    let container = &mut pod["spec"]["containers"][0];
    container["volumeMounts"] = json!([{"name": "state", "mountPath": "/state"}]);
    container["startupProbe"] =
        json!({"exec": {"command": ["test", "-e", "/state/alive"]}, "periodSeconds": 1});
    container["readinessProbe"] =
        json!({"exec": {"command": ["test", "-e", "/state/ready"]}, "periodSeconds": 1});
    container["livenessProbe"] = json!({"exec": {"command": ["test", "-e", "/state/alive"]}, "periodSeconds": 1, "failureThreshold": 1});
    // The hook runs in the container: it removes what the probes look for.
    container["lifecycle"] = json!({"preStop": {"exec": {"command": ["sh", "-c", "rm /state/ready; echo $HOSTNAME > /state/stopped"]}}});
    let uid = cluster.create(pod).await.metadata.uid.unwrap();
    cluster.until_ready("probed").await;
    let state = cluster
        .directory
        .path()
        .join("pods")
        .join(uid)
        .join("volumes/state");
    std::fs::remove_file(state.join("alive")).unwrap();
    let status = cluster
        .until_pod("probed", "restarted", |s| {
            s["containerStatuses"][0]["restartCount"] == 1 && s["containerStatuses"][0]["ready"] == true
        })
        .await;
    let last = &status["containerStatuses"][0]["lastState"]["terminated"];
    assert!(
        last["message"]
            .as_str()
            .unwrap()
            .contains("Liveness probe failed"),
        "{last}"
    );
    assert_eq!(
        std::fs::read_to_string(state.join("stopped")).unwrap(),
        "probed\n"
    );
    cluster.down().await;
}

#[test]
fn an_ordinary_user_has_the_same_sandbox() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::Uid::effective().is_root() {
        return; // Then every other test has shown it.
    }
    let directory = tempfile::tempdir().unwrap();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    nix::unistd::chown(directory.path(), Some(nobody.uid), Some(nobody.gid)).unwrap();
    let as_nobody = |program: &Path| {
        let mut command = std::process::Command::new(program);
        command
            .uid(nobody.uid.as_raw())
            .gid(nobody.gid.as_raw())
            .current_dir("/");
        command.env("TMPDIR", directory.path());
        command
    };
    let cluster_program = Path::new(env!("CARGO_BIN_EXE_flink-k8s-local"));
    if as_nobody(cluster_program).output().is_err() {
        println!("skipped: user nobody may not run {}", cluster_program.display());
        return;
    }
    let this_test = std::env::current_exe().unwrap();
    let output = as_nobody(&this_test)
        .args(["--exact", "environment_and_volumes_are_as_the_pod_asks"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// For looking at a cluster by hand: it goes on running in the directory that `HOLD` names.
#[tokio::test]
#[ignore = "leaves a cluster running"]
async fn hold() {
    let directory = std::env::var("HOLD").unwrap();
    let mut images = vec![ImageMapping::host("sh")];
    if let (Ok(flink), Ok(java)) = (std::env::var("FLINK_HOME"), std::env::var("JAVA_HOME")) {
        let binaries = std::env::var_os("BINARIES").map(PathBuf::from);
        images.push(ImageMapping::flink(flink, binaries, java));
    }
    let cluster = LocalCluster::up(options(directory.as_ref(), images))
        .await
        .unwrap();
    println!("{}", cluster.kubeconfig().display());
}
