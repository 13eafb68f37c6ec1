//! Where a JobManager's REST endpoint is.

use std::fmt;
use std::str::FromStr;

use super::{MalformedValue, OptionValue};

/// The address of a JobManager's REST endpoint, such as `http://flink-rest:8081`. A value of this type has a scheme
/// that Flink speaks and a host, and no user, query or fragment.
///
/// ```
/// # use flink_k8s_core::configuration::flink_k8s_options::RestUrl;
/// let url: RestUrl = "http://flink-rest.team-a:8081/".parse()?;
/// assert_eq!((url.host(), url.as_str()), ("flink-rest.team-a", "http://flink-rest.team-a:8081/"));
/// assert!("flink-rest:8081".parse::<RestUrl>().is_err());
/// # Ok::<(), flink_k8s_core::configuration::MalformedValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestUrl(String);

impl RestUrl {
    /// The address as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        host(authority(&self.0).unwrap_or_default()).unwrap_or_default()
    }

    /// Whether the host means the machine itself, so that nobody else finds the JobManager under it.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }
}

/// Whether this host means the machine itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "::1" || host.starts_with("127.")
}

/// What is between the scheme and the path.
fn authority(url: &str) -> Option<&str> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))?;
    Some(rest.split('/').next().unwrap_or(rest))
}

/// The host of an authority with an optional port; nothing if it is not one.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (
                host,
                if port.is_empty() {
                    None
                } else {
                    Some(port.strip_prefix(':')?)
                },
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let may_be_in_host = |letter: char| letter.is_ascii_alphanumeric() || "-._:".contains(letter);
    (is_port && !host.is_empty() && host.chars().all(may_be_in_host)).then_some(host)
}

impl FromStr for RestUrl {
    type Err = MalformedValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let is_plain = !text.contains(['?', '#', '@']) && !text.contains(char::is_whitespace);
        match authority(text).and_then(host) {
            Some(_) if is_plain => Ok(Self(text.to_owned())),
            _ => Err(MalformedValue(
                "expected the address of a REST endpoint, such as http://flink-rest:8081".to_owned(),
            )),
        }
    }
}

impl OptionValue for RestUrl {
    const EXPECTED: &'static str = "address such as http://flink-rest:8081";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        text.parse()
    }
}

impl fmt::Display for RestUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_scheme_and_a_host_and_nothing_secret() {
        for (text, host) in [
            ("http://flink", "flink"),
            ("https://flink.team-a.svc:8443/flink/", "flink.team-a.svc"),
            ("http://[::1]:8081", "::1"),
            (" http://10.0.0.7:8081 ", "10.0.0.7"),
        ] {
            assert_eq!(text.parse::<RestUrl>().unwrap().host(), host, "{text}");
        }
        for text in [
            "flink:8081",
            "ftp://flink",
            "http://",
            "http://:8081",
            "http://flink:port",
            "http://flink:0",
            "http://flink:99999",
            "http://me:secret@flink",
            "http://flink/?a=b",
            "http://[::1",
            "http://a b",
            "",
        ] {
            assert!(text.parse::<RestUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_loopback_is_recognised_in_each_of_its_spellings() {
        for (url, expected) in [
            ("http://localhost:8081", true),
            ("http://127.0.0.7", true),
            ("http://[::1]:1", true),
            ("http://flink", false),
        ] {
            assert_eq!(url.parse::<RestUrl>().unwrap().is_loopback(), expected, "{url}");
        }
    }
}
