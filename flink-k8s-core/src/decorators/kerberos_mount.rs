//! The Kerberos keytab and `krb5.conf` of the client.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Secret, SecretVolumeSource, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{FlinkPod, cluster_metadata, config_map, config_map_volume};
use crate::cluster_id::ClusterId;
use crate::configuration::flink_k8s_options::ResourceManagerKind;
use crate::parameters::ClusterParameters;

const KEYTAB_VOLUME: &str = "kerberos-keytab-volume";
const KEYTAB_DIRECTORY: &str = "/opt/kerberos/kerberos-keytab";
const KRB5_CONF_VOLUME: &str = "kerberos-krb5conf-volume";
const KRB5_CONF: &str = "krb5.conf";
const KRB5_CONF_PATH: &str = "/etc/krb5.conf";

/// Mounts what is configured, whether or not the client found the files: the pod then waits for them.
pub(crate) fn decorate(mut pod: FlinkPod, parameters: &ClusterParameters) -> FlinkPod {
    let cluster_id = &parameters.cluster_id;
    if parameters.kerberos.keytab {
        pod.add_volume(Volume {
            name: KEYTAB_VOLUME.to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(keytab_secret_name(cluster_id)),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
        pod.add_mount(KEYTAB_VOLUME, KEYTAB_DIRECTORY);
    }
    if let Some(file) = &parameters.kerberos.krb5_conf {
        let item = KeyToPath {
            key: file.clone(),
            path: KRB5_CONF.to_owned(),
            mode: None,
        };
        pod.add_volume(config_map_volume(
            KRB5_CONF_VOLUME,
            &krb5_config_map_name(cluster_id),
            vec![item],
        ));
        pod.add_volume_mount(VolumeMount {
            name: KRB5_CONF_VOLUME.to_owned(),
            mount_path: KRB5_CONF_PATH.to_owned(),
            sub_path: Some(KRB5_CONF.to_owned()),
            ..VolumeMount::default()
        });
    }
    pod
}

/// The Secret of the keytab.
pub(crate) fn keytab(parameters: &ClusterParameters, file: Option<&(String, Vec<u8>)>) -> Option<Secret> {
    let (name, content) = file.filter(|_| parameters.kerberos.keytab)?;
    Some(Secret {
        metadata: metadata(keytab_secret_name(&parameters.cluster_id), parameters),
        data: Some([(name.clone(), ByteString(content.clone()))].into()),
        ..Secret::default()
    })
}

/// The ConfigMap of `krb5.conf`.
pub(crate) fn krb5_conf(
    parameters: &ClusterParameters,
    file: Option<&(String, String)>,
) -> Option<ConfigMap> {
    let (_, content) = file?;
    let name = parameters.kerberos.krb5_conf.clone()?;
    let metadata = metadata(krb5_config_map_name(&parameters.cluster_id), parameters);
    Some(config_map(metadata, [(name, content.clone())].into()))
}

/// Where the keytab is in the pods.
pub(crate) fn keytab_path(file_name: &str) -> String {
    format!("{KEYTAB_DIRECTORY}/{file_name}")
}

fn keytab_secret_name(cluster_id: &ClusterId) -> String {
    format!("kerberos-keytab-{cluster_id}")
}

fn krb5_config_map_name(cluster_id: &ClusterId) -> String {
    format!("kerberos-krb5conf-{cluster_id}")
}

/// Upstream gives these no labels, so that only the Deployment that owns them takes them along. With our resource
/// manager they have those of the cluster, by which what nobody owns is found, too.
fn metadata(name: String, parameters: &ClusterParameters) -> ObjectMeta {
    match parameters.resource_manager {
        ResourceManagerKind::Rust => cluster_metadata(name, &parameters.cluster_id),
        ResourceManagerKind::Flink => ObjectMeta {
            name: Some(name),
            ..ObjectMeta::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decorators::tests::{cluster, rendered};

    const KERBEROS: [(&str, &str); 3] = [
        ("security.kerberos.login.keytab", "/home/me/user.keytab"),
        ("security.kerberos.login.principal", "user"),
        ("security.kerberos.krb5-conf.path", "/home/me/my-krb5.conf"),
    ];

    #[test]
    fn keytab_and_krb5_conf_are_mounted_where_java_looks_for_them() {
        let pod = decorate(FlinkPod::default(), &cluster(&KERBEROS));
        insta::assert_snapshot!(rendered(&pod), @r#"
        name: ""
        volumeMounts:
        - mountPath: /opt/kerberos/kerberos-keytab
          name: kerberos-keytab-volume
        - mountPath: /etc/krb5.conf
          name: kerberos-krb5conf-volume
          subPath: krb5.conf
        ---
        - name: kerberos-keytab-volume
          secret:
            secretName: kerberos-keytab-orders
        - configMap:
            items:
            - key: my-krb5.conf
              path: krb5.conf
            name: kerberos-krb5conf-orders
          name: kerberos-krb5conf-volume
        "#);
    }

    #[test]
    fn the_objects_are_made_of_the_files_that_the_client_found() {
        let cluster = cluster(&KERBEROS);
        assert_eq!(keytab(&cluster, None), None);
        let secret = keytab(&cluster, Some(&("user.keytab".to_owned(), vec![5, 2]))).unwrap();
        assert_eq!(secret.data.unwrap()["user.keytab"], ByteString(vec![5, 2]));
        assert_eq!(secret.metadata.labels.unwrap()["app"], "orders");
        let conf = krb5_conf(
            &cluster,
            Some(&("my-krb5.conf".to_owned(), "[libdefaults]".to_owned())),
        )
        .unwrap();
        assert_eq!(conf.data.unwrap()["my-krb5.conf"], "[libdefaults]");
        assert_eq!(conf.metadata.labels.unwrap()["app"], "orders");
    }

    #[test]
    fn for_flinks_own_resource_manager_they_are_as_upstream_makes_them() {
        let own = ("flink-k8s.resource-manager", "flink");
        let cluster = self::cluster(&[KERBEROS[0], KERBEROS[1], KERBEROS[2], own]);
        let secret = keytab(&cluster, Some(&("user.keytab".to_owned(), vec![5, 2]))).unwrap();
        assert_eq!(secret.metadata.labels, None);
    }

    #[test]
    fn without_a_login_or_with_a_step_that_is_switched_off_nothing_is_mounted() {
        let off = ("kubernetes.decorator.kerberos-mount.enabled", "false");
        for settings in [&[][..], &[KERBEROS[0], KERBEROS[1], KERBEROS[2], off]] {
            assert_eq!(
                decorate(FlinkPod::default(), &cluster(settings)).spec.volumes,
                None
            );
        }
    }
}
