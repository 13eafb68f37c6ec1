//! When an application cluster ends, with our resource manager.
//!
//! Flink's JobManager removes its cluster in the moment in which the program has ended, so that nobody can ask any
//! more how it did. So it is told to stay, and our entrypoint sees the end of the job and removes the cluster. For
//! that the job has an id that is known beforehand, and a program that fails before it has a job leaves a failed one.

use crate::configuration::flink_k8s_options::{self, OnFinish};
use crate::configuration::{
    FlinkConfiguration, Origin, deployment_options, high_availability_options, kubernetes_options,
};
use crate::flink_version::FlinkVersion;
use crate::job_id::JobId;
use crate::parameters::InvalidSpecification;

const OURS: Origin = Origin::Derived("our entrypoint sees the end of the job");

/// Sets what the JobManager and our entrypoint have to know. Who sets Flink's own option gets Flink's own ways.
pub(super) fn set(configuration: &mut FlinkConfiguration) -> Result<(), InvalidSpecification> {
    let shutdown = &deployment_options::SHUTDOWN_ON_APPLICATION_FINISH;
    let option = &flink_k8s_options::ON_FINISH;
    let is_chosen = configuration.is_configured(option);
    if is_chosen && configuration.is_configured(shutdown) {
        let (ours, flinks) = (option.key, shutdown.key);
        return Err(InvalidSpecification::TwoEnds { ours, flinks });
    }
    let is_flinks_choice = configuration.is_configured(shutdown);
    let on_finish = if is_flinks_choice && !configuration.get(shutdown)? {
        OnFinish::Keep
    } else {
        configuration.get(option)?
    };
    if on_finish == OnFinish::Delete && is_flinks_choice {
        return Ok(());
    }
    configuration.set(shutdown.key, "false", OURS);
    configuration.set(option.key, on_finish.to_string(), OURS);
    let failed_job = &deployment_options::SUBMIT_FAILED_JOB_ON_APPLICATION_ERROR;
    if !configuration.is_configured(failed_job) {
        configuration.set(failed_job.key, "true", OURS);
    }
    set_job_id(configuration)
}

/// With high availability the id follows from the cluster's name, by Flink's own rule: a cluster of that name goes on
/// with the job. Otherwise whoever deploys chooses one, or our entrypoint does.
fn set_job_id(configuration: &mut FlinkConfiguration) -> Result<(), InvalidSpecification> {
    let option = &deployment_options::FIXED_JOB_ID;
    if let Some(job_id) = configuration.find(option)? {
        let checked = job_id.parse::<JobId>();
        return checked.map(drop).map_err(|source| InvalidSpecification::JobId {
            key: option.key,
            source,
        });
    }
    let is_available = configuration
        .get(&high_availability_options::HIGH_AVAILABILITY_TYPE)?
        .is_active();
    let cluster_id = configuration.find(&kubernetes_options::CLUSTER_ID)?;
    let (true, Some(cluster_id)) = (is_available, cluster_id) else {
        return Ok(());
    };
    let version = configuration.get(&flink_k8s_options::FLINK_VERSION)?;
    let given = configuration.find(&deployment_options::FLINK_CLUSTER_ID)?;
    let job_id = match given.filter(|_| version >= FlinkVersion::V2_3) {
        Some(id) => id,
        None => JobId::of_highly_available_cluster(&cluster_id).to_string(),
    };
    configuration.set(option.key, job_id, OURS);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lived(entries: &[(&str, &str)]) -> Result<FlinkConfiguration, String> {
        let mut configuration = FlinkConfiguration::new();
        configuration.set("kubernetes.cluster-id", "orders", Origin::CommandLine);
        for (key, value) in entries {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        set(&mut configuration).map_err(|refusal| refusal.to_string())?;
        Ok(configuration)
    }

    fn text(configuration: &FlinkConfiguration, key: &str) -> Option<String> {
        configuration.setting(key).map(|setting| setting.text.clone())
    }

    const SHUTDOWN: &str = "execution.shutdown-on-application-finish";
    const ON_FINISH: &str = "flink-k8s.application.on-finish";
    const JOB_ID: &str = "$internal.pipeline.job-id";

    #[test]
    fn the_job_manager_stays_and_our_entrypoint_removes_the_cluster() {
        for (given, expected) in [
            (None, "delete"),
            (Some("keep"), "keep"),
            (Some("keep-for=90s"), "keep-for 90 s"),
        ] {
            let entries: Vec<_> = given.iter().map(|value| (ON_FINISH, *value)).collect();
            let configuration = lived(&entries).unwrap();
            assert_eq!(text(&configuration, SHUTDOWN).as_deref(), Some("false"));
            assert_eq!(text(&configuration, ON_FINISH).as_deref(), Some(expected));
            let failed_job = "execution.submit-failed-job-on-application-error";
            assert_eq!(text(&configuration, failed_job).as_deref(), Some("true"));
            assert_eq!(text(&configuration, JOB_ID), None, "whoever deploys chooses it");
        }
    }

    #[test]
    fn flinks_own_option_leaves_the_end_to_flink() {
        let removes_itself = lived(&[(SHUTDOWN, "true")]).unwrap();
        assert_eq!(text(&removes_itself, ON_FINISH), None);
        assert_eq!(text(&removes_itself, JOB_ID), None);
        let stays = lived(&[(SHUTDOWN, "false")]).unwrap();
        assert_eq!(text(&stays, ON_FINISH).as_deref(), Some("keep"));
        let refusal = lived(&[(SHUTDOWN, "true"), (ON_FINISH, "keep")]).unwrap_err();
        assert!(
            refusal.contains(SHUTDOWN) && refusal.contains(ON_FINISH),
            "{refusal}"
        );
    }

    #[test]
    fn with_high_availability_the_job_of_a_name_has_one_id() {
        let available = ("high-availability.type", "kubernetes");
        let id = |entries: &[(&str, &str)]| text(&lived(entries).unwrap(), JOB_ID);
        // "orders".hashCode() in Java is -1008770331.
        assert_eq!(
            id(&[available]).as_deref(),
            Some("ffffffffc3df62e50000000000000000")
        );
        let given = "0123456789abcdef0123456789abcdef";
        assert_eq!(id(&[available, (JOB_ID, given)]).as_deref(), Some(given));
        let cluster = [available, ("cluster.id", given)];
        assert_ne!(id(&cluster).as_deref(), Some(given), "2.1 does not know it");
        let newer = [
            available,
            ("cluster.id", given),
            ("flink-k8s.flink-version", "2.3"),
        ];
        assert_eq!(id(&newer).as_deref(), Some(given));
        let refusal = lived(&[(JOB_ID, "job-1")]).unwrap_err();
        assert!(refusal.contains(JOB_ID), "{refusal}");
    }
}
