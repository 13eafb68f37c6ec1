//! The Flink and the Java of the image, and the configuration mounted into it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use flink_k8s_core::configuration::{FlinkConfiguration, Origin, ParseConfigurationError};
use flink_k8s_core::start_command::{FlinkInstallation, java_major_version};

/// Where Flink is in an image that does not say so in `FLINK_HOME`.
const DEFAULT_FLINK_HOME: &str = "/opt/flink";
/// The Java that Flink's images have had longest; only told to the JVM's options, so a guess does no harm.
const ASSUMED_JAVA_VERSION: u32 = 17;

/// What the process was given: its environment, read once.
#[derive(Clone, Debug)]
pub struct Surroundings {
    variables: BTreeMap<String, String>,
    hostname: String,
}

/// Why the image or what is mounted into it cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallationError {
    /// The directory of Flink's jars cannot be read.
    #[error("cannot find Flink: {} cannot be read; FLINK_HOME names another place", path.display())]
    NoFlink {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no configuration file.
    #[error(
        "cannot find Flink's configuration: neither config.yaml nor flink-conf.yaml is in {}; FLINK_CONF_DIR names \
         another directory",
        directory.display()
    )]
    NoConfiguration {
        /// The directory.
        directory: PathBuf,
    },
    /// The configuration file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The configuration file is not what Flink can read.
    #[error("cannot understand {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ParseConfigurationError,
    },
}

impl Surroundings {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        let utf8 =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let hostname = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok());
        Self {
            variables: std::env::vars_os().filter_map(utf8).collect(),
            hostname: hostname.unwrap_or_else(|| "localhost".to_owned()),
        }
    }

    /// A variable of the environment; empty ones count as not set.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn flink_home(&self) -> PathBuf {
        PathBuf::from(self.variable("FLINK_HOME").unwrap_or(DEFAULT_FLINK_HOME))
    }

    /// `FLINK_CONF_DIR`, else `conf` in Flink's home.
    pub fn configuration_directory(&self) -> PathBuf {
        self.variable("FLINK_CONF_DIR")
            .map_or_else(|| self.flink_home().join("conf"), PathBuf::from)
    }

    /// Flink's configuration file: `config.yaml`, or `flink-conf.yaml`, which wins where an old client
    /// shipped it.
    ///
    /// # Errors
    ///
    /// See [`InstallationError`].
    pub fn configuration(&self) -> Result<FlinkConfiguration, InstallationError> {
        let directory = self.configuration_directory();
        let read = |name: &str| {
            let path = directory.join(name);
            match fs::read_to_string(&path) {
                Ok(text) => Ok(Some((path, text))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(InstallationError::Unreadable { path, source }),
            }
        };
        if let Some((path, text)) = read("flink-conf.yaml")? {
            let origin = Origin::File(path.display().to_string());
            let (configuration, ignored) = FlinkConfiguration::from_flat_lines(&text, &origin);
            for line in ignored {
                tracing::warn!(line = line.number, file = %path.display(), "line ignored: it is not `key: value`");
            }
            return Ok(configuration);
        }
        let Some((path, text)) = read("config.yaml")? else {
            return Err(InstallationError::NoConfiguration { directory });
        };
        FlinkConfiguration::from_yaml(&text, &Origin::File(path.display().to_string()))
            .map_err(|source| InstallationError::Malformed { path, source })
    }

    /// The names of the files in the configuration directory.
    ///
    /// # Errors
    ///
    /// [`InstallationError::Unreadable`] names the directory.
    pub fn configuration_files(&self) -> Result<Vec<String>, InstallationError> {
        let path = self.configuration_directory();
        file_names(&path).map_err(|source| InstallationError::Unreadable { path, source })
    }

    /// The Flink and the Java of this container.
    ///
    /// # Errors
    ///
    /// [`InstallationError::NoFlink`] names the directory that was looked at.
    pub fn installation(&self) -> Result<FlinkInstallation, InstallationError> {
        let home = self.flink_home();
        let lib = home.join("lib");
        let names = file_names(&lib).map_err(|source| InstallationError::NoFlink {
            path: lib.clone(),
            source,
        })?;
        let java_home = self.variable("JAVA_HOME").map(PathBuf::from);
        let java = java_home
            .as_ref()
            .map_or_else(|| PathBuf::from("java"), |home| home.join("bin/java"));
        let user = self
            .variable("FLINK_IDENT_STRING")
            .or_else(|| self.variable("USER"))
            .unwrap_or_default();
        Ok(FlinkInstallation {
            configuration_directory: self.configuration_directory(),
            log_directory: self.variable("FLINK_LOG_DIR").map(PathBuf::from),
            library_jars: names
                .iter()
                .filter(|name| {
                    Path::new(name)
                        .extension()
                        .is_some_and(|extension| extension == "jar")
                })
                .map(|name| lib.join(name))
                .collect(),
            java,
            java_major_version: java_home
                .and_then(|home| java_version(&home))
                .unwrap_or(ASSUMED_JAVA_VERSION),
            hostname: self.hostname.clone(),
            user: user.to_owned(),
            environment: self.variables.clone(),
            home,
        })
    }
}

/// The names of the files in a directory, and of links to files, sorted. Kubernetes mounts a ConfigMap as
/// links beside hidden directories, which do not count.
pub(crate) fn file_names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !name.starts_with("..") && fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn java_version(home: &Path) -> Option<u32> {
    java_major_version(&fs::read_to_string(home.join("release")).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(variables: &[(&str, &Path)]) -> Surroundings {
        let variables = variables
            .iter()
            .map(|(name, path)| ((*name).to_owned(), path.display().to_string()))
            .collect();
        Surroundings {
            variables,
            hostname: "pod-1".to_owned(),
        }
    }

    #[test]
    fn a_missing_flink_and_a_missing_configuration_are_named_with_the_variable_that_moves_them() {
        let empty = tempfile::tempdir().unwrap();
        let surroundings = surroundings(&[("FLINK_HOME", empty.path())]);
        let refusal = surroundings.installation().unwrap_err().to_string();
        assert!(
            refusal.contains("/lib cannot be read") && refusal.contains("FLINK_HOME"),
            "{refusal}"
        );
        let refusal = surroundings.configuration().unwrap_err().to_string();
        assert!(
            refusal.contains("config.yaml") && refusal.contains("FLINK_CONF_DIR"),
            "{refusal}"
        );
    }

    #[test]
    fn the_legacy_file_wins_as_in_flink_1() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.yaml"), "rest:\n  port: 1\n").unwrap();
        let surroundings = surroundings(&[("FLINK_CONF_DIR", directory.path())]);
        assert_eq!(
            surroundings
                .configuration()
                .unwrap()
                .setting("rest.port")
                .unwrap()
                .text,
            "1"
        );
        fs::write(directory.path().join("flink-conf.yaml"), "rest.port: 2\n").unwrap();
        assert_eq!(
            surroundings
                .configuration()
                .unwrap()
                .setting("rest.port")
                .unwrap()
                .text,
            "2"
        );
        assert_eq!(
            surroundings.configuration_files().unwrap(),
            ["config.yaml", "flink-conf.yaml"]
        );
    }
}
