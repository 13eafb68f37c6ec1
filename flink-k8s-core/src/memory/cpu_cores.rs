//! A number of CPU cores, as exact as Flink counts them.

use std::fmt;

use crate::configuration::java_double_text;

/// A number of CPU cores with eight places after the point; more are cut off.
///
/// ```
/// # use flink_k8s_core::memory::CpuCores;
/// let cores = CpuCores::from_f64(2.5).unwrap();
/// assert_eq!(cores.to_string(), "2.5");
/// assert_eq!(CpuCores::from_f64(7.0).unwrap().java_text(), "7.0");
/// assert!(CpuCores::from_f64(-1.0).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuCores {
    hundred_millionths: u128,
}

const SCALE: u32 = 8;
const UNIT: u128 = 10_u128.pow(SCALE);

impl CpuCores {
    /// This many cores; nothing if that is negative, not a number or beyond all machines.
    pub fn from_f64(cores: f64) -> Option<Self> {
        if !(0.0..1e30).contains(&cores) {
            return None;
        }
        // Rust prints the shortest decimal that denotes the number, and no exponent.
        let text = cores.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let fraction: String = fraction
            .chars()
            .chain("00000000".chars())
            .take(SCALE as usize)
            .collect();
        let whole: u128 = whole.parse().ok()?;
        Some(Self {
            hundred_millionths: whole * UNIT + fraction.parse::<u128>().ok()?,
        })
    }

    /// The nearest floating-point number.
    pub fn as_f64(self) -> f64 {
        // The text of a decimal is always a number.
        self.to_string().parse().unwrap_or(f64::MAX)
    }

    /// As Flink passes it to a TaskManager: `1.0`.
    pub fn java_text(self) -> String {
        java_double_text(self.as_f64())
    }
}

/// Prints a plain decimal without trailing zeros.
impl fmt::Display for CpuCores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:08}", self.hundred_millionths % UNIT);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        write!(formatter, "{}{point}{fraction}", self.hundred_millionths / UNIT)
    }
}
