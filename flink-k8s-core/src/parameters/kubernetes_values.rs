//! Options whose values are maps that describe Kubernetes objects: tolerations, owner references,
//! environment variables from secrets, persistent volume claims.

use k8s_openapi::api::core::v1::{Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{InvalidPersistentVolumeClaim, InvalidSpecification};
use crate::configuration::kubernetes_options::{self, OptionMap};
use crate::configuration::{FlinkConfiguration, OptionalConfigOption};
use crate::flink_version::FlinkVersion;

/// An environment variable whose value is in a secret. A part that the user left out stays empty and is
/// refused by the API server, as upstream has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvironmentSecret {
    pub(crate) variable: Option<String>,
    pub(crate) secret: Option<String>,
    pub(crate) key: Option<String>,
}

/// A persistent volume claim and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PersistentVolumeClaimMount {
    pub(crate) claim: String,
    pub(crate) volume: String,
    pub(crate) path: String,
    pub(crate) read_only: bool,
}

pub(crate) fn environment_secrets(
    configuration: &FlinkConfiguration,
) -> Result<Vec<EnvironmentSecret>, InvalidSpecification> {
    let entries = configuration
        .find(&kubernetes_options::ENV_SECRET_KEY_REF)?
        .unwrap_or_default();
    let secret = |mut entry: OptionMap| EnvironmentSecret {
        variable: entry.remove("env"),
        secret: entry.remove("secret"),
        key: entry.remove("key"),
    };
    Ok(entries.into_iter().map(secret).collect())
}

/// The tolerations of this option. Keys are read in any case; unknown ones are ignored, as upstream does.
pub(crate) fn tolerations(
    configuration: &FlinkConfiguration,
    option: &OptionalConfigOption<Vec<OptionMap>>,
) -> Result<Vec<Toleration>, InvalidSpecification> {
    let entries = configuration.find(option)?.unwrap_or_default();
    entries
        .into_iter()
        .map(|entry| toleration(entry, option.key))
        .collect()
}

fn toleration(entry: OptionMap, key: &'static str) -> Result<Toleration, InvalidSpecification> {
    let mut toleration = Toleration::default();
    for (name, value) in entry {
        match name.to_lowercase().as_str() {
            "key" => toleration.key = Some(value),
            "operator" => toleration.operator = Some(value),
            "value" => toleration.value = Some(value),
            "effect" => toleration.effect = Some(value),
            "tolerationseconds" => {
                let seconds = value
                    .parse()
                    .map_err(|_| InvalidSpecification::TolerationSeconds { key, value })?;
                toleration.toleration_seconds = Some(seconds);
            }
            _ => {}
        }
    }
    Ok(toleration)
}

/// Over what pods are spread. Keys are read in any case; ours are strict, so unknown ones are refused.
pub(crate) fn topology_spread(
    configuration: &FlinkConfiguration,
    option: &OptionalConfigOption<Vec<OptionMap>>,
) -> Result<Vec<TopologySpreadConstraint>, InvalidSpecification> {
    let entries = configuration.find(option)?.unwrap_or_default();
    entries
        .into_iter()
        .map(|entry| spread_constraint(entry, option.key))
        .collect()
}

fn spread_constraint(
    entry: OptionMap,
    key: &'static str,
) -> Result<TopologySpreadConstraint, InvalidSpecification> {
    let mut constraint = TopologySpreadConstraint {
        max_skew: 1,
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        ..TopologySpreadConstraint::default()
    };
    let refused = |value: String, need: &str| InvalidSpecification::Unsuitable {
        key,
        value,
        need: need.to_owned(),
    };
    for (name, value) in entry {
        match name.to_lowercase().as_str() {
            "topologykey" => constraint.topology_key = value,
            "maxskew" => {
                let skew = value.parse().ok().filter(|skew| *skew >= 1);
                constraint.max_skew = skew.ok_or_else(|| refused(value, "a maxSkew of at least 1"))?;
            }
            "whenunsatisfiable" if matches!(&*value, "ScheduleAnyway" | "DoNotSchedule") => {
                constraint.when_unsatisfiable = value;
            }
            _ => {
                let need = "topologyKey, maxSkew, and whenUnsatisfiable of ScheduleAnyway or DoNotSchedule";
                return Err(refused(format!("{name}:{value}"), need));
            }
        }
    }
    if constraint.topology_key.is_empty() {
        return Err(refused(String::new(), "a map with a topologyKey"));
    }
    Ok(constraint)
}

