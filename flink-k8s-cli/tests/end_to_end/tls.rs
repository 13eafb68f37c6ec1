//! REST with TLS, where both sides show certificates: from outside, through a node's port and from inside of Kubernetes.

use std::fs;
use std::path::{Path, PathBuf};

use flink_k8s_client::rest_client::{RestClient, RestError};
use flink_k8s_client::tunnel::Tunnel;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ListParams, LogParams};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_RSA_SHA256};

use super::applications::{image_with_the_jar, texts};
use super::file_server;
use super::harness::{Machine, assert_same, count_words, written_counts};
use super::running_job::{self, CLUSTER, SlowWordCount, until_checkpoint_is_kept};

const TEXT: &str = "the rain in spain stays mainly in the plain\n";
/// With the delay for each, more than any test takes; without, a moment.
const LINES: usize = 20_000;
pub(crate) const PASSWORD: &str = "changeit";
/// Where the pods have the stores.
pub(crate) const MOUNTED: &str = "/opt/flink/certificates";

/// Certificates of one authority, in the forms in which Flink and our commands take them.
pub(crate) struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes them, as Flink's documentation tells: one key for both sides, whom nobody but its authority vouches for.
    /// The stores go into a Secret.
    pub(crate) fn make(machine: &Machine) -> Self {
        let rsa = || KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, rsa()).unwrap();
        let key = rsa();
        let parameters = CertificateParams::new(["flink", file_server::NAME].map(str::to_owned)).unwrap();
        let certificate = parameters.signed_by(&key, &issuer).unwrap();

        let parsed = |der: &[u8]| Certificate::from_der(der).unwrap();
        let chain = PrivateKeyChain::new(
            "rest",
            PrivateKey::from_der(&key.serialize_der()).unwrap(),
            [parsed(certificate.der()), parsed(issuer.der())],
        );
        let directory = machine.scratch().join("certificates");
        fs::create_dir(&directory).unwrap();
        let store = |file: &str, entry: KeyStoreEntry| {
            let mut store = KeyStore::new();
            store.add_entry("flink", entry);
            fs::write(directory.join(file), store.writer(PASSWORD).write().unwrap()).unwrap();
        };
        store("rest.p12", KeyStoreEntry::PrivateKeyChain(chain));
        store("trust.p12", KeyStoreEntry::Certificate(parsed(issuer.der())));
        // The names that flink-k8s.tls=secret wants.
        let copies = [
            ("rest.p12", "internal.p12"),
            ("trust.p12", "internal-trust.p12"),
            ("trust.p12", "rest-trust.p12"),
        ];
        for (store, copy) in copies {
            fs::copy(directory.join(store), directory.join(copy)).unwrap();
        }
        let files = format!("--from-file={}", directory.display());
        let create = ["create", "secret", "generic", "rest-certificates", &files];
        let secret = machine.kubectl(&[&create[..], &["--dry-run=client", "-o", "yaml"]].concat());
        let manifest = machine.scratch().join("rest-certificates.yaml");
        fs::write(&manifest, secret).unwrap();
        machine.kubectl(&["apply", "-f", manifest.to_str().unwrap()]);
        fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
        fs::write(directory.join("me.pem"), certificate.pem()).unwrap();
        fs::write(directory.join("me.key"), key.serialize_pem()).unwrap();
        Self { directory }
    }

    /// Where the stores are, and the same as PEM files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the processes of the cluster need: TLS for REST, and certificates of its clients.
    pub(crate) fn of_cluster() -> Vec<String> {
        let mut options = stores(Path::new(MOUNTED));
        options.push(format!("-Dkubernetes.secrets=rest-certificates:{MOUNTED}"));
        options
    }

    /// What our commands need where the cluster's options name files of the pods.
    pub(crate) fn of_client(&self) -> Vec<String> {
        let file = |option: &str, file: &str| {
            format!(
                "-Dflink-k8s.rest.tls.{option}={}",
                self.directory.join(file).display()
            )
        };
        vec![
            "-Dsecurity.ssl.rest.enabled=true".to_owned(),
            file("ca-file", "ca.pem"),
            file("certificate-file", "me.pem"),
            file("key-file", "me.key"),
        ]
    }
}

