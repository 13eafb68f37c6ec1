//! The state of a job in files.

use std::fmt;

/// Part of the address of a checkpoint, before its number.
const CHECKPOINT: &str = "/chk-";

/// The address of a savepoint or of a checkpoint, a URI that JobManagers can open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(String);

impl Snapshot {
    /// The snapshot at this address.
    pub fn new(address: impl Into<String>) -> Self {
        Self(address.into())
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.0
    }

    /// The number of a checkpoint.
    pub fn checkpoint(&self) -> Option<u64> {
        self.0
            .rsplit_once(CHECKPOINT)?
            .1
            .trim_end_matches('/')
            .parse()
            .ok()
    }

    /// Another checkpoint of the same job, which is beside it; `None` beside a savepoint.
    ///
    /// ```
    /// # use flink_k8s_core::upgrade::Snapshot;
    /// let earlier = Snapshot::new("s3://bucket/8099/chk-7");
    /// assert_eq!(earlier.beside(9), Some(Snapshot::new("s3://bucket/8099/chk-9")));
    /// ```
    pub fn beside(&self, checkpoint: u64) -> Option<Self> {
        self.checkpoint()?;
        let (directory, _) = self.0.rsplit_once(CHECKPOINT)?;
        Some(Self(format!("{directory}{CHECKPOINT}{checkpoint}")))
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_savepoint_has_no_number_and_nothing_beside_it() {
        let savepoint = Snapshot::new("s3://bucket/savepoint-8099c1-0a1b");
        assert_eq!(savepoint.checkpoint(), None);
        assert_eq!(savepoint.beside(3), None);
        assert_eq!(Snapshot::new("file:/tmp/8099/chk-12/").checkpoint(), Some(12));
    }
}
