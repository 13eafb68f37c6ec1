//! What the JobManager's main container runs.

use super::{FLINK_CONF_DIR, FlinkPod, PROGRAM_DIRECTORY};
use crate::configuration::flink_k8s_options::ResourceManagerKind;
use crate::configuration::kubernetes_options::JOB_MANAGER_ENTRYPOINT_ARGS;
use crate::job_manager::APPLICATION_TARGET;
use crate::parameters::InvalidSpecification;
use crate::parameters::job_manager::JobManagerParameters;

/// Sets command and arguments, whatever the template says.
///
/// Where Flink manages its workers, upstream's shell script starts the JobManager. Where we do, our
/// program does, and gets the user's arguments as a shell would have split them.
pub(crate) fn decorate(
    mut pod: FlinkPod,
    parameters: &JobManagerParameters,
) -> Result<FlinkPod, InvalidSpecification> {
    let (target, arguments) = (parameters.target, &parameters.entrypoint_arguments);
    let container = &mut pod.main_container;
    match parameters.cluster.resource_manager {
        ResourceManagerKind::Flink => {
            container.command = Some(vec![parameters.cluster.entry_path.clone()]);
            let script = format!("kubernetes-jobmanager.sh {target} {arguments}");
            container.args = Some(vec!["bash".to_owned(), "-c".to_owned(), script]);
        }
        ResourceManagerKind::Rust => {
            let program = if target == APPLICATION_TARGET {
                "flink-k8s-job"
            } else {
                "flink-k8s-session"
            };
            container.command = Some(vec![format!("{PROGRAM_DIRECTORY}/{program}")]);
            container.args = words(arguments, JOB_MANAGER_ENTRYPOINT_ARGS.key)?;
            pod.add_environment_value(FLINK_CONF_DIR, &parameters.cluster.configuration_directory);
        }
    }
    Ok(pod)
}

/// The words of these arguments, or nothing where there are none.
pub(super) fn words(arguments: &str, key: &'static str) -> Result<Option<Vec<String>>, InvalidSpecification> {
    let words = shlex::split(arguments).ok_or_else(|| InvalidSpecification::Unquotable {
        key,
        value: arguments.to_owned(),
    })?;
    Ok((!words.is_empty()).then_some(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_as_a_shell_would_and_unmatched_quotes_are_refused() {
        let key = JOB_MANAGER_ENTRYPOINT_ARGS.key;
        assert_eq!(words("", key).unwrap(), None);
        assert_eq!(
            words("-Dx=y --z 'a b'", key).unwrap().unwrap(),
            ["-Dx=y", "--z", "a b"]
        );
        let refusal = words("--z 'a b", key).unwrap_err().to_string();
        assert!(refusal.contains(key) && refusal.contains("--z 'a b"), "{refusal}");
    }
}
