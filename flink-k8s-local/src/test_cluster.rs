//! A cluster for a test: the embedded API server and its controllers, or a real cluster.
//!
//! `USE_EXISTING_CLUSTER=true` selects the cluster of `KUBECONFIG`; otherwise each test has an
//! embedded one of its own, in its process. `KUBECONFIG` alone selects nothing: most developers
//! have it set to something that matters.

mod instant_pods;

use std::{
    env,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time};
use tokio_util::sync::CancellationToken;

use crate::{
    api_server::{ApiServer, ApiServerOptions, ServedRequests},
    controllers::{self, ControllersError, ControllersOptions},
};

/// Selects a real cluster when it says `true`.
const USE_EXISTING_CLUSTER: &str = "USE_EXISTING_CLUSTER";
/// Labels every namespace that a test made, so that leftovers can be found.
const TEST_LABEL: &str = "flink-k8s/test";
/// Where the embedded API server takes rules for failing.
const FAULTS_PATH: &str = "/flink-k8s-local/faults";
/// How long a new namespace may take to have its service account.
const NAMESPACE_LIMIT: time::Duration = time::Duration::from_secs(30);
/// How long open watches may take to get a bookmark.
const BOOKMARK_LIMIT: time::Duration = time::Duration::from_secs(60);
/// How often it is looked for them before they are requested again.
const BOOKMARK_POLLS: u32 = 300;
const POLL_PAUSE: time::Duration = time::Duration::from_millis(10);

/// A cluster for one test, with a namespace of its own.
///
/// There are no nodes, so pods stay Pending: see [`TestCluster::with_instant_pods`].
///
/// # Panics
///
/// As befits a test, every method panics when the cluster does not do what it should.
///
/// ```no_run
/// # use flink_k8s_local::test_cluster::TestCluster;
/// # async fn example() {
/// let cluster = TestCluster::start().await.with_instant_pods().await;
/// let client = cluster.client();
/// let namespace = cluster.namespace();
/// # drop(client);
/// # let _ = namespace;
/// cluster.shutdown().await;
/// # }
/// ```
pub struct TestCluster {
    client: Client,
    namespace: String,
    kubeconfig: PathBuf,
    /// Empty in an embedded cluster, which goes as a whole.
    namespaces_to_delete: Vec<String>,
    embedded: Option<Embedded>,
}

/// What belongs to an embedded cluster.
struct Embedded {
    server: ApiServer,
    shutdown: CancellationToken,
    controllers: JoinHandle<Result<(), ControllersError>>,
    instant_pods: Option<JoinHandle<()>>,
    /// Holds the kubeconfig and the logs.
    _directory: TempDir,
}

impl TestCluster {
    /// Starts a cluster, or connects to the one that the environment selects, and makes a
    /// namespace in it.
    ///
    /// # Panics
    ///
    /// When the cluster cannot be started or reached.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped an embedded cluster ends; in an existing one a namespace may remain.
    pub async fn start() -> Self {
        let mut cluster = match env::var(USE_EXISTING_CLUSTER) {
            Ok(text) if text == "true" => Self::connect().await,
            _ => Self::start_embedded().await,
        };
        cluster.namespace = cluster.create_namespace().await;
        cluster
    }

