//! The client against a Kubernetes API server over TLS: the embedded one, or that of `USE_EXISTING_CLUSTER=true`.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_client::kubernetes_cluster_descriptor::{ApplicationState, KubernetesClusterDescriptor};
use flink_k8s_client::rest_client::RestClient;
use flink_k8s_client::tunnel::{Tunnel, TunnelError};
use flink_k8s_core::application_outcome::ApplicationOutcome;
use flink_k8s_core::cluster_descriptor::{
    ClientFiles, ClusterDescriptor, ClusterSpecification, DeployChange, DeployError,
};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::flink_k8s_options::OnFinish;
use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
use flink_k8s_core::job_manager::ApplicationConfiguration;
use flink_k8s_core::kube_client::{
    CreateObjectError, KubeClient, ObjectReference, PodClaim, PodEvent, ReplaceObjectError, Uid,
};
use flink_k8s_core::labels;
use flink_k8s_local::test_cluster::TestCluster;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Far more than anything here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

struct Bench {
    cluster: TestCluster,
    kube: KubeRsClient,
    descriptor: KubernetesClusterDescriptor,
}

impl Bench {
    async fn new(cluster: TestCluster) -> Self {
        let options = ConnectOptions::new(cluster.namespace().parse().unwrap());
        let kube = KubeRsClient::connect(&options.with_config_file(cluster.kubeconfig()))
            .await
            .unwrap();
        let descriptor = KubernetesClusterDescriptor::new(Arc::new(kube.clone()));
        Self {
            cluster,
            kube,
            descriptor,
        }
    }

    fn specification(&self) -> ClusterSpecification {
        let settings = [
            ("kubernetes.cluster-id", "orders"),
            ("kubernetes.namespace", self.cluster.namespace()),
            ("jobmanager.memory.process.size", "1600m"),
            ("taskmanager.memory.process.size", "1728m"),
        ];
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in settings {
            configuration.set(key, value, Origin::CommandLine);
        }
        ClusterSpecification {
            configuration,
            files: ClientFiles::default(),
        }
    }

