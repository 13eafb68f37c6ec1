//! Reads a user's pod template and takes the main container out of it.

use k8s_openapi::api::core::v1::Pod;

use super::{FlinkPod, MAIN_CONTAINER};
use crate::parameters::InvalidSpecification;

/// The pod of this template, or an empty one where there is none; `option` names the template's option.
pub(crate) fn load(template: Option<&str>, option: &'static str) -> Result<FlinkPod, InvalidSpecification> {
    let Some(text) = template else {
        return Ok(FlinkPod::default());
    };
    let pod: Result<Option<Pod>, _> = serde_saphyr::from_str(text);
    let refused = |source| InvalidSpecification::PodTemplate { key: option, source };
    let pod = pod.map_err(|source| refused(source.into()))?;
    Ok(split(pod.ok_or_else(|| refused("the file is empty".into()))?))
}

/// Separates the main container, an empty one if the template has none, from the sidecars.
fn split(pod: Pod) -> FlinkPod {
    let mut spec = pod.spec.unwrap_or_default();
    let main = spec
        .containers
        .iter()
        .position(|container| container.name == MAIN_CONTAINER);
    let main_container = main
        .map(|index| spec.containers.remove(index))
        .unwrap_or_default();
    FlinkPod {
        metadata: pod.metadata,
        spec,
        main_container,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Container;

    #[test]
    fn the_main_container_is_found_among_sidecars_and_unquoted_scalars_are_read_as_text() {
        let template = "
apiVersion: v1
kind: Pod
spec:
  containers:
  - {name: sidecar, image: fluentd}
  - name: flink-main-container
    env:
    - {name: LEVEL, value: 017}
    resources: {limits: {ephemeral-storage: 4, cpu: 0.5}}
    livenessProbe: {httpGet: {port: 8081}}
";
        let pod = load(Some(template), "kubernetes.pod-template-file.jobmanager").unwrap();
        assert_eq!(pod.spec.containers.len(), 1);
        assert_eq!(pod.spec.containers[0].name, "sidecar");
        let variable = &pod.main_container.env.as_ref().unwrap()[0];
        assert_eq!(variable.value.as_deref(), Some("017"));
        let limits = pod.main_container.resources.unwrap().limits.unwrap();
        assert_eq!(limits["ephemeral-storage"].0, "4");
    }

    #[test]
    fn a_template_without_a_spec_or_a_main_container_is_empty() {
        let pod = load(Some("metadata: {labels: {a: b}}"), "option").unwrap();
        assert_eq!(pod.main_container, Container::default());
        assert!(pod.metadata.labels.unwrap().contains_key("a"));
    }

    #[test]
    fn a_text_that_is_no_pod_is_refused_with_its_option() {
        for text in ["[1, 2]", "kind: Deployment", "spec: {containers: 3}", "a: [", ""] {
            let refusal = load(Some(text), "kubernetes.pod-template-file.taskmanager")
                .unwrap_err()
                .to_string();
            assert!(
                refusal.contains("kubernetes.pod-template-file.taskmanager"),
                "{text:?}: {refusal}"
            );
        }
    }
}
