//! Forms of values, for options that only data describes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{MalformedValue, OptionValue, duration_text, parse_without_iso_8601};
use crate::flink_version::FlinkVersion;
use crate::memory::MemorySize;

/// The form of an option's value. Prints as users would say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueForm {
    /// Any text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A whole number of 32 bits.
    Integer,
    /// A whole number of 64 bits.
    Long,
    /// A number of single precision.
    Float,
    /// A number of double precision.
    Double,
    /// A duration such as `10 s`.
    Duration,
    /// A memory size such as `512m`.
    MemorySize,
    /// Keys and values.
    Map,
    /// One of these names, in any case.
    OneOf(Vec<String>),
    /// Several values of a form.
    List(Box<ValueForm>),
}

impl ValueForm {
    /// The form of Flink's type of this name.
    pub(super) fn of(type_name: &str, is_list: bool, names: Vec<String>) -> Self {
        let form = match type_name {
            "Boolean" => Self::Boolean,
            "Integer" => Self::Integer,
            "Long" => Self::Long,
            "Float" => Self::Float,
            "Double" => Self::Double,
            "Duration" => Self::Duration,
            "MemorySize" => Self::MemorySize,
            "Map" => Self::Map,
            "Enum" => Self::OneOf(names),
            _ => Self::Text,
        };
        if is_list { Self::List(Box::new(form)) } else { form }
    }

    /// A default as users would write it; the data has Java's text for durations and maps.
    pub(super) fn as_users_write(&self, default: &str) -> String {
        match self {
            Self::Duration => Duration::parse(default).map_or_else(|_| default.to_owned(), duration_text),
            Self::Map => match default.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(entries) => entries.replace('=', ":").replace(", ", ","),
                None => default.to_owned(),
            },
            _ => default.to_owned(),
        }
    }

    /// Whether keys below the option's are entries of the value.
    pub(super) fn has_prefix_form(&self) -> bool {
        *self == Self::Map
    }

    /// Checks a value.
    ///
    /// # Errors
    ///
    /// [`MalformedValue`] says what is expected.
    pub fn check(&self, text: &str, version: FlinkVersion) -> Result<(), MalformedValue> {
        match self {
            Self::Text => Ok(()),
            Self::Boolean => bool::parse(text).map(drop),
            Self::Integer => i32::parse(text).map(drop),
            Self::Long => i64::parse(text).map(drop),
            Self::Float => f32::parse(text).map(drop),
            Self::Double => f64::parse(text).map(drop),
            Self::Duration if version > FlinkVersion::V1_20 => Duration::parse(text).map(drop),
            Self::Duration => parse_without_iso_8601(text).map(drop),
            Self::MemorySize => MemorySize::parse(text).map(drop),
            Self::Map => BTreeMap::<String, String>::parse(text).map(drop),
            Self::OneOf(names) if names.iter().any(|name| name.eq_ignore_ascii_case(text)) => Ok(()),
            Self::OneOf(names) => Err(MalformedValue(format!("expected one of {}", names.join(", ")))),
            Self::List(form) if **form == Self::Map => Vec::<BTreeMap<String, String>>::parse(text).map(drop),
            Self::List(form) => Vec::<String>::parse(text)?
                .iter()
                .try_for_each(|item| form.check(item, version)),
        }
    }
}

impl fmt::Display for ValueForm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => formatter.write_str(String::EXPECTED),
            Self::Boolean => formatter.write_str(bool::EXPECTED),
            Self::Integer | Self::Long => formatter.write_str(i64::EXPECTED),
            Self::Float | Self::Double => formatter.write_str(f64::EXPECTED),
            Self::Duration => formatter.write_str(Duration::EXPECTED),
            Self::MemorySize => formatter.write_str(MemorySize::EXPECTED),
            Self::Map => formatter.write_str(BTreeMap::<String, String>::EXPECTED),
            Self::OneOf(names) => write!(formatter, "one of {}", names.join(", ")),
            Self::List(form) if **form == Self::Map => {
                formatter.write_str(Vec::<BTreeMap<String, String>>::EXPECTED)
            }
            Self::List(form) if **form == Self::Text => formatter.write_str(Vec::<String>::EXPECTED),
            Self::List(form) => write!(formatter, "list of: {form}"),
        }
    }
}
