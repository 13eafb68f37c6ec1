//! What the commands tell of the one job of a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use serde_json::Value;

use super::harness::{Machine, finished};

pub(crate) const CLUSTER: &str = "-Dkubernetes.cluster-id=e2e";
/// With many lines, more than any test takes.
const SLOW_LINE_MILLIS: &str = "50";

/// Submits a word count that this test follows by its id alone: the command that submitted it is ended, and the
/// job is not.
pub(crate) async fn start_word_count(
    machine: &Machine,
    input: &Path,
    output: &Path,
    delay: Duration,
    parallelism: u64,
) -> String {
    let mut run = machine.run_word_count(input, output, delay);
    let job = machine
        .eventually("the job runs with all its tasks", async || {
            // Its JobManager may still be starting.
            let listed = machine.flink_k8s(&["list", CLUSTER, "--output", "json"]);
            let jobs: Value = serde_json::from_slice(&listed.stdout).ok()?;
            let is_new = |job: &&Value| job["state"] == "RUNNING";
            let job = jobs.as_array()?.iter().find(is_new)?["job-id"]
                .as_str()?
                .to_owned();
            (parallelism_of(machine, &job) == Some(parallelism)).then_some(job)
        })
        .await;
    run.kill().unwrap();
    run.wait().unwrap();
    job
}

/// A word count that takes its time until it is told to hurry.
pub(crate) struct SlowWordCount {
    /// Where it writes.
    pub(crate) output: PathBuf,
    input: PathBuf,
    slow: PathBuf,
}

impl SlowWordCount {
    /// Submits one of this text, with more than any test has for each line, and leaves it to itself.
    pub(crate) fn submit(machine: &Machine, text: &str) -> Self {
        let count = Self::prepare(machine, text);
        finished(machine.run_job(&["--detached"], &count.arguments()));
        count
    }

    /// One that is not submitted.
    pub(crate) fn prepare(machine: &Machine, text: &str) -> Self {
        let [input, output, slow] =
            ["slow-input.txt", "slow-output", "slow"].map(|name| machine.scratch().join(name));
        fs::write(&input, text).unwrap();
        fs::write(&slow, "").unwrap();
        Self { output, input, slow }
    }

    /// What its program is told.
    pub(crate) fn arguments(&self) -> [&str; 8] {
        [
            "--input",
            self.input.to_str().unwrap(),
            "--output",
            self.output.to_str().unwrap(),
            "--delay-per-line-millis",
            SLOW_LINE_MILLIS,
            "--slow-while-exists",
            self.slow.to_str().unwrap(),
        ]
    }

    /// Lets it end at once.
    pub(crate) fn hurry(&self) {
        fs::remove_file(&self.slow).unwrap();
    }
}

/// Until a checkpoint is kept from which the next JobManager goes on with the job.
pub(crate) async fn until_checkpoint_is_kept(machine: &Machine, client: &kube::Client, job: &str) {
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    machine
        .eventually("a checkpoint is kept", async || {
            let name = format!("e2e-{job}-config-map");
            let kept = config_maps.get_opt(&name).await.unwrap()?;
            let is_checkpoint = |key: &String| key.starts_with("checkpointID-");
            kept.data?.keys().any(is_checkpoint).then_some(())
        })
        .await;
}

/// The jobs that are not over, as `flink-k8s list` shows them.
pub(crate) fn all(machine: &Machine) -> Value {
    let listed = machine.must(&["list", CLUSTER, "--output", "json"]);
    serde_json::from_str(&listed).unwrap()
}

/// Whether the one job of the cluster runs with all its tasks.
pub(crate) fn runs(machine: &Machine) -> Option<()> {
    let jobs = all(machine);
    let tasks = |state: &str| jobs[0]["tasks"][state].as_u64().unwrap_or(0);
    // Sources that get no part of the small input finish at once.
    let all_started = tasks("running") > 0 && tasks("running") + tasks("finished") == tasks("total");
    (jobs[0]["state"] == "RUNNING" && all_started).then_some(())
}

/// The parallelism that every vertex of the job has, once all are at work or done.
pub(crate) fn parallelism_of(machine: &Machine, job: &str) -> Option<u64> {
    let status = machine.must(&["job", "status", job, CLUSTER, "--output", "json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    let vertices = status["vertices"].as_array()?;
    let first = vertices.first()?["parallelism"].as_u64()?;
    // Sources without a part of the input finish at once.
    let is_settled = |vertex: &Value| {
        vertex["parallelism"] == first && (vertex["status"] == "RUNNING" || vertex["status"] == "FINISHED")
    };
    vertices.iter().all(is_settled).then_some(first)
}
