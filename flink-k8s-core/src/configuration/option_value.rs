//! The types of option values and how Flink reads them from text.

use std::collections::BTreeMap;

/// A type that an option can have, read by Flink's own grammar.
pub trait OptionValue: Sized {
    /// The expected form, in words for messages, such as `whole number`.
    const EXPECTED: &'static str;
    /// Whether keys below the option's (`key.name: value`) are entries of the value.
    const HAS_PREFIX_FORM: bool = false;

    /// Reads the text that the user wrote.
    ///
    /// # Errors
    ///
    /// [`MalformedValue`] says what is wrong with it.
    fn parse(text: &str) -> Result<Self, MalformedValue>;

    /// The value made of keys below the option's; only called where [`OptionValue::HAS_PREFIX_FORM`].
    fn from_prefix_form(_entries: BTreeMap<String, String>) -> Option<Self> {
        None
    }
}

/// What is wrong with the text of a value, such as `expected a whole number`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedValue(pub String);

/// The configured value of an option cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {shown} as the value of option {key}")]
pub struct InvalidOptionValue {
    /// The key under which the value is set.
    pub key: String,
    shown: String,
    /// What is wrong with it.
    pub source: MalformedValue,
}

impl InvalidOptionValue {
    /// The value `text` under `key` is malformed. A sensitive value is not kept.
    pub fn new(key: &str, text: &str, source: MalformedValue) -> Self {
        if is_sensitive(key) {
            let source = MalformedValue("the value is not shown because the key is sensitive".to_owned());
            Self {
                key: key.to_owned(),
                shown: "******".to_owned(),
                source,
            }
        } else {
            Self {
                key: key.to_owned(),
                shown: format!("{text:?}"),
                source,
            }
        }
    }
}

/// Whether values of this key must not be shown: Flink's own rule.
pub fn is_sensitive(key: &str) -> bool {
    const MARKS: [&str; 11] = [
        "password",
        "secret",
        "fs.azure.account.key",
        "apikey",
        "api-key",
        "auth-params",
        "service-key",
        "token",
        "basic-auth",
        "jaas.config",
        "http-headers",
    ];
    let key = key.to_lowercase();
    MARKS.iter().any(|mark| key.contains(mark))
}

impl OptionValue for String {
    const EXPECTED: &'static str = "text";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        Ok(text.to_owned())
    }
}

/// Reads whole numbers as `Integer` and `Long` options: a sign is allowed, blanks are not.
macro_rules! whole_number_values {
    ($($number:ty),*) => {$(
        impl OptionValue for $number {
            const EXPECTED: &'static str = "whole number";

            fn parse(text: &str) -> Result<Self, MalformedValue> {
                text.parse().map_err(|_| {
                    MalformedValue(format!("expected a whole number from {} to {}", Self::MIN, Self::MAX))
                })
            }
        }
    )*};
}

whole_number_values!(u16, u32, u64, i32, i64);

impl OptionValue for bool {
    const EXPECTED: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        if text.eq_ignore_ascii_case("true") {
            Ok(true)
        } else if text.eq_ignore_ascii_case("false") {
            Ok(false)
        } else {
            Err(MalformedValue("expected true or false".to_owned()))
        }
    }
}

impl OptionValue for f64 {
    const EXPECTED: &'static str = "number";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        decimal_text(text)
            .and_then(|text| text.parse().ok())
            .ok_or_else(not_a_number)
    }
}

/// Fractions are single precision in Flink, and its memory model depends on that.
impl OptionValue for f32 {
    const EXPECTED: &'static str = "number";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        decimal_text(text)
            .and_then(|text| text.parse().ok())
            .ok_or_else(not_a_number)
    }
}

fn not_a_number() -> MalformedValue {
    MalformedValue("expected a number such as 1.5".to_owned())
}

/// What Java takes for a number, in a spelling that Rust takes for the same: blanks around it and a
/// type suffix are dropped, and Rust's own `inf` and `nan` are refused.
fn decimal_text(text: &str) -> Option<&str> {
    let text = trim_like_java(text);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, "NaN" | "Infinity") {
        return Some(text);
    }
    let text = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
        .then_some(text)
}

/// Removes blanks and control characters at both ends, as Java's `String.trim` does.
pub(crate) fn trim_like_java(text: &str) -> &str {
    text.trim_matches(|character| character <= ' ')
}

/// Implements [`OptionValue`] for an enumeration by its constants' names; like Flink, it ignores case.
///
/// ```
/// #[derive(Clone, Copy, Debug, PartialEq, Eq)]
/// enum PullPolicy {
///     IfNotPresent,
///     Always,
/// }
/// flink_k8s_core::enum_option_value!(PullPolicy { "IfNotPresent" => IfNotPresent, "Always" => Always });
///
/// use flink_k8s_core::configuration::OptionValue as _;
/// assert_eq!(PullPolicy::parse("ALWAYS"), Ok(PullPolicy::Always));
/// assert_eq!(PullPolicy::Always.as_str(), "Always");
/// assert_eq!(
///     PullPolicy::parse("never").unwrap_err().to_string(),
///     "expected one of IfNotPresent, Always"
/// );
/// ```
#[macro_export]
macro_rules! enum_option_value {
    ($name:ident { $($text:literal => $variant:ident),+ $(,)? }) => {
        impl $name {
            /// The name that users write.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl $crate::configuration::OptionValue for $name {
            const EXPECTED: &'static str = concat!("one of", $(" ", $text),+);

            fn parse(text: &str) -> Result<Self, $crate::configuration::MalformedValue> {
                $(if text.eq_ignore_ascii_case($text) {
                    return Ok(Self::$variant);
                })+
                let names = [$($text),+].join(", ");
                Err($crate::configuration::MalformedValue(format!("expected one of {names}")))
            }
        }
    };
}
