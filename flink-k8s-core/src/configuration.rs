//! Flink's configuration: flat keys with text values, each with the place that it came from.

pub mod catalogue;
pub mod check;
mod collection_values;
pub mod common_options;
mod configuration_file;
pub mod deployment_options;
mod duration_value;
pub mod exposure_options;
pub mod flink_k8s_options;
pub mod high_availability_options;
pub mod kubernetes_options;
mod legacy_splitter;
pub mod local_storage_options;
pub mod memory_options;
mod old_names;
mod option;
mod option_tables;
mod option_value;
mod origin;
pub mod resource_manager_options;
pub mod rest_client_options;
mod rest_url;
pub mod scheduling_options;
pub mod tls_options;
mod value_form;
mod yaml;

use std::collections::BTreeMap;

pub use configuration_file::{
    IgnoredLine, InvalidDynamicProperty, ParseConfigurationError, WriteConfigurationError,
    parse_dynamic_property,
};
pub use duration_value::{duration_text, parse_without_iso_8601};
pub use old_names::OldName;
pub use option::{AlternativeKey, ConfigOption, OptionRow, OptionalConfigOption};
pub use option_tables::all_options;
pub(crate) use option_value::trim_like_java;
pub use option_value::{InvalidOptionValue, MalformedValue, OptionValue, is_sensitive};
pub use origin::Origin;
pub(crate) use rest_url::is_loopback;
pub use value_form::ValueForm;
pub use yaml::YamlSyntaxError;
pub(crate) use yaml::java_double_text;

/// A flat map of option keys to text, as Flink has it, that remembers where each value came from.
///
/// A later [`FlinkConfiguration::set`] or [`FlinkConfiguration::overlay`] wins, so the caller applies
/// sources from the weakest to the strongest: file, environment, command line. Built-in defaults are not
/// stored; they belong to the options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlinkConfiguration {
    settings: BTreeMap<String, Setting>,
}

/// One entry of a [`FlinkConfiguration`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value in the syntax that users write.
    pub text: String,
    /// Where it came from.
    pub origin: Origin,
    /// Whether the text is a list in YAML's brackets that was given as a list, so is written as one.
    is_list: bool,
}

impl FlinkConfiguration {
    /// A configuration without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key, whatever it was before.
    pub fn set(&mut self, key: impl Into<String>, text: impl Into<String>, origin: Origin) {
        self.settings.insert(
            key.into(),
            Setting {
                text: text.into(),
                origin,
                is_list: false,
            },
        );
    }

    /// Sets a key to a list, which a configuration file then shows item by item.
    pub fn set_list(&mut self, key: impl Into<String>, items: &[String], origin: Origin) {
        let text = yaml::Yaml::List(items.iter().cloned().map(yaml::Yaml::Text).collect()).flow();
        self.settings.insert(
            key.into(),
            Setting {
                text,
                origin,
                is_list: true,
            },
        );
    }

    /// Takes over every entry of `stronger`.
    pub fn overlay(&mut self, stronger: Self) {
        self.settings.extend(stronger.settings);
    }

    /// Removes exactly this key and returns its entry.
    pub fn remove_key(&mut self, key: &str) -> Option<Setting> {
        self.settings.remove(key)
    }

    /// Removes the key under which this option is set: its own, or else the first of its alternatives.
    pub fn remove(&mut self, option: &dyn OptionRow) -> Option<Setting> {
        let key = self.configured_key(option)?.to_owned();
        self.settings.remove(&key)
    }