    async fn start_embedded() -> Self {
        let directory = tempfile::tempdir().expect("a test has a directory for temporary files");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a test may listen on the loopback interface");
        let logs = directory.path().join("logs");
        let server = ApiServer::start(ApiServerOptions::new(vec![listener], logs))
            .await
            .expect("the embedded API server starts");
        let address = server.local_addresses()[0];
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, server.kubeconfig(&format!("https://{address}")))
            .expect("the kubeconfig is written to the test's directory");
        let client =
            Client::try_from(server.client_config()).expect("the server's own configuration is valid");
        let options = ControllersOptions {
            ca_certificate_pem: server.ca_certificate_pem().to_owned(),
            api_server_address: address,
        };
        let shutdown = CancellationToken::new();
        let of_controllers = Client::try_from(server.client_config()).expect("the same as above");
        let controllers = tokio::spawn(controllers::run(of_controllers, options, shutdown.clone()));
        Self {
            client,
            namespace: String::new(),
            kubeconfig,
            namespaces_to_delete: Vec::new(),
            embedded: Some(Embedded {
                server,
                shutdown,
                controllers,
                instant_pods: None,
                _directory: directory,
            }),
        }
    }

    async fn connect() -> Self {
        let Some(kubeconfig) = env::var_os("KUBECONFIG").map(PathBuf::from) else {
            panic!("{USE_EXISTING_CLUSTER}=true needs KUBECONFIG to name the cluster")
        };
        let parsed = Kubeconfig::read_from(&kubeconfig)
            .unwrap_or_else(|err| panic!("cannot read KUBECONFIG {}: {err}", kubeconfig.display()));
        let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
            .await
            .unwrap_or_else(|err| panic!("cannot use KUBECONFIG {}: {err}", kubeconfig.display()));
        let client = Client::try_from(config)
            .unwrap_or_else(|err| panic!("cannot use KUBECONFIG {}: {err}", kubeconfig.display()));
        Self {
            client,
            namespace: String::new(),
            kubeconfig,
            namespaces_to_delete: Vec::new(),
            embedded: None,
        }
    }

    /// Makes every pod run and be ready as soon as it is bound, without any container.
    ///
    /// There is one node then, called `instant`, with 64 processors and 256 GiB. Pods get
    /// an address, go at once when deleted, and end with [`TestCluster::end_pod`].
    /// An existing cluster runs pods by itself: there this does nothing.
    ///
    /// # Panics
    ///
    /// When the node cannot be registered.
    #[must_use]
    pub async fn with_instant_pods(mut self) -> Self {
        if let Some(embedded) = &mut self.embedded {
            let task = instant_pods::start(self.client.clone(), embedded.shutdown.clone()).await;
            embedded.instant_pods = Some(task);
        }
        self
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The test's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A file with which other programs reach the cluster as the client does.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Whether the cluster is the embedded one: only that can be made to fail, and only its pods
    /// can be made to end.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Makes another namespace, and waits until pods can be made in it.
    ///
    /// # Panics
    ///
    /// When that does not succeed.
    pub async fn create_namespace(&mut self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Tests run in many processes at once, perhaps on one cluster.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "test-{}-{number}-{:08x}",
            std::process::id(),
            rand::random::<u32>()
        );
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some([(TEST_LABEL.to_owned(), "true".to_owned())].into()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("a namespace can be created");
        if self.embedded.is_none() {
            self.namespaces_to_delete.push(name.clone());
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &name);
        let has_account = async {
            while accounts
                .get_opt("default")
                .await
                .expect("service accounts can be read")
                .is_none()
            {
                time::sleep(POLL_PAUSE).await;
            }
        };
        time::timeout(NAMESPACE_LIMIT, has_account)
            .await
            .expect("a new namespace has its service account soon");
        name
    }

    /// Makes the embedded API server fail as `rules` say; see the module `api_server::faults` for
    /// their form. The rules replace earlier ones; `{"rules": []}` ends all.
    ///
    /// # Panics
    ///
    /// When the cluster is not the embedded one, or the rules are not valid.
    pub async fn set_faults(&self, rules: &Value) {
        assert!(
            self.is_embedded(),
            "only the embedded API server can be made to fail"
        );
        let request = http::Request::post(FAULTS_PATH)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(rules.to_string().into_bytes())
            .expect("a constant path makes a valid request");
        self.client
            .request_text(request)
            .await
            .expect("the fault rules are valid");
    }

    /// What was asked of the embedded API server so far, and by whom.
    ///
    /// # Panics
    ///
    /// When the cluster is not the embedded one.
    pub fn served_requests(&self) -> Vec<ServedRequests> {
        let embedded = self.embedded.as_ref();
        let embedded = embedded.expect("only the embedded API server counts its requests");
        embedded.server.served_requests()
    }

    /// Makes the embedded API server forget earlier states, as the storage of a real one does from time to time.
    ///
    /// # Panics
    ///
    /// When the cluster is not the embedded one.
    pub fn compact(&self) {
        let embedded = self.embedded.as_ref();
        let embedded = embedded.expect("only the embedded API server forgets when it is told to");
        embedded.server.compact();
    }

    /// Makes the embedded API server send a bookmark, which tells how far a watch has come, on every open watch
    /// whose client wants them, after everything that has changed before.
    ///
    /// # Panics
    ///
    /// When the cluster is not the embedded one.
    pub async fn send_bookmarks(&self) {
        let embedded = self.embedded.as_ref();
        let embedded = embedded.expect("only the embedded API server sends bookmarks when it is told to");
        let are_sent = async {
            loop {
                // A watch that was opened after a request knows nothing of it.
                embedded.server.request_bookmarks();
                for _ in 0..BOOKMARK_POLLS {
                    if embedded.server.are_bookmarks_sent() {
                        return;
                    }
                    time::sleep(POLL_PAUSE).await;
                }
            }
        };
        time::timeout(BOOKMARK_LIMIT, are_sent)
            .await
            .expect("open watches get their bookmarks soon");
    }

    /// Ends all containers of an instant pod with this exit code, as if the processes had ended.
    ///
    /// The pod's phase becomes Succeeded or Failed. Restart policies are not looked at.
    ///
    /// # Panics
    ///
    /// When the pod does not exist, or the cluster is not the embedded one.
    pub async fn end_pod(&self, namespace: &str, name: &str, exit_code: i32) {
        assert!(self.is_embedded(), "a real cluster's pods cannot be made to end");
        instant_pods::end(&self.pods(namespace), name, exit_code).await;
    }

    /// Makes an instant pod ready or not ready, as a readiness probe would.
    ///
    /// # Panics
    ///
    /// When the pod does not exist, or the cluster is not the embedded one.
    pub async fn set_pod_readiness(&self, namespace: &str, name: &str, readiness: Readiness) {
        assert!(
            self.is_embedded(),
            "a real cluster decides by itself which pods are ready"
        );
        instant_pods::set_readiness(&self.pods(namespace), name, readiness).await;
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Ends an embedded cluster, or deletes the test's namespaces from an existing one.
    ///
    /// # Panics
    ///
    /// When a controller had failed, or a namespace cannot be deleted.
    pub async fn shutdown(mut self) {
        let namespaces = std::mem::take(&mut self.namespaces_to_delete);
        delete_namespaces(self.client.clone(), namespaces).await;
        if let Some(embedded) = self.embedded.take() {
            embedded.shutdown.cancel();
            embedded
                .controllers
                .await
                .expect("the controllers do not panic")
                .expect("the controllers do not fail");
            if let Some(instant_pods) = embedded.instant_pods {
                instant_pods.await.expect("instant pods do not panic");
            }
            embedded.server.shutdown().await;
        }
    }
}

impl Drop for TestCluster {
    /// A failing test cleans up, too.
    fn drop(&mut self) {
        if let Some(embedded) = &self.embedded {
            embedded.shutdown.cancel();
        }
        let namespaces = std::mem::take(&mut self.namespaces_to_delete);
        if namespaces.is_empty() {
            return;
        }
        // Neither the test's runtime nor its client can be waited for here.
        let kubeconfig = self.kubeconfig.clone();
        let deleting = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let Ok(parsed) = Kubeconfig::read_from(kubeconfig) else {
                    return;
                };
                let options = KubeConfigOptions::default();
                let Ok(config) = Config::from_custom_kubeconfig(parsed, &options).await else {
                    return;
                };
                if let Ok(client) = Client::try_from(config) {
                    delete_namespaces(client, namespaces).await;
                }
            });
        });
        if deleting.join().is_err() {
            tracing::error!("a test's namespace could not be deleted, look for the label {TEST_LABEL}");
        }
    }
}

/// Whether a pod takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not, or not yet.
    NotReady,
}

async fn delete_namespaces(client: Client, names: Vec<String>) {
    let namespaces: Api<Namespace> = Api::all(client);
    for name in names {
        match namespaces.delete(&name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {} // The test did it itself.
            Err(err) => panic!("cannot delete namespace {name} of the test: {err}"),
        }
    }
}
