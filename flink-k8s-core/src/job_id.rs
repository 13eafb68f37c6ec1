//! The id of a Flink job.

use std::fmt;
use std::str::FromStr;

/// Id of a Flink job: 16 bytes, written as 32 lowercase hexadecimal digits.
///
/// ```
/// # use flink_k8s_core::job_id::{InvalidJobId, JobId};
/// let job_id: JobId = "8099C1D8E3A2B4F50617283940a1b2c3".parse()?;
/// assert_eq!(job_id.to_string(), "8099c1d8e3a2b4f50617283940a1b2c3");
/// # Ok::<(), InvalidJobId>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId([u8; 16]);

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a job id: 32 hexadecimal digits are expected")]
pub struct InvalidJobId(String);

impl JobId {
    /// The id of these bytes, for callers that choose the id of a job before they submit it.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id that Flink gives to the job of a highly available application cluster, so that it is the same after a
    /// restart: the hash of the cluster's name, as Java computes it.
    ///
    /// ```
    /// # use flink_k8s_core::job_id::JobId;
    /// let job_id = JobId::of_highly_available_cluster("orders");
    /// assert_eq!(job_id.to_string(), "ffffffffc3df62e50000000000000000");
    /// ```
    pub fn of_highly_available_cluster(name: &str) -> Self {
        let hash = name.encode_utf16().fold(0_i32, |hash, unit| {
            hash.wrapping_mul(31).wrapping_add(i32::from(unit))
        });
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&i64::from(hash).to_be_bytes());
        Self(bytes)
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits_only = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = digits_only.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        value
            .map(|value| Self(value.to_be_bytes()))
            .ok_or_else(|| InvalidJobId(text.to_owned()))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn signs_blanks_and_other_lengths_are_refused() {
        for text in [
            "",
            "+0000000000000000000000000000001",
            "zz",
            &"0".repeat(31),
            &"0".repeat(33),
        ] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_id_survives_printing_and_parsing(bytes: [u8; 16]) {
            let job_id = JobId::from_bytes(bytes);
            prop_assert_eq!(job_id.to_string().parse::<JobId>(), Ok(job_id));
        }
    }
}
