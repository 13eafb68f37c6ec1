//! Options of Flink with which its processes show certificates to each other, and which ciphers all of them use.

use super::common_options::REST_SSL_ENABLED;
use super::flink_k8s_options::{CertificateSource, TLS};
use super::{ConfigOption, FlinkConfiguration, InvalidOptionValue, OptionRow, OptionalConfigOption};

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[
    &INTERNAL_ENABLED,
    &INTERNAL_KEYSTORE,
    &INTERNAL_KEYSTORE_PASSWORD,
    &INTERNAL_KEY_PASSWORD,
    &INTERNAL_TRUSTSTORE,
    &INTERNAL_TRUSTSTORE_PASSWORD,
    &ALGORITHMS,
];

/// `security.ssl.internal.enabled`: Whether Flink's processes speak TLS with each other.
pub const INTERNAL_ENABLED: ConfigOption<bool> = ConfigOption::new(
    "security.ssl.internal.enabled",
    "false",
    "Whether Flink's processes speak TLS with each other.",
);

/// `security.ssl.internal.keystore`: Store of the certificate and key that all processes of a cluster have.
pub const INTERNAL_KEYSTORE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.internal.keystore",
    "Store of the certificate and key that all processes of a cluster have.",
);

/// `security.ssl.internal.keystore-password`: Password of that store.
pub const INTERNAL_KEYSTORE_PASSWORD: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.internal.keystore-password",
    "Password of the store of the processes' certificate.",
);

/// `security.ssl.internal.key-password`: Password of the key in that store.
pub const INTERNAL_KEY_PASSWORD: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.internal.key-password",
    "Password of the key in the store of the processes' certificate.",
);

/// `security.ssl.internal.truststore`: Store of the certificates that processes trust.
pub const INTERNAL_TRUSTSTORE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.internal.truststore",
    "Store of the certificates that processes trust.",
);

/// `security.ssl.internal.truststore-password`: Password of that store.
pub const INTERNAL_TRUSTSTORE_PASSWORD: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.internal.truststore-password",
    "Password of the store of the certificates that processes trust.",
);

/// `security.ssl.algorithms`: Ciphers of every connection with TLS.
pub const ALGORITHMS: ConfigOption<String> = ConfigOption::new(
    "security.ssl.algorithms",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "Ciphers of every connection with TLS.",
);

/// Whether a cluster with this configuration speaks TLS on its REST endpoint: as it says itself, or because it is given
/// certificates.
///
/// # Errors
///
/// When the value of an option cannot be read.
pub fn rest_speaks_tls(configuration: &FlinkConfiguration) -> Result<bool, InvalidOptionValue> {
    if configuration.is_configured(&REST_SSL_ENABLED) {
        return configuration.get(&REST_SSL_ENABLED);
    }
    Ok(configuration.get(&TLS)? != CertificateSource::Off)
}
