//! Amounts as Kubernetes writes them: `500m`, `1.5Gi`, `2e3`.

use std::cmp::Ordering;

/// Billionths of a unit, the smallest amount that has a suffix.
const NANO_DIGITS: i32 = 9;

/// The amount in billionths of the unit; `None` when the text is not a quantity.
///
/// Digits below a billionth are rounded up, as Kubernetes does.
pub(super) fn nano_units(text: &str) -> Option<i128> {
    let digits_end = text
        .char_indices()
        .find(|(index, character)| {
            !(character.is_ascii_digit()
                || *character == '.'
                || *index == 0 && matches!(character, '+' | '-'))
        })
        .map_or(text.len(), |(index, _)| index);
    let (number, suffix) = text.split_at(digits_end);
    let (binary, decimal_exponent) = scale(suffix)?;
    let (negative, number) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = mantissa.checked_mul(binary)?;
    let exponent = decimal_exponent + NANO_DIGITS - i32::try_from(fraction.len()).ok()?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    let amount = match exponent.cmp(&0) {
        Ordering::Less => (scaled + power - 1) / power,
        Ordering::Equal | Ordering::Greater => scaled.checked_mul(power)?,
    };
    Some(if negative { -amount } else { amount })
}

/// Factor and decimal exponent of a suffix.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 0));
    let decimal = |exponent| Some((1, exponent));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: i128 = 1_000_000_000;

    #[test]
    fn every_way_to_write_an_amount_is_understood() {
        for (text, expected) in [
            ("0", 0),
            ("2", 2 * UNIT),
            ("500m", UNIT / 2),
            ("0.5", UNIT / 2),
            (".5", UNIT / 2),
            ("1.", UNIT),
            ("1.5Gi", 1536 * 1024 * 1024 * UNIT),
            ("100M", 100_000_000 * UNIT),
            ("2e3", 2000 * UNIT),
            ("2E3", 2000 * UNIT),
            ("1E", 1_000_000_000_000_000_000 * UNIT),
            ("5n", 5),
            ("-1", -UNIT),
            ("0.1n", 1),
        ] {
            assert_eq!(nano_units(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "m", "1x", "1 Gi", "--1", "1.2.3", "."] {
            assert_eq!(nano_units(text), None, "{text:?}");
        }
    }
}
