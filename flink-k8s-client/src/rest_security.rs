//! Whom a REST client trusts, and how it proves who it is: TLS, mutual TLS, tokens and passwords.

mod extra_headers;
mod key_store;
mod trust;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flink_k8s_core::configuration::{
    FlinkConfiguration, InvalidOptionValue, OptionRow as _, OptionalConfigOption, common_options,
    is_sensitive, rest_client_options as options,
};
use flink_k8s_core::tls;
use k8s_openapi::ByteString;
use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use self::extra_headers::HEADERS_VARIABLE;
pub(crate) use self::key_store::KeyStore;
pub use self::key_store::KeyStoreError;
use self::trust::{ClusterTrust, Fingerprint};

/// Whom a [`RestClient`](crate::rest_client::RestClient) trusts, and how it proves who it is. The default trusts the
/// authorities of the system, and proves nothing.
///
/// A certificate that a truststore or CA file vouches for need not name the host, as with Flink's own client, unless
/// that is asked for; with the system's authorities it must. Nothing secret is ever printed. Cloning is cheap.
///
/// ```
/// # use flink_k8s_client::rest_security::{RestSecurity, RestSecurityError};
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// let mut configuration = FlinkConfiguration::new();
/// configuration.set("security.ssl.rest.truststore", "/nowhere/rest.p12", Origin::CommandLine);
/// let error = RestSecurity::from_configuration(&configuration).unwrap_err();
/// assert!(matches!(error, RestSecurityError::Incomplete { .. }), "{error}");
/// ```
#[derive(Clone, Default)]
pub struct RestSecurity(Arc<Parts>);

#[derive(Default)]
struct Parts {
    tls: Option<ClientConfig>,
    credentials: Option<Credentials>,
    headers: HeaderMap,
    /// The Secret that `tls` is made of, where that is the cluster's own.
    secret: Option<String>,
}

/// What is sent along with every request.
enum Credentials {
    /// The token in this file, which somebody may renew.
    BearerFile(PathBuf),
    /// User and password.
    Basic { user: String, password: String },
}

