//! What stands for a container image on a machine without a container engine.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where a Flink image has Flink.
const FLINK_HOME: &str = "/opt/flink";
/// Where our images have our programs.
const BINARIES: &str = "/opt/flink-k8s/bin";
/// Search path for programs of the host.
const HOST_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What stands for the images that a pattern matches: the host's file system with a few directories put
/// where the image has them.
///
/// ```
/// use flink_k8s_local::local_cluster::ImageMapping;
///
/// let mapping = ImageMapping::flink("/srv/flink-2.1", None, "/usr/lib/jvm/17");
/// assert!(mapping.matches("flink:2.1.0-java17"));
/// assert!(mapping.matches("docker.io/library/flink:2.1"));
/// assert!(mapping.matches("apache/flink:2.1"));
/// assert!(!mapping.matches("postgres:17"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMapping {
    /// Image names this stands for, each a pattern in which `*` is any text. `docker.io/library/` and
    /// `docker.io/` in front of an image's name are ignored.
    pub patterns: Vec<String>,
    /// Directories of the image.
    pub mounts: Vec<ImageMount>,
    /// Environment that the image sets.
    pub environment: Vec<(String, String)>,
    /// What runs when a pod names no command.
    pub command: Vec<String>,
    /// Entrypoint programs of the image that only prepare what needs no preparation here: as the first word
    /// of a command they are left out, and what follows them runs.
    pub pass_through_entrypoints: Vec<String>,
}

/// A directory of the host seen in a container. The container may write to it; the host's stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// Directory on the host.
    pub source: PathBuf,
    /// Where the container sees it.
    pub target: PathBuf,
    /// Directories below the target that every user may write to, whoever owns them on the host.
    pub writable: Vec<String>,
}

impl ImageMapping {
    /// Stands for `flink:*` and `apache/flink:*`: a Flink distribution at `/opt/flink`, our programs, if
    /// given, at `/opt/flink-k8s/bin`, and a Java runtime where the host has it.
    pub fn flink(
        flink_home: impl Into<PathBuf>,
        binaries: Option<PathBuf>,
        java_home: impl Into<PathBuf>,
    ) -> Self {
        let java_home = java_home.into();
        let mut mounts = vec![ImageMount {
            source: flink_home.into(),
            target: FLINK_HOME.into(),
            writable: ["log", "conf", "usrlib", "plugins", "lib"]
                .map(str::to_owned)
                .to_vec(),
        }];
        let mut path = format!("{FLINK_HOME}/bin:{}/bin:{HOST_PATH}", java_home.display());
        if let Some(source) = binaries {
            mounts.push(ImageMount {
                source,
                target: BINARIES.into(),
                writable: Vec::new(),
            });
            path = format!("{BINARIES}:{path}");
        }
        Self {
            patterns: vec![
                "flink:*".to_owned(),
                "apache/flink:*".to_owned(),
                "flink".to_owned(),
            ],
            mounts,
            environment: vec![
                ("FLINK_HOME".to_owned(), FLINK_HOME.to_owned()),
                ("JAVA_HOME".to_owned(), java_home.display().to_string()),
                ("PATH".to_owned(), path),
            ],
            command: Vec::new(),
            pass_through_entrypoints: vec!["/docker-entrypoint.sh".to_owned()],
        }
    }

    /// Stands for images matching `pattern` with nothing but the host's programs.
    pub fn host(pattern: &str) -> Self {
        Self {
            patterns: vec![pattern.to_owned()],
            mounts: Vec::new(),
            environment: vec![("PATH".to_owned(), HOST_PATH.to_owned())],
            command: vec!["/bin/sh".to_owned()],
            pass_through_entrypoints: Vec::new(),
        }
    }

    /// Adds a pattern.
    #[must_use]
    pub fn with_pattern(mut self, pattern: &str) -> Self {
        self.patterns.push(pattern.to_owned());
        self
    }

    /// Adds a directory.
    #[must_use]
    pub fn with_mount(mut self, source: &Path, target: &Path) -> Self {
        let mount = ImageMount {
            source: source.to_owned(),
            target: target.to_owned(),
            writable: Vec::new(),
        };
        self.mounts.push(mount);
        self
    }

    /// Sets an environment variable of the image.
    #[must_use]
    pub fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(existing, _)| existing != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Whether this stands for an image.
    pub fn matches(&self, image: &str) -> bool {
        let name = image.strip_prefix("docker.io/").unwrap_or(image);
        let name = name.strip_prefix("library/").unwrap_or(name);
        self.patterns
            .iter()
            .any(|pattern| is_match(pattern, name) || is_match(pattern, image))
    }
}

/// Whether `text` is of the form `pattern`, in which `*` is any text.
fn is_match(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(found) = rest.find(part) else {
            return false;
        };
        rest = &rest[found + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_everything_else_is_literal() {
        for (pattern, text, expected) in [
            ("flink:*", "flink:2.1", true),
            ("flink:*", "flink", false),
            ("flink", "flink", true),
            ("flink", "flinkx", false),
            ("*/flink:*-java17", "apache/flink:2.1-java17", true),
            ("*/flink:*-java17", "apache/flink:2.1-java11", false),
            ("a*b*a", "aba", true),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(is_match(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn our_programs_come_first_in_the_path_of_a_flink_image() {
        let mapping = ImageMapping::flink("/f", Some("/b".into()), "/j");
        let path = &mapping
            .environment
            .iter()
            .find(|(name, _)| name == "PATH")
            .unwrap()
            .1;
        assert!(
            path.starts_with("/opt/flink-k8s/bin:/opt/flink/bin:/j/bin:/usr/"),
            "{path}"
        );
    }
}
