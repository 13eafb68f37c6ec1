//! The TaskManagers' pod template, which the JobManager needs to make their pods.

use k8s_openapi::api::core::v1::ConfigMap;

use super::{
    FlinkPod, TASK_MANAGER_POD_TEMPLATE_FILE, cluster_metadata, config_map, config_map_volume, same_name,
};
use crate::parameters::ClusterParameters;

const VOLUME: &str = "pod-template-volume";

/// Mounts the template into the JobManager.
pub(crate) fn decorate(mut pod: FlinkPod, parameters: &ClusterParameters) -> FlinkPod {
    let (directory, file) = mount_point();
    let config_map = parameters.cluster_id.pod_template_config_map_name();
    pod.add_volume(config_map_volume(VOLUME, &config_map, vec![same_name(file)]));
    pod.add_mount(VOLUME, directory);
    pod
}

/// The ConfigMap with the template as the user wrote it.
pub(crate) fn object(parameters: &ClusterParameters, template: &str) -> ConfigMap {
    let cluster_id = &parameters.cluster_id;
    let data = [(mount_point().1.to_owned(), template.to_owned())].into();
    config_map(
        cluster_metadata(cluster_id.pod_template_config_map_name(), cluster_id),
        data,
    )
}

/// The directory and the name of the template's file.
fn mount_point() -> (&'static str, &'static str) {
    TASK_MANAGER_POD_TEMPLATE_FILE
        .rsplit_once('/')
        .unwrap_or((TASK_MANAGER_POD_TEMPLATE_FILE, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decorators::tests::{cluster, rendered};

    #[test]
    fn the_template_is_mounted_where_the_resource_manager_reads_it() {
        let cluster = cluster(&[]);
        insta::assert_snapshot!(rendered(&decorate(FlinkPod::default(), &cluster)), @r#"
        name: ""
        volumeMounts:
        - mountPath: /opt/flink/pod-template
          name: pod-template-volume
        ---
        - configMap:
            items:
            - key: taskmanager-pod-template.yaml
              path: taskmanager-pod-template.yaml
            name: pod-template-orders
          name: pod-template-volume
        "#);
        let shipped = object(&cluster, "spec: {}").data.unwrap();
        assert_eq!(shipped["taskmanager-pod-template.yaml"], "spec: {}");
    }
}
