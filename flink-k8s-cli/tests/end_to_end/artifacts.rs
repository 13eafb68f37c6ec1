//! Applications whose jar the JobManager fetches, and what their users are told when it cannot.

use std::fs;

use super::applications::{path, small_cluster, texts};
use super::file_server::{self, HEADER, HTTP_PORT, HTTPS_PORT, ONCE_CUT_OFF, TOKEN};
use super::harness::{
    Machine, SHORT_LIVED, assert_said_in_order, assert_same, count_words, files_in, job_manager,
    written_counts,
};
use super::processes;
use super::tls::{Certificates, MOUNTED, PASSWORD};

const TEXT: &str = "call me ishmael some years ago never mind how long precisely\n";

#[tokio::test]
async fn a_jar_is_fetched_until_it_is_whole_and_who_may_not_have_it_is_told_why() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let certificates = Certificates::make(&machine);
    let served = machine.scratch().join("served");
    fs::create_dir(&served).unwrap();
    fs::copy(machine.job_jar(), served.join("word-count.jar")).unwrap();
    fs::write(served.join("stop-words.txt"), "the a an").unwrap();
    // Pods see it, so it stands for what only a file system of Flink's reaches.
    let elsewhere = machine.scratch().join("elsewhere.txt");
    fs::write(&elsewhere, "and or").unwrap();
    file_server::start(&machine, &client, &served, &certificates).await;

    let mut options = small_cluster(&machine);
    // The server's authority is a private one.
    options.push(format!(
        "{} -Djavax.net.ssl.trustStore={MOUNTED}/trust.p12 -Djavax.net.ssl.trustStorePassword={PASSWORD}",
        SHORT_LIVED[0]
    ));
    options.push(format!("-Dkubernetes.secrets=rest-certificates:{MOUNTED}"));
    let start = [&["application", "start"], &texts(&options, &[])[..]].concat();
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(40)).unwrap();
    let program = ["--input", path(&input), "--output", path(&output)];

    let jar = format!("https://{}:{HTTPS_PORT}/word-count.jar", file_server::NAME);
    let said = machine.must_fail(1, &[&start[..], &[&jar], &program].concat());
    let why = format!("the JobManager cannot get {jar}: the server refuses it with status 401");
    let advice = "what to do: give the JobManager what the server asks for in user.artifacts.http-headers";
    assert_said_in_order(&said, &["error: ", &why, advice]);
    let explained = machine.flink_k8s(&["explain", "e2e"]);
    let explained = String::from_utf8(explained.stdout).unwrap();
    assert_said_in_order(
        &explained,
        &["cluster e2e in namespace default is in trouble: ", &why, advice],
    );
    machine.must(&["application", "stop", "e2e"]);
    let refused = file_server::requests(&client).await;
    assert!(
        !refused.is_empty() && refused.iter().all(|it| it == "/word-count.jar 401"),
        "{refused:?}"
    );

    // Half a jar is all that the first container gets; the next one of the pod fetches it again, and nothing else.
    let jar = format!(
        "https://{}:{HTTPS_PORT}{ONCE_CUT_OFF}word-count.jar",
        file_server::NAME
    );
    let header = format!("-Duser.artifacts.http-headers={HEADER}:{TOKEN}");
    let beside = format!(
        "-Duser.artifacts.artifact-list=http://{}:{HTTP_PORT}/stop-words.txt;file://{}",
        file_server::NAME,
        elsewhere.display()
    );
    let fetching = [
        &header,
        &beside,
        "-Duser.artifacts.raw-http-enabled=true",
        "--on-finish=keep",
        &jar,
    ];
    let ended = machine.flink_k8s(&[&start[..], &fetching, &program].concat());
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && said.contains("is FINISHED"), "{said}");
    assert_same(&count_words(&TEXT.repeat(40)), &written_counts(&output));
    let requests = file_server::requests(&client).await;
    let cut_off = format!("{ONCE_CUT_OFF}word-count.jar 200");
    assert_eq!(
        requests[refused.len()..],
        [&cut_off, "/stop-words.txt 200", &cut_off]
    );
    let (pod, _) = job_manager(&client).await.unwrap();
    let directory = processes::path_in(machine.pid(), &pod, "/opt/flink/artifacts/default/e2e");
    let mut fetched = files_in(&directory);
    fetched.sort();
    assert_eq!(fetched, ["elsewhere.txt", "stop-words.txt", "word-count.jar"]);

    let logs = |more: &[&str]| machine.kubectl(&[&["logs", "deployment/e2e"], more].concat());
    let (before, now) = (logs(&["--previous"]), logs(&[]));
    assert!(now.contains("what was fetched before is not whole"), "{now}");
    let rendered = [
        &["render", "application"],
        &texts(&options, &fetching[..3])[..],
        &[&jar],
    ]
    .concat();
    let shown = [
        said,
        before,
        now,
        machine.kubectl(&["get", "events", "-o", "yaml"]),
        machine.must(&["status", "e2e"]),
        String::from_utf8(machine.flink_k8s(&["explain", "e2e"]).stdout).unwrap(),
        machine.must(&rendered),
    ];
    for text in shown {
        assert!(!text.is_empty() && !text.contains(TOKEN), "{text}");
    }
    machine.must(&["application", "stop", "e2e"]);
    machine.end();
}
