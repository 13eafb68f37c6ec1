//! Commands that need no Kubernetes, as programs: what they print where, and how they end.

#![expect(clippy::unwrap_used, reason = "what cannot be unwrapped here fails the test")]

use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_flink-k8s");
/// The memory sizes of Flink's stock configuration file.
const SIZES: [&str; 2] = [
    "-Djobmanager.memory.process.size=1600m",
    "-Dtaskmanager.memory.process.size=1728m",
];

/// Runs the program without any configuration of this machine.
fn run(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.yaml"), "rest.port: 9090\n").unwrap();
    Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .env("FLINK_CONF_DIR", directory.path())
        .output()
        .unwrap()
}

fn standard_output(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn standard_error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn check_ends_with_0_for_a_usable_configuration_and_1_for_another() {
    let good = run(&["config", "check", SIZES[0], SIZES[1]]);
    assert_eq!(good.status.code(), Some(0), "{}", standard_error(&good));
    assert_eq!(standard_output(&good), "");
    let bad = run(&[
        "config",
        "check",
        SIZES[0],
        "-Dtaskmanager.memory.process.size=lots",
        "-Dtaskmanager.numberOfTaskSlot=2",
        "-Dhigh-availability=kubernetes",
    ]);
    assert_eq!(bad.status.code(), Some(1));
    let text = standard_output(&bad);
    assert!(text.contains("error: cannot read \"lots\""), "{text}");
    assert!(text.contains("high-availability.storageDir"), "{text}");
    assert!(
        text.contains("warning: taskmanager.numberOfTaskSlot is not an option of Flink; did you mean taskmanager.numberOfTaskSlots?"),
        "{text}"
    );
}

#[test]
fn check_takes_a_file_and_says_where_each_value_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("other.yaml");
    std::fs::write(
        &file,
        "jobmanager.memory.process.size: 1600m\ntaskmanager:\n  memory.process.size: 1m\n",
    )
    .unwrap();
    let output = run(&["config", "check", file.to_str().unwrap(), "--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_str(&standard_output(&output)).unwrap();
    assert_eq!(answer["usable"], false);
    assert_eq!(answer["findings"][0]["severity"], "error");
}

#[test]
fn an_old_name_is_told_once_and_means_what_it_meant() {
    let output = run(&[
        "memory",
        "--output",
        "json",
        "-Djobmanager.heap.size=4096m",
        SIZES[1],
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", standard_error(&output));
    let answer: serde_json::Value = serde_json::from_str(&standard_output(&output)).unwrap();
    assert_eq!(answer["jobmanager"]["process"], 4_294_967_296_u64);
    let warnings = standard_error(&output);
    assert_eq!(warnings.matches("warning:").count(), 1, "{warnings}");
    assert!(warnings.contains("jobmanager.memory.process.size"), "{warnings}");
}

#[test]
fn rendered_objects_are_the_same_bytes_every_time() {
    let line = [
        "render",
        "session",
        "-Dkubernetes.cluster-id=orders",
        SIZES[0],
        SIZES[1],
    ];
    let (first, second) = (run(&line), run(&line));
    assert_eq!(first.status.code(), Some(0), "{}", standard_error(&first));
    assert_eq!(first.stdout, second.stdout);
    let text = standard_output(&first);
    assert_eq!(text.matches("\n---\n").count(), 3, "{text}");
    assert!(
        text.contains("kind: Deployment") && text.ends_with('\n') && !text.ends_with("\n\n"),
        "{text}"
    );
}

#[test]
fn keys_that_a_start_would_make_are_not_rendered() {
    let common = [
        "-Dkubernetes.cluster-id=orders",
        SIZES[0],
        SIZES[1],
        "-Dflink-k8s.tls=auto",
    ];
    let variants: [&[&str]; 3] = [
        &["session"],
        &["session", "-Dflink-k8s.demand-source=rest"],
        &["application", "local:///opt/job.jar"],
    ];
    for variant in variants {
        let (kind, more) = variant.split_at(1);
        let rendered = run(&[&["render"], kind, &common[..], more].concat());
        let (text, said) = (standard_output(&rendered), standard_error(&rendered));
        assert_eq!(rendered.status.code(), Some(0), "{said}");
        assert!(!text.contains("kind: Secret"), "{text}");
        for expected in [
            "secretName: orders-tls",
            "flink-k8s/tls-secret: orders-tls",
            "/opt/flink-k8s-tls/internal.p12",
            "/opt/flink-k8s-tls/rest-trust.p12",
            "orders-tls:/opt/flink-k8s-tls",
        ] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        assert!(said.contains("orders-tls is left out"), "{said}");
    }
    let given = ["-Dflink-k8s.tls=secret", "-Dflink-k8s.tls-secret-name=ours"];
    let rendered = run(&[&["render", "session"], &common[..3], &given].concat());
    let (text, said) = (standard_output(&rendered), standard_error(&rendered));
    assert_eq!((rendered.status.code(), said.as_str()), (Some(0), ""));
    assert!(text.contains("secretName: ours"), "{text}");
}

#[test]
fn an_application_runs_our_program_or_the_script_of_flink() {
    let arguments = [
        "-Dkubernetes.cluster-id=orders",
        SIZES[0],
        SIZES[1],
        "local:///opt/flink/usrlib/job.jar",
        "--in",
        "a b",
    ];
    let ours = run(&[
        &["render", "application", "--on-finish", "keep-for", "1h"][..],
        &arguments,
    ]
    .concat());
    let text = standard_output(&ours);
    for part in [
        "/opt/flink-k8s/bin/flink-k8s-job",
        "on-finish: keep-for 1 h",
        "- a b\n",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let rendered = run(&[
        &["render", "application", "-Dflink-k8s.resource-manager=flink"][..],
        &arguments,
    ]
    .concat());
    let text = standard_output(&rendered);
    assert!(
        text.contains("kubernetes-jobmanager.sh kubernetes-application"),
        "{text}"
    );
    assert!(
        text.contains("- a b\n") && text.contains("local:///opt/flink/usrlib/job.jar"),
        "{text}"
    );
}

#[test]
fn explain_says_value_and_origin_and_suggests_the_nearest_key() {
    let known = run(&["config", "explain", "rest.port"]);
    let text = standard_output(&known);
    assert!(text.contains("9090") && text.contains("config.yaml"), "{text}");
    let unknown = run(&["config", "explain", "rest.prot"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(standard_error(&unknown).contains("did you mean rest.port?"));
}

#[test]
fn list_hides_secrets_and_shows_what_is_set() {
    let line = [
        "config",
        "list",
        "security.ssl.rest",
        "--set",
        "-Dsecurity.ssl.rest.key-password=hunter2",
    ];
    let output = run(&line);
    let text = standard_output(&output);
    assert!(
        text.contains("security.ssl.rest.key-password") && text.contains("******"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_client_dry_run_names_every_object_and_needs_nobody() {
    let line = [
        "session",
        "start",
        "--dry-run",
        "client",
        "-Dkubernetes.cluster-id=orders",
        SIZES[0],
        SIZES[1],
    ];
    let output = run(&line);
    assert_eq!(output.status.code(), Some(0), "{}", standard_error(&output));
    assert_eq!(standard_output(&output).lines().count(), 4);
}

#[test]
fn rbac_prints_what_a_job_manager_needs_for_its_configuration() {
    let output = run(&[
        "rbac",
        "-Dkubernetes.namespace=team-a",
        "-Dkubernetes.service-account=flink",
        "-Dhigh-availability.type=kubernetes",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", standard_error(&output));
    let yaml = standard_output(&output);
    for part in [
        "kind: ServiceAccount",
        "kind: Role",
        "kind: RoleBinding",
        "namespace: team-a",
        "- configmaps",
    ] {
        assert!(yaml.contains(part), "{part} is missing in\n{yaml}");
    }
    let user = standard_output(&run(&["rbac", "--for", "user"]));
    assert!(
        user.contains("- pods/portforward") && !user.contains("ServiceAccount"),
        "{user}"
    );
}
