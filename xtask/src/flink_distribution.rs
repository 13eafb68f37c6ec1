//! A Flink distribution: the user's own in `FLINK_HOME`, or the one in the Python packages
//! `apache-flink-libraries`, which has the jars, and `apache-flink`, which has the scripts.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use flink_k8s_core::flink_version::FlinkVersion;

use crate::cache::Cache;
use crate::interrupt::Interrupt;
use crate::python_package::{Format, PythonPackage, Selection};
use crate::terminal::Terminal;

/// The package has no `conf`; these files take its place.
const CONFIGURATION_FILES: [(&str, &str); 2] = [
    (
        "config.yaml",
        include_str!("../../flink-k8s-client/stock/config.yaml"),
    ),
    (
        "log4j-console.properties",
        include_str!("../../flink-k8s-client/stock/log4j-console.properties"),
    ),
];

/// The directory of the scripts, in the package and in Flink's home.
const SCRIPTS: &str = "bin";
/// A script without which there is no Flink on Kubernetes.
const LAST_SCRIPT: &str = "kubernetes-taskmanager.sh";

/// An unpacked Flink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlinkDistribution {
    /// The directory with `lib` and `plugins`.
    pub(crate) home: PathBuf,
    /// The directory with `config.yaml`: `conf` of the home, where it has one.
    pub(crate) configuration_directory: PathBuf,
    /// Full version, for example `2.1.3`.
    pub(crate) version: String,
}

impl FlinkDistribution {
    /// `FLINK_HOME` if it is of that version, else the package, fetched and unpacked once.
    ///
    /// # Errors
    ///
    /// The package cannot be fetched or unpacked.
    pub(crate) async fn find_or_install(
        wanted: FlinkVersion,
        cache: &Cache,
        terminal: Terminal,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        if let Some(home) = std::env::var_os("FLINK_HOME").filter(|home| !home.is_empty()) {
            match Self::of_user(Path::new(&home), wanted, cache) {
                Ok(flink) => {
                    terminal.note(format_args!(
                        "Flink {} from FLINK_HOME: {}",
                        flink.version,
                        flink.home.display()
                    ));
                    return Ok(flink);
                }
                Err(error) => terminal.note(format_args!("not using FLINK_HOME: {error:#}")),
            }
        }
        let flink = Self::install(wanted, cache, terminal, interrupt)
            .await
            .with_context(|| format!("cannot prepare Flink {wanted}"))?;
        terminal.note(format_args!("Flink {}: {}", flink.version, flink.home.display()));
        Ok(flink)
    }

    /// The jars of `lib`, in a fixed order.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub(crate) fn jars(&self) -> anyhow::Result<Vec<PathBuf>> {
        jars(&self.home)
    }

    fn of_user(home: &Path, wanted: FlinkVersion, cache: &Cache) -> anyhow::Result<Self> {
        let home = home
            .canonicalize()
            .with_context(|| format!("cannot find {}", home.display()))?;
        let version = version_of(&home)?;
        if version.parse() != Ok(wanted) {
            return Err(anyhow!("{} holds Flink {version}, not {wanted}", home.display()));
        }
        let own = home.join("conf");
        let configuration_directory = if ["config.yaml", "flink-conf.yaml"]
            .iter()
            .any(|file| own.join(file).exists())
        {
            own
        } else {
            let directory = cache.directory().join("flink-conf");
            write_configuration(&directory)?;
            directory
        };
        Ok(Self {
            home,
            configuration_directory,
            version,
        })
    }

    async fn install(
        wanted: FlinkVersion,
        cache: &Cache,
        terminal: Terminal,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let package = package_of(wanted);
        let make = async |workshop: &Path| {
            let root = match package.format {
                Format::SourceArchive => "deps",
                Format::Wheel | Format::WheelOfAnotherMachine => "pyflink",
            };
            let selection = Selection {
                root,
                only: &["bin", "lib", "plugins", "licenses"],
            };
            package.fetch(workshop, selection, terminal, interrupt).await
        };
        let is_complete = |entry: &Path| version_of(entry).is_ok();
        let name = format!("flink-{}", package.version);
        let home = cache.entry(&name, is_complete, terminal, interrupt, make).await?;
        let configuration_directory = home.join("conf");
        write_configuration(&configuration_directory)?;
        let package = scripts_of(wanted);
        let make = async |workshop: &Path| {
            let selection = Selection {
                root: "pyflink",
                only: &["bin", "conf"],
            };
            package.fetch(workshop, selection, terminal, interrupt).await
        };
        let is_complete = |entry: &Path| entry.join(SCRIPTS).join(LAST_SCRIPT).exists();
        let name = format!("flink-scripts-{}", package.version);
        let scripts = cache.entry(&name, is_complete, terminal, interrupt, make).await?;
        place_scripts(&scripts.join(SCRIPTS), &home.join(SCRIPTS))?;
        Ok(Self {
            version: version_of(&home)?,
            configuration_directory,
            home,
        })
    }
}

