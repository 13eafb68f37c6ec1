//! How much of each resource a pod asks for and a node offers.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Node, Pod},
    apimachinery::pkg::api::resource::Quantity,
};

use super::quantity::nano_units;

/// The resource that counts pods. A node always limits it, and every pod takes one.
pub(super) const PODS: &str = "pods";
const ONE: i128 = 1_000_000_000;

/// Amounts by resource name, in billionths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts(BTreeMap<String, i128>);

impl Amounts {
    pub(super) fn get(&self, resource: &str) -> i128 {
        self.0.get(resource).copied().unwrap_or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, i128)> {
        self.0
            .iter()
            .map(|(resource, amount)| (resource.as_str(), *amount))
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (resource, amount) in &other.0 {
            *self.0.entry(resource.clone()).or_default() += amount;
        }
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        for (resource, amount) in &other.0 {
            *self.0.entry(resource.clone()).or_default() -= amount;
        }
    }

    fn at_least(&mut self, other: &Self) {
        for (resource, amount) in &other.0 {
            let own = self.0.entry(resource.clone()).or_default();
            *own = (*own).max(*amount);
        }
    }
}

/// API servers refuse malformed quantities, so one that cannot be read counts as nothing.
fn amounts<'a>(list: impl IntoIterator<Item = &'a BTreeMap<String, Quantity>>) -> Amounts {
    let pairs = list.into_iter().flatten();
    Amounts(
        pairs
            .map(|(name, quantity)| (name.clone(), nano_units(&quantity.0).unwrap_or_default()))
            .collect(),
    )
}

/// What the node offers to pods.
pub(super) fn of_node(node: &Node) -> Amounts {
    amounts(
        node.status
            .iter()
            .filter_map(|status| status.allocatable.as_ref()),
    )
}

/// What a scheduler must set aside for the pod.
///
/// Ordinary init containers run one after the other and before the main containers, so the
/// largest of them counts; those that restart always are sidecars and run beside everything later.
pub(super) fn of_pod(pod: &Pod) -> Amounts {
    let mut total = Amounts::default();
    if let Some(spec) = &pod.spec {
        for container in &spec.containers {
            total.add(&of_container(container));
        }
        let mut sidecars = Amounts::default();
        let mut peak = Amounts::default();
        for container in spec.init_containers.iter().flatten() {
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars.add(&of_container(container));
                peak.at_least(&sidecars);
            } else {
                let mut with_sidecars = of_container(container);
                with_sidecars.add(&sidecars);
                peak.at_least(&with_sidecars);
            }
        }
        total.add(&sidecars);
        total.at_least(&peak);
        let of_whole_pod = spec
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref());
        total.0.extend(amounts(of_whole_pod).0);
        total.add(&amounts(spec.overhead.as_ref()));
    }
    total.0.insert(PODS.to_owned(), ONE);
    total
}

/// A limit without a request is a request of the same size.
fn of_container(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    let mut requests = amounts(resources.and_then(|resources| resources.limits.as_ref()));
    requests
        .0
        .extend(amounts(resources.and_then(|resources| resources.requests.as_ref())).0);
    requests
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

    use super::*;

    fn container(cpu: &str) -> Container {
        let requests = BTreeMap::from([("cpu".to_owned(), Quantity(cpu.to_owned()))]);
        let resources = ResourceRequirements {
            requests: Some(requests),
            ..ResourceRequirements::default()
        };
        Container {
            resources: Some(resources),
            ..Container::default()
        }
    }

    fn cpus(main: &[&str], init: Vec<Container>) -> i128 {
        let containers = main.iter().map(|cpu| container(cpu)).collect();
        let spec = PodSpec {
            containers,
            init_containers: Some(init),
            ..PodSpec::default()
        };
        of_pod(&Pod {
            spec: Some(spec),
            ..Pod::default()
        })
        .get("cpu")
            / ONE
    }

    fn sidecar(cpu: &str) -> Container {
        Container {
            restart_policy: Some("Always".to_owned()),
            ..container(cpu)
        }
    }

    #[test]
    fn containers_add_up_and_the_largest_init_container_counts() {
        assert_eq!(cpus(&["1", "2"], vec![]), 3);
        assert_eq!(cpus(&["1", "2"], vec![container("2"), container("1")]), 3);
        assert_eq!(cpus(&["1", "2"], vec![container("2"), container("5")]), 5);
    }

    #[test]
    fn sidecars_run_beside_later_init_containers_and_the_main_ones() {
        assert_eq!(cpus(&["1"], vec![sidecar("2")]), 3);
        assert_eq!(cpus(&["1"], vec![sidecar("2"), container("4")]), 6);
        assert_eq!(cpus(&["1"], vec![container("4"), sidecar("2")]), 4);
    }

    #[test]
    fn a_limit_counts_where_nothing_is_requested() {
        let limits = BTreeMap::from([("memory".to_owned(), Quantity("1Ki".to_owned()))]);
        let resources = ResourceRequirements {
            limits: Some(limits),
            ..ResourceRequirements::default()
        };
        let container = Container {
            resources: Some(resources),
            ..Container::default()
        };
        let spec = PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        };
        assert_eq!(
            of_pod(&Pod {
                spec: Some(spec),
                ..Pod::default()
            })
            .get("memory"),
            1024 * ONE
        );
    }
}
