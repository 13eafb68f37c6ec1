//! The API server in a process of its own.

use std::process::Stdio;

use flink_k8s_local::test_cluster::TestCluster;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How another process reaches it.
#[derive(Serialize, Deserialize)]
struct Address {
    kubeconfig: String,
    namespace: String,
}

/// An API server with a namespace for one measurement. It ends when its standard input does.
pub(crate) struct ApiServer {
    pub(crate) kubeconfig: String,
    pub(crate) namespace: String,
    process: Child,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .arg("api-server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("this program can be started again");
        let output = process.stdout.take().expect("its output is piped");
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .await
            .expect("its output can be read");
        let address: Address = serde_json::from_str(&line).expect("it says where it listens");
        Self {
            kubeconfig: address.kubeconfig,
            namespace: address.namespace,
            process,
        }
    }

    pub(crate) async fn stop(mut self) {
        drop(self.process.stdin.take());
        let ended = self.process.wait().await.expect("it can be waited for");
        assert!(ended.success(), "the API server failed: {ended}");
    }
}

/// Serves until standard input ends.
pub(crate) async fn serve() {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    let address = Address {
        kubeconfig: cluster.kubeconfig().display().to_string(),
        namespace: cluster.namespace().to_owned(),
    };
    super::print(&address);
    tokio::task::spawn_blocking(|| {
        let copied = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        copied.expect("standard input can be read");
    })
    .await
    .expect("reading does not panic");
    cluster.shutdown().await;
}
