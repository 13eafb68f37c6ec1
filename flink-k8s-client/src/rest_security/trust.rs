//! When the certificate of a REST endpoint is trusted.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha1::{Digest as _, Sha1};

/// Whom to trust.
#[derive(Debug)]
pub(super) enum Trust {
    /// Who has one of these certificates, or one that they vouch for.
    Certificates {
        certificates: Vec<CertificateDer<'static>>,
        verifies_host_name: bool,
    },
    /// Who has the certificate with this fingerprint.
    Fingerprint(Fingerprint),
}

/// The SHA-1 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 20]);

impl Fingerprint {
    /// From hexadecimal digits, with or without colons between the bytes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits: String = text.trim().chars().filter(|letter| *letter != ':').collect();
        let mut bytes = [0; 20];
        if digits.len() != 40 || !digits.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha1::digest(certificate).into())
    }
}

/// Decides as Flink's own client does: the chain must lead to a trusted certificate; the name does not matter unless
/// that is asked for. A certificate that is itself trusted is taken as it is, as Java does.
#[derive(Debug)]
pub(super) struct ClusterTrust {
    trust: Trust,
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClusterTrust {
    pub(super) fn new(trust: Trust, provider: &Arc<CryptoProvider>) -> Self {
        let mut roots = RootCertStore::empty();
        if let Trust::Certificates { certificates, .. } = &trust {
            // What is no anchor may still be the very certificate of the endpoint.
            roots.add_parsable_certificates(certificates.iter().cloned());
        }
        Self {
            trust,
            roots,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for ClusterTrust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Fingerprint(expected) if *expected == Fingerprint::of(end_entity) => {}
            Trust::Fingerprint(_) => return Err(CertificateError::ApplicationVerificationFailure.into()),
            Trust::Certificates {
                certificates,
                verifies_host_name,
            } => {
                let parsed = ParsedCertificate::try_from(end_entity);
                if !certificates.contains(end_entity) {
                    let algorithms = self.algorithms.all;
                    verify_server_cert_signed_by_trust_anchor(
                        parsed.as_ref().map_err(Clone::clone)?,
                        &self.roots,
                        intermediates,
                        now,
                        algorithms,
                    )?;
                }
                if *verifies_host_name {
                    verify_server_name(&parsed?, server_name)?;
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
