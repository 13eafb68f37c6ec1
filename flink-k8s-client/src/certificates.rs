//! Makes the certificates of a cluster (`flink-k8s.tls: auto`), as stores that Flink reads, replaces them, and says how long they
//! are valid.

mod rotation;
mod validity;

use std::collections::BTreeMap;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, InvalidOptionValue, kubernetes_options};
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::tls;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rcgen::{CertificateParams, DnType, KeyPair};

pub use self::rotation::{Rotation, RotationError};
pub use self::validity::{ClusterCertificates, StoredCertificate};

/// For how long certificates are valid. Flink reads them once, when a process starts, so they outlive the cluster.
const YEARS: i64 = 10;
/// Name of the one entry of each store.
const ALIAS: &str = "flink";

/// Why certificates cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificatesError {
    /// An option cannot be read.
    #[error(transparent)]
    Option(#[from] InvalidOptionValue),
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A store cannot be written.
    #[error("cannot write a store of certificates")]
    Store {
        /// The failure below.
        source: Box<p12_keystore::error::Error>,
    },
}

impl CertificatesError {
    /// Whether the same call may succeed later although nobody changes anything: never.
    pub fn is_transient(&self) -> bool {
        false
    }
}

impl From<p12_keystore::error::Error> for CertificatesError {
    fn from(source: p12_keystore::error::Error) -> Self {
        let source = Box::new(source);
        Self::Store { source }
    }
}

/// Draws two keys on the curve P-256, for Flink's processes and for REST, each with a certificate that vouches for itself,
/// and returns the stores of [`tls`] by their names. They are valid for ten years from yesterday.
///
/// ```
/// # use flink_k8s_client::certificates;
/// # use flink_k8s_core::{configuration::FlinkConfiguration, tls};
/// let stores = certificates::draw(&FlinkConfiguration::new())?;
/// assert!(stores.contains_key(tls::REST_KEYSTORE));
/// # Ok::<(), certificates::CertificatesError>(())
/// ```
///
/// # Errors
///
/// See [`CertificatesError`].
pub fn draw(configuration: &FlinkConfiguration) -> Result<BTreeMap<String, Vec<u8>>, CertificatesError> {
    let mut names = Vec::new();
    if let Some(cluster_id) = configuration.find(&kubernetes_options::CLUSTER_ID)? {
        let namespace = configuration.get(&kubernetes_options::NAMESPACE)?;
        names = service_names(&format!("{cluster_id}-rest"), &namespace);
    }
    draw_for(names)
}

/// The same for the cluster of this name.
fn stores_of_cluster(
    cluster_id: &ClusterId,
    namespace: &Namespace,
) -> Result<BTreeMap<String, Vec<u8>>, CertificatesError> {
    draw_for(service_names(&cluster_id.rest_service_name(), namespace.as_str()))
}

/// Under which names the Service of this name is found in Kubernetes.
fn service_names(service: &str, namespace: &str) -> Vec<String> {
    vec![
        service.to_owned(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
    ]
}

fn draw_for(services: Vec<String>) -> Result<BTreeMap<String, Vec<u8>>, CertificatesError> {
    let names = ["localhost", "127.0.0.1"].map(str::to_owned).into_iter();
    let names = names.chain(services).collect();
    let (internal, internal_trust) = stores("flink", Vec::new())?;
    let (rest, rest_trust) = stores("flink REST", names)?;
    Ok([
        (tls::INTERNAL_KEYSTORE, internal),
        (tls::INTERNAL_TRUSTSTORE, internal_trust),
        (tls::REST_KEYSTORE, rest),
        (tls::REST_TRUSTSTORE, rest_trust),
    ]
    .map(|(name, store)| (name.to_owned(), store))
    .into())
}

/// The store of a new key with its certificate for these names, and the store that trusts it.
fn stores(common_name: &str, names: Vec<String>) -> Result<(Vec<u8>, Vec<u8>), CertificatesError> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(names)?;
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| {
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(date.year().into(), month, day)
    };
    parameters.not_before = day(today.saturating_sub(1.day()));
    parameters.not_after = day(today.saturating_add(YEARS.years()));
    let certificate = parameters.self_signed(&key)?;
    let parsed = Certificate::from_der(certificate.der())?;
    let private = PrivateKey::from_der(&key.serialize_der())?;
    let chain = PrivateKeyChain::new(ALIAS, private, [parsed.clone()]);
    Ok((
        store(KeyStoreEntry::PrivateKeyChain(chain))?,
        store(KeyStoreEntry::Certificate(parsed))?,
    ))
}

fn store(entry: KeyStoreEntry) -> Result<Vec<u8>, CertificatesError> {
    let mut store = KeyStore::new();
    store.add_entry(ALIAS, entry);
    Ok(store.writer(tls::STORE_PASSWORD).write()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_stores_trusts_its_own_certificate_and_no_other() {
        let stores = draw(&FlinkConfiguration::new()).unwrap();
        let read = |name: &str| {
            let policy = p12_keystore::Pkcs12ImportPolicy::Strict;
            KeyStore::from_pkcs12(&stores[name], tls::STORE_PASSWORD, policy).unwrap()
        };
        let own = |name: &str| {
            let store = read(name);
            let (_, chain) = store.private_key_chain().unwrap();
            chain.certs()[0].as_der().to_vec()
        };
        let trusted = |name: &str| match read(name).entry(ALIAS) {
            Some(KeyStoreEntry::Certificate(certificate)) => certificate.as_der().to_vec(),
            other => panic!("{:?}", other.is_some()),
        };
        assert_eq!(own(tls::INTERNAL_KEYSTORE), trusted(tls::INTERNAL_TRUSTSTORE));
        assert_eq!(own(tls::REST_KEYSTORE), trusted(tls::REST_TRUSTSTORE));
        assert_ne!(own(tls::REST_KEYSTORE), own(tls::INTERNAL_KEYSTORE));
    }
}
