//! The `HTTPRoute` of the Gateway API, as far as clusters need it.

use serde::{Deserialize, Serialize};

use crate::custom_object::{CustomObject, custom_kind};

/// A route from Gateways to a Service: `gateway.networking.k8s.io/v1` `HTTPRoute`.
///
/// ```
/// # use flink_k8s_core::http_route::HttpRoute;
/// let route: HttpRoute = serde_json::from_str(r#"{
///     "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "orders-rest"},
///     "spec": {"parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [{"name": "orders-rest", "port": 8081}]}]}
/// }"#)?;
/// assert_eq!(route.spec.parent_refs[0].name, "public");
/// assert_eq!(serde_json::to_value(&route)?["kind"], "HTTPRoute");
/// # Ok::<(), serde_json::Error>(())
/// ```
pub type HttpRoute = CustomObject<HttpRouteSpec>;

/// What an [`HttpRoute`] does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteSpec {
    /// The Gateways that it is attached to.
    pub parent_refs: Vec<ParentReference>,
    /// The names that it is for; all of the Gateway's where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Where requests go.
    pub rules: Vec<HttpRouteRule>,
}

/// A Gateway, or one listener of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// Its namespace; that of the route where not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// Where requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteRule {
    /// The Services.
    pub backend_refs: Vec<BackendReference>,
}

/// A Service of the route's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendReference {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: i32,
}

custom_kind!(
    HttpRouteSpec,
    "gateway.networking.k8s.io" / "v1",
    "HTTPRoute",
    "httproutes"
);
