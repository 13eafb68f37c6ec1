//! Old names of options, as users still write them.
//!
//! Some of them Flink reads no more, or reads as something else in different places. This is about what a user
//! says to us; what Flink itself makes of a file is not touched by it.

use super::catalogue::{Catalogue, KeyMeaning};
use super::{FlinkConfiguration, Origin, Setting};
use crate::flink_version::FlinkVersion;

/// An old name and the option that every supported version reads instead.
struct Renaming {
    old: &'static str,
    new: &'static str,
    /// What the value lacks: a unit, where the old option counted in MiB.
    unit: &'static str,
}

const fn renamed(old: &'static str, new: &'static str) -> Renaming {
    Renaming { old, new, unit: "" }
}

const fn in_mebibytes(old: &'static str, new: &'static str) -> Renaming {
    Renaming { old, new, unit: "m" }
}

const RENAMINGS: [Renaming; 14] = [
    renamed("env.java.opts", "env.java.opts.all"),
    renamed("high-availability", "high-availability.type"),
    in_mebibytes("jobmanager.heap.mb", "jobmanager.memory.process.size"),
    renamed("jobmanager.heap.size", "jobmanager.memory.process.size"),
    renamed("kubernetes.container.image", "kubernetes.container.image.ref"),
    renamed("kubernetes.jobmanager.cpu", "kubernetes.jobmanager.cpu.amount"),
    renamed(
        "kubernetes.pod-template-file",
        "kubernetes.pod-template-file.default",
    ),
    renamed(
        "kubernetes.service.exposed.type",
        "kubernetes.rest-service.exposed.type",
    ),
    renamed("kubernetes.taskmanager.cpu", "kubernetes.taskmanager.cpu.amount"),
    in_mebibytes("taskmanager.heap.mb", "taskmanager.memory.process.size"),
    renamed("taskmanager.heap.size", "taskmanager.memory.process.size"),
    renamed(
        "taskmanager.memory.total-flink.size",
        "taskmanager.memory.flink.size",
    ),
    renamed(
        "taskmanager.memory.total-process.size",
        "taskmanager.memory.process.size",
    ),
    renamed("recovery.mode", "high-availability.type"),
];

/// A setting under an old name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OldName {
    /// The value was set under the new name.
    #[error("{old} is an old name of {new}; {new} is set to its value")]
    Translated {
        /// The old name.
        old: String,
        /// The name that every supported version reads.
        new: String,
    },
    /// The new name is set by the same source or a stronger one.
    #[error("{old} is an old name of {new}, which is set as well; {old} is ignored")]
    Ignored {
        /// The old name.
        old: String,
        /// The name that counts.
        new: String,
    },
    /// Flink still reads the old name.
    #[error("{old} is deprecated; use {new}")]
    Deprecated {
        /// The old name.
        old: String,
        /// The name to use.
        new: String,
    },
}

impl OldName {
    /// The old name.
    pub fn old(&self) -> &str {
        match self {
            Self::Translated { old, .. } | Self::Ignored { old, .. } | Self::Deprecated { old, .. } => old,
        }
    }

    /// The name to use.
    pub fn new_name(&self) -> &str {
        match self {
            Self::Translated { new, .. } | Self::Ignored { new, .. } | Self::Deprecated { new, .. } => new,
        }
    }
}

impl FlinkConfiguration {
    /// Puts settings under old names where every supported version reads them, and says which other settings
    /// have old names, each of them once. What the user said more strongly wins: an old name on the command line
    /// over the new one in a file.
    ///
    /// ```
    /// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
    /// # use flink_k8s_core::flink_version::FlinkVersion;
    /// let mut configuration = FlinkConfiguration::new();
    /// configuration.set("jobmanager.memory.process.size", "1600m", Origin::File("config.yaml".to_owned()));
    /// configuration.set("jobmanager.heap.size", "4096m", Origin::CommandLine);
    /// let old_names = configuration.translate_old_names(FlinkVersion::V2_1);
    /// assert_eq!(old_names.len(), 1);
    /// assert_eq!(configuration.setting("jobmanager.memory.process.size").unwrap().text, "4096m");
    /// ```
    pub fn translate_old_names(&mut self, version: FlinkVersion) -> Vec<OldName> {
        let mut found = Vec::new();
        for renaming in &RENAMINGS {
            let Some(setting) = self.remove_key(renaming.old) else {
                continue;
            };
            let (old, new) = (renaming.old.to_owned(), renaming.new.to_owned());
            if self
                .setting(renaming.new)
                .is_some_and(|new| new.origin >= setting.origin)
            {
                found.push(OldName::Ignored { old, new });
            } else {
                self.set(renaming.new, value(&setting, renaming.unit), setting.origin);
                found.push(OldName::Translated { old, new });
            }
        }
        let catalogue = Catalogue::of(version);
        for (key, _) in self.iter() {
            if let KeyMeaning::Deprecated(option) = catalogue.meaning(key) {
                let (old, new) = (key.to_owned(), option.key.clone());
                found.push(OldName::Deprecated { old, new });
            }
        }
        found
    }

