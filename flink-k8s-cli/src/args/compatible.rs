//! Arguments of `kubernetes-session` and `kubernetes-job`, the names that Flink's users know.

use clap::Parser;

use super::application::ApplicationStartArguments;
use super::{DryRun, DynamicProperties};

/// Starts a session cluster, or attaches to one.
#[derive(Debug, Parser)]
#[command(
    name = "kubernetes-session",
    version,
    about = "Starts a Flink session cluster on Kubernetes, or finds the one that is there",
    after_help = "With -Dexecution.attached=true it stays and reads commands, as `flink-k8s session attach` does: help, \
status, quit (the cluster goes on), stop (the cluster is removed).
`flink-k8s session start` starts a cluster, too, and waits until the JobManager answers.

EXIT CODES: 0 success, 1 the request cannot be done as asked, 2 wrong usage, 3 a failure outside, 130 interrupted."
)]
pub(crate) struct KubernetesSessionArguments {
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Taken for compatibility; the target is always kubernetes-session
    #[arg(
        short,
        long,
        visible_short_alias = 'e',
        visible_alias = "executor",
        value_name = "TARGET"
    )]
    pub(crate) target: Option<String>,
    /// Only ask: `server` lets Kubernetes check every object without storing it, `client` asks nobody
    #[arg(long, value_enum, value_name = "WHERE")]
    pub(crate) dry_run: Option<DryRun>,
}

/// Starts a cluster for one job.
#[derive(Debug, Parser)]
#[command(
    name = "kubernetes-job",
    version,
    about = "Starts a Flink cluster on Kubernetes that runs one job and ends with it",
    after_help = "The program is a jar of this machine, is in the image: local:///path/of.jar, or is what is found in usrlib of Flink's home and, since \
Flink 2.1, on Flink's class path. What follows the jar belongs to the program and reaches it as it is.

It returns when the cluster is deployed. With -Dexecution.attached=true it follows the job to its end, and the exit code \
tells how that was. `flink-k8s application start` does the same, and follows the job unless told otherwise.

EXIT CODES: 0 the cluster is deployed (attached: the job finished), 1 the job failed or was cancelled, or the request \
cannot be done as asked, 2 wrong usage, 3 a failure outside, 130 interrupted; the job then goes on."
)]
pub(crate) struct KubernetesJobArguments {
    #[command(flatten)]
    pub(crate) start: ApplicationStartArguments,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_lines_are_consistent() {
        KubernetesSessionArguments::command().debug_assert();
        KubernetesJobArguments::command().debug_assert();
    }

    #[test]
    fn the_commands_that_users_know_parse_word_for_word() {
        let line = "kubernetes-session -Dkubernetes.cluster-id=flink-native-k8s-session-1 \
                    -Dkubernetes.container.image=flink:k8s -Djobmanager.heap.size=4096m \
                    -Dtaskmanager.memory.process.size=4096m -Dtaskmanager.numberOfTaskSlots=4 \
                    -Dkubernetes.jobmanager.cpu=1 -Dkubernetes.taskmanager.cpu=2 \
                    -Dkubernetes.container.image.pull-policy=Always";
        let session = KubernetesSessionArguments::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!(session.dynamic.properties.len(), 8);
        assert_eq!(
            session.dynamic.properties[2],
            ("jobmanager.heap.size".to_owned(), "4096m".to_owned())
        );
        let line =
            "kubernetes-session -Dkubernetes.cluster-id=flink-native-k8s-session-1 -Dexecution.attached=true";
        let attached = KubernetesSessionArguments::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!(attached.dynamic.properties[1].0, "execution.attached");
        let line = "kubernetes-job -Dkubernetes.cluster-id=flink-native-k8s-perjob-1 \
                    -Dkubernetes.container.image=flink:k8s -Djobmanager.heap.size=4096m \
                    -Dtaskmanager.memory.total-process.size=4096m -Dtaskmanager.numberOfTaskSlots=4";
        let job = KubernetesJobArguments::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!(job.start.application.dynamic.properties.len(), 5);
        assert_eq!(job.start.application.jar, None);
    }
}
