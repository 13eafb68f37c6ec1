//! How fast the resource manager makes pods, and what that costs: 1,000 and 5,000 workers requested, running,
//! and half of them released, beside a bare loop that creates as many pods through the `kube` crate.
//!
//! `cargo xtask bench rm` runs it and keeps the table. The API server, the resource manager and the bare
//! loop each run in a process of their own, which is this program with other arguments, so that CPU
//! time and memory belong to one of them. The cluster is an embedded one whose node runs pods at once; with
//! `USE_EXISTING_CLUSTER=true` it is the one that `KUBECONFIG` names.

mod api_server;
mod bare_loop;
mod consumption;
mod pods;
mod rounds;
mod table;
mod workers;

use std::process::Stdio;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::process::Command;

use api_server::ApiServer;

/// The numbers of workers, unless the arguments say others.
const SIZES: [u32; 2] = [1_000, 5_000];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    flink_k8s_client::install_crypto_provider();
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["api-server"] => api_server::serve().await,
        ["workers", kubeconfig, namespace, count] => {
            print(&workers::measure(kubeconfig, namespace, number(count)).await);
        }
        ["bare-loop", kubeconfig, namespace, count] => {
            print(&bare_loop::measure(kubeconfig, namespace, number(count)).await);
        }
        [] => compare(&SIZES).await,
        sizes => {
            let sizes: Vec<u32> = sizes.iter().map(|size| number(size)).collect();
            compare(&sizes).await;
        }
    }
}

fn number(text: &str) -> u32 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is not a number of workers"))
}

async fn compare(sizes: &[u32]) {
    let mut columns = Vec::new();
    for size in sizes {
        let bare_loop: bare_loop::Measured = measured_apart("bare-loop", *size).await;
        let workers: workers::Measured = measured_apart("workers", *size).await;
        columns.push(table::Column {
            size: *size,
            bare_loop,
            workers,
            rounds: rounds::measure(*size),
        });
    }
    write(&table::render(&columns));
}

/// What another process of this program measures against an API server of its own.
async fn measured_apart<T: DeserializeOwned>(what: &str, count: u32) -> T {
    let server = ApiServer::start().await;
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args([what, &server.kubeconfig, &server.namespace, &count.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .expect("this program can be started again");
    assert!(
        output.status.success(),
        "{what} {count} failed: {}",
        output.status
    );
    server.stop().await;
    serde_json::from_slice(&output.stdout).expect("a measurement is printed as JSON")
}

fn print(result: &impl Serialize) {
    write(&serde_json::to_string(result).expect("a measurement can be written as JSON"));
}

#[expect(clippy::print_stdout, reason = "the result of this program")]
fn write(text: &str) {
    println!("{text}");
}
