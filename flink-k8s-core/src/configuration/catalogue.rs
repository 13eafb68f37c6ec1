//! Every option of Flink that a configuration file may hold, by version: key, form of the value, default and
//! other keys.
//!
//! The typed tables know the options that deploying a cluster reads. This is the rest of the world: facts about
//! Flink's released classes, in `data/options.jsonl`, one option a line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use super::value_form::ValueForm;
use super::{MalformedValue, OptionRow, all_options};
use crate::flink_version::FlinkVersion;

const DATA: &str = include_str!("../../data/options.jsonl");

/// Keys below these belong to file systems, connectors, SQL and plugins, which bring options of their own.
const FOREIGN: [&str; 16] = [
    "fs.",
    "s3.",
    "s3a.",
    "presto.s3.",
    "oss.",
    "gs.",
    "azure.",
    "hive.",
    "table.",
    "sql-client.",
    "sql-gateway.",
    "python.",
    "plugin.",
    "containerized.master.env.",
    "containerized.taskmanager.env.",
    "flink.hadoop.",
];

/// An option of Flink.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownOption {
    /// What users write in Flink's configuration file; `<name>` stands for a name of the user's choice.
    pub key: String,
    /// Form of the value.
    pub form: ValueForm,
    /// Default in the syntax that users write.
    pub default: Option<String>,
    /// Other options which apply when this one is not set, the first first.
    pub fallback_keys: Vec<String>,
    /// Old names of this option, which are still read.
    pub deprecated_keys: Vec<String>,
    /// One sentence of help, for options that deploying a cluster reads.
    pub help: Option<&'static str>,
    row: Option<&'static dyn OptionRow>,
}

impl KnownOption {
    /// The expected form of a value, in words, such as `memory size`.
    pub fn expected(&self) -> String {
        self.row
            .map_or_else(|| self.form.to_string(), |row| row.expected().to_owned())
    }

    /// Checks a value without using it.
    ///
    /// # Errors
    ///
    /// [`MalformedValue`] says what is wrong with it.
    pub fn check(&self, text: &str, version: FlinkVersion) -> Result<(), MalformedValue> {
        match self.row {
            Some(row) => row.check(text).map_err(|refusal| refusal.source),
            None => self.form.check(text, version),
        }
    }

    /// Whether keys below this one set it too, as with maps.
    pub fn has_prefix_form(&self) -> bool {
        self.form.has_prefix_form() || self.row.is_some_and(OptionRow::has_prefix_form)
    }
}

impl PartialEq for dyn OptionRow {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl std::fmt::Debug for dyn OptionRow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.key())
    }
}

