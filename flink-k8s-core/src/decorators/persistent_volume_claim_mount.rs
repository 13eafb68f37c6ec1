//! Persistent volume claims that the user wants mounted (since Flink 2.3).

use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume, VolumeMount};

use super::FlinkPod;
use crate::configuration::kubernetes_options::PERSISTENT_VOLUME_CLAIMS;
use crate::parameters::{ClusterParameters, InvalidPersistentVolumeClaim, InvalidSpecification};

/// Adds a volume and a mount for each claim.
pub(crate) fn decorate(
    mut pod: FlinkPod,
    parameters: &ClusterParameters,
) -> Result<FlinkPod, InvalidSpecification> {
    for mount in &parameters.persistent_volume_claims {
        let mut volumes = pod.spec.volumes.iter().flatten();
        if volumes.any(|volume| volume.name == mount.volume) {
            return Err(InvalidSpecification::PersistentVolumeClaim {
                key: PERSISTENT_VOLUME_CLAIMS.key,
                name: mount.claim.clone(),
                path: mount.path.clone(),
                source: InvalidPersistentVolumeClaim::VolumeNameTaken(mount.volume.clone()),
            });
        }
        pod.add_volume(Volume {
            name: mount.volume.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: mount.claim.clone(),
                read_only: Some(mount.read_only),
            }),
            ..Volume::default()
        });
        pod.add_volume_mount(VolumeMount {
            name: mount.volume.clone(),
            mount_path: mount.path.clone(),
            read_only: Some(mount.read_only),
            ..VolumeMount::default()
        });
    }
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decorators::tests::{cluster, rendered};

    const CLAIM: [(&str, &str); 3] = [
        ("flink-k8s.flink-version", "2.3"),
        ("kubernetes.persistent-volume-claims", "state.claim:/state"),
        ("kubernetes.persistent-volume-claim-read-only", "true"),
    ];

    #[test]
    fn each_claim_becomes_a_volume_and_a_mount() {
        let pod = decorate(FlinkPod::default(), &cluster(&CLAIM)).unwrap();
        insta::assert_snapshot!(rendered(&pod), @r#"
        name: ""
        volumeMounts:
        - mountPath: /state
          name: state-claim-pvc
          readOnly: true
        ---
        - name: state-claim-pvc
          persistentVolumeClaim:
            claimName: state.claim
            readOnly: true
        "#);
    }

    #[test]
    fn a_volume_of_the_template_with_the_same_name_is_not_replaced() {
        let mut pod = FlinkPod::default();
        pod.add_volume(Volume {
            name: "state-claim-pvc".to_owned(),
            ..Volume::default()
        });
        let refusal = decorate(pod, &cluster(&CLAIM)).unwrap_err().to_string();
        assert!(
            refusal.contains("state.claim") && refusal.contains(PERSISTENT_VOLUME_CLAIMS.key),
            "{refusal}"
        );
    }
}
