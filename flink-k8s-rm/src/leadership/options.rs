//! How long leadership lasts and how often it is renewed.

use std::time::Duration;

/// The times of a [`Leadership`](super::Leadership). 15 s, 10 s and 2 s by default.
///
/// ```
/// # use std::time::Duration;
/// # use flink_k8s_rm::leadership::LeadershipOptions;
/// let seconds = Duration::from_secs;
/// let options = LeadershipOptions::new(seconds(30), seconds(20), seconds(4)).unwrap();
/// assert_eq!(options.lease_duration(), seconds(30));
/// assert!(LeadershipOptions::new(seconds(15), seconds(15), seconds(2)).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeadershipOptions {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Why times do not make a safe [`LeadershipOptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLeadershipOptions {
    /// A paused leader might still act while the next one starts.
    #[error(
        "a lease duration of {lease_duration:?} must be at least 1.2 times the renew deadline of {renew_deadline:?}"
    )]
    NoMargin {
        /// The lease duration.
        lease_duration: Duration,
        /// The renew deadline.
        renew_deadline: Duration,
    },
    /// One renewal that fails would end the leadership.
    #[error(
        "a renew deadline of {renew_deadline:?} must be at least twice the retry period of {retry_period:?}, which must not be 0"
    )]
    NoSecondTry {
        /// The renew deadline.
        renew_deadline: Duration,
        /// The retry period.
        retry_period: Duration,
    },
}

impl LeadershipOptions {
    /// Times that leave a margin between the end of one leadership and the start of the next.
    ///
    /// # Errors
    ///
    /// See [`InvalidLeadershipOptions`].
    pub fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, InvalidLeadershipOptions> {
        if lease_duration < renew_deadline + renew_deadline / 5 {
            return Err(InvalidLeadershipOptions::NoMargin {
                lease_duration,
                renew_deadline,
            });
        }
        if retry_period.is_zero() || renew_deadline < retry_period * 2 {
            return Err(InvalidLeadershipOptions::NoSecondTry {
                renew_deadline,
                retry_period,
            });
        }
        Ok(Self {
            lease_duration,
            renew_deadline,
            retry_period,
        })
    }

    /// How long others leave a lease alone that they do not see renewed.
    pub fn lease_duration(&self) -> Duration {
        self.lease_duration
    }

    /// How long after the start of the last renewal that succeeded the holder acts.
    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// How often the holder renews the lease, and how often others look at it.
    pub fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// How long one read or write of the lease may take, so that a second try is in time.
    pub(super) fn call_limit(&self) -> Duration {
        self.renew_deadline / 3
    }
}

impl Default for LeadershipOptions {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_a_margin_or_a_second_try_are_refused_with_the_reason() {
        let refusal = |lease, renew, retry| {
            let [lease, renew, retry] = [lease, renew, retry].map(Duration::from_secs);
            LeadershipOptions::new(lease, renew, retry)
                .unwrap_err()
                .to_string()
        };
        insta::assert_snapshot!(refusal(15, 14, 2), @"a lease duration of 15s must be at least 1.2 times the renew deadline of 14s");
        insta::assert_snapshot!(refusal(15, 10, 6), @"a renew deadline of 10s must be at least twice the retry period of 6s, which must not be 0");
        let default = LeadershipOptions::default();
        let again = LeadershipOptions::new(
            default.lease_duration,
            default.renew_deadline,
            default.retry_period,
        );
        assert_eq!(again, Ok(default));
    }
}
