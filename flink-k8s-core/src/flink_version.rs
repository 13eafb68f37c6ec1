//! The Flink versions whose clusters we make.

use std::fmt;
use std::str::FromStr;

/// Minor version of Flink (`flink-k8s.flink-version`); decides file names, option renames and defaults.
///
/// ```
/// # use flink_k8s_core::flink_version::FlinkVersion;
/// assert_eq!("2.1".parse(), Ok(FlinkVersion::V2_1));
/// assert_eq!("1.20.5".parse(), Ok(FlinkVersion::V1_20));
/// assert!(FlinkVersion::V1_20 < FlinkVersion::V2_1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FlinkVersion {
    /// 1.20, with long-term support.
    V1_20,
    /// 2.1
    #[default]
    V2_1,
    /// 2.2
    V2_2,
    /// 2.3
    V2_3,
}

/// The text names no version that we support.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Flink {0:?} is not supported: expected one of 1.20, 2.1, 2.2, 2.3")]
pub struct UnsupportedFlinkVersion(String);

impl FlinkVersion {
    /// All supported versions, oldest first.
    pub const ALL: [Self; 4] = [Self::V1_20, Self::V2_1, Self::V2_2, Self::V2_3];

    /// The version as `major.minor`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_20 => "1.20",
            Self::V2_1 => "2.1",
            Self::V2_2 => "2.2",
            Self::V2_3 => "2.3",
        }
    }
}

impl FromStr for FlinkVersion {
    type Err = UnsupportedFlinkVersion;

    /// Reads `major.minor`, or `major.minor.patch`, whose patch number is ignored.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let matches = |version: &Self| {
            text.strip_prefix(version.as_str()).is_some_and(|rest| {
                rest.is_empty()
                    || rest.strip_prefix('.').is_some_and(|patch| {
                        !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit())
                    })
            })
        };
        Self::ALL
            .into_iter()
            .find(matches)
            .ok_or_else(|| UnsupportedFlinkVersion(text.to_owned()))
    }
}

impl fmt::Display for FlinkVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_not_taken_for_another_that_begins_alike() {
        for text in ["2.10", "2.1x", "2.1.", "2", "", "1.2", "1.19", "v2.1"] {
            assert!(text.parse::<FlinkVersion>().is_err(), "{text}");
        }
        assert_eq!("2.1.3".parse(), Ok(FlinkVersion::V2_1));
    }
}