/// Why what the configuration says about certificates and credentials cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestSecurityError {
    /// An option cannot be read.
    #[error(transparent)]
    Option(#[from] InvalidOptionValue),
    /// One option wants another one.
    #[error("option {key} needs {missing}, which is not set")]
    Incomplete {
        /// The option that is set.
        key: &'static str,
        /// The option that is not.
        missing: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {file} of option {key}")]
    Unreadable {
        /// The option.
        key: &'static str,
        /// The file, unless the option is sensitive.
        file: String,
        /// The failure below.
        source: io::Error,
    },
    /// A file that should be PEM has nothing usable in it.
    #[error("{file} of option {key} has no {wanted} in PEM form")]
    NotPem {
        /// The option.
        key: &'static str,
        /// The file, unless the option is sensitive.
        file: String,
        /// What it should have.
        wanted: &'static str,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A store cannot be opened.
    #[error("cannot open {file} of option {key}")]
    Store {
        /// The option.
        key: &'static str,
        /// The file, unless the option is sensitive.
        file: String,
        /// The failure below.
        source: KeyStoreError,
    },
    /// A store in the Secret of a cluster's certificates cannot be opened.
    #[error("cannot open {name} of the cluster's certificates")]
    StoreOfCluster {
        /// Its key in the Secret.
        name: &'static str,
        /// The failure below.
        source: KeyStoreError,
    },
    /// A file has no certificate to trust.
    #[error("{file} of option {key} has no trusted certificate")]
    NothingTrusted {
        /// The option.
        key: &'static str,
        /// The file, unless the option is sensitive.
        file: String,
    },
    /// The fingerprint is none.
    #[error("option {} is not a SHA-1 fingerprint, 40 hexadecimal digits", options::CERTIFICATE_FINGERPRINT.key)]
    Fingerprint,
    /// The file of user and password has something else.
    #[error("the file of option {} does not begin with a line user:password", options::BASIC_AUTH_FILE.key)]
    NotUserAndPassword,
    /// Both a token and a password are given.
    #[error("options {} and {} exclude each other", options::BEARER_TOKEN_FILE.key, options::BASIC_AUTH_FILE.key)]
    TwoCredentials,
    /// TLS cannot be set up with these certificates.
    #[error("cannot use the certificates that the configuration names for REST")]
    Tls {
        /// The failure below.
        source: rustls::Error,
    },
}

impl RestSecurityError {
    /// Whether the same call may succeed later although nobody changes anything: never.
    pub fn is_transient(&self) -> bool {
        false
    }
}

impl RestSecurity {
    /// What `security.ssl.rest.*` and `flink-k8s.rest.tls|auth.*` say. Reads the files that they name: stores in PKCS12
    /// or JKS form (their content tells which), PEM. The headers in [`HEADERS_VARIABLE`] of this process' environment are
    /// sent, too, but for `Authorization` where a file has credentials.
    ///
    /// # Errors
    ///
    /// See [`RestSecurityError`].
    pub fn from_configuration(configuration: &FlinkConfiguration) -> Result<Self, RestSecurityError> {
        Ok(Self(Arc::new(Parts {
            tls: tls_of(configuration)?,
            credentials: Credentials::from_configuration(configuration)?,
            headers: extra_headers::from_environment(),
            secret: None,
        })))
    }

    /// For a cluster that was given the stores in this Secret, by their names in [`tls`]: trusts and shows what is in them.
    /// Credentials are those of the configuration, and so are passwords of stores that somebody else wrote.
    pub(crate) fn of_cluster(
        configuration: &FlinkConfiguration,
        secret: &str,
        stores: &BTreeMap<String, ByteString>,
    ) -> Result<Self, RestSecurityError> {
        let read = |name: &'static str, option: &'static OptionalConfigOption<String>| {
            let password = configuration.find(option)?;
            let password = password.as_deref().unwrap_or(tls::STORE_PASSWORD);
            let content = stores.get(name).map_or(&[][..], |content| &content.0);
            KeyStore::read(content, password, password)
                .map_err(|source| RestSecurityError::StoreOfCluster { name, source })
        };
        let mut certificates = read(tls::REST_TRUSTSTORE, &options::TRUSTSTORE_PASSWORD)?.trusted;
        // A JobManager that is about to be replaced may still answer.
        if stores.contains_key(tls::REST_TRUSTSTORE_BEFORE) {
            let before = read(tls::REST_TRUSTSTORE_BEFORE, &options::TRUSTSTORE_PASSWORD)?;
            certificates.extend(before.trusted);
        }
        let trust = trust::Trust::Certificates {
            certificates,
            verifies_host_name: configuration.get(&options::VERIFY_HOST_NAME)?,
        };
        let identity = read(tls::REST_KEYSTORE, &options::KEYSTORE_PASSWORD)?.identity;
        Ok(Self(Arc::new(Parts {
            tls: Some(client_configuration(Some(trust), identity)?),
            credentials: Credentials::from_configuration(configuration)?,
            headers: extra_headers::from_environment(),
            secret: Some(secret.to_owned()),
        })))
    }

    /// For a process in the same pod as the endpoint, which reads the endpoint's own configuration: the only certificate
    /// that is trusted is the one in the endpoint's keystore, and where clients have to show one, it is shown as well, as
    /// Flink's own clients do. What the certificate is made out to does not matter.
    ///
    /// # Errors
    ///
    /// See [`RestSecurityError`].
    pub fn of_own_endpoint(configuration: &FlinkConfiguration) -> Result<Self, RestSecurityError> {
        let identity = own_identity(configuration, common_options::REST_SSL_ENABLED.key)?;
        let trust = trust::Trust::Certificates {
            certificates: identity.0.first().cloned().into_iter().collect(),
            verifies_host_name: false,
        };
        let is_shown = configuration.get(&options::AUTHENTICATION_ENABLED)?;
        Ok(Self(Arc::new(Parts {
            tls: Some(client_configuration(Some(trust), is_shown.then_some(identity))?),
            credentials: None,
            headers: HeaderMap::new(),
            secret: None,
        })))
    }

    /// The Secret that certificates were taken from, where the cluster itself names it.
    pub(crate) fn secret(&self) -> Option<&str> {
        self.0.secret.as_deref()
    }

    /// The set-up of TLS, where it is not the system's.
    pub(crate) fn tls(&self) -> Option<ClientConfig> {
        self.0.tls.clone()
    }

    /// Adds headers and credentials to a request.
    pub(crate) fn authorize(&self, request: RequestBuilder) -> io::Result<RequestBuilder> {
        let mut headers = self.0.headers.clone();
        if self.0.credentials.is_some() {
            headers.remove(AUTHORIZATION);
        }
        let request = request.headers(headers);
        Ok(match &self.0.credentials {
            None => request,
            Some(Credentials::Basic { user, password }) => request.basic_auth(user, Some(password)),
            Some(Credentials::BearerFile(path)) => {
                let token = fs::read_to_string(path)?;
                request.bearer_auth(token.trim())
            }
        })
    }
}

impl fmt::Debug for RestSecurity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = self.0.credentials.as_ref().map(|credentials| match credentials {
            Credentials::BearerFile(_) => "a token",
            Credentials::Basic { .. } => "a password",
        });
        formatter
            .debug_struct("RestSecurity")
            .field("has_tls", &self.0.tls.is_some())
            .field("credentials", &credentials)
            .field("headers", &self.0.headers.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl Credentials {
    fn from_configuration(configuration: &FlinkConfiguration) -> Result<Option<Self>, RestSecurityError> {
        let token = file(configuration, &[&options::BEARER_TOKEN_FILE])?;
        let basic = file(configuration, &[&options::BASIC_AUTH_FILE])?;
        match (token, basic) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(RestSecurityError::TwoCredentials),
            (Some(file), None) => {
                file.read()?;
                Ok(Some(Self::BearerFile(file.path)))
            }
            (None, Some(file)) => {
                let text = String::from_utf8(file.read()?).ok();
                let line = text.as_deref().and_then(|text| text.lines().next());
                let Some((user, password)) = line.and_then(|line| line.split_once(':')) else {
                    return Err(RestSecurityError::NotUserAndPassword);
                };
                Ok(Some(Self::Basic {
                    user: user.to_owned(),
                    password: password.to_owned(),
                }))
            }
        }
    }
}

/// A file that an option names.
struct NamedFile {
    key: &'static str,
    path: PathBuf,
}

impl NamedFile {
    /// Somebody may have put the secret itself where the name of its file belongs.
    fn shown(&self) -> String {
        if is_sensitive(self.key) {
            "the file".to_owned()
        } else {
            self.path.display().to_string()
        }
    }

    fn read(&self) -> Result<Vec<u8>, RestSecurityError> {
        fs::read(&self.path).map_err(|source| RestSecurityError::Unreadable {
            key: self.key,
            file: self.shown(),
            source,
        })
    }

    fn not_pem(&self, wanted: &'static str, source: pem::Error) -> RestSecurityError {
        RestSecurityError::NotPem {
            key: self.key,
            file: self.shown(),
            wanted,
            source,
        }
    }

    /// At least one certificate.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, RestSecurityError> {
        let wanted = "certificate";
        let content = self.read()?;
        let certificates = CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| self.not_pem(wanted, error))?;
        if certificates.is_empty() {
            return Err(self.not_pem(wanted, pem::Error::NoItemsFound));
        }
        Ok(certificates)
    }

    fn store(&self, password: &str, key_password: &str) -> Result<KeyStore, RestSecurityError> {
        let content = self.read()?;
        KeyStore::read(&content, password, key_password).map_err(|source| RestSecurityError::Store {
            key: self.key,
            file: self.shown(),
            source,
        })
    }
}

