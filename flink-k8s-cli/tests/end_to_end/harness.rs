//! One embedded Kubernetes per test, the commands of a user, and a bounded wait.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use flink_k8s_client::rest_client::{ClusterOverview, RestClient};
use flink_k8s_client::tunnel::Tunnel;
use flink_k8s_core::flink_version::FlinkVersion;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::processes;

const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// JVMs that live for seconds start with half the work when nothing is compiled for the long run, and with a quarter less of that
/// when the bytecode of Flink's jars is not verified.
pub(crate) const SHORT_LIVED: [&str; 2] = [
    "-Denv.java.opts.jobmanager=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
     -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote",
    "-Denv.java.opts.taskmanager=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
     -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote",
];
/// The session cluster that the tests use: two slots a TaskManager, small.
const SESSION: [&str; 10] = [
    "-Dkubernetes.cluster-id=e2e",
    "-Dkubernetes.container.image.ref=flink:e2e",
    "-Dtaskmanager.numberOfTaskSlots=2",
    "-Djobmanager.memory.process.size=1024m",
    "-Dtaskmanager.memory.process.size=1024m",
    "-Dkubernetes.jobmanager.cpu.amount=0.2",
    "-Dkubernetes.taskmanager.cpu.amount=0.2",
    "-Drestart-strategy.type=fixed-delay",
    "-Drestart-strategy.fixed-delay.attempts=20",
    "-Drestart-strategy.fixed-delay.delay=1s",
];

/// What `cargo xtask test` prepared.
struct Prepared {
    flink_home: PathBuf,
    java_home: PathBuf,
    job_jar: PathBuf,
    binaries: PathBuf,
    /// The option that says which Flink it is.
    flink_version: String,
}

impl Prepared {
    fn from_environment() -> Option<Self> {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let flink_version = std::env::var("FLINK_K8S_TEST_FLINK_VERSION")
            .unwrap_or_else(|_| FlinkVersion::default().to_string());
        Some(Self {
            flink_home: path("FLINK_K8S_TEST_FLINK_HOME")?,
            java_home: path("FLINK_K8S_TEST_JAVA_HOME")?,
            job_jar: path("FLINK_K8S_TEST_JOB_JAR")?,
            binaries: path("FLINK_K8S_TEST_BINARIES")?,
            flink_version: format!("-Dflink-k8s.flink-version={flink_version}"),
        })
    }
}

/// An embedded Kubernetes that ends with this value, whatever happened to the test.
pub(crate) struct Machine {
    prepared: Prepared,
    directory: tempfile::TempDir,
}

impl Machine {
    /// Starts one, or says why the test is skipped.
    pub(crate) fn start() -> Option<Self> {
        let Some(prepared) = Prepared::from_environment() else {
            let required = std::env::var("FLINK_K8S_TEST_REQUIRE").unwrap_or_default();
            assert!(
                !required.contains("flink"),
                "real Flink is required, but FLINK_K8S_TEST_* is not set"
            );
            println!("skipped: real Flink is needed; run `cargo xtask test`");
            return None;
        };
        let machine = Self {
            prepared,
            directory: tempfile::tempdir().unwrap(),
        };
        let mut up = machine.command(&["local", "up", "--directory"]);
        up.arg(machine.state());
        up.arg("--flink-home").arg(&machine.prepared.flink_home);
        up.arg("--java-home").arg(&machine.prepared.java_home);
        up.arg("--binaries").arg(&machine.prepared.binaries);
        succeeded("flink-k8s local up", &up.output().unwrap());
        Some(machine)
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("kubernetes")
    }

    /// A directory of the test's own, seen by pods too.
    pub(crate) fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// The jar with the jobs of `examples/jobs`.
    pub(crate) fn job_jar(&self) -> &Path {
        &self.prepared.job_jar
    }

