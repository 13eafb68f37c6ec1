//! A part of memory that is a fraction of another, between two limits.

use super::invalid_memory_configuration::{InvalidMemoryConfiguration, MemoryPart};
use super::memory_size::MemorySize;
use crate::configuration::{ConfigOption, FlinkConfiguration};

/// The three options that determine such a part.
pub(super) struct RangeOptions {
    /// The part, in words.
    pub what: &'static str,
    /// Lower limit.
    pub min: &'static ConfigOption<MemorySize>,
    /// Upper limit.
    pub max: &'static ConfigOption<MemorySize>,
    /// The fraction.
    pub fraction: &'static ConfigOption<f32>,
}

/// A valid fraction with its limits.
pub(super) struct RangeFraction {
    what: &'static str,
    fraction_option: &'static str,
    min: MemoryPart,
    max: MemoryPart,
    fraction: f64,
}

impl RangeFraction {
    pub(super) fn from_configuration(
        configuration: &FlinkConfiguration,
        options: &RangeOptions,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let min = MemoryPart {
            option: options.min.key,
            size: configuration.get(options.min)?,
        };
        let max = MemoryPart {
            option: options.max.key,
            size: configuration.get(options.max)?,
        };
        Self::new(
            options.what,
            options.fraction.key,
            configuration.get(options.fraction)?,
            min,
            max,
        )
    }

    pub(super) fn new(
        what: &'static str,
        fraction_option: &'static str,
        fraction: f32,
        min: MemoryPart,
        max: MemoryPart,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        if (0.0..1.0).contains(&fraction) && min.size <= max.size {
            Ok(Self {
                what,
                fraction_option,
                min,
                max,
                fraction: f64::from(fraction),
            })
        } else {
            Err(InvalidMemoryConfiguration::InconsistentFraction {
                fraction_option,
                fraction,
                min,
                max,
            })
        }
    }

    /// The part of a whole which contains it.
    pub(super) fn of_whole(&self, whole: MemorySize) -> Result<MemorySize, InvalidMemoryConfiguration> {
        self.times(whole, self.fraction)
    }

    /// The part which, together with `rest`, makes up a whole.
    pub(super) fn beside(&self, rest: MemorySize) -> Result<MemorySize, InvalidMemoryConfiguration> {
        self.times(rest, self.fraction / (1.0 - self.fraction))
    }

    fn times(&self, base: MemorySize, factor: f64) -> Result<MemorySize, InvalidMemoryConfiguration> {
        let product = times(base, factor);
        let product = product.ok_or_else(|| InvalidMemoryConfiguration::TooLarge {
            options: vec![self.fraction_option],
        })?;
        Ok(product.clamp(self.min.size, self.max.size))
    }

    /// The part given by what the others leave, if it is within the limits.
    pub(super) fn rest(&self, left: MemorySize) -> Result<MemorySize, InvalidMemoryConfiguration> {
        if (self.min.size..=self.max.size).contains(&left) {
            return Ok(left);
        }
        let (min, max) = (self.min.clone(), self.max.clone());
        Err(InvalidMemoryConfiguration::RestOutOfRange {
            what: self.what,
            left,
            min,
            max,
        })
    }
}

/// The exact product of the size and the shortest decimal that denotes the factor, cut off to whole bytes.
/// `None` above the largest size.
fn times(size: MemorySize, factor: f64) -> Option<MemorySize> {
    let text = format!("{factor:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let fraction_digits = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let digits: u128 = mantissa.replace('.', "").parse().unwrap_or(0);
    // At most 17 digits times 63 bits: no overflow.
    let product = digits * u128::from(size.bytes());
    let exponent = exponent.parse::<i64>().unwrap_or(0) - i64::try_from(fraction_digits).unwrap_or(0);
    let power = u32::try_from(exponent.unsigned_abs())
        .ok()
        .and_then(|power| 10_u128.checked_pow(power));
    let bytes = match (power, exponent >= 0) {
        (Some(power), true) => product.saturating_mul(power),
        (Some(power), false) => product / power,
        (None, true) if product > 0 => u128::MAX,
        (None, _) => 0,
    };
    u64::try_from(bytes).ok().and_then(MemorySize::from_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(size: u64, factor: f64) -> u64 {
        times(MemorySize::from_bytes(size).unwrap(), factor)
            .unwrap()
            .bytes()
    }

    #[test]
    fn products_are_exact_decimals_cut_off() {
        assert_eq!(bytes(1_811_939_328, f64::from(0.1_f32)), 181_193_935);
        assert_eq!(bytes(10, 0.3), 3);
        assert_eq!(bytes(i64::MAX as u64, 1.0), i64::MAX as u64);
        assert_eq!(times(MemorySize::MAX, 16_777_215.0), None);
        assert_eq!(bytes(1000, 1e-300), 0);
        assert_eq!(bytes(0, 1e300), 0);
        assert_eq!(bytes(12345, 0.0), 0);
        assert_eq!(bytes(7, 2e2), 1400);
    }

    proptest! {
        #[test]
        fn a_fraction_of_the_whole_is_never_more_than_the_whole(size in 0..=i64::MAX as u64, fraction in 0.0_f32..1.0) {
            prop_assert!(bytes(size, f64::from(fraction)) <= size);
        }
    }
}