/// The file that the first of these options names which is set.
fn file(
    configuration: &FlinkConfiguration,
    options: &[&'static OptionalConfigOption<String>],
) -> Result<Option<NamedFile>, InvalidOptionValue> {
    for option in options {
        if let Some(path) = configuration.find(option)? {
            let path = Path::new(path.trim()).to_owned();
            return Ok(Some(NamedFile {
                key: option.key(),
                path,
            }));
        }
    }
    Ok(None)
}

/// The password that belongs to this store: the first of these options that is set.
fn password(
    configuration: &FlinkConfiguration,
    store: &NamedFile,
    options: [&'static OptionalConfigOption<String>; 2],
) -> Result<String, RestSecurityError> {
    for option in options {
        if let Some(password) = configuration.find(option)? {
            return Ok(password);
        }
    }
    Err(RestSecurityError::Incomplete {
        key: store.key,
        missing: options[0].key(),
    })
}

/// `None` where nothing differs from what the system has.
fn tls_of(configuration: &FlinkConfiguration) -> Result<Option<ClientConfig>, RestSecurityError> {
    let trust = trust(configuration)?;
    let identity = identity(configuration)?;
    if trust.is_none() && identity.is_none() {
        return Ok(None);
    }
    client_configuration(trust, identity).map(Some)
}

fn client_configuration(
    trust: Option<trust::Trust>,
    identity: Option<Identity>,
) -> Result<ClientConfig, RestSecurityError> {
    let failed = |source| RestSecurityError::Tls { source };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = match trust {
        Some(trust) => versions
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ClusterTrust::new(trust, &provider))),
        None => versions
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(authorities_of_the_system(provider)?)),
    };
    match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(failed),
        None => Ok(builder.with_no_client_auth()),
    }
}

