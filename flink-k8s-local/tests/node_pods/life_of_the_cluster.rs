//! The cluster itself: found again, cleared away, and run by an ordinary user.

use std::path::{Path, PathBuf};

use flink_k8s_local::local_cluster::{DownReport, ImageMapping, LocalCluster, Status};

use super::support::{TestCluster, assert_nothing_left, find_process, options, script};

#[tokio::test]
async fn a_cluster_that_runs_is_found_again_and_a_dead_one_is_cleared_away() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let again = LocalCluster::up(options(cluster.directory.path(), Vec::new()))
        .await
        .unwrap();
    assert_eq!(
        (again.pid(), again.endpoint()),
        (cluster.cluster.pid(), cluster.cluster.endpoint())
    );
    cluster.create(script("sleeper", "echo; sleep 4711")).await;
    cluster.until_ready("sleeper").await;
    let status = LocalCluster::status(cluster.directory.path()).await.unwrap();
    assert!(matches!(status, Status::Running(found) if found.pid() == again.pid()));

    // Whatever kills the outermost process, nothing inside survives it.
    let pid = nix::unistd::Pid::from_raw(again.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    cluster
        .until("end of the killed cluster", || async {
            find_process("sleep 4711").is_none().then_some(())?;
            let status = LocalCluster::status(cluster.directory.path()).await.unwrap();
            matches!(status, Status::Stale).then_some(())
        })
        .await;
    let fresh = LocalCluster::up(options(cluster.directory.path(), Vec::new()))
        .await
        .unwrap();
    assert_ne!(fresh.pid(), again.pid());
    assert_eq!(
        LocalCluster::down(cluster.directory.path()).await.unwrap(),
        DownReport::Stopped
    );
    assert_nothing_left(cluster.directory.path(), fresh.pid());
    assert_eq!(
        LocalCluster::down(cluster.directory.path()).await.unwrap(),
        DownReport::NotRunning
    );
}

#[test]
fn an_ordinary_user_has_the_same_sandbox() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::Uid::effective().is_root() {
        return; // Then every other test has shown it.
    }
    let directory = tempfile::tempdir().unwrap();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    nix::unistd::chown(directory.path(), Some(nobody.uid), Some(nobody.gid)).unwrap();
    let as_nobody = |program: &Path| {
        let mut command = std::process::Command::new(program);
        command
            .uid(nobody.uid.as_raw())
            .gid(nobody.gid.as_raw())
            .current_dir("/");
        command.env("TMPDIR", directory.path());
        command
    };
    let cluster_program = Path::new(env!("CARGO_BIN_EXE_flink-k8s-local"));
    if as_nobody(cluster_program).output().is_err() {
        println!("skipped: user nobody may not run {}", cluster_program.display());
        return;
    }
    let this_test = std::env::current_exe().unwrap();
    let output = as_nobody(&this_test)
        .args([
            "--exact",
            "file_systems::environment_and_volumes_are_as_the_pod_asks",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// For looking at a cluster by hand: it goes on running in the directory that `HOLD` names.
#[tokio::test]
#[ignore = "leaves a cluster running"]
async fn hold() {
    let directory = std::env::var("HOLD").unwrap();
    let mut images = vec![ImageMapping::host("sh")];
    if let (Ok(flink), Ok(java)) = (std::env::var("FLINK_HOME"), std::env::var("JAVA_HOME")) {
        let binaries = std::env::var_os("BINARIES").map(PathBuf::from);
        images.push(ImageMapping::flink(flink, binaries, java));
    }
    let cluster = LocalCluster::up(options(directory.as_ref(), images))
        .await
        .unwrap();
    println!("{}", cluster.kubeconfig().display());
}