    /// Runs a class of the jobs' jar on this machine to its end, with Flink on its class path; it must succeed.
    pub(crate) fn java(&self, class: &str, arguments: &[&str]) {
        let flink = self.prepared.flink_home.join("lib/*");
        let class_path = [flink.as_path(), self.job_jar()];
        let mut java = Command::new(self.prepared.java_home.join("bin/java"));
        java.arg("-cp")
            .arg(std::env::join_paths(class_path).unwrap())
            .arg(class)
            .args(arguments);
        succeeded(&format!("java {class}"), &java.output().unwrap());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.program("flink-k8s", arguments)
    }

    fn program(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.prepared.binaries.join(name));
        command
            .args(arguments)
            .env("KUBECONFIG", self.state().join("kubeconfig"))
            .env("HOME", self.directory.path())
            .env_remove("FLINK_CONF_DIR")
            .env("FLINK_HOME", &self.prepared.flink_home)
            .env("JAVA_HOME", &self.prepared.java_home)
            // Nothing may depend on it.
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// Runs `flink-k8s` with these arguments to its end.
    pub(crate) fn flink_k8s(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs `flink-k8s` with these arguments and this standard input to its end.
    pub(crate) fn flink_k8s_typing(&self, arguments: &[&str], input: &str) -> Output {
        typing(self.command(arguments), input)
    }

    /// Runs `kubernetes-job` with these arguments to its end.
    pub(crate) fn kubernetes_job(&self, arguments: &[&str]) -> Output {
        self.program("kubernetes-job", arguments).output().unwrap()
    }

    /// Runs `flink-k8s` with these arguments and returns its standard output; it must succeed.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let output = self.flink_k8s(arguments);
        succeeded(&format!("flink-k8s {}", arguments.join(" ")), &output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `flink-k8s` with these arguments, which must fail with this exit code; returns what it says.
    pub(crate) fn must_fail(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.flink_k8s(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} said:\n{said}");
        said
    }

    /// Starts the session cluster that the tests use.
    pub(crate) fn start_session(&self, more: &[&str]) {
        self.must(&[&["session", "start"], &self.session()[..], more].concat());
    }

    /// The options of that session cluster.
    pub(crate) fn session(&self) -> Vec<&str> {
        [&SESSION[..], &SHORT_LIVED, &[self.flink_version()]].concat()
    }

    /// The option that says which Flink it is.
    pub(crate) fn flink_version(&self) -> &str {
        &self.prepared.flink_version
    }

    /// Runs `kubectl` with these arguments, and returns its standard output; it must succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let mut kubectl = Command::new("kubectl");
        kubectl
            .args(arguments)
            .env("KUBECONFIG", self.state().join("kubeconfig"))
            .env("HOME", self.directory.path())
            .stdin(Stdio::null());
        let output = kubectl.output().unwrap();
        succeeded(&format!("kubectl {}", arguments.join(" ")), &output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a script of Flink's own with these arguments and this standard input, on this machine, to its end.
    pub(crate) fn upstream(&self, script: &str, arguments: &[&str], input: &str) -> Output {
        let home = &self.prepared.flink_home;
        let path = home.join("bin").join(script);
        assert!(
            path.exists(),
            "{} is missing: a Flink with its scripts is needed",
            path.display()
        );
        let mut program = Command::new(path);
        program
            .args(arguments)
            .env("KUBECONFIG", self.state().join("kubeconfig"))
            .env("HOME", self.directory.path())
            .env("JAVA_HOME", &self.prepared.java_home)
            .env("FLINK_HOME", home)
            .env_remove("FLINK_CONF_DIR")
            .env("FLINK_LOG_DIR", self.directory.path());
        typing(program, input)
    }

    /// Starts `flink-k8s run` of the word count, with this time for each line.
    pub(crate) fn run_word_count(&self, input: &Path, output: &Path, delay: Duration) -> Child {
        self.run_word_count_with(&[], input, output, delay)
    }

    /// As [`Machine::run_word_count`], with more flags.
    pub(crate) fn run_word_count_with(
        &self,
        flags: &[&str],
        input: &Path,
        output: &Path,
        delay: Duration,
    ) -> Child {
        let delay = delay.as_millis().to_string();
        self.run_job(
            flags,
            &[
                "--input",
                input.to_str().unwrap(),
                "--output",
                output.to_str().unwrap(),
                "--delay-per-line-millis",
                &delay,
            ],
        )
    }

    /// Runs the word count of this text to its end, and sees that it finished with the right result. `output` is the name of
    /// the directory for that.
    #[track_caller]
    pub(crate) fn count_words_of(&self, text: &str, flags: &[&str], output: &str) {
        let (input, output) = (self.scratch().join("input.txt"), self.scratch().join(output));
        fs::write(&input, text).unwrap();
        let said = finished(self.run_word_count_with(flags, &input, &output, Duration::ZERO));
        assert!(said.contains("FINISHED"), "{said}");
        assert_same(&count_words(text), &written_counts(&output));
    }

    /// Starts `flink-k8s run` of the word count with these flags and arguments.
    pub(crate) fn run_job(&self, flags: &[&str], arguments: &[&str]) -> Child {
        let mut run = self.command(&["run", "-e", "kubernetes-session", "-Dkubernetes.cluster-id=e2e"]);
        run.args(flags).arg(&self.prepared.job_jar).args(arguments);
        run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts `flink-k8s` with these arguments.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A client for what the commands do not show.
    pub(crate) async fn client(&self) -> kube::Client {
        flink_k8s_client::install_crypto_provider();
        let kubeconfig = Kubeconfig::read_from(self.state().join("kubeconfig")).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// What the JobManager says of its TaskManagers and slots; `None` while it does not answer.
    pub(crate) async fn overview(&self, client: &kube::Client) -> Option<ClusterOverview> {
        let cluster_id = "e2e".parse().unwrap();
        let tunnel = Tunnel::to_job_manager(client.clone(), "default".parse().unwrap(), &cluster_id, 8081);
        let tunnel = tunnel.await.unwrap();
        RestClient::new(tunnel.base_url()).unwrap().overview().await.ok()
    }

    /// Makes the API server fail by these rules.
    pub(crate) async fn set_faults(&self, client: &kube::Client, rules: &serde_json::Value) {
        let request = http::Request::post("/flink-k8s-local/faults").body(serde_json::to_vec(rules).unwrap());
        client.request_text(request.unwrap()).await.unwrap();
    }

    /// The process that every process of this Kubernetes descends from.
    pub(crate) fn pid(&self) -> u32 {
        let mut status = self.command(&["local", "status", "--output", "json", "--directory"]);
        let output = status.arg(self.state()).output().unwrap();
        succeeded("flink-k8s local status", &output);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        u32::try_from(status["pid"].as_u64().unwrap()).unwrap()
    }

    /// What is known when a test gives up: the pods and the end of the JobManager's log.
    fn evidence(&self) -> String {
        let kubectl = |arguments: &[&str]| {
            let kubeconfig = self.state().join("kubeconfig");
            let output = Command::new("kubectl")
                .args(arguments)
                .env("KUBECONFIG", kubeconfig)
                .output();
            output.map_or_else(
                |error| error.to_string(),
                |output| String::from_utf8_lossy(&output.stdout).into(),
            )
        };
        [
            kubectl(&["get", "pods", "-o", "wide"]),
            kubectl(&["logs", "deployment/e2e", "--tail=80"]),
            kubectl(&["get", "events"]),
        ]
        .join("\n")
    }

    /// Waits until `look` finds something; the test fails, with evidence, when it does not in time.
    pub(crate) async fn eventually<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let given_up = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(
                Instant::now() < given_up,
                "waited in vain: {what}\n{}",
                self.evidence()
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends the Kubernetes and proves that no process and no mount of it is left.
    pub(crate) fn end(self) {
        let state = self.state();
        self.down();
        let left = processes::mentioning(state.to_str().unwrap());
        assert!(left.is_empty(), "processes are left: {left:#?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(state.to_str().unwrap()), "mounts are left");
    }

    fn down(&self) {
        let mut down = self.command(&["local", "down", "--directory"]);
        succeeded("flink-k8s local down", &down.arg(self.state()).output().unwrap());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.down();
        } else if self.state().exists() {
            eprintln!("{}", self.evidence());
            let mut down = self.command(&["local", "down", "--directory"]);
            drop(down.arg(self.state()).output());
        }
    }
}

/// The TaskManager pods that are not being deleted, by name, with their uids.
pub(crate) async fn task_managers(client: &kube::Client) -> BTreeMap<String, String> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let of_cluster = ListParams::default().labels("app=e2e,component=taskmanager");
    let listed = pods.list(&of_cluster).await.unwrap();
    listed
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(|pod| (pod.metadata.name.unwrap(), pod.metadata.uid.unwrap()))
        .collect()
}

/// The JobManager pod's name and how often its container was restarted.
pub(crate) async fn job_manager(client: &kube::Client) -> Option<(String, i32)> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let of_cluster = ListParams::default().labels("app=e2e,component=jobmanager");
    let pod = pods.list(&of_cluster).await.unwrap().into_iter().next()?;
    let statuses = pod.status?.container_statuses?;
    Some((pod.metadata.name?, statuses.first()?.restart_count))
}

/// What this pod's container wrote since it last started; nothing while it has not.
pub(crate) async fn log_of(client: &kube::Client, pod: &str) -> String {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.logs(pod, &LogParams::default()).await.unwrap_or_default()
}

/// Waits for the end of `flink-k8s run`, which must succeed; returns what it said.
pub(crate) fn finished(run: Child) -> String {
    let output = run.wait_with_output().unwrap();
    succeeded("flink-k8s run", &output);
    String::from_utf8(output.stderr).unwrap()
}

/// Runs a program with this standard input to its end.
fn typing(mut program: Command, input: &str) -> Output {
    program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = program.spawn().unwrap();
    let mut stdin = running.stdin.take().unwrap();
    // Whoever reads no input may be gone before it is written.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    running.wait_with_output().unwrap()
}

fn succeeded(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "`{what}` ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Counts the words of a text as the job does.
pub(crate) fn count_words(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let lower = text.to_lowercase();
    for word in lower
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts
}

/// The counts that the job wrote; a word that was written twice fails the test.
pub(crate) fn written_counts(directory: &Path) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else if !name.starts_with(['.', '_']) {
                for line in fs::read_to_string(entry.path()).unwrap().lines() {
                    let (word, count) = line.split_once(' ').unwrap();
                    let before = counts.insert(word.to_owned(), count.trim().parse().unwrap());
                    assert!(before.is_none(), "{word:?} was written twice");
                }
            }
        }
    }
    counts
}

/// The names of what is in a directory; nothing where there is none.
pub(crate) fn files_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// Fails unless these texts are said, one behind the other.
pub(crate) fn assert_said_in_order(said: &str, texts: &[&str]) {
    let mut rest = said;
    for text in texts {
        let Some(at) = rest.find(text) else {
            panic!("{text:?} is not said, or too early, in\n{said}");
        };
        rest = &rest[at + text.len()..];
    }
}

/// Fails with the first differences.
pub(crate) fn assert_same<K: Debug + Ord, V: Debug + PartialEq>(
    ours: &BTreeMap<K, V>,
    theirs: &BTreeMap<K, V>,
) {
    let differences: Vec<_> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|key| ours.get(key) != theirs.get(key))
        .map(|key| (key, ours.get(key), theirs.get(key)))
        .take(5)
        .collect();
    assert!(
        differences.is_empty(),
        "counted here, counted by Flink: {differences:?}"
    );
}