/// What a cluster needs that is given all its certificates by the Secret, and whoever reaches it.
fn of_given_secret() -> Vec<String> {
    let mut options = vec![
        "-Dflink-k8s.tls=secret".to_owned(),
        "-Dflink-k8s.tls-secret-name=rest-certificates".to_owned(),
        "-Dsecurity.ssl.rest.authentication-enabled=true".to_owned(),
    ];
    for use_ in ["internal", "rest"] {
        for store in ["keystore", "key", "truststore"] {
            options.push(format!("-Dsecurity.ssl.{use_}.{store}-password={PASSWORD}"));
        }
    }
    options
}

fn stores(directory: &Path) -> Vec<String> {
    let at = directory.display();
    vec![
        "-Dsecurity.ssl.rest.enabled=true".to_owned(),
        "-Dsecurity.ssl.rest.authentication-enabled=true".to_owned(),
        format!("-Dsecurity.ssl.rest.keystore={at}/rest.p12"),
        format!("-Dsecurity.ssl.rest.truststore={at}/trust.p12"),
        format!("-Dsecurity.ssl.rest.keystore-password={PASSWORD}"),
        format!("-Dsecurity.ssl.rest.key-password={PASSWORD}"),
        format!("-Dsecurity.ssl.rest.truststore-password={PASSWORD}"),
    ]
}

/// A pod that lists the cluster's jobs twice: as one inside of Kubernetes, and as a machine that has a kubeconfig and
/// reaches the nodes.
fn lister(kubeconfig: &Path, client: &[String]) -> String {
    let container = |name: &str, environment: serde_json::Value| {
        let mut command = vec![
            "/opt/flink-k8s/bin/flink-k8s",
            "list",
            "--all",
            "-Dkubernetes.cluster-id=e2e",
        ];
        command.extend(client.iter().map(String::as_str));
        serde_json::json!({"name": name, "image": "flink:e2e", "command": command, "env": environment})
    };
    let variable = serde_json::json!([{"name": "KUBECONFIG", "value": kubeconfig}]);
    let containers = [
        container("inside", serde_json::json!([])),
        container("beside", variable),
    ];
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lister"},
        "spec": {"restartPolicy": "Never", "containers": containers},
    })
    .to_string()
}

/// Of a machine in the nodes' network, with the token of the pod that stands for it.
const KUBECONFIG: &str = r"
apiVersion: v1
kind: Config
clusters:
- name: here
  cluster:
    server: https://kubernetes.default.svc
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
users:
- name: me
  user: {tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}
contexts:
- name: here
  context: {cluster: here, user: me, namespace: default}
current-context: here
";

