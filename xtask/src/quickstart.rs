//! The whole of flink-k8s in one command: a Kubernetes on this machine, a Flink session cluster on it, a
//! job that makes TaskManagers come and go, a checked result, and nothing left at the end.

mod cluster_objects;
mod embedded_kubernetes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::flink_version::FlinkVersion;
use tokio::sync::OnceCell;

use self::cluster_objects::ClusterObjects;
use self::embedded_kubernetes::EmbeddedKubernetes;
use crate::cache::Cache;
use crate::flink_distribution::FlinkDistribution;
use crate::interrupt::{Interrupt, Interrupted};
use crate::java_runtime::JavaRuntime;
use crate::job_jar;
use crate::program::Program;
use crate::report::{Report, indented};
use crate::run_directory::RunDirectory;
use crate::terminal::Terminal;
use crate::word_count::{count_words, ensure_equal, most_frequent, read_result};
use crate::workspace::Workspace;

/// Name of the demonstration's cluster.
const CLUSTER_ID: &str = "quickstart";
/// What the names of the run directories begin with.
const PREFIX: &str = "quickstart-";
/// The embedded Kubernetes' state directory in a run directory.
const KUBERNETES: &str = "kubernetes";
/// The job's parallelism over the slots of one TaskManager.
const TASK_MANAGERS: usize = 2;
/// Settings of the demonstration: two slots each, small enough for a laptop, released soon when idle.
const SETTINGS: [&str; 7] = [
    "taskmanager.numberOfTaskSlots=2",
    "resourcemanager.taskmanager-timeout=5s",
    "jobmanager.memory.process.size=1g",
    "taskmanager.memory.process.size=1g",
    "taskmanager.memory.managed.size=32m",
    "kubernetes.jobmanager.cpu.amount=0.5",
    "kubernetes.taskmanager.cpu.amount=0.5",
];
/// How long idle TaskManagers may take to go, on a busy machine.
const RELEASE_LIMIT: Duration = Duration::from_secs(2 * 60);
/// How long the cluster's objects may take to go.
const GONE_LIMIT: Duration = Duration::from_secs(60);
/// How long a diagnosis may take.
const DIAGNOSIS_LIMIT: Duration = Duration::from_secs(20);

/// Arguments of `cargo xtask quickstart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which Flink to run: 1.20, 2.1, 2.2 or 2.3
    #[arg(long, value_name = "VERSION", default_value_t)]
    flink_version: FlinkVersion,
    /// How the embedded Kubernetes keeps pods apart
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    mode: Mode,
    /// Leave the Kubernetes and the session cluster running
    #[arg(long)]
    keep: bool,
}

/// How the embedded Kubernetes keeps pods apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Sandbox where the kernel allows it, else plain.
    Auto,
    /// A network and a file system view of its own for each pod.
    Sandbox,
    /// Ordinary processes.
    Plain,
}

/// Runs the quickstart from start to end.
///
/// # Errors
///
/// Whatever goes wrong on the way. By then everything that was started is gone again.
pub(crate) async fn run(
    arguments: Arguments,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let mut report = Report::new(terminal);
    let cache = Cache::of_user()?;
    let prepared = prepare(arguments.flink_version, &cache, &mut report, terminal, interrupt).await?;
    // Not in /tmp: pods may have a /tmp of their own, and could not write the job's result there.
    let parent = cache.directory();
    for abandoned in RunDirectory::abandoned(parent, PREFIX) {
        terminal.note(format_args!(
            "removing what a killed run left in {}",
            abandoned.path().display()
        ));
        embedded_kubernetes::clear(
            &prepared.programs,
            &abandoned.path().join(KUBERNETES),
            terminal,
            interrupt,
        )
        .await?;
        abandoned.remove()?;
    }

    let directory = RunDirectory::create(parent, PREFIX)?;
    let demonstration = Demonstration {
        kubernetes: EmbeddedKubernetes {
            programs: prepared.programs,
            directory: directory.path().join(KUBERNETES),
            flink: prepared.flink,
            java: prepared.java,
        },
        workspace: prepared.workspace,
        terminal,
        kubeconfig: OnceCell::new(),
    };
    let outcome = demonstration
        .run(&arguments, &directory, &mut report, interrupt)
        .await;
    if arguments.keep && outcome.is_ok() {
        directory.keep().context("cannot keep the run's directory")?;
        report.print_durations();
        report.print_commands();
        terminal.heading("Still running; end it with");
        terminal.note(format_args!(
            "flink-k8s local down --directory {}",
            demonstration.kubernetes.directory.display()
        ));
        terminal.note(format_args!("rm -r {}", directory.path().display()));
        return Ok(());
    }

    let interrupted = outcome.as_ref().is_err_and(anyhow::Error::is::<Interrupted>);
    if interrupted {
        terminal.heading("Interrupted: removing everything that was started");
    } else if outcome.is_err() {
        demonstration.diagnose().await;
        terminal.heading("Failed: removing everything that was started");
    }
    let cleared = if outcome.is_ok() {
        Ok(())
    } else {
        let programs = &demonstration.kubernetes.programs;
        embedded_kubernetes::clear(
            programs,
            &demonstration.kubernetes.directory,
            terminal,
            &interrupt.next(),
        )
        .await
    };
    let cleared = cleared.and_then(|()| directory.remove());
    if let Err(error) = cleared {
        terminal.note(format_args!("{error:#}"));
        return Err(outcome.err().unwrap_or(error));
    }
    if outcome.is_err() {
        terminal.note("nothing is left: no process, no mount, no file");
    } else {
        report.print_durations();
        report.print_commands();
    }
    outcome
}