/// The owners of the JobManager's Deployment. Keys are read in any case; unknown ones are ignored, as
/// upstream does.
pub(crate) fn owner_references(
    configuration: &FlinkConfiguration,
) -> Result<Vec<OwnerReference>, InvalidSpecification> {
    let entries = configuration
        .find(&kubernetes_options::JOB_MANAGER_OWNER_REFERENCE)?
        .unwrap_or_default();
    Ok(entries.into_iter().map(owner_reference).collect())
}

fn owner_reference(entry: OptionMap) -> OwnerReference {
    let is_true = |value: &str| Some(value.eq_ignore_ascii_case("true"));
    let mut reference = OwnerReference::default();
    for (name, value) in entry {
        match name.to_lowercase().as_str() {
            "apiversion" => reference.api_version = value,
            "kind" => reference.kind = value,
            "name" => reference.name = value,
            "uid" => reference.uid = value,
            "controller" => reference.controller = is_true(&value),
            "blockownerdeletion" => reference.block_owner_deletion = is_true(&value),
            _ => {}
        }
    }
    reference
}

/// The persistent volume claims to mount; upstream has them since 2.3, and so the option means nothing
/// to older versions.
pub(crate) fn persistent_volume_claims(
    configuration: &FlinkConfiguration,
    flink_version: FlinkVersion,
) -> Result<Vec<PersistentVolumeClaimMount>, InvalidSpecification> {
    let option = &kubernetes_options::PERSISTENT_VOLUME_CLAIMS;
    if flink_version < FlinkVersion::V2_3 {
        return Ok(Vec::new());
    }
    let read_only = configuration.get(&kubernetes_options::PERSISTENT_VOLUME_CLAIM_READ_ONLY)?;
    let mut mounts: Vec<PersistentVolumeClaimMount> = Vec::new();
    for (claim, path) in configuration.find(option)?.unwrap_or_default() {
        let volume = format!("{}-pvc", claim.replace('.', "-"));
        check_claim(&claim, &path, &volume, &mounts).map_err(|source| {
            InvalidSpecification::PersistentVolumeClaim {
                key: option.key,
                name: claim.clone(),
                path: path.clone(),
                source,
            }
        })?;
        mounts.push(PersistentVolumeClaimMount {
            claim,
            volume,
            path,
            read_only,
        });
    }
    Ok(mounts)
}

fn check_claim(
    claim: &str,
    path: &str,
    volume: &str,
    others: &[PersistentVolumeClaimMount],
) -> Result<(), InvalidPersistentVolumeClaim> {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = claim.as_bytes();
    let named_well = (1..=253).contains(&bytes.len())
        && bytes.iter().all(|byte| edge(byte) || matches!(byte, b'-' | b'.'))
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge);
    if !named_well {
        Err(InvalidPersistentVolumeClaim::Name)
    } else if !path.starts_with('/') {
        Err(InvalidPersistentVolumeClaim::Path)
    } else if others.iter().any(|other| other.path == path) {
        Err(InvalidPersistentVolumeClaim::PathTaken)
    } else if volume.len() > 63 {
        Err(InvalidPersistentVolumeClaim::VolumeNameTooLong(volume.to_owned()))
    } else if others.iter().any(|other| other.volume == volume) {
        Err(InvalidPersistentVolumeClaim::VolumeNameTaken(volume.to_owned()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    fn configured(key: &str, text: &str) -> FlinkConfiguration {
        let mut configuration = FlinkConfiguration::new();
        configuration.set(key, text, Origin::CommandLine);
        configuration
    }

    #[test]
    fn toleration_seconds_that_are_no_number_are_named_with_their_option() {
        let option = &kubernetes_options::TASK_MANAGER_TOLERATIONS;
        let refusal =
            tolerations(&configured(option.key, "key:a,tolerationSeconds:soon"), option).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "tolerationSeconds \"soon\" in option kubernetes.taskmanager.tolerations is not a whole number"
        );
    }

    #[test]
    fn claims_are_mounted_since_flink_2_3_and_checked() {
        let key = kubernetes_options::PERSISTENT_VOLUME_CLAIMS.key;
        let good = configured(key, "data.claim:/data");
        assert!(
            persistent_volume_claims(&good, FlinkVersion::V2_2)
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            persistent_volume_claims(&good, FlinkVersion::V2_3).unwrap()[0].volume,
            "data-claim-pvc"
        );
        for bad in ["Data:/data", "data:relative", "a:/x,b:/x", "a.b:/x,a-b:/y"] {
            let refusal = persistent_volume_claims(&configured(key, bad), FlinkVersion::V2_3).unwrap_err();
            assert!(
                matches!(refusal, InvalidSpecification::PersistentVolumeClaim { .. }),
                "{bad}: {refusal}"
            );
        }
    }
}
