//! Clusters for one program: with its jar in the image's `usrlib`, its arguments as they were typed, its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::harness::{Machine, SHORT_LIVED, assert_same, count_words, job_manager, log_of, written_counts};
use super::processes;

const TEXT: &str =
    "It is a truth universally acknowledged, that a single man in possession of a good fortune\n";
pub(crate) const JAR: &str = "local:///opt/flink/usrlib/job.jar";

/// Puts the jar where an image would have it, and returns the options of a small cluster with that image.
pub(crate) fn image_with_the_jar(machine: &Machine) -> Vec<String> {
    let library = machine.scratch().join("usrlib");
    fs::create_dir_all(&library).unwrap();
    fs::copy(machine.job_jar(), library.join("job.jar")).unwrap();
    let template = machine.scratch().join("template.yaml");
    let text = format!(
        "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: flink-main-container\n    volumeMounts:\n    \
         - {{name: usrlib, mountPath: /opt/flink/usrlib}}\n  volumes:\n  - {{name: usrlib, hostPath: {{path: {}}}}}\n",
        library.display()
    );
    fs::write(&template, text).unwrap();
    let mut options = small_cluster(machine);
    options.push(format!(
        "-Dkubernetes.pod-template-file.default={}",
        template.display()
    ));
    options
}

/// The options of a small cluster.
pub(crate) fn small_cluster(machine: &Machine) -> Vec<String> {
    let mut options = [
        "-Dkubernetes.cluster-id=e2e",
        "-Dkubernetes.container.image=flink:e2e",
        // The names of the first native clusters, which old scripts still use.
        "-Djobmanager.heap.size=1024m",
        "-Dtaskmanager.memory.total-process.size=1024m",
        "-Dtaskmanager.numberOfTaskSlots=4",
        "-Dkubernetes.jobmanager.cpu=0.2",
        "-Dkubernetes.taskmanager.cpu=0.2",
        SHORT_LIVED[0],
        SHORT_LIVED[1],
    ]
    .map(str::to_owned)
    .to_vec();
    options.push(machine.flink_version().to_owned());
    options
}

pub(crate) fn texts<'a>(options: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    options
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn kubernetes_job_runs_the_job_of_the_image_and_removes_the_cluster() {
    let Some(machine) = Machine::start() else { return };
    let options = image_with_the_jar(&machine);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(40)).unwrap();
    let program = ["--input", path(&input), "--output", path(&output)];
    // No jar is named: the one in `usrlib` is found.
    let words = texts(
        &options,
        &["-Dexecution.attached=true", "--on-finish", "delete", "--"],
    );
    let ended = machine.kubernetes_job(&texts_and(&words, &program));
    let said = said(&ended);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(said.contains("jobmanager.heap.size is an old name"), "{said}");
    assert!(
        said.contains("FINISHED") && said.contains("cluster e2e is removed"),
        "{said}"
    );
    assert_same(&count_words(&TEXT.repeat(40)), &written_counts(&output));
    let listed = machine.must(&["session", "list", "--output", "json"]);
    assert_eq!(listed.trim(), "[]", "nothing is left");
    machine.end();
}

pub(crate) fn texts_and<'a>(words: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [words, more].concat()
}

#[tokio::test]
async fn an_application_in_a_stock_image_of_any_version_gets_its_workers_from_flink() {
    let Some(machine) = Machine::start() else { return };
    let options = image_with_the_jar(&machine);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(40)).unwrap();
    let words = texts(
        &options,
        &["-Dflink-k8s.resource-manager=flink", "--detached", JAR],
    );
    let program = ["--input", path(&input), "--output", path(&output)];
    machine.must(&texts_and(
        &["application", "start"],
        &texts_and(&words, &program),
    ));
    machine
        .eventually(
            "Flink removes the cluster when the program has ended",
            async || {
                let listed = machine.must(&["application", "list", "--output", "json"]);
                let pods = machine.kubectl(&["get", "pods", "-o", "name"]);
                (listed.trim() == "[]" && pods.is_empty()).then_some(())
            },
        )
        .await;
    assert_same(&count_words(&TEXT.repeat(40)), &written_counts(&output));
    machine.end();
}

#[tokio::test]
async fn program_arguments_reach_the_program_byte_for_byte() {
    const AWKWARD: [&str; 22] = [
        "a b",
        "",
        " ",
        "'q'",
        "\"d\"",
        "it's",
        "$HOME $(id) `id` ${x} $$",
        "a;b;;c",
        "line 1\nline 2\n",
        "\r\n\t",
        "\n  indented",
        "ünï ☃ 𝄞",
        "--opt=x",
        "-D",
        "-Da=b",
        "--",
        "\\n \\ \\\\",
        "{a: [b, 'c']}",
        "# no: comment",
        "null",
        "%20 %s *?&|!<>@",
        "\u{7}\u{1b}\u{85}\u{2028}\u{feff}",
    ];
    let Some(machine) = Machine::start() else { return };
    let options = image_with_the_jar(&machine);
    let file = machine.scratch().join("arguments");
    let words = texts(&options, &["-jc", "examples.Arguments", JAR, path(&file)]);
    let start = texts_and(&["application", "start"], &texts_and(&words, &AWKWARD));
    machine.must(&start);
    let lines = fs::read_to_string(&file).unwrap();
    let seen: Vec<Vec<u8>> = lines.lines().map(from_base64).collect();
    let expected: Vec<Vec<u8>> = AWKWARD.iter().map(|text| text.as_bytes().to_vec()).collect();
    assert_eq!(seen, expected);
    machine.end();
}

