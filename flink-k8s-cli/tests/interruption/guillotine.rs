//! A program that is killed at a call of its own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, ListParams};
use kube::client::Body;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// When a program is killed, as seen from the call at which that happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    /// The server has not seen the call.
    Before,
    /// The server has done what was asked, and the program has not heard of it.
    After,
}

/// Where a program is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) call: usize,
    pub(crate) moment: Moment,
}

/// Counts the calls of a program, and kills it at one of them.
#[derive(Clone)]
pub(crate) struct Blade {
    cut: Option<Cut>,
    is_counted: fn(&http::request::Parts) -> bool,
    victim: watch::Sender<Option<u32>>,
    calls: Arc<AtomicUsize>,
}

impl Blade {
    /// Counts the calls for which this says so.
    pub(crate) fn new(cut: Option<Cut>, is_counted: fn(&http::request::Parts) -> bool) -> Self {
        Self {
            cut,
            is_counted,
            victim: watch::channel(None).0,
            calls: Arc::default(),
        }
    }

    /// Lets the call through, or kills the program before or after it; then there is no answer.
    pub(crate) async fn strike<T>(&self, call: &http::request::Parts, answer: impl Future<Output = T>) -> T {
        let is_counted = (self.is_counted)(call);
        let number = is_counted.then(|| self.calls.fetch_add(1, Ordering::SeqCst));
        let moment = self
            .cut
            .filter(|cut| Some(cut.call) == number)
            .map(|cut| cut.moment);
        if matches!(moment, Some(Moment::Before)) {
            return self.execute().await;
        }
        let answer = answer.await;
        if matches!(moment, Some(Moment::After)) {
            return self.execute().await;
        }
        answer
    }

    async fn execute<T>(&self) -> T {
        let mut victim = self.victim.subscribe();
        let pid = victim.wait_for(Option::is_some).await.unwrap().unwrap();
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
        std::future::pending().await
    }

    /// Waits for the end of the program that makes the calls.
    pub(crate) async fn falls_on(&self, program: Child) -> Output {
        self.victim.send_replace(program.id());
        program.wait_with_output().await.unwrap()
    }
}

/// Stands between a program and the API server.
pub(crate) struct Guillotine {
    pub(crate) url: String,
    server: tokio::task::JoinHandle<()>,
}

impl Guillotine {
    pub(crate) async fn new(cluster: kube::Client, blade: Blade) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (cluster, blade) = (cluster.clone(), blade.clone());
                let service = hyper::service::service_fn(move |request| {
                    pass_on(request, cluster.clone(), blade.clone())
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // A program that is killed leaves connections behind.
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { url, server }
    }
}

impl Drop for Guillotine {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass_on(
    request: http::Request<Incoming>,
    cluster: kube::Client,
    blade: Blade,
) -> Result<http::Response<Body>, Infallible> {
    let (mut parts, body) = request.into_parts();
    let call = parts.clone();
    // The client has its own.
    parts.headers.remove(http::header::AUTHORIZATION);
    parts.headers.remove(http::header::HOST);
    let answer = async {
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        let request = http::Request::from_parts(parts, Body::from(body));
        cluster.send(request).await.unwrap()
    };
    Ok(blade.strike(&call, answer).await)
}

/// A user's machine.
pub(crate) struct Machine {
    directory: tempfile::TempDir,
    namespace: String,
}

impl Machine {
    pub(crate) fn new(namespace: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sizes = "jobmanager.memory.process.size: 1600m\ntaskmanager.memory.process.size: 1728m\n";
        std::fs::write(directory.path().join("config.yaml"), sizes).unwrap();
        Self {
            directory,
            namespace: namespace.to_owned(),
        }
    }

    fn kubeconfig(&self, url: &str) -> PathBuf {
        let path = self.directory.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
             clusters: [{{name: a, cluster: {{server: '{url}'}}}}]\n\
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             users: [{{name: a, user: {{}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn start(&self, kubeconfig: &Path, words: &[&str]) -> Child {
        // Options may stand anywhere but behind a job.
        let (command, options) = words.split_at(2);
        Command::new(env!("CARGO_BIN_EXE_flink-k8s"))
            .env_clear()
            .env("HOME", self.directory.path())
            .env("FLINK_CONF_DIR", self.directory.path())
            .env("KUBECONFIG", kubeconfig)
            .args(command)
            .arg("-Dkubernetes.cluster-id=orders")
            .arg(format!("-Dkubernetes.namespace={}", self.namespace))
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Runs the command, which begins with two words, until it ends or is cut off.
    pub(crate) async fn run(&self, cluster: kube::Client, blade: &Blade, words: &[&str]) -> Output {
        let guillotine = Guillotine::new(cluster, blade.clone()).await;
        let program = self.start(&self.kubeconfig(&guillotine.url), words);
        blade.falls_on(program).await
    }
}

/// What the program told.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails unless there is one cluster with all its parts and this jar staged, if it is not empty, and nothing besides.
pub(crate) async fn assert_one_whole_cluster(client: &kube::Client, namespace: &str, jar: &[u8], case: &str) {
    let all = ListParams::default();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let deployments = deployments.list(&all).await.unwrap().items;
    let [deployment] = &deployments[..] else {
        panic!("{case}: {} Deployments", deployments.len());
    };
    let uid = deployment.metadata.uid.clone().unwrap();
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let services = services.list(&all).await.unwrap().items;
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let config_maps = config_maps.list(&all).await.unwrap().items;
    let mut staged: BTreeMap<_, _> = config_maps
        .iter()
        .filter_map(|object| {
            Some((
                object.metadata.name.clone()?,
                object.binary_data.clone()?.remove("jar")?.0,
            ))
        })
        .collect();
    let parts = services.into_iter().map(|object| object.metadata);
    let parts = parts.chain(config_maps.into_iter().map(|object| object.metadata));
    let mut names = Vec::new();
    for part in parts.filter(|part| part.name.as_deref() != Some("kube-root-ca.crt")) {
        let owners = part.owner_references.unwrap_or_default();
        assert_eq!(
            owners.iter().map(|owner| &owner.uid).collect::<Vec<_>>(),
            [&uid],
            "{case}"
        );
        names.push(part.name.unwrap());
    }
    let content: Vec<u8> = staged.values().flatten().copied().collect();
    assert!(content == jar, "{case}: another jar is staged: {names:?}");
    names.retain(|name| staged.remove(name).is_none());
    names.sort();
    assert_eq!(names, ["flink-config-orders", "orders", "orders-rest"], "{case}");
}
