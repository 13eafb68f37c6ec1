//! The secret that keeps other processes of the pod from using the endpoint.

use std::fmt;
use std::hint::black_box;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use uuid::Uuid;

/// A bearer token; never printed.
#[derive(Clone)]
pub(super) struct Token(String);

impl Token {
    /// A new token with 244 random bits.
    pub(super) fn random() -> Self {
        Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    /// The text, for the one file that is meant to hold it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the request carries this token. Takes as long for a nearly right one as for a wrong one.
    pub(super) fn authorizes(&self, headers: &HeaderMap) -> bool {
        let value = headers
            .get(AUTHORIZATION)
            .map(http::HeaderValue::as_bytes)
            .unwrap_or_default();
        let (scheme, given) = value.split_at_checked("Bearer ".len()).unwrap_or_default();
        let expected = self.0.as_bytes();
        if !scheme.eq_ignore_ascii_case(b"Bearer ") || given.len() != expected.len() {
            return false;
        }
        let difference = given
            .iter()
            .zip(expected)
            .fold(0, |seen, (left, right)| black_box(seen | (left ^ right)));
        black_box(difference) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_authorizes() {
        let token = Token::random();
        let with = |value: String| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            token.authorizes(&headers)
        };
        assert!(with(format!("Bearer {}", token.expose())));
        assert!(with(format!("bearer {}", token.expose())));
        assert!(!with(format!("Bearer {}", Token::random().expose())));
        assert!(!with(format!("Bearer {}x", token.expose())));
        assert!(!with(format!("Basic {}", token.expose())));
        assert!(!with("Bearer ".to_owned()));
        assert!(!with("B".to_owned()));
        assert!(!token.authorizes(&HeaderMap::new()));
        assert!(!format!("{token:?}").contains(token.expose()));
    }
}
