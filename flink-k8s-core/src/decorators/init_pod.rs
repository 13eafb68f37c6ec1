//! What JobManager and TaskManager pods have alike: identity, image, resources, labels, scheduling.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{FlinkPod, MAIN_CONTAINER};
use crate::configuration::java_double_text;
use crate::parameters::{ContainerResources, PodParameters};

/// Sets or extends what the template says. `selectors` are the labels by which the pod is found; they win
/// over labels that the user chose.
pub(super) fn decorate(
    mut pod: FlinkPod,
    parameters: &PodParameters,
    resources: &ContainerResources,
    selectors: &BTreeMap<String, String>,
    host_network: bool,
) -> FlinkPod {
    let container = &mut pod.main_container;
    MAIN_CONTAINER.clone_into(&mut container.name);
    container.image = Some(parameters.image.clone().resolve(container.image.take()));
    let policy = parameters.image_pull_policy.clone();
    container.image_pull_policy = Some(policy.resolve(container.image_pull_policy.take()));
    set_resources(container.resources.get_or_insert_default(), resources);

    let labels = pod.metadata.labels.get_or_insert_default();
    labels.extend(parameters.labels.clone());
    labels.extend(selectors.clone());
    if !parameters.annotations.is_empty() {
        pod.metadata
            .annotations
            .get_or_insert_default()
            .extend(parameters.annotations.clone());
    }

    let spec = &mut pod.spec;
    let template_account = spec
        .service_account
        .take()
        .or_else(|| spec.service_account_name.take());
    let account = parameters.service_account.clone().resolve(template_account);
    spec.service_account = Some(account.clone());
    spec.service_account_name = Some(account);
    spec.host_network = Some(host_network);
    spec.dns_policy = Some(dns_policy(spec.dns_policy.take(), host_network));
    if !parameters.image_pull_secrets.is_empty() {
        let secrets = parameters.image_pull_secrets.iter();
        let references = secrets.map(|name| LocalObjectReference { name: name.clone() });
        spec.image_pull_secrets.get_or_insert_default().extend(references);
    }
    if !parameters.node_selector.is_empty() {
        spec.node_selector
            .get_or_insert_default()
            .extend(parameters.node_selector.clone());
    }
    if !parameters.tolerations.is_empty() {
        spec.tolerations
            .get_or_insert_default()
            .extend(parameters.tolerations.iter().cloned());
    }
    // What is configured wins over the template; nothing leaves it as it is.
    let scheduler = parameters.scheduler_name.clone();
    spec.scheduler_name = scheduler.or_else(|| spec.scheduler_name.take());
    let priority_class = parameters.priority_class.clone();
    spec.priority_class_name = priority_class.or_else(|| spec.priority_class_name.take());
    if !parameters.topology_spread.is_empty() {
        let of_these_pods = parameters.topology_spread.iter().cloned().map(|constraint| {
            let label_selector = Some(LabelSelector {
                match_labels: Some(selectors.clone()),
                ..LabelSelector::default()
            });
            TopologySpreadConstraint {
                label_selector,
                ..constraint
            }
        });
        spec.topology_spread_constraints
            .get_or_insert_default()
            .extend(of_these_pods);
    }
    for (name, value) in &parameters.environment {
        pod.add_environment_value(name, value);
    }
    pod
}

fn dns_policy(template: Option<String>, host_network: bool) -> String {
    if host_network {
        return "ClusterFirstWithHostNet".to_owned();
    }
    template
        .filter(|policy| !policy.trim().is_empty())
        .unwrap_or_else(|| "ClusterFirst".to_owned())
}

/// Flink decides on CPU and memory; other resources of the template stay.
fn set_resources(requirements: &mut ResourceRequirements, resources: &ContainerResources) {
    let requests = requirements.requests.get_or_insert_default();
    requests.insert("cpu".to_owned(), cpu(resources.cpu));
    requests.insert("memory".to_owned(), mebibytes(resources.memory_mebibytes));
    let limits = requirements.limits.get_or_insert_default();
    limits.insert("cpu".to_owned(), cpu(resources.cpu_limit));
    limits.insert("memory".to_owned(), mebibytes(resources.memory_limit_mebibytes));
    for (name, amount) in &resources.extended {
        limits.insert(name.clone(), Quantity(amount.to_string()));
        let requests = requirements.requests.get_or_insert_default();
        requests.insert(name.clone(), Quantity(amount.to_string()));
    }
}

/// As Java prints the number, such as `1.0`, so that rendered objects look like upstream's.
fn cpu(amount: f64) -> Quantity {
    Quantity(java_double_text(amount))
}

fn mebibytes(amount: u64) -> Quantity {
    Quantity(format!("{amount}Mi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_network_needs_its_own_dns_policy_whatever_the_template_says() {
        assert_eq!(
            dns_policy(Some("None".to_owned()), true),
            "ClusterFirstWithHostNet"
        );
        assert_eq!(dns_policy(Some("None".to_owned()), false), "None");
        assert_eq!(dns_policy(Some(" ".to_owned()), false), "ClusterFirst");
    }

    #[test]
    fn resources_that_flink_does_not_know_are_kept_from_the_template() {
        let quantity = |text: &str| Quantity(text.to_owned());
        let mut requirements = ResourceRequirements {
            requests: Some(
                [
                    ("cpu".to_owned(), quantity("250m")),
                    ("ephemeral-storage".to_owned(), quantity("2Gi")),
                ]
                .into(),
            ),
            ..ResourceRequirements::default()
        };
        let resources = ContainerResources {
            cpu: 0.5,
            cpu_limit: 0.75,
            memory_mebibytes: 1600,
            memory_limit_mebibytes: 3200,
            extended: [("nvidia.com/gpu".to_owned(), 2)].into(),
        };
        set_resources(&mut requirements, &resources);
        let requests = requirements.requests.unwrap();
        assert_eq!(requests["cpu"], quantity("0.5"));
        assert_eq!(requests["ephemeral-storage"], quantity("2Gi"));
        assert_eq!(requests["nvidia.com/gpu"], quantity("2"));
        let limits = requirements.limits.unwrap();
        assert_eq!(
            (&limits["cpu"], &limits["memory"]),
            (&quantity("0.75"), &quantity("3200Mi"))
        );
        assert_eq!(limits["nvidia.com/gpu"], quantity("2"));
    }
}
