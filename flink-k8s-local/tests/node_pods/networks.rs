//! Pods find one another.

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::support::{TestCluster, script, with};

#[tokio::test]
async fn pods_have_networks_of_their_own_and_services_find_them() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let server = "import http.server, socket\n\
        class H(http.server.BaseHTTPRequestHandler):\n\
        \x20   def do_GET(self):\n\
        \x20       body = socket.gethostname().encode()\n\
        \x20       self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()\n\
        \x20       self.wfile.write(body)\n\
        http.server.HTTPServer(('0.0.0.0', 8081), H).serve_forever()\n";
    let services: Api<Service> = Api::default_namespaced(cluster.client.clone());
    for (name, cluster_ip) in [("headless", Some("None")), ("rest", None)] {
        let mut spec =
            json!({"selector": {"app": "one"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]});
        if let Some(cluster_ip) = cluster_ip {
            spec["clusterIP"] = json!(cluster_ip);
        }
        let service = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        services.create(&PostParams::default(), &service).await.unwrap();
    }
    for name in ["one", "two"] {
        let pod = with(
            script(name, ""),
            &json!({"spec": {"containers": [{
                "name": "main", "image": "sh", "command": ["python3", "-c", server],
                "ports": [{"name": "web", "containerPort": 8081}],
                "readinessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1},
            }]}}),
        );
        cluster.create(pod).await;
    }
    cluster.until_ready("one").await;
    cluster.until_ready("two").await;
    let get = "import urllib.request as u; \
        print(u.urlopen('http://headless.default:8081/').read().decode(), \
        u.urlopen('http://rest.default.svc.cluster.local/').read().decode(), \
        u.urlopen('http://rest/').read().decode())";
    // The hosts file of a pod that is there already follows changes; a new pod starts with it.
    cluster
        .create(script(
            "client",
            &format!("until python3 -c \"{get}\" 2>/dev/null; do sleep 0.2; done"),
        ))
        .await;
    cluster.until_phase("client", "Succeeded").await;
    assert_eq!(cluster.log("client").await, "one one one\n");
    cluster.down().await;
}

#[tokio::test]
async fn pods_on_the_host_network_share_one_and_others_reach_it() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let on_host = json!({"spec": {"hostNetwork": true}});
    let serve = "import socket; s = socket.create_server(('0.0.0.0', 8099)); \n\
        while True: s.accept()[0].sendall(socket.gethostname().encode())\n";
    let server = json!({"spec": {"hostNetwork": true, "containers": [{
        "name": "main", "image": "sh", "command": ["python3", "-c", serve],
        "readinessProbe": {"tcpSocket": {"port": 8099}, "periodSeconds": 1},
    }]}});
    cluster.create(with(script("server", ""), &server)).await;
    cluster.until_ready("server").await;
    let pods = cluster.pods();
    let address = async |name: &str| pods.get(name).await.unwrap().status.unwrap().pod_ip.unwrap();
    let found_at = address("server").await;
    let ask = |address: &str| {
        format!(
            "python3 -c \"import socket; print(socket.create_connection(('{address}', 8099)).recv(99).decode())\""
        )
    };
    cluster
        .create(with(script("neighbour", &ask("127.0.0.1")), &on_host))
        .await;
    cluster.create(script("stranger", &ask(&found_at))).await;
    for name in ["neighbour", "stranger"] {
        cluster.until_phase(name, "Succeeded").await;
        assert_eq!(cluster.log(name).await, "local\n", "the name of the node");
    }
    assert_eq!(address("neighbour").await, found_at);
    assert_ne!(address("stranger").await, found_at);
    cluster.down().await;
}