fn authorities_of_the_system(
    provider: Arc<CryptoProvider>,
) -> Result<rustls_platform_verifier::Verifier, RestSecurityError> {
    rustls_platform_verifier::Verifier::new(provider).map_err(|source| RestSecurityError::Tls { source })
}

/// Whom to trust, where that is not left to the system.
fn trust(configuration: &FlinkConfiguration) -> Result<Option<trust::Trust>, RestSecurityError> {
    let verifies_host_name = configuration.get(&options::VERIFY_HOST_NAME)?;
    if let Some(file) = file(configuration, &[&options::CA_FILE])? {
        let certificates = file.certificates()?;
        return Ok(Some(trust::Trust::Certificates {
            certificates,
            verifies_host_name,
        }));
    }
    if let Some(fingerprint) = configuration.find(&options::CERTIFICATE_FINGERPRINT)? {
        let fingerprint = Fingerprint::parse(&fingerprint).ok_or(RestSecurityError::Fingerprint)?;
        return Ok(Some(trust::Trust::Fingerprint(fingerprint)));
    }
    let Some(file) = file(
        configuration,
        &[&options::TRUSTSTORE, &options::COMMON_TRUSTSTORE],
    )?
    else {
        return Ok(None);
    };
    let passwords = [
        &options::TRUSTSTORE_PASSWORD,
        &options::COMMON_TRUSTSTORE_PASSWORD,
    ];
    let password = password(configuration, &file, passwords)?;
    let certificates = file.store(&password, &password)?.trusted;
    if certificates.is_empty() {
        return Err(RestSecurityError::NothingTrusted {
            key: file.key,
            file: file.shown(),
        });
    }
    Ok(Some(trust::Trust::Certificates {
        certificates,
        verifies_host_name,
    }))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Our own certificate with its chain, and its key.
fn identity(configuration: &FlinkConfiguration) -> Result<Option<Identity>, RestSecurityError> {
    if let Some(certificate) = file(configuration, &[&options::CERTIFICATE_FILE])? {
        let Some(key) = file(configuration, &[&options::KEY_FILE])? else {
            return Err(RestSecurityError::Incomplete {
                key: certificate.key,
                missing: options::KEY_FILE.key,
            });
        };
        let chain = certificate.certificates()?;
        let private = PrivateKeyDer::from_pem_slice(&key.read()?);
        let private = private.map_err(|error| key.not_pem("private key", error))?;
        return Ok(Some((chain, private)));
    }
    if !configuration.get(&options::AUTHENTICATION_ENABLED)? {
        return Ok(None);
    }
    own_identity(configuration, options::AUTHENTICATION_ENABLED.key).map(Some)
}

/// What is in the keystore, which the option `wanting` needs.
fn own_identity(
    configuration: &FlinkConfiguration,
    wanting: &'static str,
) -> Result<Identity, RestSecurityError> {
    let Some(file) = file(configuration, &[&options::KEYSTORE, &options::COMMON_KEYSTORE])? else {
        return Err(RestSecurityError::Incomplete {
            key: wanting,
            missing: options::KEYSTORE.key,
        });
    };
    let passwords = [&options::KEYSTORE_PASSWORD, &options::COMMON_KEYSTORE_PASSWORD];
    let store_password = password(configuration, &file, passwords)?;
    let passwords = [&options::KEY_PASSWORD, &options::COMMON_KEY_PASSWORD];
    // Flink wants this one, too; the two are the same in stores of PKCS12 form.
    let key_password = password(configuration, &file, passwords).unwrap_or_else(|_| store_password.clone());
    let store = file.store(&store_password, &key_password)?;
    store.identity.ok_or_else(|| RestSecurityError::Store {
        key: file.key,
        file: file.shown(),
        source: KeyStoreError::NoPrivateKey,
    })
}

#[cfg(test)]
mod tests;
