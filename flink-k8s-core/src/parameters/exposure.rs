//! Who reaches a cluster, and what protects it: settings of the objects that are made only where they are asked for.

use super::{ClusterParameters, InvalidSpecification};
use crate::cluster_id::ClusterId;
use crate::configuration::exposure_options::{self as options, Share};
use crate::configuration::kubernetes_options::OptionMap;
use crate::configuration::{FlinkConfiguration, OptionRow, OptionalConfigOption};
use crate::namespace::Namespace;

/// How long a DNS name may be.
const LONGEST_NAME: usize = 253;
/// To how many Gateways a route may be attached.
const LARGEST_PARENTS: usize = 32;
const PARENT_FORM: &str =
    "NAME, NAMESPACE/NAME or NAMESPACE/NAME/LISTENER, as names of Kubernetes in lower case";

/// What is wanted of these objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExposureParameters {
    pub(crate) ingress: Option<IngressParameters>,
    pub(crate) route: Option<RouteParameters>,
    pub(crate) network_policy: Option<NetworkPolicyParameters>,
    pub(crate) job_manager_max_unavailable: Option<Share>,
    pub(crate) task_manager_min_available: Option<u16>,
}

/// An Ingress to the REST Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IngressParameters {
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) class_name: Option<String>,
    pub(crate) tls_secret: Option<String>,
    pub(crate) annotations: OptionMap,
}

/// An `HTTPRoute` to the REST Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteParameters {
    pub(crate) host: Option<String>,
    pub(crate) parents: Vec<Parent>,
    pub(crate) annotations: OptionMap,
}

/// A Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) listener: Option<String>,
}

/// `NetworkPolicies` of the cluster's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkPolicyParameters {
    pub(crate) rest_from: Vec<Peer>,
}

/// Somebody who may reach a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Whoever wants.
    Any,
    /// The pods of the cluster's namespace.
    SameNamespace,
    /// The pods of this namespace.
    Namespace(Namespace),
    /// These addresses, in CIDR notation.
    Addresses(String),
}

impl ExposureParameters {
    pub(crate) fn read(
        configuration: &FlinkConfiguration,
        cluster: &ClusterParameters,
    ) -> Result<Self, InvalidSpecification> {
        let network_policy = configuration.get(&options::NETWORK_POLICY_ENABLED)?;
        Ok(Self {
            ingress: ingress(configuration, cluster)?,
            route: route(configuration, cluster)?,
            network_policy: network_policy.then(|| rest_from(configuration)).transpose()?,
            job_manager_max_unavailable: configuration.find(&options::JOB_MANAGER_MAX_UNAVAILABLE)?,
            task_manager_min_available: configuration.find(&options::TASK_MANAGER_MIN_AVAILABLE)?,
        })
    }
}

fn ingress(
    configuration: &FlinkConfiguration,
    cluster: &ClusterParameters,
) -> Result<Option<IngressParameters>, InvalidSpecification> {
    let Some(host) = host(configuration, &options::INGRESS_HOST, cluster)? else {
        return Ok(None);
    };
    let key = options::INGRESS_PATH.key;
    let path = expanded(&configuration.get(&options::INGRESS_PATH)?, cluster);
    if !path.starts_with('/') {
        return Err(InvalidSpecification::Unsuitable {
            key,
            value: path,
            need: "a path that begins with a slash".to_owned(),
        });
    }
    Ok(Some(IngressParameters {
        host,
        path,
        class_name: configuration.find(&options::INGRESS_CLASS)?,
        tls_secret: configuration.find(&options::INGRESS_TLS_SECRET)?,
        annotations: configuration
            .find(&options::INGRESS_ANNOTATIONS)?
            .unwrap_or_default(),
    }))
}

fn route(
    configuration: &FlinkConfiguration,
    cluster: &ClusterParameters,
) -> Result<Option<RouteParameters>, InvalidSpecification> {
    let Some(parents) = configuration.find(&options::GATEWAY_PARENTS)? else {
        return Ok(None);
    };
    let texts: Vec<&str> = parents.iter().map(|text| text.trim()).collect();
    let parents: Vec<Parent> = texts.iter().map(|text| parent(text)).collect::<Result<_, _>>()?;
    check_distinct(&texts, &parents)?;
    Ok(Some(RouteParameters {
        host: host(configuration, &options::GATEWAY_HOST, cluster)?,
        parents,
        annotations: configuration
            .find(&options::GATEWAY_ANNOTATIONS)?
            .unwrap_or_default(),
    }))
}

