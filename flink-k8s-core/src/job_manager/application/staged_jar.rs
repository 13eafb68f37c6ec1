//! A job's jar from the user's own disk, staged in the cluster: in ConfigMaps that only the JobManager's pod mounts.
//! TaskManagers get it from the JobManager, as any jar of a job.
//!
//! A ConfigMap holds a mebibyte. A jar that fits into one is mounted as it is, with any image. A larger one is split; our
//! entrypoint joins the parts. The names follow from the content, so another jar is another cluster, and the same jar
//! nothing new.

use std::fmt::Write as _;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapProjection, KeyToPath, ProjectedVolumeSource, Volume, VolumeMount, VolumeProjection,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::cluster_descriptor::JobJarFile;
use crate::cluster_id::ClusterId;
use crate::decorators::{FlinkPod, cluster_metadata};
use crate::parameters::InvalidSpecification;

/// Where a staged jar, or its parts, are in the JobManager's pod.
pub const STAGED_JAR_DIRECTORY: &str = "/opt/flink-k8s-jar";
/// The largest jar that is staged in parts. Every part is an object in etcd, of which a cluster has few gigabytes.
pub const LARGEST_STAGED_JAR: usize = 32 * 1024 * 1024;
/// The largest part; with its name and labels it has to stay below the mebibyte that a ConfigMap may have.
const PART: usize = 900 * 1024;
const VOLUME: &str = "job-jar-volume";
/// The key of the jar, or of its part, in each ConfigMap.
pub const STAGED_JAR_KEY: &str = "jar";

/// A jar as it is spread over ConfigMaps.
///
/// ```
/// # use flink_k8s_core::job_manager::staged_jar_parts;
/// let parts: Vec<&[u8]> = staged_jar_parts(b"PK").collect();
/// assert_eq!(parts, [b"PK"]);
/// ```
pub fn staged_jar_parts(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.chunks(PART)
}

/// Whether the object is a ConfigMap with a staged jar of this cluster, or with a part of one.
pub fn is_staged_jar(object: &Value, cluster_id: &ClusterId) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    object["kind"] == "ConfigMap" && object["immutable"] == true && name.starts_with(&prefix(cluster_id))
}

/// What the names of all parts begin with.
fn prefix(cluster_id: &ClusterId) -> String {
    format!("job-jar-{cluster_id}-")
}

/// A jar in the form in which it is staged.
pub(crate) struct StagedJar<'a> {
    cluster_id: &'a ClusterId,
    file: &'a JobJarFile,
    digest: String,
}

impl<'a> StagedJar<'a> {
    /// Refuses a jar that is too large; the limit is that of one ConfigMap where nobody joins parts.
    pub(crate) fn new(
        cluster_id: &'a ClusterId,
        file: &'a JobJarFile,
        is_joined: bool,
    ) -> Result<Self, InvalidSpecification> {
        let limit = if is_joined { LARGEST_STAGED_JAR } else { PART };
        if file.content.len() > limit {
            return Err(InvalidSpecification::JarTooLarge {
                name: file.name.clone(),
                size: file.content.len(),
                limit,
                is_joined,
            });
        }
        let mut digest = String::new();
        for byte in Sha256::digest(&file.content) {
            let _ = write!(digest, "{byte:02x}"); // A String takes everything.
        }
        Ok(Self {
            cluster_id,
            file,
            digest,
        })
    }

    /// The SHA-256 of the jar, if it has to be joined.
    pub(crate) fn digest_of_parts(&self) -> Option<&str> {
        (self.file.content.len() > PART).then_some(self.digest.as_str())
    }

    /// Where the JobManager finds the jar, by a name that needs no escapes; what is joined is in this directory.
    pub(crate) fn address(&self, joined_in: &str) -> String {
        let name = self.file_name();
        if self.digest_of_parts().is_some() {
            let joined_in = joined_in.trim_end_matches('/');
            return format!("local://{joined_in}/staged-{}/{name}", self.short_digest());
        }
        format!("local://{STAGED_JAR_DIRECTORY}/{name}")
    }

    fn file_name(&self) -> String {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let name = self.file.name.chars();
        name.map(|letter| if plain(letter) { letter } else { '_' })
            .collect()
    }

    fn short_digest(&self) -> &str {
        &self.digest[..16]
    }

    fn parts(&self) -> impl Iterator<Item = (String, &'a [u8])> {
        let parts = staged_jar_parts(&self.file.content).enumerate();
        parts.map(|(index, part)| {
            let (prefix, digest) = (prefix(self.cluster_id), self.short_digest());
            (format!("{prefix}{digest}-{index}"), part)
        })
    }