    async fn objects(&self) -> Vec<String> {
        let objects = self.kube.list_cluster_objects(&orders()).await.unwrap();
        objects
            .iter()
            .map(|object| format!("{} {}", object.kind, object.name))
            .collect()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client(), self.cluster.namespace())
    }

    /// The error text without the name of the namespace, which differs from run to run.
    fn text(&self, error: &dyn Error) -> String {
        chain(error).replace(self.cluster.namespace(), "NAMESPACE")
    }

    async fn fail(&self, verb: &str, resource: &str, status: u16) {
        let rule = json!({"verbs": [verb], "resource": resource, "action": {"status": status}});
        self.cluster.set_faults(&json!({"rules": [rule]})).await;
    }

    /// Makes a pod whose address is that of this machine and which stands for a JobManager.
    async fn run_job_manager_here(&self) {
        let job_manager = pod("orders-1", &labels::job_manager(&orders()), None);
        self.api::<Pod>()
            .create(&PostParams::default(), &job_manager)
            .await
            .unwrap();
        self.job_manager_is(&json!({
            "phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}],
        }))
        .await;
    }

    async fn job_manager_is(&self, status: &Value) {
        let patch = json!({"status": status});
        self.api::<Pod>()
            .patch_status("orders-1", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    async fn heal(&self) {
        self.cluster.set_faults(&json!({"rules": []})).await;
    }
}

fn orders() -> ClusterId {
    "orders".parse().unwrap()
}

fn chain(error: &dyn Error) -> String {
    let cause = error
        .source()
        .map(|cause| format!(": {}", chain(cause)))
        .unwrap_or_default();
    format!("{error}{cause}")
}

fn pod(name: &str, labels: &std::collections::BTreeMap<String, String>, owner: Option<&str>) -> Pod {
    let owners = owner
        .map(|uid| json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders", "uid": uid}]));
    let pod: Value = json!({
        "metadata": {"name": name, "labels": labels, "ownerReferences": owners},
        "spec": {"containers": [{"name": "flink-main-container", "image": "flink:2.1"}]},
    });
    serde_json::from_value(pod).unwrap()
}

fn worker(name: &str, owner: Option<&str>) -> Pod {
    pod(name, &labels::task_manager(&orders()), owner)
}

#[tokio::test]
async fn a_cluster_is_deployed_once_and_killed_without_a_trace() {
    let bench = Bench::new(TestCluster::start().await.with_instant_pods().await).await;
    let deployed = bench
        .descriptor
        .deploy_session_cluster(&bench.specification())
        .await
        .unwrap();
    let objects = bench.objects().await;
    for expected in [
        "Deployment orders",
        "Service orders",
        "Service orders-rest",
        "ConfigMap flink-config-orders",
    ] {
        assert!(
            objects.iter().any(|object| object == expected),
            "{expected} is missing in {objects:?}"
        );
    }

    assert_eq!(deployed.change, DeployChange::Created);
    let deployed = deployed.cluster;
    let again = bench
        .descriptor
        .deploy_session_cluster(&bench.specification())
        .await
        .unwrap();
    assert_eq!(again.change, DeployChange::Unchanged);
    assert_eq!(again.cluster, deployed);
    assert_eq!(bench.descriptor.retrieve(&orders()).await.unwrap(), deployed);

    bench.descriptor.kill_cluster(&orders()).await.unwrap();
    assert_eq!(
        bench.descriptor.wait_until_gone(&orders(), LIMIT).await.unwrap(),
        []
    );
    // The name is free again.
    bench
        .descriptor
        .deploy_session_cluster(&bench.specification())
        .await
        .unwrap();
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn a_deploy_that_kubernetes_refuses_half_way_leaves_nothing_of_its_own() {
    let bench = Bench::new(TestCluster::start().await.with_instant_pods().await).await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let foreign: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "foreign"}})).unwrap();
    bench
        .api::<ConfigMap>()
        .create(&PostParams::default(), &foreign)
        .await
        .unwrap();
    bench.fail("create", "configmaps", 403).await;
    let error = bench
        .descriptor
        .deploy_session_cluster(&bench.specification())
        .await
        .unwrap_err();
    assert!(matches!(error, DeployError::RolledBack { .. }), "{error:?}");
    let text = bench.text(&error);
    assert!(
        text.starts_with(
            "cannot deploy cluster orders, and removed what had been created of it: not allowed to create \
             ConfigMap NAMESPACE/flink-config-orders: "
        ),
        "{text}"
    );
    bench.heal().await;
    assert_eq!(
        bench.descriptor.wait_until_gone(&orders(), LIMIT).await.unwrap(),
        []
    );
    bench.api::<ConfigMap>().get("foreign").await.unwrap();

    // An API server that fails for a while only makes it take longer.
    let rule =
        json!({"verbs": ["create"], "resource": "services", "action": {"status": 503}, "forSeconds": 0.5});
    bench.cluster.set_faults(&json!({"rules": [rule]})).await;
    bench
        .descriptor
        .deploy_session_cluster(&bench.specification())
        .await
        .unwrap();
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn a_foreign_config_map_with_a_needed_name_is_neither_used_nor_touched() {
    let bench = Bench::new(TestCluster::start().await).await;
    let foreign: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "flink-config-orders"}, "data": {"a": "b"}}))
            .unwrap();
    bench
        .api::<ConfigMap>()
        .create(&PostParams::default(), &foreign)
        .await
        .unwrap();
    let error = bench
        .descriptor
        .deploy_session_cluster(&bench.specification())
        .await
        .unwrap_err();
    insta::assert_snapshot!(
        bench.text(&error),
        @"cannot deploy cluster orders: ConfigMap NAMESPACE/flink-config-orders already exists, and was not touched"
    );
    assert_eq!(bench.objects().await, ["ConfigMap flink-config-orders"]);
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn a_worker_is_created_once_and_deleted_by_uid() {
    let bench = Bench::new(TestCluster::start().await).await;
    let owner = bench
        .descriptor
        .deploy_session_cluster(&bench.specification())
        .await
        .unwrap()
        .cluster
        .uid;
    let wanted = worker("orders-taskmanager-1-1", Some(owner.as_str()));
    let first = bench.kube.create_task_manager_pod(&wanted).await.unwrap();
    let second = bench.kube.create_task_manager_pod(&wanted).await.unwrap();
    assert_eq!(first.metadata.uid, second.metadata.uid);
    let other = worker("orders-taskmanager-1-1", None);
    let error = bench.kube.create_task_manager_pod(&other).await.unwrap_err();
    assert!(
        matches!(error, CreateObjectError::AlreadyExists { .. }),
        "{error:?}"
    );

    let name = "orders-taskmanager-1-1".parse().unwrap();
    bench
        .kube
        .delete_pod(&name, &Uid::new("another-uid"))
        .await
        .unwrap();
    assert_eq!(
        bench.kube.list_task_manager_pods(&orders()).await.unwrap().len(),
        1
    );
    let uid = Uid::new(first.metadata.uid.unwrap());
    bench.kube.delete_pod(&name, &uid).await.unwrap();
    bench.kube.delete_pod(&name, &uid).await.unwrap();
    bench.cluster.shutdown().await;
}