struct Prepared {
    workspace: Workspace,
    java: JavaRuntime,
    flink: FlinkDistribution,
    programs: PathBuf,
}

async fn prepare(
    version: FlinkVersion,
    cache: &Cache,
    report: &mut Report,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<Prepared> {
    let phase = report.begin("Looking for Java and Flink");
    let java = JavaRuntime::find_or_install(version, cache, terminal, interrupt).await?;
    let flink = FlinkDistribution::find_or_install(version, cache, terminal, interrupt).await?;
    report.end(phase);

    let phase = report.begin("Building flink-k8s");
    let workspace = Workspace::locate(interrupt).await?;
    let programs = workspace.build_programs(interrupt).await?;
    terminal.note(format_args!("built in {}", programs.display()));
    report.end(phase);
    Ok(Prepared {
        workspace,
        java,
        flink,
        programs,
    })
}

struct Demonstration {
    kubernetes: EmbeddedKubernetes,
    workspace: Workspace,
    terminal: Terminal,
    /// Known once the Kubernetes is up.
    kubeconfig: OnceCell<PathBuf>,
}

impl Demonstration {
    async fn run(
        &self,
        arguments: &Arguments,
        directory: &RunDirectory,
        report: &mut Report,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let (kubernetes, terminal) = (&self.kubernetes, self.terminal);
        let phase = report.begin("Compiling the WordCount job");
        let (flink, java) = (&kubernetes.flink, &kubernetes.java);
        let jar = job_jar::build_word_count(
            &self.workspace.root,
            flink,
            java,
            &self.workspace.products()?,
            terminal,
            interrupt,
        )
        .await?;
        report.end(phase);

        let phase = report.begin("Starting a Kubernetes on this machine");
        report.command_by_hand(format!("export PATH={}:$PATH", kubernetes.programs.display()));
        report.command_by_hand(format!("export FLINK_HOME={}", flink.home.display()));
        report.command_by_hand(format!(
            "export FLINK_CONF_DIR={}",
            flink.configuration_directory.display()
        ));
        report.command_by_hand(format!("mkdir -p {}", directory.path().display()));
        let kubeconfig = self
            .kubeconfig
            .get_or_try_init(|| kubernetes.up(arguments.mode, report, interrupt))
            .await?;
        report.command_by_hand(format!("export KUBECONFIG={}", kubeconfig.display()));
        let cluster_id: ClusterId = CLUSTER_ID
            .parse()
            .context("the demonstration's name is a cluster-id")?;
        let objects = ClusterObjects::connect(kubeconfig, cluster_id).await?;
        report.end(phase);

        let flink_k8s = kubernetes.flink_k8s().env("KUBECONFIG", kubeconfig);
        let cluster_id = format!("-Dkubernetes.cluster-id={CLUSTER_ID}");
        let phase = report.begin("Starting a session cluster");
        let start = flink_k8s
            .clone()
            .args(["session", "start", &cluster_id])
            .arg(format!("-Dflink-k8s.flink-version={}", arguments.flink_version))
            .args(SETTINGS.map(|setting| format!("-D{setting}")));
        report.command(start.as_typed_by_name());
        start.run(interrupt).await?;
        report.end(phase);

        let phase = report.begin("Running WordCount on it");
        let (input, result) = (
            self.workspace.root.join("README.md"),
            directory.path().join("result"),
        );
        std::fs::create_dir(&result).with_context(|| format!("cannot create {}", result.display()))?;
        let submit = flink_k8s
            .clone()
            .args(["run", "-e", "kubernetes-session", &cluster_id])
            .arg(&jar)
            .arg("--input")
            .arg(&input)
            .arg("--output")
            .arg(&result);
        report.command(submit.as_typed_by_name());
        let mut task_managers = BTreeMap::new();
        tokio::select! {
            ran = submit.run(interrupt) => ran?,
            () = objects.watch_task_managers(&mut task_managers) => bail!("the watch on TaskManagers never ends"),
        }
        for (pod, phase) in &task_managers {
            terminal.note(format_args!("TaskManager pod {pod} was {phase}"));
        }
        ensure!(
            task_managers.len() == TASK_MANAGERS,
            "4 slots in TaskManagers of 2 make {TASK_MANAGERS} pods, but there were {}",
            task_managers.len()
        );
        report.end(phase);

        let phase = report.begin("Comparing the result with a count made here");
        compare(&input, &result, terminal)?;
        report.end(phase);
        if arguments.keep {
            return Ok(());
        }

        self.remove(flink_k8s, &objects, directory, report, interrupt)
            .await
    }

    /// Waits for the release of what is idle, deletes everything, and proves that nothing is left.
    async fn remove(
        &self,
        flink_k8s: Program,
        objects: &ClusterObjects,
        directory: &RunDirectory,
        report: &mut Report,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let (kubernetes, terminal) = (&self.kubernetes, self.terminal);
        let phase = report.begin("Waiting until the idle TaskManagers are released");
        objects
            .wait_until_no_task_manager(RELEASE_LIMIT, interrupt)
            .await?;
        terminal.note("no TaskManager pod is left");
        report.end(phase);

        let phase = report.begin("Deleting the session cluster");
        let stop = flink_k8s.args(["session", "stop", CLUSTER_ID]);
        report.command(stop.as_typed_by_name());
        stop.run(interrupt).await?;
        objects.wait_until_gone(GONE_LIMIT, interrupt).await?;
        terminal.note("Kubernetes has no pod, Service, ConfigMap, Deployment or ReplicaSet of it any more");
        report.end(phase);

        let phase = report.begin("Stopping the Kubernetes");
        kubernetes.down(report, interrupt).await?;
        report.command_by_hand(format!("rm -r {}", directory.path().display()));
        terminal.note("no process and no mount is left");
        report.end(phase);
        Ok(())
    }

    /// Prints what helps to see why the run failed.
    async fn diagnose(&self) {
        let own = self.kubernetes.diagnosis();
        if !own.is_empty() {
            self.terminal.heading("What the Kubernetes on this machine says");
            self.terminal.line(indented(&own));
        }
        let Some(kubeconfig) = self.kubeconfig.get() else {
            return;
        };
        let pods = async {
            let objects = ClusterObjects::connect(kubeconfig, CLUSTER_ID.parse()?).await?;
            anyhow::Ok(objects.diagnosis().await)
        };
        let text = match tokio::time::timeout(DIAGNOSIS_LIMIT, pods).await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => format!("cannot ask Kubernetes for the pods' logs: {error:#}"),
            Err(_elapsed) => "Kubernetes did not answer when asked for the pods' logs".to_owned(),
        };
        self.terminal.heading("What the pods say");
        self.terminal.line(indented(&text));
    }
}

fn compare(input: &Path, result: &Path, terminal: Terminal) -> anyhow::Result<()> {
    let text = std::fs::read(input).with_context(|| format!("cannot read {}", input.display()))?;
    let expected = count_words(&text);
    ensure_equal(&expected, &read_result(result)?)?;
    terminal.note(format_args!(
        "all {} words of {} have the right count; the most frequent:",
        expected.len(),
        input.display()
    ));
    for (word, count) in most_frequent(&expected, 10) {
        terminal.note(format_args!("{count:6}  {word}"));
    }
    Ok(())
}