    /// The ConfigMaps, which nobody can change.
    pub(crate) fn config_maps(&self) -> impl Iterator<Item = ConfigMap> {
        self.parts().map(|(name, part)| ConfigMap {
            metadata: cluster_metadata(name, self.cluster_id),
            binary_data: Some([(STAGED_JAR_KEY.to_owned(), ByteString(part.to_vec()))].into()),
            immutable: Some(true),
            ..ConfigMap::default()
        })
    }

    /// Mounts the jar, or its parts under names in their order.
    pub(crate) fn mounted(&self, mut pod: FlinkPod) -> FlinkPod {
        let names: Vec<String> = self.parts().map(|(name, _)| name).collect();
        let path = |index| match self.digest_of_parts() {
            Some(_) => format!("part-{index:03}"),
            None => self.file_name(),
        };
        let source = |(index, name)| VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name,
                items: Some(vec![KeyToPath {
                    key: STAGED_JAR_KEY.to_owned(),
                    path: path(index),
                    mode: None,
                }]),
                optional: None,
            }),
            ..VolumeProjection::default()
        };
        pod.add_volume(Volume {
            name: VOLUME.to_owned(),
            projected: Some(ProjectedVolumeSource {
                sources: Some(names.into_iter().enumerate().map(source).collect()),
                ..ProjectedVolumeSource::default()
            }),
            ..Volume::default()
        });
        pod.add_volume_mount(VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: STAGED_JAR_DIRECTORY.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
        pod
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decorators::tests::rendered;

    fn jar(size: usize) -> JobJarFile {
        JobJarFile {
            name: "my job.jar".to_owned(),
            content: (0..=250).cycle().take(size).collect(),
        }
    }

    #[test]
    fn a_small_jar_is_mounted_as_it_is_under_a_name_of_its_content() {
        let orders: ClusterId = "orders".parse().unwrap();
        let small = jar(5);
        let staged = StagedJar::new(&orders, &small, false).unwrap();
        assert_eq!(
            staged.address("/opt/flink/artifacts"),
            "local:///opt/flink-k8s-jar/my_job.jar"
        );
        assert_eq!(staged.digest_of_parts(), None);
        let config_maps: Vec<ConfigMap> = staged.config_maps().collect();
        assert_eq!(config_maps.len(), 1);
        // sha256 of 00 01 02 03 04
        let name = config_maps[0].metadata.name.as_deref();
        assert_eq!(name, Some("job-jar-orders-08bb5e5d6eaac104-0"));
        let object = serde_json::to_value(&config_maps[0]).unwrap();
        assert!(is_staged_jar(&object, &orders));
        assert!(!is_staged_jar(&object, &"order".parse().unwrap()));
        insta::assert_snapshot!(rendered(&staged.mounted(FlinkPod::default())), @r#"
        name: ""
        volumeMounts:
        - mountPath: /opt/flink-k8s-jar
          name: job-jar-volume
          readOnly: true
        ---
        - name: job-jar-volume
          projected:
            sources:
            - configMap:
                items:
                - key: jar
                  path: my_job.jar
                name: job-jar-orders-08bb5e5d6eaac104-0
        "#);
    }

    #[test]
    fn a_larger_jar_is_split_where_somebody_joins_it_and_refused_elsewhere() {
        let orders: ClusterId = "orders".parse().unwrap();
        let large = jar(2 * PART + 1);
        let staged = StagedJar::new(&orders, &large, true).unwrap();
        let digest = staged.digest_of_parts().unwrap();
        assert_eq!(
            staged.address("/tmp/artifacts/"),
            format!("local:///tmp/artifacts/staged-{}/my_job.jar", &digest[..16])
        );
        let parts: Vec<Vec<u8>> = staged
            .config_maps()
            .map(|config_map| config_map.binary_data.unwrap().remove(STAGED_JAR_KEY).unwrap().0)
            .collect();
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [PART, PART, 1]);
        assert_eq!(parts.concat(), large.content);
        let refusal = StagedJar::new(&orders, &large, false).err().unwrap().to_string();
        assert!(
            refusal.contains("up to 900 KiB with") && refusal.contains("my job.jar"),
            "{refusal}"
        );
        let refusal = StagedJar::new(&orders, &jar(LARGEST_STAGED_JAR + 1), true).err();
        assert!(refusal.unwrap().to_string().contains("up to 32768 KiB;"));
    }
}
