//! Why there is no TLS connection, in words that name the option to change.

use std::error::Error;
use std::fmt;
use std::io;

use flink_k8s_core::configuration::{common_options, rest_client_options as options};
use rustls::{AlertDescription, CertificateError};

/// Why there is no TLS connection with a REST endpoint. Prints as what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsProblem {
    /// Nobody whom we trust vouches for the endpoint's certificate.
    NotTrusted,
    /// The endpoint's certificate is made out to another name.
    OtherName,
    /// The endpoint's certificate is not valid at this time.
    NotValidNow,
    /// The endpoint wants a certificate of ours, and we have none.
    CertificateWanted,
    /// The endpoint does not trust our certificate, or no part of it is to its liking.
    CertificateRefused,
    /// What answers does not speak TLS.
    NotTls,
    /// Something else.
    Other,
}

impl TlsProblem {
    /// What failed below, if it is about TLS at all.
    pub(super) fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            // The source of an `io::Error` is that of the error inside.
            let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            let found = error
                .downcast_ref::<rustls::Error>()
                .or_else(|| inside.and_then(|inside| inside.downcast_ref()));
            if let Some(found) = found {
                return Some(Self::of(found));
            }
            next = match inside {
                Some(inside) => Some(inside),
                None => error.source(),
            };
        }
        None
    }

    fn of(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::NotValidNow,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::OtherName
                }
                _ => Self::NotTrusted,
            },
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => Self::CertificateWanted,
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked => Self::CertificateRefused,
                _ => Self::Other,
            },
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (truststore, ca_file) = (options::TRUSTSTORE.key, options::CA_FILE.key);
        let (keystore, certificate) = (options::KEYSTORE.key, options::CERTIFICATE_FILE.key);
        match self {
            Self::NotTrusted => write!(
                formatter,
                "its certificate is not trusted; {truststore} or {ca_file} name those that are"
            ),
            Self::OtherName => write!(
                formatter,
                "its certificate is made out to another name; one that {truststore} or {ca_file} vouches for may have any, \
                 unless {} is true",
                options::VERIFY_HOST_NAME.key
            ),
            Self::NotValidNow => formatter.write_str("its certificate is not valid at this time"),
            Self::CertificateWanted => write!(
                formatter,
                "it wants a certificate of ours: set {}=true with {keystore}, or {certificate} with {}",
                options::AUTHENTICATION_ENABLED.key,
                options::KEY_FILE.key
            ),
            Self::CertificateRefused => write!(
                formatter,
                "it does not accept our certificate, or misses one: {keystore} and {certificate} name it"
            ),
            Self::NotTls => write!(
                formatter,
                "what answers there does not speak TLS; is {} meant for this cluster?",
                common_options::REST_SSL_ENABLED.key
            ),
            Self::Other => formatter.write_str("the two sides do not agree"),
        }
    }
}
