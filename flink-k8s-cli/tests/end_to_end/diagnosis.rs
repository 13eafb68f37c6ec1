//! Clusters that cannot start: the command ends with the cause, and `explain` knows it, too.

use super::harness::Machine;

#[tokio::test]
async fn a_start_that_cannot_succeed_ends_with_its_cause() {
    let Some(machine) = Machine::start() else { return };
    let start = [&["session", "start"], &machine.session()[..]].concat();
    let unknown = ["-Dkubernetes.container.image.ref=nosuch:9"];
    let said = machine.must_fail(1, &[&start[..], &unknown].concat());
    assert!(said.contains("the image \"nosuch:9\" of pod e2e-"), "{said}");
    assert!(
        said.contains("\n  what to do: check the image's name and tag"),
        "{said}"
    );
    machine.must(&["session", "stop", "e2e"]);

    // A directory that nobody can make.
    let storage = [
        "-Dhigh-availability.type=kubernetes",
        "-Dhigh-availability.storageDir=file:///proc/nowhere",
    ];
    let said = machine.must_fail(1, &[&start[..], &storage].concat());
    let cause = "The base directory of the JobResultStore isn't accessible.";
    let first = said.lines().find(|line| line.starts_with("error: "));
    assert!(
        first.is_some_and(|line| line.contains(cause) && line.contains("ended with exit code")),
        "{said}"
    );
    assert!(said.contains("\n  the last lines of its log:\n"), "{said}");
    let explained = machine.flink_k8s(&["explain", "e2e"]);
    let printed = String::from_utf8(explained.stdout).unwrap();
    assert_eq!(explained.status.code(), Some(1), "{printed}");
    let first = printed.lines().next().unwrap();
    assert!(
        first.starts_with("cluster e2e in namespace default is in trouble: ") && first.contains(cause),
        "{printed}"
    );
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}
