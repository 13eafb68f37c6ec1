//! Passing on what Flink's own client asks of the endpoint.

use reqwest::header::HeaderMap;
use reqwest::{Body, Method, Response};
use url::Url;

use super::{RestClient, RestError, authorized};

impl RestClient {
    /// Where a request for this path and query goes; `None` if that is not a part of Flink's API.
    pub(crate) fn foreign_url(&self, path_and_query: &str) -> Option<Url> {
        let relative = path_and_query.strip_prefix('/')?;
        let api = self.base_url.join("v1/").ok()?;
        // Joining resolves `..`, which must not lead out of what is ours.
        let url = self.base_url.join(relative).ok()?;
        (url.origin() == api.origin() && url.path().starts_with(api.path())).then_some(url)
    }

    /// Sends a request that somebody else made, on our way and with our credentials. It has no limit in time.
    ///
    /// # Errors
    ///
    /// Only when there is no answer; what Flink refuses is an answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may have had its effect.
    pub(crate) async fn pass_on(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response, RestError> {
        let request = self.http.request(method.clone(), url.clone());
        let request = authorized(request.headers(headers).body(body), &self.security)?;
        let answer = request.send().await;
        answer.map_err(|source| RestError::from_transport(&method, &url, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_api_of_this_endpoint_is_passed_on() {
        let rest = RestClient::new("https://gateway/orders".parse().unwrap()).unwrap();
        let url = |path: &str| rest.foreign_url(path).map(String::from);
        assert_eq!(
            url("/v1/jobs/overview?a=b").as_deref(),
            Some("https://gateway/orders/v1/jobs/overview?a=b")
        );
        for elsewhere in [
            "/jobs",
            "/v1",
            "/v1/../../payments/v1/jobs",
            "/v1/%2e%2e/x",
            "//elsewhere/v1/jobs",
            "*",
        ] {
            assert_eq!(url(elsewhere), None, "{elsewhere}");
        }
    }
}