#[tokio::test]
async fn a_program_that_fails_is_told_and_its_cluster_kept_without_running_it_again() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let options = image_with_the_jar(&machine);
    let job_id = "8099c1d8e3a2b4f50617283940a1b2c3";
    let words = texts(
        &options,
        &[
            "--job-id",
            job_id,
            "--on-finish",
            "keep",
            JAR,
            "--input",
            "in",
            "--output",
            "out",
            "--no-such-option",
            "x",
        ],
    );
    let said = machine.must_fail(1, &texts_and(&["application", "start"], &words));
    assert!(
        said.contains(&format!("job {job_id} is FAILED")) && said.contains("unexpected --no-such-option"),
        "{said}"
    );
    let outcome = machine
        .eventually("the cluster says how its job ended", async || {
            listed(&machine).filter(|it| !it["job-state"].is_null())
        })
        .await;
    assert_eq!(outcome["job-id"], job_id);
    assert_eq!(outcome["job-state"], "FAILED");
    assert!(
        outcome["job-failure"]
            .as_str()
            .unwrap()
            .contains("--no-such-option"),
        "{outcome}"
    );

    let found = processes::below(machine.pid(), "KubernetesApplicationClusterEntrypoint");
    assert_eq!(found.len(), 1, "{found:?}");
    processes::kill_at_once(found[0]);
    let (pod, _) = machine
        .eventually("the container runs again", async || {
            job_manager(&client).await.filter(|(_, restarts)| *restarts == 1)
        })
        .await;
    machine
        .eventually(
            "the entrypoint says that it does not run the job again",
            async || {
                log_of(&client, &pod)
                    .await
                    .contains("is not run once more")
                    .then_some(())
            },
        )
        .await;
    let found = processes::below(machine.pid(), "KubernetesApplicationClusterEntrypoint");
    assert!(found.is_empty(), "{found:?}");
    machine.must(&["application", "stop", "e2e"]);
    machine.end();
}

/// The one application cluster, as `application list` shows it.
pub(crate) fn listed(machine: &Machine) -> Option<serde_json::Value> {
    let listed = machine.must(&["application", "list", "--output", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    listed.get(0).cloned()
}

pub(crate) fn from_base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = text.bytes().filter(|letter| *letter != b'=');
    let bits: Vec<bool> = bits
        .flat_map(|letter| {
            let value = LETTERS.iter().position(|known| *known == letter).unwrap();
            (0..6).rev().map(move |bit| value >> bit & 1 == 1)
        })
        .collect();
    bits.chunks_exact(8)
        .map(|byte| byte.iter().fold(0, |value, bit| value << 1 | u8::from(*bit)))
        .collect()
}

/// The jar of the jobs, so large that it is staged in three parts.
pub(crate) fn large_jar(machine: &Machine) -> PathBuf {
    // A zip file may have anything in front of it.
    let mut content: Vec<u8> = b"PK\x03\x04"
        .iter()
        .copied()
        .chain((0..=255).cycle().take(2 << 20))
        .collect();
    content.extend(fs::read(machine.job_jar()).unwrap());
    let jar = machine.scratch().join("large.jar");
    fs::write(&jar, content).unwrap();
    jar
}

#[tokio::test]
async fn a_jar_of_this_machine_is_staged_whole_or_in_parts_and_goes_with_its_cluster() {
    let Some(machine) = Machine::start() else { return };
    let file = machine.scratch().join("arguments");
    let small = machine.scratch().join("my job.jar");
    fs::copy(machine.job_jar(), &small).unwrap();
    let large = large_jar(&machine);
    let own_resource_manager = "-Dflink-k8s.resource-manager=flink";
    let plain = small_cluster(&machine);
    let start = |more: &[&str], jar: &Path| {
        let words = texts(&plain, more);
        let program = ["-jc", "examples.Arguments", path(jar), path(&file), "staged"];
        machine.flink_k8s(&texts_and(
            &texts_and(&["application", "start"], &words),
            &program,
        ))
    };
    for jar in [&small, &large] {
        let ended = start(&["--on-finish=delete"], jar);
        let said = said(&ended);
        assert!(
            ended.status.success() && said.contains("is staged in the cluster"),
            "{said}"
        );
        assert_eq!(from_base64(fs::read_to_string(&file).unwrap().trim()), b"staged");
        fs::remove_file(&file).unwrap();
        machine
            .eventually("the jar has gone with the cluster", async || {
                let left = machine.kubectl(&["get", "configmaps", "-l", "app=e2e", "-o", "name"]);
                left.trim().is_empty().then_some(())
            })
            .await;
    }
    // Nobody joins parts there, and a jar of one part needs nobody.
    let refused = start(&[own_resource_manager, "--detached"], &large);
    assert!(
        said(&refused).contains("only up to 900 KiB with"),
        "{}",
        said(&refused)
    );
    let started = start(&[own_resource_manager, "--detached"], &small);
    assert!(started.status.success(), "{}", said(&started));
    machine
        .eventually("the program has run in a stock image", async || {
            let seen = fs::read_to_string(&file).ok()?;
            (from_base64(seen.trim()) == b"staged").then_some(())
        })
        .await;
    machine.must(&["application", "stop", "e2e", "--ignore-not-found"]);
    machine.end();
}
