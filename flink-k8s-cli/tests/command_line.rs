//! What `flink-k8s` says, and with which exit code it ends, when it cannot do what it is asked. Nothing here
//! needs a Kubernetes.

use std::fs;
use std::io::Write as _;
use std::process::Command;

/// Runs the program with an empty home and no kubeconfig; returns its exit code and what it says.
fn flink_k8s(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(env!("CARGO_BIN_EXE_flink-k8s"))
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .envs(environment.iter().copied())
        .output()
        .expect("the program starts");
    let said = String::from_utf8(output.stderr).expect("text");
    (
        output.status.code().expect("an exit code"),
        said.replace(&home.path().display().to_string(), "HOME"),
    )
}

#[test]
fn without_a_kubernetes_it_says_where_it_looked_and_what_to_do() {
    let (code, said) = flink_k8s(&["session", "list"], &[]);
    assert_eq!(code, 3);
    assert!(
        said.starts_with("error: no Kubernetes is configured: KUBECONFIG is not set, HOME/.kube/config"),
        "{said}"
    );
    assert!(said.contains("`flink-k8s local up`"), "{said}");
}

#[test]
fn a_kubeconfig_that_is_not_there_is_named_once() {
    let (code, said) = flink_k8s(&["session", "list"], &[("KUBECONFIG", "/nowhere/config")]);
    assert_eq!(code, 3);
    assert!(
        said.starts_with("error: cannot read kubeconfig /nowhere/config\n"),
        "{said}"
    );
    assert_eq!(said.matches("No such file or directory").count(), 1, "{said}");
}

#[test]
fn a_cluster_name_that_kubernetes_would_refuse_is_refused_first() {
    let (code, said) = flink_k8s(&["session", "start", "-Dkubernetes.cluster-id=My_Cluster"], &[]);
    assert_eq!(code, 2);
    assert!(
        said.contains("\"My_Cluster\"") && said.contains("lowercase letter"),
        "{said}"
    );
}

#[test]
fn a_value_that_cannot_be_read_is_named_with_its_option() {
    let arguments = ["session", "list", "-Dkubernetes.namespace=Team A"];
    let (code, said) = flink_k8s(&arguments, &[]);
    assert_eq!(code, 2);
    assert!(
        said.contains("kubernetes.namespace") && said.contains("\"Team A\""),
        "{said}"
    );
}

#[test]
fn a_jar_that_is_none_is_refused_before_kubernetes_is_asked() {
    let (code, said) = flink_k8s(
        &["run", "-Dkubernetes.cluster-id=orders", "/nowhere/job.jar"],
        &[],
    );
    assert_eq!(code, 1);
    assert!(
        said.starts_with("error: cannot read jar /nowhere/job.jar\n  because: No such file"),
        "{said}"
    );
}

#[test]
fn a_missing_argument_shows_the_usage() {
    let (code, said) = flink_k8s(&["run"], &[]);
    assert_eq!(code, 2);
    assert!(
        said.contains("<JAR>") && said.contains("Usage: flink-k8s run"),
        "{said}"
    );
}

#[test]
fn a_directory_without_flink_cannot_be_an_image() {
    let empty = tempfile::tempdir().expect("a temporary directory");
    let home = empty.path().display().to_string();
    let (code, said) = flink_k8s(&["local", "up", "--flink-home", &home], &[]);
    assert_eq!(code, 3);
    assert!(said.contains("it has no readable lib directory"), "{said}");
    fs::create_dir(empty.path().join("lib")).expect("a directory");
    let (code, said) = flink_k8s(&["local", "up", "--flink-home", &home], &[]);
    assert_eq!(code, 1);
    assert!(said.contains("lib/flink-dist-*.jar is missing"), "{said}");
}

