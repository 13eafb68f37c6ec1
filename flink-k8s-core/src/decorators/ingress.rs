//! The Ingress and the `HTTPRoute` that lead to the REST Service from outside of Kubernetes.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};

use super::{cluster_metadata, unless_empty};
use crate::http_route::{BackendReference, HttpRoute, HttpRouteRule, HttpRouteSpec, ParentReference};
use crate::parameters::exposure::{IngressParameters, RouteParameters};
use crate::parameters::job_manager::JobManagerParameters;

/// The Ingress, if one is wanted.
pub(crate) fn ingress(parameters: &JobManagerParameters) -> Option<Ingress> {
    let IngressParameters {
        host,
        path,
        class_name,
        tls_secret,
        annotations,
    } = parameters.exposure.ingress.clone()?;
    let cluster_id = &parameters.cluster.cluster_id;
    let mut metadata = cluster_metadata(cluster_id.rest_service_name(), cluster_id);
    metadata.annotations = unless_empty(annotations);
    let backend = IngressBackend {
        service: Some(IngressServiceBackend {
            name: cluster_id.rest_service_name(),
            port: Some(ServiceBackendPort {
                number: Some(parameters.rest_port),
                ..ServiceBackendPort::default()
            }),
        }),
        ..IngressBackend::default()
    };
    let path_type = if is_plain(&path) {
        "Prefix"
    } else {
        // A pattern in the language of the Ingress's controller.
        "ImplementationSpecific"
    };
    let path = HTTPIngressPath {
        path: Some(path),
        path_type: path_type.to_owned(),
        backend,
    };
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: class_name,
            rules: Some(vec![IngressRule {
                host: Some(host.clone()),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            tls: tls_secret.map(|secret| {
                vec![IngressTLS {
                    hosts: Some(vec![host]),
                    secret_name: Some(secret),
                }]
            }),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    })
}

fn is_plain(path: &str) -> bool {
    path.chars()
        .all(|letter| letter.is_ascii_alphanumeric() || "/-._~%".contains(letter))
}

/// The `HTTPRoute`, if one is wanted.
pub(crate) fn route(parameters: &JobManagerParameters) -> Option<HttpRoute> {
    let RouteParameters {
        host,
        parents,
        annotations,
    } = parameters.exposure.route.clone()?;
    let cluster_id = &parameters.cluster.cluster_id;
    let mut metadata = cluster_metadata(cluster_id.rest_service_name(), cluster_id);
    metadata.annotations = unless_empty(annotations);
    let parents = parents.into_iter().map(|parent| ParentReference {
        namespace: parent.namespace,
        name: parent.name,
        section_name: parent.listener,
    });
    let backend = BackendReference {
        name: cluster_id.rest_service_name(),
        port: parameters.rest_port,
    };
    Some(HttpRoute {
        metadata,
        spec: HttpRouteSpec {
            parent_refs: parents.collect(),
            hostnames: host.into_iter().collect(),
            rules: vec![HttpRouteRule {
                backend_refs: vec![backend],
            }],
        },
    })
}
