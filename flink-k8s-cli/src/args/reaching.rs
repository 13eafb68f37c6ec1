//! How the REST endpoint of a cluster is reached, on every command that talks to one.

use clap::Args;
use flink_k8s_core::configuration::MalformedValue;
use flink_k8s_core::configuration::flink_k8s_options::RestUrl;
use flink_k8s_core::configuration::rest_client_options;

use super::DynamicProperties;

/// Options of Flink, and the REST endpoint where it is not to be found through Kubernetes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ReachingProperties {
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Talk to this REST endpoint instead of looking for it in Kubernetes, such as `https://gateway/orders`; may also be
    /// given as -Dflink-k8s.rest.url=..., or as -Drest.address=HOST with rest.port and rest.url-prefix
    #[arg(long, value_name = "URL", value_parser = rest_url)]
    rest_url: Option<RestUrl>,
}

impl ReachingProperties {
    /// All as options.
    pub(crate) fn into_properties(self) -> DynamicProperties {
        let mut dynamic = self.dynamic;
        if let Some(url) = self.rest_url {
            let key = rest_client_options::GIVEN_URL.key.to_owned();
            dynamic.properties.push((key, url.to_string()));
        }
        dynamic
    }
}

/// Refuses what is no address of a REST endpoint.
pub(super) fn rest_url(text: &str) -> Result<RestUrl, MalformedValue> {
    text.parse()
}
