//! What can be done with a job that runs: look, checkpoint, rescale, stop with a savepoint, go on from it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::harness::{Machine, assert_same, count_words, finished, written_counts};

const LINE: &str = "The slings and arrows of outrageous fortune\n";
/// With [`PER_LINE`], five minutes of work.
const LINES: usize = 6000;
const PER_LINE: Duration = Duration::from_millis(50);
const CLUSTER: &str = "-Dkubernetes.cluster-id=e2e";

#[tokio::test]
async fn a_job_is_rescaled_stopped_with_a_savepoint_and_goes_on_from_it() {
    let Some(machine) = Machine::start() else { return };
    let savepoints = machine.scratch().join("savepoints");
    let directory = format!(
        "-Dexecution.checkpointing.savepoint-dir=file://{}",
        savepoints.display()
    );
    machine.start_session(&[
        "-Djobmanager.scheduler=adaptive",
        "-Dexecution.checkpointing.interval=1h",
        &directory,
    ]);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, LINE.repeat(LINES)).unwrap();
    let mut run = machine.run_word_count(&input, &output, PER_LINE);
    let job = machine
        .eventually("the job runs with all its tasks", async || {
            let listed = machine.must(&["list", CLUSTER, "--output", "json"]);
            let jobs: serde_json::Value = serde_json::from_str(&listed).unwrap();
            let tasks = &jobs[0]["tasks"];
            // Sources without a part of the input finish at once.
            let at_work = tasks["running"].as_u64()? + tasks["finished"].as_u64()?;
            (tasks["total"] != 0 && tasks["total"] == at_work)
                .then(|| jobs[0]["job-id"].as_str().map(str::to_owned))?
        })
        .await;
    // The job's client is done with; the job is not.
    run.kill().unwrap();
    run.wait().unwrap();

    let status = machine.must(&["job", "status", &job, CLUSTER]);
    assert!(
        status.contains("RUNNING") && status.contains("WordCount"),
        "{status}"
    );
    let said = machine.must_fail(
        1,
        &["job", "rescale", &job, CLUSTER, "--vertex", "no-such-vertex=1..2"],
    );
    assert!(said.contains("has no vertex no-such-vertex; it has "), "{said}");
    machine.must(&["job", "rescale", &job, CLUSTER, "--parallelism", "2"]);
    machine
        .eventually("the job runs with two subtasks a vertex", async || {
            let status = machine.must(&["job", "status", &job, CLUSTER, "--output", "json"]);
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            let vertices = status["vertices"].as_array().unwrap();
            vertices
                .iter()
                .all(|vertex| vertex["parallelism"] == 2 && vertex["status"] == "RUNNING")
                .then_some(())
        })
        .await;
    let number = machine.must(&["checkpoint", &job, CLUSTER]);
    assert!(number.trim().parse::<u64>().is_ok(), "{number}");
    let kept = machine.must(&["savepoint", &job, CLUSTER]);
    let kept = kept.trim();
    let files = kept.strip_prefix("file:").unwrap();
    assert!(fs::read_dir(files).unwrap().count() > 0, "{kept}");
    machine.must(&["savepoint", "--dispose", kept, CLUSTER]);
    assert!(!fs::exists(files).unwrap(), "{kept} is still there");

    let savepoint = machine.must(&["stop", &job, CLUSTER]);
    let savepoint = savepoint.trim();
    machine.must(&["job", "wait", &job, CLUSTER]);
    let said = machine.must_fail(1, &["stop", &job, CLUSTER]);
    assert!(
        said.contains(&format!("cannot stop job {job} with a savepoint")),
        "{said}"
    );
    let written = if output.exists() {
        written_counts(&output)
    } else {
        BTreeMap::new()
    };
    assert!(written.is_empty(), "the job had not come to the end of its input");
    let run = machine.run_word_count_with(&["-s", savepoint], &input, &output, Duration::ZERO);
    let said = finished(run);
    assert!(said.contains("FINISHED"), "{said}");
    assert_same(&count_words(&LINE.repeat(LINES)), &written_counts(&output));
    let none = machine.flink_k8s(&["job", "exceptions", &job, CLUSTER]);
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(said.contains(&format!("job {job} has had no failure")), "{said}");
    machine.end();
}
