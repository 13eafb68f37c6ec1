//! The state from which a job starts.

use crate::configuration::deployment_options::{
    ClaimMode, SAVEPOINT_CLAIM_MODE, SAVEPOINT_IGNORE_UNCLAIMED_STATE, SAVEPOINT_PATH,
};
use crate::configuration::{FlinkConfiguration, InvalidOptionValue, Origin};

/// A savepoint, or a checkpoint that was kept, from which a job starts.
///
/// ```
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # use flink_k8s_core::configuration::deployment_options::ClaimMode;
/// # use flink_k8s_core::configuration::InvalidOptionValue;
/// # use flink_k8s_core::restored_state::RestoredState;
/// let state = RestoredState::new("s3://bucket/savepoint-8099c1").with_claim_mode(ClaimMode::Claim);
/// let mut configuration = FlinkConfiguration::new();
/// state.write_to(&mut configuration, &Origin::CommandLine);
/// assert_eq!(RestoredState::read(&configuration)?, Some(state));
/// # Ok::<(), InvalidOptionValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoredState {
    /// Where it is, a URI that the JobManager can open.
    pub path: String,
    /// Who owns it once the job has started; without it, as the configuration says, else whoever took it.
    pub claim_mode: Option<ClaimMode>,
    /// Whether state that no operator takes is skipped; without it, the job refuses to start then.
    pub skips_unclaimed_state: bool,
}

impl RestoredState {
    /// The state at this address, every bit of which has to be taken.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            claim_mode: None,
            skips_unclaimed_state: false,
        }
    }

    /// Says who owns it once the job has started.
    #[must_use]
    pub fn with_claim_mode(mut self, claim_mode: ClaimMode) -> Self {
        self.claim_mode = Some(claim_mode);
        self
    }

    /// Skips state that no operator takes.
    #[must_use]
    pub fn skipping_unclaimed_state(mut self) -> Self {
        self.skips_unclaimed_state = true;
        self
    }

    /// The state from which the job of an application with this configuration starts; `None` if from none, or from what
    /// an earlier cluster of its name has left.
    ///
    /// # Errors
    ///
    /// When the value of an option cannot be read.
    pub fn read(configuration: &FlinkConfiguration) -> Result<Option<Self>, InvalidOptionValue> {
        let path = configuration.find(&SAVEPOINT_PATH)?;
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        let is_chosen = configuration.is_configured(&SAVEPOINT_CLAIM_MODE);
        let claim_mode = configuration.get(&SAVEPOINT_CLAIM_MODE)?;
        Ok(Some(Self {
            path,
            claim_mode: is_chosen.then_some(claim_mode),
            skips_unclaimed_state: configuration.get(&SAVEPOINT_IGNORE_UNCLAIMED_STATE)?,
        }))
    }

    /// Makes the job of an application with this configuration start from it.
    pub fn write_to(&self, configuration: &mut FlinkConfiguration, origin: &Origin) {
        configuration.set(SAVEPOINT_PATH.key, &self.path, origin.clone());
        if let Some(mode) = self.claim_mode {
            configuration.set(SAVEPOINT_CLAIM_MODE.key, mode.as_str(), origin.clone());
        }
        if self.skips_unclaimed_state {
            configuration.set(SAVEPOINT_IGNORE_UNCLAIMED_STATE.key, "true", origin.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_flink_gave_the_options_first_are_understood() {
        let mut configuration = FlinkConfiguration::new();
        assert_eq!(RestoredState::read(&configuration).unwrap(), None);
        for (key, value) in [
            ("execution.savepoint.path", "s3://bucket/savepoint-1"),
            ("execution.savepoint-restore-mode", "claim"),
            ("execution.savepoint.ignore-unclaimed-state", "true"),
        ] {
            configuration.set(key, value, Origin::CommandLine);
        }
        let expected = RestoredState::new("s3://bucket/savepoint-1")
            .with_claim_mode(ClaimMode::Claim)
            .skipping_unclaimed_state();
        assert_eq!(
            RestoredState::read(&configuration).unwrap(),
            Some(expected.clone())
        );
        // What is set later counts, also against an old name.
        let other = RestoredState::new("s3://bucket/savepoint-2").with_claim_mode(ClaimMode::NoClaim);
        other.write_to(&mut configuration, &Origin::CommandLine);
        let read = RestoredState::read(&configuration).unwrap().unwrap();
        assert_eq!(
            (read.path, read.claim_mode),
            (other.path, Some(ClaimMode::NoClaim))
        );
    }

    #[test]
    fn whose_savepoint_it_becomes_is_one_of_three_words() {
        let mut configuration = FlinkConfiguration::new();
        RestoredState::new("s3://bucket/savepoint-1").write_to(&mut configuration, &Origin::CommandLine);
        configuration.set(SAVEPOINT_CLAIM_MODE.key, "mine", Origin::CommandLine);
        let refusal = RestoredState::read(&configuration).unwrap_err().to_string();
        assert!(
            refusal.contains("execution.state-recovery.claim-mode"),
            "{refusal}"
        );
    }
}
