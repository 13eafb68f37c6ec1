//! What the exit codes of Flink's processes mean.

/// What this exit code of a JobManager or TaskManager means, where it is known to mean something.
pub(super) fn meaning(exit_code: i32) -> Option<&'static str> {
    Some(match exit_code {
        1 => "the program could not start, or its configuration is refused",
        2 => "the program failed while it ran",
        3 => "the JVM ended itself because its heap was used up",
        126 => "the command is not executable",
        127 => "the command was not found in the image",
        128 => "the container could not be started",
        134 => "the JVM aborted",
        137 => "killed from outside, by the node or for its memory",
        139 => "the process accessed memory that it must not",
        143 => "told to end by SIGTERM",
        // 1443 and 1445, of which the system keeps eight bits.
        163 => "the job of the cluster failed",
        165 => "the job of the cluster ended and nobody knows how",
        // -17
        239 => "a thread of Flink's failed, which it takes for fatal",
        _ => return None,
    })
}
