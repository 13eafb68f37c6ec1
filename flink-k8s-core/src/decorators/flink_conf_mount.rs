//! Flink's configuration and logging files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{FlinkPod, cluster_metadata, config_map, config_map_volume, same_name};
use crate::parameters::{CONFIGURATION_FILE, ClusterParameters};

const VOLUME: &str = "flink-config-volume";

/// Mounts the files.
pub(crate) fn decorate(mut pod: FlinkPod, parameters: &ClusterParameters) -> FlinkPod {
    let files = parameters
        .configuration_files
        .iter()
        .map(|file| same_name(file))
        .collect();
    pod.add_volume(config_map_volume(
        VOLUME,
        &parameters.cluster_id.config_map_name(),
        files,
    ));
    pod.add_mount(VOLUME, &parameters.configuration_directory);
    pod
}

/// The ConfigMap, from the configuration file's text and the logging files.
pub(crate) fn object(
    parameters: &ClusterParameters,
    configuration: String,
    logging: &BTreeMap<String, String>,
) -> ConfigMap {
    let files = parameters.configuration_files.iter();
    let mut data: BTreeMap<String, String> = files
        .filter_map(|file| logging.get_key_value(file))
        .map(|(name, text)| (name.clone(), text.clone()))
        .collect();
    data.insert(CONFIGURATION_FILE.to_owned(), configuration);
    let cluster_id = &parameters.cluster_id;
    config_map(cluster_metadata(cluster_id.config_map_name(), cluster_id), data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decorators::tests::{cluster, rendered};

    #[test]
    fn exactly_the_shipped_files_are_mounted() {
        let cluster = cluster(&[("kubernetes.flink.conf.dir", "/etc/flink")]);
        insta::assert_snapshot!(rendered(&decorate(FlinkPod::default(), &cluster)), @r#"
        name: ""
        volumeMounts:
        - mountPath: /etc/flink
          name: flink-config-volume
        ---
        - configMap:
            items:
            - key: log4j-console.properties
              path: log4j-console.properties
            - key: config.yaml
              path: config.yaml
            name: flink-config-orders
          name: flink-config-volume
        "#);
    }

    #[test]
    fn other_files_of_the_directory_stay_on_the_client() {
        let files = ["log4j-console.properties", "masters"]
            .map(|name| (name.to_owned(), "x".to_owned()))
            .into();
        let shipped = object(&cluster(&[]), "a: b\n".to_owned(), &files).data.unwrap();
        assert_eq!(
            shipped.into_keys().collect::<Vec<_>>(),
            ["config.yaml", "log4j-console.properties"]
        );
    }
}
