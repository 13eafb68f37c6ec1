//! What can be done with a job that runs: look, checkpoint, rescale, stop with a savepoint, go on from it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::applications::path;
use super::harness::{Machine, assert_said_in_order, assert_same, count_words, finished, written_counts};
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

/// Upgrades the job in every mode, after one attempt to what cannot be run and one to what fails when it runs. Returns the id of
/// the job that runs in the end.
fn upgraded(machine: &Machine, job: &str, [input, output]: [&Path; 2]) -> String {
    let jar = path(machine.job_jar());
    let upgrade = |job: &str, mode: &str, flags: &[&str], delay: &str| {
        let command = ["job", "upgrade", CLUSTER, job, "--mode", mode];
        let way_back = ["--rollback-jar", jar, "--timeout", "1min"];
        let program = ["--input", path(input), "--output", path(output)];
        let delay = ["--delay-per-line-millis", delay];
        let words = [&command[..], &way_back, flags, &[jar], &program, &delay].concat();
        let ended = machine.flink_k8s(&words);
        let said = String::from_utf8(ended.stderr).unwrap();
        let printed = String::from_utf8(ended.stdout).unwrap().trim().to_owned();
        (ended.status.code(), printed, said)
    };
    let (code, _, said) = upgrade(job, "savepoint", &["-c", "examples.Missing"], "50");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("the new program cannot be run: ") && said.contains("its job goes on"),
        "{said}"
    );

    let unlike_its_state = ["-Dpipeline.max-parallelism=64", "--rollback-option"];
    let (code, old, said) = upgrade(job, "savepoint", &unlike_its_state, "50");
    assert_eq!(code, Some(1), "{said}");
    let order = [
        "secured: ",
        "Max parallelism mismatch",
        "starting the old program",
        "is as before the upgrade",
    ];
    assert_said_in_order(&said, &order);

    let mut jobs = vec![job.to_owned(), old];
    // Without its state it counts from the first line again.
    for (mode, secured, delay) in [
        ("stateless", "ending job", "52"),
        ("last-state", "/chk-", "53"),
        ("savepoint", "secured: ", "54"),
    ] {
        let (code, new, said) = upgrade(jobs.last().unwrap(), mode, &[], delay);
        assert_eq!(code, Some(0), "{said}");
        let order = [secured, "starting the new program", &new, "is upgraded"];
        assert_said_in_order(&said, &order);
        assert!(!jobs.contains(&new), "{new} is new: {jobs:?}");
        jobs.push(new);
    }
    jobs.pop().unwrap()
}

#[tokio::test]
async fn a_job_is_rescaled_stopped_with_a_savepoint_and_goes_on_from_it() {
    let Some(machine) = Machine::start() else { return };
    let [savepoints, checkpoints] =
        [("savepoint-dir", "savepoints"), ("dir", "checkpoints")].map(|(key, name)| {
            let directory = machine.scratch().join(name);
            format!("-Dexecution.checkpointing.{key}=file://{}", directory.display())
        });
    // The job waits for its JobManager.
    machine.start_session(&[
        "-Djobmanager.scheduler=adaptive",
        "-Dexecution.checkpointing.interval=1h",
        &savepoints,
        &checkpoints,
        "-Dexecution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION",
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

    let job = upgraded(&machine, &job, [&input, &output]);

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
