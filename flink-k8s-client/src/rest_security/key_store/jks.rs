//! Stores in the form that Java had before version 9.

use rustls::pki_types::CertificateDer;
use sha1::{Digest as _, Sha1};

use super::{KeyStore, KeyStoreError};

/// What is hashed between the password and the store.
const WHITENER: &[u8] = b"Mighty Aphrodite";
/// The bytes of a SHA-1, and of the salt of a key.
const DIGEST: usize = 20;
/// Java's own key protection, 1.3.6.1.4.1.42.2.17.1.1, as an algorithm identifier without parameters or with a NULL.
const PROTECTION: &[u8] = &[
    0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x2A, 0x02, 0x11, 0x01, 0x01,
];

pub(super) fn read(content: &[u8], password: &str, key_password: &str) -> Result<KeyStore, KeyStoreError> {
    let body = content
        .len()
        .checked_sub(DIGEST)
        .ok_or(KeyStoreError::NotAStore)?;
    let (body, digest) = content.split_at(body);
    let mut bytes = Bytes(body);
    let _magic = bytes.number()?;
    let version = bytes.number()?;
    if !matches!(version, 1 | 2) {
        return Err(KeyStoreError::NotAStore);
    }
    let expected = Sha1::new()
        .chain_update(in_utf16(password))
        .chain_update(WHITENER)
        .chain_update(body)
        .finalize();
    if expected[..] != *digest {
        return Err(KeyStoreError::WrongPassword);
    }
    let mut store = KeyStore::default();
    for _ in 0..bytes.number()? {
        let kind = bytes.number()?;
        let _alias = bytes.text()?;
        let _created = bytes.take(8)?;
        match kind {
            1 => {
                let protected = bytes.sized()?;
                let mut chain = Vec::new();
                for _ in 0..bytes.number()? {
                    chain.push(bytes.certificate(version)?);
                }
                store.add_key(chain, unprotected(protected, key_password)?);
            }
            2 => {
                let certificate = bytes.certificate(version)?;
                store.trusted.push(certificate);
            }
            _ => return Err(KeyStoreError::NotAStore),
        }
    }
    Ok(store)
}

/// Java hashes characters, not bytes.
fn in_utf16(password: &str) -> Vec<u8> {
    password.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// The key in PKCS8 form. A stream of SHA-1 sums of the password and the sum before is laid over it, beginning with a salt.
fn unprotected(protected: &[u8], password: &str) -> Result<Vec<u8>, KeyStoreError> {
    let mut outer = Bytes(protected);
    let mut info = Bytes(outer.der(0x30).map_err(|_| KeyStoreError::KeyEncryption)?);
    let algorithm = info.der(0x30).map_err(|_| KeyStoreError::KeyEncryption)?;
    let sealed = info.der(0x04).map_err(|_| KeyStoreError::KeyEncryption)?;
    if !algorithm.starts_with(PROTECTION) || sealed.len() < 2 * DIGEST {
        return Err(KeyStoreError::KeyEncryption);
    }
    let (salt, sealed) = sealed.split_at(DIGEST);
    let (hidden, check) = sealed.split_at(sealed.len() - DIGEST);
    let password = in_utf16(password);
    let mut sum = salt.to_vec();
    let mut key = Vec::with_capacity(hidden.len());
    for block in hidden.chunks(DIGEST) {
        sum = Sha1::new()
            .chain_update(&password)
            .chain_update(&sum)
            .finalize()
            .to_vec();
        key.extend(block.iter().zip(&sum).map(|(hidden, mask)| hidden ^ mask));
    }
    let expected = Sha1::new().chain_update(&password).chain_update(&key).finalize();
    if expected[..] == *check {
        Ok(key)
    } else {
        Err(KeyStoreError::KeyEncryption)
    }
}

/// What has not been read yet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], KeyStoreError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(KeyStoreError::NotAStore)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, KeyStoreError> {
        let bytes = self.take(4)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn sized(&mut self) -> Result<&'a [u8], KeyStoreError> {
        let count = self.number()?;
        self.take(usize::try_from(count).map_err(|_| KeyStoreError::NotAStore)?)
    }

    fn text(&mut self) -> Result<&'a [u8], KeyStoreError> {
        let bytes = self.take(2)?;
        self.take(usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
    }

    /// Since version 2 the form of the certificate stands before it; it is always X.509.
    fn certificate(&mut self, version: u32) -> Result<CertificateDer<'static>, KeyStoreError> {
        if version == 2 {
            self.text()?;
        }
        Ok(CertificateDer::from(self.sized()?.to_vec()))
    }

    /// The content of a DER value with this tag.
    fn der(&mut self, tag: u8) -> Result<&'a [u8], KeyStoreError> {
        if self.take(1)? != [tag] {
            return Err(KeyStoreError::NotAStore);
        }
        let first = self.take(1)?[0];
        let count = match first {
            0..=0x7F => usize::from(first),
            0x81..=0x83 => {
                let bytes = self.take(usize::from(first & 0x7F))?;
                bytes
                    .iter()
                    .fold(0, |count, byte| count << 8 | usize::from(*byte))
            }
            _ => return Err(KeyStoreError::NotAStore),
        };
        self.take(count)
    }
}