#[tokio::test]
async fn a_session_whose_clients_show_certificates_is_reached_from_everywhere() {
    let Some(machine) = Machine::start() else { return };
    let certificates = Certificates::make(&machine);
    let (cluster, client) = (Certificates::of_cluster(), certificates.of_client());
    // What is for the client goes before the files of the pods.
    let options: Vec<&str> = cluster.iter().chain(&client[1..]).map(String::as_str).collect();
    machine.start_session(&[&options[..], &["-Dkubernetes.rest-service.exposed.type=NodePort"]].concat());

    let list = ["list", "--all", "-Dkubernetes.cluster-id=e2e"];
    let said = machine.must_fail(1, &list);
    assert!(
        said.contains("speaks TLS only: set security.ssl.rest.enabled=true"),
        "{said}"
    );
    let anonymous: Vec<&str> = client[..2].iter().map(String::as_str).collect();
    let said = machine.must_fail(3, &[&list[..], &anonymous].concat());
    assert!(
        said.contains("does not accept our certificate, or misses one"),
        "{said}"
    );

    // Through the API server: a machine outside reaches no node.
    let flags: Vec<&str> = client.iter().map(String::as_str).collect();
    machine.count_words_of(&TEXT.repeat(40), &flags, "output");
    let of_java = stores(&certificates.directory);
    let of_java: Vec<&str> = of_java.iter().map(String::as_str).collect();
    let jobs = machine.must(&[&list[..], &of_java].concat());
    assert!(jobs.contains("WordCount") && jobs.contains("FINISHED"), "{jobs}");

    // Where the API server forwards nothing, only the Service and the node's port are left.
    let kube = machine.client().await;
    let no_tunnel = serde_json::json!({"rules": [
        {"resource": "pods", "queryContains": "ports=8081", "action": {"status": 403}},
    ]});
    machine.set_faults(&kube, &no_tunnel).await;
    let said = machine.must_fail(3, &[&list[..], &flags].concat());
    assert!(said.contains("pods/portforward"), "{said}");
    let file = |name: &str, content: &str| {
        let path = machine.scratch().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let kubeconfig = file("kubeconfig-of-a-node", KUBECONFIG);
    let pod = file("lister.json", &lister(&kubeconfig, &client));
    machine.kubectl(&["apply", "-f", pod.to_str().unwrap()]);
    let pods: Api<Pod> = Api::default_namespaced(kube.clone());
    for container in ["inside", "beside"] {
        machine
            .eventually(&format!("the one {container} lists the job"), async || {
                let of_container = LogParams {
                    container: Some(container.to_owned()),
                    ..LogParams::default()
                };
                let log = pods.logs("lister", &of_container).await.unwrap_or_default();
                assert!(!log.contains("error: "), "{log}");
                (log.contains("WordCount") && log.contains("FINISHED")).then_some(())
            })
            .await;
    }
    machine.set_faults(&kube, &serde_json::json!({"rules": []})).await;
    machine.must(&[&["session", "stop", "e2e", "--cancel-jobs"], &flags[..]].concat());
    machine.kubectl(&["delete", "pod", "lister"]);
    machine.end();
}

#[tokio::test]
async fn an_application_with_given_certificates_is_followed_and_removed() {
    let Some(machine) = Machine::start() else { return };
    Certificates::make(&machine);
    let options = image_with_the_jar(&machine);
    let given = of_given_secret();
    let security: Vec<&str> = given.iter().map(String::as_str).collect();
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(40)).unwrap();
    let program = [
        "--input",
        input.to_str().unwrap(),
        "--output",
        output.to_str().unwrap(),
    ];
    let start = [&["application", "start"], &texts(&options, &security)[..]].concat();
    let jar = "local:///opt/flink/usrlib/job.jar";
    // Detached: nobody but the entrypoint can see the end of the job.
    let detached = [
        &start[..],
        &["--on-finish", "delete", "--detached", jar],
        &program,
    ]
    .concat();
    machine.must(&detached);
    // The cluster says itself where its certificates are.
    let list = [&["list", "-Dkubernetes.cluster-id=e2e"], &security[..]].concat();
    machine
        .eventually("the job is seen from outside", async || {
            let listed = machine.flink_k8s(&list);
            let listed = String::from_utf8(listed.stdout).unwrap();
            listed.contains("WordCount").then_some(())
        })
        .await;
    machine
        .eventually("the entrypoint removes the cluster", async || {
            let listed = machine.must(&["application", "list", "--output", "json"]);
            (listed.trim() == "[]").then_some(())
        })
        .await;
    assert_same(&count_words(&TEXT.repeat(40)), &written_counts(&output));
    machine.end();
}