fn parent(text: &str) -> Result<Parent, InvalidSpecification> {
    let parts: Vec<&str> = text.split('/').collect();
    let owned = |text: &str| text.to_owned();
    let (namespace, name, listener) = match parts[..] {
        [name] => (None, name, None),
        [namespace, name] => (Some(namespace), name, None),
        [namespace, name, listener] => (Some(namespace), name, Some(listener)),
        _ => return Err(unusable_parent(text, PARENT_FORM)),
    };
    let is_dns =
        namespace.is_none_or(is_label) && [Some(name), listener].into_iter().flatten().all(is_dns_name);
    if !is_dns {
        return Err(unusable_parent(text, PARENT_FORM));
    }
    Ok(Parent {
        namespace: namespace.map(owned),
        name: owned(name),
        listener: listener.map(owned),
    })
}

/// The Gateway API takes so many, and of several listeners of a Gateway only those that are named, each once.
fn check_distinct(texts: &[&str], parents: &[Parent]) -> Result<(), InvalidSpecification> {
    if parents.len() > LARGEST_PARENTS {
        return Err(unusable_parent(&texts.join(";"), "at most 32 Gateways"));
    }
    for (index, parent) in parents.iter().enumerate() {
        let is_same = |other: &&Parent| {
            (&parent.namespace, &parent.name) == (&other.namespace, &other.name)
                && (parent.listener == other.listener
                    || parent.listener.is_none()
                    || other.listener.is_none())
        };
        if parents[..index].iter().any(|other| is_same(&other)) {
            let need = "another Gateway or listener than those before it";
            return Err(unusable_parent(texts[index], need));
        }
    }
    Ok(())
}

fn unusable_parent(value: &str, need: &str) -> InvalidSpecification {
    InvalidSpecification::Unsuitable {
        key: options::GATEWAY_PARENTS.key(),
        value: value.to_owned(),
        need: need.to_owned(),
    }
}

fn rest_from(configuration: &FlinkConfiguration) -> Result<NetworkPolicyParameters, InvalidSpecification> {
    let peers = configuration.get(&options::NETWORK_POLICY_REST_FROM)?;
    let peers = peers
        .iter()
        .map(|text| text.trim())
        .filter(|text| *text != "none");
    Ok(NetworkPolicyParameters {
        rest_from: peers.map(peer).collect::<Result<_, _>>()?,
    })
}

fn peer(text: &str) -> Result<Peer, InvalidSpecification> {
    let namespace = text.strip_prefix("namespace=").map(str::parse);
    match (text, namespace) {
        ("any", _) => Ok(Peer::Any),
        ("same-namespace", _) => Ok(Peer::SameNamespace),
        (_, Some(Ok(namespace))) => Ok(Peer::Namespace(namespace)),
        (addresses, None) if is_cidr(addresses) => Ok(Peer::Addresses(addresses.to_owned())),
        _ => Err(InvalidSpecification::Unsuitable {
            key: options::NETWORK_POLICY_REST_FROM.key,
            value: text.to_owned(),
            need: "any, none, same-namespace, namespace=NAME, or addresses such as 10.0.0.0/8".to_owned(),
        }),
    }
}

fn is_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, length)| {
        let longest = match address.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => 32,
            Ok(std::net::IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        length.parse::<u8>().is_ok_and(|length| length <= longest)
    })
}

fn host(
    configuration: &FlinkConfiguration,
    option: &'static OptionalConfigOption<String>,
    cluster: &ClusterParameters,
) -> Result<Option<String>, InvalidSpecification> {
    let Some(template) = configuration.find(option)? else {
        return Ok(None);
    };
    let host = expanded(&template, cluster);
    // Its first label may be a star.
    let name = host.strip_prefix("*.").unwrap_or(&host);
    if host.len() <= LONGEST_NAME && is_dns_name(name) {
        return Ok(Some(host));
    }
    Err(InvalidSpecification::Unsuitable {
        key: option.key(),
        value: host,
        need: "a DNS name in lower case".to_owned(),
    })
}

/// Whether it is one or more labels, as names of Gateways and hosts are.
fn is_dns_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let is_edge =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = label.as_bytes();
    bytes.len() <= 63
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

