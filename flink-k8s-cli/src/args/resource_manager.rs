//! `flink-k8s rm` and `flink-k8s render resource-manager`: their arguments.

use clap::Args;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::flink_k8s_options::RestUrl;

use super::DynamicProperties;
use super::reaching::rest_url;

#[derive(Args, Debug)]
pub(crate) struct RmArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    /// The JobManager's REST endpoint, such as `http://flink:8081` [default: the one that was rendered]
    #[arg(long, value_name = "URL", value_parser = rest_url)]
    pub(crate) rest_url: Option<RestUrl>,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
}

#[derive(Args, Debug)]
pub(crate) struct RenderResourceManagerArguments {
    /// The JobManager's REST endpoint, as pods of the cluster reach it, such as `http://flink:8081`; may also be given as
    /// -Dflink-k8s.resource-manager.rest-url=...
    #[arg(long, value_name = "URL", value_parser = rest_url)]
    pub(crate) rest_url: Option<RestUrl>,
    /// How many resource managers run there, of which one acts; 0 for one that runs elsewhere by `flink-k8s rm`
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) replicas: u16,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::args::{Arguments, Command};

    #[test]
    fn the_address_is_read_before_anything_is_done() {
        let line = [
            "flink-k8s",
            "rm",
            "orders",
            "--rest-url",
            "http://flink:8081",
            "-Da=b",
        ];
        let Command::Rm(arguments) = Arguments::try_parse_from(line).unwrap().command else {
            panic!("that is rm");
        };
        assert_eq!(arguments.cluster_id.unwrap().as_str(), "orders");
        assert_eq!(arguments.rest_url.unwrap().host(), "flink");
        assert_eq!(arguments.dynamic.properties, [("a".to_owned(), "b".to_owned())]);
        let refusal = Arguments::try_parse_from(["flink-k8s", "rm", "orders", "--rest-url", "flink:8081"]);
        let refusal = refusal.unwrap_err().to_string();
        assert!(
            refusal.contains("expected the address of a REST endpoint, such as http://flink-rest:8081"),
            "{refusal}"
        );
    }
}
