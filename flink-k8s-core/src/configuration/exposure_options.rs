//! Options of our own about objects that open a cluster to others, or protect it from them. Each is made only where it
//! is asked for, and belongs to the cluster's Deployment.

use std::fmt;

use super::kubernetes_options::{OptionMap, REST_SERVICE_EXPOSED_TYPE, RestServiceExposure};
use super::rest_client_options::AUTHENTICATION_ENABLED;
use super::tls_options::rest_speaks_tls;
use super::{
    ConfigOption, FlinkConfiguration, InvalidOptionValue, MalformedValue, OptionRow, OptionValue,
    OptionalConfigOption,
};

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[
    &INGRESS_HOST,
    &INGRESS_PATH,
    &INGRESS_CLASS,
    &INGRESS_TLS_SECRET,
    &INGRESS_ANNOTATIONS,
    &GATEWAY_PARENTS,
    &GATEWAY_HOST,
    &GATEWAY_ANNOTATIONS,
    &NETWORK_POLICY_ENABLED,
    &NETWORK_POLICY_REST_FROM,
    &JOB_MANAGER_MAX_UNAVAILABLE,
    &TASK_MANAGER_MIN_AVAILABLE,
];

/// `flink-k8s.ingress.host`: Name under which an Ingress leads to the REST endpoint.
pub const INGRESS_HOST: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.ingress.host",
    "Name under which an Ingress leads to the REST endpoint, such as {cluster}.{namespace}.flink.example; there is one only if this is set.",
);

/// `flink-k8s.ingress.path`: Path below which the Ingress leads to the REST endpoint.
pub const INGRESS_PATH: ConfigOption<String> = ConfigOption::new(
    "flink-k8s.ingress.path",
    "/",
    "Path below which the Ingress leads to the REST endpoint; Flink sees it too unless the Ingress's controller is told to remove it.",
);

/// `flink-k8s.ingress.class-name`: Class of the Ingress; the default class of the Kubernetes cluster where not set.
pub const INGRESS_CLASS: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.ingress.class-name",
    "Class of the Ingress; the default class of the Kubernetes cluster where not set.",
);

/// `flink-k8s.ingress.tls-secret`: Secret with the certificate of the Ingress's name; without one it speaks plain HTTP.
pub const INGRESS_TLS_SECRET: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.ingress.tls-secret",
    "Secret with the certificate of the Ingress's name; without one it speaks plain HTTP.",
);

/// `flink-k8s.ingress.annotations`: Annotations of the Ingress.
pub const INGRESS_ANNOTATIONS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "flink-k8s.ingress.annotations",
    "Annotations of the Ingress, which tell its controller what it should do.",
);

/// `flink-k8s.gateway.parent-refs`: Gateways to which an `HTTPRoute` to the REST endpoint is attached.
pub const GATEWAY_PARENTS: OptionalConfigOption<Vec<String>> = OptionalConfigOption::new(
    "flink-k8s.gateway.parent-refs",
    "Gateways to which an HTTPRoute to the REST endpoint is attached, as NAME, NAMESPACE/NAME or NAMESPACE/NAME/LISTENER; there is a route only if this is set.",
);

/// `flink-k8s.gateway.host`: Name under which the `HTTPRoute` leads to the REST endpoint; every name of the Gateway where not set.
pub const GATEWAY_HOST: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.gateway.host",
    "Name under which the HTTPRoute leads to the REST endpoint, with {cluster} and {namespace} as for an Ingress; every name of the Gateway where not set.",
);

/// `flink-k8s.gateway.annotations`: Annotations of the `HTTPRoute`.
pub const GATEWAY_ANNOTATIONS: OptionalConfigOption<OptionMap> =
    OptionalConfigOption::new("flink-k8s.gateway.annotations", "Annotations of the HTTPRoute.");

/// `flink-k8s.network-policy.enabled`: Whether `NetworkPolicies` let only the cluster's own pods reach its ports, and others only REST.
pub const NETWORK_POLICY_ENABLED: ConfigOption<bool> = ConfigOption::new(
    "flink-k8s.network-policy.enabled",
    "false",
    "Whether NetworkPolicies let only the cluster's own pods reach its ports, and others only REST and the health port.",
);

/// `flink-k8s.network-policy.rest-from`: Who else may reach REST and the health port of a cluster with `NetworkPolicies`.
pub const NETWORK_POLICY_REST_FROM: ConfigOption<Vec<String>> = ConfigOption::new(
    "flink-k8s.network-policy.rest-from",
    "same-namespace",
    "Who else may reach REST and the health port of a cluster with NetworkPolicies: any, none, same-namespace, namespace=NAME, or addresses such as 10.0.0.0/8; several are separated by semicolons.",
);

/// `flink-k8s.disruption-budget.jobmanager.max-unavailable`: How many `JobManagers` may be evicted at a time.
pub const JOB_MANAGER_MAX_UNAVAILABLE: OptionalConfigOption<Share> = OptionalConfigOption::new(
    "flink-k8s.disruption-budget.jobmanager.max-unavailable",
    "How many JobManagers may be evicted at a time, as a number or in percent; with a single one, 0 keeps it on its node until somebody removes this. There is a PodDisruptionBudget only if this is set.",
);

/// `flink-k8s.disruption-budget.taskmanager.min-available`: How many `TaskManagers` no eviction may go below.
pub const TASK_MANAGER_MIN_AVAILABLE: OptionalConfigOption<u16> = OptionalConfigOption::new(
    "flink-k8s.disruption-budget.taskmanager.min-available",
    "How many TaskManagers no eviction may go below. There is a PodDisruptionBudget only if this is set.",
);

/// Whether whoever reaches the address of a load balancer may do with the cluster what he wants: the REST endpoint asks
/// nobody for a certificate.
///
/// # Errors
///
/// When the value of an option cannot be read.
pub fn is_open_to_everybody(configuration: &FlinkConfiguration) -> Result<bool, InvalidOptionValue> {
    let is_exposed = configuration.get(&REST_SERVICE_EXPOSED_TYPE)? == RestServiceExposure::LoadBalancer;
    let asks = rest_speaks_tls(configuration)? && configuration.get(&AUTHENTICATION_ENABLED)?;
    Ok(is_exposed && !asks)
}

/// A number of pods, or a part of them.
///
/// ```
/// use flink_k8s_core::configuration::OptionValue as _;
/// use flink_k8s_core::configuration::exposure_options::Share;
///
/// assert_eq!(Share::parse("2"), Ok(Share::Pods(2)));
/// assert_eq!(Share::parse("25%").unwrap().to_string(), "25%");
/// assert!(Share::parse("101%").is_err() && Share::parse("-1").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Pods(u16),
    /// So many of a hundred.
    Percent(u8),
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods(pods) => write!(formatter, "{pods}"),
            Self::Percent(percent) => write!(formatter, "{percent}%"),
        }
    }
}

impl OptionValue for Share {
    const EXPECTED: &'static str = "number of pods, or percentage such as 25%";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        let text = text.trim();
        let parsed = match text.strip_suffix('%') {
            Some(percent) => percent
                .parse()
                .ok()
                .filter(|percent| *percent <= 100)
                .map(Self::Percent),
            None => text.parse().ok().map(Self::Pods),
        };
        parsed.ok_or_else(|| {
            MalformedValue("expected a number such as 1, or a percentage such as 25%".to_owned())
        })
    }
}
