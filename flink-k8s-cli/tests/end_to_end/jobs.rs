//! What can be done with a job that runs: look, checkpoint, rescale, stop with a savepoint, go on from it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::harness::{Machine, assert_same, count_words, finished, written_counts};
use super::running_job::{CLUSTER, start_word_count};

const LINE: &str = "The slings and arrows of outrageous fortune\n";
/// With [`PER_LINE`], five minutes of work.
const LINES: usize = 6000;
const PER_LINE: Duration = Duration::from_millis(50);

/// The id of the vertex of the job with this in its name.
fn vertex_of(machine: &Machine, job: &str, name: &str) -> String {
    let status = machine.must(&["job", "status", job, CLUSTER, "--output", "json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    let mut vertices = status["vertices"].as_array().unwrap().iter();
    let vertex = vertices.find(|vertex| vertex["name"].as_str().unwrap().contains(name));
    vertex.unwrap()["id"].as_str().unwrap().to_owned()
}

/// What is printed of a checkpoint; tasks that were started a moment ago may decline the first one.
async fn checkpoint_of(machine: &Machine, job: &str) -> String {
    machine
        .eventually("a checkpoint of the rescaled job", async || {
            let taken = machine.flink_k8s(&["checkpoint", job, CLUSTER]);
            let number = String::from_utf8(taken.stdout).unwrap();
            taken.status.success().then_some(number)
        })
        .await
}

#[tokio::test]
async fn a_job_is_rescaled_stopped_with_a_savepoint_and_goes_on_from_it() {
    let Some(machine) = Machine::start() else { return };
    let savepoints = machine.scratch().join("savepoints");
    let directory = format!(
        "-Dexecution.checkpointing.savepoint-dir=file://{}",
        savepoints.display()
    );
    // The job waits for its JobManager.
    machine.start_session(&[
        "-Djobmanager.scheduler=adaptive",
        "-Dexecution.checkpointing.interval=1h",
        &directory,
        "--no-wait",
    ]);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, LINE.repeat(LINES)).unwrap();
    let job = start_word_count(&machine, &input, &output, PER_LINE, 4).await;

    let status = machine.must(&["job", "status", &job, CLUSTER]);
    assert!(
        status.contains("RUNNING") && status.contains("WordCount"),
        "{status}"
    );
    let metrics = machine.must(&["job", "metrics", &job, CLUSTER, "--output", "json"]);
    let metrics: Value = serde_json::from_str(&metrics).unwrap();
    assert!(metrics["numRestarts"].is_string(), "{metrics}");
    let vertex = vertex_of(&machine, &job, "counts");
    let of_vertex = [
        "job", "metrics", &job, CLUSTER, "--vertex", &vertex, "--output", "json",
    ];
    machine
        .eventually("the records that were counted are measured", async || {
            let measured: Value = serde_json::from_str(&machine.must(&of_vertex)).unwrap();
            let measured = measured.as_object()?.iter();
            let mut records = measured.filter(|(name, _)| name.ends_with(".numRecordsIn"));
            records
                .any(|(_, count)| count.as_str().is_some_and(|count| count != "0"))
                .then_some(())
        })
        .await;
    machine
        .eventually("the job accumulates the words that it has counted", async || {
            let shown = machine.must(&["job", "accumulators", &job, CLUSTER]);
            let row = shown.lines().find(|line| line.starts_with("words "))?;
            assert!(row.contains(" LongCounter "), "{shown}");
            (!row.ends_with(" 0")).then_some(())
        })
        .await;
    let said = machine.must_fail(
        1,
        &["job", "rescale", &job, CLUSTER, "--vertex", "no-such-vertex=1..2"],
    );
    assert!(said.contains("has no vertex no-such-vertex; it has "), "{said}");
    machine.must(&["job", "rescale", &job, CLUSTER, "--parallelism", "2"]);
    machine
        .eventually("the job runs with two subtasks a vertex", async || {
            let status = machine.must(&["job", "status", &job, CLUSTER, "--output", "json"]);
            let status: Value = serde_json::from_str(&status).unwrap();
            let vertices = status["vertices"].as_array().unwrap();
            vertices
                .iter()
                .all(|vertex| vertex["parallelism"] == 2 && vertex["status"] == "RUNNING")
                .then_some(())
        })
        .await;
    let number = checkpoint_of(&machine, &job).await;
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
