//! Validated settings of what the pods may do on their node.

use super::InvalidSpecification;
use crate::configuration::flink_k8s_options::{self, PodStandard, ResourceManagerKind};
use crate::configuration::{FlinkConfiguration, common_options};

/// How far pods are kept from their node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityParameters {
    /// Whether the file systems of containers' images cannot be changed.
    pub read_only_root: bool,
    /// Directories that Flink writes to, beside `/tmp` and that of its logs.
    pub written_directories: Vec<String>,
}

impl SecurityParameters {
    /// The settings of pods under the `restricted` Pod Security Standard; nothing where pods are to stay what the
    /// image and the template make of them, as upstream's do.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification`] names the option whose value cannot be read.
    pub fn read(configuration: &FlinkConfiguration) -> Result<Option<Self>, InvalidSpecification> {
        let is_ours = configuration.get(&flink_k8s_options::RESOURCE_MANAGER)? == ResourceManagerKind::Rust;
        if !is_ours || configuration.get(&flink_k8s_options::POD_STANDARD)? == PodStandard::Privileged {
            return Ok(None);
        }
        let directories = [
            configuration.find(&common_options::IO_TMP_DIRS)?,
            configuration.find(&common_options::WEB_UPLOAD_DIR)?,
            configuration.find(&common_options::WEB_TMPDIR)?,
        ];
        // Several are separated by commas or colons.
        let directories = directories.iter().flatten();
        let paths = directories.flat_map(|several| several.split([',', ':']));
        Ok(Some(Self {
            read_only_root: configuration.get(&flink_k8s_options::READ_ONLY_ROOT)?,
            written_directories: paths
                .map(|path| path.trim().trim_end_matches('/'))
                .filter(|path| path.starts_with('/'))
                .map(ToOwned::to_owned)
                .collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    fn read(entries: &[(&str, &str)]) -> Option<SecurityParameters> {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in entries {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        SecurityParameters::read(&configuration).unwrap()
    }

    #[test]
    fn pods_are_restricted_unless_the_image_is_a_stock_one_or_somebody_wants_otherwise() {
        assert!(!read(&[]).unwrap().read_only_root);
        assert_eq!(read(&[("flink-k8s.resource-manager", "flink")]), None);
        assert_eq!(read(&[("flink-k8s.security.pod-standard", "privileged")]), None);
        let read_only = read(&[("flink-k8s.security.read-only-root", "true")]);
        assert!(read_only.unwrap().read_only_root);
    }

    #[test]
    fn directories_that_flink_writes_to_are_found() {
        let security = read(&[("io.tmp.dirs", "/data/a/, /data/b:relative")]).unwrap();
        assert_eq!(security.written_directories, ["/data/a", "/data/b"]);
    }
}
