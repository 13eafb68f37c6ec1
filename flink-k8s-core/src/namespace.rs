//! A Kubernetes namespace.

use std::fmt;
use std::str::FromStr;

/// Name of a Kubernetes namespace (`kubernetes.namespace`); a DNS label of at most 63 characters.
///
/// ```
/// # use flink_k8s_core::namespace::{InvalidNamespace, Namespace};
/// let namespace: Namespace = "team-a".parse()?;
/// assert_eq!(namespace.as_str(), "team-a");
/// # Ok::<(), InvalidNamespace>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(String);

/// The text is not the name of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a namespace: it must have 1 to 63 lowercase letters, digits or '-', \
     and start and end with a letter or digit"
)]
pub struct InvalidNamespace(String);

impl Namespace {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Namespace {
    type Err = InvalidNamespace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = (1..=63).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidNamespace(text.to_owned()))
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dns_labels_name_namespaces() {
        for text in ["", "a_b", "A", "-a", "a-", "a.b", &"a".repeat(64)] {
            assert_eq!(text.parse::<Namespace>(), Err(InvalidNamespace(text.to_owned())));
        }
        assert!("0-9".parse::<Namespace>().is_ok());
    }
}