#[tokio::test]
async fn a_session_is_given_certificates_and_new_ones_while_its_job_goes_on() {
    let Some(machine) = Machine::start() else { return };
    let kube = machine.client().await;
    let storage = format!(
        "-Dhigh-availability.storageDir=file://{}",
        machine.scratch().join("ha").display()
    );
    let auto = [
        "-Dflink-k8s.tls=auto",
        "-Dsecurity.ssl.rest.authentication-enabled=true",
        "-Dhigh-availability.type=kubernetes",
        "-Dkubernetes.jobmanager.replicas=2",
        &storage,
        "-Ds3.secret-key=planted-secret",
        "-Dcontainerized.master.env.FLINK_K8S_LOG=trace",
        "-Dcontainerized.taskmanager.env.FLINK_K8S_LOG=trace",
    ];
    machine.start_session(&auto);
    let start = [&["session", "start"], &machine.session()[..], &auto].concat();
    let again = machine.flink_k8s(&start);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(
        again.status.success() && said.contains("nothing is changed"),
        "{said}"
    );

    // The cluster says itself which certificates are its own.
    machine.count_words_of(&TEXT.repeat(40), &[], "output");
    let pods: Api<Pod> = Api::default_namespaced(kube.clone());
    let of_cluster = ListParams::default().labels("app=e2e");
    let before = pods.list(&of_cluster).await.unwrap().items;
    assert_eq!(before.len(), 4, "two JobManagers and two TaskManagers");
    for pod in &before {
        let name = pod.metadata.name.as_deref().unwrap();
        let log = pods.logs(name, &LogParams::default()).await.unwrap();
        assert!(
            !log.is_empty() && !log.contains("planted-secret"),
            "{name}: {log}"
        );
    }
    let before: Vec<String> = before
        .into_iter()
        .map(|pod| {
            let volumes = pod.spec.unwrap().volumes.unwrap();
            assert!(
                volumes.iter().any(|volume| volume.name == "e2e-tls-volume"),
                "{volumes:?}"
            );
            pod.metadata.uid.unwrap()
        })
        .collect();

    let cluster_id = "e2e".parse().unwrap();
    let tunnel = Tunnel::to_job_manager(kube.clone(), "default".parse().unwrap(), &cluster_id, 8081);
    let tunnel = tunnel.await.unwrap();
    let plain = RestClient::new(tunnel.base_url())
        .unwrap()
        .overview()
        .await
        .unwrap_err();
    assert!(matches!(plain, RestError::TlsRequired { .. }), "{plain}");

    let word_count = SlowWordCount::submit(&machine, &TEXT.repeat(LINES));
    let job = machine
        .eventually("the job runs", async || {
            running_job::runs(&machine)?;
            running_job::all(&machine)[0]["job-id"]
                .as_str()
                .map(str::to_owned)
        })
        .await;
    until_checkpoint_is_kept(&machine, &kube, &job).await;

    let rotate = ["tls", "rotate", "e2e"];
    let impatient = machine.flink_k8s(&[&rotate[..], &["--timeout", "0s"]].concat());
    let said = String::from_utf8(impatient.stderr).unwrap();
    assert!(said.contains("the same command goes on with it"), "{said}");
    let rotated = machine.flink_k8s(&rotate);
    let said = String::from_utf8(rotated.stderr).unwrap();
    assert!(rotated.status.success(), "{said}");
    assert!(said.contains("before, which goes on"), "{said}");
    assert!(
        said.contains("cluster e2e has new certificates, valid until 20"),
        "{said}"
    );
    let shown = machine.must(&["tls", "show", "e2e", "--output", "json"]);
    assert!(
        shown.contains("\"CN=flink REST\"") && shown.contains("e2e-tls"),
        "{shown}"
    );
    word_count.hurry();
    machine.must(&["job", "wait", &job, CLUSTER]);
    assert_same(
        &count_words(&TEXT.repeat(LINES)),
        &written_counts(&word_count.output),
    );
    for pod in pods.list(&of_cluster).await.unwrap() {
        let (name, uid) = (pod.metadata.name.unwrap(), pod.metadata.uid.unwrap());
        assert!(!before.contains(&uid), "{name} has the certificates of before");
    }

    machine.must(&["session", "stop", "e2e"]);
    let secrets: Api<Secret> = Api::default_namespaced(kube);
    assert_eq!(secrets.list(&ListParams::default()).await.unwrap().items, []);
    machine.end();
}
