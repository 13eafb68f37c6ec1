//! Environment variables with values from secrets.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};

use super::FlinkPod;
use crate::parameters::ClusterParameters;

/// Adds the variables to the main container.
pub(crate) fn decorate(mut pod: FlinkPod, parameters: &ClusterParameters) -> FlinkPod {
    for secret in &parameters.environment_secrets {
        let selector = SecretKeySelector {
            name: secret.secret.clone().unwrap_or_default(),
            key: secret.key.clone().unwrap_or_default(),
            optional: None,
        };
        pod.add_environment(EnvVar {
            name: secret.variable.clone().unwrap_or_default(),
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(selector),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        });
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decorators::tests::{cluster, rendered};

    #[test]
    fn each_entry_becomes_a_variable_whose_value_is_in_a_secret() {
        let cluster = cluster(&[(
            "kubernetes.env.secretKeyRef",
            "env:USER,secret:s3,key:user;env:KEY,secret:s3,key:k",
        )]);
        insta::assert_snapshot!(rendered(&decorate(FlinkPod::default(), &cluster)), @r#"
        env:
        - name: USER
          valueFrom:
            secretKeyRef:
              key: user
              name: s3
        - name: KEY
          valueFrom:
            secretKeyRef:
              key: k
              name: s3
        name: ""
        ---
        null
        "#);
    }
}
