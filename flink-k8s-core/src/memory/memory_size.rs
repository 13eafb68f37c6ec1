//! Amounts of memory in Flink's grammar: `1600m`, `4 gb`, `65536`.

use std::fmt;

use crate::configuration::{MalformedValue, OptionValue, trim_like_java};

/// An amount of memory in bytes, at most 2^63 - 1.
///
/// ```
/// # use flink_k8s_core::memory::MemorySize;
/// let size: MemorySize = "1600m".parse()?;
/// assert_eq!(size.bytes(), 1_677_721_600);
/// assert_eq!(size.mebibytes(), 1600);
/// assert_eq!(size.to_string(), "1600 mb");
/// assert_eq!(size.readable(), "1.563gb (1677721600 bytes)");
/// # Ok::<(), flink_k8s_core::configuration::MalformedValue>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemorySize(u64);

/// Factors with the words for them; the second word is the one for printing.
const UNITS: [(u32, [&str; 3]); 4] = [
    (10, ["k", "kb", "kibibytes"]),
    (20, ["m", "mb", "mebibytes"]),
    (30, ["g", "gb", "gibibytes"]),
    (40, ["t", "tb", "tebibytes"]),
];

impl MemorySize {
    /// No memory.
    pub const ZERO: Self = Self(0);
    /// The largest amount, 2^63 - 1 bytes.
    pub const MAX: Self = Self(i64::MAX.unsigned_abs());

    /// This many bytes, or `None` above [`MemorySize::MAX`].
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        if bytes <= Self::MAX.0 {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// This many times 2^20 bytes.
    pub const fn from_mebibytes(mebibytes: u32) -> Self {
        Self((mebibytes as u64) << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of whole mebibytes, rounded down.
    pub const fn mebibytes(self) -> u64 {
        self.0 >> 20
    }

    /// The sum, or `None` above [`MemorySize::MAX`].
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(bytes) => Self::from_bytes(bytes),
            None => None,
        }
    }

    /// The difference, or `None` where `other` is larger.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The text for people that Flink's own messages use, such as `1.563gb (1677721600 bytes)`.
    pub fn readable(self) -> String {
        let unit = UNITS.iter().rev().find(|(shift, _)| self.0 > 1 << shift);
        let Some((shift, words)) = unit else {
            return format!("{} bytes", self.0);
        };
        // Rounded half up to three places, in integers: the value may have more than 53 bits.
        let thousandths = ((u128::from(self.0) * 1000) + (1 << (shift - 1))) >> shift;
        format!(
            "{}.{:03}{} ({} bytes)",
            thousandths / 1000,
            thousandths % 1000,
            words[1],
            self.0
        )
    }
}

/// Prints as Flink writes it into a configuration file: the largest unit that divides it exactly, except
/// that multiples of a tebibyte are printed in bytes.
impl fmt::Display for MemorySize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divides = |shift: u32| self.0.trailing_zeros() >= shift;
        let unit = UNITS.iter().rev().find(|(shift, _)| divides(*shift));
        match unit {
            Some((shift, words)) if *shift < 40 => write!(formatter, "{} {}", self.0 >> shift, words[1]),
            _ => write!(formatter, "{} bytes", self.0),
        }
    }
}

impl std::str::FromStr for MemorySize {
    type Err = MalformedValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl OptionValue for MemorySize {
    const EXPECTED: &'static str = "memory size";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        let text = trim_like_java(text);
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        if digits.is_empty() {
            return Err(malformed("the text does not start with digits"));
        }
        let number: i64 = digits
            .parse()
            .map_err(|_| malformed("the number does not fit into 64 bits"))?;
        let unit = trim_like_java(unit).to_lowercase();
        let shift = match unit.as_str() {
            "" | "b" | "bytes" => 0,
            word => match UNITS.iter().find(|(_, words)| words.contains(&word)) {
                Some((shift, _)) => *shift,
                None => {
                    return Err(malformed(&format!(
                        "{word:?} is none of the units b, kb, mb, gb, tb (or their names)"
                    )));
                }
            },
        };
        number
            .unsigned_abs()
            .checked_mul(1 << shift)
            .and_then(Self::from_bytes)
            .ok_or_else(|| malformed("it is 2^63 bytes or more"))
    }
}

fn malformed(problem: &str) -> MalformedValue {
    MalformedValue(format!(
        "expected a memory size such as 1600m or 4 gb, but {problem}"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_may_be_words_and_letters_in_any_case() {
        for (text, bytes) in [
            ("1024", 1024),
            (" 2 g ", 2 << 30),
            ("1G", 1 << 30),
            ("1gb", 1 << 30),
            ("007k", 7168),
            ("1 Tebibytes", 1 << 40),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(MemorySize::parse(text).unwrap().bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn a_text_that_flink_refuses_is_refused_with_the_expected_form() {
        for text in [
            "",
            "  ",
            "m",
            "-1",
            "+1",
            "1.5g",
            "1gib",
            "1e3",
            "9223372036854775808",
            "8796093022208m",
        ] {
            let refusal = MemorySize::parse(text).unwrap_err().to_string();
            assert!(
                refusal.starts_with("expected a memory size such as 1600m"),
                "{text}: {refusal}"
            );
        }
    }

    #[test]
    fn the_text_for_people_takes_the_largest_unit_that_is_strictly_smaller() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1024, "1024 bytes"),
            (1025, "1.001kb (1025 bytes)"),
            (1 << 20, "1024.000kb (1048576 bytes)"),
            (1_677_721_600, "1.563gb (1677721600 bytes)"),
        ] {
            assert_eq!(MemorySize::from_bytes(bytes).unwrap().readable(), text);
        }
    }

    #[test]
    fn multiples_of_a_tebibyte_are_written_in_bytes() {
        assert_eq!(MemorySize::ZERO.to_string(), "0 bytes");
        assert_eq!(
            MemorySize::parse("2t").unwrap().to_string(),
            "2199023255552 bytes"
        );
        assert_eq!(
            MemorySize::parse("2048g").unwrap().to_string(),
            "2199023255552 bytes"
        );
        assert_eq!(MemorySize::parse("3g").unwrap().to_string(), "3 gb");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_as_the_same_size(bytes in 0..=MemorySize::MAX.bytes()) {
            let size = MemorySize::from_bytes(bytes).unwrap();
            prop_assert_eq!(MemorySize::parse(&size.to_string()), Ok(size));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,12}") {
            let _ = MemorySize::parse(&text);
        }
    }
}