/// What a key is to a version of Flink.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyMeaning<'a> {
    /// An option by its own key.
    Option(&'a KnownOption),
    /// An old name of this option.
    Deprecated(&'a KnownOption),
    /// An entry of this option, which is a map.
    Entry(&'a KnownOption),
    /// Something of a file system, a connector or a plugin, which nobody can check here.
    Foreign,
    /// An option of these other versions of Flink.
    OtherVersions(Vec<FlinkVersion>),
    /// Nothing that any version knows.
    Unknown,
}

/// All options of one version of Flink.
///
/// ```
/// # use flink_k8s_core::configuration::catalogue::{Catalogue, KeyMeaning};
/// # use flink_k8s_core::flink_version::FlinkVersion;
/// let catalogue = Catalogue::of(FlinkVersion::V2_1);
/// assert!(matches!(catalogue.meaning("state.backend.type"), KeyMeaning::Option(_)));
/// assert_eq!(catalogue.nearest("state.backend.typo"), Some("state.backend.type"));
/// ```
#[derive(Debug)]
pub struct Catalogue {
    version: FlinkVersion,
    options: BTreeMap<String, KnownOption>,
    deprecated: BTreeMap<String, String>,
}

impl Catalogue {
    /// The options of this version, with ours. Read once.
    pub fn of(version: FlinkVersion) -> &'static Self {
        static CATALOGUES: LazyLock<Vec<Catalogue>> =
            LazyLock::new(|| FlinkVersion::ALL.into_iter().map(Catalogue::read).collect());
        let position = FlinkVersion::ALL.iter().position(|other| *other == version);
        &CATALOGUES[position.unwrap_or_default()]
    }

    fn read(version: FlinkVersion) -> Self {
        let mut options = BTreeMap::new();
        for record in records() {
            if record.is_in(version) && !options.contains_key(&record.key) {
                options.insert(record.key.clone(), record.into_option());
            }
        }
        let keys: BTreeSet<String> = records().map(|record| record.key).collect();
        for row in all_options() {
            if let Some(option) = options.get_mut(row.key()) {
                option.row = Some(row);
                option.help = Some(row.help());
            } else if !keys.contains(row.key()) {
                options.insert(row.key().to_owned(), of_row(row));
            }
        }
        let deprecated = options.values().flat_map(|option| {
            option
                .deprecated_keys
                .iter()
                .map(|key| (key.clone(), option.key.clone()))
        });
        Self {
            version,
            deprecated: deprecated.collect(),
            options,
        }
    }

    /// The version.
    pub fn version(&self) -> FlinkVersion {
        self.version
    }

    /// Every option, by key.
    pub fn options(&self) -> impl Iterator<Item = &KnownOption> {
        self.options.values()
    }

    /// The option that this key or old name sets.
    pub fn find(&self, key: &str) -> Option<&KnownOption> {
        match self.meaning(key) {
            KeyMeaning::Option(option) | KeyMeaning::Deprecated(option) | KeyMeaning::Entry(option) => {
                Some(option)
            }
            _ => None,
        }
    }

    /// What this key means.
    pub fn meaning(&self, key: &str) -> KeyMeaning<'_> {
        if let Some(option) = self.options.get(key) {
            return KeyMeaning::Option(option);
        }
        if let Some(option) = self.deprecated.get(key).and_then(|new| self.options.get(new)) {
            return KeyMeaning::Deprecated(option);
        }
        let free_names = |option: &&KnownOption| option.key.matches('<').count();
        let patterns = self.options.values().filter(|option| option.key.contains('<'));
        if let Some(option) = patterns
            .filter(|option| fits(&option.key, key))
            .min_by_key(free_names)
        {
            return KeyMeaning::Option(option);
        }
        let below = |option: &&KnownOption| {
            option.has_prefix_form()
                && key
                    .strip_prefix(option.key.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        if let Some(option) = self.options.values().find(below) {
            return KeyMeaning::Entry(option);
        }
        if FOREIGN.iter().any(|prefix| key.starts_with(prefix)) {
            return KeyMeaning::Foreign;
        }
        let others = FlinkVersion::ALL.into_iter().filter(|other| {
            *other != self.version
                && records().any(|record| {
                    record.is_in(*other)
                        && (record.key == key || record.deprecated.iter().any(|old| old == key))
                })
        });
        let others: Vec<_> = others.collect();
        if others.is_empty() {
            KeyMeaning::Unknown
        } else {
            KeyMeaning::OtherVersions(others)
        }
    }

    /// The known key that is most like this one, unless none is much like it.
    pub fn nearest(&self, key: &str) -> Option<&str> {
        let limit = 2 + key.len() / 8;
        let close = self.options.keys().filter_map(|known| {
            let distance = edit_distance(key, known, limit)?;
            Some((distance, known.as_str()))
        });
        close.min().map(|(_, known)| known)
    }
}

/// Whether the key is one of the keys that a pattern such as `metrics.reporter.<name>.class` stands for.
fn fits(pattern: &str, key: &str) -> bool {
    let mut segments = key.split('.');
    let mut pattern = pattern.split('.').peekable();
    while let Some(expected) = pattern.next() {
        let Some(segment) = segments.next() else {
            return false;
        };
        let is_free = expected.starts_with('<');
        if is_free && pattern.peek().is_none() {
            return !segment.is_empty(); // the last name may have dots
        }
        if !is_free && segment != expected {
            return false;
        }
    }
    segments.next().is_none()
}

/// How many characters must be inserted, removed, replaced or swapped with a neighbour, if at most `limit`.
fn edit_distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (row, character) in a.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in b.iter().enumerate() {
            let replaced = last[column] + usize::from(character != other);
            let mut best = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *character == b[column - 1] && a[row - 1] == *other {
                best = best.min(before_last[column - 1] + 1);
            }
            current.push(best);
        }
        if current.iter().all(|distance| *distance > limit) {
            return None;
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().filter(|distance| *distance <= limit)
}

fn of_row(row: &'static dyn OptionRow) -> KnownOption {
    let keys = |deprecated: bool| {
        let alternatives = row.alternatives().iter();
        alternatives
            .filter(|alternative| alternative.is_deprecated() == deprecated)
            .map(|alternative| alternative.key().to_owned())
            .collect()
    };
    KnownOption {
        key: row.key().to_owned(),
        form: ValueForm::Text,
        default: row.default_text().map(ToOwned::to_owned),
        fallback_keys: keys(false),
        deprecated_keys: keys(true),
        help: Some(row.help()),
        row: Some(row),
    }
}

/// A line of the data.
#[derive(Clone, Deserialize)]
struct Record {
    key: String,
    r#type: String,
    #[serde(default)]
    list: bool,
    #[serde(default)]
    values: Vec<String>,
    default: Option<String>,
    #[serde(default)]
    fallback: Vec<String>,
    #[serde(default)]
    deprecated: Vec<String>,
    /// The versions that the line speaks of; all of them if it names none.
    #[serde(default)]
    versions: Vec<String>,
}

impl Record {
    /// 2.2 is between two versions whose options are known: what one of them has, it has.
    fn is_in(&self, version: FlinkVersion) -> bool {
        let names = |version: FlinkVersion| self.versions.iter().any(|name| name == version.as_str());
        self.versions.is_empty()
            || names(version)
            || (version == FlinkVersion::V2_2 && (names(FlinkVersion::V2_1) || names(FlinkVersion::V2_3)))
    }

    fn into_option(self) -> KnownOption {
        let form = ValueForm::of(&self.r#type, self.list, self.values);
        KnownOption {
            default: self.default.map(|default| form.as_users_write(&default)),
            key: self.key,
            form,
            fallback_keys: self.fallback,
            deprecated_keys: self.deprecated,
            help: None,
            row: None,
        }
    }
}

fn records() -> impl Iterator<Item = Record> {
    static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| {
        let lines = DATA.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("the data is a part of this crate and tested"))
            .collect()
    });
    RECORDS.iter().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_of_the_data_has_the_form_of_its_option() {
        for version in FlinkVersion::ALL {
            for option in Catalogue::of(version).options() {
                if let Some(default) = &option.default {
                    assert_eq!(
                        option.form.check(default, version),
                        Ok(()),
                        "{} {default:?}",
                        option.key
                    );
                }
            }
        }
    }

    #[test]
    fn the_typed_tables_and_the_data_agree_about_old_names() {
        let catalogue = Catalogue::of(FlinkVersion::V2_1);
        for row in all_options() {
            for alternative in row.alternatives().iter().filter(|other| other.is_deprecated()) {
                let meaning = catalogue.meaning(alternative.key());
                let known = matches!(meaning, KeyMeaning::Deprecated(_) | KeyMeaning::Option(_));
                assert!(known, "{}: {meaning:?}", alternative.key());
            }
        }
    }

    #[test]
    fn keys_with_names_in_them_are_known_by_their_pattern() {
        let catalogue = Catalogue::of(FlinkVersion::V2_1);
        for key in [
            "metrics.reporter.prom.factory.class",
            "metrics.reporter.prom.port",
            "external-resource.gpu.kubernetes.config-key",
            "external-resource.gpu.param.discovery-script.path",
        ] {
            assert!(matches!(catalogue.meaning(key), KeyMeaning::Option(_)), "{key}");
        }
        assert!(matches!(
            catalogue.meaning("kubernetes.jobmanager.labels.team"),
            KeyMeaning::Entry(_)
        ));
        assert_eq!(catalogue.meaning("s3.access-key"), KeyMeaning::Foreign);
    }

    #[test]
    fn a_misspelt_key_finds_the_one_that_was_meant() {
        let catalogue = Catalogue::of(FlinkVersion::V2_1);
        for (typed, meant) in [
            ("taskmanager.numberOfTaskSlot", "taskmanager.numberOfTaskSlots"),
            (
                "taskmanager.memory.proccess.size",
                "taskmanager.memory.process.size",
            ),
            ("kubernetes.clusterid", "kubernetes.cluster-id"),
            ("kubernetes.jobmanager.replcias", "kubernetes.jobmanager.replicas"),
        ] {
            assert_eq!(catalogue.meaning(typed), KeyMeaning::Unknown, "{typed}");
            assert_eq!(catalogue.nearest(typed), Some(meant), "{typed}");
        }
        assert_eq!(catalogue.nearest("my.own.key"), None);
    }

    #[test]
    fn a_key_of_another_version_is_told_from_one_of_none() {
        let meaning = Catalogue::of(FlinkVersion::V2_1).meaning("kubernetes.persistent-volume-claims");
        assert!(
            matches!(meaning, KeyMeaning::Option(_) | KeyMeaning::OtherVersions(_)),
            "{meaning:?}"
        );
        let old = Catalogue::of(FlinkVersion::V2_1).meaning("jobmanager.heap.size");
        assert_eq!(old, KeyMeaning::OtherVersions(vec![FlinkVersion::V1_20]));
    }
}
