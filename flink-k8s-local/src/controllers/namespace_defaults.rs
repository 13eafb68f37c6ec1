//! What every namespace has from the start: the `ServiceAccount` `default` and the ConfigMap
//! `kube-root-ca.crt`; in the namespace `default` also the Service `kubernetes`.

use std::{collections::BTreeMap, fmt::Debug, net::SocketAddr, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{
            ConfigMap, EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Namespace, Service,
            ServiceAccount, ServicePort, ServiceSpec,
        },
        discovery::v1::{self as discovery, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    endpoints::{SERVICE_NAME_LABEL, address_type},
    informer::{Change, Informer},
    object_key::ObjectKey,
    reconciler::{ReconcileError, Reconciler, call},
    work_queue::WorkQueue,
};

/// The ConfigMap with which pods verify the API server.
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";
const SERVICE_ACCOUNT: &str = "default";
const KUBERNETES: &str = "kubernetes";
const KUBERNETES_NAMESPACE: &str = "default";
const HTTPS: &str = "https";
const HTTPS_PORT: i32 = 443;

pub(crate) struct NamespaceDefaults {
    client: Client,
    namespaces: Informer<Namespace>,
    service_accounts: Informer<ServiceAccount>,
    /// Only those named [`ROOT_CA`].
    root_certificates: Informer<ConfigMap>,
    services: Informer<Service>,
    ca_certificate_pem: String,
    api_server_address: SocketAddr,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl NamespaceDefaults {
    pub(crate) fn new(
        client: Client,
        namespaces: &Informer<Namespace>,
        service_accounts: &Informer<ServiceAccount>,
        root_certificates: &Informer<ConfigMap>,
        services: &Informer<Service>,
        options: &super::ControllersOptions,
    ) -> Self {
        let queue = Arc::new(WorkQueue::new());
        namespaces.on_change({
            let queue = Arc::clone(&queue);
            move |change| queue.add(ObjectKey::of(change.latest().as_ref()))
        });
        on_object_of_namespace(&queue, service_accounts, SERVICE_ACCOUNT);
        on_object_of_namespace(&queue, root_certificates, ROOT_CA);
        on_object_of_namespace(&queue, services, KUBERNETES);
        Self {
            client,
            namespaces: namespaces.clone(),
            service_accounts: service_accounts.clone(),
            root_certificates: root_certificates.clone(),
            services: services.clone(),
            ca_certificate_pem: options.ca_certificate_pem.clone(),
            api_server_address: options.api_server_address,
            queue,
        }
    }

    /// Creates an object unless it exists.
    async fn ensure<K>(&self, object: &K) -> Result<(), ReconcileError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Serialize + DeserializeOwned + Clone + Debug,
    {
        let key = ObjectKey::of(object);
        let api: Api<K> = Api::namespaced(self.client.clone(), &key.namespace);
        match call("create", &key, api.create(&PostParams::default(), object)).await {
            Ok(_) => Ok(()),
            Err(err) if err.is_already_exists() || err.is_namespace_terminating() => Ok(()),
            Err(err) => Err(err),
        }
    }

    async fn ensure_root_certificate(&self, namespace: &str) -> Result<(), ReconcileError> {
        let data = BTreeMap::from([(ROOT_CA_KEY.to_owned(), self.ca_certificate_pem.clone())]);
        let key = ObjectKey::new(namespace, ROOT_CA);
        match self.root_certificates.get(&key) {
            Some(known) if known.data.as_ref() == Some(&data) => Ok(()),
            Some(_) => {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
                let patch = Patch::Merge(json!({"data": data}));
                call(
                    "restore ConfigMap",
                    &key,
                    api.patch(ROOT_CA, &PatchParams::default(), &patch),
                )
                .await?;
                Ok(())
            }
            None => {
                let metadata = named(namespace, ROOT_CA);
                self.ensure(&ConfigMap {
                    metadata,
                    data: Some(data),
                    ..ConfigMap::default()
                })
                .await
            }
        }
    }

    /// The Service by which pods reach the API server. A real API server makes it by itself, and
    /// keeps it: then there is nothing to do.
    async fn ensure_kubernetes_service(&self) -> Result<(), ReconcileError> {
        if self
            .services
            .get(&ObjectKey::new(KUBERNETES_NAMESPACE, KUBERNETES))
            .is_some()
        {
            return Ok(());
        }
        let address = self.api_server_address;
        let port = i32::from(address.port());
        let labels = BTreeMap::from([
            ("component".to_owned(), "apiserver".to_owned()),
            ("provider".to_owned(), KUBERNETES.to_owned()),
        ]);
        let mut metadata = named(KUBERNETES_NAMESPACE, KUBERNETES);
        metadata.labels = Some(labels);
        let service_port = ServicePort {
            name: Some(HTTPS.to_owned()),
            port: HTTPS_PORT,
            protocol: Some("TCP".to_owned()),
            target_port: Some(IntOrString::Int(port)),
            ..ServicePort::default()
        };
        let spec = ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            ports: Some(vec![service_port]),
            ..ServiceSpec::default()
        };
        self.ensure(&Service {
            metadata,
            spec: Some(spec),
            status: None,
        })
        .await?;

        let subset = EndpointSubset {
            addresses: Some(vec![EndpointAddress {
                ip: address.ip().to_string(),
                ..EndpointAddress::default()
            }]),
            not_ready_addresses: None,
            ports: Some(vec![EndpointPort {
                name: Some(HTTPS.to_owned()),
                port,
                protocol: Some("TCP".to_owned()),
                app_protocol: None,
            }]),
        };
        let metadata = named(KUBERNETES_NAMESPACE, KUBERNETES);
        self.ensure(&Endpoints {
            metadata,
            subsets: Some(vec![subset]),
        })
        .await?;

        let mut metadata = named(KUBERNETES_NAMESPACE, KUBERNETES);
        metadata.labels = Some(BTreeMap::from([(
            SERVICE_NAME_LABEL.to_owned(),
            KUBERNETES.to_owned(),
        )]));
        let ready = discovery::EndpointConditions {
            ready: Some(true),
            ..Default::default()
        };
        self.ensure(&EndpointSlice {
            metadata,
            address_type: address_type(&address.ip().to_string()).to_owned(),
            endpoints: vec![discovery::Endpoint {
                addresses: vec![address.ip().to_string()],
                conditions: Some(ready),
                ..Default::default()
            }],
            ports: Some(vec![discovery::EndpointPort {
                name: Some(HTTPS.to_owned()),
                port: Some(port),
                protocol: Some("TCP".to_owned()),
                app_protocol: None,
            }]),
        })
        .await
    }
}

impl Reconciler for NamespaceDefaults {
    type Key = ObjectKey;

    const NAME: &'static str = "namespace-defaults";

    fn queue(&self) -> &WorkQueue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<(), ReconcileError> {
        let Some(namespace) = self.namespaces.get(key) else {
            return Ok(());
        };
        if namespace.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let name = key.name.as_str();
        if self
            .service_accounts
            .get(&ObjectKey::new(name, SERVICE_ACCOUNT))
            .is_none()
        {
            let metadata = named(name, SERVICE_ACCOUNT);
            self.ensure(&ServiceAccount {
                metadata,
                ..ServiceAccount::default()
            })
            .await?;
        }
        self.ensure_root_certificate(name).await?;
        if name == KUBERNETES_NAMESPACE {
            self.ensure_kubernetes_service().await?;
        }
        Ok(())
    }
}

fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Looks at a namespace again when its object of this name changes or goes.
fn on_object_of_namespace<K>(queue: &Arc<WorkQueue<ObjectKey>>, informer: &Informer<K>, name: &'static str)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let queue = Arc::clone(queue);
    informer.on_change(move |change: &Change<K>| {
        let meta = change.latest().meta();
        if meta.name.as_deref() == Some(name) && !matches!(change, Change::Added(_)) {
            queue.add(ObjectKey::cluster_scoped(
                meta.namespace.clone().unwrap_or_default(),
            ));
        }
    });
}