/// The text with the names of the cluster in place of what stands for them.
fn expanded(template: &str, cluster: &ClusterParameters) -> String {
    let (cluster_id, namespace): (&ClusterId, &Namespace) = (&cluster.cluster_id, &cluster.namespace);
    template
        .trim()
        .replace("{cluster}", cluster_id.as_str())
        .replace("{namespace}", namespace.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    fn read(entries: &[(&str, &str)]) -> Result<ExposureParameters, InvalidSpecification> {
        let mut configuration = FlinkConfiguration::new();
        let required = [
            ("kubernetes.cluster-id", "orders"),
            ("kubernetes.namespace", "team-a"),
        ];
        for (key, value) in required.iter().chain(entries) {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        let cluster = ClusterParameters::read(&configuration, &[], &[])?;
        ExposureParameters::read(&configuration, &cluster)
    }

    #[test]
    fn nothing_is_wanted_where_nothing_is_asked_for() {
        let alone = [
            ("flink-k8s.ingress.path", "/x"),
            ("flink-k8s.gateway.host", "x.example"),
            ("flink-k8s.network-policy.rest-from", "any"),
        ];
        assert_eq!(read(&alone).unwrap(), ExposureParameters::default());
    }

    #[test]
    fn names_and_paths_may_refer_to_the_cluster() {
        let parameters = read(&[
            ("flink-k8s.ingress.host", "{cluster}.{namespace}.flink.example"),
            ("flink-k8s.ingress.path", "/{cluster}"),
            ("flink-k8s.gateway.host", "*.flink.example"),
            (
                "flink-k8s.gateway.parent-refs",
                "public;infra/edge/http;infra/edge/https",
            ),
        ]);
        let parameters = parameters.unwrap();
        let ingress = parameters.ingress.unwrap();
        assert_eq!(
            (&*ingress.host, &*ingress.path),
            ("orders.team-a.flink.example", "/orders")
        );
        let route = parameters.route.unwrap();
        assert_eq!(route.host.as_deref(), Some("*.flink.example"));
        let last = route.parents.last().unwrap();
        assert_eq!((last.namespace.as_deref(), &*last.name), (Some("infra"), "edge"));
        assert_eq!(last.listener.as_deref(), Some("https"));
    }

    #[test]
    fn gateways_are_told_apart_as_their_api_wants_it() {
        for (parents, refused) in [
            ("public;public", "public"),
            ("infra/edge;infra/edge/https", "infra/edge/https"),
            ("infra/edge/https;a;infra/edge/https", "infra/edge/https"),
        ] {
            let refusal = read(&[("flink-k8s.gateway.parent-refs", parents)]).unwrap_err();
            assert_eq!(
                refusal.to_string(),
                format!(
                    "option flink-k8s.gateway.parent-refs is {refused:?}, but must be another Gateway or listener than \
                     those before it"
                )
            );
        }
        let many = vec!["a"; 33].join(";");
        let refusal = read(&[("flink-k8s.gateway.parent-refs", &many)]).unwrap_err();
        assert!(refusal.to_string().ends_with("at most 32 Gateways"), "{refusal}");
        read(&[("flink-k8s.gateway.parent-refs", "edge;infra/edge;other/edge")]).unwrap();
    }

    #[test]
    fn what_kubernetes_would_refuse_is_refused_with_its_option() {
        for (key, value, others) in [
            ("flink-k8s.ingress.host", "Orders_1.example", ""),
            ("flink-k8s.ingress.host", "-orders.example", ""),
            ("flink-k8s.ingress.path", "orders", "flink-k8s.ingress.host"),
            ("flink-k8s.gateway.parent-refs", "a/b/c/d", ""),
            ("flink-k8s.gateway.parent-refs", "/edge", ""),
            ("flink-k8s.gateway.parent-refs", "Infra/edge", ""),
            (
                "flink-k8s.network-policy.rest-from",
                "10.0.0.0",
                "flink-k8s.network-policy.enabled",
            ),
            (
                "flink-k8s.network-policy.rest-from",
                "10.0.0.0/33",
                "flink-k8s.network-policy.enabled",
            ),
            (
                "flink-k8s.network-policy.rest-from",
                "namespace=A_b",
                "flink-k8s.network-policy.enabled",
            ),
        ] {
            let value_of_other = if others.ends_with("enabled") {
                "true"
            } else {
                "x.example"
            };
            let entries: &[(&str, &str)] = &[(key, value), (others, value_of_other)];
            let entries = if others.is_empty() { &entries[..1] } else { entries };
            let refusal = read(entries).unwrap_err().to_string();
            assert!(refusal.contains(key) && refusal.contains(value), "{refusal}");
        }
    }
}
