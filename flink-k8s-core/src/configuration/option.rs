//! Options: keys with a type, a default and a sentence of help.

use std::fmt;
use std::marker::PhantomData;

use super::{InvalidOptionValue, OptionValue};

/// Another key under which an option may be set; the order in which they are declared decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlternativeKey {
    /// Another option which applies when this one is not set.
    Fallback(&'static str),
    /// An old name of this option.
    Deprecated(&'static str),
}

impl AlternativeKey {
    /// The key itself.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Fallback(key) | Self::Deprecated(key) => key,
        }
    }

    /// Whether it is an old name, rather than another option.
    pub const fn is_deprecated(&self) -> bool {
        matches!(self, Self::Deprecated(_))
    }
}

/// An option with a default.
pub struct ConfigOption<T> {
    /// What users write in Flink's configuration file.
    pub key: &'static str,
    /// In the syntax that users write, read by the same parser.
    pub default: &'static str,
    /// One sentence for `--help` and the reference page.
    pub help: &'static str,
    alternatives: &'static [AlternativeKey],
    value: PhantomData<fn() -> T>,
}

/// An option without a default.
pub struct OptionalConfigOption<T> {
    /// What users write in Flink's configuration file.
    pub key: &'static str,
    /// One sentence for `--help` and the reference page.
    pub help: &'static str,
    alternatives: &'static [AlternativeKey],
    value: PhantomData<fn() -> T>,
}

impl<T> ConfigOption<T> {
    /// An option without alternative keys.
    pub const fn new(key: &'static str, default: &'static str, help: &'static str) -> Self {
        Self {
            key,
            default,
            help,
            alternatives: &[],
            value: PhantomData,
        }
    }

    /// The same option, which may also be set under these keys.
    #[must_use]
    pub const fn with_alternatives(self, alternatives: &'static [AlternativeKey]) -> Self {
        Self {
            key: self.key,
            default: self.default,
            help: self.help,
            alternatives,
            value: PhantomData,
        }
    }
}

impl<T: OptionValue> ConfigOption<T> {
    /// The default, parsed.
    ///
    /// # Errors
    ///
    /// Only if the table is wrong; a test parses every default.
    pub fn default_value(&self) -> Result<T, InvalidOptionValue> {
        T::parse(self.default).map_err(|cause| InvalidOptionValue::new(self.key, self.default, cause))
    }
}

impl<T> OptionalConfigOption<T> {
    /// An option without alternative keys.
    pub const fn new(key: &'static str, help: &'static str) -> Self {
        Self {
            key,
            help,
            alternatives: &[],
            value: PhantomData,
        }
    }

    /// The same option, which may also be set under these keys.
    #[must_use]
    pub const fn with_alternatives(self, alternatives: &'static [AlternativeKey]) -> Self {
        Self {
            key: self.key,
            help: self.help,
            alternatives,
            value: PhantomData,
        }
    }
}

/// What can be said of an option without knowing its type.
pub trait OptionRow: Send + Sync {
    /// What users write in Flink's configuration file.
    fn key(&self) -> &'static str;
    /// Its default in the syntax that users write.
    fn default_text(&self) -> Option<&'static str>;
    /// One sentence of help.
    fn help(&self) -> &'static str;
    /// Other keys under which it may be set.
    fn alternatives(&self) -> &'static [AlternativeKey];
    /// The expected form of a value, in words, such as `memory size`.
    fn expected(&self) -> &'static str;
    /// Whether keys below it (`key.name: value`) set it too, as with maps.
    fn has_prefix_form(&self) -> bool;
    /// Checks a value without using it.
    ///
    /// # Errors
    ///
    /// [`InvalidOptionValue`] as [`super::FlinkConfiguration::get`] would say it.
    fn check(&self, text: &str) -> Result<(), InvalidOptionValue>;
}

impl<T: OptionValue> OptionRow for ConfigOption<T> {
    fn key(&self) -> &'static str {
        self.key
    }
    fn default_text(&self) -> Option<&'static str> {
        Some(self.default)
    }
    fn help(&self) -> &'static str {
        self.help
    }
    fn alternatives(&self) -> &'static [AlternativeKey] {
        self.alternatives
    }
    fn expected(&self) -> &'static str {
        T::EXPECTED
    }
    fn has_prefix_form(&self) -> bool {
        T::HAS_PREFIX_FORM
    }
    fn check(&self, text: &str) -> Result<(), InvalidOptionValue> {
        T::parse(text)
            .map(drop)
            .map_err(|cause| InvalidOptionValue::new(self.key, text, cause))
    }
}

impl<T: OptionValue> OptionRow for OptionalConfigOption<T> {
    fn key(&self) -> &'static str {
        self.key
    }
    fn default_text(&self) -> Option<&'static str> {
        None
    }
    fn help(&self) -> &'static str {
        self.help
    }
    fn alternatives(&self) -> &'static [AlternativeKey] {
        self.alternatives
    }
    fn expected(&self) -> &'static str {
        T::EXPECTED
    }
    fn has_prefix_form(&self) -> bool {
        T::HAS_PREFIX_FORM
    }
    fn check(&self, text: &str) -> Result<(), InvalidOptionValue> {
        T::parse(text)
            .map(drop)
            .map_err(|cause| InvalidOptionValue::new(self.key, text, cause))
    }
}

impl<T> fmt::Debug for ConfigOption<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConfigOption")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for OptionalConfigOption<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OptionalConfigOption")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
