//! What a scalar means, by YAML's core schema, and Java's text for numbers.

use std::fmt::Write as _;

use super::Yaml;

/// The value of a scalar: by its tag, by its looks if it is plain, else text.
pub(super) fn resolve(text: &str, is_plain: bool, tag: Option<&str>) -> Result<Yaml, String> {
    match tag {
        None if is_plain => {
            plain(text).ok_or_else(|| format!("{text:?} is not a number that Flink can read"))
        }
        None | Some("str") => Ok(Yaml::Text(text.to_owned())),
        Some("null") => Ok(Yaml::Null),
        Some("bool") => Ok(boolean(text).map_or(Yaml::Null, Yaml::Bool)),
        Some("int") => integer(text)
            .map(Yaml::Int)
            .ok_or_else(|| format!("{text:?} is not a whole number")),
        Some("float") => integer(text)
            .and_then(|digits| digits.parse().ok())
            .or_else(|| float(text))
            .map(Yaml::Float)
            .ok_or_else(|| format!("{text:?} is not a number")),
        Some(tag) => Err(format!("the tag {tag} does not fit a single value")),
    }
}

/// The value of a scalar without quotes or a tag; nothing for `+.inf`, which Flink chokes on.
pub(super) fn plain(text: &str) -> Option<Yaml> {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Some(Yaml::Null);
    }
    if matches!(text, "+.inf" | "+.Inf" | "+.INF") {
        return None;
    }
    let value = boolean(text).map(Yaml::Bool);
    let value = value.or_else(|| integer(text).map(Yaml::Int));
    let value = value.or_else(|| float(text).map(Yaml::Float));
    Some(value.unwrap_or_else(|| Yaml::Text(text.to_owned())))
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// The digits of a whole number in decimal, without leading zeros.
fn integer(text: &str) -> Option<String> {
    if let Some(digits) = text.strip_prefix("0x") {
        return to_decimal(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return to_decimal(digits, 8);
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = to_decimal(digits, 10)?;
    Some(if digits == "0" {
        digits
    } else {
        format!("{sign}{digits}")
    })
}

/// Numbers of any size are counted in groups of nine decimal digits, the least significant group first.
const GROUP: u64 = 1_000_000_000;

/// Converts digits of any number to decimal; they may be more than any machine word holds.
fn to_decimal(digits: &str, radix: u32) -> Option<String> {
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    if radix == 10 {
        let significant = digits.trim_start_matches('0');
        return Some(if significant.is_empty() { "0" } else { significant }.to_owned());
    }
    let mut groups: Vec<u64> = vec![0];
    for digit in digits.chars() {
        let mut carry = u64::from(digit.to_digit(radix)?);
        for group in &mut groups {
            let value = *group * u64::from(radix) + carry;
            *group = value % GROUP;
            carry = value / GROUP;
        }
        if carry > 0 {
            groups.push(carry);
        }
    }
    let (highest, lower) = groups.split_last()?;
    let mut decimal = highest.to_string();
    for group in lower.iter().rev() {
        // Writing to a String cannot fail.
        let _ = write!(decimal, "{group:09}");
    }
    Some(decimal)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, and the names of infinity and of no number.
fn float(text: &str) -> Option<f64> {
    match text {
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        ".inf" | ".Inf" | ".INF" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (mantissa, ""),
    };
    let exponent_is_valid = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    let is_number = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    (is_number && exponent_is_valid)
        .then(|| text.parse().ok())
        .flatten()
}

/// A number as YAML, with Java's digits.
pub(super) fn float_text(number: f64) -> String {
    if number.is_nan() {
        ".nan".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { ".inf" } else { "-.inf" }.to_owned()
    } else {
        java_double_text(number)
    }
}

/// The text that `Double.toString` gives a finite number: `1.0`, `1.0E7`, `1.0E-4`.
pub(crate) fn java_double_text(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        let text = number.to_string();
        return if text.contains('.') {
            text
        } else {
            format!("{text}.0")
        };
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => text,
    }
}
