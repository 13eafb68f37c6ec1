//! Certificates of a cluster's own (`flink-k8s.tls`): the Secret that holds them, and the options with which Flink uses
//! them.
//!
//! The Secret has four stores in PKCS12 form. Two are for what Flink's processes say to each other, two for REST, so that
//! whoever may use REST is not taken for a process of the cluster. It is mounted by `kubernetes.secrets`, which our
//! resource manager and Flink's read alike.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::cluster_id::ClusterId;
use crate::configuration::flink_k8s_options::{self, CertificateSource};
use crate::configuration::rest_client_options as rest;
use crate::configuration::tls_options as internal;
use crate::configuration::{FlinkConfiguration, OptionRow, Origin, common_options, kubernetes_options};
use crate::decorators::cluster_metadata;
use crate::flink_version::FlinkVersion;
use crate::labels;
use crate::parameters::InvalidSpecification;

/// Key of the Secret: the store with the certificate and key of Flink's processes.
pub const INTERNAL_KEYSTORE: &str = "internal.p12";
/// Key of the Secret: the store with the certificate that Flink's processes trust.
pub const INTERNAL_TRUSTSTORE: &str = "internal-trust.p12";
/// Key of the Secret: the store with the certificate and key of the REST endpoint and its clients.
pub const REST_KEYSTORE: &str = "rest.p12";
/// Key of the Secret: the store with the certificate that the REST endpoint and its clients trust.
pub const REST_TRUSTSTORE: &str = "rest-trust.p12";
/// Key of the Secret while certificates are replaced: the store with the REST certificate that clients trusted before.
pub const REST_TRUSTSTORE_BEFORE: &str = "rest-trust-before.p12";
/// Password of stores that have no better one. It keeps nothing secret: the Secret does.
pub const STORE_PASSWORD: &str = "flink-k8s";

/// Where the pods have the Secret.
const DIRECTORY: &str = "/opt/flink-k8s-tls";
/// What keys on a curve can do; all of it is in TLS 1.2, Flink's default.
const ALGORITHMS: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
/// The netty of Flink 2.3 checks the names of hosts unless it is told not to, whatever `security.ssl.verify-hostname`
/// says, and TaskManagers find each other by addresses that no certificate can name beforehand.
const ANY_HOST_NAME: &str =
    "-Dorg.apache.flink.shaded.netty4.io.netty.handler.ssl.defaultEndpointVerificationAlgorithm=NONE";
const TLS: Origin = Origin::Derived("the certificates of this cluster");

/// The Secret with the certificates of the cluster of this name; `None` where there are none.
///
/// # Errors
///
/// [`InvalidSpecification`] when the name of a given Secret is missing, or an option cannot be read.
pub fn secret_name(
    configuration: &FlinkConfiguration,
    cluster_id: &ClusterId,
) -> Result<Option<String>, InvalidSpecification> {
    Ok(match configuration.get(&flink_k8s_options::TLS)? {
        CertificateSource::Off => None,
        CertificateSource::Auto => Some(cluster_id.tls_secret_name()),
        CertificateSource::Secret => {
            let option = &flink_k8s_options::TLS_SECRET_NAME;
            let name = configuration.find(option)?;
            let name = name.filter(|name| !name.trim().is_empty());
            Some(name.ok_or(InvalidSpecification::MissingOption { key: option.key })?)
        }
    })
}

/// Sets the options with which Flink uses the certificates; those that the user set stay.
pub(crate) fn set(configuration: &mut FlinkConfiguration) -> Result<(), InvalidSpecification> {
    let Some(cluster_id) = configuration.find(&kubernetes_options::CLUSTER_ID)? else {
        return Ok(()); // refused elsewhere
    };
    let Some(secret) = secret_name(configuration, &cluster_id.parse()?)? else {
        return Ok(());
    };
    let file = |name: &str| format!("{DIRECTORY}/{name}");
    let options: [(&dyn OptionRow, String); 12] = [
        (&internal::INTERNAL_ENABLED, "true".to_owned()),
        (&internal::INTERNAL_KEYSTORE, file(INTERNAL_KEYSTORE)),
        (&internal::INTERNAL_KEYSTORE_PASSWORD, STORE_PASSWORD.to_owned()),
        (&internal::INTERNAL_KEY_PASSWORD, STORE_PASSWORD.to_owned()),
        (&internal::INTERNAL_TRUSTSTORE, file(INTERNAL_TRUSTSTORE)),
        (&internal::INTERNAL_TRUSTSTORE_PASSWORD, STORE_PASSWORD.to_owned()),
        (&common_options::REST_SSL_ENABLED, "true".to_owned()),
        (&rest::KEYSTORE, file(REST_KEYSTORE)),
        (&rest::KEYSTORE_PASSWORD, STORE_PASSWORD.to_owned()),
        (&rest::KEY_PASSWORD, STORE_PASSWORD.to_owned()),
        (&rest::TRUSTSTORE, file(REST_TRUSTSTORE)),
        (&rest::TRUSTSTORE_PASSWORD, STORE_PASSWORD.to_owned()),
    ];
    for (option, value) in options {
        if !configuration.is_configured(option) {
            configuration.set(option.key(), value, TLS);
        }
    }
    let algorithms = &internal::ALGORITHMS;
    let is_ours = configuration.get(&flink_k8s_options::TLS)? == CertificateSource::Auto;
    if is_ours && !configuration.is_configured(algorithms) {
        configuration.set(algorithms.key, ALGORITHMS, TLS);
    }
    if configuration.get(&flink_k8s_options::FLINK_VERSION)? >= FlinkVersion::V2_3 {
        for option in [
            &common_options::JAVA_OPTS_JOB_MANAGER,
            &common_options::JAVA_OPTS_TASK_MANAGER,
        ] {
            let given = configuration.get(option)?;
            configuration.set(option.key, format!("{given} {ANY_HOST_NAME}").trim_start(), TLS);
        }
    }
    let key = kubernetes_options::SECRETS.key;
    let others = configuration
        .setting(key)
        .map(|setting| format!("{},", setting.text));
    let mounted = format!("{}{secret}:{DIRECTORY}", others.unwrap_or_default());
    configuration.set(key, mounted, TLS);
    Ok(())
}

