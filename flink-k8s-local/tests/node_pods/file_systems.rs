//! What a container sees: volumes, images, a temporary directory, and its environment.

use std::path::Path;

use flink_k8s_local::local_cluster::ImageMapping;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::support::{TestCluster, script, with};

#[tokio::test]
async fn environment_and_volumes_are_as_the_pod_asks() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let pod = script(
        "full",
        "cat /opt/nowhere/conf/config.yaml /flink-data/one; echo $GREETING $FROM_MAP $POD_IP $PREFIX_a; \
         cat /etc/podinfo/labels; echo; cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; \
         head -c 20 /var/run/secrets/kubernetes.io/serviceaccount/token | wc -c; \
         head -1 /var/run/secrets/kubernetes.io/serviceaccount/ca.crt; \
         echo x > /scratch/file && cat /scratch/file; \
         (echo y > /opt/nowhere/conf/config.yaml) 2>/dev/null || echo read-only; \
         echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT; pwd; \
         while [ \"$(cat /opt/nowhere/conf/config.yaml)\" = 'a: 1' ]; do sleep 0.1; done; \
         cat /opt/nowhere/conf/config.yaml",
    );
    let command = pod["spec"]["containers"][0]["command"].clone();
    let pod = with(
        pod,
        &json!({"spec": {
            "containers": [{
                "name": "main", "image": "sh", "workingDir": "/scratch/deep", "command": command,
                "env": [
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "GREETING", "value": "hello-$(NAME)"},
                    {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "one"}}},
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "envFrom": [{"prefix": "PREFIX_", "configMapRef": {"name": "variables"}}],
                "volumeMounts": [
                    {"name": "conf", "mountPath": "/opt/nowhere/conf"},
                    {"name": "conf-one", "mountPath": "/flink-data/one", "subPath": "one"},
                    {"name": "scratch", "mountPath": "/scratch"},
                    {"name": "info", "mountPath": "/etc/podinfo"},
                ],
            }],
            "volumes": [
                {"name": "conf", "configMap": {"name": "conf", "items": [{"key": "config.yaml", "path": "config.yaml"}]}},
                {"name": "conf-one", "configMap": {"name": "conf"}},
                {"name": "scratch", "emptyDir": {}},
                {"name": "info", "downwardAPI": {"items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            ],
        }}),
    );
    cluster.create(pod).await;
    // The pod comes before its ConfigMap, as in Flink's own deployments.
    let events: Api<Event> = Api::default_namespaced(cluster.client.clone());
    cluster
        .until("a FailedMount event", || async {
            let events = events.list(&ListParams::default()).await.unwrap();
            events
                .items
                .into_iter()
                .find(|event| event.reason.as_deref() == Some("FailedMount"))
        })
        .await;
    let waiting = cluster
        .until_pod("full", "seen", |status| status["containerStatuses"].is_array())
        .await;
    assert_eq!(
        waiting["containerStatuses"][0]["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    let config_maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    for config_map in [
        json!({"metadata": {"name": "variables"}, "data": {"a": "A"}}),
        json!({"metadata": {"name": "conf"}, "data": {"config.yaml": "a: 1\n", "one": "1\n"}}),
    ] {
        let config_map = serde_json::from_value(config_map).unwrap();
        config_maps
            .create(&PostParams::default(), &config_map)
            .await
            .unwrap();
    }
    cluster.until_log("full", "/scratch/deep").await;
    let change = Patch::Merge(json!({"data": {"config.yaml": "a: 2\n"}}));
    config_maps
        .patch("conf", &PatchParams::default(), &change)
        .await
        .unwrap();
    let status = cluster.until_phase("full", "Succeeded").await;
    let address = status["podIP"].as_str().unwrap();
    let expected = format!(
        "a: 1\n1\nhello-full 1 {address} A\napp=\"full\"\ndefault\n20\n-----BEGIN CERTIFICATE-----\nx\n\
         read-only\n10.244.0.1:6443\n/scratch/deep\na: 2\n"
    );
    assert_eq!(cluster.log("full").await, expected);
    assert!(
        !Path::new("/opt/nowhere").exists() && !Path::new("/flink-data").exists(),
        "the host was changed"
    );
    cluster.down().await;
}

#[tokio::test]
async fn a_container_has_a_temporary_directory_of_its_own_that_shows_the_hosts_files() {
    let shared = tempfile::tempdir_in("/tmp").unwrap();
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let (path, name) = (
        shared.path().display(),
        shared.path().file_name().unwrap().display().to_string(),
    );
    let own = format!("/tmp/own-{name}");
    cluster
        .create(script(
            "writer",
            &format!("echo out > {path}/out; echo own > {own}; cat {own}; ls -ld /tmp"),
        ))
        .await;
    cluster.until_phase("writer", "Succeeded").await;
    let log = cluster.log("writer").await;
    assert!(log.starts_with("own\ndrwxrwxrwt"), "{log}");
    assert_eq!(
        std::fs::read_to_string(shared.path().join("out")).unwrap(),
        "out\n"
    );
    assert!(!Path::new(&own).exists());
    cluster.down().await;
}

#[tokio::test]
async fn an_image_is_a_directory_that_the_container_may_change_and_the_host_keeps() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("log")).unwrap();
    std::fs::write(home.path().join("README"), "flink\n").unwrap();
    let images = vec![
        ImageMapping::host("sh"),
        ImageMapping::flink(home.path(), None, "/usr/lib/jvm/none"),
    ];
    let Some(cluster) = TestCluster::up_with(images).await else {
        return;
    };
    let pod = with(
        script("flink", ""),
        &json!({"spec": {"containers": [{
            "name": "main", "image": "apache/flink:2.1.0",
            "command": ["/docker-entrypoint.sh"],
            "args": ["sh", "-c", "cat $FLINK_HOME/README; echo hi > /opt/flink/log/x; rm /opt/flink/README; ls /opt/flink"],
        }]}}),
    );
    cluster.create(pod).await;
    cluster.until_phase("flink", "Succeeded").await;
    let log = cluster.log("flink").await;
    assert!(
        log.starts_with("flink\n") && log.contains("log\n") && !log.contains("README"),
        "{log}"
    );
    assert!(home.path().join("README").exists() && !home.path().join("log/x").exists());

    cluster
        .create(with(
            script("unknown", ""),
            &json!({"spec": {"containers": [{"name": "main", "image": "postgres:17"}]}}),
        ))
        .await;
    let status = cluster
        .until_pod("unknown", "refused", |s| {
            s["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImagePull"
        })
        .await;
    let message = status["containerStatuses"][0]["state"]["waiting"]["message"]
        .as_str()
        .unwrap();
    assert!(
        message.contains("postgres:17") && message.contains("apache/flink:*"),
        "{message}"
    );
    let status = {
        let missing = &json!({"spec": {"containers": [{"name": "main", "image": "sh", "command": ["/no/such/program"]}]}});
        cluster.create(with(script("missing", ""), missing)).await;
        cluster.until_phase("missing", "Failed").await
    };
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["reason"], "StartError");
    assert!(
        terminated["message"]
            .as_str()
            .unwrap()
            .contains("/no/such/program"),
        "{terminated}"
    );
    cluster.down().await;
}
