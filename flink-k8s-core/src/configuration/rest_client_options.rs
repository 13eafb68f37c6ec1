//! Options about how commands reach the REST endpoint of a cluster: our own, which concern the client and are never
//! shipped to a cluster, and those of Flink about its certificates, which both sides read.

use super::flink_k8s_options::RestUrl;
use super::{ConfigOption, OptionRow, OptionalConfigOption};

/// Every option of ours.
pub const TABLE: &[&dyn OptionRow] = &[
    &GIVEN_URL,
    &CA_FILE,
    &CERTIFICATE_FILE,
    &KEY_FILE,
    &VERIFY_HOST_NAME,
    &BEARER_TOKEN_FILE,
    &BASIC_AUTH_FILE,
];

/// Every option of Flink's in this file.
pub const CERTIFICATES_TABLE: &[&dyn OptionRow] = &[
    &TRUSTSTORE,
    &COMMON_TRUSTSTORE,
    &TRUSTSTORE_PASSWORD,
    &COMMON_TRUSTSTORE_PASSWORD,
    &AUTHENTICATION_ENABLED,
    &KEYSTORE,
    &COMMON_KEYSTORE,
    &KEYSTORE_PASSWORD,
    &COMMON_KEYSTORE_PASSWORD,
    &KEY_PASSWORD,
    &COMMON_KEY_PASSWORD,
    &CERTIFICATE_FINGERPRINT,
];

/// `flink-k8s.rest.url`: REST endpoint that commands talk to, instead of looking for it in Kubernetes.
pub const GIVEN_URL: OptionalConfigOption<RestUrl> = OptionalConfigOption::new(
    "flink-k8s.rest.url",
    "REST endpoint that commands talk to, instead of looking for it in Kubernetes.",
);

/// `flink-k8s.rest.tls.ca-file`: PEM file of the certificates that the REST endpoint's is checked against; goes before Flink's truststore.
pub const CA_FILE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.rest.tls.ca-file",
    "PEM file of the certificates that the REST endpoint's is checked against; goes before Flink's truststore.",
);

/// `flink-k8s.rest.tls.certificate-file`: PEM file of the certificate that commands show to the REST endpoint; goes before Flink's keystore.
pub const CERTIFICATE_FILE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.rest.tls.certificate-file",
    "PEM file of the certificate that commands show to the REST endpoint; goes before Flink's keystore.",
);

/// `flink-k8s.rest.tls.key-file`: PEM file of the private key of that certificate.
pub const KEY_FILE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.rest.tls.key-file",
    "PEM file of the private key of that certificate.",
);

/// `flink-k8s.rest.tls.verify-host-name`: Whether a certificate that a truststore or CA file vouches for must also name the host.
pub const VERIFY_HOST_NAME: ConfigOption<bool> = ConfigOption::new(
    "flink-k8s.rest.tls.verify-host-name",
    "false",
    "Whether a certificate that a truststore or CA file vouches for must also name the host.",
);

/// `flink-k8s.rest.auth.bearer-token-file`: File with a token that is sent along with every REST request; read anew each time.
pub const BEARER_TOKEN_FILE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.rest.auth.bearer-token-file",
    "File with a token that is sent along with every REST request; read anew each time.",
);

/// `flink-k8s.rest.auth.basic-auth-file`: File with `user:password`, which are sent along with every REST request.
pub const BASIC_AUTH_FILE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.rest.auth.basic-auth-file",
    "File with user:password, which are sent along with every REST request.",
);

/// `security.ssl.rest.truststore`: Store of the certificates that the REST endpoint's is checked against.
pub const TRUSTSTORE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.rest.truststore",
    "Store of the certificates that the REST endpoint's is checked against.",
);

/// `security.ssl.truststore`: The same for all of Flink's connections.
pub const COMMON_TRUSTSTORE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.truststore",
    "Store of trusted certificates for all of Flink's connections.",
);

/// `security.ssl.rest.truststore-password`: Password of the truststore.
pub const TRUSTSTORE_PASSWORD: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.rest.truststore-password",
    "Password of the truststore.",
);

/// `security.ssl.truststore-password`: The same for all of Flink's connections.
pub const COMMON_TRUSTSTORE_PASSWORD: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.truststore-password",
    "Password of the truststore of all of Flink's connections.",
);

/// `security.ssl.rest.authentication-enabled`: Whether clients of the REST endpoint show a certificate, too.
pub const AUTHENTICATION_ENABLED: ConfigOption<bool> = ConfigOption::new(
    "security.ssl.rest.authentication-enabled",
    "false",
    "Whether clients of the REST endpoint show a certificate, too.",
);

/// `security.ssl.rest.keystore`: Store of the certificate and key of the REST endpoint and its clients.
pub const KEYSTORE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.rest.keystore",
    "Store of the certificate and key of the REST endpoint and its clients.",
);

/// `security.ssl.keystore`: The same for all of Flink's connections.
pub const COMMON_KEYSTORE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.keystore",
    "Store of the certificate and key of all of Flink's connections.",
);

/// `security.ssl.rest.keystore-password`: Password of the keystore.
pub const KEYSTORE_PASSWORD: OptionalConfigOption<String> =
    OptionalConfigOption::new("security.ssl.rest.keystore-password", "Password of the keystore.");

/// `security.ssl.keystore-password`: The same for all of Flink's connections.
pub const COMMON_KEYSTORE_PASSWORD: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.keystore-password",
    "Password of the keystore of all of Flink's connections.",
);

/// `security.ssl.rest.key-password`: Password of the key in the keystore.
pub const KEY_PASSWORD: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.rest.key-password",
    "Password of the key in the keystore.",
);

/// `security.ssl.key-password`: The same for all of Flink's connections.
pub const COMMON_KEY_PASSWORD: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.key-password",
    "Password of the key in the keystore of all of Flink's connections.",
);

/// `security.ssl.rest.cert.fingerprint`: SHA-1 fingerprint of the only certificate that the REST endpoint may have.
pub const CERTIFICATE_FINGERPRINT: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.ssl.rest.cert.fingerprint",
    "SHA-1 fingerprint of the only certificate that the REST endpoint may have.",
);