/// The annotation by which clients find the Secret.
pub(crate) fn annotation(
    configuration: &FlinkConfiguration,
    cluster_id: &ClusterId,
) -> Result<Option<(String, String)>, InvalidSpecification> {
    if !configuration.get(&common_options::REST_SSL_ENABLED)? {
        return Ok(None);
    }
    let name = secret_name(configuration, cluster_id)?;
    Ok(name.map(|name| (labels::TLS_SECRET.to_owned(), name)))
}

/// The Secret with these stores, which were drawn for the cluster. Nobody owns it yet.
///
/// ```
/// # use flink_k8s_core::{cluster_id::{ClusterId, InvalidClusterId}, tls};
/// let orders: ClusterId = "orders".parse()?;
/// let secret = tls::object(&orders, &[(tls::REST_KEYSTORE.to_owned(), vec![1])].into());
/// assert_eq!(secret.metadata.name, Some(orders.tls_secret_name()));
/// # Ok::<(), InvalidClusterId>(())
/// ```
pub fn object(cluster_id: &ClusterId, stores: &BTreeMap<String, Vec<u8>>) -> Secret {
    let mut metadata = cluster_metadata(cluster_id.tls_secret_name(), cluster_id);
    metadata.annotations = Some([(labels::DRAWN.to_owned(), "true".to_owned())].into());
    let stores = stores.iter();
    Secret {
        metadata,
        data: Some(
            stores
                .map(|(name, content)| (name.clone(), ByteString(content.clone())))
                .collect(),
        ),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secured(entries: &[(&str, &str)]) -> Result<FlinkConfiguration, String> {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in [("kubernetes.cluster-id", "orders")].iter().chain(entries) {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        set(&mut configuration).map_err(|refusal| refusal.to_string())?;
        Ok(configuration)
    }

    fn text<'a>(configuration: &'a FlinkConfiguration, key: &str) -> &'a str {
        configuration.setting(key).map_or("", |setting| &setting.text)
    }

    #[test]
    fn flink_is_told_to_use_what_is_mounted_and_what_the_user_said_stays() {
        let configuration = secured(&[
            ("flink-k8s.tls", "auto"),
            ("kubernetes.secrets", "s3:/opt/s3"),
            ("security.ssl.rest.enabled", "false"),
        ])
        .unwrap();
        assert_eq!(
            text(&configuration, "kubernetes.secrets"),
            "s3:/opt/s3,orders-tls:/opt/flink-k8s-tls"
        );
        assert_eq!(text(&configuration, "security.ssl.internal.enabled"), "true");
        assert_eq!(
            text(&configuration, "security.ssl.internal.keystore"),
            "/opt/flink-k8s-tls/internal.p12"
        );
        assert_eq!(text(&configuration, "security.ssl.rest.enabled"), "false");
        assert!(text(&configuration, "security.ssl.algorithms").contains("ECDSA"));
        let cluster_id = "orders".parse().unwrap();
        assert_eq!(
            annotation(&configuration, &cluster_id).unwrap(),
            None,
            "REST is plain"
        );
        let off = secured(&[]).unwrap();
        assert_eq!(text(&off, "kubernetes.secrets"), "");
    }

    #[test]
    fn the_netty_of_newer_flinks_is_told_not_to_check_host_names() {
        let settings = [
            ("flink-k8s.tls", "auto"),
            ("flink-k8s.flink-version", "2.3"),
            ("env.java.opts.taskmanager", "-Xlog:gc"),
        ];
        let newer = secured(&settings).unwrap();
        let options = text(&newer, "env.java.opts.taskmanager");
        assert_eq!(options, format!("-Xlog:gc {ANY_HOST_NAME}"));
        assert_eq!(text(&newer, "env.java.opts.jobmanager"), ANY_HOST_NAME);
        assert_eq!(
            text(&secured(&settings[..1]).unwrap(), "env.java.opts.jobmanager"),
            ""
        );
    }

    #[test]
    fn a_given_secret_has_a_name_and_its_own_kind_of_keys() {
        let given = ("flink-k8s.tls", "secret");
        let refusal = secured(&[given]).unwrap_err();
        assert!(refusal.contains("flink-k8s.tls-secret-name"), "{refusal}");
        let configuration = secured(&[given, ("flink-k8s.tls-secret-name", "ours")]).unwrap();
        assert_eq!(
            text(&configuration, "kubernetes.secrets"),
            "ours:/opt/flink-k8s-tls"
        );
        assert_eq!(text(&configuration, "security.ssl.algorithms"), "");
        let found = annotation(&configuration, &"orders".parse().unwrap()).unwrap();
        assert_eq!(found, Some((labels::TLS_SECRET.to_owned(), "ours".to_owned())));
    }
}
