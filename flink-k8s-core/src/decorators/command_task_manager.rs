//! What a TaskManager's main container runs.

use super::command_job_manager::words;
use super::{FLINK_CONF_DIR, FlinkPod, PROGRAM_DIRECTORY};
use crate::configuration::common_options::TASK_MANAGER_RPC_PORT;
use crate::configuration::flink_k8s_options::ResourceManagerKind;
use crate::configuration::kubernetes_options::TASK_MANAGER_ENTRYPOINT_ARGS;
use crate::memory::TaskManagerProcessMemory;
use crate::parameters::InvalidSpecification;
use crate::parameters::task_manager::TaskManagerParameters;
use crate::task_manager::WorkerRequest;

/// Sets command and arguments, whatever the template says.
///
/// Where Flink manages its workers, the arguments are one line for upstream's shell script, and the JVM's
/// memory options are in the environment. Where we do, each setting is one argument of our program, which
/// derives the memory options itself. The user's own arguments follow; Kubernetes replaces `$(NAME)` in
/// them, as it does in any container's arguments.
pub(crate) fn decorate(
    mut pod: FlinkPod,
    parameters: &TaskManagerParameters,
    request: &WorkerRequest,
    memory: &TaskManagerProcessMemory,
) -> Result<FlinkPod, InvalidSpecification> {
    let arguments = &parameters.entrypoint_arguments;
    let container = &mut pod.main_container;
    match parameters.cluster.resource_manager {
        ResourceManagerKind::Flink => {
            container.command = Some(vec![parameters.cluster.entry_path.clone()]);
            let settings: Vec<String> = request.dynamic_properties.iter().map(in_shell).collect();
            let script = format!("kubernetes-taskmanager.sh {} {arguments}", settings.join(" "));
            container.args = Some(vec!["bash".to_owned(), "-c".to_owned(), script]);
            pod.add_environment_value("FLINK_TM_JVM_MEM_OPTS", &memory.jvm_options().join(" "));
        }
        ResourceManagerKind::Rust => {
            container.command = Some(vec![format!("{PROGRAM_DIRECTORY}/flink-k8s-taskmanager")]);
            // On the host network there may be several on a node.
            let rpc_port = (
                TASK_MANAGER_RPC_PORT.key.to_owned(),
                parameters.rpc_port.to_string(),
            );
            let random_port = parameters.cluster.host_network.then_some(&rpc_port);
            let settings = random_port.into_iter().chain(&request.dynamic_properties);
            let mut all: Vec<String> = settings
                .map(|(key, value)| unexpanded(&format!("-D{key}={value}")))
                .collect();
            all.extend(words(arguments, TASK_MANAGER_ENTRYPOINT_ARGS.key)?.unwrap_or_default());
            container.args = Some(all);
            pod.add_environment_value(FLINK_CONF_DIR, &parameters.cluster.configuration_directory);
        }
    }
    Ok(pod)
}

/// A setting as the shell must read it: inside single quotes nothing but the quote itself is special.
fn in_shell((key, value): &(String, String)) -> String {
    format!("-D{key}='{}'", value.replace('\'', r"'\''"))
}

/// An argument that reaches the program as it is: Kubernetes replaces `$$` and `$(NAME)` otherwise.
fn unexpanded(argument: &str) -> String {
    let mut escaped = String::with_capacity(argument.len());
    let mut characters = argument.chars().peekable();
    while let Some(character) = characters.next() {
        escaped.push(character);
        if character == '$' && matches!(characters.peek(), Some('$' | '(')) {
            escaped.push('$');
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_finds_nothing_to_replace_in_a_setting() {
        let cases = [
            ("-Da=$HOME", "-Da=$HOME"),
            ("-Da=$(HOME)", "-Da=$$(HOME)"),
            ("-Da=a$$b", "-Da=a$$$b"),
            ("-Da=$$(x)$", "-Da=$$$$(x)$"),
        ];
        for (setting, escaped) in cases {
            assert_eq!(unexpanded(setting), escaped);
            assert_eq!(expanded_by_kubernetes(escaped), setting);
        }
    }

    /// The kubelet's rule, where no variable of the container has the name.
    fn expanded_by_kubernetes(argument: &str) -> String {
        let mut expanded = String::new();
        let mut rest = argument;
        while let Some(position) = rest.find('$') {
            expanded.push_str(&rest[..position]);
            rest = &rest[position + 1..];
            expanded.push('$');
            if let Some(after) = rest.strip_prefix('$') {
                rest = after;
            } else {
                assert!(!rest.starts_with('('), "a reference is left in {argument}");
            }
        }
        expanded + rest
    }

    #[test]
    fn the_shell_reads_back_whatever_a_value_holds() {
        for value in [
            "plain",
            "a b",
            "a'b",
            "$HOME `id` $(id)",
            r#"back\slash "q""#,
            "line1\nline2",
            "",
        ] {
            let word = in_shell(&("weird.key".to_owned(), value.to_owned()));
            assert_eq!(shlex::split(&word).unwrap(), [format!("-Dweird.key={value}")]);
        }
    }
}
