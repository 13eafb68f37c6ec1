//! How long the certificates of a cluster are valid.

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{
    FlinkConfiguration, OptionalConfigOption, rest_client_options, tls_options,
};
use flink_k8s_core::kube_client::KubeClient as _;
use flink_k8s_core::{labels, tls};
use jiff::{SignedDuration, Timestamp};

use super::RotationError;
use crate::kube_rs::KubeRsClient;
use crate::rest_security::KeyStore;

/// The stores with what processes show, and the options with their passwords.
const STORES: [(&str, &OptionalConfigOption<String>); 2] = [
    (tls::INTERNAL_KEYSTORE, &tls_options::INTERNAL_KEYSTORE_PASSWORD),
    (tls::REST_KEYSTORE, &rest_client_options::KEYSTORE_PASSWORD),
];

/// The certificates that `flink-k8s.tls` gave a cluster.
///
/// ```
/// # use flink_k8s_client::certificates::ClusterCertificates;
/// # use jiff::{SignedDuration, Timestamp};
/// fn warn(found: &ClusterCertificates, now: Timestamp) {
///     for certificate in found.ending(now, SignedDuration::from_hours(24 * 30)) {
///         eprintln!("{} ends at {}", certificate.store, certificate.not_after);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterCertificates {
    /// The Secret that they are in.
    pub secret: String,
    /// Whether flink-k8s drew them, and can draw others.
    pub is_drawn: bool,
    /// The certificates that the processes of the cluster show.
    pub certificates: Vec<StoredCertificate>,
}

/// A certificate in one of the stores of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredCertificate {
    /// The store, by its key in the Secret.
    pub store: &'static str,
    /// Whose it is.
    pub subject: String,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

impl ClusterCertificates {
    /// The certificates of this cluster; `None` if it was given none. Stores that cannot be opened with the passwords of this
    /// configuration are left out.
    ///
    /// # Errors
    ///
    /// [`RotationError::Read`] when Kubernetes cannot be asked, [`RotationError::NoCluster`] when there is no such cluster,
    /// [`RotationError::SecretGone`] when it has lost them.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn of(
        kube: &KubeRsClient,
        cluster_id: &ClusterId,
        configuration: &FlinkConfiguration,
    ) -> Result<Option<Self>, RotationError> {
        let deployment = kube.find_deployment(cluster_id).await?;
        let deployment = deployment.ok_or_else(|| RotationError::NoCluster(cluster_id.clone()))?;
        let mut annotations = deployment.metadata.annotations.unwrap_or_default();
        let Some(name) = annotations.remove(labels::TLS_SECRET) else {
            return Ok(None);
        };
        let secret = kube.find_secret(&name).await?;
        let secret = secret.ok_or_else(|| RotationError::SecretGone(name.clone()))?;
        let data = secret.data.unwrap_or_default();
        let annotations = secret.metadata.annotations.unwrap_or_default();
        let mut certificates = Vec::new();
        for (store, option) in STORES {
            let content = data.get(store).map_or(&[][..], |content| &content.0);
            certificates.extend(first_in(store, content, option, configuration));
        }
        Ok(Some(Self {
            secret: name,
            is_drawn: annotations.contains_key(labels::DRAWN),
            certificates,
        }))
    }

    /// So long before their end they are spoken of.
    pub const WARNED_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);

    /// What to do about certificates of this cluster that end.
    pub fn advice(&self, cluster_id: &ClusterId) -> String {
        if self.is_drawn {
            format!("`flink-k8s tls rotate {cluster_id}` gives the cluster new ones")
        } else {
            "whoever made the Secret renews it, and then all pods of the cluster have to be started anew"
                .to_owned()
        }
    }

    /// Those that are not valid any more so long after this time.
    pub fn ending(&self, now: Timestamp, within: SignedDuration) -> impl Iterator<Item = &StoredCertificate> {
        let certificates = self.certificates.iter();
        certificates.filter(move |certificate| certificate.not_after.duration_since(now) <= within)
    }
}

/// The certificate that Java would show from this store.
fn first_in(
    store: &'static str,
    content: &[u8],
    password: &OptionalConfigOption<String>,
    configuration: &FlinkConfiguration,
) -> Option<StoredCertificate> {
    let password = configuration.find(password).ok().flatten();
    let password = password.as_deref().unwrap_or(tls::STORE_PASSWORD);
    let opened = KeyStore::read(content, password, password).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(opened.trusted.first()?).ok()?;
    let not_after = certificate.validity().not_after.timestamp();
    Some(StoredCertificate {
        store,
        subject: certificate.subject().to_string(),
        not_after: Timestamp::from_second(not_after).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::draw;

    #[test]
    fn what_was_drawn_is_valid_for_ten_years_and_warned_of_before_they_end() {
        let stores = draw(&FlinkConfiguration::new()).unwrap();
        let none = FlinkConfiguration::new();
        let certificates: Vec<_> = STORES
            .into_iter()
            .filter_map(|(store, option)| first_in(store, &stores[store], option, &none))
            .collect();
        let subjects: Vec<&str> = certificates.iter().map(|found| found.subject.as_str()).collect();
        assert_eq!(subjects, ["CN=flink", "CN=flink REST"]);
        let found = ClusterCertificates {
            secret: "orders-tls".to_owned(),
            is_drawn: true,
            certificates,
        };
        let month = SignedDuration::from_hours(24 * 30);
        let now = Timestamp::now();
        assert_eq!(found.ending(now, month).count(), 0);
        let years = |years: i64| now + SignedDuration::from_hours(24 * 365 * years);
        assert_eq!(found.ending(years(9), month).count(), 0);
        assert_eq!(found.ending(years(10), month).count(), 2);
    }
}
