//! Durations in Flink's grammar: `10 s`, `5min`, `250` (milliseconds), `PT1H30M`.

use std::time::Duration;

use super::option_value::{MalformedValue, OptionValue, trim_like_java};

/// Flink holds durations in signed 64-bit seconds; a number of units has 64 bits as well.
const LARGEST_SECONDS: u128 = i64::MAX as u128;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A unit, its length in nanoseconds, and the words for it; the first one is what Flink prints.
const UNITS: [(u128, &[&str]); 7] = [
    (86_400 * NANOS_PER_SECOND, &["d", "day", "days"]),
    (3_600 * NANOS_PER_SECOND, &["h", "hour", "hours"]),
    (60 * NANOS_PER_SECOND, &["min", "m", "minute", "minutes"]),
    (NANOS_PER_SECOND, &["s", "sec", "secs", "second", "seconds"]),
    (
        1_000_000,
        &["ms", "milli", "millis", "millisecond", "milliseconds"],
    ),
    (1_000, &["µs", "micro", "micros", "microsecond", "microseconds"]),
    (1, &["ns", "nano", "nanos", "nanosecond", "nanoseconds"]),
];

const MILLISECOND: u128 = 1_000_000;

impl OptionValue for Duration {
    const EXPECTED: &'static str = "duration";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        let text = trim_like_java(text);
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            parse_number_and_unit(text)
        } else if text.is_empty() {
            Err(malformed("the text is empty"))
        } else {
            parse_iso_8601(text)
        }
    }
}

/// Reads `10 s`, but not `PT10S`: all that Flink 1.20 understands.
///
/// # Errors
///
/// As [`OptionValue::parse`].
pub fn parse_without_iso_8601(text: &str) -> Result<Duration, MalformedValue> {
    let text = trim_like_java(text);
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        parse_number_and_unit(text)
    } else {
        Err(malformed("it does not start with a number"))
    }
}

/// The duration as Flink writes it: the largest unit that divides it exactly. Where the number of these is too
/// large for Flink to read it again, the duration is written by ISO 8601.
///
/// ```
/// # use std::time::Duration;
/// use flink_k8s_core::configuration::duration_text;
/// assert_eq!(duration_text(Duration::from_secs(300)), "5 min");
/// assert_eq!(duration_text(Duration::ZERO), "0 ms");
/// ```
pub fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0 ms".to_owned();
    }
    let largest = UNITS.iter().find(|(length, _)| nanos.is_multiple_of(*length));
    let (length, words) = largest.unwrap_or(&UNITS[UNITS.len() - 1]);
    let count = nanos / length;
    if i64::try_from(count).is_ok() {
        format!("{count} {}", words[0])
    } else {
        let seconds = format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos());
        format!("PT{}S", seconds.trim_end_matches('0').trim_end_matches('.'))
    }
}

fn malformed(problem: &str) -> MalformedValue {
    MalformedValue(format!(
        "expected a duration such as 10 s, 5 min or PT1H30M, but {problem}"
    ))
}

fn parse_number_and_unit(text: &str) -> Result<Duration, MalformedValue> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = trim_like_java(unit).to_lowercase();
    let number: i64 = digits
        .parse()
        .map_err(|_| malformed("the number does not fit into 64 bits"))?;
    let length = if unit.is_empty() {
        MILLISECOND
    } else {
        let known = UNITS.iter().find(|(_, words)| words.contains(&unit.as_str()));
        known.map(|(length, _)| *length).ok_or_else(|| {
            malformed(&format!(
                "{unit:?} is none of the units d, h, min, s, ms, µs, ns (or their names)"
            ))
        })?
    };
    duration_of_nanos(u128::from(number.unsigned_abs()) * length)
        .ok_or_else(|| malformed("it is longer than Flink can hold"))
}

fn duration_of_nanos(nanos: u128) -> Option<Duration> {
    let seconds = nanos / NANOS_PER_SECOND;
    if seconds > LARGEST_SECONDS {
        return None;
    }
    let rest = u32::try_from(nanos % NANOS_PER_SECOND).ok()?;
    Some(Duration::new(u64::try_from(seconds).ok()?, rest))
}

