//! The files that a cluster's pods mount, read back from its ConfigMaps.

use std::collections::BTreeMap;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, Origin, ParseConfigurationError};
use flink_k8s_core::decorators::TASK_MANAGER_POD_TEMPLATE_FILE;
use flink_k8s_core::kube_client::ReadError;
use k8s_openapi::api::core::v1::ConfigMap;

use super::KubeRsClient;
use super::failure::read_error;

/// Flink's configuration file, as every deploy of ours ships it.
const CONFIGURATION_FILE: &str = "config.yaml";

/// What the TaskManagers of a cluster are made of, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShippedFiles {
    /// Flink's configuration.
    pub configuration: FlinkConfiguration,
    /// The names of all files in the configuration directory.
    pub configuration_files: Vec<String>,
    /// The names of the files of the Hadoop configuration that the client shipped.
    pub hadoop_files: Vec<String>,
    /// The template of the TaskManagers' pods, YAML.
    pub task_manager_pod_template: Option<String>,
}

/// Why the files of a cluster are not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShippedFilesError {
    /// A ConfigMap cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The configuration in the ConfigMap is not one.
    #[error("cannot understand {CONFIGURATION_FILE} in ConfigMap {config_map}")]
    Malformed {
        /// The ConfigMap.
        config_map: String,
        /// What is wrong.
        source: ParseConfigurationError,
    },
}

impl ShippedFilesError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Read(error) => error.is_transient(),
            Self::Malformed { .. } => false,
        }
    }
}

impl KubeRsClient {
    /// The files that the TaskManagers of this cluster mount; `None` if it has no configuration.
    ///
    /// # Errors
    ///
    /// See [`ShippedFilesError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn shipped_files(
        &self,
        cluster_id: &ClusterId,
    ) -> Result<Option<ShippedFiles>, ShippedFilesError> {
        let config_map = cluster_id.config_map_name();
        let Some(mut files) = self.config_map(&config_map).await? else {
            return Ok(None);
        };
        let configuration_files = files.keys().cloned().collect();
        let Some(text) = files.remove(CONFIGURATION_FILE) else {
            return Ok(None);
        };
        let origin = Origin::File(format!("ConfigMap {config_map}"));
        let configuration = FlinkConfiguration::from_yaml(&text, &origin)
            .map_err(|source| ShippedFilesError::Malformed { config_map, source })?;
        let template = cluster_id.pod_template_config_map_name();
        let template = self.config_map(&template).await?.unwrap_or_default();
        let hadoop = cluster_id.hadoop_config_map_name();
        let hadoop = self.config_map(&hadoop).await?.unwrap_or_default();
        Ok(Some(ShippedFiles {
            configuration,
            configuration_files,
            hadoop_files: hadoop.into_keys().collect(),
            task_manager_pod_template: template.into_iter().find_map(|(name, text)| {
                TASK_MANAGER_POD_TEMPLATE_FILE
                    .ends_with(&format!("/{name}"))
                    .then_some(text)
            }),
        }))
    }

    /// The texts of a ConfigMap; `None` if there is none of that name.
    async fn config_map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, ReadError> {
        let found = self.find::<ConfigMap>(name).await;
        let found =
            found.map_err(|error| read_error(&format!("ConfigMap {name}"), &self.namespace, error))?;
        Ok(found.map(|config_map| config_map.data.unwrap_or_default()))
    }
}
