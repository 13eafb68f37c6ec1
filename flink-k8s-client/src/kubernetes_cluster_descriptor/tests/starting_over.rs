use flink_k8s_core::job_manager::ApplicationConfiguration;
use serde_json::{Value, json};

use super::*;

/// With the id that Flink gives to the job of an application of this name.
const KEPT: &str = "orders-ffffffffc3df62e50000000000000000-config-map";

fn available(origin: &Origin) -> ClusterSpecification {
    let mut specification = specification();
    for (key, value) in [
        ("high-availability.type", "kubernetes"),
        ("high-availability.storageDir", "s3://bucket/ha"),
    ] {
        specification.configuration.set(key, value, Origin::CommandLine);
    }
    let path = "execution.state-recovery.path";
    specification
        .configuration
        .set(path, "s3://bucket/savepoint-1", origin.clone());
    specification
}

async fn start(fake: &Fake, specification: &ClusterSpecification) -> Result<DeployChange, DeployError> {
    let application = ApplicationConfiguration::new();
    let descriptor = fake.descriptor();
    let deployed = descriptor.deploy_application_cluster(specification, &application);
    Ok(deployed.await?.change)
}

fn keep(fake: &Fake, data: &Value) {
    let config_map = reference(ObjectKind::ConfigMap, KEPT);
    let mut state = fake.state();
    state.others.insert(config_map.clone(), None);
    state.contents.insert(config_map, json!({"data": data}));
}

#[tokio::test(start_paused = true)]
async fn a_savepoint_that_flink_would_ignore_is_refused_before_anything_is_made() {
    let fake = Fake::default();
    keep(
        &fake,
        &json!({"counter": "8", "checkpointID-0000000000000000007": "pointer"}),
    );
    let refusal = start(&fake, &available(&Origin::CommandLine)).await.unwrap_err();
    assert!(!refusal.is_transient());
    insta::assert_snapshot!(chain(&refusal), @"cannot deploy cluster orders to start from s3://bucket/savepoint-1: ConfigMap team-a/orders-ffffffffc3df62e50000000000000000-config-map keeps checkpoint 7 of its job, from which Flink would go on instead; nothing was touched");
    assert_eq!(fake.names(), [format!("ConfigMap {KEPT}")]);
}

#[tokio::test(start_paused = true)]
async fn a_savepoint_of_a_configuration_file_is_that_of_the_first_start() {
    let fake = Fake::default();
    keep(&fake, &json!({"checkpointID-0000000000000000007": "pointer"}));
    let file = Origin::File("config.yaml".to_owned());
    assert_eq!(
        start(&fake, &available(&file)).await.unwrap(),
        DeployChange::Created
    );
}

#[tokio::test(start_paused = true)]
async fn a_savepoint_is_taken_where_no_checkpoint_is_kept_and_repeating_the_start_changes_nothing() {
    let fake = Fake::default();
    keep(&fake, &json!({"counter": "1"}));
    let wish = available(&Origin::CommandLine);
    assert_eq!(start(&fake, &wish).await.unwrap(), DeployChange::Created);
    keep(&fake, &json!({"checkpointID-0000000000000000001": "pointer"}));
    assert_eq!(start(&fake, &wish).await.unwrap(), DeployChange::Unchanged);

    // It would be removed for one that does not start from there.
    let mut other = wish;
    let path = "execution.state-recovery.path";
    other
        .configuration
        .set(path, "s3://bucket/savepoint-2", Origin::CommandLine);
    let refusal = start(&fake, &other).await.unwrap_err();
    assert!(
        matches!(refusal, DeployError::KeepsCheckpoint { .. }),
        "{refusal}"
    );
}