#[test]
fn a_missing_java_is_named_with_where_it_was_looked_for() {
    let flink = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(flink.path().join("lib")).expect("a directory");
    fs::write(flink.path().join("lib/flink-dist-2.1.3.jar"), "").expect("a file");
    let home = flink.path().display().to_string();
    let (code, said) = flink_k8s(&["local", "up", "--flink-home", &home], &[]);
    assert_eq!(code, 1);
    assert!(
        said.starts_with(
            "error: no Java is found: there is no java on the PATH; name an installation with --java-home"
        ),
        "{said}"
    );
    let (code, said) = flink_k8s(&["local", "up", "--flink-home", &home, "--java-home", &home], &[]);
    assert_eq!(code, 1);
    assert!(
        said.starts_with(&format!(
            "error: there is no Java in {home}: {home}/bin/java is missing\n"
        )),
        "{said}"
    );
}

#[test]
fn a_job_graph_that_is_none_is_refused_before_kubernetes_is_asked() {
    let (_directory, path) = job_jar(&[("com/example/Job.class", "x")]);
    let (code, said) = flink_k8s(
        &["run", "-Dkubernetes.cluster-id=orders", "--job-graph", &path],
        &[],
    );
    assert_eq!(code, 1);
    let expected = format!(
        "error: {path} is not a serialized job graph of Flink: it is not what Java's ObjectOutputStream writes\n"
    );
    assert_eq!(said, expected);
    let (code, said) = flink_k8s(&["run", "--job-graph", "a.graph", "job.jar"], &[]);
    assert_eq!(code, 2);
    assert!(said.contains("cannot be used with"), "{said}");
    let (code, said) = flink_k8s(&["run", "--jar", "job.jar", "other.jar"], &[]);
    assert_eq!(code, 2);
    assert!(said.contains("cannot be used with"), "{said}");
}

/// `job.jar` in a directory of its own, with these files in it.
fn job_jar(files: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("job.jar");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).expect("a file"));
    for (name, content) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .expect("an entry");
        zip.write_all(content.as_bytes()).expect("its content");
    }
    zip.finish().expect("a zip file");
    (directory, path.display().to_string())
}

#[test]
fn a_file_that_is_no_jar_is_refused_for_what_it_is() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("job.jar").display().to_string();
    fs::write(&path, "hello").expect("a file");
    let (code, said) = flink_k8s(&["run", "-Dkubernetes.cluster-id=orders", &path], &[]);
    assert_eq!(code, 1);
    assert_eq!(
        said,
        format!("error: {path} is not a jar (a zip file with Java classes)\n")
    );
}

#[test]
fn a_jar_without_a_main_class_is_refused_with_what_to_do() {
    let (_directory, path) = job_jar(&[("com/example/Job.class", "x")]);
    let (code, said) = flink_k8s(&["run", "-Dkubernetes.cluster-id=orders", &path], &[]);
    assert_eq!(code, 1);
    let expected = format!(
        "error: jar {path} does not say which class to run: its manifest has neither Main-Class nor program-class\n  \
         hint: name the class whose main method makes the job: --class com.example.Job\n"
    );
    assert_eq!(said, expected);
}

#[test]
fn a_class_that_the_jar_has_not_is_a_warning_because_flink_may_have_it() {
    let (_directory, path) = job_jar(&[("com/example/Job.class", "x")]);
    let arguments = [
        "run",
        "-c",
        "com.exmaple.Job",
        "-Dkubernetes.cluster-id=Orders",
        &path,
    ];
    let (code, said) = flink_k8s(&arguments, &[]);
    let warning = format!(
        "warning: class com.exmaple.Job is not in {path}, which has com.example.Job; the job starts only if Flink finds \
         it elsewhere\n"
    );
    assert!(said.starts_with(&warning), "{said}");
    assert_eq!(code, 2, "it goes on, to a cluster-id that cannot be: {said}");
}

#[test]
fn what_does_not_run_is_not_an_error_to_stop_but_has_no_status() {
    let (code, said) = flink_k8s(&["local", "down"], &[]);
    assert_eq!(code, 0);
    assert!(
        said.contains("no embedded Kubernetes runs from HOME/.local/state/flink-k8s/local"),
        "{said}"
    );
    let (code, said) = flink_k8s(&["local", "status"], &[]);
    assert_eq!(code, 1);
    assert!(said.contains("is not running"), "{said}");
}