    /// Takes over the memory sizes that the environment of Flink 1.x may hold, under their option's old name.
    /// Later versions do not look there.
    pub fn set_from_environment(&mut self, version: FlinkVersion, variable: impl Fn(&str) -> Option<String>) {
        if version > FlinkVersion::V1_20 {
            return;
        }
        for (name, key) in [
            ("FLINK_JM_HEAP", "jobmanager.heap.size"),
            ("FLINK_TM_HEAP", "taskmanager.heap.size"),
        ] {
            if let Some(text) = variable(name).filter(|text| !text.is_empty()) {
                self.set(key, text, Origin::Environment(name.to_owned()));
            }
        }
    }
}

fn value(setting: &Setting, unit: &str) -> String {
    format!("{}{unit}", setting.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(entries: &[(&str, &str, Origin)]) -> FlinkConfiguration {
        let mut configuration = FlinkConfiguration::new();
        for (key, text, origin) in entries {
            configuration.set(*key, *text, origin.clone());
        }
        configuration
    }

    #[test]
    fn every_new_name_is_an_option_of_every_version() {
        for version in FlinkVersion::ALL {
            for renaming in &RENAMINGS {
                let meaning = Catalogue::of(version).meaning(renaming.new);
                assert!(
                    matches!(meaning, KeyMeaning::Option(_)),
                    "{version} {}",
                    renaming.new
                );
            }
        }
    }

    #[test]
    fn the_stronger_source_wins_whatever_the_name() {
        let file = || Origin::File("config.yaml".to_owned());
        for (old, new, expected) in [
            (Origin::CommandLine, file(), "2g"),
            (file(), Origin::CommandLine, "1g"),
            (Origin::CommandLine, Origin::CommandLine, "1g"),
        ] {
            let mut configuration = configuration(&[
                ("taskmanager.memory.total-process.size", "2g", old),
                ("taskmanager.memory.process.size", "1g", new),
            ]);
            let found = configuration.translate_old_names(FlinkVersion::V2_1);
            assert_eq!(found.len(), 1);
            assert!(
                found[0].to_string().contains("taskmanager.memory.process.size"),
                "{}",
                found[0]
            );
            let setting = configuration.setting("taskmanager.memory.process.size").unwrap();
            assert_eq!(setting.text, expected);
            assert_eq!(configuration.iter().count(), 1);
        }
    }

    #[test]
    fn a_count_of_mebibytes_becomes_a_size() {
        let mut configuration = configuration(&[("jobmanager.heap.mb", "1024", Origin::CommandLine)]);
        configuration.translate_old_names(FlinkVersion::V1_20);
        let setting = configuration.setting("jobmanager.memory.process.size").unwrap();
        assert_eq!(setting.text, "1024m");
    }

    #[test]
    fn a_deprecated_key_stays_and_is_named_once_with_its_successor() {
        let mut configuration = configuration(&[("state.backend", "rocksdb", Origin::CommandLine)]);
        let found = configuration.translate_old_names(FlinkVersion::V2_1);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "state.backend is deprecated; use state.backend.type"
        );
        assert!(configuration.setting("state.backend").is_some());
    }

    #[test]
    fn the_environment_counts_for_1_20_alone() {
        let variable = |name: &str| (name == "FLINK_JM_HEAP").then(|| "3g".to_owned());
        for (version, expected) in [(FlinkVersion::V1_20, Some("3g")), (FlinkVersion::V2_1, None)] {
            let mut configuration = FlinkConfiguration::new();
            configuration.set_from_environment(version, variable);
            let setting = configuration.setting("jobmanager.heap.size");
            assert_eq!(setting.map(|setting| setting.text.as_str()), expected);
        }
    }
}
