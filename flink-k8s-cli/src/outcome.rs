//! How a command ended, and the exit code that says so.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was asked for is done. Exit code 0.
    Success,
    /// The request cannot be done as asked: no such cluster, name taken, job failed. Exit code 1.
    UserError,
    /// The command line or an option's value is wrong. Exit code 2.
    Usage,
    /// Something outside failed: Kubernetes, the network, the disk. Exit code 3.
    Failure,
    /// The user interrupted the command. Exit code 130, as of a program that SIGINT ended.
    Interrupted,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Success => 0,
            Outcome::UserError => 1,
            Outcome::Usage => 2,
            Outcome::Failure => 3,
            Outcome::Interrupted => 130,
        })
    }
}
