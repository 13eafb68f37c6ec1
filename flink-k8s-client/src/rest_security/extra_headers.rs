//! Headers that the environment adds to every request, as for Flink's own client.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// The environment variable of Flink's own client with headers for every REST request, one `name:value` a line: so
/// tokens and passwords for gateways need be in no file and on no command line.
pub const HEADERS_VARIABLE: &str = "FLINK_REST_CLIENT_HEADERS";

/// What the variable says; nothing where it is not set.
pub(super) fn from_environment() -> HeaderMap {
    std::env::var(HEADERS_VARIABLE).map_or_else(|_| HeaderMap::new(), |text| parse(&text))
}

/// What is no header is left out, as by Flink. Values may be secrets, so they are never shown.
fn parse(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (index, line) in text.lines().enumerate() {
        let header = line.split_once(':').and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        match header {
            Some((name, value)) => {
                headers.append(name, value);
            }
            None if line.trim().is_empty() => {}
            None => tracing::warn!(
                line = index + 1,
                "a line of {HEADERS_VARIABLE} is not `name:value` and is left out"
            ),
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_header_and_its_value_is_never_shown() {
        let headers = parse("Authorization: Bearer planted:1\n\nno header\nb@d: x\nX-Team:a\r\nx-team:b");
        assert_eq!(headers["authorization"], "Bearer planted:1");
        let teams: Vec<_> = headers.get_all("x-team").iter().collect();
        assert_eq!(teams, ["a", "b"]);
        assert_eq!(headers.len(), 3);
        assert!(!format!("{headers:?}").contains("planted"), "{headers:?}");
    }
}
