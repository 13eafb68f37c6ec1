//! Where a value of the configuration came from.

use std::fmt;

/// Where a value came from, from the weakest source to the strongest. Prints as users would say it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Origin {
    /// The option's own default.
    Default,
    /// A configuration file.
    File(String),
    /// An environment variable.
    Environment(String),
    /// `-Dkey=value` or another flag.
    CommandLine,
    /// Computed by us while the cluster was prepared, for this reason.
    Derived(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path) => write!(formatter, "file {path}"),
            Self::Environment(variable) => write!(formatter, "environment variable {variable}"),
            Self::CommandLine => formatter.write_str("command line"),
            Self::Derived(reason) => write!(formatter, "set by flink-k8s ({reason})"),
        }
    }
}
