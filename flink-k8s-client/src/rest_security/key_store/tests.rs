use super::*;

const IDENTITY: [&[u8]; 2] = [
    include_bytes!("../testdata/identity.p12"),
    include_bytes!("../testdata/identity.jks"),
];
const TRUSTED: [&[u8]; 2] = [
    include_bytes!("../testdata/trusted.p12"),
    include_bytes!("../testdata/trusted.jks"),
];
const KEY_PASSWORDS: [&str; 2] = ["changeit", "different"];

#[test]
fn javas_stores_of_both_forms_are_read_with_their_keys() {
    let identities: Vec<KeyStore> = IDENTITY
        .iter()
        .zip(KEY_PASSWORDS)
        .map(|(content, key_password)| KeyStore::read(content, "changeit", key_password).unwrap())
        .collect();
    let mut certificates: Vec<_> = identities
        .iter()
        .map(|store| {
            let (chain, key) = store.identity.as_ref().unwrap();
            assert_eq!(chain, &store.trusted);
            // A key that TLS can sign with.
            rustls::crypto::aws_lc_rs::sign::any_supported_type(key).unwrap();
            chain[0].clone()
        })
        .collect();
    certificates.sort_by_key(|certificate| certificate.to_vec());
    for content in TRUSTED {
        let mut store = KeyStore::read(content, "changeit", "changeit").unwrap();
        store.trusted.sort_by_key(|certificate| certificate.to_vec());
        assert_eq!(store.trusted, certificates);
        assert!(store.identity.is_none());
    }
}

#[test]
fn wrong_passwords_and_damaged_stores_are_told() {
    let refusal = |content: &[u8], password: &str, key_password: &str| {
        KeyStore::read(content, password, key_password)
            .unwrap_err()
            .to_string()
    };
    for content in IDENTITY {
        assert_eq!(
            refusal(content, "other", "other"),
            "the password is wrong, or the store is damaged"
        );
    }
    insta::assert_snapshot!(refusal(IDENTITY[1], "changeit", "changeit"), @"its private key cannot be decrypted: the key's password is wrong, or its encryption is not known");
    insta::assert_snapshot!(refusal(b"-----BEGIN", "", ""), @"it is not a store in PKCS12 or JKS form, or it is damaged");
    for content in IDENTITY.into_iter().chain(TRUSTED) {
        for end in 0..content.len() {
            assert!(
                KeyStore::read(&content[..end], "changeit", "changeit").is_err(),
                "{end}"
            );
        }
    }
}