    /// The entry of exactly this key.
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key)
    }

    /// All entries, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// The entries below `prefix`, keyed by what follows it.
    pub fn with_prefix(&self, prefix: &str) -> BTreeMap<String, String> {
        let below = self.settings.range(prefix.to_owned()..);
        below
            .map_while(|(key, setting)| Some((key.strip_prefix(prefix)?, setting)))
            .filter(|(rest, _)| !rest.is_empty())
            .map(|(rest, setting)| (rest.to_owned(), setting.text.clone()))
            .collect()
    }

    /// Whether the user or a program set this option, under its own key or an alternative one.
    pub fn is_configured(&self, option: &dyn OptionRow) -> bool {
        self.configured_key(option).is_some()
            || (option.has_prefix_form() && !self.with_prefix(&format!("{}.", option.key())).is_empty())
    }

    /// The key under which this option is set: its own, or else the first of its alternatives.
    pub fn configured_key(&self, option: &dyn OptionRow) -> Option<&str> {
        let alternatives = option.alternatives().iter().map(AlternativeKey::key);
        std::iter::once(option.key())
            .chain(alternatives)
            .find_map(|key| self.settings.get_key_value(key))
            .map(|(key, _)| key.as_str())
    }

    /// The option's value: what is configured, else its default.
    ///
    /// # Errors
    ///
    /// [`InvalidOptionValue`] names the key, the value (unless the key is sensitive) and the expected form.
    pub fn get<T: OptionValue>(&self, option: &ConfigOption<T>) -> Result<T, InvalidOptionValue> {
        match self.find_value(option)? {
            Some(value) => Ok(value),
            None => option.default_value(),
        }
    }

    /// The value of an option that has no default, or `None`.
    ///
    /// # Errors
    ///
    /// As [`FlinkConfiguration::get`].
    pub fn find<T: OptionValue>(
        &self,
        option: &OptionalConfigOption<T>,
    ) -> Result<Option<T>, InvalidOptionValue> {
        self.find_value(option)
    }

    fn find_value<T: OptionValue>(&self, option: &dyn OptionRow) -> Result<Option<T>, InvalidOptionValue> {
        if let Some(key) = self.configured_key(option) {
            let text = &self.settings[key].text;
            return T::parse(text)
                .map(Some)
                .map_err(|cause| InvalidOptionValue::new(key, text, cause));
        }
        let prefixed = if T::HAS_PREFIX_FORM {
            self.with_prefix(&format!("{}.", option.key()))
        } else {
            BTreeMap::new()
        };
        Ok(if prefixed.is_empty() {
            None
        } else {
            T::from_prefix_form(prefixed)
        })
    }
}

impl FromIterator<(String, Setting)> for FlinkConfiguration {
    fn from_iter<I: IntoIterator<Item = (String, Setting)>>(entries: I) -> Self {
        Self {
            settings: entries.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: ConfigOption<u32> =
        ConfigOption::new("taskmanager.numberOfTaskSlots", "1", "Slots of one TaskManager.");
    const CPU: OptionalConfigOption<f64> = OptionalConfigOption::new("kubernetes.cpu.amount", "CPU.")
        .with_alternatives(&[AlternativeKey::Deprecated("kubernetes.cpu")]);

    #[test]
    fn the_default_answers_only_when_nothing_is_configured() {
        let mut configuration = FlinkConfiguration::new();
        assert_eq!(configuration.get(&SLOTS).unwrap(), 1);
        configuration.set(SLOTS.key, "4", Origin::CommandLine);
        assert_eq!(configuration.get(&SLOTS).unwrap(), 4);
    }

    #[test]
    fn the_own_key_wins_over_an_alternative_and_the_error_names_the_key_that_is_set() {
        let mut configuration = FlinkConfiguration::new();
        configuration.set("kubernetes.cpu", "many", Origin::CommandLine);
        let refusal = configuration.find(&CPU).unwrap_err().to_string();
        assert!(
            refusal.contains("kubernetes.cpu") && refusal.contains("many"),
            "{refusal}"
        );
        configuration.set("kubernetes.cpu.amount", "2.5", Origin::CommandLine);
        assert_eq!(configuration.find(&CPU).unwrap(), Some(2.5));
    }

    #[test]
    fn a_secret_value_is_never_printed() {
        const SECRET: ConfigOption<u32> = ConfigOption::new("s3.secret-number", "1", "Secret.");
        let mut configuration = FlinkConfiguration::new();
        configuration.set(SECRET.key, "hunter2", Origin::CommandLine);
        assert!(
            !configuration
                .get(&SECRET)
                .unwrap_err()
                .to_string()
                .contains("hunter2")
        );
    }
}