/// Writes the files that are not there or differ. Others may be reading them, so each one is replaced
/// as a whole.
fn write_configuration(directory: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot write Flink's configuration to {}", directory.display());
    std::fs::create_dir_all(directory).with_context(cannot)?;
    for (name, content) in CONFIGURATION_FILES {
        let path = directory.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|present| present == content) {
            continue;
        }
        let file = tempfile::NamedTempFile::new_in(directory).with_context(cannot)?;
        std::fs::write(file.path(), content).with_context(cannot)?;
        file.persist(&path).with_context(cannot)?;
    }
    Ok(())
}

/// Copies the scripts that are not there yet. Others may be running them, so each one comes as a whole.
fn place_scripts(from: &Path, to: &Path) -> anyhow::Result<()> {
    let cannot = || {
        format!(
            "cannot copy Flink's scripts from {} to {}",
            from.display(),
            to.display()
        )
    };
    std::fs::create_dir_all(to).with_context(cannot)?;
    for script in std::fs::read_dir(from).with_context(cannot)? {
        let script = script.with_context(cannot)?;
        let path = to.join(script.file_name());
        if path.exists() {
            continue;
        }
        let file = tempfile::NamedTempFile::new_in(to).with_context(cannot)?;
        std::fs::copy(script.path(), file.path()).with_context(cannot)?;
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(file.path(), everybody).with_context(cannot)?;
        file.persist(&path).with_context(cannot)?;
    }
    Ok(())
}

/// The version in the name of `lib/flink-dist-<version>.jar`.
fn version_of(home: &Path) -> anyhow::Result<String> {
    let version = |jar: &PathBuf| {
        let name = jar.file_name()?.to_str()?;
        let version = name
            .strip_prefix("flink-dist-")
            .or_else(|| name.strip_prefix("flink-dist_2.12-"))?;
        Some(version.strip_suffix(".jar")?.to_owned())
    };
    jars(home)?
        .iter()
        .find_map(version)
        .ok_or_else(|| anyhow!("{} has no lib/flink-dist-<version>.jar", home.display()))
}

fn jars(home: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let lib = home.join("lib");
    let cannot = || format!("cannot list {}", lib.display());
    let mut jars = Vec::new();
    for entry in std::fs::read_dir(&lib).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "jar") {
            jars.push(path);
        }
    }
    jars.sort();
    Ok(jars)
}

/// Which file of the package holds a version. From 2.2 on it comes as a wheel only.
fn package_of(version: FlinkVersion) -> PythonPackage {
    let (version, format, size, sha256) = match version {
        FlinkVersion::V1_20 => (
            "1.20.5",
            Format::SourceArchive,
            231_999_354,
            "e6aee62ea1a1fe7b32e28894ad079f3f1a50a372a4caac3df52405267f4228c8",
        ),
        FlinkVersion::V2_2 => (
            "2.2.1",
            Format::Wheel,
            312_587_297,
            "74dc5546fbd9add8fbcdf1222a237e09491f9b80296241aef8676ec56f8e686e",
        ),
        FlinkVersion::V2_3 => (
            "2.3.0",
            Format::Wheel,
            329_139_814,
            "38ece876553286b3a285cf344c2d2038f8a7ca10da5df54d5107250386d64151",
        ),
        // 2.1, and what core may know one day and we do not: `--flink-version` offers only these four.
        _ => (
            "2.1.3",
            Format::SourceArchive,
            310_160_572,
            "b48d3944755b9303f99d205ea1a9bcb798fc563a872c782393fb466f16d4f91c",
        ),
    };
    PythonPackage {
        name: "apache-flink-libraries",
        version,
        format,
        size,
        sha256,
    }
}

