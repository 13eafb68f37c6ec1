//! Programs whose `main` runs on the user's machine.

use std::fs;

use super::applications::from_base64;
use super::harness::{Machine, assert_same, count_words, written_counts};
use super::running_job::CLUSTER;

const TEXT: &str = "the quick brown fox jumps over the lazy dog\n";
/// What a shell, a locale or a parser of options would spoil.
const ARGUMENTS: [&str; 7] = ["a b", "$HOME", "it's \"so\"", "größer 漢字", "-p", "x;\ny", ""];

#[tokio::test]
async fn a_program_that_runs_here_submits_its_jobs_to_the_cluster() {
    let Some(machine) = Machine::start() else { return };
    machine.start_session(&[]);
    let at = |name: &str| machine.scratch().join(name).display().to_string();
    let jar = machine.job_jar().display().to_string();
    let run = |flags: &[&str], class: &str, arguments: &[&str]| {
        let command = ["run", CLUSTER, "--compile", "local", "-c", class];
        machine.flink_k8s(&[&command[..], flags, &[&jar], arguments].concat())
    };

    let (input, output) = (at("input.txt"), at("counts"));
    fs::write(&input, TEXT.repeat(20)).unwrap();
    let files = ["--input", &input, "--output", &output, "--parallelism", "2"];
    let counted = run(&[], "examples.WordCount", &files);
    let said = String::from_utf8(counted.stderr).unwrap();
    assert!(counted.status.success() && said.contains("is FINISHED"), "{said}");
    assert_same(&count_words(&TEXT.repeat(20)), &written_counts(output.as_ref()));

    let file = at("arguments");
    let given = [&[file.as_str()], &ARGUMENTS[..]].concat();
    let detached = run(&["--detached"], "examples.Arguments", &given);
    let said = String::from_utf8(detached.stderr).unwrap();
    assert!(detached.status.success(), "{said}");
    let job = String::from_utf8(detached.stdout).unwrap();
    machine.must(&["job", "wait", job.trim(), CLUSTER]);
    let seen: Vec<Vec<u8>> = fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(from_base64)
        .collect();
    assert_eq!(seen, ARGUMENTS.map(|argument| argument.as_bytes().to_vec()));

    for (flags, results) in [
        (&[][..], "submitted\nsubmitted\n"),
        (&["-Dexecution.attached=true"], "with result\nwith result\n"),
    ] {
        let file = at("results");
        let both = run(flags, "examples.TwoJobs", &[&file]);
        let said = String::from_utf8(both.stderr).unwrap();
        assert!(both.status.success(), "{said}");
        assert!(
            said.contains("two jobs were made"),
            "what the program says is shown: {said}"
        );
        assert_eq!(said.matches("is FINISHED").count(), 2, "{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), results);
    }

    let failed = run(&[], "examples.WordCount", &[]);
    let said = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    let error = said.split("error: ").last().unwrap();
    assert!(
        error.contains("the program failed on this machine") && error.contains("--input is missing"),
        "{said}"
    );
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}
