//! The volume on which a TaskManager keeps local files, and the setting that makes Flink use it.
//!
//! Working directory, blob cache and `RocksDB`'s files are below `io.tmp.dirs` unless they are configured. It is set for
//! TaskManagers alone, because JobManagers have no such volume.

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, EphemeralVolumeSource, HostPathVolumeSource, PersistentVolumeClaimSpec,
    PersistentVolumeClaimTemplate, Volume, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::FlinkPod;
use crate::configuration::{OptionRow as _, common_options};
use crate::memory::MemorySize;
use crate::parameters::{LocalStorageMedium, LocalStorageParameters};

const VOLUME: &str = "flink-local-storage";

/// Mounts the volume; after the step that sets the arguments.
pub(crate) fn decorate(mut pod: FlinkPod, storage: Option<&LocalStorageParameters>) -> FlinkPod {
    let Some(storage) = storage else { return pod };
    pod.add_volume(volume(&storage.medium));
    pod.add_mount(VOLUME, &storage.path);
    if storage.is_temporary_directory {
        let setting = format!("-D{}={}", common_options::IO_TMP_DIRS.key(), storage.path);
        // Later ones win.
        pod.main_container.args.get_or_insert_default().insert(0, setting);
    }
    pod
}

fn volume(medium: &LocalStorageMedium) -> Volume {
    let mut volume = Volume {
        name: VOLUME.to_owned(),
        ..Volume::default()
    };
    let directory = |medium: Option<&str>, size: Option<MemorySize>| EmptyDirVolumeSource {
        medium: medium.map(str::to_owned),
        size_limit: size.map(quantity),
    };
    match medium {
        LocalStorageMedium::Disk(size) => volume.empty_dir = Some(directory(None, *size)),
        LocalStorageMedium::Memory(size) => volume.empty_dir = Some(directory(Some("Memory"), Some(*size))),
        LocalStorageMedium::HostPath(path) => {
            volume.host_path = Some(HostPathVolumeSource {
                path: path.clone(),
                // One that Kubernetes made would belong to root.
                type_: Some("Directory".to_owned()),
            });
        }
        LocalStorageMedium::Claim { size, storage_class } => {
            volume.ephemeral = Some(claim(*size, storage_class.clone()));
        }
    }
    volume
}

/// A claim of the pod's own, which Kubernetes makes and removes with it.
fn claim(size: MemorySize, storage_class: Option<String>) -> EphemeralVolumeSource {
    let spec = PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
        storage_class_name: storage_class,
        resources: Some(VolumeResourceRequirements {
            requests: Some([("storage".to_owned(), quantity(size))].into()),
            ..VolumeResourceRequirements::default()
        }),
        ..PersistentVolumeClaimSpec::default()
    };
    EphemeralVolumeSource {
        volume_claim_template: Some(PersistentVolumeClaimTemplate { metadata: None, spec }),
    }
}

fn quantity(size: MemorySize) -> Quantity {
    let bytes = size.bytes();
    Quantity(if bytes.is_multiple_of(1 << 20) {
        format!("{}Mi", size.mebibytes())
    } else {
        bytes.to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decorators::tests::rendered;

    fn decorated(medium: LocalStorageMedium, is_temporary_directory: bool) -> String {
        let storage = LocalStorageParameters {
            path: "/data".to_owned(),
            medium,
            is_temporary_directory,
        };
        rendered(&decorate(FlinkPod::default(), Some(&storage)))
    }

    const SIZE: MemorySize = MemorySize::from_mebibytes(2048);

    #[test]
    fn the_volume_is_mounted_and_flink_told_to_use_it() {
        insta::assert_snapshot!(decorated(LocalStorageMedium::Disk(Some(SIZE)), true), @r#"
        args:
        - -Dio.tmp.dirs=/data
        name: ""
        volumeMounts:
        - mountPath: /data
          name: flink-local-storage
        ---
        - emptyDir:
            sizeLimit: 2048Mi
          name: flink-local-storage
        "#);
    }

    #[test]
    fn a_setting_of_the_user_is_left_alone() {
        let text = decorated(LocalStorageMedium::Memory(SIZE), false);
        assert!(!text.contains("args"), "{text}");
        assert!(text.contains("medium: Memory\n    sizeLimit: 2048Mi"), "{text}");
    }

    #[test]
    fn each_task_manager_claims_a_volume_of_its_own() {
        let medium = LocalStorageMedium::Claim {
            size: MemorySize::from_bytes(1_500_000_000).unwrap(),
            storage_class: Some("fast".to_owned()),
        };
        let volume = serde_saphyr::to_string(&volume(&medium)).unwrap();
        insta::assert_snapshot!(volume, @r#"
        ephemeral:
          volumeClaimTemplate:
            spec:
              accessModes:
              - ReadWriteOnce
              resources:
                requests:
                  storage: "1500000000"
              storageClassName: fast
        name: flink-local-storage
        "#);
    }

    #[test]
    fn a_directory_of_the_node_has_to_exist() {
        let text = decorated(LocalStorageMedium::HostPath("/mnt/nvme".to_owned()), true);
        assert!(text.contains("path: /mnt/nvme\n    type: Directory"), "{text}");
    }
}
