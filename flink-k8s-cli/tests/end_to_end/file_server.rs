//! A web server that pods reach. They have a network of their own, so it is a pod, too: one that runs this test program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::harness::{Machine, log_of};
use super::tls::Certificates;

/// Its name, and that of its Service.
pub(crate) const NAME: &str = "files";
pub(crate) const HTTP_PORT: u16 = 8080;
pub(crate) const HTTPS_PORT: u16 = 8443;
/// Whoever does not send this is refused.
pub(crate) const HEADER: &str = "X-Team-Token";
pub(crate) const TOKEN: &str = "planted-sesame";
/// Below this path each file is sent by half once.
pub(crate) const ONCE_CUT_OFF: &str = "/once-cut-off/";

const SERVES: &str = "it serves files";
/// Its environment: what it serves, with which certificate, where.
const DIRECTORY: &str = "SERVED_DIRECTORY";
const CERTIFICATES: &str = "SERVED_CERTIFICATES";
const ADDRESS: &str = "SERVED_ADDRESS";

/// Starts it with the files of this directory.
pub(crate) async fn start(
    machine: &Machine,
    client: &kube::Client,
    directory: &Path,
    certificates: &Certificates,
) {
    let program = std::env::current_exe().unwrap();
    let environment = json!([
        {"name": DIRECTORY, "value": directory},
        {"name": CERTIFICATES, "value": certificates.directory()},
        {"name": ADDRESS, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]);
    let container = json!({
        "name": NAME, "image": "flink:e2e", "env": environment,
        "command": [program, "--exact", "--ignored", "--nocapture", "file_server::serve"],
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME, "labels": {"serves": NAME}},
        "spec": {"containers": [container]},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
        "spec": {"selector": {"serves": NAME}, "ports": [
            {"name": "http", "port": HTTP_PORT}, {"name": "https", "port": HTTPS_PORT},
        ]},
    });
    let manifest = machine.scratch().join("file-server.yaml");
    fs::write(&manifest, format!("{pod}\n---\n{service}\n")).unwrap();
    machine.kubectl(&["apply", "-f", manifest.to_str().unwrap()]);
    machine
        .eventually("the file server serves behind its Service", async || {
            let endpoints = machine.kubectl(&[
                "get",
                "endpoints",
                NAME,
                "-o",
                "jsonpath={.subsets[*].addresses[*].ip}",
            ]);
            let serves = log_of(client, NAME).await.contains(SERVES);
            (serves && !endpoints.is_empty()).then_some(())
        })
        .await;
}

/// The requests so far, each as its path and the status of the answer.
pub(crate) async fn requests(client: &kube::Client) -> Vec<String> {
    let log = log_of(client, NAME).await;
    let requests = log.lines().filter_map(|line| line.strip_prefix("GET "));
    requests.map(str::to_owned).collect()
}

/// What the pod runs: it ends with it.
#[tokio::test]
#[ignore = "it is the program of a pod"]
async fn serve() {
    let directory = |name| PathBuf::from(std::env::var_os(name).unwrap());
    let (files, certificates) = (directory(DIRECTORY), directory(CERTIFICATES));
    let address = std::env::var(ADDRESS).unwrap();
    flink_k8s_client::install_crypto_provider();
    let chain = CertificateDer::from_pem_file(certificates.join("me.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.join("me.key")).unwrap();
    let tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(tls));
    let served = Served {
        files,
        cut_off: Arc::default(),
    };
    let plain = TcpListener::bind((address.as_str(), HTTP_PORT)).await.unwrap();
    let encrypted = TcpListener::bind((address.as_str(), HTTPS_PORT)).await.unwrap();
    println!("{SERVES}");
    loop {
        let served = served.clone();
        tokio::select! {
            accepted = plain.accept() => {
                let (stream, _) = accepted.unwrap();
                tokio::spawn(async move { drop(served.answer(stream).await) });
            }
            accepted = encrypted.accept() => {
                let (stream, _) = accepted.unwrap();
                let tls = tls.clone();
                tokio::spawn(async move {
                    // Who does not trust us goes away.
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(served.answer(stream).await);
                    }
                });
            }
        }
    }
}

#[derive(Clone)]
struct Served {
    files: PathBuf,
    /// What was cut off before.
    cut_off: Arc<Mutex<BTreeSet<String>>>,
}

impl Served {
    /// Answers one request, and closes the connection.
    async fn answer(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let path = lines.first().and_then(|line| line.split(' ').nth(1));
        let path = path.unwrap_or_default();
        let knows_us = lines.contains(&format!("{HEADER}: {TOKEN}"));
        let (status, content) = match fs::read(self.files.join(path.rsplit('/').next().unwrap_or_default())) {
            _ if !knows_us => (401, Vec::new()),
            Ok(content) => (200, content),
            Err(_) => (404, Vec::new()),
        };
        println!("GET {path} {status}");
        let is_cut_off =
            path.starts_with(ONCE_CUT_OFF) && self.cut_off.lock().unwrap().insert(path.to_owned());
        let sent = if is_cut_off {
            content.len() / 2
        } else {
            content.len()
        };
        let head = format!(
            "HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            content.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&content[..sent]).await?;
        stream.shutdown().await
    }
}
