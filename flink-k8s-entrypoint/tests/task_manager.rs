//! The program `flink-k8s-taskmanager` with a Java that is none.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
use flink_k8s_core::task_manager::WorkerRequest;
use flink_k8s_rm::bearer_token::BearerToken;
use flink_k8s_rm::runner_client::{Assignment, JavaState, RunnerClient, SPARE_ARGUMENT, TOKEN_VARIABLE};

const MEMORY: (&str, &str) = ("taskmanager.memory.process.size", "1728m");

/// A Flink without jars and a Java that writes its arguments down and sleeps.
fn fake_image(directory: &Path) {
    for name in ["flink/lib", "flink/conf", "java/bin"] {
        fs::create_dir_all(directory.join(name)).unwrap();
    }
    fs::write(directory.join("flink/lib/flink-dist-2.1.3.jar"), "").unwrap();
    fs::write(
        directory.join("flink/conf/config.yaml"),
        "flink-k8s.runner.port: 0\n",
    )
    .unwrap();
    let java = directory.join("java/bin/java");
    let arguments = directory.join("arguments");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > {}\nexec sleep 600\n",
        arguments.display()
    );
    fs::write(&java, script).unwrap();
    fs::set_permissions(&java, fs::Permissions::from_mode(0o755)).unwrap();
}

fn arguments(name: &str) -> Vec<String> {
    let mut configuration = FlinkConfiguration::new();
    configuration.set(MEMORY.0, MEMORY.1, Origin::CommandLine);
    let request = WorkerRequest::from_configuration(name.parse().unwrap(), &configuration).unwrap();
    let properties = request.dynamic_properties.iter();
    properties
        .map(|(key, value)| format!("-D{key}={value}"))
        .collect()
}

fn start(directory: &Path, token: Option<&BearerToken>, arguments: &[String]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flink-k8s-taskmanager"));
    command
        .args(arguments)
        .env("FLINK_HOME", directory.join("flink"))
        .env("JAVA_HOME", directory.join("java"))
        .env_remove("FLINK_CONF_DIR")
        .env_remove("FLINK_K8S_LOG")
        .env_remove(TOKEN_VARIABLE)
        .stderr(Stdio::piped());
    if let Some(token) = token {
        command.env(TOKEN_VARIABLE, token.expose());
    }
    command.spawn().unwrap()
}

/// Reads the log of the program until it says where it listens; what follows is read, too, and dropped.
fn address(program: &mut Child) -> SocketAddr {
    let mut lines = BufReader::new(program.stderr.take().unwrap()).lines();
    let port = lines.by_ref().find_map(|line| {
        let line = line.unwrap();
        let (_, port) = line.split_once("address=0.0.0.0:")?;
        Some(port.trim().parse().unwrap())
    });
    std::thread::spawn(move || lines.for_each(drop));
    SocketAddr::from((
        Ipv4Addr::LOCALHOST,
        port.expect("the program ended without listening"),
    ))
}

#[tokio::test]
async fn a_spare_becomes_the_task_manager_that_it_is_assigned_and_is_released() {
    flink_k8s_client::install_crypto_provider();
    let directory = tempfile::tempdir().unwrap();
    fake_image(directory.path());
    let token = BearerToken::random();
    let mut program = start(directory.path(), Some(&token), &[SPARE_ARGUMENT.to_owned()]);
    let runner = RunnerClient::new(token).unwrap().at(address(&mut program));
    assert_eq!(runner.state().await.unwrap().java, JavaState::NotStarted);
    let assignment = Assignment {
        id: "orders-taskmanager-1-1".to_owned(),
        arguments: arguments("orders-taskmanager-1-1"),
    };
    let state = runner.assign(&assignment).await.unwrap();
    assert_eq!(state.java, JavaState::Running);
    let written = directory.path().join("arguments");
    let given = loop {
        match fs::read_to_string(&written) {
            Ok(text) if text.contains("orders-taskmanager-1-1") => break text,
            _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    };
    assert!(
        given.contains("taskmanager.resource-id=orders-taskmanager-1-1"),
        "{given}"
    );
    assert!(given.lines().any(|line| line.starts_with("-Xmx")), "{given}");
    let freeze = runner.freeze().await.unwrap();
    runner.release(freeze).await.unwrap();
    assert_eq!(program.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn without_a_token_the_program_becomes_the_jvm() {
    let directory = tempfile::tempdir().unwrap();
    fake_image(directory.path());
    let mut program = start(directory.path(), None, &arguments("orders-taskmanager-1-1"));
    let command_line = format!("/proc/{}/cmdline", program.id());
    while !fs::read_to_string(&command_line).unwrap().starts_with("sleep") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    program.kill().unwrap();
    program.wait().unwrap();
}

#[test]
fn secrets_of_the_configuration_are_in_no_log() {
    let directory = tempfile::tempdir().unwrap();
    fake_image(directory.path());
    let configuration = directory.path().join("flink/conf/config.yaml");
    fs::write(
        configuration,
        "s3.secret-key: planted\nkubernetes.secrets: planted\n",
    )
    .unwrap();
    let java = directory.path().join("java/bin/java");
    fs::write(&java, "#!/bin/sh\nexit 7\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_flink-k8s-taskmanager"))
        .args(arguments("orders-taskmanager-1-1"))
        .env("FLINK_HOME", directory.path().join("flink"))
        .env("JAVA_HOME", directory.path().join("java"))
        .env("FLINK_K8S_LOG", "trace")
        .env_remove("FLINK_CONF_DIR")
        .env_remove(TOKEN_VARIABLE)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(!said.contains("planted"), "{said}");
}

#[test]
fn a_token_that_could_be_guessed_is_refused_and_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    fake_image(directory.path());
    let token = "secret";
    let output = Command::new(env!("CARGO_BIN_EXE_flink-k8s-taskmanager"))
        .env("FLINK_HOME", directory.path().join("flink"))
        .env(TOKEN_VARIABLE, token)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("cannot use FLINK_K8S_RUNNER_TOKEN"), "{said}");
    assert!(!said.contains(token), "{said}");
}
