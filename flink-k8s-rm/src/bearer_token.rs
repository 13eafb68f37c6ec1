//! The secrets that keep others from using our endpoints.

use std::fmt;
use std::hint::black_box;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use uuid::Uuid;

/// A bearer token; never printed.
///
/// ```
/// # use flink_k8s_rm::bearer_token::BearerToken;
/// let token = BearerToken::random();
/// assert_eq!(format!("{token:?}"), "BearerToken(..)");
/// ```
#[derive(Clone)]
pub struct BearerToken(String);

/// The text cannot be a bearer token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token must have at least {} letters, digits or characters of `-._~+/=`",
    BearerToken::SHORTEST
)]
pub struct InvalidBearerToken;

impl BearerToken {
    /// The fewest characters that a token from outside may have; shorter ones could be guessed.
    pub const SHORTEST: usize = 16;

    /// The token that somebody else drew.
    ///
    /// # Errors
    ///
    /// [`InvalidBearerToken`], without the text.
    pub fn from_secret(text: impl Into<String>) -> Result<Self, InvalidBearerToken> {
        let text: String = text.into();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if text.len() < Self::SHORTEST || !text.bytes().all(is_allowed) {
            return Err(InvalidBearerToken);
        }
        Ok(Self(text))
    }

    /// A new token with 244 random bits.
    pub fn random() -> Self {
        Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    /// The text, for the one place that is meant to hold it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the request carries this token. Takes as long for a nearly right one as for a wrong one.
    pub fn authorizes(&self, headers: &HeaderMap) -> bool {
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

impl fmt::Debug for BearerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BearerToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_authorizes() {
        let token = BearerToken::random();
        let with = |value: String| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            token.authorizes(&headers)
        };
        assert!(with(format!("Bearer {}", token.expose())));
        assert!(with(format!("bearer {}", token.expose())));
        assert!(!with(format!("Bearer {}", BearerToken::random().expose())));
        assert!(!with(format!("Bearer {}x", token.expose())));
        assert!(!with(format!("Basic {}", token.expose())));
        assert!(!with("Bearer ".to_owned()));
        assert!(!with("B".to_owned()));
        assert!(!token.authorizes(&HeaderMap::new()));
        assert!(!format!("{token:?}").contains(token.expose()));
    }

    #[test]
    fn a_token_from_outside_must_fit_a_header_and_be_hard_to_guess() {
        let token = BearerToken::from_secret("0123456789abcdef").unwrap();
        assert_eq!(token.expose(), "0123456789abcdef");
        for refused in ["", "short", "0123456789abcde\n", "0123456789 abcdef"] {
            assert_eq!(BearerToken::from_secret(refused).unwrap_err(), InvalidBearerToken);
        }
    }
}
