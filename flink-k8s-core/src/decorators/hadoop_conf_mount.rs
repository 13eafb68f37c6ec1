//! A Hadoop configuration, the user's own ConfigMap or the client's files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{FlinkPod, HADOOP_CONF_DIRECTORY, cluster_metadata, config_map, config_map_volume, same_name};
use crate::parameters::{ClusterParameters, HadoopConfiguration};

const VOLUME: &str = "hadoop-config-volume";

/// Mounts the configuration, if there is one.
pub(crate) fn decorate(mut pod: FlinkPod, parameters: &ClusterParameters) -> FlinkPod {
    let volume = match &parameters.hadoop {
        HadoopConfiguration::Absent => return pod,
        HadoopConfiguration::Existing(name) => config_map_volume(VOLUME, name, Vec::new()),
        HadoopConfiguration::Shipped(files) => {
            let files = files.iter().map(|file| same_name(file)).collect();
            config_map_volume(VOLUME, &parameters.cluster_id.hadoop_config_map_name(), files)
        }
    };
    pod.add_volume(volume);
    pod.add_mount(VOLUME, HADOOP_CONF_DIRECTORY);
    pod.add_environment_value("HADOOP_CONF_DIR", HADOOP_CONF_DIRECTORY);
    pod
}

/// The ConfigMap of the client's files, if they are shipped.
pub(crate) fn object(
    parameters: &ClusterParameters,
    contents: &BTreeMap<String, String>,
) -> Option<ConfigMap> {
    let HadoopConfiguration::Shipped(files) = &parameters.hadoop else {
        return None;
    };
    let shipped = files.iter().filter_map(|file| contents.get_key_value(file));
    let data = shipped.map(|(name, text)| (name.clone(), text.clone())).collect();
    let cluster_id = &parameters.cluster_id;
    Some(config_map(
        cluster_metadata(cluster_id.hadoop_config_map_name(), cluster_id),
        data,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decorators::tests::{cluster, rendered};

    #[test]
    fn the_users_own_config_map_is_mounted_whole_and_none_is_made() {
        let cluster = cluster(&[("kubernetes.hadoop.conf.config-map.name", " hadoop ")]);
        insta::assert_snapshot!(rendered(&decorate(FlinkPod::default(), &cluster)), @r#"
        env:
        - name: HADOOP_CONF_DIR
          value: /opt/hadoop/conf
        name: ""
        volumeMounts:
        - mountPath: /opt/hadoop/conf
          name: hadoop-config-volume
        ---
        - configMap:
            name: hadoop
          name: hadoop-config-volume
        "#);
        assert_eq!(object(&cluster, &BTreeMap::new()), None);
    }

    #[test]
    fn the_clients_files_are_shipped_unless_the_step_is_switched_off() {
        let contents = ["core-site.xml", "yarn-site.xml"]
            .map(|name| (name.to_owned(), "<x/>".to_owned()))
            .into();
        let shipped = object(&cluster(&[]), &contents).unwrap();
        assert_eq!(shipped.metadata.name.as_deref(), Some("hadoop-config-orders"));
        assert_eq!(
            shipped.data.unwrap().into_keys().collect::<Vec<_>>(),
            ["core-site.xml"]
        );
        let off = cluster(&[("kubernetes.decorator.hadoop-conf-mount.enabled", "false")]);
        assert_eq!(object(&off, &contents), None);
        assert_eq!(decorate(FlinkPod::default(), &off).spec.volumes, None);
    }
}
