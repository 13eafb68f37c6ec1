//! All options that we know, from all tables.

use super::OptionRow;
use super::{
    common_options, deployment_options, exposure_options, flink_k8s_options, high_availability_options,
    kubernetes_options, local_storage_options, memory_options, resource_manager_options, rest_client_options,
    scheduling_options, tls_options,
};

/// Every option that has a type here, table by table. Flink has many more, which pass through as they are.
pub fn all_options() -> impl Iterator<Item = &'static dyn OptionRow> {
    [
        kubernetes_options::TABLE,
        deployment_options::TABLE,
        high_availability_options::TABLE,
        memory_options::TABLE,
        resource_manager_options::TABLE,
        common_options::TABLE,
        flink_k8s_options::TABLE,
        exposure_options::TABLE,
        scheduling_options::TABLE,
        local_storage_options::TABLE,
        rest_client_options::TABLE,
        rest_client_options::CERTIFICATES_TABLE,
        tls_options::TABLE,
    ]
    .into_iter()
    .flatten()
    .copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_default_parses() {
        for row in all_options() {
            if let Some(default) = row.default_text() {
                assert_eq!(row.check(default), Ok(()), "{}", row.key());
            }
        }
    }

    #[test]
    fn no_key_is_declared_twice() {
        let mut keys = BTreeSet::new();
        for row in all_options() {
            assert!(keys.insert(row.key()), "{}", row.key());
        }
    }
}