async fn next(events: &mut BoxStream<'static, PodEvent>) -> PodEvent {
    time::timeout(LIMIT, events.next())
        .await
        .expect("an event comes")
        .expect("the watch never ends")
}

async fn see_interruption(events: &mut BoxStream<'static, PodEvent>) {
    while !matches!(next(events).await, PodEvent::Interrupted(_)) {}
}

/// Reads events until this pod is there; returns whether there was an interruption.
async fn see(events: &mut BoxStream<'static, PodEvent>, name: &str) -> bool {
    let is_it = |pod: &Pod| pod.metadata.name.as_deref() == Some(name);
    let mut interrupted = false;
    loop {
        match next(events).await {
            PodEvent::Interrupted(_) => interrupted = true,
            PodEvent::Relisted(pods) if pods.iter().any(is_it) => return interrupted,
            PodEvent::Applied(pod) if is_it(&pod) => return interrupted,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_watch_survives_being_cut_and_an_api_server_that_fails() {
    let bench = Bench::new(TestCluster::start().await).await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let create = async |name: &str| {
        bench
            .api::<Pod>()
            .create(&PostParams::default(), &worker(name, None))
            .await
            .unwrap();
    };
    let mut events = bench.kube.watch_task_manager_pods(&orders());
    assert!(matches!(next(&mut events).await, PodEvent::Relisted(pods) if pods.is_empty()));
    create("orders-taskmanager-1-1").await;
    assert!(!see(&mut events, "orders-taskmanager-1-1").await);

    // The open watch is cut; lists and watches fail for a while, and pods come meanwhile.
    let rule = json!({"verbs": ["watch", "list"], "resource": "pods", "action": {"status": 500}});
    bench.cluster.set_faults(&json!({"rules": [rule]})).await;
    create("orders-taskmanager-1-2").await;
    see_interruption(&mut events).await;
    bench.heal().await;
    see(&mut events, "orders-taskmanager-1-2").await;

    // A connection that is cut is not an end either.
    let rule = json!({"verbs": ["watch"], "resource": "pods", "action": {"cut": true}});
    bench.cluster.set_faults(&json!({"rules": [rule]})).await;
    create("orders-taskmanager-1-3").await;
    see_interruption(&mut events).await;
    bench.heal().await;
    see(&mut events, "orders-taskmanager-1-3").await;
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn a_tunnel_leads_to_the_newest_ready_pod_and_says_why_when_there_is_none() {
    let bench = Bench::new(TestCluster::start().await).await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let flink = MockServer::start().await;
    let answer = ResponseTemplate::new(200).set_body_json(json!({"flink-version": "2.1.0"}));
    Mock::given(path("/v1/config"))
        .respond_with(answer)
        .mount(&flink)
        .await;
    let namespace = bench.cluster.namespace().parse().unwrap();
    let port = flink.address().port();
    let tunnel = Tunnel::to_job_manager(bench.kube.client(), namespace, &orders(), port)
        .await
        .unwrap();
    let rest = RestClient::new(tunnel.base_url()).unwrap();
    assert!(rest.configuration().await.unwrap_err().is_transient());
    let failure = tunnel.last_failure().unwrap();
    assert!(matches!(*failure, TunnelError::NoReadyPod { pods: 0, .. }));
    insta::assert_snapshot!(
        bench.text(failure.as_ref()),
        @"none of the 0 pods with app=orders,component=jobmanager,type=flink-native-kubernetes in namespace NAMESPACE is ready"
    );

    bench.run_job_manager_here().await;
    assert_eq!(rest.configuration().await.unwrap().flink_version, "2.1.0");
    assert!(tunnel.last_failure().is_none());
    let both = futures::join!(rest.configuration(), rest.configuration());
    assert!(both.0.is_ok() && both.1.is_ok());
    // Where none is ready, one that runs has to do.
    bench
        .job_manager_is(&json!({
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{
                "name": "flink-main-container", "image": "flink:2.1", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"running": {}},
            }],
        }))
        .await;
    assert!(rest.configuration().await.is_ok());

    // Nobody listens in the pod.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = listener.local_addr().unwrap().port();
    drop(listener);
    let namespace = bench.cluster.namespace().parse().unwrap();
    let deaf = Tunnel::to_job_manager(bench.kube.client(), namespace, &orders(), free)
        .await
        .unwrap();
    let error = RestClient::new(deaf.base_url())
        .unwrap()
        .configuration()
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let failure = time::timeout(LIMIT, async {
        loop {
            if let Some(failure) = deaf.last_failure() {
                return failure;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
    });
    let text = bench.text(failure.await.unwrap().as_ref());
    let expected = format!("port {free} of pod orders-1 in namespace NAMESPACE cannot be reached: ");
    assert!(text.starts_with(&expected), "{text}");

    let address = tunnel.local_address();
    drop((tunnel, rest));
    let closed = time::timeout(LIMIT, async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            time::sleep(Duration::from_millis(10)).await;
        }
    });
    closed.await.expect("a dropped tunnel does not listen");
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn a_missing_right_to_list_pods_or_to_forward_ports_is_named() {
    let bench = Bench::new(TestCluster::start().await).await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let namespace = bench.cluster.namespace().parse().unwrap();
    let tunnel = Tunnel::to_job_manager(bench.kube.client(), namespace, &orders(), 8081)
        .await
        .unwrap();
    let rest = RestClient::new(tunnel.base_url()).unwrap();
    bench.fail("list", "pods", 403).await;
    rest.configuration().await.unwrap_err();
    let text = bench.text(tunnel.last_failure().unwrap().as_ref());
    let expected = "cannot look for pods with app=orders,component=jobmanager,type=flink-native-kubernetes \
                    in namespace NAMESPACE: ";
    assert!(text.starts_with(expected), "{text}");

    bench.heal().await;
    bench.run_job_manager_here().await;
    bench.fail("get", "pods", 403).await;
    rest.configuration().await.unwrap_err();
    let text = bench.text(tunnel.last_failure().unwrap().as_ref());
    let expected = "cannot forward to port 8081 of pod orders-1; this needs the right to create \
                    pods/portforward in namespace NAMESPACE: ";
    assert!(text.starts_with(expected), "{text}");

    // Waiting longer would change nothing, so nobody waits.
    let cluster_id = orders();
    let waiting = bench
        .descriptor
        .wait_for_job_manager_through(&cluster_id, &rest, &tunnel, LIMIT * 100);
    let error = waiting.await.unwrap_err();
    assert!(error.waited < LIMIT);
    let text = bench.text(&error);
    assert!(
        text.starts_with("the JobManager of cluster orders is not ready after "),
        "{text}"
    );
    assert!(
        text.contains(": cannot forward to port 8081 of pod orders-1; this needs the right"),
        "{text}"
    );
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn objects_print_with_kind_and_namespace() {
    let bench = Bench::new(TestCluster::start().await).await;
    bench
        .descriptor
        .deploy_session_cluster(&bench.specification())
        .await
        .unwrap();
    let objects = bench.kube.list_cluster_objects(&orders()).await.unwrap();
    let expected = format!("Service {}/orders-rest", bench.cluster.namespace());
    assert!(
        objects
            .iter()
            .map(ObjectReference::to_string)
            .any(|object| object == expected)
    );
    bench.cluster.shutdown().await;
}

fn lease(holder: &str, version: Option<&str>) -> Lease {
    let spec = json!({
        "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 1,
        "renewTime": "2026-01-02T03:04:05.123456Z",
    });
    let metadata = json!({"name": orders().resource_manager_lease_name(), "resourceVersion": version});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

#[tokio::test]
async fn of_two_that_replace_a_lease_at_the_same_version_one_is_told_that_it_changed() {
    let bench = Bench::new(TestCluster::start().await).await;
    assert_eq!(bench.kube.find_lease(&orders()).await.unwrap(), None);
    let created = bench.kube.create_lease(&lease("a", None)).await.unwrap();
    let taken = bench.kube.create_lease(&lease("b", None)).await.unwrap_err();
    assert!(
        matches!(taken, CreateObjectError::AlreadyExists { .. }),
        "{taken:?}"
    );

    let version = created.metadata.resource_version.as_deref();
    let renewed = bench.kube.replace_lease(&lease("b", version)).await.unwrap();
    assert_ne!(renewed.metadata.resource_version.as_deref(), version);
    let late = bench.kube.replace_lease(&lease("c", version)).await.unwrap_err();
    assert!(
        matches!(late, ReplaceObjectError::Changed { .. }) && !late.is_transient(),
        "{late:?}"
    );
    insta::assert_snapshot!(
        bench.text(&late),
        @"Lease NAMESPACE/orders-resource-manager was changed in the meantime"
    );
    let found = bench.kube.find_lease(&orders()).await.unwrap().unwrap();
    let spec = found.spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("b"));
    let time = serde_json::to_value(spec.renew_time).unwrap();
    assert_eq!(
        time, "2026-01-02T03:04:05.123456Z",
        "six digits, as Kubernetes demands"
    );

    bench
        .api::<Lease>()
        .delete(&orders().resource_manager_lease_name(), &DeleteParams::default())
        .await
        .unwrap();
    let gone = bench
        .kube
        .replace_lease(&lease("b", found.metadata.resource_version.as_deref()))
        .await
        .unwrap_err();
    assert!(matches!(gone, ReplaceObjectError::Changed { .. }), "{gone:?}");
    if bench.cluster.is_embedded() {
        bench.fail("update", "leases", 503).await;
        let away = bench
            .kube
            .replace_lease(&lease("b", Some("1")))
            .await
            .unwrap_err();
        assert!(away.is_transient(), "{away:?}");
        bench.fail("update", "leases", 403).await;
        let forbidden = bench
            .kube
            .replace_lease(&lease("b", Some("1")))
            .await
            .unwrap_err();
        assert!(
            matches!(forbidden, ReplaceObjectError::Forbidden { .. }),
            "{forbidden:?}"
        );
    }
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn how_a_job_ended_is_written_on_its_own_cluster_and_on_no_other() {
    let bench = Bench::new(TestCluster::start().await).await;
    let application = ApplicationConfiguration::new();
    let deployed = bench
        .descriptor
        .deploy_application_cluster(&bench.specification(), &application)
        .await
        .unwrap();
    let job = deployed.job.unwrap();
    assert_eq!(job.on_finish, OnFinish::Delete);
    let state = bench
        .descriptor
        .application_state(&deployed.cluster)
        .await
        .unwrap();
    assert_eq!(state, ApplicationState::Running);

    let outcome =
        ApplicationOutcome::new(job.job_id, "FAILED", 1_700_000_000_000).with_failure("no such file");
    let annotations = outcome.annotations();
    let strange = Uid::new("4b1d6c2e-0000-4000-8000-000000000000");
    bench
        .kube
        .annotate_deployment(&orders(), &strange, &annotations)
        .await
        .unwrap();
    let state = bench
        .descriptor
        .application_state(&deployed.cluster)
        .await
        .unwrap();
    assert_eq!(state, ApplicationState::Running, "another cluster of that name");

    bench
        .kube
        .annotate_deployment(&orders(), &deployed.cluster.uid, &annotations)
        .await
        .unwrap();
    let seen = bench
        .descriptor
        .wait_for_application(&deployed.cluster)
        .await
        .unwrap();
    assert_eq!(seen, Some(outcome));

    bench.descriptor.kill_cluster(&orders()).await.unwrap();
    assert_eq!(
        bench
            .descriptor
            .wait_for_application(&deployed.cluster)
            .await
            .unwrap(),
        None
    );
    bench
        .kube
        .annotate_deployment(&orders(), &deployed.cluster.uid, &annotations)
        .await
        .unwrap();
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn of_several_who_claim_a_pod_at_once_one_gets_it() {
    let bench = Bench::new(TestCluster::start().await).await;
    let name = "orders-taskmanager-1-1".parse().unwrap();
    let pods = bench.api::<Pod>();
    let pod = worker("orders-taskmanager-1-1", None);
    let created = pods.create(&PostParams::default(), &pod).await;
    let uid = Uid::new(created.unwrap().metadata.uid.unwrap());
    let claim = async |value: &str| {
        bench
            .kube
            .claim_pod(&name, &uid, "flink-k8s/claim", value)
            .await
            .unwrap()
    };
    let (one, other) = tokio::join!(claim("one"), claim("other"));
    let granted = [&one, &other]
        .iter()
        .filter(|claim| ***claim == PodClaim::Granted)
        .count();
    assert_eq!(granted, 1, "{one:?} {other:?}");
    let winner = if one == PodClaim::Granted { "one" } else { "other" };
    assert_eq!(claim("third").await, PodClaim::Taken(winner.to_owned()));
    assert_eq!(
        claim(winner).await,
        PodClaim::Granted,
        "once more changes nothing"
    );

    let strange = Uid::new("4b1d6c2e-0000-4000-8000-000000000000");
    let of_another = bench
        .kube
        .claim_pod(&name, &strange, "flink-k8s/claim", winner)
        .await;
    assert_eq!(of_another.unwrap(), PodClaim::Gone, "another pod of that name");
    bench.cluster.shutdown().await;
}
