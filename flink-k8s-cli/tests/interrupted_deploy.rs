//! A deploy that is killed at any of its calls, and then repeated, ends with exactly one whole cluster.

#![expect(clippy::unwrap_used, reason = "what cannot be unwrapped here fails the test")]

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flink_k8s_local::test_cluster::TestCluster;
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
enum Moment {
    /// The API server has not seen the call.
    Before,
    /// The API server has done what was asked, and the program has not heard of it.
    After,
}

/// Where a program is killed.
#[derive(Clone, Copy, Debug)]
struct Cut {
    call: usize,
    moment: Moment,
}

/// Stands between a program and the API server, and kills the program at a call of its own.
struct Guillotine {
    url: String,
    victim: watch::Sender<Option<u32>>,
    calls: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

impl Guillotine {
    async fn new(cluster: kube::Client, cut: Option<Cut>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (victim, seen) = watch::channel(None);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (cluster, calls, seen) = (cluster.clone(), Arc::clone(&counted), seen.clone());
                let service = hyper::service::service_fn(move |request| {
                    let number = calls.fetch_add(1, Ordering::SeqCst);
                    let moment = cut.filter(|cut| cut.call == number).map(|cut| cut.moment);
                    pass_on(request, cluster.clone(), moment, seen.clone())
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // A program that is killed leaves connections behind.
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self {
            url,
            victim,
            calls,
            server,
        }
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
    moment: Option<Moment>,
    victim: watch::Receiver<Option<u32>>,
) -> Result<http::Response<Body>, Infallible> {
    if matches!(moment, Some(Moment::Before)) {
        return execute(victim).await;
    }
    let (mut parts, body) = request.into_parts();
    // The client has its own.
    parts.headers.remove(http::header::AUTHORIZATION);
    parts.headers.remove(http::header::HOST);
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    let answer = cluster
        .send(http::Request::from_parts(parts, Body::from(body)))
        .await
        .unwrap();
    if matches!(moment, Some(Moment::After)) {
        return execute(victim).await;
    }
    Ok(answer)
}

/// Kills the program; its call has no answer.
async fn execute(mut victim: watch::Receiver<Option<u32>>) -> Result<http::Response<Body>, Infallible> {
    let pid = victim.wait_for(Option::is_some).await.unwrap().unwrap();
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    std::future::pending().await
}

/// A user's machine.
struct Machine {
    directory: tempfile::TempDir,
    namespace: String,
}

impl Machine {
    fn new(namespace: &str) -> Self {
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

    fn start(&self, kubeconfig: &Path, more: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_flink-k8s"))
            .env_clear()
            .env("HOME", self.directory.path())
            .env("FLINK_CONF_DIR", self.directory.path())
            .env("KUBECONFIG", kubeconfig)
            .args(["session", "start", "--no-wait", "-Dkubernetes.cluster-id=orders"])
            .arg(format!("-Dkubernetes.namespace={}", self.namespace))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Runs the command until it ends or is cut off; returns how it ended and how many calls it made.
    async fn deploy(&self, cluster: kube::Client, cut: Option<Cut>, more: &[&str]) -> (Output, usize) {
        let guillotine = Guillotine::new(cluster, cut).await;
        let program = self.start(&self.kubeconfig(&guillotine.url), more);
        guillotine.victim.send_replace(program.id());
        let output = program.wait_with_output().await.unwrap();
        (output, guillotine.calls.load(Ordering::SeqCst))
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails unless there is one cluster with all its parts, and nothing besides.
async fn assert_one_whole_cluster(client: &kube::Client, namespace: &str, case: &str) {
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
    names.sort();
    assert_eq!(names, ["flink-config-orders", "orders", "orders-rest"], "{case}");
}

/// Kills the first start at every call that it makes, and starts again.
async fn cut_everywhere(moment: Moment) {
    let mut cluster = TestCluster::start().await;
    let client = cluster.client();
    let mut endings = Vec::new();
    for call in 0.. {
        let namespace = cluster.create_namespace().await;
        let machine = Machine::new(&namespace);
        let case = format!("killed {moment:?} call {call}");
        let (first, _) = machine
            .deploy(client.clone(), Some(Cut { call, moment }), &[])
            .await;
        if first.status.success() {
            assert_one_whole_cluster(&client, &namespace, &case).await;
            assert!(call > 5, "a deploy makes more than {call} calls");
            break;
        }
        assert_eq!(first.status.code(), None, "{case}: {}", said(&first));
        let (second, _) = machine.deploy(client.clone(), None, &[]).await;
        assert!(second.status.success(), "{case}: {}", said(&second));
        assert_one_whole_cluster(&client, &namespace, &case).await;
        let ending = ["created", "completed", "nothing is changed"];
        let ending = ending.into_iter().find(|ending| said(&second).contains(ending));
        endings.push(ending.unwrap_or_else(|| panic!("{case}: {}", said(&second))));
        let (third, _) = machine.deploy(client.clone(), None, &[]).await;
        assert!(third.status.success(), "{case}: {}", said(&third));
        assert!(
            said(&third).contains("nothing is changed"),
            "{case}: {}",
            said(&third)
        );
    }
    // Cuts before the Deployment was there, between its creation and the last part, and (by the answer) behind it.
    endings.dedup();
    let expected: &[&str] = match moment {
        Moment::Before => &["created", "completed"],
        Moment::After => &["created", "completed", "nothing is changed"],
    };
    assert_eq!(endings, expected);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_is_killed_before_any_of_its_calls_is_completed_by_the_next_one() {
    cut_everywhere(Moment::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_is_killed_after_any_of_its_calls_is_completed_by_the_next_one() {
    cut_everywhere(Moment::After).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_specification_is_refused_with_the_difference_and_replace_shows_it_and_goes_on() {
    let cluster = TestCluster::start().await;
    let (client, namespace) = (cluster.client(), cluster.namespace().to_owned());
    let machine = Machine::new(&namespace);
    let (first, _) = machine.deploy(client.clone(), None, &[]).await;
    assert!(first.status.success(), "{}", said(&first));

    let changed = "-Dparallelism.default=3";
    let (refused, _) = machine.deploy(client.clone(), None, &[changed]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let text = said(&refused);
    for expected in [
        "a cluster of that name runs with a different specification, and was not touched",
        "flink-config-orders (data.config.yaml: parallelism.default)",
        "--replace removes the cluster that runs and makes it anew",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }

    let (replaced, _) = machine
        .deploy(client.clone(), None, &[changed, "--replace"])
        .await;
    let text = said(&replaced);
    assert!(replaced.status.success(), "{text}");
    let plan = text.find("data.config.yaml: parallelism.default").unwrap();
    assert!(plan < text.find("cluster orders created").unwrap(), "{text}");
    assert_one_whole_cluster(&client, &namespace, "replaced").await;
    let (again, _) = machine
        .deploy(client.clone(), None, &[changed, "--replace"])
        .await;
    assert!(said(&again).contains("nothing is changed"), "{}", said(&again));
    cluster.shutdown().await;
}
