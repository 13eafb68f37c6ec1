//! An application is upgraded while it counts: no word is lost or counted twice, whatever happens to the upgrades.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;

use super::applications::{image_with_the_jar, path, texts};
use super::harness::{Machine, assert_said_in_order, assert_same, count_words, written_counts};
use super::running_job::{CLUSTER, parallelism_of};

const LINE: &str = "it was the best of times it was the worst of times\n";
/// At a tenth of a second for each, enough for as long as the upgrades take; the last one ends it at once.
const LINES: usize = 3000;
const JAR: &str = "local:///opt/flink/usrlib/job.jar";

/// An application that counts words, slowly, with high availability.
struct Counting {
    machine: Machine,
    input: String,
    output: PathBuf,
    options: Vec<String>,
}

impl Counting {
    fn on(machine: Machine) -> Self {
        let input = machine.scratch().join("input.txt");
        fs::write(&input, LINE.repeat(LINES)).unwrap();
        let directory = |name: &str| format!("file://{}", machine.scratch().join(name).display());
        let mut options = image_with_the_jar(&machine);
        options.extend([
            "-Dhigh-availability.type=kubernetes".to_owned(),
            format!("-Dhigh-availability.storageDir={}", directory("ha")),
            format!(
                "-Dexecution.checkpointing.savepoint-dir={}",
                directory("savepoints")
            ),
            format!("-Dexecution.checkpointing.dir={}", directory("checkpoints")),
            "-Dflink-k8s.application.on-finish=keep".to_owned(),
            // Sources without a split end at once, and no savepoint can be taken in that moment.
            "-Dparallelism.default=1".to_owned(),
        ]);
        Self {
            input: path(&input).to_owned(),
            output: machine.scratch().join("output"),
            options,
            machine,
        }
    }

    /// Runs `flink-k8s application` with the program in this jar, which takes so many milliseconds for a line.
    fn application(&self, command: &[&str], jar: &str, delay: &str) -> Output {
        let program = [
            jar,
            "--input",
            &self.input,
            "--output",
            path(&self.output),
            "--delay-per-line-millis",
            delay,
        ];
        let options = texts(&self.options, &program);
        self.machine
            .flink_k8s(&[&["application"], command, &options].concat())
    }

    /// Upgrades it to a jar of this machine, which must end with this exit code; returns what is printed and what is said.
    fn upgrade(&self, mode: &str, change: &[&str], delay: &str, code: i32) -> (String, String) {
        let command = ["upgrade", "e2e", "--timeout", "2min", "--mode", mode];
        let jar = path(self.machine.job_jar());
        let ended = self.application(&[&command[..], change].concat(), jar, delay);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{said}");
        (String::from_utf8(ended.stdout).unwrap(), said)
    }
}

#[tokio::test]
async fn an_application_goes_on_where_it_was_through_upgrades_that_succeed_and_one_that_fails() {
    let Some(machine) = Machine::start() else { return };
    let counting = Counting::on(machine);
    let machine = &counting.machine;
    let started = counting.application(&["start", "--detached"], JAR, "100");
    assert!(
        started.status.success(),
        "{}",
        String::from_utf8_lossy(&started.stderr)
    );
    machine
        .eventually("the job runs with all its tasks", async || {
            let listed = machine.flink_k8s(&["list", CLUSTER, "--output", "json"]);
            let jobs: Value = serde_json::from_slice(&listed.stdout).ok()?;
            let job = jobs[0]["job-id"].as_str()?;
            parallelism_of(machine, job)
        })
        .await;

    let (savepoint, said) = counting.upgrade("savepoint", &["-Dpipeline.name=second"], "101", 0);
    let order = [
        "pipeline.name",
        "copying the staged jars",
        "secured: ",
        "stopping job",
        savepoint.trim(),
        "nothing of it is left",
        "is upgraded",
    ];
    assert_said_in_order(&said, &order);
    let (_, said) = counting.upgrade("savepoint", &["-c", "examples.Missing"], "101", 1);
    let order = [
        "the new cluster is not well",
        "examples.Missing",
        "starting the old cluster",
        "is as before the upgrade",
    ];
    assert_said_in_order(&said, &order);
    let (_, said) = counting.upgrade("last-state", &["-Dpipeline.name=fourth"], "0", 0);
    let order = [
        "secured: ",
        "/chk-",
        "starting the new cluster",
        "/chk-",
        "is upgraded",
    ];
    assert_said_in_order(&said, &order);

    machine
        .eventually("the job ends", async || {
            let listed = machine.must(&["application", "list", "--output", "json"]);
            listed.contains("FINISHED").then_some(())
        })
        .await;
    assert_same(
        &count_words(&LINE.repeat(LINES)),
        &written_counts(&counting.output),
    );
    machine.must(&["application", "stop", "e2e", "--purge-ha"]);
    counting.machine.end();
}