/// The package with the scripts of a version.
fn scripts_of(version: FlinkVersion) -> PythonPackage {
    let (version, size, sha256) = match version {
        FlinkVersion::V1_20 => (
            "1.20.5",
            2_783_842,
            "6e8ec098a7c06ea34d01fd540e81d44703a90e3bda74052dcbcbb7db5253c10f",
        ),
        FlinkVersion::V2_2 => (
            "2.2.1",
            2_819_851,
            "a7e0e06e6e2a788b1e0c4f6225efe6a9bdcb6463db77080b99620c36c076cbab",
        ),
        FlinkVersion::V2_3 => (
            "2.3.0",
            2_838_429,
            "0e5f612704de1610b153e919c0564b62ad513cddfcf4960f5a021658cdf41a13",
        ),
        _ => (
            "2.1.3",
            2_795_217,
            "88a6d7443297102f63f7d575367b6710912dcb4283a04f9141f83e54a1e25f09",
        ),
    };
    PythonPackage {
        name: "apache-flink",
        version,
        format: Format::WheelOfAnotherMachine,
        size,
        sha256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_with(jar: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("lib")).unwrap();
        std::fs::write(home.path().join("lib").join(jar), "").unwrap();
        home
    }

    #[test]
    fn there_is_a_package_for_each_supported_version() {
        for version in FlinkVersion::ALL {
            let (package, scripts) = (package_of(version), scripts_of(version));
            assert_eq!(package.version.parse(), Ok(version));
            assert_eq!(scripts.version, package.version, "scripts for the jars");
            assert!(
                [package, scripts]
                    .iter()
                    .all(|package| package.sha256.len() == 64)
            );
        }
    }

    #[test]
    fn a_home_of_the_wanted_version_is_taken_and_gets_our_configuration_if_it_has_none() {
        let user = tempfile::tempdir().unwrap();
        let cache = Cache::below(user.path()).unwrap();
        let home = home_with("flink-dist-2.1.9.jar");
        let flink = FlinkDistribution::of_user(home.path(), FlinkVersion::V2_1, &cache).unwrap();
        assert_eq!(
            (flink.version.as_str(), flink.home.as_path()),
            ("2.1.9", home.path())
        );
        assert!(flink.configuration_directory.starts_with(user.path()));
        assert!(flink.configuration_directory.join("config.yaml").exists());

        std::fs::create_dir(home.path().join("conf")).unwrap();
        std::fs::write(home.path().join("conf/config.yaml"), "").unwrap();
        let flink = FlinkDistribution::of_user(home.path(), FlinkVersion::V2_1, &cache).unwrap();
        assert_eq!(flink.configuration_directory, home.path().join("conf"));
    }

    #[test]
    fn a_home_of_another_version_or_without_flink_is_refused_with_the_reason() {
        let user = tempfile::tempdir().unwrap();
        let cache = Cache::below(user.path()).unwrap();
        for (jar, reason) in [
            ("flink-dist-1.20.5.jar", "holds Flink 1.20.5, not 2.1"),
            ("flink-dist-2.10.0.jar", "holds Flink 2.10.0, not 2.1"),
            ("other.jar", "has no lib/flink-dist-<version>.jar"),
        ] {
            let home = home_with(jar);
            let error = FlinkDistribution::of_user(home.path(), FlinkVersion::V2_1, &cache).unwrap_err();
            assert!(error.to_string().ends_with(reason), "{error:#}");
        }
    }

    #[test]
    fn scripts_are_executable_and_those_that_are_there_are_left_alone() {
        let (package, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for script in ["flink", LAST_SCRIPT] {
            std::fs::write(package.path().join(script), "new").unwrap();
        }
        let (present, bin) = (home.path().join("bin/flink"), home.path().join("bin"));
        std::fs::create_dir(&bin).unwrap();
        std::fs::write(&present, "own").unwrap();
        place_scripts(package.path(), &bin).unwrap();
        assert_eq!(std::fs::read_to_string(present).unwrap(), "own");
        assert!(crate::program::is_executable(&bin.join(LAST_SCRIPT)));
    }

    #[test]
    fn configuration_files_are_restored_when_they_differ() {
        let directory = tempfile::tempdir().unwrap();
        write_configuration(directory.path()).unwrap();
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, "changed").unwrap();
        write_configuration(directory.path()).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), CONFIGURATION_FILES[0].1);
    }
}
