//! The certificate authority of one server and the certificate that it signs.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// For how many years the certificates are valid; a cluster lives for hours.
const VALID_YEARS: i32 = 10;

/// Names under which pods reach their API server.
const CLUSTER_NAMES: &[&str] = &[
    "127.0.0.1",
    "::1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// What the server needs to speak TLS, and its clients to trust it.
pub(crate) struct Certificates {
    pub(crate) ca_pem: String,
    pub(crate) ca_der: Vec<u8>,
    pub(crate) tls: Arc<ServerConfig>,
}

/// Why the certificates could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeCertificatesError {
    /// A key or certificate could not be generated; a subject alternative name may be malformed.
    #[error("cannot generate the certificates of the API server")]
    Generate(#[from] rcgen::Error),
    /// The TLS library refused what was generated.
    #[error("the TLS library refused the certificate of the API server")]
    Configure(#[from] rustls::Error),
}

/// Makes a new authority and a server certificate for the usual names and the given ones.
pub(crate) fn make(additional_names: &[String]) -> Result<Certificates, MakeCertificatesError> {
    let year = i32::from(jiff::Zoned::now().year());
    let valid = |params: &mut CertificateParams, name: &str| {
        params.not_before = date_time_ymd(year - 1, 1, 1);
        params.not_after = date_time_ymd(year + VALID_YEARS, 1, 1);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
    };

    let mut ca = CertificateParams::default();
    valid(&mut ca, "flink-k8s-local-ca");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let mut names: Vec<String> = CLUSTER_NAMES.iter().map(|&name| name.to_owned()).collect();
    names.extend(
        additional_names
            .iter()
            .filter(|name| !CLUSTER_NAMES.contains(&name.as_str()))
            .cloned(),
    );
    let mut server = CertificateParams::new(names)?;
    valid(&mut server, "flink-k8s-local-api-server");
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &ca)?;

    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone(), ca.der().clone()], key)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Certificates {
        ca_pem: ca.pem(),
        ca_der: ca.der().to_vec(),
        tls: Arc::new(tls),
    })
}