/// Reads `[-]PnDTnHnMn.nS` as `java.time.Duration` does, whose parts may each have a sign.
fn parse_iso_8601(text: &str) -> Result<Duration, MalformedValue> {
    let nanos = iso_8601_nanos(text)
        .ok_or_else(|| malformed("it starts with no number and is no ISO-8601 duration either"))?;
    let nanos = u128::try_from(nanos).map_err(|_| malformed("it is negative"))?;
    duration_of_nanos(nanos).ok_or_else(|| malformed("it is longer than Flink can hold"))
}

fn iso_8601_nanos(text: &str) -> Option<i128> {
    let upper = text.to_ascii_uppercase();
    let (negated, unsigned) = match upper.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, upper.strip_prefix('+').unwrap_or(&upper)),
    };
    let body = unsigned.strip_prefix('P')?;
    let (date, time) = match body.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (body, ""),
    };
    let mut parts = 0;
    let mut nanos: i128 = 0;
    for (mut rest, designators) in [(date, "D"), (time, "HMS")] {
        let mut allowed = designators;
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
            let (number, tail) = rest.split_at(end);
            let designator = tail.chars().next()?;
            allowed = &allowed[allowed.find(designator)? + 1..];
            let unit = match designator {
                'D' => 86_400,
                'H' => 3_600,
                'M' => 60,
                _ => 1,
            };
            let seconds_fraction = designator == 'S';
            nanos = nanos.checked_add(iso_8601_part(number, seconds_fraction)?.checked_mul(unit)?)?;
            parts += 1;
            rest = &tail[1..];
        }
    }
    (parts > 0).then_some(if negated { -nanos } else { nanos })
}

/// A signed number in nanoseconds, if its unit were seconds; a fraction only where `with_fraction`.
fn iso_8601_part(number: &str, with_fraction: bool) -> Option<i128> {
    let (negated, unsigned) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = match unsigned.split_once(['.', ',']) {
        Some((whole, fraction)) if with_fraction && fraction.len() <= 9 => (whole, fraction),
        Some(_) => return None,
        None => (unsigned, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole = i128::from(whole.parse::<i64>().ok()?) * 1_000_000_000;
    let fraction: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(if negated {
        -whole - fraction
    } else {
        whole + fraction
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_without_a_unit_is_milliseconds_and_m_is_minutes() {
        for (text, nanos) in [
            ("250", 250_000_000),
            (" 2 Min ", 120_000_000_000),
            ("3m", 180_000_000_000),
            ("1d", 86_400_000_000_000),
            ("5 µs", 5_000),
            ("7nanos", 7),
            ("PT1H2M3S", 3_723_000_000_000),
            ("pt0.5s", 500_000_000),
            ("P1DT-1H", 82_800_000_000_000),
            ("-PT-1S", 1_000_000_000),
        ] {
            assert_eq!(Duration::parse(text).unwrap().as_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn what_flink_refuses_is_refused_with_the_expected_form() {
        for text in [
            "",
            "  ",
            "s",
            "-1s",
            "1.5 s",
            "1 w",
            "PT",
            "P1Y",
            "P1M",
            "-PT5S",
            "PT1M1H",
            "P",
            "PT.5S",
            "PT1",
            "9223372036854775808",
            "106751991167301d",
            "PT1.0H",
        ] {
            let refusal = Duration::parse(text).unwrap_err().to_string();
            assert!(
                refusal.starts_with("expected a duration such as 10 s"),
                "{text}: {refusal}"
            );
        }
        assert!(parse_without_iso_8601("PT1S").is_err());
        assert_eq!(parse_without_iso_8601("1 s"), Ok(Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_as_the_same_duration(seconds in 0_u64..1 << 62, nanos in 0_u32..1_000_000_000, whole: bool) {
            let duration = Duration::new(seconds, if whole { 0 } else { nanos });
            let text = duration_text(duration);
            prop_assert_eq!(Duration::parse(&text), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[-+PTDHMS0-9.,]{0,10}|\\PC{0,10}") {
            let _ = Duration::parse(&text);
        }
    }
}
