//! Secrets that the user wants mounted.

use k8s_openapi::api::core::v1::{SecretVolumeSource, Volume};

use super::FlinkPod;
use crate::parameters::ClusterParameters;

/// Adds a volume and a mount for each secret.
pub(crate) fn decorate(mut pod: FlinkPod, parameters: &ClusterParameters) -> FlinkPod {
    for (secret, path) in &parameters.secrets {
        let volume = format!("{secret}-volume");
        pod.add_volume(Volume {
            name: volume.clone(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.clone()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
        pod.add_mount(&volume, path);
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decorators::tests::{cluster, rendered};

    #[test]
    fn each_secret_becomes_a_volume_and_a_mount() {
        let cluster = cluster(&[("kubernetes.secrets", "s3:/opt/s3,tls:/opt/tls")]);
        insta::assert_snapshot!(rendered(&decorate(FlinkPod::default(), &cluster)), @r#"
        name: ""
        volumeMounts:
        - mountPath: /opt/s3
          name: s3-volume
        - mountPath: /opt/tls
          name: tls-volume
        ---
        - name: s3-volume
          secret:
            secretName: s3
        - name: tls-volume
          secret:
            secretName: tls
        "#);
    }
}
