//! Java's stores of certificates and keys: PKCS12, and the older JKS.

mod jks;

use p12_keystore::{KeyStoreEntry, Pkcs12ImportPolicy};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Identity;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// It is neither PKCS12 nor JKS, or it is cut off.
    #[error("it is not a store in PKCS12 or JKS form, or it is damaged")]
    NotAStore,
    /// The password is another one, or the store was changed since.
    #[error("the password is wrong, or the store is damaged")]
    WrongPassword,
    /// The key in it is encrypted with another password, or in a way that is not known.
    #[error(
        "its private key cannot be decrypted: the key's password is wrong, or its encryption is not known"
    )]
    KeyEncryption,
    /// It has no private key, but one is needed.
    #[error("it has no private key with a certificate")]
    NoPrivateKey,
    /// The store of PKCS12 form has something that is not understood.
    #[error("it is not understood as a store in PKCS12 form")]
    Pkcs12 {
        /// The failure below.
        source: Box<p12_keystore::error::Error>,
    },
}

impl KeyStoreError {
    /// Whether the same store may be opened later although nobody changes anything: never.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// What is in a store.
#[derive(Debug, Default)]
pub(crate) struct KeyStore {
    /// The certificates that Java would trust: trusted entries, and the first of each chain that belongs to a key.
    pub(crate) trusted: Vec<CertificateDer<'static>>,
    /// The first key with its chain.
    pub(super) identity: Option<Identity>,
}

impl KeyStore {
    /// Opens a store whose form its first bytes tell; Java does the same.
    pub(crate) fn read(content: &[u8], password: &str, key_password: &str) -> Result<Self, KeyStoreError> {
        match content {
            [0xFE, 0xED, 0xFE, 0xED, ..] => jks::read(content, password, key_password),
            [0x30, ..] => read_pkcs12(content, password),
            _ => Err(KeyStoreError::NotAStore),
        }
    }

    fn add_key(&mut self, chain: Vec<CertificateDer<'static>>, pkcs8: Vec<u8>) {
        self.trusted.extend(chain.first().cloned());
        if self.identity.is_none() && !chain.is_empty() {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
            self.identity = Some((chain, key));
        }
    }
}

/// In stores of this form the key has the store's password.
fn read_pkcs12(content: &[u8], password: &str) -> Result<KeyStore, KeyStoreError> {
    use p12_keystore::error::Error;
    let opened = p12_keystore::KeyStore::from_pkcs12(content, password, Pkcs12ImportPolicy::Strict);
    let opened = opened.map_err(|error| match error {
        Error::MacError(_) | Error::UnpadError => KeyStoreError::WrongPassword,
        source => KeyStoreError::Pkcs12 {
            source: Box::new(source),
        },
    })?;
    let der = |certificate: &p12_keystore::Certificate| CertificateDer::from(certificate.as_der().to_vec());
    let mut store = KeyStore::default();
    for (_, entry) in opened.entries() {
        match entry {
            KeyStoreEntry::Certificate(certificate) => store.trusted.push(der(certificate)),
            KeyStoreEntry::PrivateKeyChain(chain) => {
                let key = chain.key().as_der().to_vec();
                store.add_key(chain.certs().iter().map(der).collect(), key);
            }
            KeyStoreEntry::Secret(_) => {}
        }
    }
    Ok(store)
}

#[cfg(test)]
mod tests;
